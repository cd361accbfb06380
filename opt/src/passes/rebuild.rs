//! Rebuilding: the method is written anew by the builder, without any edit of our own.
//!
//! # Why
//!
//! What a frontend builds with folding is as the builder leaves it. Text, and what a frontend builds without, is not; after this pass it is. Other
//! passes rebuild as they apply their edits, so no strategy lists it.
//!
//! # Guarantees
//!
//! Those of [`edit`](dagwood_il::edit). It is one rewrite.
//!
//! # Cost
//!
//! One copy.

use dagwood_il::edit::Edits;
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Method};

use crate::cx::PassCx;
use crate::pass::{Changed, Pass};

/// The pass.
pub const PASS: Pass = Pass {
    name: "rebuild",
    summary: "write the method anew: fold, number, forward, leave out what is dead",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let entry = Block::new(0);
    let mut edits = Edits::new();
    if cx.allows(entry, || "the method is written anew".into()) {
        // Edits that change nothing are still edits.
        edits.set_frequency(entry, method.block(entry).frequency);
    }
    cx.apply(method, edits)
}
