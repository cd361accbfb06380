//! A writer: reserves room in spans that it holds.
//!
//! ```text
//!   reserve ──► newest span ──► those before it ──► idle span of the lane ──► new span ──► reclaim ──► pressure
//!                  no lock                               lane's lock         mapping
//! ```
//!
//! A writer holds some spans of each lane, so that a large function does not make it abandon the room that
//! is left for small ones. While it holds a span nobody else takes granules of it or changes its bits, so that
//! reserving, publishing and retiring a small function take no lock, no atomic read-modify-write and no memory. What others free in its spans
//! waits with the lane, until the writer comes there for more room. OpenJ9 gives each compilation thread a whole code cache
//! for the same end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::ptr;

use crate::buffer::{CodeBuf, Layout};
use crate::classes;
use crate::code::Retired;
use crate::index::{Chunk, LEN_MAX, TRAILER};
use crate::lane::Lease;
use crate::pages::SPAN_GRANULES;
use crate::span::{Fit, FreeBits, OpenSpan, Runs, pages_of};
use crate::{
    Code, CodeSpace, Error, GRANULE, INT3, Lane, PAGE, Protection, Refused, Relief, SPAN, bits, hot,
};

/// How many spans of a lane a writer keeps.
const KEPT: usize = 8;
/// How many retired functions a writer keeps to itself before it hands them to the space.
const BATCH: usize = 256;
/// How often one allocation asks for room.
const PLEAS: usize = 8;
/// The pages of a span that are made ready at once.
const READY_PAGES: usize = 4;

/// Reserves and publishes code. One thread uses it at a time; it may be sent to another. Dropping it gives its spans back.
pub struct CodeWriter {
    space: CodeSpace,
    lanes: [RefCell<OpenLane>; 4],
    /// What was retired and not yet handed to the space.
    batch: RefCell<Vec<Retired>>,
    batch_bytes: Cell<usize>,
}

/// The spans of a lane that a writer holds.
#[derive(Debug, Default)]
pub(crate) struct OpenLane {
    /// The newest last.
    pub(crate) spans: Vec<OpenSpan>,
    /// For spans to come.
    spare: Vec<Runs>,
}

impl OpenLane {
    /// The span of a chunk that starts at an address, if the writer holds it.
    #[inline]
    pub(crate) fn span(&mut self, base: usize) -> Option<&mut OpenSpan> {
        self.spans.iter_mut().rev().find(|span| span.base == base)
    }

    /// The best fit among the newest spans.
    fn best(&self, count: usize, align: usize) -> Option<(usize, Fit)> {
        let newest = self.spans.iter().enumerate().rev().take(KEPT);
        let fits = newest.filter_map(|(at, span)| Some((at, span.runs.best(count, align)?)));
        fits.min_by_key(|(_, fit)| fit.run_len())
    }

    /// Room for one more span.
    fn prepare(&mut self) -> Result<Runs, Error> {
        self.spans.try_reserve(1).map_err(|_| Error::Memory)?;
        self.spare.try_reserve(self.spans.len() + 1).map_err(|_| Error::Memory)?;
        self.spare.pop().map_or_else(Runs::new, Ok)
    }
}

impl CodeWriter {
    pub(crate) fn new(space: CodeSpace) -> CodeWriter {
        let batch = RefCell::new(Vec::new());
        CodeWriter { space, lanes: Default::default(), batch, batch_bytes: Cell::new(0) }
    }

    /// The space that it writes to.
    pub fn space(&self) -> &CodeSpace {
        &self.space
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.space.shared().id
    }

    pub(crate) fn open_lane(&self, lane: Lane) -> &RefCell<OpenLane> {
        &self.lanes[lane as usize]
    }

    /// Reserves room for a function, filled with `int3`. Any number of buffers may be written at once.
    ///
    /// If there is no room, what was retired is reclaimed, and then the space's [`crate::Pressure`] is asked, before it fails.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] and [`Error::Align`] if there can be no such function, [`Error::Full`] if the space has no room within its limit,
    /// [`Error::Memory`], [`Error::Record`] and [`Error::System`] if the system refuses what is needed.
    #[inline]
    pub fn reserve(&self, layout: &Layout<'_>) -> Result<CodeBuf<'_>, Error> {
        let &Layout { size, align, lane, hot } = layout;
        if size == 0 || size > LEN_MAX {
            return Err(Error::Size { asked: size, limit: LEN_MAX });
        }
        if !align.is_power_of_two() || align > PAGE {
            return Err(Error::Align { asked: align });
        }
        let skew = if hot.is_empty() { 0 } else { hot::start_offset(align, size + TRAILER, hot) };
        let need = Need { skew, size, align, lane, granules: classes::granules(skew, size) };
        match self.place(&need) {
            Ok(buffer) => Ok(buffer),
            Err(error) => self.place_under_pressure(&need, error),
        }
    }

    #[inline]
    fn place(&self, need: &Need) -> Result<CodeBuf<'_>, Error> {
        if self.space.shared().is_packed(need.granules) {
            self.place_in_span(need)
        } else {
            self.place_in_pages(need)
        }
    }

    /// Makes room, tries again, and so on.
    #[cold]
    fn place_under_pressure(&self, need: &Need, error: Error) -> Result<CodeBuf<'_>, Error> {
        if matches!(error, Error::Size { .. } | Error::Unsupported { .. } | Error::Record) {
            return Err(error);
        }
        // Each reclaim takes what was retired one step further.
        for _ in 0..2 {
            self.reclaim_untold()?;
            if let Ok(buffer) = self.place(need) {
                return Ok(buffer);
            }
        }
        let mut error = error;
        if let Some(pressure) = &self.space.shared().pressure {
            for _ in 0..PLEAS {
                if pressure.relieve(&self.space, need.granules * GRANULE) == Relief::GiveUp {
                    break;
                }
                match self.place(need) {
                    Ok(buffer) => return Ok(buffer),
                    Err(next) => error = next,
                }
            }
        }
        Err(error)
    }

    #[inline]
    fn place_in_span(&self, need: &Need) -> Result<CodeBuf<'_>, Error> {
        let mut open = self.lanes[need.lane as usize].borrow_mut();
        let align = (need.align / GRANULE).max(1);
        if let Some(span) = open.spans.last_mut()
            && let Some(fit) = span.runs.best(need.granules, align)
            && fit.is_good()
        {
            return self.place_at(span, &fit, need);
        }
        let (span, fit) = self.find_span(&mut open, need, align)?;
        self.place_at(span, &fit, need)
    }

    /// Room in another span.
    #[cold]
    fn find_span<'o>(
        &self,
        open: &'o mut OpenLane,
        need: &Need,
        align: usize,
    ) -> Result<(&'o mut OpenSpan, Fit), Error> {
        let shared = self.space.shared();
        let mut found = open.best(need.granules, align);
        if found.is_none_or(|(_, fit)| !fit.is_good()) && self.collect(open, need.lane) {
            found = open.best(need.granules, align);
        }
        if found.is_none_or(|(_, fit)| !fit.is_good()) {
            let idle = shared.lane(need.lane).lease(need.granules, align);
            let lease = match (idle, found) {
                (Some(lease), _) => Some(lease),
                (None, Some(_)) => None,
                (None, None) => Some(shared.lease_new(need.lane)?),
            };
            if let Some(lease) = lease {
                self.open_span(open, lease)?;
                let last = open.spans.len() - 1;
                let fit = open.spans[last].runs.best(need.granules, align);
                found = Some((last, fit.expect("the lane gives out spans with room")));
            }
        }
        let (at, fit) = found.expect("there is room in a span that is held or was leased");
        Ok((&mut open.spans[at], fit))
    }

    /// Adds a span that was leased, and gives others back.
    fn open_span(&self, open: &mut OpenLane, lease: Lease) -> Result<(), Error> {
        let chunk = self.space.shared().chunk(lease.chunk);
        let Lease { chunk: reference, slot, base, free, touched } = lease;
        let opened = open.prepare().and_then(|runs| Ok((runs, chunk.memory().hold()?)));
        match opened {
            Ok((mut runs, view)) => {
                runs.clear();
                runs.add(&free);
                let view = view.map_or(ptr::null_mut(), |view| view.wrapping_add(base - chunk.base()));
                self.trim(open, KEPT - 1);
                open.spans.push(OpenSpan { chunk: reference, slot, base, view, runs, touched, buffers: 0 });
                Ok(())
            }
            Err(error) => {
                self.return_span(chunk, slot, &free, touched);
                Err(error)
            }
        }
    }

    /// Gives spans back until at most `keep` are left of those in which nothing is being written; those with the least room first.
    fn trim(&self, open: &mut OpenLane, keep: usize) {
        while open.spans.iter().filter(|span| span.buffers == 0).count() > keep {
            let idle = open.spans.iter().enumerate().filter(|(_, span)| span.buffers == 0);
            let Some((at, _)) = idle.min_by_key(|(_, span)| span.runs.longest()) else { break };
            let span = open.spans.remove(at);
            let runs = self.give_span(span);
            if open.spare.len() < open.spare.capacity() {
                open.spare.push(runs);
            }
        }
    }

    fn give_span(&self, span: OpenSpan) -> Runs {
        let chunk = self.space.shared().chunk(span.chunk);
        chunk.memory().release();
        self.return_span(chunk, span.slot, &span.runs.bits(), span.touched);
        span.runs
    }

    fn return_span(&self, chunk: &Chunk, slot: usize, free: &FreeBits, touched: u16) {
        let shared = self.space.shared();
        let is_free = shared.lane(chunk.lane()).take_back(chunk, slot, free, touched);
        if is_free {
            shared.discharge(SPAN);
            shared.tidy(chunk.lane());
        }
    }

    /// The buffer at a place in a span.
    #[inline]
    fn place_at(&self, span: &mut OpenSpan, fit: &Fit, need: &Need) -> Result<CodeBuf<'_>, Error> {
        let chunk = self.space.shared().chunk(span.chunk);
        let pages = pages_of(fit.start(), need.granules);
        if span.touched & pages != pages {
            self.touch(chunk, span, pages)?;
        }
        let draft = if span.view.is_null() { draft(need.granules)? } else { Vec::new() };
        let inside = span.runs.take(fit) * GRANULE + need.skew;
        let offset = span.base - chunk.base() + inside;
        let to = if span.view.is_null() { ptr::null_mut() } else { span.view.wrapping_add(inside) };
        span.buffers += 1;
        Ok(CodeBuf { writer: self, chunk, offset, len: need.size as u32, pages: false, to, draft })
    }

    /// Makes pages of a span ready, and some behind them.
    #[cold]
    fn touch(&self, chunk: &Chunk, span: &mut OpenSpan, pages: u16) -> Result<(), Error> {
        let first = (span.base - chunk.base()) / PAGE;
        let limit = (chunk.pages() - first).min(SPAN / PAGE);
        let end = (u16::BITS - pages.leading_zeros()) as usize;
        let end = end.next_multiple_of(READY_PAGES).min(limit);
        let mut page = pages.trailing_zeros() as usize;
        while page < end {
            let run = (span.touched >> page).trailing_ones() as usize;
            page += run;
            if page >= end {
                break;
            }
            let count = ((span.touched >> page).trailing_zeros() as usize).min(end - page);
            self.space.shared().prepare(chunk, first + page..first + page + count)?;
            span.touched |= (((1_u32 << count) - 1) << page) as u16;
            page += count;
        }
        Ok(())
    }

    /// Room in pages of its own.
    #[cold]
    fn place_in_pages(&self, need: &Need) -> Result<CodeBuf<'_>, Error> {
        let shared = self.space.shared();
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
        match self.open_pages(chunk, used.clone(), need) {
            Ok((view, draft)) => {
                let offset = used.start * PAGE + colour + need.skew;
                let to = view.map_or(ptr::null_mut(), |view| view.wrapping_add(offset));
                Ok(CodeBuf { writer: self, chunk, offset, len: need.size as u32, pages: true, to, draft })
            }
            Err(error) => {
                shared.give_pages(&mut shared.lane(need.lane), chunk, taken.pages);
                Err(error)
            }
        }
    }

    /// Makes pages ready to be written: the chunk's write view, or room for a draft.
    fn open_pages(
        &self,
        chunk: &Chunk,
        used: Range<usize>,
        need: &Need,
    ) -> Result<(Option<*mut u8>, Vec<u8>), Error> {
        let shared = self.space.shared();
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
                Ok((Some(first.wrapping_sub(used.start * PAGE)), Vec::new()))
            }
            Protection::NoAlias => Ok((None, draft(need.granules)?)),
            Protection::Dual | Protection::Session => Ok((memory.hold()?, Vec::new())),
        }
    }

    /// Ends the writing of a buffer; its granules are free again if it was not published.
    #[inline]
    pub(crate) fn written(&self, buffer: &CodeBuf<'_>, unused: Option<Range<usize>>) {
        let chunk = buffer.chunk;
        if buffer.pages {
            return self.pages_written(buffer, unused.is_some());
        }
        let mut open = self.lanes[chunk.lane() as usize].borrow_mut();
        let base = chunk.base() + buffer.offset / SPAN * SPAN;
        let span = open.span(base).expect("a span in which something is written is held");
        span.buffers -= 1;
        if let Some(granules) = unused {
            span.runs.give(granules.start % SPAN_GRANULES, granules.len());
        }
    }

    #[cold]
    fn pages_written(&self, buffer: &CodeBuf<'_>, is_unused: bool) {
        let (shared, chunk) = (self.space.shared(), buffer.chunk);
        if chunk.memory().mode() == Protection::Session {
            chunk.memory().release();
        }
        if is_unused {
            let run = classes::page_run(buffer.offset, buffer.len());
            shared.give_pages(&mut shared.lane(chunk.lane()), chunk, run);
            shared.tidy(chunk.lane());
        }
    }

    /// Takes code out that nothing leads to any more, as [`CodeSpace::retire`] does. It may stay with the writer for a while: until there are many, until
    /// the writer reclaims, or until it is dropped.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::retire`].
    #[inline]
    pub fn retire(&self, code: Code) -> Result<(), Refused> {
        let code = self.space.shared().own(code)?;
        let mut batch = self.batch.borrow_mut();
        if batch.len() == batch.capacity() && batch.try_reserve_exact(BATCH).is_err() {
            return Err(Refused { code, error: Error::Memory });
        }
        self.batch_bytes.set(self.batch_bytes.get() + code.len());
        batch.push(Retired { code, owner: None });
        if batch.len() >= BATCH || self.batch_bytes.get() >= self.space.shared().quarantine_bytes {
            drop(batch);
            // Without memory it stays here, and is tried again.
            let _ = self.flush();
        }
        Ok(())
    }

    /// Hands what was retired to the space.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            return Ok(());
        }
        self.space.shared().quarantine.retire(&mut batch)?;
        self.batch_bytes.set(0);
        Ok(())
    }

    /// Frees code at once, as [`CodeSpace::free`] does.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::free`].
    ///
    /// # Safety
    ///
    /// As for [`CodeSpace::free`].
    #[inline]
    pub unsafe fn free(&self, code: Code) -> Result<usize, Refused> {
        self.space.shared().free(code, Some(self))
    }

    /// Gives all spans back that nothing is being written in, and what was retired: for a writer that rests.
    pub fn rest(&self) {
        let _ = self.flush();
        for lane in &self.lanes {
            self.trim(&mut lane.borrow_mut(), 0);
        }
    }

    /// Takes over what others have freed in the spans of a lane. Returns whether there was anything.
    fn collect(&self, open: &mut OpenLane, lane: Lane) -> bool {
        let shared = self.space.shared();
        let mut state = shared.lane(lane);
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

impl Drop for CodeWriter {
    fn drop(&mut self) {
        let _ = self.flush();
        for lane in &self.lanes {
            // A buffer that was leaked keeps its granules, not the span.
            for span in std::mem::take(&mut *lane.borrow_mut()).spans {
                self.give_span(span);
            }
        }
    }
}

impl fmt::Debug for CodeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeWriter").field("space", &self.space).finish_non_exhaustive()
    }
}

/// What is asked for, checked.
#[derive(Debug)]
struct Need {
    /// The bytes before the code in its first granule.
    skew: usize,
    size: usize,
    align: usize,
    lane: Lane,
    granules: usize,
}

/// Room to write granules in that are copied later.
fn draft(granules: usize) -> Result<Vec<u8>, Error> {
    let mut draft = Vec::new();
    draft.try_reserve_exact(granules * GRANULE).map_err(|_| Error::Memory)?;
    draft.resize(granules * GRANULE, INT3);
    Ok(draft)
}

/// A number that looks random for each page.
fn scatter(page: usize) -> usize {
    let mixed = (page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize
}
