//! What is known of locals at heads: facts carried along edges until nothing changes, then bounds that hold.
//!
//! ```text
//!   1. facts, from the entry on; at loops they widen        b1: $i in 0..
//!   2. facts once more, without widening; what the number   b1: $i in 0..=100
//!      of turns says of counters; and once more
//!   3. bounds that some edge brings, kept while every       b1: $i + 1 <= $n
//!      edge brings them
//! ```
//!
//! *Why in this order.* Whether `x + 1 <= y` can be seen depends on ranges (nothing may wrap), hardly ever the other way
//! round. So bounds are looked for once ranges are settled: all are believed, and those are dropped that some edge does
//! not bear out while the others are believed. What is left is true by induction along every path.
//!
//! *Guarantees.* Only locals that are live are kept, and of these only what is known. An edge that facts show to be
//! impossible carries nothing. A handler knows what held at its block's start, joined with what is set there.
//!
//! *Cost.* A handful of walks along each extended block, each linear in its nodes and the live locals with facts;
//! [`MAX_CHANGES`] bounds how often a head changes, [`MAX_BOUNDS`] how many bounds it has.

use std::collections::BTreeSet;

use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Cfg, Liveness, Method, Module, Node, Opcode, Payload};

use super::counters::Counters;
use super::fact::Fact;
use super::known::Known;
use super::relations::Reading;
use super::shape::Shape;
use super::walk::{LocalBound, State, Visitor, walk};

/// How often what is known at a head may change before all of it is given up.
pub const MAX_CHANGES: u32 = 16;
/// After how many changes of a head facts widen.
const PATIENCE: u32 = 2;
/// How many bounds are kept for a head.
pub const MAX_BOUNDS: usize = 16;
/// How many of the bounds of a path, the newest, are looked at for an edge.
const MAX_RECENT: usize = 32;
/// How many live locals are looked at for bounds.
const MAX_LOCALS: usize = 64;

/// What is known of locals at heads.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    states: States,
}

impl Heads {
    /// Nothing, but that heads are reached where the graph reaches them.
    pub(super) fn nothing(method: &Method<'_>, cfg: &Cfg) -> Heads {
        let mut states = EntityVec::filled(None, method.block_count());
        for head in heads(method, cfg) {
            states[head] = Some(State::default());
        }
        Heads { states }
    }

    /// What holds at the heads of a method.
    pub(super) fn compute(module: &Module, method: &Method<'_>, cfg: &Cfg, shape: &Shape) -> Heads {
        let Ok(liveness) = Liveness::compute(method, cfg) else { return Heads::nothing(method, cfg) };
        let mut known = Known::nothing(module, method, shape);
        let has_loops = heads(method, cfg).any(|head| is_entered_again(cfg, head));
        let mut flow = Flow::new(method, cfg, &liveness, true);
        // Without loops each head is met once, with all that is ever known there.
        flow.collects = !has_loops;
        flow.ascend(&mut known);
        let (mut states, mut candidates) = (flow.arrived, flow.candidates);
        if has_loops {
            let counters = Counters::compute(method, cfg);
            let mut returned: States = EntityVec::filled(None, method.block_count());
            for is_last in [false, true] {
                let is_last = is_last || !flow.has_widened;
                let swept = sweep(&mut known, cfg, &liveness, is_last, |head, arrived| {
                    let is_met_again = counters.is_header(head) || returned[head].is_some();
                    let mut state = match (&states[head], &returned[head]) {
                        (Some(_), Some(returned)) => State::either(arrived.clone(), Some(returned)),
                        (Some(state), None) if is_met_again || is_entered_again(cfg, head) => state.clone(),
                        _ => arrived.clone(),
                    };
                    counters.improve(method, head, arrived, &mut state);
                    state
                });
                (states, returned, candidates) = (swept.used, swept.returned, swept.candidates);
                if is_last {
                    break;
                }
            }
        }
        believe(&mut known, cfg, &candidates, &mut states);
        Heads { states }
    }

    /// What is known at a head; none if it cannot be reached.
    pub(super) fn state(&self, head: Block) -> Option<&State> {
        self.states[head].as_ref()
    }
}

/// The heads that the graph reaches, in its order.
pub(super) fn heads<'c>(method: &'c Method<'_>, cfg: &'c Cfg) -> impl Iterator<Item = Block> + 'c {
    cfg.order().iter().copied().filter(|block| method.block(*block).extends.is_none())
}

/// What is known of each head, as far as it is reached.
type States = EntityVec<Block, Option<State>>;

/// Facts on their way.
struct Flow<'f, 'a> {
    method: &'f Method<'a>,
    cfg: &'f Cfg,
    liveness: &'f Liveness,
    /// What arrived: by edges that lead on, or, going up, by all.
    arrived: States,
    /// What arrived by edges that lead back.
    returned: States,
    changes: EntityVec<Block, u32>,
    pending: BTreeSet<u32>,
    /// Facts go up from the first that arrived until nothing changes.
    is_ascending: bool,
    has_widened: bool,
    /// By head, the bounds that edges bring, where they are asked for.
    candidates: EntityVec<Block, Vec<LocalBound>>,
    collects: bool,
}

impl<'f, 'a> Flow<'f, 'a> {
    fn new(method: &'f Method<'a>, cfg: &'f Cfg, liveness: &'f Liveness, is_ascending: bool) -> Self {
        let mut arrived = EntityVec::filled(None, method.block_count());
        if let Some(entry) = cfg.order().first() {
            arrived[*entry] = Some(State::default());
        }
        Flow {
            method,
            cfg,
            liveness,
            arrived,
            returned: EntityVec::filled(None, method.block_count()),
            changes: EntityVec::filled(0, method.block_count()),
            pending: BTreeSet::from([0]),
            is_ascending,
            has_widened: false,
            candidates: EntityVec::filled(Vec::new(), method.block_count()),
            collects: false,
        }
    }

    /// Carries facts until nothing changes.
    fn ascend(&mut self, known: &mut Known<'_, '_>) {
        while let Some(rank) = self.pending.pop_first() {
            let head = self.cfg.order()[rank as usize];
            if let Some(state) = self.arrived[head].clone() {
                walk(known, head, &state, self);
            }
        }
    }

    /// All that is known of live locals arrives at a head.
    fn arrive(&mut self, known: &Known<'_, '_>, from: Block, to: Block) {
        let is_back = self.cfg.rank(from) >= self.cfg.rank(to);
        let patience = if is_back { PATIENCE } else { MAX_CHANGES / 2 };
        let widens = self.is_ascending && self.changes[to] >= patience;
        let states = if is_back && !self.is_ascending { &mut self.returned } else { &mut self.arrived };
        let Some(state) = &mut states[to] else {
            let facts = self.liveness.live_in(to).map(|local| (local, *known.fact_of_local(local)));
            let facts = facts.filter(|(_, fact)| !fact.is_any()).collect();
            states[to] = Some(State { facts, bounds: Vec::new() });
            return self.changed(to);
        };
        let mut has_changed = false;
        for (local, fact) in &mut state.facts {
            has_changed |= merge(fact, known.fact_of_local(*local), widens);
        }
        self.has_widened |= widens && has_changed;
        if has_changed {
            state.facts.retain(|(_, fact)| !fact.is_any());
            self.changed(to);
        }
    }

    fn changed(&mut self, head: Block) {
        if !self.is_ascending {
            return;
        }
        self.changes[head] += 1;
        if self.changes[head] > MAX_CHANGES
            && let Some(state) = &mut self.arrived[head]
        {
            state.facts.clear();
        }
        self.pending.extend(self.cfg.rank(head));
    }

    /// Collects the bounds between live locals that an edge brings.
    fn collect(&mut self, known: &Known<'_, '_>, to: Block) {
        let is_handler = self.cfg.predecessors(to).iter().any(|edge| edge.is_exception());
        let found = &mut self.candidates[to];
        if is_handler || found.len() >= MAX_BOUNDS || known.bounds().next().is_none() {
            return;
        }
        // What live locals hold, as far as it is a number: the simplest reading and the offset from it.
        let mut held = Vec::new();
        for local in self.liveness.live_in(to).take(MAX_LOCALS) {
            let ty = known.method().local(local).ty;
            if ty.is_int() && known.fact_of_local(local).as_constant().is_none() {
                for is_signed in [false, true] {
                    let (reading, offset) = known.simplest(Reading::new(known.value_of(local), is_signed));
                    held.push((reading, offset, (local, is_signed)));
                }
            }
        }
        for bound in known.bounds().rev().take(MAX_RECENT) {
            for (_, below, less) in held.iter().filter(|(reading, ..)| *reading == bound.less) {
                for (_, above, more) in held.iter().filter(|(reading, ..)| *reading == bound.more) {
                    let candidate = LocalBound { less: *less, gap: bound.gap - below + above, more: *more };
                    if less.0 != more.0 && found.len() < MAX_BOUNDS && !found.contains(&candidate) {
                        found.push(candidate);
                    }
                }
            }
        }
    }

    fn handlers(&self, block: Block) -> impl Iterator<Item = Block> + use<'f, 'a> {
        let cfg = self.cfg;
        cfg.successors(block).iter().filter(|edge| edge.is_exception()).map(|edge| edge.block)
    }
}

/// Joins a fact with one that arrives; whether that changed it.
fn merge(fact: &mut Fact, new: &Fact, widens: bool) -> bool {
    let merged = if widens { fact.widen(new) } else { fact.join(new) };
    let has_changed = merged != *fact;
    *fact = merged;
    has_changed
}

impl Visitor for Flow<'_, '_> {
    fn block(&mut self, known: &mut Known<'_, '_>, block: Block) {
        for handler in self.handlers(block) {
            self.arrive(known, block, handler);
        }
    }

    fn root(&mut self, known: &mut Known<'_, '_>, block: Block, _: u32, root: Node) {
        let method = self.method;
        let (Opcode::Set, Payload::Local(local)) = (method.opcode(root), method.payload(root)) else {
            return;
        };
        let fact = *known.fact(method.operands(root)[0]);
        for handler in self.handlers(block) {
            let widens = self.is_ascending && self.changes[handler] >= PATIENCE;
            let mut has_changed = false;
            for states in [&mut self.arrived, &mut self.returned] {
                let Some(state) = &mut states[handler] else { continue };
                let found = state.facts.binary_search_by_key(&local, |(local, _)| *local);
                if found.is_ok_and(|index| merge(&mut state.facts[index].1, &fact, widens)) {
                    state.facts.retain(|(_, fact)| !fact.is_any());
                    has_changed = true;
                }
            }
            if has_changed {
                self.has_widened |= widens;
                self.changed(handler);
            }
        }
    }

    fn edge(&mut self, known: &mut Known<'_, '_>, from: Block, to: Block) {
        if self.method.block(to).extends.is_none() {
            self.arrive(known, from, to);
            if self.collects {
                self.collect(known, to);
            }
        }
    }
}

/// Whether an edge leads back to a head.
fn is_entered_again(cfg: &Cfg, head: Block) -> bool {
    cfg.predecessors(head).iter().any(|edge| cfg.rank(edge.block) >= cfg.rank(head))
}

/// One walk along each extended block.
struct Sweep {
    returned: States,
    /// What the walks began with.
    used: States,
    candidates: EntityVec<Block, Vec<LocalBound>>,
}

/// Walks along each extended block once, in their order, with what `state` says of its head, given what has arrived by then. If that is
/// true of each head, so is what arrives. Bounds are collected on the way if `collects` says so.
fn sweep(
    known: &mut Known<'_, '_>,
    cfg: &Cfg,
    liveness: &Liveness,
    collects: bool,
    state: impl Fn(Block, &State) -> State,
) -> Sweep {
    let method = known.method();
    let mut flow = Flow::new(method, cfg, liveness, false);
    flow.collects = collects;
    let mut used: States = EntityVec::filled(None, method.block_count());
    for head in heads(method, cfg) {
        used[head] = flow.arrived[head].as_ref().map(|arrived| state(head, arrived));
        if let Some(state) = &used[head] {
            walk(known, head, state, &mut flow);
        }
    }
    Sweep { returned: flow.returned, used, candidates: flow.candidates }
}

/// Finds the bounds that hold between locals at heads, among those that edges bring.
fn believe(
    known: &mut Known<'_, '_>,
    cfg: &Cfg,
    candidates: &EntityVec<Block, Vec<LocalBound>>,
    states: &mut States,
) {
    let method = known.method();
    let mut pending = BTreeSet::new();
    for (block, bounds) in candidates.iter().filter(|(_, bounds)| !bounds.is_empty()) {
        let Some(state) = &mut states[block] else { continue };
        state.bounds.clone_from(bounds);
        // Each edge that leads there is asked.
        pending.extend(cfg.predecessors(block).iter().filter_map(|edge| cfg.rank(method.head(edge.block))));
    }
    while let Some(rank) = pending.pop_first() {
        let head = cfg.order()[rank as usize];
        let Some(state) = states[head].clone() else { continue };
        let mut doubt = Doubt { states: &mut *states, dropped: Vec::new() };
        walk(known, head, &state, &mut doubt);
        pending.extend(doubt.dropped.into_iter().filter_map(|head| cfg.rank(head)));
    }
}

/// Drops bounds that an edge does not bear out.
struct Doubt<'d> {
    states: &'d mut States,
    dropped: Vec<Block>,
}

impl Visitor for Doubt<'_> {
    fn edge(&mut self, known: &mut Known<'_, '_>, _: Block, to: Block) {
        let Some(state) = &mut self.states[to] else { return };
        let before = state.bounds.len();
        state.bounds.retain(|bound| known.must_be(bound.here(known)));
        if state.bounds.len() < before {
            self.dropped.push(to);
        }
    }
}
