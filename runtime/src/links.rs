//! Which code calls which method directly, so that calls can be redirected when a method's code goes or changes.
//!
//! ```text
//!   link:    callee's address ── read ── caller published, its calls registered ──┐
//!   evict:   callee's address := none ── calls := `unlinked` ── code retired ─────┤ each as a whole, under one lock
//!   again:   new code published ── callee's address := new ── calls := new ───────┘
//! ```
//!
//! A call is registered from before its code can run until its code is freed. So when a method's code is retired, no
//! call leads to it: neither from code that is in use nor from code that is itself retired and still runs somewhere.
//! Callers that run on meanwhile come to `unlinked`, which raises a fault in them that names the method.
//!
//! *Pins.* An address that code or the host keeps as a value cannot be taken back, nor can a jump be redirected. A method that
//! is used so is *pinned*: its code stays until the table is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dagwood_codegen::RelocTarget;
use dagwood_codespace::{CallSite, Error, Reach, Slot};
use dagwood_il::entity::Entity;
use dagwood_il::{MethodId, Module, NativeId, Type};

use crate::body::{Body, Outgoing};
use crate::classes::Classes;
use crate::code::{CodeTable, Owner};
use crate::install::Missing;
use crate::stubs;

/// Why a method's code cannot be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Its address is a value: [`Jit::method_address`](crate::Jit::method_address) gave it out, or code took it.
    Address,
    /// Other code jumps there.
    Jump,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pin::Address => "its address was taken",
            Pin::Jump => "other code jumps to it",
        })
    }
}

/// How a call in code is redirected.
#[derive(Clone, Debug)]
pub(crate) enum Redirect {
    /// By changing the code.
    Near(CallSite),
    /// By changing the slot.
    Slot(CallSite, Arc<Slot>),
}

impl Redirect {
    pub(crate) fn return_address(&self) -> usize {
        match self {
            Redirect::Near(site) | Redirect::Slot(site, _) => site.return_address(),
        }
    }

    /// Makes the call go to `target`.
    ///
    /// # Safety
    ///
    /// The call's code is published in the table and not freed, and its call may go there.
    unsafe fn to(&self, table: &CodeTable, target: usize) -> Result<(), Error> {
        match self {
            Redirect::Slot(_, slot) => {
                slot.set(target);
                Ok(())
            }
            Redirect::Near(site) => {
                let from = site.return_address();
                let target =
                    table.within_reach(from, target).ok_or(Error::OutOfReach { from, to: target })?;
                // SAFETY: the same contract; what is in reach is the target or a jump to it.
                unsafe { table.patch_call(*site, target) }
            }
        }
    }
}

/// The methods of a program, as they call each other.
#[derive(Debug)]
pub(crate) struct Program {
    /// Where each method's code starts; zero while it has none.
    addresses: Vec<AtomicUsize>,
    /// By method: whether code that it has, or had, has references.
    has_references: Vec<AtomicBool>,
    /// By native function: which of its results are references.
    reference_results: Vec<Box<[usize]>>,
    links: Mutex<Links>,
    /// What dispatching calls go through.
    classes: Arc<Classes>,
}

/// What is known about methods with code, and who calls them.
#[derive(Debug)]
pub(crate) struct Links {
    callees: Vec<Callee>,
    /// By callee, caller and number of the call in the caller.
    calls: BTreeMap<(MethodId, Owner, u32), Caller>,
}

#[derive(Clone, Debug, Default)]
struct Callee {
    /// Its code, while it has some.
    body: Option<Owner>,
    /// Code that it had before, to which calls may still go because they could not be redirected.
    replaced: Vec<Owner>,
    pin: Option<Pin>,
    /// Whether it had code that was taken out, and has none since.
    is_evicted: bool,
}

#[derive(Debug)]
struct Caller {
    /// Where the calling code starts.
    start: usize,
    redirect: Redirect,
    /// Where the call goes.
    target: usize,
}

/// Code that has a successor or is evicted, and is unlinked.
#[derive(Debug)]
pub(crate) struct Unlinked(pub(crate) Owner);

impl Program {
    /// The methods of a module, without code, and the descriptions of its classes.
    pub(crate) fn new(module: &Module, classes: Arc<Classes>) -> Program {
        let count = module.methods.len();
        let callees = vec![Callee::default(); count];
        let reference_results = |native| {
            let results = module.native_signature(native).results.iter().enumerate();
            results.filter(|(_, ty)| **ty == Type::Ref).map(|(index, _)| index).collect()
        };
        Program {
            addresses: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            has_references: (0..count).map(|_| AtomicBool::new(false)).collect(),
            reference_results: module.natives.keys().map(reference_results).collect(),
            links: Mutex::new(Links { callees, calls: BTreeMap::new() }),
            classes,
        }
    }

    /// Where a method's code starts. Only a thread that has entered may run it, and only after it asked here.
    pub(crate) fn address(&self, method: MethodId) -> Option<usize> {
        let address = self.addresses.get(method.index())?.load(Ordering::Acquire);
        (address != 0).then_some(address)
    }

    /// Whether code that a method has, or had, has references. Ask after [`Program::address`], before which it is said.
    pub(crate) fn has_references(&self, method: MethodId) -> bool {
        self.has_references[method.index()].load(Ordering::Relaxed)
    }

    /// Says that code which a method is about to get has references.
    pub(crate) fn note_references(&self, method: MethodId) {
        self.has_references[method.index()].store(true, Ordering::Relaxed);
    }

    /// Which results of a native function are references.
    pub(crate) fn reference_results(&self, native: NativeId) -> &[usize] {
        self.reference_results.get(native.index()).map_or(&[], |results| results)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a method's code starts, for good.
    pub(crate) fn pin(&self, method: MethodId, pin: Pin) -> Option<usize> {
        let mut links = self.lock();
        let address = self.address(method)?;
        links.pin(method, pin);
        Some(address)
    }

    /// Where a call of the method goes that is linked now.
    pub(crate) fn target(&self, links: &Links, method: MethodId) -> Option<usize> {
        let evicted = || links.callees.get(method.index())?.is_evicted.then(stubs::unlinked_address);
        self.address(method).or_else(evicted)
    }

    /// Makes `body`, which is published, the code of `method`: calls go there from now on. Returns what it replaces, now that
    /// nothing leads there any more; nothing if the method is pinned.
    ///
    /// # Errors
    ///
    /// Of the calls that could not be redirected, the first one's; these go where they went. What it replaces is returned once
    /// all calls of the method have been redirected, when it is published or unlinked again.
    pub(crate) fn publish(
        &self,
        links: &mut Links,
        table: &CodeTable,
        method: MethodId,
        (owner, start): (Owner, usize),
    ) -> Result<Vec<Unlinked>, Error> {
        let callee = &mut links.callees[method.index()];
        callee.is_evicted = false;
        let old = callee.body.replace(owner);
        callee.replaced.extend(old);
        self.addresses[method.index()].store(start, Ordering::Release);
        self.classes.publish(method, Some(start));
        links.redirect(table, method, start)?;
        Ok(links.callees[method.index()].take_replaced())
    }

    /// Takes a method's code out, which is not pinned: nothing leads there any more. None if it has none.
    ///
    /// # Errors
    ///
    /// If a call cannot be redirected; then the method still has its code. Calls that were directed to the stub that raises, and
    /// cannot be directed back, go there until the method is published again.
    pub(crate) fn unlink(
        &self,
        links: &mut Links,
        table: &CodeTable,
        method: MethodId,
    ) -> Result<Vec<Unlinked>, Error> {
        if links.callees[method.index()].body.is_none() {
            return Ok(Vec::new());
        }
        if let Err(error) = links.redirect(table, method, stubs::unlinked_address()) {
            // The caller is told of the first error, and may try again.
            let _ = self.address(method).map(|address| links.redirect(table, method, address));
            return Err(error);
        }
        self.addresses[method.index()].store(0, Ordering::Release);
        self.classes.publish(method, None);
        let callee = &mut links.callees[method.index()];
        callee.is_evicted = true;
        let last = callee.body.take();
        callee.replaced.extend(last);
        Ok(callee.take_replaced())
    }
}

impl Callee {
    /// What is to be retired now that all calls go elsewhere: all the code that it had, but nothing of one that is pinned.
    fn take_replaced(&mut self) -> Vec<Unlinked> {
        let replaced = std::mem::take(&mut self.replaced);
        replaced.into_iter().filter(|_| self.pin.is_none()).map(Unlinked).collect()
    }
}

impl Links {
    /// Keeps a method's code, what it has and what it will have, for good.
    pub(crate) fn pin(&mut self, method: MethodId, pin: Pin) {
        let callee = &mut self.callees[method.index()];
        callee.pin = callee.pin.or(Some(pin));
    }

    /// Why a method's code stays; an error if there is no code.
    pub(crate) fn pinned(&self, method: MethodId) -> Result<Option<Pin>, NoCode> {
        let callee = self.callees.get(method.index()).filter(|callee| callee.body.is_some());
        callee.map(|callee| callee.pin).ok_or(NoCode)
    }

    /// Registers the calls of published code.
    pub(crate) fn register(&mut self, owner: Owner, start: usize, calls: Vec<Outgoing>) {
        for (index, Outgoing { callee, redirect, target }) in calls.into_iter().enumerate() {
            self.calls.insert((callee, owner, index as u32), Caller { start, redirect, target });
        }
    }

    /// Forgets the calls of code that is freed.
    pub(crate) fn forget(&mut self, owner: Owner, body: &Body) {
        for (index, call) in body.calls.iter().enumerate() {
            self.calls.remove(&(call.callee, owner, index as u32));
        }
    }

    /// Notes in `missing` which stubs the calls of a method need in order to go to `address`.
    pub(crate) fn reach(&self, table: &CodeTable, method: MethodId, address: usize, missing: &mut Missing) {
        for (_, caller) in self.calls.range(calls_of(method)) {
            if let Redirect::Near(site) = &caller.redirect {
                missing.reach(table, RelocTarget::Method(method), site.return_address(), address);
            }
        }
    }

    /// Makes all calls of a method go to `target`.
    fn redirect(&mut self, table: &CodeTable, method: MethodId, target: usize) -> Result<(), Error> {
        let all = self.calls.range_mut(calls_of(method));
        let mut elsewhere = all.filter(|(_, caller)| caller.target != target).peekable();
        if elsewhere.peek().is_none() {
            return Ok(());
        }
        let mut result = Ok(());
        table.while_running(|| {
            for ((_, owner, _), caller) in elsewhere {
                // Code that lookups find no more is run by nobody, and its bytes may be others' already.
                if !table.is_listed(caller.start, *owner) {
                    continue;
                }
                // SAFETY: a lookup finds the caller while we count as running, so it is not freed before that ends; its call is
                // registered as a call of the method. The target is the method's code, or the stub that raises whatever
                // the arguments are.
                match unsafe { caller.redirect.to(table, target) } {
                    Ok(()) => caller.target = target,
                    Err(error) => result = result.and(Err(error)),
                }
            }
        })?;
        result
    }
}

/// The keys of the calls of a method.
fn calls_of(method: MethodId) -> RangeInclusive<(MethodId, Owner, u32)> {
    (method, Owner::FIRST, 0)..=(method, Owner::LAST, u32::MAX)
}

/// A method has no code.
#[derive(Debug)]
pub(crate) struct NoCode;

/// Whether `target` is in reach of a field that ends at `end`.
pub(crate) fn is_near(end: usize, target: usize) -> bool {
    matches!(Reach::between(end, target), Reach::Rel32(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Subject;
    use dagwood_codegen::{Artifact, Call};
    use dagwood_codespace::{Lane, Options};

    const CALLEE: usize = 0;
    /// Out of reach of all code, and no jump leads there.
    const FAR: usize = 1 << 62;

    /// A method without code, and code in a table.
    struct Rig {
        table: CodeTable,
        program: Arc<Program>,
    }

    impl Rig {
        fn new() -> Rig {
            let table = CodeTable::new(&Options::default()).expect("there is memory");
            let mut module = Module::new();
            module.declare_method("callee", &[], &[]);
            Rig { table, program: Arc::new(Program::new(&module, Arc::new(Classes::new(&module)))) }
        }

        /// Publishes code whose calls go to `target`.
        fn install(&self, links: &mut Links, artifact: &Artifact, target: usize) -> (Owner, usize) {
            let batch = self.table.batch();
            let mut pending = batch.reserve(artifact, Lane::Baseline).expect("there is room");
            let subject = Subject { method: None, program: Some(&self.program) };
            let linked = pending.link(&subject, |_| Some(target), &mut Missing::default());
            linked.expect("the artifact is well-formed");
            let (owner, located) = pending.publish(&subject, None, links).expect("the views are there");
            (owner, located.start)
        }

        fn returns(&self, links: &mut Links) -> (Owner, usize) {
            self.install(links, &Artifact { code: vec![0xc3], ..Artifact::default() }, 0)
        }

        /// Code with a call of the method.
        fn calls(&self, links: &mut Links, target: usize) {
            let call = Call { start: 0, len: 9, target: RelocTarget::Method(MethodId::new(CALLEE)) };
            self.install(
                links,
                &Artifact { code: vec![0xc3; 10], calls: vec![call], ..Artifact::default() },
                target,
            );
        }

        fn publish(&self, links: &mut Links, code: (Owner, usize)) -> Result<Vec<Owner>, Error> {
            let replaced = self.program.publish(links, &self.table, MethodId::new(CALLEE), code)?;
            Ok(replaced.into_iter().map(|Unlinked(owner)| owner).collect())
        }

        fn unlink(&self, links: &mut Links) -> Result<Vec<Owner>, Error> {
            let replaced = self.program.unlink(links, &self.table, MethodId::new(CALLEE))?;
            Ok(replaced.into_iter().map(|Unlinked(owner)| owner).collect())
        }
    }

    #[test]
    fn code_is_handed_out_once_all_calls_could_be_led_away_from_it() {
        let rig = Rig::new();
        let links = &mut *rig.program.lock();
        let (first, start) = rig.returns(links);
        assert_eq!(rig.publish(links, (first, start)), Ok(vec![]), "it replaces nothing");
        rig.calls(links, start);
        let (second, third) = (rig.returns(links).0, rig.returns(links));
        assert!(matches!(rig.publish(links, (second, FAR)), Err(Error::OutOfReach { .. })));
        assert_eq!(rig.publish(links, third), Ok(vec![first, second]));
        let fourth = rig.returns(links).0;
        assert!(rig.publish(links, (fourth, FAR)).is_err());
        assert_eq!(rig.unlink(links), Ok(vec![third.0, fourth]), "evicting leads them away as well");
        assert_eq!(rig.unlink(links), Ok(vec![]), "it has no code");
    }

    #[test]
    fn code_that_is_pinned_is_not_handed_out_later_either() {
        let rig = Rig::new();
        let links = &mut *rig.program.lock();
        let first = rig.returns(links);
        assert_eq!(rig.publish(links, first), Ok(vec![]));
        rig.calls(links, first.1);
        let second = rig.returns(links).0;
        assert!(rig.publish(links, (second, FAR)).is_err());
        links.pin(MethodId::new(CALLEE), Pin::Address);
        let third = rig.returns(links);
        assert_eq!(rig.publish(links, third), Ok(vec![]));
    }
}
