//! Where what was retired waits until its bytes may be used again: for two grace periods.
//!
//! ```text
//!   retire ──► open ──► retired batch ──(nobody in it)──► unlist ──► unlisted batch ──(nobody knows of it)──► ready
//!                 barrier, R := epoch, epoch += 1           barrier, R := epoch, epoch += 1
//!              └──────────── one reclaim ──────────────────────────┘└─────────── the next one ──────────────┘
//! ```
//!
//! Retiring appends to a list. Reclaiming closes the list as one batch, then looks at the participants once. What no
//! thread runs any more is *unlisted*: the owner makes sure that looking its addresses up finds nothing. A thread
//! may have looked it up just before, so the bytes, and what the owner keeps with them, wait once more, until each
//! participant has left or made a checkpoint. The next reclaim's barrier serves its own batch and the unlisted one, so
//! there is one barrier for each reclaim, however much it moves.
//!
//! A reclaim never waits for a thread to leave code: it asks those that hold something up ([`Participant::on_lag`]), and
//! what stays is looked at again by the next one. [`crate::grace::domain`] has the proof that nobody runs what is unlisted; with
//! "unlink" being the unlisting and "run" the use of what was looked up, it is also the proof of the second period.
//!
//! Nothing is lost for want of memory: what cannot be appended stays with the caller, what cannot be handed on
//! stays where it is. A caller that is to go for good has room *promised* for one batch before it takes the first item, so
//! that it can leave them all here whatever memory there is then.
//!
//! Cost: retiring, 23 ns or a lock for a batch; a reclaim that finds nothing retired, one load; else the barrier, a lock for each
//! participant, and 6 ns for each item that goes on.
//!
//! [`Participant::on_lag`]: crate::Participant::on_lag

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Error;
use crate::grace::domain::{Domain, View};
use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// What can be retired: it takes up addresses.
pub(crate) trait Extent {
    /// Where the code starts.
    fn address(&self) -> usize;

    /// The bytes of the code.
    fn len(&self) -> usize;
}

/// The epoch of a batch for which no barrier was passed yet: everybody is always behind it.
const UNCLOSED: u64 = u64::MAX;

/// Items that are retired and not yet handed out.
pub(crate) struct Quarantine<T> {
    /// What is here in all; read without a lock.
    len: AtomicUsize,
    bytes: AtomicUsize,
    /// The bytes of what is open.
    fresh: AtomicUsize,
    open: Mutex<Open<T>>,
    /// Held while somebody reclaims; taken before any other lock.
    waiting: Mutex<Waiting<T>>,
}

/// What was retired since the last reclaim.
struct Open<T> {
    items: Vec<T>,
    /// Batches of callers that are gone.
    left: Vec<Vec<T>>,
    /// For how many more there is room in `left`.
    promised: usize,
}

struct Waiting<T> {
    /// What participants may still run.
    retired: Stage<T>,
    /// What they may still have looked up.
    unlisted: Stage<T>,
    view: View,
}

/// Batches by their epochs.
struct Stage<T> {
    batches: Vec<Batch<T>>,
}

struct Batch<T> {
    epoch: u64,
    items: Vec<T>,
}

impl<T: Extent> Quarantine<T> {
    /// Nothing retired.
    pub(crate) fn new() -> Self {
        let (retired, unlisted) = (Stage { batches: Vec::new() }, Stage { batches: Vec::new() });
        Quarantine {
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            fresh: AtomicUsize::new(0),
            open: Mutex::new(Open { items: Vec::new(), left: Vec::new(), promised: 0 }),
            waiting: Mutex::new(Waiting { retired, unlisted, view: View::default() }),
        }
    }

    /// Takes all of `items`, which are unlinked, or none.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`]; then `items` are as they were.
    pub(crate) fn retire(&self, items: &mut Vec<T>) -> Result<(), Error> {
        let (len, bytes) = (items.len(), items.iter().map(T::len).sum());
        let mut open = lock(&self.open);
        open.items.try_reserve(len).map_err(|_| Error::Memory)?;
        open.items.append(items);
        self.count(len, bytes);
        Ok(())
    }

    /// Promises that one batch can be left here, whatever memory there is then.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`].
    pub(crate) fn promise(&self) -> Result<(), Error> {
        let mut open = lock(&self.open);
        let wanted = open.promised + 1;
        open.left.try_reserve(wanted).map_err(|_| Error::Memory)?;
        open.promised = wanted;
        Ok(())
    }

    /// Takes a batch that was promised room, which may be empty. Its items are unlinked.
    pub(crate) fn leave(&self, items: Vec<T>) {
        let mut open = lock(&self.open);
        open.promised = open.promised.checked_sub(1).expect("who leaves a batch was promised room");
        if !items.is_empty() {
            self.count(items.len(), items.iter().map(T::len).sum());
            open.left.push(items);
        }
    }

    /// Takes one item, which is unlinked, or gives it back for want of memory.
    pub(crate) fn retire_one(&self, item: T) -> Result<(), T> {
        let mut open = lock(&self.open);
        if open.items.try_reserve(1).is_err() {
            return Err(item);
        }
        self.count(1, item.len());
        open.items.push(item);
        Ok(())
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of code that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes of code that were retired since the last reclaim.
    pub(crate) fn fresh_bytes(&self) -> usize {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Hands out what was unlisted by an earlier call and is known to no participant of `domain` any more; unlists what was
    /// retired and is run by none. Each comes in the order in which it was retired, but for what was held up longer.
    /// While nobody runs code, two calls hand out everything.
    ///
    /// `unlist` makes looking the item up find nothing, or says that it cannot, so that it is tried again; it must
    /// not come back to this quarantine.
    ///
    /// # Errors
    ///
    /// What the barrier fails with, or [`Error::Memory`]; then all stays here.
    pub(crate) fn reclaim(
        &self,
        domain: &Domain,
        unlist: impl FnMut(&mut T) -> bool,
    ) -> Result<Vec<T>, Error> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let mut waiting = lock(&self.waiting);
        waiting.take(&mut lock(&self.open), &self.fresh)?;
        let newest = waiting.close(domain)?;
        domain.look(newest, &mut waiting.view)?;
        let ready = waiting.advance(unlist);
        self.len.fetch_sub(ready.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(ready.iter().map(T::len).sum(), Ordering::Relaxed);
        let behind = std::mem::take(&mut waiting.view.behind);
        drop(waiting);
        for ask in behind {
            // Were it to go on from here, what is ready would be lost.
            let _ = catch_unwind(AssertUnwindSafe(|| ask()));
        }
        Ok(ready)
    }

    /// Counts what is appended, under the lock of `open`, so that it is counted before it can be handed out.
    fn count(&self, len: usize, bytes: usize) {
        self.len.fetch_add(len, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.fresh.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl<T: Extent> Waiting<T> {
    /// Makes batches of what was retired since the last time.
    fn take(&mut self, open: &mut Open<T>, fresh: &AtomicUsize) -> Result<(), Error> {
        self.retired.batches.try_reserve(open.left.len() + 1).map_err(|_| Error::Memory)?;
        fresh.store(0, Ordering::Relaxed);
        // The room that is promised stays.
        let items = open.left.drain(..).chain([std::mem::take(&mut open.items)]);
        let batches = items.filter(|items| !items.is_empty()).map(|items| Batch { epoch: UNCLOSED, items });
        self.retired.batches.extend(batches);
        Ok(())
    }

    /// Ends the epoch if something was retired, or unlisted, that needs it. Returns the last epoch that anything waits for.
    fn close(&mut self, domain: &Domain) -> Result<u64, Error> {
        if self.retired.newest() == UNCLOSED || self.unlisted.newest() == UNCLOSED {
            let epoch = domain.advance()?;
            self.retired.stamp(epoch);
            self.unlisted.stamp(epoch);
        }
        Ok(self.retired.newest().max(self.unlisted.newest()))
    }

    /// Moves what nobody holds up: out of here, or from retired to unlisted.
    fn advance(&mut self, mut unlist: impl FnMut(&mut T) -> bool) -> Vec<T> {
        let ready = self.unlisted.take_free(&self.view, |_| true);
        if self.unlisted.batches.try_reserve(1).is_ok() {
            let items = self.retired.take_free(&self.view, &mut unlist);
            if !items.is_empty() {
                self.unlisted.batches.push(Batch { epoch: UNCLOSED, items });
            }
        }
        ready
    }
}

impl<T: Extent> Stage<T> {
    /// The last epoch, zero if there is none.
    fn newest(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.epoch)
    }

    /// Closes the batches that are not: there may be several after a barrier that failed.
    fn stamp(&mut self, epoch: u64) {
        self.batches
            .iter_mut()
            .rev()
            .take_while(|batch| batch.epoch == UNCLOSED)
            .for_each(|batch| batch.epoch = epoch);
    }

    /// What nobody holds up and `may_go`; what there is no memory to move stays, and is asked about again. If all of the first
    /// batch goes, which is usual, it goes as it is.
    fn take_free(&mut self, view: &View, mut may_go: impl FnMut(&mut T) -> bool) -> Vec<T> {
        let mut free = Vec::new();
        for batch in self.batches.iter_mut().take_while(|batch| view.is_past(batch.epoch)) {
            let mut goes = |item: &mut T| !view.holds(&extent(item)) && may_go(item);
            let first = batch.items.iter_mut().position(|item| !goes(item)).unwrap_or(batch.items.len());
            if free.is_empty() && first == batch.items.len() {
                free = std::mem::take(&mut batch.items);
                continue;
            }
            if free.try_reserve(batch.items.len()).is_err() {
                break;
            }
            // Those before the first one that stays go; the others were not asked about yet.
            let mut at = 0;
            free.extend(batch.items.extract_if(.., |item| {
                at += 1;
                at <= first || (at > first + 1 && goes(item))
            }));
        }
        self.batches.retain(|batch| !batch.items.is_empty());
        free
    }
}

/// The addresses by which one may go to the code: its first byte, and, since a call may be its last instruction, the
/// byte after it.
fn extent<T: Extent>(item: &T) -> RangeInclusive<usize> {
    item.address()..=item.address() + item.len()
}
