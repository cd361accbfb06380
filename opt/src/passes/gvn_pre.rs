//! Redundancies, full and partial: what [`gvn`] finds and what [`pre`] finds, at once.
//!
//! ```text
//!   numbers, memory, … ──► gvn: what is known wherever it is computed again ─┐
//!            └───────────► pre: what is known on some paths ◄── known there ─┴──► one copy
//! ```
//!
//! # Why
//!
//! Both ask for the same analyses, which cost more than either: what the one changes would have to be numbered again for the other.
//!
//! # Guarantees
//!
//! Those of both. What `gvn` replaces is to `pre` what a store is: it is known there, and not computed. So nothing is put on a path for it.
//!
//! # Cost
//!
//! That of both, with one set of analyses and one copy.

use dagwood_il::{Edits, Method};

use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use crate::passes::{gvn, pre};

/// The pass.
pub const PASS: Pass = Pass {
    name: "gvn_pre",
    summary: "use what was computed on all paths, or compute it on those where it was not",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let full = gvn::find(method, cx);
    let partial = pre::find(method, cx, &full);
    let mut edits = Edits::new();
    gvn::collect(method, cx, &mut edits, &full);
    partial.iter().for_each(|partial| pre::collect(method, cx, &mut edits, partial));
    cx.apply(method, edits)
}
