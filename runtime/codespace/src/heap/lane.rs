//! The chunks of a lane: which spans are held, which are idle, and which pages are free.
//!
//! ```text
//!   chunk   |span: held |span: idle |span: idle | free pages      |large function|
//!                │           └───────────┴── in bins by their longest free run
//!                └ what others free in it waits here, as bits, for its holder
//! ```
//!
//! All of it is changed under the lane's lock, which no fast path takes. A span belongs to the lane while it is idle; a
//! writer that holds it has its free runs, and the lane keeps the bits for what others free in it meanwhile. So nothing here
//! ever needs memory to free something.
//!
//! *Which span a writer gets.* The one of the idle spans whose longest free run is the shortest that is long enough: best
//! fit once more, so that spans with much room stay whole until they are needed. New pages are taken if no idle span fits.

use std::ops::Range;

use crate::heap::bits;
use crate::heap::classes::{BINS, PAGE_GRANULES, bin};
use crate::heap::index::{Chunk, ChunkRef};
use crate::heap::pages::{PageHeap, SPAN_GRANULES, SPAN_PAGES, zeroes};
use crate::heap::span::FreeBits;
use crate::{CHUNK, Error, PAGE, SPAN};

/// How many spans of a bin are looked at.
const LOOKS: usize = 8;

/// The chunks of one lane.
#[derive(Debug)]
pub(crate) struct LaneState {
    heaps: Vec<Heap>,
    /// The first idle span of each bin.
    bins: [At; BINS],
    /// A bit for each bin that is not empty.
    filled: u64,
}

/// Which span: the number of its chunk and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    heap: u32,
    slot: u32,
}

/// No span.
const NOWHERE: At = At { heap: u32::MAX, slot: u32::MAX };

#[derive(Debug)]
struct Heap {
    chunk: ChunkRef,
    base: usize,
    state: Occupation,
    pages: PageHeap,
    slots: Vec<Slot>,
}

/// Whether a chunk may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupation {
    Ready,
    /// Somebody maps or unmaps its memory.
    Changing,
    /// There is no chunk: the lane has given it up.
    Gone,
}

/// What is known of 16 pages that are, or might be, a span.
#[derive(Clone, Debug)]
struct Slot {
    state: State,
    /// Of an idle span, what is free; of a held one, what others freed; else nothing.
    free: FreeBits,
    /// Which pages have memory, while it is idle.
    touched: u16,
    /// The longest free run, while it is idle; else whether others freed anything.
    longest: u16,
    before: At,
    after: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No span: its pages are free or of whole-page functions.
    Pages,
    Idle,
    Held,
}

impl Default for Slot {
    fn default() -> Self {
        let free = FreeBits::default();
        Slot { state: State::Pages, free, touched: 0, longest: 0, before: NOWHERE, after: NOWHERE }
    }
}

/// A span that was just given to a writer.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) chunk: ChunkRef,
    pub(crate) slot: usize,
    /// The address of its first byte.
    pub(crate) base: usize,
    pub(crate) free: FreeBits,
    pub(crate) touched: u16,
}

/// A run of pages that was just taken.
#[derive(Debug)]
pub(crate) struct TakenPages {
    pub(crate) chunk: ChunkRef,
    /// Their numbers in the chunk.
    pub(crate) pages: Range<usize>,
}

/// What a lane has, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LaneBytes {
    pub(crate) chunks: usize,
    /// Of pages that have memory, but for what only the holders of spans know.
    pub(crate) touched: usize,
    pub(crate) metadata: usize,
}

impl LaneState {
    pub(crate) fn new() -> LaneState {
        LaneState { heaps: Vec::new(), bins: [NOWHERE; BINS], filled: 0 }
    }

    /// Makes room for what is known of one more chunk of so many pages.
    pub(crate) fn prepare(&mut self, pages: usize) -> Result<Preparation, Error> {
        self.heaps.try_reserve(1).map_err(|_| Error::Memory)?;
        Ok(Preparation { slots: zeroes(pages.div_ceil(SPAN_PAGES))?, pages: PageHeap::new(pages)? })
    }

    /// Adds a chunk without content for which room was made since the last one was added, and says which one of the lane it is.
    pub(crate) fn add(&mut self, chunk: ChunkRef, base: usize, prepared: Preparation) -> usize {
        let Preparation { slots, pages } = prepared;
        let heap = Heap { chunk, base, state: Occupation::Ready, pages, slots };
        let gone = self.heaps.iter().position(|heap| heap.state == Occupation::Gone);
        let number = gone.unwrap_or(self.heaps.len());
        match self.heaps.get_mut(number) {
            Some(gone) => *gone = heap,
            None => self.heaps.push(heap),
        }
        number
    }

    /// Gives out an idle span with `count` free granules from a multiple of `align` on.
    pub(crate) fn lease(&mut self, count: usize, align: usize) -> Option<Lease> {
        let at = self.fitting(count + align - 1)?;
        self.unlink(at);
        let heap = &mut self.heaps[at.heap as usize];
        let slot = &mut heap.slots[at.slot as usize];
        slot.state = State::Held;
        slot.longest = 0;
        let free = std::mem::take(&mut slot.free);
        Some(Lease {
            chunk: heap.chunk,
            slot: at.slot as usize,
            base: heap.base + at.slot as usize * SPAN,
            free,
            touched: slot.touched,
        })
    }

    /// Makes a span of free pages and gives it out.
    pub(crate) fn lease_new(&mut self) -> Option<Lease> {
        let heaps = self.heaps.iter_mut().filter(|heap| heap.state == Occupation::Ready);
        let (heap, slot) = heaps.filter_map(|heap| heap.pages.take_span().map(|slot| (heap, slot))).next()?;
        heap.slots[slot].state = State::Held;
        let mut free = FreeBits::default();
        bits::set(&mut free, 0..heap.pages.span(slot).len() * PAGE_GRANULES);
        let touched = heap.pages.take_touched(slot);
        Some(Lease { chunk: heap.chunk, slot, base: heap.base + slot * SPAN, free, touched })
    }

    /// Takes a span back, and the length of its longest free run. Returns whether it was all free: then its pages are.
    pub(crate) fn take_back(
        &mut self,
        chunk: &Chunk,
        slot: usize,
        (free, longest): (&FreeBits, usize),
        touched: u16,
    ) -> bool {
        let heap = &mut self.heaps[chunk.number()];
        let span = &mut heap.slots[slot];
        debug_assert_eq!(span.state, State::Held, "only a held span is given back");
        span.state = State::Idle;
        span.touched = touched;
        if span.longest == 0 {
            debug_assert_eq!(longest, longest_run(free), "the holder knows its runs");
            (span.free, span.longest) = (*free, longest as u16);
        } else {
            // What others freed meanwhile.
            bits::runs(&span.free).for_each(|run| {
                chunk.unmark(slot * SPAN_GRANULES + run.start..slot * SPAN_GRANULES + run.end)
            });
            span.free.iter_mut().zip(free).for_each(|(here, theirs)| *here |= theirs);
            span.longest = longest_run(&span.free) as u16;
        }
        self.settle(At { heap: chunk.number() as u32, slot: slot as u32 })
    }

    /// Takes what others have freed in a span that is held, if they have, for its holder to add.
    pub(crate) fn collect(&mut self, chunk: &Chunk, slot: usize) -> Option<FreeBits> {
        let span = &mut self.heaps[chunk.number()].slots[slot];
        let is_filled = std::mem::take(&mut span.longest) != 0;
        is_filled.then(|| std::mem::take(&mut span.free))
    }

    /// Frees granules of a span, whose bytes are `int3` again. Returns whether its pages are free now.
    pub(crate) fn free(&mut self, chunk: &Chunk, granules: Range<usize>) -> bool {
        let slot = granules.start / SPAN_GRANULES;
        let inside = granules.start % SPAN_GRANULES..granules.end - slot * SPAN_GRANULES;
        let span = &mut self.heaps[chunk.number()].slots[slot];
        debug_assert!(span.state != State::Pages, "granules are freed in spans");
        debug_assert!(bits::has_none(&span.free, inside.clone()), "granules are freed once");
        bits::set(&mut span.free, inside.clone());
        if span.state == State::Held {
            span.longest = 1;
            return false;
        }
        chunk.unmark(granules);
        let longest = bits::run_around(&span.free, inside).len() as u16;
        let at = At { heap: chunk.number() as u32, slot: slot as u32 };
        if longest <= span.longest && longest as usize != SPAN_GRANULES {
            return false;
        }
        if span.longest > 0 {
            self.unlink(at);
        }
        self.slot(at).longest = longest;
        self.settle(at)
    }

    /// Puts an idle span that is in no bin into its bin, or makes it free pages.
    fn settle(&mut self, at: At) -> bool {
        let heap = &mut self.heaps[at.heap as usize];
        let pages = heap.pages.span(at.slot as usize);
        let slot = &mut heap.slots[at.slot as usize];
        if slot.longest as usize == pages.len() * PAGE_GRANULES {
            heap.pages.give_touched(at.slot as usize, slot.touched);
            heap.pages.give(pages);
            *slot = Slot::default();
            return true;
        }
        if slot.longest > 0 {
            self.link(at);
        }
        false
    }

    /// Takes a run of free pages.
    pub(crate) fn take_pages(&mut self, pages: usize) -> Option<TakenPages> {
        let heaps = self.heaps.iter_mut().filter(|heap| heap.state == Occupation::Ready);
        let gaps = heaps.filter_map(|heap| heap.pages.best_gap(pages).map(|gap| (heap, gap)));
        let (heap, gap) = gaps.take(LOOKS).min_by_key(|(_, gap)| gap.rank())?;
        heap.pages.take_these(gap.pages.clone());
        Some(TakenPages { chunk: heap.chunk, pages: gap.pages })
    }

    /// Makes a run of pages free again.
    pub(crate) fn give_pages(&mut self, chunk: &Chunk, pages: Range<usize>) {
        self.heaps[chunk.number()].pages.give(pages);
    }

    /// The pages of a chunk.
    pub(crate) fn pages(&mut self, chunk: &Chunk) -> &mut PageHeap {
        &mut self.heaps[chunk.number()].pages
    }

    /// A chunk that nothing uses, and that the lane is to give up: a large one, or one of two. It is nobody's until
    /// [`LaneState::gave_up`] or [`LaneState::kept`].
    pub(crate) fn start_vacating(&mut self) -> Option<ChunkRef> {
        let mut unused =
            self.heaps.iter_mut().filter(|heap| heap.state == Occupation::Ready && heap.pages.is_unused());
        let first = unused.next()?;
        let is_large = first.pages.pages() * PAGE > CHUNK;
        let heap = if is_large { first } else { unused.next_back()? };
        heap.state = Occupation::Changing;
        Some(heap.chunk)
    }

    /// Says that a chunk is the lane's no more.
    pub(crate) fn gave_up(&mut self, chunk: &Chunk) {
        let heap = &mut self.heaps[chunk.number()];
        heap.state = Occupation::Gone;
        (heap.pages, heap.slots) = (PageHeap::default(), Vec::new());
    }

    /// Says that a chunk that was to be changed stays as it is.
    pub(crate) fn kept(&mut self, chunk: &Chunk) {
        self.heaps[chunk.number()].state = Occupation::Ready;
    }

    /// Takes some free pages that have memory, of at most one run, if there are more than `keep` in the lane.
    pub(crate) fn take_idle(&mut self, keep: usize) -> Option<TakenPages> {
        let idle: usize = self.heaps.iter().map(|heap| heap.pages.idle()).sum();
        let excess = idle.checked_sub(keep).filter(|&excess| excess > 0)?;
        let heaps = self.heaps.iter_mut().filter(|heap| heap.state == Occupation::Ready).rev();
        let found = heaps
            .filter_map(|heap| heap.pages.first_idle(0..heap.pages.pages()).map(|pages| (heap, pages)))
            .next();
        let (heap, pages) = found?;
        let pages = pages.end - pages.len().min(excess)..pages.end;
        heap.pages.take_these(pages.clone());
        Some(TakenPages { chunk: heap.chunk, pages })
    }

    pub(crate) fn bytes(&self) -> LaneBytes {
        let slots =
            |heap: &Heap| heap.slots.iter().map(|slot| slot.touched.count_ones() as usize).sum::<usize>();
        let mut bytes = LaneBytes { metadata: size_of_val(self.heaps.as_slice()), ..LaneBytes::default() };
        for heap in &self.heaps {
            bytes.chunks += usize::from(heap.state != Occupation::Gone);
            bytes.touched += (heap.pages.touched() + slots(heap)) * PAGE;
            bytes.metadata += heap.pages.metadata_bytes() + size_of_val(heap.slots.as_slice());
        }
        bytes
    }

    /// An idle span with a free run of `count` granules, from the first bin in which one is found.
    fn fitting(&self, count: usize) -> Option<At> {
        if count > SPAN_GRANULES {
            return None;
        }
        let first = bin(count);
        self.shortest(first, count).or_else(|| {
            let higher = self.filled & (u64::MAX << first << 1);
            if higher == 0 { None } else { self.shortest(higher.trailing_zeros() as usize, count) }
        })
    }

    /// Of the first spans of a bin with a free run of `count` granules, the one whose longest run is the shortest.
    fn shortest(&self, bin: usize, count: usize) -> Option<At> {
        let slot = |at: At| &self.heaps[at.heap as usize].slots[at.slot as usize];
        let mut next = self.bins[bin];
        let mut best = None;
        for _ in 0..LOOKS {
            if next == NOWHERE {
                break;
            }
            let at = next;
            let longest = usize::from(slot(at).longest);
            if longest >= count && best.is_none_or(|(least, _)| longest < least) {
                best = Some((longest, at));
            }
            next = slot(at).after;
        }
        best.map(|(_, at)| at)
    }

    fn slot(&mut self, at: At) -> &mut Slot {
        &mut self.heaps[at.heap as usize].slots[at.slot as usize]
    }

    fn link(&mut self, at: At) {
        let bin = bin(usize::from(self.slot(at).longest));
        let first = std::mem::replace(&mut self.bins[bin], at);
        self.filled |= 1 << bin;
        let slot = self.slot(at);
        (slot.before, slot.after) = (NOWHERE, first);
        if first != NOWHERE {
            self.slot(first).before = at;
        }
    }

    fn unlink(&mut self, at: At) {
        let slot = self.slot(at);
        let (before, after) =
            (std::mem::replace(&mut slot.before, NOWHERE), std::mem::replace(&mut slot.after, NOWHERE));
        let bin = bin(usize::from(slot.longest));
        if before != NOWHERE {
            self.slot(before).after = after;
        } else {
            self.bins[bin] = after;
            if after == NOWHERE {
                self.filled &= !(1 << bin);
            }
        }
        if after != NOWHERE {
            self.slot(after).before = before;
        }
    }
}

/// The length of the longest free run.
pub(crate) fn longest_run(free: &FreeBits) -> usize {
    bits::runs(free).map(|run| run.len()).max().unwrap_or(0)
}

/// Room for what is known of a chunk.
#[derive(Debug)]
pub(crate) struct Preparation {
    slots: Vec<Slot>,
    pages: PageHeap,
}
