//! Leaving the IL: the interpreter of the bytecode goes on where a guard has failed, with the frame that the guard's frame state
//! describes, the objects that the IL has made, and those that it has not: these are made now, and their monitors entered.

use std::collections::BTreeMap;

use dagwood_il as il;
use il::interp::{self, Exit, ExitFrame, ExitObject, ExitValue};
use il::layout::{ELEMENTS_OFFSET, ObjectKind};
use il::{FrameMode, Module, NativeId, RaiseKind, SymbolId};

use crate::host::{Host, Value};
use crate::interpret::Frame;
use crate::program::{Program, Type};

/// A host of the IL's interpreter as one of the bytecode's.
pub(super) struct Memory<'h, H> {
    pub(super) module: &'h Module,
    pub(super) host: &'h mut H,
}

impl<H: interp::Host> Memory<'_, H> {
    fn load(&mut self, address: u64, ty: il::Type) -> u64 {
        self.host.load(address, ty.bytes()).expect("objects and statics are in memory") as u64
    }

    fn store(&mut self, address: u64, ty: il::Type, bits: u64) {
        let stored = self.host.store(address, ty.bytes(), bits.into());
        stored.expect("objects and statics are in memory");
    }

    fn static_place(&mut self, symbol: SymbolId) -> (u64, il::Type) {
        let il::SymbolKind::Static(ty) = self.module.symbols[symbol].kind else {
            unreachable!("the reader has seen a static");
        };
        (self.host.symbol_address(symbol).expect("statics have addresses"), ty)
    }
}

impl<H: interp::Host> Host for Memory<'_, H> {
    fn allocate(&mut self, _: &Program, kind: ObjectKind, length: u32) -> Option<u64> {
        self.host.allocate(self.module, kind, length).ok()
    }

    fn kind(&mut self, object: u64) -> ObjectKind {
        self.host.kind_of(object).expect("a reference that is not null is one to an object")
    }

    fn length(&mut self, array: u64) -> u32 {
        self.load(array.wrapping_add_signed(il::layout::LENGTH_OFFSET.into()), il::Type::I32) as u32
    }

    fn read(&mut self, object: u64, offset: u64, ty: il::Type) -> u64 {
        self.load(object + offset, ty)
    }

    fn write(&mut self, object: u64, offset: u64, ty: il::Type, bits: u64) {
        self.store(object + offset, ty, bits);
    }

    fn read_static(&mut self, symbol: SymbolId) -> u64 {
        let (address, ty) = self.static_place(symbol);
        self.load(address, ty)
    }

    fn write_static(&mut self, symbol: SymbolId, bits: u64) {
        let (address, ty) = self.static_place(symbol);
        self.store(address, ty, bits);
    }

    fn lock(&mut self, object: u64) {
        self.host.monitor_enter(object).expect("monitors can be entered");
    }

    fn unlock(&mut self, object: u64) {
        self.host.monitor_exit(object).expect("the verifier has seen that the monitor is held");
    }

    fn native(&mut self, _: &Program, native: NativeId, args: &[Value]) -> Result<Option<Value>, RaiseKind> {
        let args: Vec<_> = args.iter().map(|arg| arg.to_il()).collect();
        let results = self.host.native(native, 0, &args).map_err(|raised| raised.kind)?;
        Ok(results.first().map(|value| Value::from_bits(value.ty(), value.low())))
    }
}

/// The frames of an exit, the innermost last; none if memory for the objects that were optimized away is used up. What the frame states do not
/// say gets values that nobody should see.
///
/// # Panics
///
/// If the exit is not before an operation, or of a method that others of the IL call.
pub(super) fn frames<H: interp::Host>(
    program: &Program,
    exit: &Exit,
    memory: &mut Memory<'_, H>,
) -> Option<Vec<Frame>> {
    assert!(exit.callers.is_empty(), "the frames of callers are not known");
    let modes = exit.frames.iter().map(|frame| frame.mode);
    let expected = std::iter::once(FrameMode::Reexecute).chain(std::iter::repeat(FrameMode::After));
    assert!(
        modes.zip(expected).all(|(own, expected)| own == expected),
        "guards stand before operations, callers at calls"
    );
    let made = make(program, &exit.virtuals, memory)?;
    for monitor in exit.frames.iter().flat_map(|frame| &frame.monitors) {
        if let ExitValue::Virtual(id) = monitor {
            memory.lock(made[id]);
        }
    }
    Some(exit.frames.iter().rev().map(|own| frame(program, own, &made)).collect())
}

/// Makes the objects that were optimized away: by id, where they are; none if memory is used up. They may hold each other.
fn make<H: interp::Host>(
    program: &Program,
    objects: &[ExitObject],
    memory: &mut Memory<'_, H>,
) -> Option<BTreeMap<u32, u64>> {
    let mut made = BTreeMap::new();
    for object in objects {
        let length = object.kind.element().map_or(0, |_| object.fields.len() as u32);
        made.insert(object.id, memory.allocate(program, object.kind, length)?);
    }
    for object in objects {
        let places: Vec<(u64, il::Type)> = match object.kind {
            ObjectKind::Object(class) => {
                let fields = memory.module.fields(class).into_iter();
                fields.filter_map(|field| field_place(memory.module, field)).collect()
            }
            kind => {
                let ty = kind.element().expect("what is no object of a class is an array");
                let place = |index| (ELEMENTS_OFFSET as u64 + index * u64::from(ty.bytes()), ty);
                (0..object.fields.len() as u64).map(place).collect()
            }
        };
        for (field, (offset, ty)) in object.fields.iter().zip(places) {
            let bits = match field {
                ExitValue::Value(value) => value.low(),
                ExitValue::Dead => 0,
                ExitValue::Virtual(id) => made[id],
            };
            memory.write(made[&object.id], offset, ty, bits);
        }
    }
    Some(made)
}

fn field_place(module: &Module, field: SymbolId) -> Option<(u64, il::Type)> {
    match module.symbols[field].kind {
        il::SymbolKind::Field { offset, ty, .. } => Some((offset.into(), ty)),
        _ => None,
    }
}

fn frame(program: &Program, frame: &ExitFrame, made: &BTreeMap<u32, u64>) -> Frame {
    let value = |value: &ExitValue, ty: Type| match value {
        ExitValue::Value(value) => Value::from_bits(value.ty(), value.low()),
        ExitValue::Dead if ty.is_reference() => Value::Ref(0),
        ExitValue::Dead => Value::from_bits(ty.lowered(), 0x7ead_7ead_7ead_7ead),
        ExitValue::Virtual(id) => Value::Ref(made[id]),
    };
    let reference = |monitor| value(monitor, Type::Null).bits();
    let locals = frame.locals.iter().zip(&program.methods()[frame.method].locals);
    Frame {
        method: frame.method,
        at: frame.position.0 as usize,
        locals: locals.map(|(own, local)| value(own, local.ty)).collect(),
        stack: frame.stack.iter().map(|own| value(own, Type::Null)).collect(),
        locks: frame.monitors.iter().map(reference).collect(),
    }
}
