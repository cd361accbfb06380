//! What compiled code asks of whoever runs it.

use dagwood_il::{ClassId, NativeId};

use crate::entry::Entry;
use crate::heap::Heap;
use crate::layout::Slot;
use crate::raise::Raise;

/// The functions that compiled code may call, and the classes of its exceptions.
pub trait Host {
    /// Calls a function of the host. A raise goes on in the code that called it; a panic goes on through that code to
    /// whoever entered it.
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise>;

    /// Whether a handler for `class` catches the exception `object`.
    /// It makes no objects and runs no code.
    fn is_instance(&self, object: u64, class: ClassId) -> bool;

    /// Where code finds the objects that it makes. It is asked when code is entered and not again; without one, methods that have
    /// references are not entered.
    fn heap(&self) -> Option<&Heap> {
        None
    }
}

/// A call of a function of the host.
pub struct NativeCall<'a> {
    /// How the calling code was entered; the function may enter more code in the same way.
    pub entry: &'a Entry<'a>,
    /// The function.
    pub native: NativeId,
    /// The arguments; the results take their places. There are as many slots as the function is declared to have parameters
    /// or results, whichever are more, and at least one.
    pub slots: &'a mut [Slot],
}
