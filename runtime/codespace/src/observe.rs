//! Who else sees code: the profiler `perf`, and the debugger `gdb`.
//!
//! ```text
//!                      ┌─ perf map   a line of text for each function: where, how long, what name
//!  published(..) ──────┼─ jitdump    a record with the bytes and lines too, for `perf inject`
//!    buffered          └─ gdb        an image in memory for each batch: symbols, unwind records, lines
//!                         │
//!  flush()  ──────────────┴─ one write for each file, one registration for the batch
//! ```
//!
//! All are off unless asked for, each by itself; a space without [`crate::Options::observers`] pays nothing. With them,
//! [`CodeSpace::describe`] calls `published`; code that another allocator placed can be shown too. What is published is
//! copied into a buffer: a write for each function costs fourteen times as much as a line in a buffer, and gdb stops the
//! process at each registration, for longer the more there are (3,000 at once take it 40 ms, one by one three seconds).
//! Buffers flush themselves when they are full, and those of files when they are dropped. Only what has been flushed can
//! be seen, so an owner that wants to see a crash flushes before it runs new code.
//!
//! **Errors.** [`Observers::published`] and [`Observers::freed`] never fail. A file that cannot be written and a buffer that
//! finds no memory take nothing more from then on, and [`Observers::flush`] returns the first such error from then on.
//!
//! **After a fork** the files are the parent's: the child writes nothing to them, also not what was buffered.
//!
//! **Cost**, with a flush for each 3,000 functions of 450 bytes: 45 ns a function for the perf map, 120 for gdb while no debugger
//! is there, a microsecond for jitdump, of which most is the system's writing of the bytes.

#[cfg(feature = "gdb")]
pub(crate) mod batch;
#[cfg(feature = "gdb")]
pub(crate) mod dwarf;
#[cfg(feature = "gdb")]
pub(crate) mod elf;
pub(crate) mod encode;
pub(crate) mod file;
#[cfg(feature = "gdb")]
pub(crate) mod gdb;
pub(crate) mod jitdump;
pub(crate) mod perf;
pub(crate) mod record;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
#[cfg(feature = "gdb")]
use crate::observe::gdb::GdbSymbols;
use crate::observe::jitdump::JitDump;
use crate::observe::perf::PerfMap;
use crate::{Code, CodeSpace};

/// The most bytes that observers see of a function's name; more are cut off between two characters.
pub const NAME_BYTES: usize = 512;
/// The most bytes that observers see of a file's name.
pub const FILE_BYTES: usize = 1024;
/// The most line entries that observers see of one function.
pub const LINES: usize = 1 << 16;

/// Published code, with what a person would call it.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Where the code runs.
    pub address: usize,
    /// Its bytes, as they are at `address`.
    pub bytes: &'a [u8],
    /// Its name: any text. Control characters show as `?`, no name at all as `unnamed`; see [`NAME_BYTES`].
    pub name: &'a str,
    /// Where its instructions come from, in ascending order of offsets; none if that is not known. An entry out of order or
    /// not inside the code is left out, and so is what exceeds [`LINES`].
    pub lines: &'a [LineEntry<'a>],
}

/// From this instruction on, to the next entry's, code comes from this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineEntry<'a> {
    /// Where the instruction starts, in bytes from the start of the code.
    pub offset: u32,
    /// The file's name, best with its whole path; see [`FILE_BYTES`].
    pub file: &'a str,
    /// The line, counted from one.
    pub line: u32,
}

impl<'a> Observed<'a> {
    /// The line entries that observers see.
    pub(crate) fn seen_lines(&self) -> impl Iterator<Item = &'a LineEntry<'a>> {
        let mut from = 0;
        let len = self.bytes.len();
        self.lines
            .iter()
            .filter(move |entry| {
                let seen = entry.offset >= from && (entry.offset as usize) < len;
                if seen {
                    from = entry.offset.saturating_add(1);
                }
                seen
            })
            .take(LINES)
    }
}

/// Whom to show code to. The default is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observing {
    /// The directory for a perf map, `perf-PID.map`. `perf report` looks in [`Observing::PERF_MAP_DIRECTORY`].
    ///
    /// Lines are appended: other engines of the process may write there too. A function whose code is freed stays in it.
    pub perf_map: Option<PathBuf>,
    /// The directory for a jitdump, `jit-PID.dump`, which replaces a file of that name. `perf record -k 1` notices it,
    /// `perf inject --jit` makes images of it, in the same directory, and so `perf annotate` shows instructions and lines.
    ///
    /// To be noticed, the first page of the file is mapped executable, and for that only: the mapping is not writable and
    /// nothing runs there, but who may write the file could change it, as with any program's file.
    pub jitdump: Option<PathBuf>,
    /// Whether debuggers get symbols.
    pub gdb: Gdb,
}

impl Observing {
    /// Where `perf report` looks for perf maps.
    pub const PERF_MAP_DIRECTORY: &str = "/tmp";
}

/// Whether debuggers get symbols, through the interface that gdb defined and lldb knows too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gdb {
    /// They do not.
    #[default]
    Off,
    /// They do.
    Registered,
}

/// Those who see code, with what waits to be shown to them. All threads may use it.
///
/// # Examples
///
/// ```
/// use dagwood_codespace::{Observed, Observers, Observing};
///
/// let directory = std::env::temp_dir();
/// let observers = Observers::new(&Observing { perf_map: Some(directory.clone()), ..Observing::default() })?;
/// let code = [0xc3]; // wherever it was published
/// let address = code.as_ptr() as usize;
/// observers.published(&Observed { address, bytes: &code, name: "nothing", lines: &[] });
/// observers.flush()?;
///
/// let map = directory.join(format!("perf-{}.map", std::process::id()));
/// assert!(std::fs::read_to_string(&map).unwrap().contains(&format!("{address:x} 1 nothing\n")));
/// # std::fs::remove_file(map).unwrap();
/// # Ok::<(), dagwood_codespace::Error>(())
/// ```
#[derive(Debug)]
pub struct Observers {
    perf_map: Option<Mutex<PerfMap>>,
    jitdump: Option<Mutex<JitDump>>,
    #[cfg(feature = "gdb")]
    gdb: Option<Mutex<GdbSymbols>>,
}

impl Observers {
    /// Opens what `observing` names.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if a file cannot be made, or is there and is no plain file of the process's own user: links are not
    /// followed; or if gdb is asked for in a build without the feature `gdb`. [`Error::Memory`].
    pub fn new(observing: &Observing) -> Result<Observers, Error> {
        if cfg!(not(feature = "gdb")) && observing.gdb == Gdb::Registered {
            return Err(Error::System {
                attempt: "show code to gdb in a build without the feature `gdb`",
                errno: rustix::io::Errno::NOSYS.raw_os_error(),
            });
        }
        Ok(Observers {
            perf_map: observing.perf_map.as_deref().map(PerfMap::open).transpose()?.map(Mutex::new),
            jitdump: observing.jitdump.as_deref().map(JitDump::create).transpose()?.map(Mutex::new),
            #[cfg(feature = "gdb")]
            gdb: (observing.gdb == Gdb::Registered).then(Mutex::default),
        })
    }

    /// Shows `code`, soon: see [`Observers::flush`]. Code of no bytes, or past the end of all addresses, is nothing to show.
    pub fn published(&self, code: &Observed<'_>) {
        if code.bytes.is_empty() || code.address.checked_add(code.bytes.len()).is_none() {
            return;
        }
        if let Some(map) = &self.perf_map {
            lock(map).published(code);
        }
        if let Some(dump) = &self.jitdump {
            lock(dump).published(code);
        }
        #[cfg(feature = "gdb")]
        if let Some(symbols) = &self.gdb {
            lock(symbols).published(code);
        }
    }

    /// Says that nobody runs the code at `address` any more and that its bytes are about to be used again; call it before they
    /// are. A debugger loses its name, at the latest when other code is shown there. Unknown addresses are ignored.
    pub fn freed(&self, address: usize) {
        #[cfg(feature = "gdb")]
        if let Some(symbols) = &self.gdb {
            lock(symbols).freed(address);
        }
        #[cfg(not(feature = "gdb"))]
        let _ = address;
    }

    /// The same of all code in `range`.
    pub(crate) fn freed_in(&self, range: &Range<usize>) {
        #[cfg(feature = "gdb")]
        if let Some(symbols) = &self.gdb {
            lock(symbols).freed_in(range);
        }
        #[cfg(not(feature = "gdb"))]
        let _ = range;
    }

    /// Shows what is buffered: one write for each file, one registration for all functions.
    ///
    /// Returns the first error since the observers were made, also one of an earlier flush.
    pub fn flush(&self) -> Result<(), Error> {
        let map = self.perf_map.as_ref().map_or(Ok(()), |map| lock(map).flush());
        let dump = self.jitdump.as_ref().map_or(Ok(()), |dump| lock(dump).flush());
        #[cfg(feature = "gdb")]
        let symbols = self.gdb.as_ref().map_or(Ok(()), |symbols| lock(symbols).flush());
        #[cfg(not(feature = "gdb"))]
        let symbols = Ok(());
        map.and(dump).and(symbols)
    }
}

impl CodeSpace {
    /// Those who see its code, if there are any.
    pub fn observers(&self) -> Option<&Observers> {
        self.shared().observers.as_deref()
    }

    /// Shows published code to [`crate::Options::observers`]: soon, as [`Observers::published`] says. The space tells them when
    /// it is freed. Without observers this does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotCode`] if it is code of another space, and [`Error::Memory`].
    pub fn describe(&self, code: &Code, name: &str, lines: &[LineEntry<'_>]) -> Result<(), Error> {
        let Some(observers) = self.observers() else { return Ok(()) };
        if code.space != self.shared().id {
            return Err(Error::NotCode { address: code.address() });
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(code.len()).map_err(|_| Error::Memory)?;
        bytes.extend((0..code.len()).map(|offset| {
            let byte: *mut u8 = std::ptr::with_exposed_provenance_mut(code.address() + offset);
            // SAFETY: who has a `Code` of this space has not retired or freed it, so its bytes are mapped and can be read; somebody may
            // patch them meanwhile, by atomic stores.
            unsafe { AtomicU8::from_ptr(byte) }.load(Ordering::Relaxed)
        }));
        observers.published(&Observed { address: code.address(), bytes: &bytes, name, lines });
        Ok(())
    }
}

/// A lock whose holders leave the buffers whole wherever they stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
