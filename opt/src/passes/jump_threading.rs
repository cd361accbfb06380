//! Jump threading: an edge to a block whose branch it decides goes straight on.
//!
//! ```text
//!   b1: set $c, 1; goto b3                       b1: goto b4
//!   b2: set $c, %x; goto b3              ⇒       b2: set $c, %x; goto b3
//!   b3: br (entry $c), b4, b5                    b3: br (entry $c), b4, b5
//! ```
//!
//! A block that only branches is passed by. One that does something first is duplicated for the edge, and the copy continues the
//! extended block that the edge comes from; that its branch is decided there, value propagation then sees.
//!
//! # Why
//!
//! Frontends lower conditions to values and branch on the values; a test that follows a join repeats what was known before it.
//!
//! # Guarantees
//!
//! * An edge to a loop header is left alone: from outside that would be peeling, from inside it is what
//!   [`loop_inversion`](super::loop_inversion) does.
//! * What the known way leads to is not copied: if it continued the block, it becomes an extended block of its own.
//! * All copies together are at most `MAX_GROWTH_PERCENT` of the method's roots, or `MIN_GROWTH`.
//!
//! # Cost
//!
//! A walk along each extended block, and the extended block of each candidate once for each edge to it.

use std::collections::{BTreeMap, BTreeSet};

use dagwood_il::{Block, Cfg, Edits, Frequency, Local, Loops, Method, Opcode, Payload, Point};

use crate::analysis::facts::{Fact, Facts, Known, Visitor};
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::pass::{Changed, Pass};
use crate::passes::value_propagation;
use crate::region::Region;

/// The pass.
pub const PASS: Pass = Pass {
    name: "jump_threading",
    summary: "let edges that decide a branch go straight to where it goes",
    run,
};

/// How many roots a block may have that is duplicated, its end not counted.
const MAX_ROOTS: usize = 8;
/// How many nodes its extended block may have: looking at it once for each edge must not grow with the method.
const MAX_NODES: u64 = 256;
/// How many edges to one block are looked at.
const MAX_EDGES: usize = 32;
/// By how much copies may make a method larger, in percent of its roots.
const MAX_GROWTH_PERCENT: usize = 25;
/// What a small method may grow by, in roots.
const MIN_GROWTH: usize = 32;

/// An edge that decides the branch at the end of the block that it leads to.
struct Thread {
    from: Block,
    through: Block,
    way: Block,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let (cfg, loops) = (cx.cfg(method), cx.loops(method));
    let facts = cx.get::<Facts>(method);
    let threads = find(method, cx, &facts, &cfg, &loops);
    let mut edits = Edits::new();
    let mut room = room(method);
    // What continues a copied block becomes an extended block of its own.
    let (mut tails, mut taken) = (BTreeMap::new(), Vec::new());
    for thread in threads {
        let Thread { from, through, way } = thread;
        let size = method.roots(through).len() - 1;
        if size > room {
            cx.missed(through, || {
                format!("{size} roots for the edge from {from} are too many for this method")
            });
            continue;
        }
        if !cx.allows(through, || format!("from {from}, {through} always goes to {way}")) {
            continue;
        }
        room -= size;
        if method.block(way).extends.is_some() {
            tails.entry(way).or_insert_with(|| edits.split(method, Point { block: way, position: 0 }));
        }
        taken.push(thread);
    }
    let mut copies = Vec::new();
    for Thread { from, through, way } in taken {
        let from = tails.get(&from).copied().unwrap_or(from);
        if method.block(way).extends.is_none() && method.roots(through).len() == 1 {
            edits.retarget(from, through, way);
        } else {
            copies.extend([from, edits.duplicate(method, from, through)]);
        }
    }
    demand_propagation(method, cx, copies);
    cx.apply(method, edits)
}

/// Asks for facts to be used in copies of blocks, and in what they were made for.
pub(super) fn demand_propagation(method: &Method<'_>, cx: &mut PassCx<'_>, copies: Vec<Block>) {
    if !copies.is_empty() {
        let gain = Gain::cycles(copies.len() as u32, Some(Frequency::ONCE));
        let region = Region::around(method, copies);
        cx.demand(Demand::new(
            value_propagation::PASS,
            region,
            "a block was copied for one of its edges",
            gain,
        ));
    }
}

/// How many roots copies may have together.
pub(super) fn room(method: &Method<'_>) -> usize {
    let roots: usize = method.blocks().map(|block| method.roots(block).len()).sum();
    (roots * MAX_GROWTH_PERCENT / 100).max(MIN_GROWTH)
}

fn find(method: &Method<'_>, cx: &mut PassCx<'_>, facts: &Facts, cfg: &Cfg, loops: &Loops) -> Vec<Thread> {
    let is_candidate = |block: Block| {
        let edges = cfg.predecessors(block);
        let branches = method
            .terminator(block)
            .is_some_and(|end| matches!(method.payload(end), Payload::Branch(..) | Payload::Switch(_)));
        let is_header = loops.is_header(block);
        branches
            && (2..=MAX_EDGES).contains(&edges.len())
            && edges.iter().all(|edge| !edge.is_exception())
            && !is_header
            && method.roots(block).len() <= MAX_ROOTS + 1
            && facts.size_of(block) <= MAX_NODES
            && method.block(block).frequency != Some(Frequency::COLD)
    };
    let mut heads = cx.heads(method);
    let within = heads.iter().take_while(|head| cx.spend(2 * facts.size_of(**head))).count();
    heads.truncate(within);
    let mut known = facts.known(cx.module(), method);
    let candidates: BTreeSet<Block> =
        facts.order().iter().copied().filter(|block| is_candidate(*block)).collect();
    let mut arrivals = Arrivals { candidates: &candidates, facts, found: Vec::new() };
    for head in heads {
        facts.walk(&mut known, head, &mut arrivals);
    }
    let found = arrivals.found.into_iter().filter_map(|Arrival { from, through, state }| {
        let way = decided(&mut known, through, &state)?;
        Some(Thread { from, through, way })
    });
    found.collect()
}

/// An edge to a candidate, and what is known of locals where it arrives.
struct Arrival {
    from: Block,
    through: Block,
    state: Vec<(Local, Fact)>,
}

/// Collects arrivals.
struct Arrivals<'f> {
    candidates: &'f BTreeSet<Block>,
    facts: &'f Facts,
    found: Vec<Arrival>,
}

impl Visitor for Arrivals<'_> {
    fn edge(&mut self, known: &mut Known<'_, '_>, from: Block, to: Block) {
        if !self.candidates.contains(&to) {
            return;
        }
        let method = known.method();
        let entries = self.facts.nodes_of(to).iter().filter(|node| method.opcode(**node) == Opcode::Entry);
        let state = entries.filter_map(|node| match method.payload(*node) {
            Payload::Local(local) => Some((local, *known.fact_of_local(local))),
            _ => None,
        });
        let state: Vec<_> = state.filter(|(_, fact)| !fact.is_any()).collect();
        if !state.is_empty() {
            self.found.push(Arrival { from, through: to, state });
        }
    }
}

/// The only way on from a head at which this is known.
fn decided(known: &mut Known<'_, '_>, head: Block, state: &[(Local, Fact)]) -> Option<Block> {
    let method = known.method();
    let start = known.enter(head, state);
    for root in method.roots(head) {
        known.pass(root.node);
    }
    let mut ways = BTreeSet::new();
    let successors = method.successors(head);
    let is_possible = known.is_possible();
    for (index, to) in successors.iter().enumerate().filter(|_| is_possible) {
        let mark = known.mark();
        if let Some(end) = method.terminator(head) {
            known.leave(end, index);
        }
        if known.is_possible() {
            ways.insert(*to);
        }
        known.back_to(mark);
    }
    known.back_to(start);
    let way = ways.pop_first().filter(|_| ways.is_empty())?;
    successors.iter().any(|to| *to != way).then_some(way)
}
