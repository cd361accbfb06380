//! Global common subexpressions, redundant loads and redundant checks: what has been computed on every path to where it is computed
//! again is not computed again.
//!
//! ```text
//!   b1: %1 = load @field [%a]              b1: %1 = load @field [%a]; set $kept, %1
//!       br %c, b2, b3                          br %c, b2, b3
//!   b4: %2 = load @field [entry $a]   ⇒    b4: %2 = entry $kept
//! ```
//!
//! [`ValueNumbers`] says what has one value. A walk along the dominator tree knows for each number where it was computed last; a value of
//! the same extended block is used as it is, one of another through a local: one that holds the value already, or a new one.
//!
//! * A load is the value that a store put there, too. A check that has been passed is gone, whatever its reason.
//! * What is a constant by its number becomes one.
//! * What floats is left where computing it costs less than [`MIN_WEIGHT`], unless a local holds it: a register that is kept
//!   across blocks is a cost, too. It is left in blocks that never run, so that nothing lives longer for them.
//!
//! # Guarantees
//!
//! Nothing is computed where it was not. What a handler's block may not have seen is not used by it: see [`Ends`].
//!
//! # Cost
//!
//! Linear in nodes, besides the analysis.

use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::edit::{Edits, Point};
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{
    Block, Cfg, Dominators, Frequency, Liveness, Local, Method, Node, Opcode, Payload, Properties, SourcePos,
    Type,
};

use crate::analysis::frontiers::{Ends, Visit, dominator_walk};
use crate::analysis::memory::read_place;
use crate::analysis::reaching::{Definition, Reaching};
use crate::analysis::value_numbers::{Number, ValueNumbers};
use crate::analysis::weights::Weights;
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use crate::passes::dead_store;

/// The pass.
pub const PASS: Pass = Pass {
    name: "gvn",
    summary: "use values, loads and checks of dominating blocks in place of computing them again",
    run,
};

/// Cycles that computing a floating value must take, with what it is computed from, to be kept in a local from block to block.
pub const MIN_WEIGHT: u32 = 3;

/// How many places where a value was computed are looked at.
const MAX_LEADERS: usize = 8;

/// What is used in place of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leader {
    /// A constant.
    Constant(Payload),
    /// A node of the same extended block.
    Here(Node),
    /// What a local holds at the head.
    Held(Local),
    /// A node of another extended block: it must be kept.
    Kept(Node, Point),
    /// Of a check that was passed in another extended block: its operand.
    Proven,
}

/// A node that is not needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redundant {
    pub(super) node: Node,
    block: Block,
    leader: Leader,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let found = find(method, cx);
    let mut edits = Edits::new();
    collect(method, cx, &mut edits, &found);
    cx.apply(method, edits)
}

/// What is not needed.
pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>) -> Vec<Redundant> {
    let numbers = cx.get::<Option<ValueNumbers>>(method);
    let (reaching, liveness) =
        (cx.get::<Option<Reaching>>(method), cx.get::<Result<Liveness, TooManyFacts>>(method));
    let (Some(numbers), Some(reaching), Ok(liveness)) = (&*numbers, &*reaching, &*liveness) else {
        let first = method.blocks().next();
        first.into_iter().for_each(|block| cx.missed(block, || "the method is too intricate".into()));
        return Vec::new();
    };
    let (cfg, dominators) = (cx.cfg(method), cx.dominators(method));
    let (ends, weights) = (cx.get::<Ends>(method), cx.get::<Weights>(method));
    if !cx.spend(method.node_count() as u64) {
        return Vec::new();
    }
    let mut walk = Walk {
        method,
        numbers,
        reaching,
        liveness,
        ends: &ends,
        weights: &weights,
        proves_divisor: proven_divisors(method),
        leaders: Vec::new(),
        latest: vec![NONE; numbers.bound()],
        holders: vec![None; numbers.bound()],
        locals: EntityVec::filled(None, method.locals().len()),
        undo: Vec::new(),
        is_computed: EntityVec::filled(false, method.node_count()),
        path: Vec::new(),
        depths: EntityVec::filled(0, method.block_count()),
        pending: Vec::new(),
        found: Vec::new(),
        missed: Vec::new(),
    };
    walk.run(&cfg, &dominators);
    let (found, missed) = (walk.found, walk.missed);
    for (block, node, why) in missed {
        cx.missed((block, node), || why.into());
    }
    found
}

/// Asks for each rewrite, and says what it is.
pub(super) fn collect(method: &mut Method<'_>, cx: &mut PassCx<'_>, edits: &mut Edits, found: &[Redundant]) {
    let mut served = Vec::new();
    let mut kept: Vec<(Node, Local)> = Vec::new();
    for Redundant { node, block, leader } in found {
        let opcode = method.opcode(*node);
        let allowed = cx.allows((*block, *node), || match leader {
            Leader::Constant(_) => format!("`{opcode}` is a constant"),
            Leader::Here(earlier) => format!("`{opcode}` has the value of {earlier}"),
            Leader::Held(local) => format!("`{opcode}` has the value of ${}", method.local(*local).name),
            Leader::Kept(earlier, at) => format!("`{opcode}` has the value of {earlier} in {}", at.block),
            Leader::Proven => format!("`{opcode}` has been passed before"),
        });
        if !allowed {
            continue;
        }
        let is_stored = match leader {
            Leader::Here(known) | Leader::Kept(known, _) => !method.opcode(*known).has(Properties::READS),
            Leader::Constant(_) => true,
            Leader::Held(_) | Leader::Proven => false,
        };
        if is_stored && read_place(method, *node).is_some() {
            served.push(*block);
        }
        let ty = method.ty(*node);
        let with = match *leader {
            Leader::Constant(payload) => Some(method.add_node(Opcode::Const, ty, &[], payload)),
            Leader::Here(earlier) => Some(earlier),
            Leader::Held(local) => Some(method.add_node(Opcode::Entry, ty, &[], Payload::Local(local))),
            Leader::Kept(earlier, at) => {
                let known = kept.iter().rev().take(MAX_KEPT).find(|(node, _)| *node == earlier);
                let local = known.map(|(_, local)| *local).unwrap_or_else(|| {
                    let local = method.add_local("kept", ty);
                    let set = method.add_node(Opcode::Set, Type::Void, &[earlier], Payload::Local(local));
                    edits.insert(at, set, SourcePos::NONE);
                    kept.push((earlier, local));
                    local
                });
                Some(method.add_node(Opcode::Entry, ty, &[], Payload::Local(local)))
            }
            Leader::Proven => method.operands(*node).first().copied().filter(|_| ty != Type::Void),
        };
        if let Some(with) = with.filter(|_| ty != Type::Void) {
            edits.replace(*node, with);
        }
        if method.is_root(*node) {
            edits.remove(*node);
        }
    }
    dead_store::demand(method, cx, &served);
}

/// How many of the values that were kept last are looked at for one that is there already.
const MAX_KEPT: usize = 32;

/// The checks because of which a division floats.
fn proven_divisors(method: &Method<'_>) -> EntityVec<Node, bool> {
    let mut found = EntityVec::filled(false, method.node_count());
    for node in method.nodes() {
        if method.opcode(node).has(Properties::ROOT_UNLESS_PROVEN)
            && let Some(divisor) = method.operands(node).get(1)
        {
            found[*divisor] = true;
        }
    }
    found
}

const NONE: u32 = u32::MAX;

/// Where a value was computed.
#[derive(Clone, Copy)]
struct Computed {
    node: Node,
    /// Before the root at this point.
    at: Point,
    number: Number,
    /// The one of the same number before.
    before: u32,
}

/// What a local holds on the path in hand.
#[derive(Clone, Copy)]
struct Holds {
    number: Number,
    /// Twice how deep in the dominator tree it has come to hold it, and one more if that is below the block's head.
    since: usize,
}

/// What is taken back when a block is left.
enum Undo {
    Leader,
    Computed(Node),
    Holds(Local, Option<Holds>),
    Holder(Number, Option<Local>),
}

struct Walk<'w, 'a> {
    method: &'w Method<'a>,
    numbers: &'w ValueNumbers,
    reaching: &'w Reaching,
    liveness: &'w Liveness,
    ends: &'w Ends,
    weights: &'w Weights,
    proves_divisor: EntityVec<Node, bool>,
    leaders: Vec<Computed>,
    /// By number: its last leader.
    latest: Vec<u32>,
    /// By number: a local that was given it.
    holders: Vec<Option<Local>>,
    locals: EntityVec<Local, Option<Holds>>,
    undo: Vec<Undo>,
    /// Whether a floating node has been computed on the path in hand.
    is_computed: EntityVec<Node, bool>,
    /// The dominators of the block in hand, and it.
    path: Vec<Block>,
    depths: EntityVec<Block, usize>,
    pending: Vec<(Node, bool)>,
    found: Vec<Redundant>,
    missed: Vec<(Block, Node, &'static str)>,
}

impl Walk<'_, '_> {
    fn run(&mut self, cfg: &Cfg, dominators: &Dominators) {
        let mut marks = Vec::new();
        for visit in dominator_walk(cfg, dominators) {
            match visit {
                Visit::Enter(block) => {
                    marks.push(self.undo.len());
                    self.depths[block] = self.path.len();
                    self.path.push(block);
                    self.block(block);
                }
                Visit::Leave(_) => {
                    self.path.pop();
                    let mark = marks.pop().unwrap_or_default();
                    self.back_to(mark);
                }
            }
        }
    }

    fn back_to(&mut self, mark: usize) {
        while self.undo.len() > mark
            && let Some(undo) = self.undo.pop()
        {
            match undo {
                Undo::Leader => {
                    if let Some(leader) = self.leaders.pop() {
                        self.latest[leader.number.index()] = leader.before;
                    }
                }
                Undo::Computed(node) => self.is_computed[node] = false,
                Undo::Holds(local, before) => self.locals[local] = before,
                Undo::Holder(number, before) => self.holders[number.index()] = before,
            }
        }
    }

    fn block(&mut self, block: Block) {
        let method = self.method;
        let depth = 2 * self.depths[block];
        if depth == 0 {
            for local in method.locals().take(method.param_count()) {
                self.hold(local, self.numbers.defined(method, Definition::Initial(local)), depth);
            }
        }
        for merge in self.reaching.merges_at(block) {
            let number = self.numbers.defined(method, Definition::Merge(merge));
            self.hold(self.reaching.local(merge), number, depth);
        }
        for (position, root) in (0..).zip(method.roots(block)) {
            let at = Point { block, position };
            for operand in method.value_operands(root.node) {
                self.need(*operand, at);
            }
            self.root(root.node, at);
            if let (Opcode::Set, Payload::Local(local)) =
                (method.opcode(root.node), method.payload(root.node))
            {
                let number = method.operands(root.node).first().and_then(|value| self.numbers.number(*value));
                self.hold(local, number, depth + 1);
            }
        }
    }

    /// A local has come to hold a value.
    fn hold(&mut self, local: Local, number: Option<Number>, since: usize) {
        let holds = number.map(|number| Holds { number, since });
        self.undo.push(Undo::Holds(local, self.locals[local]));
        self.locals[local] = holds;
        if let Some(number) = number {
            let before = self.holders[number.index()].replace(local);
            self.undo.push(Undo::Holder(number, before));
        }
    }

    fn root(&mut self, node: Node, at: Point) {
        let Some(number) = self.numbers.number(node) else { return };
        let method = self.method;
        let is_known = method.opcode(node).has(Properties::FUNCTION) || read_place(method, node).is_some();
        if is_known && let Some(leader) = self.leader(node, number, at.block) {
            match leader {
                Leader::Kept(..) | Leader::Held(_) if self.is_cold(at.block) => {}
                Leader::Proven if self.proves_divisor[node] => {
                    self.missed.push((at.block, node, "a division in this block needs the proof"));
                }
                _ => return self.found.push(Redundant { node, block: at.block, leader }),
            }
        }
        self.lead(node, number, Point { position: at.position + 1, ..at });
    }

    /// A value is used by the root at a point: what floats is computed there, unless it has been.
    fn need(&mut self, node: Node, at: Point) {
        self.pending.push((node, false));
        while let Some((node, is_ready)) = self.pending.pop() {
            let Some(number) = self.numbers.number(node) else { continue };
            if is_ready {
                self.lead(node, number, at);
                continue;
            }
            if self.is_computed[node] || self.method.is_root(node) {
                continue;
            }
            self.is_computed[node] = true;
            self.undo.push(Undo::Computed(node));
            if let Some(leader) = self.floating_leader(node, number, at.block) {
                self.found.push(Redundant { node, block: at.block, leader });
                continue;
            }
            self.pending.push((node, true));
            self.pending.extend(self.method.operands(node).iter().map(|operand| (*operand, false)));
        }
    }

    /// What is to be used in place of a floating node, if that is better.
    fn floating_leader(&mut self, node: Node, number: Number, block: Block) -> Option<Leader> {
        let method = self.method;
        let weight = self.weights.of(node);
        let is_entry = method.opcode(node) == Opcode::Entry;
        if weight == 0 && !is_entry {
            return None;
        }
        let leader = self.leader(node, number, block)?;
        match leader {
            Leader::Constant(_) => Some(leader),
            // Where its operands are the same nodes, the copy makes it one; where they come to be, too.
            Leader::Here(_) | Leader::Proven => None,
            _ if is_entry || self.is_cold(block) => None,
            Leader::Held(_) => Some(leader),
            Leader::Kept(..) if weight >= MIN_WEIGHT => Some(leader),
            Leader::Kept(..) => {
                self.missed.push((block, node, "it is as cheap to compute it again as to keep it"));
                None
            }
        }
    }

    fn is_cold(&self, block: Block) -> bool {
        self.method.block(block).frequency == Some(Frequency::COLD)
    }

    fn lead(&mut self, node: Node, number: Number, at: Point) {
        let index = u32::try_from(self.leaders.len()).expect("there are fewer than 2^32 leaders");
        let before = std::mem::replace(&mut self.latest[number.index()], index);
        self.leaders.push(Computed { node, at, number, before });
        self.undo.push(Undo::Leader);
    }

    /// What has the number of `node` where `block` is executed.
    fn leader(&self, node: Node, number: Number, block: Block) -> Option<Leader> {
        let method = self.method;
        if let Some(constant) = self.constant(number).filter(|payload| *payload != method.payload(node)) {
            return Some(Leader::Constant(constant));
        }
        let head = method.head(block);
        let mut elsewhere = None;
        let mut index = self.latest[number.index()];
        for _ in 0..MAX_LEADERS {
            let Some(leader) = self.leaders.get(index as usize) else { break };
            index = leader.before;
            let below = self.path.get(self.depths[leader.at.block] + 1);
            if !below.is_none_or(|below| self.ends.has_happened(leader.at.block, leader.at.position, *below))
            {
                continue;
            }
            if method.head(leader.at.block) == head {
                return Some(Leader::Here(leader.node));
            }
            elsewhere.get_or_insert(*leader);
        }
        let elsewhere = elsewhere?;
        if method.opcode(node).has(Properties::PROVES) || method.ty(node) == Type::Void {
            return Some(Leader::Proven);
        }
        Some(match self.holder(number, head) {
            Some(local) => Leader::Held(local),
            None => Leader::Kept(elsewhere.node, elsewhere.at),
        })
    }

    fn constant(&self, number: Number) -> Option<Payload> {
        let first = (number.index() < self.method.node_count()).then(|| Node::new(number.index()))?;
        (self.method.opcode(first) == Opcode::Const).then(|| self.method.payload(first))
    }

    /// A local that holds a value at a head.
    fn holder(&self, number: Number, head: Block) -> Option<Local> {
        let local = self.holders[number.index()]?;
        let holds = self.locals[local]?;
        let is_there = holds.number == number && holds.since <= 2 * self.depths[head];
        (is_there && self.liveness.is_live_in(head, local)).then_some(local)
    }
}
