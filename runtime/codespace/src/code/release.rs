//! Giving room back to the lanes, under their locks.
//!
//! ```text
//!   freed code ─► its writer holds the span ─► the span's runs
//!              └► else                      ─► with the writer, all int3 ─► the lane, a few at once
//! ```
//!
//! *Why a few at once.* Taking a lock waits until all that was written before has left the processor, and what was just made
//! `int3` is seldom in its cache: to wait for it cost a tenth of replacing a function. Where a writer has to take the lane's lock
//! anyway, because it needs another span, it gives back then what it freed and the spans that it keeps no longer.
//!
//! *Guarantees.* What a writer keeps back is `int3`, is found by no lookup, and is at most [`FREED_MAX`] functions of a lane;
//! it is given back before an allocation fails, when the writer rests, and when it is dropped.

use std::ops::Range;
use std::sync::MutexGuard;

use crate::code::writer::OpenLane;
use crate::heap::index::{Chunk, ChunkRef};
use crate::heap::lane::LaneState;
use crate::heap::pages::SPAN_GRANULES;
use crate::space::Shared;
use crate::{Code, CodeWriter, GRANULE, Lane, SPAN};

/// How many functions of a lane that lay in others' spans a writer keeps back.
pub(crate) const FREED_MAX: usize = 16;

/// Granules of a span that a function has left, all `int3`.
#[derive(Debug)]
pub(crate) struct Freed {
    pub(crate) chunk: ChunkRef,
    pub(crate) granules: Range<usize>,
}

/// Gives granules and pages back, taking each lane's lock once for what comes together.
pub(crate) struct Release<'a> {
    space: &'a Shared,
    writer: Option<&'a CodeWriter>,
    /// The lane whose lock is held.
    lane: Option<(Lane, Held<'a>)>,
}

/// The state of a lane whose lock is held.
pub(crate) struct Held<'a> {
    space: &'a Shared,
    pub(crate) state: MutexGuard<'a, LaneState>,
    /// Whether there may be something to tidy up.
    is_emptied: bool,
}

impl<'a> Held<'a> {
    pub(crate) fn lock(space: &'a Shared, lane: Lane) -> Held<'a> {
        Held { space, state: space.lane(lane), is_emptied: false }
    }

    /// Frees granules of a span that the caller does not hold.
    pub(crate) fn free(&mut self, chunk: &Chunk, granules: Range<usize>) {
        if self.state.free(chunk, granules) {
            self.emptied();
        }
    }

    /// Says that a span became free pages.
    pub(crate) fn emptied(&mut self) {
        self.space.discharge(SPAN);
        self.is_emptied = true;
    }

    /// Gives back what a writer has kept back, and says whether any of it lay in a span that it holds.
    pub(crate) fn free_all(&mut self, open: &mut OpenLane) -> bool {
        let mut freed = std::mem::take(&mut open.freed);
        let mut has_more = false;
        for Freed { chunk, granules } in freed.drain(..) {
            let chunk = self.space.chunk(chunk);
            // Since it was freed the writer may have leased the span.
            match open.span(chunk.base() + granules.start * GRANULE) {
                Some(span) => {
                    chunk.unmark(granules.clone());
                    span.runs.give(granules.start % SPAN_GRANULES, granules.len());
                    has_more = true;
                }
                None => self.free(chunk, granules),
            }
        }
        open.freed = freed;
        has_more
    }

    /// Gives the lock back, and memory that the lane has too much of.
    pub(crate) fn end(self, lane: Lane) {
        let Held { space, state, is_emptied } = self;
        drop(state);
        if is_emptied {
            space.tidy(lane);
        }
    }
}

impl<'a> Release<'a> {
    /// For `writer`, whose spans nobody else gives granules to.
    pub(crate) fn new(space: &'a Shared, writer: Option<&'a CodeWriter>) -> Release<'a> {
        Release { space, writer, lane: None }
    }

    /// Gives the pages of a function back.
    pub(crate) fn give_pages(&mut self, chunk: &Chunk, code: &Code) {
        let pages = self.space.page_run(chunk, code);
        chunk.unmark_one(chunk.granules_of(code).end - 1);
        let space = self.space;
        let held = self.lane(chunk.lane());
        space.give_pages(&mut held.state, chunk, pages);
        held.is_emptied = true;
    }

    /// Gives granules of a span back, of one function or of neighbours.
    pub(crate) fn give(&mut self, chunk: &Chunk, granules: Range<usize>) {
        if let Some(writer) = self.writer {
            let mut open = writer.open_lane(chunk.lane()).borrow_mut();
            if let Some(span) = open.span(chunk.base() + granules.start * GRANULE) {
                chunk.unmark(granules.clone());
                span.runs.give(granules.start % SPAN_GRANULES, granules.len());
                return;
            }
        }
        self.lane(chunk.lane()).free(chunk, granules);
    }

    fn lane(&mut self, lane: Lane) -> &mut Held<'a> {
        if self.lane.as_ref().is_none_or(|(locked, _)| *locked != lane) {
            self.end();
        }
        &mut self.lane.get_or_insert_with(|| (lane, Held::lock(self.space, lane))).1
    }

    fn end(&mut self) {
        if let Some((lane, held)) = self.lane.take() {
            held.end(lane);
        }
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
