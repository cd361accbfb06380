//! The memory of a heap: two halves, of which one has the objects.
//!
//! ```text
//!   │ first half: size_bytes │ second half: size_bytes │      one reservation, made accessible as it is used
//! ```
//!
//! *Guarantees.* Every access is inside the reservation, and to memory that is accessible, or it panics. Nobody holds a Rust
//! reference to what is in it: compiled code writes there.

use std::ops::Range;

use crate::error::SystemError;
use crate::region::{PAGE, Region};

/// Two halves of equal size.
#[derive(Debug)]
pub(super) struct Space {
    region: Region,
    size_bytes: usize,
}

impl Space {
    /// Halves of at least this many bytes, zero.
    pub(super) fn new(size_bytes: usize) -> Result<Space, SystemError> {
        let size_bytes = size_bytes.clamp(PAGE, 1 << 44).next_multiple_of(PAGE);
        let mut region = Region::reserve(2 * size_bytes)?;
        region.commit(2 * size_bytes)?;
        Ok(Space { region, size_bytes })
    }

    /// The addresses of the first or the second half.
    pub(super) fn half(&self, index: usize) -> Range<usize> {
        let start = self.region.base() as usize + index % 2 * self.size_bytes;
        start..start + self.size_bytes
    }

    /// A pointer to `count` bytes at an address.
    fn pointer(&self, address: usize, count: usize) -> *mut u8 {
        let offset = address.wrapping_sub(self.region.base() as usize);
        let is_inside = offset <= self.region.len() && count <= self.region.len() - offset;
        assert!(is_inside, "{count} bytes at {address:#x} are not the heap's");
        // SAFETY: the offset is inside of the reservation.
        unsafe { self.region.base().add(offset) }
    }

    /// Reads up to 16 bytes.
    pub(super) fn load(&self, address: usize, size_bytes: usize) -> u128 {
        let mut bytes = [0; 16];
        let size = size_bytes.min(bytes.len());
        // SAFETY: the bytes are the space's, accessible from the start, and no Rust reference covers them.
        unsafe { std::ptr::copy_nonoverlapping(self.pointer(address, size), bytes.as_mut_ptr(), size) };
        u128::from_le_bytes(bytes)
    }

    /// Writes the low bytes of `bits`, up to 16.
    pub(super) fn store(&self, address: usize, size_bytes: usize, bits: u128) {
        let bytes = bits.to_le_bytes();
        let size = size_bytes.min(bytes.len());
        // SAFETY: as in `load`; the memory can be written, and a space belongs to one thread at a time, since it is not shared.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer(address, size), size) };
    }

    /// Reads 8 bytes.
    pub(super) fn word(&self, address: usize) -> u64 {
        self.load(address, 8) as u64
    }

    /// Writes 8 bytes.
    pub(super) fn set_word(&self, address: usize, word: u64) {
        self.store(address, 8, word.into());
    }

    /// Copies bytes, as if through a buffer.
    pub(super) fn copy(&self, to: usize, from: usize, count: usize) {
        // SAFETY: as in `store`, for both places; `copy` allows that they overlap.
        unsafe { std::ptr::copy(self.pointer(from, count), self.pointer(to, count), count) };
    }

    /// Fills bytes.
    pub(super) fn fill(&self, range: Range<usize>, byte: u8) {
        let count = range.len();
        // SAFETY: as in `store`.
        unsafe { std::ptr::write_bytes(self.pointer(range.start, count), byte, count) };
    }
}
