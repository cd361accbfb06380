//! The VM context: the memory that every compiled method gets the address of as its first parameter.
//!
//! Its first word belongs to the runtime ([`layout::context`](crate::layout::context)), the others to whoever compiles
//! the code. Words are read and written atomically and without ordering, so that sharing a context is sound; what
//! the code makes of a word that changes under it is up to the code.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Eight words, one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// Zeroed words at an address that never changes.
#[derive(Debug)]
pub struct Context {
    lines: Box<[Line]>,
}

impl Context {
    /// A context of at least `size_bytes` bytes, and at least 64.
    pub fn new(size_bytes: usize) -> Result<Context, TryReserveError> {
        let count = size_bytes.div_ceil(size_of::<Line>()).max(1);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count)?;
        lines.resize_with(count, Line::default);
        Ok(Context { lines: lines.into_boxed_slice() })
    }

    /// Where it stands; a multiple of 64.
    pub fn address(&self) -> usize {
        self.lines.as_ptr() as usize
    }

    /// How many bytes it has.
    pub fn size_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// The word at `offset` bytes.
    ///
    /// # Panics
    ///
    /// If `offset` is no multiple of eight, or beyond the context.
    pub fn get(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// Changes the word at `offset` bytes.
    ///
    /// # Panics
    ///
    /// If `offset` is no multiple of eight, or beyond the context.
    pub fn set(&self, offset: usize, word: u64) {
        self.word(offset).store(word, Ordering::Relaxed);
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "words of a context stand at multiples of eight, not at {offset}");
        assert!(
            offset < self.size_bytes(),
            "offset {offset} lies beyond the context's {} bytes",
            self.size_bytes()
        );
        &self.lines[offset / 64].0[offset / 8 % 8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_zero_then_what_was_set() {
        let context = Context::new(100).expect("there is memory");
        assert_eq!((context.size_bytes(), context.address() % 64), (128, 0));
        assert_eq!(context.get(120), 0);
        context.set(120, 9);
        assert_eq!((context.get(120), context.get(112)), (9, 0));
        assert_eq!(Context::new(0).expect("there is memory").size_bytes(), 64);
        assert!(Context::new(usize::MAX).is_err());
    }
}
