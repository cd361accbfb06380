//! Layout: every block is told how often it runs, so that machine code goes straight on where the method mostly does.
//!
//! ```text
//!   b1: br %c, b2, b3            b1 freq 8:  br %c, b2, b3          b2 follows b1
//!   b2: … goto b1          ⇒     b2 freq 7:  … goto b1
//!   b3: return                   b3 freq 1:  return                 b3 comes later
//! ```
//!
//! # Why
//!
//! Passes ask for estimates where they need them, and keep them apart from what a profile has seen. Whoever emits code has no estimates of its
//! own: it reads frequencies, puts the more frequent way of a branch next, and what never runs far away. So this is the last pass.
//!
//! # Guarantees
//!
//! A frequency that is known stays. Nothing but frequencies changes.
//!
//! # Cost
//!
//! That of [`Frequencies`].

use dagwood_il::{Block, Frequency, Method};

use crate::analysis::frequencies::Frequencies;
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};

/// The pass.
pub const PASS: Pass = Pass {
    name: "layout",
    summary: "estimate how often blocks run where no profile says, for the order of code",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    if method.block_count() < 2 {
        return Changed::No;
    }
    let (cfg, frequencies) = (cx.cfg(method), cx.get::<Frequencies>(method));
    let unknown: Vec<(Block, Frequency)> = cfg
        .order()
        .iter()
        .filter(|block| method.block(**block).frequency.is_none())
        .map(|block| (*block, frequencies.of(*block)))
        .collect();
    let Some((first, _)) = unknown.first().copied() else { return Changed::No };
    if !cx.allows(first, || format!("{} blocks are laid out by estimates", unknown.len())) {
        return Changed::No;
    }
    for (block, frequency) in unknown {
        method.set_frequency(block, Some(frequency));
    }
    Changed::Yes
}
