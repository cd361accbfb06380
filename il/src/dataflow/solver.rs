//! Solves a problem's columns of 64 facts, one after the other.
//!
//! ```text
//!   may:   from what events make true, outward until nothing is added
//!   must:  then, where something may hold, inward until nothing is taken away
//! ```

use super::{Direction, Event, Meet, WORD};
use crate::cfg::{Cfg, Edge, EdgeKind, RaisePoint};
use crate::entity::EntityVec;
use crate::method::Block;
use crate::raise::KindSet;

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

    /// That of an edge along which nothing comes, which changes nothing at a meeting.
    const fn never(meet: Meet) -> Transfer {
        match meet {
            Meet::Any => Transfer { zero: 0, one: 0 },
            Meet::All => Transfer { zero: u64::MAX, one: u64::MAX },
        }
    }

    fn apply(self, facts: u64) -> u64 {
        self.zero | facts & self.one
    }

    /// This way or the other.
    fn meet(self, other: Transfer, meet: Meet) -> Transfer {
        match meet {
            Meet::Any => Transfer { zero: self.zero | other.zero, one: self.one | other.one },
            Meet::All => Transfer { zero: self.zero & other.zero, one: self.one & other.one },
        }
    }

    /// This, with `event` standing after it in the block. Going backward, the event comes first.
    fn followed_by(self, event: Event, direction: Direction) -> Transfer {
        let facts = event.facts;
        let becomes = match (direction, event.becomes) {
            (Direction::Forward, true) => facts,
            (Direction::Forward, false) => 0,
            (Direction::Backward, true) => self.one & facts,
            (Direction::Backward, false) => self.zero & facts,
        };
        Transfer { zero: self.zero & !facts | becomes, one: self.one & !facts | becomes }
    }
}

/// The ways through a block with events.
#[derive(Clone, Copy)]
struct Ways {
    /// Where its transfers begin: one for its end, one for each exception edge.
    first: u32,
    /// What holds at its head if nothing holds where it is left in its middle.
    left: u64,
}

/// Solves one column after the other.
pub(super) struct Solver<'c> {
    direction: Direction,
    meet: Meet,
    cfg: &'c Cfg,
    /// The facts at each block's head.
    pub(super) words: EntityVec<Block, u64>,
    /// The blocks that had a fact.
    pub(super) touched: Vec<Block>,
    ways_of: EntityVec<Block, Option<Ways>>,
    transfers: Vec<Transfer>,
    pending: Vec<Block>,
    is_pending: EntityVec<Block, bool>,
}

impl<'c> Solver<'c> {
    pub(super) fn new(direction: Direction, meet: Meet, cfg: &'c Cfg) -> Self {
        let blocks = cfg.block_count();
        Solver {
            direction,
            meet,
            cfg,
            words: EntityVec::filled(0, blocks),
            touched: Vec::new(),
            ways_of: EntityVec::filled(None, blocks),
            transfers: Vec::new(),
            pending: Vec::new(),
            is_pending: EntityVec::filled(false, blocks),
        }
    }

    /// Leaves the facts in `words` and `touched`.
    pub(super) fn solve(&mut self, events: &[Event], at_entry: &[u32]) {
        let at_entry = at_entry.iter().fold(0, |word, fact| word | bit(*fact));
        self.find_ways(events, Meet::Any);
        self.spread(events, at_entry);
        if self.meet == Meet::All {
            self.find_ways(events, Meet::All);
            self.shrink(at_entry);
        }
        for event in events {
            self.ways_of[event.block] = None;
        }
    }

    // ---- what may hold ----

    fn spread(&mut self, events: &[Event], at_entry: u64) {
        let cfg = self.cfg;
        if let Some(entry) = cfg.order().first() {
            self.add(*entry, at_entry);
        }
        // What events make true of themselves, wherever control comes from.
        for events in events.chunk_by(|left, right| left.block == right.block) {
            let block = events[0].block;
            match self.direction {
                Direction::Forward => self.propagate_forward(block, 0),
                Direction::Backward => {
                    let first = self.ways_of[block].map_or(0, |ways| ways.first as usize);
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
        self.push(block);
    }

    fn push(&mut self, block: Block) {
        if !std::mem::replace(&mut self.is_pending[block], true) {
            self.pending.push(block);
        }
    }

    // ---- what must hold ----

    /// Takes away what does not hold along all paths.
    fn shrink(&mut self, at_entry: u64) {
        let cfg = self.cfg;
        for index in 0..self.touched.len() {
            self.push(self.touched[index]);
        }
        while let Some(block) = self.pending.pop() {
            self.is_pending[block] = false;
            let before = self.words[block];
            let after = before & self.met(block, at_entry);
            if after == before {
                continue;
            }
            self.words[block] = after;
            match self.direction {
                Direction::Forward => {
                    for edge in cfg.successors(block) {
                        if self.words[edge.block] != 0 {
                            self.push(edge.block);
                        }
                    }
                }
                Direction::Backward => {
                    for edge in cfg.predecessors(block) {
                        if self.words[edge.block] != 0 {
                            self.push(edge.block);
                        }
                    }
                }
            }
        }
    }

    /// What all paths that meet at a block's head bring.
    fn met(&self, block: Block, at_entry: u64) -> u64 {
        let cfg = self.cfg;
        match self.direction {
            Direction::Forward => {
                let is_entry = cfg.order().first() == Some(&block);
                let start = if is_entry { at_entry } else { u64::MAX };
                cfg.incoming(block).filter(|(edge, _)| cfg.is_reachable(edge.block)).fold(
                    start,
                    |word, (edge, place)| {
                        word & self.transfer(edge.block, edge.kind, place).apply(self.words[edge.block])
                    },
                )
            }
            Direction::Backward => {
                let ways = self.ways_of[block];
                let is_left = cfg.first_leave(block).is_some();
                let start = match ways {
                    _ if !is_left => u64::MAX,
                    Some(ways) => ways.left,
                    None => 0,
                };
                let edges = cfg.successors(block);
                let normal = edges.len() - exception_edges(cfg, block).len();
                // Where the method ends with the block, nothing comes back but what the block makes true.
                let start = if normal == 0 && !is_left { self.end(block).zero } else { start };
                edges.iter().enumerate().fold(start, |word, (place, edge)| {
                    word & self.transfer(block, edge.kind, place).apply(self.words[edge.block])
                })
            }
        }
    }

    // ---- ways ----

    fn end(&self, block: Block) -> Transfer {
        self.ways_of[block].map_or(Transfer::IDENTITY, |ways| self.transfers[ways.first as usize])
    }

    /// What becomes of facts along the edge at `place` among the successors of `from`.
    fn transfer(&self, from: Block, kind: EdgeKind, place: usize) -> Transfer {
        let Some(ways) = self.ways_of[from] else { return Transfer::IDENTITY };
        match kind {
            EdgeKind::Normal | EdgeKind::Extension => self.transfers[ways.first as usize],
            EdgeKind::Exception(_) => {
                let normal = self.cfg.successors(from).len() - exception_edges(self.cfg, from).len();
                self.transfers[ways.first as usize + 1 + place - normal]
            }
        }
    }

    /// Makes the transfers of all blocks with events in the column.
    fn find_ways(&mut self, events: &[Event], meet: Meet) {
        self.transfers.clear();
        for events in events.chunk_by(|left, right| left.block == right.block) {
            self.add_ways(events, meet);
        }
    }

    fn add_ways(&mut self, events: &[Event], meet: Meet) {
        let block = events[0].block;
        let edges = exception_edges(self.cfg, block);
        let first = self.transfers.len();
        self.transfers.resize(first + 1 + edges.len(), Transfer::never(meet));
        let mut points = self.cfg.raise_points(block);
        let first_leave = self.cfg.first_leave(block).unwrap_or(u32::MAX);
        let mut way = Transfer::IDENTITY;
        let mut left = 0;
        let (end, exits) =
            self.transfers[first..].split_first_mut().expect("the end's transfer was just added");
        for event in events {
            let before = points.partition_point(|point| point.position < event.position);
            leave(&points[..before], way, edges, exits, meet);
            points = &points[before..];
            way = way.followed_by(*event, self.direction);
            if event.position <= first_leave {
                left = way.zero;
            }
        }
        leave(points, way, edges, exits, meet);
        *end = way;
        let first = u32::try_from(first).expect("there are fewer transfers than edges");
        self.ways_of[block] = Some(Ways { first, left });
    }
}

/// Adds `way`, that of facts to `points`, to the exits by which these may leave.
fn leave(points: &[RaisePoint], way: Transfer, edges: &[Edge], exits: &mut [Transfer], meet: Meet) {
    let kinds = points.iter().fold(KindSet::NONE, |kinds, point| kinds.union(point.kinds));
    if kinds.is_empty() {
        return;
    }
    for (edge, exit) in edges.iter().zip(exits) {
        if matches!(edge.kind, EdgeKind::Exception(caught) if !caught.intersection(kinds).is_empty()) {
            *exit = exit.meet(way, meet);
        }
    }
}

/// The exception edges of a block, which stand last among its successors.
fn exception_edges(cfg: &Cfg, block: Block) -> &[Edge] {
    let edges = cfg.successors(block);
    &edges[edges.partition_point(|edge| !edge.is_exception())..]
}
