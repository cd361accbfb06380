//! How a code space is made.

use std::fmt;
use std::sync::Arc;

use crate::{CodeSpace, Domain, Observers};

/// How a space is made. The default is right for a program that compiles while it runs.
#[derive(Clone)]
pub struct Options {
    /// Where code stands.
    pub placement: Placement,
    /// The bytes of addresses that are reserved at the start, so that later code stands together; rounded up to whole
    /// chunks, zero for none. They cost no memory.
    pub reserve_bytes: usize,
    /// The most bytes of spans and large functions that may be in use at once. Slots are not counted, nor is what is known about
    /// code.
    pub max_bytes: usize,
    /// How code is written while it must never be writable and executable at once.
    pub protection: Protection,
    /// Whether another protection may take the place of one that the system refuses.
    pub fallback: Fallback,
    /// Whether executable mappings are made unchangeable.
    pub seal: Seal,
    /// How functions are packed.
    pub packing: Packing,
    /// Whether the unwinder learns of the code.
    pub unwind: Unwind,
    /// How many retired bytes make it worthwhile to look for what may be reused.
    pub quarantine_bytes: usize,
    /// The participants of which domain may run the code: nobody else may, and no others are asked before it is freed.
    pub domain: &'static Domain,
    /// Who is asked to make room before an allocation fails.
    pub pressure: Option<Arc<dyn Pressure>>,
    /// Who sees the code that is described to them with [`CodeSpace::describe`]. Spaces may share them.
    pub observers: Option<Arc<Observers>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            placement: Placement::default(),
            reserve_bytes: 64 << 20,
            max_bytes: 1 << 30,
            protection: Protection::Dual,
            fallback: Fallback::Allowed,
            seal: Seal::Off,
            packing: Packing::Granules,
            unwind: Unwind::Registered,
            quarantine_bytes: 128 << 10,
            domain: Domain::global(),
            pressure: None,
            observers: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("placement", &self.placement)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("protection", &self.protection)
            .field("fallback", &self.fallback)
            .field("seal", &self.seal)
            .field("packing", &self.packing)
            .field("unwind", &self.unwind)
            .field("quarantine_bytes", &self.quarantine_bytes)
            .field("domain", &self.domain)
            .field("pressure", &self.pressure.as_ref().map(|_| ".."))
            .field("observers", &self.observers.as_ref().map(|_| ".."))
            .finish()
    }
}

/// Where a space's code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Within reach of this address, which lies in the program's text, as far as there is room;
    /// [`CodeSpace::report`] says what was reached.
    Near(usize),
    /// Anywhere: harder to guess, and calls of the program's own functions go through slots.
    Anywhere,
}

impl Default for Placement {
    /// Near the program, or the shared library, that this crate is part of.
    fn default() -> Self {
        Placement::Near(CodeSpace::new as *const () as usize)
    }
}

/// How code is written. In no mode is a page ever writable and executable in one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Two views of the same memory for as long as the chunk lives: the fastest.
    Dual,
    /// The write view is there only while a writer holds a span of the chunk.
    Session,
    /// There is no write view: code is written through the memory's file. Direct calls cannot be patched; those through
    /// slots can be redirected.
    NoAlias,
    /// One view, whose pages are made writable before and executable after they are written, where the
    /// system refuses executable memory files. Each function has its own pages; nothing can be patched, but calls through
    /// slots can be redirected.
    Flip,
}

impl Protection {
    /// Whether [`CodeSpace::patch_call`] can redirect direct calls. Where it cannot, a call that may be redirected is to be
    /// made through a slot, with [`Patching::BySlot`](crate::Patching::BySlot). Ask it of [`CodeSpace::protection`], since
    /// the system may have refused what the options say.
    pub fn patches_calls(self) -> bool {
        matches!(self, Protection::Dual | Protection::Session)
    }
}

/// Whether another protection may take the place of one that the system refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// [`Protection::Flip`] may.
    Allowed,
    /// Then making the space fails.
    Refused,
}

/// Whether executable mappings are sealed, so that nothing in the process can change their protection any more (`mseal`, Linux
/// 6.10). A sealed mapping's addresses are not given back before the process ends; its memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// They are not.
    Off,
    /// They are, where the system can.
    IfPossible,
    /// They are, and where the system cannot, making the space fails.
    Required,
}

/// How functions are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Up to 16 KiB at multiples of 64 bytes, above in whole pages of four size classes for each doubling.
    Granules,
    /// All in whole pages of four size classes for each doubling: what code must do whose pages change their protection.
    Pages,
}

/// Whether the unwinder learns of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwind {
    /// One record for each chunk is registered with the unwinder of Rust's standard library.
    Registered,
    /// Nothing unwinds through the code, or somebody else registers it.
    None,
}

/// What kind of code a function is: each kind has its own chunks, so that hot code stands together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// Stubs and shims, which live long and are called from everywhere.
    Stubs,
    /// Code that was compiled quickly.
    #[default]
    Baseline,
    /// Code that was compiled because it is hot.
    Optimized,
    /// Code that seldom runs.
    Cold,
}

impl Lane {
    /// All of them, by their number.
    pub const ALL: [Lane; 4] = [Lane::Stubs, Lane::Baseline, Lane::Optimized, Lane::Cold];
}

/// Who is asked to make room before an allocation fails.
///
/// # Examples
///
/// An owner that takes out what it published first:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::collections::VecDeque;
///
/// use dagwood_codespace::{Code, CodeSpace, Layout, Options, Pressure, Relief, SPAN};
///
/// #[derive(Default)]
/// struct OldestFirst(Mutex<VecDeque<Code>>);
///
/// impl Pressure for OldestFirst {
///     fn relieve(&self, space: &CodeSpace, _: usize) -> Relief {
///         let Some(oldest) = self.0.lock().unwrap().pop_front() else { return Relief::GiveUp };
///         // Nothing leads there any more: here nothing ever did. There are two grace periods.
///         let _ = space.retire(oldest);
///         let passed = (0..2).all(|_| space.reclaim(&mut |_| ()).is_ok());
///         if passed { Relief::TryAgain } else { Relief::GiveUp }
///     }
/// }
///
/// let published = Arc::new(OldestFirst::default());
/// let options = Options { max_bytes: SPAN, pressure: Some(published.clone()), ..Options::default() };
/// let space = CodeSpace::new(&options)?;
/// let writer = space.writer();
/// for owner in 0..100 {
///     let code = writer.reserve(&Layout::new(4000))?.publish(owner)?;
///     published.0.lock().unwrap().push_back(code);
/// }
/// assert!(space.stats().live < 100);
/// # Ok::<(), dagwood_codespace::Error>(())
/// ```
pub trait Pressure: Send + Sync {
    /// `bytes` more are wanted, and the space's limit or the system refuses them. The owner may retire code and reclaim it
    /// here; no lock is held. It is asked a bounded number of times for one allocation. What it allocates itself fails if there is no
    /// room: a thread that asks is not asked again, by whatever space.
    fn relieve(&self, space: &CodeSpace, bytes: usize) -> Relief;
}

/// Whether there may be room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// There may.
    TryAgain,
    /// There is none.
    GiveUp,
}
