//! A value outside of any method: its type and its bits.

use std::fmt;

use crate::types::Type;

/// A type and the bits of a value of it. Equality is of types and bits; for floats see
/// [`Value::same_modulo_nan`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Value {
    low: u64,
    high: u64,
    /// The type's number, as wide as the rest: with padding in it, a value would be copied in odd pieces, and that
    /// takes longer than computing it.
    ty: u64,
}

/// The types by number.
const TYPES: [Type; 1 + Type::VALUES.len()] = {
    let mut types = [Type::Void; 1 + Type::VALUES.len()];
    let mut index = 0;
    while index < Type::VALUES.len() {
        let ty = Type::VALUES[index];
        types[ty as usize] = ty;
        index += 1;
    }
    types
};

impl Value {
    /// The value of type `ty` with these bits; those above its width are dropped.
    pub const fn new(ty: Type, bits: u128) -> Value {
        let high = if ty.bits() == 128 { (bits >> 64) as u64 } else { 0 };
        Value { low: bits as u64 & ty.mask(), high, ty: ty as u64 }
    }

    /// The value of type `ty` with these low bits, and zeros above them.
    pub const fn from_bits(ty: Type, bits: u64) -> Value {
        Value { low: bits & ty.mask(), high: 0, ty: ty as u64 }
    }

    /// The value of type `ty` whose bits are all zero: 0, 0.0, null.
    pub const fn zero(ty: Type) -> Value {
        Value { low: 0, high: 0, ty: ty as u64 }
    }

    /// An 8-bit integer.
    pub const fn i8(value: i8) -> Value {
        Value::from_bits(Type::I8, value as u64)
    }

    /// A 16-bit integer.
    pub const fn i16(value: i16) -> Value {
        Value::from_bits(Type::I16, value as u64)
    }

    /// A 32-bit integer.
    pub const fn i32(value: i32) -> Value {
        Value::from_bits(Type::I32, value as u64)
    }

    /// A 64-bit integer.
    pub const fn i64(value: i64) -> Value {
        Value::from_bits(Type::I64, value as u64)
    }

    /// A 32-bit float.
    pub const fn f32(value: f32) -> Value {
        Value::from_bits(Type::F32, value.to_bits() as u64)
    }

    /// A 64-bit float.
    pub const fn f64(value: f64) -> Value {
        Value::from_bits(Type::F64, value.to_bits())
    }

    /// A raw address.
    pub const fn addr(address: u64) -> Value {
        Value::from_bits(Type::Addr, address)
    }

    /// A reference, by the address of what it points at; zero is null.
    pub const fn reference(address: u64) -> Value {
        Value::from_bits(Type::Ref, address)
    }

    /// 128 bits.
    pub const fn v128(bits: u128) -> Value {
        Value::new(Type::V128, bits)
    }

    /// What a comparison gives: one if `holds`, else zero.
    pub const fn flag(holds: bool) -> Value {
        Value::i32(holds as i32)
    }

    /// The type.
    pub const fn ty(self) -> Type {
        TYPES[self.ty as usize]
    }

    /// The bits; those above the type's width are zero.
    pub const fn bits(self) -> u128 {
        self.low as u128 | (self.high as u128) << 64
    }

    /// The low 64 bits: all of them but for `v128`. As an unsigned integer, the value of an integer.
    pub const fn low(self) -> u64 {
        self.low
    }

    /// The value of an integer, signed.
    pub const fn signed(self) -> i64 {
        let width = self.ty().bits();
        let unused = 64 - if width < 64 { width } else { 64 };
        match unused {
            64 => 0,
            unused => (self.low << unused) as i64 >> unused,
        }
    }

    /// The value of an `f32`, by its bits.
    pub const fn to_f32(self) -> f32 {
        f32::from_bits(self.low as u32)
    }

    /// The value of an `f64`, by its bits.
    pub const fn to_f64(self) -> f64 {
        f64::from_bits(self.low)
    }

    /// Whether a condition of this value holds: it is not zero.
    pub const fn is_true(self) -> bool {
        self.low != 0
    }

    /// Whether this is a float and not a number.
    pub const fn is_nan(self) -> bool {
        match self.ty() {
            Type::F32 => self.to_f32().is_nan(),
            Type::F64 => self.to_f64().is_nan(),
            _ => false,
        }
    }

    /// Whether both are the same, or both NaNs of one type: which NaN an operation gives is left open.
    pub fn same_modulo_nan(self, other: Value) -> bool {
        self == other || self.ty == other.ty && self.is_nan() && other.is_nan()
    }
}

/// As in `i32 -1`, `f64 0.5`, `ref 0x10`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ty() {
            Type::Void => f.write_str("void"),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => write!(f, "{} {}", self.ty(), self.signed()),
            Type::F32 if self.is_nan() => write!(f, "f32 NaN:{:#x}", self.low),
            Type::F64 if self.is_nan() => write!(f, "f64 NaN:{:#x}", self.low),
            Type::F32 => write!(f, "f32 {:?}", self.to_f32()),
            Type::F64 => write!(f, "f64 {:?}", self.to_f64()),
            Type::Addr | Type::Ref | Type::V128 => write!(f, "{} {:#x}", self.ty(), self.bits()),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
