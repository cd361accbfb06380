//! A WebAssembly module, decoded and validated, and nothing else: plain data that outlives every compilation.
//!
//! ```text
//!   bytes ──► wasmparser: decode, validate ──► Module { types, imports, …, ranges of bodies and data }
//! ```
//!
//! # Guarantees
//!
//! * What [`Module::parse`] accepts is valid under exactly [`FEATURES`] and within the limits below; lowering may
//!   rely on it.
//! * An error names the byte offset at which the module is wrong. A module that is only too modern for this
//!   frontend is told apart from one that is wrong.
//! * No recursion, and memory in proportion to the module's bytes: bodies and data are ranges of them.

use std::collections::BTreeMap;
use std::ops::Range;

use wasmparser::{FuncValidatorAllocations, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use crate::error::{Error, ErrorKind};
use crate::types::{ExternType, FuncType, GlobalType, Limits, TableType};

mod consts;
mod sections;

pub use consts::{ConstExpr, ConstOp};

/// WebAssembly 2.0 without SIMD, and extended constant expressions, tail calls, several memories, 64-bit memories and
/// tables, and exceptions.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .difference(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::EXCEPTIONS);

/// The bytes of a module.
pub const MAX_MODULE_BYTES: usize = 1 << 30;
/// Functions of a module, imported ones included; also types, imports, exports, globals and tags each.
pub const MAX_FUNCTIONS: usize = 1_000_000;
/// The bytes of a function's body.
pub const MAX_FUNCTION_BYTES: usize = 7_654_321;
/// Locals of a function, parameters included.
pub const MAX_LOCALS: u32 = 50_000;
/// Parameters, and results, of a function.
pub const MAX_PARAMS: usize = 1_000;
/// Tables of a module.
pub const MAX_TABLES: usize = 100_000;
/// Memories of a module.
pub const MAX_MEMORIES: usize = 100;
/// Segments of a module, of each of the two sorts.
pub const MAX_SEGMENTS: usize = 100_000;
/// Elements of a table. A larger minimum is an error when it is instantiated; growth beyond fails.
pub const MAX_TABLE_ELEMENTS: u64 = 10_000_000;
/// The bytes of a page.
pub const PAGE_BYTES: u64 = 1 << 16;
// Nesting has no limit of its own: nothing here recurses, so that the bytes of a body bound it.

/// What an export is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportKind {
    /// A function.
    Func,
    /// A table.
    Table,
    /// A memory.
    Memory,
    /// A global.
    Global,
    /// A tag.
    Tag,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The name, unique in the module.
    pub name: String,
    /// What it is of.
    pub kind: ExportKind,
    /// Its index among those of its kind, imported ones first.
    pub index: u32,
}

/// An import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module that it is from.
    pub module: String,
    /// Its name there.
    pub name: String,
    /// What it has to be.
    pub ty: ExternType,
}

/// When a segment is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentMode {
    /// When the module is instantiated, to this table or memory at this offset.
    Active(u32, ConstExpr),
    /// When an instruction says so.
    Passive,
    /// Never; it only names functions that may be referred to.
    Declared,
}

/// What an element segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementItems {
    /// Functions, by index.
    Functions(Vec<u32>),
    /// Any references.
    Expressions(Vec<ConstExpr>),
}

impl ElementItems {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            ElementItems::Functions(items) => items.len(),
            ElementItems::Expressions(items) => items.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An element segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// When it is copied.
    pub mode: SegmentMode,
    /// What it holds.
    pub items: ElementItems,
}

/// A data segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// When it is copied.
    pub mode: SegmentMode,
    /// Where in the module its bytes are.
    pub range: Range<usize>,
}

/// Index spaces count imports first; the `imported_…` fields say how many those are.
#[derive(Clone, Debug, Default)]
pub struct Module {
    pub(crate) bytes: Vec<u8>,
    pub(crate) types: Vec<FuncType>,
    pub(crate) imports: Vec<Import>,
    /// By function: its type.
    pub(crate) functions: Vec<u32>,
    pub(crate) imported_functions: usize,
    pub(crate) tables: Vec<TableType>,
    pub(crate) imported_tables: usize,
    pub(crate) memories: Vec<Limits>,
    pub(crate) imported_memories: usize,
    pub(crate) globals: Vec<GlobalType>,
    pub(crate) imported_globals: usize,
    /// By global that is not imported: its value at the start.
    pub(crate) global_values: Vec<ConstExpr>,
    /// By tag: its type.
    pub(crate) tags: Vec<u32>,
    pub(crate) imported_tags: usize,
    pub(crate) exports: Vec<Export>,
    pub(crate) start: Option<u32>,
    pub(crate) elements: Vec<Element>,
    pub(crate) data: Vec<Data>,
    /// By function that is not imported: where in the module its body is.
    pub(crate) bodies: Vec<Range<usize>>,
    pub(crate) function_names: BTreeMap<u32, String>,
}

impl Module {
    /// Decodes and validates a module in the binary format.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and at which byte.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Module, Error> {
        Module::parse_with(bytes, FEATURES)
    }

    /// As [`Module::parse`], under fewer features; those that are not among [`FEATURES`] are not available.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and at which byte.
    pub fn parse_with(bytes: impl Into<Vec<u8>>, features: WasmFeatures) -> Result<Module, Error> {
        let bytes = bytes.into();
        if bytes.len() > MAX_MODULE_BYTES {
            let message = format!("{} bytes; a module has at most {MAX_MODULE_BYTES}", bytes.len());
            return Err(Error::at(ErrorKind::Limit, MAX_MODULE_BYTES as u64, message));
        }
        let mut module = Module::default();
        match module.read(&bytes, features & FEATURES) {
            Ok(()) => {
                module.bytes = bytes;
                Ok(module)
            }
            Err(error) => Err(classify(&bytes, error)),
        }
    }

    fn read(&mut self, bytes: &[u8], features: WasmFeatures) -> Result<(), Error> {
        let mut validator = Validator::new_with_features(features);
        let mut parser = Parser::new(0);
        parser.set_features(features);
        let mut allocations = FuncValidatorAllocations::default();
        for payload in parser.parse_all(bytes) {
            let payload = payload?;
            if let Payload::Version { encoding: wasmparser::Encoding::Component, .. } = payload {
                return Err(Error::at(ErrorKind::Unsupported, 0, "this is a component, not a module"));
            }
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                let mut function = function.into_validator(allocations);
                function.validate(&body)?;
                allocations = function.into_allocations();
            }
            let start = payload.as_section().map_or(0, |(_, range)| range.start);
            self.section(payload).map_err(|error| error.or_at(start))?;
        }
        Ok(())
    }

    // ---- what there is ----

    /// The imports, in order.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// The exports, in order.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// The type of an export.
    pub fn export_type(&self, export: &Export) -> ExternType {
        let index = export.index as usize;
        match export.kind {
            ExportKind::Func => ExternType::Func(self.function_type(export.index).clone()),
            ExportKind::Table => ExternType::Table(self.tables[index]),
            ExportKind::Memory => ExternType::Memory(self.memories[index]),
            ExportKind::Global => ExternType::Global(self.globals[index]),
            ExportKind::Tag => ExternType::Tag(self.tag_type(export.index).clone()),
        }
    }

    /// How many functions there are, imported ones included.
    pub fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// How many of the functions are imported; they are the first.
    pub fn imported_function_count(&self) -> usize {
        self.imported_functions
    }

    /// The type of a function.
    ///
    /// # Panics
    ///
    /// If there is no such function.
    pub fn function_type(&self, function: u32) -> &FuncType {
        &self.types[self.functions[function as usize] as usize]
    }

    /// The type of a tag.
    pub(crate) fn tag_type(&self, tag: u32) -> &FuncType {
        &self.types[self.tags[tag as usize] as usize]
    }

    /// A function's name for messages: that of the name section, else of an export or import, else its index.
    pub fn function_name(&self, function: u32) -> String {
        self.function_names.get(&function).cloned().unwrap_or_else(|| format!("function {function}"))
    }

    /// How many bytes of code there are.
    pub fn code_bytes(&self) -> usize {
        self.bodies.iter().map(Range::len).sum()
    }
}

/// What `wasmparser` says where a module is beyond one of its limits, which are those above.
const LIMIT_WORDS: [&str; 3] = ["exceeds limit", "exceed maximum", "size is out of bounds"];

/// Tells a module that is wrong from one that uses what this frontend does not support or that is too large.
fn classify(bytes: &[u8], error: Error) -> Error {
    if error.kind() != ErrorKind::Invalid {
        return error;
    }
    let at = error.offset().unwrap_or(0);
    if LIMIT_WORDS.iter().any(|words| error.message().contains(words)) {
        return Error::at(ErrorKind::Limit, at, error.message());
    }
    match Validator::new_with_features(WasmFeatures::all()).validate_all(bytes) {
        Ok(_) => Error::at(ErrorKind::Unsupported, at, error.message()),
        Err(_) => error,
    }
}
