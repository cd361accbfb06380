//! Entering code, entering it again from within, and panics on their way out.

use std::arch::naked_asm;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dagwood_il::layout::context::THREAD;
use dagwood_il::{KindSet, RaiseKind};

use crate::asm::{Asm, SPOIL};
use crate::rig::Rig;

/// Gives the callee-saved registers values of its own, calls `function(argument)`, and writes down what is in them then.
///
/// # Safety
///
/// `function` takes `argument`.
#[unsafe(naked)]
unsafe extern "sysv64-unwind" fn probe(function: *const (), argument: *const (), registers: &mut [u64; 5]) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        ".cfi_offset rbx, -24",
        ".cfi_offset r12, -32",
        ".cfi_offset r13, -40",
        ".cfi_offset r14, -48",
        ".cfi_offset r15, -56",
        "mov ebx, 101",
        "mov r12d, 112",
        "mov r13d, 113",
        "mov r14d, 114",
        "mov r15d, 115",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "pop rdx",
        "mov [rdx], rbx",
        "mov [rdx + 8], r12",
        "mov [rdx + 16], r13",
        "mov [rdx + 24], r14",
        "mov [rdx + 32], r15",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// Runs `body` and asserts that callee-saved registers survive it.
pub(crate) fn keeps_registers(body: impl Fn()) {
    extern "sysv64-unwind" fn run<F: Fn()>(body: &F) {
        body();
    }
    fn address<F: Fn()>(_: &F) -> *const () {
        run::<F> as *const ()
    }
    let mut registers = [0; 5];
    // SAFETY: the probe calls `run` with the reference that it takes, and writes five words.
    unsafe { probe(address(&body), (&raw const body).cast(), &mut registers) };
    assert_eq!(registers, [101, 112, 113, 114, 115]);
}

/// `lea rax, [rsi + rdx]`
const ADD: &[u8] = &[0x48, 0x8d, 0x04, 0x16];

#[test]
fn a_call_returns_its_result() {
    let rig = Rig::new(&[Asm::new(0).bytes(ADD).ret().done()], vec![]);
    keeps_registers(|| assert_eq!(rig.call(0, 40, 2).expect("nothing raises"), 42));
    assert_eq!(rig.context.get(THREAD as usize), 0, "the thread leaves the context");
}

#[test]
fn code_may_be_entered_from_a_native_function() {
    let outer = Asm::new(32).native(0, 1, &[]).ret().done();
    let inner = Asm::new(0).bytes(ADD).ret().done();
    let rig = Rig::new(
        &[outer, inner],
        vec![Box::new(|rig, entry, slots| {
            assert!(entry.thread.is_entered());
            let sum = rig.call_in(entry, 1, slots[0].low(), slots[1].low())?;
            slots[0] = (sum * 10).into();
            Ok(())
        })],
    );
    assert_eq!(rig.call(0, 40, 2).expect("nothing raises"), 420);
    assert!(!rig.thread.is_entered());
}

#[test]
fn an_inner_raise_is_the_native_functions_to_pass_on() {
    let mut outer = Asm::new(32);
    let handler = outer.handler(KindSet::DIVISION, None);
    // The handler returns the raise code.
    let outer = outer.native(0, 1, &[handler]).ret().bind(handler).bytes(&[0x48, 0x89, 0xd0]).ret().done();
    let inner = Asm::new(0).raise(RaiseKind::Division, 5, 7, &[]).ret().done();
    let uncaught = Asm::new(32).native(0, 2, &[]).ret().done();
    let rig = Rig::new(
        &[outer, inner, uncaught],
        vec![Box::new(|rig, entry, _| {
            let raise = rig.call_in(entry, 1, 0, 0).expect_err("the method raises");
            assert_eq!((raise.kind, raise.trace.frames().len()), (RaiseKind::Division, 1));
            Err(raise)
        })],
    );
    let code = u64::from(RaiseKind::Division.code(5));
    keeps_registers(|| assert_eq!(rig.call(0, 0, 0).expect("the outer method catches"), code));
    let raise = rig.call(2, 0, 0).expect_err("nobody catches");
    let positions: Vec<u32> = raise.trace.frames().iter().map(|frame| frame.position.0).collect();
    assert_eq!(positions, [7, 2], "the trace goes on through the native function");
}

#[test]
fn a_panic_passes_through_frames_and_registers_survive() {
    let outer = Asm::new(0).bytes(SPOIL).call(1, 1, &[]).ret().done();
    let middle = Asm::new(32).bytes(SPOIL).native(0, 2, &[]).ret().done();
    let again = Asm::new(32).bytes(SPOIL).native(1, 3, &[]).ret().done();
    let rig = Rig::new(
        &[outer, middle, again],
        vec![
            Box::new(|_, _, _| std::panic::panic_any("out of the host")),
            Box::new(|rig, entry, _| rig.call_in(entry, 0, 0, 0).map(|_| ())),
        ],
    );
    for method in [0, 2] {
        keeps_registers(|| {
            let panic =
                catch_unwind(AssertUnwindSafe(|| rig.call(method, 0, 0))).expect_err("the host panics");
            assert_eq!(panic.downcast_ref(), Some(&"out of the host"));
        });
        assert!(!rig.thread.is_entered());
        assert_eq!(rig.context.get(THREAD as usize), 0);
    }
}

#[test]
fn the_shadow_stack_is_put_back_after_an_uncaught_raise() {
    // mov rax, [rdi]; add qword [rax + 16], 64
    let grow = &[0x48, 0x8b, 0x07, 0x48, 0x83, 0x40, 16, 64];
    let method = Asm::new(0).bytes(grow).raise(RaiseKind::Unreachable, 0, 1, &[]).ret().done();
    let probe = Asm::new(0).bytes(&[0x48, 0x8b, 0x07, 0x48, 0x8b, 0x40, 16]).ret().done();
    let rig = Rig::new(&[method, probe], vec![]);
    rig.call(0, 0, 0).expect_err("nobody catches");
    let top = rig.call(1, 0, 0).expect("nothing raises");
    assert_eq!(top, rig.thread.shadow_stack().start as u64);
}
