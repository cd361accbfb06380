//! Each system call that a space makes is made to fail: what needed it is an error or goes without, and the next try succeeds.

use super::*;
use crate::system::{fail_at, fail_from};
use crate::testing::{alone, count_mappings};
use crate::{CallForm, CodeBuf, INT3, Layout, Patching};

const MODES: [Protection; 4] = [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip];

/// `mov eax, 42; ret`
const ANSWER: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

fn options(protection: Protection) -> Options {
    Options { protection, fallback: Fallback::Refused, ..Options::default() }
}

fn fill(mut buffer: CodeBuf<'_>) -> Code {
    buffer.bytes_mut()[..ANSWER.len()].copy_from_slice(&ANSWER);
    buffer.publish(7).expect("nothing fails here")
}

fn assert_runs(code: &Code) {
    // SAFETY: those bytes are a function of this type, and the space is alive.
    let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(code.address()) };
    assert_eq!(function(), 42);
}

/// Has each system call of `attempt` fail in turn, with what `prepare` makes each time. `check` sees what
/// came of it, and takes it apart. Returns how many calls failed.
fn walk<S, R>(prepare: impl Fn() -> S, attempt: impl Fn(&S) -> R, check: impl Fn(S, R)) -> usize {
    // Without failures, for what is made once and stays.
    let scene = prepare();
    let result = attempt(&scene);
    check(scene, result);
    for n in 0..10_000 {
        let scene = prepare();
        let before = count_mappings();
        let (result, has_failed) = fail_at(n, || attempt(&scene));
        check(scene, result);
        assert!(count_mappings() <= before, "call {n} leaks mappings");
        if !has_failed {
            return n;
        }
    }
    unreachable!("no attempt makes so many system calls");
}

fn is_system<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Ok(_) | Err(Error::System { .. }))
}

#[test]
fn a_space_is_made_or_the_system_refused_it() {
    alone("space::tests::a_space_is_made_or_the_system_refused_it", || {
        for mode in MODES {
            let make = |_: &()| CodeSpace::new(&options(mode));
            let failures =
                walk(|| (), make, |(), result| assert!(is_system(&result), "{mode:?}: {result:?}"));
            assert!(failures > 2, "{mode:?}: {failures}");
        }
    });
}

#[test]
fn what_the_system_refuses_a_reservation_it_gets_the_next_time() {
    alone("space::tests::what_the_system_refuses_a_reservation_it_gets_the_next_time", || {
        for mode in MODES {
            for size in [100, 15_000, 40_000, 2 << 20] {
                let prepare = || {
                    let space = CodeSpace::new(&options(mode)).expect("allowed");
                    let writer = space.writer();
                    // The space's first chunk is full, so that another one is made.
                    std::mem::forget(writer.reserve(&Layout::new(1 << 20)).expect("there is room"));
                    (space, writer)
                };
                let reserve = |scene: &(CodeSpace, CodeWriter)| {
                    let result = scene.1.reserve(&Layout::new(size));
                    result.map(drop)
                };
                let failures = walk(prepare, reserve, |(space, writer), result| {
                    assert!(is_system(&result), "{mode:?} {size}: {result:?}");
                    let code = fill(writer.reserve(&Layout::new(size)).expect("nothing fails now"));
                    assert_runs(&code);
                    assert_eq!(space.lookup(code.address()).map(|found| found.owner), Some(7));
                });
                assert!(failures > 0, "{mode:?} {size}");
            }
        }
    });
}

/// The bytes of the lines that `len` bytes of code at `address` have to themselves.
fn bytes_of(address: usize, len: usize) -> Vec<u8> {
    let first = address / GRANULE * GRANULE;
    let lines = classes::granules(address % GRANULE, len) * GRANULE;
    let bytes: *const u8 = std::ptr::with_exposed_provenance(first);
    // SAFETY: the memory of the space is mapped and can be read, and nobody writes there meanwhile.
    unsafe { std::slice::from_raw_parts(bytes, lines) }.to_vec()
}

#[test]
fn what_the_system_does_not_let_be_published_gives_its_room_back() {
    for mode in MODES {
        for size in [100, 15_000, 40_000] {
            let space = CodeSpace::new(&options(mode)).expect("allowed");
            let writer = space.writer();
            let before = fill(writer.reserve(&Layout::new(size)).expect("there is room"));
            let mut buffer = writer.reserve(&Layout::new(size)).expect("there is room");
            let address = buffer.address();
            buffer.bytes_mut().fill(0x90);
            let (result, has_failed) = fail_at(0, || buffer.publish(7));
            assert_eq!(
                has_failed,
                [Protection::NoAlias, Protection::Flip].contains(&mode),
                "{mode:?} {size}"
            );
            if has_failed {
                assert!(matches!(result, Err(Error::System { .. })), "{mode:?} {size}: {result:?}");
                assert_eq!(space.lookup(address), None);
                assert!(bytes_of(address, size).iter().all(|&byte| byte == INT3), "{mode:?} {size}");
                let again = fill(writer.reserve(&Layout::new(size)).expect("there is room"));
                assert_eq!(again.address(), address, "{mode:?} {size}: the same room");
                assert_runs(&again);
                writer.retire(again).expect("it is the space's");
            } else {
                writer.retire(result.expect("it makes no system call")).expect("it is the space's");
            }
            assert_runs(&before);
            writer.retire(before).expect("it is the space's");
            (0..2).for_each(|_| assert!(writer.reclaim(&mut |_| {}).is_ok()));
            writer.rest();
            assert_eq!((space.stats().live, space.stats().used_bytes), (0, 0), "{mode:?} {size}");
        }
    }
}

#[test]
fn room_that_cannot_be_made_int3_again_is_left_to_nobody() {
    for mode in [Protection::NoAlias, Protection::Flip] {
        for size in [100, 40_000] {
            let space = CodeSpace::new(&options(mode)).expect("allowed");
            let writer = space.writer();
            let mut buffer = writer.reserve(&Layout::new(size)).expect("there is room");
            let address = buffer.address();
            buffer.bytes_mut().fill(0x90);
            let result = fail_from(0, || buffer.publish(7));
            assert!(matches!(result, Err(Error::System { .. })), "{mode:?} {size}: {result:?}");
            let other = fill(writer.reserve(&Layout::new(size)).expect("there is room"));
            assert!(other.address().abs_diff(address) >= size, "{mode:?} {size}: it is not used again");
            assert_runs(&other);
            // SAFETY: nobody runs it.
            unsafe { writer.free(other) }.expect("nothing fails now");
            writer.rest();
            assert_eq!((space.stats().live, space.lookup(address)), (0, None));
            assert!(space.stats().used_bytes > 0, "{mode:?} {size}: it counts as used");
        }
    }
}

/// Frees, or retires and reclaims; what cannot be freed is given back, and freed later.
#[test]
fn what_cannot_be_freed_now_is_freed_later() {
    alone("space::tests::what_cannot_be_freed_now_is_freed_later", || {
        for mode in MODES {
            for size in [100, 40_000] {
                let prepare = || {
                    let space = CodeSpace::new(&options(mode)).expect("allowed");
                    let writer = space.writer();
                    let codes =
                        [(), (), ()].map(|()| fill(writer.reserve(&Layout::new(size)).expect("room")));
                    let [freed, retired, kept] = codes;
                    space.retire(retired).expect("it is the space's");
                    (space, writer, std::cell::Cell::new(Some(freed)), kept)
                };
                let give_back = |(space, _, freed, _): &(_, _, std::cell::Cell<Option<Code>>, _)| {
                    let space: &CodeSpace = space;
                    // SAFETY: nobody runs it.
                    if let Err(refused) = unsafe { space.free(freed.take().expect("it is there")) } {
                        assert!(matches!(refused.error, Error::System { .. }), "{refused:?}");
                        freed.set(Some(refused.code));
                    }
                    let results = [(), (), ()].map(|()| space.reclaim(&mut |_| {}).map(drop));
                    results.into_iter().collect::<Result<(), Error>>()
                };
                walk(prepare, give_back, |(space, writer, freed, kept), result| {
                    assert!(is_system(&result), "{mode:?} {size}: {result:?}");
                    assert_runs(&kept);
                    // SAFETY: nobody runs it.
                    freed.take().into_iter().for_each(|code| assert!(unsafe { space.free(code) }.is_ok()));
                    (0..3).for_each(|_| assert!(space.reclaim(&mut |_| {}).is_ok()));
                    let stats = space.stats();
                    assert_eq!((stats.live, stats.waiting), (1, 0), "{mode:?} {size}");
                    assert_runs(&fill(writer.reserve(&Layout::new(size)).expect("there is room")));
                    writer.retire(kept).expect("it is the space's");
                });
            }
        }
    });
}

#[test]
fn slots_and_patches_that_the_system_refuses_leave_what_was() {
    alone("space::tests::slots_and_patches_that_the_system_refuses_leave_what_was", || {
        for mode in [Protection::Dual, Protection::Session] {
            let prepare = || {
                let space = CodeSpace::new(&options(mode)).expect("allowed");
                let writer = space.writer();
                let target = fill(writer.reserve(&Layout::new(100)).expect("there is room"));
                let mut buffer = writer.reserve(&Layout::new(20)).expect("there is room");
                // `sub rsp, 8`, the call, `add rsp, 8; ret`
                buffer.bytes_mut()[..4].copy_from_slice(&[0x48, 0x83, 0xec, 8]);
                buffer.bytes_mut()[15..].copy_from_slice(&[0x48, 0x83, 0xc4, 8, 0xc3]);
                let site = buffer.call(4..15, target.address(), None, Patching::InPlace).expect("in reach");
                assert_eq!(site.form(), CallForm::Near);
                let caller = buffer.publish(0).expect("nothing fails here");
                writer.rest();
                (space, target, caller, site)
            };
            let patch = |(space, target, _, site): &(CodeSpace, Code, Code, CallSite)| {
                // SAFETY: nobody runs the call, and it goes where it went.
                let patched = unsafe { space.patch_call(*site, target.address()) };
                space.slot(5).map(drop).and(patched)
            };
            let failures = walk(prepare, patch, |(space, target, caller, _), result| {
                assert!(is_system(&result), "{mode:?}: {result:?}");
                assert_runs(&caller);
                assert_runs(&target);
                assert_eq!(space.slot(5).expect("nothing fails now").target(), 5);
            });
            assert!(failures > 0, "{mode:?}");
        }
    });
}

/// Beyond the limit the system would end the process with a signal.
#[test]
fn a_limit_on_the_length_of_files_refuses_memory_files_and_ends_nothing() {
    alone("space::tests::a_limit_on_the_length_of_files_refuses_memory_files_and_ends_nothing", || {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the pointer is to a limit; the process runs only this test.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
        let refused = CodeSpace::new(&options(Protection::Dual)).expect_err("a chunk has 2 MiB");
        assert!(matches!(refused, Error::System { errno: libc::EFBIG, .. }), "{refused:?}");
        let space = CodeSpace::new(&Options::default()).expect("pages can be flipped");
        assert_eq!(space.protection(), Protection::Flip);
        assert_runs(&fill(space.writer().reserve(&Layout::new(100)).expect("there is room")));
    });
}
