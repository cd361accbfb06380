//! Executable memory near the program.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "while the parts are joined")]

#[cfg(feature = "gdb")]
mod batch;
mod call;
#[cfg(feature = "gdb")]
mod dwarf;
#[cfg(feature = "gdb")]
mod elf;
mod encode;
mod error;
mod file;
#[cfg(feature = "gdb")]
mod gdb;
mod grace;
mod hot;
mod jitdump;
mod maps;
mod memory;
mod observe;
mod options;
mod perf;
mod place;
mod pool;
mod quarantine;
mod record;
mod slot;
mod sync;
mod system;
#[cfg(test)]
mod testing;

pub use call::{
    CallForm, CallSite, LoadForm, Patching, Reach, STUB_LEN, WINDOW_MAX, WINDOW_MIN, WINDOW_MIN_PATCHED,
};
pub use error::Error;
pub use grace::{Ask, Barrier, Domain, Participant, Running};
pub use hot::HotEdge;
pub use observe::{FILE_BYTES, Gdb, LINES, LineEntry, NAME_BYTES, Observed, Observers, Observing};
pub use options::{Fallback, Lane, Options, Packing, Placement, Pressure, Protection, Relief, Seal, Unwind};
pub use place::{Reservation, Rung, reserve_near};
pub use slot::Slot;

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
