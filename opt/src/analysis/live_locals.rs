//! Which locals will be read, at the beginnings of all blocks.
//!
//! *Why.* Locals are read at the heads of extended blocks. Whoever asks what a `set` is for asks at the blocks below, too, and about their ends
//! and handlers.
//!
//! *Guarantees.* A local is live where a path leads to an `entry` of it with no `set` of it in between; raises count, from where they are.
//!
//! *Cost.* That of [`Liveness`], in all blocks.

use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::{Block, Cfg, Liveness, Local, Method, Node, Opcode, Payload};

use super::Analysis;
use crate::cx::PassCx;

/// The locals that are live at the beginning of each block.
#[derive(Clone, Debug)]
pub struct LiveLocals {
    liveness: Liveness,
}

impl LiveLocals {
    /// The live locals of `method`.
    ///
    /// # Errors
    ///
    /// If there are too many of them to keep.
    pub fn compute(method: &Method<'_>, cfg: &Cfg) -> Result<LiveLocals, TooManyFacts> {
        Ok(LiveLocals { liveness: Liveness::everywhere(method, cfg)? })
    }

    /// Whether a local will be read from the beginning of a block on.
    pub fn is_live_in(&self, block: Block, local: Local) -> bool {
        self.liveness.is_live_in(block, local)
    }

    /// Whether a local will be read from the end of a block on.
    pub fn is_live_out(&self, cfg: &Cfg, block: Block, local: Local) -> bool {
        let mut ahead = cfg.successors(block).iter().filter(|edge| !edge.is_exception());
        ahead.any(|edge| self.is_live_in(edge.block, local))
    }

    /// Whether a local will be read in a handler of a block, if what it holds between two positions is there when something is raised.
    pub fn is_handled(&self, cfg: &Cfg, block: Block, local: Local, positions: std::ops::Range<u32>) -> bool {
        let points = cfg.raise_points(block);
        let first = points.partition_point(|point| point.position < positions.start);
        let may_raise = points.get(first).is_some_and(|point| point.position < positions.end);
        let mut handlers = cfg.successors(block).iter().filter(|edge| edge.is_exception());
        may_raise && handlers.any(|edge| self.is_live_in(edge.block, local))
    }
}

/// The local that a root sets, and to what.
pub fn set(method: &Method<'_>, root: Node) -> Option<(Local, Node)> {
    match (method.opcode(root), method.payload(root)) {
        (Opcode::Set, Payload::Local(local)) => Some((local, method.operands(root)[0])),
        _ => None,
    }
}

impl Analysis for Result<LiveLocals, TooManyFacts> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Result<LiveLocals, TooManyFacts> {
        let cfg = cx.cfg(method);
        cx.spend(method.node_count() as u64);
        LiveLocals::compute(method, &cfg)
    }
}
