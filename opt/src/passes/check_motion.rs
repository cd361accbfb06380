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
//! A walk along each extended block, and facts, but only where a look at roots finds two checks that may be of one length; hoisting is
//! linear in the first blocks of loops.

mod combine;
mod hoist;

use dagwood_il::{Block, Edits, Method, Module, Node, Opcode, Properties, effects};

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
    let loops = hoist::find(method, cx);
    let pairs = if may_combine(cx.module(), method) {
        let facts = cx.get::<Facts>(method);
        combine::find(method, cx, &facts)
    } else {
        Vec::new()
    };
    let mut edits = Edits::new();
    let moved = hoist::apply(method, cx, &mut edits, loops);
    combine::apply(method, cx, &mut edits, pairs, moved);
    cx.apply(method, edits)
}

/// How many first operands are followed from a check's: at least as many as its index and length are taken apart.
const MAX_PARTS: usize = 8;

/// Whether two checks of a block may be of one index and one length, but for constants: whether facts are worth asking.
fn may_combine(module: &Module, method: &Method<'_>) -> bool {
    let are_alike = |left: Node, right: Node| {
        let (left, right) = (method.operands(left), method.operands(right));
        left.iter().zip(right).take(2).all(|(left, right)| are_related(method, *left, *right))
    };
    method.blocks().any(|block| {
        let mut last: Option<Node> = None;
        method.roots(block).iter().any(|root| {
            if method.opcode(root.node) == Opcode::BoundsCheck {
                return last.replace(root.node).is_some_and(|last| are_alike(last, root.node));
            }
            if last.is_some() && effects(module, method, root.node).is_observable() {
                last = None;
            }
            false
        })
    })
}

/// Whether two values come, by first operands, from one.
fn are_related(method: &Method<'_>, left: Node, right: Node) -> bool {
    let parts = |node: Node| {
        std::iter::successors(Some(node), |node| method.operands(*node).first().copied()).take(MAX_PARTS)
    };
    parts(left).any(|left| parts(right).any(|right| left == right))
}

/// Whether a root of `block` would tell a check that is made before it from one that is made after it.
fn is_barrier(module: &Module, method: &Method<'_>, block: Block, root: Node) -> bool {
    let (effects, opcode) = (effects(module, method, root), method.opcode(root));
    // A handler sees what was set before the check, and not what is set after it.
    let is_seen = opcode == Opcode::Set && !method.handlers(block).is_empty();
    let is_noticed =
        effects.is_observable() || effects.yields || effects.leaves || !effects.raises.is_empty();
    is_noticed || is_seen || opcode.has(Properties::TERMINATES)
}
