//! Bytes that grow, little-endian, where running out of memory is an error.
//!
//! All that a debugger or a profiler reads is built with this: unwind records, images, profiles.

use crate::Error;

/// Bytes under construction.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Of no bytes yet, with room for `bytes`.
    pub(crate) fn with_room(bytes: usize) -> Result<Encoder, Error> {
        let mut encoder = Encoder::default();
        encoder.bytes.try_reserve_exact(bytes).map_err(|_| Error::Memory)?;
        Ok(encoder)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// They.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// They, for good.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// Drops all, and the memory above `keep` bytes of room.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        if self.bytes.capacity() > keep {
            self.bytes = Vec::new();
        }
    }

    /// Drops what comes after the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Appends `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes.try_reserve(bytes.len()).map_err(|_| Error::Memory)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn u8(&mut self, value: u8) -> Result<(), Error> {
        self.put(&[value])
    }

    pub(crate) fn u32(&mut self, value: u32) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    /// Appends the value's decimal digits.
    pub(crate) fn decimal(&mut self, value: u32) -> Result<(), Error> {
        let digits = value.checked_ilog10().unwrap_or(0);
        (0..=digits).rev().try_for_each(|digit| self.u8(b'0' + (value / 10_u32.pow(digit) % 10) as u8))
    }

    /// Appends the text's first bytes, at most `limit` and whole characters, with `?` for each control character, and
    /// `unnamed` if there are none: what a name is in a line of a file, and before a zero byte.
    pub(crate) fn text(&mut self, text: &str, limit: usize) -> Result<(), Error> {
        let text = &text[..text.floor_char_boundary(limit)];
        let text = if text.is_empty() { "unnamed" } else { text };
        let start = self.len();
        self.put(text.as_bytes())?;
        for byte in &mut self.bytes[start..] {
            if byte.is_ascii_control() {
                *byte = b'?';
            }
        }
        Ok(())
    }

    /// Writes over the bytes at `at`, which are there.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// What only images need.
#[cfg(feature = "gdb")]
impl Encoder {
    pub(crate) fn u16(&mut self, value: u16) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    /// Appends `value` in groups of seven bits, the lowest first: DWARF's unsigned LEB128.
    pub(crate) fn uleb(&mut self, mut value: u64) -> Result<(), Error> {
        loop {
            let group = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.u8(group);
            }
            self.u8(group | 0x80)?;
        }
    }

    /// The same with a sign: DWARF's signed LEB128.
    pub(crate) fn sleb(&mut self, mut value: i64) -> Result<(), Error> {
        loop {
            let group = (value & 0x7f) as u8;
            value >>= 7;
            let sign = if group & 0x40 == 0 { 0 } else { -1 };
            if value == sign {
                return self.u8(group);
            }
            self.u8(group | 0x80)?;
        }
    }

    /// Appends zeros up to a multiple of `align`.
    pub(crate) fn align(&mut self, align: usize) -> Result<(), Error> {
        while !self.len().is_multiple_of(align) {
            self.u8(0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(build: impl Fn(&mut Encoder) -> Result<(), Error>) -> Vec<u8> {
        let mut encoder = Encoder::default();
        build(&mut encoder).unwrap();
        encoder.into_vec()
    }

    #[cfg(feature = "gdb")]
    #[test]
    fn groups_of_seven_bits_are_those_of_the_dwarf_standard() {
        for (value, bytes) in
            [(0, vec![0]), (127, vec![127]), (128, vec![0x80, 1]), (12857, vec![0xb9, 0x64])]
        {
            assert_eq!(of(|e| e.uleb(value)), bytes, "{value}");
        }
        for (value, bytes) in [
            (2, vec![2]),
            (-2, vec![0x7e]),
            (63, vec![63]),
            (64, vec![0xc0, 0]),
            (-64, vec![0x40]),
            (-65, vec![0xbf, 0x7f]),
            (-129, vec![0xff, 0x7e]),
        ] {
            assert_eq!(of(|e| e.sleb(value)), bytes, "{value}");
        }
    }

    #[test]
    fn decimal_digits_are_those_that_are_printed() {
        for value in [0, 1, 9, 10, 99, 100, 4_194_304, 999_999_999, 1_000_000_000, u32::MAX] {
            assert_eq!(of(|e| e.decimal(value)), value.to_string().into_bytes());
        }
    }

    #[test]
    fn a_name_is_cut_between_characters_and_stays_on_its_line() {
        assert_eq!(of(|e| e.text("plain name", 64)), b"plain name");
        assert_eq!(of(|e| e.text("a\nb\0c\u{7f}", 64)), b"a?b?c?");
        assert_eq!(of(|e| e.text("aéb", 2)), b"a");
        assert_eq!(of(|e| e.text("aéb", 3)), "aé".as_bytes());
        assert_eq!(of(|e| e.text("", 64)), b"unnamed");
        assert_eq!(of(|e| e.text("é", 1)), b"unnamed");
    }
}
