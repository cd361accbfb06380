//! Machine faults in compiled code are errors; all others are what they were.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use dagwood_codegen::Helper;
use dagwood_il::entity::Entity;
use dagwood_il::{KindSet, MethodId, RaiseKind};
use dagwood_runtime::entry::Entry;
use dagwood_runtime::fault::{MachineFault, install_fault_handler};
use dagwood_runtime::layout::Slot;
use dagwood_runtime::raise::Raise;

use crate::asm::{Asm, SPOIL};
use crate::enter::keeps_registers;
use crate::rig::Rig;

fn cause(raise: &Raise) -> MachineFault {
    let cause = raise.cause.as_ref().expect("a fault has a cause");
    *cause.downcast_ref().expect("the cause is the machine's fault")
}

#[test]
fn a_fault_in_code_is_an_error_that_says_where() {
    install_fault_handler().expect("handlers can be installed");
    install_fault_handler().expect("once is enough");
    let faults: [(&[u8], i32); 6] = [
        (&[0x48, 0x8b, 0x06], libc::SIGSEGV),      // mov rax, [rsi]
        (&[0x0f, 0x0b], libc::SIGILL),             // ud2
        (&[0xcc], libc::SIGTRAP),                  // int3
        (&[0x31, 0xc9, 0xf7, 0xf1], libc::SIGFPE), // xor ecx, ecx; div ecx
        (&[0x31, 0xe4, 0xc3], libc::SIGSEGV),      // xor esp, esp; ret
        (&[0x31, 0xed, 0x0f, 0x0b], libc::SIGILL), // xor ebp, ebp; ud2
    ];
    for (bytes, signal) in faults {
        let mut outer = Asm::new(0);
        let all = outer.handler(KindSet::ALL, None);
        let outer = outer.bytes(SPOIL).call(1, 10, &[all]).ret().bind(all).load(1).ret().done();
        let inner = Asm::new(0).bytes(SPOIL).bytes(bytes).ret().done();
        let rig = Rig::new(&[outer, inner], vec![]);
        keeps_registers(|| {
            let raise = rig.call(0, 16, 0).expect_err("the handler of the guest does not catch it");
            let fault = cause(&raise);
            assert_eq!(
                (raise.kind, fault.signal, fault.method),
                (RaiseKind::Fault, signal, Some(MethodId::new(1)))
            );
            let methods: Vec<usize> = raise.trace.frames().iter().map(|frame| frame.method.index()).collect();
            let chained = !bytes.starts_with(&[0x31, 0xed]);
            assert_eq!(methods, if chained { vec![1, 0] } else { vec![1] }, "signal {signal}");
            assert!(!rig.thread.is_entered());
        });
    }
}

#[test]
fn the_message_names_the_fault() {
    install_fault_handler().expect("handlers can be installed");
    let rig = Rig::new(&[Asm::new(0).bytes(&[0x48, 0x8b, 0x06]).ret().done()], vec![]);
    let raise = rig.call(0, 0x10, 0).expect_err("nothing is mapped there");
    assert_eq!(raise.to_string(), "fault: memory fault at 0x10 in compiled code, method0 at code offset 0x8");
    // A jump to where no code was placed: mov rax, rsi; jmp rax
    let rig = Rig::new(&[Asm::new(0).bytes(&[0x48, 0x89, 0xf0, 0xff, 0xe0]).ret().done()], vec![]);
    let nowhere = rig.code.find(rig.address(0)).expect("it is installed").range().end + 512;
    let raise = rig.call(0, nowhere as u64, 0).expect_err("nothing is placed there");
    assert!(raise.to_string().contains("outside of any method"), "{raise}");
}

#[test]
fn a_fault_of_memory_in_bulk_is_the_codes_own() {
    install_fault_handler().expect("handlers can be installed");
    for helper in [Helper::MemoryCopy, Helper::MemoryFill, Helper::MemoryCompare] {
        let outer = Asm::new(16).bytes(SPOIL).call(1, 10, &[]).ret().done();
        // mov rdi, rsi
        let inner = Asm::new(32).bytes(SPOIL).bytes(&[0x48, 0x89, 0xf7]).helper(helper, 20, &[]).ret().done();
        let rig = Rig::new(&[outer, inner], vec![]);
        let mut bytes = [7u8; 64];
        let good = bytes.as_mut_ptr().expose_provenance() as u64;
        for (address, count) in [(0, 1), (16, 100_000), (1 << 46, 32), (0xdead_beef_dead_beef, 4096)] {
            keeps_registers(|| {
                let raise = rig.call(0, address, count).expect_err("nothing is mapped there");
                let fault = cause(&raise);
                assert_eq!((fault.signal, fault.method), (libc::SIGSEGV, Some(MethodId::new(1))));
                let methods: Vec<usize> =
                    raise.trace.frames().iter().map(|frame| frame.method.index()).collect();
                assert_eq!(methods, [1, 0], "{helper:?} at {address:#x}");
                assert!(!rig.thread.is_entered());
            });
            rig.call(0, good, 64).expect("memory that is there does not fault");
            rig.call(0, address, 0).expect("no bytes do not fault");
        }
    }
}

#[test]
fn an_inner_fault_ends_the_inner_entry_only() {
    install_fault_handler().expect("handlers can be installed");
    let outer = Asm::new(32).native(0, 1, &[]).ret().done();
    let inner = Asm::new(0).bytes(&[0x0f, 0x0b]).ret().done();
    let native = |rig: &Rig<'_>, entry: &Entry<'_>, slots: &mut [Slot]| {
        let raise = rig.call_in(entry, 1, 0, 0).expect_err("the inner method faults");
        assert_eq!(cause(&raise).method, Some(MethodId::new(1)));
        slots[0] = 5u64.into();
        Ok(())
    };
    let rig = Rig::new(&[outer, inner], vec![Box::new(native)]);
    assert_eq!(rig.call(0, 0, 0).expect("the outer method goes on"), 5);
}

#[test]
fn threads_of_any_origin_survive_a_fault() {
    install_fault_handler().expect("handlers can be installed");
    extern "C" fn run(_: *mut libc::c_void) -> *mut libc::c_void {
        let rig = Rig::new(&[Asm::new(0).bytes(&[0x0f, 0x0b]).ret().done()], vec![]);
        let faulted = rig.call(0, 0, 0).is_err_and(|raise| cause(&raise).signal == libc::SIGILL);
        std::ptr::without_provenance_mut(usize::from(faulted))
    }
    let (mut thread, mut result) = (0, std::ptr::null_mut());
    // SAFETY: makes and joins a thread that Rust's library knows nothing of, so that it has no stack for signals; it takes
    // no argument, and its result is a number.
    let errors = unsafe {
        [
            libc::pthread_create(&mut thread, std::ptr::null(), run, std::ptr::null_mut()),
            libc::pthread_join(thread, &mut result),
        ]
    };
    assert_eq!((errors, result.addr()), ([0, 0], 1));
}

/// What the child process of the next test is told to do.
const CRASH: &str = "DAGWOOD_TEST_CRASH";

#[test]
fn a_fault_elsewhere_still_ends_the_process() {
    install_fault_handler().expect("handlers can be installed");
    if std::env::var_os(CRASH).is_some() {
        let method = Asm::new(32).native(0, 1, &[]).ret().done();
        let crash = |_: &Rig<'_>, _: &Entry<'_>, _: &mut [Slot]| {
            // SAFETY: none; this is what the process is to die of.
            std::hint::black_box(unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() });
            Ok(())
        };
        let rig = Rig::new(&[method], vec![Box::new(crash)]);
        let _ = rig.call(0, 0, 0);
        return;
    }
    let test = std::env::current_exe().expect("a test has a file");
    let name = "fault::a_fault_elsewhere_still_ends_the_process";
    let child =
        Command::new(test).args(["--exact", name]).env(CRASH, "1").output().expect("the test runs again");
    assert_eq!(child.status.signal(), Some(libc::SIGSEGV), "{child:?}");
}
