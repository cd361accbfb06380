//! The expressions of a method that may be worth computing elsewhere, and what happens to them where.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use dagwood_il::edit::Point;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{
    Block, Cfg, Dominators, Loops, Method, Module, Node, Opcode, Payload, Place, Properties, effects,
};
use rustc_hash::FxHasher;

use super::point;
use crate::analysis::available::{Happening, MAX_EXPRESSIONS, Occurrence, Set};
use crate::analysis::births::{Births, younger};
use crate::analysis::location::{Location, stored_value};
use crate::analysis::memory::{Memory, read_place};
use crate::analysis::reaching::{Definition, Reaching};
use crate::analysis::uses::Uses;
use crate::analysis::value_numbers::{Number, ValueNumbers};
use crate::analysis::weights::{SLOW, Weights};
use crate::cx::PassCx;
use crate::passes::gvn::Redundant;

/// Nodes that a copy of an expression may have.
const MAX_NODES: usize = 12;

/// What an expression is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// What a piece of memory holds.
    Memory { place: Place, location: Location },
    /// A floating value.
    Value,
}

/// A place where an expression's value is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// What computes or stores it.
    pub(super) node: Node,
    /// From here on the value is there.
    pub(super) point: Point,
    /// The value.
    pub(super) value: Node,
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub(super) kind: Kind,
    /// Where it is computed, in the order of the blocks; at least once.
    pub(super) computed: Vec<Use>,
    /// Where it is stored.
    pub(super) provided: Vec<Use>,
    /// Since when its operands are what they are.
    pub(super) birth: Option<Point>,
    /// About how many cycles it takes.
    pub(super) weight: u32,
    /// Whether it may be computed in vain.
    pub(super) is_safe: bool,
    depth: u32,
    /// Where it was computed or stored first.
    first_head: Block,
    /// Whether that happens in several extended blocks, or it is computed in a loop that does not change what it is computed from.
    is_worth_it: bool,
}

/// The expressions, and what all of them are asked of.
pub(super) struct Expressions {
    pub(super) list: Vec<Expression>,
    pub(super) occurrences: Vec<Occurrence>,
    pub(super) cfg: Rc<Cfg>,
    pub(super) dominators: Rc<Dominators>,
    pub(super) loops: Rc<Loops>,
    births: Births,
    reaching: Rc<Option<Reaching>>,
}

impl Expressions {
    /// Finds them; none if there are none, or the method is too intricate.
    pub(super) fn find(
        method: &Method<'_>,
        cx: &mut PassCx<'_>,
        redundant: &[Redundant],
    ) -> Option<Expressions> {
        let (numbers, memory) = (cx.get::<Option<ValueNumbers>>(method), cx.get::<Option<Memory>>(method));
        let (uses, reaching) = (cx.get::<Uses>(method), cx.get::<Option<Reaching>>(method));
        let (cfg, dominators, loops) = (cx.cfg(method), cx.dominators(method), cx.loops(method));
        let (numbers, memory) = (numbers.as_ref().as_ref()?, memory.as_ref().as_ref()?);
        let known = reaching.as_ref().as_ref()?;
        let weights = cx.get::<Weights>(method);
        if !cx.spend(3 * method.node_count() as u64 / 2) {
            return None;
        }
        let births = Births::compute(method, &cfg, &dominators, &uses, known, memory, numbers);
        let mut is_redundant = EntityVec::filled(false, method.node_count());
        redundant.iter().for_each(|redundant| is_redundant[redundant.node] = true);
        let mut finder = Finder {
            method,
            numbers,
            loops: &loops,
            dominators: &dominators,
            births: &births,
            is_shared: shared(method, numbers, &weights),
            weights: &weights,
            is_redundant,
            known: HashMap::default(),
            seen: EntityVec::filled(None, method.node_count()),
            pending: Vec::new(),
            list: Vec::new(),
        };
        for block in cfg.order() {
            finder.block(*block);
        }
        let mut list = finder.list;
        list.retain(|expression| expression.is_worth_it && !expression.computed.is_empty());
        list.sort_by_key(|expression| std::cmp::Reverse(expression.depth));
        if let Some(first) = list.get(MAX_EXPRESSIONS) {
            let (at, others) = (first.computed[0], list.len() - MAX_EXPRESSIONS - 1);
            cx.missed((at.point.block, at.node), || {
                format!("there are too many expressions: this one is not looked at, nor {others} in no deeper loops")
            });
        }
        list.truncate(MAX_EXPRESSIONS);
        if list.is_empty() {
            return None;
        }
        let occurrences = occurrences(cx.module(), method, &cfg, numbers, &mut list);
        Some(Expressions { list, occurrences, cfg, dominators, loops, births, reaching })
    }

    /// A node that computes an expression and can be made from what locals hold wherever `join` is entered, if there is one.
    ///
    /// What it reads was set above the join, and the join is above it: so nothing else can have been set since on the way from the one
    /// to the other, or it would reach the node, too.
    pub(super) fn sample(&self, method: &Method<'_>, index: usize, join: Block) -> Option<Node> {
        let mut below = self.list[index].computed.iter();
        let below = below.find(|used| self.dominators.dominates(join, used.point.block))?.node;
        let reaching = self.reaching.as_ref().as_ref()?;
        let is_above = |block: Block| block != join && self.dominators.dominates(block, join);
        let mut pending = vec![below];
        let mut count = 0;
        while let Some(node) = pending.pop() {
            count += 1;
            let is_made = match (method.opcode(node), method.payload(node)) {
                (Opcode::Entry, Payload::Local(_)) => match reaching.read(node)? {
                    Definition::Initial(_) => true,
                    Definition::Set(set) => {
                        self.births.behind(set).is_some_and(|place| is_above(place.block))
                    }
                    Definition::Merge(merge) => is_above(reaching.head(merge)),
                },
                _ if node == below => true,
                (opcode, _) => !method.is_root(node) && !opcode.has(Properties::HEAD),
            };
            if !is_made || count > MAX_NODES {
                return None;
            }
            pending.extend(method.operands(node));
        }
        Some(below)
    }
}

/// What a piece of memory is, or the number of a value.
type Key = Result<(Place, Location), Number>;
type Known = HashMap<Key, usize, BuildHasherDefault<FxHasher>>;

struct Finder<'f, 'a> {
    method: &'f Method<'a>,
    numbers: &'f ValueNumbers,
    loops: &'f Loops,
    dominators: &'f Dominators,
    births: &'f Births,
    weights: &'f Weights,
    is_shared: Vec<bool>,
    /// What is going to be known without being computed.
    is_redundant: EntityVec<Node, bool>,
    /// The expressions' indexes.
    known: Known,
    /// By node, the last block in which it was seen.
    seen: EntityVec<Node, Option<Block>>,
    pending: Vec<Node>,
    list: Vec<Expression>,
}

/// Where the finder stands.
#[derive(Clone, Copy)]
struct At {
    block: Block,
    head: Block,
    position: u32,
}

impl Finder<'_, '_> {
    fn block(&mut self, block: Block) {
        let method = self.method;
        let head = method.head(block);
        for (position, root) in (0..).zip(method.roots(block)) {
            self.pending.extend(method.value_operands(root.node));
            while let Some(node) = self.pending.pop() {
                let is_new = self.seen[node].replace(block) != Some(block);
                if is_new && !method.is_root(node) && !self.value(node, At { block, head, position }) {
                    self.pending.extend(method.operands(node));
                }
            }
            self.access(root.node, At { block, head, position: position + 1 });
        }
    }

    /// Notes what a load reads, or that a store puts something where loads may read.
    fn access(&mut self, node: Node, after: At) {
        let method = self.method;
        let (Some(location), Payload::Access(access)) =
            (self.numbers.location(method, node), method.payload(node))
        else {
            return;
        };
        let is_load = read_place(method, node).is_some();
        if !is_load && stored_value(method, node).is_none() {
            return;
        }
        let address = &method.value_operands(node)[usize::from(!is_load)..];
        let is_fixed = |base: Node| {
            let opcode = method.opcode(base);
            method.operands(base).is_empty() && !opcode.has(Properties::HEAD) && opcode != Opcode::Const
        };
        let is_safe = address.len() == 1 && is_fixed(address[0]);
        let of = |number: Option<u32>| number.and_then(|number| self.births.of(Number::new(number as usize)));
        let birth = younger(self.dominators, of(Some(location.base)), of(location.index));
        let place = access.place;
        let expression = Expression::new(Kind::Memory { place, location }, birth, SLOW, is_safe, after.head);
        let is_outside = is_load && self.is_outside(birth, after.block);
        let used = is_load.then_some(Use { node, point: point(after.block, after.position), value: node });
        self.add(Ok((place, location)), expression, after, used, is_outside);
    }

    /// Notes a floating node if it is an expression. Whether it leaves nothing more to be found in what it is computed from.
    fn value(&mut self, node: Node, at: At) -> bool {
        let Some(number) = self.numbers.number(node) else { return false };
        let (weight, birth) = (self.weights.of(node), self.births.of(number));
        if weight == 0 {
            return false;
        }
        let is_outside = self.is_outside(birth, at.block);
        let is_worth_sharing = self.is_shared[number.index()] && weight >= MIN_SHARED_WEIGHT;
        if !is_outside && !is_worth_sharing {
            return false;
        }
        let used = Use { node, point: point(at.block, at.position), value: node };
        let expression = Expression::new(Kind::Value, birth, weight, true, at.head);
        self.add(Err(number), expression, at, Some(used), is_outside);
        is_outside || self.is_redundant[node]
    }

    /// Whether what an expression is computed from is the same in all turns of the loop around a block.
    fn is_outside(&self, birth: Option<Point>, block: Block) -> bool {
        self.loops
            .innermost(block)
            .is_some_and(|around| birth.is_none_or(|birth| !self.loops.contains(around, birth.block)))
    }

    fn add(&mut self, key: Key, new: Expression, at: At, used: Option<Use>, is_outside: bool) {
        let index = *self.known.entry(key).or_insert(self.list.len());
        if index == self.list.len() {
            self.list.push(new);
        }
        let depth = self.loops.depth(at.block);
        let expression = &mut self.list[index];
        expression.is_worth_it |= is_outside || expression.first_head != at.head;
        match used {
            Some(used) if self.is_redundant[used.node] => expression.provided.push(used),
            Some(used) => {
                expression.computed.push(used);
                expression.depth = expression.depth.max(depth);
            }
            None => {}
        }
    }
}

/// Cycles that a value must take to be kept from one path for another.
const MIN_SHARED_WEIGHT: u32 = SLOW;

/// By number, whether it is computed by several floating nodes.
fn shared(method: &Method<'_>, numbers: &ValueNumbers, weights: &Weights) -> Vec<bool> {
    let mut seen = vec![false; numbers.bound()];
    let mut is_shared = vec![false; numbers.bound()];
    for node in method.nodes().filter(|node| weights.of(*node) > 0) {
        if let Some(number) = numbers.number(node) {
            is_shared[number.index()] |= std::mem::replace(&mut seen[number.index()], true);
        }
    }
    is_shared
}

impl Expression {
    fn new(kind: Kind, birth: Option<Point>, weight: u32, is_safe: bool, head: Block) -> Expression {
        Expression {
            kind,
            computed: Vec::new(),
            provided: Vec::new(),
            birth,
            weight,
            is_safe,
            depth: 0,
            first_head: head,
            is_worth_it: false,
        }
    }

    /// Whether computing it where it would not have been computed may fault.
    fn is_risky(&self) -> bool {
        matches!(self.kind, Kind::Memory { .. }) && !self.is_safe
    }
}

/// What happens to the expressions where, by block and position. Notes stores in `list`.
fn occurrences(
    module: &Module,
    method: &Method<'_>,
    cfg: &Cfg,
    numbers: &ValueNumbers,
    list: &mut [Expression],
) -> Vec<Occurrence> {
    let mut found = Vec::new();
    let one = |place: Point, expression: usize, happening| Occurrence {
        block: place.block,
        position: place.position,
        expressions: Set::from_iter([expression]),
        happening,
    };
    let born = list.iter().enumerate().filter_map(|(index, expression)| Some((index, expression.birth?)));
    let born = born.filter(|(_, birth)| cfg.is_reachable(birth.block));
    found.extend(born.map(|(index, birth)| one(birth, index, Happening::Kills)));
    for (index, expression) in list.iter().enumerate() {
        found.extend(expression.computed.iter().map(|used| one(used.point, index, Happening::Computes)));
        found.extend(expression.provided.iter().map(|used| one(used.point, index, Happening::Provides)));
    }
    // What comes after a loop that may never end must not be loaded before it.
    let risky: Set =
        list.iter().enumerate().filter(|(_, one)| one.is_risky()).map(|(index, _)| index).collect();
    if !risky.is_empty() {
        for block in cfg.order().iter().filter(|block| goes_back(cfg, **block)) {
            let end =
                u32::try_from(method.roots(*block).len() - 1).expect("blocks have fewer than 2^32 roots");
            let happening = Happening::Blocks;
            found.push(Occurrence { block: *block, position: end, expressions: risky, happening });
        }
    }
    Pieces::of(list).occurrences(module, method, cfg, numbers, list, &mut found);
    // Stable: of what happens at one place, kills come before computations, and these before what happens to memory.
    found.sort_by_key(|occurrence| (occurrence.block, occurrence.position));
    found.dedup_by(|next, before| {
        let is_same =
            (next.block, next.position, next.happening) == (before.block, before.position, before.happening);
        if is_same {
            before.expressions = before.expressions.or(&next.expressions);
        }
        is_same
    });
    found
}

/// Base, index and scale of a location.
type Address = (u32, Option<u32>, u8);

/// The expressions that are pieces of memory, by what may touch them.
struct Pieces {
    /// By place, those that are there.
    places: Vec<(Place, Set)>,
    /// Those whose addresses are at a known distance from each other, together.
    near: HashMap<Address, Vec<usize>, BuildHasherDefault<FxHasher>>,
}

impl Pieces {
    fn of(list: &[Expression]) -> Pieces {
        let mut pieces = Pieces { places: Vec::new(), near: HashMap::default() };
        for (index, expression) in list.iter().enumerate() {
            let Kind::Memory { place, location } = expression.kind else { continue };
            match pieces.places.iter_mut().find(|(own, _)| *own == place) {
                Some((_, set)) => set.add(index),
                None => pieces.places.push((place, Set::from_iter([index]))),
            }
            let Location { base, index: by, scale, .. } = location;
            pieces.near.entry((base, by, scale)).or_default().push(index);
        }
        pieces
    }

    /// What roots do to them.
    fn occurrences(
        &self,
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        numbers: &ValueNumbers,
        list: &mut [Expression],
        found: &mut Vec<Occurrence>,
    ) {
        if self.places.is_empty() {
            return;
        }
        for block in cfg.order() {
            for (position, root) in (0..).zip(method.roots(*block)) {
                let opcode = method.opcode(root.node);
                if !TOUCHES.iter().any(|property| opcode.has(*property)) {
                    continue;
                }
                let effects = effects(module, method, root.node);
                let (mut killed, mut blocked) = (Set::default(), Set::default());
                for (place, set) in &self.places {
                    if effects.may_change(module, *place) {
                        killed = killed.or(set);
                    } else if effects.keeps_reads_below(module, *place) {
                        blocked = blocked.or(set);
                    }
                }
                let mut provided = Set::default();
                let stored = stored_value(method, root.node);
                let written = stored.and_then(|_| numbers.location(method, root.node));
                if let (Some(value), Some(written)) = (stored, written) {
                    let Location { base, index, scale, .. } = written;
                    for index in self.near.get(&(base, index, scale)).into_iter().flatten() {
                        let Kind::Memory { location, .. } = list[*index].kind else { continue };
                        let is_same = written == location && (killed.has(*index) || blocked.has(*index));
                        if is_same {
                            let point = point(*block, position + 1);
                            list[*index].provided.push(Use { node: root.node, point, value });
                            provided.add(*index);
                        }
                        if is_same || written.is_apart_from(&location) {
                            killed.remove(*index);
                            blocked.remove(*index);
                        }
                    }
                }
                let happened = [
                    (position, killed, Happening::Kills),
                    (position, blocked, Happening::Blocks),
                    (position + 1, provided, Happening::Provides),
                ];
                found.extend(happened.into_iter().filter(|(_, set, _)| !set.is_empty()).map(
                    |(position, expressions, happening)| Occurrence {
                        block: *block,
                        position,
                        expressions,
                        happening,
                    },
                ));
            }
        }
    }
}

/// Whether an edge from the block closes a cycle.
fn goes_back(cfg: &Cfg, block: Block) -> bool {
    cfg.successors(block).iter().any(|edge| cfg.rank(edge.block) <= cfg.rank(block))
}

/// What a root has that may touch memory or be noticed.
const TOUCHES: [Properties; 4] =
    [Properties::WRITES, Properties::CALLS, Properties::SYNCHRONISES, Properties::YIELDS];
