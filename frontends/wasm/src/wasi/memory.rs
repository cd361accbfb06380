//! The program's memory, seen through checks.
//!
//! A WASI pointer is a number the program made up. Every access goes through [`Memory`], which turns (pointer,
//! length) into a slice or into `fault`; sums are taken in 64 bits, so none can wrap.
//!
//! *Guarantees.* No access outside the memory, no panic, no copy of what the program could have made huge:
//! [`Buffers`] are ranges of the memory, handed to the host where they lie. Alignment is not demanded.

use std::io::IoSlice;
use std::ops::Range;

use super::errno::Errno;

/// Most buffers in one scattered read or write, as many as Linux takes.
pub const MAX_IOVECS: u32 = 1024;

/// The bytes of one `iovec`: pointer and length.
const IOVEC_BYTES: u32 = 8;

/// The memory of the program during one call.
pub(super) struct Memory<'a>(&'a mut [u8]);

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// The range of `count` items of `size` bytes at `pointer`, if all of it is inside.
    pub(super) fn range(&self, pointer: u32, count: u32, size: u32) -> Result<Range<usize>, Errno> {
        let start = u64::from(pointer);
        // At most 2^32 + 2^64 - 2^33 + 1: the product cannot wrap, the sum is checked.
        let end = start.checked_add(u64::from(count) * u64::from(size)).ok_or(Errno::Overflow)?;
        if end > self.0.len() as u64 {
            return Err(Errno::Fault);
        }
        Ok(start as usize..end as usize)
    }

    pub(super) fn bytes(&self, pointer: u32, length: u32) -> Result<&[u8], Errno> {
        let range = self.range(pointer, length, 1)?;
        Ok(&self.0[range])
    }

    pub(super) fn bytes_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8], Errno> {
        let range = self.range(pointer, length, 1)?;
        Ok(&mut self.0[range])
    }

    /// The bytes of a range that [`Memory::range`] returned for this memory.
    pub(super) fn at(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }

    /// As [`Memory::at`], to be filled.
    pub(super) fn at_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.0[range]
    }

    pub(super) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        self.bytes_mut(pointer, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, pointer: u32, value: u32) -> Result<(), Errno> {
        self.write(pointer, &value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, pointer: u32, value: u64) -> Result<(), Errno> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Reads the array of `count` iovecs at `pointer`. Buffers may overlap and repeat; their lengths may sum to far
    /// more than the memory holds, but not to more than the 32 bits that report what was transferred.
    pub(super) fn buffers(&self, pointer: u32, count: u32) -> Result<Buffers, Errno> {
        if count > MAX_IOVECS {
            return Err(Errno::Inval);
        }
        let array = self.range(pointer, count, IOVEC_BYTES)?;
        let mut ranges = Vec::with_capacity(count as usize);
        let mut total = 0u32;
        for iovec in self.0[array].chunks_exact(IOVEC_BYTES as usize) {
            let (buffer, length) = (field_u32(iovec, 0), field_u32(iovec, 4));
            total = total.checked_add(length).ok_or(Errno::Inval)?;
            let range = self.range(buffer, length, 1)?;
            if !range.is_empty() {
                ranges.push(range);
            }
        }
        Ok(Buffers { ranges, first: 0 })
    }
}

/// The `u32` at `offset` of a record that was read whole.
pub(super) fn field_u32(record: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(record, offset))
}

/// The `u64` at `offset` of a record that was read whole.
pub(super) fn field_u64(record: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(record, offset))
}

/// `N` bytes at `offset` of a record that was read whole.
pub(super) fn field<const N: usize>(record: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&record[offset..offset + N]);
    bytes
}

/// The buffers of one scattered transfer, less what was transferred already. No range is empty.
pub(super) struct Buffers {
    ranges: Vec<Range<usize>>,
    first: usize,
}

impl Buffers {
    /// The next range to transfer.
    pub(super) fn next(&self) -> Option<Range<usize>> {
        self.ranges.get(self.first).cloned()
    }

    /// The bytes still to transfer.
    pub(super) fn total(&self) -> usize {
        self.ranges[self.first..].iter().map(Range::len).sum()
    }

    /// Notes that the next `count` bytes have been transferred.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(range) = self.ranges.get_mut(self.first) {
            let step = count.min(range.len());
            range.start += step;
            count -= step;
            if range.start < range.end {
                return;
            }
            self.first += 1;
        }
    }

    /// The next bytes, at most `limit` of them, as the host takes them.
    pub(super) fn gather<'m>(&self, memory: &'m Memory<'_>, limit: usize) -> Vec<IoSlice<'m>> {
        let mut left = limit;
        let mut slices = Vec::new();
        for range in &self.ranges[self.first..] {
            if left == 0 {
                break;
            }
            let step = left.min(range.len());
            slices.push(IoSlice::new(memory.at(range.start..range.start + step)));
            left -= step;
        }
        slices
    }
}
