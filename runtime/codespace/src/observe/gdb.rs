//! Symbols for debuggers, by the interface that gdb defined: a list of images in memory, and a function that is called when it
//! changes, where the debugger has a breakpoint.
//!
//! ```text
//!   __jit_debug_descriptor ──► entry ⇄ entry ⇄ ..      each with an image of crate::observe::elf
//!   __jit_debug_register_code()                        "look at the descriptor now"
//! ```
//!
//! Both symbols are weak: if something else in the program defines them, there is one list for all, as it must be. The
//! interface has no lock. All spaces share one here; another engine's own cannot be taken, so two engines that register at
//! the same time are left to chance, whoever they are.
//!
//! **Freed code.** A batch is registered until none of its functions is live. A registered name whose code is freed stays,
//! until other code is shown at its address: then the batch is registered anew without it. So a debugger never sees two names
//! for one address, and a single free costs nothing.

use std::arch::global_asm;
use std::collections::HashMap;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::observe::Observed;
use crate::observe::batch::Batch;
use crate::observe::elf;

/// How many bytes of functions, names and lines wait before they are registered.
const BATCH_BYTES: usize = 1 << 20;

// The function must be there under its name and do nothing; the descriptor is version 1, no action, no entries.
global_asm!(
    ".pushsection .text.__jit_debug_register_code,\"ax\",@progbits",
    ".weak __jit_debug_register_code",
    ".type __jit_debug_register_code,@function",
    ".p2align 4",
    "__jit_debug_register_code:",
    "nop",
    "ret",
    ".size __jit_debug_register_code, . - __jit_debug_register_code",
    ".popsection",
    ".pushsection .data.__jit_debug_descriptor,\"aw\",@progbits",
    ".weak __jit_debug_descriptor",
    ".type __jit_debug_descriptor,@object",
    ".p2align 3",
    "__jit_debug_descriptor:",
    ".long 1, 0",
    ".quad 0, 0",
    ".size __jit_debug_descriptor, . - __jit_debug_descriptor",
    ".popsection",
);

/// The layout that debuggers know.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    /// The entry that the action is about.
    relevant: *mut Entry,
    first: *mut Entry,
}

/// The same.
#[repr(C)]
struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    image: *const u8,
    image_bytes: u64,
}

const NO_ACTION: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

unsafe extern "C" {
    fn __jit_debug_register_code();
    static mut __jit_debug_descriptor: Descriptor;
}

/// Held while the list changes, and while it is told.
static LIST: Mutex<()> = Mutex::new(());

/// A registered image; dropping it takes it back.
#[derive(Debug)]
struct Registration {
    entry: NonNull<Entry>,
    /// What the entry points to.
    _image: Vec<u8>,
}

// SAFETY: the entry is reached only with `LIST` held, and the image is not changed; neither belongs to a thread.
unsafe impl Send for Registration {}

impl Registration {
    fn new(image: Vec<u8>) -> Result<Registration, Error> {
        let mut entry = Vec::new();
        entry.try_reserve_exact(1).map_err(|_| Error::Memory)?;
        let (image_start, image_bytes) = (image.as_ptr(), image.len() as u64);
        entry.push(Entry {
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            image: image_start,
            image_bytes,
        });
        let entry = NonNull::from(Box::leak(entry.into_boxed_slice())).cast::<Entry>();
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let list = &raw mut __jit_debug_descriptor;
        // SAFETY: with the lock held nobody else of this crate touches the list or an entry. Its entries are alive: each is
        // taken out before it is dropped. `entry` is not in it yet and nobody else has it.
        unsafe {
            let next = (*list).first;
            (*entry.as_ptr()).next = next;
            if !next.is_null() {
                (*next).previous = entry.as_ptr();
            }
            (*list).first = entry.as_ptr();
            tell(entry, REGISTER);
        }
        Ok(Registration { entry, _image: image })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let list = &raw mut __jit_debug_descriptor;
        // SAFETY: with the lock held nobody else of this crate touches the list or an entry. The entry is in the list since
        // `new`, its neighbours are alive, and it was made there as a boxed slice of one; nothing points to it once it is
        // out of the list and the descriptor's action is over.
        unsafe {
            let Entry { next, previous, .. } = *self.entry.as_ptr();
            match NonNull::new(previous) {
                Some(previous) => (*previous.as_ptr()).next = next,
                None => (*list).first = next,
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
            tell(self.entry, UNREGISTER);
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(self.entry.as_ptr(), 1)));
        }
    }
}

/// Tells a debugger, if there is one, what was done with `entry`.
///
/// # Safety
///
/// `LIST` is held, and `entry` is alive.
unsafe fn tell(entry: NonNull<Entry>, action: u32) {
    let list = &raw mut __jit_debug_descriptor;
    // SAFETY: the caller holds the lock, so nobody else of this crate touches the descriptor. The function only returns.
    unsafe {
        (*list).relevant = entry.as_ptr();
        (*list).action = action;
        __jit_debug_register_code();
        (*list).action = NO_ACTION;
        (*list).relevant = ptr::null_mut();
    }
}

/// Where a function is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Which batch; `PENDING` for what waits.
    batch: u32,
    /// Which function of it.
    function: u32,
}

const PENDING: u32 = u32::MAX;

/// A registered batch.
#[derive(Debug)]
struct Shown {
    batch: Batch,
    live: usize,
    /// Dropped before the batch is registered anew; there is none only if that failed.
    registration: Option<Registration>,
}

/// The functions of one owner that debuggers see.
#[derive(Debug, Default)]
pub(crate) struct GdbSymbols {
    pending: Batch,
    shown: Vec<Option<Shown>>,
    /// Live functions by their address.
    known: HashMap<usize, Known>,
    failed: Option<Error>,
}

impl GdbSymbols {
    pub(crate) fn published(&mut self, code: &Observed<'_>) {
        if self.failed.is_some() {
            return;
        }
        self.freed(code.address);
        let function = self.pending.functions().len() as u32;
        let pushed = match self.known.try_reserve(1) {
            Ok(()) => self.pending.push(code),
            Err(_) => Err(Error::Memory),
        };
        match pushed {
            Ok(()) => {
                self.known.insert(code.address, Known { batch: PENDING, function });
            }
            Err(error) => self.failed = Some(error),
        }
        if self.pending.functions().len() == elf::FUNCTIONS || self.pending.bytes() >= BATCH_BYTES {
            // The error is kept for the owner's own flush.
            let _ = self.flush();
        }
    }

    pub(crate) fn freed(&mut self, address: usize) {
        let Some(Known { batch, function }) = self.known.remove(&address) else { return };
        if batch == PENDING {
            // It is not there any more if registering it failed.
            if let Some(function) = self.pending.functions_mut().get_mut(function as usize) {
                function.is_live = false;
            }
            return;
        }
        let place = &mut self.shown[batch as usize];
        let shown = place.as_mut().expect("a batch is there as long as a function of it is live");
        shown.batch.functions_mut()[function as usize].is_live = false;
        shown.live -= 1;
        if shown.live == 0 {
            *place = None;
        }
    }

    /// All that is known in `range` is freed.
    pub(crate) fn freed_in(&mut self, range: &Range<usize>) {
        for index in 0..=self.shown.len() {
            let mut at = 0;
            loop {
                let batch = match self.shown.get(index) {
                    Some(place) => place.as_ref().map(|shown| &shown.batch),
                    None => Some(&self.pending),
                };
                let Some(function) = batch.and_then(|batch| batch.functions().get(at)) else { break };
                at += 1;
                if function.is_live && range.contains(&function.address) {
                    let address = function.address;
                    self.freed(address);
                }
            }
        }
    }

    /// Registers what waits, and returns the first error there was.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let mut batch = std::mem::take(&mut self.pending);
        batch.settle();
        if !batch.functions().is_empty()
            && let Err(error) = self.make_room(&batch).and_then(|()| self.show(batch))
        {
            self.failed = self.failed.or(Some(error));
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Registers anew, without their freed functions, the batches that have one where `new` has its own.
    fn make_room(&mut self, new: &Batch) -> Result<(), Error> {
        for index in 0..self.shown.len() {
            let Some(shown) = &mut self.shown[index] else { continue };
            if shown.live == shown.batch.functions().len() || !overlaps_freed(&shown.batch, new) {
                continue;
            }
            shown.registration = None;
            shown.batch.settle();
            locate(&mut self.known, index as u32, &shown.batch);
            shown.registration = Some(elf::image(&shown.batch).and_then(Registration::new)?);
        }
        Ok(())
    }

    fn show(&mut self, batch: Batch) -> Result<(), Error> {
        let index = match self.shown.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.shown.try_reserve(1).map_err(|_| Error::Memory)?;
                self.shown.push(None);
                self.shown.len() - 1
            }
        };
        let shown =
            self.shown[index].insert(Shown { live: batch.functions().len(), batch, registration: None });
        locate(&mut self.known, index as u32, &shown.batch);
        shown.registration = Some(elf::image(&shown.batch).and_then(Registration::new)?);
        Ok(())
    }
}

/// Notes where the functions of a batch are, all of which are live and known.
fn locate(known: &mut HashMap<usize, Known>, batch: u32, functions: &Batch) {
    for (function, at) in functions.functions().iter().zip(0..) {
        known.insert(function.address, Known { batch, function: at });
    }
}

/// Whether a freed function of `old` has bytes where one of `new` has.
fn overlaps_freed(old: &Batch, new: &Batch) -> bool {
    new.functions().iter().any(|function| {
        let before = old.functions().partition_point(|earlier| earlier.range().end <= function.address);
        old.functions()[before..]
            .iter()
            .take_while(|earlier| earlier.address < function.range().end)
            .any(|earlier| !earlier.is_live)
    })
}

#[cfg(test)]
mod tests;
