//! Counters: locals that a loop changes by the same amount each turn, and what its number of turns says of them.
//!
//! ```text
//!   b1: %i = entry $i  %p = entry $p           $i starts at 0, steps by 8, and ends at 2048: at most 255 more turns
//!       …                                      $i in 0..=2040
//!       set $p, %p + 12                        $p starts at 1024, steps by 12:      $p in 1024..=4084
//!       set $i, %i + 8
//!       br (ne (%i + 8), 2048), b1, b2
//! ```
//!
//! *Why.* Carrying facts around a loop learns from `less`, not from `not equal`, which is how compilers write most loop tests; and
//! nothing of a counter that another one ends.
//!
//! *Guarantees.* A counter is set in one block, which every turn passes once and leaves by its end only. Turns are bounded by a test that every
//! turn makes, or by what is known of some counter already. Sums are exact: nothing wraps, or nothing is said.
//!
//! *Cost.* Linear in roots, times the depth of loops, up to [`MAX_SETS`] locals for each loop.

use std::collections::BTreeMap;

use dagwood_il::cfg::Loop;
use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Local, Loops, Method, Node, Opcode, Payload, Properties};

use super::fact::Fact;
use super::heads::Graph;
use super::walk::State;

/// How many locals a loop may set for its counters to be looked for.
const MAX_SETS: usize = 64;
/// How many constants are added up.
const MAX_PARTS: usize = 8;

/// Where a loop sets a local.
#[derive(Clone, Copy)]
enum Sets {
    /// In one block, last by this root.
    In(Block, Node),
    /// In several, or in a loop inside.
    Several,
}

/// A local that steps by the same amount each turn.
#[derive(Clone, Copy)]
struct Counter {
    local: Local,
    set_in: Block,
    step: i128,
}

/// A loop, what it counts, and what ends it.
struct Counted {
    /// The locals that it sets; none if they are too many to be looked at.
    sets: Option<BTreeMap<Local, Sets>>,
    counters: Vec<Counter>,
    /// With the counter that each one tests, what that must have grown by in the end, from a start of zero.
    tests: Vec<(Counter, u64)>,
}

/// The counters of a method's loops.
pub(super) struct Counters {
    /// By header.
    loops: EntityVec<Block, Option<Counted>>,
}

impl Counters {
    pub(super) fn compute(method: &Method<'_>, graph: &Graph<'_>) -> Counters {
        let mut sets = sets(method, graph.loops);
        let mut loops: EntityVec<Block, Option<Counted>> = EntityVec::new();
        for _ in method.blocks() {
            loops.push(None);
        }
        // The blocks of each loop that are in none inside.
        let mut members: EntityVec<Loop, Vec<Block>> =
            EntityVec::filled(Vec::new(), graph.loops.loops().count());
        for block in method.blocks() {
            if let Some(id) = graph.loops.innermost(block) {
                members[id].push(block);
            }
        }
        for (id, data) in graph.loops.loops() {
            let header = data.header;
            let search = Search { method, graph, id, header };
            let sets = sets[id].take();
            let own = sets.iter().flatten();
            let counters: Vec<Counter> =
                own.filter_map(|(local, sets)| search.counter(*local, *sets)).collect();
            let tests = if counters.is_empty() { Vec::new() } else { search.tests(&counters, &members[id]) };
            loops[header] = Some(Counted { sets, counters, tests });
        }
        Counters { loops }
    }

    /// Whether a loop begins here.
    pub(super) fn is_header(&self, head: Block) -> bool {
        self.loops[head].is_some()
    }

    /// Adds to what is known at a loop's header what follows from what is known before the first turn.
    pub(super) fn improve(&self, method: &Method<'_>, header: Block, first: &State, all: &mut State) {
        let Some(Counted { sets: Some(sets), counters, tests }) = &self.loops[header] else { return };
        // What no turn sets is what it was.
        for (local, fact) in &first.facts {
            if !sets.contains_key(local) {
                all.meet(*local, *fact);
            }
        }
        let known = counters.iter().filter_map(|counter| {
            turns_within(counter, &first.fact(method, counter.local), &all.fact(method, counter.local))
        });
        let tested = tests
            .iter()
            .filter_map(|(counter, end)| turns_until(counter, &first.fact(method, counter.local), *end));
        let Some(turns) = known.chain(tested).min() else { return };
        for counter in counters {
            if let Some(fact) = after(counter, &first.fact(method, counter.local), turns) {
                all.meet(counter.local, fact);
            }
        }
    }
}

/// By loop: the locals that it sets; none if they are too many.
fn sets(method: &Method<'_>, loops: &Loops) -> EntityVec<Loop, Option<BTreeMap<Local, Sets>>> {
    let mut sets: EntityVec<Loop, Option<BTreeMap<Local, Sets>>> =
        EntityVec::filled(Some(BTreeMap::new()), loops.loops().count());
    for block in method.blocks() {
        let Some(Some(own)) = loops.innermost(block).map(|id| &mut sets[id]) else { continue };
        for root in method.roots(block) {
            if let (Opcode::Set, Payload::Local(local)) =
                (method.opcode(root.node), method.payload(root.node))
            {
                let is_here = matches!(own.get(&local), None | Some(Sets::In(..)))
                    && own
                        .get(&local)
                        .is_none_or(|sets| matches!(sets, Sets::In(other, _) if *other == block));
                own.insert(local, if is_here { Sets::In(block, root.node) } else { Sets::Several });
            }
        }
    }
    // Those inside stand after those around them.
    for (id, data) in loops.loops().rev() {
        if sets[id].as_ref().is_some_and(|own| own.len() > MAX_SETS) {
            sets[id] = None;
        }
        let Some(parent) = data.parent else { continue };
        let inner = sets[id].as_ref().map(|own| own.keys().copied().collect::<Vec<_>>());
        match (inner, &mut sets[parent]) {
            (Some(locals), Some(outer)) => {
                outer.extend(locals.into_iter().map(|local| (local, Sets::Several)))
            }
            (_, outer) => *outer = None,
        }
    }
    sets
}

/// The turns after the first one, if the counter stays within what is known of it.
fn turns_within(counter: &Counter, start: &Fact, known: &Fact) -> Option<i128> {
    let width = 1_i128.checked_shl(known.ty().bits())?;
    let step = counter.step;
    let signed = |fact: &Fact| (i128::from(fact.smin()), i128::from(fact.smax()));
    let unsigned = |fact: &Fact| (i128::from(fact.umin()), i128::from(fact.umax()));
    let readings = [(signed(known), signed(start)), (unsigned(known), unsigned(start))];
    // A counter that wraps would leave the range, which is narrower than all numbers less a step.
    let turns = readings.into_iter().filter_map(|((min, max), (first, last))| {
        let fits = max - min + step.abs() < width;
        fits.then(|| if step > 0 { (max - first) / step } else { (last - min) / -step })
    });
    turns.min()
}

/// The turns after the first one until the counter has grown by so much from zero.
fn turns_until(counter: &Counter, start: &Fact, end: u64) -> Option<i128> {
    let (ty, start) = (start.ty(), start.as_constant()?);
    let distance = if counter.step > 0 { end.wrapping_sub(start) } else { start.wrapping_sub(end) };
    // Taken modulo the width, a distance that the step divides is gone without passing the end before.
    let (distance, step) = (i128::from(distance & ty.mask()), counter.step.abs());
    (distance % step == 0).then_some(distance / step)
}

/// What a counter may be in the first turn and so many more.
fn after(counter: &Counter, start: &Fact, turns: i128) -> Option<Fact> {
    // What is longer than this leaves nothing to be known in 64 bits.
    let way = counter.step.checked_mul(turns).filter(|way| way.abs() < 1 << 100)?;
    let span = |min: i128, max: i128| Fact::wrapped(start.ty(), min + way.min(0), max + way.max(0));
    let signed = span(start.smin().into(), start.smax().into());
    let fact = signed.and(span(start.umin().into(), start.umax().into()));
    (!fact.is_any()).then_some(fact)
}

/// A test that every turn makes, and goes on while two values differ.
#[derive(Clone, Copy)]
struct Test {
    block: Block,
    value: Node,
    limit: u64,
}

/// One loop.
struct Search<'s, 'a> {
    method: &'s Method<'a>,
    graph: &'s Graph<'s>,
    id: Loop,
    header: Block,
}

impl Search<'_, '_> {
    /// Whether every turn executes all of a block, once.
    fn is_in_each_turn(&self, block: Block) -> bool {
        let mut latches = self
            .graph
            .cfg
            .predecessors(self.header)
            .iter()
            .filter(|edge| self.graph.loops.contains(self.id, edge.block));
        self.graph.loops.innermost(block) == Some(self.id)
            && latches.all(|edge| !edge.is_exception() && self.graph.dominators.dominates(block, edge.block))
            && self.graph.cfg.successors(block).iter().all(|edge| !edge.is_exception())
    }

    fn counter(&self, local: Local, sets: Sets) -> Option<Counter> {
        let method = self.method;
        let Sets::In(set_in, set) = sets else { return None };
        let ty = method.local(local).ty;
        let (of, bits) = linear(method, *method.operands(set).first()?)?;
        let step = i128::from(Fact::constant(ty, bits).smin());
        let is_counter = of == local && ty.is_int() && step != 0 && self.is_in_each_turn(set_in);
        is_counter.then_some(Counter { local, set_in, step })
    }

    /// The tests in these blocks on which turns end by a counter being equal to something, and by how much it has grown from zero then.
    fn tests(&self, counters: &[Counter], members: &[Block]) -> Vec<(Counter, u64)> {
        let tests = members.iter().filter_map(|block| self.test(*block));
        let tests = tests.filter(|test| self.is_in_each_turn(test.block));
        tests.filter_map(|test| self.tested(counters, test)).collect()
    }

    fn test(&self, block: Block) -> Option<Test> {
        let method = self.method;
        let end = method.terminator(block)?;
        let Payload::Branch(then, otherwise) = method.payload(end) else { return None };
        let goes_on =
            (self.graph.loops.contains(self.id, then), self.graph.loops.contains(self.id, otherwise));
        let condition = *method.operands(end).first()?;
        let compared = match *method.operands(condition) {
            [value, limit] => method.const_bits(limit).map(|limit| (value, limit)),
            _ => None,
        };
        match (method.opcode(condition), goes_on, compared) {
            (Opcode::Ne, (true, false), Some((value, limit)))
            | (Opcode::Eq, (false, true), Some((value, limit))) => Some(Test { block, value, limit }),
            (_, (true, false), _) => Some(Test { block, value: condition, limit: 0 }),
            _ => None,
        }
    }

    /// The counter that is tested, and what it is at the header in the turn that ends the loop.
    fn tested(&self, counters: &[Counter], test: Test) -> Option<(Counter, u64)> {
        let method = self.method;
        let (of, bits) = linear(method, test.value)?;
        let counter = *counters.iter().find(|counter| counter.local == of)?;
        let head = method.head(test.block);
        // The local is read at the head: before it is set, in the turn, or after.
        let is_set_before =
            if method.head(counter.set_in) == head || self.graph.dominators.dominates(head, counter.set_in) {
                false
            } else if self.graph.dominators.dominates(counter.set_in, head) {
                true
            } else {
                return None;
            };
        let step = if is_set_before { counter.step as u64 } else { 0 };
        Some((counter, test.limit.wrapping_sub(bits).wrapping_sub(step)))
    }
}

/// A node as what a local holds at the head plus a constant.
fn linear(method: &Method<'_>, node: Node) -> Option<(Local, u64)> {
    let (mut node, mut sum) = (node, 0_u64);
    for _ in 0..MAX_PARTS {
        let (opcode, operands) = (method.opcode(node), method.operands(node));
        match (opcode.unchecked(), method.payload(node), operands) {
            (Opcode::Entry, Payload::Local(local), _) => return Some((local, sum)),
            (_, _, [a, ..]) if opcode.has(Properties::PROVES) => node = *a,
            (Opcode::Add, _, [a, b, ..]) => (node, sum) = (*a, sum.wrapping_add(method.const_bits(*b)?)),
            (Opcode::Sub, _, [a, b, ..]) => (node, sum) = (*a, sum.wrapping_sub(method.const_bits(*b)?)),
            _ => return None,
        }
    }
    None
}
