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
//! *Cost.* That of the engine: linear in occurrences and in the blocks that they reach.

use dagwood_il::dataflow::{Direction, Event, Facts, Meet, Problem, TooManyFacts, solve};
use dagwood_il::{Block, Cfg};

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

/// An expression at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The block.
    pub block: Block,
    /// What kills or blocks does so before the root at this position, for handlers to see; the rest has happened there.
    pub position: u32,
    /// Which expression.
    pub expression: u32,
    /// What happens.
    pub happening: Happening,
}

/// The expressions that are available at the heads of blocks: on some path or on all.
///
/// # Errors
///
/// If they are too many to tell.
pub fn available(occurrences: &[Occurrence], cfg: &Cfg, meet: Meet) -> Result<Facts, TooManyFacts> {
    let events = occurrences.iter().filter_map(|occurrence| match occurrence.happening {
        Happening::Computes | Happening::Provides => Some(event(occurrence, true)),
        Happening::Kills => Some(event(occurrence, false)),
        Happening::Blocks => None,
    });
    let events = events.collect();
    solve(Problem { direction: Direction::Forward, meet, at_entry: Vec::new(), events }, cfg, |_| true)
}

/// The expressions that are anticipated at the heads of blocks: computed on every path before they become another value.
///
/// # Errors
///
/// If they are too many to tell.
pub fn anticipated(occurrences: &[Occurrence], cfg: &Cfg) -> Result<Facts, TooManyFacts> {
    let events =
        occurrences.iter().map(|occurrence| event(occurrence, occurrence.happening == Happening::Computes));
    let events = events.collect();
    let problem = Problem { direction: Direction::Backward, meet: Meet::All, at_entry: Vec::new(), events };
    solve(problem, cfg, |_| true)
}

fn event(occurrence: &Occurrence, becomes: bool) -> Event {
    let Occurrence { block, position, expression, .. } = *occurrence;
    Event { block, position, fact: expression, becomes }
}
