//! Bytes on their way to being code.

use std::ops::Range;
use std::sync::atomic::{Ordering, fence};

use crate::{CodeSpace, INT3};

/// Bytes that were reserved and may still be written. Nobody else can reach them before they are published.
///
/// Dropping it unpublished fills it with `int3` again.
#[derive(Debug)]
pub struct Span<'space> {
    space: &'space CodeSpace,
    /// What was taken, padding included, as offsets in the space.
    taken: Range<usize>,
    /// Where the code starts.
    first: usize,
    len: usize,
}

/// Published code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code {
    /// Where it starts.
    pub address: usize,
    /// Its bytes.
    pub len: usize,
}

impl<'space> Span<'space> {
    /// Takes over the bytes at `taken`, which nobody else holds.
    pub(crate) fn new(space: &'space CodeSpace, taken: Range<usize>, first: usize, len: usize) -> Self {
        debug_assert!(taken.start <= first && first + len <= taken.end, "the code lies in what was taken");
        let mut span = Span { space, taken, first, len };
        span.clear();
        span
    }

    /// Where the code will run: what its references to itself and to others are to be computed from.
    pub fn address(&self) -> usize {
        self.space.range().start + self.first
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, to be filled in. They are not at [`Span::address`] but in a view of the same memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.view(self.first..self.first + self.len)
    }

    /// Ends the writing. The code may run once its address has reached the thread that is to run it by any
    /// means that synchronises: a lock, a channel, an atomic store with `Release` ordering.
    pub fn publish(self) -> Code {
        let code = Code { address: self.address(), len: self.len };
        // Whoever learns the address later sees the bytes: on x86 stores become visible in order, to instruction
        // fetch too, and the fence keeps the compiler from moving them behind the caller's store of the address.
        fence(Ordering::Release);
        std::mem::forget(self);
        code
    }

    fn clear(&mut self) {
        self.view(self.taken.clone()).fill(INT3);
    }

    fn view(&mut self, offsets: Range<usize>) -> &mut [u8] {
        debug_assert!(
            self.taken.start <= offsets.start && offsets.end <= self.taken.end,
            "a view lies in the span"
        );
        // SAFETY: `reserve` gave the bytes in `taken` to this span alone and takes them back only when it is dropped;
        // `offsets` lies in them. The memory is mapped as long as the space is borrowed, all its bytes are
        // initialised (a new file is zero), and the borrow of `self` excludes a second reference.
        unsafe { &mut *self.space.writable(&offsets) }
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.clear();
        self.space.give_back(&self.taken);
    }
}
