//! Where values are available, frame states, guards, assignment.

use super::*;
use crate::module::CallEffects;

#[test]
fn places_frame_states_and_assignment() {
    check_cases(CASES);
}

/// An entry with two arms that extend it, given their blocks and a call's value from `owner`: 0 the entry, 1 and 2 the
/// arms. The value is used in the first arm.
fn value_of(fixture: &mut Fixture<'_>, owner: usize) {
    let entry = fixture.block(None);
    let then = fixture.block(Some(entry));
    let otherwise = fixture.block(Some(entry));
    let value = fixture.call([entry, then, otherwise][owner]);
    let condition = fixture.param(0);
    fixture.branch(entry, condition, then, otherwise);
    let sum = fixture.node(Opcode::Add, Type::I32, &[value, condition], Payload::None);
    fixture.ret(then, sum);
    fixture.end(otherwise);
}

/// A value of the entry used in the next block, which extends it or not.
fn value_across(fixture: &mut Fixture<'_>, extends: bool) {
    let entry = fixture.block(None);
    let next = fixture.block(extends.then_some(entry));
    let value = fixture.param(0);
    fixture.set(entry, Local::new(0), value);
    fixture.goto(entry, next);
    fixture.ret(next, value);
}

/// A native call between the address of a reference and a load from there.
fn address_of_ref(fixture: &mut Fixture<'_>, yields: bool) {
    let native = crate::module::NativeId::new(0);
    fixture.module.natives[native].effects = CallEffects { yields, ..CallEffects::UNKNOWN };
    one_block(fixture, |f, block| {
        let (a, o) = (f.param(0), f.param(2));
        let address = f.root(block, Opcode::RefAddress, Type::Addr, &[o], Payload::None);
        let offset = f.constant(Type::I64, 8);
        let moved = f.node(Opcode::AddrAdd, Type::Addr, &[address, offset], Payload::None);
        f.root(block, Opcode::CallNative, Type::Void, &[a], Payload::Native(native));
        f.root(block, Opcode::Load, Type::I32, &[moved], Fixture::access(Place::Symbol(f.memory), 1));
    });
}

/// The bits of a reference's address, or of a load through it, set to a local.
fn bits_of_ref(fixture: &mut Fixture<'_>, is_loaded: bool) {
    one_block(fixture, |f, block| {
        let o = f.param(2);
        let address = f.root(block, Opcode::RefAddress, Type::Addr, &[o], Payload::None);
        let bits = match is_loaded {
            true => {
                let access = Fixture::access(Place::Symbol(f.memory), 1);
                f.root(block, Opcode::Load, Type::I64, &[address], access)
            }
            false => f.node(Opcode::Bitcast, Type::I64, &[address], Payload::None),
        };
        f.set(block, Local::new(1), bits);
    });
}

/// A frame state with a slot and a monitor, carried by a call.
fn frame_of(fixture: &mut Fixture<'_>, locals: u16, slots: &[usize]) {
    one_block(fixture, |f, block| {
        let slots: Vec<Node> = slots.iter().map(|index| f.param(*index)).collect();
        let a = f.param(0);
        let frame = f.frame(FrameMode::After, locals, &slots);
        f.root(block, Opcode::Call, Type::I32, &[a, frame], Payload::Method(f.callee));
    });
}

/// Two guards with a store between them, in an extension or not, by the same frame state or by two.
fn moments(fixture: &mut Fixture<'_>, is_same: bool, between: Opcode) {
    let entry = fixture.block(None);
    let next = fixture.block(Some(entry));
    let a = fixture.param(0);
    let first = fixture.frame(FrameMode::Reexecute, 1, &[a]);
    let second = if is_same { first } else { fixture.frame(FrameMode::Reexecute, 1, &[a]) };
    let assumption = [Assumption::NotExtended(fixture.object)];
    fixture.guard(entry, &assumption, &[first]);
    let context = fixture.node(Opcode::Context, Type::Addr, &[], Payload::None);
    let access = Fixture::access(Place::Symbol(fixture.memory), 1);
    match between {
        Opcode::Store => fixture.root(entry, Opcode::Store, Type::Void, &[a, context], access),
        _ => fixture.root(entry, Opcode::Load, Type::I32, &[context], access),
    };
    fixture.goto(entry, next);
    fixture.guard(next, &assumption, &[second]);
    fixture.end(next);
}

fn guard(fixture: &mut Fixture<'_>, assumptions: &[Assumption], mode: Option<FrameMode>) {
    one_block(fixture, |f, block| {
        let a = f.param(0);
        let frame = mode.map(|mode| f.frame(mode, 1, &[a]));
        f.guard(block, assumptions, frame.as_slice());
    });
}

/// A local set in a block whose calls are handled, read in the handler.
fn assigned(fixture: &mut Fixture<'_>, is_set_first: bool) {
    let entry = fixture.handled_block(KindSet::CATCHABLE, 1);
    let handler = fixture.block(None);
    let local = fixture.local("x", Type::I32);
    let a = fixture.param(0);
    if is_set_first {
        fixture.set(entry, local, a);
    }
    fixture.call(entry);
    fixture.set(entry, local, a);
    fixture.call(entry);
    fixture.end(entry);
    let read = fixture.node(Opcode::Entry, Type::I32, &[], Payload::Local(local));
    fixture.ret(handler, read);
}

/// What was caught, in a block that is the handler or not.
fn caught(fixture: &mut Fixture<'_>, handler: usize) {
    let entry = fixture.handled_block(KindSet::CATCHABLE, handler);
    let (one, other) = (fixture.block(None), fixture.block(None));
    fixture.call(entry);
    fixture.end(entry);
    let kind = fixture.node(Opcode::CaughtKind, Type::I32, &[], Payload::None);
    fixture.ret(one, kind);
    fixture.end(other);
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    (Rule::RootPlace, "used but nowhere", |f| { let b = f.block(None); let a = f.param(0);
        let call = f.node(Opcode::Call, Type::I32, &[a], Payload::Method(f.callee)); f.ret(b, call); },
        |f| { let b = f.block(None); let call = f.call(b); f.ret(b, call); }),
    (Rule::RootPlace, "twice", |f| { let b = f.block(None); let call = f.call(b); f.list(b, call); f.ret(b, call); },
        |f| { let b = f.block(None); f.call(b); let call = f.call(b); f.ret(b, call); }),
    (Rule::RootPlace, "a division by a constant floats", |f| one_block(f, |f, b| {
        let (a, two) = (f.param(0), f.constant(Type::I32, 2));
        f.root(b, Opcode::SDiv, Type::I32, &[a, two], Payload::None); }),
        |f| one_block(f, |f, b| { let a = f.param(0); f.root(b, Opcode::SDiv, Type::I32, &[a, a], Payload::None); })),
    (Rule::ExtendedBlock, "a value of another", |f| value_across(f, false), |f| value_across(f, true)),
    (Rule::Availability, "a value of the other arm", |f| value_of(f, 2), |f| value_of(f, 0)),
    (Rule::Availability, "before it happens", |f| { let b = f.block(None);
        let (a, call) = (f.param(0), f.node(Opcode::Poll, Type::Void, &[], Payload::None)); f.list(b, call);
        let late = f.node(Opcode::Call, Type::I32, &[a], Payload::Method(f.callee));
        f.set(b, Local::new(0), late); f.list(b, late); f.end(b); },
        |f| value_of(f, 1)),
    (Rule::Caught, "outside a handler", |f| caught(f, 2), |f| caught(f, 1)),
    (Rule::RefAddress, "across a yield point", |f| address_of_ref(f, true), |f| address_of_ref(f, false)),
    (Rule::RefAddress, "its bits in a local", |f| bits_of_ref(f, false), |f| bits_of_ref(f, true)),
    (Rule::FrameSlots, "one too few", |f| frame_of(f, 1, &[]), |f| frame_of(f, 1, &[0])),
    (Rule::FrameSlots, "a monitor of an integer", |f| frame_of(f, 1, &[0, 1]), |f| frame_of(f, 1, &[0, 2])),
    (Rule::FrameMoment, "a store in between", |f| moments(f, true, Opcode::Store), |f| moments(f, false, Opcode::Store)),
    (Rule::FrameMoment, "a load in between is none", |f| moments(f, true, Opcode::Store), |f| moments(f, true, Opcode::Load)),
    (Rule::Guard, "no assumption", |f| guard(f, &[], Some(FrameMode::Reexecute)), |f| guard(f, &[Assumption::Custom(1)], Some(FrameMode::Reexecute))),
    (Rule::Guard, "no frame", |f| guard(f, &[Assumption::Custom(1)], None), |f| guard(f, &[Assumption::Custom(1)], Some(FrameMode::After))),
    (Rule::Guard, "memory that many write", |f| guard(f, &[Assumption::NotWritten(f.element)], Some(FrameMode::After)),
        |f| guard(f, &[Assumption::NotWritten(f.counter)], Some(FrameMode::After))),
    (Rule::Assigned, "not before the first call", |f| assigned(f, false), |f| assigned(f, true)),
];
