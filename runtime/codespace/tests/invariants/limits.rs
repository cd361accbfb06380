//! A limit on bytes and who makes room below it; and a process that may make nothing executable that was writable.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dagwood_codespace::{
    Code, CodeSpace, Error, Fallback, Lane, Layout, Options, Pressure, Protection, Relief, Unwind,
};

use crate::world::{self, DENIED, Mode, Random, assert_write_xor_execute, call, place, returns, turn};

/// Evicts the oldest of what it was given, as long as there is some.
#[derive(Default)]
struct Evicting {
    codes: Mutex<Vec<Code>>,
    asked: AtomicUsize,
}

impl Pressure for Evicting {
    fn relieve(&self, space: &CodeSpace, bytes: usize) -> Relief {
        assert!(bytes > 0);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut codes = self.codes.lock().expect("nobody panics with it");
        if codes.is_empty() {
            return Relief::GiveUp;
        }
        let half = codes.len().div_ceil(2);
        codes.drain(..half).for_each(|code| space.retire(code).expect("it is the space's"));
        drop(codes);
        for _ in 0..2 {
            space.reclaim(&mut |_| {}).expect("nothing fails");
        }
        Relief::TryAgain
    }
}

#[test]
fn a_space_stays_within_its_limit_and_whoever_makes_room_is_asked_before_it_fails() {
    const LIMIT: usize = 1 << 20;
    let _turn = turn();
    for mode in Mode::all() {
        let evicting = Arc::new(Evicting::default());
        let pressure = Arc::clone(&evicting) as Arc<dyn Pressure>;
        let options = Options { max_bytes: LIMIT, pressure: Some(pressure), ..mode.options() };
        let space = CodeSpace::new(&options).expect("allowed");
        let writer = space.writer();
        let mut random = Random::new(9);
        for at in 0..1500 {
            let code = place(&writer, &returns(at, random.size()), Lane::Baseline, at as usize);
            assert!(space.stats().used_bytes <= LIMIT || at % 64 != 0, "{mode}");
            evicting.codes.lock().expect("nobody panics with it").push(code);
        }
        assert!(evicting.asked.load(Ordering::Relaxed) > 0, "{mode}: 1,500 functions are more than fit");
        let asked = evicting.asked.load(Ordering::Relaxed);
        let too_large = writer.reserve(&Layout::new(LIMIT + 1)).expect_err("it is larger than the limit");
        assert!(matches!(too_large, Error::Full { limit: LIMIT, .. }), "{mode}: {too_large:?}");
        let times = evicting.asked.load(Ordering::Relaxed) - asked;
        assert!((1..=16).contains(&times), "{mode}: asked {times} times for one allocation");
        evicting.codes.lock().expect("nobody panics with it").clear();
        let code = place(&writer, &returns(5, 100), Lane::Baseline, 0);
        assert_eq!(call(code.address()), 5, "{mode}: there is room again");
    }
}

#[test]
fn without_anybody_to_ask_a_full_space_fails_and_goes_on_once_code_is_retired() {
    let _turn = turn();
    for mode in Mode::all() {
        let options = Options { max_bytes: 256 << 10, ..mode.options() };
        let space = CodeSpace::new(&options).expect("allowed");
        let writer = space.writer();
        let mut codes = Vec::new();
        let full = loop {
            match writer.reserve(&Layout::new(2000)) {
                Ok(buffer) => {
                    codes.push(buffer.publish(codes.len()).expect("the system lets code be written"))
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Error::Full { limit: 262_144, .. }), "{mode}: {full:?}");
        assert!(codes.len() >= 64, "{mode}: {} pages are not full yet", codes.len());
        assert!(codes.iter().all(|code| space.lookup(code.address()).is_some()), "{mode}: nothing is lost");
        writer.retire(codes.swap_remove(3)).expect("it is the space's");
        // The allocation reclaims, and what it freed is told later.
        let code = writer
            .reserve(&Layout::new(2000))
            .expect("there is room for one")
            .publish(1000)
            .expect("the system lets code be written");
        let mut told = Vec::new();
        writer.reclaim(&mut |found| told.push(found.owner)).expect("nothing fails");
        assert_eq!(told, [3], "{mode}");
        codes.push(code);
        assert!(writer.reserve(&Layout::new(2000)).is_err(), "{mode}: it is full again");
    }
}

/// Needs room itself in order to make room.
#[derive(Default)]
struct Reserving {
    asked: AtomicUsize,
    refused: AtomicUsize,
}

impl Pressure for Reserving {
    fn relieve(&self, space: &CodeSpace, _: usize) -> Relief {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let refused = space.writer().reserve(&Layout::new(60_000)).map(drop);
        self.refused.fetch_add(usize::from(matches!(refused, Err(Error::Full { .. }))), Ordering::Relaxed);
        Relief::TryAgain
    }
}

#[test]
fn whoever_is_asked_for_room_and_needs_some_is_refused_and_not_asked_again() {
    let _turn = turn();
    for mode in Mode::all() {
        let reserving = Arc::new(Reserving::default());
        let pressure = Arc::clone(&reserving) as Arc<dyn Pressure>;
        let options = Options { max_bytes: 64 << 10, pressure: Some(pressure), ..mode.options() };
        let space = CodeSpace::new(&options).expect("allowed");
        let writer = space.writer();
        let _first = place(&writer, &returns(1, 60_000), Lane::Baseline, 0);
        for round in 1..3 {
            let full = writer.reserve(&Layout::new(60_000)).expect_err("there is room for one");
            assert!(matches!(full, Error::Full { .. }), "{mode}: {full:?}");
            let asked = reserving.asked.load(Ordering::Relaxed);
            assert_eq!(asked, reserving.refused.load(Ordering::Relaxed), "{mode}");
            assert!((round..=16 * round).contains(&asked), "{mode}: asked {asked} times");
        }
    }
}

#[test]
fn an_owner_who_never_reclaims_runs_out_of_room_and_goes_on_when_it_does() {
    let _turn = turn();
    let space = CodeSpace::new(&Options { max_bytes: 1 << 20, ..Mode::first().options() }).expect("allowed");
    let writer = space.writer();
    let full = loop {
        match writer.reserve(&Layout::new(40)) {
            Ok(buffer) => {
                let code = buffer.publish(0).expect("the system lets code be written");
                writer.retire(code).expect("it is the space's");
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { .. }), "{full:?}");
    let untold = space.stats().untold;
    assert!((1 << 16..1 << 17).contains(&untold), "{untold} functions");
    let reclaimed = writer.reclaim(&mut |_| {}).expect("nothing fails");
    assert!(reclaimed.freed >= untold && space.stats().untold == 0);
    let code = place(&writer, &returns(1, 40), Lane::Baseline, 0);
    assert_eq!(call(code.address()), 1);
}

/// Runs this program again, where the system denies what `MemoryDenyWriteExecute` of systemd does.
#[test]
fn all_of_this_holds_in_a_process_that_may_make_nothing_executable_that_was_writable() {
    const PR_SET_MDWE: libc::c_int = 65;
    const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    if std::env::var_os(DENIED).is_some() {
        return;
    }
    let _turn = turn();
    let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
    command.arg("--test-threads=1").env(DENIED, "1");
    let deny = || {
        // SAFETY: the call takes five numbers.
        match unsafe { libc::prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and reads an error number.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, deny) };
    match command.output() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            eprintln!("skipped: the system is older than 6.3 and denies nothing");
        }
        Err(error) => panic!("{error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && !text.contains(" 0 passed"),
                "{}\n{text}{errors}",
                output.status
            );
        }
    }
}

/// What such a process may not do is an error of `new`, and nothing else takes its place unasked.
#[test]
fn flipping_pages_is_refused_when_the_space_is_made_where_the_system_denies_it() {
    let _turn = turn();
    let options = Options { protection: Protection::Flip, unwind: Unwind::None, ..Options::default() };
    for fallback in [Fallback::Allowed, Fallback::Refused] {
        let space = CodeSpace::new(&Options { fallback, ..options.clone() });
        if std::env::var_os(DENIED).is_some() {
            assert!(matches!(space, Err(Error::System { .. })), "{space:?}");
            continue;
        }
        let space = space.expect("allowed");
        let code = place(&space.writer(), &returns(3, 10), Lane::Cold, 0);
        assert_eq!(call(code.address()), 3);
    }
    assert_write_xor_execute("all that");
    assert!(world::mappings().len() > 3);
}
