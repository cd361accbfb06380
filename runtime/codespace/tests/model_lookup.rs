//! Model check: publishing and looking up, and freeing in a span that somebody else holds, in each order of things under weak
//! memory.
//!
//! The bits, the trailers, and the lane are the ones of the space; its chunk is the one below, whose trailers are in the
//! model's memory.

#![allow(dead_code, unreachable_pub, reason = "the models use a part of each file they include")]

#[path = "../src/heap/bits.rs"]
mod bits;
#[path = "../src/heap/classes.rs"]
mod classes;
#[path = "../src/heap/lane.rs"]
mod lane;
#[path = "../src/heap/marks.rs"]
mod marks;
#[path = "../src/heap/pages.rs"]
mod pages;
#[path = "../src/heap/span.rs"]
mod span;
#[path = "model/loom.rs"]
mod sync;

/// The files under the names that they have in the crate.
mod heap {
    pub(crate) use crate::{bits, classes, index, marks, pages, span};
}

/// A chunk without memory but for its trailers.
mod index {
    use std::ops::Range;

    use crate::heap::classes;
    pub(crate) use crate::heap::marks::TRAILER;
    use crate::heap::marks::{Found, Marks, UNLISTED, function, trailer};
    use crate::sync::{AtomicU64, Ordering};
    use crate::{CHUNK, GRANULE};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct ChunkRef;

    #[derive(Debug)]
    pub(crate) struct Chunk {
        pub(crate) marks: Marks,
        /// Of the first granules.
        trailers: Vec<[AtomicU64; 2]>,
    }

    impl Chunk {
        pub(crate) fn new(pages: usize, granules: usize) -> Chunk {
            let zero = || [AtomicU64::new(0), AtomicU64::new(0)];
            let trailers = (0..granules).map(|_| zero()).collect();
            Chunk { marks: Marks::new((0..pages).map(|_| AtomicU64::new(0)).collect()), trailers }
        }

        pub(crate) fn number(&self) -> usize {
            0
        }

        pub(crate) fn pages(&self) -> usize {
            self.marks.pages()
        }

        pub(crate) fn unmark(&self, granules: Range<usize>) {
            self.marks.unmark(granules);
        }

        /// Publishes code in these granules, which are free and whose page the caller holds.
        pub(crate) fn publish(&self, granules: &Range<usize>, owner: usize) -> Found {
            let len = granules.len() * GRANULE - TRAILER;
            debug_assert_eq!(classes::granules(0, len), granules.len());
            let last = granules.end - 1;
            let words = trailer(CHUNK + granules.end * GRANULE - TRAILER, owner, 0, len);
            for (to, word) in self.trailers[last].iter().zip(words) {
                to.store(word, Ordering::Relaxed);
            }
            self.marks.mark(last);
            Found { address: CHUNK + granules.start * GRANULE, len, owner }
        }

        pub(crate) fn unlist(&self, granules: &Range<usize>) {
            self.trailers[granules.end - 1][1].store(UNLISTED, Ordering::Release);
        }

        pub(crate) fn lookup(&self, granule: usize) -> Option<Found> {
            let last = self.marks.next(granule)?;
            function(CHUNK, last, self.words(last)).filter(|found| found.address <= CHUNK + granule * GRANULE)
        }

        /// As the chunk of the space reads them.
        pub(crate) fn words(&self, last: usize) -> [u64; 2] {
            self.trailers[last].each_ref().map(|word| word.load(Ordering::Acquire))
        }
    }
}

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use dagwood_codespace::{CHUNK, Error, GRANULE, PAGE, SPAN};
use loom::sync::Arc;
use loom::thread;

use index::{Chunk, ChunkRef};
use lane::{LaneState, longest_run};
use marks::Found;
use pages::{SPAN_GRANULES, SPAN_PAGES};
use sync::{AtomicUsize, Mutex, Ordering, explore, lock};

const INT3: u8 = 0xcc;

#[test]
fn a_lookup_finds_what_is_published_and_before_that_nothing() {
    explore(None, 5, || {
        let shared = Arc::new((Chunk::new(1, 4), AtomicUsize::new(0)));
        let other = Arc::clone(&shared);
        let publisher = thread::spawn(move || {
            let found = other.0.publish(&(1..3), 7);
            other.1.store(1, Ordering::Release);
            found
        });
        let (chunk, is_said) = &*shared;
        let was_said = is_said.load(Ordering::Acquire) == 1;
        let found = chunk.lookup(1);
        let published = publisher.join().expect("nothing panics");
        assert!(found == Some(published) || found.is_none() && !was_said);
        let all = [0, 1, 2, 3].map(|granule| chunk.lookup(granule));
        assert_eq!(all, [None, Some(published), Some(published), None]);
    });
}

#[test]
fn while_granules_are_reused_a_lookup_finds_one_function_or_the_other_or_nothing() {
    /// Whether a trailer was met half-written: else the test would show nothing.
    static IS_MIXED: AtomicBool = AtomicBool::new(false);
    explore(None, 4, || {
        let chunk = Arc::new(Chunk::new(1, 3));
        let before = chunk.publish(&(0..3), 7);
        let other = Arc::clone(&chunk);
        let writer = thread::spawn(move || {
            other.unlist(&(0..3));
            other.unmark(0..3);
            [other.publish(&(0..2), 8), other.publish(&(2..3), 9)]
        });
        let found = [chunk.lookup(0), chunk.lookup(2)];
        let words = chunk.words(2);
        let after = writer.join().expect("nothing panics");
        for (found, after) in found.into_iter().zip(after) {
            assert!(found.is_none_or(|found| found == before || found == after), "{found:?}");
        }
        assert_eq!([0, 1, 2].map(|granule| chunk.lookup(granule)), [after[0], after[0], after[1]].map(Some));
        if words[0] == 9 && words[1] != chunk.words(2)[1] {
            IS_MIXED.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(IS_MIXED.load(std::sync::atomic::Ordering::Relaxed), "a trailer is met half-written");
}

/// A chunk of one span, its lane, and what is published in it.
struct Yard {
    chunk: Chunk,
    lane: Mutex<LaneState>,
    kept: Found,
}

/// What is freed by another thread.
const FREED: Range<usize> = 2..4;

impl Yard {
    /// The span is held by the caller; it has published two functions. What else is free in it is the second value.
    fn new() -> (Arc<Yard>, Vec<Range<usize>>) {
        let mut lane = LaneState::new();
        let prepared = lane.prepare(SPAN_PAGES).expect("there is memory");
        lane.add(ChunkRef, CHUNK, prepared);
        let lease = lane.lease_new().expect("there is a span");
        assert_eq!((lease.slot, lease.base), (0, CHUNK));
        let chunk = Chunk::new(SPAN_PAGES, 8);
        let kept = chunk.publish(&(0..2), 7);
        chunk.publish(&FREED, 8);
        let runs = bits::runs(&lease.free).map(|run| run.start.max(FREED.end)..run.end).collect();
        (Arc::new(Yard { chunk, lane: Mutex::new(lane), kept }), runs)
    }

    /// What a reclaimer does with code that nobody runs or knows of.
    fn free(&self) {
        self.chunk.unlist(&FREED);
        lock(&self.lane).free(&self.chunk, FREED);
    }

    /// What the holder of the span does before it runs out of room: takes over what others freed.
    fn collect(&self, runs: &mut Vec<Range<usize>>) {
        let Some(freed) = lock(&self.lane).collect(&self.chunk, 0) else { return };
        for run in bits::runs(&freed) {
            self.chunk.unmark(run.clone());
            runs.push(run);
        }
    }

    fn found(&self) -> [Option<Found>; 4] {
        [0, 2, 4, 6].map(|granule| self.chunk.lookup(granule))
    }
}

#[test]
fn what_is_freed_in_a_span_that_another_thread_holds_is_reused_by_its_holder_once() {
    explore(None, 4, || {
        let (yard, mut runs) = Yard::new();
        let other = Arc::clone(&yard);
        let freeing = thread::spawn(move || other.free());
        assert!(runs.iter().eq([&(4..SPAN_GRANULES)]));
        let published = yard.chunk.publish(&(4..6), 9);
        runs[0].start = 6;
        yard.collect(&mut runs);
        let reused = runs.pop_if(|run| *run == FREED).map(|run| yard.chunk.publish(&run, 10));
        freeing.join().expect("nothing panics");
        assert_eq!(yard.found(), [Some(yard.kept), reused, Some(published), None]);
        yard.collect(&mut runs);
        assert_eq!(runs.len(), if reused.is_some() { 1 } else { 2 });
    });
}

#[test]
#[should_panic(expected = "a mark is lost")]
fn a_mark_is_lost_if_another_thread_than_the_holder_clears_one() {
    explore(None, 4, || {
        let (yard, _) = Yard::new();
        let other = Arc::clone(&yard);
        let freeing = thread::spawn(move || other.chunk.unmark(FREED));
        let published = yard.chunk.publish(&(4..6), 9);
        freeing.join().expect("nothing panics");
        assert_eq!(yard.chunk.lookup(4), Some(published), "a mark is lost");
    });
}

#[test]
fn what_is_freed_while_its_span_goes_back_is_free_for_the_next_holder() {
    explore(None, 4, || {
        let (yard, runs) = Yard::new();
        let other = Arc::clone(&yard);
        let freeing = thread::spawn(move || other.free());
        let mut free = span::FreeBits::default();
        runs.into_iter().for_each(|run| bits::set(&mut free, run));
        assert!(
            !lock(&yard.lane).take_back(&yard.chunk, 0, (&free, longest_run(&free)), 1),
            "a function is left"
        );
        freeing.join().expect("nothing panics");
        let lease = lock(&yard.lane).lease(1, 1).expect("the span is idle");
        assert_eq!(bits::runs(&lease.free).next(), Some(2..SPAN_GRANULES));
        assert_eq!(yard.found(), [Some(yard.kept), None, None, None]);
        assert_eq!(yard.chunk.marks.next(2), None, "nothing is marked that is free");
    });
}
