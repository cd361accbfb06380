//! Where compiled frames have their references, for the collector.
//!
//! ```text
//!   activation ─► stub's frame ─► code: site ─► map: fp - 24, fp - 40 ─► code … ─► shim ─► trampoline
//!        └ outer activation ─► …
//! ```
//!
//! Every return address at which objects may move has a map in its [`Site`](dagwood_codegen::Site): the places in the frame that
//! hold references. All activations of this thread that run with the heap are walked, each from the stub that waits. One that was
//! entered without a heap, by a method that has no references, must have come to none that has: nobody would follow what they hold.

use crate::entry::Activation;
use crate::heap::Heap;
use crate::raise::Raise;
use crate::unwind::Walk;

/// The places in frames that hold references.
pub(crate) struct References {
    places: Vec<*mut u64>,
}

impl References {
    /// Replaces every reference by what `update` makes of it.
    ///
    /// # Safety
    ///
    /// The frames that these were found in still wait where they did, on this thread.
    pub(crate) unsafe fn update(&self, mut update: impl FnMut(u64) -> u64) {
        for place in &self.places {
            // SAFETY: the map of a site lists words of the frame that hold references while the frame waits there, which the
            // caller vouches for; code writes them again only when it goes on.
            unsafe { place.write(update(place.read())) };
        }
    }
}

/// The references in frames of code that runs with this heap on this thread.
///
/// # Errors
///
/// A fault if a frame waits where objects may not move, or has references and was entered without a heap.
pub(crate) fn of(heap: &Heap) -> Result<References, Raise> {
    let mut places = Vec::new();
    // SAFETY: used in this function alone, which the activation's host or code called.
    let mut next = unsafe { Activation::innermost() };
    while let Some(activation) = next {
        next = activation.outer();
        let frame = activation.host_frame();
        let is_ours = activation.heap.is_some_and(|own| std::ptr::eq(own, heap));
        if frame.is_null() {
            return Err(Raise::fault("objects would move while the code on the stack waits for nothing"));
        }
        // SAFETY: the frame is that of the stub that waits for us, which code of the activation called.
        let mut walk = unsafe { Walk::new(activation, frame) };
        for step in walk.by_ref() {
            // Stubs and shims keep no references while they wait.
            if step.body.method.is_none() || !step.body.has_references {
                continue;
            }
            if !is_ours {
                let method = step.body.method;
                let what =
                    format!("objects would move while {method:?} waits, which has references but no heap");
                return Err(Raise::fault(what));
            }
            let map = step.site().and_then(|site| step.body.references(site));
            let Some(map) = map else {
                let method = step.body.method;
                let what = format!("objects would move while {method:?} waits in a call that does not yield");
                return Err(Raise::fault(what));
            };
            places.extend(map.iter().map(|offset| (step.fp - *offset as usize) as *mut u64));
        }
        if !walk.is_complete() {
            return Err(Raise::fault("a frame on the stack is not one of compiled code"));
        }
    }
    Ok(References { places })
}
