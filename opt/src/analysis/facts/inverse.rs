//! From what is known of results back to what is known of operands: what a passed test says of the values it compared.
//!
//! ```text
//!   ult x, y  is 1, y in 0..=10      ──►  x in 0..=9
//!   and x, 1  is 0                   ──►  the low bit of x is zero
//!   uext x    in 5..=7               ──►  x in 5..=7
//! ```
//!
//! *Guarantees.* Operands for which an operation gives what its fact allows are allowed by the answers. A table like
//! [`transfer`](super::transfer), held against the same evaluation.

use dagwood_il::{Opcode, Properties};

use super::fact::Fact;
use super::transfer::transfer;

/// A comparison that holds: `left + by <= right`, where `by` is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Whether the operands are read as signed numbers.
    pub(super) is_signed: bool,
    /// The index of the lesser operand; the other one is the greater.
    pub(super) less: usize,
    /// The least difference.
    pub(super) by: u8,
}

/// The order that a comparison says its operands have, if it holds or does not.
pub(super) fn order(opcode: Opcode, holds: bool) -> Option<Order> {
    use Opcode::*;
    let (is_signed, less, by) = match opcode {
        ULt => (false, 0, 1),
        ULe => (false, 0, 0),
        UGt => (false, 1, 1),
        UGe => (false, 1, 0),
        SLt => (true, 0, 1),
        SLe => (true, 0, 0),
        SGt => (true, 1, 1),
        SGe => (true, 1, 0),
        _ => return None,
    };
    Some(if holds { Order { is_signed, less, by } } else { Order { is_signed, less: 1 - less, by: 1 - by } })
}

/// What is known of the operands of an operation that gave what `result` allows; none for those of which nothing new is.
pub(super) fn operands_of(opcode: Opcode, result: &Fact, operands: &[Fact]) -> [Option<Fact>; 3] {
    use Opcode::*;
    match (opcode, operands) {
        (_, [_, ..]) if opcode.has(Properties::PROVES) => [Some(*result), None, None],
        (UExt | Bitcast, [a]) if a.ty().bits() <= 64 && !a.ty().is_float() && !result.ty().is_float() => {
            let range = Fact::unsigned(a.ty(), result.umin().min(a.ty().mask()), result.umax());
            [Some(range.and(Fact::bits(a.ty(), result.zeros(), result.ones() & a.ty().mask()))), None, None]
        }
        (SExt, [a]) => {
            let any = Fact::any(a.ty());
            let range = Fact::signed(a.ty(), result.smin().min(any.smax()), result.smax().max(any.smin()));
            let mask = a.ty().mask();
            [Some(range.and(Fact::bits(a.ty(), result.zeros() & mask, result.ones() & mask))), None, None]
        }
        (Wrap, [a]) => [Some(wrapped_operand(result, a)), None, None],
        (Not | Neg, [a]) => [Some(transfer(opcode, a.ty(), &[*result])), None, None],
        (Add | AddrAdd, [a, b]) => {
            [Some(transfer(Sub, a.ty(), &[*result, *b])), Some(transfer(Sub, b.ty(), &[*result, *a])), None]
        }
        (Sub, [a, b]) => {
            [Some(transfer(Add, a.ty(), &[*result, *b])), Some(transfer(Sub, b.ty(), &[*a, *result])), None]
        }
        (Xor, [a, b]) => {
            [Some(transfer(Xor, a.ty(), &[*result, *b])), Some(transfer(Xor, b.ty(), &[*result, *a])), None]
        }
        (And, [a, b]) => [Some(masked(result, a, b)), Some(masked(result, b, a)), None],
        (Or, [a, b]) => [Some(set(result, a, b)), Some(set(result, b, a)), None],
        (UMin | UMax | SMin | SMax, [a, b]) => {
            [Some(extreme(opcode, result, a, b)), Some(extreme(opcode, result, b, a)), None]
        }
        (UShr | SShr, [a, b]) => [shifted(opcode, result, a, b), None, None],
        (Select, [_, then, otherwise]) => selected(result, then, otherwise),
        (_, [a, b]) if opcode.has(Properties::TRUTH) => match result.as_constant() {
            Some(holds) => compared(opcode, holds != 0, a, b),
            None => [None; 3],
        },
        _ => [None; 3],
    }
}

/// The operand of a `wrap`: its low bits are the result's, and all of it where nothing was cut off.
fn wrapped_operand(result: &Fact, a: &Fact) -> Fact {
    let (ty, mask) = (a.ty(), result.ty().mask());
    let mut fact = Fact::bits(ty, result.zeros() & mask, result.ones());
    if a.umax() <= mask {
        fact = fact.and(Fact::unsigned(ty, result.umin(), result.umax()));
    }
    let any = Fact::any(result.ty());
    if any.smin() <= a.smin() && a.smax() <= any.smax() {
        fact = fact.and(Fact::signed(ty, result.smin(), result.smax()));
    }
    fact
}

/// The operand of an `and` beside `other`.
fn masked(result: &Fact, own: &Fact, other: &Fact) -> Fact {
    let mask = own.ty().mask();
    Fact::bits(own.ty(), result.zeros() & other.ones() & mask, result.ones()).and(Fact::unsigned(
        own.ty(),
        result.umin(),
        u64::MAX,
    ))
}

/// The operand of an `or` beside `other`.
fn set(result: &Fact, own: &Fact, other: &Fact) -> Fact {
    Fact::bits(own.ty(), result.zeros(), result.ones() & other.zeros()).and(Fact::unsigned(
        own.ty(),
        0,
        result.umax(),
    ))
}

/// The operand of a minimum or maximum beside `other`.
fn extreme(opcode: Opcode, result: &Fact, own: &Fact, other: &Fact) -> Fact {
    use Opcode::*;
    let ty = own.ty();
    let beyond = match opcode {
        UMin => Fact::unsigned(ty, result.umin(), u64::MAX),
        UMax => Fact::unsigned(ty, 0, result.umax()),
        SMin => Fact::signed(ty, result.smin(), i64::MAX),
        _ => Fact::signed(ty, i64::MIN, result.smax()),
    };
    // Where the other operand cannot be the result, this one is.
    if other.meet(result).is_none() { beyond.and(*result) } else { beyond }
}

/// What is shifted right by a known distance.
fn shifted(opcode: Opcode, result: &Fact, a: &Fact, b: &Fact) -> Option<Fact> {
    let distance = b.as_constant()? % u64::from(a.ty().bits());
    let low = (1_i128 << distance) - 1;
    let (min, max) = match opcode {
        Opcode::UShr => (result.umin().into(), result.umax().into()),
        _ => (i128::from(result.smin()), i128::from(result.smax())),
    };
    Some(Fact::wrapped(a.ty(), min << distance, (max << distance) | low))
}

/// The operands of a `select`: where one of the two cannot be the result, the other one was chosen.
fn selected(result: &Fact, then: &Fact, otherwise: &Fact) -> [Option<Fact>; 3] {
    let condition = dagwood_il::Type::I32;
    if then.meet(result).is_none() {
        [Some(Fact::constant(condition, 0)), None, Some(*result)]
    } else if otherwise.meet(result).is_none() {
        [Some(Fact::nonzero(condition)), Some(*result), None]
    } else {
        [None; 3]
    }
}

fn compared(opcode: Opcode, holds: bool, a: &Fact, b: &Fact) -> [Option<Fact>; 3] {
    if let Some(order) = order(opcode, holds) {
        let (less, more) = if order.less == 0 { (a, b) } else { (b, a) };
        let (below, above) = ordered(order, less, more);
        return if order.less == 0 { [below, above, None] } else { [above, below, None] };
    }
    match (opcode, holds) {
        (Opcode::Eq, true) | (Opcode::Ne, false) => [Some(*b), Some(*a), None],
        (Opcode::Eq, false) | (Opcode::Ne, true) => [different(a, b), different(b, a), None],
        _ => [None; 3],
    }
}

/// What is known of the lesser and the greater of two values. None where the order cannot be.
fn ordered(order: Order, less: &Fact, more: &Fact) -> (Option<Fact>, Option<Fact>) {
    let (ty, by) = (less.ty(), u64::from(order.by));
    if order.is_signed {
        let below = more.smax().checked_sub(by as i64).map(|max| Fact::signed(ty, i64::MIN, max));
        let above = less.smin().checked_add(by as i64).map(|min| Fact::signed(ty, min, i64::MAX));
        (below, above)
    } else {
        let below = more.umax().checked_sub(by).map(|max| Fact::unsigned(ty, 0, max));
        let above = less.umin().checked_add(by).map(|min| Fact::unsigned(ty, min, u64::MAX));
        (below, above)
    }
}

/// What is left of a value that differs from a constant, if that takes a bound away.
pub(super) fn different(own: &Fact, other: &Fact) -> Option<Fact> {
    let (ty, bits) = (own.ty(), other.as_constant()?);
    if own.as_constant() == Some(bits) {
        return None;
    }
    let signed = other.smin();
    let umin = own.umin() + u64::from(own.umin() == bits);
    let umax = own.umax() - u64::from(own.umax() == bits);
    let smin = own.smin() + i64::from(own.smin() == signed);
    let smax = own.smax() - i64::from(own.smax() == signed);
    Some(Fact::unsigned(ty, umin, umax).and(Fact::signed(ty, smin, smax)))
}
