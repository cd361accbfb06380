//! The real memory, as the reference interpreter sees it: so that interpreted and compiled methods share instances.
//!
//! Compiled code goes wherever an address leads. The interpreter asks first: a [`MemoryView`] lists the ranges that its
//! owner opened, and anything outside of them is a [`Fault`].

use std::cell::Cell;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::Range;

use dagwood_il::interp::Fault;

/// Ranges of this process's memory that interpreted methods may use.
///
/// Whoever opens a range vouches for it: it stays mapped and writable until it is closed, and no Rust reference to what
/// is in it is alive while methods run. Memory of a [`LinearMemory`](crate::memory::LinearMemory) and of a
/// [`Context`](crate::context::Context) is made for that.
#[derive(Debug, Default)]
pub struct MemoryView {
    /// Disjoint, by ascending start.
    ranges: Vec<Range<usize>>,
    /// A view belongs to one thread at a time: it writes through a shared reference.
    one_thread: PhantomData<Cell<()>>,
}

impl MemoryView {
    /// A view in which everything is a fault.
    pub fn new() -> MemoryView {
        MemoryView::default()
    }

    /// Opens a range. What it overlaps is closed first.
    pub fn open(&mut self, range: Range<usize>) {
        self.ranges.retain(|open| open.end <= range.start || range.end <= open.start);
        if !range.is_empty() {
            let place = self.ranges.partition_point(|open| open.start < range.start);
            self.ranges.insert(place, range);
        }
    }

    /// Closes the range that starts at an address.
    pub fn close(&mut self, start: usize) {
        self.ranges.retain(|open| open.start != start);
    }

    /// A pointer to `count` bytes at an address.
    fn pointer(&self, address: u64, count: u64) -> Result<*mut u8, Fault> {
        let fault = Fault { address };
        let start = usize::try_from(address).map_err(|_| fault)?;
        let end = start.checked_add(usize::try_from(count).map_err(|_| fault)?).ok_or(fault)?;
        let after = self.ranges.partition_point(|open| open.start <= start);
        match after.checked_sub(1).map(|index| &self.ranges[index]) {
            Some(open) if end <= open.end => Ok(std::ptr::with_exposed_provenance_mut(start)),
            _ => Err(fault),
        }
    }

    /// Reads 1 to 16 bytes.
    ///
    /// # Errors
    ///
    /// A fault outside of the open ranges.
    pub fn load(&self, address: u64, size_bytes: u32) -> Result<u128, Fault> {
        let mut bytes = [0; 16];
        let size = (size_bytes as usize).min(bytes.len());
        let from = self.pointer(address, size as u64)?;
        // SAFETY: the range is open, so it is mapped and no Rust reference covers it; `bytes` has room for `size` bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size) };
        Ok(u128::from_le_bytes(bytes))
    }

    /// Writes the low 1 to 16 bytes of `bits`.
    ///
    /// # Errors
    ///
    /// A fault outside of the open ranges.
    pub fn store(&self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault> {
        let bytes = bits.to_le_bytes();
        let size = (size_bytes as usize).min(bytes.len());
        let to = self.pointer(address, size as u64)?;
        // SAFETY: as in `load`; the range can be written.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, size) };
        Ok(())
    }

    /// Copies bytes, as if through a buffer.
    ///
    /// # Errors
    ///
    /// A fault outside of the open ranges; nothing is copied then.
    pub fn copy(&self, destination: u64, source: u64, count: u64) -> Result<(), Fault> {
        let (to, from) = (self.pointer(destination, count)?, self.pointer(source, count)?);
        // SAFETY: as in `load`; `copy` allows overlap, and `count` fits because both ends were found in a range.
        unsafe { std::ptr::copy(from, to, count as usize) };
        Ok(())
    }

    /// Fills bytes.
    ///
    /// # Errors
    ///
    /// A fault outside of the open ranges; nothing is filled then.
    pub fn fill(&self, destination: u64, byte: u8, count: u64) -> Result<(), Fault> {
        let to = self.pointer(destination, count)?;
        // SAFETY: as in `store`.
        unsafe { std::ptr::write_bytes(to, byte, count as usize) };
        Ok(())
    }

    /// Compares bytes as unsigned, the lowest address first.
    ///
    /// # Errors
    ///
    /// A fault outside of the open ranges.
    pub fn compare(&self, left: u64, right: u64, count: u64) -> Result<Ordering, Fault> {
        let (left, right) = (self.pointer(left, count)?, self.pointer(right, count)?);
        // SAFETY: as in `load`; the slices are read and dropped before anything else runs.
        let slices = unsafe {
            (
                std::slice::from_raw_parts(left, count as usize),
                std::slice::from_raw_parts(right, count as usize),
            )
        };
        Ok(slices.0.cmp(slices.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;

    #[test]
    fn only_open_ranges_can_be_used() {
        let context = Context::new(64).expect("64 bytes can be had");
        let start = context.address();
        let mut view = MemoryView::new();
        assert_eq!(view.load(start as u64, 8), Err(Fault { address: start as u64 }));
        view.open(start..start + 64);
        view.store(start as u64 + 8, 4, 0x1_2345_6789).expect("the range is open");
        assert_eq!(view.load(start as u64 + 8, 8), Ok(0x2345_6789));
        view.fill(start as u64 + 16, 7, 4).expect("the range is open");
        view.copy(start as u64 + 18, start as u64 + 16, 4).expect("the range is open");
        assert_eq!(view.load(start as u64 + 16, 8), Ok(0x0707_0707_0707));
        assert_eq!(view.compare(start as u64, start as u64 + 16, 2), Ok(Ordering::Less));
        for (address, size) in [(start as u64 + 57, 8), (start as u64 - 1, 2), (u64::MAX, 8), (0, 1)] {
            assert_eq!(view.load(address, size), Err(Fault { address }));
        }
        assert!(view.fill(start as u64, 0, u64::MAX).is_err());
        view.close(start);
        assert!(view.load(start as u64, 1).is_err());
    }

    #[test]
    fn opening_closes_what_it_overlaps() {
        let mut view = MemoryView::new();
        for range in [0x1000..0x2000, 0x3000..0x4000, 0x1800..0x3800, 0x5000..0x5000] {
            view.open(range);
        }
        assert_eq!(view.ranges, vec![0x1800..0x3800]);
    }
}
