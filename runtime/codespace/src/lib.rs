//! Executable memory near the program.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "while the parts are joined")]

mod error;
mod options;
mod record;

pub use error::Error;
pub use options::{Fallback, Lane, Options, Packing, Placement, Pressure, Protection, Relief, Seal, Unwind};

/// Spans start at multiples of this many bytes: a cache line, so that writing one disturbs no other.
pub const GRANULE: usize = 64;
/// The bytes of a page.
pub const PAGE: usize = 4096;
/// The bytes of a chunk, and what its address is a multiple of.
pub const CHUNK: usize = 2 << 20;
/// The bytes that a writer leases at once.
pub const SPAN: usize = 64 << 10;

/// What an `int3` instruction is.
const INT3: u8 = 0xcc;

/// A space of executable memory.
#[derive(Debug)]
pub struct CodeSpace;

impl CodeSpace {
    /// Makes a space.
    pub fn new(_: &Options) -> Result<CodeSpace, Error> {
        Ok(CodeSpace)
    }
}
