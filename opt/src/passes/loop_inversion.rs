//! Loop inversion: a loop that tests at its top is entered by a test, and tests at its bottom.
//!
//! ```text
//!   b1: br %c, b2, b3                    b1: br %c, b2, b3          once
//!   b2: …                          ⇒     b2: …
//!       goto b1                              br %c, b2, b3          each turn
//!   b3: …                                b3: …
//! ```
//!
//! # Why
//!
//! Each turn takes one branch less. What a turn does whatever happens is then at the loop's head, where checks that do not change can be
//! made once before it; and the bounds of a counter hold there.
//!
//! # Guarantees
//!
//! * The header's own block is duplicated for each back edge, if it has at most `MAX_ROOTS` roots, and there are at most
//!   `MAX_LATCHES` back edges. What it leads to is not: that becomes an extended block of its own.
//! * Only loops of which one way on from the header's block stays inside, and the other leaves. Cold ones stay as they are.
//! * All copies together stay within what [`jump_threading`](super::jump_threading) may copy.
//!
//! # Cost
//!
//! Linear in loops and edges.

use std::collections::{BTreeMap, BTreeSet};

use dagwood_il::{Block, Cfg, Edits, Frequency, Loops, Method, Payload, Point};

use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use crate::passes::jump_threading::{demand_propagation, room};

/// The pass.
pub const PASS: Pass =
    Pass { name: "loop_inversion", summary: "let loops that test at their top test at their bottom", run };

/// How many roots the header's block may have, its end not counted.
const MAX_ROOTS: usize = 6;
/// How many back edges a loop may have.
const MAX_LATCHES: usize = 3;

/// A loop that tests at its top.
struct Found {
    header: Block,
    /// Where the back edges come from.
    latches: Vec<Block>,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let (cfg, loops) = (cx.cfg(method), cx.loops(method));
    if !cx.spend(method.block_count() as u64) {
        return Changed::No;
    }
    let mut edits = Edits::new();
    let mut room = room(method);
    // What continues a header becomes an extended block of its own; a latch that was one of these ends there.
    let (mut tails, mut copied) = (BTreeMap::new(), Vec::new());
    for Found { header, latches } in find(method, cx, &cfg, &loops) {
        let size = method.roots(header).len() - 1;
        if size > MAX_ROOTS || latches.len() > MAX_LATCHES || size * latches.len() > room {
            cx.missed(header, || {
                format!("{size} roots are too many to be copied for {} back edges", latches.len())
            });
            continue;
        }
        if !cx.allows(header, || format!("the test of {header} is made at the end of each turn")) {
            continue;
        }
        room -= size * latches.len();
        let mut ways = BTreeSet::from_iter(method.successors(header));
        ways.retain(|way| method.block(*way).extends.is_some());
        for way in ways {
            tails.entry(way).or_insert_with(|| edits.split(method, Point { block: way, position: 0 }));
        }
        copied.extend(latches.into_iter().map(|latch| (latch, header)));
    }
    let mut tests = Vec::new();
    for (latch, header) in copied {
        let test = edits.duplicate(method, tails.get(&latch).copied().unwrap_or(latch), header);
        tests.extend([latch, test]);
    }
    demand_propagation(method, cx, tests);
    cx.apply(method, edits)
}

fn find(method: &Method<'_>, cx: &PassCx<'_>, cfg: &Cfg, loops: &Loops) -> Vec<Found> {
    let inverted = loops.loops().filter_map(|(id, data)| {
        let header = data.header;
        let end = method.terminator(header)?;
        let is_inside = |block: Block| loops.contains(id, block);
        let Payload::Branch(then, otherwise) = method.payload(end) else { return None };
        let leaves = is_inside(then) != is_inside(otherwise);
        let inner = if is_inside(then) { then } else { otherwise };
        let is_cold = method.block(header).frequency == Some(Frequency::COLD);
        if !leaves || inner == header || is_cold || !cx.region().has_head(header) {
            return None;
        }
        let latches: Vec<Block> =
            cfg.predecessors(header).iter().map(|edge| edge.block).filter(|from| is_inside(*from)).collect();
        let enters = cfg.predecessors(header).iter().all(|edge| !edge.is_exception());
        enters.then_some(Found { header, latches })
    });
    inverted.collect()
}
