//! Inlining: a direct call becomes its callee's body, where that pays.
//!
//! ```text
//!   b1: %2 = call @area(%w, 3)        b1: %2 = mul %w, 3            area of the method's own values, with no call around it
//!
//!   size   nodes for which there will be code: the callee's, without those that constant arguments fold
//!   gain   cycles of the call and of what folds, as often as the call runs
//!   pays   size × WORK_PER_NODE ≤ the work that the strategy spends for that gain, and the gain is a part of the callee's own time
//!   fits   within MAX_CALLEE; together within what the method may grow by, and the work that is left
//! ```
//!
//! # Why
//!
//! A call costs little beside what it hides: what a callee does with arguments that are known, and that memory which it leaves alone
//! stays as it was. So this runs before passes that look for either, and asks for them where it has put something.
//!
//! The gain is weighed by the strategy's own rate of work for cycles, so a tier that may spend more takes larger callees, and in loops larger
//! ones than outside, without thresholds for each tier.
//!
//! # Guarantees
//!
//! * Those of [`edit`](dagwood_il::edit): handlers, frame states and slots are kept right. A callee that has frame states needs a call that
//!   has one.
//! * A call that is never expected to run stays. So does one of a callee that never returns.
//! * A callee that calls itself, or the method, comes in one level deep: only where the pass looks everywhere, not where what has come
//!   in asks for it. Longer circles end with the manager's rounds.
//! * Of what an argument is known to be, nothing is assumed but for weighing.
//!
//! # Cost
//!
//! Each callee is built and rebuilt once for each run, if it may be small enough.

use std::collections::BTreeMap;
use std::fmt;

use dagwood_il::edit::NotInlined;
use dagwood_il::entity::Entity;
use dagwood_il::{
    Block, Bump, Cfg, Dominators, Edits, Frequency, Loops, Method, MethodId, Module, Node, Opcode, Payload,
    Properties,
};

use crate::analysis::frequencies::Frequencies;
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::features::Features;
use crate::pass::{Changed, Pass};
use crate::passes::{escape_analysis, gvn, jump_threading, throw_to_goto, value_propagation};
use crate::region::Region;

/// The pass.
pub const PASS: Pass =
    Pass { name: "inline", summary: "put callees in the place of their calls, where that pays", run };

/// How many nodes a callee may have.
const MAX_CALLEE: u64 = 400;
/// By how many nodes any method may grow, over all rounds; a larger method by as many as it had.
const MIN_GROWTH: u64 = 1000;
/// The units of work that a node is taken to cost which was not there before: in the passes that follow, and in making code of it.
const WORK_PER_NODE: u64 = 32;
/// What a call costs that passes nothing: the call and the return, the stack's limit, registers that are saved, in cycles.
const CALL_CYCLES: u32 = 6;
/// What the caller may save besides, when no call is left: a frame of its own.
const LEAF_CYCLES: u32 = 2;
/// What it saves when a node folds.
const FOLDED_CYCLES: u32 = 1;
/// What a call saves must be one in so many of the cycles that its callee takes: a callee that goes round loops is as good where it is.
const LEAST_SHARE: u64 = 32;
/// The units of work that looking at one more call is taken to need.
const WORK_PER_CALL: u64 = 64;

/// A direct call.
struct Candidate {
    block: Block,
    call: Node,
    callee: MethodId,
    frequency: Frequency,
}

/// What is known of a callee.
struct Callee<'a> {
    body: Method<'a>,
    /// Its nodes, but for constants, parameters and the like.
    size: u64,
    /// What it takes each time, if a node takes a cycle.
    time: Gain,
    /// By parameter: how many operands it is, if nothing else is ever in its local.
    uses: Vec<u32>,
    /// How many direct calls it has.
    calls: u32,
    /// Whether it is the method, or calls that or itself.
    is_recursive: bool,
    has_frames: bool,
    makes_objects: bool,
    /// Whether it ends by raising on some way.
    raises: bool,
}

/// Why a call stays.
#[derive(Clone, Copy)]
enum Obstacle {
    Cold,
    Unknown,
    NeverReturns,
    Recursive,
    NoFrame,
    Large(u64),
    Long(Gain),
    DoesNotPay { size: u64, cost: u64, worth: u64 },
    Growth { size: u64, room: u64 },
    Budget(u64),
    Refused(NotInlined),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Cold => f.write_str("the call is never expected to run"),
            Obstacle::Unknown => f.write_str("its body may not be looked at"),
            Obstacle::NeverReturns => f.write_str("it never returns"),
            Obstacle::Recursive => f.write_str("it calls itself or its caller, and comes in one level deep"),
            Obstacle::NoFrame => f.write_str("it has frame states, and the call has none to be their parent"),
            Obstacle::Large(size) => write!(f, "it has {size} nodes, and may have {MAX_CALLEE}"),
            Obstacle::Long(time) => write!(f, "it takes {time} cycles, beside which the call is little"),
            Obstacle::DoesNotPay { size, cost, worth } => {
                write!(f, "{size} nodes may cost {cost} and are worth {worth}")
            }
            Obstacle::Growth { size, room } => {
                write!(f, "{size} nodes, and the method may grow by {room} more")
            }
            Obstacle::Budget(size) => write!(f, "the budget does not suffice for {size} nodes"),
            Obstacle::Refused(why) => why.fmt(f),
        }
    }
}

/// What inlining a call brings.
#[derive(Clone, Copy)]
struct Weight {
    size: u64,
    /// For one call.
    cycles: u32,
    gain: Gain,
}

/// What came in, for those who are asked to look at it.
#[derive(Default)]
struct Brought {
    blocks: Vec<Block>,
    gain: Gain,
    calls: u32,
    gain_of_calls: Gain,
    size: u64,
    makes_objects: bool,
    /// Whether something that came in may raise where there are handlers.
    is_caught: bool,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let candidates = find(method, cx);
    let room = cx.room(method, MIN_GROWTH);
    let arena = Bump::new();
    let mut known = BTreeMap::new();
    let mut edits = Edits::new();
    let mut brought = Brought::default();
    for candidate in candidates {
        let Candidate { block, call, callee: id, frequency } = candidate;
        let weighed = weigh(method, cx, &candidate, &arena, &mut known, (brought.size, room));
        let module = cx.module();
        let name = || &module.methods[id].name;
        match weighed {
            Err(obstacle) => cx.missed((block, call), || format!("@{} stays: {obstacle}", name())),
            Ok((callee, Weight { size, gain, .. })) => {
                let what = || format!("@{} comes in: {size} nodes, {gain} cycles an entry", name());
                if cx.allows((block, call), what) {
                    let first_new = method.block_count();
                    let placed = edits.inline(module, method, call, &callee.body);
                    placed.expect("it was asked whether that can be");
                    brought.blocks.push(block);
                    brought.blocks.extend(method.blocks().skip(first_new));
                    brought.is_caught |= callee.raises && !method.handlers(block).is_empty();
                    brought.note(callee, size, gain, frequency);
                }
            }
        }
    }
    brought.demand(method, cx);
    cx.apply(method, edits)
}

/// The direct calls of the region, the most frequent first.
fn find(method: &Method<'_>, cx: &mut PassCx<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for block in method.blocks() {
        if !cx.region().has(method, block) || !cx.spend(method.roots(block).len() as u64) {
            continue;
        }
        found.extend(method.roots(block).iter().filter_map(|root| {
            let callee = direct_callee(method, root.node)?;
            let is_last = method.opcode(root.node).has(Properties::TERMINATES);
            (!is_last).then_some(Candidate { block, call: root.node, callee, frequency: Frequency::ONCE })
        }));
    }
    // Where no callee may be looked at, nobody asks how often it is called.
    if found.iter().any(|candidate| cx.may_look_at(candidate.callee)) {
        let frequencies = cx.get::<Frequencies>(method);
        for candidate in &mut found {
            candidate.frequency = frequencies.of(candidate.block);
        }
        // Stable: what is as frequent stays in the order of the method.
        found.sort_by_key(|candidate| std::cmp::Reverse(candidate.frequency));
    }
    found
}

/// Whom a root calls directly, in place of its method or not.
fn direct_callee(method: &Method<'_>, root: Node) -> Option<MethodId> {
    match method.payload(root) {
        Payload::Method(callee) if method.opcode(root).has(Properties::CALLS) => Some(callee),
        _ => None,
    }
}

/// What inlining a call brings, or why it stays; `size` is that of what comes in besides, of the nodes that there is room for.
fn weigh<'k, 'a>(
    method: &Method<'_>,
    cx: &mut PassCx<'_>,
    candidate: &Candidate,
    arena: &'a Bump,
    known: &'k mut BTreeMap<MethodId, Result<Callee<'a>, Obstacle>>,
    (size, room): (u64, u64),
) -> Result<(&'k Callee<'a>, Weight), Obstacle> {
    let Candidate { call, callee: id, frequency, .. } = *candidate;
    if frequency == Frequency::COLD {
        return Err(Obstacle::Cold);
    }
    let looked = known.entry(id).or_insert_with(|| look(cx, method.id(), id, arena));
    let callee = looked.as_ref().map_err(|obstacle| *obstacle)?;
    if callee.is_recursive && *cx.region() != Region::All {
        return Err(Obstacle::Recursive);
    }
    if callee.has_frames && method.frame_of(call).is_none() {
        return Err(Obstacle::NoFrame);
    }
    Edits::can_inline(cx.module(), method, call, &callee.body).map_err(Obstacle::Refused)?;
    let weight = callee.weight(method, call, frequency);
    let (cost, worth) = (weight.size.saturating_mul(WORK_PER_NODE), cx.worth(weight.gain));
    let room = room.saturating_sub(size);
    if Gain::cycles(weight.cycles, None).0.saturating_mul(LEAST_SHARE) < callee.time.0 {
        Err(Obstacle::Long(callee.time))
    } else if cost > worth {
        Err(Obstacle::DoesNotPay { size: weight.size, cost, worth })
    } else if weight.size > room {
        Err(Obstacle::Growth { size: weight.size, room })
    } else if (size + weight.size).saturating_mul(WORK_PER_NODE) > cx.left() {
        Err(Obstacle::Budget(weight.size))
    } else {
        Ok((callee, weight))
    }
}

/// Builds and rebuilds a callee, and looks at it.
fn look<'a>(
    cx: &mut PassCx<'_>,
    caller: MethodId,
    id: MethodId,
    arena: &'a Bump,
) -> Result<Callee<'a>, Obstacle> {
    if let Some(least) = cx.least_size(id)
        && least > MAX_CALLEE
    {
        return Err(Obstacle::Large(least));
    }
    let mut body = cx.callee(id, arena).ok_or(Obstacle::Unknown)?;
    if !cx.spend(2 * body.node_count() as u64) {
        return Err(Obstacle::Budget(body.node_count() as u64));
    }
    // Without any edit it is folded and numbered, and what is dead is gone.
    Edits::new().apply(cx.module(), &mut body);
    let callee = Callee::of(cx.module(), caller, body);
    if callee.size > MAX_CALLEE {
        return Err(Obstacle::Large(callee.size));
    }
    let returns = |block| {
        let end = callee.body.terminator(block).map(|end| callee.body.opcode(end));
        end.is_some_and(|end| end == Opcode::Return || end.has(Properties::CALLS))
    };
    if !callee.body.blocks().any(returns) {
        return Err(Obstacle::NeverReturns);
    }
    Ok(callee)
}

impl<'a> Callee<'a> {
    fn of(module: &Module, caller: MethodId, body: Method<'a>) -> Callee<'a> {
        let (mut calls, mut is_recursive) = (0, body.id() == caller);
        let mut is_set = vec![false; body.param_count()];
        for root in body.blocks().flat_map(|block| body.roots(block)) {
            if let Some(callee) = direct_callee(&body, root.node) {
                calls += 1;
                is_recursive |= callee == caller || callee == body.id();
            }
            if let Payload::Local(local) = body.payload(root.node)
                && let Some(is_set) = is_set.get_mut(local.index())
            {
                *is_set = true;
            }
        }
        let mut uses = vec![0; body.param_count()];
        for operand in body.nodes().flat_map(|node| body.value_operands(node)) {
            if let Payload::Local(local) = body.payload(*operand)
                && let Some(uses) = uses.get_mut(local.index())
            {
                *uses += u32::from(!is_set[local.index()]);
            }
        }
        let is_work = |node: &Node| body.is_root(*node) || !body.operands(*node).is_empty();
        let size = body.nodes().filter(is_work).count() as u64;
        let has_frames = body.nodes().any(|node| matches!(body.payload(node), Payload::Frame(_)));
        let raises = body
            .blocks()
            .filter_map(|block| body.terminator(block))
            .any(|end| throw_to_goto::raises(&body, end));
        let time = time(module, &body, size);
        let makes_objects = Features::of(&body).has(Features::ALLOCATIONS);
        Callee { size, time, uses, calls, is_recursive, has_frames, makes_objects, raises, body }
    }

    /// What this brings in place of a call.
    fn weight(&self, method: &Method<'_>, call: Node, frequency: Frequency) -> Weight {
        let args = method.value_operands(call);
        let is_known = |arg: &Node| matches!(method.payload(*arg), Payload::Const(_));
        let folded = args.iter().zip(&self.uses).filter(|(arg, _)| is_known(arg)).map(|(_, uses)| *uses);
        // Never more than a part of it: what folds is a guess.
        let folded = folded.fold(0, u32::saturating_add).min((self.size / 2) as u32);
        let leaf = if self.calls == 0 { LEAF_CYCLES } else { 0 };
        let cycles = CALL_CYCLES + leaf + args.len() as u32 + FOLDED_CYCLES * folded;
        let gain = Gain::cycles(cycles, Some(frequency));
        Weight { size: self.size - u64::from(folded), cycles, gain }
    }
}

/// What a body takes each time, if nodes take a cycle each and float to roots evenly.
fn time(module: &Module, body: &Method<'_>, size: u64) -> Gain {
    let cfg = Cfg::compute(module, body);
    let loops = Loops::compute(&cfg, &Dominators::compute(&cfg));
    let frequencies = Frequencies::compute(module, body, &cfg, &loops);
    let (mut roots, mut happening) = (0, 0_u64);
    for block in body.blocks() {
        let own = body.roots(block).len() as u64;
        roots += own;
        happening = happening.saturating_add(own * u64::from(frequencies.of(block).0));
    }
    Gain(happening.saturating_mul(size) / roots.max(1))
}

impl Brought {
    fn note(&mut self, callee: &Callee<'_>, size: u64, gain: Gain, frequency: Frequency) {
        self.size += size;
        self.gain.0 = self.gain.0.saturating_add(gain.0);
        self.calls += callee.calls;
        self.makes_objects |= callee.makes_objects;
        let gain_of_calls = Gain::cycles(CALL_CYCLES.saturating_mul(callee.calls), Some(frequency));
        self.gain_of_calls.0 = self.gain_of_calls.0.saturating_add(gain_of_calls.0);
    }

    /// Asks those who may find something in what came in. The blocks are still those before the edits.
    fn demand(self, method: &Method<'_>, cx: &mut PassCx<'_>) {
        cx.note_growth(self.size);
        if self.blocks.is_empty() {
            return;
        }
        let region = Region::around(method, self.blocks);
        let known = "arguments and results are known where a callee came in";
        for pass in [jump_threading::PASS, value_propagation::PASS, gvn::PASS] {
            cx.demand(Demand::new(pass, region.clone(), known, self.gain));
        }
        if self.makes_objects || Features::of(method).has(Features::ALLOCATIONS) {
            let objects = "objects are seen by one call less";
            cx.demand(Demand::new(escape_analysis::PASS, region.clone(), objects, self.gain));
        }
        if self.is_caught {
            let thrown = "what came in raises where it may be caught";
            cx.demand(Demand::new(throw_to_goto::PASS, region.clone(), thrown, self.gain));
        }
        if self.calls > 0 {
            let cost = Some(WORK_PER_CALL * u64::from(self.calls));
            // Everywhere: what copies of blocks make of a region may have lost the calls.
            let everywhere = Region::around(method, method.blocks());
            let calls = Demand::new(PASS, everywhere, "what came in calls others", self.gain_of_calls);
            cx.demand(Demand { cost, ..calls });
        }
    }
}
