//! One piece of memory mapped twice: executable near the program, writable anywhere.
//!
//! *Placing.* Asking the system for any address never yields one near a position-independent program. So
//! places are tried one by one with `MAP_FIXED_NOREPLACE`, which takes a place only if it is free: first
//! downwards from the anchor (nothing lives below such a program), then far above it, and last in the gibibyte
//! above it, where the heap starts and should be left room to grow.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::{Error, PAGE, Reach};

/// How far from the anchor a space may stand: what is left of 2 GiB is for the rest of the anchor's image.
const WINDOW: usize = 7 << 28;
/// Where the heap of a program may start, counted from its text.
const HEAP: usize = (1 << 30) + (64 << 20);
/// The distance between two places that are tried.
const STEP: usize = 4 << 20;

/// Where a space's code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Within reach of this address if there is room, anywhere else if not. [`crate::CodeSpace::reach`] says which.
    Near(usize),
    /// Anywhere.
    Anywhere,
}

impl Default for Placement {
    /// Near the program, or the shared library, that this crate is part of.
    fn default() -> Self {
        Placement::Near(candidates as *const () as usize)
    }
}

/// A mapping that is undone when it is dropped.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(base: *mut std::ffi::c_void, len: usize) -> Mapping {
        Mapping { base: NonNull::new(base.cast()).expect("the system maps nothing at address zero"), len }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and whoever used it held a reference to us. A failure would leave
        // it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The two views of one piece of memory.
#[derive(Debug)]
pub(crate) struct DualMap {
    /// The executable view, with a guard page on either side.
    executable: Mapping,
    writable: Mapping,
    reach: Reach,
}

// SAFETY: the mappings belong to no thread; both pointers are plain addresses whose memory is only handed out by
// `writable`, as a raw pointer.
unsafe impl Send for DualMap {}
// SAFETY: as above; no method changes a field.
unsafe impl Sync for DualMap {}

impl DualMap {
    /// Maps `len` bytes, a multiple of a page, twice.
    pub(crate) fn new(len: usize, placement: Placement) -> Result<DualMap, Error> {
        let file = memory_file()?;
        rustix::fs::ftruncate(&file, len as u64).map_err(Error::system("size the code space"))?;
        let (executable, reach) = place(len, placement)?;
        // SAFETY: the place is inside the reservation that `executable` owns and nobody else knows of.
        unsafe {
            rustix::mm::mmap(
                executable.base.as_ptr().add(PAGE).cast(),
                len,
                ProtFlags::READ | ProtFlags::EXEC,
                MapFlags::SHARED | MapFlags::FIXED,
                &file,
                0,
            )
        }
        .map_err(Error::system("map the code space for executing"))?;
        // SAFETY: the system chooses an address that is free.
        let writable = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .map_err(Error::system("map the code space for writing"))?;
        let writable = Mapping::new(writable, len);
        // SAFETY: the advice concerns our own mapping, and children of this process have no pointer to it.
        unsafe { rustix::mm::madvise(writable.base.as_ptr().cast(), len, Advice::LinuxDontFork) }
            .map_err(Error::system("hide the code space's write view from forked processes"))?;
        Ok(DualMap { executable, writable, reach })
    }

    pub(crate) fn len(&self) -> usize {
        self.writable.len
    }

    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// The addresses of the executable view.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.executable.base.as_ptr() as usize + PAGE;
        start..start + self.len()
    }

    /// The bytes at `offsets` in the write view.
    pub(crate) fn writable(&self, offsets: &Range<usize>) -> *mut [u8] {
        assert!(offsets.start <= offsets.end && offsets.end <= self.len(), "offsets lie in the space");
        // SAFETY: just checked to lie in the mapping.
        let first = unsafe { self.writable.base.as_ptr().add(offsets.start) };
        ptr::slice_from_raw_parts_mut(first, offsets.len())
    }
}

/// A file in memory that may be mapped for executing.
fn memory_file() -> Result<OwnedFd, Error> {
    let create = |flags| rustix::fs::memfd_create("dagwood-code", flags);
    match create(MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        // Systems before 6.3 do not know the flag, and allow what it asks for.
        Err(Errno::INVAL) => create(MemfdFlags::CLOEXEC),
        other => other,
    }
    .map_err(Error::system("create memory for code"))
}

/// Reserves room for `len` bytes of code and a guard page on either side.
fn place(len: usize, placement: Placement) -> Result<(Mapping, Reach), Error> {
    let whole = len + 2 * PAGE;
    let reserve = |address: usize, flags| {
        // SAFETY: an address of zero lets the system choose; any other comes with FIXED_NOREPLACE (on old systems
        // a mere hint), so nothing that is mapped is replaced.
        unsafe {
            rustix::mm::mmap_anonymous(
                ptr::without_provenance_mut(address),
                whole,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE | flags,
            )
        }
        .map(|base| Mapping::new(base, whole))
    };
    let mut attempts = 0;
    if let Placement::Near(anchor) = placement {
        for candidate in candidates(anchor, whole) {
            attempts += 1;
            let Ok(mapping) = reserve(candidate, MapFlags::FIXED_NOREPLACE) else { continue };
            if mapping.base.as_ptr() as usize == candidate {
                return Ok((
                    mapping,
                    Reach { anchor: Some(anchor), distance: distance(anchor, candidate, whole), attempts },
                ));
            }
        }
    }
    let mapping = reserve(0, MapFlags::empty()).map_err(Error::system("reserve addresses for code"))?;
    let reach = match placement {
        Placement::Anywhere => Reach { anchor: None, distance: 0, attempts: 1 },
        Placement::Near(anchor) => {
            let distance = distance(anchor, mapping.base.as_ptr() as usize, whole);
            Reach { anchor: Some(anchor), distance, attempts: attempts + 1 }
        }
    };
    Ok((mapping, reach))
}

/// The bytes between `anchor` and the farthest byte of the `len` bytes at `base`.
fn distance(anchor: usize, base: usize, len: usize) -> usize {
    anchor.abs_diff(base).max(anchor.abs_diff(base + len))
}

/// The places to try for `len` bytes near `anchor`, best first.
fn candidates(anchor: usize, len: usize) -> impl Iterator<Item = usize> {
    let lowest = anchor.saturating_sub(WINDOW).max(STEP);
    let highest = anchor.saturating_add(WINDOW);
    let below = anchor.saturating_sub(len) & !(STEP - 1);
    let above = (anchor.saturating_add(HEAP)).next_multiple_of(STEP);
    let downwards = (0..).map_while(move |i| below.checked_sub(i * STEP));
    let upwards = (0..).map_while(move |i| above.checked_add(i * STEP));
    let beside_the_heap =
        (1..).map_while(move |i| above.checked_sub(i * STEP)).take_while(move |&place| place > anchor);
    downwards
        .take_while(move |&place| place >= lowest)
        .chain(upwards.take_while(move |&place| place.saturating_add(len) <= highest))
        .chain(beside_the_heap.filter(move |&place| place.saturating_add(len) <= highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_within_reach_and_finite() {
        for anchor in [0, 0x40_1000, 0x5555_5555_4000, usize::MAX - (WINDOW + HEAP)] {
            for len in [PAGE, 64 << 20, crate::MAX_SIZE] {
                let places: Vec<usize> = candidates(anchor, len).collect();
                assert!(places.len() < 1000);
                assert!(places.iter().all(|&place| distance(anchor, place, len) <= i32::MAX as usize));
                assert!(places.iter().all(|&place| place > 0), "address zero would mean anywhere");
            }
        }
        assert!(candidates(0x5555_5555_4000, 64 << 20).next().expect("there is a place") < 0x5555_5555_4000);
    }
}
