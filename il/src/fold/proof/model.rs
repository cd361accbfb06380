//! Integers of any width up to 32 bits, written for the proofs: what `eval` is at 8 and 16 bits, at every other width too.
//!
//! *Why.* Three letters have 2^24 values at 8 bits, but 2^15 at 5. An identity of integers that holds at all widths up to
//! 8 and fails at 64 would have to be about a number that the law names; numbers in laws are small or stand for the width.
//! Below 16 bits a byte has two bits, so that one sees bytes reversed.

use crate::eval::{Value, evaluate};
use crate::fold::law::{Condition, Kind, Rule, Term};
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

/// The largest width.
pub(super) const MAX_WIDTH: u32 = 32;

/// An integer: its bits and its width.
pub(super) type Int = (u64, u32);

fn mask(width: u32) -> u64 {
    (1 << width) - 1
}

fn signed((bits, width): Int) -> i64 {
    let sign = 1 << (width - 1);
    (bits ^ sign) as i64 - sign as i64
}

fn reverse(bits: u64, width: u32, unit: u32) -> u64 {
    let units = width / unit;
    (0..units).fold(0, |reversed, i| {
        let piece = bits >> (i * unit) & mask(unit);
        reversed | piece << ((units - 1 - i) * unit)
    })
}

/// The value of an operation with a result of `width` bits.
pub(super) fn compute(opcode: Opcode, width: u32, operands: &[Int]) -> Option<u64> {
    use Opcode::*;
    let a = operands[0];
    let b = operands.get(1).copied().unwrap_or(a);
    let (x, y) = (a.0, b.0);
    let distance = y % u64::from(a.1);
    let bits = match opcode {
        Add | AddrAdd => x + y,
        Sub => x.wrapping_sub(y),
        Mul => x.wrapping_mul(y),
        SMulHigh => ((i128::from(signed(a)) * i128::from(signed(b))) >> a.1) as u64,
        UMulHigh => ((u128::from(x) * u128::from(y)) >> a.1) as u64,
        UDiv => x.checked_div(y)?,
        URem => x.checked_rem(y)?,
        SDiv => signed(a).checked_div(signed(b))? as u64,
        SRem => signed(a).checked_rem(signed(b))? as u64,
        Neg => x.wrapping_neg(),
        Abs => signed(a).unsigned_abs(),
        Not => !x,
        SMin => [x, y][usize::from(signed(b) < signed(a))],
        SMax => [x, y][usize::from(signed(b) > signed(a))],
        UMin => x.min(y),
        UMax => x.max(y),
        And => x & y,
        Or => x | y,
        Xor => x ^ y,
        Shl => x << distance,
        UShr => x >> distance,
        SShr => (signed(a) >> distance) as u64,
        RotL => x << distance | x >> (u64::from(a.1) - distance),
        RotR => x >> distance | x << (u64::from(a.1) - distance),
        Clz => (0..a.1).rev().take_while(|bit| x >> bit & 1 == 0).count() as u64,
        Ctz => (0..a.1).take_while(|bit| x >> bit & 1 == 0).count() as u64,
        Popcnt => (0..a.1).map(|bit| x >> bit & 1).sum(),
        Bswap => reverse(x, a.1, if a.1 < 16 { 2 } else { 8 }),
        Bitrev => reverse(x, a.1, 1),
        Eq => (x == y).into(),
        Ne => (x != y).into(),
        SLt => (signed(a) < signed(b)).into(),
        SLe => (signed(a) <= signed(b)).into(),
        SGt => (signed(a) > signed(b)).into(),
        SGe => (signed(a) >= signed(b)).into(),
        ULt => (x < y).into(),
        ULe => (x <= y).into(),
        UGt => (x > y).into(),
        UGe => (x >= y).into(),
        Select => [operands[2].0, y][usize::from(x != 0)],
        Wrap | UExt | Bitcast => x,
        SExt => signed(a) as u64,
        _ => unreachable!("`{opcode}` is not about integers"),
    };
    Some(bits & mask(width))
}

/// What the letters and types of a rule stand for.
#[derive(Clone, Debug)]
pub(super) struct Env {
    /// By letter.
    pub(super) values: Vec<u64>,
    /// By type.
    pub(super) widths: Vec<u32>,
}

impl Env {
    /// The value of a term; none where an operation has none.
    pub(super) fn value(&self, term: &Term) -> Option<u64> {
        let width = self.widths[term.ty];
        match &term.kind {
            Kind::Letter(letter) => Some(self.values[*letter]),
            Kind::Literal(literal) => Some(literal.bits(width)),
            Kind::Op(opcode, terms) => {
                let mut operands = [(0, 0); 3];
                for (operand, term) in operands.iter_mut().zip(terms) {
                    *operand = (self.value(term)?, self.widths[term.ty]);
                }
                compute(*opcode, width, &operands[..terms.len()])
            }
            Kind::Resize { extend, operand } => {
                let from = self.widths[operand.ty];
                let value = (self.value(operand)?, from);
                compute(if from < width { *extend } else { Opcode::Wrap }, width, &[value])
            }
        }
    }

    /// Whether the values are such that the condition holds.
    pub(super) fn holds(&self, rule: &Rule, condition: &Condition) -> bool {
        match condition {
            Condition::Pow2(letter) => self.values[*letter].is_power_of_two(),
            Condition::NonZero(letter) => self.values[*letter] != 0,
            Condition::Truth(letter) => self.values[*letter] <= 1,
            Condition::Holds(term) => self.value(term).is_some_and(|value| value != 0),
            Condition::FloatPow2(_) => unreachable!("`{}` is about floats", rule.law),
        }
    }
}

#[test]
fn the_model_is_what_evaluation_is_at_8_and_16_bits() {
    let opcodes = Opcode::all().filter(|opcode| {
        let row = opcode.row();
        let is_int = |ty: Type| ty.is_int();
        let over_ints = evaluate(*opcode, Type::I8, &vec![Value::i8(1); row.operands.len()]).is_some()
            || evaluate(*opcode, Type::I32, &vec![Value::i8(1); row.operands.len()]).is_some();
        over_ints && is_int(Type::I8) && *opcode != Opcode::Bitcast && !row.operands.is_empty()
    });
    let mut compared = 0;
    for opcode in opcodes {
        let converts = [Properties::WIDENS, Properties::NARROWS].iter().any(|p| opcode.has(*p));
        if converts || opcode.row().operands.len() > 2 {
            continue;
        }
        for ty in [Type::I8, Type::I16] {
            if (opcode, ty) == (Opcode::Bswap, Type::I8) {
                continue;
            }
            let result = if opcode.has(Properties::TRUTH) { Type::I32 } else { ty };
            for index in 0..1 << 16_u32 {
                // All pairs of 8 bits; at 16 bits a walk through all, and beside each another.
                let (x, y) =
                    if ty == Type::I8 { (index & 0xff, index >> 8) } else { (index, (index * 40_503) >> 5) };
                let (x, y) = (Value::from_bits(ty, x), Value::from_bits(ty, y));
                let operands = &[x, y][..opcode.row().operands.len()];
                let ints: Vec<Int> = operands.iter().map(|value| (value.low(), ty.bits())).collect();
                let expected = evaluate(opcode, result, operands).map(Value::low);
                assert_eq!(
                    compute(opcode, result.bits().min(MAX_WIDTH), &ints),
                    expected,
                    "{opcode} {x}, {y}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 30 << 17, "all operations on integers: {compared}");
}

#[test]
fn what_commutes_in_the_table_commutes_in_the_model() {
    for rule in super::rules().iter().filter(|rule| !rule.is_float()) {
        commutes(&rule.left);
    }
}

/// The left side is matched either way by this alone.
fn commutes(term: &Term) {
    let Kind::Op(opcode, terms) = &term.kind else { return };
    terms.iter().for_each(commutes);
    if opcode.has(Properties::COMMUTES) && terms.len() == 2 {
        for index in 0..1 << 10 {
            let (x, y) = ((index & 31, 5), (index >> 5, 5));
            assert_eq!(compute(*opcode, 5, &[x, y]), compute(*opcode, 5, &[y, x]), "{opcode}");
        }
    }
}
