//! Where code stands: the ladder of ways to find addresses near the program.
//!
//! ```text
//!   anchor - 1.75 GiB            anchor            + 1.06 GiB     + 1.75 GiB
//!   |<--------- below ---------->| image ... [heap] ...|<-- above -->|
//!                                  position-independent: below first; fixed: above only
//!
//!   reserved -> hinted tries -> walk -> scan of the memory map -> pool in the image -> anywhere
//! ```
//!
//! Asking the system for any address never yields one near the program. So a piece of addresses is taken at the
//! start, at a random place below the program, where nothing else lives, and chunks are carved out of it. If it
//! is used up, or if there was no room for it, each chunk climbs the ladder by itself: some random places, each
//! taken only if it is free (`MAP_FIXED_NOREPLACE`), then all places one after the other, then what the memory map
//! says is free, then the pool that the image brings along ([`crate::memory::pool`]), and last any address at all, from
//! which calls go through slots.
//!
//! *Reach.* What lies in the window of 1.75 GiB reaches every byte of an image of up to 256 MiB, and both ends of the
//! window's lower half reach each other. *The heap* starts up to a gibibyte above the image and grows upwards: no code is
//! put right behind or before it, which would stop it from growing.
//!
//! *Cost.* A try that fails costs a fifth to a tenth of one that succeeds, which is one `mmap`. A whole reservation is
//! tried [`HINTS`] times, a quarter of it once, and so on down to [`LEAST_QUARTER`], so that starting is cheap in a crowded
//! process too: the first reservation in a fresh process with 3,000 mappings strewn over the 4 GiB around it took 1.7 times
//! what it takes in one with none (medians of 300 processes each, 7 tries against 1). The walk costs at most 1,300 failing
//! tries, the scan reads the memory map once. What would say more than a failing try does, 0.35 µs, costs more than ten of them:
//! to open the memory map 8 µs, to map over the pool, which splits a mapping of the image, 8 to 15 µs, and to have the
//! system search below 2 GiB 3 to 6 µs. So the pool comes late.
//!
//! Others: LuaJIT tries random hints; OpenJ9 and PHP scan the memory map; YJIT walks; SpiderMonkey reserves at a
//! random place far from everything.

mod idle;
mod region;

use std::ops::Range;

use rustix::io::Errno;

use crate::memory::pool;
use crate::system::maps;
use crate::system::share::Share;
use crate::system::{self, At};
use crate::{CHUNK, Error, PAGE};

use region::Reserve;

pub(crate) use region::Region;

/// How far from the anchor code may stand: what is left of 2 GiB is for the rest of the anchor's image.
const WINDOW: usize = 7 << 28;
/// Where the heap of a program may start, counted from its text, and room for it to grow.
const HEAP: usize = (1 << 30) + HEAP_MARGIN;
/// How far code stays away from the heap at least.
const HEAP_MARGIN: usize = 64 << 20;
/// No code stands below this address.
const LOWEST: usize = 16 << 20;
/// Nor at or above this one, where the addresses of a process end.
const HIGHEST: usize = (1 << 47) - CHUNK;
/// Programs that are not position-independent stand below this address.
const FIXED_PROGRAMS: usize = 4 << 30;
/// Random places that are tried for a whole reservation; one for each smaller size.
const HINTS: u32 = 2;
/// A smaller reservation than asked for has as many bytes at least.
const LEAST_QUARTER: usize = 4 * CHUNK;
/// Random places that are tried for one chunk.
const CHUNK_HINTS: u32 = 8;
/// How often the memory map is read for one chunk: another thread may take what it showed to be free.
const SCANS: u32 = 3;
/// The addresses that [`crate::Placement::Anywhere`] chooses from.
const ANYWHERE: Range<usize> = FIXED_PROGRAMS..1 << 46;

/// How a place was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// In the addresses that were reserved when the space was made.
    Reserved,
    /// At a place that was tried on a guess.
    Hint,
    /// By trying one place after the other.
    Walk,
    /// By reading the memory map of the process.
    Scan,
    /// In the pool that is part of the image.
    Pool,
    /// Wherever there was room: perhaps out of reach of the anchor.
    Anywhere,
}

/// Addresses that are ours and hold nothing. Dropping it gives them back, whatever is mapped there by then.
#[derive(Debug)]
pub(crate) struct Place {
    base: usize,
    len: usize,
    rung: Rung,
    tries: u32,
    home: Home,
    /// Whether it can be read, and must stay so, since a lookup may be reading there.
    is_readable: bool,
}

/// Whom a place is given back to.
#[derive(Debug)]
enum Home {
    System,
    Reserve(Share<Reserve>),
    Pool,
    /// Nobody: it stays as it is.
    Nobody,
}

impl Place {
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn rung(&self) -> Rung {
        self.rung
    }

    /// How many places were tried to find this one, itself included.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// A place in the pool of this crate's image, if that has room and is in reach of `anchor`.
    pub(crate) fn in_pool(len: usize, anchor: usize) -> Option<Place> {
        let base = pool::take(len, anchor, WINDOW)?;
        Some(Place { base, len, rung: Rung::Pool, tries: 1, home: Home::Pool, is_readable: false })
    }

    /// Whether it can be read and must stay so: a chunk stood there before.
    pub(crate) fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Takes the first `len` bytes off, which are not all.
    fn split(&mut self, len: usize) -> Place {
        debug_assert!(len < self.len && len.is_multiple_of(CHUNK), "places are whole chunks");
        let home = match &self.home {
            Home::System => Home::System,
            Home::Reserve(reserve) => Home::Reserve(reserve.clone()),
            Home::Pool => Home::Pool,
            Home::Nobody => Home::Nobody,
        };
        let first = Place { base: self.base, len, home, ..*self };
        self.base += len;
        self.len -= len;
        first
    }

    /// Whether `next` begins where this ends, and both are given back alike.
    fn may_join(&self, next: &Place) -> bool {
        // All places of a space that are from a reserve are from the same one.
        self.base + self.len == next.base
            && self.rung == next.rung
            && std::mem::discriminant(&self.home) == std::mem::discriminant(&next.home)
    }

    /// Becomes one with the place behind it.
    fn join(&mut self, mut next: Place) {
        self.len += next.len;
        next.home = Home::Nobody;
    }

    /// Says that so many places were tried before.
    fn after(mut self, tries: u32) -> Place {
        self.tries += tries;
        self
    }

    /// Lets the place be what it is until the process ends, because it cannot be unmapped.
    pub(crate) fn leave(mut self) {
        self.home = Home::Nobody;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match &self.home {
            Home::System => {
                // SAFETY: the addresses are this place's alone, and whoever used them borrowed or owned it. If it
                // fails they stay mapped, which harms nobody.
                unsafe { system::unmap(self.base, self.len) };
            }
            Home::Reserve(reserve) => reserve.put_back(self.base, self.len),
            Home::Pool => pool::put_back(self.base, self.len),
            Home::Nobody => {}
        }
    }
}

/// Addresses that are reserved for things that code is to reach and that a space does not make, such as tables or data of the
/// owner's: whoever has it maps them over it. They hold nothing at first; dropping it gives
/// them back, with what is there.
#[derive(Debug)]
pub struct Reservation {
    place: Place,
    guard: usize,
}

impl Reservation {
    /// Where it starts: a multiple of [`CHUNK`].
    pub fn base(&self) -> usize {
        self.place.base
    }

    /// Its bytes: what was asked for, rounded up to whole chunks, or less where there was no room.
    #[expect(clippy::len_without_is_empty, reason = "a reservation has at least one chunk")]
    pub fn len(&self) -> usize {
        self.place.len
    }

    /// How it was found.
    pub fn rung(&self) -> Rung {
        self.place.rung
    }

    /// How many places were tried, this one included.
    pub fn tries(&self) -> u32 {
        self.place.tries()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.guard > 0 {
            // SAFETY: the guard page before the place was mapped with it and is used by nobody.
            unsafe { system::unmap(self.place.base - self.guard, self.guard) };
        }
    }
}

/// Reserves `len` bytes of addresses near `anchor` for other things than code, rounded up to whole chunks, as a code space
/// does for itself when it is made: a quarter, and so on, where that is too much; one chunk at least, anywhere if need be.
///
/// # Errors
///
/// If the system has no addresses left, or refuses.
pub fn reserve_near(anchor: usize, len: usize) -> Result<Reservation, Error> {
    let mut tries = 0;
    let window = Window::near(anchor);
    let len = len.max(1).checked_next_multiple_of(CHUNK).unwrap_or(1 << 46).min(1 << 46);
    if let Some(found) = reserve_in(&window, len, &mut tries)? {
        let guard = found.guard;
        return Ok(Reservation { place: found.into_place(tries), guard });
    }
    Ok(Reservation { place: climb(&window, CHUNK, 0, &mut tries)?, guard: 0 })
}

/// The addresses that are in reach of an anchor.
#[derive(Debug)]
struct Window {
    anchor: usize,
    below: Range<usize>,
    highest: usize,
}

impl Window {
    fn near(anchor: usize) -> Window {
        let highest = anchor.saturating_add(WINDOW).min(HIGHEST) & !(CHUNK - 1);
        let lowest = whole_chunks(anchor.saturating_sub(WINDOW).max(LOWEST));
        let below_end = if anchor < FIXED_PROGRAMS { lowest } else { anchor.min(HIGHEST) & !(CHUNK - 1) };
        Window { anchor, below: lowest..below_end.max(lowest), highest }
    }

    /// Above the program and its heap.
    fn above(&self) -> Range<usize> {
        let heap = system::heap_end();
        let mut start = self.anchor.saturating_add(HEAP);
        if (self.anchor..self.highest).contains(&heap) {
            start = start.max(heap + HEAP_MARGIN);
        }
        whole_chunks(start).min(self.highest)..self.highest
    }

    /// Where guesses are made.
    fn best(&self) -> Range<usize> {
        if self.below.is_empty() { self.above() } else { self.below.clone() }
    }
}

/// Rounds up to whole chunks.
fn whole_chunks(address: usize) -> usize {
    address.checked_next_multiple_of(CHUNK).unwrap_or(HIGHEST).min(HIGHEST)
}

/// Addresses that were found and are not anybody's yet; dropping gives them back.
#[derive(Debug)]
struct Found {
    base: usize,
    len: usize,
    /// The bytes before it that are taken too.
    guard: usize,
    rung: Rung,
}

impl Found {
    fn keep(self) {
        std::mem::forget(self);
    }

    fn into_place(self, tries: u32) -> Place {
        let Found { base, len, rung, .. } = self;
        let place = Place { base, len, rung, tries, home: Home::System, is_readable: false };
        self.keep();
        place
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        // SAFETY: the addresses were just taken and nobody knows of them.
        unsafe { system::unmap(self.base - self.guard, self.guard + self.len) };
    }
}

/// Takes the `len` bytes at `base`, and `guard` before them, if they are free.
fn take_at(
    base: usize,
    len: usize,
    guard: usize,
    rung: Rung,
    tries: &mut u32,
) -> Result<Option<Found>, Error> {
    *tries = tries.saturating_add(1);
    // SAFETY: takes only what is free.
    match unsafe { system::map_nothing(At::Free(base - guard), guard + len) } {
        Ok(got) if got == base - guard => Ok(Some(Found { base, len, guard, rung })),
        Ok(elsewhere) => {
            // SAFETY: an old system has chosen another place, which nobody knows of.
            unsafe { system::unmap(elsewhere, guard + len) };
            Ok(None)
        }
        Err(Error::System { errno, .. }) if errno == Errno::EXIST.raw_os_error() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A few guesses for each of a few sizes, the largest being `len`; with a guard page before it.
fn reserve_in(window: &Window, len: usize, tries: &mut u32) -> Result<Option<Found>, Error> {
    let mut random = Random::quick();
    let mut size = len;
    loop {
        let hints = if size == len { HINTS } else { 1 };
        let found = guess(&window.best(), size, PAGE, hints, &mut random, tries);
        match found {
            Ok(None) | Err(_) if size / 4 >= LEAST_QUARTER => size = (size / 4) & !(CHUNK - 1),
            other => return other,
        }
    }
}

/// Tries random places in `range`.
fn guess(
    range: &Range<usize>,
    len: usize,
    guard: usize,
    guesses: u32,
    random: &mut Random,
    tries: &mut u32,
) -> Result<Option<Found>, Error> {
    let Some(room) = range.len().checked_sub(len) else { return Ok(None) };
    for _ in 0..guesses {
        let base = range.start + random.below(room / CHUNK + 1) * CHUNK;
        if let Some(found) = take_at(base, len, guard, Rung::Hint, tries)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Goes up the ladder for `len` bytes; `last` is a place below which there may be room.
fn climb(window: &Window, len: usize, last: usize, tries: &mut u32) -> Result<Place, Error> {
    if let Some(below) = last.checked_sub(len)
        && (window.below.contains(&below) || window.above().contains(&below))
        && let Some(found) = take_at(below, len, 0, Rung::Hint, tries)?
    {
        return Ok(found.into_place(*tries));
    }
    let mut random = Random::quick();
    if let Some(found) = guess(&window.best(), len, 0, CHUNK_HINTS, &mut random, tries)? {
        return Ok(found.into_place(*tries));
    }
    for base in steps(window, len) {
        if let Some(found) = take_at(base, len, 0, Rung::Walk, tries)? {
            return Ok(found.into_place(*tries));
        }
    }
    for _ in 0..SCANS {
        let Some(base) = scan(window, len) else { break };
        if let Some(found) = take_at(base, len, 0, Rung::Scan, tries)? {
            return Ok(found.into_place(*tries));
        }
    }
    if let Some(place) = Place::in_pool(len, window.anchor) {
        return Ok(place.after(*tries));
    }
    anywhere(len, 0, tries).map(|found| found.into_place(*tries))
}

/// All places for `len` bytes in the window, best first.
fn steps(window: &Window, len: usize) -> impl Iterator<Item = usize> {
    let fits = |range: &Range<usize>| range.len().checked_sub(len).map_or(0, |room| room / CHUNK + 1);
    let (below, above) = (window.below.clone(), window.above());
    let (fit_below, fit_above) = (fits(&below), fits(&above));
    let downwards = (0..fit_below).map(move |i| below.end - len - i * CHUNK);
    downwards.chain((0..fit_above).map(move |i| above.start + i * CHUNK))
}

/// What the memory map says is free: the nearest place below the anchor, else the nearest above, but not beside the heap.
fn scan(window: &Window, len: usize) -> Option<usize> {
    let lowest = window.below.start.max(LOWEST);
    let heap = system::heap_end();
    let beside = heap.saturating_sub(HEAP_MARGIN)..heap.saturating_add(HEAP_MARGIN);
    let (mut below, mut above) = (None, None);
    let mut hole = |start: usize, end: usize| {
        let start = start.max(lowest).checked_next_multiple_of(CHUNK).unwrap_or(usize::MAX);
        let end = end.min(window.highest) & !(CHUNK - 1);
        match end.checked_sub(start) {
            Some(room) if room >= len && end <= window.anchor => below = Some(end - len),
            Some(room) if room >= len && above.is_none() => above = Some(start),
            _ => {}
        }
    };
    let mut free_from = 0;
    maps::each(|mapping| {
        if mapping.start > free_from {
            let margin = if (mapping.start..=mapping.end).contains(&heap) { HEAP_MARGIN } else { 0 };
            let (start, end) = (free_from, mapping.start.saturating_sub(margin).max(free_from));
            hole(start, end.min(beside.start).max(start));
            hole(start.max(beside.end).min(end), end);
        }
        free_from = mapping.end;
    })
    .ok()?;
    hole(free_from.max(beside.end), usize::MAX);
    below.or(above)
}

/// A random place, or any.
fn anywhere(len: usize, guard: usize, tries: &mut u32) -> Result<Found, Error> {
    let mut random = Random::new()?;
    if let Some(found) = guess(&ANYWHERE, len, guard, CHUNK_HINTS, &mut random, tries)? {
        let (base, len, guard) = (found.base, found.len, found.guard);
        found.keep();
        return Ok(Found { base, len, guard, rung: Rung::Anywhere });
    }
    *tries = tries.saturating_add(1);
    let whole = len.checked_add(guard + CHUNK).ok_or(Error::Memory)?;
    // SAFETY: the system chooses an address that is free.
    let start = unsafe { system::map_nothing(At::Anywhere, whole) }?;
    let base = (start + guard).next_multiple_of(CHUNK);
    let end = base + len;
    // SAFETY: both ends are part of what was just mapped, and nobody knows of them.
    unsafe {
        if base - guard > start {
            system::unmap(start, base - guard - start);
        }
        if start + whole > end {
            system::unmap(end, start + whole - end);
        }
    }
    Ok(Found { base, len, guard, rung: Rung::Anywhere })
}

/// Numbers that are as hard to guess as what they start from (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Result<Random, Error> {
        system::random().map(Random)
    }

    /// For a choice among some hundreds of places, of which each is as good: starts from the time, which costs nothing.
    fn quick() -> Random {
        Random(system::ticks())
    }

    /// An address for `len` bytes, at a multiple of a chunk, so that each page table serves one view.
    pub(crate) fn address(&mut self, len: usize) -> usize {
        ANYWHERE.start + self.below((ANYWHERE.len() - len) / CHUNK) * CHUNK
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests;
