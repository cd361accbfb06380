//! How many granules or pages a function takes, and the size classes of runs.
//!
//! ```text
//!   1 2 3 4 5 6 7 8 10 12 14 16 20 24 28 32 40 ..      four classes for each doubling
//! ```
//!
//! A run of pages is rounded up to a class, so that it is reused by functions of about its size; that costs at most
//! a fifth of its addresses, and no memory, since its tail is never touched. Free runs of granules are binned by
//! the class below their length. The classes are those of the founding text; allocators have long used such series (P. Wilson et
//! al., "Dynamic storage allocation: a survey", 1995, calls them segregated fits).
//!
//! Everything here follows from the address and the length of a function, so that nothing more has to be kept about it.

use std::ops::Range;

use crate::heap::index::TRAILER;
use crate::{CHUNK, GRANULE, PAGE};

/// What is packed at granules; above, functions have whole pages.
pub(crate) const PACKED_MAX: usize = 16 << 10;
/// The pages that a chunk of one piece can give out: all but its guard.
pub(crate) const CHUNK_PAGES: usize = CHUNK / PAGE - 1;
/// The granules of a page.
pub(crate) const PAGE_GRANULES: usize = PAGE / GRANULE;
/// How many bins there are for lengths up to the granules of a span.
pub(crate) const BINS: usize = 36;

/// The granules of a function of `len` bytes that starts `skew` bytes into its first granule.
#[inline]
pub(crate) fn granules(skew: usize, len: usize) -> usize {
    (skew + len + TRAILER).div_ceil(GRANULE)
}

/// The pages that a function touches which starts `offset` bytes into its first page.
#[inline]
pub(crate) fn touched_pages(offset: usize, len: usize) -> usize {
    (offset + len + TRAILER).div_ceil(PAGE)
}

/// The pages of the run for a function that touches so many.
pub(crate) fn run_pages(touched: usize) -> usize {
    match touched {
        0..=4 => touched,
        5..=CHUNK_PAGES => {
            let shift = (touched - 1).ilog2() - 2;
            ((((touched - 1) >> shift) + 1) << shift).min(CHUNK_PAGES)
        }
        _ => touched,
    }
}

/// The pages of the run of a function at `offset` in its chunk.
pub(crate) fn page_run(offset: usize, len: usize) -> Range<usize> {
    let first = offset / PAGE;
    first..first + run_pages(touched_pages(offset % PAGE, len))
}

/// The bin of a free run of 1 to 1,024 granules: runs of higher bins are longer.
pub(crate) fn bin(granules: usize) -> usize {
    debug_assert!((1..=1024).contains(&granules), "a run lies in a span");
    if granules < 4 {
        return granules - 1;
    }
    let shift = granules.ilog2() as usize - 2;
    4 * shift + (granules >> shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_four_for_each_doubling_and_waste_at_most_a_fifth() {
        let classes: Vec<usize> = (1..=CHUNK_PAGES).filter(|&pages| run_pages(pages) == pages).collect();
        assert_eq!(classes[..12], [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]);
        // 4 up to 4 pages, 4 for each of the 7 doublings up to 512 pages, the last of which has one page less.
        assert_eq!((classes.len(), classes.last()), (32, Some(&CHUNK_PAGES)));
        for pages in 1..=CHUNK_PAGES {
            let run = run_pages(pages);
            assert!(run >= pages && run_pages(run) == run && run * 4 <= pages * 5, "{pages} pages in {run}");
        }
        assert_eq!(run_pages(CHUNK_PAGES + 1), CHUNK_PAGES + 1, "a chunk is made for what is larger");
    }

    #[test]
    fn bins_grow_with_the_run_and_are_all_used() {
        let bins: Vec<usize> = (1..=1024).map(bin).collect();
        assert!(bins.is_sorted());
        assert_eq!((bins[0], bins[1023]), (0, BINS - 1));
        assert!((0..BINS).all(|wanted| bins.contains(&wanted)));
    }

    #[test]
    fn a_function_has_room_for_its_trailer() {
        assert_eq!([granules(0, 48), granules(0, 49), granules(60, 1)], [1, 2, 2]);
        assert_eq!([touched_pages(0, PAGE - 16), touched_pages(64, PAGE - 16)], [1, 2]);
        assert_eq!(page_run(3 * PAGE + 64, 4 * PAGE), 3..8);
    }
}
