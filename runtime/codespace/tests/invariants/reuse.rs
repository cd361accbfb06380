//! Live functions never overlap, and nothing is used again before every thread that may run it has left it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dagwood_codespace::{Code, CodeSpace, CodeWriter, Lane, Layout};

use crate::world::{
    INT3, Mode, Random, assert_write_xor_execute, bytes_at, call, place, reclaim_all, returns, run, turn,
};

/// What was placed, by its first address; no two overlap.
#[derive(Default)]
struct Live(BTreeMap<usize, (Range<usize>, Code)>);

impl Live {
    fn add(&mut self, code: Code) {
        let run = run(&code);
        let before = self.0.range(..run.end).next_back();
        if let Some((_, (other, _))) = before {
            assert!(other.end <= run.start, "{run:x?} overlaps {other:x?}");
        }
        self.0.insert(run.start, (run, code));
    }

    fn take(&mut self, at: usize) -> Option<Code> {
        let key = *self.0.keys().nth(at % self.0.len().max(1))?;
        self.0.remove(&key).map(|(_, code)| code)
    }
}

#[test]
fn live_functions_are_disjoint_also_from_those_that_wait() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writers = [space.writer(), space.writer()];
        let mut random = Random::new(1);
        // Retired code is live here until the space says that it is freed.
        let mut live = Live::default();
        let mut retired: BTreeMap<usize, Range<usize>> = BTreeMap::new();
        for step in 0..2500 {
            let writer = &writers[step % 2];
            match random.below(9) {
                0..=3 => {
                    let size = random.size();
                    let layout =
                        Layout { align: 1 << random.below(8), lane: random.lane(), ..Layout::new(size) };
                    let buffer = writer.reserve(&layout).expect("there is room");
                    let code = buffer.publish(step).expect("the system lets code be written");
                    let run = run(&code);
                    let other =
                        retired.range(..run.end).next_back().filter(|(_, other)| other.end > run.start);
                    assert_eq!(other, None, "{mode}: {run:x?} is used again before it is freed");
                    live.add(code);
                }
                4 | 5 => {
                    if let Some(code) = live.take(random.below(1 << 20)) {
                        retired.insert(code.address(), run(&code));
                        writer.retire(code).expect("it is the space's");
                    }
                }
                6 => {
                    if let Some(code) = live.take(random.below(1 << 20)) {
                        // SAFETY: nobody runs it.
                        unsafe { writer.free(code) }.expect("it is the space's");
                    }
                }
                7 if step % 8 == 0 => {
                    let freed = &mut |found: dagwood_codespace::Found| {
                        assert!(
                            retired.remove(&found.address).is_some(),
                            "{mode}: {found:x?} was freed twice"
                        );
                    };
                    writer.reclaim(freed).expect("nothing fails");
                }
                _ => {}
            }
        }
        let found = retired.keys().filter(|&&address| space.lookup(address).is_some()).count();
        assert_eq!(space.stats().live, live.0.len() + found, "{mode}");
    }
}

/// Places functions as large as `code` in its lane, until one overlaps it or there were many.
fn is_reused(writer: &CodeWriter, range: &Range<usize>, len: usize) -> bool {
    let mut codes = Vec::new();
    let mut is_reused = false;
    for at in 0..40 {
        let code = place(writer, &returns(at, len), Lane::Optimized, 0);
        let other = run(&code);
        is_reused |= other.start < range.end && range.start < other.end;
        codes.push(code);
    }
    // SAFETY: nobody runs them.
    codes.into_iter().for_each(|code| assert!(unsafe { writer.free(code) }.is_ok()));
    is_reused
}

/// A function among others, so that exactly its room is what is free when it is freed.
fn between_others(writer: &CodeWriter, len: usize) -> Code {
    let mut codes: Vec<Code> =
        (0..9).map(|at| place(writer, &returns(at, len), Lane::Optimized, 5)).collect();
    codes.swap_remove(4)
}

/// Asserts that what is retired while `hold` holds it is neither reused nor freed, however often that is tried.
fn assert_held(mode: Mode, writer: &CodeWriter, range: &Range<usize>, len: usize, why: &str) {
    let before = bytes_at(range.clone())[..len].to_vec();
    for _ in 0..4 {
        writer
            .reclaim(&mut |found| assert!(!range.contains(&found.address), "{mode}: freed {why}"))
            .expect("ok");
        assert!(!is_reused(writer, range, len), "{mode}: reused {why}");
        assert_eq!(bytes_at(range.clone())[..len], before, "{mode}: changed {why}");
    }
}

/// Asserts that two calls free it now, as `int3`, and that its room is used again.
fn assert_freed(mode: Mode, writer: &CodeWriter, range: &Range<usize>, len: usize) {
    let mut freed = Vec::new();
    for _ in 0..2 {
        let tell = &mut |found: dagwood_codespace::Found| {
            if range.contains(&found.address) {
                assert!(
                    bytes_at(range.clone()).iter().all(|&byte| byte == INT3),
                    "{mode}: int3 before it is told"
                );
            }
            freed.push((found.address, found.owner));
        };
        writer.reclaim(tell).expect("nothing fails");
    }
    assert_eq!(freed, [(range.start, 5)], "{mode}");
    assert_eq!(writer.space().lookup(range.start), None);
    assert!(is_reused(writer, range, len), "{mode}: its room is used again");
}

#[test]
fn retired_code_waits_for_a_thread_that_runs_until_it_leaves_or_makes_a_checkpoint() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let participant = space.domain().join().expect("there is memory");
        for len in [100, 5000] {
            for is_checkpoint in [false, true] {
                let code = between_others(&writer, len);
                let range = run(&code);
                let running = participant.enter();
                writer.retire(code).expect("it is the space's");
                assert_held(mode, &writer, &range, len, "while a thread runs");
                if is_checkpoint {
                    // SAFETY: the thread runs nothing and will return to nothing.
                    unsafe { participant.checkpoint([range.end + 1]) };
                    // One period is over; the second began with it, and waits for the thread again.
                    writer
                        .reclaim(&mut |_| panic!("{mode}: it was looked up perhaps"))
                        .expect("nothing fails");
                    assert_eq!(space.lookup(range.start), None, "{mode}: nobody runs it");
                    writer.reclaim(&mut |_| panic!("{mode}: as before")).expect("nothing fails");
                    // SAFETY: as above.
                    unsafe { participant.checkpoint([]) };
                    let mut count = 0;
                    writer.reclaim(&mut |_| count += 1).expect("nothing fails");
                    assert_eq!(count, 1, "{mode}");
                    assert!(is_reused(&writer, &range, len), "{mode}");
                } else {
                    drop(running);
                    assert_freed(mode, &writer, &range, len);
                }
            }
        }
    }
}

#[test]
fn retired_code_waits_for_return_addresses_in_it_and_right_behind_it() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let participant = space.domain().join().expect("there is memory");
        let len = 100;
        for (offset, is_held) in [(0, true), (57, true), (len, true), (len + 1, false), (usize::MAX, false)] {
            let code = between_others(&writer, len);
            let (range, named) = (run(&code), code.address().wrapping_add(offset));
            let running = participant.enter();
            writer.retire(code).expect("it is the space's");
            // SAFETY: the thread runs nothing and will return to nothing; what it names is more than needed.
            unsafe {
                participant.park([named], || {
                    if is_held {
                        assert_held(mode, &writer, &range, len, "while a parked thread returns there");
                    } else {
                        assert_freed(mode, &writer, &range, len);
                    }
                    // Entering while parked gives nothing up that was named.
                    drop(participant.enter());
                    if is_held {
                        assert_held(mode, &writer, &range, len, "after it entered meanwhile");
                    }
                });
                participant.checkpoint([named]);
            }
            if is_held {
                assert_held(mode, &writer, &range, len, "while a running thread returns there");
                drop(running);
                assert_freed(mode, &writer, &range, len);
            }
        }
        // A near miss on the other side of each: the byte before the function holds nothing up.
        let code = between_others(&writer, len);
        let (range, address) = (run(&code), code.address());
        let running = participant.enter();
        writer.retire(code).expect("it is the space's");
        // SAFETY: as above.
        unsafe { participant.park([address - 1], || assert_freed(mode, &writer, &range, len)) };
        drop(running);
    }
}

/// Threads call the newest version of a function, while it is replaced again and again.
#[test]
fn a_function_that_others_call_is_whole_until_they_have_left_it() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let (link, is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let writer = space.writer();
        let mut current = publish_version(&writer, 0, &link);
        let calls = std::thread::scope(|scope| {
            let callers = [(), ()].map(|()| scope.spawn(|| call_newest(&space, &link, &is_done)));
            let mut freed = 0;
            for version in 1..3000_u32 {
                let old = std::mem::replace(&mut current, publish_version(&writer, version, &link));
                writer.retire(old).expect("it is the space's");
                if version % 8 == 0 {
                    writer.reclaim(&mut |_| freed += 1).expect("nothing fails");
                }
            }
            is_done.store(true, Ordering::Relaxed);
            let calls = callers.map(|caller| caller.join().expect("what it called was whole"));
            assert_eq!(freed + reclaim_all(&writer), 2999, "{mode}: all old versions are freed");
            calls
        });
        assert!(calls.iter().all(|&count| count > 0), "{mode}: {calls:?}");
        assert_eq!(space.stats().live, 1);
    }
    assert_write_xor_execute("all that");
}

fn publish_version(writer: &CodeWriter, version: u32, link: &AtomicUsize) -> Code {
    let len = 60 + version as usize % 700;
    let code = place(writer, &returns(version, len), Lane::Optimized, version as usize);
    link.store(code.address(), Ordering::Release);
    code
}

/// Calls what the link leads to until it is told to stop. Whatever a session got to stays whole until it ends.
fn call_newest(space: &CodeSpace, link: &AtomicUsize, is_done: &AtomicBool) -> usize {
    let participant = space.domain().join().expect("there is memory");
    let (mut newest, mut calls) = (0, 0);
    loop {
        let is_last = is_done.load(Ordering::Relaxed);
        let running = participant.enter();
        let address = link.load(Ordering::Acquire);
        let version = call(address);
        assert!(version >= newest, "version {version} after {newest}");
        newest = version;
        for _ in 0..20 {
            assert_eq!(call(address), version, "it is still the same");
        }
        let found = space.lookup(address);
        if let Some(found) = found {
            assert_eq!((found.address, found.owner), (address, version as usize));
        }
        drop(running);
        calls += 1;
        if is_last {
            return calls;
        }
    }
}

#[test]
fn what_a_lookup_found_is_not_freed_before_who_asked_has_left() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let [early, late] = [(), ()].map(|()| space.domain().join().expect("there is memory"));
        let code = place(&writer, &returns(1, 50), Lane::Baseline, 9);
        let address = code.address();
        let before = early.enter();
        writer.retire(code).expect("it is the space's");
        let reclaim = |expected: usize| {
            let mut count = 0;
            writer.reclaim(&mut |_| count += 1).expect("nothing fails");
            assert_eq!(count, expected, "{mode}");
        };
        reclaim(0);
        // It cannot come to the code any more, but it may ask what the code was: an unwinder or a sampler would.
        let after = late.enter();
        assert_eq!(space.lookup(address).map(|found| found.owner), Some(9), "{mode}: somebody may run it");
        drop(before);
        reclaim(0);
        assert_eq!(space.lookup(address), None, "{mode}: nobody runs it");
        reclaim(0);
        reclaim(0);
        drop(after);
        reclaim(1);
    }
}

#[test]
fn a_writer_may_write_any_number_of_functions_at_once() {
    const COUNT: usize = 6000;
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let mut random = Random::new(5);
        let mut buffers = Vec::new();
        for at in 0..COUNT {
            let mut buffer = writer.reserve(&Layout::new(1200)).expect("there is room");
            buffer.bytes_mut().copy_from_slice(&returns(at as u32, 1200));
            buffers.push((at, buffer));
        }
        let mut codes = Vec::new();
        while !buffers.is_empty() {
            let (at, buffer) = buffers.swap_remove(random.below(buffers.len()));
            // Some are not published.
            if at % 3 != 0 {
                codes.push((at, buffer.publish(at).expect("the system lets code be written")));
            }
        }
        for (at, code) in &codes {
            assert_eq!(call(code.address()), *at as u32, "{mode}");
            assert_eq!(space.lookup(code.address()).map(|found| found.owner), Some(*at), "{mode}");
        }
        for (_, code) in codes {
            // SAFETY: nobody runs it.
            unsafe { writer.free(code) }.expect("it is the space's");
        }
        drop(buffers);
        drop(writer);
        let stats = space.stats();
        assert_eq!((stats.live, stats.used_bytes), (0, 0), "{mode}");
    }
}
