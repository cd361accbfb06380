//! Code while it is written.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr;

use crate::call::{self, Patching};
use crate::index::{self, Chunk, TRAILER};
use crate::{
    CallSite, Code, CodeWriter, Error, GRANULE, HotEdge, INT3, Lane, LoadForm, PAGE, Protection, Reach, Slot,
    classes,
};

/// What a function needs.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// Its bytes: at least one.
    pub size: usize,
    /// What its address is a multiple of: a power of two up to [`crate::PAGE`].
    pub align: usize,
    /// What kind of code it is.
    pub lane: Lane,
    /// The back edges of its loops, which are kept from straddling cache lines; they may be empty.
    pub hot: &'a [HotEdge],
}

impl Layout<'_> {
    /// `size` bytes of [`Lane::Baseline`], aligned to 16, without hot edges.
    pub const fn new(size: usize) -> Layout<'static> {
        Layout { size, align: 16, lane: Lane::Baseline, hot: &[] }
    }
}

/// Room for one function, to be written and published. Nobody else can reach it before.
///
/// Dropping it unpublished gives the room back, all `int3`.
pub struct CodeBuf<'w> {
    pub(crate) writer: &'w CodeWriter,
    pub(crate) chunk: &'w Chunk,
    /// Where the code's first byte is written: in the chunk's write view, or in a draft.
    pub(crate) to: *mut u8,
    /// Where the code starts, as an offset in the chunk.
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) kind: Kind,
    /// Whether it is written in a box of its own, of as many bytes as its granules have, and copied when it is published.
    pub(crate) is_draft: bool,
}

/// What a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Granules of a span.
    Packed,
    /// Pages of its own.
    Pages,
}

impl CodeBuf<'_> {
    /// Where the code will run: what its references to itself and to others are to be computed from.
    #[inline]
    pub fn address(&self) -> usize {
        self.chunk.base() + self.offset as usize
    }

    /// How many bytes it has.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "code has at least one byte")]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The bytes, to be filled in; `int3` at first. They are not at [`CodeBuf::address`] but in a view of the same memory, or
    /// in a copy.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `to` points to `len` bytes of a draft that is the buffer's own, or of a write view that stays mapped while the
        // buffer lives: its span is held, or its pages are, and with them the view. They are initialised, and reserved for
        // this buffer alone; nobody runs them. The borrow of `self` excludes a second reference.
        unsafe { std::slice::from_raw_parts_mut(self.to, self.len()) }
    }

    /// The way from the end of a 4-byte field at `offset` of the code to `target`.
    pub fn reach(&self, offset: usize, target: usize) -> Reach {
        Reach::between(self.address().wrapping_add(offset).wrapping_add(4), target)
    }

    /// Fills a window of the code with a call of `target`: direct if it is in reach, else through `slot`, which is to hold it.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if the window does not lie in the code or has not 6 to 15 bytes (8 to 15 if it is patched), [`Error::OutOfReach`] if
    /// the target is out of reach and there is no slot in reach.
    pub fn call(
        &mut self,
        window: Range<u32>,
        target: usize,
        slot: Option<&Slot>,
        patching: Patching,
    ) -> Result<CallSite, Error> {
        let address = self.address().wrapping_add(window.start as usize);
        let bytes = self.window(window, "a call")?;
        call::write_call(bytes, address, target, slot.map(Slot::address), patching)
    }

    /// Rewrites a load of a word into a register so that it is as short a way to `value` as there is: see [`LoadForm`].
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if the window does not hold exactly one instruction of 7 bytes of these forms, [`Error::OutOfReach`] as for a call.
    pub fn load(&mut self, window: Range<u32>, value: usize, slot: Option<&Slot>) -> Result<LoadForm, Error> {
        let address = self.address().wrapping_add(window.start as usize);
        let bytes = self.window(window, "a load")?;
        call::load_address(bytes, address, value, slot.map(Slot::address))
    }

    fn window(&mut self, window: Range<u32>, what: &'static str) -> Result<&mut [u8], Error> {
        let (start, end) = (window.start as usize, window.end as usize);
        self.bytes_mut().get_mut(start..end).ok_or(Error::Range { what, start, end })
    }

    /// Ends the writing. `owner` is what lookups and [`crate::CodeSpace::reclaim`] say about the code. It may run once its address has
    /// reached the thread that is to run it by any means that synchronises: a lock, a channel, an atomic store with
    /// `Release` ordering.
    #[inline]
    pub fn publish(self, owner: usize) -> Code {
        let this = ManuallyDrop::new(self);
        let end = this.granules().end * GRANULE;
        let words = index::trailer(this.chunk.base() + end - TRAILER, owner, this.skew(), this.len());
        // SAFETY: the trailer is the end of the last granule, behind the code, in the same draft or write view; it is
        // as exclusively the buffer's as the code.
        unsafe {
            this.to.add(end - TRAILER - this.offset as usize).cast::<[u64; 2]>().write_unaligned(words)
        };
        if this.kind != Kind::Packed || this.is_draft {
            this.finish();
        }
        this.chunk.mark(end / GRANULE - 1);
        this.writer.written(&this, false);
        Code { address: this.address(), len: this.len, space: this.writer.id() }
    }

    /// Copies a draft to its place, and makes pages executable that are flipped.
    #[cold]
    fn finish(&self) {
        let memory = self.chunk.memory();
        if self.is_draft {
            let draft = self.take_draft();
            // SAFETY: the granules are the buffer's alone, and nobody runs them yet.
            let result = unsafe { memory.write(self.granules().start * GRANULE, &draft) };
            result.expect("memory that was prepared can be written through its file");
        } else if memory.mode() == Protection::Flip {
            let result = memory.protect(self.touched_pages());
            result.expect("pages that were made writable together can be made executable again");
        }
    }

    /// Lets the code be written in a draft, all `int3`, of as many bytes as its granules have.
    pub(crate) fn draft_in(&mut self, draft: Box<[u8]>) {
        debug_assert_eq!(draft.len(), self.granules().len() * GRANULE, "a draft has room for the trailer");
        self.to = Box::into_raw(draft).cast::<u8>().wrapping_add(self.skew());
        self.is_draft = true;
    }

    /// The draft, which is written no more.
    fn take_draft(&self) -> Box<[u8]> {
        let len = self.granules().len() * GRANULE;
        let draft = ptr::slice_from_raw_parts_mut(self.to.wrapping_sub(self.skew()), len);
        // SAFETY: made from such a box by `draft_in`, and taken once: by `finish`, which only `publish` calls, or by `drop`.
        unsafe { Box::from_raw(draft) }
    }

    /// The bytes before the code in its first granule.
    #[inline]
    pub(crate) fn skew(&self) -> usize {
        self.offset as usize % GRANULE
    }

    /// The granules of the code and its trailer.
    #[inline]
    pub(crate) fn granules(&self) -> Range<usize> {
        let first = self.offset as usize / GRANULE;
        first..first + classes::granules(self.skew(), self.len())
    }

    /// The bytes of its pages that are used, from the first page on, as offsets in the chunk.
    fn touched_pages(&self) -> Range<usize> {
        let (first, inside) = (self.offset as usize / PAGE, self.offset as usize % PAGE);
        first * PAGE..(first + classes::touched_pages(inside, self.len())) * PAGE
    }
}

impl Drop for CodeBuf<'_> {
    fn drop(&mut self) {
        if self.is_draft {
            drop(self.take_draft());
        } else {
            // SAFETY: as in `bytes_mut`.
            unsafe { ptr::write_bytes(self.to, INT3, self.len()) };
            if self.chunk.memory().mode() == Protection::Flip {
                // Pages that stay writable are as good: nothing runs there, and the next one makes them so anyway.
                let _ = self.chunk.memory().protect(self.touched_pages());
            }
        }
        self.writer.written(self, true);
    }
}

impl fmt::Debug for CodeBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeBuf")
            .field("address", &self.address())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
