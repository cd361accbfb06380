//! The perf map: a text file in which `perf` looks up addresses that belong to no program file.
//!
//! ```text
//!   START SIZE NAME      in hexadecimal digits; the name goes to the end of the line
//! ```
//!
//! The format is that of `tools/perf/Documentation/jit-interface.txt` of the Linux sources.

use std::path::Path;

use crate::Error;
use crate::observe::encode::Encoder;
use crate::observe::file::{BufferedFile, Contents};
use crate::observe::{NAME_BYTES, Observed};

/// The perf map of this process.
#[derive(Debug)]
pub(crate) struct PerfMap {
    file: BufferedFile,
}

impl PerfMap {
    /// Opens it in `directory`. Other engines of the process may write it too, so nothing in it is dropped.
    pub(crate) fn open(directory: &Path) -> Result<PerfMap, Error> {
        Ok(PerfMap { file: BufferedFile::open(directory, ("perf-", ".map"), Contents::Keep)? })
    }

    pub(crate) fn published(&mut self, code: &Observed<'_>) {
        self.file.append(|out| {
            hexadecimal(out, code.address)?;
            hexadecimal(out, code.bytes.len())?;
            out.text(code.name, NAME_BYTES)?;
            out.u8(b'\n')
        });
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.file.flush()
    }
}

/// Appends `value` and a space.
fn hexadecimal(out: &mut Encoder, value: usize) -> Result<(), Error> {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.u8(b"0123456789abcdef"[value >> (4 * digit) & 0xf])?;
    }
    out.u8(b' ')
}
