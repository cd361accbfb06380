//! What machine code, the runtime and the interpreter agree on in memory: objects, the VM context, threads, natives.
//!
//! ```text
//!   reference ──► +0   address of the class's description   8 bytes
//!                 +8   the runtime's own word               4
//!                 +12  number of elements, of an array      4
//!                 +16  the fields of an object, the elements of an array
//!
//!   context:  0 thread block's address │ 8 … whatever the program's code keeps there
//!   thread:   0 stack limit │ 8 poll word │ 16 shadow top │ 24 shadow limit
//!   buffer:   one 16-byte slot for each argument, and for each result
//! ```
//!
//! Offsets in objects are from the reference, as those of fields are. A class's size counts the header in. The context's
//! address is the first parameter of every method. Numbers are little-endian, as the machine's.

use crate::entity::Entity;
use crate::module::{ClassId, NativeId};
use crate::types::Type;

/// Offsets in the VM context, in bytes.
pub mod context {
    /// The address of the thread block of the thread that runs the code, 8 bytes. The runtime sets it at each entry.
    pub const THREAD: i32 = 0;
    /// Where what the runtime does not know starts.
    pub const FREE: i32 = 8;
}

/// Offsets in the thread block, in bytes.
pub mod thread {
    /// The stack limit, 8 bytes: a method that finds the stack pointer below it raises a stack overflow. The runtime sets
    /// it at entry.
    pub const STACK_LIMIT: i32 = 0;
    /// The poll word, 4 bytes: if it is not zero, a poll must call the runtime's helper.
    pub const POLL: i32 = 8;
    /// The first free byte of the shadow stack, 8 bytes. A method with slots moves it up when it is entered, and back where
    /// control leaves or re-enters it; the runtime moves it back for what an uncaught raise cut off.
    pub const SHADOW_TOP: i32 = 16;
    /// The end of the shadow stack, 8 bytes: a method that would move the top above it raises a stack overflow.
    pub const SHADOW_LIMIT: i32 = 24;
}

/// The bytes that each argument and result takes in a buffer through which natives and entries pass them. A value narrower
/// than that stands in the low bytes; what is above it means nothing.
pub const BUFFER_SLOT_BYTES: u32 = 16;

/// Which native function machine code calls, with how many slots of a buffer: what it passes to the runtime in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeWord {
    /// The function.
    pub native: NativeId,
    /// The slots that the buffer has: as many as there are parameters or results, whichever are more.
    pub slots: u32,
}

impl NativeWord {
    /// The function in the low half, the slots in the high.
    pub fn encode(self) -> u64 {
        self.native.index() as u64 | u64::from(self.slots) << 32
    }

    /// What [`NativeWord::encode`] made the word from.
    pub fn decode(word: u64) -> NativeWord {
        NativeWord { native: NativeId::new(word as u32 as usize), slots: (word >> 32) as u32 }
    }
}

/// Where an object has the address of its class's description.
pub const CLASS_OFFSET: i32 = 0;
/// Where an object has the word that is the runtime's own: for a lock, for the collector.
pub const RUNTIME_OFFSET: i32 = 8;
/// Where an array has its number of elements, an `i32` that is not negative.
pub const LENGTH_OFFSET: i32 = 12;
/// Where an object's first field and an array's first element may be.
pub const ELEMENTS_OFFSET: i32 = 16;
/// The bytes that precede fields and elements.
pub const HEADER_BYTES: u32 = 16;
/// What references are multiples of, so that 16-byte elements are aligned.
pub const OBJECT_ALIGN: u32 = 16;

/// What an object is; each has a description, whose address is in the object's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// An instance of a class.
    Object(ClassId),
    /// An array of values that are not references.
    Array(Type),
    /// An array of references to objects of a class.
    ObjectArray(ClassId),
}

impl ObjectKind {
    /// The type of an array's elements; none for other objects.
    pub fn element(self) -> Option<Type> {
        match self {
            ObjectKind::Object(_) => None,
            ObjectKind::Array(ty) => Some(ty),
            ObjectKind::ObjectArray(_) => Some(Type::Ref),
        }
    }
}

/// The bytes of an array with this many elements, header included and padding not.
pub fn array_bytes(element: Type, length: u32) -> u64 {
    u64::from(HEADER_BYTES) + u64::from(element.bytes()) * u64::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_and_its_slots_share_a_word() {
        for (index, slots) in [(0, 1), (7, 1000), (u32::MAX as usize - 1, u32::MAX)] {
            let word = NativeWord { native: NativeId::new(index), slots };
            assert_eq!(NativeWord::decode(word.encode()), word);
        }
    }
}
