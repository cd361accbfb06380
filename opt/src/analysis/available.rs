//! Available and anticipated expressions: what has been computed on every path to a place, and what will be on every path from it.
//!
//! ```text
//!   b1: %1 = load @m [%a]   computes       b3: available, if nothing in b1 or b2 kills it after it was computed
//!   b2: store @m [%a], %x   provides       b1: anticipated at the head; at that of b2 it is not: the store comes first
//! ```
//!
//! What an expression is its user says: a value, or what a piece of memory holds. Both questions are bit-vector problems of
//! [`dataflow`](dagwood_il::dataflow), which knows how facts get to handlers and where paths end.
//!
//! *Cost.* That of the engine: linear in occurrences, each of which is of many expressions, and in the blocks that these reach.

use dagwood_il::dataflow::{Direction, Event, Facts, Meet, Problem, TooManyFacts, solve};
use dagwood_il::{Block, Cfg};

/// How many expressions there may be.
pub const MAX_EXPRESSIONS: usize = 256;

/// A set of expressions, by their indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set([u64; MAX_EXPRESSIONS / 64]);

impl Set {
    /// What facts about expressions hold at a block.
    pub fn at(facts: &Facts, block: Block) -> Set {
        let mut set = Set::default();
        facts.words(block).for_each(|(column, word)| set.0[column as usize] = word);
        set
    }

    /// Whether the expression is in it.
    pub fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 != 0
    }

    /// Puts the expression into it.
    pub fn add(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Takes the expression out of it.
    pub fn remove(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        *self == Set::default()
    }

    /// Those of either.
    pub fn or(&self, other: &Set) -> Set {
        self.zip(other, |left, right| left | right)
    }

    /// Those of both.
    pub fn and(&self, other: &Set) -> Set {
        self.zip(other, |left, right| left & right)
    }

    /// Those of this set that are not in the other.
    pub fn without(&self, other: &Set) -> Set {
        self.zip(other, |left, right| left & !right)
    }

    fn zip(&self, other: &Set, of: impl Fn(u64, u64) -> u64) -> Set {
        Set(std::array::from_fn(|column| of(self.0[column], other.0[column])))
    }

    /// The expressions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let mut words = self.0;
        let mut column = 0;
        std::iter::from_fn(move || {
            while *words.get(column)? == 0 {
                column += 1;
            }
            let bit = words[column].trailing_zeros() as usize;
            words[column] &= words[column] - 1;
            Some(64 * column + bit)
        })
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Set {
        let mut set = Set::default();
        indexes.into_iter().for_each(|index| set.add(index));
        set
    }
}

/// What happens to an expression at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It is computed.
    Computes,
    /// Its value becomes known without it being computed: a store.
    Provides,
    /// It becomes another value.
    Kills,
    /// It must not be computed before this in place of after it.
    Blocks,
}

/// Expressions at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The block.
    pub block: Block,
    /// What kills or blocks does so before the root at this position, for handlers to see; the rest has happened there.
    pub position: u32,
    /// Which expressions.
    pub expressions: Set,
    /// What happens.
    pub happening: Happening,
}

/// The expressions that are available at the heads of blocks: on some path or on all.
///
/// # Errors
///
/// If they are too many to tell.
pub fn available(occurrences: &[Occurrence], cfg: &Cfg, meet: Meet) -> Result<Facts, TooManyFacts> {
    let mut events = Vec::with_capacity(occurrences.len());
    for occurrence in occurrences {
        match occurrence.happening {
            Happening::Computes | Happening::Provides => add_events(&mut events, occurrence, true),
            Happening::Kills => add_events(&mut events, occurrence, false),
            Happening::Blocks => {}
        }
    }
    solve(Problem { direction: Direction::Forward, meet, at_entry: Vec::new(), events }, cfg, |_| true)
}

/// The expressions that are anticipated at the heads of blocks: computed on every path before they become another value.
///
/// # Errors
///
/// If they are too many to tell.
pub fn anticipated(occurrences: &[Occurrence], cfg: &Cfg) -> Result<Facts, TooManyFacts> {
    let mut events = Vec::with_capacity(occurrences.len());
    for occurrence in occurrences {
        add_events(&mut events, occurrence, occurrence.happening == Happening::Computes);
    }
    let problem = Problem { direction: Direction::Backward, meet: Meet::All, at_entry: Vec::new(), events };
    solve(problem, cfg, |_| true)
}

fn add_events(events: &mut Vec<Event>, occurrence: &Occurrence, becomes: bool) {
    let Occurrence { block, position, expressions, .. } = *occurrence;
    for (column, facts) in (0..).zip(expressions.0).filter(|(_, facts)| *facts != 0) {
        events.push(Event { block, position, column, facts, becomes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let odd: Set = (1..MAX_EXPRESSIONS).step_by(2).collect();
        let low: Set = (0..70).collect();
        assert!(odd.has(255) && !odd.has(254) && !low.has(70));
        assert_eq!(odd.and(&low).iter().collect::<Vec<_>>(), (1..70).step_by(2).collect::<Vec<_>>());
        assert_eq!(low.without(&odd).or(&low.and(&odd)), low);
        assert!(Set::default().is_empty() && Set::default().iter().next().is_none() && !low.is_empty());
    }
}
