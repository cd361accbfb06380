//! Several threads: some run, some evict, some compile, one is interrupted by a profiler.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dagwood_codespace::Options as Space;
use dagwood_runtime::code::CodeTable;
use dagwood_runtime::thread::Interrupt;
use dagwood_runtime::{CallError, Thread, ThreadOptions};

use crate::rig::{Rig, SOURCE, evicted, in_each_space, nobody, with_leaf};

/// Far more turns than a thread takes to come to a poll: each of them gives it the processor.
const TURNS: usize = 1_000_000;

/// Sets a flag when it is dropped, so that threads that wait for it end also if the test fails.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_thread_that_loops_with_polls_lets_go_of_what_it_does_not_return_to() {
    let (started, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let rig = Rig::new(Box::new(|_, x| {
        started.store(true, Ordering::Release);
        Ok(x)
    }));
    let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
    let interrupter = thread.interrupter();
    std::thread::scope(|scope| {
        let stopping = Sets(&stop);
        let rig = &rig;
        let runner = scope.spawn(move || rig.call_on(&thread, "asks_then_loops", 0));
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            interrupter.interrupt(Interrupt::User);
        });
        while !started.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        // The loop calls `leaf` all the time, and is itself never left.
        for by in [1, 1, 1] {
            rig.compile(&with_leaf(by), &[rig.method("leaf")]).expect("it compiles");
        }
        rig.evict(&["caller", "asks_then_loops"]).expect("nothing pins them");
        let (mut freed, mut turns) = (0, 0);
        while freed < 4 {
            let reclaimed = rig.code().reclaim().expect("the system has a barrier");
            freed += reclaimed.freed;
            turns += 1;
            assert_eq!(freed + reclaimed.waiting, 5, "{reclaimed:?}");
            assert!(turns < TURNS, "{freed} freed, {reclaimed:?}, {:?}", rig.code().stats());
            std::thread::yield_now();
        }
        assert_eq!(freed, 4, "three times `leaf`, and `caller`; the loop itself runs on");
        drop(stopping);
        let ended = runner.join().expect("it does not panic");
        let CallError::Raised(raise) = ended.expect_err("it was interrupted") else {
            panic!("it was called")
        };
        assert_eq!(Interrupt::from_reason(raise.reason), Some(Interrupt::User));
        assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 1);
    });
}

/// Runs `caller` and asserts that it returns what some version of `leaf` makes it return, or ran into an eviction.
fn run_caller(rig: &Rig<'_>, thread: &Thread) -> bool {
    match rig.call_on(thread, "caller", 0) {
        // The two calls may meet different versions, which add 1 to 9.
        Ok(result) => {
            assert!(result % 10 == 0 && (20..=180).contains(&result), "{result}");
            true
        }
        Err(CallError::NotCompiled { .. }) => false,
        Err(error) => {
            assert_eq!(evicted(error), Some(rig.method("leaf")));
            false
        }
    }
}

#[test]
fn racing_compilations_and_evictions_leave_callers_with_whole_code() {
    in_each_space(race);
}

/// Two threads run `caller`, while two compile and evict what it calls.
fn race(space: Space) {
    let rig = Rig::within(space, nobody());
    let (leaf, caller) = (rig.method("leaf"), rig.method("caller"));
    let (done, ran) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let ending = Sets(&done);
        for _ in 0..2 {
            scope.spawn(|| {
                let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
                while !done.load(Ordering::Acquire) || ran.load(Ordering::Relaxed) == 0 {
                    ran.fetch_add(usize::from(run_caller(&rig, &thread)), Ordering::Relaxed);
                }
            });
        }
        let compilers: Vec<_> = (0..2)
            .map(|compiler| {
                let rig = &rig;
                scope.spawn(move || {
                    for round in 0..60_u32 {
                        let source = with_leaf(1 + (round + compiler) % 9);
                        let batch = if round % 3 == 0 { vec![leaf, caller] } else { vec![leaf] };
                        rig.compile(&source, &batch).expect("it compiles");
                        if round % 4 == 3 {
                            // The other one may have evicted it already.
                            let _ = rig.evict(&["leaf"]);
                        }
                        rig.code().reclaim().expect("the system has a barrier");
                    }
                })
            })
            .collect();
        for compiler in compilers {
            compiler.join().expect("it does not panic");
        }
        rig.compile(SOURCE, &[leaf, caller]).expect("it compiles");
        drop(ending);
    });
    assert_eq!(rig.call("caller", 0).expect("both have code"), 20);
    rig.code().reclaim().expect("the system has a barrier");
    assert_eq!(rig.code().stats().live, rig.methods().len() + 1, "one code for each method, and the shim");
}

/// What the handler of the profiler's signal looks code up in.
static PROFILED: std::sync::OnceLock<std::sync::Arc<CodeTable>> = std::sync::OnceLock::new();
static SAMPLES: AtomicUsize = AtomicUsize::new(0);
static FOUND: AtomicUsize = AtomicUsize::new(0);

extern "C" fn profile(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes what it saved.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let pc = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    let Some(code) = PROFILED.get() else { return };
    SAMPLES.fetch_add(1, Ordering::Relaxed);
    if let Some(range) = code.extent(pc) {
        assert!(range.contains(&pc) && code.contains(pc));
        FOUND.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_profilers_signal_looks_code_up_while_others_compile() {
    use dagwood_runtime::{Jit, Options};

    let code = CodeTable::new(&Space::default()).expect("there is memory");
    let arena = dagwood_il::Bump::new();
    let module = dagwood_il::text::parse(SOURCE, &arena).expect("the source is well-formed").module;
    let code = std::sync::Arc::new(code);
    let jit = Jit::sharing(code, module, Options::default()).expect("this machine is supported");
    let rig = Rig::with(jit, nobody());
    rig.compile(SOURCE, &rig.methods()).expect("the program compiles");
    let leaf = rig.method("leaf");
    assert!(PROFILED.set(std::sync::Arc::clone(rig.jit.code())).is_ok(), "one test profiles");
    // SAFETY: zero is a valid action; the handler has the signature that the flags promise and only loads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = profile as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut()), 0);
    }
    let (done, target) = (AtomicBool::new(false), std::sync::OnceLock::new());
    std::thread::scope(|scope| {
        let ending = Sets(&done);
        scope.spawn(|| {
            let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
            // SAFETY: asks for the number of this thread.
            target.set(unsafe { libc::pthread_self() }).expect("one thread runs");
            while !done.load(Ordering::Acquire) {
                match rig.call_on(&thread, "loops", 50_000) {
                    Ok(result) => assert_eq!(result, 50_000),
                    Err(error) => assert_eq!(evicted(error), Some(leaf)),
                }
            }
        });
        let target = *target.wait();
        let mut round = 0_u32;
        while round < 100 || FOUND.load(Ordering::Relaxed) < 10 {
            rig.compile(SOURCE, &[leaf, rig.method("caller")]).expect("it compiles");
            if round % 5 == 4 {
                rig.evict(&["leaf"]).expect("nothing pins it");
                rig.compile(SOURCE, &[leaf]).expect("it compiles");
            }
            rig.code().reclaim().expect("the system has a barrier");
            // SAFETY: the thread runs until `done` is set.
            assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGPROF) }, 0);
            round += 1;
        }
        drop(ending);
    });
    assert!(SAMPLES.load(Ordering::Relaxed) > 0);
}
