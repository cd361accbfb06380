//! Slots: words of data that hold the targets of calls.
//!
//! ```text
//!   code chunk            area, 64 KiB, plain data
//!   call [rip+d] ───────► [target][target][ free ] ..        within 2 GiB
//! ```
//!
//! A call through a slot reaches any address, and one store changes it for every site that goes through the slot. Slots
//! stand apart from code: they are written while code runs, and a write into a line that also holds code stops whoever runs
//! it. So they have areas of their own, never executable, in reach of the code that names them.
//!
//! *Guarantees.* The word of a [`Slot`] stays mapped and belongs to it alone until it is dropped, even if the space is
//! dropped first. The word of a dropped slot is zero, so that a call that should not be there any more faults at address 0
//! instead of running something else. Slots are given out from the lowest address of the oldest area that is in reach.
//!
//! *Cost.* Reading and writing a slot is one atomic access. Making and dropping one takes a lock and looks through at most
//! 1 KiB of bits. An area that was mapped stays mapped; its pages take memory once they are used.

use std::fmt;
use std::mem::size_of;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::call::Reach;

/// The bytes of an area.
pub(crate) const AREA: usize = 64 << 10;
/// The slots of an area.
const SLOTS: usize = AREA / size_of::<AtomicUsize>();
const BITS: usize = u64::BITS as usize;

/// Memory for an area of slots.
///
/// # Safety
/// From [`AreaMemory::base`] on there are [`AREA`] bytes that are readable, writable and zero at first, at a multiple of 8,
/// and nobody else accesses them as long as the value lives, wherever it is moved.
pub(crate) unsafe trait AreaMemory: Send {
    /// The first byte.
    fn base(&self) -> NonNull<u8>;
}

/// The areas of a space. A clone is another handle.
pub(crate) struct Slots<M> {
    areas: Arc<Areas<M>>,
}

impl<M> Clone for Slots<M> {
    fn clone(&self) -> Self {
        Slots { areas: Arc::clone(&self.areas) }
    }
}

impl<M: AreaMemory + 'static> Slots<M> {
    /// No areas yet.
    pub(crate) fn new() -> Slots<M> {
        Slots { areas: Arc::new(Areas { areas: Mutex::new(Vec::new()) }) }
    }

    /// A slot that holds `target`, in reach of every instruction that ends inside `code` or right behind it. If no area that
    /// is in reach has room, `map` gives the memory of a further one; it is called with a lock held and makes no slots.
    ///
    /// # Errors
    /// Those of `map`; [`Error::Memory`] if there is no room for what is known about the area; [`Error::OutOfReach`] if the
    /// code does not reach the area: then its memory is given back.
    pub(crate) fn allocate(
        &self,
        code: &Range<usize>,
        target: usize,
        map: impl FnOnce() -> Result<M, Error>,
    ) -> Result<Slot, Error> {
        let mut areas = self.areas.lock();
        let area = match areas.iter().position(|area| area.count > 0 && area.is_in_reach(code)) {
            Some(index) => &mut areas[index],
            None => {
                areas.try_reserve(1).map_err(|_| Error::Memory)?;
                let area = Area::new(map()?);
                if !area.is_in_reach(code) {
                    return Err(Error::OutOfReach { from: code.start, to: area.base() });
                }
                areas.push(area);
                areas.last_mut().expect("it was just pushed")
            }
        };
        let word = area.take().expect("the area has a free slot: its count was not zero");
        let home = Arc::clone(&self.areas);
        let slot = Slot { word, home };
        slot.set(target);
        Ok(slot)
    }

    /// How many areas there are, and how many slots of them are in use.
    pub(crate) fn count(&self) -> (usize, usize) {
        let areas = self.areas.lock();
        (areas.len(), areas.iter().map(|area| SLOTS - area.count).sum())
    }
}

/// What the areas' handles and slots share.
struct Areas<M> {
    /// The oldest first. An area stays until all handles and slots are gone.
    areas: Mutex<Vec<Area<M>>>,
}

impl<M> Areas<M> {
    fn lock(&self) -> MutexGuard<'_, Vec<Area<M>>> {
        // Only `map` can panic with the lock held, and then nothing was changed.
        self.areas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a slot goes when it is dropped.
trait Home: Send + Sync {
    fn give_back(&self, word: NonNull<AtomicUsize>);
}

impl<M: AreaMemory> Home for Areas<M> {
    fn give_back(&self, word: NonNull<AtomicUsize>) {
        let mut areas = self.lock();
        let address = word.addr().get();
        let area = areas.iter_mut().find(|area| (area.base()..area.base() + AREA).contains(&address));
        area.expect("an area stays as long as its slots").give_back(address);
    }
}

struct Area<M> {
    memory: M,
    /// A bit for each slot, set while it is free.
    free: [u64; SLOTS / BITS],
    /// How many bits are set.
    count: usize,
}

impl<M: AreaMemory> Area<M> {
    fn new(memory: M) -> Area<M> {
        Area { memory, free: [u64::MAX; SLOTS / BITS], count: SLOTS }
    }

    fn base(&self) -> usize {
        self.memory.base().addr().get()
    }

    /// Whether each instruction of `code` reaches each slot.
    fn is_in_reach(&self, code: &Range<usize>) -> bool {
        let (first, last) = (self.base(), self.base() + AREA - size_of::<AtomicUsize>());
        // The distance grows with the slot and falls with the code, so its extremes are those of the corners.
        Reach::between(code.end, first) != Reach::Far && Reach::between(code.start, last) != Reach::Far
    }

    /// Takes the first free slot.
    fn take(&mut self) -> Option<NonNull<AtomicUsize>> {
        let at = self.free.iter().position(|&bits| bits != 0)?;
        let bits = self.free[at];
        self.free[at] = bits & (bits - 1);
        self.count -= 1;
        let index = at * BITS + bits.trailing_zeros() as usize;
        // SAFETY: the index is below SLOTS, so the word lies inside the AREA bytes from the base on, which are one piece of
        // mapped memory by what an `AreaMemory` promises.
        Some(unsafe { self.memory.base().cast::<AtomicUsize>().add(index) })
    }

    /// Makes the slot at an address of this area free, whose bit was cleared by `take`.
    fn give_back(&mut self, address: usize) {
        let index = (address - self.base()) / size_of::<AtomicUsize>();
        self.free[index / BITS] |= 1 << (index % BITS);
        self.count += 1;
    }
}

/// A word of data that holds the target of calls. Dropping it gives it back: no code that goes through it may run any more,
/// as after [`crate::CodeSpace::reclaim`] has freed it all.
pub struct Slot {
    word: NonNull<AtomicUsize>,
    /// Keeps the memory of the word.
    home: Arc<dyn Home>,
}

// SAFETY: the word may be accessed by any thread: it is atomic, and its memory belongs to no thread. The home is Send and
// Sync by its bounds.
unsafe impl Send for Slot {}
// SAFETY: as above; `set` and `target` are atomic accesses.
unsafe impl Sync for Slot {}

impl Slot {
    /// Where the word is: what code refers to.
    pub fn address(&self) -> usize {
        self.word.addr().get()
    }

    /// Makes calls go to `target` from now on. What was written before is seen by who calls through the new target.
    pub fn set(&self, target: usize) {
        self.word().store(target, Ordering::Release);
    }

    /// Where calls go now.
    pub fn target(&self) -> usize {
        self.word().load(Ordering::Acquire)
    }

    fn word(&self) -> &AtomicUsize {
        // SAFETY: the word is aligned, lies in the memory of an area, which lives as long as `home`, and all Rust code
        // accesses it as an atomic. An all-zero word is a valid `AtomicUsize`.
        unsafe { self.word.as_ref() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.set(0);
        self.home.give_back(self.word);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("address", &format_args!("{:#x}", self.address()))
            .field("target", &format_args!("{:#x}", self.target()))
            .finish()
    }
}

#[cfg(test)]
mod tests;
