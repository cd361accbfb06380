//! Nodes against their rows.

use super::*;
use crate::method::Dispatch;
use crate::raise::RaiseKind;

#[test]
fn nodes_and_their_rows() {
    check_cases(CASES);
}

/// Keeps a value used, whatever its type.
fn used(fixture: &mut Fixture<'_>, block: Block, value: Node) {
    let ty = fixture.method.ty(value);
    let local = fixture.local("kept", ty);
    fixture.set(block, local, value);
}

/// Uses a node of an operation on the first parameter, an i32.
fn unary(fixture: &mut Fixture<'_>, opcode: Opcode, ty: Type) {
    one_block(fixture, |f, block| {
        let a = f.param(0);
        let node = f.node(opcode, ty, &[a], Payload::None);
        used(f, block, node);
    });
}

fn constant(fixture: &mut Fixture<'_>, ty: Type, bits: u64) {
    one_block(fixture, |f, block| {
        let node = f.constant(ty, bits);
        used(f, block, node);
    });
}

fn load(fixture: &mut Fixture<'_>, ty: Type, symbol: SymbolId, scale: u8, has_index: bool) {
    one_block(fixture, |f, block| {
        let mut operands = vec![f.node(Opcode::Context, Type::Addr, &[], Payload::None)];
        if has_index {
            operands.push(f.param(1));
        }
        f.root(block, Opcode::Load, ty, &operands, Fixture::access(Place::Symbol(symbol), scale));
    });
}

fn raise(fixture: &mut Fixture<'_>, opcode: Opcode, ty: Type, kind: RaiseKind) {
    one_block(fixture, |f, block| {
        let a = f.param(0);
        f.root(block, opcode, ty, &[a], Payload::Raise(kind, 0));
    });
}

fn call(fixture: &mut Fixture<'_>, arguments: usize, ty: Type) {
    one_block(fixture, |f, block| {
        let operands = vec![f.param(0); arguments];
        f.root(block, Opcode::Call, ty, &operands, Payload::Method(f.callee));
    });
}

fn dispatch(fixture: &mut Fixture<'_>, opcode: Opcode, class: ClassId) {
    one_block(fixture, |f, block| {
        let receiver = f.param(2);
        f.root(block, opcode, Type::I32, &[receiver], Payload::Dispatch(Dispatch { class, slot: 0 }));
    });
}

fn result(fixture: &mut Fixture<'_>, ty: Type, number: u32) {
    one_block(fixture, |f, block| {
        let call = f.call(block);
        let node = f.node(Opcode::Result, ty, &[call], Payload::Index(number));
        used(f, block, node);
    });
}

fn tail_call(fixture: &mut Fixture<'_>, results: &[Type]) {
    let callee = fixture.module.declare_method("tail", &[Type::I32], results);
    let block = fixture.block(None);
    let a = fixture.param(0);
    fixture.root(block, Opcode::TailCall, Type::Void, &[a], Payload::Method(callee));
}

fn address(fixture: &mut Fixture<'_>, symbol: SymbolId) {
    one_block(fixture, |f, block| {
        let node = f.node(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(symbol));
        used(f, block, node);
    });
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    (Rule::OperandType, "i64 for i32", |f| one_block(f, |f, block| {
        let (a, b) = (f.param(0), f.param(1));
        let node = f.node(Opcode::Add, Type::I32, &[a, b], Payload::None);
        used(f, block, node);
    }), |f| one_block(f, |f, block| {
        let a = f.param(0);
        let node = f.node(Opcode::Add, Type::I32, &[a, a], Payload::None);
        used(f, block, node);
    })),
    (Rule::OperandType, "a comparison of two types", |f| one_block(f, |f, block| {
        let (a, b) = (f.param(0), f.param(1));
        let node = f.node(Opcode::Eq, Type::I32, &[a, b], Payload::None);
        used(f, block, node);
    }), |f| one_block(f, |f, block| {
        let o = f.param(2);
        let node = f.node(Opcode::Eq, Type::I32, &[o, o], Payload::None);
        used(f, block, node);
    })),
    (Rule::ResultType, "an integer for a float", |f| unary(f, Opcode::SIntToFloat, Type::I32), |f| unary(f, Opcode::SIntToFloat, Type::F32)),
    (Rule::ResultType, "not what the callee returns", |f| call(f, 1, Type::I64), |f| call(f, 1, Type::I32)),
    (Rule::Width, "no extension", |f| unary(f, Opcode::SExt, Type::I32), |f| unary(f, Opcode::SExt, Type::I64)),
    (Rule::Width, "no truncation", |f| unary(f, Opcode::Wrap, Type::I64), |f| unary(f, Opcode::Wrap, Type::I16)),
    (Rule::Width, "a wider bit cast", |f| unary(f, Opcode::Bitcast, Type::F64), |f| unary(f, Opcode::Bitcast, Type::F32)),
    (Rule::Width, "a reference from bits", |f| one_block(f, |f, block| {
        let b = f.param(1);
        let node = f.node(Opcode::Bitcast, Type::Ref, &[b], Payload::None);
        used(f, block, node);
    }), |f| one_block(f, |f, block| {
        let b = f.param(1);
        let node = f.node(Opcode::Bitcast, Type::Addr, &[b], Payload::None);
        used(f, block, node);
    })),
    (Rule::Constant, "too wide", |f| constant(f, Type::I8, 256), |f| constant(f, Type::I8, 255)),
    (Rule::Constant, "a reference", |f| constant(f, Type::Ref, 1), |f| constant(f, Type::Ref, 0)),
    (Rule::Constant, "half a vector", |f| constant(f, Type::V128, 0), |f| one_block(f, |f, block| {
        let wide = f.method.add_wide(0);
        let node = f.node(Opcode::Const, Type::V128, &[], Payload::Wide(wide));
        used(f, block, node);
    })),
    (Rule::LocalType, "set", |f| one_block(f, |f, block| { let b = f.param(1); f.set(block, Local::new(0), b); }),
        |f| one_block(f, |f, block| { let a = f.param(0); f.set(block, Local::new(0), a); })),
    (Rule::Access, "a scale of three", |f| load(f, Type::I32, f.memory, 3, true), |f| load(f, Type::I32, f.memory, 8, true)),
    (Rule::Access, "a scale without an index", |f| load(f, Type::I32, f.memory, 2, false), |f| load(f, Type::I32, f.memory, 1, false)),
    (Rule::Access, "wider than the field", |f| load(f, Type::I64, f.field, 1, false), |f| load(f, Type::I8, f.field, 1, false)),
    (Rule::Access, "bits of a reference", |f| load(f, Type::I64, f.object_static, 1, false), |f| load(f, Type::Ref, f.object_static, 1, false)),
    (Rule::Access, "the address of all elements", |f| address(f, f.element), |f| address(f, f.counter)),
    (Rule::Access, "an array of void", |f| one_block(f, |f, block| {
        let a = f.param(0);
        f.root(block, Opcode::NewArray, Type::Ref, &[a], Payload::Element(Type::Void));
    }), |f| one_block(f, |f, block| {
        let a = f.param(0);
        f.root(block, Opcode::NewArray, Type::Ref, &[a], Payload::Element(Type::F64));
    })),
    (Rule::Access, "an array of references of no class", |f| one_block(f, |f, block| {
        let a = f.param(0);
        f.root(block, Opcode::NewArray, Type::Ref, &[a], Payload::Element(Type::Ref));
    }), |f| one_block(f, |f, block| {
        let a = f.param(0);
        f.root(block, Opcode::NewArray, Type::Ref, &[a], Payload::Element(Type::V128));
    })),
    (Rule::RaiseKind, "a check that raises another kind", |f| raise(f, Opcode::DivCheck, Type::I32, RaiseKind::Null),
        |f| raise(f, Opcode::DivCheck, Type::I32, RaiseKind::Division)),
    (Rule::RaiseKind, "a guest exception without an object", |f| raise(f, Opcode::Check, Type::Void, RaiseKind::Guest),
        |f| raise(f, Opcode::Check, Type::Void, RaiseKind::Signature)),
    (Rule::ClassKind, "an object of an interface", |f| one_block(f, |f, b| { f.root(b, Opcode::New, Type::Ref, &[], Payload::Class(f.shape)); }),
        |f| one_block(f, |f, b| { f.root(b, Opcode::New, Type::Ref, &[], Payload::Class(f.point)); })),
    (Rule::ClassKind, "a class as an interface", |f| dispatch(f, Opcode::CallInterface, f.point), |f| dispatch(f, Opcode::CallInterface, f.shape)),
    (Rule::ClassKind, "an interface as a class", |f| dispatch(f, Opcode::CallVirtual, f.shape), |f| dispatch(f, Opcode::CallVirtual, f.point)),
    (Rule::CallArguments, "one too many", |f| call(f, 2, Type::I32), |f| call(f, 1, Type::I32)),
    (Rule::CallArguments, "an indirect call's own operands are none", |f| one_block(f, |f, block| {
        let context = f.node(Opcode::Context, Type::Addr, &[], Payload::None);
        let signature = f.module.methods[f.callee].signature;
        f.root(block, Opcode::CallIndirect, Type::I32, &[context, context], Payload::Signature(signature));
    }), |f| one_block(f, |f, block| {
        let context = f.node(Opcode::Context, Type::Addr, &[], Payload::None);
        let a = f.param(0);
        let signature = f.module.methods[f.callee].signature;
        f.root(block, Opcode::CallIndirect, Type::I32, &[context, context, a], Payload::Signature(signature));
    })),
    (Rule::ResultNumber, "the first result is the call", |f| result(f, Type::I32, 0), |f| result(f, Type::I64, 1)),
    (Rule::ResultNumber, "beyond the last", |f| result(f, Type::I64, 2), |f| result(f, Type::I64, 1)),
    (Rule::Return, "nothing", |f| { let b = f.block(None); f.root(b, Opcode::Return, Type::Void, &[], Payload::None); },
        |f| { let b = f.block(None); f.end(b); }),
    (Rule::TailCall, "other results", |f| tail_call(f, &[]), |f| tail_call(f, &[Type::I32])),
    (Rule::FrameOperand, "dead as a value", |f| one_block(f, |f, block| {
        let dead = f.node(Opcode::Dead, Type::Void, &[], Payload::None);
        let a = f.param(0);
        f.root(block, Opcode::Call, Type::I32, &[dead, a], Payload::Method(f.callee));
    }), |f| one_block(f, |f, block| {
        let dead = f.node(Opcode::Dead, Type::Void, &[], Payload::None);
        let a = f.param(0);
        let frame = f.frame(FrameMode::After, 1, &[dead]);
        f.root(block, Opcode::Call, Type::I32, &[a, frame], Payload::Method(f.callee));
    })),
];
