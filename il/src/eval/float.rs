//! Floating-point operations: IEEE 754 with ties to even. `f32` is computed in `f32`, never rounded twice.

use super::Value;
use crate::opcode::Opcode;
use crate::types::Type;

/// Defines the operations once for each of the two formats.
macro_rules! format {
    ($name:ident, $float:ident, $nan:literal) => {
        mod $name {
            use crate::opcode::Opcode;

            pub(super) fn unary(opcode: Opcode, a: $float) -> Option<$float> {
                Some(match opcode {
                    Opcode::FNeg => -a,
                    Opcode::FAbs => a.abs(),
                    Opcode::FSqrt => a.sqrt(),
                    // A sum makes a signalling NaN quiet, which the library's functions may not.
                    Opcode::FFloor | Opcode::FCeil | Opcode::FTrunc | Opcode::FNearest if a.is_nan() => a + a,
                    Opcode::FFloor => a.floor(),
                    Opcode::FCeil => a.ceil(),
                    Opcode::FTrunc => a.trunc(),
                    Opcode::FNearest => a.round_ties_even(),
                    Opcode::FCanonicalise if a.is_nan() => $float::from_bits($nan),
                    Opcode::FCanonicalise => a,
                    _ => return None,
                })
            }

            pub(super) fn binary(opcode: Opcode, a: $float, b: $float) -> Option<$float> {
                Some(match opcode {
                    Opcode::FAdd => a + b,
                    Opcode::FSub => a - b,
                    Opcode::FMul => a * b,
                    Opcode::FDiv => a / b,
                    Opcode::FRem => a % b,
                    Opcode::FCopysign => a.copysign(b),
                    Opcode::FMin | Opcode::FMax if a.is_nan() || b.is_nan() => a + b,
                    // Equal operands differ at most in the sign of zero.
                    Opcode::FMin => {
                        if a < b || a == b && a.is_sign_negative() {
                            a
                        } else {
                            b
                        }
                    }
                    Opcode::FMax => {
                        if a > b || a == b && a.is_sign_positive() {
                            a
                        } else {
                            b
                        }
                    }
                    _ => return None,
                })
            }

            pub(super) fn compare(opcode: Opcode, a: $float, b: $float) -> Option<bool> {
                Some(match opcode {
                    Opcode::FEq => a == b,
                    Opcode::FNe => a != b,
                    Opcode::FLt => a < b,
                    Opcode::FLe => a <= b,
                    Opcode::FGt => a > b,
                    Opcode::FGe => a >= b,
                    _ => return None,
                })
            }
        }
    };
}

format!(single, f32, 0x7fc0_0000);
format!(double, f64, 0x7ff8_0000_0000_0000);

/// One operand of type `ty`.
pub(super) fn unary(opcode: Opcode, ty: Type, a: Value) -> Option<Value> {
    match ty {
        Type::F32 => single::unary(opcode, a.to_f32()).map(Value::f32),
        Type::F64 => double::unary(opcode, a.to_f64()).map(Value::f64),
        _ => None,
    }
}

/// Two operands of type `ty`.
pub(super) fn binary(opcode: Opcode, ty: Type, a: Value, b: Value) -> Option<Value> {
    match ty {
        Type::F32 => single::binary(opcode, a.to_f32(), b.to_f32()).map(Value::f32),
        Type::F64 => double::binary(opcode, a.to_f64(), b.to_f64()).map(Value::f64),
        _ => None,
    }
}

/// Two operands of one type, compared.
pub(super) fn compare(opcode: Opcode, a: Value, b: Value) -> Option<bool> {
    match a.ty() {
        Type::F32 => single::compare(opcode, a.to_f32(), b.to_f32()),
        Type::F64 => double::compare(opcode, a.to_f64(), b.to_f64()),
        _ => None,
    }
}

/// `x * y + z`, rounded once.
pub(super) fn fma(ty: Type, x: Value, y: Value, z: Value) -> Option<Value> {
    match ty {
        Type::F32 => Some(Value::f32(x.to_f32().mul_add(y.to_f32(), z.to_f32()))),
        Type::F64 => Some(Value::f64(x.to_f64().mul_add(y.to_f64(), z.to_f64()))),
        _ => None,
    }
}
