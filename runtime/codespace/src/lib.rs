//! Executable memory near the program.

#[cfg(feature = "gdb")]
mod batch;
mod bits;
mod buffer;
mod call;
mod classes;
mod code;
#[cfg(feature = "gdb")]
mod dwarf;
#[cfg(feature = "gdb")]
mod elf;
mod encode;
mod error;
mod file;
mod fork;
#[cfg(feature = "gdb")]
mod gdb;
mod grace;
mod hot;
mod index;
mod jitdump;
mod lane;
mod maps;
mod marks;
mod memory;
mod observe;
mod options;
mod pages;
mod perf;
mod place;
mod placing;
mod pool;
mod quarantine;
mod reclaim;
mod record;
mod share;
mod slot;
mod space;
mod span;
mod stats;
mod sync;
mod system;
mod writer;
#[cfg(test)]
mod testing;

// Not in their files, which the model tests include.
#[cfg(test)]
#[path = "grace/tests.rs"]
mod grace_tests;
#[cfg(test)]
#[path = "quarantine/tests.rs"]
mod quarantine_tests;

pub use buffer::{CodeBuf, Layout};
pub use call::{
    CallForm, CallSite, LoadForm, Patching, Reach, STUB_LEN, WINDOW_MAX, WINDOW_MIN, WINDOW_MIN_PATCHED,
};
pub use code::{Code, Refused};
pub use error::Error;
pub use grace::{Ask, Barrier, Domain, Participant, Running};
pub use hot::HotEdge;
pub use index::Found;
pub use observe::{FILE_BYTES, Gdb, LINES, LineEntry, NAME_BYTES, Observed, Observers, Observing};
pub use options::{Fallback, Lane, Options, Packing, Placement, Pressure, Protection, Relief, Seal, Unwind};
pub use place::{Reservation, Rung, reserve_near};
pub use reclaim::Reclaimed;
pub use slot::Slot;
pub use space::CodeSpace;
pub use stats::{Report, Stats};
pub use writer::CodeWriter;

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
