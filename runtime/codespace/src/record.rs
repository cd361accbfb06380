//! The unwind record of a space: one description for every function in it.
//!
//! ```text
//!   CFA = rbp + 16      return address at CFA - 8      caller's rbp at CFA - 16
//! ```
//!
//! That is exact at each call site of code that keeps a frame pointer, and call sites are all that unwinding
//! meets. It says nothing of the other callee-saved registers: see the crate's documentation.

use std::ops::Range;

use gimli::write::{
    Address, CallFrameInstruction, CommonInformationEntry, EhFrame, EndianVec, FrameDescriptionEntry,
    FrameTable,
};
use gimli::{Encoding, Format, LittleEndian, X86_64};

use crate::Error;

// Of the unwinder that Rust's standard library links.
unsafe extern "C" {
    fn __register_frame(section: *const u8);
    fn __deregister_frame(section: *const u8);
}

/// A registered record; dropping it takes it back.
#[derive(Debug)]
pub(crate) struct UnwindRecord {
    /// What the unwinder keeps a pointer to.
    section: Box<[u8]>,
}

impl UnwindRecord {
    /// Describes the code at `range` to the unwinder.
    pub(crate) fn register(range: Range<usize>) -> Result<UnwindRecord, Error> {
        let section = section(range).map_err(|_| Error::Record)?;
        // SAFETY: `section` is a well-formed section that ends with a zero length; it stays where it is, unchanged,
        // until it is deregistered, since a box's contents do not move.
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

/// The bytes of an `.eh_frame` section with the one record.
fn section(range: Range<usize>) -> gimli::write::Result<Box<[u8]>> {
    let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 1 };
    let mut common = CommonInformationEntry::new(encoding, 1, -8, X86_64::RA);
    common.add_instruction(CallFrameInstruction::Cfa(X86_64::RBP, 16));
    common.add_instruction(CallFrameInstruction::Offset(X86_64::RBP, -16));
    common.add_instruction(CallFrameInstruction::Offset(X86_64::RA, -8));
    let mut table = FrameTable::default();
    let common = table.add_cie(common);
    let len = u32::try_from(range.len()).expect("a space has at most a gibibyte");
    table.add_fde(common, FrameDescriptionEntry::new(Address::Constant(range.start as u64), len));
    let mut section = EhFrame::from(EndianVec::new(LittleEndian));
    table.write_eh_frame(&mut section)?;
    let mut bytes = section.0.into_vec();
    bytes.extend([0; 4]);
    Ok(bytes.into_boxed_slice())
}
