//! Exceptions of a store: one heap of blocks, whose sizes are powers of two, with a free list for each size.
//!
//! An exception that is caught without taking a reference is freed at once. One that a reference was taken to is never
//! freed, because nobody knows when the last reference goes; when the heap is full, `throw` raises `out_of_memory`.

use std::ops::Range;

use dagwood_runtime::memory::{Limits, LinearMemory};
use indexmap::IndexSet;

use super::{Exception, State, no_memory};
use crate::error::Error;
use crate::layout::{EXCEPTION_ESCAPED, EXCEPTION_TAG, EXCEPTION_VALUES, WORD_BYTES};

/// The sizes of blocks: `2^n` bytes.
const SIZES: usize = 32;

/// The heap.
#[derive(Debug)]
pub(crate) struct Heap {
    memory: LinearMemory,
    /// The first byte that was never used.
    next: usize,
    /// By size: offsets of blocks that are free.
    free: [Vec<u32>; SIZES],
    /// The addresses of exceptions that the embedder has seen, by handle.
    handed_out: IndexSet<u64>,
}

impl Heap {
    pub(crate) fn new(max_bytes: usize) -> Result<Heap, Error> {
        let max_bytes = max_bytes.min(1 << 31);
        let limits = Limits { cap: max_bytes, reserve: max_bytes };
        let memory = LinearMemory::new(max_bytes, &limits).map_err(no_memory)?;
        Ok(Heap { memory, next: 0, free: std::array::from_fn(|_| Vec::new()), handed_out: IndexSet::new() })
    }

    /// The addresses of the heap.
    pub(crate) fn range(&self) -> Range<usize> {
        self.memory.address()..self.memory.address() + self.memory.len()
    }

    /// A new exception of a tag with room for so many values; none if the heap is full.
    pub(crate) fn allocate(&mut self, tag: u64, values: u64) -> Option<u64> {
        let size = size_of(values)?;
        let offset = match self.free[size].pop() {
            Some(offset) => offset as usize,
            None => {
                let offset = self.next;
                let end = offset.checked_add(1 << size).filter(|end| *end <= self.memory.len())?;
                self.next = end;
                offset
            }
        };
        self.set(offset + EXCEPTION_TAG as usize, tag);
        self.set(offset + EXCEPTION_ESCAPED as usize, 0);
        Some((self.memory.address() + offset) as u64)
    }

    /// Frees an exception with so many values, unless a reference to it was taken.
    fn release(&mut self, offset: usize, values: u64) {
        if self.get(offset + EXCEPTION_ESCAPED as usize) == 0
            && let Some(size) = size_of(values)
        {
            self.free[size].push(offset as u32);
        }
    }

    /// A handle of an exception, which from now on is not freed.
    pub(crate) fn hand_out(&mut self, address: u64) -> Exception {
        if let Some(offset) = self.offset(address) {
            self.set(offset + EXCEPTION_ESCAPED as usize, 1);
        }
        Exception::new(self.handed_out.insert_full(address).0)
    }

    /// The exception that a handle is of.
    pub(crate) fn address(&self, exception: Exception) -> Option<u64> {
        self.handed_out.get_index(exception.index()).copied()
    }

    /// Where in the heap an exception is.
    fn offset(&self, address: u64) -> Option<usize> {
        let offset = usize::try_from(address).ok()?.checked_sub(self.memory.address())?;
        (offset + EXCEPTION_VALUES as usize <= self.memory.len()).then_some(offset)
    }

    fn get(&self, offset: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.memory.as_slice()[offset..offset + 8]);
        u64::from_le_bytes(word)
    }

    fn set(&mut self, offset: usize, word: u64) {
        self.memory.as_mut_slice()[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    }
}

/// The size of a block for so many values.
fn size_of(values: u64) -> Option<usize> {
    let bytes = values.checked_mul(u64::from(WORD_BYTES))?.checked_add(u64::from(EXCEPTION_VALUES))?;
    let size = bytes.checked_next_power_of_two()?.trailing_zeros() as usize;
    (size < SIZES).then_some(size)
}

impl State {
    /// Frees an exception that was caught, unless a reference to it was taken.
    pub(crate) fn free_exception(&mut self, address: u64) {
        let Some(offset) = self.exceptions.offset(address) else { return };
        let tag = self.exceptions.get(offset + EXCEPTION_TAG as usize);
        if let Some(payload) = (tag as usize).checked_sub(1).and_then(|tag| self.tags.get(tag)) {
            let values = payload.params.len() as u64;
            self.exceptions.release(offset, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_unless_a_reference_escaped() {
        let mut heap = Heap::new(1 << 16).expect("there is memory");
        let first = heap.allocate(1, 1).expect("there is room");
        let start = heap.range().start as u64;
        heap.release((first - start) as usize, 1);
        assert_eq!(heap.allocate(2, 2), Some(first));
        heap.set((first - start) as usize + EXCEPTION_ESCAPED as usize, 1);
        heap.release((first - start) as usize, 2);
        assert_ne!(heap.allocate(3, 2), Some(first));
        assert_eq!(heap.allocate(1, u64::MAX), None);
        while heap.allocate(1, 100).is_some() {}
        assert!(heap.next <= heap.memory.len());
    }
}
