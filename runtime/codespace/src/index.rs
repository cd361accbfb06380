//! What is known of published code, found by address: without a lock, with loads only.
//!
//! ```text
//!   pc >> 21 ─► directory ─► chunk ─► first `last` bit from pc on ─► trailer ─► start, length, owner
//!
//!   granules   |code    |code    |code ..t|int3    |code ..t|        t: the trailer, the last 16 bytes of a function's run
//!   last bits   0        0        1        0        1
//! ```
//!
//! One bit for each granule says that a function ends there, and the trailer says the rest. A function's end is enough to
//! find it from any of its bytes, because none lies inside another. HotSpot's segment map and the stop bits of AsmJit are
//! of the same family.
//!
//! *Who writes.* A word of bits covers a page, hence belongs to one span or one whole-page function, and only its
//! holder stores to it; so plain stores do. Publishing writes the trailer, then the bit with release. What is retired is
//! *unlisted* first, by overwriting the trailer's second word, so that nobody finds it any more; its bit is cleared before
//! its bytes are used again.
//!
//! *What a lookup promises.* Of code that is published and not yet unlisted at the time, all of it. About other addresses
//! its answer is about a moment. It may meet a trailer that is being overwritten, with anything: check bits
//! cover address, length and owner, so that what is not a trailer passes for one once in 2²⁶ times, if at all, and what it
//! names is then ignored unless the address lies in it. Chunks stay in the directory, readable, until the space is dropped.
//!
//! *Cost.* 6 ns, and a word more for each page between `pc` and the end of its function, or of the next one; one bit
//! for each 64 bytes and 16 bytes for each function.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::classes::PAGE_GRANULES;
use crate::marks::{self, Marks, UNLISTED};
use crate::memory::Memory;
use crate::record::UnwindRecord;
use crate::{CHUNK, Code, Error, GRANULE, Lane, PAGE, classes};

pub use crate::marks::Found;
pub(crate) use crate::marks::{LEN_MAX, TRAILER};

/// What is known of a chunk besides which of its parts are free.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Dropped before the memory: nobody may look up the record of memory that is gone.
    _record: Option<UnwindRecord>,
    memory: Memory,
    base: usize,
    lane: Lane,
    /// Its place among the chunks of its lane.
    number: usize,
    /// Its first place in the directory.
    place: usize,
    /// Where functions end.
    marks: Marks,
}

impl Chunk {
    /// The chunk in `memory`, empty.
    pub(crate) fn new(
        memory: Memory,
        record: Option<UnwindRecord>,
        lane: Lane,
        number: usize,
    ) -> Result<Chunk, Error> {
        let marks = Marks::new(memory.len().div_ceil(PAGE))?;
        Ok(Chunk { base: memory.base(), _record: record, memory, lane, number, place: 0, marks })
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The pages that may hold code.
    pub(crate) fn pages(&self) -> usize {
        self.marks.pages()
    }

    /// The granule of an address in the chunk.
    #[inline]
    pub(crate) fn granule(&self, address: usize) -> usize {
        (address - self.base) / GRANULE
    }

    /// Marks the last granule of a function whose bytes and trailer are written. Only for the holder of the granule's page.
    #[inline]
    pub(crate) fn mark(&self, last: usize) {
        self.marks.mark(last);
    }

    /// Takes the mark of a function's last granule away. Only for the holder of the granule's page.
    #[inline]
    pub(crate) fn unmark_one(&self, last: usize) {
        self.marks.unmark_one(last);
    }

    /// Takes all marks of granules away. Only for the holder of their pages.
    pub(crate) fn unmark(&self, granules: Range<usize>) {
        self.marks.unmark(granules);
    }

    /// The trailer that ends with a granule, as it reads now.
    #[inline]
    fn read_trailer(&self, last: usize) -> [u64; 2] {
        let address = self.base + (last + 1) * GRANULE - TRAILER;
        debug_assert!(last / PAGE_GRANULES < self.pages(), "the granule lies in the chunk");
        let words: *const AtomicU64 = ptr::with_exposed_provenance(address);
        // SAFETY: the granule is one of the chunk's, all of which is readable for as long as the chunk is known: mapped,
        // flipped, given back or vacated. Its last 16 bytes start at a multiple of 16. Nothing in Rust writes
        // them through this mapping, and what is written through the other one is nothing that Rust knows of here.
        let words = unsafe { [&*words, &*words.add(1)] };
        words.map(|word| word.load(Ordering::Acquire))
    }

    /// The function that ends with a granule which is marked, unless it is unlisted.
    #[inline]
    pub(crate) fn function(&self, last: usize) -> Option<Found> {
        marks::function(self.base, last, self.read_trailer(last))
    }

    /// The function that `pc` lies in.
    #[inline]
    fn lookup(&self, pc: usize) -> Option<Found> {
        let found = self.function(self.marks.next(self.granule(pc))?)?;
        (found.address..found.address + found.len).contains(&pc).then_some(found)
    }

    /// The granules of a function of this chunk.
    #[inline]
    pub(crate) fn granules_of(&self, code: &Code) -> Range<usize> {
        let first = self.granule(code.address);
        first..first + classes::granules(code.address % GRANULE, code.len())
    }

    /// Whether an address lies in the chunk.
    #[inline]
    pub(crate) fn holds(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.pages() * PAGE
    }

    /// The two words of the trailer of code of this chunk, in the write view if that is there. Where the processor knows its
    /// first-level cache by virtual address, as AMD's do, that is where the lines are that were written last.
    #[inline]
    fn trailer_of(&self, code: &Code) -> Option<[&AtomicU64; 2]> {
        let at = self.granules_of(code).end * GRANULE - TRAILER;
        let trailer: *mut u64 = self.memory.direct()?.wrapping_add(at).cast();
        // SAFETY: the code lies in the chunk, so the words lie in its write view, which stays while there is code; at is a
        // multiple of 16. What is published is written and read as these atomics only, until somebody has the code to free
        // it.
        Some(unsafe { [AtomicU64::from_ptr(trailer), AtomicU64::from_ptr(trailer.add(1))] })
    }

    /// The owner of code of this chunk.
    #[inline]
    pub(crate) fn owner(&self, code: &Code) -> usize {
        let owner = match self.trailer_of(code) {
            Some([owner, _]) => owner.load(Ordering::Relaxed),
            None => self.read_trailer(self.granules_of(code).end - 1)[0],
        };
        owner as usize
    }

    /// Makes lookups find a function no more, and returns its owner.
    ///
    /// # Safety
    ///
    /// The code is published and nobody else unlists it; in [`crate::Protection::Flip`] nobody runs it.
    #[inline]
    pub(crate) unsafe fn unlist(&self, code: &Code) -> Result<usize, Error> {
        match self.trailer_of(code) {
            Some([owner, shape]) => {
                shape.store(UNLISTED, Ordering::Release);
                Ok(owner.load(Ordering::Relaxed) as usize)
            }
            None => {
                let end = self.granules_of(code).end * GRANULE;
                // SAFETY: the word is the code's; pages that are flipped hold no other code, and nobody runs this one.
                unsafe { self.memory.write(end - size_of::<u64>(), &UNLISTED.to_ne_bytes()) }?;
                Ok(self.owner(code))
            }
        }
    }

    /// All functions of the chunk, as they are found one after the other.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Found> {
        let mut from = 0;
        let ends = std::iter::from_fn(move || {
            let last = self.marks.next(from)?;
            from = last + 1;
            Some(last)
        });
        ends.filter_map(|last| self.function(last))
    }

    /// The bytes of what is known here.
    pub(crate) fn metadata_bytes(&self) -> usize {
        size_of::<Chunk>() + self.marks.pages() * size_of::<u64>()
    }
}

/// A chunk of a directory, which lives as long as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef(ptr::NonNull<Chunk>);

// SAFETY: it is used like a `&Chunk`, and a chunk may be shared by threads.
unsafe impl Send for ChunkRef where Chunk: Sync {}
// SAFETY: as above.
unsafe impl Sync for ChunkRef where Chunk: Sync {}

/// The chunks of a space, by the 2 MiB pieces of their addresses. What was added stays until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    /// A power of two of places, at least a quarter of them empty. A chunk stands in the first empty place from the
    /// number of each of its pieces on.
    places: Box<[AtomicPtr<Chunk>]>,
}

impl Directory {
    /// Room for chunks of `pieces` pieces in all, at least.
    pub(crate) fn new(pieces: usize) -> Result<Directory, Error> {
        let count = (pieces + pieces / 2).next_power_of_two();
        let mut places = Vec::new();
        places.try_reserve_exact(count).map_err(|_| Error::Memory)?;
        places.resize_with(count, || AtomicPtr::new(ptr::null_mut()));
        Ok(Directory { places: places.into_boxed_slice() })
    }

    /// The chunk at an address.
    #[inline]
    pub(crate) fn chunk(&self, address: usize) -> Option<&Chunk> {
        self.find(address).map(|chunk| self.get(chunk))
    }

    #[inline]
    pub(crate) fn find(&self, address: usize) -> Option<ChunkRef> {
        let mask = self.places.len() - 1;
        let mut at = (address / CHUNK) & mask;
        loop {
            let chunk = ChunkRef(ptr::NonNull::new(self.places[at].load(Ordering::Acquire))?);
            let found = self.get(chunk);
            if found.holds(address) {
                return Some(chunk);
            }
            at = (at + 1) & mask;
        }
    }

    /// The chunk behind a reference that this directory gave out.
    #[inline]
    pub(crate) fn get(&self, chunk: ChunkRef) -> &Chunk {
        // SAFETY: references are made by `add` and `find` of a directory from boxes that it owns and frees only when it is
        // dropped. A space has one directory and uses its references with no other. Chunks are only borrowed shared.
        unsafe { chunk.0.as_ref() }
    }

    /// Adds a chunk. Nobody adds another one meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the directory is full; the chunk is dropped.
    pub(crate) fn add(&self, chunk: Chunk, in_use: usize) -> Result<ChunkRef, Error> {
        let pieces = (chunk.pages() * PAGE).div_ceil(CHUNK);
        if (in_use + pieces) * 4 > self.places.len() * 3 {
            return Err(Error::Memory);
        }
        let mask = self.places.len() - 1;
        let first = chunk.base / CHUNK;
        let mut chunk = chunk;
        chunk.place = self.empty_place(first & mask);
        let chunk = ptr::NonNull::from(Box::leak(crate::span::boxed(chunk)?));
        for piece in first..first + pieces {
            let at = self.empty_place(piece & mask);
            self.places[at].store(chunk.as_ptr(), Ordering::Release);
        }
        Ok(ChunkRef(chunk))
    }

    /// The first empty place from `at` on; there is one, since `add` leaves some.
    fn empty_place(&self, mut at: usize) -> usize {
        while !self.places[at].load(Ordering::Relaxed).is_null() {
            at = (at + 1) & (self.places.len() - 1);
        }
        at
    }

    /// All chunks, each once.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.places.iter().enumerate().filter_map(|(at, place)| {
            let chunk = ptr::NonNull::new(place.load(Ordering::Acquire))?;
            let chunk = self.get(ChunkRef(chunk));
            (chunk.place == at).then_some(chunk)
        })
    }

    /// The published function that `pc` lies in.
    #[inline]
    pub(crate) fn lookup(&self, pc: usize) -> Option<Found> {
        self.chunk(pc)?.lookup(pc)
    }

    /// The bytes of what is known here, chunks not counted.
    pub(crate) fn metadata_bytes(&self) -> usize {
        size_of_val(&*self.places)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for at in 0..self.places.len() {
            let chunk = *self.places[at].get_mut();
            if chunk.is_null() {
                continue;
            }
            // A chunk of several pieces stands in several places.
            let same = self.places[at..].iter_mut().map(AtomicPtr::get_mut).filter(|other| **other == chunk);
            same.for_each(|other| *other = ptr::null_mut());
            // SAFETY: made by `Box::leak` in `add`, and met once, since its other places are null now; nobody borrows
            // from the directory any more.
            drop(unsafe { Box::from_raw(chunk) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Region;
    use crate::{Options, Placement, Protection, Seal};

    /// A chunk of so many pieces.
    fn chunk(region: &Region, pieces: usize) -> Chunk {
        let place = region.take(pieces * CHUNK).expect("there is a place");
        let memory = Memory::map(place, Protection::Dual, Seal::Off).expect("there is memory");
        Chunk::new(memory, None, Lane::Baseline, 0).expect("there is memory")
    }

    fn region() -> Region {
        let options =
            Options { placement: Placement::Anywhere, reserve_bytes: 32 << 20, ..Options::default() };
        Region::new(&options).expect("there is room")
    }

    #[test]
    fn each_byte_of_a_chunk_but_its_guard_leads_to_it() {
        let (region, directory) = (region(), Directory::new(6).expect("there is memory"));
        let mut in_use = 0;
        for pieces in [1, 3, 1] {
            let chunk = chunk(&region, pieces);
            let (base, end) = (chunk.base(), chunk.base() + pieces * CHUNK);
            assert_eq!(directory.find(base), None, "nothing is there yet");
            let added = directory.add(chunk, in_use).expect("there is room");
            in_use += pieces;
            for address in [base, base + CHUNK - PAGE - 1, end - CHUNK, end - PAGE - 1] {
                assert_eq!(directory.find(address), Some(added));
            }
            for address in [base.wrapping_sub(PAGE), end - PAGE, end - 1, 0, usize::MAX] {
                assert_ne!(directory.find(address), Some(added));
            }
        }
        assert_eq!(directory.chunks().count(), 3, "each chunk once, however many pieces it has");
    }

    #[test]
    fn a_full_directory_refuses_and_stays_as_it_is() {
        let (region, directory) = (region(), Directory::new(2).expect("there is memory"));
        let places = directory.places.len();
        let added =
            (0..8).map(|in_use| directory.add(chunk(&region, 1), in_use).is_ok()).filter(|&is| is).count();
        assert_eq!((added, directory.chunks().count()), (places * 3 / 4, places * 3 / 4));
        assert_eq!(directory.find(1 << 40), None, "a search ends");
    }

    #[test]
    fn a_function_is_found_from_its_first_byte_to_its_last_until_it_is_unlisted() {
        let chunk = chunk(&region(), 1);
        let view = chunk.memory().direct().expect("there is a view");
        let (address, len) = (chunk.base() + 5 * PAGE + 64 + 12, 3000);
        let code = Code { address, len: len as u32, space: 0 };
        let granules = chunk.granules_of(&code);
        let end = granules.end * GRANULE;
        let words = marks::trailer(chunk.base() + end - TRAILER, 77, 12, len);
        // SAFETY: the trailer lies in the view of a chunk that nobody else uses.
        unsafe { view.add(end - TRAILER).cast::<[u64; 2]>().write(words) };
        assert_eq!(chunk.lookup(address), None, "it is not marked yet");
        chunk.mark(granules.end - 1);
        let function = Found { address, len, owner: 77 };
        let found = Some(function);
        assert_eq!([address, address + 1500, address + len - 1].map(|pc| chunk.lookup(pc)), [found; 3]);
        for pc in
            [chunk.base(), address - 1, address + len, address + len + 200, chunk.base() + CHUNK - PAGE - 1]
        {
            assert_eq!(chunk.lookup(pc), None);
        }
        assert_eq!(chunk.functions().collect::<Vec<_>>(), [function]);
        // SAFETY: nobody runs it.
        assert_eq!(unsafe { chunk.unlist(&code) }, Ok(77));
        assert_eq!((chunk.lookup(address), chunk.functions().count(), chunk.owner(&code)), (None, 0, 77));
        chunk.unmark_one(granules.end - 1);
        assert_eq!(chunk.lookup(address), None);
    }
}
