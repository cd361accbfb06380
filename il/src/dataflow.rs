//! Facts that hold at the heads of blocks, carried along edges until nothing changes.
//!
//! An analysis says which facts may hold, and where roots make one true or false: its [`Event`]s. It does not say how
//! facts get along exception edges, so it cannot get them wrong: [`solve`] knows from which roots each edge leaves.
//!
//! ```text
//!   b1:              in(b1)
//!     set $x, %1       event
//!     call @f       ─ ─ ─ ► handler: what holds here, before the call, joined over all of the block's raising roots
//!     set $x, %2       event
//!     goto b2       ──────► b2: what holds at the end
//! ```
//!
//! A fact *may* hold at a block, if it holds along one path, or *must*, along all: [`Meet`]. A path also ends where the
//! method is left in the middle of a block, by what no handler catches or because an assumption failed.
//!
//! # Why by columns
//!
//! A matrix of blocks by facts is what a frontend can make large: 50 000 locals in 100 000 blocks are 600 MB. Facts are
//! solved 64 at a time instead, each column from its own events outward, so what is not there costs nothing, and only
//! words with a fact in them are kept. That goes for what must hold, too: it is looked for only where it may hold,
//! downward from there. Its opposite ("has not been computed") would hold nearly everywhere.
//!
//! # Guarantees
//!
//! * Facts pass along edges between blocks that can be reached; nothing recurses.
//! * Memory is at most a few words for each block and edge, besides events and the result, whose size
//!   [`MAX_WORDS`] bounds.
//!
//! # Cost
//!
//! For each column, linear in the edges at which one of its facts arrives, times the number of changes of a word: one
//! or two in practice, 64 at most.

mod assignment;
mod liveness;
mod solver;

use std::fmt;

use crate::cfg::Cfg;
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Method, Node};

pub use assignment::unassigned_reads;
pub use liveness::Liveness;

use solver::Solver;

/// How many words of 64 facts a result may have: 192 MB.
pub const MAX_WORDS: usize = 1 << 24;

/// A result would have more than [`MAX_WORDS`] words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyFacts;

impl fmt::Display for TooManyFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the method has too many locals live in too many blocks: more than {MAX_WORDS} words of 64")
    }
}

impl std::error::Error for TooManyFacts {}

/// Which way facts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the entry on: what has happened.
    Forward,
    /// From the ends back: what will happen.
    Backward,
}

/// Which of the paths through a block say what holds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meet {
    /// One will do: what may hold.
    Any,
    /// All of them: what must hold. What never happens on the way around an endless loop is taken to hold there.
    All,
}

/// A place where facts become true or false, whatever they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The block.
    pub block: Block,
    /// Before the root of this position, and after the one before it. What a root does on completing has the position
    /// after its own.
    pub position: u32,
    /// Which 64 facts it is about: those from 64 times this on.
    pub column: u32,
    /// Of these, a bit for each one that changes.
    pub facts: u64,
    /// What they become: in the analysis' direction.
    pub becomes: bool,
}

impl Event {
    /// That of one fact.
    pub fn of(fact: u32, block: Block, position: u32, becomes: bool) -> Event {
        Event { block, position, column: fact / WORD, facts: 1 << (fact % WORD), becomes }
    }
}

/// An analysis.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which way facts go.
    pub direction: Direction,
    /// Along how many paths a fact must hold.
    pub meet: Meet,
    /// Facts that hold where the method is entered. Only a forward analysis has them.
    pub at_entry: Vec<u32>,
    /// Where facts change, in any order; those of one block and position in the order of time.
    pub events: Vec<Event>,
}

/// The facts that hold at the heads of blocks.
#[derive(Clone, Debug)]
pub struct Facts {
    starts: Vec<u32>,
    columns: Vec<u32>,
    words: Vec<u64>,
}

const WORD: u32 = u64::BITS;

impl Facts {
    /// The facts at a block's head by columns of 64, ascending; a column without any is left out.
    pub fn words(&self, block: Block) -> impl Iterator<Item = (u32, u64)> {
        let run = self.run(block);
        self.columns[run.clone()].iter().copied().zip(self.words[run].iter().copied())
    }

    /// The facts at a block's head, ascending.
    pub fn at(&self, block: Block) -> impl Iterator<Item = u32> {
        self.words(block).flat_map(|(column, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < WORD).then_some(column * WORD + bit)
            })
        })
    }

    /// Whether a fact holds at a block's head.
    pub fn holds(&self, block: Block, fact: u32) -> bool {
        let run = self.run(block);
        let found = self.columns[run.clone()].binary_search(&(fact / WORD));
        found.is_ok_and(|index| self.words[run.start + index] >> (fact % WORD) & 1 != 0)
    }

    fn run(&self, block: Block) -> std::ops::Range<usize> {
        self.starts[block.index()] as usize..self.starts[block.index() + 1] as usize
    }
}

/// The facts that follow from the problem's events, at the heads of the blocks that `keep` asks for: the least ones
/// that may hold, the most that must.
///
/// # Errors
///
/// If the result has more than [`MAX_WORDS`] words.
pub fn solve(problem: Problem, cfg: &Cfg, keep: impl Fn(Block) -> bool) -> Result<Facts, TooManyFacts> {
    let Problem { direction, meet, mut at_entry, mut events } = problem;
    events.retain(|event| cfg.is_reachable(event.block));
    events.sort_by_key(|event| (event.column, event.block, event.position));
    at_entry.sort_unstable();
    let mut solver = Solver::new(direction, meet, cfg);
    let mut rows: Vec<(Block, u32, u64)> = Vec::new();
    let (mut events, mut at_entry) = (events.as_slice(), at_entry.as_slice());
    let first_of = |at_entry: &[u32]| at_entry.first().map(|fact| fact / WORD);
    while let Some(column) =
        events.first().map(|event| event.column).into_iter().chain(first_of(at_entry)).min()
    {
        let own_events;
        (own_events, events) = events.split_at(events.partition_point(|event| event.column == column));
        let own_entry;
        (own_entry, at_entry) = at_entry.split_at(at_entry.partition_point(|fact| fact / WORD == column));
        solver.solve(own_events, own_entry);
        for block in solver.touched.drain(..) {
            let word = std::mem::take(&mut solver.words[block]);
            if word != 0 && keep(block) {
                rows.push((block, column, word));
            }
        }
        if rows.len() > MAX_WORDS {
            return Err(TooManyFacts);
        }
    }
    Ok(gather(&rows, cfg.block_count()))
}

/// Sorts what was found by columns into blocks.
fn gather(rows: &[(Block, u32, u64)], blocks: usize) -> Facts {
    let mut starts = vec![0; blocks + 1];
    for (block, ..) in rows {
        starts[block.index() + 1] += 1;
    }
    for block in 0..blocks {
        starts[block + 1] += starts[block];
    }
    let mut facts = Facts { columns: vec![0; rows.len()], words: vec![0; rows.len()], starts };
    let mut next = facts.starts.clone();
    for (block, column, word) in rows {
        let slot = &mut next[block.index()];
        facts.columns[*slot as usize] = *column;
        facts.words[*slot as usize] = *word;
        *slot += 1;
    }
    facts
}

/// For each node, the head of the extended block in which a root uses it, directly or not; none for one that is unused.
/// Where a method is not well-formed and several do, it is one of them.
pub fn heads_of_uses(method: &Method<'_>) -> EntityVec<Node, Option<Block>> {
    let mut heads = EntityVec::filled(None, method.node_count());
    for block in method.blocks() {
        let head = method.head(block);
        for root in method.roots(block) {
            heads[root.node] = Some(head);
        }
    }
    // Users stand after their operands, but for virtual objects that hold each other: what is used by one of a later round.
    let mut is_late = true;
    while std::mem::take(&mut is_late) {
        for node in method.nodes().rev() {
            let Some(head) = heads[node] else { continue };
            for operand in method.operands(node) {
                if heads[*operand].is_none() {
                    heads[*operand] = Some(head);
                    is_late |= *operand >= node;
                }
            }
        }
    }
    heads
}

#[cfg(test)]
mod tests;
