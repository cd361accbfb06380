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
//! instead of running something else. Slots are given out from the lowest address of the oldest area that is in reach. The
//! end of a place stays inaccessible.
//!
//! *Cost.* Reading and writing a slot is one atomic access. Making and dropping one takes a lock and looks through at most
//! 1 KiB of bits, and one entry for each area. A place is as large as a chunk and holds 31 areas, each of which is made
//! accessible when those before it are full; it stays, and its pages take memory once they are used.

use std::fmt;
use std::mem::size_of;
use std::num::NonZero;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::call::Reach;
use crate::memory::place::Place;
use crate::system::share::Share;
use crate::system::{self, Access};

/// The bytes of an area.
const AREA: usize = 64 << 10;
/// The slots of an area.
const SLOTS: usize = AREA / size_of::<AtomicUsize>();
const BITS: usize = u64::BITS as usize;

/// The slots of a space. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Slots {
    areas: Share<Areas>,
}

impl Slots {
    /// No areas yet.
    pub(crate) fn new() -> Result<Slots, Error> {
        let state = State { areas: Vec::new(), grounds: Vec::new() };
        Ok(Slots { areas: Share::new(Areas { state: Mutex::new(state) })? })
    }

    /// A slot that holds `target`, in reach of every instruction that ends inside `code` or right behind it. If the places
    /// that are in reach are full, `take` gives a further one; it is called with a lock held and makes no slots.
    ///
    /// # Errors
    /// Those of `take`; [`Error::Memory`] if there is no room for what is known about the area; [`Error::OutOfReach`] if the
    /// code does not reach the place: then it is given back; [`Error::System`] if it cannot be made accessible.
    pub(crate) fn allocate(
        &self,
        code: &Range<usize>,
        target: usize,
        take: impl FnOnce() -> Result<Place, Error>,
    ) -> Result<Slot, Error> {
        let mut state = self.areas.lock();
        let found = state.areas.iter().position(|area| area.count > 0 && is_in_reach(area.base, code));
        let index = match found {
            Some(index) => index,
            None => state.grow(code, take)?,
        };
        let word = state.areas[index].take().expect("the area has a free slot: its count is not zero");
        let slot = Slot { word, areas: self.areas.clone() };
        slot.set(target);
        Ok(slot)
    }

    /// How many areas there are, and how many slots of them are in use.
    pub(crate) fn count(&self) -> (usize, usize) {
        let state = self.areas.lock();
        (state.areas.len(), state.areas.iter().map(|area| SLOTS - area.count).sum())
    }
}

/// What handles and slots share.
struct Areas {
    state: Mutex<State>,
}

impl Areas {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Only `take` of `Slots::allocate` can panic with the lock held, and then nothing was changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    /// The oldest first. They stay until all handles and slots are gone.
    areas: Vec<Area>,
    /// Where they stand.
    grounds: Vec<Ground>,
}

impl State {
    /// Makes a further area and says which.
    fn grow(
        &mut self,
        code: &Range<usize>,
        take: impl FnOnce() -> Result<Place, Error>,
    ) -> Result<usize, Error> {
        self.areas.try_reserve(1).map_err(|_| Error::Memory)?;
        let is_usable = |ground: &Ground| ground.next().is_some_and(|base| is_in_reach(base, code));
        let base = match self.grounds.iter_mut().find(|ground| is_usable(ground)) {
            Some(ground) => ground.open()?,
            None => {
                self.grounds.try_reserve(1).map_err(|_| Error::Memory)?;
                let mut ground = Ground { place: take()?, opened: 0 };
                if !is_usable(&ground) {
                    return Err(Error::OutOfReach { from: code.start, to: ground.place.base() });
                }
                let base = ground.open()?;
                self.grounds.push(ground);
                base
            }
        };
        self.areas.push(Area { base, free: [u64::MAX; SLOTS / BITS], count: SLOTS });
        Ok(self.areas.len() - 1)
    }
}

/// A place of which areas are made.
struct Ground {
    place: Place,
    /// How many bytes areas take.
    opened: usize,
}

impl Ground {
    /// Where the next area will stand. The last bytes of the place are left as a guard.
    fn next(&self) -> Option<usize> {
        (self.opened + AREA < self.place.len()).then(|| self.place.base() + self.opened)
    }

    /// Makes the next area accessible.
    fn open(&mut self) -> Result<usize, Error> {
        let base = self.next().expect("only a place with room is opened");
        // SAFETY: the place is ours, and nobody uses what was not opened before.
        unsafe { system::protect(base, AREA, Access::Write)? };
        self.opened += AREA;
        Ok(base)
    }
}

/// Whether each instruction that ends in `code` or right behind it reaches each slot of the area at `base`.
fn is_in_reach(base: usize, code: &Range<usize>) -> bool {
    let last = base + AREA - size_of::<AtomicUsize>();
    // The distance grows with the slot and falls with the code, so these two are its extremes.
    Reach::between(code.end, base) != Reach::Far && Reach::between(code.start, last) != Reach::Far
}

/// AREA bytes of readable and writable memory, which lives as long as the ground that it is a part of.
struct Area {
    base: usize,
    /// A bit for each slot, set while it is free.
    free: [u64; SLOTS / BITS],
    /// How many bits are set.
    count: usize,
}

impl Area {
    /// Takes the first free slot.
    fn take(&mut self) -> Option<NonNull<AtomicUsize>> {
        let at = self.free.iter().position(|&bits| bits != 0)?;
        let bits = self.free[at];
        self.free[at] = bits & (bits - 1);
        self.count -= 1;
        let index = at * BITS + bits.trailing_zeros() as usize;
        let address = NonZero::new(self.base + index * size_of::<AtomicUsize>())?;
        Some(NonNull::with_exposed_provenance(address))
    }

    /// Makes the slot at an address of this area free, which `take` gave out.
    fn give_back(&mut self, address: usize) {
        let index = (address - self.base) / size_of::<AtomicUsize>();
        self.free[index / BITS] |= 1 << (index % BITS);
        self.count += 1;
    }
}

/// A word of data that holds the target of calls. Dropping it gives it back: no code that goes through it may run any more,
/// as after [`crate::CodeSpace::reclaim`] has freed it all.
pub struct Slot {
    word: NonNull<AtomicUsize>,
    /// Keeps the memory of the word.
    areas: Share<Areas>,
}

// SAFETY: the word may be accessed by any thread: it is atomic, and its memory belongs to no thread. The areas are Send and
// Sync by themselves.
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
        // SAFETY: the word is aligned and lies in an area, which was made accessible before it gave out a slot and stays
        // so as long as `areas`; all Rust code accesses it as an atomic, for which any bits are valid.
        unsafe { self.word.as_ref() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.set(0);
        let mut state = self.areas.lock();
        let address = self.address();
        let area = state.areas.iter_mut().find(|area| (area.base..area.base + AREA).contains(&address));
        area.expect("an area stays as long as its slots").give_back(address);
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
