//! What machine code, the runtime and the interpreter agree on in memory: objects, the VM context, threads, natives.
//!
//! ```text
//!   reference ──► +0   address of the class's description   8 bytes
//!                 +8   the runtime's own word               4
//!                 +12  number of elements, of an array      4
//!                 +16  the fields of an object, the elements of an array
//!
//!   context:  0 thread block's address │ 8 … whatever the program's code keeps there
//!   thread:   0 stack limit │ 8 poll word │ 16 shadow top │ 24 shadow limit │ 32 object top │ 40 object limit
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
    /// Where the next object goes, 8 bytes. Code that makes one moves it up by the object's bytes; see [`OBJECT_LIMIT`].
    pub const OBJECT_TOP: i32 = 32;
    /// The end of the zeroed memory for objects, 8 bytes: code that would move the top above it calls the runtime instead.
    pub const OBJECT_LIMIT: i32 = 40;
}

/// Offsets in the description of a class or of a kind of array, in bytes. Whatever is not listed belongs to the runtime.
///
/// ```text
///   0 runtime's │ 8 element │ 16 display: root … class, else 0 │ 80 interfaces: 8 chains │ 144 methods: one word for each slot
///                                                                       └─► key, code │ key, code │ 0, code that raises
/// ```
pub mod description {
    use crate::method::Dispatch;

    /// Of an array of objects, the address of its elements' class's description; else zero. 8 bytes.
    pub const ELEMENT: i32 = 8;
    /// The addresses of the descriptions of the class's superclasses and of itself, the one without a superclass first; zero
    /// where there are no more. Of interfaces and arrays, all are zero.
    pub const DISPLAY: i32 = 16;
    /// How many classes the display has room for. Whether an object is of a class further down is asked of the runtime.
    pub const DISPLAY_CLASSES: usize = 8;
    /// The addresses of [`INTERFACE_CHAINS`] chains of entries. An entry is a key and the address of code, 8 bytes each; the last
    /// one's key is zero, and its code raises.
    pub const INTERFACES: i32 = 80;
    /// How many chains there are.
    pub const INTERFACE_CHAINS: u32 = 8;
    /// The bytes of an entry of a chain, and where in it the code's address stands.
    pub const ENTRY_BYTES: i32 = 16;
    /// Where in an entry the address of code stands.
    pub const ENTRY_CODE: i32 = 8;
    /// For each slot of the class's table, the address of code. Where there is none it raises.
    pub const METHODS: i32 = 144;

    /// The key of a slot of an interface; never zero.
    pub fn interface_key(dispatch: Dispatch) -> u64 {
        use crate::entity::Entity;
        ((dispatch.class.index() as u64) << 32 | u64::from(dispatch.slot)) + 1
    }

    /// The number of the chain that has the entry of a key: the upper bits of a product with an odd number
    /// (Fibonacci hashing, Knuth 6.4).
    pub fn interface_chain(key: u64) -> u32 {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - INTERFACE_CHAINS.trailing_zeros())) as u32
    }
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

impl ObjectKind {
    /// The kind as a number: of one module, different kinds have different numbers.
    pub fn encode(self) -> u32 {
        let (index, rank) = match self {
            ObjectKind::Object(class) => (class.index() as u32, 0),
            ObjectKind::ObjectArray(class) => (class.index() as u32, 1),
            ObjectKind::Array(ty) => (ty as u32, 2),
        };
        index * 3 + rank
    }

    /// The kind that [`ObjectKind::encode`] made the number from; none if it made it from none.
    pub fn decode(number: u32) -> Option<ObjectKind> {
        let index = (number / 3) as usize;
        match number % 3 {
            0 => Some(ObjectKind::Object(ClassId::new(index))),
            1 => Some(ObjectKind::ObjectArray(ClassId::new(index))),
            _ => Type::VALUES.into_iter().find(|ty| *ty as usize == index).map(ObjectKind::Array),
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

    #[test]
    fn a_kind_is_a_number() {
        let class = ClassId::new(7);
        let arrays = Type::VALUES.map(ObjectKind::Array);
        for kind in arrays.into_iter().chain([ObjectKind::Object(class), ObjectKind::ObjectArray(class)]) {
            assert_eq!(ObjectKind::decode(kind.encode()), Some(kind));
        }
        assert_eq!(ObjectKind::decode(2), None, "no array has elements of no type");
    }
}
