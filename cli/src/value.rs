//! Values on the command line: read by type, and printed with it.

use dagwood_il::eval::Value;
use dagwood_il::{Signature, Type};

/// Reads the arguments of a call. Fails with a sentence that says which one is wrong and what it should be.
pub(crate) fn read_all(params: &[Type], texts: &[&str]) -> Result<Vec<Value>, String> {
    if params.len() != texts.len() {
        let takes = Signature::new(params, &[]);
        let takes: Vec<&str> = takes.params.iter().map(|ty| ty.name()).collect();
        return Err(format!("it takes ({}); {} arguments are given", takes.join(", "), texts.len()));
    }
    let read_one = |(index, (ty, text)): (usize, (&Type, &&str))| {
        read(*ty, text).ok_or_else(|| format!("argument {}, `{text}`, is not {}", index + 1, expected(*ty)))
    };
    params.iter().zip(texts).enumerate().map(read_one).collect()
}

/// What a value of a type looks like.
fn expected(ty: Type) -> &'static str {
    match ty {
        Type::I8 => "an integer of 8 bits, signed or unsigned",
        Type::I16 => "an integer of 16 bits, signed or unsigned",
        Type::I32 => "an integer of 32 bits, signed or unsigned",
        Type::I64 => "an integer of 64 bits, signed or unsigned",
        Type::F32 => "an f32: a decimal, `inf`, `nan`, or 0x and bits",
        Type::F64 => "an f64: a decimal, `inf`, `nan`, or 0x and bits",
        Type::Addr => "an address: a number of 64 bits",
        Type::V128 => "a number of 128 bits",
        Type::Ref => "`null`, the only reference that can be written",
        Type::Void => "there: nothing is taken",
    }
}

/// Reads a value of a type.
pub(crate) fn read(ty: Type, text: &str) -> Option<Value> {
    if ty == Type::Void {
        return None;
    }
    if ty == Type::Ref {
        return (text == "null").then(|| Value::reference(0));
    }
    if ty.is_float() && !text.starts_with("0x") {
        return Some(match ty {
            Type::F32 => Value::f32(text.parse().ok()?),
            _ => Value::f64(text.parse().ok()?),
        });
    }
    let (is_negative, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) if ty.is_int() => (true, magnitude),
        Some(_) => return None,
        None => (false, text),
    };
    let (digits, radix) = magnitude.strip_prefix("0x").map_or((magnitude, 10), |digits| (digits, 16));
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = u128::from_str_radix(digits, radix).ok()?;
    let largest = if ty.bits() == 128 { u128::MAX } else { (1 << ty.bits()) - 1 };
    let limit = if is_negative { largest / 2 + 1 } else { largest };
    let bits = if is_negative { magnitude.wrapping_neg() } else { magnitude };
    (magnitude <= limit).then(|| Value::new(ty, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_signed_or_unsigned_and_fit() {
        assert_eq!(read(Type::I32, "-1"), Some(Value::i32(-1)));
        assert_eq!(read(Type::I32, "4294967295"), Some(Value::i32(-1)));
        assert_eq!(read(Type::I32, "0xff"), Some(Value::i32(255)));
        assert_eq!(read(Type::I8, "-128"), Some(Value::i8(-128)));
        assert_eq!(read(Type::I64, "-0x8000000000000000"), Some(Value::i64(i64::MIN)));
        for text in ["4294967296", "-2147483649", "", "-", "0x", "--1", "+1", "1.5", "0x-1"] {
            assert_eq!(read(Type::I32, text), None, "{text}");
        }
        assert_eq!(read(Type::I8, "-129"), None);
    }

    #[test]
    fn floats_are_decimals_or_bits() {
        assert_eq!(read(Type::F32, "1.5"), Some(Value::f32(1.5)));
        assert_eq!(read(Type::F64, "-inf"), Some(Value::f64(f64::NEG_INFINITY)));
        assert_eq!(read(Type::F32, "0x7fc00001"), Some(Value::new(Type::F32, 0x7fc0_0001)));
        assert!(read(Type::F64, "nan").is_some_and(Value::is_nan));
        assert_eq!(read(Type::F32, "0x100000000"), None);
        assert_eq!(read(Type::F64, "one"), None);
    }

    #[test]
    fn references_are_null_and_addresses_unsigned() {
        assert_eq!(read(Type::Ref, "null"), Some(Value::reference(0)));
        assert_eq!((read(Type::Ref, "1"), read(Type::Addr, "-1"), read(Type::Void, "0")), (None, None, None));
        assert_eq!(read(Type::V128, "0x1"), Some(Value::new(Type::V128, 1)));
    }

    #[test]
    fn what_is_wrong_with_arguments_is_said() {
        let error = |params: &[Type], texts: &[&str]| read_all(params, texts).expect_err("they are wrong");
        assert_eq!(error(&[Type::I32, Type::F64], &["1"]), "it takes (i32, f64); 1 arguments are given");
        assert!(
            error(&[Type::I32, Type::I32], &["1", "x"])
                .starts_with("argument 2, `x`, is not an integer of 32")
        );
    }
}
