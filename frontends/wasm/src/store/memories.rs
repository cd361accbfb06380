//! Memories of a store.

use dagwood_runtime::memory::{Limits as Reserve, LinearMemory};

use super::{Memory, MemoryData, State, Store, largest_memory, no_memory, publish};
use crate::error::{Error, ErrorKind};
use crate::module::PAGE_BYTES;
use crate::types::Limits;

impl Store {
    /// Makes a memory of zeros.
    ///
    /// # Errors
    ///
    /// `Limit` if it is larger than the store allows or the system has.
    pub fn new_memory(&self, limits: Limits) -> Result<Memory, Error> {
        self.state().new_memory(limits)
    }

    /// The bytes of a memory, while no program uses it.
    ///
    /// # Panics
    ///
    /// If `use_bytes` uses the store.
    pub fn with_memory<R>(&self, memory: Memory, use_bytes: impl FnOnce(&mut [u8]) -> R) -> R {
        use_bytes(self.state().memories[memory.index()].bytes.as_mut_slice())
    }

    /// Adds pages to a memory; gives the former number of pages, or nothing if there is no room.
    pub fn grow_memory(&self, memory: Memory, pages: u64) -> Option<u64> {
        self.state().grow_memory(memory, pages)
    }
}

impl State {
    pub(crate) fn new_memory(&mut self, limits: Limits) -> Result<Memory, Error> {
        let bytes = limits.min.saturating_mul(PAGE_BYTES);
        let allowed = self.options.max_memory_bytes.saturating_sub(self.memory_bytes());
        if bytes > allowed {
            let message = format!("a memory of {} pages; {} are left", limits.min, allowed / PAGE_BYTES);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let largest = largest_memory(&limits, &self.options).max(bytes) as usize;
        let reserve = Reserve { cap: largest, reserve: largest };
        let bytes = LinearMemory::new(bytes as usize, &reserve).map_err(no_memory)?;
        self.memories.push(MemoryData { bytes, limits, views: Vec::new() });
        let memory = Memory::new(self.memories.len() - 1);
        self.publish_memory(memory);
        Ok(memory)
    }

    /// Tells everybody where a memory is and how long.
    pub(crate) fn publish_memory(&mut self, memory: Memory) {
        let data = &self.memories[memory.index()];
        let (address, length) = (data.bytes.address(), data.bytes.len());
        publish(&data.views, address, length as u64);
        self.view.open(address..address + length);
    }

    /// The limits of a memory as they are now.
    pub(crate) fn memory_limits(&self, memory: Memory) -> Limits {
        let data = &self.memories[memory.index()];
        Limits { min: data.bytes.len() as u64 / PAGE_BYTES, ..data.limits }
    }

    pub(crate) fn grow_memory(&mut self, memory: Memory, pages: u64) -> Option<u64> {
        let total = self.memory_bytes();
        let allowed = self.options.max_memory_bytes;
        let data = &mut self.memories[memory.index()];
        let before = data.bytes.len() as u64;
        let by = pages.checked_mul(PAGE_BYTES)?;
        let after = before.checked_add(by)?;
        // Beyond what is reserved it would move, and compiled code relies on that it does not.
        if total.checked_add(by)? > allowed || after > data.bytes.reserved() as u64 {
            return None;
        }
        data.bytes.grow(by as usize).ok()?;
        self.publish_memory(memory);
        Some(before / PAGE_BYTES)
    }
}
