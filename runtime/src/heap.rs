//! Objects: allocation, access by the host, and a collector that moves them.
//!
//! ```text
//!   │ objects … top │ zeroed … limit │ … soft end │ … │        the half in use; code makes objects between top and limit
//!   │ empty                                           │        the other one: a collection copies what is reached there
//! ```
//!
//! Objects are laid out as [`dagwood_il::layout`] says, in a *semispace*: a collection copies what is reached from one half to the
//! other, breadth first (Cheney 1970), and the first half is empty then. It is *precise*: it knows where every reference is, in
//! compiled frames by the maps that their code came with, in objects by their descriptions, in the host by what it was
//! [told to hold](Heap::root), in statics by the type of their symbols. So everything may move, at every yield point.
//!
//! # Why
//!
//! A collector is not what this library is about; but code that may be stopped, left and rebuilt must tell exactly where its
//! references are, and nothing tests that as well as a collector that moves everything at every yield point
//! ([`Collect::AtEveryYield`]) and leaves poison where objects were.
//!
//! # Guarantees
//!
//! * The memory is bounded: what does not fit raises `out_of_memory`.
//! * What the host passes as a reference is null or leads to an object's start, exactly; anything else is an error, or a
//!   panic where it says so. That holds for fields, for statics, for arguments, and for what native functions return and raise.
//!   Which class an object is of no signature says: that is between a frontend and its host, as what addresses lead to.
//! * The collector checks each reference that it follows; one that leads to no object is a panic, which names it. A heap in which a
//!   collection was cut off so has objects in both halves, and every later use is refused.
//! * One thread uses a heap at a time: a heap is not shared, and code that runs with it on one [`Thread`] cannot be joined by
//!   another. Monitors therefore only count how often they were entered.
//!
//! # Cost
//!
//! Allocating in compiled code: four loads, a compare, three stores, besides the loop over nothing, since memory is zeroed in
//! pieces of 32 KiB ahead of use. Collecting: in proportion to what is reached.

mod access;
mod collect;
mod roots;
mod space;
mod starts;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dagwood_il::entity::Entity;
use dagwood_il::interp::Fault;
use dagwood_il::layout::{CLASS_OFFSET, LENGTH_OFFSET, ObjectKind, RUNTIME_OFFSET};
use dagwood_il::{RaiseKind, SymbolId};

use crate::classes::{Classes, Info};
use crate::error::SystemError;
use crate::raise::Raise;
use crate::thread::{Block, Thread};

pub use access::AccessError;
pub use roots::{Root, Roots};

use roots::Held;
use space::Space;
use starts::Starts;

/// The bytes that are zeroed at once.
const CHUNK: usize = 32 << 10;
/// The bytes that may be used before the first collection.
const FIRST_SOFT: usize = 1 << 20;

/// When objects are collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collect {
    /// When twice as much is in use as was left by the last collection, at the latest when memory is used up.
    #[default]
    WhenFull,
    /// At every yield point that comes to the runtime: allocations, calls of native functions, polls. Then every object moves, and
    /// where it was is poison. For tests.
    AtEveryYield,
}

/// How large a heap is, and when it is collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of objects. Twice as many addresses are taken, and memory as it is used.
    pub limit_bytes: usize,
    /// When it is collected.
    pub collect: Collect,
}

impl Default for Options {
    fn default() -> Options {
        Options { limit_bytes: 64 << 20, collect: Collect::WhenFull }
    }
}

/// What a heap has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How often it was collected.
    pub collections: u64,
    /// The bytes of objects now, padding included, dead ones too.
    pub used_bytes: usize,
    /// The bytes that the last collection left.
    pub live_bytes: usize,
}

/// Two words, as every static has.
#[derive(Debug, Default)]
#[repr(align(16))]
struct Static([AtomicU64; 2]);

/// The objects of a program.
pub struct Heap {
    classes: Arc<Classes>,
    collect: Cell<Collect>,
    space: Space,
    /// Which half is in use.
    half: Cell<usize>,
    /// Where the next object goes, and up to where memory is zeroed, while no thread has them.
    own: Cell<(usize, usize)>,
    /// Up to where memory is used before a collection.
    soft_end: Cell<usize>,
    /// The thread block that has top and limit, so that code can move them.
    lent: RefCell<Option<Arc<Block>>>,
    held: Held,
    statics: Box<[Static]>,
    starts: Starts,
    /// Set while objects move: if it is found set, a collection was cut off.
    is_broken: Cell<bool>,
    collections: Cell<u64>,
    live_bytes: Cell<usize>,
}

impl Heap {
    /// An empty heap for objects of these classes, with storage for the statics of their module, zero.
    ///
    /// # Errors
    ///
    /// If the system has no addresses left.
    pub fn new(classes: Arc<Classes>, options: &Options) -> Result<Heap, SystemError> {
        let space = Space::new(options.limit_bytes)?;
        let half = space.half(0);
        let heap = Heap {
            collect: Cell::new(options.collect),
            half: Cell::new(0),
            own: Cell::new((half.start, half.start)),
            soft_end: Cell::new(half.end.min(half.start + FIRST_SOFT)),
            lent: RefCell::new(None),
            held: Held::default(),
            statics: classes.statics().iter().map(|_| Static::default()).collect(),
            starts: Starts::new(half.start),
            is_broken: Cell::new(false),
            collections: Cell::new(0),
            live_bytes: Cell::new(0),
            space,
            classes,
        };
        Ok(heap)
    }

    /// The descriptions of its objects' classes.
    pub fn classes(&self) -> &Arc<Classes> {
        &self.classes
    }

    /// Changes when objects are collected.
    ///
    /// # Panics
    ///
    /// While code runs with the heap.
    pub fn set_collect(&self, collect: Collect) {
        assert!(self.lent.borrow().is_none(), "code runs with the heap");
        let (top, _) = self.own.get();
        // What is zeroed beyond is zeroed again when it is used.
        self.own.set((top, top));
        self.collect.set(collect);
    }

    /// What it has done.
    pub fn stats(&self) -> Stats {
        let used_bytes = self.cursor().0 - self.space.half(self.half.get()).start;
        Stats { collections: self.collections.get(), used_bytes, live_bytes: self.live_bytes.get() }
    }

    /// Where the storage of a static is, for [`Jit::bind_symbol`](crate::Jit::bind_symbol): 16 bytes, as long as the heap. Those of
    /// type `ref` are roots.
    ///
    /// # Panics
    ///
    /// If the module has no such symbol.
    pub fn static_address(&self, symbol: SymbolId) -> usize {
        (&raw const self.statics[symbol.index()]) as usize
    }

    /// Makes every static zero, or null.
    pub fn clear_statics(&self) {
        self.statics.iter().flat_map(|Static(words)| words).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    // ---- allocation ----

    /// A new object, zero but for its header; `length` is the number of an array's elements. Other objects may move.
    ///
    /// # Errors
    ///
    /// `out_of_memory`; a fault if compiled code waits for this in a call that it was told does not yield.
    ///
    /// # Panics
    ///
    /// If the kind is of a class that the module does not declare.
    pub fn allocate(&self, kind: ObjectKind, length: u32) -> Result<u64, Raise> {
        self.allocate_info(self.classes.info(kind), length)
    }

    /// What code calls that found no room. A description that is none is a fault.
    pub(crate) fn allocate_described(&self, description: u64, length: u32) -> Result<u64, Raise> {
        match self.classes.info_at(description) {
            Some(info) => self.allocate_info(info, length),
            None => Err(Raise::fault(format!("{description:#x} describes no class of this heap"))),
        }
    }

    /// Refuses the use of a heap that a collection has left half moved.
    ///
    /// # Errors
    ///
    /// A fault that says so.
    pub(crate) fn check_whole(&self) -> Result<(), Raise> {
        match self.is_broken.get() {
            false => Ok(()),
            true => Err(Raise::fault("the heap is unusable: a collection of it was cut off")),
        }
    }

    fn allocate_info(&self, info: &Info, length: u32) -> Result<u64, Raise> {
        self.check_whole()?;
        let none_left = || Raise::new(RaiseKind::OutOfMemory, 0);
        let size = usize::try_from(info.object_bytes(length)).map_err(|_| none_left())?;
        if size > self.space.half(0).len() {
            return Err(none_left());
        }
        let is_eager = self.collect.get() == Collect::AtEveryYield;
        if is_eager {
            self.collect()?;
        }
        if !self.extend(size) {
            self.collect()?;
            // What is left may be more than was to be used; but it fits.
            let (top, _) = self.cursor();
            let end = self.space.half(self.half.get()).end;
            if size > end - top {
                return Err(none_left());
            }
            self.soft_end.set(self.soft_end.get().max(top + size));
            assert!(self.extend(size), "the object fits");
        }
        let (object, limit) = self.cursor();
        let top = object + size;
        // So that the next one, too, comes here.
        let limit = if is_eager { top } else { limit };
        self.set_cursor(top, limit);
        self.space.set_word(object + CLASS_OFFSET as usize, self.classes.address(info.kind));
        self.space.store(object + LENGTH_OFFSET as usize, 4, length.into());
        Ok(object as u64)
    }

    /// Sees to it that so many bytes are zeroed; false if they are more than may be used now.
    fn extend(&self, size: usize) -> bool {
        let (top, limit) = self.cursor();
        if size <= limit - top {
            return true;
        }
        if size > self.soft_end.get().saturating_sub(top) {
            return false;
        }
        let new = (top + size).max(limit + CHUNK).min(self.soft_end.get());
        self.space.fill(limit..new, 0);
        self.set_cursor(top, new);
        true
    }

    /// Where the next object goes, and up to where memory is zeroed.
    fn cursor(&self) -> (usize, usize) {
        match &*self.lent.borrow() {
            Some(block) => block.objects(),
            None => self.own.get(),
        }
    }

    fn set_cursor(&self, top: usize, limit: usize) {
        match &*self.lent.borrow() {
            Some(block) => block.set_objects(top, limit),
            None => self.own.set((top, limit)),
        }
    }

    /// Lets code on a thread make objects, until what this returns is dropped.
    ///
    /// # Errors
    ///
    /// If another thread has the heap, or the thread another heap; if a collection was cut off.
    pub(crate) fn lend(&self, thread: &Thread) -> Result<Lent<'_>, Raise> {
        self.check_whole()?;
        let block = thread.block();
        if let Some(other) = &*self.lent.borrow() {
            return match Arc::ptr_eq(other, block) {
                true => Ok(Lent { heap: None }),
                false => Err(Raise::fault("another thread runs code with the heap")),
            };
        }
        if block.objects() != (0, 0) {
            return Err(Raise::fault("the thread runs code with another heap"));
        }
        let (top, limit) = self.own.get();
        block.set_objects(top, limit);
        block.set_collecting(self.collect.get() == Collect::AtEveryYield);
        *self.lent.borrow_mut() = Some(Arc::clone(block));
        Ok(Lent { heap: Some(self) })
    }

    /// What happens where a thread comes to the runtime at a yield point that makes no object.
    pub(crate) fn yield_point(&self) -> Result<(), Raise> {
        match self.collect.get() {
            Collect::AtEveryYield => self.collect(),
            Collect::WhenFull => Ok(()),
        }
    }

    // ---- monitors ----

    /// Enters the monitor of an object.
    ///
    /// # Errors
    ///
    /// A fault if there is no object.
    pub fn monitor_enter(&self, reference: u64) -> Result<(), Raise> {
        let (place, count) = self.monitor(reference)?;
        self.space.store(place, 4, count.wrapping_add(1).into());
        Ok(())
    }

    /// Leaves the monitor of an object.
    ///
    /// # Errors
    ///
    /// A raise of the kind `monitor` if it was not entered; a fault if there is no object.
    pub fn monitor_exit(&self, reference: u64) -> Result<(), Raise> {
        let (place, count) = self.monitor(reference)?;
        let left = count.checked_sub(1).ok_or_else(|| Raise::new(RaiseKind::Monitor, 0))?;
        self.space.store(place, 4, left.into());
        Ok(())
    }

    fn monitor(&self, reference: u64) -> Result<(usize, u32), Raise> {
        let (address, _) = self.object(reference).map_err(Raise::fault)?;
        let place = address + RUNTIME_OFFSET as usize;
        Ok((place, self.space.load(place, 4) as u32))
    }

    // ---- for the interpreter ----

    /// Whether bytes are those of objects.
    fn has(&self, address: u64, size_bytes: u32) -> bool {
        let (start, top) = (self.space.half(self.half.get()).start as u64, self.cursor().0 as u64);
        !self.is_broken.get() && address >= start && address < top && u64::from(size_bytes) <= top - address
    }

    /// Reads memory where objects or statics are.
    pub(crate) fn peek(&self, address: u64, size_bytes: u32) -> Result<u128, Fault> {
        if self.has(address, size_bytes) {
            return Ok(self.space.load(address as usize, size_bytes as usize));
        }
        let (words, shift) = self.words(address, size_bytes)?;
        let [low, high] = [0, 1].map(|index| u128::from(words[index].load(Ordering::Relaxed)));
        Ok((low | high << 64) >> shift & mask(size_bytes))
    }

    /// Writes memory where objects or statics are.
    pub(crate) fn poke(&self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault> {
        if self.has(address, size_bytes) {
            self.space.store(address as usize, size_bytes as usize, bits);
            return Ok(());
        }
        let (words, shift) = self.words(address, size_bytes)?;
        let [low, high] = [0, 1].map(|index| u128::from(words[index].load(Ordering::Relaxed)));
        let kept = (low | high << 64) & !(mask(size_bytes) << shift);
        let new = kept | (bits & mask(size_bytes)) << shift;
        words[0].store(new as u64, Ordering::Relaxed);
        words[1].store((new >> 64) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The static that an address is in, and how many bits are below it.
    fn words(&self, address: u64, size_bytes: u32) -> Result<(&[AtomicU64; 2], u32), Fault> {
        let fault = Fault { address };
        let offset = address.checked_sub(self.statics.as_ptr() as u64).ok_or(fault)?;
        let index = offset / size_of::<Static>() as u64;
        let inside = (offset % size_of::<Static>() as u64) as u32;
        if inside + size_bytes > size_of::<Static>() as u32 {
            return Err(fault);
        }
        let Static(words) = self.statics.get(index as usize).ok_or(fault)?;
        Ok((words, inside * 8))
    }

    /// Holds a reference until [`Heap::unpark`].
    pub(crate) fn park(&self, reference: u64) {
        self.held.push(reference);
    }

    /// How many references are parked, or held by activations.
    pub(crate) fn parked(&self) -> usize {
        self.held.depth()
    }

    /// Takes back the references that were parked since there were `depth`, in the order in which they were parked.
    pub(crate) fn unpark(&self, depth: usize) -> Vec<u64> {
        self.held.pop_to(depth)
    }
}

/// All ones in so many bytes.
fn mask(size_bytes: u32) -> u128 {
    if size_bytes >= 16 { u128::MAX } else { (1 << (size_bytes * 8)) - 1 }
}

/// A heap that a thread has. Dropping it gives the heap back, if it was not the thread's before.
pub(crate) struct Lent<'h> {
    heap: Option<&'h Heap>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(heap) = self.heap
            && let Some(block) = heap.lent.take()
        {
            heap.own.set(block.objects());
            block.set_objects(0, 0);
            block.set_collecting(false);
        }
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
