//! Code in a space that is safe to run: what runs it borrows it, what frees it owns it.
//!
//! ```text
//!   Writer ── publish ──► Function ── entry ──► Entry ──► Driver, Site     (call, call, call)
//!                            └── free, retire: by value, so nothing borrows it any more
//! ```
//!
//! All calls of published code stand here. They rest on the same facts: the bytes come from `bytes.rs`, whose code keeps
//! what a callee must keep; a [`Function`] is neither copied nor freed while something borrows it; and what calls it by
//! its address holds an [`Entry`], which borrows it.

use std::marker::PhantomData;
use std::mem::transmute;
use std::ptr::without_provenance;
use std::sync::atomic::AtomicU64;

use dagwood_codespace::{
    CallSite, Code, CodeBuf, CodeSpace, CodeWriter, Error, Layout, Patching, Reach, Slot,
};

use crate::beside::Signals;
use crate::bytes::{Body, FRAME, LOOP};

/// A way to write into a space that lives for `'s`.
pub(crate) struct Writer<'s> {
    writer: CodeWriter,
    space: &'s CodeSpace,
}

impl<'s> Writer<'s> {
    /// A writer of `space`.
    pub(crate) fn new(space: &'s CodeSpace) -> Writer<'s> {
        Writer { writer: space.writer(), space }
    }

    /// Places and publishes `body`.
    #[inline(always)]
    pub(crate) fn publish(&self, body: &Body) -> Result<Function<'s>, Error> {
        let bytes = body.bytes();
        let mut buffer = self.writer.reserve(&Layout::new(bytes.len()))?;
        buffer.bytes_mut().copy_from_slice(bytes);
        Ok(Function { code: buffer.publish(0)?, space: PhantomData })
    }

    /// Takes a function back at once.
    #[inline(always)]
    pub(crate) fn free(&self, function: Function<'s>) -> Result<(), Error> {
        // SAFETY: the function is given by value, so no call of it is under way and nothing holds its address.
        unsafe { self.writer.free(function.code) }?;
        Ok(())
    }

    /// Takes a function out, to be freed when no thread can run it; reclaims whenever that is worthwhile.
    #[inline(always)]
    pub(crate) fn retire(&self, function: Function<'s>) -> Result<(), Error> {
        self.writer.retire(function.code)?;
        if self.space.is_reclaim_due() { self.reclaim() } else { Ok(()) }
    }

    /// Publishes `body` and frees it, so many times. All experiments time this code, wherever the compiler put it.
    #[inline(never)]
    pub(crate) fn publish_and_free(&self, body: &Body, times: usize) -> Result<(), Error> {
        (0..times).try_for_each(|_| self.free(self.publish(body)?))
    }

    /// The same, retiring what was published.
    #[inline(never)]
    pub(crate) fn publish_and_retire(&self, body: &Body, times: usize) -> Result<(), Error> {
        (0..times).try_for_each(|_| self.retire(self.publish(body)?))
    }

    #[cold]
    fn reclaim(&self) -> Result<(), Error> {
        self.writer.reclaim(&mut |_| ())?;
        Ok(())
    }

    /// Publishes what `fill` writes into `len` bytes, and says what it says.
    fn place<T>(
        &self,
        len: usize,
        fill: impl FnOnce(&mut CodeBuf<'_>) -> Result<T, Error>,
    ) -> Result<(Code, T), Error> {
        let mut buffer = self.writer.reserve(&Layout::new(len))?;
        let filled = fill(&mut buffer)?;
        Ok((buffer.publish(0)?, filled))
    }

    fn place_bytes(&self, bytes: &[u8]) -> Result<Code, Error> {
        let (code, ()) = self.place(bytes.len(), |buffer| {
            buffer.bytes_mut().copy_from_slice(bytes);
            Ok(())
        })?;
        Ok(code)
    }
}

/// A published [`Body`] in a space that lives for `'s`.
pub(crate) struct Function<'s> {
    code: Code,
    space: PhantomData<&'s CodeSpace>,
}

/// Where code starts that takes nothing and stays for `'f`.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'f> {
    address: usize,
    code: PhantomData<&'f ()>,
}

impl Function<'_> {
    /// Where it starts.
    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry { address: self.code.address(), code: PhantomData }
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.code.len()
    }

    /// Runs it.
    #[inline]
    pub(crate) fn call(&self) -> u64 {
        self.entry().call()
    }
}

impl Entry<'_> {
    /// Runs what starts there.
    #[inline]
    pub(crate) fn call(self) -> u64 {
        // SAFETY: a body, driver or site starts there, and is borrowed: it takes nothing, returns an integer in `rax`,
        // and keeps the registers and the stack as the convention asks.
        let function =
            unsafe { transmute::<*const (), extern "sysv64" fn() -> u64>(without_provenance(self.address)) };
        function()
    }
}

/// Bodies that stand in one piece of code, each at a multiple of a granule: as close as they can.
pub(crate) struct Packed<'s> {
    starts: Vec<usize>,
    space: PhantomData<&'s CodeSpace>,
}

impl<'s> Packed<'s> {
    /// Places `bodies` one after the other.
    pub(crate) fn new(writer: &Writer<'s>, bodies: &[Body]) -> Result<Packed<'s>, Error> {
        let mut offsets = Vec::with_capacity(bodies.len());
        let mut len = 0;
        for body in bodies {
            offsets.push(len);
            len += body.bytes().len().next_multiple_of(dagwood_codespace::GRANULE);
        }
        let (code, ()) = writer.place(len, |buffer| {
            for (body, &offset) in bodies.iter().zip(&offsets) {
                buffer.bytes_mut()[offset..offset + body.bytes().len()].copy_from_slice(body.bytes());
            }
            Ok(())
        })?;
        Ok(Packed {
            starts: offsets.into_iter().map(|offset| code.address() + offset).collect(),
            space: PhantomData,
        })
    }

    /// Where each of them starts.
    pub(crate) fn entries(&self) -> Vec<Entry<'_>> {
        self.starts.iter().map(|&address| Entry { address, code: PhantomData }).collect()
    }
}

/// How a driver calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `call rel32`, as the space writes it.
    Direct,
    /// `call [rip + disp32]`.
    Slot,
}

/// The bytes of each call of a driver, whatever its form: how close calls are matters more than their form.
const WINDOW: usize = 8;

/// Code that calls a list of functions, one after the other.
pub(crate) struct Driver<'f> {
    code: Code,
    _slots: Vec<Slot>,
    functions: PhantomData<&'f ()>,
}

impl<'f> Driver<'f> {
    /// A driver that calls `entries` in their order.
    pub(crate) fn new<'s: 'f>(
        writer: &Writer<'s>,
        entries: &[Entry<'f>],
        form: Form,
    ) -> Result<Driver<'f>, Error> {
        let mut slots = Vec::new();
        if form == Form::Slot {
            for entry in entries {
                slots.push(writer.space.slot(entry.address)?);
            }
        }
        let (code, ()) = writer.place(WINDOW * entries.len() + 1, |buffer| {
            for (index, entry) in entries.iter().enumerate() {
                let start = index * WINDOW;
                let Some(slot) = slots.get(index) else {
                    let window = start as u32..(start + WINDOW) as u32;
                    buffer.call(window, entry.address, None, Patching::InPlace)?;
                    continue;
                };
                let field = start + WINDOW - 4;
                let Reach::Rel32(displacement) = buffer.reach(field, slot.address()) else {
                    return Err(Error::OutOfReach { from: buffer.address() + field, to: slot.address() });
                };
                // nop of two bytes; call [rip + ..]
                buffer.bytes_mut()[start..field].copy_from_slice(&[0x66, 0x90, 0xff, 0x15]);
                buffer.bytes_mut()[field..start + WINDOW].copy_from_slice(&displacement.to_le_bytes());
            }
            buffer.bytes_mut()[WINDOW * entries.len()] = 0xc3;
            Ok(())
        })?;
        Ok(Driver { code, _slots: slots, functions: PhantomData })
    }

    /// Calls all of them.
    pub(crate) fn run(&self) {
        Entry { address: self.code.address(), code: PhantomData }.call();
    }
}

/// Code that calls one function, which may be exchanged while the code runs.
pub(crate) struct Site<'f> {
    code: Code,
    site: CallSite,
    space: &'f CodeSpace,
}

impl<'f> Site<'f> {
    /// A site that calls `target`.
    pub(crate) fn new<'s: 'f>(writer: &Writer<'s>, target: Entry<'f>) -> Result<Site<'f>, Error> {
        let (code, site) = writer.place(WINDOW + 1, |buffer| {
            buffer.bytes_mut()[WINDOW] = 0xc3;
            buffer.call(0..WINDOW as u32, target.address, None, Patching::InPlace)
        })?;
        Ok(Site { code, site, space: writer.space })
    }

    /// Runs it: what the function returns.
    #[inline]
    pub(crate) fn call(&self) -> u64 {
        Entry { address: self.code.address(), code: PhantomData }.call()
    }

    /// Makes it call `target` from now on.
    #[inline]
    pub(crate) fn patch(&self, target: Entry<'f>) -> Result<(), Error> {
        // SAFETY: the site was published with the code, which is never freed, and the target stays as long as the site.
        unsafe { self.space.patch_call(self.site, target.address) }?;
        Ok(())
    }
}

/// Code that counts in a loop of its own until it is told to end.
pub(crate) struct Looping<'s> {
    code: Code,
    space: PhantomData<&'s CodeSpace>,
}

impl<'s> Looping<'s> {
    /// Publishes the loop.
    pub(crate) fn new(writer: &Writer<'s>) -> Result<Looping<'s>, Error> {
        Ok(Looping { code: writer.place_bytes(LOOP)?, space: PhantomData })
    }

    /// Runs until the first thread says that it is time to end.
    pub(crate) fn run(&self, signals: &Signals<'_>) {
        type Loop = extern "sysv64" fn(*const AtomicU64, *const u8);
        // SAFETY: the loop stands there, and is borrowed; it takes two pointers and keeps what a callee must keep.
        let function = unsafe { transmute::<*const (), Loop>(without_provenance(self.code.address())) };
        // The count may be written through a shared reference, being atomic; the flag is one byte and only read.
        function(signals.progress(), signals.must_stop().as_ptr().cast_const().cast())
    }
}

/// A frame of compiled code through which a panic can pass.
pub(crate) struct Frame<'s> {
    code: Code,
    space: PhantomData<&'s CodeSpace>,
}

impl<'s> Frame<'s> {
    /// Publishes the frame.
    pub(crate) fn new(writer: &Writer<'s>) -> Result<Frame<'s>, Error> {
        Ok(Frame { code: writer.place_bytes(FRAME)?, space: PhantomData })
    }

    /// Calls `callee` from the frame.
    pub(crate) fn call(&self, callee: extern "C-unwind" fn()) {
        type Calling = extern "C-unwind" fn(extern "C-unwind" fn());
        // SAFETY: the frame stands there, and is borrowed; it takes a function, calls it with an aligned stack, and its
        // space has an unwind record for frames that begin with `push rbp; mov rbp, rsp`.
        let function = unsafe { transmute::<*const (), Calling>(without_provenance(self.code.address())) };
        function(callee);
    }
}
