//! Giving the room of retired and freed code back.
//!
//! ```text
//!   quarantine ─► ready, nearly in order   ─► int3 ─► told to the owner ─► granules: to the writer's own span
//!                                            (runs)                                  or to the lane, under its lock
//! ```
//!
//! What is ready belongs to the reclaimer alone, so that only the last step needs a lock. Functions side by side are filled
//! and given back as one. The owner is told before the room may be used again, and with no lock held, so that it may use the
//! space meanwhile.

use std::ptr;

use crate::code::Retired;
use crate::code::release::Release;
use crate::heap::index::{Chunk, Found};
use crate::heap::pages::SPAN_GRANULES;
use crate::memory::Session;
use crate::space::{Shared, lock};
use crate::{Code, CodeSpace, CodeWriter, Error, GRANULE, INT3, Refused};

/// What part of what makes a reclaim worthwhile has to be new.
const FRESH: usize = 4;

/// So many functions may be freed by allocations and not told yet. Beyond that allocations reclaim nothing, so that an owner who
/// never reclaims runs out of room, not of memory.
const UNTOLD_MAX: usize = 1 << 16;

/// The least average length of ascending stretches that are not sorted.
const STRETCH: usize = 32;

/// What a reclaim achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Functions whose room may be used again.
    pub freed: usize,
    /// Their bytes.
    pub freed_bytes: usize,
    /// Functions that wait on.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
}

impl CodeSpace {
    /// Frees what was retired and what no thread can run or know of any more, and says each of it to `freed`, which may use
    /// the space. It never waits for another thread; what is not ready stays.
    ///
    /// Code goes through two grace periods. The first call after it was retired makes lookups find it no more, if no thread
    /// runs it; the next one frees it, if each thread that may have looked it up has left since or named what it needs. An
    /// allocation that finds no room reclaims too; what it frees is said to the next call's `freed`, so that an address said
    /// there may already be that of other code: the owner tells which code it was. Once allocations have
    /// freed 65,536 functions that were not told, they free no more before this is called.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`], or [`Error::System`] if the barrier fails or memory cannot be written; what was not freed stays.
    pub fn reclaim(&self, freed: &mut dyn FnMut(Found)) -> Result<Reclaimed, Error> {
        self.shared().reclaim(None, freed)
    }

    /// Whether so much waits that reclaiming is worthwhile: [`crate::Options::quarantine_bytes`], at least a quarter of
    /// which was retired since the last reclaim. So what a thread holds up does not make each retired function pay for a
    /// barrier.
    #[inline]
    pub fn is_reclaim_due(&self) -> bool {
        let (quarantine, enough) = (&self.shared().quarantine, self.shared().quarantine_bytes);
        quarantine.bytes() >= enough && quarantine.fresh_bytes() >= enough / FRESH
    }
}

impl CodeWriter {
    /// Hands what it retired to the space and reclaims, as [`CodeSpace::reclaim`] does; quicker for what lies in the
    /// writer's own spans.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::reclaim`].
    pub fn reclaim(&self, freed: &mut dyn FnMut(Found)) -> Result<Reclaimed, Error> {
        self.flush()?;
        self.space().shared().reclaim(Some(self), freed)
    }

    /// Reclaims for an allocation that found no room. What is freed is said at the next reclaim.
    pub(crate) fn reclaim_untold(&self) -> Result<(), Error> {
        self.return_freed();
        self.flush()?;
        let shared = self.space().shared();
        if lock(&shared.untold).len() >= UNTOLD_MAX {
            return Ok(());
        }
        let mut ready = Ready::new(shared, Some(self))?;
        let mut untold = lock(&shared.untold);
        untold.try_reserve(ready.filled).map_err(|_| Error::Memory)?;
        untold.extend(ready.items[..ready.filled].iter().map(found));
        drop(untold);
        ready.told = ready.filled;
        ready.end()
    }
}

fn found(retired: &Retired) -> Found {
    let Retired { code, owner } = retired;
    Found { address: code.address(), len: code.len(), owner: owner.unwrap_or_default() }
}

impl Shared {
    fn reclaim(&self, writer: Option<&CodeWriter>, freed: &mut dyn FnMut(Found)) -> Result<Reclaimed, Error> {
        let mut reclaimed = Reclaimed::default();
        let mut count = |found: &Found| {
            reclaimed.freed += 1;
            reclaimed.freed_bytes += found.len;
        };
        // One at a time: should `freed` panic the rest is said the next time.
        loop {
            let Some(found) = ({ lock(&self.untold).pop() }) else { break };
            count(&found);
            freed(found);
        }
        let mut ready = Ready::new(self, writer)?;
        while ready.told < ready.filled {
            let found = found(&ready.items[ready.told]);
            ready.told += 1;
            count(&found);
            freed(found);
        }
        ready.end()?;
        reclaimed.waiting = self.quarantine.len();
        reclaimed.waiting_bytes = self.quarantine.bytes();
        Ok(reclaimed)
    }

    /// What may be freed. Unless it is nothing, it may be left in the quarantine again, whatever memory there is.
    fn take_ready(&self) -> Result<Vec<Retired>, Error> {
        if self.quarantine.is_empty() {
            return Ok(Vec::new());
        }
        self.quarantine.promise()?;
        let mut last = None;
        let ready = self.quarantine.reclaim(self.domain, |retired| {
            let chunk = self.chunk_of(&retired.code, last);
            last = Some(chunk);
            retired.unlist(chunk)
        });
        if !ready.as_ref().is_ok_and(|ready| !ready.is_empty()) {
            self.quarantine.leave(Vec::new());
        }
        ready
    }

    /// Frees code that nobody runs.
    pub(crate) fn free(&self, code: Code, writer: Option<&CodeWriter>) -> Result<(), Refused> {
        let code = self.own(code)?;
        let Some(chunk) = self.directory.chunk(code.address()) else {
            return Err(Refused { error: Error::NotCode { address: code.address() }, code });
        };
        if let Err(error) = self.check_process() {
            return Err(Refused { code, error });
        }
        let granules = chunk.granules_of(&code);
        let start = granules.start * GRANULE;
        match chunk.memory().direct() {
            // SAFETY: the granules lie in the view and are the code's, which nobody else has, and which nobody runs, says the caller of
            // the public function.
            Some(view) => unsafe { ptr::write_bytes(view.add(start), INT3, granules.len() * GRANULE) },
            None => {
                // SAFETY: as above.
                if let Err(error) = unsafe { chunk.memory().fill_int3(start..granules.end * GRANULE) } {
                    return Err(Refused { code, error });
                }
            }
        }
        if let Some(observers) = &self.observers {
            observers.freed(code.address());
        }
        let mut release = Release::new(self, writer);
        if self.is_packed(granules.len()) {
            release.give(chunk, granules);
        } else {
            release.give_pages(chunk, &code);
        }
        Ok(())
    }
}

/// Code whose bytes may be used again. What was told when it is dropped is given back, the rest waits on.
struct Ready<'a> {
    space: &'a Shared,
    writer: Option<&'a CodeWriter>,
    /// Sorted by address, or in a few stretches that are. While there are any, they may be left in the quarantine.
    items: Vec<Retired>,
    /// How many of them are `int3`.
    filled: usize,
    /// How many of them the owner knows of.
    told: usize,
    result: Result<(), Error>,
}

impl<'a> Ready<'a> {
    fn new(space: &'a Shared, writer: Option<&'a CodeWriter>) -> Result<Ready<'a>, Error> {
        space.check_process()?;
        let mut items = space.take_ready()?;
        sort(&mut items);
        let mut ready = Ready { space, writer, items, filled: 0, told: 0, result: Ok(()) };
        ready.result = ready.fill();
        Ok(ready)
    }

    /// Makes the bytes `int3`, those of neighbours at once.
    fn fill(&mut self) -> Result<(), Error> {
        let mut view: Option<(&Chunk, Session<'_>)> = None;
        while let Some(first) = self.items.get(self.filled) {
            let (chunk, session) = match view.take() {
                Some((chunk, session)) if chunk.holds(first.code.address()) => (chunk, session),
                _ => {
                    let chunk =
                        self.space.directory.chunk(first.code.address()).expect("code lies in a chunk");
                    (chunk, chunk.memory().open()?)
                }
            };
            let mut granules = chunk.granules_of(&first.code);
            let mut count = 1;
            for next in &self.items[self.filled + 1..] {
                if !chunk.holds(next.code.address()) {
                    break;
                }
                let more = chunk.granules_of(&next.code);
                if more.start != granules.end {
                    break;
                }
                granules.end = more.end;
                count += 1;
            }
            let bytes = granules.start * GRANULE..granules.end * GRANULE;
            match session.pointer() {
                // SAFETY: the granules lie in the view, and are those of code that is past its grace: nobody else has them.
                Some(to) => unsafe { ptr::write_bytes(to.add(bytes.start), INT3, bytes.len()) },
                // SAFETY: as above; nobody runs what is there.
                None => unsafe { chunk.memory().fill_int3(bytes) }?,
            }
            self.filled += count;
            view = Some((chunk, session));
        }
        Ok(())
    }

    /// Gives back what was told, and says what went wrong.
    fn end(mut self) -> Result<(), Error> {
        std::mem::replace(&mut self.result, Ok(()))
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        if let Some(observers) = &self.space.observers {
            for retired in &self.items[..self.told] {
                observers.freed(retired.code.address());
            }
        }
        let mut release = Release::new(self.space, self.writer);
        let mut told = self.items[..self.told].iter().map(|retired| &retired.code).peekable();
        while let Some(code) = told.next() {
            let chunk = self.space.directory.chunk(code.address()).expect("code lies in a chunk");
            let mut granules = chunk.granules_of(code);
            if !self.space.is_packed(granules.len()) {
                release.give_pages(chunk, code);
                continue;
            }
            // Neighbours in a span are given back as one.
            while let Some(next) = told.peek() {
                let more = chunk.holds(next.address()).then(|| chunk.granules_of(next));
                let Some(more) = more.filter(|more| {
                    more.start == granules.end
                        && !more.start.is_multiple_of(SPAN_GRANULES)
                        && self.space.is_packed(more.len())
                }) else {
                    break;
                };
                granules.end = more.end;
                told.next();
            }
            release.give(chunk, granules);
        }
        drop(release);
        if !self.items.is_empty() {
            self.items.drain(..self.told);
            self.space.quarantine.leave(std::mem::take(&mut self.items));
        }
    }
}

/// Sorts by address what is not in a few ascending stretches anyway, as code is that was retired in the order in which it was
/// placed: what matters is that most neighbours stand together, and that chunks do not take turns all the time.
fn sort(items: &mut [Retired]) {
    let descents = items.windows(2).filter(|pair| pair[0].code.address() > pair[1].code.address()).count();
    if descents > items.len() / STRETCH {
        items.sort_unstable_by_key(|retired| retired.code.address());
    }
}
