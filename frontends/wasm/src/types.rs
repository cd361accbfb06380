//! WebAssembly's types, as far as this frontend supports them.

use std::fmt;

use dagwood_il as il;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// A function, or null.
    FuncRef,
    /// Something of the host's, or null.
    ExternRef,
    /// A caught exception, or null.
    ExnRef,
}

impl ValType {
    /// The type that the value has in the IL: references are addresses, null is zero.
    pub fn lowered(self) -> il::Type {
        match self {
            ValType::I32 => il::Type::I32,
            ValType::I64 => il::Type::I64,
            ValType::F32 => il::Type::F32,
            ValType::F64 => il::Type::F64,
            ValType::FuncRef | ValType::ExternRef | ValType::ExnRef => il::Type::Addr,
        }
    }

    /// The type as `wasmparser` has it; none if this frontend does not support it.
    pub(crate) fn from_parser(ty: wasmparser::ValType) -> Option<ValType> {
        Some(match ty {
            wasmparser::ValType::I32 => ValType::I32,
            wasmparser::ValType::I64 => ValType::I64,
            wasmparser::ValType::F32 => ValType::F32,
            wasmparser::ValType::F64 => ValType::F64,
            wasmparser::ValType::V128 => return None,
            wasmparser::ValType::Ref(ty) => ValType::from_reference(ty)?,
        })
    }

    /// The reference type as `wasmparser` has it; none if this frontend does not support it.
    pub(crate) fn from_reference(ty: wasmparser::RefType) -> Option<ValType> {
        use wasmparser::AbstractHeapType as Heap;
        match ty.heap_type() {
            wasmparser::HeapType::Abstract { shared: false, ty } => match ty {
                Heap::Func => Some(ValType::FuncRef),
                Heap::Extern => Some(ValType::ExternRef),
                Heap::Exn => Some(ValType::ExnRef),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValType::I32 => "i32",
            ValType::I64 => "i64",
            ValType::F32 => "f32",
            ValType::F64 => "f64",
            ValType::FuncRef => "funcref",
            ValType::ExternRef => "externref",
            ValType::ExnRef => "exnref",
        })
    }
}

/// What a function takes and returns; also the payload of a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FuncType {
    /// The parameters.
    pub params: Vec<ValType>,
    /// The results.
    pub results: Vec<ValType>,
}

impl FuncType {
    /// A type.
    pub fn new(params: &[ValType], results: &[ValType]) -> FuncType {
        FuncType { params: params.into(), results: results.into() }
    }
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValType]| types.iter().map(ValType::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "({}) -> ({})", list(&self.params), list(&self.results))
    }
}

/// How large a memory (in pages) or a table (in elements) is, and may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size at the start.
    pub min: u64,
    /// The largest size, if there is one.
    pub max: Option<u64>,
    /// Whether indexes are of type `i64`.
    pub is_64: bool,
}

impl Limits {
    /// Between which two sizes all lie that there can be, if each page or element counts as `unit`.
    pub(crate) fn range(&self, unit: u64) -> (u64, u64) {
        let addressable = if self.is_64 { u64::MAX } else { 1 << 32 };
        let max = self.max.map_or(u64::MAX, |max| max.saturating_mul(unit));
        (self.min.saturating_mul(unit), max.min(addressable))
    }

    /// Whether something that has these limits now may stand where `expected` is imported.
    pub(crate) fn fit(&self, expected: &Limits) -> bool {
        let is_max_enough = match (self.max, expected.max) {
            (_, None) => true,
            (Some(max), Some(expected)) => max <= expected,
            (None, Some(_)) => false,
        };
        self.is_64 == expected.is_64 && self.min >= expected.min && is_max_enough
    }

    /// The type of an index.
    pub fn index_type(&self) -> ValType {
        if self.is_64 { ValType::I64 } else { ValType::I32 }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = if self.is_64 { "i64 " } else { "" };
        match self.max {
            Some(max) => write!(f, "{index}{}..={max}", self.min),
            None => write!(f, "{index}{}..", self.min),
        }
    }
}

/// What a table holds, and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableType {
    /// The elements' type.
    pub element: ValType,
    /// How many elements.
    pub limits: Limits,
}

/// What a global holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalType {
    /// The value's type.
    pub value: ValType,
    /// Whether it may be written.
    pub is_mutable: bool,
}

/// What can be imported and exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternType {
    /// A function.
    Func(FuncType),
    /// A table.
    Table(TableType),
    /// A memory, its limits in pages of 64 KiB.
    Memory(Limits),
    /// A global.
    Global(GlobalType),
    /// A tag of exceptions, by its payload.
    Tag(FuncType),
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternType::Func(ty) => write!(f, "function {ty}"),
            ExternType::Table(ty) => write!(f, "table {} {}", ty.limits, ty.element),
            ExternType::Memory(limits) => write!(f, "memory {limits}"),
            ExternType::Global(ty) if ty.is_mutable => write!(f, "global mut {}", ty.value),
            ExternType::Global(ty) => write!(f, "global {}", ty.value),
            ExternType::Tag(ty) => write!(f, "tag {ty}"),
        }
    }
}
