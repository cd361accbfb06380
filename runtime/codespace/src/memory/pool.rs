//! Room for code inside the image itself: the one place near the program that cannot fail.
//!
//! ```text
//!   .bss: | slack | chunk 0 | chunk 1 | ... | chunk 7 | slack |      each chunk at a multiple of 2 MiB
//! ```
//!
//! Sixteen mebibytes of zeros that no program code reads or writes. They cost no bytes of the file and no
//! memory, only addresses, and only where there is no other room near the image are they used: a chunk is mapped over its
//! part of them. Without the cargo feature `image-pool` there is no pool.

#[cfg(feature = "image-pool")]
use crate::CHUNK;

/// The chunks of the pool.
#[cfg(feature = "image-pool")]
const CHUNKS: usize = 8;

#[cfg(feature = "image-pool")]
mod reserve {
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    use super::{CHUNK, CHUNKS};

    #[repr(C, align(4096))]
    pub(super) struct Bytes(UnsafeCell<MaybeUninit<[u8; (CHUNKS + 1) * CHUNK]>>);

    // SAFETY: nothing reads or writes the bytes through the static; it only lends its address.
    unsafe impl Sync for Bytes {}

    static BYTES: Bytes = Bytes(UnsafeCell::new(MaybeUninit::zeroed()));

    /// Where the first whole chunk starts.
    pub(super) fn start() -> usize {
        BYTES.0.get().expose_provenance().next_multiple_of(CHUNK)
    }
}

#[cfg(feature = "image-pool")]
mod bits {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{CHUNK, CHUNKS, reserve};
    use crate::system::{self, Access, At};

    /// A bit for each chunk that is taken.
    static TAKEN: AtomicU32 = AtomicU32::new(0);

    /// Takes `len` bytes of the pool, a multiple of a chunk, if there are as many together and all of them are no farther than
    /// `window` from `anchor`. They hold nothing.
    pub(crate) fn take(len: usize, anchor: usize, window: usize) -> Option<usize> {
        let count = len / CHUNK;
        if count == 0 || count > CHUNKS {
            return None;
        }
        let wanted = (1_u32 << count) - 1;
        let mut first = 0;
        let free = |taken: u32| (0..=CHUNKS - count).find(|&first| taken & wanted << first == 0);
        TAKEN
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
                first = free(taken)?;
                Some(taken | wanted << first)
            })
            .ok()?;
        let base = reserve::start() + first * CHUNK;
        let is_near = anchor.abs_diff(base).max(anchor.abs_diff(base + len)) <= window;
        // SAFETY: the chunks lie inside the static, between whose first and last byte nothing else of the program
        // stands and which nothing accesses. Their bits were clear and are set now, so they are ours alone until
        // `put_back`. Mapping over them changes no byte that anybody else may look at.
        if is_near && unsafe { system::map_nothing(At::Over(base), len) }.is_ok() {
            return Some(base);
        }
        TAKEN.fetch_and(!(wanted << first), Ordering::Release);
        None
    }

    /// Gives back what [`take`] gave: it is zero again, as the image's own zeros are.
    pub(crate) fn put_back(base: usize, len: usize) {
        // SAFETY: taken from the pool by the caller, who gives it up, so nobody uses it. It becomes what it was: private
        // zeros.
        if !unsafe { system::map_back(base, len, Access::Write) } {
            // What is there now stays, so nobody else may have the place.
            return;
        }
        let count = len / CHUNK;
        let first = (base - reserve::start()) / CHUNK;
        TAKEN.fetch_and(!(((1_u32 << count) - 1) << first), Ordering::Release);
    }
}

#[cfg(feature = "image-pool")]
pub(crate) use bits::{put_back, take};

/// No pool, no place.
#[cfg(not(feature = "image-pool"))]
pub(crate) fn take(_: usize, _: usize, _: usize) -> Option<usize> {
    None
}

/// Nothing was taken.
#[cfg(not(feature = "image-pool"))]
pub(crate) fn put_back(_: usize, _: usize) {}

#[cfg(all(test, feature = "image-pool"))]
mod tests {
    use super::*;
    use crate::testing::{access, alone};

    #[test]
    fn the_pool_gives_out_each_chunk_once_and_takes_it_back() {
        alone("memory::pool::tests::the_pool_gives_out_each_chunk_once_and_takes_it_back", || {
            let anchor = take as *const () as usize;
            let near = |len| take(len, anchor, i32::MAX as usize);
            let mut chunks: Vec<usize> = std::iter::from_fn(|| near(CHUNK)).collect();
            assert_eq!(chunks.len(), CHUNKS);
            assert!(chunks.iter().all(|&chunk| chunk.is_multiple_of(CHUNK) && access(chunk).is_empty()));
            chunks.sort_unstable();
            assert!(chunks.windows(2).all(|pair| pair[0] + CHUNK == pair[1]));
            put_back(chunks[2], CHUNK);
            put_back(chunks[3], CHUNK);
            assert_eq!(access(chunks[2]), "rw", "as the image had it");
            assert_eq!(near(3 * CHUNK), None);
            assert_eq!(near(2 * CHUNK), Some(chunks[2]));
            put_back(chunks[0], CHUNK);
            assert_eq!(take(CHUNK, anchor, crate::PAGE), None, "too far away");
            assert_eq!(take(CHUNK, anchor ^ 1 << 45, i32::MAX as usize), None, "too far away");
            assert_eq!(near(CHUNK), Some(chunks[0]), "asking in vain takes nothing");
            assert_eq!((near(0), near(9 * CHUNK)), (None, None));
        });
    }
}
