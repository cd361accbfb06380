//! Where things are in an instance's VM context and in what it points at. Compiled code and the store agree here.
//!
//! ```text
//!   context    0 the runtime's words
//!             64 number of the instance
//!             72 memories    16 bytes each: address, length in bytes
//!                tables      16 bytes each: address, number of elements
//!                tags         8 bytes each: the tag's identity in its store
//!                globals      8 bytes each: the value; of an imported one, where the value is
//!                functions   32 bytes each: a function record
//!
//!   function record   0 address of the code   8 its context   16 number of its type   24 its number in the store
//!   table element     0 a reference, 8 bytes
//!   exception         0 identity of its tag   8 whether a reference escaped   16 values, 8 bytes each
//! ```
//!
//! A function reference is the address of a function record, or zero. Every instance has records of all its functions,
//! its own and the imported ones (copies of the exporter's), so that every call that is not direct reads code address
//! and context from a record, and no reference needs an allocation.
//!
//! Addresses of memories and tables never change: a store reserves what they may grow to. Their lengths are kept
//! up to date in the context of every instance that uses them.

use crate::module::Module;

/// Where the frontend's words begin; what is before belongs to the runtime.
pub const FIRST: u32 = 64;
/// Where the number of the instance is.
pub const INSTANCE: u32 = FIRST;
/// The bytes of what the context says of one memory or table.
pub const VIEW_BYTES: u32 = 16;
/// Where in such a view the length is.
pub const VIEW_LENGTH: u32 = 8;
/// The bytes of a word: a tag, a global, a table's element.
pub const WORD_BYTES: u32 = 8;
/// The bytes of a function record.
pub const RECORD_BYTES: u32 = 32;
/// Where in a record the code's address is.
pub const RECORD_CODE: u32 = 0;
/// Where in a record the callee's context is.
pub const RECORD_CONTEXT: u32 = 8;
/// Where in a record the number of the type is.
pub const RECORD_TYPE: u32 = 16;
/// Where in a record the function's number in its store is.
pub const RECORD_FUNCTION: u32 = 24;
/// Where in an exception the identity of its tag is.
pub const EXCEPTION_TAG: u32 = 0;
/// Where in an exception it says whether a reference to it escaped.
pub const EXCEPTION_ESCAPED: u32 = 8;
/// Where in an exception its values begin.
pub const EXCEPTION_VALUES: u32 = 16;

/// The offsets of one module's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    memories: u32,
    tables: u32,
    tags: u32,
    globals: u32,
    functions: u32,
    size: u32,
}

impl Layout {
    /// The layout of a module's contexts. The limits of a module keep all offsets below 2^31.
    pub fn of(module: &Module) -> Layout {
        let memories = INSTANCE + WORD_BYTES;
        let tables = memories + VIEW_BYTES * module.memories.len() as u32;
        let tags = tables + VIEW_BYTES * module.tables.len() as u32;
        let globals = tags + WORD_BYTES * module.tags.len() as u32;
        let functions = globals + WORD_BYTES * module.globals.len() as u32;
        let size = functions + RECORD_BYTES * module.functions.len() as u32;
        Layout { memories, tables, tags, globals, functions, size }
    }

    /// The bytes of a context.
    pub fn size_bytes(&self) -> u32 {
        self.size
    }

    /// What the context says of a memory: its address here, its length [`VIEW_LENGTH`] bytes on.
    pub fn memory(&self, memory: u32) -> u32 {
        self.memories + VIEW_BYTES * memory
    }

    /// What the context says of a table, as of a memory.
    pub fn table(&self, table: u32) -> u32 {
        self.tables + VIEW_BYTES * table
    }

    /// The identity of a tag.
    pub fn tag(&self, tag: u32) -> u32 {
        self.tags + WORD_BYTES * tag
    }

    /// A global's value, or where the value of an imported one is.
    pub fn global(&self, global: u32) -> u32 {
        self.globals + WORD_BYTES * global
    }

    /// The record of a function.
    pub fn function(&self, function: u32) -> u32 {
        self.functions + RECORD_BYTES * function
    }
}
