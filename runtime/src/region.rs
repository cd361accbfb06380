//! Ranges of addresses that belong to us, made accessible from the front.

use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, MremapFlags, ProtFlags};

use crate::error::SystemError;

/// The bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Reserved addresses, of which the first `committed` bytes are readable, writable and were zero at first.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    committed: usize,
}

// SAFETY: a region is an address and two lengths; its memory belongs to no thread, and no method touches it but
// `move_to_larger`, which has exclusive access.
unsafe impl Send for Region {}
// SAFETY: as above; a shared region gives nothing but its address and lengths.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes, a multiple of [`PAGE`] and not zero, of which none is accessible yet.
    pub(crate) fn reserve(len: usize) -> Result<Region, SystemError> {
        debug_assert!(len > 0 && len.is_multiple_of(PAGE), "regions are made of pages");
        // SAFETY: the system chooses addresses that are free.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(SystemError::during("reserve addresses"))?;
        let base = NonNull::new(base.cast()).expect("the system maps nothing at address zero");
        Ok(Region { base, len, committed: 0 })
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes at least the first `len` bytes accessible.
    pub(crate) fn commit(&mut self, len: usize) -> Result<(), SystemError> {
        assert!(len <= self.len, "only what is reserved can be committed");
        let end = len.next_multiple_of(PAGE);
        if end <= self.committed {
            return Ok(());
        }
        // SAFETY: the pages lie in our reservation, behind what is in use.
        unsafe {
            rustix::mm::mprotect(
                self.base.as_ptr().add(self.committed).cast(),
                end - self.committed,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        }
        .map_err(SystemError::during("make memory accessible"))?;
        self.committed = end;
        Ok(())
    }

    /// Moves to a reservation of `len` bytes, of which at least the first `commit` are accessible, with its contents.
    /// On an error nothing has changed.
    pub(crate) fn move_to_larger(&mut self, len: usize, commit: usize) -> Result<(), SystemError> {
        assert!(len.is_multiple_of(PAGE) && self.committed <= commit && commit <= len, "the contents fit");
        if self.committed > 0 {
            // SAFETY: the accessible pages are ours and `self` is borrowed exclusively, so nobody refers to the place that
            // they leave. They move with their contents to addresses that the system finds free, and what is added behind
            // them is zero. On failure nothing has moved.
            let moved = unsafe {
                rustix::mm::mremap(self.base.as_ptr().cast(), self.committed, len, MremapFlags::MAYMOVE)
            };
            if let Ok(base) = moved {
                self.adopt(NonNull::new(base.cast()).expect("the system maps nothing at address zero"), len);
                self.retract(commit);
                return Ok(());
            }
            // A forked process may have left the pages in pieces, which the system does not move at once.
        }
        let mut target = Region::reserve(len)?;
        target.commit(commit)?;
        // SAFETY: both are accessible for `committed` bytes, and disjoint.
        unsafe { ptr::copy_nonoverlapping(self.base.as_ptr(), target.base.as_ptr(), self.committed) };
        *self = target;
        Ok(())
    }

    /// Takes over `len` accessible bytes at `base`, whose first ones were this region's accessible bytes.
    fn adopt(&mut self, base: NonNull<u8>, len: usize) {
        // SAFETY: `committed <= len`, so this is at most the end of the old reservation.
        let rest = unsafe { self.base.add(self.committed) };
        let rest = Region { base: rest, len: self.len - self.committed, committed: 0 };
        // The addresses that the pages left are no longer ours to unmap; the rest of the reservation is.
        std::mem::forget(std::mem::replace(self, Region { base, len, committed: len }));
        drop(rest);
    }

    /// Makes what lies behind the first `len` bytes inaccessible, if the system agrees. It was never written.
    fn retract(&mut self, len: usize) {
        let end = len.next_multiple_of(PAGE);
        // SAFETY: the pages lie in our reservation and nobody refers to them yet.
        let retracted = unsafe {
            rustix::mm::mprotect(
                self.base.as_ptr().add(end).cast(),
                self.committed - end,
                MprotectFlags::empty(),
            )
        };
        if retracted.is_ok() {
            self.committed = end;
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: these addresses are ours, and whoever used them held a reference to us. A failure would leave
            // them mapped, which harms nobody.
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        }
    }
}
