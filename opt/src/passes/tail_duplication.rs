//! Tail duplication: a small block where paths meet is copied for the path that is taken most.
//!
//! ```text
//!   b1 freq 900: … goto b3                  b1: … and what b3 does
//!   b2 freq 100: … goto b3            ⇒     b2: … goto b3
//!   b3: … return                            b3: … return
//! ```
//!
//! # Why
//!
//! What is known on the frequent path is lost where the rare one joins. The copy continues the extended block that it is for, so that it
//! shares values with it and needs no jump.
//!
//! # Guarantees
//!
//! * Only where a profile says how often blocks run, and one path brings at least half of what arrives.
//! * Loop headers and handlers are not copied. An extended block of more than `MAX_ROOTS` roots is not, and all copies together stay within
//!   what [`jump_threading`](super::jump_threading) may copy.
//!
//! # Cost
//!
//! Linear in blocks and edges.

use dagwood_il::{Block, Cfg, Edits, Frequency, Loops, Method};

use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use crate::passes::jump_threading::{demand_propagation, room};

/// The pass.
pub const PASS: Pass = Pass {
    name: "tail_duplication",
    summary: "copy small blocks where paths meet for the path that is taken most",
    run,
};

/// How many roots the extended block may have.
const MAX_ROOTS: usize = 8;
/// How many blocks.
const MAX_BLOCKS: usize = 4;
/// How often it must run for it to matter.
const MIN_FREQUENCY: Frequency = Frequency::ONCE;

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    if !cx.spend(2 * method.block_count() as u64) {
        return Changed::No;
    }
    let (cfg, loops) = (cx.cfg(method), cx.loops(method));
    let mut edits = Edits::new();
    let mut room = room(method);
    let mut copies = Vec::new();
    for head in cx.heads(method) {
        let Some(from) = find(method, &cfg, &loops, head) else { continue };
        let Some(size) = size(method, head).filter(|size| *size <= room) else {
            cx.missed(head, || format!("{head} is too large to be copied for {from}"));
            continue;
        };
        if cx.allows(head, || format!("most come to {head} from {from}")) {
            room -= size;
            copies.extend([from, edits.duplicate(method, from, head)]);
        }
    }
    demand_propagation(method, cx, copies);
    cx.apply(method, edits)
}

/// The block from which most come, if there are others.
fn find(method: &Method<'_>, cfg: &Cfg, loops: &Loops, head: Block) -> Option<Block> {
    let edges = cfg.predecessors(head);
    let own = method.block(head).frequency.filter(|own| *own >= MIN_FREQUENCY)?;
    if edges.len() < 2 || loops.is_header(head) || edges.iter().any(|edge| edge.is_exception()) {
        return None;
    }
    // Of a block that goes nowhere else its own frequency is the edge's.
    let always = |from: Block| method.successors(from).iter().all(|to| *to == head) && cfg.is_reachable(from);
    let from = edges.iter().map(|edge| edge.block).filter(|from| always(*from));
    let (from, most) =
        from.filter_map(|from| Some((from, method.block(from).frequency?))).max_by_key(|(_, most)| *most)?;
    (most.0 >= own.0 / 2).then_some(from)
}

/// How many roots the extended block of `head` has; none if they are too many.
fn size(method: &Method<'_>, head: Block) -> Option<usize> {
    let mut blocks = vec![head];
    let (mut next, mut roots) = (0, 0);
    while let Some(block) = blocks.get(next).copied() {
        next += 1;
        roots += method.roots(block).len();
        if roots > MAX_ROOTS || blocks.len() > MAX_BLOCKS {
            return None;
        }
        let mut below = method.successors(block);
        below.sort_unstable();
        below.dedup();
        blocks.extend(below.into_iter().filter(|to| method.block(*to).extends == Some(block)));
    }
    Some(roots)
}
