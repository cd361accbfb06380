//! The jitdump: a binary file from which `perf inject` makes a program file for each function.
//!
//! ```text
//!   header   magic, version, bytes of header, machine, -, process, time, flags
//!   record   kind, bytes of record, time, then:
//!     debug info   where the code is, how many entries, for each: address, line, -, file
//!     load         process, thread, address twice, bytes of code, its number, name, the code
//!     close        nothing
//! ```
//!
//! The format is version 1 of `tools/perf/Documentation/jitdump-specification.txt` of the Linux sources. A function's debug
//! info comes before its load. Times are those of `CLOCK_MONOTONIC`, which `perf record -k 1` samples with.
//!
//! perf notices the file because it sees it mapped executable, and so its first page is, for as long as it is written.
//! That mapping is not writable, and nothing in it is ever run.

use std::path::Path;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags};
use rustix::time::ClockId;

use crate::observe::encode::Encoder;
use crate::observe::file::{BufferedFile, Contents};
use crate::observe::{FILE_BYTES, NAME_BYTES, Observed};
use crate::{Error, PAGE};

/// `JiTD`, read as a number of this machine's byte order.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
const HEADER_BYTES: u32 = 40;
/// What ELF calls x86-64.
const MACHINE: u32 = 62;

const LOAD: u32 = 0;
const DEBUG_INFO: u32 = 2;
const CLOSE: u32 = 3;

/// The jitdump of this process.
#[derive(Debug)]
pub(crate) struct JitDump {
    file: BufferedFile,
    process: u32,
    /// How many functions it has.
    functions: u64,
    /// Where the file's first page is mapped.
    marker: usize,
}

impl JitDump {
    /// Makes it in `directory`.
    pub(crate) fn create(directory: &Path) -> Result<JitDump, Error> {
        let process = std::process::id();
        let mut file = BufferedFile::open(directory, ("jit-", ".dump"), Contents::Replace)?;
        file.append(|out| {
            for word in [MAGIC, VERSION, HEADER_BYTES, MACHINE, 0, process] {
                out.u32(word)?;
            }
            out.u64(now())?;
            out.u64(0)
        });
        file.flush()?;
        // SAFETY: a new mapping at an address of the system's choice, of a file that is at least a header long; nothing
        // refers to it.
        let marker = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::EXEC,
                MapFlags::PRIVATE,
                file.descriptor(),
                0,
            )
        };
        let marker = marker.map_err(Error::system("map the jitdump, so that perf notices it"))?.addr();
        Ok(JitDump { file, process, functions: 0, marker })
    }

    pub(crate) fn published(&mut self, code: &Observed<'_>) {
        let (process, number) = (self.process, self.functions);
        self.functions += 1;
        let time = now();
        self.file.append(|out| {
            if code.seen_lines().next().is_some() {
                record(out, DEBUG_INFO, time, |out| debug_info(out, code))?;
            }
            record(out, LOAD, time, |out| load(out, code, process, number))
        });
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.file.flush()
    }
}

impl Drop for JitDump {
    fn drop(&mut self) {
        self.file.append(|out| record(out, CLOSE, now(), |_| Ok(())));
        // SAFETY: mapped in `create`, with this length, and nothing refers to it.
        let unmapped = unsafe { rustix::mm::munmap(ptr::without_provenance_mut(self.marker), PAGE) };
        debug_assert!(unmapped.is_ok(), "a whole mapping of our own can be unmapped");
    }
}

/// Appends a record with what `body` writes.
fn record(
    out: &mut Encoder,
    kind: u32,
    time: u64,
    body: impl FnOnce(&mut Encoder) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    out.u32(kind)?;
    out.u32(0)?;
    out.u64(time)?;
    body(out)?;
    let Ok(bytes) = u32::try_from(out.len() - start) else {
        return Err(Error::Size { asked: out.len() - start, limit: u32::MAX as usize });
    };
    out.set(start + 4, &bytes.to_le_bytes());
    Ok(())
}

fn debug_info(out: &mut Encoder, code: &Observed<'_>) -> Result<(), Error> {
    out.u64(code.address as u64)?;
    out.u64(code.seen_lines().count() as u64)?;
    for entry in code.seen_lines() {
        out.u64(code.address as u64 + u64::from(entry.offset))?;
        out.u32(entry.line)?;
        out.u32(0)?;
        out.text(entry.file, FILE_BYTES)?;
        out.u8(0)?;
    }
    Ok(())
}

fn load(out: &mut Encoder, code: &Observed<'_>, process: u32, number: u64) -> Result<(), Error> {
    out.u32(process)?;
    out.u32(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned())?;
    out.u64(code.address as u64)?;
    out.u64(code.address as u64)?;
    out.u64(code.bytes.len() as u64)?;
    out.u64(number)?;
    out.text(code.name, NAME_BYTES)?;
    out.u8(0)?;
    out.put(code.bytes)
}

/// Nanoseconds of the clock that perf is told to use.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
