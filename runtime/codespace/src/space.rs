//! A space of executable memory: what its handles and writers share.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::call::slot::Slots;
use crate::code::Retired;
use crate::grace::quarantine::Quarantine;
use crate::heap::classes::{self, PACKED_MAX};
use crate::heap::index::{Chunk, ChunkRef, Directory, Found};
use crate::heap::lane::{LaneState, Lease, TakenPages};
use crate::memory::Memory;
use crate::memory::place;
use crate::observe::record::UnwindRecord;
use crate::options::Fallback;
use crate::system::fork::Process;
use crate::system::share::Share;
use crate::{
    CHUNK, CallSite, Code, CodeWriter, Domain, Error, GRANULE, Lane, Layout, Observers, Options, PAGE,
    Packing, Pressure, Protection, Refused, SPAN, Seal, Slot, Unwind, system,
};

/// The most pieces of 2 MiB that a directory has room for: 128 GiB.
const PIECES_MAX: usize = 1 << 16;
/// The pages that a lane keeps with memory though they are free, so that what grows and shrinks is quick.
const IDLE_PAGES: usize = (256 << 10) / PAGE;

/// A space of executable memory. Clones are handles to the same space; it lives as long as any of them, or any of its
/// writers. When it is dropped its code is unmapped, published or not: nothing may run there then.
#[derive(Clone)]
pub struct CodeSpace(Share<Shared>);

/// What handles and writers share.
pub(crate) struct Shared {
    /// Tells the code of this space from that of others.
    pub(crate) id: u32,
    /// Only the process that made the space writes code.
    pub(crate) process: Process,
    pub(crate) protection: Protection,
    seal: Seal,
    packing: Packing,
    unwind: Unwind,
    max_bytes: usize,
    pub(crate) quarantine_bytes: usize,
    pub(crate) pressure: Option<Arc<dyn Pressure>>,
    pub(crate) observers: Option<Arc<Observers>>,
    pub(crate) directory: Directory,
    pub(crate) region: place::Region,
    pub(crate) lanes: [LaneShared; 4],
    /// Sealed chunks that are no lane's. There is room for as many as there are chunks.
    spare: Mutex<Vec<ChunkRef>>,
    /// The bytes of spans and of whole-page functions that are in use.
    used: AtomicUsize,
    pub(crate) domain: &'static Domain,
    pub(crate) quarantine: Quarantine<Retired>,
    /// What was freed while room was made for an allocation, and is to be told at the next reclaim.
    pub(crate) untold: Mutex<Vec<Found>>,
    pub(crate) slots: Slots,
}

/// A lane.
#[derive(Debug)]
pub(crate) struct LaneShared {
    pub(crate) state: Mutex<LaneState>,
    /// Held while a chunk is mapped for the lane.
    growth: Mutex<()>,
}

/// Locks. Nothing that is done under the locks of this crate panics but by our own mistake.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CodeSpace {
    /// Makes a space: reserves addresses, and maps one chunk to see which protection the system allows.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses what is asked for, [`Error::Unsupported`] if the options exclude each other,
    /// and [`Error::Memory`].
    pub fn new(options: &Options) -> Result<CodeSpace, Error> {
        static IDS: AtomicU32 = AtomicU32::new(0);
        let id = IDS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
            .map_err(|_| Error::Memory)?;
        let lane = || LaneShared { state: Mutex::new(LaneState::new()), growth: Mutex::new(()) };
        let pieces = (options.max_bytes / CHUNK).min(PIECES_MAX / 2) * 2 + 64;
        let mut shared = Shared {
            id,
            process: Process::this()?,
            protection: options.protection,
            seal: options.seal,
            packing: options.packing,
            unwind: options.unwind,
            max_bytes: options.max_bytes,
            quarantine_bytes: options.quarantine_bytes,
            pressure: options.pressure.clone(),
            observers: options.observers.clone(),
            directory: Directory::new(pieces)?,
            region: place::Region::new(options)?,
            lanes: [lane(), lane(), lane(), lane()],
            spare: Mutex::default(),
            used: AtomicUsize::new(0),
            domain: options.domain,
            quarantine: Quarantine::new(),
            untold: Mutex::new(Vec::new()),
            slots: Slots::new()?,
        };
        shared.settle_protection();
        if let Err(error) = shared.grow(Lane::Baseline, 1) {
            if options.fallback == Fallback::Refused
                || options.protection == Protection::Flip
                || !system::is_refusal(&error)
            {
                return Err(error);
            }
            shared.protection = Protection::Flip;
            shared.settle_protection();
            // What it knows of the first chunk is for another protection.
            shared.directory = Directory::new(pieces)?;
            shared.grow(Lane::Baseline, 1)?;
        }
        Ok(CodeSpace(Share::new(shared)?))
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// A writer, which reserves and publishes code. Each thread that does should have one of its own.
    pub fn writer(&self) -> CodeWriter {
        CodeWriter::new(self.clone())
    }

    /// Places code that runs the same wherever it stands, in one call, with zero as its owner: for those who emit little, and
    /// let nothing be known about it. It takes a lock, and a span for as long as it lasts.
    ///
    /// # Errors
    ///
    /// As for [`CodeWriter::reserve`] and [`CodeBuf::publish`](crate::CodeBuf::publish).
    pub fn alloc(&self, code: &[u8]) -> Result<Code, Error> {
        let writer = self.writer();
        let mut buffer = writer.reserve(&Layout::new(code.len()))?;
        buffer.bytes_mut().copy_from_slice(code);
        buffer.publish(0)
    }

    /// The published code that `pc` lies in. Takes no lock and only loads, so a signal handler may call it.
    ///
    /// About code that is published and not reclaimed, the answer is exact; retired code is found until no thread can be
    /// running it. About other addresses it is about a moment. A return address behind a call that ends its function
    /// lies behind the function: look for the byte before it.
    ///
    /// It reads one word for each page from that of `pc` to that where the function ends, or where the next one does if `pc`
    /// lies in none; up to 512 in a chunk, more only in that of a function that is larger than a chunk.
    #[inline]
    pub fn lookup(&self, pc: usize) -> Option<Found> {
        self.0.directory.lookup(pc)
    }

    /// Whether `pc` lies in a chunk of the space. As [`CodeSpace::lookup`], for signal handlers too.
    #[inline]
    pub fn contains(&self, pc: usize) -> bool {
        self.0.directory.find(pc).is_some()
    }

    /// The domain whose participants may run code of this space.
    pub fn domain(&self) -> &'static Domain {
        self.0.domain
    }

    /// How code is written, after everything that the system refused.
    #[inline]
    pub fn protection(&self) -> Protection {
        self.0.protection
    }

    /// Takes code out that nothing leads to any more. Its bytes are used again once no thread can run it or return to it, as
    /// [`CodeSpace::reclaim`] finds out.
    ///
    /// # Errors
    ///
    /// [`Error::NotCode`] if it is code of another space, [`Error::Memory`]; either gives the code back.
    pub fn retire(&self, code: Code) -> Result<(), Refused> {
        let code = self.0.own(code)?;
        let retired = Retired { code, owner: None };
        self.0
            .quarantine
            .retire_one(retired)
            .map_err(|retired| Refused { code: retired.code, error: Error::Memory })
    }

    /// Frees code at once. Whoever needs its owner looks it up before.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::retire`], and [`Error::System`]; the code is given back.
    ///
    /// # Safety
    ///
    /// No thread runs the code, will run it or return to it, or uses what a lookup said of it.
    pub unsafe fn free(&self, code: Code) -> Result<(), Refused> {
        self.0.free(code, None)
    }

    /// Directs a call to another target: one aligned store, which threads that run the call see sooner or later.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::Range`] if the call is not one to be patched, [`Error::OutOfReach`] if the target is,
    /// [`Error::NotCode`] if the site is in no chunk of the space, [`Error::Unsupported`] if the protection does not allow it, and
    /// [`Error::System`] if the write view of [`Protection::Session`] cannot be mapped.
    ///
    /// # Safety
    ///
    /// The site was made by a buffer that was published in this space and is not freed yet, and its code may call the target
    /// as it does.
    pub unsafe fn patch_call(&self, site: CallSite, target: usize) -> Result<(), Error> {
        self.0.check_process()?;
        let patch = site.patch(target)?;
        let chunk = self.0.directory.chunk(patch.address).ok_or(Error::NotCode { address: patch.address })?;
        // SAFETY: the site's field is four aligned bytes of code, which nobody writes but by patching, says the caller;
        // whoever runs the call goes to the old target or the new one.
        unsafe { chunk.memory().store_u32(patch.address - chunk.base(), patch.value) }
    }

    /// Stores one byte of code, as flipping a guard does.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::NotCode`] if no chunk of the space has the address (whether there is code is not looked
    /// up), and [`Error::Unsupported`] or [`Error::System`] if it cannot be written.
    ///
    /// # Safety
    ///
    /// The code is published and not freed, and may be run with either byte.
    pub unsafe fn patch_byte(&self, address: usize, byte: u8) -> Result<(), Error> {
        self.0.check_process()?;
        let chunk = self.0.directory.chunk(address).ok_or(Error::NotCode { address })?;
        // SAFETY: the byte is one of published code, which nobody writes but by patching, says the caller.
        unsafe { chunk.memory().store_u8(address - chunk.base(), byte) }
    }

    /// A slot that holds `target`, in reach of the code of this space as far as that stands together.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfReach`] if the code stands too far apart, [`Error::Memory`] and [`Error::System`].
    pub fn slot(&self, target: usize) -> Result<Slot, Error> {
        self.slot_near(&self.0.extent(), target)
    }

    /// A slot that holds `target`, in reach of the code at these addresses.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::slot`].
    pub fn slot_near(&self, code: &Range<usize>, target: usize) -> Result<Slot, Error> {
        self.0.slots.allocate(code, target, || self.0.region.take(CHUNK))
    }
}

impl Shared {
    /// Changing a page's protection takes whole pages for each function.
    fn settle_protection(&mut self) {
        if self.protection == Protection::Flip {
            self.packing = Packing::Pages;
        }
    }

    /// Fails in a forked process, which shares the memory of its parent's code and must not write it.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.process.is_another() { Err(Error::Forked) } else { Ok(()) }
    }

    /// The bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a function of so many granules is packed in a span.
    #[inline]
    pub(crate) fn is_packed(&self, granules: usize) -> bool {
        self.packing == Packing::Granules && granules <= PACKED_MAX / GRANULE
    }

    /// The code, if it is of this space.
    #[inline]
    pub(crate) fn own(&self, code: Code) -> Result<Code, Refused> {
        if code.space == self.id {
            Ok(code)
        } else {
            Err(Refused { error: Error::NotCode { address: code.address }, code })
        }
    }

    pub(crate) fn lane(&self, lane: Lane) -> MutexGuard<'_, LaneState> {
        lock(&self.lanes[lane as usize].state)
    }

    /// The addresses from the first to the last of the chunks that stand together with the first one.
    fn extent(&self) -> Range<usize> {
        if let Some((range, _)) = self.region.reserved() {
            return range;
        }
        let ranges = self.directory.chunks().map(|chunk| chunk.base()..chunk.base() + chunk.pages() * PAGE);
        ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// Counts bytes as in use, unless that exceeds the limit.
    fn charge(&self, bytes: usize) -> Result<(), Error> {
        let within = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.max_bytes);
        let charged = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        charged.map(drop).map_err(|used| Error::Full { asked: bytes, used, limit: self.max_bytes })
    }

    /// Counts bytes as no longer in use.
    pub(crate) fn discharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A span of pages that were free.
    pub(crate) fn lease_new(&self, lane: Lane) -> Result<Lease, Error> {
        self.charge(SPAN)?;
        let lease = self.grown(lane, 1, LaneState::lease_new);
        lease.inspect_err(|_| self.discharge(SPAN))
    }

    /// A run of pages.
    pub(crate) fn take_pages(&self, lane: Lane, pages: usize) -> Result<TakenPages, Error> {
        self.charge(pages * PAGE)?;
        let taken = self.grown(lane, pages, |state| state.take_pages(pages));
        taken.inspect_err(|_| self.discharge(pages * PAGE))
    }

    /// What `take` finds in a lane, if need be in a new chunk of at least so many pages.
    fn grown<T>(
        &self,
        lane: Lane,
        pages: usize,
        take: impl Fn(&mut LaneState) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            if let Some(taken) = take(&mut self.lane(lane)) {
                return Ok(taken);
            }
            let _growth = lock(&self.lanes[lane as usize].growth);
            // Somebody may have grown it meanwhile. A chunk that was just made is used up by others only if they
            // get something done, so the loop ends.
            if let Some(taken) = take(&mut self.lane(lane)) {
                return Ok(taken);
            }
            self.grow(lane, pages)?;
        }
    }

    /// Maps a chunk for a lane, with at least so many pages; or gives it a sealed one that another lane has given up.
    fn grow(&self, lane: Lane, pages: usize) -> Result<(), Error> {
        if let Some(chunk) = self.spare_chunk(pages) {
            let found = self.directory.get(chunk);
            let mut state = self.lane(lane);
            let prepared = state.prepare(found.pages()).inspect_err(|_| lock(&self.spare).push(chunk))?;
            let number = state.add(chunk, found.base(), prepared);
            found.assign(lane, number);
            return Ok(());
        }
        let len =
            pages.checked_add(1).and_then(|pages| pages.checked_mul(PAGE)?.checked_next_multiple_of(CHUNK));
        let len =
            len.ok_or(Error::Size { asked: pages.saturating_mul(PAGE), limit: crate::heap::index::LEN_MAX })?;
        self.directory.promise(len)?;
        self.add_chunk(lane, len).inspect_err(|_| self.directory.take_back_promise(len))
    }

    /// The smallest chunk of at least so many pages that all lanes have given up and that cannot be unmapped.
    fn spare_chunk(&self, pages: usize) -> Option<ChunkRef> {
        let mut spare = lock(&self.spare);
        let pages_of = |chunk: &ChunkRef| self.directory.get(*chunk).pages();
        let fits = spare.iter().enumerate().filter(|(_, chunk)| pages_of(chunk) >= pages);
        let (at, _) = fits.min_by_key(|(_, chunk)| pages_of(chunk))?;
        Some(spare.swap_remove(at))
    }

    /// Maps a chunk of `len` bytes that the directory has room for.
    fn add_chunk(&self, lane: Lane, len: usize) -> Result<(), Error> {
        let place = self.region.take_for_code(len)?;
        let base = place.base();
        let make = || Chunk::new(Memory::new(base, len, self.protection, self.seal)?);
        let made = self.directory.record(base, len, make).and_then(|chunk| {
            let prepared = self.lane(lane).prepare(self.directory.get(chunk).pages())?;
            let record = match self.unwind {
                Unwind::Registered => Some(UnwindRecord::register(base..base + len - PAGE)?),
                Unwind::None => None,
            };
            lock(&self.spare).try_reserve(self.directory.pieces()).map_err(|_| Error::Memory)?;
            Ok((chunk, prepared, record))
        });
        let (chunk, prepared, record) = match made {
            Ok(made) => made,
            Err(error) => {
                self.region.put_back(place);
                return Err(error);
            }
        };
        let found = self.directory.get(chunk);
        if let Err((error, place)) = found.memory().occupy(place) {
            self.region.put_back(place);
            return Err(error);
        }
        found.set_record(record);
        self.directory.add(chunk);
        let mut state = self.lane(lane);
        let number = state.add(chunk, base, prepared);
        found.assign(lane, number);
        Ok(())
    }

    /// The chunk of code of this space, which may be the last one that was asked for.
    #[inline]
    pub(crate) fn chunk_of<'a>(&'a self, code: &Code, last: Option<&'a Chunk>) -> &'a Chunk {
        match last {
            Some(chunk) if chunk.holds(code.address) => chunk,
            _ => self.directory.chunk(code.address).expect("code lies in a chunk"),
        }
    }

    /// Gives pages of a whole-page function back, whose touched bytes are `int3` again.
    pub(crate) fn give_pages(&self, state: &mut LaneState, chunk: &Chunk, pages: Range<usize>) {
        self.discharge(pages.len() * PAGE);
        state.give_pages(chunk, pages);
    }

    /// Gives memory back that a lane has too much of: whole chunks that are not used, then pages.
    pub(crate) fn tidy(&self, lane: Lane) {
        // A forked process shares the memory of its parent.
        if self.process.is_another() {
            return;
        }
        loop {
            let Some(chunk) = self.lane(lane).start_vacating() else { break };
            if !self.vacate(lane, chunk) {
                self.lane(lane).kept(self.directory.get(chunk));
                break;
            }
        }
        // More than twice as many, down to as many: so that not each function that goes pays for it.
        let mut keep = 2 * IDLE_PAGES;
        loop {
            let Some(TakenPages { chunk, pages }) = self.lane(lane).take_idle(keep) else { break };
            keep = IDLE_PAGES;
            let chunk = self.directory.get(chunk);
            // SAFETY: the pages were free, and are ours until they are given.
            let result = unsafe { chunk.memory().give_back(pages.start * PAGE..pages.end * PAGE) };
            let mut state = self.lane(lane);
            let heap = state.pages(chunk);
            if result.is_ok() {
                heap.forget(pages.clone());
            }
            heap.give(pages);
            if result.is_err() {
                break;
            }
        }
    }

    /// Gives the memory of a chunk back in which nothing is in use, and its addresses to all lanes. Says whether that was possible.
    fn vacate(&self, lane: Lane, chunk: ChunkRef) -> bool {
        let found = self.directory.get(chunk);
        // SAFETY: nothing in the chunk is in use, and nobody can take anything of it. What was freed in it is past its
        // grace, or somebody vouched for it.
        let place = match unsafe { found.memory().vacate() } {
            Ok(Some(place)) => place,
            Ok(None) => {
                // Sealed: its addresses stay mapped, so it stays what it is, for whoever needs it.
                self.lane(lane).gave_up(found);
                // There is room: it was made when the chunk was.
                lock(&self.spare).push(chunk);
                return true;
            }
            Err(_) => return false,
        };
        found.set_record(None);
        self.directory.remove(chunk);
        self.lane(lane).gave_up(found);
        self.region.keep(place);
        true
    }

    /// Makes pages ready that are used for the first time.
    pub(crate) fn prepare(&self, chunk: &Chunk, pages: Range<usize>) -> Result<(), Error> {
        // SAFETY: only the holder of pages makes them ready, before anybody runs or writes what is there.
        unsafe { chunk.memory().prepare(pages.start * PAGE..pages.end * PAGE) }
    }

    pub(crate) fn chunk(&self, chunk: ChunkRef) -> &Chunk {
        self.directory.get(chunk)
    }

    /// The pages that a whole-page function has.
    pub(crate) fn page_run(&self, chunk: &Chunk, code: &Code) -> Range<usize> {
        classes::page_run(code.address - chunk.base(), code.len())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(observers) = &self.observers {
            for chunk in self.directory.chunks() {
                observers.freed_in(&(chunk.base()..chunk.base() + chunk.pages() * PAGE));
            }
        }
    }
}

impl fmt::Debug for CodeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeSpace")
            .field("id", &self.0.id)
            .field("used_bytes", &self.0.used())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
