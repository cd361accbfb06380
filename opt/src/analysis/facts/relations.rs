//! What is known of two values together: that one is below the other, and by how much.
//!
//! ```text
//!   less ──gap──► more         less + gap <= more, as numbers, nothing wrapping
//!
//!   i ──1──► n                 br (ult i, n)
//!   i ──12─► length            boundscheck i, length - 11
//! ```
//!
//! A *reading* is a value taken as an unsigned or as a signed number. Whether `x + c <= y` is asked on demand: along the
//! bounds that lead up from `x`, as in R. Bodík, R. Gupta and V. Sarkar, "ABCD: eliminating array bounds checks on
//! demand" (2000); what a value is in terms of others ([`super::known`] says it) are further edges.
//!
//! *Guarantees.* Bounds form a stack: those of a path go when the path is left. A question takes at most
//! [`MAX_STEPS`] steps.

/// How many readings a question may look at.
pub(super) const MAX_STEPS: usize = 24;

/// A value taken as an unsigned or as a signed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading(u32);

impl Reading {
    /// A reading of the value with this number.
    pub fn new(value: usize, is_signed: bool) -> Reading {
        Reading(
            u32::try_from(value * 2 + usize::from(is_signed)).expect("a method has fewer than 2^31 values"),
        )
    }

    /// The value's number.
    pub fn value(self) -> usize {
        (self.0 / 2) as usize
    }

    /// Whether the value is taken as a signed number.
    pub fn is_signed(self) -> bool {
        self.0 % 2 == 1
    }
}

/// `less + gap <= more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is below.
    pub less: Reading,
    /// By how much, at least; if negative, at most how far above it is.
    pub gap: i128,
    /// What is above.
    pub more: Reading,
}

const NONE: u32 = u32::MAX;

/// The bounds known along a path.
#[derive(Clone, Debug)]
pub(super) struct Relations {
    /// By reading: the last bound that leads up from it.
    last: Vec<u32>,
    /// Bounds, each with the one before it that leads up from the same reading.
    bounds: Vec<(Bound, u32)>,
    /// By value: how many of the bounds are about it.
    counts: Vec<u32>,
}

impl Relations {
    /// No bounds between this many values.
    pub(super) fn new(values: usize) -> Relations {
        Relations { last: vec![NONE; values * 2], bounds: Vec::new(), counts: vec![0; values] }
    }

    /// Notes a bound, unless it is one of a value with itself.
    pub(super) fn add(&mut self, bound: Bound) {
        if bound.less == bound.more {
            return;
        }
        let last = &mut self.last[bound.less.0 as usize];
        let index = u32::try_from(self.bounds.len()).expect("paths have fewer than 2^32 bounds");
        self.bounds.push((bound, *last));
        *last = index;
        for reading in [bound.less, bound.more] {
            self.counts[reading.value()] += 1;
        }
    }

    /// Whether some bound is about this value.
    pub(super) fn has_any_of(&self, value: usize) -> bool {
        self.counts[value] > 0
    }

    /// The bounds, oldest first.
    pub(super) fn bounds(&self) -> impl DoubleEndedIterator<Item = &Bound> {
        self.bounds.iter().map(|(bound, _)| bound)
    }

    /// How many bounds there are: a point to go back to.
    pub(super) fn mark(&self) -> usize {
        self.bounds.len()
    }

    /// Forgets what was noted since the mark.
    pub(super) fn back_to(&mut self, mark: usize) {
        while self.bounds.len() > mark {
            let (bound, before) = self.bounds.pop().expect("there are more than at the mark");
            self.last[bound.less.0 as usize] = before;
            for reading in [bound.less, bound.more] {
                self.counts[reading.value()] -= 1;
            }
        }
    }

    /// The bounds that lead up from a reading, newest first.
    pub(super) fn above(&self, less: Reading) -> impl Iterator<Item = &Bound> {
        let mut next = self.last[less.0 as usize];
        std::iter::from_fn(move || {
            let (bound, before) = self.bounds.get(next as usize)?;
            next = *before;
            Some(bound)
        })
    }
}

/// A walk up from one reading: each reading that was reached, with by how much the first one is below it.
#[derive(Debug, Default)]
pub(super) struct Climb {
    reached: Vec<(Reading, i128)>,
    next: usize,
}

impl Climb {
    /// A walk that begins here, in this room.
    pub(super) fn from(start: Reading, mut room: Vec<(Reading, i128)>) -> Climb {
        room.clear();
        room.push((start, 0));
        Climb { reached: room, next: 0 }
    }

    /// The walk is over: the room that it had.
    pub(super) fn end(self) -> Vec<(Reading, i128)> {
        self.reached
    }

    /// The next reading to look at; none once all were, or enough.
    pub(super) fn next(&mut self) -> Option<(Reading, i128)> {
        let found = *self.reached.get(self.next).filter(|_| self.next < MAX_STEPS)?;
        self.next += 1;
        Some(found)
    }

    /// Says that the first reading plus `gap` is at most `reading`.
    pub(super) fn reach(&mut self, reading: Reading, gap: i128) {
        let is_worse = |known: &(Reading, i128)| known.0 == reading && known.1 >= gap;
        if self.reached.len() < 2 * MAX_STEPS && !self.reached.iter().any(is_worse) {
            self.reached.push((reading, gap));
        }
    }
}
