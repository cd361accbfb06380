//! The types that values have. They sit on nodes, never in opcodes.

use std::fmt;
use std::str::FromStr;

/// The type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// No value: the type of roots that only act.
    #[default]
    Void,
    /// 8-bit integer; signedness belongs to the operation.
    I8,
    /// 16-bit integer.
    I16,
    /// 32-bit integer; also what comparisons give and conditions take (zero is false).
    I32,
    /// 64-bit integer.
    I64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// A raw address of 64 bits, which the collector does not see.
    Addr,
    /// A reference to a collected object, or null.
    Ref,
    /// 128 bits without an interpretation of their own.
    V128,
}

impl Type {
    /// Every type that a value can have.
    pub const VALUES: [Type; 9] =
        [Type::I8, Type::I16, Type::I32, Type::I64, Type::F32, Type::F64, Type::Addr, Type::Ref, Type::V128];

    /// The width in bits; zero for `Void`.
    #[inline]
    pub const fn bits(self) -> u32 {
        match self {
            Type::Void => 0,
            Type::I8 => 8,
            Type::I16 => 16,
            Type::I32 | Type::F32 => 32,
            Type::I64 | Type::F64 | Type::Addr | Type::Ref => 64,
            Type::V128 => 128,
        }
    }

    /// The width in bytes; zero for `Void`.
    #[inline]
    pub const fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// Whether this is one of the four integer types.
    #[inline]
    pub const fn is_int(self) -> bool {
        matches!(self, Type::I8 | Type::I16 | Type::I32 | Type::I64)
    }

    /// Whether this is one of the two floating-point types.
    #[inline]
    pub const fn is_float(self) -> bool {
        matches!(self, Type::F32 | Type::F64)
    }

    /// All ones in the width, for types of up to 64 bits.
    #[inline]
    pub const fn mask(self) -> u64 {
        match self.bits() {
            0 => 0,
            bits if bits >= 64 => u64::MAX,
            bits => (1 << bits) - 1,
        }
    }

    /// All ones in the width.
    pub const fn wide_mask(self) -> u128 {
        if self.bits() == 128 { u128::MAX } else { self.mask() as u128 }
    }

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Void => "void",
            Type::I8 => "i8",
            Type::I16 => "i16",
            Type::I32 => "i32",
            Type::I64 => "i64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Addr => "addr",
            Type::Ref => "ref",
            Type::V128 => "v128",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Type {
    type Err = ();

    fn from_str(text: &str) -> Result<Type, ()> {
        Type::VALUES.into_iter().find(|ty| ty.name() == text).ok_or(())
    }
}
