//! Lines of source for a debugger, as DWARF 4 has them.
//!
//! ```text
//!   .debug_info    one unit: its lines, its ranges, and below it each function with lines: name, start, length
//!   .debug_line    for each function a sequence of (address, file, line), by a program for a small machine
//! ```
//!
//! Sections 2.17, 6.2 and 7.5 of the DWARF 4 standard say what the numbers are.

use crate::Error;
use crate::observe::batch::{Batch, Function};
use crate::observe::encode::Encoder;

const VERSION: u16 = 4;

/// The sections, of which the unit's strings are those of the batch.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) abbreviations: Encoder,
    pub(crate) info: Encoder,
    pub(crate) lines: Encoder,
    pub(crate) ranges: Encoder,
}

/// Describes the lines of a settled batch, if there are any.
pub(crate) fn sections(batch: &Batch) -> Result<Option<Sections>, Error> {
    if batch.functions().iter().all(|function| batch.lines(function).is_empty()) {
        return Ok(None);
    }
    let mut sections = Sections::default();
    abbreviations(&mut sections.abbreviations)?;
    in_length(&mut sections.info, |out| info(out, batch))?;
    in_length(&mut sections.lines, |out| lines(out, batch))?;
    for function in with_lines(batch) {
        sections.ranges.u64(function.range().start as u64)?;
        sections.ranges.u64(function.range().end as u64)?;
    }
    sections.ranges.put(&[0; 16])?;
    Ok(Some(sections))
}

fn with_lines(batch: &Batch) -> impl Iterator<Item = &Function> {
    batch.functions().iter().filter(|function| !batch.lines(function).is_empty())
}

/// Appends the length of what `body` writes, and that.
fn in_length(out: &mut Encoder, body: impl FnOnce(&mut Encoder) -> Result<(), Error>) -> Result<(), Error> {
    let start = out.len();
    out.u32(0)?;
    body(out)?;
    let Ok(length) = u32::try_from(out.len() - start - 4) else { return Err(Error::Memory) };
    out.set(start, &length.to_le_bytes());
    Ok(())
}

/// The two shapes that entries of `.debug_info` have: pairs of an attribute and how it is written.
fn abbreviations(out: &mut Encoder) -> Result<(), Error> {
    // Attributes: 0x03 name, 0x10 lines, 0x11 low pc, 0x12 high pc, 0x55 ranges.
    // Forms: 0x01 an address, 0x06 four bytes, 0x07 eight bytes, 0x0e at an offset among the strings, 0x17 at an offset
    // of another section.
    out.put(&[1, 0x11, 1])?; // a unit, with children
    out.put(&[0x03, 0x0e, 0x10, 0x17, 0x11, 0x01, 0x55, 0x17, 0, 0])?;
    out.put(&[2, 0x2e, 0])?; // a function, without
    out.put(&[0x03, 0x0e, 0x11, 0x01, 0x12, 0x07, 0, 0])?;
    out.u8(0)
}

fn info(out: &mut Encoder, batch: &Batch) -> Result<(), Error> {
    out.u16(VERSION)?;
    out.u32(0)?; // where its abbreviations are
    out.u8(8)?; // bytes of an address
    out.uleb(1)?;
    out.u32(batch.files()[0])?;
    out.u32(0)?; // where its lines are
    out.u64(0)?; // what its ranges are relative to
    out.u32(0)?; // where its ranges are
    for function in with_lines(batch) {
        out.uleb(2)?;
        out.u32(function.name)?;
        out.u64(function.address as u64)?;
        out.u64(function.len as u64)?;
    }
    out.u8(0)
}

/// The operands of the standard operations 1 to 12, of which 1 to 4 are used below.
const OPERANDS: [u8; 12] = [0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
const COPY: u8 = 1;
const ADVANCE_ADDRESS: u8 = 2;
const ADVANCE_LINE: u8 = 3;
const SET_FILE: u8 = 4;
/// Operations of another kind: a zero, their length, and one of these.
const END_OF_SEQUENCE: u8 = 1;
const SET_ADDRESS: u8 = 2;

fn lines(out: &mut Encoder, batch: &Batch) -> Result<(), Error> {
    out.u16(VERSION)?;
    in_length(out, |out| {
        // Bytes of an instruction, operations of one, each address starts a statement, least line advance, how many line
        // advances, and the first operation that makes use of these two: none does, they take one step each.
        out.put(&[1, 1, 1, 0, 1, OPERANDS.len() as u8 + 1])?;
        out.put(&OPERANDS)?;
        out.u8(0)?; // no directories
        for &file in batch.files() {
            let name = &batch.strings()[file as usize..];
            let end = name.iter().position(|&byte| byte == 0).expect("each string has its zero byte");
            out.put(&name[..=end])?;
            out.put(&[0, 0, 0])?; // no directory, time or length
        }
        out.u8(0)
    })?;
    for function in with_lines(batch) {
        out.put(&[0, 9, SET_ADDRESS])?;
        out.u64(function.address as u64)?;
        let (mut offset, mut file, mut line) = (0, 0, 1);
        for entry in batch.lines(function) {
            if entry.offset != offset {
                out.u8(ADVANCE_ADDRESS)?;
                out.uleb(u64::from(entry.offset - offset))?;
            }
            if entry.file != file {
                out.u8(SET_FILE)?;
                out.uleb(u64::from(entry.file) + 1)?;
            }
            if entry.line != line {
                out.u8(ADVANCE_LINE)?;
                out.sleb(i64::from(entry.line) - i64::from(line))?;
            }
            out.u8(COPY)?;
            (offset, file, line) = (entry.offset, entry.file, entry.line);
        }
        out.u8(ADVANCE_ADDRESS)?;
        out.uleb((function.len - offset as usize) as u64)?;
        out.put(&[0, 1, END_OF_SEQUENCE])?;
    }
    Ok(())
}
