//! Where a writer finds room that it does not have at hand.
//!
//! ```text
//!   newest spans ─► what others freed in them ─► an idle span of the lane ─► any run that is long enough ─► a new span
//!   if the fit is good       if the fit is good                                                      16 pages
//! ```
//!
//! A fit is *good* if little is left of the run, or much. Whole-page functions come from the lane's chunks at once.

use std::ops::Range;
use std::ptr;

use crate::code::buffer::{CodeBuf, Kind};
use crate::code::release::Held;
use crate::code::writer::{KEPT, OpenLane};
use crate::heap::bits;
use crate::heap::classes;
use crate::heap::index::{Chunk, TRAILER};
use crate::heap::lane::{LaneState, Lease, longest_run};
use crate::heap::pages::SPAN_GRANULES;
use crate::heap::span::{Fit, FreeBits, OpenSpan, Runs};
use crate::{CodeWriter, Error, GRANULE, INT3, Lane, PAGE, Protection, SPAN};

/// The pages of a span that are made ready at once.
const READY_PAGES: usize = 4;

/// What is asked for, checked.
#[derive(Debug)]
pub(crate) struct Need {
    /// The bytes before the code in its first granule.
    pub(crate) skew: usize,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) lane: Lane,
    pub(crate) granules: usize,
}

impl CodeWriter {
    /// Room for a function, if the lane has any or can get it.
    pub(crate) fn place(&self, need: &Need) -> Result<CodeBuf<'_>, Error> {
        if !self.space().shared().is_packed(need.granules) {
            return self.place_in_pages(need);
        }
        let mut open = self.open_lane(need.lane).borrow_mut();
        let (span, fit) = self.find_span(&mut open, need)?;
        self.turn_to(need.lane);
        if !span.is_touched(&fit) {
            self.touch(span, &fit)?;
        }
        if !span.view.is_null() {
            return Ok(self.buffer_in(span, &fit, need.skew, need.size));
        }
        let draft = draft(need.granules)?;
        let mut buffer = self.buffer_in(span, &fit, need.skew, need.size);
        buffer.draft_in(draft);
        Ok(buffer)
    }

    /// A place in a span that is held then and is the newest.
    fn find_span<'o>(&self, open: &'o mut OpenLane, need: &Need) -> Result<(&'o mut OpenSpan, Fit), Error> {
        let shared = self.space().shared();
        let align = (need.align / GRANULE).max(1);
        if open.spans.len() > KEPT {
            let mut held = Held::lock(shared, need.lane);
            self.trim(open, KEPT, &mut held);
            held.end(need.lane);
        }
        let mut found = open.good(need.granules, align);
        if found.is_none() {
            let mut held = Held::lock(shared, need.lane);
            if held.free_all(open) | self.collect(open, &mut held.state) {
                found = open.good(need.granules, align);
            }
            let mut lease = None;
            if found.is_none() {
                lease = held.state.lease(need.granules, align);
            }
            if lease.is_none() && found.is_none() {
                found = open.best(need.granules, align);
                match &found {
                    Some((at, _)) => open.spans[*at].runs.content_with_less(),
                    None => {
                        held.end(need.lane);
                        lease = Some(shared.lease_new(need.lane)?);
                        held = Held::lock(shared, need.lane);
                    }
                }
            }
            let opened = lease.map_or(Ok(()), |lease| self.open_span(open, lease, &mut held));
            held.end(need.lane);
            opened?;
            if found.is_none() {
                let last = open.spans.len() - 1;
                found = open.spans[last].runs.best(need.granules, align).map(|fit| (last, fit));
            }
        }
        let (at, fit) = found.expect("there is room in a span that is held or was leased");
        let last = open.spans.len() - 1;
        open.spans.swap(at, last);
        Ok((&mut open.spans[last], fit))
    }

    /// Adds a span that was leased, and gives others back.
    fn open_span(&self, open: &mut OpenLane, lease: Lease, held: &mut Held<'_>) -> Result<(), Error> {
        let chunk = self.space().shared().chunk(lease.chunk);
        let Lease { chunk: reference, slot, base, free, touched } = lease;
        let opened = open.prepare().and_then(|runs| Ok((runs, chunk.memory().hold()?)));
        match opened {
            Ok((mut runs, view)) => {
                runs.reset(&free);
                let view = view.map_or(ptr::null_mut(), |view| view.wrapping_add(base - chunk.base()));
                self.trim(open, KEPT - 1, held);
                open.spans.push(OpenSpan { chunk: reference, slot, base, view, runs, touched, buffers: 0 });
                Ok(())
            }
            Err(error) => {
                return_span(held, chunk, slot, (&free, longest_run(&free)), touched);
                Err(error)
            }
        }
    }

    /// Gives spans back until at most `keep` are left of those in which nothing is being written; the oldest first, which is
    /// as good as any other order.
    pub(crate) fn trim(&self, open: &mut OpenLane, keep: usize, held: &mut Held<'_>) {
        let mut excess = open.spans.iter().filter(|span| span.buffers == 0).count().saturating_sub(keep);
        let mut at = 0;
        while excess > 0 {
            if open.spans[at].buffers > 0 {
                at += 1;
                continue;
            }
            let runs = self.give_span(open.spans.remove(at), held);
            if open.spare.len() < open.spare.capacity() {
                open.spare.push(runs);
            }
            excess -= 1;
        }
        // So that whoever writes much at once need not look through all of it for each function.
        while open.spans.len() > 2 * KEPT && open.aside.try_reserve(1).is_ok() {
            let oldest = open.spans.iter().position(|span| span.buffers > 0);
            let Some(span) = oldest.map(|at| open.spans.remove(at)) else { break };
            open.aside.insert(span.base, span);
        }
    }

    /// Gives back the span of an address that was set aside, if nothing is being written there any more.
    #[cold]
    pub(crate) fn end_aside(&self, open: &mut OpenLane, address: usize) {
        let base = address & !(SPAN - 1);
        if open.aside.get(&base).is_some_and(|span| span.buffers == 0)
            && let Some(span) = open.aside.remove(&base)
        {
            let shared = self.space().shared();
            let lane = shared.chunk(span.chunk).lane();
            let mut held = Held::lock(shared, lane);
            self.give_span(span, &mut held);
            held.end(lane);
        }
    }

    /// Gives a span back to its lane, which is held.
    pub(crate) fn give_span(&self, span: OpenSpan, held: &mut Held<'_>) -> Runs {
        let chunk = self.space().shared().chunk(span.chunk);
        chunk.memory().release();
        let free = span.runs.bits();
        return_span(held, chunk, span.slot, (&free, span.runs.longest()), span.touched);
        span.runs
    }

    /// Makes the pages of a place in a span ready, and some behind them.
    #[cold]
    fn touch(&self, span: &mut OpenSpan, fit: &Fit) -> Result<(), Error> {
        let shared = self.space().shared();
        let chunk = shared.chunk(span.chunk);
        let first = (span.base - chunk.base()) / PAGE;
        let pages = fit.pages();
        let end = ((u16::BITS - pages.leading_zeros()) as usize).next_multiple_of(READY_PAGES);
        let end = end.min(chunk.pages() - first);
        let mut page = pages.trailing_zeros() as usize;
        while page < end {
            // A run of pages without memory, or with; one of the two is empty.
            let touched = u32::from(span.touched) >> page;
            let count = (touched.trailing_zeros() as usize).min(end - page);
            if count > 0 {
                shared.prepare(chunk, first + page..first + page + count)?;
                span.touched |= (((1_u32 << count) - 1) << page) as u16;
            }
            page += count.max(touched.trailing_ones() as usize);
        }
        Ok(())
    }

    /// Room in pages of its own.
    fn place_in_pages(&self, need: &Need) -> Result<CodeBuf<'_>, Error> {
        let shared = self.space().shared();
        // It starts anywhere in its first page where it does not need more pages: functions that all start at the same
        // offset would compete for the same sets of the caches.
        let step = need.align.max(GRANULE);
        let bytes = need.skew + need.size + TRAILER;
        let starts = (bytes.next_multiple_of(PAGE) - bytes) / step + 1;
        let touched = bytes.div_ceil(PAGE);
        let taken = shared.take_pages(need.lane, classes::run_pages(touched))?;
        let chunk = shared.chunk(taken.chunk);
        let colour = scatter(chunk.base() / PAGE + taken.pages.start) % starts * step;
        let used = taken.pages.start..taken.pages.start + touched;
        let offset = used.start * PAGE + colour + need.skew;
        let opened = self.open_pages(chunk, used, need);
        let (view, draft) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                shared.give_pages(&mut shared.lane(need.lane), chunk, taken.pages);
                return Err(error);
            }
        };
        let to = view.map_or(ptr::null_mut(), |view| view.wrapping_add(offset));
        let (offset, len) = (offset as u32, need.size as u32);
        let mut buffer = CodeBuf { writer: self, chunk, to, offset, len, kind: Kind::Pages, is_draft: false };
        if view.is_none() {
            buffer.draft_in(draft);
        }
        Ok(buffer)
    }

    /// Makes pages ready to be written: the chunk's write view, or room for a draft.
    fn open_pages(
        &self,
        chunk: &Chunk,
        used: Range<usize>,
        need: &Need,
    ) -> Result<(Option<*mut u8>, Box<[u8]>), Error> {
        let shared = self.space().shared();
        let memory = chunk.memory();
        loop {
            let untouched = shared.lane(need.lane).pages(chunk).first_untouched(used.clone());
            let Some(pages) = untouched else { break };
            shared.prepare(chunk, pages.clone())?;
            shared.lane(need.lane).pages(chunk).touch(pages);
        }
        match memory.mode() {
            Protection::Flip => {
                // SAFETY: the pages are this buffer's alone, and nobody runs what is there.
                let first = unsafe { memory.unprotect(used.start * PAGE..used.end * PAGE) }?;
                Ok((Some(first.wrapping_sub(used.start * PAGE)), Box::default()))
            }
            Protection::NoAlias => Ok((None, draft(need.granules)?)),
            Protection::Dual | Protection::Session => Ok((memory.hold()?, Box::default())),
        }
    }

    /// Ends the writing of a whole-page function.
    #[cold]
    pub(crate) fn pages_written(&self, chunk: &Chunk, offset: usize, unused_len: Option<u32>) {
        let shared = self.space().shared();
        if chunk.memory().mode() == Protection::Session {
            chunk.memory().release();
        }
        if let Some(len) = unused_len {
            let run = classes::page_run(offset, len as usize);
            shared.give_pages(&mut shared.lane(chunk.lane()), chunk, run);
            shared.tidy(chunk.lane());
        }
    }

    /// Takes over what others have freed in the spans of a lane. Returns whether there was anything.
    fn collect(&self, open: &mut OpenLane, state: &mut LaneState) -> bool {
        let shared = self.space().shared();
        let mut has_more = false;
        for span in &mut open.spans {
            let chunk = shared.chunk(span.chunk);
            let Some(freed) = state.collect(chunk, span.slot) else { continue };
            let first = span.slot * SPAN_GRANULES;
            for run in bits::runs(&freed) {
                chunk.unmark(first + run.start..first + run.end);
                span.runs.give(run.start, run.len());
            }
            has_more = true;
        }
        has_more
    }
}

fn return_span(held: &mut Held<'_>, chunk: &Chunk, slot: usize, free: (&FreeBits, usize), touched: u16) {
    if held.state.take_back(chunk, slot, free, touched) {
        held.emptied();
    }
}

/// Room to write granules in that are copied later.
fn draft(granules: usize) -> Result<Box<[u8]>, Error> {
    let mut draft = Vec::new();
    draft.try_reserve_exact(granules * GRANULE).map_err(|_| Error::Memory)?;
    draft.resize(granules * GRANULE, INT3);
    Ok(draft.into_boxed_slice())
}

/// A number that looks random for each page.
fn scatter(page: usize) -> usize {
    let mixed = (page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize
}
