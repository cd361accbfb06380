//! Executable memory near the program, never writable and executable in one mapping.
//!
//! ```text
//!            write view (rw-)            executable view (r-x), within reach of the program's text
//!          ┌──────────────────┐        ┌───────┬──────────────────┬───────┐
//!   Span ─►│ bytes_mut()      │ memfd  │ guard │ address()        │ guard │◄── calls, return addresses
//!          └──────────────────┘◄══════►└───────┴──────────────────┴───────┘
//!                                               └ one unwind record covers all of it
//! ```
//!
//! *Why two views.* Code is filled in through one mapping while it already has its address in the other, so
//! no page ever changes its protection: publishing costs no system call and disturbs no thread that runs code
//! nearby. *Why near.* A call of the program's own functions then takes five bytes and no register.
//! *Why one record.* Registering each function makes every later unwinding slower; one record, which says
//! that each function keeps the frame pointer, is registered once and never touched again.
//!
//! # Guarantees
//!
//! * No mapping is writable and executable, not even for a moment.
//! * Spans are disjoint, start on a multiple of 64 bytes, and share no cache line.
//! * Bytes handed out and not written are `int3`; so is a span that was dropped unpublished.
//! * Pages on both sides of the executable view are inaccessible.
//! * Running out of memory is an [`Error`].
//!
//! # What the code must do
//!
//! Functions placed here must start with `push rbp; mov rbp, rsp` and keep `rbp` until they return, if
//! anything is to unwind through them: a panic, a debugger, a profiler. The record restores `rbp`, `rsp` and
//! the return address alone; whoever calls such code from Rust, and may be unwound to, must have saved the
//! other callee-saved registers itself.
//!
//! # Cost
//!
//! A space takes 64 MiB of address space in each view by default and no memory until it is written. Reserving
//! is one compare-and-exchange and the filling with `int3`. Nothing is given back before the space is dropped,
//! but for the last span when that is dropped unpublished.
//!
//! # Example
//!
//! ```
//! use dagwood_codespace::{CodeSpace, Options};
//!
//! let space = CodeSpace::new(&Options::default())?;
//! let code = [0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
//! let mut span = space.reserve(code.len(), 16)?;
//! span.bytes_mut().copy_from_slice(&code);
//! let code = span.publish();
//!
//! // SAFETY: the bytes are a function without parameters that returns an i32, and `space` outlives the call.
//! let answer: extern "sysv64" fn() -> i32 = unsafe { std::mem::transmute(code.address) };
//! assert_eq!(answer(), 42);
//! # Ok::<(), dagwood_codespace::Error>(())
//! ```

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!(
    "Dagwood makes machine code for Linux on x86-64 with the GNU C library, and for nothing else yet"
);

mod error;
mod map;
mod record;
mod span;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use error::Error;
pub use map::Placement;
pub use span::{Code, Span};

use map::DualMap;
use record::UnwindRecord;

/// Spans start at multiples of this many bytes: a cache line, so that writing one disturbs no other.
pub const GRANULE: usize = 64;
/// The bytes of a page.
pub const PAGE: usize = 4096;
/// The most bytes that one space may have: all of it must be within reach of all of it.
pub const MAX_SIZE: usize = 1 << 30;

/// What an `int3` instruction is.
const INT3: u8 = 0xcc;

/// How a space is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its bytes, rounded up to whole pages; at most [`MAX_SIZE`].
    pub size: usize,
    /// Where its code stands.
    pub placement: Placement,
}

impl Default for Options {
    fn default() -> Self {
        Options { size: 64 << 20, placement: Placement::default() }
    }
}

/// Where a space came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The address that it was to be near to, if any.
    pub anchor: Option<usize>,
    /// The bytes between the anchor and the space's farthest byte; zero without an anchor.
    pub distance: usize,
    /// How many places were tried before one was free.
    pub attempts: u32,
}

impl Reach {
    /// Whether `call rel32` leads from every byte of the space to the anchor and back.
    pub fn is_near(&self) -> bool {
        self.anchor.is_some() && self.distance <= i32::MAX as usize
    }
}

/// A region of executable memory. Several threads may reserve and publish at once.
#[derive(Debug)]
pub struct CodeSpace {
    // Fields are dropped in this order: nobody may look up the record of memory that is gone.
    _record: UnwindRecord,
    map: DualMap,
    next: AtomicUsize,
}

impl CodeSpace {
    /// Maps a space and registers its unwind record.
    pub fn new(options: &Options) -> Result<CodeSpace, Error> {
        if options.size == 0 || options.size > MAX_SIZE {
            return Err(Error::Size { asked: options.size });
        }
        let map = DualMap::new(options.size.next_multiple_of(PAGE), options.placement)?;
        let record = UnwindRecord::register(map.range())?;
        Ok(CodeSpace { _record: record, map, next: AtomicUsize::new(0) })
    }

    /// Takes `len` bytes whose address is a multiple of `align`, a power of two up to [`PAGE`], and fills them with `int3`.
    pub fn reserve(&self, len: usize, align: usize) -> Result<Span<'_>, Error> {
        if !align.is_power_of_two() || align > PAGE {
            return Err(Error::Align { asked: align });
        }
        let size = self.map.len();
        let end_of = |from: usize| {
            let first = from.next_multiple_of(align);
            let end = first.checked_add(len.max(1))?.checked_next_multiple_of(GRANULE)?;
            (end <= size).then_some((first, end))
        };
        // Acquire: whoever gave bytes back has finished filling them with int3.
        let taken = self.next.fetch_update(Ordering::AcqRel, Ordering::Acquire, |from| Some(end_of(from)?.1));
        match taken {
            Ok(from) => {
                let (first, end) = end_of(from).expect("the update succeeded for this value");
                Ok(Span::new(self, from..end, first, len))
            }
            Err(from) => Err(Error::Full { asked: len, free: size - from }),
        }
    }

    /// The addresses at which the space's code may stand.
    pub fn range(&self) -> Range<usize> {
        self.map.range()
    }

    /// How many bytes are reserved.
    pub fn used(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Where the space came to stand.
    pub fn reach(&self) -> Reach {
        self.map.reach()
    }

    /// Whether a 32-bit displacement leads from every byte of the space to `address`.
    pub fn reaches(&self, address: usize) -> bool {
        let Range { start, end } = self.range();
        start.abs_diff(address).max(end.abs_diff(address)) <= i32::MAX as usize
    }

    /// Where the bytes at `offsets` are written.
    fn writable(&self, offsets: &Range<usize>) -> *mut [u8] {
        self.map.writable(offsets)
    }

    /// Gives back the bytes at `offsets` if they are the last that were taken.
    fn give_back(&self, offsets: &Range<usize>) {
        // A failure means that somebody reserved behind them; then they stay lost, filled with int3.
        let _ = self.next.compare_exchange(offsets.end, offsets.start, Ordering::AcqRel, Ordering::Relaxed);
    }
}
