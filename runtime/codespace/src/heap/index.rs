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
//! names is then ignored unless the address lies in it. A chunk whose memory is given back leaves the directory; what is known of
//! it stays, and its addresses stay readable, until the space is dropped.
//!
//! *Cost.* 6 ns, and a word more for each page between `pc` and the end of its function, or of the next one; one bit
//! for each 64 bytes and 16 bytes for each function.

use std::alloc::{Layout, alloc_zeroed};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::heap::classes;
use crate::heap::classes::PAGE_GRANULES;
use crate::heap::marks::{self, Marks, UNLISTED};
use crate::memory::Memory;
use crate::observe::record::UnwindRecord;
use crate::space::lock;
use crate::{CHUNK, Code, Error, GRANULE, Lane, PAGE};

pub use crate::heap::marks::Found;
pub(crate) use crate::heap::marks::{LEN_MAX, TRAILER};

/// What is known of a chunk besides which of its parts are free. It outlives the chunk, for the next one at the same addresses:
/// a lookup may be under way in it.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Dropped before the memory: nobody may look up the record of memory that is gone.
    record: Mutex<Option<UnwindRecord>>,
    memory: Memory,
    base: usize,
    /// The lane that has it, and its place among that lane's chunks. They change only while nothing in it is in use.
    lane: AtomicUsize,
    number: AtomicUsize,
    /// Its first place in the directory.
    place: AtomicUsize,
    /// Where functions end.
    marks: Marks,
}

impl Chunk {
    /// The chunk in `memory`, empty.
    pub(crate) fn new(memory: Memory) -> Result<Chunk, Error> {
        let marks = Marks::new(zero_words(memory.len().div_ceil(PAGE))?);
        Ok(Chunk {
            base: memory.base(),
            record: Mutex::default(),
            memory,
            lane: AtomicUsize::default(),
            number: AtomicUsize::default(),
            place: AtomicUsize::default(),
            marks,
        })
    }

    /// Says which chunk of which lane it is. Only while nobody has any part of it.
    pub(crate) fn assign(&self, lane: Lane, number: usize) {
        self.lane.store(lane as usize, Ordering::Relaxed);
        self.number.store(number, Ordering::Relaxed);
    }

    /// Has unwinders know its addresses, or know them no longer.
    pub(crate) fn set_record(&self, record: Option<UnwindRecord>) {
        *lock(&self.record) = record;
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    #[inline]
    pub(crate) fn lane(&self) -> Lane {
        Lane::ALL[self.lane.load(Ordering::Relaxed)]
    }

    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.number.load(Ordering::Relaxed)
    }

    /// How many pieces of 2 MiB it has.
    pub(crate) fn pieces(&self) -> usize {
        (self.pages() * PAGE).div_ceil(CHUNK)
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
                Ok(self.read_trailer(end / GRANULE - 1)[0] as usize)
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

/// So many words that are zero, of which those of a large chunk take memory when they are first written.
fn zero_words(count: usize) -> Result<Box<[AtomicU64]>, Error> {
    let layout = Layout::array::<AtomicU64>(count).map_err(|_| Error::Memory)?;
    debug_assert!(count > 0, "a chunk has pages");
    // SAFETY: the layout is that of one word or more.
    let words = ptr::NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(Error::Memory)?;
    let words = ptr::slice_from_raw_parts_mut(words.as_ptr().cast::<AtomicU64>(), count);
    // SAFETY: the memory is the global allocator's, of a boxed slice's layout, and zeros are words.
    Ok(unsafe { Box::from_raw(words) })
}

/// A chunk of a directory, which lives as long as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef(ptr::NonNull<Chunk>);

// SAFETY: it is used like a `&Chunk`, and a chunk may be shared by threads.
unsafe impl Send for ChunkRef where Chunk: Sync {}
// SAFETY: as above.
unsafe impl Sync for ChunkRef where Chunk: Sync {}

/// The chunks of a space, by the 2 MiB pieces of their addresses.
///
/// What is known of a chunk stays when it is taken out, for a later one of the same addresses, and is freed when the directory is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    /// A power of two of places, of which at least a quarter hold no chunk. A chunk stands in the first of these from the
    /// number of each of its pieces on. Where one was taken out, searches go on.
    places: Box<[AtomicPtr<Chunk>]>,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// All that is known of chunks, those included that were taken out; by base and length.
    chunks: Vec<ChunkRef>,
    /// The pieces of those that are there, or are about to be.
    pieces: usize,
}

/// What stands where a chunk was taken out: the address of none.
const GONE: *mut Chunk = ptr::without_provenance_mut(align_of::<Chunk>());

impl Directory {
    /// Room for chunks of `pieces` pieces in all, at least.
    pub(crate) fn new(pieces: usize) -> Result<Directory, Error> {
        let count = (pieces + pieces / 2).next_power_of_two();
        let mut places = Vec::new();
        places.try_reserve_exact(count).map_err(|_| Error::Memory)?;
        places.resize_with(count, || AtomicPtr::new(ptr::null_mut()));
        Ok(Directory { places: places.into_boxed_slice(), records: Mutex::default() })
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
        let mut gone = 0;
        loop {
            let pointer = self.places[at].load(Ordering::Acquire);
            if pointer.addr() <= GONE.addr() {
                // There may be no empty place, but never a chunk in each.
                gone += 1;
                if pointer.is_null() || gone > mask {
                    return None;
                }
            } else {
                let chunk = ChunkRef(ptr::NonNull::new(pointer)?);
                if self.get(chunk).holds(address) {
                    return Some(chunk);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// The chunk behind a reference that this directory gave out.
    #[inline]
    pub(crate) fn get(&self, chunk: ChunkRef) -> &Chunk {
        // SAFETY: references are made by `record` of a directory from boxes that it owns and frees only when it is
        // dropped, and found where `add` put them. A space has one directory and uses its references with no other. Chunks are
        // only borrowed shared.
        unsafe { chunk.0.as_ref() }
    }

    /// Makes sure that a chunk of `len` bytes can be added.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if there are too many.
    pub(crate) fn promise(&self, len: usize) -> Result<(), Error> {
        let mut records = lock(&self.records);
        let limit = self.places.len() / 4 * 3;
        if records.pieces + len / CHUNK > limit {
            let (used, limit) = (records.pieces * CHUNK, limit * CHUNK);
            return Err(Error::Full { asked: len, used, limit });
        }
        records.pieces += len / CHUNK;
        Ok(())
    }

    /// Says that a chunk of `len` bytes will not be added.
    pub(crate) fn take_back_promise(&self, len: usize) {
        lock(&self.records).pieces -= len / CHUNK;
    }

    /// How many pieces the chunks have that are there or are promised.
    pub(crate) fn pieces(&self) -> usize {
        lock(&self.records).pieces
    }

    /// What is known of the chunk of `len` bytes at `base`, all of which are the caller's: what `make` makes if there was none.
    pub(crate) fn record(
        &self,
        base: usize,
        len: usize,
        make: impl FnOnce() -> Result<Chunk, Error>,
    ) -> Result<ChunkRef, Error> {
        let mut records = lock(&self.records);
        let key = |chunk: &ChunkRef| (self.get(*chunk).base, self.get(*chunk).pieces());
        match records.chunks.binary_search_by_key(&(base, len / CHUNK), key) {
            Ok(at) => Ok(records.chunks[at]),
            Err(at) => {
                records.chunks.try_reserve(1).map_err(|_| Error::Memory)?;
                let chunk = ChunkRef(ptr::NonNull::from(Box::leak(crate::heap::span::boxed(make()?)?)));
                records.chunks.insert(at, chunk);
                Ok(chunk)
            }
        }
    }

    /// Adds a chunk that was promised.
    pub(crate) fn add(&self, chunk: ChunkRef) {
        let _records = lock(&self.records);
        let found = self.get(chunk);
        let first = found.base / CHUNK;
        found.place.store(self.free_place(first), Ordering::Relaxed);
        for piece in first..first + found.pieces() {
            self.places[self.free_place(piece)].store(chunk.0.as_ptr(), Ordering::Release);
        }
    }

    /// Takes a chunk out that nothing is in, and which nobody else takes out.
    pub(crate) fn remove(&self, chunk: ChunkRef) {
        let mut records = lock(&self.records);
        let mask = self.places.len() - 1;
        let found = self.get(chunk);
        records.pieces -= found.pieces();
        let first = found.base / CHUNK;
        for piece in first..first + found.pieces() {
            let from =
                (piece..).find(|at| self.places[at & mask].load(Ordering::Relaxed) == chunk.0.as_ptr());
            let mut at = from.expect("a chunk stands behind the number of each of its pieces") & mask;
            self.places[at].store(GONE, Ordering::Release);
            // Before an empty place searches need not go on.
            while self.places[(at + 1) & mask].load(Ordering::Relaxed).is_null()
                && self.places[at].load(Ordering::Relaxed) == GONE
            {
                self.places[at].store(ptr::null_mut(), Ordering::Release);
                at = at.wrapping_sub(1) & mask;
            }
        }
    }

    /// The first place without a chunk from the number of a piece on; there is one, since `promise` leaves some.
    fn free_place(&self, piece: usize) -> usize {
        let mask = self.places.len() - 1;
        let mut at = piece & mask;
        while self.places[at].load(Ordering::Relaxed).addr() > GONE.addr() {
            at = (at + 1) & mask;
        }
        at
    }

    /// All chunks, each once.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.places.iter().enumerate().filter_map(|(at, place)| {
            let pointer = place.load(Ordering::Acquire);
            if pointer.addr() <= GONE.addr() {
                return None;
            }
            let chunk = self.get(ChunkRef(ptr::NonNull::new(pointer)?));
            (chunk.place.load(Ordering::Relaxed) == at).then_some(chunk)
        })
    }

    /// The published function that `pc` lies in.
    #[inline]
    pub(crate) fn lookup(&self, pc: usize) -> Option<Found> {
        self.chunk(pc)?.lookup(pc)
    }

    /// The bytes of what is known here, and of chunks, those included that were taken out.
    pub(crate) fn metadata_bytes(&self) -> usize {
        let records = lock(&self.records);
        let chunks = records.chunks.iter().map(|&chunk| self.get(chunk).metadata_bytes());
        size_of_val(&*self.places) + size_of_val(&*records.chunks) + chunks.sum::<usize>()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let records = self.records.get_mut().unwrap_or_else(PoisonError::into_inner);
        for chunk in records.chunks.drain(..) {
            // SAFETY: made by `Box::leak` in `record`, and kept once; nobody borrows from the directory any more.
            drop(unsafe { Box::from_raw(chunk.0.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::place::{Place, Region};
    use crate::{Options, Placement, Protection, Seal};

    /// A chunk of so many pieces.
    fn chunk(region: &Region, pieces: usize) -> Chunk {
        let place = region.take(pieces * CHUNK).expect("there is a place");
        let memory = Memory::map(place, Protection::Dual, Seal::Off).expect("there is memory");
        Chunk::new(memory).expect("there is memory")
    }

    /// Adds a chunk, if there is room.
    fn add(directory: &Directory, chunk: Chunk) -> Result<ChunkRef, Error> {
        let (base, len) = (chunk.base(), chunk.pieces() * CHUNK);
        directory.promise(len)?;
        let chunk = directory.record(base, len, || Ok(chunk)).expect("there is memory");
        directory.add(chunk);
        Ok(chunk)
    }

    fn region() -> Region {
        let options =
            Options { placement: Placement::Anywhere, reserve_bytes: 32 << 20, ..Options::default() };
        Region::new(&options).expect("there is room")
    }

    #[test]
    fn each_byte_of_a_chunk_but_its_guard_leads_to_it() {
        let (region, directory) = (region(), Directory::new(6).expect("there is memory"));
        for pieces in [1, 3, 1] {
            let chunk = chunk(&region, pieces);
            let (base, end) = (chunk.base(), chunk.base() + pieces * CHUNK);
            assert_eq!(directory.find(base), None, "nothing is there yet");
            let added = add(&directory, chunk).expect("there is room");
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
        let results = [(); 8].map(|()| add(&directory, chunk(&region, 1)));
        let added = results.iter().filter(|result| result.is_ok()).count();
        assert!(matches!(results[7], Err(Error::Full { .. })), "{:?}", results[7]);
        assert_eq!((added, directory.chunks().count()), (places * 3 / 4, places * 3 / 4));
        assert_eq!(directory.find(1 << 40), None, "a search ends");
    }

    #[test]
    fn chunks_that_are_taken_out_leave_room_for_any_others_and_hide_none() {
        const PIECES: usize = 12;
        let directory = Directory::new(6).expect("there is memory");
        let limit = directory.places.len() / 4 * 3;
        let region = region();
        let places: Vec<_> = (0..PIECES).map(|_| region.take(CHUNK).expect("there are as many")).collect();
        let make = |place: &Place| {
            let memory = Memory::new(place.base(), CHUNK, Protection::Dual, Seal::Off);
            Chunk::new(memory.expect("there is memory"))
        };
        let mut there: Vec<(usize, ChunkRef)> = Vec::new();
        let mut random = 7_usize;
        for step in 0..20_000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let piece = (random >> 33) % PIECES;
            if let Some(at) = there.iter().position(|&(other, _)| other == piece) {
                directory.remove(there.swap_remove(at).1);
            } else if there.len() < limit {
                directory.promise(CHUNK).expect("there is room");
                let record = directory.record(places[piece].base(), CHUNK, || make(&places[piece]));
                let chunk = record.expect("there is memory");
                directory.add(chunk);
                there.push((piece, chunk));
            } else {
                assert!(directory.promise(CHUNK).is_err());
            }
            assert_eq!(directory.chunks().count(), there.len(), "step {step}");
            for (piece, place) in places.iter().enumerate() {
                let expected = there.iter().find(|&&(other, _)| other == piece).map(|&(_, chunk)| chunk);
                assert_eq!(directory.find(place.base() + PAGE), expected, "step {step}");
            }
        }
        assert!(lock(&directory.records).chunks.len() <= PIECES, "what is known is used again");
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
        assert_eq!((chunk.lookup(address), chunk.functions().count()), (None, 0));
        chunk.unmark_one(granules.end - 1);
        assert_eq!(chunk.lookup(address), None);
    }
}
