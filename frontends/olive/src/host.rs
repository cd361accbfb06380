//! What the interpreter asks of the world around it: objects, statics, functions of the host.
//!
//! [`Heap`] is a host by itself, for programs that run in the interpreter alone. Objects are reached by reference and offset,
//! laid out as [`layout`](dagwood_il::layout) says, so that a host may as well be the memory that compiled code uses.

use std::io::Write;

use dagwood_il as il;
use il::entity::Entity;
use il::layout::{HEADER_BYTES, ObjectKind, array_bytes};
use il::{NativeId, RaiseKind, SymbolId};

use crate::program::{Program, Type};

/// A value on the stack or in a local.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// An `int`.
    Int(i32),
    /// A `long`.
    Long(i64),
    /// A `double`.
    Double(f64),
    /// A reference; zero is null.
    Ref(u64),
}

impl Value {
    /// The zero or null of a type.
    pub fn zero(ty: Type) -> Value {
        Value::from_bits(ty.lowered(), 0)
    }

    /// The value of a type of the IL with these bits. Narrow integers are widened with zeros.
    pub fn from_bits(ty: il::Type, bits: u64) -> Value {
        match ty {
            il::Type::I64 => Value::Long(bits as i64),
            il::Type::F64 => Value::Double(f64::from_bits(bits)),
            il::Type::Ref => Value::Ref(bits),
            _ => Value::Int(bits as i32),
        }
    }

    /// The value as one of the IL.
    pub fn to_il(self) -> il::eval::Value {
        match self {
            Value::Int(value) => il::eval::Value::i32(value),
            Value::Long(value) => il::eval::Value::i64(value),
            Value::Double(value) => il::eval::Value::f64(value),
            Value::Ref(object) => il::eval::Value::reference(object),
        }
    }

    /// The bits, with zeros above those of an `int`.
    pub fn bits(self) -> u64 {
        match self {
            Value::Int(value) => value as u32 as u64,
            Value::Long(value) => value as u64,
            Value::Double(value) => value.to_bits(),
            Value::Ref(object) => object,
        }
    }
}

/// The world in which programs run. References that it is given are not null and come from it.
pub trait Host {
    /// A new object with zeros in it; none if memory is used up.
    fn allocate(&mut self, program: &Program, kind: ObjectKind, length: u32) -> Option<u64>;

    /// What an object is.
    fn kind(&mut self, object: u64) -> ObjectKind;

    /// How many elements an array has.
    fn length(&mut self, array: u64) -> u32;

    /// Reads a field or an element, by its offset from the reference.
    fn read(&mut self, object: u64, offset: u64, ty: il::Type) -> u64;

    /// Writes a field or an element.
    fn write(&mut self, object: u64, offset: u64, ty: il::Type, bits: u64);

    /// Reads a static.
    fn read_static(&mut self, symbol: SymbolId) -> u64;

    /// Writes a static.
    fn write_static(&mut self, symbol: SymbolId, bits: u64);

    /// Enters the monitor of an object.
    fn lock(&mut self, object: u64);

    /// Leaves the monitor of an object.
    fn unlock(&mut self, object: u64);

    /// Calls a function of the host.
    ///
    /// # Errors
    ///
    /// What it raises, which ends the program.
    fn native(
        &mut self,
        program: &Program,
        native: NativeId,
        args: &[Value],
    ) -> Result<Option<Value>, RaiseKind>;
}

/// The functions that programs may declare, with their parameters: each prints its argument, all but the last on a line.
pub const CONSOLE: &[(&str, Type)] = &[
    ("print_i32", Type::Int),
    ("print_i64", Type::Long),
    ("print_f64", Type::Double),
    ("print_char", Type::Int),
];

/// The index in [`CONSOLE`] of a function that a program asks for.
pub fn console(program: &Program, native: NativeId) -> Option<usize> {
    let native = &program.natives()[native];
    let fits = |(name, ty): &(&str, Type)| {
        *name == native.name && native.shape.params == [*ty] && native.shape.result.is_none()
    };
    CONSOLE.iter().position(fits)
}

/// Does what a function of [`CONSOLE`] does. That nobody reads what it prints is not the program's failure.
pub fn print(out: &mut dyn Write, function: usize, value: Value) {
    let _ = match value {
        Value::Int(byte) if CONSOLE[function].0 == "print_char" => out.write_all(&[byte as u8]),
        Value::Int(value) => writeln!(out, "{value}"),
        Value::Long(value) => writeln!(out, "{value}"),
        Value::Double(value) => writeln!(out, "{value:?}"),
        Value::Ref(object) => writeln!(out, "{object:#x}"),
    };
}

/// An object of a [`Heap`].
struct Object {
    kind: ObjectKind,
    length: u32,
    locks: u32,
    bytes: Vec<u8>,
}

/// A host by itself. Objects stay until it goes.
pub struct Heap<'w> {
    objects: Vec<Object>,
    statics: Vec<u64>,
    bytes_left: u64,
    out: &'w mut dyn Write,
}

impl<'w> Heap<'w> {
    /// A heap of so many bytes for a program that prints to `out`.
    pub fn new(program: &Program, limit_bytes: u64, out: &'w mut dyn Write) -> Heap<'w> {
        Heap { objects: Vec::new(), statics: vec![0; program.members().len()], bytes_left: limit_bytes, out }
    }

    fn object(&self, reference: u64) -> &Object {
        &self.objects[reference as usize - 1]
    }

    fn object_mut(&mut self, reference: u64) -> &mut Object {
        &mut self.objects[reference as usize - 1]
    }

    /// How many monitors are held, each counted as often as it was entered.
    pub fn held(&self) -> u64 {
        self.objects.iter().map(|object| u64::from(object.locks)).sum()
    }
}

impl Host for Heap<'_> {
    fn allocate(&mut self, program: &Program, kind: ObjectKind, length: u32) -> Option<u64> {
        let size = match kind {
            ObjectKind::Object(class) => program.classes()[class].size_bytes.into(),
            ObjectKind::Array(ty) => array_bytes(ty, length),
            ObjectKind::ObjectArray(_) => array_bytes(il::Type::Ref, length),
        };
        self.bytes_left = self.bytes_left.checked_sub(size)?;
        let bytes = vec![0; (size - u64::from(HEADER_BYTES)) as usize];
        self.objects.push(Object { kind, length, locks: 0, bytes });
        Some(self.objects.len() as u64)
    }

    fn kind(&mut self, object: u64) -> ObjectKind {
        self.object(object).kind
    }

    fn length(&mut self, array: u64) -> u32 {
        self.object(array).length
    }

    fn read(&mut self, object: u64, offset: u64, ty: il::Type) -> u64 {
        let at = (offset - u64::from(HEADER_BYTES)) as usize;
        let mut bits = [0; 8];
        let size = ty.bytes() as usize;
        bits[..size].copy_from_slice(&self.object(object).bytes[at..at + size]);
        u64::from_le_bytes(bits)
    }

    fn write(&mut self, object: u64, offset: u64, ty: il::Type, bits: u64) {
        let at = (offset - u64::from(HEADER_BYTES)) as usize;
        let size = ty.bytes() as usize;
        self.object_mut(object).bytes[at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
    }

    fn read_static(&mut self, symbol: SymbolId) -> u64 {
        self.statics[symbol.index()]
    }

    fn write_static(&mut self, symbol: SymbolId, bits: u64) {
        self.statics[symbol.index()] = bits;
    }

    fn lock(&mut self, object: u64) {
        self.object_mut(object).locks += 1;
    }

    fn unlock(&mut self, object: u64) {
        self.object_mut(object).locks -= 1;
    }

    fn native(
        &mut self,
        program: &Program,
        native: NativeId,
        args: &[Value],
    ) -> Result<Option<Value>, RaiseKind> {
        match (console(program, native), args) {
            (Some(function), [value]) => {
                print(self.out, function, *value);
                Ok(None)
            }
            _ => Err(RaiseKind::Fault),
        }
    }
}
