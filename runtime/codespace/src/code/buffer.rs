//! Code while it is written.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr;

use crate::call::{self, Patching};
use crate::heap::classes;
use crate::heap::index::{Chunk, TRAILER};
use crate::heap::marks;
use crate::{
    CallSite, Code, CodeWriter, Error, GRANULE, HotEdge, INT3, Lane, LoadForm, PAGE, Protection, Reach,
    STUB_LEN, Slot,
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
///
/// A process that is forked while there is a buffer has the address of its bytes, and no memory there: it must not use
/// [`CodeBuf::bytes_mut`] or write calls, loads and stubs. It may drop the buffer, and is refused when it publishes it.
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

    /// The bytes, to be filled in; `int3` at first. They are not at [`CodeBuf::address`] but in a view of the same memory,
    /// or in a copy. The view is the process's own: whoever forks vouches that the child does not come here with a buffer of
    /// the parent's.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `to` points to `len` bytes of a draft that is the buffer's own, or of a write view that stays mapped while
        // the buffer lives: its span is held, or its pages are, and with them the view; this is the process that mapped it, for
        // which whoever forks vouches. They are initialised, and reserved for this buffer alone; nobody runs them. The borrow
        // of `self` excludes a second reference.
        unsafe { std::slice::from_raw_parts_mut(self.to, self.len()) }
    }

    /// The way from the end of a 4-byte field at `offset` of the code to `target`.
    pub fn reach(&self, offset: usize, target: usize) -> Reach {
        Reach::between(self.address().wrapping_add(offset).wrapping_add(4), target)
    }

    /// Fills a window of the code with a call of `target`: direct if it is in reach, else through `slot`, which is to hold
    /// it. [`Patching::BySlot`] takes the slot always.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if the window does not lie in the code or has not 6 to 15 bytes (8 to 15 if it is patched),
    /// [`Error::OutOfReach`] if a slot is needed and there is none in reach.
    ///
    /// # Examples
    ///
    /// A call of a Rust function, which is then directed to another one:
    ///
    /// ```
    /// use dagwood_codespace::{CodeSpace, Domain, Layout, Options, Patching, WINDOW_MIN_PATCHED};
    ///
    /// extern "sysv64" fn one() -> i32 { 1 }
    /// extern "sysv64" fn two() -> i32 { 2 }
    ///
    /// let space = CodeSpace::new(&Options::default())?;
    /// let writer = space.writer();
    /// let (start, end) = (4, 4 + WINDOW_MIN_PATCHED);
    /// let mut buffer = writer.reserve(&Layout::new(end + 2))?;
    /// buffer.bytes_mut()[..start].copy_from_slice(&[0x55, 0x48, 0x89, 0xe5]); // push rbp; mov rbp, rsp
    /// buffer.bytes_mut()[end..].copy_from_slice(&[0x5d, 0xc3]); // pop rbp; ret
    ///
    /// // In case the function is out of reach, or the space cannot patch code. It lives as long as the code.
    /// let slot = space.slot_near(&(buffer.address()..buffer.address() + buffer.len()), one as *const () as usize)?;
    /// let patching = if space.protection().patches_calls() { Patching::InPlace } else { Patching::BySlot };
    /// let site = buffer.call(start as u32..end as u32, one as *const () as usize, Some(&slot), patching)?;
    /// let code = buffer.publish(0)?;
    ///
    /// let participant = Domain::global().join()?;
    /// let _running = participant.enter();
    /// // SAFETY: the bytes are a function without parameters that returns what `one` does, and it is not retired.
    /// let function: extern "sysv64" fn() -> i32 = unsafe { std::mem::transmute(code.address()) };
    /// assert_eq!(function(), 1);
    ///
    /// slot.set(two as *const () as usize);
    /// if site.is_patchable() {
    ///     // SAFETY: the code is published, and `two` can be called as `one` was.
    ///     unsafe { space.patch_call(site, two as *const () as usize)? };
    /// }
    /// assert_eq!(function(), 2);
    /// # Ok::<(), dagwood_codespace::Error>(())
    /// ```
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
    /// [`Error::Range`] if the window does not hold exactly one instruction of 7 bytes of these forms, [`Error::OutOfReach`]
    /// as for a call.
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

    /// Ends the writing. `owner` is what lookups and [`crate::CodeSpace::reclaim`] say about the code. It may run once its
    /// address has reached the thread that is to run it by any means that synchronises: a lock, a channel, an atomic store
    /// with `Release` ordering.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses to have the code written or made executable, which it is asked for with
    /// [`Protection::NoAlias`] and [`Protection::Flip`] only, and [`Error::Forked`]. There is no code then, and the room is
    /// given back; if the system does not let it become `int3` again, it stays unused until the space is dropped.
    #[inline(always)]
    pub fn publish(self, owner: usize) -> Result<Code, Error> {
        self.writer.space().shared().check_process()?;
        let end = self.granules().end * GRANULE;
        let words = marks::trailer(self.chunk.base() + end - TRAILER, owner, self.skew(), self.len());
        // SAFETY: the trailer is the end of the last granule, behind the code, in the same draft or write view; it is
        // as exclusively the buffer's as the code, and the process is the one that has the view.
        unsafe {
            self.to.add(end - TRAILER - self.offset as usize).cast::<[u64; 2]>().write_unaligned(words)
        };
        if self.kind != Kind::Packed || self.is_draft {
            let CodeBuf { writer, chunk, to, offset, len, kind, is_draft } = self;
            let result = finish(writer, BufferParts { chunk, to, offset, len, kind, is_draft });
            if let Err(error) = result {
                std::mem::forget(self);
                return Err(error);
            }
        }
        self.chunk.mark(end / GRANULE - 1);
        self.writer.written(self.chunk, self.offset, self.kind, None);
        let code = Code { address: self.address(), len: self.len, space: self.writer.id() };
        std::mem::forget(self);
        Ok(code)
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

/// Copies a draft to its place, or makes pages executable that are flipped. If that fails the room is given back, or, if it
/// cannot be made `int3` again, left to nobody.
#[cold]
#[inline(never)]
fn finish(writer: &CodeWriter, parts: BufferParts<'_>) -> Result<(), Error> {
    let BufferParts { chunk, to, offset, len, kind, is_draft } = parts;
    let (memory, at, size) = (chunk.memory(), offset as usize, len as usize);
    let start = at / GRANULE * GRANULE;
    let bytes = start..start + classes::granules(at % GRANULE, size) * GRANULE;
    let (result, pages) = if is_draft {
        let draft = take_draft(to, at, size);
        // SAFETY: the granules are the buffer's alone, and nobody runs them yet.
        (unsafe { memory.write(start, &draft) }, None)
    } else if memory.mode() == Protection::Flip {
        let pages = touched_pages(at, size);
        (memory.protect(pages.clone()), Some(pages))
    } else {
        return Ok(());
    };
    result.inspect_err(|_| {
        let cleaned = match pages {
            // SAFETY: as above.
            None => unsafe { memory.fill_int3(bytes) },
            // Some of the pages may have become executable.
            // SAFETY: the pages are the buffer's alone, and nobody runs them yet. The bytes lie in them.
            Some(pages) => unsafe { memory.unprotect(pages.clone()) }.map(|first| {
                // SAFETY: as above; the pages are writable from `first` on.
                unsafe { ptr::write_bytes(first.add(bytes.start - pages.start), INT3, bytes.len()) };
                // Pages that stay writable are as good: nothing runs there, and the next one makes them so anyway.
                let _ = memory.protect(pages);
            }),
        };
        writer.written(chunk, offset, kind, cleaned.is_ok().then_some(len));
    })
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
