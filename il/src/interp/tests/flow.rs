//! Blocks, locals, calls, guards, fuel.

use super::*;
use crate::method::{Payload, SourcePos};
use crate::raise::RaiseKind;

/// gcd(a, b) by remainders, one iteration an extended block of two blocks.
fn gcd<'a>(arena: &'a Bump, module: &Module, id: MethodId) -> Method<'a> {
    build(arena, module, id, |b| {
        let (a, t) = (b.param(0), b.param(1));
        let head = b.block();
        b.goto(head);
        let more = b.extension(head).expect("is not deep");
        let done = b.extension(head).expect("is not deep");
        b.switch_to(head);
        let (x, y) = (b.get(a), b.get(t));
        b.branch(y, more, done);
        b.switch_to(more);
        let rest = b.op(Opcode::URem, &[x, y]);
        b.set(a, y);
        b.set(t, rest);
        b.goto(head);
        b.switch_to(done);
        b.ret(&[x]);
    })
}

#[test]
fn a_loop_carries_values_in_locals() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("gcd", &[Type::I32, Type::I32], &[Type::I32]);
    let method = gcd(&arena, &module, id);
    assert_eq!(result(&module, &[method], &[Value::i32(1071), Value::i32(462)]), Value::i32(21));
}

#[test]
fn entry_is_the_value_at_the_head_whatever_is_set_since() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[Type::I32], &[Type::I32, Type::I32]);
    let method = build(&arena, &module, id, |b| {
        let p = b.param(0);
        let nine = b.i32(9);
        b.set(p, nine);
        // Asked for only now, and yet what it was.
        let entry = b.emit(Opcode::Entry, Type::I32, &[], Payload::Local(p));
        let next = b.block();
        let sum = b.op(Opcode::Add, &[entry, nine]);
        let q = b.local("q", Type::I32);
        b.set(q, sum);
        b.goto(next);
        b.switch_to(next);
        let (p, q) = (b.get(p), b.get(q));
        b.ret(&[p, q]);
    });
    let results = run(&module, &[method], &mut Regions::new(&module), &[Value::i32(5)]);
    assert_eq!(results.expect("returns")[..], [Value::i32(9), Value::i32(14)]);
}

#[test]
fn a_chain_of_a_million_nodes_is_evaluated() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[Type::I64], &[Type::I64]);
    let method = build(&arena, &module, id, |b| {
        let p = b.param(0);
        let mut sum = b.get(p);
        let one = b.i64(1);
        for _ in 0..1_000_000 {
            sum = b.op(Opcode::Add, &[sum, one]);
        }
        b.ret(&[sum]);
    });
    assert_eq!(result(&module, &[method], &[Value::i64(-1)]), Value::i64(999_999));
}

#[test]
fn switches_go_to_the_case_of_the_value() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[Type::I8], &[Type::I32]);
    let method = build(&arena, &module, id, |b| {
        let p = b.param(0);
        let value = b.get(p);
        let blocks: Vec<_> = (0..3).map(|_| b.block()).collect();
        b.switch(value, &[(255, blocks[0]), (7, blocks[1])], blocks[2]);
        for (index, block) in blocks.into_iter().enumerate() {
            b.switch_to(block);
            let index = b.i32(index as i32);
            b.ret(&[index]);
        }
    });
    let methods = [method];
    for (value, expected) in [(-1, 0), (7, 1), (0, 2), (127, 2)] {
        assert_eq!(result(&module, &methods, &[Value::i8(value)]), Value::i32(expected));
    }
}

#[test]
fn calls_pass_the_context_on_and_may_have_several_results() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[Type::I32], &[Type::I32, Type::Addr, Type::I64]);
    let inner = module.declare_method("inner", &[Type::I32], &[Type::I32, Type::Addr, Type::I64]);
    let methods = [
        build(&arena, &module, outer, |b| {
            let p = b.param(0);
            let p = b.get(p);
            let call = b.call(inner, &[p]);
            let (context, wide) = (b.result(Type::Addr, call, 1), b.result(Type::I64, call, 2));
            b.ret(&[call, context, wide]);
        }),
        build(&arena, &module, inner, |b| {
            let p = b.param(0);
            let p = b.get(p);
            let (context, wide) = (b.context(), b.convert(Opcode::SExt, Type::I64, p));
            b.ret(&[p, context, wide]);
        }),
    ];
    let results = run(&module, &methods, &mut Regions::new(&module), &[Value::i32(-3)]).expect("returns");
    assert_eq!(results[..], [Value::i32(-3), Value::addr(CONTEXT), Value::i64(-3)]);
}

#[test]
fn indirect_calls_go_to_addresses_with_a_context_of_their_own() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[], &[Type::Addr]);
    let inner = module.declare_method("inner", &[], &[Type::Addr]);
    let signature = module.signature(&[], &[Type::Addr]);
    let call = |b: &mut Builder<'_, '_>, address| {
        let context = b.constant(Type::Addr, 77);
        let result = b.call_indirect(signature, &[address, context]);
        b.ret(&[result]);
    };
    let callee = build(&arena, &module, inner, |b| {
        let context = b.context();
        b.ret(&[context]);
    });
    let caller = build(&arena, &module, outer, |b| {
        let address = b.emit(Opcode::MethodAddress, Type::Addr, &[], Payload::Method(inner));
        call(b, address);
    });
    assert_eq!(result(&module, &[caller, callee], &[]), Value::addr(77));
    let wild = build(&arena, &module, outer, |b| {
        let address = b.constant(Type::Addr, 0x123);
        call(b, address);
    });
    let raised = raised(&module, &[wild], &mut Regions::new(&module), &[]);
    assert_eq!((raised.kind, raised.object), (RaiseKind::Fault, 0x123));
}

/// sum(n, total) = n == 0 ? total : sum(n - 1, total + n), by a call of the given kind.
fn sum<'a>(arena: &'a Bump, module: &Module, id: MethodId, opcode: Opcode) -> Method<'a> {
    build(arena, module, id, |b| {
        let (n, total) = (b.param(0), b.param(1));
        let (n, total) = (b.get(n), b.get(total));
        let entry = b.current().expect("a block is being filled");
        let (more, done) = (b.extension(entry).expect("fits"), b.extension(entry).expect("fits"));
        b.branch(n, more, done);
        b.switch_to(more);
        let one = b.i32(1);
        let (less, total_and_n) = (b.op(Opcode::Sub, &[n, one]), b.op(Opcode::Add, &[total, n]));
        let payload = Payload::Method(id);
        if opcode == Opcode::Call {
            let sum = b.emit(opcode, Type::I32, &[less, total_and_n], payload);
            b.ret(&[sum]);
        } else {
            b.emit(opcode, Type::Void, &[less, total_and_n], payload);
        }
        b.switch_to(done);
        b.ret(&[total]);
    })
}

#[test]
fn tail_calls_take_no_stack_and_calls_as_much_as_is_allowed() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("sum", &[Type::I32, Type::I32], &[Type::I32]);
    let args = |n| [Value::i32(n), Value::i32(0)];
    let limits = Limits { depth: 10, stack_bytes: 1 << 16, ..Limits::default() };
    let mut host = Regions::new(&module);

    let tail = [sum(&arena, &module, id, Opcode::TailCall)];
    let results = run_within(&module, &tail, &mut host, &args(100_000), limits).expect("returns");
    assert_eq!(results[0], Value::i32(705_082_704));

    let plain = [sum(&arena, &module, id, Opcode::Call)];
    let results = run_within(&module, &plain, &mut host, &args(9), limits).expect("ten calls fit");
    assert_eq!(results[0], Value::i32(45));
    for limits in [limits, Limits { depth: usize::MAX, stack_bytes: 4096, ..limits }] {
        match run_within(&module, &plain, &mut host, &args(1_000_000), limits) {
            Err(Stop::Raised { raised, .. }) => assert_eq!(raised.kind, RaiseKind::StackOverflow),
            other => panic!("overflows: {other:?}"),
        }
    }
    let results = run(&module, &plain, &mut host, &args(19_000)).expect("deep calls use no native stack");
    assert_eq!(results[0], Value::i32(180_509_500));
}

#[test]
fn fuel_ends_what_does_not_end_by_itself() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[], &[]);
    let method = build(&arena, &module, id, |b| {
        let head = b.block();
        b.goto(head);
        b.switch_to(head);
        b.at(SourcePos(42));
        b.goto(head);
    });
    let limits = Limits { fuel: 1000, ..Limits::default() };
    match run_within(&module, &[method], &mut Regions::new(&module), &[], limits) {
        Err(Stop::OutOfFuel { trace }) => {
            assert_eq!(trace, [TraceEntry { method: id, position: SourcePos(42) }])
        }
        other => panic!("runs out: {other:?}"),
    }
}

#[test]
fn fuel_is_one_unit_a_root() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[], &[]);
    let methods = [build(&arena, &module, id, |b| {
        b.emit(Opcode::Fence, Type::Void, &[], Payload::None);
        b.emit(Opcode::Poll, Type::Void, &[], Payload::None);
        b.ret(&[]);
    })];
    let bodies = |id| methods.iter().find(|method| method.id() == id);
    let mut interpreter = Interpreter::new(Program { module: &module, bodies: &bodies });
    for (fuel, left) in [(3, Some(0)), (10, Some(7)), (2, None)] {
        let limits = Limits { fuel, ..Limits::default() };
        let outcome = interpreter.run(&mut Regions::new(&module), id, 0, &[], limits);
        assert_eq!(outcome.is_ok().then(|| interpreter.fuel_left()), left);
    }
}
