//! One chunk of executable memory, mapped so that nothing is ever writable and executable in one mapping.
//!
//! ```text
//!             execute view (near the program)           write view (at a random address, this process only)
//!   Dual      r-x of a memory file, always              rw- of the same file, always
//!   Session   r-x of a memory file, always              rw- while anybody holds it
//!   NoAlias   r-x of a memory file, always              none: written through the file
//!   Flip      --- , then rw- or r-x, page by page       the same addresses
//! ```
//!
//! The last page of each chunk can be neither run nor written. Bytes that were never prepared read as zero.
//!
//! *Sealed*, the execute view can be changed and unmapped by nobody any more (`mseal`), this crate included. When such a chunk
//! is dropped its memory is given back and its addresses stay: executing there is a `SIGBUS`, and nothing else of the process
//! ever gets them.
//!
//! *First touch.* A page of a memory file costs far more to get than to write, and most if it is got by a write fault. So
//! [`Memory::prepare`] writes its `int3` through the file, which allocates pages without filling them with zeros first and
//! without a fault, and then reads one byte of every 64 KiB of the write view, upon which the system maps all sixteen
//! pages. Code that runs brings in the execute view likewise. Measured on a virtual machine for 64 KiB at a time, processor
//! time per page relative to writing `int3` through the write view at once:
//!
//! | | |
//! |---|---|
//! | write fault on each page | 1 |
//! | `fallocate`, one read, then fill (pages that were allocated so are not yet zero and fault one by one) | 0.94 |
//! | `MADV_POPULATE_WRITE`, then fill | 0.97 |
//! | `MADV_POPULATE_READ`, then fill | 1.06 |
//! | write through the file, one read | 0.57 |
//! | the same, and one read in the execute view | 0.61 |
//!
//! So the file stays open: one descriptor a chunk. [`Protection::Dual`] needs none once all of the chunk is prepared, and closes
//! it then if the process has many; pages given back after that are prepared by write faults.
//!
//! *Forked processes* share the memory of the execute view and have no write view: what would write is an error there, and dropping
//! the chunk changes nothing for the parent.
//!
//! Whether a range of bytes may be written is decided one level up, where each range has one holder; so the
//! functions that write are unsafe and say whom they trust.

pub(crate) mod place;
pub(crate) mod pool;

use std::fmt;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;

use crate::memory::place::{Place, Random, Rung};
use crate::system::fork::Process;
use crate::system::{self, Access, At};
use crate::{Error, INT3, PAGE, Protection, Seal};

/// What is answered to who writes where there is no memory.
const VACANT: Error = Error::Unsupported { what: "writing to a vacant chunk" };
/// Random addresses that are tried for a write view.
const VIEW_TRIES: u32 = 4;
/// The system maps the pages of so many bytes when one of them is read for the first time, if they are there.
const FAULT_AROUND: usize = 64 << 10;
/// A process has many files if they have numbers from this one on: a new one gets the least that is free.
const MANY_FILES: i32 = 256;

/// A chunk: a place and the memory that is mapped there, while it has one.
pub(crate) struct Memory {
    base: usize,
    len: usize,
    mode: Protection,
    seal: Seal,
    sealed: AtomicBool,
    /// Who mapped it.
    process: Process,
    /// The write view, null if there is none.
    view: AtomicPtr<u8>,
    state: RwLock<State>,
    /// Pages that were prepared since memory is mapped; those given back in between count twice.
    prepared: AtomicUsize,
}

/// What is changed under the lock.
#[derive(Debug, Default)]
struct State {
    /// Kept only where it is needed later.
    file: Option<OwnedFd>,
    /// Those who hold the write view of [`Protection::Session`].
    holders: usize,
    /// Present while memory is mapped.
    place: Option<Place>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the write view, which nobody should learn from a log.
        f.debug_struct("Memory")
            .field("base", &self.base)
            .field("len", &self.len)
            .field("mode", &self.mode)
            .field("sealed", &self.is_sealed())
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Maps memory over `place`. If the system refuses executable memory files the error is one of which
    /// [`system::is_refusal`] is true.
    #[cfg(test)]
    pub(crate) fn map(place: Place, mode: Protection, seal: Seal) -> Result<Memory, Error> {
        let memory = Memory::new(place.base(), place.len(), mode, seal)?;
        memory.occupy(place).map_err(|(error, _)| error)?;
        Ok(memory)
    }

    /// A chunk for a place of `len` bytes at `base`, where it is vacant yet.
    pub(crate) fn new(base: usize, len: usize, mode: Protection, seal: Seal) -> Result<Memory, Error> {
        if mode == Protection::Flip && seal == Seal::Required {
            return Err(Error::Unsupported { what: "sealed mappings" });
        }
        Ok(Memory {
            base,
            len: len - PAGE,
            mode,
            seal,
            sealed: AtomicBool::new(false),
            process: Process::this()?,
            view: AtomicPtr::new(ptr::null_mut()),
            state: RwLock::default(),
            prepared: AtomicUsize::new(0),
        })
    }

    fn lock(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file to write through.
    fn file<'a>(&self, state: &'a State) -> Result<&'a OwnedFd, Error> {
        self.check_process()?;
        state.file.as_ref().ok_or(VACANT)
    }

    /// A forked process has flipped pages of its own, and nothing else.
    fn check_process(&self) -> Result<(), Error> {
        if self.process.is_another() && self.mode != Protection::Flip { Err(Error::Forked) } else { Ok(()) }
    }

    /// Maps memory over its place, where there is none. If the system refuses executable memory files the error is one of
    /// which [`system::is_refusal`] is true. On an error the place is as it was.
    pub(crate) fn occupy(&self, place: Place) -> Result<(), (Error, Place)> {
        debug_assert_eq!(
            (place.base(), place.len()),
            (self.base, self.len + PAGE),
            "it is the chunk's place"
        );
        if let Err(error) = self.fill(&place) {
            self.unmap_view();
            if place.is_readable() {
                // SAFETY: the place is ours, and nobody does more than read there. Should it fail, what is there can be
                // read too.
                let _ = unsafe { system::map_zeros(self.base, self.len) };
            }
            return Err((error, place));
        }
        self.lock().place = Some(place);
        Ok(())
    }

    fn fill(&self, place: &Place) -> Result<(), Error> {
        self.prepared.store(0, Ordering::Relaxed);
        if self.mode == Protection::Flip {
            // A lookup may just be reading where a chunk has stood.
            let before = if place.is_readable() { Access::Read } else { Access::None };
            // Whether the system allows it shows here: once there is code it would be too late.
            // SAFETY: the place is ours and nobody does more than read its first page, which is as before afterwards.
            return unsafe {
                system::protect(self.base, PAGE, Access::Execute)
                    .and_then(|()| system::protect(self.base, PAGE, before))
            };
        }
        let file = system::memory_file(self.len)?;
        // SAFETY: the place is ours and nothing is mapped there but what keeps others out, or zeros that lookups may read.
        unsafe { system::map_file(At::Over(self.base), self.len, Access::Execute, &file) }?;
        if self.mode == Protection::Dual {
            self.map_view(&file)?;
        }
        if self.seal != Seal::Off {
            // SAFETY: the place is ours, guard page included, and `drop` does not unmap it if it is sealed.
            match unsafe { system::seal(self.base, self.len + PAGE) } {
                Ok(()) => self.sealed.store(true, Ordering::Relaxed),
                Err(error) if self.seal == Seal::Required => return Err(error),
                Err(_) => {}
            }
        }
        self.lock().file = Some(file);
        Ok(())
    }

    /// Maps the write view, where nobody can guess.
    fn map_view(&self, file: &OwnedFd) -> Result<*mut u8, Error> {
        let mut random = Random::new()?;
        let mut tries = (0..VIEW_TRIES).map(|_| At::Free(random.address(self.len))).chain([At::Anywhere]);
        let view = loop {
            // SAFETY: only what is free is mapped.
            match unsafe {
                system::map_file(tries.next().unwrap_or(At::Anywhere), self.len, Access::Write, file)
            } {
                Err(Error::System { errno, .. }) if errno == Errno::EXIST.raw_os_error() => {}
                other => break other?,
            }
        };
        // SAFETY: the view was just made; forked processes have no business with it.
        if let Err(error) = unsafe { system::hide_from_forks(view, self.len) } {
            // SAFETY: nobody knows of the view.
            unsafe { system::unmap(view, self.len) };
            return Err(error);
        }
        let view = ptr::with_exposed_provenance_mut(view);
        self.view.store(view, Ordering::Release);
        Ok(view)
    }

    fn unmap_view(&self) {
        let view = self.view.swap(ptr::null_mut(), Ordering::AcqRel);
        if !view.is_null() && !self.process.is_another() {
            // SAFETY: the view is ours, and not that of a parent, which a fork does not copy; whoever had its address has given it
            // up, by dropping their hold or by the promise of `vacate` or of `drop`.
            unsafe { system::unmap(view as usize, self.len) };
        }
    }

    /// The first executable address.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// The bytes that may hold code: all but the inaccessible page.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn mode(&self) -> Protection {
        self.mode
    }

    /// How its place was found, while it has one.
    pub(crate) fn rung(&self) -> Option<Rung> {
        self.state().place.as_ref().map(Place::rung)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Relaxed)
    }

    /// The write view, if it is there without asking: in [`Protection::Dual`] while the chunk is occupied.
    #[inline]
    pub(crate) fn direct(&self) -> Option<*mut u8> {
        let view =
            if self.mode == Protection::Dual { self.view.load(Ordering::Acquire) } else { ptr::null_mut() };
        (!view.is_null()).then_some(view)
    }

    /// Has the write view mapped as long as the guard lives, in the modes that have one.
    pub(crate) fn open(&self) -> Result<Session<'_>, Error> {
        Ok(Session { memory: self, pointer: self.hold()? })
    }

    /// Has the write view mapped until [`Memory::release`] is called as often as this.
    pub(crate) fn hold(&self) -> Result<Option<*mut u8>, Error> {
        self.check_process()?;
        if self.mode != Protection::Session {
            return Ok(self.direct());
        }
        let mut state = self.lock();
        let view = match self.view.load(Ordering::Acquire) {
            view if !view.is_null() => view,
            _ => self.map_view(self.file(&state)?)?,
        };
        state.holders += 1;
        Ok(Some(view))
    }

    /// Ends what [`Memory::hold`] began.
    pub(crate) fn release(&self) {
        if self.mode != Protection::Session {
            return;
        }
        let mut state = self.lock();
        state.holders = state.holders.checked_sub(1).expect("a hold ends once");
        if state.holders == 0 {
            self.unmap_view();
        }
    }

    fn check(&self, range: &Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len, "ranges lie in their chunk");
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Safety
    ///
    /// The range is the caller's: nobody else reads or writes it in a write view meanwhile, and nobody runs what is there.
    /// In [`Protection::Flip`] that holds for its whole pages.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let range = offset..offset + bytes.len();
        self.check(&range);
        if self.mode == Protection::NoAlias {
            return system::write_at(self.file(&self.state())?, bytes, offset);
        }
        // SAFETY: the caller's promise; the pointer is to `range.len()` bytes, which do not overlap `bytes`.
        unsafe { self.with_pages(range, |to| ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len())) }
    }

    /// Makes each byte of `range`, whose memory is in use, an `int3`.
    ///
    /// # Safety
    ///
    /// As for [`Memory::write`].
    pub(crate) unsafe fn fill_int3(&self, range: Range<usize>) -> Result<(), Error> {
        self.check(&range);
        if self.mode == Protection::NoAlias {
            let state = self.state();
            return fill_through(self.file(&state)?, range);
        }
        let len = range.len();
        // SAFETY: the caller's promise; the pointer is to `len` bytes.
        unsafe { self.with_pages(range, |to| ptr::write_bytes(to, INT3, len)) }
    }

    /// Calls `write` with a pointer to `range`, for which it is writable.
    ///
    /// # Safety
    ///
    /// As for [`Memory::write`].
    unsafe fn with_pages(&self, range: Range<usize>, write: impl FnOnce(*mut u8)) -> Result<(), Error> {
        if self.mode == Protection::Flip {
            let pages = range.start & !(PAGE - 1)..range.end.next_multiple_of(PAGE);
            // SAFETY: the caller's promise covers the pages.
            let to = unsafe { self.unprotect(pages.clone()) }?;
            // SAFETY: the range lies in the pages that start at `to`.
            write(unsafe { to.add(range.start - pages.start) });
            return self.protect(pages);
        }
        let session = self.open()?;
        let to = session.pointer().ok_or(VACANT)?;
        // SAFETY: checked to lie in the view.
        write(unsafe { to.add(range.start) });
        Ok(())
    }

    /// Makes whole pages writable in [`Protection::Flip`], and no longer executable; where they are.
    ///
    /// # Safety
    ///
    /// Nobody runs what is there, until [`Memory::protect`].
    pub(crate) unsafe fn unprotect(&self, pages: Range<usize>) -> Result<*mut u8, Error> {
        self.flip(pages.clone(), Access::Write)?;
        Ok(ptr::with_exposed_provenance_mut(self.base + pages.start))
    }

    /// Makes whole pages executable in [`Protection::Flip`], and no longer writable.
    pub(crate) fn protect(&self, pages: Range<usize>) -> Result<(), Error> {
        self.flip(pages, Access::Execute)
    }

    fn flip(&self, pages: Range<usize>, access: Access) -> Result<(), Error> {
        self.check(&pages);
        assert_eq!(self.mode, Protection::Flip, "only flipped pages change their protection");
        assert!(
            pages.start.is_multiple_of(PAGE) && pages.end.is_multiple_of(PAGE),
            "protection is for whole pages"
        );
        // SAFETY: the pages are ours; that nobody uses them otherwise is the promise of the caller who made them writable.
        unsafe { system::protect(self.base + pages.start, pages.len(), access) }
    }

    /// Makes whole pages ready that are used for the first time: each byte is an `int3` then. In [`Protection::Flip`] they are
    /// writable then, as after [`Memory::unprotect`].
    ///
    /// # Safety
    ///
    /// As for [`Memory::write`].
    pub(crate) unsafe fn prepare(&self, pages: Range<usize>) -> Result<(), Error> {
        if self.mode == Protection::Flip {
            let len = pages.len();
            // SAFETY: the caller's promise; the pages were just made writable.
            return unsafe { self.unprotect(pages).map(|to| ptr::write_bytes(to, INT3, len)) };
        }
        self.check(&pages);
        let state = self.state();
        let Ok(file) = self.file(&state) else {
            drop(state);
            // SAFETY: the caller's promise.
            return unsafe { self.fill_int3(pages) };
        };
        fill_through(file, pages.clone())?;
        let view = self.view.load(Ordering::Acquire);
        let mut at = if view.is_null() { pages.end } else { pages.start };
        while at < pages.end {
            // SAFETY: the byte lies in the view, which is not unmapped while the state is borrowed. Nobody writes it
            // meanwhile, says the caller.
            unsafe { view.add(at).read_volatile() };
            at = (at + 1).next_multiple_of(FAULT_AROUND);
        }
        let has_many = file.as_raw_fd() >= MANY_FILES;
        drop(state);
        let before = self.prepared.fetch_add(pages.len() / PAGE, Ordering::Relaxed);
        if self.mode == Protection::Dual
            && has_many
            && !self.is_sealed()
            && before + pages.len() / PAGE >= self.len / PAGE
        {
            self.lock().file = None;
        }
        Ok(())
    }

    /// Stores one byte that may be running.
    ///
    /// # Safety
    ///
    /// Everybody who accesses the byte in a write view meanwhile does so atomically, and whoever runs it can
    /// live with either value.
    pub(crate) unsafe fn store_u8(&self, offset: usize, value: u8) -> Result<(), Error> {
        if self.mode == Protection::NoAlias {
            self.check(&(offset..offset + 1));
            return system::write_at(self.file(&self.state())?, &[value], offset);
        }
        // SAFETY: the caller's promise; a byte has no alignment.
        unsafe { self.store(offset, 1, |to| AtomicU8::from_ptr(to).store(value, Ordering::Release)) }
    }

    /// Stores four bytes that may be running, at a multiple of four.
    ///
    /// # Safety
    ///
    /// As for [`Memory::store_u8`].
    pub(crate) unsafe fn store_u32(&self, offset: usize, value: u32) -> Result<(), Error> {
        // SAFETY: the caller's promise; `store` checks the alignment.
        unsafe { self.store(offset, 4, |to| AtomicU32::from_ptr(to.cast()).store(value, Ordering::Release)) }
    }

    /// Calls `store` with a pointer to the `size` bytes at `offset`, a multiple of `size`, in the write view.
    fn store(&self, offset: usize, size: usize, store: impl FnOnce(*mut u8)) -> Result<(), Error> {
        self.check(&(offset..offset + size));
        assert!(offset.is_multiple_of(size), "what is patched is aligned");
        let session = self.open()?;
        let to = session.pointer().ok_or(Error::Unsupported { what: "patching" })?;
        // SAFETY: checked to lie in the view, which starts at a multiple of a page.
        store(unsafe { to.add(offset) });
        Ok(())
    }

    /// Gives the memory of whole pages back. They read as zero until they are prepared anew.
    ///
    /// # Safety
    ///
    /// As for [`Memory::write`].
    pub(crate) unsafe fn give_back(&self, pages: Range<usize>) -> Result<(), Error> {
        self.check(&pages);
        assert!(
            pages.start.is_multiple_of(PAGE) && pages.end.is_multiple_of(PAGE),
            "memory is given back in pages"
        );
        self.check_process()?;
        let state = self.state();
        let base = self.base + pages.start;
        if self.mode == Protection::Flip {
            // SAFETY: the pages are ours, and nobody uses them, says the caller.
            return unsafe {
                system::discard(base, pages.len())
                    .and_then(|()| system::protect(base, pages.len(), Access::Read))
            };
        }
        if state.file.is_some() {
            return system::punch(self.file(&state)?, pages.start, pages.len());
        }
        match self.direct() {
            // SAFETY: the pages of the view are ours, and nobody uses them, says the caller.
            Some(view) => unsafe { system::remove(view as usize + pages.start, pages.len()) },
            None => Ok(()),
        }
    }

    /// Gives all the memory back, and the place, so that it may be occupied again, by this chunk or another. Its addresses read
    /// as zero until then, since a lookup may just be reading there, and allow no more. A sealed chunk only gives its memory
    /// back: it stays occupied, all zero, and there is no place.
    ///
    /// # Safety
    ///
    /// Nobody uses the chunk: no code in it runs or is returned to, and nobody has a pointer into its write view.
    pub(crate) unsafe fn vacate(&self) -> Result<Option<Place>, Error> {
        if self.is_sealed() {
            // SAFETY: the caller's promise.
            return unsafe { self.give_back(0..self.len) }.map(|()| None);
        }
        let mut state = self.lock();
        assert_eq!(state.holders, 0, "nobody writes to a chunk that is vacated");
        // SAFETY: the place is ours, and nobody uses it, says the caller.
        unsafe { system::map_zeros(self.base, self.len) }?;
        self.unmap_view();
        state.file = None;
        Ok(state.place.take())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.unmap_view();
        if self.is_sealed() {
            let mut state = self.lock();
            let file = state.file.take().filter(|_| !self.process.is_another());
            // Should that fail the memory stays with the addresses.
            let _ = file.map(|file| system::resize(file, 0));
            if let Some(place) = state.place.take() {
                place.leave();
            }
        }
    }
}

/// A hold on a chunk's write view.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    memory: &'a Memory,
    pointer: Option<*mut u8>,
}

impl Session<'_> {
    /// The write view, in the modes that have one.
    pub(crate) fn pointer(&self) -> Option<*mut u8> {
        self.pointer
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.memory.release();
    }
}

/// Makes each byte of a range of a file an `int3`.
fn fill_through(file: &OwnedFd, range: Range<usize>) -> Result<(), Error> {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(TRAPS.len());
        system::write_at(file, &TRAPS[..len], at)?;
        at += len;
    }
    Ok(())
}

/// What is written through a file where there is no code yet.
static TRAPS: [u8; 16 * PAGE] = [INT3; 16 * PAGE];

#[cfg(test)]
mod tests;
