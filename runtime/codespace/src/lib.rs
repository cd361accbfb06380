//! Executable memory near the program, for whoever emits machine code.
//!
//! ```text
//!            write view (rw-), anywhere      execute view (r-x), within reach of the program's text
//!          ┌──────────────────┐        ┌──────────────────────────────────────────┬───────┐
//!  CodeBuf │ bytes_mut()      │ memfd  │ chunk, 2 MiB     address()                │ guard │◄── calls
//!          └──────────────────┘◄══════►└──────────────────────────────────────────┴───────┘
//!                                        │span 64 KiB│span│..        │large function│
//!
//!  reserve ──► write ──► publish ──► runs ──► unlink, retire ──► grace ──► int3 ──► reserved again
//! ```
//!
//! A [`CodeSpace`] hands out room for functions through [`CodeWriter`]s, one for each thread that compiles. A [`CodeBuf`]
//! already has the address at which its code will run; [`CodeBuf::publish`] makes it code, which [`CodeSpace::lookup`] finds
//! by any address inside it. Code that nothing leads to any more is retired; once no thread can be running it, its bytes
//! become `int3` and are used again.
//!
//! *Why two views.* Code is filled in through one mapping while it has its address in the other, so that no page changes its
//! protection: publishing costs no system call and disturbs no thread that runs code nearby. *Why near.* A call of the
//! program's own functions then takes five bytes and no register. *Why 64 bytes.* Writing beside code that runs is free as
//! long as it is on another cache line; whole pages, which changing protection needs, take four times the memory.
//!
//! # Example
//!
//! ```
//! use dagwood_codespace::{CodeSpace, Domain, Layout, Options};
//!
//! let space = CodeSpace::new(&Options::default())?;
//! let writer = space.writer();
//!
//! let bytes = [0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
//! let mut buffer = writer.reserve(&Layout::new(bytes.len()))?;
//! buffer.bytes_mut().copy_from_slice(&bytes);
//! let code = buffer.publish(7)?; // any number, or address, that tells what this is
//!
//! let found = space.lookup(code.address() + 5).expect("an address in published code");
//! assert_eq!((found.address, found.owner), (code.address(), 7));
//!
//! // A thread that runs code says so, for as long as it does.
//! let participant = Domain::global().join()?;
//! {
//!     let _running = participant.enter();
//!     // SAFETY: the bytes are a function without parameters that returns an i32, and the code is not retired yet.
//!     let answer: extern "sysv64" fn() -> i32 = unsafe { std::mem::transmute(code.address()) };
//!     assert_eq!(answer(), 42);
//! }
//!
//! // Nothing calls it any more, so it can go. Reclaiming never waits for other threads: what they may still use stays.
//! writer.retire(code)?;
//! let mut gone = Vec::new();
//! while gone.is_empty() {
//!     writer.reclaim(&mut |freed| gone.push(freed.owner))?;
//! }
//! assert_eq!(gone, [7]);
//! # Ok::<(), dagwood_codespace::Error>(())
//! ```
//!
//! # What the user does
//!
//! * *Enters.* A thread that runs code is a [`Participant`] of the space's domain, and has entered while it does. Before
//!   code is retired everything that leads to it is changed: patched calls, slots, tables. No safe function here relies on
//!   either: whoever calls code, which is `unsafe`, vouches for both.
//! * *Keeps frame pointers*, if anything is to unwind through the code: a panic, a debugger, a profiler. Functions begin
//!   with `push rbp; mov rbp, rsp` and keep `rbp`. One unwind record covers a chunk; it restores `rbp`, `rsp` and the return
//!   address alone, so whoever calls such code from Rust, and may be unwound to, must have saved the other callee-saved
//!   registers.
//! * *Makes calls through windows* ([`CodeBuf::call`]): direct where the target is in reach, else through a [`Slot`].
//!
//! # Guarantees
//!
//! * No mapping is writable and executable, not even for a moment ([`Protection`] says how).
//! * Functions are disjoint and share no cache line. A published byte changes only by patching.
//! * Bytes that were given out and hold no code are `int3`: padding, what was abandoned, what was freed. Bytes that were
//!   never given out are zero.
//! * Nothing is used again before its grace period has passed, or its owner has vouched for it ([`CodeSpace::free`]).
//! * Lookups take no lock and work in signal handlers.
//! * What a user hands in never panics, and running out of memory is an [`Error`].
//! * A forked process can run and look up its parent's code, and can write none.
//!
//! # Cost
//!
//! Reserving, publishing and freeing a small function takes 15 ns besides writing it, and no lock. Lookups take 6 ns. A
//! function takes up to 16 bytes more than its own, and fills its last 64; what is known about it elsewhere is less than 1 %
//! of it. A space takes 64 MiB of addresses, and memory as it is used.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!(
    "Dagwood makes machine code for Linux on x86-64 with the GNU C library, and for nothing else yet"
);

mod call;
mod code;
mod error;
mod grace;
mod heap;
mod memory;
mod observe;
mod options;
mod space;
mod stats;
mod sync;
mod system;
#[cfg(test)]
mod testing;

// Not in their files, which the model tests include.
#[cfg(test)]
#[path = "grace/tests.rs"]
mod grace_tests;
#[cfg(test)]
#[path = "grace/quarantine/tests.rs"]
mod quarantine_tests;

pub use call::slot::Slot;
pub use call::{
    CallForm, CallSite, LoadForm, Patching, Reach, STUB_LEN, WINDOW_MAX, WINDOW_MIN, WINDOW_MIN_PATCHED,
};
pub use code::buffer::{CodeBuf, Layout};
pub use code::reclaim::Reclaimed;
pub use code::writer::CodeWriter;
pub use code::{Code, Refused};
pub use error::Error;
pub use grace::domain::{Ask, Barrier, Domain, Participant, Running};
pub use heap::hot::HotEdge;
pub use heap::index::Found;
pub use memory::place::{Reservation, Rung, reserve_near};
pub use observe::{FILE_BYTES, Gdb, LINES, LineEntry, NAME_BYTES, Observed, Observers, Observing};
pub use options::{Fallback, Lane, Options, Packing, Placement, Pressure, Protection, Relief, Seal, Unwind};
pub use space::CodeSpace;
pub use stats::{Report, Stats};

/// Functions lie on lines of this many bytes that they share with no other, so that writing one disturbs nobody who runs
/// another.
pub const GRANULE: usize = 64;
/// The bytes of a page.
pub const PAGE: usize = 4096;
/// The bytes of a chunk, and what its address is a multiple of.
pub const CHUNK: usize = 2 << 20;
/// The bytes that a writer leases at once.
pub const SPAN: usize = 64 << 10;

/// What an `int3` instruction is.
const INT3: u8 = 0xcc;
