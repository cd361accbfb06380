//! Analyses: what passes know of a method beyond what is written in it, and the cache that computes each once.
//!
//! ```text
//!   cx.get::<Loops>(method) ── known? ── yes ──► the same Rc as before
//!                                 └───── no ───► Loops::of: asks for what it needs, Cfg and Dominators, then computes
//!   cx.apply, Changed::Yes ──► nothing is known any more
//! ```
//!
//! An analysis is a noun with a `compute` that needs no manager, and an [`Analysis`] that says what it is computed from. Users' own are as
//! good as ours.

pub mod available;
pub mod births;
pub mod escape;
pub mod facts;
pub mod frequencies;
pub mod frontiers;
pub mod live_locals;
pub mod location;
pub mod memory;
pub mod overwrites;
pub mod reaching;
pub mod uses;
pub mod value_numbers;
pub mod weights;

use std::any::Any;
use std::rc::Rc;

use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::{Cfg, Dominators, Liveness, Loops, Method};

use crate::cx::PassCx;
use uses::Uses;

/// Something computed from a method, which holds until the method changes.
pub trait Analysis: Sized + 'static {
    /// Computes it, from analyses that `cx` may know already. Work is spent by whoever does it: here.
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Self;
}

/// The analyses of a method as it is.
#[derive(Default)]
pub(crate) struct Cache {
    /// Few, so that looking at each is quicker than anything else.
    known: Vec<Rc<dyn Any>>,
}

impl Cache {
    pub(crate) fn get<A: Analysis>(&self) -> Option<Rc<A>> {
        let known = self.known.iter().find(|known| (***known).is::<A>())?;
        known.clone().downcast().ok()
    }

    pub(crate) fn put<A: Analysis>(&mut self, analysis: Rc<A>) {
        self.known.push(analysis);
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }
}

impl Analysis for Cfg {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Cfg {
        cx.spend(method.blocks().map(|block| method.roots(block).len() as u64).sum());
        Cfg::compute(cx.module(), method)
    }
}

impl Analysis for Dominators {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Dominators {
        let cfg = cx.get::<Cfg>(method);
        cx.spend(method.block_count() as u64);
        Dominators::compute(&cfg)
    }
}

impl Analysis for Loops {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Loops {
        let (cfg, dominators) = (cx.get::<Cfg>(method), cx.get::<Dominators>(method));
        cx.spend(method.block_count() as u64);
        Loops::compute(&cfg, &dominators)
    }
}

/// What is live, unless that is more than can be kept.
impl Analysis for Result<Liveness, TooManyFacts> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Result<Liveness, TooManyFacts> {
        let (cfg, uses) = (cx.get::<Cfg>(method), cx.get::<Uses>(method));
        cx.spend(method.node_count() as u64 / 2);
        Liveness::of_uses(method, &cfg, uses.heads())
    }
}
