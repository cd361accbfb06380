//! Cold blocks: what only leads to a raise, or is only reached through one, is marked as never running.
//!
//! ```text
//!   b0: br %c, b1, b2          b0
//!   b1: goto b3           ⇒    b1 freq 0      all that follows is cold
//!   b2: return                 b2
//!   b3: raise overflow         b3 freq 0
//! ```
//!
//! # Why
//!
//! Raising is rare. Passes that weigh how often something runs, and the layout of code, need to know where it does not.
//!
//! # Guarantees
//!
//! A block whose frequency is known keeps it; the entry is never marked. Nothing but frequencies changes.
//!
//! # Cost
//!
//! Linear in blocks and edges.

use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Cfg, Frequency, Method, Payload, effects};

use crate::cx::PassCx;
use crate::pass::{Changed, Pass};

/// The pass.
pub const PASS: Pass = Pass {
    name: "mark_cold",
    summary: "mark blocks that only lead to a raise, or only follow one, as cold",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let cfg = cx.cfg(method);
    cx.spend(2 * method.block_count() as u64);
    let cold = find(cx.module(), method, &cfg);
    let mut changed = Changed::No;
    for block in cold {
        if cx.allows(block, || format!("{block} is never expected to run")) {
            method.set_frequency(block, Some(Frequency::COLD));
            changed = Changed::Yes;
        }
    }
    changed
}

/// The blocks that are cold, and not known to be.
fn find(module: &dagwood_il::Module, method: &Method<'_>, cfg: &Cfg) -> Vec<Block> {
    let mut is_cold = EntityVec::filled(false, method.block_count());
    let may_be_marked =
        |block: Block| method.block(block).frequency.is_none() && Some(&block) != cfg.order().first();
    // Backward: what all ways on from are cold. In a loop the way round is taken to be hot.
    for block in cfg.order().iter().rev() {
        let known = method.block(*block).frequency == Some(Frequency::COLD);
        let mut ahead = cfg.successors(*block).iter().filter(|edge| !edge.is_exception()).peekable();
        let leads_to_raise = match ahead.peek() {
            None => raises(module, method, *block),
            Some(_) => ahead.all(|edge| is_cold[edge.block]),
        };
        is_cold[*block] = known || leads_to_raise && may_be_marked(*block);
    }
    // Forward: what is reached from cold blocks only, or through raises only.
    for block in cfg.order() {
        let mut before =
            cfg.predecessors(*block).iter().filter(|edge| cfg.is_reachable(edge.block)).peekable();
        let follows_raise =
            before.peek().is_some() && before.all(|edge| edge.is_exception() || is_cold[edge.block]);
        is_cold[*block] |= follows_raise && may_be_marked(*block);
    }
    cfg.order().iter().copied().filter(|block| is_cold[*block] && may_be_marked(*block)).collect()
}

/// Whether a block without successors ends by raising, not by returning or by a tail call.
fn raises(module: &dagwood_il::Module, method: &Method<'_>, block: Block) -> bool {
    let end = method.terminator(block);
    end.is_some_and(|end| {
        matches!(method.payload(end), Payload::Raise(..)) || !effects::raises(module, method, end).is_empty()
    })
}
