//! Code while it is written.

use std::fmt;
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
    /// Where the code starts, as an offset in the chunk.
    pub(crate) offset: usize,
    pub(crate) len: u32,
    /// Whether it has its own pages.
    pub(crate) pages: bool,
    /// Where the code's first byte is written; null where there is no write view.
    pub(crate) to: *mut u8,
    /// Where there is none: the granules from the first to the last, to be written at once.
    pub(crate) draft: Vec<u8>,
}

impl CodeBuf<'_> {
    /// Where the code will run: what its references to itself and to others are to be computed from.
    #[inline]
    pub fn address(&self) -> usize {
        self.chunk.base() + self.offset
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
        let (skew, len) = (self.skew(), self.len());
        if self.to.is_null() {
            return &mut self.draft[skew..skew + len];
        }
        // SAFETY: `to` points to `len` bytes of a write view that stays mapped while the buffer lives: its span is held, or its pages
        // are, and with them the view. They are initialised, and reserved for this buffer alone; nobody runs
        // them. The borrow of `self` excludes a second reference.
        unsafe { std::slice::from_raw_parts_mut(self.to, len) }
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
    pub fn publish(mut self, owner: usize) -> Code {
        let granules = self.granules();
        let end = granules.end * GRANULE;
        let words = index::trailer(self.chunk.base() + end - TRAILER, owner, self.skew(), self.len());
        if self.to.is_null() {
            self.write_draft(granules.start, words);
        } else {
            // SAFETY: the trailer lies in the last granule of the buffer's run, behind the code, in the same write view; it is
            // as exclusively the buffer's as the code. Its address is a multiple of 16, as the view's first byte is of a page.
            unsafe { self.to.add(end - TRAILER - self.offset).cast::<[u64; 2]>().write(words) };
            if self.chunk.memory().mode() == Protection::Flip {
                self.protect();
            }
        }
        self.chunk.mark(granules.end - 1);
        self.writer.written(&self, None);
        let code = Code { address: self.address(), len: self.len, space: self.writer.id() };
        // Nothing else of it has a destructor that matters: a draft without bytes has no memory.
        drop(std::mem::take(&mut self.draft));
        std::mem::forget(self);
        code
    }

    /// Writes what was drafted, and the trailer.
    #[cold]
    fn write_draft(&mut self, first: usize, words: [u64; 2]) {
        let at = self.draft.len() - TRAILER;
        for (to, word) in self.draft[at..].chunks_exact_mut(size_of::<u64>()).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        // SAFETY: the granules are the buffer's alone, and nobody runs them yet.
        let result = unsafe { self.chunk.memory().write(first * GRANULE, &self.draft) };
        result.expect("memory that was prepared can be written through its file");
    }

    /// Makes the pages executable.
    #[cold]
    fn protect(&self) {
        let result = self.chunk.memory().protect(self.touched_pages());
        result.expect("pages that were made writable alone can be made executable as they were");
    }

    /// The bytes before the code in its first granule.
    #[inline]
    pub(crate) fn skew(&self) -> usize {
        self.offset % GRANULE
    }

    /// The granules of the code and its trailer.
    #[inline]
    pub(crate) fn granules(&self) -> Range<usize> {
        let first = self.offset / GRANULE;
        first..first + classes::granules(self.skew(), self.len())
    }

    /// The bytes of its pages that are used, from the first page on, as offsets in the chunk.
    fn touched_pages(&self) -> Range<usize> {
        let first = self.offset / PAGE;
        first * PAGE..(first + classes::touched_pages(self.offset % PAGE, self.len())) * PAGE
    }
}

impl Drop for CodeBuf<'_> {
    fn drop(&mut self) {
        if !self.to.is_null() {
            // SAFETY: as in `bytes_mut`.
            unsafe { ptr::write_bytes(self.to, INT3, self.len()) };
            if self.chunk.memory().mode() == Protection::Flip
                && self.chunk.memory().protect(self.touched_pages()).is_err()
            {
                // Then they are not executable, which is as good, until the next one makes them writable.
            }
        }
        self.writer.written(self, Some(self.granules()));
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
