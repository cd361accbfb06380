//! What is known where a walk along an extended block stands.
//!
//! ```text
//!   b1:  boundscheck %i, %n    ──►  %i in 0..=n.max-1     %i + 1 <= %n       also what is computed from %i, and
//!        br (ult %i, 10), …    ──►  %i in 0..=9                              what %i is computed from
//!     └ b2 extends b1               as above, until the walk leaves b2
//! ```
//!
//! Facts about nodes are true as long as the node's value is: for good, since nodes do not change. They are *known* only
//! where a path has passed what says so; leaving the path takes them back.
//!
//! *Guarantees.* Each [`Known::assume`] takes at most [`MAX_STEPS`] steps. What is known of a root is known once it has
//! happened; of pure nodes, as soon as their operands are.

mod ask;

use std::cell::Cell;

use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Local, Method, Module, Node, Opcode, Payload, Place, Properties, Type};

use super::fact::{Fact, Kind};
use super::inverse::{self, Order};
use super::relations::{Bound, Reading, Relations};
use super::shape::Shape;
use super::transfer::transfer;
use ask::MAX_PARTS;

/// How many nodes one assumption may be carried to.
pub const MAX_STEPS: usize = 48;

/// What is known at a point. Values are numbered: nodes first, then what locals held at the head.
pub struct Known<'m, 'a> {
    module: &'m Module,
    method: &'m Method<'a>,
    shape: &'m Shape,
    facts: Vec<Fact>,
    /// What facts were, where a path changed them.
    changes: Vec<(u32, Fact)>,
    /// By local: the number of the value that it holds.
    values: EntityVec<Local, u32>,
    sets: Vec<(Local, u32)>,
    /// By head: whether what its nodes are has been computed, for what locals held when it was entered last.
    is_computed: EntityVec<Block, bool>,
    /// By node: the number of the last walk that began with something else known of it than the one before.
    moved: Vec<u32>,
    walks: u32,
    has_happened: Vec<bool>,
    happened: Vec<Node>,
    relations: Relations,
    is_possible: bool,
    /// Nodes of which more is known now, and whether something else than their operands said so.
    pending: Vec<(Node, bool)>,
    /// Room for questions.
    climbed: Cell<Vec<(Reading, i128)>>,
}

/// What nodes were when walks along their extended blocks began: a later walk computes again only what has changed since.
#[derive(Clone, Debug)]
pub(super) struct Base {
    facts: Vec<Fact>,
    is_computed: EntityVec<Block, bool>,
}

impl Base {
    /// Before the first walk.
    pub(super) fn new(method: &Method<'_>) -> Base {
        let locals = method.locals().map(|local| Fact::any(method.local(local).ty));
        let facts = std::iter::repeat_n(Fact::any(Type::Void), method.node_count()).chain(locals).collect();
        Base { facts, is_computed: EntityVec::filled(false, method.block_count()) }
    }
}

/// A point of a walk to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    changes: usize,
    sets: usize,
    happened: usize,
    bounds: usize,
    is_possible: bool,
}

impl<'m, 'a> Known<'m, 'a> {
    /// Nothing of where a walk stands, about the values of a method of which this was computed by others.
    pub(super) fn nothing(module: &'m Module, method: &'m Method<'a>, shape: &'m Shape, base: Base) -> Self {
        let nodes = method.node_count();
        let mut values = EntityVec::filled(0, method.locals().len());
        for local in method.locals() {
            values[local] = number(nodes + local.index());
        }
        Known {
            module,
            method,
            shape,
            facts: base.facts,
            changes: Vec::new(),
            values,
            sets: Vec::new(),
            is_computed: base.is_computed,
            moved: vec![0; nodes],
            walks: 0,
            has_happened: vec![false; nodes],
            happened: Vec::new(),
            relations: Relations::new(nodes + method.locals().len()),
            is_possible: true,
            pending: Vec::new(),
            climbed: Cell::default(),
        }
    }

    /// What later walks may begin with. None is under way.
    pub(super) fn into_base(self) -> Base {
        debug_assert!(self.changes.is_empty(), "what walks learn they take back");
        Base { facts: self.facts, is_computed: self.is_computed }
    }

    // ---- questions ----

    /// The method.
    pub fn method(&self) -> &'m Method<'a> {
        self.method
    }

    /// Its declarations.
    pub fn module(&self) -> &'m Module {
        self.module
    }

    /// Whether control can get here at all.
    pub fn is_possible(&self) -> bool {
        self.is_possible
    }

    /// What is known of a node of this extended block.
    pub fn fact(&self, node: Node) -> &Fact {
        &self.facts[node.index()]
    }

    /// What is known of what a local holds here.
    pub fn fact_of_local(&self, local: Local) -> &Fact {
        &self.facts[self.values[local] as usize]
    }

    /// The number of the value that a local holds here.
    pub fn value_of(&self, local: Local) -> usize {
        self.values[local] as usize
    }

    // ---- learning ----

    /// Begins an extended block: what its nodes are, given what locals hold there. Walks take back what they learn, so that only
    /// what depends on other locals than the last time is computed again.
    pub fn enter(&mut self, head: Block, locals: &[(Local, Fact)]) -> Mark {
        let mark = self.mark();
        let (method, shape) = (self.method, self.shape);
        self.is_possible = true;
        for (local, fact) in locals {
            let value = self.values[*local];
            self.changes.push((value, self.facts[value as usize]));
            self.facts[value as usize] = *fact;
        }
        let is_first = !std::mem::replace(&mut self.is_computed[head], true);
        self.walks += 1;
        let mut has_moved = is_first;
        for node in shape.nodes_of(head) {
            let opcode = method.opcode(*node);
            let is_entry = opcode == Opcode::Entry;
            let is_stale =
                || method.operands(*node).iter().any(|operand| self.moved[operand.index()] == self.walks);
            if is_first || is_entry || has_moved && is_stale() {
                has_moved |= self.begin(*node, is_first);
            }
            if let (true, Payload::Local(local)) = (is_entry, method.payload(*node)) {
                self.set(local, *node);
            }
        }
        mark
    }

    /// What a node is when a walk begins: as its operands have it, but nothing yet of roots. Whether that differs from the walk before.
    fn begin(&mut self, node: Node, is_first: bool) -> bool {
        let is_root = self.method.is_root(node);
        let fact = if is_root { Fact::any(self.method.ty(node)) } else { self.computed(node) };
        let own = &mut self.facts[node.index()];
        let has_moved = is_first || (fact != *own);
        if has_moved {
            self.moved[node.index()] = self.walks;
            *own = fact;
        }
        has_moved
    }

    /// Notes a bound that is known.
    pub fn learn(&mut self, bound: Bound) {
        let (less, below) = self.simplest(bound.less);
        let (more, above) = self.simplest(bound.more);
        self.relations.add(Bound { less, gap: bound.gap + below - above, more });
    }

    /// The bounds noted on the way here.
    pub fn bounds(&self) -> impl DoubleEndedIterator<Item = &Bound> {
        self.relations.bounds()
    }

    /// Whether some bound may be about this value, or about what it is an offset from.
    pub(super) fn may_be_bounded(&self, value: usize) -> bool {
        let mut value = value;
        for _ in 0..=MAX_PARTS {
            if self.relations.has_any_of(value) {
                return true;
            }
            match self.offset_from(value) {
                Some(part) => value = part.index(),
                None => break,
            }
        }
        false
    }

    /// A reading taken apart as far as it goes: what is left, and the offset from it.
    pub fn simplest(&self, reading: Reading) -> (Reading, i128) {
        let mut simplest = (reading, 0);
        for _ in 0..MAX_PARTS {
            match self.part(simplest.0) {
                Some((part, offset)) => simplest = (part, simplest.1 + offset),
                None => break,
            }
        }
        simplest
    }

    /// What a node's operands say of it.
    fn computed(&self, node: Node) -> Fact {
        let (method, opcode) = (self.method, self.method.opcode(node));
        let (ty, operands) = (method.ty(node), method.value_operands(node));
        match (opcode, method.payload(node)) {
            (Opcode::Const, Payload::Const(bits)) => Fact::constant(ty, bits),
            (Opcode::Entry, Payload::Local(local)) => self.facts[self.method.node_count() + local.index()],
            (Opcode::Load, Payload::Access(access)) => self.loaded(access.place, ty),
            (Opcode::New, Payload::Class(class)) => Fact::nonzero(ty).and(Fact::object(Kind::Exactly(class))),
            _ if opcode.has(Properties::ALLOCATES) || opcode == Opcode::ClassOf => Fact::nonzero(ty),
            (Opcode::ArrayLength, _) => self.array_length(operands[0]),
            (Opcode::InstanceOf, Payload::Class(class)) => {
                let fact = self.fact(operands[0]);
                match self.is_of(fact, class) {
                    _ if fact.as_constant() == Some(0) => Fact::constant(ty, 0),
                    Some(true) if fact.is_nonzero() => Fact::constant(ty, 1),
                    Some(false) => Fact::constant(ty, 0),
                    _ => Fact::truth(),
                }
            }
            (Opcode::CastCheck | Opcode::StoreCheck, _) => self.outcome(node).0,
            (_, Payload::None | Payload::Raise(..)) if !operands.is_empty() => {
                self.compute(ty, operands, |ty, facts| transfer(opcode, ty, facts))
            }
            _ => Fact::any(ty),
        }
    }

    fn compute<T>(&self, ty: Type, operands: &[Node], f: impl Fn(Type, &[Fact]) -> T) -> T {
        let ty =
            if ty == Type::Void { operands.first().map_or(ty, |first| self.method.ty(*first)) } else { ty };
        match *operands {
            [a] => f(ty, &[*self.fact(a)]),
            [a, b] => f(ty, &[*self.fact(a), *self.fact(b)]),
            [a, b, c] => f(ty, &[*self.fact(a), *self.fact(b), *self.fact(c)]),
            _ => f(ty, &[]),
        }
    }

    fn array_length(&self, array: Node) -> Fact {
        let fact = Fact::signed(Type::I32, 0, i64::MAX);
        match (self.method.opcode(array), self.method.operands(array)) {
            (Opcode::NewArray | Opcode::NewObjectArray, [length, ..]) => fact.and(*self.fact(*length)),
            _ => fact,
        }
    }

    /// What the declaration of a symbol says of what is read from it.
    fn loaded(&self, place: Place, ty: Type) -> Fact {
        let Place::Symbol(symbol) = place else { return Fact::any(ty) };
        let data = &self.module.symbols[symbol];
        match data.range {
            Some((min, max)) if ty.is_int() => Fact::unsigned(ty, min, max),
            _ => Fact::any(ty),
        }
    }

    /// A root has happened, and control goes on after it.
    pub fn pass(&mut self, root: Node) {
        let (method, opcode) = (self.method, self.method.opcode(root));
        let operands = method.value_operands(root);
        if let (Opcode::Set, Payload::Local(local)) = (opcode, method.payload(root)) {
            return self.set(local, operands[0]);
        }
        if opcode.has(Properties::TERMINATES) {
            return;
        }
        if opcode == Opcode::Check {
            return self.assume(operands[0], Fact::nonzero(Type::I32));
        }
        if method.ty(root) == Type::Void {
            return;
        }
        self.has_happened[root.index()] = true;
        self.happened.push(root);
        if opcode.has(Properties::ROOT_UNLESS_PROVEN) {
            self.assume(operands[1], Fact::nonzero(method.ty(operands[1])));
        }
        self.assume(root, self.computed(root));
        match (opcode, operands) {
            (Opcode::BoundsCheck, [index, length]) => {
                let reading = |node: &Node| Reading::new(node.index(), false);
                self.learn(Bound { less: reading(index), gap: 1, more: reading(length) });
                let least = self.fact(*index).umin().saturating_add(1);
                self.assume(*length, Fact::unsigned(method.ty(*length), least, u64::MAX));
            }
            (Opcode::NewArray | Opcode::NewObjectArray, [length, ..]) => {
                self.assume(*length, Fact::signed(Type::I32, 0, i64::MAX));
            }
            (Opcode::ArrayLength, [array]) => {
                let made = [Opcode::NewArray, Opcode::NewObjectArray].contains(&method.opcode(*array));
                if made {
                    self.equal(root, method.operands(*array)[0]);
                }
            }
            _ => {}
        }
    }

    /// What a branch at the end of a block tests, if that is known.
    pub(super) fn decided(&self, terminator: Node) -> Option<bool> {
        match (self.method.payload(terminator), self.method.operands(terminator)) {
            (Payload::Branch(..), [condition]) => self.comparison(*condition),
            _ => None,
        }
    }

    /// Control leaves a block by the successor at `index` of its end.
    pub fn leave(&mut self, terminator: Node, index: usize) {
        self.take(terminator, index, self.decided(terminator));
    }

    /// The same; whether a branch there is decided has been asked.
    pub(super) fn take(&mut self, terminator: Node, index: usize, decided: Option<bool>) {
        let method = self.method;
        match (method.payload(terminator), method.operands(terminator)) {
            (Payload::Branch(then, otherwise), [condition]) if then != otherwise => {
                if decided.is_some_and(|holds| holds != (index == 0)) {
                    self.is_possible = false;
                    return;
                }
                let fact = if index == 0 { Fact::nonzero(Type::I32) } else { Fact::constant(Type::I32, 0) };
                self.assume(*condition, fact);
            }
            (Payload::Switch(table), [value]) => {
                let data = method.switch(table);
                let to = method.successors_of(terminator)[index];
                let ty = method.ty(*value);
                let mut own = *self.fact(*value);
                if to == data.default {
                    if data.cases.iter().all(|(_, block)| *block != to) {
                        for (bits, _) in data.cases.iter().chain(data.cases.iter().rev()) {
                            own = inverse::different(&own, &Fact::constant(ty, *bits))
                                .map_or(own, |left| own.and(left));
                        }
                        self.assume(*value, own);
                    }
                    return;
                }
                let cases = data.cases.iter().filter(|(_, block)| *block == to);
                let any_of = cases.map(|(bits, _)| Fact::constant(ty, *bits)).reduce(|a, b| a.join(&b));
                self.assume(*value, any_of.unwrap_or(own));
            }
            _ => {}
        }
    }

    fn set(&mut self, local: Local, node: Node) {
        self.sets.push((local, self.values[local]));
        self.values[local] = number(node.index());
    }

    /// Learns that a node's value is what `fact` allows, and what follows for those around it.
    pub fn assume(&mut self, node: Node, fact: Fact) {
        self.narrow(node, &fact);
        let mut steps = 0;
        while let Some((node, is_told)) = self.pending.pop() {
            steps += 1;
            if steps > MAX_STEPS || !self.is_possible {
                break;
            }
            // What its operands said of it, it does not say of them.
            if is_told {
                self.explain(node);
            }
            for user in self.shape.users_of(node) {
                let is_settled = self.facts[user.index()].as_constant().is_some();
                if !is_settled && (!self.method.is_root(*user) || self.has_happened[user.index()]) {
                    let fact = self.computed(*user);
                    let before = self.pending.len();
                    self.narrow(*user, &fact);
                    if let Some((_, is_told)) = self.pending.get_mut(before) {
                        *is_told = self.facts[user.index()] != fact;
                    }
                }
            }
        }
        self.pending.clear();
    }

    /// What a fact about a node says of its operands.
    fn explain(&mut self, node: Node) {
        let (method, opcode) = (self.method, self.method.opcode(node));
        let fact = *self.fact(node);
        let operands = method.value_operands(node);
        let has_value = !method.is_root(node) || self.has_happened[node.index()];
        if operands.is_empty() || operands.len() > 3 || !has_value {
            return;
        }
        if let (Opcode::InstanceOf, Payload::Class(class)) = (opcode, method.payload(node)) {
            if fact.is_nonzero() {
                let object = Fact::nonzero(Type::Ref).and(Fact::object(Kind::AtMost(class)));
                self.narrow(operands[0], &object);
            }
            return;
        }
        let learned =
            self.compute(Type::Void, operands, |_, facts| inverse::operands_of(opcode, &fact, facts));
        for (operand, learned) in operands.iter().zip(learned) {
            if let Some(learned) = learned {
                self.narrow(*operand, &learned);
            }
        }
        if let (true, Some(holds), [left, right]) =
            (opcode.has(Properties::TRUTH), fact.as_constant(), operands)
        {
            self.compared(opcode, holds != 0, *left, *right);
        }
    }

    /// A comparison has come out.
    fn compared(&mut self, opcode: Opcode, holds: bool, left: Node, right: Node) {
        let reading = |node: Node, is_signed: bool| Reading::new(node.index(), is_signed);
        if let Some(Order { is_signed, less, by }) = inverse::order(opcode, holds) {
            let (less, more) = if less == 0 { (left, right) } else { (right, left) };
            self.learn(Bound {
                less: reading(less, is_signed),
                gap: by.into(),
                more: reading(more, is_signed),
            });
            return;
        }
        match (opcode, holds) {
            (Opcode::Eq, true) | (Opcode::Ne, false) => self.equal(left, right),
            (Opcode::Eq, false) | (Opcode::Ne, true) => {
                // What is at most something and not it, is below it.
                for (less, more) in [(left, right), (right, left)] {
                    for is_signed in [false, true] {
                        let at_most =
                            Bound { less: reading(less, is_signed), gap: 0, more: reading(more, is_signed) };
                        if self.method.ty(left).is_int() && self.must_be(at_most) {
                            self.learn(Bound { gap: 1, ..at_most });
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Two values are the same.
    fn equal(&mut self, left: Node, right: Node) {
        for is_signed in [false, true] {
            let (left, right) =
                (Reading::new(left.index(), is_signed), Reading::new(right.index(), is_signed));
            self.learn(Bound { less: left, gap: 0, more: right });
            self.learn(Bound { less: right, gap: 0, more: left });
        }
    }

    fn narrow(&mut self, node: Node, fact: &Fact) {
        let own = &mut self.facts[node.index()];
        if own.is_within(fact) {
            return;
        }
        match own.meet(fact) {
            Some(met) if met == *own => {}
            Some(met) => {
                self.changes.push((number(node.index()), std::mem::replace(own, met)));
                self.pending.push((node, true));
            }
            None => self.is_possible = false,
        }
    }

    // ---- walking ----

    /// Where the walk stands.
    pub fn mark(&self) -> Mark {
        Mark {
            changes: self.changes.len(),
            sets: self.sets.len(),
            happened: self.happened.len(),
            bounds: self.relations.mark(),
            is_possible: self.is_possible,
        }
    }

    /// Takes back what was learned since the mark.
    pub fn back_to(&mut self, mark: Mark) {
        for (value, fact) in self.changes.drain(mark.changes..).rev() {
            self.facts[value as usize] = fact;
        }
        for (local, value) in self.sets.drain(mark.sets..).rev() {
            self.values[local] = value;
        }
        for node in self.happened.drain(mark.happened..) {
            self.has_happened[node.index()] = false;
        }
        self.relations.back_to(mark.bounds);
        self.is_possible = mark.is_possible;
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a method has fewer than 2^32 values")
}
