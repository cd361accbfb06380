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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dagwood_codegen::RelocTarget;
use dagwood_codespace::{CallSite, Error, Reach, Slot};
use dagwood_il::MethodId;
use dagwood_il::entity::Entity;

use crate::body::{Body, Outgoing};
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

/// A call in code that can be redirected.
#[derive(Clone, Debug)]
pub(crate) enum Site {
    /// By changing the code.
    Near(CallSite),
    /// By changing the slot.
    Slot(CallSite, Arc<Slot>),
}

impl Site {
    pub(crate) fn return_address(&self) -> usize {
        match self {
            Site::Near(site) | Site::Slot(site, _) => site.return_address(),
        }
    }

    /// Makes the call go to `target`.
    ///
    /// # Safety
    ///
    /// The call's code is published in the table and not freed, and its call may go there.
    unsafe fn redirect(&self, table: &CodeTable, target: usize) -> Result<(), Error> {
        match self {
            Site::Slot(_, slot) => {
                slot.set(target);
                Ok(())
            }
            Site::Near(site) => {
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
    links: Mutex<Links>,
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
    pin: Option<Pin>,
    /// Whether it had code that was taken out, and has none since.
    is_evicted: bool,
}

#[derive(Debug)]
struct Caller {
    /// Where the calling code starts.
    start: usize,
    site: Site,
    /// Where the call goes.
    target: usize,
}

/// Code that has a successor or is evicted, and is unlinked.
#[derive(Debug)]
pub(crate) struct Unlinked(pub(crate) Owner);

impl Program {
    /// `count` methods without code.
    pub(crate) fn new(count: usize) -> Program {
        let callees = vec![Callee::default(); count];
        Program {
            addresses: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            links: Mutex::new(Links { callees, calls: BTreeMap::new() }),
        }
    }

    /// Where a method's code starts. Only a thread that has entered may run it, and only after it asked here.
    pub(crate) fn address(&self, method: MethodId) -> Option<usize> {
        let address = self.addresses.get(method.index())?.load(Ordering::Acquire);
        (address != 0).then_some(address)
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

    /// Makes `body`, which is published, the code of `method`: calls go there from now on. Returns what it replaces, if nothing
    /// leads there any more.
    ///
    /// # Errors
    ///
    /// Of the calls that could not be redirected, the first one's; these go where they went.
    pub(crate) fn publish(
        &self,
        links: &mut Links,
        table: &CodeTable,
        method: MethodId,
        (owner, start): (Owner, usize),
    ) -> Result<Option<Unlinked>, Error> {
        let callee = &mut links.callees[method.index()];
        callee.is_evicted = false;
        let old = callee.body.replace(owner);
        let is_pinned = callee.pin.is_some();
        self.addresses[method.index()].store(start, Ordering::Release);
        links.redirect(table, method, start)?;
        Ok(old.filter(|_| !is_pinned).map(Unlinked))
    }

    /// Takes a method's code out: nothing leads there any more.
    ///
    /// # Errors
    ///
    /// If a call cannot be redirected; then the method still has its code.
    pub(crate) fn unlink(
        &self,
        links: &mut Links,
        table: &CodeTable,
        method: MethodId,
    ) -> Result<Option<Unlinked>, Error> {
        let Some(owner) = links.callees[method.index()].body else { return Ok(None) };
        if let Err(error) = links.redirect(table, method, stubs::unlinked_address()) {
            // What stays at the stub raises a fault, which is safe.
            let _ = self.address(method).map(|address| links.redirect(table, method, address));
            return Err(error);
        }
        self.addresses[method.index()].store(0, Ordering::Release);
        let callee = &mut links.callees[method.index()];
        (callee.body, callee.is_evicted) = (None, true);
        Ok(Some(Unlinked(owner)))
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
        for (index, Outgoing { callee, site, target }) in calls.into_iter().enumerate() {
            self.calls.insert((callee, owner, index as u32), Caller { start, site, target });
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
            if let Site::Near(site) = &caller.site {
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
                // SAFETY: a lookup finds the caller while we count as running, so it is not freed before that ends; its site is
                // registered as a call of the method. The target is the method's code, or the stub that raises whatever
                // the arguments are.
                match unsafe { caller.site.redirect(table, target) } {
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
