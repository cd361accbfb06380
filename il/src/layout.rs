//! The layout of objects in memory, which lowered code, the runtime and the interpreter agree on.
//!
//! ```text
//!   reference ──► +0   address of the class's description   8 bytes
//!                 +8   the runtime's own word               4
//!                 +12  number of elements, of an array      4
//!                 +16  the fields of an object, the elements of an array
//! ```
//!
//! Offsets are from the reference, as those of fields are. A class's size counts the header in.

use crate::module::ClassId;
use crate::types::Type;

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
