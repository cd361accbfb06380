//! Which locals will be read, at the heads of extended blocks or at the beginnings of all.
//!
//! A local is live where a path leads to an `entry` of it with no `set` of it in between. Handlers are reached from
//! each root that may raise into them, with the locals as of that root.

use super::{Direction, Event, Facts, Meet, Problem, TooManyFacts, heads_of_uses, solve};
use crate::cfg::Cfg;
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Local, Method, Node, Payload};
use crate::opcode::Opcode;

/// The locals live at the beginnings of blocks.
#[derive(Clone, Debug)]
pub struct Liveness {
    facts: Facts,
}

impl Liveness {
    /// The live locals of a method; those of blocks that continue another, and of blocks that cannot be reached, are
    /// not asked for and come out as none.
    ///
    /// # Errors
    ///
    /// If there are too many of them to keep; see [`MAX_WORDS`](super::MAX_WORDS).
    pub fn compute(method: &Method<'_>, cfg: &Cfg) -> Result<Liveness, TooManyFacts> {
        Liveness::of_uses(method, cfg, &heads_of_uses(method))
    }

    /// The same, from what [`heads_of_uses`] says.
    ///
    /// # Errors
    ///
    /// As those of [`Liveness::compute`].
    pub fn of_uses(
        method: &Method<'_>,
        cfg: &Cfg,
        heads: &EntityVec<Node, Option<Block>>,
    ) -> Result<Liveness, TooManyFacts> {
        Liveness::compute_with(method, cfg, heads, |block| method.block(block).extends.is_none())
    }

    /// The same at the beginnings of all blocks, also of those that continue another.
    ///
    /// # Errors
    ///
    /// As [`Liveness::compute`].
    pub fn everywhere(method: &Method<'_>, cfg: &Cfg) -> Result<Liveness, TooManyFacts> {
        Liveness::compute_with(method, cfg, &heads_of_uses(method), |_| true)
    }

    /// The same, for the blocks that `keep` asks for, from what [`heads_of_uses`] says.
    pub(crate) fn compute_with(
        method: &Method<'_>,
        cfg: &Cfg,
        heads: &EntityVec<Node, Option<Block>>,
        keep: impl Fn(Block) -> bool,
    ) -> Result<Liveness, TooManyFacts> {
        let mut events = Vec::new();
        for (node, head) in heads.iter() {
            if let (Opcode::Entry, Payload::Local(local), Some(block)) =
                (method.opcode(node), method.payload(node), *head)
            {
                events.push(Event::of(fact(local), block, 0, true));
            }
        }
        events.extend(
            sets(method).map(|(block, position, local)| Event::of(fact(local), block, position, false)),
        );
        let problem =
            Problem { direction: Direction::Backward, meet: Meet::Any, at_entry: Vec::new(), events };
        Ok(Liveness { facts: solve(problem, cfg, keep)? })
    }

    /// The locals live at the beginning of a block that was asked for, ascending.
    pub fn live_in(&self, block: Block) -> impl Iterator<Item = Local> {
        self.facts.at(block).map(|fact| Local::new(fact as usize))
    }

    /// Whether a local is live at the beginning of a block that was asked for.
    pub fn is_live_in(&self, block: Block, local: Local) -> bool {
        self.facts.holds(block, fact(local))
    }
}

/// The number of the fact about a local.
pub(super) fn fact(local: Local) -> u32 {
    u32::try_from(local.index()).expect("locals are numbered by 32 bits")
}

/// Every `set`: its block, the position after it, its local.
pub(super) fn sets(method: &Method<'_>) -> impl Iterator<Item = (Block, u32, Local)> {
    method.blocks().flat_map(move |block| {
        (1..).zip(method.roots(block)).filter_map(move |(after, root)| {
            match (method.opcode(root.node), method.payload(root.node)) {
                (Opcode::Set, Payload::Local(local)) => Some((block, after, local)),
                _ => None,
            }
        })
    })
}
