//! The memory map of this process, as the system tells it.
//!
//! ```text
//!   5653d0f5b000-5653d0f60000 r-xp 00002000 fe:00 247030      /usr/bin/cat
//! ```
//!
//! Read line by line into a buffer on the stack, so that it can be read when there is no memory. Only the first two
//! fields are looked at. The system gives a page of whole lines at a time; what other threads map meanwhile
//! may be seen or not.

use crate::{Error, PAGE, system};

/// One line of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    /// Whether it may be read.
    pub(crate) read: bool,
    /// Whether what is written there is seen in other mappings of the same memory.
    pub(crate) shared: bool,
}

/// Calls `see` with each mapping, by rising addresses.
pub(crate) fn each(mut see: impl FnMut(Mapping)) -> Result<(), Error> {
    let file = system::open_maps()?;
    let mut buffer = [0; PAGE];
    let mut line = Line::default();
    loop {
        let read = system::read_maps(&file, &mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        for &byte in &buffer[..read] {
            if byte == b'\n' {
                see(line.mapping());
                line = Line::default();
            } else {
                line.push(byte);
            }
        }
    }
}

/// What is known of a line that is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    numbers: [usize; 2],
    flags: [u8; 4],
    /// Fields that are complete; the dash between the addresses ends one too.
    fields: usize,
    /// Letters of the flags that were seen.
    letters: usize,
}

impl Line {
    fn push(&mut self, byte: u8) {
        match (self.fields, byte) {
            (0, b'-') | (1 | 2, b' ') => self.fields += 1,
            (0 | 1, _) => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let number = &mut self.numbers[self.fields];
                *number = *number << 4 | digit as usize;
            }
            (2, _) if self.letters < 4 => {
                self.flags[self.letters] = byte;
                self.letters += 1;
            }
            _ => {}
        }
    }

    fn mapping(&self) -> Mapping {
        Mapping {
            start: self.numbers[0],
            end: self.numbers[1],
            read: self.flags[0] == b'r',
            write: self.flags[1] == b'w',
            execute: self.flags[2] == b'x',
            shared: self.flags[3] == b's',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Mapping {
        let mut parsed = Line::default();
        line.bytes().for_each(|byte| parsed.push(byte));
        parsed.mapping()
    }

    #[test]
    fn a_line_has_addresses_and_flags_whatever_its_name() {
        let mapping =
            parse("5653d0f5b000-5653d0f60000 r-xp 00002000 fe:00 247030     /tmp/a-b c rwxs (deleted)");
        let flags = (mapping.read, mapping.write, mapping.execute, mapping.shared);
        assert_eq!(
            (mapping.start, mapping.end, flags),
            (0x5653_d0f5_b000, 0x5653_d0f6_0000, (true, false, true, false))
        );
        let mapping = parse("7ffc50dfc000-7ffc50e1d000 -w-s 00000000 00:00 0 ");
        let flags = (mapping.read, mapping.write, mapping.execute, mapping.shared);
        assert_eq!(
            (mapping.start, mapping.end, flags),
            (0x7ffc_50df_c000, 0x7ffc_50e1_d000, (false, true, false, true))
        );
        assert_eq!(parse("ffffffffff600000-ffffffffff601000 --xp 0").end, 0xffff_ffff_ff60_1000);
    }

    #[test]
    fn the_map_has_this_code_and_this_stack_and_rises() {
        let on_stack = 0_u8;
        let (code, stack) = (system::open_maps as *const () as usize, &raw const on_stack as usize);
        let mut seen = Vec::with_capacity(10_000);
        each(|mapping| seen.push(mapping)).expect("the memory map can be read");
        assert!(seen.windows(2).all(|pair| pair[0].end <= pair[1].start && pair[1].start < pair[1].end));
        let of = |address: usize| seen.iter().find(|mapping| (mapping.start..mapping.end).contains(&address));
        assert!(of(code).is_some_and(|mapping| mapping.execute && !mapping.write));
        assert!(of(stack).is_some_and(|mapping| mapping.write && !mapping.execute));
        assert_eq!(of(0), None);
    }
}
