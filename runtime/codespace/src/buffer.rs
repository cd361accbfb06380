//! Code while it is written.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr;

use crate::call::{self, Patching};
use crate::index::{Chunk, TRAILER};
use crate::marks;
use crate::{
    CallSite, Code, CodeWriter, Error, GRANULE, HotEdge, INT3, Lane, LoadForm, PAGE, Protection, Reach,
    STUB_LEN, Slot, classes,
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

/// The fields of a buffer, which has to be put together again.
pub(crate) struct BufferParts<'w> {
    pub(crate) chunk: &'w Chunk,
    pub(crate) to: *mut u8,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) kind: Kind,
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

impl<'w> CodeBuf<'w> {
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

    /// Writes a stub of [`STUB_LEN`] bytes at `offset` of the code, which jumps to where `slot` says.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if there is no room, [`Error::OutOfReach`] if the slot is out of reach.
    pub fn stub(&mut self, offset: u32, slot: &Slot) -> Result<(), Error> {
        let address = self.address().wrapping_add(offset as usize);
        let window = self.window(offset..offset.saturating_add(STUB_LEN as u32), "a stub")?;
        window.copy_from_slice(&call::stub(address, slot.address())?);
        Ok(())
    }

    fn window(&mut self, window: Range<u32>, what: &'static str) -> Result<&mut [u8], Error> {
        let (start, end) = (window.start as usize, window.end as usize);
        self.bytes_mut().get_mut(start..end).ok_or(Error::Range { what, start, end })
    }

    /// Ends the writing. `owner` is what lookups and [`crate::CodeSpace::reclaim`] say about the code. It may run once its address has
    /// reached the thread that is to run it by any means that synchronises: a lock, a channel, an atomic store with
    /// `Release` ordering.
    #[inline(always)]
    pub fn publish(self, owner: usize) -> Code {
        let end = self.granules().end * GRANULE;
        let words = marks::trailer(self.chunk.base() + end - TRAILER, owner, self.skew(), self.len());
        // SAFETY: the trailer is the end of the last granule, behind the code, in the same draft or write view; it is
        // as exclusively the buffer's as the code.
        unsafe {
            self.to.add(end - TRAILER - self.offset as usize).cast::<[u64; 2]>().write_unaligned(words)
        };
        if self.kind != Kind::Packed || self.is_draft {
            finish(self.chunk, self.to, self.offset as usize, self.len(), self.is_draft);
        }
        self.chunk.mark(end / GRANULE - 1);
        self.writer.written(self.chunk, self.offset, self.kind, None);
        let code = Code { address: self.address(), len: self.len, space: self.writer.id() };
        std::mem::forget(self);
        code
    }

    pub(crate) fn into_parts(self) -> BufferParts<'w> {
        let this = ManuallyDrop::new(self);
        let CodeBuf { chunk, to, offset, len, kind, is_draft, .. } = *this;
        BufferParts { chunk, to, offset, len, kind, is_draft }
    }

    /// Lets the code be written in a draft, all `int3`, of as many bytes as its granules have.
    pub(crate) fn draft_in(&mut self, draft: Box<[u8]>) {
        debug_assert_eq!(draft.len(), self.granules().len() * GRANULE, "a draft has room for the trailer");
        self.to = Box::into_raw(draft).cast::<u8>().wrapping_add(self.skew());
        self.is_draft = true;
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
}

impl Drop for CodeBuf<'_> {
    // Only copies leave this function, so that a buffer need not be in memory for the sake of its drop.
    #[inline(always)]
    fn drop(&mut self) {
        let CodeBuf { writer, chunk, to, offset, len, kind, is_draft } = *self;
        discard(writer, BufferParts { chunk, to, offset, len, kind, is_draft });
    }
}

/// Copies a draft to its place, or makes pages executable that are flipped.
#[cold]
fn finish(chunk: &Chunk, to: *mut u8, offset: usize, len: usize, is_draft: bool) {
    let memory = chunk.memory();
    if is_draft {
        let draft = take_draft(to, offset, len);
        // SAFETY: the granules are the buffer's alone, and nobody runs them yet.
        let result = unsafe { memory.write(offset / GRANULE * GRANULE, &draft) };
        result.expect("memory that was prepared can be written through its file");
    } else if memory.mode() == Protection::Flip {
        let result = memory.protect(touched_pages(offset, len));
        result.expect("pages that were made writable together can be made executable again");
    }
}

/// Gives the room of a buffer back that was not published.
#[inline(never)]
fn discard(writer: &CodeWriter, parts: BufferParts<'_>) {
    let BufferParts { chunk, to, offset, len, kind, is_draft } = parts;
    let (at, size) = (offset as usize, len as usize);
    if is_draft {
        drop(take_draft(to, at, size));
    } else if writer.space().shared().check_process().is_ok() {
        // SAFETY: as in `bytes_mut`.
        unsafe { ptr::write_bytes(to, INT3, size) };
        if chunk.memory().mode() == Protection::Flip {
            // Pages that stay writable are as good: nothing runs there, and the next one makes them so anyway.
            let _ = chunk.memory().protect(touched_pages(at, size));
        }
    }
    writer.written(chunk, offset, kind, Some(len));
}

/// The draft of a buffer, which is written no more.
fn take_draft(to: *mut u8, offset: usize, len: usize) -> Box<[u8]> {
    let skew = offset % GRANULE;
    let draft = ptr::slice_from_raw_parts_mut(to.wrapping_sub(skew), classes::granules(skew, len) * GRANULE);
    // SAFETY: made from such a box by `draft_in`, and taken once: when the buffer is published, or dropped without.
    unsafe { Box::from_raw(draft) }
}

/// The bytes of the pages that a whole-page function uses, as offsets in its chunk.
fn touched_pages(offset: usize, len: usize) -> Range<usize> {
    let first = offset / PAGE;
    first * PAGE..(first + classes::touched_pages(offset % PAGE, len)) * PAGE
}

impl fmt::Debug for CodeBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeBuf")
            .field("address", &self.address())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
