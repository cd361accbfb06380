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

use dagwood_il::{Block, Cfg, Frequency, Method, Module};

use crate::analysis::frequencies::cold_blocks;
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
    if !cx.spend(2 * method.block_count() as u64) {
        return Changed::No;
    }
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
fn find(module: &Module, method: &Method<'_>, cfg: &Cfg) -> Vec<Block> {
    let is_cold = cold_blocks(module, method, cfg);
    let is_new = |block: &Block| is_cold[*block] && method.block(*block).frequency.is_none();
    cfg.order().iter().copied().filter(is_new).collect()
}
