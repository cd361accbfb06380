//! What is known of values: ranges, bits, nullness, classes, and which of two is the smaller, place by place.
//!
//! ```text
//!   b1: %i = entry $i                    $i in 0..=99, $i + 1 <= $n             at the head, for all paths to it
//!       %c = ult %i, %m
//!       br %c, b2, b3
//!   b2 extends b1:                       %i + 1 <= %m                           along the path
//!       boundscheck %i, %m               cannot raise
//! ```
//!
//! *Why without nodes for facts.* What a branch says holds in places, and a node does not. So facts are no part of the
//! method: a walk along an extended block's tree knows them where it stands ([`Known`]), and whoever wants to use one there
//! rewrites the operand of the root that is there.
//!
//! *Guarantees.* A fact that is shown at a place holds for each execution of that place. Nothing is assumed of the running
//! program but what declarations say. The order in which nodes were made does not matter but for how far bounded searches get.
//!
//! *Cost.* [`Facts::local`] walks nothing. [`Facts::global`] walks along each extended block about one and a half times, more often in
//! loops inside others. A walk costs some tens of nanoseconds for each node.

mod counters;
mod fact;
mod heads;
mod inverse;
mod known;
mod places;
mod relations;
mod sends;
mod shape;
#[cfg(test)]
mod tests;
mod transfer;
mod walk;

use std::cell::RefCell;

use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::{Block, Cfg, Dominators, Liveness, Loops, Method, Module, Node};

pub use fact::{Fact, Kind};
pub use heads::MAX_CHANGES;
pub use known::{Known, MAX_STEPS, Mark};
pub use places::Places;
pub use relations::{Bound, Reading};
pub use sends::MAX_BOUNDS;
pub use walk::{LocalBound, State, Visitor};

use crate::analysis::Analysis;
use crate::cx::PassCx;
use heads::{Graph, Heads};
use known::Base;
use shape::Shape;

/// What is known of the values of a method. It does not borrow the method, and is about it as it was.
#[derive(Clone, Debug)]
pub struct Facts {
    shape: Shape,
    heads: Heads,
    order: Vec<Block>,
    /// For the first who walks.
    base: RefCell<Option<Base>>,
}

impl Facts {
    /// What each extended block tells of itself, whatever comes before it.
    pub fn local(method: &Method<'_>, cfg: &Cfg) -> Facts {
        let order = heads::heads(method, cfg).collect();
        let base = RefCell::default();
        Facts { shape: Shape::compute(method), heads: Heads::nothing(method, cfg), order, base }
    }

    /// What is known taking all paths to a place into account, with what else is known of the graph.
    pub fn global(
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        liveness: &Liveness,
        dominators: &Dominators,
        loops: &Loops,
    ) -> Facts {
        let shape = Shape::compute(method);
        let mut known = Known::nothing(module, method, &shape, Base::new(method));
        let heads = Heads::compute(&mut known, &shape, &Graph { cfg, liveness, dominators, loops });
        let base = RefCell::new(Some(known.into_base()));
        Facts { heads, order: heads::heads(method, cfg).collect(), shape, base }
    }

    /// The heads that the graph reaches, in its order.
    pub fn order(&self) -> &[Block] {
        &self.order
    }

    /// What is known at a head; none if it cannot be reached.
    pub fn at_head(&self, head: Block) -> Option<&State> {
        self.heads.state(head)
    }

    /// How many nodes a walk along the extended block of `head` meets.
    pub fn size_of(&self, head: Block) -> u64 {
        self.shape.nodes_of(head).len() as u64
    }

    /// The nodes that a walk along the extended block of `head` meets, operands before users.
    pub fn nodes_of(&self, head: Block) -> &[Node] {
        self.shape.nodes_of(head)
    }

    /// What is known before a walk begins.
    pub fn known<'m, 'a>(&'m self, module: &'m Module, method: &'m Method<'a>) -> Known<'m, 'a> {
        let base = self.base.take().unwrap_or_else(|| Base::new(method));
        Known::nothing(module, method, &self.shape, base)
    }

    /// Walks along the extended block of `head`, if it can be reached.
    pub fn walk(&self, known: &mut Known<'_, '_>, head: Block, visitor: &mut impl Visitor) {
        if let Some(state) = self.heads.state(head) {
            walk::walk(known, head, state, visitor);
        }
    }
}

/// How many walks it takes to know what holds at heads, for the budget.
const WALKS: u64 = 3;

/// What is known taking all paths into account; where the budget does not allow that, what extended blocks tell of themselves.
impl Analysis for Facts {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Facts {
        let cfg = cx.cfg(method);
        if cx.spend(WALKS * method.node_count() as u64)
            && let Ok(liveness) = &*cx.get::<Result<Liveness, TooManyFacts>>(method)
        {
            let (dominators, loops) = (cx.get::<Dominators>(method), cx.get::<Loops>(method));
            Facts::global(cx.module(), method, &cfg, liveness, &dominators, &loops)
        } else {
            Facts::local(method, &cfg)
        }
    }
}
