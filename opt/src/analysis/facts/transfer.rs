//! From what is known of operands to what is known of results: the table of [`facts`](super).
//!
//! ```text
//!   transfer(Add, i8, [0..=10, 1..=1])     =  1..=11
//!   transfer(And, i8, [any, 0x0f])         =  0..=15, high bits zero
//!   outcome(SAddChecked, i8, [0..=10, 1])  =  1..=11, cannot raise
//! ```
//!
//! *Why a table of its own.* Each line says one thing about one operation, and the test beside it holds every line against
//! [`evaluate`](dagwood_il::eval::evaluate) for all 8-bit operands.
//!
//! *Guarantees.* What an operation gives for operands that their facts allow is allowed by the answer. Operands that are
//! constants give a constant wherever the operation has a value.

use dagwood_il::eval::{Value, evaluate, evaluate_checked};
use dagwood_il::{Opcode, Properties, Type};

use super::fact::{Fact, Parts};

/// What is known of the result of an operation that depends on nothing but its operands, if it has a value.
pub(super) fn transfer(opcode: Opcode, ty: Type, operands: &[Fact]) -> Fact {
    if let Some(value) = constant(opcode, ty, operands) {
        return value;
    }
    let fact = match *operands {
        [a] => unary(opcode, ty, &a),
        [a, b] => binary(opcode, ty, &a, &b),
        [condition, then, otherwise] if opcode == Opcode::Select => {
            if condition.is_nonzero() {
                then
            } else if condition.umax() == 0 {
                otherwise
            } else {
                then.join(&otherwise)
            }
        }
        _ => Fact::any(ty),
    };
    if opcode.has(Properties::TRUTH) && fact.is_any() { Fact::truth() } else { fact }
}

fn constant(opcode: Opcode, ty: Type, operands: &[Fact]) -> Option<Fact> {
    let mut values = [Value::default(); 3];
    let values = values.get_mut(..operands.len())?;
    for (value, operand) in values.iter_mut().zip(operands) {
        *value = Value::from_bits(operand.ty(), operand.as_constant()?);
    }
    let result = evaluate(opcode, ty, values).or_else(|| evaluate_checked(opcode, ty, values)?.ok())?;
    // Which NaN an operation gives is left open.
    (result.ty().bits() <= 64 && !result.is_nan()).then(|| Fact::constant(ty, result.low()))
}

/// What is known of a check's or checked operation's result where it does not raise, and whether it may raise.
pub(super) fn outcome(opcode: Opcode, ty: Type, operands: &[Fact]) -> (Fact, bool) {
    use Opcode::*;
    let result = transfer(opcode, ty, operands);
    let may_raise = match (opcode, operands) {
        (NullCheck | DivCheck | Check, [a]) => !a.is_nonzero(),
        (SizeCheck, [a]) => !a.is_nonnegative(),
        (BoundsCheck, [index, length]) => index.umax() >= length.umin(),
        (SDiv | UDiv | SRem | URem, [_, divisor]) => !divisor.is_nonzero(),
        (SDivChecked, [a, divisor]) => !divisor.is_nonzero() || may_overflow_quotient(a, divisor),
        // What constants give was computed, so it did not raise.
        (_, _) if constant(opcode, ty, operands).is_some() => false,
        (_, [a, b]) => exact(opcode, a, b).is_none_or(|(min, max)| {
            let (least, most) = limits(opcode, ty);
            min < least || max > most
        }),
        _ => true,
    };
    (result, may_raise)
}

/// The exact result of checked arithmetic lies between these numbers.
fn exact(opcode: Opcode, a: &Fact, b: &Fact) -> Option<(i128, i128)> {
    use Opcode::*;
    Some(match opcode {
        SAddChecked => sum(signed(a), signed(b)),
        SSubChecked => difference(signed(a), signed(b)),
        SMulChecked => product(signed(a), signed(b))?,
        UAddChecked => sum(unsigned(a), unsigned(b)),
        USubChecked => difference(unsigned(a), unsigned(b)),
        UMulChecked => product(unsigned(a), unsigned(b))?,
        _ => return None,
    })
}

/// What the result of checked arithmetic must lie between.
fn limits(opcode: Opcode, ty: Type) -> (i128, i128) {
    use Opcode::*;
    let any = Fact::any(ty);
    match opcode {
        UAddChecked | USubChecked | UMulChecked => unsigned(&any),
        _ => signed(&any),
    }
}

/// A range, as numbers of which sums and products can be taken.
type Range = (i128, i128);

fn unsigned(fact: &Fact) -> Range {
    (fact.umin().into(), fact.umax().into())
}

fn signed(fact: &Fact) -> Range {
    (fact.smin().into(), fact.smax().into())
}

fn sum(a: Range, b: Range) -> Range {
    (a.0 + b.0, a.1 + b.1)
}

fn difference(a: Range, b: Range) -> Range {
    (a.0 - b.1, a.1 - b.0)
}

/// None where the numbers grow too large.
fn product(a: Range, b: Range) -> Option<Range> {
    hull(|x, y| x.checked_mul(y), a, b)
}

/// What a function gives that rises or falls in each operand: the extremes are at corners.
fn hull(f: impl Fn(i128, i128) -> Option<i128>, a: Range, b: Range) -> Option<Range> {
    let corners = [f(a.0, b.0)?, f(a.0, b.1)?, f(a.1, b.0)?, f(a.1, b.1)?];
    Some((corners.into_iter().min()?, corners.into_iter().max()?))
}

/// Both ways of reading the operands bound a sum, a difference, a product; low bits do not depend on the reading.
fn both_ways(ty: Type, f: impl Fn(Range, Range) -> Option<Range>, a: &Fact, b: &Fact) -> Parts {
    let ranges = [f(unsigned(a), unsigned(b)), f(signed(a), signed(b))];
    ranges.into_iter().flatten().fold(Parts::any(ty), |parts, (min, max)| parts.wrapped(min, max))
}

fn unary(opcode: Opcode, ty: Type, a: &Fact) -> Fact {
    use Opcode::*;
    let width = ty.bits();
    let count = |min: u32, max: u32| Fact::unsigned(ty, min.into(), max.into());
    match opcode {
        Neg => {
            let parts = both_ways(ty, |a, b| Some(difference(b, a)), a, &Fact::constant(ty, 0));
            parts.bits(low_mask((!a.zeros()).trailing_zeros().min(width)), 0).fact()
        }
        Abs if a.is_nonnegative() => *a,
        Abs => {
            let (min, max) = signed(a);
            let least = if min <= 0 && max >= 0 { 0 } else { min.abs().min(max.abs()) };
            Fact::wrapped(ty, least, min.abs().max(max.abs()))
        }
        Not => Fact::bits(ty, a.ones(), a.zeros() & ty.mask()).and(Fact::unsigned(
            ty,
            !a.umax() & ty.mask(),
            !a.umin() & ty.mask(),
        )),
        Clz => count(leading_zeros(ty, a.umax()), leading_zeros(ty, a.umin())),
        Ctz => count((!a.zeros()).trailing_zeros().min(width), a.ones().trailing_zeros().min(width)),
        Popcnt => count(a.ones().count_ones(), (!a.zeros() & ty.mask()).count_ones()),
        Bswap | Bitrev => {
            let permuted = |bits: u64| {
                let bits = if opcode == Bswap { bits.swap_bytes() } else { bits.reverse_bits() };
                bits >> (64 - width)
            };
            Fact::bits(ty, permuted(a.zeros() & ty.mask()), permuted(a.ones()))
        }
        Wrap => {
            let fact = Fact::bits(ty, a.zeros() & ty.mask(), a.ones() & ty.mask());
            fact.and(Fact::wrapped(ty, a.umin().into(), a.umax().into())).and(Fact::wrapped(
                ty,
                a.smin().into(),
                a.smax().into(),
            ))
        }
        UExt => a.zero_extended(ty),
        SExt => Fact::signed(ty, a.smin(), a.smax()).and(low_bits(ty, a)),
        Bitcast if ty.bits() <= 64 && !ty.is_float() && !a.ty().is_float() => {
            Fact::unsigned(ty, a.umin(), a.umax()).and(Fact::bits(ty, a.zeros(), a.ones()))
        }
        NullCheck | DivCheck => a.and(Fact::nonzero(ty)),
        SizeCheck => a.and(Fact::signed(ty, 0, i64::MAX)),
        _ => Fact::any(ty),
    }
}

/// The bits below the sign of a narrower value, of which the sign's copies are not known.
fn low_bits(ty: Type, a: &Fact) -> Fact {
    let below = a.ty().mask() >> 1;
    Fact::bits(ty, a.zeros() & below, a.ones() & below)
}

fn leading_zeros(ty: Type, bits: u64) -> u32 {
    bits.leading_zeros() - (64 - ty.bits())
}

fn low_mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

fn binary(opcode: Opcode, ty: Type, a: &Fact, b: &Fact) -> Fact {
    use Opcode::*;
    match opcode {
        // Whatever is added to a number of which nothing is known, nothing is known of the sum.
        Add | AddrAdd | Sub | Xor if a.is_any() || b.is_any() => Fact::any(ty),
        Add | AddrAdd => added_bits(both_ways(ty, |a, b| Some(sum(a, b)), a, b), ty, a, b, false).fact(),
        Sub => added_bits(both_ways(ty, |a, b| Some(difference(a, b)), a, b), ty, a, b, true).fact(),
        Mul => {
            let zeros = (!a.zeros()).trailing_zeros() + (!b.zeros()).trailing_zeros();
            both_ways(ty, product, a, b).bits(low_mask(zeros.min(ty.bits())), 0).fact()
        }
        SMulHigh => high_half(ty, product(signed(a), signed(b))),
        UMulHigh => high_half(ty, unsigned_product(a, b)),
        SAddChecked | SSubChecked | SMulChecked | UAddChecked | USubChecked | UMulChecked => {
            let (least, most) = limits(opcode, ty);
            let within = exact(opcode, a, b)
                .map_or(Fact::any(ty), |(min, max)| Fact::wrapped(ty, min.max(least), max.min(most)));
            binary(opcode.unchecked(), ty, a, b).and(within)
        }
        SDiv | SDivChecked => signed_quotient(ty, a, b),
        UDiv => Fact::unsigned(ty, a.umin() / b.umax().max(1), a.umax() / b.umin().max(1)),
        SRem => signed_remainder(ty, a, b),
        URem if a.umax() < b.umin() => *a,
        URem => Fact::unsigned(ty, 0, a.umax().min(b.umax().saturating_sub(1))),
        SMin => Fact::signed(ty, a.smin().min(b.smin()), a.smax().min(b.smax())).and(a.join(b)),
        SMax => Fact::signed(ty, a.smin().max(b.smin()), a.smax().max(b.smax())).and(a.join(b)),
        UMin => Fact::unsigned(ty, a.umin().min(b.umin()), a.umax().min(b.umax())).and(a.join(b)),
        UMax => Fact::unsigned(ty, a.umin().max(b.umin()), a.umax().max(b.umax())).and(a.join(b)),
        And => {
            let bits = Parts::any(ty).bits(a.zeros() | b.zeros(), a.ones() & b.ones());
            bits.unsigned(0, a.umax().min(b.umax())).fact()
        }
        Or => {
            let bits = Parts::any(ty).bits(a.zeros() & b.zeros(), a.ones() | b.ones());
            bits.unsigned(a.umin().max(b.umin()), u64::MAX).fact()
        }
        Xor => Fact::bits(
            ty,
            a.zeros() & b.zeros() | a.ones() & b.ones(),
            a.zeros() & b.ones() | a.ones() & b.zeros(),
        ),
        Shl | SShr | UShr | RotL | RotR => shift(opcode, ty, a, b),
        Eq | Ne | SLt | SLe | SGt | SGe | ULt | ULe | UGt | UGe => match compare(opcode, a, b) {
            Some(holds) => Fact::constant(ty, holds.into()),
            None => Fact::any(ty),
        },
        BoundsCheck if b.umax() == 0 => *a,
        BoundsCheck => a.and(Fact::unsigned(ty, 0, b.umax() - 1)),
        _ => Fact::any(ty),
    }
}

/// What a comparison gives, if the facts decide it.
pub(super) fn compare(opcode: Opcode, a: &Fact, b: &Fact) -> Option<bool> {
    use Opcode::*;
    let decided = |always: bool, never: bool| match (always, never) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let equal = || a.as_constant().is_some() && a.as_constant() == b.as_constant();
    match opcode {
        Eq => decided(equal(), a.meet(b).is_none()),
        Ne => decided(a.meet(b).is_none(), equal()),
        ULt => decided(a.umax() < b.umin(), a.umin() >= b.umax()),
        ULe => decided(a.umax() <= b.umin(), a.umin() > b.umax()),
        UGt => compare(ULt, b, a),
        UGe => compare(ULe, b, a),
        SLt => decided(a.smax() < b.smin(), a.smin() >= b.smax()),
        SLe => decided(a.smax() <= b.smin(), a.smin() > b.smax()),
        SGt => compare(SLt, b, a),
        SGe => compare(SLe, b, a),
        _ => None,
    }
}

/// The bits of a sum, or of a difference, that do not depend on what is not known: those where the carry is known.
fn added_bits(parts: Parts, ty: Type, a: &Fact, b: &Fact, is_difference: bool) -> Parts {
    let mask = ty.mask();
    // a - b is a + !b + 1.
    let (b_zeros, b_ones, carry) =
        if is_difference { (b.ones() | !mask, b.zeros() & mask, 1) } else { (b.zeros(), b.ones(), 0) };
    let most = (!a.zeros() & mask).wrapping_add(!b_zeros & mask).wrapping_add(carry);
    let least = a.ones().wrapping_add(b_ones).wrapping_add(carry);
    let carries_zero = !(most ^ a.zeros() ^ b_zeros);
    let carries_one = least ^ a.ones() ^ b_ones;
    let known = (a.zeros() | a.ones()) & (b_zeros | b_ones) & (carries_zero | carries_one) & mask;
    parts.bits(!most & known, least & known)
}

fn unsigned_product(a: &Fact, b: &Fact) -> Option<Range> {
    product(unsigned(a), unsigned(b))
}

fn high_half(ty: Type, product: Option<Range>) -> Fact {
    product.map_or(Fact::any(ty), |(min, max)| Fact::wrapped(ty, min >> ty.bits(), max >> ty.bits()))
}

fn may_overflow_quotient(a: &Fact, divisor: &Fact) -> bool {
    a.smin() == Fact::any(a.ty()).smin() && divisor.smin() <= -1 && divisor.smax() >= -1
}

fn signed_quotient(ty: Type, a: &Fact, b: &Fact) -> Fact {
    // The quotient rises or falls in each operand where the divisor keeps its sign.
    let negative = (b.smin() < 0).then(|| (b.smin().into(), b.smax().min(-1).into()));
    let positive = (b.smax() > 0).then(|| (b.smin().max(1).into(), b.smax().into()));
    let parts = [negative, positive]
        .into_iter()
        .flatten()
        .filter_map(|divisors| hull(|x, y| x.checked_div(y), signed(a), divisors));
    let whole = parts.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    whole.map_or(Fact::any(ty), |(min, max)| Fact::wrapped(ty, min, max))
}

fn signed_remainder(ty: Type, a: &Fact, b: &Fact) -> Fact {
    let most = i128::from(b.smin()).abs().max(i128::from(b.smax()).abs()) - 1;
    let (min, max) = signed(a);
    if most < 0 {
        return Fact::any(ty);
    }
    Fact::wrapped(ty, min.min(0).max(-most), max.max(0).min(most))
}

fn shift(opcode: Opcode, ty: Type, a: &Fact, b: &Fact) -> Fact {
    use Opcode::*;
    let modulus = u64::from(ty.bits());
    let (near, far) = match b.as_constant() {
        Some(distance) => ((distance % modulus) as u32, (distance % modulus) as u32),
        None => {
            let distance = transfer(URem, ty, &[*b, Fact::constant(ty, modulus)]);
            let distance = distance.and(transfer(And, ty, &[*b, Fact::constant(ty, modulus - 1)]));
            (distance.umin() as u32, distance.umax() as u32)
        }
    };
    let bits_at = |d: u32| {
        let (zeros, ones, mask) = (a.zeros() & ty.mask(), a.ones(), ty.mask());
        let rotated = |bits: u64, d: u32| match d {
            0 => bits,
            _ => bits << d | bits >> (ty.bits() - d),
        };
        match opcode {
            Shl => Fact::bits(ty, zeros << d | low_mask(d), ones << d & mask),
            UShr => Fact::bits(ty, zeros >> d | (mask & !(mask >> d)), ones >> d),
            RotL => Fact::bits(ty, rotated(zeros, d) & mask, rotated(ones, d) & mask),
            RotR => {
                let d = (ty.bits() - d) % ty.bits();
                Fact::bits(ty, rotated(zeros, d) & mask, rotated(ones, d) & mask)
            }
            _ => Fact::any(ty),
        }
    };
    let bits = if near == far {
        bits_at(near)
    } else if opcode == Shl {
        Fact::bits(ty, low_mask((!a.zeros()).trailing_zeros().saturating_add(near).min(ty.bits())), 0)
    } else {
        Fact::any(ty)
    };
    let range = match opcode {
        Shl if near == far => both_ways(ty, |a, _| Some((a.0 << near, a.1 << near)), a, a).fact(),
        Shl => Fact::wrapped(ty, unsigned(a).0 << near, unsigned(a).1 << far),
        UShr => Fact::unsigned(ty, a.umin() >> far, a.umax() >> near),
        SShr => {
            let shifted = hull(|x, d| Some(x >> d), signed(a), (near.into(), far.into()));
            shifted.map_or(Fact::any(ty), |(min, max)| Fact::wrapped(ty, min, max))
        }
        _ => Fact::any(ty),
    };
    bits.and(range)
}
