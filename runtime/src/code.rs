//! Installed code: what stands in a code space, found again by an address within it.
//!
//! ```text
//!   batch ── reserve ──► Pending ── install ──► published; its owner word leads to its body
//!                                                    │
//!   evict ── unlink, retire ──► reclaim ──► freed ───┴──► body dropped
//! ```
//!
//! *Looking up* takes no lock: the space finds code by its bits and trailer, and the trailer's owner word is the address of the
//! body. A thread that has entered compiled code may use a body until it leaves, for the space reclaims nothing
//! that such a thread may know of; all others get copies ([`CodeTable::find`]).
//!
//! *Writers* are kept for the next batch, so that batches on several threads do not wait for each other.
//!
//! The space itself is not handed out: what a lookup finds in it is taken to be a body of ours.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use dagwood_codespace::{
    CallSite, Code, CodeBuf, CodeSpace, CodeWriter, Domain, Error, Lane, Layout, Observers, Observing,
    Options, Participant, Patching, Reclaimed, Relief, Report, STUB_LEN, Slot, Stats,
};

use crate::body::Body;
pub use crate::body::Located;
pub use crate::install::{Batch, InstallError, Pending};
use crate::links::{Unlinked, is_near};
use crate::unwind;

/// A code space and what is installed in it.
///
/// Code in it runs through [`Entry::call`](crate::entry::Entry::call) alone.
pub struct CodeTable {
    inner: Arc<Inner>,
}

/// Who is asked to make room before code is refused for want of it.
pub trait Pressure: Send + Sync {
    /// Room for `bytes` is wanted, and the space's limit or the system refuses it. Whoever can [evicts](crate::Jit::evict) methods
    /// and [reclaims](CodeTable::reclaim) here. It is asked a bounded number of times for one function, by
    /// a thread that compiles; it calls and compiles nothing itself.
    fn relieve(&self, code: &CodeTable, bytes: usize) -> Relief;
}

struct Inner {
    space: CodeSpace,
    pressure: Mutex<Option<Arc<dyn Pressure>>>,
    /// Writers that no batch has.
    writers: Mutex<Vec<CodeWriter>>,
    /// Participants for threads that have none of their own at hand.
    participants: Mutex<Vec<Participant>>,
    bodies: Mutex<Bodies>,
    far_jumps: Mutex<FarJumps>,
}

/// All bodies that are not freed.
#[derive(Default)]
struct Bodies {
    by_owner: HashMap<Owner, Held>,
    /// How many are [`Held::Unretired`].
    unretired: usize,
}

/// What the table has of a body's code.
enum Held {
    Installed(Code),
    /// It is unlinked and could not be retired for want of memory.
    Unretired(Code),
    /// It is retired, or not published yet.
    Nothing,
}

/// A body that the table owns, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner(usize);

/// Jumps to what is out of reach.
#[derive(Default)]
struct FarJumps {
    by_target: HashMap<usize, Ways>,
    /// How many batches there are: what they reserved is known to nobody yet, and may have jumps.
    batches: usize,
}

/// The jumps to one target.
#[derive(Default)]
struct Ways {
    /// Whether the target was code of the space when the first one was made.
    is_code: bool,
    jumps: Vec<FarJump>,
}

/// A jump through a slot.
struct FarJump {
    code: Code,
    _slot: Slot,
}

/// Locks. Nothing that is done under the locks here panics halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps something for later, if there is memory.
fn keep<T>(kept: &mut Vec<T>, one: T) {
    if kept.try_reserve(1).is_ok() {
        kept.push(one);
    }
}

impl Owner {
    /// Less and more than any.
    pub(crate) const FIRST: Owner = Owner(0);
    pub(crate) const LAST: Owner = Owner(usize::MAX);

    /// Gives a body an address of its own, if there is memory.
    fn new(body: Body) -> Result<Owner, Error> {
        let mut room = Vec::new();
        room.try_reserve_exact(1).map_err(|_| Error::Memory)?;
        room.push(body);
        Ok(Owner(Box::into_raw(room.into_boxed_slice()).cast::<Body>().expose_provenance()))
    }

    /// Drops the body.
    ///
    /// # Safety
    ///
    /// It was made by [`Owner::new`] and not freed, and nobody has a reference to it.
    unsafe fn free(self) {
        let body = ptr::slice_from_raw_parts_mut(ptr::with_exposed_provenance_mut::<Body>(self.0), 1);
        // SAFETY: the caller's promise; it was a boxed slice of one.
        drop(unsafe { Box::from_raw(body) });
    }
}

/// Passes the space's call for room on to the table.
struct Relieving {
    table: OnceLock<Weak<Inner>>,
}

impl dagwood_codespace::Pressure for Relieving {
    fn relieve(&self, _: &CodeSpace, bytes: usize) -> Relief {
        let Some(inner) = self.table.get().and_then(Weak::upgrade) else { return Relief::GiveUp };
        let pressure = { lock(&inner.pressure).clone() };
        pressure.map_or(Relief::GiveUp, |pressure| pressure.relieve(&CodeTable { inner }, bytes))
    }
}

impl CodeTable {
    /// A table for code in a new space. Its options' `pressure` is not asked, as it could put code there that is no
    /// table's: see [`CodeTable::set_pressure`]. Its `domain` is the process's whatever they say, since a
    /// [`Thread`](crate::Thread) may run code of any table.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::new`].
    pub fn new(options: &Options) -> Result<CodeTable, Error> {
        CodeTable::observed(options, &Observing::default())
    }

    /// As [`CodeTable::new`], for code that profilers or debuggers see. Unless it is nobody, `observing` takes the place of the
    /// options' `observers`.
    ///
    /// # Errors
    ///
    /// As for [`CodeSpace::new`] and [`Observers::new`].
    pub fn observed(options: &Options, observing: &Observing) -> Result<CodeTable, Error> {
        let relieving = Arc::new(Relieving { table: OnceLock::new() });
        let observers = if *observing == Observing::default() {
            options.observers.clone()
        } else {
            Some(Arc::new(Observers::new(observing)?))
        };
        let pressure = Some(Arc::clone(&relieving) as _);
        let inner = Arc::new(Inner {
            space: CodeSpace::new(&Options {
                pressure,
                observers,
                domain: Domain::global(),
                ..options.clone()
            })?,
            pressure: Mutex::default(),
            writers: Mutex::default(),
            participants: Mutex::default(),
            bodies: Mutex::default(),
            far_jumps: Mutex::default(),
        });
        let _ = relieving.table.set(Arc::downgrade(&inner));
        Ok(CodeTable { inner })
    }

    /// Whom to ask for room, if anybody, before code is refused for want of it.
    pub fn set_pressure(&self, pressure: Option<Arc<dyn Pressure>>) {
        *lock(&self.inner.pressure) = pressure;
    }

    /// Where code is installed that belongs together, by one thread.
    pub fn batch(&self) -> Batch<'_> {
        let writer = { lock(&self.inner.writers).pop() };
        lock(&self.inner.far_jumps).batches += 1;
        Batch::new(self, writer.unwrap_or_else(|| self.inner.space.writer()))
    }

    /// Ends a batch.
    pub(crate) fn give_back(&self, writer: CodeWriter) {
        lock(&self.inner.far_jumps).batches -= 1;
        keep(&mut lock(&self.inner.writers), writer);
    }

    /// Whether an address is one of the space's. Takes no lock and only loads, so a signal handler may ask.
    pub fn contains(&self, pc: usize) -> bool {
        self.inner.space.contains(pc)
    }

    /// The addresses of the code that `pc` lies in. Takes no lock and only loads, so a signal handler may ask. What it finds
    /// may be gone a moment later, unless the code runs on the thread that asks.
    pub fn extent(&self, pc: usize) -> Option<Range<usize>> {
        self.inner.space.lookup(pc).map(|found| found.address..found.address + found.len)
    }

    /// The code that `pc` lies in; none for jumps that only lead elsewhere. A call may be the last instruction, so for
    /// a return address look the byte before it up.
    pub fn find(&self, pc: usize) -> Option<Located> {
        let owner = Owner(self.inner.space.lookup(pc)?.owner);
        let bodies = lock(&self.inner.bodies);
        // What the lookup found may be gone, or have been written over just then.
        bodies.by_owner.get(&owner)?;
        // SAFETY: the body is one of ours, and is taken off the list, for which the lock is needed, before it is dropped.
        let located = unsafe { &*ptr::with_exposed_provenance::<Body>(owner.0) }.located();
        located.range().contains(&pc).then_some(located)
    }

    /// The body of the code that `pc` lies in.
    ///
    /// # Safety
    ///
    /// The calling thread has entered as a participant of the space's domain. The reference is not used after it leaves, nor, unless
    /// the thread may return to the code and says so, after it makes a checkpoint.
    pub(crate) unsafe fn body_at(&self, pc: usize) -> Option<&Body> {
        let owner = self.inner.space.lookup(pc)?.owner;
        // SAFETY: all code in the space is published by us, with an exposed body of ours as its owner or with zero. The body is
        // dropped when its code is freed, which, since a lookup found it, waits for this participant; or with the
        // table, which `self` keeps.
        (owner != 0).then(|| unsafe { &*ptr::with_exposed_provenance::<Body>(owner) })
    }

    /// Whether lookups find this code at this address.
    pub(crate) fn is_listed(&self, start: usize, Owner(owner): Owner) -> bool {
        self.inner.space.lookup(start).is_some_and(|found| found.owner == owner)
    }

    /// Does something as a participant, which may know of code until it is done.
    pub(crate) fn while_running<R>(&self, act: impl FnOnce() -> R) -> Result<R, Error> {
        let participant = { lock(&self.inner.participants).pop() };
        let participant = match participant {
            Some(participant) => participant,
            None => self.domain().join()?,
        };
        let running = participant.enter();
        let done = act();
        drop(running);
        keep(&mut lock(&self.inner.participants), participant);
        Ok(done)
    }

    /// Those who run code of the space.
    fn domain(&self) -> &'static Domain {
        self.inner.space.domain()
    }

    /// How many bodies are installed, those included that are retired and not freed yet.
    pub fn len(&self) -> usize {
        lock(&self.inner.bodies).by_owner.len()
    }

    /// Whether nothing is installed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much the space holds. Looks at each function: 5 ns for each.
    pub fn stats(&self) -> Stats {
        self.inner.space.stats()
    }

    /// Where the space came to stand, and how it is protected.
    pub fn report(&self) -> Report {
        self.inner.space.report()
    }

    /// Whether so much is retired that reclaiming is worthwhile.
    pub fn is_reclaim_due(&self) -> bool {
        self.inner.space.is_reclaim_due()
    }

    /// Frees what was retired and what no thread can run or return to, and gives back what no batch uses. Never waits: what is
    /// not ready stays for the next call, and threads that hold it up are asked to make a checkpoint at their next
    /// poll. If the calling thread is in a function of the host, it says here what it returns to.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] or [`Error::System`]; what was not freed stays.
    pub fn reclaim(&self) -> Result<Reclaimed, Error> {
        lock(&self.inner.writers).iter().for_each(CodeWriter::rest);
        self.inner.retire_again();
        // One pass for each of the two grace periods.
        let reclaimed = unwind::parked_in_host(|| {
            let first = self.inner.reclaim()?;
            if first.waiting == 0 {
                return Ok(first);
            }
            let second = self.inner.reclaim()?;
            Ok(Reclaimed {
                freed: first.freed + second.freed,
                freed_bytes: first.freed_bytes + second.freed_bytes,
                ..second
            })
        });
        self.inner.free_far_jumps();
        reclaimed
    }

    /// Publishes code with its body, whose address is the code's owner word, and shows it to observers by a name.
    ///
    /// # Errors
    ///
    /// As for [`CodeBuf::publish`], and [`Error::Memory`]: then there is neither.
    pub(crate) fn publish(&self, buffer: CodeBuf<'_>, body: Body, name: &str) -> Result<Owner, Error> {
        let owner = Owner::new(body)?;
        let listed = {
            let mut bodies = lock(&self.inner.bodies);
            let room = bodies.by_owner.try_reserve(1);
            room.map(|()| bodies.by_owner.insert(owner, Held::Nothing)).map_err(|_| Error::Memory)
        };
        match listed.and_then(|_| buffer.publish(owner.0)) {
            Ok(code) => {
                // Without memory for it observers see nothing of it; it runs all the same.
                let _ = self.inner.space.describe(&code, name, &[]);
                if let Some(held) = lock(&self.inner.bodies).by_owner.get_mut(&owner) {
                    *held = Held::Installed(code);
                }
                Ok(owner)
            }
            Err(error) => {
                lock(&self.inner.bodies).by_owner.remove(&owner);
                // SAFETY: just made, and off the list; no code leads there.
                unsafe { owner.free() };
                Err(error)
            }
        }
    }

    /// Retires code that nothing leads to any more, and says how many bytes it has.
    pub(crate) fn retire(&self, Unlinked(owner): Unlinked) -> usize {
        let mut bodies = lock(&self.inner.bodies);
        let Bodies { by_owner, unretired } = &mut *bodies;
        let Some(held) = by_owner.get_mut(&owner) else { return 0 };
        match std::mem::replace(held, Held::Nothing) {
            Held::Installed(code) => {
                let len = code.len();
                *held = self.inner.retire_or_keep(code);
                *unretired += usize::from(matches!(held, Held::Unretired(_)));
                len
            }
            other => {
                *held = other;
                0
            }
        }
    }

    /// `target`, or a jump to it, whichever is in reach of a field that ends at `end`.
    pub(crate) fn within_reach(&self, end: usize, target: usize) -> Option<usize> {
        if is_near(end, target) {
            return Some(target);
        }
        let jumps = lock(&self.inner.far_jumps);
        let mut addresses = jumps.by_target.get(&target)?.jumps.iter().map(|jump| jump.code.address());
        addresses.find(|&address| is_near(end, address))
    }

    /// Makes a jump to `target` among code of a kind. It stays as long as what stands there; that of a batch, until the batch
    /// ends at least.
    pub(crate) fn make_far_jump(&self, writer: &CodeWriter, target: usize, lane: Lane) -> Result<(), Error> {
        let layout = Layout { size: STUB_LEN, align: STUB_LEN, lane, hot: &[] };
        let mut buffer = writer.reserve(&layout)?;
        let address = buffer.address();
        let slot = self.slot(address..address + STUB_LEN, target)?;
        buffer.stub(0, &slot)?;
        let mut far_jumps = lock(&self.inner.far_jumps);
        far_jumps.by_target.try_reserve(1).map_err(|_| Error::Memory)?;
        let is_code = self.inner.space.contains(target);
        let ways = far_jumps.by_target.entry(target).or_insert(Ways { is_code, jumps: Vec::new() });
        ways.jumps.try_reserve(1).map_err(|_| Error::Memory)?;
        // Code without an owner has no body.
        ways.jumps.push(FarJump { code: buffer.publish(0)?, _slot: slot });
        Ok(())
    }

    /// A slot in reach of the code at these addresses.
    pub(crate) fn slot(&self, code: Range<usize>, target: usize) -> Result<Slot, Error> {
        self.inner.space.slot_near(&code, target)
    }

    /// How calls are written that may be directed elsewhere: so that the space can do that, however it is protected.
    pub(crate) fn patching(&self) -> Patching {
        if self.inner.space.protection().patches_calls() { Patching::InPlace } else { Patching::BySlot }
    }

    /// Directs a call elsewhere.
    ///
    /// # Safety
    ///
    /// As for [`CodeSpace::patch_call`].
    pub(crate) unsafe fn patch_call(&self, site: CallSite, target: usize) -> Result<(), Error> {
        // SAFETY: the same contract.
        unsafe { self.inner.space.patch_call(site, target) }
    }

    /// Who sees code, if anybody.
    pub(crate) fn observers(&self) -> Option<&Observers> {
        self.inner.space.observers()
    }
}

impl Inner {
    fn reclaim(&self) -> Result<Reclaimed, Error> {
        self.space.reclaim(&mut |found| self.free(Owner(found.owner)))
    }

    /// Retires code, or says that it has to be tried again.
    fn retire_or_keep(&self, code: Code) -> Held {
        match self.space.retire(code) {
            Ok(()) => Held::Nothing,
            Err(refused) => Held::Unretired(refused.code),
        }
    }

    /// Retires what could not be retired before.
    fn retire_again(&self) {
        let mut bodies = lock(&self.bodies);
        let Bodies { by_owner, unretired } = &mut *bodies;
        if *unretired == 0 {
            return;
        }
        *unretired = 0;
        for held in by_owner.values_mut() {
            match std::mem::replace(held, Held::Nothing) {
                Held::Unretired(code) => *held = self.retire_or_keep(code),
                other => *held = other,
            }
            *unretired += usize::from(matches!(held, Held::Unretired(_)));
        }
    }

    /// Drops the body of code that was freed.
    fn free(&self, owner: Owner) {
        let is_ours = { lock(&self.bodies).by_owner.remove(&owner) }.is_some();
        if !is_ours {
            return;
        }
        // SAFETY: just taken off the list of those that are not freed. Whoever looked it up has left or made a checkpoint since, or
        // the space would not have freed its code.
        let body = unsafe { &*ptr::with_exposed_provenance::<Body>(owner.0) };
        if let Some(program) = &body.program {
            program.lock().forget(owner, body);
        }
        // SAFETY: as above; the reference is used no more.
        unsafe { owner.free() };
    }

    /// Frees the jumps that lead to code of the space which is there no more, unless a batch may be about to use them.
    fn free_far_jumps(&self) {
        let mut far_jumps = lock(&self.far_jumps);
        if far_jumps.batches != 0 {
            return;
        }
        far_jumps.by_target.retain(|&target, Ways { is_code, jumps }| {
            if !*is_code || self.space.lookup(target).is_some() {
                return true;
            }
            let mut at = 0;
            while at < jumps.len() {
                let FarJump { code, _slot } = jumps.remove(at);
                // SAFETY: where the jump leads nothing is found. There was code of a method's, which was unlinked, with all calls by
                // this jump, before it was retired, and a grace period has passed since, or a lookup found it; so whoever was
                // in the jump has gone on. Or it was never installed, as no batch is left that could, and nor was
                // what calls it. Code with jumps of its own to the target, or with its address, pins it.
                if let Err(refused) = unsafe { self.space.free(code) } {
                    jumps.insert(at, FarJump { code: refused.code, _slot });
                    at += 1;
                }
            }
            !jumps.is_empty()
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for owner in std::mem::take(&mut *lock(&self.bodies)).by_owner.into_keys() {
            // SAFETY: it was on the list of those that are not freed. Nobody holds a reference to a body without one to the table.
            unsafe { owner.free() };
        }
    }
}

impl fmt::Debug for CodeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeTable").field("bodies", &self.len()).field("space", &self.inner.space).finish()
    }
}

#[cfg(test)]
mod tests;
