//! Conversions between types.

use super::Value;
use crate::opcode::Opcode;
use crate::raise::RaiseKind;
use crate::types::Type;

/// `a` as a value of type `to`.
pub(super) fn convert(opcode: Opcode, to: Type, a: Value) -> Option<Value> {
    Some(match opcode {
        Opcode::Wrap | Opcode::UExt => Value::from_bits(to, a.low()),
        Opcode::SExt => Value::from_bits(to, a.signed() as u64),
        Opcode::Bitcast => Value::new(to, a.bits()),
        Opcode::SIntToFloat if to == Type::F32 => Value::f32(a.signed() as f32),
        Opcode::SIntToFloat => Value::f64(a.signed() as f64),
        Opcode::UIntToFloat if to == Type::F32 => Value::f32(a.low() as f32),
        Opcode::UIntToFloat => Value::f64(a.low() as f64),
        Opcode::FPromote => Value::f64(f64::from(a.to_f32())),
        Opcode::FDemote => Value::f32(a.to_f64() as f32),
        Opcode::FloatToSInt => {
            let max = (to.mask() >> 1) as i64;
            Value::from_bits(to, (exact(a)? as i64).clamp(-max - 1, max) as u64)
        }
        Opcode::FloatToUInt => Value::from_bits(to, (exact(a)? as u64).min(to.mask())),
        _ => return None,
    })
}

/// Toward zero; raises `conversion` for NaN, `overflow` if it does not fit.
pub(super) fn float_to_int_checked(opcode: Opcode, to: Type, a: Value) -> Option<Result<Value, RaiseKind>> {
    let truncated = exact(a)?.trunc();
    // Powers of two, so exact; the smallest value that fits, and the smallest above it that does not.
    let modulus = 2.0 * (1_u64 << (to.bits().checked_sub(1)?)) as f64;
    let (min, end) = match opcode {
        Opcode::FloatToSIntChecked => (-modulus / 2.0, modulus / 2.0),
        Opcode::FloatToUIntChecked => (0.0, modulus),
        _ => return None,
    };
    Some(if truncated.is_nan() {
        Err(RaiseKind::Conversion)
    } else if truncated < min || truncated >= end {
        Err(RaiseKind::Overflow)
    } else if opcode == Opcode::FloatToSIntChecked {
        Ok(Value::from_bits(to, truncated as i64 as u64))
    } else {
        Ok(Value::from_bits(to, truncated as u64))
    })
}

/// The value of a float of either type; `f64` holds every `f32`.
fn exact(a: Value) -> Option<f64> {
    match a.ty() {
        Type::F32 => Some(a.to_f32().into()),
        Type::F64 => Some(a.to_f64()),
        _ => None,
    }
}
