//! Check motion: one check for several, and one before a loop for one in each turn, where nobody can tell.
//!
//! ```text
//!   boundscheck %i, %n - 4   !7                boundscheck %i, %n - 12   !7
//!   load …                               ⇒     load …
//!   boundscheck %i, %n - 12  !7
//!
//!   b1: (loop) boundscheck %i, %n                  boundscheck %i, %n, once; goto b1
//!       …                                ⇒     b1: …
//! ```
//!
//! # Why
//!
//! Checks against one length with offsets are many where the source has fields, matrices, unrolled loops; and what a loop
//! does not change it need not check again.
//!
//! # Guarantees
//!
//! * What is raised cannot be told from what was raised before: kind, reason, frame state and source position are the same, the same
//!   handlers catch it with the same locals, and nothing observable or raising stands between the old place and the new one.
//!   Where only the source position keeps two checks apart, that is said.
//! * Into a loop's preheader go only checks that its first turn makes before anything else could be noticed.
//!
//! # Cost
//!
//! A walk along each extended block; hoisting is linear in the first blocks of loops.

mod combine;
mod hoist;

use dagwood_il::{Edits, Method};

use crate::analysis::facts::Facts;
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};

/// The pass.
pub const PASS: Pass = Pass {
    name: "check_motion",
    summary: "make one check for several, and before a loop what it checks in each turn",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let facts = cx.get::<Facts>(method);
    let loops = hoist::find(method, cx);
    let pairs = combine::find(method, cx, &facts);
    let mut edits = Edits::new();
    let moved = hoist::apply(method, cx, &mut edits, loops);
    combine::apply(method, cx, &mut edits, pairs, moved);
    cx.apply(method, edits)
}
