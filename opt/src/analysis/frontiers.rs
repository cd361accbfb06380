//! Where the dominance of blocks ends: the joins at which what a block did meets what other paths did.
//!
//! ```text
//!        b1              frontier(b2) = frontier(b3) = {b4}
//!       ╱  ╲             a local set in b2 has several values at b4, and at no other join
//!     b2    b3
//!       ╲  ╱
//!        b4
//! ```
//!
//! R. Cytron and others, "Efficiently computing static single assignment form and the control dependence graph" (1991).
//!
//! # Why
//!
//! Which definitions reach a join is asked of every local at every head by a table that is quadratic in the method. The joins at
//! which several meet are few.
//!
//! # Guarantees
//!
//! A handler is a join of each block that may raise into it, even of one that dominates it: it may be entered from before and from
//! after what that block does.
//!
//! # Cost
//!
//! Linear in edges and in the result. That is linear in practice; where loops nest without end it is quadratic, and beyond
//! [`MAX_PER_EDGE`] entries for each edge there is none.

use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Cfg, Dominators, Method};

use super::Analysis;
use crate::cx::PassCx;

/// How many entries the frontiers of a method may have for each of its edges, on average.
pub const MAX_PER_EDGE: usize = 64;

/// The dominance frontier of each block.
#[derive(Clone, Debug)]
pub struct Frontiers {
    starts: Vec<u32>,
    joins: Vec<Block>,
}

impl Frontiers {
    /// The frontiers of a graph; none if they would be too large.
    pub fn compute(cfg: &Cfg, dominators: &Dominators) -> Option<Frontiers> {
        let mut entries: Vec<(Block, Block)> = Vec::new();
        let mut latest: EntityVec<Block, Option<Block>> = EntityVec::filled(None, cfg.block_count());
        let mut edges = 0;
        for join in cfg.order() {
            let top = dominators.immediate(*join);
            let predecessors = cfg.predecessors(*join).iter().filter(|edge| cfg.is_reachable(edge.block));
            for edge in predecessors {
                edges += 1;
                let mut at = Some(edge.block);
                if edge.is_exception() && top == at && latest[edge.block] != Some(*join) {
                    latest[edge.block] = Some(*join);
                    entries.push((edge.block, *join));
                }
                while at != top
                    && let Some(block) = at
                    && latest[block] != Some(*join)
                {
                    latest[block] = Some(*join);
                    entries.push((block, *join));
                    at = dominators.immediate(block);
                }
            }
            if entries.len() > MAX_PER_EDGE * (edges + 1) {
                return None;
            }
        }
        Some(Frontiers::gather(&entries, cfg.block_count()))
    }

    fn gather(entries: &[(Block, Block)], blocks: usize) -> Frontiers {
        let mut starts = vec![0; blocks + 1];
        for (block, _) in entries {
            starts[block.index() + 1] += 1;
        }
        for block in 0..blocks {
            starts[block + 1] += starts[block];
        }
        let mut next = starts.clone();
        let mut joins: Vec<Block> = entries.iter().map(|(_, join)| *join).collect();
        for (block, join) in entries {
            let slot = &mut next[block.index()];
            joins[*slot as usize] = *join;
            *slot += 1;
        }
        Frontiers { starts, joins }
    }

    /// The joins at which the block's dominance ends, in reverse post-order.
    pub fn of(&self, block: Block) -> &[Block] {
        &self.joins[self.starts[block.index()] as usize..self.starts[block.index() + 1] as usize]
    }
}

/// The blocks of a dominator tree, each with when it is entered and left on a walk along it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The block; what dominates it has been entered and not left.
    Enter(Block),
    /// All that the block dominates has been visited.
    Leave(Block),
}

/// A walk along the dominator tree; what a block dominates is visited in reverse post-order.
pub fn dominator_walk(cfg: &Cfg, dominators: &Dominators) -> Vec<Visit> {
    const NONE: u32 = u32::MAX;
    // By block, the first that it dominates at once and the next with the same dominator, as ranks.
    let mut first = vec![NONE; cfg.order().len()];
    let mut next = vec![NONE; cfg.order().len()];
    for block in cfg.order().iter().rev() {
        let rank = cfg.rank(*block).unwrap_or(NONE);
        if let Some(parent) = dominators.immediate(*block).and_then(|parent| cfg.rank(parent)) {
            next[rank as usize] = std::mem::replace(&mut first[parent as usize], rank);
        }
    }
    let mut visits = Vec::with_capacity(2 * cfg.order().len());
    let mut open: Vec<u32> = Vec::new();
    let mut at = if cfg.order().is_empty() { NONE } else { 0 };
    loop {
        if at != NONE {
            visits.push(Visit::Enter(cfg.order()[at as usize]));
            open.push(at);
            at = first[at as usize];
        } else if let Some(done) = open.pop() {
            visits.push(Visit::Leave(cfg.order()[done as usize]));
            at = next[done as usize];
        } else {
            return visits;
        }
    }
}

/// Steps up the dominator tree in search of one answer of [`Ends`].
const MAX_CLIMB: usize = 256;

/// Which blocks are reached from their dominator's end only. What a block does before its end may not have happened where one of its
/// roots raised, although the block dominates the handler and all that follows it.
#[derive(Clone, Debug)]
pub struct Ends {
    is_after_end: EntityVec<Block, bool>,
    /// The first root that may raise into a handler of the block.
    first_raise: EntityVec<Block, u32>,
}

impl Ends {
    /// Finds them.
    pub fn compute(cfg: &Cfg, dominators: &Dominators) -> Ends {
        let mut is_after_end = EntityVec::filled(false, cfg.block_count());
        let mut first_raise = EntityVec::filled(u32::MAX, cfg.block_count());
        for block in cfg.order() {
            if let Some(point) = cfg.raise_points(*block).first() {
                first_raise[*block] = point.position;
            }
        }
        for block in cfg.order() {
            let Some(top) = dominators.immediate(*block) else { continue };
            is_after_end[*block] = first_raise[top] == u32::MAX
                || cfg.predecessors(*block).iter().filter(|edge| cfg.is_reachable(edge.block)).all(|edge| {
                    if edge.block == top {
                        return !edge.is_exception();
                    }
                    let mut at = edge.block;
                    for _ in 0..MAX_CLIMB {
                        match dominators.immediate(at) {
                            Some(above) if above == top => return at == *block || is_after_end[at],
                            Some(above) => at = above,
                            None => return false,
                        }
                    }
                    false
                });
        }
        Ends { is_after_end, first_raise }
    }

    /// Whether what happens in `block` before the root at `position` has happened wherever `below` is executed: a block that it
    /// dominates at once.
    pub fn has_happened(&self, block: Block, position: u32, below: Block) -> bool {
        self.is_after_end[below] || position <= self.first_raise[block]
    }
}

impl Analysis for Option<Frontiers> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<Frontiers> {
        let (cfg, dominators) = (cx.cfg(method), cx.dominators(method));
        cx.spend(method.block_count() as u64);
        Frontiers::compute(&cfg, &dominators)
    }
}

impl Analysis for Ends {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Ends {
        let (cfg, dominators) = (cx.cfg(method), cx.dominators(method));
        cx.spend(method.block_count() as u64);
        Ends::compute(&cfg, &dominators)
    }
}
