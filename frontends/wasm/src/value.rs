//! Values as the embedder sees them.

use std::fmt;

use crate::store::{Exception, Func};
use crate::types::ValType;

/// A value of a WebAssembly program. Floats are kept as bits, so that NaNs keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Val {
    /// An integer of 32 bits.
    I32(i32),
    /// An integer of 64 bits.
    I64(i64),
    /// The bits of a float of 32 bits.
    F32(u32),
    /// The bits of a float of 64 bits.
    F64(u64),
    /// A function, or null.
    FuncRef(Option<Func>),
    /// A number that the host chose, or null.
    ExternRef(Option<u32>),
    /// An exception, or null.
    ExnRef(Option<Exception>),
}

impl Val {
    /// A float of 32 bits.
    pub fn f32(value: f32) -> Val {
        Val::F32(value.to_bits())
    }

    /// A float of 64 bits.
    pub fn f64(value: f64) -> Val {
        Val::F64(value.to_bits())
    }

    /// The type.
    pub fn ty(&self) -> ValType {
        match self {
            Val::I32(_) => ValType::I32,
            Val::I64(_) => ValType::I64,
            Val::F32(_) => ValType::F32,
            Val::F64(_) => ValType::F64,
            Val::FuncRef(_) => ValType::FuncRef,
            Val::ExternRef(_) => ValType::ExternRef,
            Val::ExnRef(_) => ValType::ExnRef,
        }
    }

    /// Zero, or null.
    pub fn zero(ty: ValType) -> Val {
        match ty {
            ValType::I32 => Val::I32(0),
            ValType::I64 => Val::I64(0),
            ValType::F32 => Val::F32(0),
            ValType::F64 => Val::F64(0),
            ValType::FuncRef => Val::FuncRef(None),
            ValType::ExternRef => Val::ExternRef(None),
            ValType::ExnRef => Val::ExnRef(None),
        }
    }

    /// The value of a type that `text` is: a number in decimal or hexadecimal, or `null`.
    pub fn parse(ty: ValType, text: &str) -> Option<Val> {
        let (digits, radix) = match text.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        match ty {
            ValType::I32 => i32::from_str_radix(digits, radix)
                .or_else(|_| u32::from_str_radix(digits, radix).map(|bits| bits as i32))
                .ok()
                .map(Val::I32),
            ValType::I64 => i64::from_str_radix(digits, radix)
                .or_else(|_| u64::from_str_radix(digits, radix).map(|bits| bits as i64))
                .ok()
                .map(Val::I64),
            ValType::F32 => text.parse().ok().map(Val::f32),
            ValType::F64 => text.parse().ok().map(Val::f64),
            _ if text == "null" => Some(Val::zero(ty)),
            ValType::ExternRef => text.parse().ok().map(|number| Val::ExternRef(Some(number))),
            ValType::FuncRef | ValType::ExnRef => None,
        }
    }
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Val::I32(value) => value.fmt(f),
            Val::I64(value) => value.fmt(f),
            Val::F32(bits) => f32::from_bits(*bits).fmt(f),
            Val::F64(bits) => f64::from_bits(*bits).fmt(f),
            Val::FuncRef(None) | Val::ExternRef(None) | Val::ExnRef(None) => f.write_str("null"),
            Val::FuncRef(Some(func)) => write!(f, "function {}", func.number()),
            Val::ExternRef(Some(number)) => write!(f, "extern {number}"),
            Val::ExnRef(Some(exception)) => write!(f, "exception {}", exception.number()),
        }
    }
}
