//! Many values of the real types: floats, which have no small model, and integers once more as the matcher computes them.

use super::rules;
use crate::eval::{Value, evaluate};
use crate::fold::law::{Condition, Kind, Rule, Term};
use crate::fold::pattern::{has_exact_reciprocal, resize};
use crate::types::Type;

/// What the letters and types of a rule stand for.
#[derive(Clone, Debug)]
pub(super) struct Real {
    /// By letter.
    pub(super) values: Vec<Value>,
    /// By type.
    pub(super) types: Vec<Type>,
}

impl Real {
    /// The value of a term; none where an operation has none.
    pub(super) fn value(&self, term: &Term) -> Option<Value> {
        let ty = self.types[term.ty];
        match &term.kind {
            Kind::Letter(letter) => Some(self.values[*letter]),
            Kind::Literal(literal) => Some(Value::from_bits(ty, literal.bits_at(ty))),
            Kind::Op(opcode, terms) => {
                let values: Option<Vec<Value>> = terms.iter().map(|term| self.value(term)).collect();
                evaluate(*opcode, ty, &values?)
            }
            Kind::Resize { extend, operand } => {
                let value = self.value(operand)?;
                match resize(*extend, value.ty(), ty) {
                    Some(opcode) => evaluate(opcode, ty, &[value]),
                    None => Some(value),
                }
            }
        }
    }

    pub(super) fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Pow2(letter) => self.values[*letter].low().is_power_of_two(),
            Condition::FloatPow2(letter) => has_exact_reciprocal(self.values[*letter]),
            Condition::NonZero(letter) => self.values[*letter].is_true(),
            Condition::Truth(letter) => self.values[*letter].low() <= 1,
            Condition::Holds(term) => self.value(term).is_some_and(Value::is_true),
        }
    }
}

/// All ways of giving types to a rule, among those of up to 64 bits.
pub(super) fn typings(rule: &Rule) -> Vec<Vec<Type>> {
    let mut typings = vec![Vec::new()];
    for class in &rule.types {
        typings = typings
            .iter()
            .flat_map(|typing: &Vec<Type>| {
                let types = class.types().filter(|ty| *ty != Type::V128);
                types.map(move |ty| [&typing[..], &[ty]].concat())
            })
            .collect();
    }
    let casts = |a: Type, b: Type| a.bits() == b.bits() && (a == Type::Ref) == (b == Type::Ref);
    typings.retain(|types| {
        rule.narrower.iter().all(|(narrow, wide)| types[*narrow].bits() < types[*wide].bits())
            && rule.same_width.iter().all(|(a, b)| casts(types[*a], types[*b]))
    });
    typings
}

/// Values at the edges, and as many others. Most are their own neighbours, so that letters meet.
pub(super) fn samples(ty: Type, others: usize) -> Vec<Value> {
    let width = u64::from(ty.bits());
    let mut bits: Vec<u64> = if ty.is_float() {
        let floats =
            [0.0, 1.0, 1.5, 2.0, 3.0, 0.1, 0.5, 2.5, 255.0, 1e10, 1e-10, 4_294_967_296.0, f64::INFINITY];
        let of =
            |float: f64| if ty == Type::F32 { u64::from((float as f32).to_bits()) } else { float.to_bits() };
        // Subnormal, largest, quiet and signalling.
        let (one, infinity) = (1, of(f64::INFINITY));
        let quiet = infinity | infinity >> 1;
        let edges =
            floats.map(of).into_iter().chain([one, 7, infinity - 1, infinity + 1, quiet, of(0.0) + 12_345]);
        edges.flat_map(|bits| [bits, bits | 1 << (width - 1)]).collect()
    } else {
        let powers = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63].into_iter().filter(|bit| *bit < width);
        let near = powers.flat_map(|bit| {
            [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1, !(1 << bit), (1_u64 << bit).wrapping_neg()]
        });
        near.chain([width, width - 8, width / 2, 5, 6, 10, 0x55]).collect()
    };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ width;
    for _ in 0..others {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bits.push(state >> 7 ^ state << 21);
    }
    let mut values: Vec<Value> = bits.into_iter().map(|bits| Value::from_bits(ty, bits)).collect();
    let mut seen = std::collections::HashSet::new();
    values.retain(|value| seen.insert(value.low()));
    values
}

/// Whether a NaN is signalling, which no arithmetic gives.
fn is_signalling(value: Value) -> bool {
    let quiet = if value.ty() == Type::F32 { 22 } else { 51 };
    value.is_nan() && value.low() >> quiet & 1 == 0
}

/// Compares both sides for combinations of samples, at most `most`; how many there were.
fn check(rule: &Rule, types: &[Type], others: usize, most: usize) -> usize {
    let choices: Vec<Vec<Value>> =
        rule.letters.iter().map(|letter| samples(types[letter.ty], others)).collect();
    let all: usize = choices.iter().map(Vec::len).product();
    let mut compared = 0;
    // An odd stride visits what all samples have in common, too.
    for index in (0..all).step_by(all.div_ceil(most) | 1) {
        let mut rest = index;
        let mut real = Real { values: Vec::new(), types: types.to_vec() };
        for choice in &choices {
            real.values.push(choice[rest % choice.len()]);
            rest /= choice.len();
        }
        let has_operands = rule.root().1.iter().all(|term| real.value(term).is_some());
        if !has_operands || !rule.conditions.iter().all(|condition| real.holds(condition)) {
            continue;
        }
        let (left, right) = (real.value(&rule.left), real.value(&rule.right));
        let (Some(left), Some(right)) = (left, right) else {
            assert_eq!(left, right, "`{}` at {real:?}", rule.law);
            continue;
        };
        assert!(left.same_modulo_nan(right), "`{}`: {left:?} is not {right:?} at {real:?}", rule.law);
        assert!(
            is_signalling(left) || !is_signalling(right),
            "`{}` passes a signalling NaN at {real:?}",
            rule.law
        );
        compared += 1;
    }
    compared
}

#[test]
fn every_law_holds_for_samples_of_the_real_types() {
    for rule in rules() {
        let (others, most) = if rule.is_float() { (150, 60_000) } else { (20, 2_000) };
        let compared: usize = typings(&rule).iter().map(|types| check(&rule, types, others, most)).sum();
        assert!(compared > 0, "`{}` was compared", rule.law);
    }
}

#[test]
fn a_false_law_of_floats_is_found() {
    for law in [
        "fmul x 1.0 => x",
        "fadd x 0.0 => x",
        "fneg (fsub x y) => fsub y x",
        "eq (flt x y) 0 => fge x y",
        "feq x x => 1",
    ] {
        let rule = Rule::parse(law);
        let broken = std::panic::catch_unwind(|| {
            typings(&rule).iter().map(|types| check(&rule, types, 20, 10_000)).sum::<usize>()
        });
        assert!(broken.is_err(), "`{law}` fails");
    }
}
