//! What walks along extended blocks send to the heads they lead to, remembered as long as it would be the same.
//!
//! ```text
//!   b1: $i in 0..=99  ──walk──►  to b1: $i in 1..=100        asked again with 0..=99: no walk
//!                                to b4: $i in 100..=100
//! ```
//!
//! *Why.* What holds at heads is found by going over a method several times, and most of what an extended block depends on is the
//! same each time: what is known of the few locals that it reads or sets, its *own*. All others pass through it as they are. So a
//! walk is repeated only when something is new of an own local, and what changes elsewhere is joined on the way without one.
//!
//! *Guarantees.* What is sent depends on what is known of own locals at the head and on nothing else. A handler is sent what held at
//! its block's start, joined with what is set there.
//!
//! *Cost.* A walk for each state of own locals that differs from the one before. Memory: facts of own locals, for each edge between
//! extended blocks.

use std::ops::Range;

use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Cfg, Liveness, Local, Method, Node, Payload};

use super::fact::Fact;
use super::known::Known;
use super::relations::Reading;
use super::shape::{Lists, Shape};
use super::walk::{LocalBound, State, Visitor, walk};
use crate::analysis::live_locals::set;

/// How many bounds are kept for a head.
pub const MAX_BOUNDS: usize = 16;
/// How many of the bounds of a path, the newest, are looked at for an edge.
const MAX_RECENT: usize = 32;
/// How many live locals are looked at for bounds.
const MAX_LOCALS: usize = 64;

/// What a walk sends to one head, along one edge or all those from a block to a handler.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) from: Block,
    pub(super) to: Block,
    facts: Range<usize>,
    bounds: Range<usize>,
}

/// What a walk sent, and what was known of own locals when it began.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    began: Option<State>,
    pub(super) arrivals: Vec<Arrival>,
    facts: Vec<(Local, Fact)>,
    bounds: Vec<LocalBound>,
}

impl Sent {
    /// Some bounds between own locals that are live where this arrives.
    pub(super) fn bounds(&self, arrival: &Arrival) -> &[LocalBound] {
        &self.bounds[arrival.bounds.clone()]
    }
}

/// What the last walk along each extended block sent.
pub(super) struct Sends<'s, 'a> {
    method: &'s Method<'a>,
    cfg: &'s Cfg,
    /// By head: the live locals of which something may be known.
    live: Lists<Local>,
    /// By head: the locals that its extended block reads or sets.
    own: Lists<Local>,
    /// By head: whether its extended block leads to any head. Of the others nothing is sent.
    leads_on: EntityVec<Block, bool>,
    sent: EntityVec<Block, Sent>,
}

impl<'s, 'a> Sends<'s, 'a> {
    pub(super) fn new(method: &'s Method<'a>, cfg: &'s Cfg, liveness: &Liveness, shape: &Shape) -> Self {
        let is_head = |block: Block| method.block(block).extends.is_none();
        let live = Lists::build(method.blocks(), |block, locals| {
            let live = liveness.live_in(block).filter(|local| method.local(*local).ty.bits() <= 64);
            locals.extend(live.filter(|_| is_head(block)));
        });
        let own = Lists::build(method.blocks(), |block, locals| {
            let first = locals.len();
            locals.extend(shape.nodes_of(block).iter().filter_map(|node| match method.payload(*node) {
                Payload::Local(local) => Some(local),
                _ => None,
            }));
            locals[first..].sort_unstable();
            let mut kept = first;
            for index in first..locals.len() {
                if kept == first || locals[kept - 1] != locals[index] {
                    locals[kept] = locals[index];
                    kept += 1;
                }
            }
            locals.truncate(kept);
        });
        let mut leads_on = EntityVec::filled(false, method.block_count());
        for block in cfg.order() {
            leads_on[method.head(*block)] |= cfg.successors(*block).iter().any(|edge| is_head(edge.block));
        }
        let sent = EntityVec::filled(Sent::default(), method.block_count());
        Sends { method, cfg, live, own, leads_on, sent }
    }

    /// What an extended block sends of whose head this is known.
    pub(super) fn along(&mut self, known: &mut Known<'_, '_>, head: Block, state: &State) {
        if !self.leads_on[head] {
            return;
        }
        let facts = self.own.of(head).iter().filter_map(|own| {
            let found = state.facts.binary_search_by_key(own, |(local, _)| *local);
            found.ok().map(|index| &state.facts[index])
        });
        let began = self.sent[head].began.as_ref();
        if began.is_none_or(|began| !began.facts.iter().eq(facts.clone())) {
            let began = State { facts: facts.copied().collect(), bounds: Vec::new() };
            let mut sent = std::mem::take(&mut self.sent[head]);
            sent.arrivals.clear();
            sent.facts.clear();
            sent.bounds.clear();
            let own = self.own.of(head);
            let mut recorder =
                Recorder { method: self.method, cfg: self.cfg, live: &self.live, own, sent, handled: 0 };
            walk(known, head, &began, &mut recorder);
            recorder.sent.began = Some(began);
            self.sent[head] = recorder.sent;
        }
    }

    /// What an extended block sent last.
    pub(super) fn last(&self, head: Block) -> &Sent {
        &self.sent[head]
    }

    /// Joins what is known at a head with what the last walk along another sent there, where this was known. Whether that changed it.
    pub(super) fn join(
        &self,
        from: (Block, &State),
        arrival: &Arrival,
        to: &mut Option<State>,
        widens: bool,
    ) -> bool {
        let (head, passed) = (from.0, from.1.facts.as_slice());
        let sent = &self.sent[head].facts[arrival.facts.clone()];
        let mut arriving = Arriving { own: self.own.of(head), sent, passed };
        let Some(state) = to else {
            let live = self.live.of(arrival.to).iter();
            let facts = live.filter_map(|local| arriving.of(*local).map(|fact| (*local, *fact))).collect();
            *to = Some(State { facts, bounds: Vec::new() });
            return true;
        };
        let mut has_changed = false;
        state.facts.retain_mut(|(local, fact)| {
            let Some(new) = arriving.of(*local) else {
                has_changed = true;
                return false;
            };
            if new == fact {
                return true;
            }
            let joined = if widens { fact.widen(new) } else { fact.join(new) };
            has_changed |= joined != *fact;
            *fact = joined;
            !fact.is_any()
        });
        has_changed
    }
}

/// What arrives of locals, asked in their order: of own ones what was sent, of others what was known.
struct Arriving<'w> {
    own: &'w [Local],
    sent: &'w [(Local, Fact)],
    passed: &'w [(Local, Fact)],
}

impl<'w> Arriving<'w> {
    fn of(&mut self, local: Local) -> Option<&'w Fact> {
        while let [first, rest @ ..] = self.own
            && *first < local
        {
            self.own = rest;
        }
        let facts = if self.own.first() == Some(&local) { &mut self.sent } else { &mut self.passed };
        while let [first, rest @ ..] = *facts
            && first.0 < local
        {
            *facts = rest;
        }
        facts.first().filter(|first| first.0 == local).map(|(_, fact)| fact)
    }
}

/// Looks on, and notes what is sent.
struct Recorder<'r, 'a> {
    method: &'r Method<'a>,
    cfg: &'r Cfg,
    live: &'r Lists<Local>,
    own: &'r [Local],
    sent: Sent,
    /// The first of the arrivals at handlers of the block in hand.
    handled: usize,
}

impl Recorder<'_, '_> {
    fn arrive(&mut self, known: &Known<'_, '_>, from: Block, to: Block) {
        let first = self.sent.facts.len();
        let live = self.live.of(to);
        for local in self.own {
            let fact = known.fact_of_local(*local);
            if !fact.is_any() && live.binary_search(local).is_ok() {
                self.sent.facts.push((*local, *fact));
            }
        }
        let facts = first..self.sent.facts.len();
        let bounds = self.sent.bounds.len()..self.sent.bounds.len();
        self.sent.arrivals.push(Arrival { from, to, facts, bounds });
    }

    /// Notes bounds between live locals that an edge brings.
    fn relate(&mut self, known: &Known<'_, '_>, to: Block) {
        if known.bounds().next().is_none() || self.cfg.predecessors(to).iter().any(|edge| edge.is_exception())
        {
            return;
        }
        // What live locals hold, as far as it is a number: the simplest reading and the offset from it.
        let mut held = Vec::new();
        let live = self.live.of(to);
        for local in self.own.iter().filter(|local| live.binary_search(local).is_ok()).take(MAX_LOCALS) {
            let fact = known.fact_of_local(*local);
            let value = known.value_of(*local);
            if fact.ty().is_int() && fact.as_constant().is_none() && known.may_be_bounded(value) {
                for is_signed in [false, true] {
                    let (reading, offset) = known.simplest(Reading::new(value, is_signed));
                    held.push((reading, offset, (*local, is_signed)));
                }
            }
        }
        let first = self.sent.bounds.len();
        for bound in known.bounds().rev().take(MAX_RECENT) {
            for (_, below, less) in held.iter().filter(|(reading, ..)| *reading == bound.less) {
                for (_, above, more) in held.iter().filter(|(reading, ..)| *reading == bound.more) {
                    let found = &mut self.sent.bounds;
                    let bound = LocalBound { less: *less, gap: bound.gap - below + above, more: *more };
                    let is_new = less.0 != more.0 && !found[first..].contains(&bound);
                    if is_new && found.len() - first < MAX_BOUNDS {
                        found.push(bound);
                    }
                }
            }
        }
        if let Some(arrival) = self.sent.arrivals.last_mut() {
            arrival.bounds = first..self.sent.bounds.len();
        }
    }
}

impl Visitor for Recorder<'_, '_> {
    fn block(&mut self, known: &mut Known<'_, '_>, block: Block) {
        self.handled = self.sent.arrivals.len();
        let cfg = self.cfg;
        for edge in cfg.successors(block).iter().filter(|edge| edge.is_exception()) {
            self.arrive(known, block, edge.block);
        }
    }

    fn root(&mut self, known: &mut Known<'_, '_>, _: Block, _: u32, root: Node) {
        let (method, sent) = (self.method, &mut self.sent);
        let Some((local, value)) = set(method, root) else { return };
        for arrival in &sent.arrivals[self.handled..] {
            let facts = &mut sent.facts[arrival.facts.clone()];
            if let Ok(index) = facts.binary_search_by_key(&local, |(local, _)| *local) {
                facts[index].1 = facts[index].1.join(known.fact(value));
            }
        }
    }

    fn edge(&mut self, known: &mut Known<'_, '_>, from: Block, to: Block) {
        if self.method.block(to).extends.is_none() {
            self.arrive(known, from, to);
            self.relate(known, to);
        }
    }
}
