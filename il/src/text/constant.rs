//! Constants and frequencies as text, both ways and exactly.
//!
//! Integers are signed decimals, addresses hexadecimal. A float is the shortest decimal that reads back as the same
//! bits; every NaN but the canonical one is its bits.

use super::ParseError;
use super::cursor::{Cursor, shown};
use super::lex::Kind;
use crate::method::Frequency;
use crate::types::Type;

/// The bits of the positive quiet NaN without payload.
fn canonical_nan(ty: Type) -> u128 {
    if ty == Type::F32 { f32::NAN.to_bits().into() } else { f64::NAN.to_bits().into() }
}

/// A constant of type `ty` with these bits.
pub(super) fn print(ty: Type, bits: u128) -> String {
    if bits > ty.wide_mask() {
        return format!("{bits:#x}");
    }
    let low = bits as u64;
    match ty {
        Type::I8 => (low as i8).to_string(),
        Type::I16 => (low as i16).to_string(),
        Type::I32 => (low as i32).to_string(),
        Type::I64 => (low as i64).to_string(),
        Type::Ref if bits == 0 => "null".into(),
        Type::F32 | Type::F64 if bits == canonical_nan(ty) => "nan".into(),
        Type::F32 if !f32::from_bits(low as u32).is_nan() => format!("{:?}", f32::from_bits(low as u32)),
        Type::F64 if !f64::from_bits(low).is_nan() => format!("{:?}", f64::from_bits(low)),
        _ => format!("{bits:#x}"),
    }
}

/// Reads a constant of type `ty`; gives its bits.
pub(super) fn read(cursor: &mut Cursor<'_>, ty: Type) -> Result<u128, ParseError> {
    let is_negative = cursor.eat_sign('-')?;
    let token = cursor.here();
    match token.kind {
        Kind::Word if ty == Type::Ref && token.text == "null" && !is_negative => cursor.take().map(|_| 0),
        Kind::Word if ty.is_float() && token.text == "nan" && !is_negative => {
            cursor.take().map(|_| canonical_nan(ty))
        }
        Kind::Word if ty.is_float() && token.text == "inf" => {
            cursor.take()?;
            Ok(float_bits("inf", ty, is_negative).unwrap_or_default())
        }
        Kind::Number if ty.is_float() && !token.text.starts_with("0x") => {
            cursor.take()?;
            float_bits(token.text, ty, is_negative).filter(|bits| !is_infinite(*bits, ty)).ok_or_else(|| {
                cursor.error_at(
                    token,
                    format_args!("{} is no finite {ty}", shown(token.text)),
                    "a decimal in its range",
                )
            })
        }
        Kind::Number => {
            cursor.take()?;
            let magnitude = cursor.unsigned(token)?;
            integer_bits(magnitude, ty, is_negative && !ty.is_float())
                .filter(|_| !(is_negative && ty.is_float()))
                .ok_or_else(|| {
                    cursor.error_at(
                        token,
                        format_args!("{} does not fit {ty}", shown(token.text)),
                        expected(ty),
                    )
                })
        }
        _ => Err(cursor.unexpected(expected(ty))),
    }
}

/// What a constant looks like.
fn expected(ty: Type) -> String {
    match ty {
        Type::Ref => "`null`".into(),
        Type::F32 | Type::F64 => format!("a decimal, `inf`, `nan`, or `0x` and {} bits", ty.bits()),
        Type::V128 | Type::Addr => format!("a number of {} bits", ty.bits()),
        _ => format!("a number of {} bits, signed or unsigned", ty.bits()),
    }
}

fn integer_bits(magnitude: u128, ty: Type, is_negative: bool) -> Option<u128> {
    let mask = ty.wide_mask();
    let max = if is_negative { mask / 2 + 1 } else { mask };
    let bits = if is_negative { magnitude.wrapping_neg() } else { magnitude };
    (magnitude <= max).then_some(bits & mask)
}

fn float_bits(text: &str, ty: Type, is_negative: bool) -> Option<u128> {
    if ty == Type::F32 {
        let value: f32 = text.parse().ok()?;
        Some(if is_negative { -value } else { value }.to_bits().into())
    } else {
        let value: f64 = text.parse().ok()?;
        Some(if is_negative { -value } else { value }.to_bits().into())
    }
}

fn is_infinite(bits: u128, ty: Type) -> bool {
    match ty {
        Type::F32 => f32::from_bits(bits as u32).is_infinite(),
        _ => f64::from_bits(bits as u64).is_infinite(),
    }
}

/// Units of a frequency's last decimal: 10¹⁰ / 1024 of them are one unit of [`Frequency`].
const DECIMALS: usize = 10;
const TEN_TO_DECIMALS: u64 = 10_000_000_000;

/// A frequency in entries of the method.
pub(super) fn print_frequency(frequency: Frequency) -> String {
    let Frequency(units) = frequency;
    let decimals = u64::from(units % 1024) * (TEN_TO_DECIMALS / 1024);
    let text = format!("{}.{decimals:0DECIMALS$}", units / 1024);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Reads a frequency, to the nearest unit.
pub(super) fn read_frequency(cursor: &mut Cursor<'_>) -> Result<Frequency, ParseError> {
    let token = cursor.expect(Kind::Number, "a frequency: entries of the block for one of the method")?;
    let (whole, decimals) = token.text.split_once('.').unwrap_or((token.text, "0"));
    let units = || {
        let is_decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_decimal(whole) || !is_decimal(decimals) || decimals.len() > DECIMALS {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
        let part = (decimals * 1024 + TEN_TO_DECIMALS / 2) / TEN_TO_DECIMALS;
        u32::try_from(whole.checked_mul(1024)?.checked_add(part)?).ok()
    };
    units().map(Frequency).ok_or_else(|| {
        let what = format!("{} is no frequency", shown(token.text));
        cursor.error_at(
            token,
            what,
            format_args!("a decimal below {} with at most {DECIMALS} digits after the point", 1 << 22),
        )
    })
}
