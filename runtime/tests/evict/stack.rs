//! Code that is evicted while it stands on a stack is there when control comes back to it, and gone afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use dagwood_runtime::fault::{MachineFault, install_fault_handler};
use dagwood_runtime::jit::CallError;
use dagwood_runtime::{Raise, Thread, ThreadOptions};

use crate::rig::{Native, Rig, Running, evicted};

/// Evicts what runs, reclaims as often as one may, and asserts that it is still there.
fn evict_running(running: &Running<'_>) {
    let code = running.rig.code();
    running.rig.evict(&["asks", "outer"]).expect("nothing pins them");
    for _ in 0..4 {
        let reclaimed = code.reclaim().expect("the system has a barrier");
        assert_eq!((reclaimed.freed, reclaimed.waiting), (0, 2), "both are on the stack");
    }
}

#[test]
fn what_stands_on_its_own_stack_waits_and_goes_on() {
    let rig = Rig::new(Box::new(|running, x| {
        evict_running(running);
        Ok(x * 2)
    }));
    assert_eq!(rig.call("outer", 4).expect("the code is still there"), 1108);
    let reclaimed = rig.code().reclaim().expect("the system has a barrier");
    assert_eq!((reclaimed.freed, reclaimed.waiting), (2, 0), "nobody is in there");
}

#[test]
fn what_is_evicted_below_a_nested_entry_waits_while_the_rest_is_freed() {
    let rig = Rig::new(Box::new(|running, x| {
        if x > 0 {
            // An entry inside, which evicts what runs outside of it.
            return Ok(running.call("asks_then_calls", x - 1).expect("nothing raises") + 7);
        }
        evict_running(running);
        running.rig.evict(&["caller"]).expect("nothing pins it");
        let reclaimed = running.rig.code().reclaim().expect("the system has a barrier");
        assert_eq!((reclaimed.freed, reclaimed.waiting), (1, 2), "the one that nobody runs");
        assert!(!running.rig.jit.is_compiled(running.rig.method("outer")));
        Ok(5)
    }));
    assert_eq!(rig.call("outer", 1).expect("the code is still there"), 1113);
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 2);
}

#[test]
fn a_raise_passes_frames_of_evicted_code_and_names_them() {
    let rig = Rig::new(Box::new(|running, _| {
        evict_running(running);
        Err(Raise::fault("on the way out"))
    }));
    let CallError::Raised(raise) = rig.call("outer", 0).expect_err("the host raises") else { panic!() };
    let methods: Vec<_> = raise.trace.frames().iter().map(|frame| frame.method).collect();
    assert_eq!(methods, [rig.method("asks"), rig.method("outer")]);
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 2);
}

#[test]
fn a_panic_passes_frames_of_evicted_code() {
    let rig = Rig::new(Box::new(|running, _| {
        evict_running(running);
        std::panic::panic_any("out of the host")
    }));
    let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
    let panic = catch_unwind(AssertUnwindSafe(|| rig.call_on(&thread, "outer", 0)));
    let panic = panic.expect_err("the host panics");
    assert_eq!(panic.downcast_ref(), Some(&"out of the host"));
    assert!(!thread.is_entered());
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 2);
}

#[test]
fn a_machine_fault_ends_what_holds_evicted_code() {
    install_fault_handler().expect("handlers can be installed");
    let source = crate::rig::SOURCE.replacen(
        "%hundred = const.i64 100\n",
        "%hundred = const.i64 100\n  %bad = const.addr 8\n  store @anywhere [%bad], %hundred\n",
        1,
    );
    let rig = Rig::new(Box::new(|running, x| {
        evict_running(running);
        Ok(x)
    }));
    rig.compile(&source, &[rig.method("asks")]).expect("it compiles again");
    rig.code().reclaim().expect("the system has a barrier");
    let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
    let CallError::Raised(raise) = rig.call_on(&thread, "outer", 0).expect_err("it faults") else { panic!() };
    let cause = raise.cause.as_ref().and_then(|cause| cause.downcast_ref::<MachineFault>());
    assert_eq!(cause.expect("it is the machine's").method, Some(rig.method("asks")), "named, though evicted");
    assert!(!thread.is_entered());
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 2, "the thread has left");
}

#[test]
fn a_parked_thread_holds_what_it_returns_to_and_nothing_else() {
    let rig = Rig::new(Box::new(|running, x| {
        running.entry.thread.park(|| {
            running.rig.evict(&["outer", "caller"]).expect("nothing pins them");
            let other = || running.rig.code().reclaim().expect("the system has a barrier");
            // Another thread reclaims, so that none of it is this thread's own doing.
            let reclaimed = std::thread::scope(|scope| scope.spawn(other).join().expect("it does not panic"));
            assert_eq!((reclaimed.freed, reclaimed.waiting), (1, 1));
            // Code may be entered from there.
            assert_eq!(running.call("leaf", 1).expect("it is there"), 2);
            let reclaimed = std::thread::scope(|scope| scope.spawn(other).join().expect("it does not panic"));
            assert_eq!((reclaimed.freed, reclaimed.waiting), (0, 1));
        });
        Ok(x)
    }));
    assert_eq!(rig.call("outer", 1).expect("the code is still there"), 1101);
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 1);
}

#[test]
fn a_thread_that_neither_polls_nor_parks_holds_everything() {
    let held = Mutex::new(Vec::new());
    let native: Native<'_> = Box::new(|running, x| {
        running.rig.evict(&["caller"]).expect("nothing pins it");
        let reclaim = || running.rig.code().reclaim().expect("the system has a barrier");
        let other = std::thread::scope(|scope| scope.spawn(reclaim).join().expect("it does not panic"));
        held.lock().expect("nobody panics").push(other.waiting);
        Ok(x)
    });
    let rig = Rig::new(native);
    assert_eq!(rig.call("asks_then_calls", 1).expect("nothing raises"), 2);
    assert_eq!(*held.lock().expect("nobody panics"), [1], "the near miss of parking");
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 1);
    assert_eq!(evicted(rig.call("catches", 0).expect_err("gone")), Some(rig.method("caller")));
}

#[test]
fn what_ends_in_a_call_is_held_by_its_return_address_while_the_host_looks_for_a_handler() {
    let mut rig = Rig::new(crate::rig::nobody());
    rig.on_class = Box::new(|rig| {
        rig.evict(&["throws", "catches_class", "caller"]).expect("nothing pins them");
        for freed in [1, 0] {
            let reclaimed = rig.code().reclaim().expect("the system has a barrier");
            assert_eq!((reclaimed.freed, reclaimed.waiting), (freed, 2), "those on the stack stay");
        }
    });
    assert_eq!(rig.call("catches_class", 16).expect("it is caught"), 5);
    assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 2);
}
