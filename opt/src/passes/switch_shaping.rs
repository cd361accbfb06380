//! Switch shaping: what decides a switch most quickly is asked first.
//!
//! ```text
//!   b0: switch %x, [48: b1, 49: b1, … 57: b1], b2        b0: br (ult (sub %x 48) 10), b1, b2
//!
//!   b0: switch %x, [0: b1, 1: b2, … 9: b9], b10          b0: br (eq %x 7), b7, b11
//!       (seven of ten are 7)                             b11: switch %x, [0: b1, … 6: b6, 8: b8, 9: b9], b10
//! ```
//!
//! # Why
//!
//! Machine code halves sparse cases and jumps through a table where they are dense. It sees neither that neighbours lead to one place, which a
//! range test decides, nor which case comes most, which a compare decides that is nearly always right.
//!
//! # Guarantees
//!
//! * A switch becomes range tests if there are at most [`MAX_RANGES`] ranges, one of them of several cases; the most frequent first.
//! * A case is asked for first if the profile's values or frequencies say that it comes most times ([`HOT`]), and there are [`MIN_CASES`].
//! * What a way on leads to is not copied.
//!
//! # Cost
//!
//! Linear in cases and, for a switch that is shaped, in what continues its extended block.

use std::collections::BTreeSet;

use dagwood_il::{Block, Cfg, Edits, Frequency, Method, Node, Opcode, Payload, Root, SourcePos, Type};

use crate::analysis::frequencies::{Frequencies, WHOLE};
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::pass::{Changed, Pass};
use crate::region::Region;

/// The pass.
pub const PASS: Pass = Pass {
    name: "switch_shaping",
    summary: "test ranges of cases and the most frequent case before a switch",
    run,
};

/// How many range tests may take the place of a switch.
pub const MAX_RANGES: usize = 3;
/// How many of [`WHOLE`] times a case must come to be asked for first.
pub const HOT: u32 = WHOLE * 5 / 8;
/// The fewest cases of a switch of which one is asked for first.
pub const MIN_CASES: usize = 3;
/// How many values a profile must have seen.
const MIN_SEEN: u64 = 64;

/// Neighbouring cases that lead to one block.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    to: Block,
}

/// What is to be asked before what is left of a switch.
struct Shape {
    block: Block,
    value: Node,
    tests: Vec<Range>,
    rest: Vec<(u64, Block)>,
    default: Block,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let cfg = cx.cfg(method);
    let frequencies = cx.get::<Frequencies>(method);
    let mut edits = Edits::new();
    let mut moved = BTreeSet::new();
    let mut left = Vec::new();
    for block in cfg.order() {
        if !cx.region().has(method, *block) || !is_switch(method, *block) {
            continue;
        }
        let Some(shape) = find(method, cx, &cfg, &frequencies, *block) else { continue };
        if moved.contains(block) {
            left.push(*block);
            continue;
        }
        if !is_movable(method, &shape) {
            cx.missed(*block, || "what a case leads to would have to be reached from two tests".into());
            continue;
        }
        if cx.allows(*block, || describe(&shape)) {
            let below = tree(method, *block);
            let goes_on = cx.spend(below.len() as u64);
            moved.extend(below);
            build(method, &mut edits, &shape);
            if !goes_on {
                break;
            }
        }
    }
    let region = Region::around(method, left);
    if !region.is_empty() {
        let gain = Gain::cycles(1, Some(Frequency::ONCE));
        cx.demand(Demand::new(PASS, region, "a switch above has been shaped", gain));
    }
    cx.apply(method, edits)
}

fn is_switch(method: &Method<'_>, block: Block) -> bool {
    method.terminator(block).is_some_and(|end| matches!(method.payload(end), Payload::Switch(_)))
}

fn describe(shape: &Shape) -> String {
    let names: Vec<String> = shape
        .tests
        .iter()
        .map(|test| {
            if test.first == test.last {
                test.first.to_string()
            } else {
                format!("{} to {}", test.first, test.last)
            }
        })
        .collect();
    format!("asks for {} before {} other cases", names.join(", "), shape.rest.len())
}

/// What is to be asked first at a switch.
fn find(
    method: &Method<'_>,
    cx: &mut PassCx<'_>,
    cfg: &Cfg,
    frequencies: &Frequencies,
    block: Block,
) -> Option<Shape> {
    let end = method.roots(block).last()?;
    let Payload::Switch(table) = method.payload(end.node) else { return None };
    let (data, value) = (method.switch(table), method.operands(end.node)[0]);
    let cases: Vec<(u64, Block)> = data.cases.iter().copied().filter(|(_, to)| *to != data.default).collect();
    if !cx.spend(cases.len() as u64) {
        return None;
    }
    let mut ranges = ranges(&cases);
    let shape = |tests: Vec<Range>| {
        let is_asked = |case: u64| tests.iter().any(|test| (test.first..=test.last).contains(&case));
        let rest = cases.iter().copied().filter(|(case, _)| !is_asked(*case)).collect();
        Some(Shape { block, value, tests, rest, default: data.default })
    };
    if ranges.len() <= MAX_RANGES && ranges.len() < cases.len() {
        ranges.sort_by_key(|range| std::cmp::Reverse(frequencies.share(block, range.to)));
        return shape(ranges);
    }
    if cases.len() < MIN_CASES {
        return None;
    }
    let seen = cx.profile().and_then(|profile| profile.sites.get(&end.position)).map(|site| &site.values);
    if let Some(values) = seen.filter(|values| values.total() >= MIN_SEEN)
        && let Some(hot) = values.dominant(HOT)
    {
        let range = ranges.iter().find(|range| (range.first..=range.last).contains(&hot));
        if range.is_none() {
            cx.missed(block, || format!("most values are {hot}, which is no case"));
        }
        return shape(vec![Range { first: hot, last: hot, to: range?.to }]);
    }
    let is_hot = |range: &&Range| {
        let is_known = method.block(range.to).frequency.is_some() && cfg.predecessors(range.to).len() == 1;
        is_known && frequencies.share(block, range.to) >= HOT
    };
    let mut hot = ranges.iter().filter(is_hot);
    let only = hot.next().copied().filter(|_| hot.next().is_none())?;
    shape(vec![only])
}

/// Neighbouring cases taken together; they ascend.
fn ranges(cases: &[(u64, Block)]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (case, to) in cases {
        match ranges.last_mut() {
            Some(range) if range.to == *to && case.checked_sub(1) == Some(range.last) => range.last = *case,
            _ => ranges.push(Range { first: *case, last: *case, to: *to }),
        }
    }
    ranges
}

/// Whether each block that continues the switch's is reached from one test only, or from what is left.
fn is_movable(method: &Method<'_>, shape: &Shape) -> bool {
    let rest: BTreeSet<Block> = shape.rest.iter().map(|(_, to)| *to).chain([shape.default]).collect();
    let mut ways: Vec<Block> = shape.tests.iter().map(|test| test.to).chain(rest).collect();
    ways.retain(|to| method.block(*to).extends == Some(shape.block));
    let count = ways.len();
    ways.sort_unstable();
    ways.dedup();
    ways.len() == count
}

/// The blocks that continue a block, and those below them.
fn tree(method: &Method<'_>, block: Block) -> Vec<Block> {
    let (mut blocks, mut next) = (vec![block], 0);
    while let Some(block) = blocks.get(next).copied() {
        next += 1;
        blocks.extend(children(method, block));
    }
    blocks.remove(0);
    blocks
}

fn children(method: &Method<'_>, block: Block) -> Vec<Block> {
    let mut below = method.successors(block).to_vec();
    below.retain(|to| method.block(*to).extends == Some(block));
    below.sort_unstable();
    below.dedup();
    below
}

fn build(method: &mut Method<'_>, edits: &mut Edits, shape: &Shape) {
    let (block, ty) = (shape.block, method.ty(shape.value));
    let position = method.roots(block).last().map_or(SourcePos::NONE, |root| root.position);
    let mut left = method.block(block).frequency;
    let mut at = block;
    for (index, test) in shape.tests.iter().enumerate() {
        let is_last = index + 1 == shape.tests.len();
        let condition = condition(method, shape.value, ty, test);
        let to = moved(method, block, at, test.to);
        left = left
            .zip(method.block(test.to).frequency)
            .map(|(all, taken)| Frequency(all.0.saturating_sub(taken.0)));
        let otherwise = if is_last && shape.rest.is_empty() {
            moved(method, block, at, shape.default)
        } else {
            let next = method.add_block(Some(at), method.block(block).handlers);
            method.set_frequency(next, left);
            next
        };
        let end = method.add_node(Opcode::Branch, Type::Void, &[condition], Payload::Branch(to, otherwise));
        finish(method, edits, block, at, Root { node: end, position });
        at = otherwise;
    }
    if shape.rest.is_empty() {
        return;
    }
    let cases: Vec<(u64, Block)> = shape.rest.to_vec();
    let mut targets: Vec<(Block, Block)> = Vec::new();
    let mut target = |method: &mut Method<'_>, to: Block| match targets.iter().find(|(old, _)| *old == to) {
        Some((_, new)) => *new,
        None => {
            let new = moved(method, block, at, to);
            targets.push((to, new));
            new
        }
    };
    let cases: Vec<(u64, Block)> = cases.into_iter().map(|(case, to)| (case, target(method, to))).collect();
    let default = target(method, shape.default);
    let table = method.add_switch(&cases, default);
    let end = method.add_node(Opcode::Switch, Type::Void, &[shape.value], Payload::Switch(table));
    finish(method, edits, block, at, Root { node: end, position });
}

/// Ends the switch's block, or one that was made for it.
fn finish(method: &mut Method<'_>, edits: &mut Edits, block: Block, at: Block, end: Root) {
    if at == block {
        edits.end(block, end.node);
    } else {
        method.set_roots(at, &[end]);
    }
}

/// Whether a value is in a range.
fn condition(method: &mut Method<'_>, value: Node, ty: Type, range: &Range) -> Node {
    let mut constant = |bits: u64| method.add_node(Opcode::Const, ty, &[], Payload::Const(bits));
    if range.first == range.last {
        let first = constant(range.first);
        return method.add_node(Opcode::Eq, Type::I32, &[value, first], Payload::None);
    }
    // The distance from the first, which wraps below it, is at most that of the last.
    let (first, length) = (constant(range.first), constant(range.last - range.first));
    let distance = method.add_node(Opcode::Sub, ty, &[value, first], Payload::None);
    method.add_node(Opcode::ULe, Type::I32, &[distance, length], Payload::None)
}

/// `to` as a block to which `at` may lead: itself, or if it continues `block`, its like that continues `at`. Then nothing leads to it any more.
fn moved(method: &mut Method<'_>, block: Block, at: Block, to: Block) -> Block {
    if at == block || method.block(to).extends != Some(block) {
        return to;
    }
    let top = like(method, at, to);
    let mut pending = vec![(to, top)];
    while let Some((old, new)) = pending.pop() {
        let below: Vec<(Block, Block)> =
            children(method, old).into_iter().map(|child| (child, like(method, new, child))).collect();
        if let Some((end, before)) = method.roots(old).split_last().filter(|_| !below.is_empty()) {
            let mut roots = before.to_vec();
            let place = |to: Block| below.iter().find(|(child, _)| *child == to).map_or(to, |(_, new)| *new);
            roots.push(Root { node: redirected(method, end.node, place), position: end.position });
            method.set_roots(new, &roots);
        }
        pending.extend(below);
    }
    top
}

/// A block with the same roots that continues `parent`.
fn like(method: &mut Method<'_>, parent: Block, old: Block) -> Block {
    let data = *method.block(old);
    let new = method.add_block(Some(parent), data.handlers);
    method.set_roots(new, data.roots);
    method.set_frequency(new, data.frequency);
    new
}

/// The end of a block, leading elsewhere.
fn redirected(method: &mut Method<'_>, end: Node, place: impl Fn(Block) -> Block) -> Node {
    let payload = match method.payload(end) {
        Payload::Goto(to) => Payload::Goto(place(to)),
        Payload::Branch(then, otherwise) => Payload::Branch(place(then), place(otherwise)),
        Payload::Switch(table) => {
            let data = method.switch(table);
            let cases: Vec<(u64, Block)> = data.cases.iter().map(|(case, to)| (*case, place(*to))).collect();
            Payload::Switch(method.add_switch(&cases, place(data.default)))
        }
        Payload::Guard(info) => {
            let data = method.guard(info);
            let successors = data.successors.map(|(fast, slow)| (place(fast), place(slow)));
            let assumptions = data.assumptions.to_vec();
            Payload::Guard(method.add_guard(&assumptions, successors))
        }
        _ => return end,
    };
    let operands = method.operands(end).to_vec();
    method.add_node(method.opcode(end), method.ty(end), &operands, payload)
}

#[cfg(test)]
mod tests {
    use dagwood_il::profile::{MethodProfile, Site};
    use dagwood_il::{Bump, text};

    use super::*;
    use crate::{Options, Request, Strategy, optimize};

    const SOURCE: &str = "method @f ($x: i32) -> () {\nb0:\n  %0 = entry.i32 $x\n  switch %0, [0: b1, 1: b2, 2: b3, 5: b1], b4 !3\n\
                          b1:\n  return\nb2 extends b0:\n  return\nb3 extends b0:\n  return\nb4 extends b0:\n  return\n}\n";

    /// How the block ends, if the value was met so many times of 100.
    fn end(value: u64, times: u64) -> Opcode {
        let arena = Bump::new();
        let mut parsed = text::parse(SOURCE, &arena).expect("valid");
        let mut site = Site { count: 100, ..Site::default() };
        site.values.add(value, times);
        site.values.add(0, 100 - times);
        let mut profile = MethodProfile { entries: 100, ..MethodProfile::default() };
        profile.sites.insert(SourcePos(3), site);
        let (strategy, options) = (Strategy::of_passes(&[PASS]), Options::default());
        let request =
            Request { profile: Some(&profile), ..Request::new(&parsed.module, &strategy, &options) };
        let method = &mut parsed.bodies[0].method;
        optimize(&request, method, &mut ()).expect("nothing goes wrong");
        let first = method.blocks().next().expect("there are blocks");
        method.opcode(method.terminator(first).expect("it has an end"))
    }

    #[test]
    fn the_value_that_a_profile_has_met_most_is_asked_for_first() {
        assert_eq!(end(2, 90), Opcode::Branch);
        assert_eq!(end(5, 90), Opcode::Branch);
        assert_eq!(end(2, 50), Opcode::Switch);
        assert_eq!(end(7, 90), Opcode::Switch, "it is no case");
    }
}
