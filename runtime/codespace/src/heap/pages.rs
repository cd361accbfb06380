//! The pages of a chunk: which are free, and which have memory.
//!
//! ```text
//!   |span    |span    |        ..         |run of a large function|run|guard
//!    low addresses first                          high addresses first
//! ```
//!
//! A bit for each page says whether it is free. A second bit says whether a free page has memory and is all `int3`; pages that
//! were never used, or were given back, have none. Spans take 16 aligned pages from the low end. Whole-page functions take
//! an end of a free run: the one where the fewest pages are without memory, of these that of the shortest run, of these the
//! highest, so that the two stay apart as long as there is room. Memory costs several microseconds a page to get and to give
//! back, so it matters more than how runs are cut.

use std::ops::Range;

use crate::heap::bits;
use crate::heap::classes::PAGE_GRANULES;
use crate::{Error, PAGE, SPAN};

/// The pages of a span.
pub(crate) const SPAN_PAGES: usize = SPAN / PAGE;
/// The granules of a span.
pub(crate) const SPAN_GRANULES: usize = SPAN_PAGES * PAGE_GRANULES;

/// Where a run of pages may be taken.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) pages: Range<usize>,
    /// How many of them have no memory.
    untouched: usize,
    /// The length of the free run that they are at an end of.
    run: usize,
}

impl Gap {
    /// Less for a better one: first what needs the least memory from the system, then what leaves the least of its run.
    pub(crate) fn rank(&self) -> (usize, usize) {
        (self.untouched, self.run)
    }
}

/// The pages of one chunk. Changed under the lock of its lane. The default is that of no chunk.
#[derive(Debug, Default)]
pub(crate) struct PageHeap {
    /// How many there are.
    pages: usize,
    free: Vec<u64>,
    /// Those that have memory, but for those of spans, whose holders keep that.
    touched: Vec<u64>,
    /// At least the longest free run.
    longest: usize,
}

impl PageHeap {
    /// All free, none touched.
    pub(crate) fn new(pages: usize) -> Result<PageHeap, Error> {
        let words = pages.div_ceil(bits::WORD);
        let mut free = zeroes(words)?;
        bits::set(&mut free, 0..pages);
        Ok(PageHeap { pages, free, touched: zeroes(words)?, longest: pages })
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Whether nothing is in use.
    pub(crate) fn is_unused(&self) -> bool {
        self.longest == self.pages && bits::has_all(&self.free, 0..self.pages)
    }

    /// The pages of a span that may be taken: the last one of a chunk is short of the guard.
    pub(crate) fn span(&self, slot: usize) -> Range<usize> {
        slot * SPAN_PAGES..((slot + 1) * SPAN_PAGES).min(self.pages)
    }

    /// Takes the lowest free span, and returns its number.
    pub(crate) fn take_span(&mut self) -> Option<usize> {
        if self.longest < SPAN_PAGES - 1 {
            return None;
        }
        let slot =
            (0..self.pages.div_ceil(SPAN_PAGES)).find(|&slot| bits::has_all(&self.free, self.span(slot)))?;
        let pages = self.span(slot);
        bits::clear(&mut self.free, pages);
        Some(slot)
    }

    /// The best place for a run of pages: see [`Gap`].
    pub(crate) fn best_gap(&mut self, pages: usize) -> Option<Gap> {
        if self.longest < pages {
            return None;
        }
        let mut best: Option<Gap> = None;
        let mut longest = 0;
        for run in bits::runs(&self.free) {
            longest = longest.max(run.len());
            if run.len() < pages {
                continue;
            }
            for place in [run.start..run.start + pages, run.end - pages..run.end] {
                let untouched = pages - bits::count_in(&self.touched, place.clone());
                let gap = Gap { untouched, run: run.len(), pages: place };
                if best.as_ref().is_none_or(|best| gap.rank() <= best.rank()) {
                    best = Some(gap);
                }
            }
        }
        self.longest = longest;
        best
    }

    /// Makes pages free again.
    pub(crate) fn give(&mut self, pages: Range<usize>) {
        debug_assert!(bits::has_none(&self.free, pages.clone()), "what is given back was taken");
        bits::set(&mut self.free, pages.clone());
        self.longest = self.longest.max(bits::run_around(&self.free, pages).len());
    }

    /// Which pages of a span have memory, as bits from its first page on: whoever takes the span keeps them from now on.
    pub(crate) fn take_touched(&mut self, slot: usize) -> u16 {
        let pages = self.span(slot);
        let bits = self.touched[pages.start / bits::WORD] >> (pages.start % bits::WORD);
        bits::clear(&mut self.touched, pages);
        bits as u16
    }

    /// Takes over from the holder of a span which of its pages have memory.
    pub(crate) fn give_touched(&mut self, slot: usize, touched: u16) {
        let first = slot * SPAN_PAGES;
        self.touched[first / bits::WORD] |= u64::from(touched) << (first % bits::WORD);
    }

    /// Remembers that pages have memory and are all `int3`.
    pub(crate) fn touch(&mut self, pages: Range<usize>) {
        bits::set(&mut self.touched, pages);
    }

    /// Remembers that pages have no memory.
    pub(crate) fn forget(&mut self, pages: Range<usize>) {
        bits::clear(&mut self.touched, pages);
    }

    /// The first pages of a range that have no memory.
    pub(crate) fn first_untouched(&self, pages: Range<usize>) -> Option<Range<usize>> {
        bits::first_run(pages, |word| !self.touched[word])
    }

    /// The first pages of a range that have memory and are free.
    pub(crate) fn first_idle(&self, pages: Range<usize>) -> Option<Range<usize>> {
        bits::first_run(pages, |word| self.touched[word] & self.free[word])
    }

    /// How many pages have memory and are free.
    pub(crate) fn idle(&self) -> usize {
        self.free
            .iter()
            .zip(&self.touched)
            .map(|(free, touched)| (free & touched).count_ones() as usize)
            .sum()
    }

    /// How many pages have memory, but for those of spans.
    pub(crate) fn touched(&self) -> usize {
        bits::count(&self.touched)
    }

    /// Takes pages that are free.
    pub(crate) fn take_these(&mut self, pages: Range<usize>) {
        debug_assert!(bits::has_all(&self.free, pages.clone()), "what is taken is free");
        bits::clear(&mut self.free, pages);
    }

    /// The bytes of what is known here.
    pub(crate) fn metadata_bytes(&self) -> usize {
        size_of_val(self.free.as_slice()) + size_of_val(self.touched.as_slice())
    }
}

/// So many zeroes.
pub(crate) fn zeroes<T: Default + Clone>(count: usize) -> Result<Vec<T>, Error> {
    let mut words = Vec::new();
    words.try_reserve_exact(count).map_err(|_| Error::Memory)?;
    words.resize(count, T::default());
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap() -> PageHeap {
        PageHeap::new(511).expect("there is memory")
    }

    fn take(heap: &mut PageHeap, pages: usize) -> Option<Range<usize>> {
        let pages = heap.best_gap(pages)?.pages;
        heap.take_these(pages.clone());
        Some(pages)
    }

    #[test]
    fn spans_come_from_below_and_runs_from_above() {
        let mut heap = heap();
        assert_eq!((heap.take_span(), heap.take_span()), (Some(0), Some(1)));
        assert_eq!(take(&mut heap, 5), Some(506..511));
        assert_eq!(take(&mut heap, 10), Some(496..506));
        assert_eq!(
            (2..31).map(|_| heap.take_span()).collect::<Vec<_>>(),
            (2..31).map(Some).collect::<Vec<_>>()
        );
        assert_eq!(heap.take_span(), None, "the last span is short of 15 pages");
        heap.give(496..511);
        assert_eq!(heap.take_span(), Some(31), "the last span is the one beside the guard");
        assert!(!heap.is_unused());
    }

    #[test]
    fn a_run_comes_from_the_shortest_gap_that_is_long_enough() {
        let mut heap = heap();
        assert_eq!(take(&mut heap, 511), Some(0..511));
        heap.give(10..20);
        heap.give(100..106);
        heap.give(200..206);
        heap.give(300..303);
        assert_eq!(take(&mut heap, 6), Some(200..206), "of two alike the higher one");
        assert_eq!(take(&mut heap, 4), Some(102..106));
        assert_eq!(take(&mut heap, 11), None);
        assert_eq!(take(&mut heap, 10), Some(10..20));
        assert_eq!(take(&mut heap, 3), Some(300..303));
        assert_eq!(take(&mut heap, 2), Some(100..102));
        assert_eq!(take(&mut heap, 1), None);
        heap.give(0..511);
        assert!(heap.is_unused());
    }

    #[test]
    fn memory_is_remembered_page_by_page() {
        let mut heap = heap();
        heap.touch(14..18);
        assert_eq!(heap.first_untouched(12..30), Some(12..14));
        assert_eq!(heap.first_untouched(14..30), Some(18..30));
        assert_eq!(heap.first_untouched(14..18), None);
        assert_eq!((heap.idle(), heap.first_idle(0..511)), (4, Some(14..18)));
        assert_eq!(heap.take_span(), Some(0));
        assert_eq!(heap.take_touched(0), 0b11 << 14);
        assert_eq!((heap.idle(), heap.touched(), heap.first_idle(0..511)), (2, 2, Some(16..18)));
        heap.give_touched(0, 0b101);
        heap.give(0..16);
        assert_eq!((heap.idle(), heap.first_idle(1..511)), (4, Some(2..3)));
        heap.take_these(2..3);
        assert_eq!((heap.idle(), heap.first_idle(1..511)), (3, Some(16..18)));
    }
}
