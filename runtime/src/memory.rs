//! Linear memory of a guest: bytes from zero, growing at the end.
//!
//! ```text
//!   address() ─► │ len: in use │ rest of the page │ reserved, inaccessible … │ at least one page that never is accessible │
//! ```
//!
//! Growing within the reservation keeps the address; beyond it the pages move, without being copied, and the address
//! changes. Compiled code checks its bounds itself and must be told of address and length after each growth.
//!
//! *Cost.* Reserving takes addresses only, growing one system call; memory is taken as it is touched.

use std::fmt;

use crate::error::SystemError;
use crate::region::{PAGE, Region};

/// How much a memory may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes it may grow to.
    pub cap: usize,
    /// The addresses to reserve at first, in bytes: up to here growing does not move it. Fewer are taken if the system
    /// refuses, and never more than the cap.
    pub reserve: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { cap: 4 << 30, reserve: 4 << 30 }
    }
}

/// Why a memory could not be made or did not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// It would have more bytes than it may.
    Cap {
        /// The bytes it would have.
        asked: usize,
        /// The bytes it may have.
        cap: usize,
    },
    /// The system refused.
    System(SystemError),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryError::Cap { asked, cap } => write!(f, "{asked} bytes of memory asked for, {cap} allowed"),
            MemoryError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MemoryError {}

impl From<SystemError> for MemoryError {
    fn from(error: SystemError) -> MemoryError {
        MemoryError::System(error)
    }
}

/// Zeroed memory that grows at its end.
///
/// Whoever hands its address to compiled code sees to it that no slice of it is held while that code runs.
#[derive(Debug)]
pub struct LinearMemory {
    region: Region,
    len: usize,
    cap: usize,
}

impl LinearMemory {
    /// A memory of `len` bytes.
    pub fn new(len: usize, limits: &Limits) -> Result<LinearMemory, MemoryError> {
        if len > limits.cap {
            return Err(MemoryError::Cap { asked: len, cap: limits.cap });
        }
        let mut region = reserve(len, limits.reserve.clamp(len, limits.cap))?;
        region.commit(len)?;
        Ok(LinearMemory { region, len, cap: limits.cap })
    }

    /// Where it starts. Changes when [`LinearMemory::grow`] has to move it.
    pub fn address(&self) -> usize {
        self.region.base() as usize
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most bytes it may have.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// The bytes that it may grow to without being moved.
    pub fn reserved(&self) -> usize {
        self.region.len() - PAGE
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are committed, initialised, and change only through `&mut self` or through
        // compiled code, which does not run while this is borrowed.
        unsafe { std::slice::from_raw_parts(self.region.base(), self.len) }
    }

    /// Its bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.region.base(), self.len) }
    }

    /// Adds `by` zero bytes and returns how many there were before. On an error nothing has changed.
    pub fn grow(&mut self, by: usize) -> Result<usize, MemoryError> {
        let old = self.len;
        let len = old.saturating_add(by);
        if len > self.cap {
            return Err(MemoryError::Cap { asked: len, cap: self.cap });
        }
        if len > self.reserved() {
            let larger =
                with_guard(len.saturating_mul(2).min(self.cap)).or(with_guard(len)).ok_or(NO_ADDRESSES)?;
            let least = with_guard(len).ok_or(NO_ADDRESSES)?;
            self.region.move_to_larger(larger, len).or_else(|_| self.region.move_to_larger(least, len))?;
        }
        self.region.commit(len)?;
        self.len = len;
        Ok(old)
    }
}

/// What the system would say to a request for more addresses than there are.
const NO_ADDRESSES: SystemError =
    SystemError { attempt: "reserve addresses", errno: rustix::io::Errno::NOMEM.raw_os_error() };

/// The size of a reservation for `len` bytes and a page behind them, if there is such a number.
fn with_guard(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(PAGE)?.checked_add(PAGE)
}

/// Reserves `wanted` bytes, or fewer, but at least `len`, and a page behind them.
fn reserve(len: usize, mut wanted: usize) -> Result<Region, SystemError> {
    loop {
        let refusal = match with_guard(wanted).ok_or(NO_ADDRESSES).and_then(Region::reserve) {
            Ok(region) => return Ok(region),
            Err(error) => error,
        };
        if wanted == len {
            return Err(refusal);
        }
        wanted = (wanted / 2).max(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(cap: usize, reserve: usize) -> Limits {
        Limits { cap, reserve }
    }

    #[test]
    fn a_memory_is_zero_and_keeps_its_address_within_the_reservation() {
        let mut memory = LinearMemory::new(10, &limits(1 << 30, 1 << 30)).expect("there are addresses");
        assert_eq!(memory.as_slice(), [0; 10]);
        memory.as_mut_slice()[9] = 7;
        let address = memory.address();
        assert!(memory.reserved() >= 1 << 30);
        assert_eq!(memory.grow(1 << 20), Ok(10));
        assert_eq!((memory.address(), memory.len()), (address, (1 << 20) + 10));
        assert_eq!(memory.as_slice()[9], 7);
        assert!(memory.as_slice()[10..].iter().all(|&byte| byte == 0));
        assert_eq!(memory.grow(0), Ok((1 << 20) + 10));
    }

    #[test]
    fn beyond_the_reservation_it_moves_with_its_contents() {
        let mut memory = LinearMemory::new(PAGE, &limits(1 << 30, PAGE)).expect("there are addresses");
        for doubling in 0..10 {
            let len = memory.len();
            memory.as_mut_slice()[len - 1] = doubling + 1;
            memory.grow(len).expect("the cap is far");
            assert!(memory.as_slice()[len..].iter().all(|&byte| byte == 0));
        }
        for doubling in 0..10 {
            assert_eq!(memory.as_slice()[(PAGE << doubling) - 1], doubling + 1);
        }
        let mut empty = LinearMemory::new(0, &limits(1 << 30, 0)).expect("there are addresses");
        assert!(empty.is_empty());
        assert_eq!(empty.grow(5), Ok(0));
        assert_eq!(empty.as_slice(), [0; 5]);
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let cap = MemoryError::Cap { asked: 11, cap: 10 };
        assert_eq!(LinearMemory::new(11, &limits(10, 0)).err(), Some(cap));
        let mut memory = LinearMemory::new(10, &limits(10, 0)).expect("there are addresses");
        assert_eq!(memory.grow(1), Err(cap));
        assert!(matches!(memory.grow(usize::MAX), Err(MemoryError::Cap { .. })));
        let mut memory =
            LinearMemory::new(10, &limits(usize::MAX, 1 << 60)).expect("a smaller reservation does");
        assert!(matches!(memory.grow(1 << 60), Err(MemoryError::System(_))));
        assert!(matches!(memory.grow(usize::MAX), Err(MemoryError::System(_))));
        assert_eq!((memory.len(), memory.as_slice()), (10, &[0; 10][..]));
    }

    #[test]
    fn the_page_behind_a_memory_is_inaccessible() {
        let mut memory = LinearMemory::new(PAGE, &limits(1 << 30, PAGE)).expect("there are addresses");
        for _ in 0..3 {
            let end = memory.address() + memory.region.len();
            let maps = std::fs::read_to_string("/proc/self/maps").expect("the system lists mappings");
            let rights = maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, stop) = range.split_once('-')?;
                let bounds = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(stop, 16).ok()?;
                bounds.contains(&(end - 1)).then(|| rest[..4].to_string())
            });
            assert_eq!(rights.as_deref(), Some("---p"));
            memory.grow(memory.len()).expect("the cap is far");
        }
    }
}
