//! The image of a batch: an ELF file in memory, in which a debugger finds the functions of a batch.
//!
//! ```text
//!   header
//!   .text       one for each stretch of addresses, at its address; the bytes are not in the image but where they run
//!   .eh_frame   how to leave a frame there: one record for each stretch
//!   .symtab     a symbol for each function: name, address, length
//!   .strtab     the names; .debug_str is the same bytes once more
//!   .debug_*    lines, if there are any
//!   section headers
//! ```
//!
//! One section for each stretch, and not one for the batch, because gdb takes no account of a section that overlaps
//! another: two batches of one chunk interleave. The image says that it is an executable, as then all addresses in it are absolute.
//!
//! The frame records are those of [`crate::observe::record`]. Inside a function's first two instructions, and behind its last but one,
//! a backtrace from there misses the caller, as code does not say how far its frame is made.

use std::ops::Range;

use crate::Error;
use crate::observe::batch::Batch;
use crate::observe::dwarf;
use crate::observe::encode::Encoder;
use crate::observe::record::{eh_frame, eh_frame_bytes};

/// The most functions in one image: each may need a section, and there can be 65,279.
pub(crate) const FUNCTIONS: usize = 4096;

const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
/// Numbers of the ELF standard.
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
const PROGRAM_BITS: u32 = 1;
const SYMBOL_TABLE: u32 = 2;
const STRING_TABLE: u32 = 3;
const NO_BITS: u32 = 8;
const ALLOCATED: u64 = 2;
const INSTRUCTIONS: u64 = 4;
const GLOBAL_FUNCTION: u8 = 0x12;

/// What an image has behind its header while it is made.
struct Image {
    out: Encoder,
    headers: Encoder,
    names: Encoder,
    sections: usize,
}

/// A section's header.
#[derive(Default)]
struct Section {
    name: &'static str,
    kind: u32,
    flags: u64,
    address: usize,
    at: Range<usize>,
    link: usize,
    info: u32,
    align: u64,
    entry_bytes: usize,
}

/// Makes the image of a settled batch. The bytes are meant to stay where they are: one section's address is in them.
pub(crate) fn image(batch: &Batch) -> Result<Vec<u8>, Error> {
    let runs = batch.runs()?;
    let room = HEADER_BYTES
        + runs.len() * (SECTION_BYTES + eh_frame_bytes(1))
        + batch.functions().len() * SYMBOL_BYTES
        + batch.strings().len()
        + 12 * SECTION_BYTES
        + 512;
    let mut image = Image {
        out: Encoder::with_room(room)?,
        headers: Encoder::with_room((runs.len() + 12) * SECTION_BYTES)?,
        names: Encoder::default(),
        sections: 0,
    };
    image.out.put(&[0; HEADER_BYTES])?;
    image.section(&Section::default())?;
    for run in &runs {
        // The bytes are elsewhere, so what counts is how many there are.
        let at = image.out.len()..image.out.len() + run.len();
        let flags = ALLOCATED | INSTRUCTIONS;
        let section = Section { name: ".text", kind: NO_BITS, flags, at, ..Section::default() };
        image.section(&Section { address: run.start, align: 1, ..section })?;
    }
    let frames = image.sections;
    let at = image.contents(8, |out| eh_frame(out, &runs))?;
    let frames_at = at.start;
    let section =
        Section { name: ".eh_frame", kind: PROGRAM_BITS, flags: ALLOCATED, at, ..Section::default() };
    image.section(&Section { align: 8, ..section })?;
    let at = image.contents(8, |out| symbols(out, batch, &runs))?;
    let section = Section { name: ".symtab", kind: SYMBOL_TABLE, at, align: 8, ..Section::default() };
    image.section(&Section { link: image.sections + 1, info: 1, entry_bytes: SYMBOL_BYTES, ..section })?;
    let strings = image.contents(1, |out| out.put(batch.strings()))?;
    let section = Section { kind: STRING_TABLE, align: 1, ..Section::default() };
    image.section(&Section { name: ".strtab", at: strings.clone(), ..section })?;
    if let Some(lines) = dwarf::sections(batch)? {
        let section = |name, at| Section { name, kind: PROGRAM_BITS, at, align: 1, ..Section::default() };
        image.section(&section(".debug_str", strings))?;
        for (name, contents) in [
            (".debug_abbrev", &lines.abbreviations),
            (".debug_info", &lines.info),
            (".debug_line", &lines.lines),
            (".debug_ranges", &lines.ranges),
        ] {
            let at = image.contents(1, |out| out.put(contents.as_slice()))?;
            image.section(&section(name, at))?;
        }
    }
    image.finish(frames, frames_at)
}

impl Image {
    /// Appends what `write` does, aligned, and says where it is.
    fn contents(
        &mut self,
        align: usize,
        write: impl FnOnce(&mut Encoder) -> Result<(), Error>,
    ) -> Result<Range<usize>, Error> {
        self.out.align(align)?;
        let start = self.out.len();
        write(&mut self.out)?;
        Ok(start..self.out.len())
    }

    fn section(&mut self, section: &Section) -> Result<(), Error> {
        // The sections of one name follow each other and share it.
        let last = self.names.as_slice().len().saturating_sub(section.name.len() + 1);
        let shares = self.names.as_slice()[last..].strip_suffix(&[0]) == Some(section.name.as_bytes());
        let name = if shares { last } else { self.names.len() };
        if !shares {
            self.names.put(section.name.as_bytes())?;
            self.names.u8(0)?;
        }
        self.sections += 1;
        let out = &mut self.headers;
        out.u32(name as u32)?;
        out.u32(section.kind)?;
        out.u64(section.flags)?;
        out.u64(section.address as u64)?;
        out.u64(section.at.start as u64)?;
        out.u64(section.at.len() as u64)?;
        out.u32(section.link as u32)?;
        out.u32(section.info)?;
        out.u64(section.align)?;
        out.u64(section.entry_bytes as u64)
    }

    /// Appends the names and headers of the sections, and fills in the image's header and the address of section `frames`.
    fn finish(mut self, frames: usize, frames_at: usize) -> Result<Vec<u8>, Error> {
        let names = self.sections;
        let start = self.out.len();
        let at = start..start + self.names.len() + ".shstrtab".len() + 1;
        let section = Section { name: ".shstrtab", kind: STRING_TABLE, at, align: 1, ..Section::default() };
        self.section(&section)?;
        self.out.put(self.names.as_slice())?;
        self.out.align(8)?;
        let headers = self.out.len();
        self.out.put(self.headers.as_slice())?;
        let mut header = Encoder::with_room(HEADER_BYTES)?;
        header.put(b"\x7fELF\x02\x01\x01")?; // 64 bits, little-endian, version 1
        header.align(16)?;
        header.u16(EXECUTABLE)?;
        header.u16(X86_64)?;
        header.u32(1)?;
        header.u64(0)?; // no entry
        header.u64(0)?; // no segments
        header.u64(headers as u64)?;
        header.u32(0)?;
        header.u16(HEADER_BYTES as u16)?;
        header.u16(0)?;
        header.u16(0)?;
        header.u16(SECTION_BYTES as u16)?;
        header.u16(self.sections as u16)?;
        header.u16(names as u16)?;
        self.out.set(0, header.as_slice());
        let frames_address = self.out.as_slice().as_ptr().addr() + frames_at;
        self.out.set(headers + frames * SECTION_BYTES + 16, &(frames_address as u64).to_le_bytes());
        Ok(self.out.into_vec())
    }
}

fn symbols(out: &mut Encoder, batch: &Batch, runs: &[Range<usize>]) -> Result<(), Error> {
    out.put(&[0; SYMBOL_BYTES])?;
    let mut run = 0;
    for function in batch.functions() {
        while !runs[run].contains(&function.address) {
            run += 1;
        }
        out.u32(function.name)?;
        out.u8(GLOBAL_FUNCTION)?;
        out.u8(0)?;
        out.u16(run as u16 + 1)?;
        out.u64(function.address as u64)?;
        out.u64(function.len as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
