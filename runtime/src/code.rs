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

use std::collections::BTreeMap;
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
    /// All bodies that are not freed, each with its code until that is retired.
    bodies: Mutex<BTreeMap<Owner, Option<Code>>>,
    far_jumps: Mutex<FarJumps>,
    /// Code that is unlinked and could not be retired for want of memory.
    unretired: Mutex<Vec<Code>>,
}

/// A body that the table owns, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner(usize);

/// Jumps to what is out of reach.
#[derive(Default)]
struct FarJumps {
    by_target: BTreeMap<usize, Vec<FarJump>>,
    /// How many batches there are: what they reserved is known to nobody yet, and may have jumps.
    batches: usize,
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

impl Owner {
    /// Less and more than any.
    pub(crate) const FIRST: Owner = Owner(0);
    pub(crate) const LAST: Owner = Owner(usize::MAX);
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
            unretired: Mutex::default(),
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
        lock(&self.inner.writers).push(writer);
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
        let found = self.while_running(|| {
            // SAFETY: a participant of ours is running, and the body is not used after that.
            unsafe { self.body_at(pc) }.map(Body::located)
        });
        found.ok().flatten()
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
        lock(&self.inner.participants).push(participant);
        Ok(done)
    }

    /// Those who run code of the space.
    fn domain(&self) -> &'static Domain {
        self.inner.space.domain()
    }

    /// How many bodies are installed, those included that are retired and not freed yet.
    pub fn len(&self) -> usize {
        lock(&self.inner.bodies).len()
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
        for code in std::mem::take(&mut *lock(&self.inner.unretired)) {
            self.retire_code(code);
        }
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
    /// As for [`CodeBuf::publish`]: then there is neither.
    pub(crate) fn publish(&self, buffer: CodeBuf<'_>, body: Box<Body>, name: &str) -> Result<Owner, Error> {
        let body = Box::into_raw(body);
        let owner = Owner(body.expose_provenance());
        match buffer.publish(owner.0) {
            Ok(code) => {
                // Without memory for it observers see nothing of it; it runs all the same.
                let _ = self.inner.space.describe(&code, name, &[]);
                lock(&self.inner.bodies).insert(owner, Some(code));
                Ok(owner)
            }
            Err(error) => {
                // SAFETY: just made by `Box::into_raw`; no code leads there.
                drop(unsafe { Box::from_raw(body) });
                Err(error)
            }
        }
    }

    /// Retires code that nothing leads to any more, and says how many bytes it has.
    pub(crate) fn retire(&self, Unlinked(owner): Unlinked) -> usize {
        let code = { lock(&self.inner.bodies).get_mut(&owner).and_then(Option::take) };
        code.map_or(0, |code| {
            let len = code.len();
            self.retire_code(code);
            len
        })
    }

    fn retire_code(&self, code: Code) {
        if let Err(refused) = self.inner.space.retire(code) {
            lock(&self.inner.unretired).push(refused.code);
        }
    }

    /// `target`, or a jump to it, whichever is in reach of a field that ends at `end`.
    pub(crate) fn within_reach(&self, end: usize, target: usize) -> Option<usize> {
        if is_near(end, target) {
            return Some(target);
        }
        let jumps = lock(&self.inner.far_jumps);
        let mut addresses = jumps.by_target.get(&target)?.iter().map(|jump| jump.code.address());
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
        // Code without an owner has no body.
        let jump = FarJump { code: buffer.publish(0)?, _slot: slot };
        lock(&self.inner.far_jumps).by_target.entry(target).or_default().push(jump);
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

    /// Drops the body of code that was freed.
    fn free(&self, owner: Owner) {
        let is_ours = { lock(&self.bodies).remove(&owner) }.is_some();
        if !is_ours {
            return;
        }
        // SAFETY: made by `Box::into_raw` in `publish`, and taken off the list of those that are not freed. Whoever looked it up has
        // left or made a checkpoint since, or the space would not have freed its code.
        let body = unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Body>(owner.0)) };
        if let Some(program) = &body.program {
            program.lock().forget(owner, &body);
        }
    }

    /// Frees the jumps that lead to code of the space which is there no more, unless a batch may be about to use them.
    fn free_far_jumps(&self) {
        let mut jumps = lock(&self.far_jumps);
        if jumps.batches != 0 {
            return;
        }
        jumps.by_target.retain(|&target, jumps| {
            if !self.space.contains(target) || self.space.lookup(target).is_some() {
                return true;
            }
            let stays = |FarJump { code, _slot }: FarJump| {
                // SAFETY: where the jump leads nothing is found. There was code of a method's, which was unlinked, with all calls by
                // this jump, before it was retired, and a grace period has passed since, or a lookup found it; so whoever was
                // in the jump has gone on. Or it was never installed, as no batch is left that could, and nor was
                // what calls it. Code with jumps of its own to the target, or with its address, pins it.
                let freed = unsafe { self.space.free(code) };
                freed.err().map(|refused| FarJump { code: refused.code, _slot })
            };
            *jumps = std::mem::take(jumps).into_iter().filter_map(stays).collect();
            !jumps.is_empty()
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for owner in std::mem::take(&mut *lock(&self.bodies)).into_keys() {
            // SAFETY: made by `Box::into_raw` in `publish` and not freed. Nobody holds a reference to a body without one to the table.
            drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Body>(owner.0)) });
        }
    }
}

impl fmt::Debug for CodeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeTable").field("bodies", &self.len()).field("space", &self.inner.space).finish()
    }
}

#[cfg(test)]
mod tests {
    use dagwood_codegen::Artifact;

    use super::*;
    use crate::install::{Missing, Subject};
    use crate::links::Program;

    fn table(options: &Options) -> CodeTable {
        CodeTable::new(options).expect("there is memory")
    }

    /// Publishes a function, and says where it starts.
    fn install(table: &CodeTable) -> (Owner, usize) {
        let batch = table.batch();
        let artifact = Artifact { code: vec![0xc3], ..Artifact::default() };
        let mut pending = batch.reserve(&artifact, Lane::Baseline).expect("there is room");
        let subject = Subject { method: None, program: None };
        pending.link(&subject, |_| None, &mut Missing::default()).expect("it refers to nothing");
        let program = Program::new(0);
        let published = pending.publish(&subject, Some("returns"), &mut program.lock());
        let (owner, located) = published.expect("the views are there");
        (owner, located.start)
    }

    #[test]
    fn far_jumps_go_with_what_they_lead_to_and_not_while_a_batch_may_use_them() {
        let table = table(&Options::default());
        let writer = table.inner.space.writer();
        let ((gone, target), (_, kept)) = (install(&table), install(&table));
        let elsewhere = install as *const () as usize;
        for target in [target, kept, elsewhere] {
            table.make_far_jump(&writer, target, Lane::Stubs).expect("there is room");
        }
        let live = || table.stats().live;
        let reclaim = || table.reclaim().expect("the system has a barrier");
        reclaim();
        assert_eq!((live(), table.stats().slots), (5, 3), "what they lead to is there");
        let batch = table.batch();
        table.retire(Unlinked(gone));
        while table.inner.space.lookup(target).is_some() || table.stats().waiting != 0 {
            reclaim();
        }
        assert_eq!((live(), table.stats().slots), (4, 3), "the batch may have reserved that address");
        drop(batch);
        reclaim();
        assert_eq!((live(), table.stats().slots), (3, 2));
        let jumps = lock(&table.inner.far_jumps);
        assert!(jumps.by_target.keys().copied().eq(if kept < elsewhere {
            [kept, elsewhere]
        } else {
            [elsewhere, kept]
        }));
    }

    #[test]
    fn all_threads_are_asked_whatever_domain_the_options_name() {
        let own: &'static Domain = Box::leak(Box::new(Domain::new()));
        let table = table(&Options { domain: own, ..Options::default() });
        assert!(ptr::eq(table.domain(), Domain::global()));
    }

    #[test]
    fn code_is_shown_to_the_observers_of_the_options_unless_others_are_asked_for() {
        let directory = std::env::temp_dir().join(format!("dagwood-table-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("there is room for files");
        let observing = Observing { perf_map: Some(directory.clone()), ..Observing::default() };
        let observers = Arc::new(Observers::new(&observing).expect("the directory is there"));
        let options = Options { observers: Some(Arc::clone(&observers)), ..Options::default() };
        let (shown, other) = (table(&options), table(&Options::default()));
        let (_, address) = install(&shown);
        install(&other);
        observers.flush().expect("there is room for files");
        let map = directory.join(format!("perf-{}.map", std::process::id()));
        let lines = std::fs::read_to_string(&map).expect("it was made");
        assert_eq!(lines, format!("{address:x} 1 returns\n"));
        assert!(other.observers().is_none());
        let own = CodeTable::observed(&options, &observing).expect("the directory is there");
        assert!(own.observers().is_some_and(|own| !ptr::eq(own, &*observers)));
        drop((shown, own, observers));
        std::fs::remove_dir_all(&directory).expect("it was made");
    }
}
