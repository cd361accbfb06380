//! The end of the stack is an error, wherever it is met.

use dagwood_il::RaiseKind;
use dagwood_runtime::entry::Entry;
use dagwood_runtime::layout::Slot;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::stack::HOST_RESERVE;
use dagwood_runtime::thread::{Options, Thread};

use crate::asm::Asm;
use crate::rig::Rig;

#[test]
fn endless_recursion_raises() {
    let method = Asm::new(16).check_stack(1).call(0, 2, &[]).ret().done();
    let rig = Rig::new(&[method], vec![]);
    for _ in 0..2 {
        let raise = rig.call(0, 0, 0).expect_err("the stack ends");
        assert_eq!(raise.kind, RaiseKind::StackOverflow);
        let frames = raise.trace.frames().len() as u64 + raise.trace.omitted();
        assert!(
            (frames * 32).abs_diff(1 << 20) < 4096,
            "{frames} frames of 32 bytes fill the allowed mebibyte"
        );
    }
}

#[test]
fn recursion_through_the_host_raises() {
    let method = Asm::new(32).check_stack(1).native(0, 2, &[]).ret().done();
    let recurse = |rig: &Rig<'_>, entry: &Entry<'_>, _: &mut [Slot]| rig.call_in(entry, 0, 0, 0).map(|_| ());
    let rig = Rig::new(&[method], vec![Box::new(recurse)]);
    let raise = rig.call(0, 0, 0).expect_err("the stack ends");
    assert_eq!(raise.kind, RaiseKind::StackOverflow);
    assert!(raise.trace.omitted() > 100);
}

#[test]
fn a_host_that_uses_its_reserve_cannot_enter_again() {
    let outer = Asm::new(32).native(0, 1, &[]).ret().done();
    let inner = Asm::new(0).load(1).ret().done();
    let enter = |rig: &Rig<'_>, entry: &Entry<'_>, _: &mut [Slot]| {
        let used = [1u8; 96 << 10];
        std::hint::black_box(&used);
        rig.call_in(entry, 1, 0, 0).map(|_| std::hint::black_box(&used)).map(|_| ())
    };
    let mut rig = Rig::new(&[outer, inner], vec![Box::new(enter)]);
    rig.thread =
        Thread::new(&Options { max_stack: 64 << 10, ..Options::default() }).expect("there is memory");
    let raise = rig.call(0, 0, 0).expect_err("the outer limit holds for the inner entry");
    assert_eq!(raise.kind, RaiseKind::StackOverflow);
}

#[test]
fn threads_with_small_stacks_stop_at_the_reserve() {
    let run = |size: usize| {
        let run = || -> Result<(), Raise> {
            let method = Asm::new(16).check_stack(1).call(0, 2, &[]).ret().done();
            Rig::new(&[method], vec![]).call(0, 0, 0).map(|_| ())
        };
        let thread = std::thread::Builder::new().stack_size(size).spawn(run).expect("there is memory");
        thread.join().expect("the thread does not panic").expect_err("the stack ends")
    };
    for size in [HOST_RESERVE / 2, HOST_RESERVE + (64 << 10), 1 << 20] {
        let raise = run(size);
        assert_eq!(raise.kind, RaiseKind::StackOverflow);
        let frames = raise.trace.frames().len() as u64 + raise.trace.omitted();
        // A thread may get the larger stack of one that ended, but no smaller one.
        assert!(frames > 0 || size < HOST_RESERVE, "code runs where the reserve leaves room");
    }
}
