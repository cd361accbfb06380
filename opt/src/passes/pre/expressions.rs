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

use super::{MAX_EXPRESSIONS, point};
use crate::analysis::available::{Happening, Occurrence};
use crate::analysis::births::{Births, younger};
use crate::analysis::location::{Location, stored_value};
use crate::analysis::memory::{Memory, read_place};
use crate::analysis::reaching::{Definition, Reaching};
use crate::analysis::value_numbers::{Number, ValueNumbers};
use crate::cx::PassCx;
use crate::passes::gvn::weights;

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
}

/// The expressions, and what all of them are asked of.
pub(super) struct Expressions {
    pub(super) list: Vec<Expression>,
    pub(super) occurrences: Vec<Occurrence>,
    pub(super) cfg: Rc<Cfg>,
    pub(super) dominators: Rc<Dominators>,
    pub(super) loops: Rc<Loops>,
    reaching: Rc<Option<Reaching>>,
    /// The blocks of `set`s.
    sets: EntityVec<Node, Option<Block>>,
}

impl Expressions {
    /// Finds them; none if there are none, or the method is too intricate.
    pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<Expressions> {
        let (numbers, memory) = (cx.get::<Option<ValueNumbers>>(method), cx.get::<Option<Memory>>(method));
        let reaching = cx.get::<Option<Reaching>>(method);
        let (cfg, dominators, loops) = (cx.cfg(method), cx.dominators(method), cx.loops(method));
        let (numbers, memory) = (numbers.as_ref().as_ref()?, memory.as_ref().as_ref()?);
        cx.spend(2 * method.node_count() as u64);
        let births = Births::compute(method, &cfg, &dominators, reaching.as_ref().as_ref()?, memory, numbers);
        let weights = weights(method);
        let mut finder = Finder {
            method,
            numbers,
            loops: &loops,
            dominators: &dominators,
            births: &births,
            is_shared: shared(method, numbers, &weights),
            weights,
            known: HashMap::default(),
            seen: EntityVec::filled(None, method.node_count()),
            pending: Vec::new(),
            list: Vec::new(),
        };
        for block in cfg.order() {
            finder.block(*block);
        }
        let mut list = finder.list;
        list.sort_by_key(|expression| std::cmp::Reverse(expression.depth));
        list.truncate(MAX_EXPRESSIONS);
        if list.is_empty() {
            return None;
        }
        let occurrences = occurrences(cx.module(), method, &cfg, numbers, &mut list);
        let mut sets = EntityVec::filled(None, method.node_count());
        for block in cfg.order() {
            for root in method.roots(*block) {
                sets[root.node] = Some(*block);
            }
        }
        Some(Expressions { list, occurrences, cfg, dominators, loops, reaching, sets })
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
                    Definition::Set(set) => self.sets[set].is_some_and(is_above),
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
    weights: EntityVec<Node, u32>,
    is_shared: Vec<bool>,
    /// The expressions' indexes.
    known: Known,
    /// By node, the last block in which it was seen.
    seen: EntityVec<Node, Option<Block>>,
    pending: Vec<Node>,
    list: Vec<Expression>,
}

impl Finder<'_, '_> {
    fn block(&mut self, block: Block) {
        let method = self.method;
        for (position, root) in (0..).zip(method.roots(block)) {
            self.pending.extend(method.value_operands(root.node));
            while let Some(node) = self.pending.pop() {
                let is_new = self.seen[node].replace(block) != Some(block);
                if is_new && !method.is_root(node) && !self.value(node, block, position) {
                    self.pending.extend(method.operands(node));
                }
            }
            self.load(root.node, block, position + 1);
        }
    }

    fn load(&mut self, node: Node, block: Block, after: u32) {
        let method = self.method;
        let (Some(place), Some(location)) = (read_place(method, node), self.numbers.location(method, node))
        else {
            return;
        };
        let operands = method.operands(node);
        let is_fixed = |base: Node| {
            let opcode = method.opcode(base);
            method.operands(base).is_empty() && !opcode.has(Properties::HEAD) && opcode != Opcode::Const
        };
        let is_safe = operands.len() == 1 && is_fixed(operands[0]);
        let of = |number: Option<u32>| number.and_then(|number| self.births.of(Number::new(number as usize)));
        let birth = younger(self.dominators, of(Some(location.base)), of(location.index));
        let kind = Kind::Memory { place, location };
        let used = Use { node, point: point(block, after), value: node };
        self.add(Ok((place, location)), kind, used, birth, SLOW, is_safe);
    }

    /// Notes a floating node if it is an expression. Whether it leaves nothing more to be found in what it is computed from.
    fn value(&mut self, node: Node, block: Block, position: u32) -> bool {
        let Some(number) = self.numbers.number(node) else { return false };
        let (weight, birth) = (self.weights[node], self.births.of(number));
        if weight == 0 {
            return false;
        }
        let is_outside = self
            .loops
            .innermost(block)
            .is_some_and(|around| birth.is_none_or(|birth| !self.loops.contains(around, birth.block)));
        let is_worth_sharing = self.is_shared[number.index()] && weight >= MIN_SHARED_WEIGHT;
        if !is_outside && !is_worth_sharing {
            return false;
        }
        let used = Use { node, point: point(block, position), value: node };
        self.add(Err(number), Kind::Value, used, birth, weight, true);
        is_outside
    }

    fn add(&mut self, key: Key, kind: Kind, used: Use, birth: Option<Point>, weight: u32, is_safe: bool) {
        let depth = self.loops.depth(used.point.block);
        let index = *self.known.entry(key).or_insert(self.list.len());
        match self.list.get_mut(index) {
            Some(expression) => {
                expression.computed.push(used);
                expression.depth = expression.depth.max(depth);
            }
            None => self.list.push(Expression {
                kind,
                computed: vec![used],
                provided: Vec::new(),
                birth,
                weight,
                is_safe,
                depth,
            }),
        }
    }
}

/// Cycles that a value must take to be kept from one path for another.
const MIN_SHARED_WEIGHT: u32 = SLOW;

/// Cycles that make a value worth a register, whatever else needs one.
pub(super) const SLOW: u32 = 4;

/// By number, whether it is computed by several floating nodes.
fn shared(method: &Method<'_>, numbers: &ValueNumbers, weights: &EntityVec<Node, u32>) -> Vec<bool> {
    let mut seen = vec![false; numbers.bound()];
    let mut is_shared = vec![false; numbers.bound()];
    for node in method.nodes().filter(|node| weights[*node] > 0) {
        if let Some(number) = numbers.number(node) {
            is_shared[number.index()] |= std::mem::replace(&mut seen[number.index()], true);
        }
    }
    is_shared
}

impl Expression {
    /// Whether computing it where it would not have been computed may fault.
    fn is_risky(&self) -> bool {
        matches!(self.kind, Kind::Memory { .. }) && !self.is_safe
    }
}

/// What happens to the expressions where. Notes stores in `list`.
fn occurrences(
    module: &Module,
    method: &Method<'_>,
    cfg: &Cfg,
    numbers: &ValueNumbers,
    list: &mut [Expression],
) -> Vec<Occurrence> {
    let mut found = Vec::new();
    let mut add = |place: Point, expression: usize, happening| {
        let expression = u32::try_from(expression).expect("there are few expressions");
        found.push(Occurrence { block: place.block, position: place.position, expression, happening });
    };
    for (index, expression) in list.iter().enumerate() {
        if let Some(birth) = expression.birth.filter(|birth| cfg.is_reachable(birth.block)) {
            add(birth, index, Happening::Kills);
        }
        for used in &expression.computed {
            add(used.point, index, Happening::Computes);
        }
    }
    let mut places: Vec<Place> = Vec::new();
    let place_of: Vec<usize> = list
        .iter()
        .map(|expression| match expression.kind {
            Kind::Memory { place, .. } => {
                let known = places.iter().position(|own| *own == place);
                known.unwrap_or_else(|| {
                    places.push(place);
                    places.len() - 1
                })
            }
            Kind::Value => usize::MAX,
        })
        .collect();
    // What comes after a loop that may never end must not be loaded before it.
    for block in cfg.order().iter().filter(|block| goes_back(cfg, **block)) {
        let end = u32::try_from(method.roots(*block).len() - 1).expect("blocks have fewer than 2^32 roots");
        for (index, _) in list.iter().enumerate().filter(|(_, one)| one.is_risky()) {
            add(point(*block, end), index, Happening::Blocks);
        }
    }
    for block in cfg.order() {
        for (position, root) in (0..).zip(method.roots(*block)) {
            let opcode = method.opcode(root.node);
            if places.is_empty() || !TOUCHES.iter().any(|property| opcode.has(*property)) {
                continue;
            }
            let effects = effects(module, method, root.node);
            let keeps: Vec<bool> =
                places.iter().map(|place| effects.keeps_reads_below(module, *place)).collect();
            if !keeps.contains(&true) {
                continue;
            }
            let stored = stored_value(method, root.node);
            let written = stored.and_then(|_| numbers.location(method, root.node));
            for (index, expression) in list.iter_mut().enumerate() {
                let Kind::Memory { place, location } = expression.kind else { continue };
                if !keeps[place_of[index]] {
                    continue;
                }
                match (stored, written) {
                    (Some(value), Some(written)) if written == location => {
                        let after = point(*block, position + 1);
                        expression.provided.push(Use { node: root.node, point: after, value });
                        add(after, index, Happening::Provides);
                    }
                    (_, Some(written)) if written.is_apart_from(&location) => {}
                    _ if effects.may_change(module, place) => {
                        add(point(*block, position), index, Happening::Kills);
                    }
                    _ => add(point(*block, position), index, Happening::Blocks),
                }
            }
        }
    }
    found.sort_by_key(|occurrence| (occurrence.block, occurrence.position));
    // One after the other in a block is as good as one.
    let mut last: Vec<Option<(Block, Happening)>> = vec![None; list.len()];
    found.retain(|occurrence| {
        let own = Some((occurrence.block, occurrence.happening));
        let before = std::mem::replace(&mut last[occurrence.expression as usize], own);
        before != own || matches!(occurrence.happening, Happening::Computes | Happening::Provides)
    });
    found
}

/// Whether an edge from the block closes a cycle.
fn goes_back(cfg: &Cfg, block: Block) -> bool {
    cfg.successors(block).iter().any(|edge| cfg.rank(edge.block) <= cfg.rank(block))
}

/// What a root has that may touch memory or be noticed.
const TOUCHES: [Properties; 4] =
    [Properties::WRITES, Properties::CALLS, Properties::SYNCHRONISES, Properties::YIELDS];
