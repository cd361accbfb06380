//! The VM context: the memory that every compiled method gets the address of as its first parameter.
//!
//! Its first word belongs to the runtime ([`dagwood_il::layout::context`]) and says which thread runs code with it: one
//! at a time, for that code uses the thread's stacks. The other words belong to whoever compiles the code. They are read and
//! written atomically and without ordering, so that sharing a context is sound; what the code makes of a word that changes
//! under it is up to the code.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering};

use dagwood_il::layout::context::{FREE, THREAD};

use crate::thread::Thread;

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
    /// If `offset` is no multiple of eight, or beyond the context, or that of the runtime's own word.
    pub fn set(&self, offset: usize, word: u64) {
        assert!(offset >= FREE as usize, "the first word of a context belongs to the runtime");
        self.word(offset).store(word, Ordering::Relaxed);
    }

    /// Gives the context to a thread for good: for code that is not entered with this context, but calls other code with it
    /// by its address. Whoever compiles such code sees to it that the thread lives as long as the code runs.
    ///
    /// # Panics
    ///
    /// If another thread has it.
    pub fn attach(&self, thread: &Thread) {
        let attached = self.take(thread);
        assert!(attached.is_ok(), "a context is attached to one thread");
        std::mem::forget(attached);
    }

    /// Takes the context for a thread, until what this returns is dropped.
    pub(crate) fn take(&self, thread: &Thread) -> Result<Taken<'_>, InUse> {
        let own = thread.address() as u64;
        // Acquire: what the code of the last thread wrote to the context is there.
        match self.word(THREAD as usize).compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Taken { context: Some(self) }),
            Err(holder) if holder == own => Ok(Taken { context: None }),
            Err(_) => Err(InUse),
        }
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

/// A context that a thread has. Dropping it gives the context back, if it was not the thread's before.
pub(crate) struct Taken<'a> {
    context: Option<&'a Context>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.context {
            context.word(THREAD as usize).store(0, Ordering::Release);
        }
    }
}

/// Another thread runs code with the context.
#[derive(Debug)]
pub(crate) struct InUse;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread;

    #[test]
    fn one_thread_at_a_time_has_a_context() {
        let thread = || Thread::new(&thread::Options::default()).expect("there is memory");
        let (first, second) = (thread(), thread());
        let context = Context::new(64).expect("there is memory");
        let taken = context.take(&first).expect("nobody has it");
        drop(context.take(&first).expect("the thread has it"));
        assert!(context.take(&second).is_err());
        drop(taken);
        context.attach(&second);
        assert!(context.take(&first).is_err());
        drop(context.take(&second).expect("the thread has it"));
        assert_eq!(context.get(THREAD as usize), second.address() as u64);
    }

    #[test]
    #[should_panic(expected = "belongs to the runtime")]
    fn the_first_word_is_not_the_programs() {
        Context::new(64).expect("there is memory").set(THREAD as usize, 1);
    }

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
