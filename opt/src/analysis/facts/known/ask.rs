//! Questions about what is known: may a check raise, what does a comparison give, does a bound follow?
//!
//! *Why on demand.* Of two values that are compared, hardly any are ever asked about. A question climbs from the lesser along bounds, and along
//! what operations say: `x & y` is at most `x`, `x + 4` is `x` and four where it does not wrap.
//!
//! *Cost.* As many steps as a climb may take, each of a few look-ups.

use dagwood_il::entity::Entity;
use dagwood_il::{Node, Opcode, Payload, Properties, Type};

use super::Known;
use crate::analysis::facts::fact::{Fact, Kind};
use crate::analysis::facts::inverse::{self, Order};
use crate::analysis::facts::relations::{Bound, Climb, Reading};
use crate::analysis::facts::transfer::{compare, outcome};

/// How often a reading is taken apart on the way to what it is computed from.
pub(super) const MAX_PARTS: usize = 6;
/// How many of the roots that have happened are looked at for one of a sort.
const MAX_LOOKED_AT: usize = 32;

impl Known<'_, '_> {
    /// What is known where a check's operands are as they are here: of its result, and whether it may raise.
    pub fn outcome(&self, root: Node) -> (Fact, bool) {
        let (method, opcode) = (self.method, self.method.opcode(root));
        let operands = method.value_operands(root);
        match (opcode, method.payload(root)) {
            (Opcode::CastCheck, Payload::Class(class)) => {
                let fact = *self.fact(operands[0]);
                let is_of = self.is_of(&fact, class);
                let narrowed =
                    if is_of == Some(true) { fact } else { fact.and(Fact::object(Kind::AtMost(class))) };
                (narrowed, is_of != Some(true))
            }
            (Opcode::StoreCheck, _) => {
                (*self.fact(operands[0]), self.fact(operands[1]).as_constant() != Some(0))
            }
            (Opcode::BoundsCheck, _) => {
                let (fact, may_raise) =
                    self.compute(Type::Void, operands, |ty, facts| outcome(opcode, ty, facts));
                (
                    fact,
                    may_raise
                        && !self.is_ordered(
                            operands[0],
                            operands[1],
                            Order { is_signed: false, less: 0, by: 1 },
                        ),
                )
            }
            _ => self.compute(method.ty(root), operands, |ty, facts| outcome(opcode, ty, facts)),
        }
    }

    /// Whether objects of this kind, or null, are of a class: as far as that is settled.
    pub fn is_of(&self, fact: &Fact, class: dagwood_il::ClassId) -> Option<bool> {
        if fact.as_constant() == Some(0) {
            return Some(true);
        }
        match fact.kind() {
            Kind::AtMost(own) | Kind::Exactly(own) if self.module.is_subclass(own, class) => Some(true),
            Kind::Exactly(_) if fact.is_nonzero() => Some(false),
            _ => None,
        }
    }

    /// What an `instanceof` gives here, if that is settled.
    pub fn answer(&self, node: Node) -> Option<bool> {
        self.computed(node).as_constant().map(|bits| bits != 0)
    }

    /// What a comparison gives here, if facts or bounds decide it.
    pub fn comparison(&self, node: Node) -> Option<bool> {
        let opcode = self.method.opcode(node);
        let [left, right] = *self.method.operands(node) else { return None };
        if let Some(holds) = compare(opcode, self.fact(left), self.fact(right)) {
            return Some(holds);
        }
        if let Some(order) = inverse::order(opcode, true) {
            let opposite = inverse::order(opcode, false)?;
            return if self.has_order(&[left, right], order) {
                Some(true)
            } else if self.has_order(&[left, right], opposite) {
                Some(false)
            } else {
                None
            };
        }
        let differ = || {
            [false, true].into_iter().any(|is_signed| {
                let order = Order { is_signed, less: 0, by: 1 };
                self.is_ordered(left, right, order) || self.is_ordered(right, left, order)
            })
        };
        match opcode {
            Opcode::Eq | Opcode::Ne if self.method.ty(left).is_int() && differ() => {
                Some(opcode == Opcode::Ne)
            }
            _ => None,
        }
    }

    /// Whether `less` is below `more`, or at most equal to it, as numbers with or without a sign.
    pub fn is_at_most(&self, less: Node, more: Node, is_signed: bool, by: u8) -> bool {
        self.is_ordered(less, more, Order { is_signed, less: 0, by })
    }

    /// A check that has been passed on the way here, of this sort and of this value.
    pub fn passed(&self, opcode: Opcode, payload: Payload, operand: Node) -> Option<Node> {
        let is_same = |root: &&Node| {
            self.method.opcode(**root) == opcode
                && (self.method.payload(**root) == payload || matches!(payload, Payload::Raise(..)))
                && self.method.operands(**root).first() == Some(&operand)
        };
        self.happened.iter().rev().take(MAX_LOOKED_AT).find(is_same).copied()
    }

    fn has_order(&self, operands: &[Node; 2], order: Order) -> bool {
        self.is_ordered(operands[order.less], operands[1 - order.less], order)
    }

    fn is_ordered(&self, less: Node, more: Node, order: Order) -> bool {
        let reading = |node: Node| Reading::new(node.index(), order.is_signed);
        self.must_be(Bound { less: reading(less), gap: order.by.into(), more: reading(more) })
    }

    /// Whether a bound follows from what is known.
    pub fn must_be(&self, bound: Bound) -> bool {
        let (_, greatest) = self.range(bound.less);
        let (least, _) = self.range(bound.more);
        if greatest + bound.gap <= least {
            return true;
        }
        // What is above is something plus an offset, in one or several ways.
        let mut targets = [(bound.more, 0); MAX_PARTS];
        let mut count = 1;
        while count < MAX_PARTS
            && let Some((part, offset)) = self.part(targets[count - 1].0)
        {
            targets[count] = (part, targets[count - 1].1 + offset);
            count += 1;
        }
        let mut climb = Climb::from(bound.less, self.climbed.take());
        let is_found = self.climb(&mut climb, &targets[..count], bound.gap);
        self.climbed.set(climb.end());
        is_found
    }

    /// Whether a climb gets to one of these, which are that much less than what is looked for, with at least this gap.
    fn climb(&self, climb: &mut Climb, targets: &[(Reading, i128)], wanted: i128) -> bool {
        while let Some((reading, gap)) = climb.next() {
            if targets.iter().any(|(target, offset)| *target == reading && gap + offset >= wanted) {
                return true;
            }
            if let Some((part, offset)) = self.part(reading) {
                climb.reach(part, gap - offset);
            }
            self.reach_computed(reading, gap, climb);
            for known in self.relations.above(reading) {
                climb.reach(known.more, gap + known.gap);
            }
        }
        false
    }

    /// The values that a reading may have.
    pub fn range(&self, reading: Reading) -> (i128, i128) {
        let fact = &self.facts[reading.value()];
        if reading.is_signed() {
            (fact.smin().into(), fact.smax().into())
        } else {
            (fact.umin().into(), fact.umax().into())
        }
    }

    fn node_of(&self, reading: Reading) -> Option<Node> {
        (reading.value() < self.method.node_count()).then(|| Node::new(reading.value()))
    }

    /// What a reading is exactly, as another reading plus an offset.
    pub(super) fn part(&self, reading: Reading) -> Option<(Reading, i128)> {
        let signed = reading.is_signed();
        let part = self.node_of(reading).and_then(|node| {
            let (opcode, operands) = (self.method.opcode(node), self.method.operands(node));
            let of = |operand: Node, is_signed: bool| Reading::new(operand.index(), is_signed);
            match (opcode, operands) {
                (_, [a, ..]) if opcode.has(Properties::PROVES) => Some((of(*a, signed), 0)),
                (Opcode::UExt, [a]) => Some((of(*a, false), 0)),
                (Opcode::SExt, [a]) if signed => Some((of(*a, true), 0)),
                (Opcode::Add, [a, b]) => self.offset(of(*a, signed), *b, self.fact(*b).umin(), 1),
                (Opcode::Sub, [a, b]) => self.offset(of(*a, signed), *b, self.fact(*b).umin(), -1),
                (Opcode::SAddChecked, [a, b]) if signed => self.exactly(of(*a, true), *b, 1),
                (Opcode::SSubChecked, [a, b]) if signed => self.exactly(of(*a, true), *b, -1),
                (Opcode::UAddChecked, [a, b]) if !signed => self.exactly(of(*a, false), *b, 1),
                (Opcode::USubChecked, [a, b]) if !signed => self.exactly(of(*a, false), *b, -1),
                _ => None,
            }
        });
        // Read as a number that is not negative, a value is the same both ways.
        part.or_else(|| {
            let plain = Reading::new(reading.value(), false);
            (signed && self.facts[reading.value()].is_nonnegative()).then_some((plain, 0))
        })
    }

    /// The value whose readings those of this one may be offsets from.
    pub(super) fn offset_from(&self, value: usize) -> Option<Node> {
        let node = (value < self.method.node_count()).then(|| Node::new(value))?;
        let opcode = self.method.opcode(node);
        let is_offset = opcode.has(Properties::PROVES)
            || matches!(opcode.unchecked(), Opcode::UExt | Opcode::SExt | Opcode::Add | Opcode::Sub);
        is_offset.then(|| self.method.operands(node)[0])
    }

    /// A constant summand, exactly: checked arithmetic does not wrap.
    fn exactly(&self, part: Reading, summand: Node, sign: i128) -> Option<(Reading, i128)> {
        let fact = self.fact(summand);
        fact.as_constant()?;
        let value = if part.is_signed() { i128::from(fact.smin()) } else { i128::from(fact.umin()) };
        Some((part, sign * value))
    }

    /// A constant summand where the sum, read like `part`, does not wrap.
    fn offset(&self, part: Reading, summand: Node, bits: u64, sign: i128) -> Option<(Reading, i128)> {
        let fact = self.fact(summand);
        fact.as_constant()?;
        let any = Fact::any(fact.ty());
        let (min, max) = self.range(part);
        let (least, most) = if part.is_signed() {
            (i128::from(any.smin()), i128::from(any.smax()))
        } else {
            (0, i128::from(any.umax()))
        };
        // A large unsigned summand is a small negative one.
        let candidates = [sign * i128::from(fact.smin()), sign * i128::from(bits)];
        let fits = |offset: &i128| least <= min + offset && max + offset <= most;
        candidates.into_iter().find(fits).map(|offset| (part, offset))
    }

    /// What a reading is at most, as its operation has it.
    fn reach_computed(&self, reading: Reading, gap: i128, climb: &mut Climb) {
        let Some(node) = self.node_of(reading).filter(|_| !reading.is_signed()) else { return };
        let of = |operand: Node| Reading::new(operand.index(), false);
        match (self.method.opcode(node), self.method.operands(node)) {
            (Opcode::And | Opcode::UMin, [a, b]) => {
                climb.reach(of(*a), gap);
                climb.reach(of(*b), gap);
            }
            (Opcode::UShr | Opcode::UDiv, [a, _]) => climb.reach(of(*a), gap),
            (Opcode::URem, [a, b]) => {
                climb.reach(of(*a), gap);
                climb.reach(of(*b), gap + 1);
            }
            (Opcode::Sub, [a, b]) if self.fact(*a).umin() >= self.fact(*b).umax() => {
                climb.reach(of(*a), gap + i128::from(self.fact(*b).umin()));
            }
            _ => {}
        }
    }
}
