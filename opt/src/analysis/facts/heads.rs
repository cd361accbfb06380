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
//! *Cost.* About one and a half walks along each extended block, more for those in loops ([`Sends`] remembers what walks lead to), each linear
//! in its nodes and the live locals with facts. [`MAX_CHANGES`] bounds how often a head changes, [`MAX_BOUNDS`] how many bounds it has.

use std::collections::BTreeSet;

use dagwood_il::cfg::Loop;
use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Cfg, Dominators, Liveness, Loops, Method};

use super::counters::Counters;
use super::known::Known;
use super::sends::{Arrival, MAX_BOUNDS, Sends};
use super::shape::Shape;
use super::walk::{State, Visitor, walk};

/// How often what is known at a head may change before all of it is given up.
pub const MAX_CHANGES: u32 = 16;
/// After how many changes of a head facts widen.
const PATIENCE: u32 = 2;

/// What else is known of a method's graph.
pub(super) struct Graph<'g> {
    pub(super) cfg: &'g Cfg,
    pub(super) liveness: &'g Liveness,
    pub(super) dominators: &'g Dominators,
    pub(super) loops: &'g Loops,
}

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
    pub(super) fn compute(known: &mut Known<'_, '_>, shape: &Shape, graph: &Graph<'_>) -> Heads {
        let (method, cfg) = (known.method(), graph.cfg);
        let mut sends = Sends::new(method, cfg, graph.liveness, shape);
        let order = loops_together(graph.loops, heads(method, cfg));
        let (mut states, has_widened) = Flow::new(cfg, method, &order).ascend(known, &mut sends);
        // Without loops each head is met once, with all that is ever known there.
        if heads(method, cfg).any(|head| is_entered_again(cfg, head)) {
            let counters = Counters::compute(method, graph);
            let mut returned: States = EntityVec::filled(None, method.block_count());
            let sweeps = if has_widened { 2 } else { 1 };
            for _ in 0..sweeps {
                (states, returned) = sweep(known, &mut sends, cfg, |head, arrived| {
                    let Some(arrived) = arrived else {
                        return states[head].clone().filter(|_| is_entered_from_behind(graph, head));
                    };
                    let first = counters.is_header(head).then(|| arrived.clone());
                    let is_met_again = first.is_some() || returned[head].is_some();
                    let mut state = match (&states[head], &returned[head]) {
                        (Some(_), Some(returned)) => State::either(arrived, Some(returned)),
                        (Some(state), None) if is_met_again || is_entered_again(cfg, head) => state.clone(),
                        _ => arrived,
                    };
                    if let Some(first) = first {
                        counters.improve(method, head, &first, &mut state);
                    }
                    Some(state)
                });
            }
        }
        believe(known, &sends, cfg, &mut states);
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

/// These heads, which stand in the order of the graph, so that those of a loop come directly after its header: what follows a loop is looked
/// at when all is known of the loop.
fn loops_together(loops: &Loops, heads: impl Iterator<Item = Block>) -> Vec<Block> {
    let mut members: EntityVec<Loop, Vec<Block>> = EntityVec::filled(Vec::new(), loops.loops().count());
    let mut outside = Vec::new();
    for head in heads {
        let inside = loops.innermost(head);
        let around = inside.filter(|inside| loops.data(*inside).header == head);
        match around.map_or(inside, |own| loops.data(own).parent) {
            Some(which) => members[which].push(head),
            None => outside.push(head),
        }
    }
    let (mut order, mut lists) = (Vec::new(), vec![outside.into_iter()]);
    while let Some(list) = lists.last_mut() {
        let Some(head) = list.next() else {
            lists.pop();
            continue;
        };
        order.push(head);
        if let Some(own) = loops.innermost(head).filter(|own| loops.data(*own).header == head) {
            lists.push(std::mem::take(&mut members[own]).into_iter());
        }
    }
    order
}

/// What is known of each head, as far as it is reached.
type States = EntityVec<Block, Option<State>>;

/// Facts on their way up, from the first that arrived until nothing changes.
struct Flow<'f> {
    cfg: &'f Cfg,
    /// Heads in the order in which they are looked at, and where each one stands in it.
    order: &'f [Block],
    places: EntityVec<Block, u32>,
    arrived: States,
    changes: EntityVec<Block, u32>,
    /// The places of heads of which more is to be sent.
    pending: BTreeSet<u32>,
    has_widened: bool,
}

impl<'f> Flow<'f> {
    fn new(cfg: &'f Cfg, method: &Method<'_>, order: &'f [Block]) -> Self {
        let mut places = EntityVec::filled(0, method.block_count());
        for (place, head) in (0..).zip(order) {
            places[*head] = place;
        }
        Flow {
            cfg,
            order,
            places,
            arrived: at_entry(cfg, method),
            changes: EntityVec::filled(0, method.block_count()),
            pending: BTreeSet::from([0]),
            has_widened: false,
        }
    }

    /// Carries facts until nothing changes. What has arrived then, and whether some of it was widened on the way.
    fn ascend(mut self, known: &mut Known<'_, '_>, sends: &mut Sends<'_, '_>) -> (States, bool) {
        while let Some(place) = self.pending.pop_first() {
            let head = self.order[place as usize];
            let Some(state) = self.arrived[head].take() else { continue };
            sends.along(known, head, &state);
            let arrivals = &sends.last(head).arrivals;
            if arrivals.iter().any(|arrival| arrival.to == head) {
                self.arrived[head] = Some(state.clone());
            }
            for arrival in arrivals {
                self.arrive(sends, (head, &state), arrival);
            }
            self.arrived[head].get_or_insert(state);
        }
        (self.arrived, self.has_widened)
    }

    fn arrive(&mut self, sends: &Sends<'_, '_>, from: (Block, &State), arrival: &Arrival) {
        let to = arrival.to;
        let patience = if is_back(self.cfg, arrival) { PATIENCE } else { MAX_CHANGES / 2 };
        let widens = self.changes[to] >= patience;
        if !sends.join(from, arrival, &mut self.arrived[to], widens) {
            return;
        }
        self.changes[to] += 1;
        self.has_widened |= widens;
        if self.changes[to] > MAX_CHANGES {
            self.arrived[to] = Some(State::default());
        }
        self.pending.insert(self.places[to]);
    }
}

/// The states before anything was sent: nothing is known where the method is entered.
fn at_entry(cfg: &Cfg, method: &Method<'_>) -> States {
    let mut states = EntityVec::filled(None, method.block_count());
    if let Some(entry) = cfg.order().first() {
        states[*entry] = Some(State::default());
    }
    states
}

/// Whether something is sent back to a head that comes before.
fn is_back(cfg: &Cfg, arrival: &Arrival) -> bool {
    cfg.rank(arrival.from) >= cfg.rank(arrival.to)
}

/// Whether an edge leads back to a head.
fn is_entered_again(cfg: &Cfg, head: Block) -> bool {
    cfg.predecessors(head).iter().any(|edge| cfg.rank(edge.block) >= cfg.rank(head))
}

/// Whether an edge leads back to a head from where control may be without having come by it: a loop has another entry.
fn is_entered_from_behind(graph: &Graph<'_>, head: Block) -> bool {
    let is_behind =
        |from: Block| graph.cfg.rank(from) >= graph.cfg.rank(head) && !graph.dominators.dominates(head, from);
    graph.cfg.predecessors(head).iter().any(|edge| is_behind(edge.block))
}

/// Goes by each extended block once, in their order, with what `state` says of its head, given what has arrived by then, if anything has.
/// If that is true of each head, so is what arrives. What was said, and what came back by edges that lead back.
fn sweep(
    known: &mut Known<'_, '_>,
    sends: &mut Sends<'_, '_>,
    cfg: &Cfg,
    state: impl Fn(Block, Option<State>) -> Option<State>,
) -> (States, States) {
    let method = known.method();
    let mut arrived = at_entry(cfg, method);
    let mut used: States = EntityVec::filled(None, method.block_count());
    let mut returned: States = EntityVec::filled(None, method.block_count());
    for head in heads(method, cfg) {
        let Some(state) = state(head, arrived[head].take()) else { continue };
        sends.along(known, head, &state);
        for arrival in &sends.last(head).arrivals {
            let states = if is_back(cfg, arrival) { &mut returned } else { &mut arrived };
            sends.join((head, &state), arrival, &mut states[arrival.to], false);
        }
        used[head] = Some(state);
    }
    (used, returned)
}

/// Finds the bounds that hold between locals at heads, among those that were sent.
fn believe(known: &mut Known<'_, '_>, sends: &Sends<'_, '_>, cfg: &Cfg, states: &mut States) {
    let method = known.method();
    for head in heads(method, cfg).filter(|head| states[*head].is_some()).collect::<Vec<_>>() {
        let sent = sends.last(head);
        for arrival in &sent.arrivals {
            let Some(State { bounds, .. }) = &mut states[arrival.to] else { continue };
            for bound in sent.bounds(arrival) {
                if bounds.len() < MAX_BOUNDS && !bounds.contains(bound) {
                    bounds.push(*bound);
                }
            }
        }
    }
    // Each edge that leads to bounds is asked, but those that sent all of them.
    let has_doubt = |head: &Block| {
        let sent = sends.last(*head);
        sent.arrivals.iter().any(|arrival| {
            let believed = states[arrival.to].iter().flat_map(|state| &state.bounds);
            believed.into_iter().any(|bound| !sent.bounds(arrival).contains(bound))
        })
    };
    let doubted = heads(method, cfg).filter(|head| states[*head].is_some() && has_doubt(head));
    let mut pending: BTreeSet<u32> = doubted.filter_map(|head| cfg.rank(head)).collect();
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
