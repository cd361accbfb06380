//! What has been observed of a running program, as compilations read it.
//!
//! A snapshot is plain data. Sites are named by method and source position, which mean the same to an interpreter, to
//! compiled code and on disk, where they have a text form ([`text::print_profile`](crate::text::print_profile)). Each has one
//! sketch: how often it ran, which values and receiver classes it met most.
//!
//! # Guarantees
//!
//! A sketch has a fixed size however much it sees. [`Top`] never forgets a value that makes up more than one in
//! [`Top::CAPACITY`]` + 1` of what it saw: J. Misra and D. Gries, "Finding repeated elements" (1982).

use std::collections::{BTreeMap, BTreeSet};

use crate::method::{Frequency, SourcePos};
use crate::module::{ClassId, MethodId};

/// The most frequent of many values, with lower bounds of how often each was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top<T> {
    /// Values with their counts, in the order in which they came.
    entries: Vec<(T, u64)>,
    /// How many values were met.
    total: u64,
}

impl<T> Default for Top<T> {
    fn default() -> Self {
        Top { entries: Vec::new(), total: 0 }
    }
}

impl<T: Copy + Ord> Top<T> {
    /// How many values are kept.
    pub const CAPACITY: usize = 4;

    /// What was printed: the most frequent values with lower bounds of their counts, and how many were met. None if there are
    /// too many, one of them twice or never, or more than were met.
    pub fn of(entries: &[(T, u64)], total: u64) -> Option<Top<T>> {
        let values: BTreeSet<T> = entries.iter().map(|(value, _)| *value).collect();
        let sum = entries.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count));
        let is_possible = entries.len() <= Self::CAPACITY
            && values.len() == entries.len()
            && entries.iter().all(|(_, count)| *count > 0)
            && sum.is_some_and(|sum| sum <= total);
        is_possible.then(|| Top { entries: entries.to_vec(), total })
    }

    /// Notes that a value was met `count` times.
    pub fn add(&mut self, value: T, count: u64) {
        self.total = self.total.saturating_add(count);
        if let Some((_, known)) = self.entries.iter_mut().find(|(known, _)| *known == value) {
            *known = known.saturating_add(count);
            return;
        }
        // Each of the kept values and the new one give up as many as the least of them has.
        let mut left = count;
        if self.entries.len() == Self::CAPACITY {
            let least = self.entries.iter().map(|(_, count)| *count).fold(count, u64::min);
            for (_, count) in &mut self.entries {
                *count -= least;
            }
            self.entries.retain(|(_, count)| *count > 0);
            left -= least;
        }
        if left > 0 {
            self.entries.push((value, left));
        }
    }

    /// The kept values, most frequent first, equal ones ascending; each with a lower bound of its count.
    pub fn values(&self) -> Vec<(T, u64)> {
        let mut values = self.entries.clone();
        values.sort_unstable_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
        values
    }

    /// How many values were met.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value that was met in at least `share` of 1024 cases, if there is one.
    pub fn dominant(&self, share: u32) -> Option<T> {
        let (value, count) = self.values().first().copied()?;
        (u128::from(count) * 1024 >= u128::from(self.total) * u128::from(share)).then_some(value)
    }
}

/// What was observed at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// How often it ran.
    pub count: u64,
    /// The classes of receivers.
    pub receivers: Top<ClassId>,
    /// Values, as bits: operands worth specialising for, lengths, switch operands.
    pub values: Top<u64>,
}

/// What was observed of one method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodProfile {
    /// How often it was entered.
    pub entries: u64,
    /// By source position.
    pub sites: BTreeMap<SourcePos, Site>,
}

impl MethodProfile {
    /// How often a place ran for one entry of the method; none if it was not observed.
    pub fn frequency(&self, position: SourcePos) -> Option<Frequency> {
        let site = self.sites.get(&position)?;
        if self.entries == 0 {
            return None;
        }
        let units = u128::from(site.count) * u128::from(Frequency::ONCE.0) / u128::from(self.entries);
        Some(Frequency(u32::try_from(units).unwrap_or(u32::MAX)))
    }
}

/// What was observed of a program at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileSnapshot {
    /// By method.
    pub methods: BTreeMap<MethodId, MethodProfile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_value_is_kept_whatever_comes_between() {
        let mut top = Top::default();
        for value in 0..1000_u64 {
            top.add(value, 1);
            top.add(7, 1);
        }
        assert_eq!(top.total(), 2000);
        assert_eq!(top.values()[0].0, 7);
        assert!(top.values()[0].1 <= 1001, "counts are lower bounds");
        assert_eq!(top.dominant(256), Some(7));
        assert_eq!(top.dominant(1024), None);
        assert!(top.values().len() <= Top::<u64>::CAPACITY);
    }

    #[test]
    fn frequencies_are_relative_to_entries_and_saturate() {
        let mut profile = MethodProfile { entries: 4, ..MethodProfile::default() };
        profile.sites.insert(SourcePos(3), Site { count: 10, ..Site::default() });
        profile.sites.insert(SourcePos(5), Site { count: u64::MAX, ..Site::default() });
        assert_eq!(profile.frequency(SourcePos(3)), Some(Frequency(2560)));
        assert_eq!(profile.frequency(SourcePos(5)), Some(Frequency(u32::MAX)));
        assert_eq!(profile.frequency(SourcePos(4)), None);
        assert_eq!(MethodProfile::default().frequency(SourcePos(3)), None);
    }
}
