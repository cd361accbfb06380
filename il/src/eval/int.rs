//! Integer operations. Operands come as their low bits, zero above the width; results may have anything there.

use super::Value;
use crate::opcode::Opcode;
use crate::raise::RaiseKind;
use crate::types::Type;

/// One operand of type `ty`.
pub(super) fn unary(opcode: Opcode, ty: Type, a: u64) -> Option<u64> {
    let width = ty.bits();
    Some(match opcode {
        Opcode::Neg => a.wrapping_neg(),
        Opcode::Abs => Value::from_bits(ty, a).signed().wrapping_abs() as u64,
        Opcode::Not => !a,
        Opcode::Clz => u64::from(a.leading_zeros() - (64 - width)),
        Opcode::Ctz => u64::from(a.trailing_zeros().min(width)),
        Opcode::Popcnt => u64::from(a.count_ones()),
        Opcode::Bswap => a.swap_bytes() >> (64 - width),
        Opcode::Bitrev => a.reverse_bits() >> (64 - width),
        _ => return None,
    })
}

/// Two operands of type `ty`. Divisions have no value where the divisor is zero.
pub(super) fn binary(opcode: Opcode, ty: Type, a: Value, b: Value) -> Option<u64> {
    let (ua, ub) = (a.low(), b.low());
    let (sa, sb) = (a.signed(), b.signed());
    let width = ty.bits();
    let distance = (ub % u64::from(width)) as u32;
    Some(match opcode {
        Opcode::Add => ua.wrapping_add(ub),
        Opcode::Sub => ua.wrapping_sub(ub),
        Opcode::Mul => ua.wrapping_mul(ub),
        Opcode::SMulHigh => ((i128::from(sa) * i128::from(sb)) >> width) as u64,
        Opcode::UMulHigh => ((u128::from(ua) * u128::from(ub)) >> width) as u64,
        Opcode::SDiv | Opcode::UDiv | Opcode::SRem | Opcode::URem if ub == 0 => return None,
        Opcode::SDiv => sa.wrapping_div(sb) as u64,
        Opcode::UDiv => ua / ub,
        Opcode::SRem => sa.wrapping_rem(sb) as u64,
        Opcode::URem => ua % ub,
        Opcode::SMin => sa.min(sb) as u64,
        Opcode::SMax => sa.max(sb) as u64,
        Opcode::UMin => ua.min(ub),
        Opcode::UMax => ua.max(ub),
        Opcode::And => ua & ub,
        Opcode::Or => ua | ub,
        Opcode::Xor => ua ^ ub,
        Opcode::Shl => ua << distance,
        Opcode::SShr => (sa >> distance) as u64,
        Opcode::UShr => ua >> distance,
        Opcode::RotL => rotate_left(width, ua, distance),
        Opcode::RotR => rotate_left(width, ua, (width - distance) % width),
        _ => return None,
    })
}

/// `distance` is below `width`.
fn rotate_left(width: u32, bits: u64, distance: u32) -> u64 {
    match distance {
        0 => bits,
        distance => bits << distance | bits >> (width - distance),
    }
}

/// Two operands of one type, compared.
pub(super) fn compare(opcode: Opcode, a: Value, b: Value) -> Option<bool> {
    let (ua, ub) = (a.low(), b.low());
    let (sa, sb) = (a.signed(), b.signed());
    Some(match opcode {
        Opcode::Eq => ua == ub,
        Opcode::Ne => ua != ub,
        Opcode::SLt => sa < sb,
        Opcode::SLe => sa <= sb,
        Opcode::SGt => sa > sb,
        Opcode::SGe => sa >= sb,
        Opcode::ULt => ua < ub,
        Opcode::ULe => ua <= ub,
        Opcode::UGt => ua > ub,
        Opcode::UGe => ua >= ub,
        _ => return None,
    })
}

/// Arithmetic that raises where the exact result does not fit.
pub(super) fn checked(opcode: Opcode, ty: Type, a: Value, b: Value) -> Option<Result<Value, RaiseKind>> {
    let signed = |exact: fn(i128, i128) -> i128| {
        let exact = exact(a.signed().into(), b.signed().into());
        let wrapped = Value::new(ty, exact as u128);
        if i128::from(wrapped.signed()) == exact { Ok(wrapped) } else { Err(RaiseKind::Overflow) }
    };
    let unsigned = |exact: Option<u128>| match exact {
        Some(exact) if exact <= u128::from(ty.mask()) => Ok(Value::new(ty, exact)),
        _ => Err(RaiseKind::Overflow),
    };
    let (ua, ub) = (u128::from(a.low()), u128::from(b.low()));
    Some(match opcode {
        Opcode::SAddChecked => signed(|a, b| a + b),
        Opcode::SSubChecked => signed(|a, b| a - b),
        Opcode::SMulChecked => signed(|a, b| a * b),
        Opcode::UAddChecked => unsigned(Some(ua + ub)),
        Opcode::USubChecked => unsigned(ua.checked_sub(ub)),
        Opcode::UMulChecked => unsigned(Some(ua * ub)),
        Opcode::SDivChecked if ub == 0 => Err(RaiseKind::Division),
        Opcode::SDivChecked => signed(|a, b| a / b),
        _ => return None,
    })
}
