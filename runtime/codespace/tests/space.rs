//! What a code space promises, tried from outside.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dagwood_codespace::{
    CHUNK, Code, CodeSpace, CodeWriter, Domain, Error, GRANULE, Lane, Layout, Options, PAGE, Packing,
    Pressure, Protection, Refused, Relief, SPAN,
};

const PROTECTIONS: [Protection; 4] =
    [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip];

fn place(writer: &CodeWriter, code: &[u8], owner: usize) -> Code {
    let mut buffer = writer.reserve(&Layout::new(code.len())).expect("there is room");
    buffer.bytes_mut().copy_from_slice(code);
    buffer.publish(owner).expect("the system lets code be written")
}

/// `mov eax, value; ret`
fn returns(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    code
}

fn call(code: &Code) -> u32 {
    // SAFETY: the tests that call this placed the bytes of `returns` there, and their space is alive.
    let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(code.address()) };
    function()
}

#[test]
fn code_is_published_found_and_freed_in_each_protection_and_packing() {
    for protection in PROTECTIONS {
        for packing in [Packing::Granules, Packing::Pages] {
            let space =
                CodeSpace::new(&Options { protection, packing, ..Options::default() }).expect("allowed");
            let writer = space.writer();
            let codes: Vec<Code> = (0..100).map(|i| place(&writer, &returns(i), i as usize)).collect();
            for (i, code) in codes.iter().enumerate() {
                assert_eq!(call(code), i as u32);
                let found = space.lookup(code.address() + 5).expect("it is published");
                assert_eq!((found.address, found.len, found.owner), (code.address(), 6, i));
                assert_eq!(space.lookup(code.address() + 6), None);
            }
            assert_eq!((space.stats().live, space.stats().live_bytes), (100, 600));
            for code in codes {
                writer.retire(code).expect("it is the space's");
            }
            let mut owners = Vec::new();
            for _ in 0..2 {
                assert!(owners.is_empty());
                writer.reclaim(&mut |found| owners.push(found.owner)).expect("nothing fails");
            }
            owners.sort_unstable();
            assert_eq!(owners, (0..100).collect::<Vec<_>>());
            assert_eq!(space.stats().live, 0);
            drop(writer);
            assert_eq!(space.stats().used_bytes, 0, "{protection:?} {packing:?}");
        }
    }
}

#[test]
fn one_call_places_code_and_one_frees_it() {
    let space = space();
    let mut code: Vec<Code> =
        (0..3000).map(|value| space.alloc(&returns(value)).expect("there is room")).collect();
    assert!((0..3000).all(|value| call(&code[value as usize]) == value));
    let used = space.stats().used_bytes;
    for code in &mut code {
        let next = space.alloc(&returns(7)).expect("there is room");
        let old = std::mem::replace(code, next);
        // SAFETY: nobody runs it.
        assert_eq!(unsafe { space.free(old) }, Ok(()));
    }
    assert!(code.iter().all(|code| call(code) == 7));
    assert!(space.stats().used_bytes <= used + 2 * (64 << 10), "what was freed was used again");
    assert!(matches!(space.alloc(&[]), Err(Error::Size { asked: 0, .. })));
}

fn space() -> CodeSpace {
    CodeSpace::new(&Options::default()).expect("the system allows it")
}

/// Reclaims until nothing waits, and returns the owners of what was freed.
fn reclaim_all(writer: &CodeWriter) -> Vec<usize> {
    let mut owners = Vec::new();
    while writer.reclaim(&mut |found| owners.push(found.owner)).expect("nothing fails").waiting > 0 {}
    owners
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let space = space();
    let writer = space.writer();
    for size in [0, usize::MAX, usize::MAX / 2, 1 << 31] {
        let error = writer.reserve(&Layout::new(size)).expect_err("no function has this size");
        assert!(matches!(error, Error::Size { asked, .. } if asked == size), "{error}");
    }
    for align in [0, 3, 2 * PAGE, usize::MAX] {
        for size in [1, SPAN, 3 * CHUNK] {
            let error = writer.reserve(&Layout { align, ..Layout::new(size) }).expect_err("no power of two");
            assert_eq!(error, Error::Align { asked: align });
        }
    }
    let error = writer.reserve(&Layout::new(1 << 30)).expect_err("pages for the trailer are missing");
    assert!(matches!(error, Error::Full { limit: 0x4000_0000, .. }), "{error}");
    assert_eq!(space.stats().used_bytes, 0);
    assert!(writer.reserve(&Layout { align: PAGE, ..Layout::new(1) }).is_ok(), "a near miss");
}

#[test]
fn code_of_another_space_comes_back() {
    let (space, other) = (space(), space());
    let (writer, stranger) = (space.writer(), other.writer());
    let mut code = place(&writer, &returns(1), 1);
    let address = code.address();
    for attempt in 0..4 {
        // SAFETY: nobody runs the code.
        let result = unsafe {
            match attempt {
                0 => other.retire(code),
                1 => stranger.retire(code),
                2 => other.free(code).map(drop),
                _ => stranger.free(code).map(drop),
            }
        };
        let Err(Refused { code: same, error }) = result else { panic!("it is not theirs") };
        assert_eq!((same.address(), error), (address, Error::NotCode { address }));
        code = same;
    }
    assert_eq!(call(&code), 1);
    writer.retire(code).expect("it is the space's");
    assert_eq!(reclaim_all(&writer), [1]);
}

#[test]
fn buffers_are_published_and_dropped_in_any_order() {
    let space = space();
    let writer = space.writer();
    let reserve = |i: usize| writer.reserve(&Layout::new(1 + i % 900)).expect("there is room");
    let mut buffers: Vec<_> = (0..10_000).map(|i| Some(reserve(i))).collect();
    // From the last to the first, then what is left from the first to the last.
    let mut codes = Vec::new();
    for i in (0..10_000).rev().filter(|i| i % 3 == 0).chain((0..10_000).filter(|i| i % 3 == 1)) {
        codes.push(
            buffers[i].take().expect("published once").publish(i).expect("the system lets code be written"),
        );
    }
    let dropped: Vec<usize> = buffers.iter().flatten().map(|buffer| buffer.address()).collect();
    drop(buffers);
    assert!(codes.iter().all(|code| space.lookup(code.address()).is_some()));
    assert!(dropped.iter().all(|&address| space.lookup(address).is_none()));
    let used = space.stats().used_bytes;
    let again: Vec<_> = (0..10_000).filter(|i| i % 3 == 2).map(reserve).collect();
    assert!(space.stats().used_bytes * 4 <= used * 5, "what was dropped is used again, but for gaps");
    drop(again);
    codes.into_iter().for_each(|code| writer.retire(code).expect("it is the space's"));
    assert_eq!(reclaim_all(&writer).len(), 6667);
    drop(writer);
    assert_eq!(space.stats().used_bytes, 0);
}

#[test]
fn code_outlives_its_writer_and_writers_outlive_the_handle() {
    let space = space();
    let first = space.writer();
    let (code, leaked) =
        (place(&first, &returns(5), 5), first.reserve(&Layout::new(100)).expect("there is room"));
    std::mem::forget(leaked);
    drop(first);
    assert_eq!(call(&code), 5);
    let second = space.writer();
    drop(space);
    assert_eq!(call(&place(&second, &returns(6), 6)), 6);
    assert_eq!(call(&code), 5);
    second.retire(code).expect("it is the space's");
    assert_eq!(reclaim_all(&second), [5]);
    second.rest();
    assert!(second.space().stats().used_bytes > 0, "a leaked buffer keeps its room");
}

#[test]
fn what_others_free_in_a_span_goes_back_to_its_holder() {
    let space = space();
    let (holder, other) = (space.writer(), space.writer());
    let room = SPAN / 1024;
    let fill = || (0..room).map(|i| place(&holder, &[0x90; 1000], i)).collect::<Vec<_>>();
    let codes = fill();
    let used = space.stats().used_bytes;
    assert_eq!(used, SPAN);
    for code in codes {
        // SAFETY: nobody runs the code.
        unsafe { other.free(code) }.expect("it is the space's");
    }
    assert_eq!(space.stats().live, 0);
    let codes = fill();
    assert_eq!(space.stats().used_bytes, used, "no other span was needed");
    drop(holder);
    codes.into_iter().for_each(|code| space.retire(code).expect("it is the space's"));
    assert_eq!(reclaim_all(&other).len(), room);
    assert_eq!(space.stats().used_bytes, 0);
}

#[test]
fn what_a_writer_frees_elsewhere_is_given_back_before_an_allocation_fails() {
    let space = CodeSpace::new(&Options { max_bytes: 6 * SPAN, ..Options::default() }).expect("allowed");
    let writer = space.writer();
    let mut codes: Vec<Code> = (0..24).map(|i| place(&writer, &[0x90; 15 << 10], i)).collect();
    assert_eq!(space.stats().used_bytes, 6 * SPAN, "four functions fill a span");
    let large = Layout { lane: Lane::Cold, ..Layout::new(100 << 10) };
    assert!(matches!(writer.reserve(&large), Err(Error::Full { .. })));
    // The two spans that the writer held first, which it has given back long since.
    for code in codes.drain(..8) {
        // SAFETY: nobody runs the code.
        unsafe { writer.free(code) }.expect("it is the space's");
    }
    assert_eq!(space.stats().live, codes.len(), "whatever is kept back, none of it is found");
    writer.reserve(&large).expect("there is room for two spans");
}

#[test]
fn functions_larger_than_a_chunk_are_found_everywhere_and_leave_their_chunk_to_others() {
    let space = space();
    let writer = space.writer();
    let chunks = space.stats().chunks;
    let size = 5 * CHUNK / 2;
    let code = place(&writer, &vec![0x90; size], 3);
    for offset in [0, 1, CHUNK, size - CHUNK, size - 1] {
        assert_eq!(space.lookup(code.address() + offset).map(|found| found.owner), Some(3));
    }
    assert_eq!(space.lookup(code.address() + size), None);
    assert_eq!(space.stats().chunks, chunks + 1);
    // SAFETY: nobody runs the code.
    unsafe { writer.free(code) }.expect("it is the space's");
    assert_eq!(space.stats().used_bytes, 0);
    let again = place(&writer, &vec![0x90; size - PAGE], 4);
    assert_eq!(space.stats().chunks, chunks + 1);
    assert_eq!(space.lookup(again.address()).map(|found| found.owner), Some(4));
}

#[test]
fn large_functions_start_at_different_lines_of_their_pages() {
    let space = space();
    let writer = space.writer();
    let codes: Vec<Code> = (0..32).map(|i| place(&writer, &vec![0x90; 18_000], i)).collect();
    let mut offsets: Vec<usize> = codes.iter().map(|code| code.address() % PAGE).collect();
    assert!(offsets.iter().all(|offset| offset.is_multiple_of(GRANULE)));
    offsets.sort_unstable();
    offsets.dedup();
    // Where a page's number leads depends on where the chunk stands; that 32 of them have so few of 39 lines happens once
    // in 10¹⁴ times.
    assert!(offsets.len() > 8, "{offsets:?}");
    // A whole page more would be touched otherwise.
    let full = place(&writer, &vec![0x90; 5 * PAGE - 16], 0);
    assert!(full.address().is_multiple_of(PAGE));
}

#[test]
fn lanes_do_not_share_chunks() {
    let space = space();
    let writer = space.writer();
    let mut chunks: Vec<usize> = Lane::ALL
        .map(|lane| {
            writer.reserve(&Layout { lane, ..Layout::new(64) }).expect("there is room").address() / CHUNK
        })
        .into();
    chunks.sort_unstable();
    chunks.dedup();
    assert_eq!(chunks.len(), 4);
}

/// Retires what it was given, and reclaims.
struct Evictor {
    codes: Mutex<Vec<Code>>,
    asked: AtomicUsize,
}

impl Pressure for Evictor {
    fn relieve(&self, space: &CodeSpace, bytes: usize) -> Relief {
        assert!(bytes >= 1000);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(code) = self.codes.lock().expect("no thread panicked").pop() else { return Relief::GiveUp };
        space.retire(code).expect("it is the space's");
        while space.reclaim(&mut |_| {}).expect("nothing fails").waiting > 0 {}
        Relief::TryAgain
    }
}

#[test]
fn a_full_space_asks_for_room_before_it_fails() {
    let evictor = Arc::new(Evictor { codes: Mutex::new(Vec::new()), asked: AtomicUsize::new(0) });
    let pressure: Arc<dyn Pressure> = evictor.clone();
    let options = Options { max_bytes: 2 * SPAN, pressure: Some(pressure), ..Options::default() };
    let space = CodeSpace::new(&options).expect("the system allows it");
    let writer = space.writer();
    for i in 0..1000 {
        let code = place(&writer, &[0x90; 1000], i);
        evictor.codes.lock().expect("no thread panicked").push(code);
    }
    assert!(evictor.asked.load(Ordering::Relaxed) >= 1000 - 128);
    evictor.codes.lock().expect("no thread panicked").clear();
    let error = writer.reserve(&Layout::new(3000)).expect_err("nobody makes room any more");
    assert!(matches!(error, Error::Full { limit: 0x2_0000, .. }), "{error}");
}

#[test]
fn an_allocation_reclaims_what_waits_and_the_next_reclaim_tells() {
    let options = Options { max_bytes: SPAN, ..Options::default() };
    let space = CodeSpace::new(&options).expect("the system allows it");
    let writer = space.writer();
    for i in 0..64 {
        writer.retire(place(&writer, &[0x90; 1000], i)).expect("it is the space's");
    }
    let code = place(&writer, &[0x90; 1000], 64);
    let mut owners = Vec::new();
    let reclaimed = writer.reclaim(&mut |found| owners.push(found.owner)).expect("nothing fails");
    owners.sort_unstable();
    assert_eq!((owners, reclaimed.freed), ((0..64).collect(), 64));
    assert_eq!(space.lookup(code.address()).map(|found| found.owner), Some(64));
}

#[test]
fn who_is_told_may_use_the_space_and_may_panic() {
    let space = space();
    let writer = space.writer();
    for i in 0..10 {
        writer.retire(place(&writer, &returns(i), i as usize)).expect("it is the space's");
    }
    let told = RefCell::new(Vec::new());
    let mut tell = |found: dagwood_codespace::Found| {
        told.borrow_mut().push(found.owner);
        // Both take the locks that reclaiming needs.
        writer.retire(place(&writer, &returns(1), 100 + found.owner)).expect("it is the space's");
        space.reclaim(&mut |_| {}).expect("nothing fails");
        assert!(told.borrow().len() != 5, "the fifth is too much");
    };
    writer.reclaim(&mut tell).expect("nothing is told yet");
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.reclaim(&mut tell)));
    assert!(panic.is_err());
    told.borrow_mut().extend(reclaim_all(&writer));
    let mut owners: Vec<usize> = told.take().into_iter().filter(|&owner| owner < 100).collect();
    owners.sort_unstable();
    assert_eq!(owners, (0..10).collect::<Vec<_>>());
    drop(writer);
    assert_eq!((space.stats().live, space.stats().used_bytes), (0, 0));
}

#[test]
fn threads_publish_and_retire_at_once() {
    let space = space();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let space = &space;
            scope.spawn(move || {
                let writer = space.writer();
                let mut live: Vec<(u32, Code)> = Vec::new();
                for i in 0..3000 {
                    let value = thread * 10_000 + i;
                    live.push((value, place(&writer, &returns(value), value as usize)));
                    if live.len() > 100 {
                        let (value, code) = live.swap_remove(i as usize * 7 % live.len());
                        assert_eq!(call(&code), value);
                        assert_eq!(
                            space.lookup(code.address()).map(|found| found.owner),
                            Some(value as usize)
                        );
                        writer.retire(code).expect("it is the space's");
                    }
                    if i % 200 == 0 {
                        writer.reclaim(&mut |_| {}).expect("nothing fails");
                    }
                }
                assert!(live.iter().all(|(value, code)| call(code) == *value));
                live.into_iter().for_each(|(_, code)| writer.retire(code).expect("it is the space's"));
            });
        }
    });
    let writer = space.writer();
    reclaim_all(&writer);
    drop(writer);
    let stats = space.stats();
    assert_eq!((stats.live, stats.waiting, stats.used_bytes), (0, 0, 0));
}

#[test]
fn a_space_waits_for_the_participants_of_its_own_domain_and_for_no_others() {
    let own: &'static Domain = Box::leak(Box::new(Domain::new()));
    let other: &'static Domain = Box::leak(Box::new(Domain::with_fences()));
    let space = CodeSpace::new(&Options { domain: own, ..Options::default() }).expect("there is memory");
    assert!(std::ptr::eq(space.domain(), own));
    let writer = space.writer();
    let (ours, others) = (own.join().expect("there is memory"), other.join().expect("there is memory"));
    let _running_elsewhere = others.enter();
    writer.retire(place(&writer, &[0xc3], 1)).expect("it is the space's");
    assert_eq!(reclaim_all(&writer), [1]);
    let running = ours.enter();
    writer.retire(place(&writer, &[0xc3], 2)).expect("it is the space's");
    for _ in 0..4 {
        assert_eq!(space.reclaim(&mut |_| ()).expect("there is a barrier").freed, 0);
    }
    drop(running);
    assert_eq!(reclaim_all(&writer), [2]);
}
