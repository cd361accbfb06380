//! A writer: reserves room in spans that it holds.
//!
//! ```text
//!   reserve ──► newest span ──► those before it ──► idle span of the lane ──► new span ──► reclaim ──► pressure
//!                  no lock                               lane's lock         mapping
//! ```
//!
//! A writer holds some spans of each lane, so that a large function does not make it abandon the room that is left for
//! small ones. While it holds a span nobody else takes granules of it or changes its bits, so that reserving,
//! publishing and freeing a small function take no lock, no atomic read-modify-write and no memory; what is retired is
//! handed to the space in batches, under a lock, and so is the room of what it frees in spans that it does not hold
//! ([`crate::code::release`]). What others free in its spans waits with the lane, until the writer comes there for more
//! room. OpenJ9 gives each compilation thread a whole code cache for the same end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ptr;

use crate::code::Retired;
use crate::code::buffer::{BufferParts, CodeBuf, Kind, Layout};
use crate::code::placing::Need;
use crate::code::release::{FREED_MAX, Freed, Held};
use crate::heap::classes::{self, PACKED_MAX};
use crate::heap::hot;
use crate::heap::index::{Chunk, LEN_MAX, TRAILER};
use crate::heap::pages::SPAN_GRANULES;
use crate::heap::span::{Fit, OpenSpan, Runs};
use crate::{Code, CodeSpace, Error, GRANULE, HotEdge, INT3, Lane, PAGE, Refused, Relief, SPAN};

/// How many spans of a lane a writer keeps. What is retired and what waits for its second grace fill four of them: with three, a
/// thread that retires as fast as it publishes leases twice as often.
pub(crate) const KEPT: usize = 4;
/// How many retired functions a writer keeps to itself before it hands them to the space.
const BATCH: usize = 256;
/// How often one allocation asks for room.
const PLEAS: usize = 8;

thread_local! {
    /// Whether this thread is asking somebody to make room.
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, its thread is asking somebody to make room. What that one allocates meanwhile is refused if there is no
/// room: nobody is asked within an answer.
struct Asking;

impl Asking {
    fn begin() -> Option<Asking> {
        (!IS_ASKING.replace(true)).then(|| Asking)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        IS_ASKING.set(false);
    }
}

/// Reserves and publishes code. One thread uses it at a time; it may be sent to another. Dropping it gives its spans back.
pub struct CodeWriter {
    space: CodeSpace,
    /// The most bytes of a function that is packed in spans wherever it starts.
    packed_max: usize,
    lanes: [RefCell<OpenLane>; 4],
    /// Where a span became the newest last.
    recent: Cell<Lane>,
    /// What was retired and not yet handed to the space. While it has any room at all it may be left in the quarantine.
    batch: RefCell<Vec<Retired>>,
    batch_bytes: Cell<usize>,
}

/// The spans of a lane that a writer holds.
#[derive(Debug, Default)]
pub(crate) struct OpenLane {
    /// The newest last.
    pub(crate) spans: Vec<OpenSpan>,
    /// Where something is being written and nothing more is placed, by where they start.
    pub(crate) aside: HashMap<usize, OpenSpan, BuildHasherDefault<DefaultHasher>>,
    /// For spans to come.
    pub(crate) spare: Vec<Runs>,
    /// What was freed in spans that the writer does not hold. There is room for [`FREED_MAX`] once it has held one.
    pub(crate) freed: Vec<Freed>,
}

impl OpenLane {
    /// The span that an address lies in, if the writer holds it.
    #[inline]
    pub(crate) fn span(&mut self, address: usize) -> Option<&mut OpenSpan> {
        let found = self.spans.iter_mut().rev().find(|span| span.holds(address));
        found.or_else(|| self.aside.get_mut(&(address & !(SPAN - 1))))
    }

    /// A good fit in one of the newest spans.
    pub(crate) fn good(&self, count: usize, align: usize) -> Option<(usize, Fit)> {
        let newest = self.spans.iter().enumerate().rev().take(KEPT);
        if align == 1 {
            return newest
                .filter_map(|(at, span)| Some((at, span.runs.good(count)?)))
                .min_by_key(|(_, fit)| fit.rank());
        }
        let fits = newest.filter_map(|(at, span)| Some((at, span.runs.best(count, align)?)));
        fits.filter(|(_, fit)| fit.is_good()).min_by_key(|(_, fit)| fit.rank())
    }

    /// The best fit among the newest spans, good or not.
    pub(crate) fn best(&self, count: usize, align: usize) -> Option<(usize, Fit)> {
        let newest = self.spans.iter().enumerate().rev().take(KEPT);
        let fits = newest.filter_map(|(at, span)| Some((at, span.runs.best(count, align)?)));
        fits.min_by_key(|(_, fit)| fit.rank())
    }

    /// Room for one more span.
    pub(crate) fn prepare(&mut self) -> Result<Runs, Error> {
        self.spans.try_reserve(1).map_err(|_| Error::Memory)?;
        self.spare.try_reserve(self.spans.len() + 1).map_err(|_| Error::Memory)?;
        self.freed.try_reserve(FREED_MAX - self.freed.len()).map_err(|_| Error::Memory)?;
        self.spare.pop().map_or_else(Runs::new, Ok)
    }
}

impl CodeWriter {
    pub(crate) fn new(space: CodeSpace) -> CodeWriter {
        let batch = RefCell::new(Vec::new());
        let packed_max = if space.shared().is_packed(1) { PACKED_MAX - GRANULE - TRAILER } else { 0 };
        CodeWriter {
            space,
            packed_max,
            lanes: Default::default(),
            recent: Cell::new(Lane::Baseline),
            batch,
            batch_bytes: Cell::new(0),
        }
    }

    /// The space that it writes to.
    pub fn space(&self) -> &CodeSpace {
        &self.space
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.space.shared().id
    }

    /// Says in which lane a span is the newest from now on.
    pub(crate) fn turn_to(&self, lane: Lane) {
        self.recent.set(lane);
    }

    pub(crate) fn open_lane(&self, lane: Lane) -> &RefCell<OpenLane> {
        &self.lanes[lane as usize]
    }

    /// Reserves room for a function, filled with `int3`. Any number of buffers may be written at once.
    ///
    /// If there is no room, what was retired is reclaimed, and then the space's [`crate::Pressure`] is asked, before it
    /// fails.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] and [`Error::Align`] if there can be no such function, [`Error::Full`] if the space has no room
    /// within its limit, [`Error::Memory`], and [`Error::System`] if the system refuses what is needed.
    #[inline(always)]
    pub fn reserve(&self, layout: &Layout<'_>) -> Result<CodeBuf<'_>, Error> {
        let size = layout.size;
        // What is usual: a small function without hot loops, for which the newest span has room.
        if size.wrapping_sub(1) < self.packed_max && layout.align <= GRANULE && layout.hot.is_empty() {
            let granules = classes::granules(0, size);
            let mut open = self.lanes[layout.lane as usize].borrow_mut();
            if layout.align.is_power_of_two()
                && let Some(span) = open.spans.last_mut()
                && let Some(fit) = span.runs.good(granules)
                && span.is_touched(&fit)
                && !span.view.is_null()
                && !self.space.shared().process.is_another()
            {
                return Ok(self.buffer_in(span, &fit, 0, size));
            }
        }
        // Taken apart and put together again, so that what is usual needs no buffer in memory, which the compiler would fill
        // word by word and copy by two, for which the processor waits.
        let BufferParts { chunk, to, offset, len, kind, is_draft } =
            self.reserve_anywhere(size, layout.align, layout.lane, layout.hot)?;
        Ok(CodeBuf { writer: self, chunk, to, offset, len, kind, is_draft })
    }

    /// The buffer at a place in a span, all of whose pages are ready and can be written through its view.
    #[inline(always)]
    pub(crate) fn buffer_in(&self, span: &mut OpenSpan, fit: &Fit, skew: usize, size: usize) -> CodeBuf<'_> {
        let chunk = self.space.shared().chunk(span.chunk);
        let inside = span.runs.take(fit) * GRANULE + skew;
        span.buffers += 1;
        CodeBuf {
            writer: self,
            chunk,
            to: span.view.wrapping_add(inside),
            offset: (span.base - chunk.base() + inside) as u32,
            len: size as u32,
            kind: Kind::Packed,
            is_draft: false,
        }
    }

    /// Reserves room of any kind.
    #[cold]
    #[inline(never)]
    fn reserve_anywhere(
        &self,
        size: usize,
        align: usize,
        lane: Lane,
        hot: &[HotEdge],
    ) -> Result<BufferParts<'_>, Error> {
        if size == 0 || size > LEN_MAX {
            return Err(Error::Size { asked: size, limit: LEN_MAX });
        }
        if !align.is_power_of_two() || align > PAGE {
            return Err(Error::Align { asked: align });
        }
        self.space.shared().check_process()?;
        let skew = hot::start_offset(align, size + TRAILER, hot);
        let need = Need { skew, size, align, lane, granules: classes::granules(skew, size) };
        let placed = self.place(&need).or_else(|error| self.place_under_pressure(&need, error));
        placed.map(CodeBuf::into_parts)
    }

    /// Makes room, tries again, and so on.
    #[cold]
    fn place_under_pressure(&self, need: &Need, error: Error) -> Result<CodeBuf<'_>, Error> {
        if matches!(error, Error::Size { .. } | Error::Unsupported { .. }) {
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
        if let Some(pressure) = &self.space.shared().pressure
            && let Some(_asking) = Asking::begin()
        {
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

    /// Ends the writing of a buffer at `offset` of a chunk; if it was not published its length tells what is free again.
    #[inline]
    pub(crate) fn written(&self, chunk: &Chunk, offset: u32, kind: Kind, unused_len: Option<u32>) {
        let offset = offset as usize;
        if kind != Kind::Packed {
            return self.pages_written(chunk, offset, unused_len);
        }
        let mut open = self.lanes[chunk.lane() as usize].borrow_mut();
        let span = open.span(chunk.base() + offset).expect("a span in which something is written is held");
        span.buffers -= 1;
        if let Some(len) = unused_len {
            span.runs.give(offset % SPAN / GRANULE, classes::granules(offset % GRANULE, len as usize));
        }
        if !open.aside.is_empty() {
            self.end_aside(&mut open, chunk.base() + offset);
        }
    }

    /// Takes code out that nothing leads to any more, as [`CodeSpace::retire`] does. It may stay with the writer for a
    /// while: until there are many, until the writer reclaims, or until it is dropped.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::retire`].
    #[inline]
    pub fn retire(&self, code: Code) -> Result<(), Refused> {
        let code = self.space.shared().own(code)?;
        let mut batch = self.batch.borrow_mut();
        if batch.len() == batch.capacity()
            && let Err(error) = self.grow(&mut batch)
        {
            return Err(Refused { code, error });
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

    /// Makes room in the batch, of which nothing is to be lost when the writer is dropped.
    #[cold]
    fn grow(&self, batch: &mut Vec<Retired>) -> Result<(), Error> {
        let is_first = batch.capacity() == 0;
        batch.try_reserve_exact(BATCH).map_err(|_| Error::Memory)?;
        if is_first && let Err(error) = self.space.shared().quarantine.promise() {
            *batch = Vec::new();
            return Err(error);
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

    /// Frees code at once, as [`CodeSpace::free`] does. The room of a few functions stays with the writer for a while: until it
    /// needs more room, until it rests, or until it is dropped.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::free`].
    ///
    /// # Safety
    ///
    /// As for [`CodeSpace::free`].
    #[inline]
    pub unsafe fn free(&self, code: Code) -> Result<(), Refused> {
        let shared = self.space.shared();
        // What was looked for in vain need not be looked for again.
        let mut is_held = true;
        // Observers must be told, which is no matter of nanoseconds.
        if code.space == shared.id
            && shared.observers.is_none()
            && let Some(lane) = self.lane_of(code.address)
            && !shared.process.is_another()
        {
            let mut open = self.lanes[lane as usize].borrow_mut();
            let span = open.span(code.address);
            is_held = span.is_some();
            if let Some(span) = span {
                if !span.view.is_null() {
                    let chunk = shared.chunk(span.chunk);
                    let granules = chunk.granules_of(&code);
                    let inside = granules.start % SPAN_GRANULES;
                    let to = span.view.wrapping_add(inside * GRANULE);
                    // SAFETY: the granules are the code's, which nobody runs or looks at, says the caller; they lie in the
                    // span, the view of which is mapped while it is held.
                    unsafe { ptr::write_bytes(to, INT3, granules.len() * GRANULE) };
                    chunk.unmark_one(granules.end - 1);
                    span.runs.give(inside, granules.len());
                    return Ok(());
                }
            } else {
                // SAFETY: the caller's contract is the same.
                let is_kept = unsafe { self.keep_back(&mut open, lane, &code) }.is_some();
                if is_kept {
                    return Ok(());
                }
            }
        }
        shared.free(code, is_held.then_some(self))
    }

    /// Frees code that nobody runs or looks at, in a span of the lane that the writer does not hold, and keeps its room back.
    /// None if it has pages of its own, or cannot be written that way: then nothing has changed.
    ///
    /// # Safety
    ///
    /// As [`CodeWriter::free`].
    #[inline(never)]
    unsafe fn keep_back(&self, open: &mut OpenLane, lane: Lane, code: &Code) -> Option<()> {
        let shared = self.space.shared();
        let reference = shared.directory.find(code.address)?;
        let chunk = shared.chunk(reference);
        let granules = chunk.granules_of(code);
        if !shared.is_packed(granules.len()) || open.freed.capacity() < FREED_MAX {
            return None;
        }
        let to = chunk.memory().direct()?.wrapping_add(granules.start * GRANULE);
        // SAFETY: the granules lie in the view and are the code's, which nobody else has, and which nobody runs or looks at, says the caller.
        unsafe { ptr::write_bytes(to, INT3, granules.len() * GRANULE) };
        if open.freed.len() == FREED_MAX {
            let mut held = Held::lock(shared, lane);
            held.free_all(open);
            held.end(lane);
        }
        open.freed.push(Freed { chunk: reference, granules });
        Some(())
    }

    /// The lane of an address. That of the newest span is known without asking for its chunk, so that what depends on the
    /// chunk need not wait for the address.
    #[inline]
    fn lane_of(&self, address: usize) -> Option<Lane> {
        let recent = self.recent.get();
        if self.lanes[recent as usize].borrow().spans.last().is_some_and(|span| span.holds(address)) {
            return Some(recent);
        }
        self.space.shared().directory.chunk(address).map(Chunk::lane)
    }

    /// Gives all spans back that nothing is being written in, and what was retired: for a writer that rests.
    pub fn rest(&self) {
        let _ = self.flush();
        for lane in Lane::ALL {
            let mut open = self.open_lane(lane).borrow_mut();
            if !open.spans.is_empty() || !open.freed.is_empty() {
                let mut held = Held::lock(self.space.shared(), lane);
                held.free_all(&mut open);
                self.trim(&mut open, 0, &mut held);
                held.end(lane);
            }
        }
    }

    /// Gives back the room of what was freed.
    pub(crate) fn return_freed(&self) {
        for lane in Lane::ALL {
            let mut open = self.open_lane(lane).borrow_mut();
            if !open.freed.is_empty() {
                let mut held = Held::lock(self.space.shared(), lane);
                held.free_all(&mut open);
                held.end(lane);
            }
        }
    }
}

impl Drop for CodeWriter {
    fn drop(&mut self) {
        let batch = self.batch.take();
        if batch.capacity() > 0 {
            self.space.shared().quarantine.leave(batch);
        }
        for lane in Lane::ALL {
            let mut open = std::mem::take(&mut *self.open_lane(lane).borrow_mut());
            if open.spans.is_empty() && open.aside.is_empty() && open.freed.is_empty() {
                continue;
            }
            let mut held = Held::lock(self.space.shared(), lane);
            held.free_all(&mut open);
            // A buffer that was leaked keeps its granules, not the span.
            for span in open.spans.into_iter().chain(open.aside.into_values()) {
                self.give_span(span, &mut held);
            }
            held.end(lane);
        }
    }
}

impl fmt::Debug for CodeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeWriter").field("space", &self.space).finish_non_exhaustive()
    }
}
