//! If-conversion: a branch that only chooses values becomes the choice.
//!
//! ```text
//!   b0: br %c, b1, b2                       b0: %s = select %c, %t, %e
//!   b1: set $x, %t; goto b3         ⇒           set $x, %s
//!   b2: set $x, %e; goto b3                     goto b3
//! ```
//!
//! One of the sides may be missing, and both may return instead.
//!
//! # Why
//!
//! A branch that goes either way as if by chance costs some fifteen cycles each second time; a choice costs one, and both of its values. The
//! copy then finds minima, maxima and magnitudes among the choices.
//!
//! # Guarantees
//!
//! * The sides do nothing but give locals values that float; what may raise or read memory stays where it is.
//! * Without a profile, only what is about as cheap as the branch; with one, branches stay where they nearly always go one way.
//! * Floats stay: their choice is a branch on most machines.
//! * In a loop, a branch stays if its condition comes, by a load or a slow operation, from what it chooses at the turn before: prediction lets the
//!   next turn begin early, a choice would make it wait. A profile that shows chance overrules that.
//!
//! # Cost
//!
//! Linear in blocks and their sets; for each candidate a walk over few nodes.

use dagwood_il::dataflow::{Liveness, TooManyFacts};
use dagwood_il::opcode::Class;
use dagwood_il::{
    Block, Cfg, Edits, Frequency, Local, Loops, Method, Node, Opcode, Payload, Point, Properties, SourcePos,
    Type,
};

use crate::analysis::frequencies::{Frequencies, WHOLE};
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::pass::{Changed, Pass};
use crate::region::Region;

/// The pass.
pub const PASS: Pass =
    Pass { name: "if_conversion", summary: "turn branches that only choose values into choices", run };

/// The nodes that may be computed in vain, and the values that may be chosen, without a profile.
const BLIND: (usize, usize) = (2, 2);
/// The same where a profile says that the branch goes either way.
const KNOWN: (usize, usize) = (6, 3);
/// How many of [`WHOLE`] times the rarer side is to run for the branch to be chance.
const CHANCE: u32 = WHOLE / 8;
/// How many nodes a walk looks at.
const MAX_NODES: usize = 64;
/// How many roots are looked at for what a local holds.
const MAX_ROOTS: usize = 256;

/// A branch that only chooses.
struct Choice {
    block: Block,
    condition: Node,
    values: Vec<Chosen>,
    /// Where both sides go; none if they return.
    join: Option<Block>,
    /// The locals, which the values are given to; none are if the sides return.
    locals: Vec<Local>,
}

/// A value for each side; that of a local at the head where the side gives it none.
#[derive(Clone, Copy)]
struct Chosen {
    ty: Type,
    sides: [Option<Node>; 2],
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    // Few branches look like choices; what else is asked costs more than to look at all of them.
    let is_candidate = |block: &Block| cx.region().has(method, *block) && sides(method, *block).is_some();
    let candidates: Vec<Block> = method.blocks().filter(is_candidate).collect();
    if !cx.spend(method.block_count() as u64) || candidates.is_empty() {
        return Changed::No;
    }
    let (cfg, loops, frequencies) = (cx.cfg(method), cx.loops(method), cx.get::<Frequencies>(method));
    let liveness = cx.get::<Result<Liveness, TooManyFacts>>(method);
    let Ok(liveness) = &*liveness else { return Changed::No };
    let finder = Finder { method, cfg: &cfg, loops: &loops, frequencies: &frequencies, liveness };
    let mut found = Vec::new();
    for block in candidates.into_iter().filter(|block| cfg.is_reachable(*block)) {
        let Some(choice) = finder.choice(block) else { continue };
        if !cx.spend((choice.values.len() * MAX_NODES) as u64) {
            break;
        }
        match finder.judge(&choice) {
            Ok(()) => found.push(choice),
            Err(why) => cx.missed((block, choice.condition), || why.into()),
        }
    }
    let mut edits = Edits::new();
    let mut done = Vec::new();
    for choice in found {
        let Choice { block, condition, .. } = choice;
        if cx.allows((block, condition), || {
            format!("a choice of {} values instead of a branch", choice.values.len())
        }) {
            done.push(block);
            convert(method, &mut edits, &choice);
        }
    }
    let region = Region::around(method, done);
    if !region.is_empty() {
        let gain = Gain::cycles(1, Some(Frequency::ONCE));
        cx.demand(Demand::new(PASS, region, "a branch around others is gone", gain));
    }
    cx.apply(method, edits)
}

fn convert(method: &mut Method<'_>, edits: &mut Edits, choice: &Choice) {
    let position = method.roots(choice.block).len() - 1;
    let at = Point {
        block: choice.block,
        position: u32::try_from(position).expect("a method has fewer than 2^32 roots"),
    };
    let mut selected = Vec::new();
    for (index, Chosen { ty, sides }) in choice.values.iter().enumerate() {
        let mut value = |side: Option<Node>| {
            side.unwrap_or_else(|| {
                method.add_node(Opcode::Entry, *ty, &[], Payload::Local(choice.locals[index]))
            })
        };
        let [then, otherwise] = [value(sides[0]), value(sides[1])];
        let operands = [choice.condition, then, otherwise];
        selected.push(method.add_node(Opcode::Select, *ty, &operands, Payload::None));
    }
    let Some(join) = choice.join else {
        let end = method.add_node(Opcode::Return, Type::Void, &selected, Payload::None);
        return edits.end(choice.block, end);
    };
    for (local, value) in choice.locals.iter().zip(selected) {
        let set = method.add_node(Opcode::Set, Type::Void, &[value], Payload::Local(*local));
        edits.insert(at, set, SourcePos::NONE);
    }
    let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(join));
    edits.end(choice.block, end);
}

struct Finder<'f, 'a> {
    method: &'f Method<'a>,
    cfg: &'f Cfg,
    loops: &'f Loops,
    frequencies: &'f Frequencies,
    liveness: &'f Liveness,
}

/// What a side of a branch does.
enum Side {
    /// Gives locals values, and goes on.
    Sets(Vec<(Local, Node)>, Block),
    Returns(Vec<Node>),
}

/// The condition of the branch at the end of a block, and its sides, if they do nothing but set locals until they meet or return.
fn sides(method: &Method<'_>, block: Block) -> Option<(Node, [Side; 2])> {
    let end = method.terminator(block)?;
    let Payload::Branch(then, otherwise) = method.payload(end) else { return None };
    let sides = [side(method, block, then, otherwise)?, side(method, block, otherwise, then)?];
    let is_choice = match &sides {
        [Side::Returns(left), Side::Returns(right)] => left.len() == right.len(),
        [Side::Sets(_, join), Side::Sets(_, other)] => join == other,
        _ => false,
    };
    is_choice.then_some((method.operands(end)[0], sides))
}

/// What the way from `block` to `to` does, until it meets the other one.
fn side(method: &Method<'_>, block: Block, to: Block, other: Block) -> Option<Side> {
    if method.block(to).extends != Some(block) {
        // This side does nothing: the other one must lead here.
        return (to != other).then(|| Side::Sets(Vec::new(), to));
    }
    let (end, roots) = method.roots(to).split_last()?;
    let mut sets = Vec::new();
    for root in roots {
        let Payload::Local(local) = method.payload(root.node) else { return None };
        sets.push((local, method.operands(root.node)[0]));
    }
    match (method.opcode(end.node), method.payload(end.node)) {
        (Opcode::Goto, Payload::Goto(join)) if method.block(join).extends.is_none() => {
            Some(Side::Sets(sets, join))
        }
        // What is set before a return nobody reads.
        (Opcode::Return, _) => Some(Side::Returns(method.operands(end.node).to_vec())),
        _ => None,
    }
}

impl Finder<'_, '_> {
    /// The choice that the branch at the end of a block is.
    fn choice(&self, block: Block) -> Option<Choice> {
        let method = self.method;
        let (condition, sides) = sides(method, block)?;
        match sides {
            [Side::Returns(left), Side::Returns(right)] => {
                let chosen = |(left, right): (Node, Node)| Chosen {
                    ty: method.ty(left),
                    sides: [Some(left), Some(right)],
                };
                let values = left.into_iter().zip(right).map(chosen).collect();
                Some(Choice { block, condition, values, join: None, locals: Vec::new() })
            }
            [Side::Sets(left, join), Side::Sets(right, _)] => {
                let mut locals: Vec<Local> = left.iter().chain(&right).map(|(local, _)| *local).collect();
                locals.sort_unstable();
                locals.dedup();
                locals.retain(|local| self.liveness.is_live_in(join, *local));
                let before = |local: Local| self.held(block, local);
                let of = |sets: &[(Local, Node)], local: Local| {
                    let last = sets.iter().rev().find(|(own, _)| *own == local).map(|(_, value)| *value);
                    last.map_or_else(|| before(local), |value| Some(Some(value)))
                };
                let values: Option<Vec<Chosen>> = locals
                    .iter()
                    .map(|local| {
                        Some(Chosen {
                            ty: method.local(*local).ty,
                            sides: [of(&left, *local)?, of(&right, *local)?],
                        })
                    })
                    .collect();
                Some(Choice { block, condition, values: values?, join: Some(join), locals })
            }
            _ => None,
        }
    }

    /// What a local holds at the end of a block: a node, or what it held at the head. None if that is too far to look for.
    fn held(&self, block: Block, local: Local) -> Option<Option<Node>> {
        let method = self.method;
        let (mut at, mut looked) = (Some(block), 0);
        while let Some(block) = at {
            for root in method.roots(block).iter().rev() {
                if method.payload(root.node) == Payload::Local(local) {
                    return Some(Some(method.operands(root.node)[0]));
                }
                looked += 1;
                if looked > MAX_ROOTS {
                    return None;
                }
            }
            at = method.block(block).extends;
        }
        Some(None)
    }

    /// Whether the choice is better than the branch, or why not.
    fn judge(&self, choice: &Choice) -> Result<(), &'static str> {
        let method = self.method;
        let Choice { block, condition, values, .. } = choice;
        if values.iter().any(|chosen| !Class::EQ.contains(chosen.ty)) {
            return Err("a choice of floats or vectors is a branch on most machines");
        }
        let ways = self.frequencies.ways(*block);
        let is_known = ways.iter().any(|(to, _)| method.block(*to).frequency.is_some());
        let rarer = ways.iter().map(|(_, share)| *share).min().unwrap_or(0);
        if (is_known || rarer == 0) && rarer < CHANCE {
            return Err("the branch nearly always goes one way");
        }
        let (max_nodes, max_values) = if is_known { KNOWN } else { BLIND };
        if values.len() > max_values {
            return Err("more values are chosen than a branch costs");
        }
        if self.extra(choice, max_nodes).is_none() {
            return Err("more is computed in vain than a branch costs");
        }
        if !is_known && self.waits_for_turn_before(*block, *condition, choice) {
            return Err("the next turn of the loop would wait for the choice");
        }
        Ok(())
    }

    /// How many nodes are computed for one side alone; none if they are more than `max`, or one of them takes several cycles.
    fn extra(&self, choice: &Choice, max: usize) -> Option<usize> {
        let method = self.method;
        let mut pending: Vec<Node> = choice.values.iter().flat_map(|chosen| chosen.sides).flatten().collect();
        let mut seen = self.needed_by(choice.condition);
        let mut extra = 0;
        while let Some(node) = pending.pop() {
            if seen.contains(&node) || method.is_root(node) || method.operands(node).is_empty() {
                continue;
            }
            seen.push(node);
            extra += 1;
            if extra > max || method.opcode(node).has(Properties::SLOW) {
                return None;
            }
            pending.extend_from_slice(method.operands(node));
        }
        Some(extra)
    }

    /// What the condition is computed from, as far as a walk goes: it is there.
    fn needed_by(&self, condition: Node) -> Vec<Node> {
        let mut found = vec![condition];
        let mut next = 0;
        while let Some(node) = found.get(next).copied() {
            next += 1;
            for operand in self.method.value_operands(node) {
                if found.len() < MAX_NODES && !found.contains(operand) {
                    found.push(*operand);
                }
            }
        }
        found
    }

    /// Whether the condition is computed, by a root or something slow, from a local that the choice gives to the next turn of a loop.
    fn waits_for_turn_before(&self, block: Block, condition: Node, choice: &Choice) -> bool {
        let method = self.method;
        let Some(which) = self.loops.innermost(block) else { return false };
        let header = self.loops.data(which).header;
        let is_carried =
            |local: Local| choice.locals.contains(&local) && self.liveness.is_live_in(header, local);
        let stays =
            choice.join.is_some_and(|join| self.loops.contains(which, join) && self.cfg.is_reachable(join));
        if !stays {
            return false;
        }
        // Each node with whether something that takes time is between it and the condition.
        let mut pending = vec![(condition, false)];
        let mut looked = 0;
        while let Some((node, is_late)) = pending.pop() {
            looked += 1;
            if looked > MAX_NODES {
                return true;
            }
            match method.payload(node) {
                Payload::Local(local) if is_late && is_carried(local) => return true,
                _ => {}
            }
            let is_late = is_late || method.is_root(node) || method.opcode(node).has(Properties::SLOW);
            pending.extend(method.value_operands(node).iter().map(|operand| (*operand, is_late)));
        }
        false
    }
}
