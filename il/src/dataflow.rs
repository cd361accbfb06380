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
//! A fact *may* hold at a block if it holds along one path. One that must hold along all is asked by its opposite:
//! "is not assigned" instead of "is assigned".
//!
//! # Why by columns
//!
//! A matrix of blocks by facts is what a frontend can make large: 50 000 locals in 100 000 blocks are 600 MB. Facts are
//! solved 64 at a time instead, each column from its own events outward, so what is not there costs nothing, and only
//! words with a fact in them are kept.
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

use std::fmt;

use crate::cfg::{Cfg, Edge, EdgeKind, RaisePoint};
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Method, Node};
use crate::raise::KindSet;

pub use assignment::unassigned_reads;
pub use liveness::Liveness;

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

/// A place where a fact becomes true or false, whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The block.
    pub block: Block,
    /// Before the root of this position, and after the one before it. What a root does on completing has the position
    /// after its own.
    pub position: u32,
    /// The fact.
    pub fact: u32,
    /// What it becomes: in the analysis' direction.
    pub becomes: bool,
}

/// An analysis.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which way facts go.
    pub direction: Direction,
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
    /// The facts at a block's head, ascending.
    pub fn at(&self, block: Block) -> impl Iterator<Item = u32> {
        let run = self.run(block);
        self.columns[run.clone()].iter().zip(&self.words[run]).flat_map(|(column, word)| {
            let mut left = *word;
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
        found.is_ok_and(|index| self.words[run.start + index] & bit(fact) != 0)
    }

    fn run(&self, block: Block) -> std::ops::Range<usize> {
        self.starts[block.index()] as usize..self.starts[block.index() + 1] as usize
    }
}

/// The least facts that follow from the problem's events, at the heads of the blocks that `keep` asks for.
///
/// # Errors
///
/// If the result has more than [`MAX_WORDS`] words.
pub fn solve(problem: Problem, cfg: &Cfg, keep: impl Fn(Block) -> bool) -> Result<Facts, TooManyFacts> {
    let Problem { direction, mut at_entry, mut events } = problem;
    events.retain(|event| cfg.is_reachable(event.block));
    events.sort_by_key(|event| (event.fact / WORD, event.block, event.position));
    at_entry.sort_unstable();
    let mut solver = Solver::new(direction, cfg);
    let mut rows: Vec<(Block, u32, u64)> = Vec::new();
    let (mut events, mut at_entry) = (events.as_slice(), at_entry.as_slice());
    while let Some(fact) =
        events.first().map(|event| event.fact).into_iter().chain(at_entry.first().copied()).min()
    {
        let column = fact / WORD;
        let own_events;
        (own_events, events) = events.split_at(events.partition_point(|event| event.fact / WORD == column));
        let own_entry;
        (own_entry, at_entry) = at_entry.split_at(at_entry.partition_point(|fact| fact / WORD == column));
        solver.solve(own_events, own_entry);
        for block in solver.touched.drain(..) {
            let word = std::mem::take(&mut solver.words[block]);
            if keep(block) {
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

fn bit(fact: u32) -> u64 {
    1 << (fact % WORD)
}

/// What becomes of 64 facts on the way along an edge: each is made true, made false, or left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    /// The outcome if none holds.
    zero: u64,
    /// The outcome if all hold.
    one: u64,
}

impl Transfer {
    const IDENTITY: Transfer = Transfer { zero: 0, one: u64::MAX };
    /// That of an edge along which nothing comes.
    const NEVER: Transfer = Transfer { zero: 0, one: 0 };

    fn apply(self, facts: u64) -> u64 {
        self.zero | facts & self.one
    }

    /// This way or the other.
    fn or(self, other: Transfer) -> Transfer {
        Transfer { zero: self.zero | other.zero, one: self.one | other.one }
    }

    /// This, with `event` standing after it in the block. Going backward, the event comes first.
    fn followed_by(self, event: Event, direction: Direction) -> Transfer {
        let bit = bit(event.fact);
        let becomes = match (direction, event.becomes) {
            (Direction::Forward, true) => bit,
            (Direction::Forward, false) => 0,
            (Direction::Backward, true) => self.one & bit,
            (Direction::Backward, false) => self.zero & bit,
        };
        Transfer { zero: self.zero & !bit | becomes, one: self.one & !bit | becomes }
    }
}

/// Solves one column after the other.
struct Solver<'c> {
    direction: Direction,
    cfg: &'c Cfg,
    /// The facts at each block's head.
    words: EntityVec<Block, u64>,
    /// The blocks with a fact.
    touched: Vec<Block>,
    /// For a block with events in the column, where its transfers begin: one for its end, one for each exception edge.
    transfers_of: EntityVec<Block, Option<u32>>,
    transfers: Vec<Transfer>,
    pending: Vec<Block>,
    is_pending: EntityVec<Block, bool>,
}

impl<'c> Solver<'c> {
    fn new(direction: Direction, cfg: &'c Cfg) -> Self {
        let blocks = cfg.block_count();
        Solver {
            direction,
            cfg,
            words: EntityVec::filled(0, blocks),
            touched: Vec::new(),
            transfers_of: EntityVec::filled(None, blocks),
            transfers: Vec::new(),
            pending: Vec::new(),
            is_pending: EntityVec::filled(false, blocks),
        }
    }

    /// Leaves the facts in `words` and `touched`.
    fn solve(&mut self, events: &[Event], at_entry: &[u32]) {
        let cfg = self.cfg;
        self.transfers.clear();
        let with_events = || events.chunk_by(|left, right| left.block == right.block);
        for events in with_events() {
            self.add_transfers(events);
        }
        if let Some(entry) = cfg.order().first() {
            self.add(*entry, at_entry.iter().fold(0, |word, fact| word | bit(*fact)));
        }
        // What events make true of themselves, wherever control comes from.
        for events in with_events() {
            let block = events[0].block;
            match self.direction {
                Direction::Forward => self.propagate_forward(block, 0),
                Direction::Backward => {
                    let first = self.transfers_of[block].map_or(0, |first| first as usize);
                    let count = 1 + exception_edges(cfg, block).len();
                    let made =
                        self.transfers[first..first + count].iter().fold(0, |word, way| word | way.zero);
                    self.add(block, made);
                }
            }
        }
        while let Some(block) = self.pending.pop() {
            self.is_pending[block] = false;
            let word = self.words[block];
            match self.direction {
                Direction::Forward => self.propagate_forward(block, word),
                Direction::Backward => {
                    for (edge, place) in cfg.incoming(block) {
                        if cfg.is_reachable(edge.block) {
                            let through = self.transfer(edge.block, edge.kind, place);
                            self.add(edge.block, through.apply(word));
                        }
                    }
                }
            }
        }
        for events in with_events() {
            self.transfers_of[events[0].block] = None;
        }
    }

    fn propagate_forward(&mut self, block: Block, word: u64) {
        for (place, edge) in self.cfg.successors(block).iter().enumerate() {
            let through = self.transfer(block, edge.kind, place);
            self.add(edge.block, through.apply(word));
        }
    }

    /// Adds facts to a block's head.
    fn add(&mut self, block: Block, facts: u64) {
        let word = &mut self.words[block];
        if facts & !*word == 0 {
            return;
        }
        if *word == 0 {
            self.touched.push(block);
        }
        *word |= facts;
        if !std::mem::replace(&mut self.is_pending[block], true) {
            self.pending.push(block);
        }
    }

    /// What becomes of facts along the edge at `place` among the successors of `from`.
    fn transfer(&self, from: Block, kind: EdgeKind, place: usize) -> Transfer {
        let Some(first) = self.transfers_of[from] else { return Transfer::IDENTITY };
        match kind {
            EdgeKind::Normal | EdgeKind::Extension => self.transfers[first as usize],
            EdgeKind::Exception(_) => {
                let normal = self.cfg.successors(from).len() - exception_edges(self.cfg, from).len();
                self.transfers[first as usize + 1 + place - normal]
            }
        }
    }

    /// Makes the transfers of a block from its events in the column.
    fn add_transfers(&mut self, events: &[Event]) {
        let block = events[0].block;
        let edges = exception_edges(self.cfg, block);
        let first = self.transfers.len();
        self.transfers_of[block] = Some(u32::try_from(first).expect("there are fewer transfers than edges"));
        self.transfers.resize(first + 1 + edges.len(), Transfer::NEVER);
        let mut points = self.cfg.raise_points(block);
        let mut way = Transfer::IDENTITY;
        let (end, exits) =
            self.transfers[first..].split_first_mut().expect("the end's transfer was just added");
        for event in events {
            let before = points.partition_point(|point| point.position < event.position);
            leave(&points[..before], way, edges, exits);
            points = &points[before..];
            way = way.followed_by(*event, self.direction);
        }
        leave(points, way, edges, exits);
        *end = way;
    }
}

/// Adds `way`, that of facts to `points`, to the exits by which these may leave.
fn leave(points: &[RaisePoint], way: Transfer, edges: &[Edge], exits: &mut [Transfer]) {
    let kinds = points.iter().fold(KindSet::NONE, |kinds, point| kinds.union(point.kinds));
    if kinds.is_empty() {
        return;
    }
    for (edge, exit) in edges.iter().zip(exits) {
        if matches!(edge.kind, EdgeKind::Exception(caught) if !caught.intersection(kinds).is_empty()) {
            *exit = exit.or(way);
        }
    }
}

/// The exception edges of a block, which stand last among its successors.
fn exception_edges(cfg: &Cfg, block: Block) -> &[Edge] {
    let edges = cfg.successors(block);
    &edges[edges.partition_point(|edge| !edge.is_exception())..]
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
    for node in method.nodes().rev() {
        if let Some(head) = heads[node] {
            for operand in method.operands(node) {
                heads[*operand].get_or_insert(head);
            }
        }
    }
    heads
}

#[cfg(test)]
mod tests;
