//! Value propagation with what is known taking all paths to a place into account.
//!
//! ```text
//!   b1: %i = entry $i           $i in 0..=99, since it starts at 0 and b2 is left below 100
//!       boundscheck %i, 100     ⇒  gone
//! ```
//!
//! # Why
//!
//! Loop counters, and what was checked before a join or a loop, are known only across extended blocks.
//!
//! # Guarantees
//!
//! Those of [`value_propagation`](super::value_propagation), which does the work.
//!
//! # Cost
//!
//! About two and a half walks along each extended block, linear in nodes and in live locals of which something is known.

use dagwood_il::Method;

use crate::analysis::facts::Facts;
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use crate::passes::value_propagation::propagate;

/// The pass.
pub const PASS: Pass = Pass {
    name: "global_value_propagation",
    summary: "use what checks and branches say below them, along all paths",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let facts = cx.get::<Facts>(method);
    propagate(method, cx, &facts)
}
