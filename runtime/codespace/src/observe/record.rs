//! The unwind record of a chunk: one description for every function in it.
//!
//! ```text
//!   CFA = rbp + 16      return address at CFA - 8      caller's rbp at CFA - 16
//! ```
//!
//! That is exact at each call site of code that keeps a frame pointer, and call sites are all that unwinding
//! meets. It says nothing of the other callee-saved registers: see the crate's documentation.
//!
//! One record for a chunk, and not one for each function, because libgcc before version 13 sorts and searches all
//! records of the process at a throw: with 10,000 of them even an unrelated throw took 55 µs instead of 0.8 µs, and taking
//! them back in the order of their making is quadratic. So a function costs nothing here, and a chunk 56 bytes.

use std::ops::Range;

use crate::Error;
use crate::observe::encode::Encoder;

/// DWARF's numbers of registers.
const RBP: u8 = 6;
const RETURN_ADDRESS: u8 = 16;
/// `DW_CFA_def_cfa`, and `DW_CFA_offset` with the register in its low bits.
const DEFINE_CFA: u8 = 0x0c;
const SAVED_AT: u8 = 0x80;
/// What offsets of saved registers are multiples of: -8, as a signed LEB128.
const DATA_ALIGN: u8 = 0x78;
/// The bytes of the description that records share, and of each record.
const COMMON_BYTES: usize = 24;
const RECORD_BYTES: usize = 24;

// Of the unwinder that Rust's standard library links. It keeps its own note of each record and gives no sign if it
// finds no memory for that.
unsafe extern "C" {
    fn __register_frame(section: *const u8);
    fn __deregister_frame(section: *const u8);
}

/// A registered record; dropping it takes it back.
#[derive(Debug)]
pub(crate) struct UnwindRecord {
    /// What the unwinder keeps a pointer to.
    section: Vec<u8>,
}

impl UnwindRecord {
    /// Describes the code at `range` to the unwinder.
    ///
    /// Fails with [`Error::Memory`], and with [`Error::Range`] for an empty range, which would describe nothing.
    pub(crate) fn register(range: Range<usize>) -> Result<UnwindRecord, Error> {
        if range.is_empty() {
            return Err(Error::Range { what: "an unwind record", start: range.start, end: range.end });
        }
        let mut section = Encoder::with_room(eh_frame_bytes(1))?;
        eh_frame(&mut section, &[range])?;
        let section = section.into_vec();
        // SAFETY: `section` is a well-formed section that ends with a zero length; it stays where it is, unchanged,
        // until it is deregistered, since a vector's contents do not move while nothing is appended.
        unsafe { __register_frame(section.as_ptr()) };
        Ok(UnwindRecord { section })
    }
}

impl Drop for UnwindRecord {
    fn drop(&mut self) {
        // SAFETY: registered once, with this address, in `register`, and deregistered only here.
        unsafe { __deregister_frame(self.section.as_ptr()) };
    }
}

/// How many bytes a section with so many records has.
pub(crate) const fn eh_frame_bytes(records: usize) -> usize {
    COMMON_BYTES + records * RECORD_BYTES + 4
}

/// Appends the bytes of an `.eh_frame` section with one record for each range, whose addresses are absolute.
pub(crate) fn eh_frame(out: &mut Encoder, ranges: &[Range<usize>]) -> Result<(), Error> {
    let start = out.len();
    out.u32(COMMON_BYTES as u32 - 4)?;
    out.u32(0)?; // not a record of its own, but what records share
    out.put(&[1, 0])?; // version, and no augmentation
    out.put(&[1, DATA_ALIGN, RETURN_ADDRESS])?;
    out.put(&[DEFINE_CFA, RBP, 16])?;
    out.put(&[SAVED_AT | RBP, 2])?;
    out.put(&[SAVED_AT | RETURN_ADDRESS, 1])?;
    out.put(&[0; 4])?; // no operations, up to a multiple of eight bytes
    debug_assert_eq!(out.len() - start, COMMON_BYTES);
    for range in ranges {
        out.u32(RECORD_BYTES as u32 - 4)?;
        out.u32((out.len() - start) as u32)?; // how far back the shared part is
        out.u64(range.start as u64)?;
        out.u64(range.len() as u64)?;
    }
    out.u32(0)
}

#[cfg(test)]
mod tests;
