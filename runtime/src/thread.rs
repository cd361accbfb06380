//! What a thread brings to compiled code: its stack limit, its poll word, a shadow stack, fuel.
//!
//! Offsets of what compiled code sees are in [`dagwood_il::layout::thread`].
//!
//! *Polling.* Compiled code reads the poll word and calls the runtime if it is not zero. An [`Interrupter`] sets it
//! from any thread; so does [`Thread::set_fuel`], for then every poll must be counted. A request to stop stays until
//! [`Thread::clear_interrupt`], so that guest code that catches it is stopped again at its next poll.
//!
//! *Participating.* A thread says when it runs compiled code, so that code that was taken out is not used again before its time.
//! Who reclaims code and finds the thread behind sets a bit of the poll word; the next poll tells what the thread's stack
//! returns to, and goes on. It costs no fuel and interrupts nobody.

use std::cell::{Cell, UnsafeCell};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dagwood_codespace::{Domain, Participant, Running};
use dagwood_il::layout;

use crate::error::SystemError;
use crate::fault::FaultRecord;
use crate::region::{PAGE, Region};
use crate::stack;
use crate::unwind;

/// How much of the stacks compiled code may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of machine stack below the outermost entry. Compiled code also stays [`stack::HOST_RESERVE`] bytes
    /// away from the stack's end.
    pub max_stack: usize,
    /// The bytes of the shadow stack, on which methods keep locals whose address is taken.
    pub shadow_stack: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_stack: 1 << 20, shadow_stack: 1 << 20 }
    }
}

/// Why a thread was asked to stop: the reason of the raise that its next poll makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Interrupt {
    /// Its time is over.
    Timeout = 1,
    /// Its fuel is used up.
    Fuel = 2,
    /// The embedder wants it to stop.
    User = 3,
}

impl Interrupt {
    /// The reason of the raise.
    pub const fn reason(self) -> u16 {
        self as u16
    }

    /// The interrupt with this reason.
    pub const fn from_reason(reason: u16) -> Option<Interrupt> {
        match reason {
            1 => Some(Interrupt::Timeout),
            2 => Some(Interrupt::Fuel),
            3 => Some(Interrupt::User),
            _ => None,
        }
    }
}

/// The part of the poll word that holds the reason to stop.
const REASON: u32 = 0xff;
/// The bit of the poll word that says that polls are counted.
const COUNTING: u32 = 0x100;
/// The bit of the poll word that asks for a checkpoint.
const LAG: u32 = 0x200;
/// The bit of the poll word that says that objects are collected at every poll.
const COLLECTING: u32 = 0x400;

/// What compiled code sees of a thread.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Block {
    stack_limit: AtomicU64,
    poll: AtomicU32,
    shadow_top: AtomicU64,
    shadow_limit: AtomicU64,
    object_top: AtomicU64,
    object_limit: AtomicU64,
}

const _: () = assert!(
    offset_of!(Block, stack_limit) == layout::thread::STACK_LIMIT as usize
        && offset_of!(Block, poll) == layout::thread::POLL as usize
        && offset_of!(Block, shadow_top) == layout::thread::SHADOW_TOP as usize
        && offset_of!(Block, shadow_limit) == layout::thread::SHADOW_LIMIT as usize
        && offset_of!(Block, object_top) == layout::thread::OBJECT_TOP as usize
        && offset_of!(Block, object_limit) == layout::thread::OBJECT_LIMIT as usize
);

impl Block {
    /// Asks the thread to stop, unless it is already asked to.
    fn interrupt(&self, interrupt: Interrupt) {
        let ask = |word| (word & REASON == 0).then_some(word | interrupt as u32);
        // An error says that there is a reason already; the first one counts.
        let _ = self.poll.fetch_update(Ordering::Relaxed, Ordering::Relaxed, ask);
    }

    /// Where the next object goes, and up to where memory is zeroed; both zero while the thread has no heap.
    pub(crate) fn objects(&self) -> (usize, usize) {
        let word = |word: &AtomicU64| word.load(Ordering::Relaxed) as usize;
        (word(&self.object_top), word(&self.object_limit))
    }

    pub(crate) fn set_objects(&self, top: usize, limit: usize) {
        self.object_top.store(top as u64, Ordering::Relaxed);
        self.object_limit.store(limit as u64, Ordering::Relaxed);
    }

    /// Makes every poll call the runtime, for objects to be collected.
    pub(crate) fn set_collecting(&self, is_collecting: bool) {
        match is_collecting {
            true => self.poll.fetch_or(COLLECTING, Ordering::Relaxed),
            false => self.poll.fetch_and(!COLLECTING, Ordering::Relaxed),
        };
    }

    /// Asks the thread for a checkpoint.
    fn ask_for_checkpoint(&self) {
        self.poll.fetch_or(LAG, Ordering::Relaxed);
    }
}

/// Asks a thread to stop at its next poll, from any thread.
#[derive(Clone, Debug)]
pub struct Interrupter {
    block: Arc<Block>,
}

impl Interrupter {
    /// Makes the thread's next poll, and each one after it, raise an interrupt. The first reason given counts.
    pub fn interrupt(&self, interrupt: Interrupt) {
        self.block.interrupt(interrupt);
    }
}

/// One guest thread. It may move between threads of the system while no code runs on it.
#[derive(Debug)]
pub struct Thread {
    block: Arc<Block>,
    shadow: Region,
    options: Options,
    /// How many entries are on the stack.
    depth: Cell<u32>,
    fuel: Cell<u64>,
    fault: Box<UnsafeCell<FaultRecord>>,
    participant: Participant,
}

impl Thread {
    /// A thread that has not run yet.
    pub fn new(options: &Options) -> Result<Thread, SystemError> {
        // More than the system has addresses for; it will refuse.
        let size = options.shadow_stack.min(1 << 48).next_multiple_of(PAGE);
        let mut shadow = Region::reserve(size + PAGE)?;
        shadow.commit(size)?;
        let base = shadow.base() as u64;
        let block = Block {
            stack_limit: AtomicU64::new(0),
            poll: AtomicU32::new(0),
            shadow_top: AtomicU64::new(base),
            shadow_limit: AtomicU64::new(base + size as u64),
            object_top: AtomicU64::new(0),
            object_limit: AtomicU64::new(0),
        };
        let block = Arc::new(block);
        let refused = |_| SystemError { attempt: "find memory for a participant", errno: libc::ENOMEM };
        let participant = Domain::global().join().map_err(refused)?;
        let asked = Arc::clone(&block);
        participant.on_lag(Arc::new(move || asked.ask_for_checkpoint()));
        Ok(Thread {
            block,
            participant,
            shadow,
            options: options.clone(),
            depth: Cell::new(0),
            fuel: Cell::new(0),
            fault: Box::default(),
        })
    }

    /// Where the thread block stands.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.block) as usize
    }

    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// A handle to stop the thread with.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter { block: Arc::clone(&self.block) }
    }

    /// Forgets that the thread was asked to stop.
    pub fn clear_interrupt(&self) {
        self.block.poll.fetch_and(!REASON, Ordering::Relaxed);
    }

    /// Lets the thread make this many polls before it is asked to stop for want of fuel, or any number.
    pub fn set_fuel(&self, polls: Option<u64>) {
        self.fuel.set(polls.unwrap_or(0));
        match polls {
            Some(_) => self.block.poll.fetch_or(COUNTING, Ordering::Relaxed),
            None => self.block.poll.fetch_and(!COUNTING, Ordering::Relaxed),
        };
    }

    /// How many polls are left, if they are counted.
    pub fn fuel(&self) -> Option<u64> {
        (self.block.poll.load(Ordering::Relaxed) & COUNTING != 0).then(|| self.fuel.get())
    }

    /// Counts a poll; says whether the thread is to stop. Whoever runs a guest by other means than compiled code calls it at
    /// each poll.
    pub fn poll(&self) -> Option<Interrupt> {
        let word = self.block.poll.load(Ordering::Relaxed);
        if word & REASON == 0 && word & COUNTING != 0 {
            match self.fuel.get().checked_sub(1) {
                Some(left) => self.fuel.set(left),
                None => self.block.interrupt(Interrupt::Fuel),
            }
        }
        let word = self.block.poll.load(Ordering::Relaxed);
        Interrupt::from_reason((word & REASON) as u16)
    }

    /// Calls `wait`, which blocks or takes long, for a function of the host that compiled code on this thread called. Meanwhile
    /// the thread holds no code up but what its stack returns to. `wait` may enter code again. Anywhere else it
    /// is just called.
    ///
    /// A host that blocks without this keeps code from being reclaimed that is taken out meanwhile; nothing worse. So does one that
    /// runs another [`Thread`] in a call of the first one's, on the same thread of the system.
    pub fn park<R>(&self, wait: impl FnOnce() -> R) -> R {
        match unwind::returns_in_host() {
            // SAFETY: all code that is entered on this thread stands on the stack that the addresses were found on, and code is
            // reached through links only, which are read after entering.
            Some(addresses) => unsafe { self.participant.park(addresses, wait) },
            None => wait(),
        }
    }

    /// Counts as running code, until what this returns is dropped: what leads to code is read after this.
    #[inline]
    pub(crate) fn run(&self) -> Running<'_> {
        self.participant.enter()
    }

    /// Whether a checkpoint was asked for since the last time this was called.
    pub(crate) fn take_lag(&self) -> bool {
        self.block.poll.load(Ordering::Relaxed) & LAG != 0
            && self.block.poll.fetch_and(!LAG, Ordering::Relaxed) & LAG != 0
    }

    /// Says that of all code this thread came to so far it goes back to these addresses only.
    ///
    /// # Safety
    ///
    /// They are all return addresses in compiled code on this thread's stack, and no reference to a body of other code is
    /// used afterwards.
    pub(crate) unsafe fn checkpoint(&self, return_addresses: impl IntoIterator<Item = usize>) {
        // SAFETY: the caller vouches for the addresses. Compiled code keeps no address of code that may be taken out but to return
        // to: those that are values are of pinned methods.
        unsafe { self.participant.checkpoint(return_addresses) };
    }

    /// Whether code runs on this thread.
    pub fn is_entered(&self) -> bool {
        self.depth.get() > 0
    }

    /// Where compiled code has to stop using the machine stack; of the last entry if none is on the stack.
    pub fn stack_limit(&self) -> usize {
        self.block.stack_limit.load(Ordering::Relaxed) as usize
    }

    /// Prepares for an entry from here. The outermost one sets the stack limit, and those inside it keep it.
    #[inline]
    pub(crate) fn enter(&self) -> Result<Entered<'_>, NoRoom> {
        let sp = stack::pointer();
        if self.depth.get() == 0 {
            let bounds = stack::bounds().map_err(NoRoom::Unknown)?;
            if !bounds.contains(&sp) {
                return Err(NoRoom::Foreign);
            }
            let limit = stack::limit(&bounds, sp, self.options.max_stack).ok_or(NoRoom::Used)?;
            self.block.stack_limit.store(limit as u64, Ordering::Relaxed);
        } else if sp <= self.stack_limit() {
            return Err(NoRoom::Used);
        }
        self.depth.set(self.depth.get() + 1);
        let shadow_top = self.block.shadow_top.load(Ordering::Relaxed);
        Ok(Entered { thread: self, shadow_top, _running: self.run() })
    }

    /// Where the handler of machine faults leaves what it found.
    pub(crate) fn fault(&self) -> *mut FaultRecord {
        self.fault.get()
    }

    /// The addresses of the shadow stack.
    pub fn shadow_stack(&self) -> std::ops::Range<usize> {
        let base = self.shadow.base() as usize;
        base..base + self.shadow.len() - PAGE
    }
}

/// Why compiled code cannot be entered from here.
#[derive(Debug)]
pub(crate) enum NoRoom {
    /// The stack is used up.
    Used,
    /// The stack is not the one that the system gave to the thread.
    Foreign,
    /// The system does not say where the stack ends.
    Unknown(SystemError),
}

/// An entry that is on the stack. Leaving it puts the shadow stack back.
pub(crate) struct Entered<'a> {
    thread: &'a Thread,
    shadow_top: u64,
    _running: Running<'a>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.thread.block.shadow_top.store(self.shadow_top, Ordering::Relaxed);
        self.thread.depth.set(self.thread.depth.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interrupt_counts_until_it_is_cleared() {
        let thread = Thread::new(&Options::default()).expect("there is memory");
        assert_eq!(thread.poll(), None);
        let interrupter = thread.interrupter();
        let other = std::thread::spawn(move || {
            interrupter.interrupt(Interrupt::Timeout);
            interrupter.interrupt(Interrupt::User);
        });
        other.join().expect("the thread does not panic");
        assert_eq!([thread.poll(), thread.poll()], [Some(Interrupt::Timeout); 2]);
        thread.clear_interrupt();
        assert_eq!(thread.poll(), None);
    }

    #[test]
    fn fuel_allows_so_many_polls() {
        let thread = Thread::new(&Options::default()).expect("there is memory");
        thread.set_fuel(Some(2));
        assert_eq!([thread.poll(), thread.poll(), thread.poll()], [None, None, Some(Interrupt::Fuel)]);
        assert_eq!(thread.fuel(), Some(0));
        thread.clear_interrupt();
        thread.set_fuel(None);
        assert_eq!((thread.poll(), thread.fuel()), (None, None));
    }

    #[test]
    fn nested_entries_keep_the_stack_limit() {
        let thread =
            Thread::new(&Options { max_stack: 1 << 20, ..Options::default() }).expect("there is memory");
        let outer = thread.enter().expect("there is stack");
        let limit = thread.stack_limit();
        assert!(limit.abs_diff(stack::pointer() - (1 << 20)) < 4096);
        drop(thread.enter().expect("there is stack"));
        assert!(thread.is_entered());
        assert_eq!(thread.stack_limit(), limit);
        drop(outer);
        assert!(!thread.is_entered());
    }

    #[test]
    fn being_asked_for_a_checkpoint_spends_no_fuel_and_interrupts_nobody() {
        let thread = Thread::new(&Options::default()).expect("there is memory");
        thread.block.ask_for_checkpoint();
        assert_eq!((thread.poll(), thread.fuel()), (None, None));
        thread.set_fuel(Some(2));
        assert_eq!((thread.take_lag(), thread.take_lag(), thread.poll()), (true, false, None));
        assert_eq!(thread.fuel(), Some(1));
    }

    #[test]
    fn a_small_thread_keeps_its_reserve() {
        let check = || {
            let thread = Thread::new(&Options { max_stack: usize::MAX, ..Options::default() })
                .expect("there is memory");
            let bounds = stack::bounds().expect("the system knows the stack");
            let reserve = thread.enter().map(|_| thread.stack_limit() - bounds.start);
            (bounds.len(), reserve)
        };
        // A thread may get the larger stack of one that ended.
        for size in [128 << 10, 1 << 20] {
            let thread = std::thread::Builder::new().stack_size(size).spawn(check).expect("there is memory");
            let (len, reserve) = thread.join().expect("the thread does not panic");
            match reserve {
                Ok(reserve) => assert_eq!(reserve, stack::HOST_RESERVE),
                Err(reason) => {
                    assert!(matches!(reason, NoRoom::Used) && len < stack::HOST_RESERVE + (64 << 10))
                }
            }
        }
    }
}
