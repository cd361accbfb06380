//! Raises: to a handler, past those that do not catch, and to the entry.

use std::time::{Duration, Instant};

use dagwood_codegen::Helper;
use dagwood_il::entity::Entity;
use dagwood_il::{ClassId, KindSet, MethodId, RaiseKind, SourcePos};
use dagwood_runtime::entry::Entry;
use dagwood_runtime::layout::Slot;
use dagwood_runtime::raise::{Raise, Trace};
use dagwood_runtime::thread::Interrupt;

use crate::asm::{Asm, SPOIL};
use crate::enter::keeps_registers;
use crate::rig::Rig;

/// `mov rax, rdx`: in a handler, returns the raise code.
const CODE: &[u8] = &[0x48, 0x89, 0xd0];
/// `mov rdi, rsi`: the first argument is what is thrown.
const THROWN: &[u8] = &[0x48, 0x89, 0xf7];

#[test]
fn a_raise_goes_through_three_frames_to_the_first_handler_that_catches() {
    let mut outer = Asm::new(48);
    let first = outer.handler(KindSet::NULL, None);
    let second = outer.handler(KindSet::BOUNDS.union(KindSet::CAST), None);
    let third = outer.handler(KindSet::ALL, None);
    // Something in the frame that the second handler finds again at the stack pointer that it expects.
    let outer = outer.bytes(&[0x48, 0x89, 0x74, 0x24, 8]).call(1, 10, &[first, second, third]).ret();
    let outer = outer.bind(first).load(1).ret().bind(third).load(3).ret();
    // mov rax, [rsp + 8]; shl rax, 32; or rax, rdx
    let caught = &[0x48, 0x8b, 0x44, 0x24, 8, 0x48, 0xc1, 0xe0, 32, 0x48, 0x09, 0xd0];
    let outer = outer.bind(second).bytes(caught).ret().done();
    let mut middle = Asm::new(16);
    let near_miss = middle.handler(KindSet::NULL, None);
    let middle = middle.bytes(SPOIL).call(2, 20, &[near_miss]).ret().bind(near_miss).load(4).ret().done();
    let inner = Asm::new(96).bytes(SPOIL).raise(RaiseKind::Bounds, 9, 30, &[]).ret().done();
    let rig = Rig::new(&[outer, middle, inner], vec![]);
    let expected = 77 << 32 | u64::from(RaiseKind::Bounds.code(9));
    keeps_registers(|| assert_eq!(rig.call(0, 77, 0).expect("the outer method catches"), expected));
}

#[test]
fn a_handler_of_the_raising_method_itself_catches() {
    let mut method = Asm::new(16);
    let handler = method.handler(KindSet::DIVISION, None);
    let method = method.raise(RaiseKind::Division, 1, 5, &[handler]).bind(handler).bytes(CODE).ret().done();
    let rig = Rig::new(&[method], vec![]);
    assert_eq!(rig.call(0, 0, 0).expect("it catches"), u64::from(RaiseKind::Division.code(1)));
}

#[test]
fn an_uncaught_raise_says_where_it_came_from() {
    let outer = Asm::new(0).call(1, 10, &[]).ret().done();
    let middle = Asm::new(16).bytes(SPOIL).call(2, 20, &[]).ret().done();
    // The call is the last instruction: its return address lies behind the code.
    let inner = Asm::new(0).raise(RaiseKind::Unreachable, 3, 30, &[]).done();
    let inner_len = inner.code.len() as u32;
    let rig = Rig::new(&[outer, middle, inner], vec![]);
    keeps_registers(|| {
        let raise = rig.call(0, 0, 0).expect_err("nobody catches");
        assert_eq!((raise.kind, raise.reason), (RaiseKind::Unreachable, 3));
        let frames: Vec<_> =
            raise.trace.frames().iter().map(|frame| (frame.method, frame.position)).collect();
        let at = |method, position| (MethodId::new(method), SourcePos(position));
        assert_eq!(frames, [at(2, 30), at(1, 20), at(0, 10)], "the shim is not named");
        assert_eq!((raise.trace.frames()[0].offset, raise.trace.omitted()), (inner_len, 0));
    });
}

#[test]
fn thrown_objects_go_to_handlers_of_their_class() {
    let mut outer = Asm::new(0);
    // Of multiples of three, of two, of none in particular.
    let threes = outer.handler(KindSet::GUEST, Some(ClassId::new(1)));
    let twos = outer.handler(KindSet::GUEST, Some(ClassId::new(0)));
    let outer = outer.call(1, 10, &[threes, twos]).ret();
    // shl rax, 4; or rax, 3 / 2
    let outer = outer.bind(threes).bytes(&[0x48, 0xc1, 0xe0, 4, 0x48, 0x83, 0xc8, 3]).ret();
    let outer = outer.bind(twos).bytes(&[0x48, 0xc1, 0xe0, 4, 0x48, 0x83, 0xc8, 2]).ret().done();
    let inner = Asm::new(0).bytes(THROWN).helper(Helper::Throw, 20, &[]).ret().done();
    let rig = Rig::new(&[outer, inner], vec![]);
    assert_eq!(rig.call(0, 6, 0).expect("caught"), 0x63, "the first in the list");
    assert_eq!(rig.call(0, 9, 0).expect("caught"), 0x93);
    assert_eq!(rig.call(0, 8, 0).expect("caught"), 0x82);
    let raise = rig.call(0, 7, 0).expect_err("nobody catches");
    assert_eq!((raise.kind, raise.object, raise.trace.frames().len()), (RaiseKind::Guest, 7, 2));
}

#[test]
fn no_handler_catches_a_fault_of_the_host() {
    let mut method = Asm::new(32);
    let all = method.handler(KindSet::ALL, None);
    let method = method.native(0, 1, &[all]).ret().bind(all).load(1).ret().done();
    let rig = Rig::new(&[method], vec![Box::new(|_, _, _| Err(Raise::fault("the host is out of ideas")))]);
    let raise = rig.call(0, 0, 0).expect_err("a fault is uncatchable");
    assert_eq!(raise.to_string(), "fault: the host is out of ideas");
}

#[test]
fn values_in_callee_saved_registers_reach_the_handler_of_a_native_call() {
    let mut method = Asm::new(32);
    let handler = method.handler(KindSet::OVERFLOW, None);
    let method = method.bytes(SPOIL).native(0, 1, &[handler]).ret();
    // lea rax, [rbx + r12]; add rax, r13; add rax, r14; add rax, r15
    let sum = &[0x4a, 0x8d, 0x04, 0x23, 0x4c, 0x01, 0xe8, 0x4c, 0x01, 0xf0, 0x4c, 0x01, 0xf8];
    let method = method.bind(handler).bytes(sum).ret().done();
    let native = |_: &Rig<'_>, _: &Entry<'_>, _: &mut [Slot]| {
        let text: Vec<String> = (0..20).map(|number| format!("{number:x}")).collect();
        Err(Raise::new(RaiseKind::Overflow, text.concat().len() as u16))
    };
    let rig = Rig::new(&[method], vec![Box::new(native)]);
    assert_eq!(rig.call(0, 0, 0).expect("the method catches"), 5 * 0xbeef);
}

#[test]
fn a_raise_without_a_site_is_a_fault() {
    let rig = Rig::new(&[Asm::new(0).helper(Helper::RaiseSite, 1, &[]).ret().done()], vec![]);
    let raise = rig.call(0, 0, 0).expect_err("nobody can catch");
    assert_eq!(raise.to_string(), "fault: compiled code raised from a place that has no site");
}

#[test]
fn polls_raise_once_the_thread_is_asked_to_stop() {
    // again: mov rax, [rdi]; mov eax, [rax + 8]; test eax, eax; jz again
    let spin = &[0x48, 0x8b, 0x07, 0x8b, 0x40, 8, 0x85, 0xc0, 0x74, 0xf6];
    let spins = Asm::new(0).bytes(spin).helper(Helper::Poll, 4, &[]).load(1).ret().done();
    let polls = Asm::new(0).helper(Helper::Poll, 5, &[]).load(2).ret().done();
    let rig = Rig::new(&[spins, polls], vec![]);
    let interrupter = rig.thread.interrupter();
    let raise = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            interrupter.interrupt(Interrupt::Timeout);
        });
        rig.call(0, 0, 0).expect_err("the poll raises")
    });
    assert_eq!(
        (raise.kind, Interrupt::from_reason(raise.reason)),
        (RaiseKind::Interrupt, Some(Interrupt::Timeout))
    );
    assert_eq!(raise.trace.frames()[0].position, SourcePos(4));
    rig.call(1, 0, 0).expect_err("until the request is cleared");
    rig.thread.clear_interrupt();
    rig.thread.set_fuel(Some(1));
    assert_eq!(rig.call(1, 0, 0).expect("there is fuel"), 2);
    let raise = rig.call(1, 0, 0).expect_err("there is none left");
    assert_eq!(Interrupt::from_reason(raise.reason), Some(Interrupt::Fuel));
}

#[test]
fn deep_frames_are_counted() {
    // Recurses rsi times, then raises: test rsi, rsi; jz over; dec rsi; call; over: raise
    let method = Asm::new(0).bytes(&[0x48, 0x85, 0xf6, 0x74, 8, 0x48, 0xff, 0xce]).call(0, 1, &[]);
    let rig = Rig::new(&[method.raise(RaiseKind::Cast, 0, 2, &[]).done()], vec![]);
    let raise = rig.call(0, 99, 0).expect_err("nobody catches");
    assert_eq!(
        (raise.trace.frames().len(), raise.trace.omitted()),
        (Trace::LIMIT, 100 - Trace::LIMIT as u64)
    );
}

#[test]
fn a_raise_is_fast_among_ten_thousand_methods() {
    let mut outer = Asm::new(0);
    let handler = outer.handler(KindSet::ALL, None);
    let outer = outer.call(1, 1, &[handler]).ret().bind(handler).bytes(CODE).ret().done();
    let inner = Asm::new(0).raise(RaiseKind::Store, 0, 2, &[]).done();
    let mut methods = vec![outer, inner];
    methods.resize_with(10_000, || Asm::new(0).ret().done());
    let rig = Rig::new(&methods, vec![]);
    let time = |method| {
        let start = Instant::now();
        for _ in 0..1000 {
            rig.call(method, 0, 0).expect("the raise is caught");
        }
        start.elapsed() / 1000
    };
    let best = |method| (0..20).map(|_| time(method)).min().expect("there are rounds");
    let (plain, raising) = (best(2), best(0));
    println!("an entry takes {plain:?}, with a raise through one frame {raising:?}");
    assert!(raising - plain < Duration::from_micros(20), "far above what even unoptimised code takes");
}
