//! Where the chunks of one space come from: a reserve that was taken at the start, then the ladder.
//!
//! ```text
//!   | guard page | chunk 0 | chunk 1 | ... |      one bit for each chunk that is taken
//! ```
//!
//! A place that was taken from the reserve holds it, so the reserve outlives its places. Those that cannot be given back,
//! because they are sealed, keep their bit, and only what is around them is unmapped in the end.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::idle::Idle;
use super::{Found, Home, Place, Rung, Window, anywhere, climb, reserve_in};
use crate::system::share::Share;
use crate::system::{self, Access};
use crate::{CHUNK, Error, Options, PAGE, Placement};

/// One reserved piece of addresses, of which chunks are taken.
#[derive(Debug)]
pub(super) struct Reserve {
    base: usize,
    len: usize,
    rung: Rung,
    /// A bit for each chunk that is taken.
    taken: Mutex<Box<[u64]>>,
}

impl Reserve {
    fn new(found: &Found) -> Result<Reserve, Error> {
        let mut taken = Vec::new();
        let words = (found.len / CHUNK).div_ceil(64);
        taken.try_reserve_exact(words).map_err(|_| Error::Memory)?;
        taken.resize(words, 0);
        let taken = Mutex::new(taken.into_boxed_slice());
        Ok(Reserve { base: found.base, len: found.len, rung: found.rung, taken })
    }

    fn lock(&self) -> MutexGuard<'_, Box<[u64]>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lowest `len` bytes that are free.
    fn take(&self, len: usize) -> Option<usize> {
        let mut taken = self.lock();
        let wanted = len / CHUNK;
        let mut run = 0;
        for chunk in 0..self.len / CHUNK {
            run = if taken[chunk / 64] >> (chunk % 64) & 1 == 0 { run + 1 } else { 0 };
            if run == wanted {
                let first = chunk + 1 - wanted;
                for taking in first..=chunk {
                    taken[taking / 64] |= 1 << (taking % 64);
                }
                return Some(self.base + first * CHUNK);
            }
        }
        None
    }

    pub(super) fn put_back(&self, base: usize, len: usize) {
        // SAFETY: the place was taken from this reserve and its owner gives it up.
        if !unsafe { system::map_back(base, len, Access::None) } {
            // What is there now stays, so nobody else may have the place.
            return;
        }
        let mut taken = self.lock();
        let first = (base - self.base) / CHUNK;
        for chunk in first..first + len / CHUNK {
            taken[chunk / 64] &= !(1 << (chunk % 64));
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // Each place that was given out holds this reserve, so those still taken are left for good.
        let taken = self.lock();
        let is_free = |chunk: usize| taken[chunk / 64] >> (chunk % 64) & 1 == 0;
        let chunks = self.len / CHUNK;
        let mut start = 0;
        while start < chunks {
            let end = (start..chunks).find(|&chunk| !is_free(chunk)).unwrap_or(chunks);
            let guard = if start == 0 { PAGE } else { 0 };
            let from = self.base + start * CHUNK - guard;
            let len = guard + (end - start) * CHUNK;
            if len > 0 {
                // SAFETY: reserved by `find`, guard page included, and free, so that nobody uses it.
                unsafe { system::unmap(from, len) };
            }
            start = (end..chunks).find(|&chunk| is_free(chunk)).unwrap_or(chunks);
        }
    }
}

/// Where the chunks of a space come from.
#[derive(Debug)]
pub(crate) struct Region {
    reserve: Option<Share<Reserve>>,
    /// What chunks have left.
    idle: Idle,
    /// What later chunks stand near; zero while that is open.
    anchor: AtomicUsize,
    /// The place that was found last beyond the reserve.
    last: AtomicUsize,
    tries: AtomicU32,
}

impl Region {
    pub(crate) fn new(options: &Options) -> Result<Region, Error> {
        let mut tries = 0;
        let mut region = Region {
            reserve: None,
            idle: Idle::default(),
            anchor: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
            tries: AtomicU32::new(0),
        };
        let window = match options.placement {
            Placement::Near(anchor) => {
                *region.anchor.get_mut() = anchor;
                Some(Window::near(anchor))
            }
            Placement::Anywhere => None,
        };
        let len = options.reserve_bytes.checked_next_multiple_of(CHUNK).unwrap_or(1 << 46).min(1 << 46);
        if len > 0 {
            let found = match &window {
                Some(window) => reserve_in(window, len, &mut tries)?,
                None => Some(anywhere(len, PAGE, &mut tries)?),
            };
            if let Some(found) = found {
                if window.is_none() {
                    *region.anchor.get_mut() = found.base;
                }
                region.reserve = Some(Share::new(Reserve::new(&found)?)?);
                found.keep();
            }
        }
        *region.tries.get_mut() = tries;
        Ok(region)
    }

    /// A place for a chunk of `len` bytes, a multiple of [`CHUNK`], at a multiple of it: one that chunks have left, if there is.
    /// It is given back by [`Region::put_back`].
    pub(crate) fn take_for_code(&self, len: usize) -> Result<Place, Error> {
        if let Some(place) = self.idle.take(len) {
            return Ok(place);
        }
        self.idle.promise(len)?;
        self.take(len).inspect_err(|_| self.idle.take_back_promise(len))
    }

    /// Takes back what [`Region::take_for_code`] gave: for the next chunk, if one has stood there.
    pub(crate) fn put_back(&self, place: Place) {
        if place.is_readable() {
            self.idle.put(place);
        } else {
            self.idle.take_back_promise(place.len);
        }
    }

    /// Keeps the place of a chunk whose memory was given back, which can be read, for others.
    pub(crate) fn keep(&self, place: Place) {
        self.idle.put(place);
    }

    /// A place of `len` bytes, a multiple of [`CHUNK`], at a multiple of it, where nothing has stood.
    pub(crate) fn take(&self, len: usize) -> Result<Place, Error> {
        debug_assert!(len > 0 && len.is_multiple_of(CHUNK), "places are whole chunks");
        if let Some(reserve) = &self.reserve
            && let Some(base) = reserve.take(len)
        {
            return Ok(Place {
                base,
                len,
                rung: Rung::Reserved,
                tries: 0,
                home: Home::Reserve(reserve.clone()),
                is_readable: false,
            });
        }
        let mut tries = 0;
        let result = match self.anchor.load(Ordering::Relaxed) {
            0 => anywhere(len, 0, &mut tries).map(|found| found.into_place(tries)),
            anchor => climb(&Window::near(anchor), len, self.last.load(Ordering::Relaxed), &mut tries),
        };
        self.tries.fetch_add(tries, Ordering::Relaxed);
        let place = result?;
        if place.rung != Rung::Anywhere {
            self.last.store(place.base, Ordering::Relaxed);
        }
        let _ = self.anchor.compare_exchange(0, place.base, Ordering::Relaxed, Ordering::Relaxed);
        Ok(place)
    }

    /// The addresses that were reserved at the start, and how they were found.
    pub(crate) fn reserved(&self) -> Option<(Range<usize>, Rung)> {
        self.reserve.as_ref().map(|reserve| (reserve.base..reserve.base + reserve.len, reserve.rung))
    }

    /// How many places were tried up to now.
    pub(crate) fn tries(&self) -> u32 {
        self.tries.load(Ordering::Relaxed)
    }
}
