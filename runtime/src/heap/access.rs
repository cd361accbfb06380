//! Access by the host: to objects, their fields and elements, and to statics.
//!
//! *Guarantees.* Whatever is named as a reference is looked up among the [starts](super::starts) of objects. A reference is read and
//! written where the object has one, as a whole, and nothing else is read or written there: so after any sequence of calls the
//! collector finds what it looks for. Elements of arrays of objects are of the array's class, which code relies on.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;

use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::layout::{CLASS_OFFSET, ELEMENTS_OFFSET, HEADER_BYTES, LENGTH_OFFSET, ObjectKind};
use dagwood_il::{ClassId, SymbolId, Type};

use super::Heap;
use crate::classes::Info;

/// The bytes of a reference.
const REFERENCE: u32 = 8;

/// Why the host does not get at what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// No object starts there; null leads to none either.
    NoObject {
        /// What was given for a reference.
        reference: u64,
    },
    /// The place is in the object's header or beyond its end.
    Outside {
        /// What kind of object it is.
        kind: ObjectKind,
        /// Where the place starts.
        offset: u32,
        /// What was asked for there.
        ty: Type,
    },
    /// The object has a reference where something else was asked for, or something else where a reference was.
    OtherType {
        /// What kind of object it is.
        kind: ObjectKind,
        /// Where the place starts.
        offset: u32,
        /// What was asked for there.
        ty: Type,
    },
    /// The array has no elements of that kind.
    OtherClass {
        /// The array's.
        kind: ObjectKind,
        /// That of what was to be an element.
        element: ObjectKind,
    },
    /// A collection of the heap was cut off by a panic.
    Broken,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessError::NoObject { reference } => write!(f, "{reference:#x} leads to no object"),
            AccessError::Outside { kind, offset, ty } => {
                write!(
                    f,
                    "a {ty} at offset {offset} is not within the fields or elements of an object of kind {kind:?}"
                )
            }
            AccessError::OtherType { kind, offset, ty: Type::Ref } => {
                write!(f, "an object of kind {kind:?} has no reference at offset {offset}")
            }
            AccessError::OtherType { kind, offset, ty } => {
                write!(
                    f,
                    "an object of kind {kind:?} has a reference where a {ty} at offset {offset} would be"
                )
            }
            AccessError::OtherClass { kind, element } => {
                write!(f, "an array of kind {kind:?} has no elements of kind {element:?}")
            }
            AccessError::Broken => f.write_str("the heap is unusable: a collection of it was cut off"),
        }
    }
}

impl Error for AccessError {}

impl Info {
    /// Whether a value of a type may be at these offsets, which are inside: whether there is a reference if it is one, and none if not.
    fn fits(&self, place: Range<u32>, ty: Type) -> bool {
        let is_one = ty == Type::Ref;
        match self.kind.element() {
            Some(Type::Ref) => is_one && (place.start - ELEMENTS_OFFSET as u32).is_multiple_of(REFERENCE),
            Some(_) => !is_one,
            None if is_one => self.references.binary_search(&place.start).is_ok(),
            None => {
                let next = self.references.partition_point(|offset| offset + REFERENCE <= place.start);
                self.references.get(next).is_none_or(|offset| *offset >= place.end)
            }
        }
    }
}

impl Heap {
    /// Where an object is, and its description.
    pub(super) fn object(&self, reference: u64) -> Result<(usize, &Info), AccessError> {
        if self.is_broken.get() {
            return Err(AccessError::Broken);
        }
        let address = reference as usize;
        let size_at = |address| {
            let info = self.classes.info_at(self.space.word(address + CLASS_OFFSET as usize))?;
            usize::try_from(info.object_bytes(self.length_at(address))).ok()
        };
        let is_start = self.starts.has(address, self.cursor().0, size_at);
        let info = is_start
            .then(|| self.classes.info_at(self.space.word(address + CLASS_OFFSET as usize)))
            .flatten();
        info.map(|info| (address, info)).ok_or(AccessError::NoObject { reference })
    }

    pub(super) fn length_at(&self, address: usize) -> u32 {
        self.space.load(address + LENGTH_OFFSET as usize, 4) as u32
    }

    /// Whether this is null or leads to an object.
    ///
    /// # Errors
    ///
    /// Why it is neither.
    pub fn check(&self, reference: u64) -> Result<(), AccessError> {
        if reference == 0 { Ok(()) } else { self.object(reference).map(|_| ()) }
    }

    pub(super) fn assert_object(&self, reference: u64) {
        self.check(reference).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The kind of an object; none if the reference is null or leads to no object.
    pub fn kind_of(&self, reference: u64) -> Option<ObjectKind> {
        self.object(reference).ok().map(|(_, info)| info.kind)
    }

    /// Whether a reference leads to an object of a class.
    pub fn is_instance(&self, reference: u64, class: ClassId) -> bool {
        self.kind_of(reference).is_some_and(|kind| self.classes.is_instance(kind, class))
    }

    /// Whether `stored` may be an element of `array`: an array of objects takes null and objects of its class, and nothing else takes
    /// any.
    pub fn may_store(&self, array: u64, stored: u64) -> bool {
        match self.kind_of(array) {
            Some(ObjectKind::ObjectArray(class)) => stored == 0 || self.is_instance(stored, class),
            _ => false,
        }
    }

    /// The number of an array's elements, zero of other objects.
    ///
    /// # Errors
    ///
    /// If there is no object.
    pub fn length(&self, reference: u64) -> Result<u32, AccessError> {
        self.object(reference).map(|(address, _)| self.length_at(address))
    }

    /// Where in the memory a field or element is: it must lie behind the header and within the object.
    fn place(&self, reference: u64, offset: u32, ty: Type) -> Result<(usize, ObjectKind), AccessError> {
        let (address, info) = self.object(reference)?;
        let (kind, size) = (info.kind, info.object_bytes(self.length_at(address)));
        if offset < HEADER_BYTES || u64::from(offset) + u64::from(ty.bytes()) > size {
            return Err(AccessError::Outside { kind, offset, ty });
        }
        match info.fits(offset..offset + ty.bytes(), ty) {
            true => Ok((address + offset as usize, kind)),
            false => Err(AccessError::OtherType { kind, offset, ty }),
        }
    }

    /// What an object has at an offset from its reference, in bytes.
    ///
    /// # Errors
    ///
    /// If there is no object, or if it has nothing of this kind there.
    pub fn load(&self, reference: u64, offset: u32, ty: Type) -> Result<Value, AccessError> {
        let (place, _) = self.place(reference, offset, ty)?;
        Ok(Value::new(ty, self.space.load(place, ty.bytes() as usize)))
    }

    /// Gives an object a value at an offset from its reference, in bytes.
    ///
    /// # Errors
    ///
    /// As [`Heap::load`]; also if the value is a reference that is not null and leads to no object, or to one that is no element
    /// of the array.
    pub fn store(&self, reference: u64, offset: u32, value: Value) -> Result<(), AccessError> {
        let (place, kind) = self.place(reference, offset, value.ty())?;
        if value.ty() == Type::Ref && value.low() != 0 {
            let (_, info) = self.object(value.low())?;
            if let ObjectKind::ObjectArray(class) = kind
                && !self.classes.is_instance(info.kind, class)
            {
                return Err(AccessError::OtherClass { kind, element: info.kind });
            }
        }
        self.space.store(place, value.ty().bytes() as usize, value.bits());
        Ok(())
    }

    /// The value of a static of type `ref`, and of others their low word.
    ///
    /// # Panics
    ///
    /// If the module has no such symbol.
    pub fn load_static(&self, symbol: SymbolId) -> u64 {
        self.statics[symbol.index()].0[0].load(Ordering::Relaxed)
    }

    /// Gives a static a value.
    ///
    /// # Panics
    ///
    /// If the module has no such symbol, or if it is one for references and the value is not null and leads to no object.
    pub fn store_static(&self, symbol: SymbolId, value: u64) {
        if self.classes.statics()[symbol.index()] {
            self.assert_object(value);
        }
        self.statics[symbol.index()].0[0].store(value, Ordering::Relaxed);
    }
}
