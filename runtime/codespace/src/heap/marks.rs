//! Where functions end, as bits, and the two words behind each that say what it is: what lookups read while others publish.
//!
//! The files of the space are compiled once more by a model test with this one (`tests/model_lookup.rs`), so this one takes
//! its atomics from [`crate::sync`]. [`crate::heap::index`] says what it is for.

use std::ops::Range;

use crate::heap::bits;
use crate::heap::classes;
use crate::sync::{AtomicU64, Ordering};
use crate::{CHUNK, GRANULE, INT3};

/// The bytes behind each function that say what it is.
pub(crate) const TRAILER: usize = 16;
/// The bits of a shape that hold the length.
const LEN_BITS: u32 = 32;
/// The bits of a shape that hold the start in the first granule.
const SKEW_BITS: u32 = 6;
/// The most bytes that a function has: its trailer must be able to say so.
pub(crate) const LEN_MAX: usize = (1 << 31) - CHUNK;

/// The shape of a function that is not to be found: its length is too large.
pub(crate) const UNLISTED: u64 = u64::from_ne_bytes([INT3; 8]);

/// What a lookup found: published code, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Where it starts.
    pub address: usize,
    /// Its bytes.
    pub len: usize,
    /// What its publisher gave along.
    pub owner: usize,
}

/// The check bits of a trailer at `address`.
#[inline]
fn check(address: usize, owner: u64, rest: u64) -> u64 {
    let mixed =
        (address as u64 ^ owner.rotate_left(23) ^ rest.rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> (LEN_BITS + SKEW_BITS)
}

/// The two words of a trailer that will stand at `address`: the owner, and the shape.
#[inline]
pub(crate) fn trailer(address: usize, owner: usize, skew: usize, len: usize) -> [u64; 2] {
    let rest = (len as u64) | (skew as u64) << LEN_BITS;
    [owner as u64, rest | check(address, owner as u64, rest) << (LEN_BITS + SKEW_BITS)]
}

/// What the words of a trailer say about the function that ends with granule `last` of a chunk at `base`; nothing if they are
/// not the words that belong there, or were overwritten to unlist it.
#[inline]
pub(crate) fn function(base: usize, last: usize, [owner, shape]: [u64; 2]) -> Option<Found> {
    let rest = shape & ((1 << (LEN_BITS + SKEW_BITS)) - 1);
    let (len, skew) = ((rest & ((1 << LEN_BITS) - 1)) as usize, (rest >> LEN_BITS) as usize);
    let address = base + (last + 1) * GRANULE - TRAILER;
    if len > LEN_MAX || shape >> (LEN_BITS + SKEW_BITS) != check(address, owner, rest) {
        return None;
    }
    let first = (last + 1).checked_sub(classes::granules(skew, len))?;
    Some(Found { address: base + first * GRANULE + skew, len, owner: owner as usize })
}

/// A bit for each granule of a chunk: whether a function ends there.
#[derive(Debug)]
pub(crate) struct Marks {
    /// A word for each page.
    words: Box<[AtomicU64]>,
}

impl Marks {
    /// None: `words`, one for each page, are all zero.
    pub(crate) fn new(words: Box<[AtomicU64]>) -> Marks {
        Marks { words }
    }

    /// How many words there are.
    pub(crate) fn pages(&self) -> usize {
        self.words.len()
    }

    /// Marks a granule. Only for the holder of its page.
    #[inline]
    pub(crate) fn mark(&self, granule: usize) {
        let word = &self.words[granule / bits::WORD];
        word.store(word.load(Ordering::Relaxed) | 1 << (granule % bits::WORD), Ordering::Release);
    }

    /// Makes a granule unmarked. Only for the holder of its page.
    #[inline]
    pub(crate) fn unmark_one(&self, granule: usize) {
        let word = &self.words[granule / bits::WORD];
        word.store(word.load(Ordering::Relaxed) & !(1 << (granule % bits::WORD)), Ordering::Release);
    }

    /// Makes granules unmarked. Only for the holder of their pages.
    #[inline]
    pub(crate) fn unmark(&self, granules: Range<usize>) {
        for (at, mask) in bits::masks(granules) {
            let word = &self.words[at];
            word.store(word.load(Ordering::Relaxed) & !mask, Ordering::Release);
        }
    }

    /// The first granule from this one on that is marked.
    #[inline]
    pub(crate) fn next(&self, granule: usize) -> Option<usize> {
        let mut at = granule / bits::WORD;
        let mut word = self.words.get(at)?.load(Ordering::Acquire) & (u64::MAX << (granule % bits::WORD));
        while word == 0 {
            at += 1;
            word = self.words.get(at)?.load(Ordering::Acquire);
        }
        Some(at * bits::WORD + word.trailing_zeros() as usize)
    }
}
