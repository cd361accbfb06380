//! What each pure operation computes: the meaning of a row, on plain values.
//!
//! ```text
//!   evaluate(Add, i8, [200, 100])  =  Some(44)          wraps
//!   evaluate(UDiv, i32, [1, 0])    =  None              has no value
//!   evaluate_checked(UAddChecked, i8, [200, 100])  =  Some(Err(Overflow))
//! ```
//!
//! *Why.* The interpreter, constant folding and the laws of algebraic rules must mean the same by an opcode.
//! They all ask here, and nothing of this is shared with code generation, so that either can judge the other.
//!
//! # Guarantees
//!
//! * Total: no operands make it panic. Operands that the row does not allow give `None`.
//! * Deterministic, except for the bits of NaNs, which the IL leaves open; see [`Value::same_modulo_nan`].
//! * Only what depends on the operands alone is answered: never memory, payloads or the running program.

mod convert;
mod float;
mod int;
#[cfg(test)]
mod tests;
mod value;

pub use value::Value;

use crate::opcode::{Opcode, Operand, Outcome, Properties};
use crate::raise::RaiseKind;
use crate::types::Type;

/// The value of a node with this opcode, type and operands.
///
/// `None` if the operation is not a computation of its operands alone (a load, a constant, a check), if the
/// operands are not what the row asks for, or if there is no value: a divisor that is zero.
pub fn evaluate(opcode: Opcode, ty: Type, operands: &[Value]) -> Option<Value> {
    is_well_typed(opcode, ty, operands).then(|| compute(opcode, ty, operands)).flatten()
}

/// The value of a root that can raise for its operands' sake, or the kind that it raises.
///
/// Answers for checked arithmetic, trapping conversions, divisions, and the checks that need nothing but their
/// operands: `nullcheck`, `boundscheck`, `divcheck`, `sizecheck`. `None` for every other opcode, and for
/// operands that the row does not allow.
pub fn evaluate_checked(opcode: Opcode, ty: Type, operands: &[Value]) -> Option<Result<Value, RaiseKind>> {
    is_well_typed(opcode, ty, operands).then(|| compute_checked(opcode, ty, operands)).flatten()
}

/// [`evaluate`] for operands known to be what the row asks for; anything else gives some value or none.
pub(crate) fn compute(opcode: Opcode, ty: Type, operands: &[Value]) -> Option<Value> {
    match *operands {
        [a] => unary(opcode, ty, a),
        [a, b] => binary(opcode, ty, a, b),
        [condition, then, otherwise] if opcode == Opcode::Select => {
            Some(if condition.is_true() { then } else { otherwise })
        }
        [x, y, z] if opcode == Opcode::Fma => float::fma(ty, x, y, z),
        _ => None,
    }
}

/// [`evaluate_checked`] for operands known to be what the row asks for.
pub(crate) fn compute_checked(
    opcode: Opcode,
    ty: Type,
    operands: &[Value],
) -> Option<Result<Value, RaiseKind>> {
    use Opcode::*;
    let proves = |holds: bool, value: Value, kind| Some(if holds { Ok(value) } else { Err(kind) });
    match (opcode, operands) {
        (NullCheck, &[reference]) => proves(reference.bits() != 0, reference, RaiseKind::Null),
        (DivCheck, &[divisor]) => proves(divisor.bits() != 0, divisor, RaiseKind::Division),
        (SizeCheck, &[length]) => proves(length.signed() >= 0, length, RaiseKind::NegativeSize),
        (BoundsCheck, &[index, length]) => proves(index.low() < length.low(), index, RaiseKind::Bounds),
        (SDiv | UDiv | SRem | URem, &[_, divisor]) if divisor.bits() == 0 => Some(Err(RaiseKind::Division)),
        (SDiv | UDiv | SRem | URem, &[a, b]) => binary(opcode, ty, a, b).map(Ok),
        (FloatToSIntChecked | FloatToUIntChecked, &[a]) => convert::float_to_int_checked(opcode, ty, a),
        (_, &[a, b]) => int::checked(opcode, ty, a, b),
        _ => None,
    }
}

fn unary(opcode: Opcode, ty: Type, a: Value) -> Option<Value> {
    use Opcode::*;
    match opcode {
        Wrap | SExt | UExt | SIntToFloat | UIntToFloat | FloatToSInt | FloatToUInt | FPromote | FDemote
        | Bitcast => convert::convert(opcode, ty, a),
        _ if ty.is_int() => int::unary(opcode, ty, a.low()).map(|bits| Value::from_bits(ty, bits)),
        _ => float::unary(opcode, ty, a),
    }
}

fn binary(opcode: Opcode, ty: Type, a: Value, b: Value) -> Option<Value> {
    use Opcode::*;
    match opcode {
        Eq | Ne | SLt | SLe | SGt | SGe | ULt | ULe | UGt | UGe => {
            int::compare(opcode, a, b).map(Value::flag)
        }
        FEq | FNe | FLt | FLe | FGt | FGe => float::compare(opcode, a, b).map(Value::flag),
        AddrAdd => Some(Value::addr(a.low().wrapping_add(b.low()))),
        _ if ty.is_int() => int::binary(opcode, ty, a, b).map(|bits| Value::from_bits(ty, bits)),
        _ => float::binary(opcode, ty, a, b),
    }
}

/// Whether the row allows a node of type `ty` with these operands.
fn is_well_typed(opcode: Opcode, ty: Type, operands: &[Value]) -> bool {
    let row = opcode.row();
    let is_outcome = match row.outcome {
        Outcome::Fixed(fixed) => ty == fixed,
        Outcome::Own(class) => class.contains(ty),
        Outcome::Nothing | Outcome::Signature => false,
    };
    let mut before = Type::Void;
    is_outcome
        && operands.len() == row.operands.len()
        && operands.iter().zip(row.operands).all(|(value, operand)| {
            let is_like = before == value.ty();
            before = value.ty();
            match operand {
                Operand::Own => value.ty() == ty,
                Operand::Of(class) => class.contains(value.ty()),
                Operand::Like => is_like,
            }
        })
        && operands.first().is_none_or(|first| has_width(opcode, ty, first.ty()))
}

/// Whether the widths of operand and result are as the row says.
fn has_width(opcode: Opcode, to: Type, from: Type) -> bool {
    let (from_bits, to_bits) = (from.bits(), to.bits());
    if opcode.has(Properties::WIDENS) {
        to_bits > from_bits
    } else if opcode.has(Properties::NARROWS) {
        to_bits < from_bits
    } else if opcode.has(Properties::SAME_WIDTH) {
        to_bits == from_bits && (from == Type::Ref) == (to == Type::Ref)
    } else {
        true
    }
}
