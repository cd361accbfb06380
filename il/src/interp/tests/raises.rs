//! What is raised, by whom, and who catches it.

use super::*;
use crate::method::{Block, Handler, Payload, SourcePos};
use crate::raise::{KindSet, RaiseKind};

fn handler(kinds: KindSet, block: Block) -> Handler {
    Handler { kinds, class: None, block }
}

/// A method that runs `body` with a handler for `kinds` that returns the raise code plus the local `x`.
fn catching<'a>(
    arena: &'a Bump,
    module: &Module,
    id: MethodId,
    kinds: KindSet,
    body: impl FnOnce(&mut Builder<'a, '_>, crate::method::Local),
) -> Method<'a> {
    build(arena, module, id, |b| {
        let x = b.local("x", Type::I32);
        let (start, catch) = (b.block(), b.block());
        let list = b.handlers(&[handler(kinds, catch)]);
        b.set_handlers(start, Some(list));
        let zero = b.i32(0);
        b.set(x, zero);
        b.goto(start);
        b.switch_to(start);
        body(b, x);
        b.switch_to(catch);
        let code = b.emit(Opcode::CaughtKind, Type::I32, &[], Payload::None);
        let x = b.get(x);
        let sum = b.op(Opcode::Add, &[code, x]);
        b.ret(&[sum]);
    })
}

#[test]
fn a_handler_sees_locals_as_of_the_root_that_raised() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[Type::I32, Type::I32], &[Type::I32]);
    let methods = [catching(&arena, &module, id, KindSet::BOUNDS, |b, x| {
        let (first, second) = (b.param(0), b.param(1));
        let (first, second) = (b.get(first), b.get(second));
        let thousands = [1 << 20, 2 << 20].map(|value| b.i32(value));
        b.set(x, thousands[0]);
        b.check(first, RaiseKind::Bounds, 9);
        b.set(x, thousands[1]);
        b.check(second, RaiseKind::Bounds, 10);
        b.ret(&[first]);
    })];
    let code = |reason, x: i32| Value::i32(RaiseKind::Bounds.code(reason) as i32 + (x << 20));
    for (args, expected) in [([0, 0], code(9, 1)), ([5, 0], code(10, 2)), ([5, 1], Value::i32(5))] {
        assert_eq!(result(&module, &methods, &args.map(Value::i32)), expected);
    }
}

#[test]
fn the_first_handler_that_catches_wins_in_callers_too() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[Type::I32], &[Type::I32]);
    let inner = module.declare_method("inner", &[Type::I32], &[Type::I32]);
    let methods = [
        catching(&arena, &module, outer, KindSet::CATCHABLE, |b, x| {
            let million = b.i32(1 << 20);
            b.set(x, million);
            let p = b.param(0);
            let p = b.get(p);
            let call = b.call(inner, &[p]);
            b.ret(&[call]);
        }),
        catching(&arena, &module, inner, KindSet::NULL, |b, _| {
            let p = b.param(0);
            let p = b.get(p);
            let (null, overflow) = (b.block(), b.block());
            b.branch(p, null, overflow);
            for (block, kind) in [(null, RaiseKind::Null), (overflow, RaiseKind::Overflow)] {
                b.switch_to(block);
                let list = b.handlers(&[]);
                b.set_handlers(block, Some(list));
                b.raise(kind, 1);
            }
        }),
    ];
    // Neither block of the callee has a handler, so both come to the caller.
    let code = |kind: RaiseKind| Value::i32(kind.code(1) as i32 + (1 << 20));
    assert_eq!(result(&module, &methods, &[Value::i32(1)]), code(RaiseKind::Null));
    assert_eq!(result(&module, &methods, &[Value::i32(0)]), code(RaiseKind::Overflow));
}

#[test]
fn handlers_are_tried_in_order() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[], &[Type::I32]);
    let method = build(&arena, &module, id, |b| {
        let start = b.block();
        let blocks: Vec<Block> = (0..3).map(|_| b.block()).collect();
        let kinds = [KindSet::NULL, KindSet::NULL.union(KindSet::CAST), KindSet::CATCHABLE];
        let handlers: Vec<Handler> =
            kinds.into_iter().zip(&blocks).map(|(kinds, block)| handler(kinds, *block)).collect();
        let list = b.handlers(&handlers);
        b.set_handlers(start, Some(list));
        b.goto(start);
        b.switch_to(start);
        b.raise(RaiseKind::Cast, 0);
        for (index, block) in blocks.into_iter().enumerate() {
            b.switch_to(block);
            let index = b.i32(index as i32);
            b.ret(&[index]);
        }
    });
    assert_eq!(result(&module, &[method], &[]), Value::i32(1));
}

#[test]
fn what_nobody_catches_ends_with_a_trace() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[], &[]);
    let inner = module.declare_method("inner", &[], &[]);
    let methods = [
        build(&arena, &module, outer, |b| {
            b.at(SourcePos(1));
            b.call(inner, &[]);
            b.at(SourcePos(2));
            b.ret(&[]);
        }),
        build(&arena, &module, inner, |b| {
            let object = b.constant(Type::Addr, 0x1234);
            b.at(SourcePos(3));
            b.throw(object);
        }),
    ];
    let entry = |method, position| TraceEntry { method, position: SourcePos(position) };
    let expected =
        Stop::Raised { raised: Raised::guest(0x1234), trace: vec![entry(inner, 3), entry(outer, 1)] };
    assert_eq!(run(&module, &methods, &mut Regions::new(&module), &[]), Err(expected));
}

#[test]
fn guest_exceptions_are_delivered_with_their_object() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[Type::Addr], &[Type::Addr, Type::I32]);
    let method = build(&arena, &module, id, |b| {
        let (start, catch) = (b.block(), b.block());
        let list = b.handlers(&[handler(KindSet::GUEST, catch)]);
        b.set_handlers(start, Some(list));
        b.goto(start);
        b.switch_to(start);
        let p = b.param(0);
        let p = b.get(p);
        b.throw(p);
        b.switch_to(catch);
        let object = b.emit(Opcode::Caught, Type::Addr, &[], Payload::None);
        let code = b.emit(Opcode::CaughtKind, Type::I32, &[], Payload::None);
        b.ret(&[object, code]);
    });
    let results = run(&module, &[method], &mut Regions::new(&module), &[Value::addr(99)]).expect("is caught");
    assert_eq!(results[..], [Value::addr(99), Value::i32(RaiseKind::Guest.code(0) as i32)]);
}

#[test]
fn a_tail_call_leaves_the_handlers_of_its_method() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[], &[Type::I32]);
    let inner = module.declare_method("inner", &[], &[Type::I32]);
    let methods = [
        catching(&arena, &module, outer, KindSet::CATCHABLE, |b, _| {
            b.emit(Opcode::TailCall, Type::Void, &[], Payload::Method(inner));
        }),
        build(&arena, &module, inner, |b| b.raise(RaiseKind::Cast, 4)),
    ];
    let raised = raised(&module, &methods, &mut Regions::new(&module), &[]);
    assert_eq!(raised, Raised::new(RaiseKind::Cast, 4));
}

#[test]
fn stack_overflow_can_be_caught() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[], &[Type::I32]);
    let inner = module.declare_method("inner", &[], &[Type::I32]);
    let methods = [
        catching(&arena, &module, outer, KindSet::STACK_OVERFLOW, |b, _| {
            let call = b.call(inner, &[]);
            b.ret(&[call]);
        }),
        build(&arena, &module, inner, |b| {
            let call = b.call(inner, &[]);
            b.ret(&[call]);
        }),
    ];
    assert_eq!(result(&module, &methods, &[]), Value::i32(RaiseKind::StackOverflow.code(0) as i32));
}

#[test]
fn faults_are_never_caught() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[], &[Type::I32]);
    let native = module.declare_native("f", &[], &[]);
    let methods = [catching(&arena, &module, id, KindSet::ALL, |b, x| {
        b.call_native(native, &[]);
        let x = b.get(x);
        b.ret(&[x]);
    })];
    let mut host = Regions::new(&module);
    host.native(native, |host, _, _| Err(host.load(0x10, 4).expect_err("is not there").into()));
    assert_eq!(raised(&module, &methods, &mut host, &[]), Fault { address: 0x10 }.into());
    // Anything else that a native raises is.
    host.native(native, |_, _, _| Err(Raised::new(RaiseKind::Interrupt, 2)));
    let results = run(&module, &methods, &mut host, &[]).expect("is caught");
    assert_eq!(results[0], Value::i32(RaiseKind::Interrupt.code(2) as i32));
}

#[test]
fn checks_raise_their_kind_with_their_reason() {
    use Opcode::*;
    let int = Type::I32;
    let min = i32::MIN;
    let cases: [(Opcode, [i32; 2], Option<RaiseKind>); 14] = [
        (BoundsCheck, [-1, 3], Some(RaiseKind::Bounds)),
        (BoundsCheck, [2, 3], None),
        (SAddChecked, [i32::MAX, 1], Some(RaiseKind::Overflow)),
        (SSubChecked, [min, 1], Some(RaiseKind::Overflow)),
        (SMulChecked, [min, -1], Some(RaiseKind::Overflow)),
        (UAddChecked, [-1, 1], Some(RaiseKind::Overflow)),
        (USubChecked, [0, 1], Some(RaiseKind::Overflow)),
        (UMulChecked, [1 << 16, 1 << 16], Some(RaiseKind::Overflow)),
        (UMulChecked, [1 << 15, 1 << 16], None),
        (SDivChecked, [1, 0], Some(RaiseKind::Division)),
        (SDivChecked, [min, -1], Some(RaiseKind::Overflow)),
        (SDiv, [1, 0], Some(RaiseKind::Division)),
        (SRem, [min, -1], None),
        (UDiv, [7, 2], None),
    ];
    for (opcode, args, kind) in cases {
        let (arena, mut module) = (Bump::new(), Module::new());
        let id = module.declare_method("m", &[int, int], &[int]);
        let has_reason = opcode.row().payload != crate::opcode::PayloadKind::None;
        let methods = [build(&arena, &module, id, |b| {
            let params = [0, 1].map(|index| b.param(index));
            let operands = params.map(|param| b.get(param));
            let value = match has_reason {
                true => b.checked(opcode, int, &operands, 6),
                false => b.op(opcode, &operands),
            };
            b.ret(&[value]);
        })];
        let outcome = run(&module, &methods, &mut Regions::new(&module), &args.map(Value::i32));
        let raised = match outcome {
            Err(Stop::Raised { raised, .. }) => Some(raised),
            _ => None,
        };
        let reason = if has_reason { 6 } else { 0 };
        assert_eq!(raised, kind.map(|kind| Raised::new(kind, reason)), "{opcode} {args:?}");
    }
}
