//! Loads, stores, slots, statics, bulk memory, natives.

use smallvec::smallvec;

use super::*;
use crate::layout::ObjectKind;
use crate::method::{Access, Payload, Place};
use crate::module::{SymbolId, SymbolKind};
use crate::raise::RaiseKind;

fn access(symbol: SymbolId, offset: i32, scale: u8) -> Access {
    Access { place: Place::Symbol(symbol), offset, scale }
}

/// A module with one symbol for all of memory.
fn module() -> (Module, SymbolId) {
    let mut module = Module::new();
    let symbol = module.declare_symbol("memory", SymbolKind::Opaque);
    (module, symbol)
}

#[test]
fn an_address_is_base_plus_scaled_index_plus_offset() {
    let (mut module, memory) = module();
    let arena = Bump::new();
    let id = module.declare_method("m", &[Type::Addr, Type::I64], &[Type::I16]);
    let methods = [build(&arena, &module, id, |b| {
        let (base, index) = (b.param(0), b.param(1));
        let (base, index) = (b.get(base), b.get(index));
        let value = b.load(Type::I16, access(memory, -2, 4), base, Some(index));
        b.store(access(memory, 0, 1), value, base, None);
        b.ret(&[value]);
    })];
    let mut host = Regions::new(&module);
    let base = host.add(64);
    host.store(base + 14, 2, 0xbeef).expect("is mapped");
    let args = |index| [Value::addr(base + 16), Value::i64(index)];
    assert_eq!(
        run(&module, &methods, &mut host, &args(0)).expect("returns")[0],
        Value::i16(0xbeef_u16 as i16)
    );
    assert_eq!(host.load(base + 16, 2), Ok(0xbeef));
    host.store(base + 2, 2, 7).expect("is mapped");
    assert_eq!(run(&module, &methods, &mut host, &args(-3)).expect("returns")[0], Value::i16(7));
    // The sum wraps, so an index may come from far away.
    assert_eq!(run(&module, &methods, &mut host, &args((1 << 62) - 3)).expect("returns")[0], Value::i16(7));
    let raised = raised(&module, &methods, &mut host, &args(1000));
    assert_eq!((raised.kind, raised.object), (RaiseKind::Fault, base + 14 + 4000));
}

#[test]
fn every_type_goes_to_memory_and_back() {
    for ty in Type::VALUES {
        let (mut module, memory) = module();
        let arena = Bump::new();
        let id = module.declare_method("m", &[Type::Addr, ty], &[ty]);
        let methods = [build(&arena, &module, id, |b| {
            let (base, value) = (b.param(0), b.param(1));
            let (base, value) = (b.get(base), b.get(value));
            b.store(access(memory, 8, 1), value, base, None);
            let value = b.load(ty, access(memory, 8, 1), base, None);
            b.ret(&[value]);
        })];
        let mut host = Regions::new(&module);
        let base = host.add(24);
        let value = match ty {
            Type::Ref => {
                let object = host.allocate(&module, ObjectKind::Array(Type::I8), 0);
                Value::reference(object.expect("it fits"))
            }
            _ => Value::new(ty, 0xf0e1_d2c3_b4a5_9687_7869_5a4b_3c2d_1e0f),
        };
        let results = run(&module, &methods, &mut host, &[Value::addr(base), value]).expect("returns");
        assert_eq!(results[0], value);
        let width = ty.bytes() as usize;
        let bytes = host.bytes(base, 24).expect("is mapped");
        assert_eq!(bytes[8..8 + width], value.bits().to_le_bytes()[..width]);
        assert!(
            bytes[..8].iter().chain(&bytes[8 + width..]).all(|byte| *byte == 0),
            "only those are written"
        );
    }
}

#[test]
fn each_call_has_slots_of_its_own() {
    let (mut module, _) = module();
    let arena = Bump::new();
    let id = module.declare_method("m", &[Type::I32, Type::Addr], &[Type::I32]);
    let methods = [build(&arena, &module, id, |b| {
        let (n, above) = (b.param(0), b.param(1));
        let (n, above) = (b.get(n), b.get(above));
        let (small, cell) = (b.slot("small", 1, 1), b.slot("cell", 4, 4));
        let place = Access { place: Place::Slot(cell), offset: 0, scale: 1 };
        let address = b.emit(Opcode::SlotAddress, Type::Addr, &[], Payload::Slot(cell));
        let other = b.emit(Opcode::SlotAddress, Type::Addr, &[], Payload::Slot(small));
        let apart = b.op(Opcode::Ne, &[address, other]);
        b.check(apart, RaiseKind::Unreachable, 0);
        b.store(place, n, address, None);
        let entry = b.current().expect("a block is being filled");
        let (more, done) = (b.extension(entry).expect("fits"), b.extension(entry).expect("fits"));
        b.branch(n, more, done);
        b.switch_to(more);
        let one = b.i32(1);
        let less = b.op(Opcode::Sub, &[n, one]);
        let inner = b.call(id, &[less, address]);
        let own = b.load(Type::I32, place, address, None);
        let sum = b.op(Opcode::Add, &[inner, own]);
        b.ret(&[sum]);
        b.switch_to(done);
        // The caller's, which is still there.
        let above = b.load(Type::I32, place, above, None);
        b.ret(&[above]);
    })];
    let mut host = Regions::new(&module);
    let args = [Value::i32(4), Value::addr(0)];
    assert_eq!(run(&module, &methods, &mut host, &args).expect("returns")[0], Value::i32(1 + 1 + 2 + 3 + 4));
    host.slot_limit = 48;
    assert_eq!(raised(&module, &methods, &mut host, &args).kind, RaiseKind::StackOverflow);
}

#[test]
fn statics_stay_from_call_to_call() {
    let (mut module, _) = module();
    let arena = Bump::new();
    let counter = module.declare_symbol("counter", SymbolKind::Static(Type::I64));
    let id = module.declare_method("m", &[], &[Type::I64]);
    let methods = [build(&arena, &module, id, |b| {
        let address = b.emit(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(counter));
        let count = b.load(Type::I64, access(counter, 0, 1), address, None);
        let one = b.i64(1);
        let next = b.op(Opcode::Add, &[count, one]);
        b.store(access(counter, 0, 1), next, address, None);
        // A load happens where it stands: the store does not change what it gave.
        b.ret(&[count]);
    })];
    let mut host = Regions::new(&module);
    for expected in 0..3 {
        assert_eq!(run(&module, &methods, &mut host, &[]).expect("returns")[0], Value::i64(expected));
    }
}

/// Runs one bulk operation on 16 bytes 0, 1, 2, … and says what it gave and left.
fn bulk(opcode: Opcode, operands: impl Fn(u64) -> [Value; 3]) -> (Result<Values, Stop>, Vec<u8>) {
    let (mut module, memory) = module();
    let arena = Bump::new();
    let types = operands(0).map(Value::ty);
    let ty = if opcode == Opcode::MemoryCompare { Type::I32 } else { Type::Void };
    let id = module.declare_method("m", &types, if ty == Type::I32 { &[Type::I32] } else { &[] });
    let methods = [build(&arena, &module, id, |b| {
        let params = [0, 1, 2].map(|index| b.param(index));
        let operands = params.map(|param| b.get(param));
        let done = b.emit(opcode, ty, &operands, Payload::Symbol(memory));
        if ty == Type::I32 { b.ret(&[done]) } else { b.ret(&[]) }
    })];
    let mut host = Regions::new(&module);
    let base = host.add(16);
    let bytes = host.bytes_mut(base, 16).expect("is mapped");
    bytes.iter_mut().zip(0..).for_each(|(byte, index)| *byte = index);
    let outcome = run(&module, &methods, &mut host, &operands(base));
    (outcome, host.bytes(base, 16).expect("is mapped").to_vec())
}

#[test]
fn bulk_memory_copies_fills_and_compares() {
    let copy = |to, from, count| {
        bulk(Opcode::MemoryCopy, move |base| {
            [Value::addr(base + to), Value::addr(base + from), Value::i64(count)]
        })
    };
    let (outcome, bytes) = copy(2, 0, 5);
    assert!(outcome.is_ok() && bytes[..8] == [0, 1, 0, 1, 2, 3, 4, 7], "upward: {bytes:?}");
    let (outcome, bytes) = copy(0, 2, 5);
    assert!(outcome.is_ok() && bytes[..8] == [2, 3, 4, 5, 6, 5, 6, 7], "downward: {bytes:?}");
    assert!(copy(1 << 40, 0, 0).0.is_ok(), "nothing is copied from nowhere");
    assert!(matches!(copy(0, 8, 9).0, Err(Stop::Raised { raised, .. }) if raised.kind == RaiseKind::Fault));
    assert!(copy(0, 8, -1).0.is_err());

    let (_, bytes) =
        bulk(Opcode::MemoryFill, |base| [Value::addr(base + 3), Value::i32(0x1ff), Value::i64(2)]);
    assert_eq!(bytes[2..6], [2, 0xff, 0xff, 5]);

    let compare = |left, right, count| {
        let operands = move |base| [Value::addr(base + left), Value::addr(base + right), Value::i64(count)];
        bulk(Opcode::MemoryCompare, operands).0.expect("returns")[0]
    };
    assert_eq!([compare(0, 1, 4), compare(1, 0, 4), compare(1, 1, 4)], [-1, 1, 0].map(Value::i32));
}

/// A host with nothing but bytes, so that what it leaves to the defaults is seen.
struct Bytes(Vec<u8>);

impl Host for Bytes {
    fn load(&mut self, address: u64, size_bytes: u32) -> Result<u128, Fault> {
        let bytes = self.0.get(address as usize..).and_then(|bytes| bytes.get(..size_bytes as usize));
        Ok(bytes.ok_or(Fault { address })?.iter().rev().fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }

    fn store(&mut self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault> {
        for offset in 0..u64::from(size_bytes) {
            let byte = self.0.get_mut((address + offset) as usize).ok_or(Fault { address })?;
            *byte = (bits >> (8 * offset)) as u8;
        }
        Ok(())
    }

    fn symbol_address(&mut self, _: SymbolId) -> Option<u64> {
        None
    }

    fn enter_slots(&mut self, _: u64) -> Option<u64> {
        None
    }

    fn leave_slots(&mut self, _: u64, _: u64) {}

    fn method_address(&mut self, _: MethodId) -> u64 {
        0
    }

    fn method_at(&mut self, _: u64) -> Option<MethodId> {
        None
    }

    fn native(&mut self, _: crate::module::NativeId, _: u64, _: &[Value]) -> Result<Values, Raised> {
        Ok(Values::new())
    }
}

#[test]
fn bulk_memory_by_default_goes_byte_by_byte() {
    let mut host = Bytes((0..8).collect());
    host.copy(2, 0, 4).expect("is there");
    assert_eq!(host.0, [0, 1, 0, 1, 2, 3, 6, 7]);
    host.copy(0, 1, 4).expect("is there");
    assert_eq!(host.0, [1, 0, 1, 2, 2, 3, 6, 7]);
    host.fill(6, 9, 2).expect("is there");
    assert!(host.compare(0, 2, 1).is_ok_and(|order| order.is_eq()));
    assert!(host.compare(0, 6, 2).is_ok_and(|order| order.is_lt()));
    assert_eq!(host.fill(6, 9, u64::MAX), Err(Fault { address: 8 }));
}

#[test]
fn natives_see_memory_context_and_arguments() {
    let (mut module, _) = module();
    let arena = Bump::new();
    let native = module.declare_native("next", &[Type::I32], &[Type::I32, Type::F64]);
    let id = module.declare_method("m", &[], &[Type::I32, Type::F64]);
    let methods = [build(&arena, &module, id, |b| {
        let five = b.i32(5);
        let call = b.call_native(native, &[five]);
        let half = b.result(Type::F64, call, 1);
        b.ret(&[call, half]);
    })];
    let mut host = Regions::new(&module);
    assert_eq!(raised(&module, &methods, &mut host, &[]).kind, RaiseKind::Fault, "nobody provides it");
    let base = host.add(4);
    host.native(native, move |host, context, args| {
        assert_eq!(context, CONTEXT);
        host.store(base, 4, args[0].bits())?;
        Ok(smallvec![Value::i32(6), Value::f64(0.5)])
    });
    let results = run(&module, &methods, &mut host, &[]).expect("returns");
    assert_eq!((&results[..], host.load(base, 4)), (&[Value::i32(6), Value::f64(0.5)][..], Ok(5)));
    host.native(native, |_, _, _| Ok(Values::new()));
    assert!(matches!(run(&module, &methods, &mut host, &[]), Err(Stop::Invalid(_))), "it returns too little");
}
