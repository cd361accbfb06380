//! Each place in which the code space asks for memory is made to get none: the call returns an error, nothing panics or
//! leaks, and the space can be used afterwards.
//!
//! The program's allocator refuses the n-th request of a thread, or this one and all later ones; a test walks n up until
//! nothing is refused any more.

use std::alloc::{GlobalAlloc, Layout as Room, System};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use dagwood_codespace::{
    Code, CodeSpace, CodeWriter, Error, Fallback, Gdb, Lane, Layout, LineEntry, Observers, Observing,
    Options, Packing, Patching, Placement, Protection, Refused,
};

/// The system's allocator, which can be told to refuse.
struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// How many requests are granted before one is refused.
#[derive(Clone, Copy)]
enum Plan {
    Grant,
    RefuseOne(usize),
    RefuseFrom(usize),
}

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::Grant) };
    static REFUSED: Cell<usize> = const { Cell::new(0) };
    /// The bytes that this thread has and has not given back.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Whether the next request is granted.
fn is_granted() -> bool {
    let (plan, is_granted) = match PLAN.get() {
        Plan::Grant => (Plan::Grant, true),
        Plan::RefuseOne(0) => (Plan::Grant, false),
        Plan::RefuseOne(n) => (Plan::RefuseOne(n - 1), true),
        Plan::RefuseFrom(0) => (Plan::RefuseFrom(0), false),
        Plan::RefuseFrom(n) => (Plan::RefuseFrom(n - 1), true),
    };
    PLAN.set(plan);
    REFUSED.set(REFUSED.get() + usize::from(!is_granted));
    is_granted
}

// SAFETY: it is the system's allocator, or there is no memory.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, room: Room) -> *mut u8 {
        if !is_granted() {
            return std::ptr::null_mut();
        }
        LIVE.set(LIVE.get() + room.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(room) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, room: Room) {
        LIVE.set(LIVE.get() - room.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, room) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, room: Room, size: usize) -> *mut u8 {
        if !is_granted() {
            return std::ptr::null_mut();
        }
        LIVE.set(LIVE.get() + size as isize - room.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, room, size) }
    }
}

/// Runs `body` with a plan, and says how many requests were refused.
fn under<R>(plan: Plan, body: impl FnOnce() -> R) -> (R, usize) {
    REFUSED.set(0);
    PLAN.set(plan);
    let result = body();
    PLAN.set(Plan::Grant);
    (result, REFUSED.get())
}

/// Runs `body` with each request refused in turn, alone and with all that follow, until all are granted. What it
/// leaves allocated must not grow. Returns how many requests there were.
fn walk(what: &str, mut body: impl FnMut(Plan)) -> usize {
    // What is made once and stays.
    body(Plan::Grant);
    let mut steps = 0;
    for n in 0.. {
        let mut refused = 0;
        for plan in [Plan::RefuseOne(n), Plan::RefuseFrom(n)] {
            let mut leaks = || {
                let (live, maps) = (LIVE.get(), mappings());
                body(plan);
                assert_eq!(LIVE.get(), live, "{what}: bytes leak when request {n} is refused");
                mappings() > maps
            };
            // A thread of another test may just begin, or end; what leaks does so each time.
            assert!(!(leaks() && leaks() && leaks()), "{what}: mappings leak when request {n} is refused");
            refused += REFUSED.get();
        }
        if refused == 0 {
            steps = n;
            break;
        }
        assert!(n < 2000, "{what} ends");
    }
    steps
}

/// How many mappings of code, or reserved for code, the process has.
fn mappings() -> usize {
    let text = std::fs::read_to_string("/proc/self/maps").expect("a process can read its memory map");
    text.lines().filter(|line| line.contains("dagwood-code") || line.contains("---p")).count()
}

/// One after the other, since they count the mappings of the process.
fn turn() -> impl Drop {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const MODES: [(Protection, Packing); 5] = [
    (Protection::Dual, Packing::Granules),
    (Protection::Dual, Packing::Pages),
    (Protection::Session, Packing::Granules),
    (Protection::NoAlias, Packing::Granules),
    (Protection::Flip, Packing::Pages),
];

fn options(protection: Protection, packing: Packing) -> Options {
    Options { protection, packing, fallback: Fallback::Refused, reserve_bytes: 8 << 20, ..Options::default() }
}

/// `mov eax, 42; ret`
const ANSWER: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

/// Asserts that code can be written, run and given back.
fn assert_usable(space: &CodeSpace) {
    let writer = space.writer();
    let mut buffer = writer.reserve(&Layout::new(ANSWER.len())).expect("there is memory again");
    buffer.bytes_mut().copy_from_slice(&ANSWER);
    let code = buffer.publish(0).expect("the system lets code be written");
    // SAFETY: those bytes are a function of this type, and the space is alive.
    let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(code.address()) };
    assert_eq!(function(), 42);
    // SAFETY: nobody runs it any more.
    unsafe { writer.free(code) }.expect("it is the space's");
}

/// Everything is in order but for memory.
fn expect_memory<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Memory) => None,
        Err(error) => panic!("{error:?} is not about memory"),
    }
}

#[test]
fn a_space_is_made_or_there_is_no_memory_for_it() {
    let _turn = turn();
    for (protection, packing) in MODES {
        for placement in [Placement::default(), Placement::Anywhere] {
            let options = Options { placement, ..options(protection, packing) };
            let requests = walk("making a space", |plan| {
                let (space, refused) = under(plan, || expect_memory(CodeSpace::new(&options)));
                assert!(space.is_some() || refused > 0);
                if let Some(space) = space {
                    assert_usable(&space);
                }
            });
            assert!(requests >= 5, "{protection:?} {placement:?}: {requests} requests");
        }
    }
}

/// Gives code back in one of the ways that there are; where there is no memory for that, in the one that needs none.
fn give_back(writer: &CodeWriter, code: Code, way: usize) {
    let result = match way % 3 {
        0 => writer.retire(code),
        1 => writer.space().retire(code),
        // SAFETY: nobody runs it.
        _ => unsafe { writer.free(code) }.map(drop),
    };
    if let Err(Refused { code, error }) = result {
        assert_eq!(error, Error::Memory);
        // SAFETY: as above.
        unsafe { writer.free(code) }.expect("freeing at once needs no memory");
    }
}

/// Uses all of a space. What finds no memory is skipped; what was made is given back.
fn use_all(writer: &CodeWriter, other: &CodeWriter) {
    let space = writer.space();
    let mut slots = [const { None }; 3];
    for slot in &mut slots {
        *slot = expect_memory(space.slot(7));
    }
    let sizes = [100, 3000, 16_000, 16_000, 16_000, 16_000, 20_000, 300_000, 100, 3 << 20, 900_000, 16_000];
    let mut codes = [const { None }; 14];
    for (at, place) in codes.iter_mut().enumerate() {
        let layout = Layout { lane: Lane::ALL[at % 2], ..Layout::new(sizes[at % sizes.len()]) };
        let writer = if at % 5 == 0 { other } else { writer };
        let Some(mut buffer) = expect_memory(writer.reserve(&layout)) else { continue };
        let target = buffer.address();
        buffer.call(0..8, target, None, Patching::InPlace).expect("it is in reach of itself");
        if at % 7 == 0 {
            continue;
        }
        let code = buffer.publish(at).expect("the system lets code be written");
        expect_memory(space.describe(&code, "name", &[LineEntry { offset: 0, file: "f", line: 1 }]));
        *place = Some(code);
    }
    if let Some(participant) = expect_memory(space.domain().join()) {
        let running = participant.enter();
        // SAFETY: the thread runs nothing; it names more than is needed.
        unsafe {
            participant.checkpoint([1, 2, 3]);
            participant.park([4, 5, 6, 7, 8], || expect_memory(space.reclaim(&mut |_| {})));
        }
        drop(running);
    }
    for (way, code) in codes.into_iter().enumerate() {
        if let Some(code) = code {
            assert_eq!(space.lookup(code.address()).map(|found| found.owner), Some(way), "it is still there");
            give_back(if way % 2 == 0 { writer } else { other }, code, way);
        }
        if way % 6 == 0 {
            expect_memory(writer.reclaim(&mut |_| {}));
        }
    }
    assert!(space.stats().chunks > 0 && space.report().tries > 0);
    expect_memory(other.reclaim(&mut |_| {}));
    writer.rest();
}

#[test]
fn a_space_goes_on_after_there_was_no_memory_for_something() {
    let _turn = turn();
    for (protection, packing) in MODES {
        let requests = walk("using a space", |plan| {
            // A new space each time, since what one needs once it keeps.
            let space = CodeSpace::new(&options(protection, packing)).expect("there is memory");
            let (writer, other) = (space.writer(), space.writer());
            under(plan, || use_all(&writer, &other));
            assert_usable(&space);
            drop((writer, other));
            for _ in 0..3 {
                space.reclaim(&mut |_| {}).expect("there is memory again");
            }
            let stats = space.stats();
            assert_eq!((stats.live, stats.waiting), (0, 0), "{protection:?}: all was given back");
            assert_eq!((stats.used_bytes, stats.slots), (0, 0), "{protection:?}: {stats:?}");
        });
        assert!(requests > 20, "{protection:?}: {requests} requests");
    }
}

#[test]
fn a_writer_that_goes_leaves_what_it_retired_whatever_memory_there_is() {
    let _turn = turn();
    for (protection, packing) in MODES {
        let requests = walk("dropping a writer", |plan| {
            let space = CodeSpace::new(&options(protection, packing)).expect("there is memory");
            let (writer, other) = (space.writer(), space.writer());
            // So many that a list of the space's would have to grow for them.
            let publish = |at| {
                let buffer = other.reserve(&Layout::new(10)).expect("there is memory");
                buffer.publish(at).expect("the system lets code be written")
            };
            let codes: Vec<Code> = (0..100).map(publish).collect();
            let mut kept = Vec::with_capacity(codes.len());
            let (waiting, _) = under(plan, || {
                for code in codes {
                    kept.extend(writer.retire(code).err().map(|refused| refused.code));
                }
                drop(writer);
                space.stats().waiting
            });
            assert_eq!(waiting + kept.len(), 100, "{protection:?}");
            kept.into_iter().for_each(|code| space.retire(code).expect("there is memory again"));
            let mut freed = 0;
            (0..3).for_each(|_| freed += space.reclaim(&mut |_| {}).expect("there is memory again").freed);
            assert_eq!(freed, 100, "{protection:?}: nothing is lost");
        });
        assert_eq!(requests, 2, "{protection:?}: a batch, and a place for it");
    }
}

#[test]
fn what_is_ready_and_cannot_be_told_waits_on_whatever_memory_there_is() {
    let _turn = turn();
    let (protection, packing) = MODES[0];
    let requests = walk("reclaiming under pressure", |plan| {
        let space = CodeSpace::new(&options(protection, packing)).expect("there is memory");
        let writer = space.writer();
        for at in 0..50 {
            let buffer = writer.reserve(&Layout::new(10)).expect("there is memory");
            let code = buffer.publish(at).expect("the system lets code be written");
            space.retire(code).expect("there is memory");
        }
        let mut freed = Vec::with_capacity(50);
        let mut pass = || {
            // More than the space may have, so that all is freed for it, and told later.
            let huge = writer.reserve(&Layout::new(1 << 30)).map(drop);
            assert!(matches!(huge, Err(Error::Full { .. } | Error::Memory)), "{huge:?}");
            expect_memory(space.reclaim(&mut |found| freed.push(found.owner)))
        };
        under(plan, &mut pass);
        for _ in 0..3 {
            pass().expect("there is memory again");
        }
        freed.sort_unstable();
        assert!(freed.iter().copied().eq(0..50), "each once: {freed:?}");
    });
    assert!(requests > 3, "{requests} requests");
}

#[test]
fn observers_are_made_or_there_is_no_memory_for_them() {
    let _turn = turn();
    // Longer than what a library keeps on the stack for paths.
    let directory = std::env::temp_dir().join(format!("dagwood-{}-{}", std::process::id(), "d".repeat(220)));
    let directory = directory.join("e".repeat(100));
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    let observing = Observing {
        perf_map: Some(directory.clone()),
        jitdump: Some(directory.clone()),
        gdb: if cfg!(feature = "gdb") { Gdb::Registered } else { Gdb::Off },
    };
    let requests = walk("making observers", |plan| {
        let (observers, refused) = under(plan, || expect_memory(Observers::new(&observing)));
        assert!(observers.is_some() || refused > 0);
    });
    assert!(requests >= 3, "{requests} requests");
    std::fs::remove_dir_all(directory.parent().expect("it was made in another")).expect("it can be removed");
}

#[cfg(feature = "gdb")]
#[test]
fn observers_take_nothing_more_once_there_was_no_memory_and_say_so() {
    let _turn = turn();
    let observing = Observing { gdb: Gdb::Registered, ..Observing::default() };
    let requests = walk("observing", |plan| {
        let observers = std::sync::Arc::new(Observers::new(&observing).expect("there is memory"));
        let options = Options {
            observers: Some(std::sync::Arc::clone(&observers)),
            ..options(Protection::Dual, Packing::Granules)
        };
        let space = CodeSpace::new(&options).expect("there is memory");
        let (writer, other) = (space.writer(), space.writer());
        under(plan, || {
            use_all(&writer, &other);
            expect_memory(observers.flush());
        });
        assert_usable(&space);
    });
    assert!(requests > 20, "{requests} requests");
}
