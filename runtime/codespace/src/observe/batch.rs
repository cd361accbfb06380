//! Functions that a debugger is told of at once.
//!
//! Names and file names stand in one table of strings, each ended by a zero byte, as in the image that is made of them.

use std::ops::Range;

use crate::heap::marks::TRAILER;
use crate::observe::encode::Encoder;
use crate::observe::{FILE_BYTES, NAME_BYTES, Observed};
use crate::{Error, GRANULE};

/// How many of the last files are compared with a new line's: so many, or fewer, files take turns in one function.
const RECENT_FILES: usize = 16;

/// Functions, their names and their lines.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    functions: Vec<Function>,
    /// The strings; the first is empty, as ELF and DWARF want it.
    strings: Encoder,
    lines: Vec<Line>,
    /// Where the files' names are among the strings. The same file may be there twice.
    files: Vec<u32>,
}

/// A function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// Where it starts.
    pub(crate) address: usize,
    /// Its bytes.
    pub(crate) len: usize,
    /// Where its name is among the strings.
    pub(crate) name: u32,
    /// Which of the batch's lines are its own.
    lines: Range<u32>,
    /// Whether its bytes are still its own.
    pub(crate) is_live: bool,
}

impl Function {
    /// The addresses of its code.
    pub(crate) fn range(&self) -> Range<usize> {
        self.address..self.address + self.len
    }
}

/// From this offset on, code comes from this line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// In bytes from the start of the function.
    pub(crate) offset: u32,
    /// Which of the batch's files.
    pub(crate) file: u32,
    /// The line in it.
    pub(crate) line: u32,
}

impl Batch {
    /// Adds `code`, or if that fails nothing.
    pub(crate) fn push(&mut self, code: &Observed<'_>) -> Result<(), Error> {
        let (strings, lines, files) = (self.strings.len(), self.lines.len(), self.files.len());
        let pushed = self.try_push(code);
        if pushed.is_err() {
            self.strings.truncate(strings);
            self.lines.truncate(lines);
            self.files.truncate(files);
        }
        pushed
    }

    fn try_push(&mut self, code: &Observed<'_>) -> Result<(), Error> {
        self.functions.try_reserve(1).map_err(|_| Error::Memory)?;
        let name = self.string(code.name, NAME_BYTES)?;
        let first = self.lines.len() as u32;
        for entry in code.seen_lines() {
            let file = self.file(entry.file)?;
            self.lines.try_reserve(1).map_err(|_| Error::Memory)?;
            self.lines.push(Line { offset: entry.offset, file, line: entry.line });
        }
        let lines = first..self.lines.len() as u32;
        let (address, len) = (code.address, code.bytes.len());
        self.functions.push(Function { address, len, name, lines, is_live: true });
        Ok(())
    }

    /// Adds a string, and says where it is.
    fn string(&mut self, text: &str, limit: usize) -> Result<u32, Error> {
        if self.strings.len() == 0 {
            self.strings.u8(0)?;
        }
        let Ok(at) = u32::try_from(self.strings.len()) else { return Err(Error::Memory) };
        self.strings.text(text, limit)?;
        self.strings.u8(0)?;
        Ok(at)
    }

    /// The number of a file, which is new if it was not met lately.
    fn file(&mut self, name: &str) -> Result<u32, Error> {
        let at = self.string(name, FILE_BYTES)?;
        let new = &self.strings.as_slice()[at as usize..];
        let lately = self.files.len().saturating_sub(RECENT_FILES)..self.files.len();
        let same = |file: &usize| self.strings.as_slice()[self.files[*file] as usize..].starts_with(new);
        if let Some(known) = lately.rev().find(same) {
            self.strings.truncate(at as usize);
            return Ok(known as u32);
        }
        self.files.try_reserve(1).map_err(|_| Error::Memory)?;
        self.files.push(at);
        Ok(self.files.len() as u32 - 1)
    }

    /// Drops the functions that are not live, and puts the others in the order of their addresses.
    pub(crate) fn settle(&mut self) {
        self.functions.retain(|function| function.is_live);
        self.functions.sort_unstable_by_key(|function| function.address);
    }

    /// The functions; by address, if the batch is settled.
    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The same, to change.
    pub(crate) fn functions_mut(&mut self) -> &mut [Function] {
        &mut self.functions
    }

    /// The strings.
    pub(crate) fn strings(&self) -> &[u8] {
        self.strings.as_slice()
    }

    /// A function's lines.
    pub(crate) fn lines(&self, function: &Function) -> &[Line] {
        &self.lines[function.lines.start as usize..function.lines.end as usize]
    }

    /// Where the files' names are among the strings.
    pub(crate) fn files(&self) -> &[u32] {
        &self.files
    }

    /// Roughly how much it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.strings.len()
            + size_of_val(&*self.functions)
            + size_of_val(&*self.lines)
            + size_of_val(&*self.files)
    }

    /// The stretches of addresses that no other function can have a part in: what stands between two functions of one
    /// stretch is less than a granule and what the space itself keeps there. The batch is settled.
    pub(crate) fn runs(&self) -> Result<Vec<Range<usize>>, Error> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for function in &self.functions {
            if let Some(run) = runs.last_mut()
                && function.address / GRANULE <= run.end.saturating_add(TRAILER).div_ceil(GRANULE)
            {
                run.end = run.end.max(function.range().end);
                continue;
            }
            runs.try_reserve(1).map_err(|_| Error::Memory)?;
            runs.push(function.range());
        }
        Ok(runs)
    }
}
