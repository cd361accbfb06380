//! No mapping is writable and executable, whatever is done; and chunks cost few mappings and one registration.

use std::ffi::{c_char, c_void};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dagwood_codespace::{
    CodeSpace, Error, Gdb, HotEdge, Lane, Layout, LineEntry, Observers, Observing, Patching, Pressure,
    Protection, Relief, Seal, Unwind, reserve_near,
};

use crate::world::{
    self, CHUNK, Mapping, Mode, PAGE, assert_write_xor_execute as check, call, mappings, returns, turn,
};

/// How often the unwinder was told of code and how often that was taken back: in this program its functions are these,
/// which pass on what they are told.
static REGISTERED: AtomicUsize = AtomicUsize::new(0);
static DEREGISTERED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn dlsym(library: *const c_void, name: *const c_char) -> *const c_void;
}

fn pass_on(name: &std::ffi::CStr, section: *const u8) {
    /// `RTLD_NEXT`: in the libraries behind the one that asks.
    const NEXT: *const c_void = std::ptr::without_provenance(usize::MAX);
    // SAFETY: the name is a string of C.
    let function = unsafe { dlsym(NEXT, name.as_ptr()) };
    assert!(!function.is_null(), "the unwinder has {name:?}");
    // SAFETY: that is the type of both functions, and the argument is what their caller meant for them.
    unsafe { std::mem::transmute::<*const c_void, unsafe extern "C" fn(*const u8)>(function)(section) };
}

// SAFETY: it does what the unwinder's function of this name does, and counts.
#[unsafe(no_mangle)]
unsafe extern "C" fn __register_frame(section: *const u8) {
    REGISTERED.fetch_add(1, Ordering::Relaxed);
    pass_on(c"__register_frame", section);
}

// SAFETY: as above.
#[unsafe(no_mangle)]
unsafe extern "C" fn __deregister_frame(section: *const u8) {
    DEREGISTERED.fetch_add(1, Ordering::Relaxed);
    pass_on(c"__deregister_frame", section);
}

/// Looks at the memory map when it is asked for room.
struct Watching;

impl Pressure for Watching {
    fn relieve(&self, _: &CodeSpace, _: usize) -> Relief {
        check("pressure");
        Relief::GiveUp
    }
}

/// Directory for what observers write; gone at the end.
struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn directory(name: &str) -> Directory {
    let path = std::env::temp_dir().join(format!("dagwood-invariants-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("there is room for files");
    Directory(path)
}

#[test]
fn nothing_is_writable_and_executable_after_any_public_call() {
    let _turn = turn();
    let files = directory("maps");
    for mode in Mode::all() {
        for seal in [Seal::Off, Seal::IfPossible] {
            let observing = Observing {
                perf_map: Some(files.0.clone()),
                jitdump: Some(files.0.clone()),
                gdb: if cfg!(feature = "gdb") { Gdb::Registered } else { Gdb::Off },
            };
            let observers = Arc::new(Observers::new(&observing).expect("the files can be made"));
            check("observers");
            use_everything(mode, seal, observers);
            check("everything was dropped");
        }
    }
}

/// Calls each public function of a space that may change mappings, and some more.
fn use_everything(mode: Mode, seal: Seal, observers: Arc<Observers>) {
    let options = dagwood_codespace::Options {
        seal,
        observers: Some(Arc::clone(&observers)),
        max_bytes: 8 << 20,
        pressure: Some(Arc::new(Watching)),
        ..mode.options()
    };
    let space = CodeSpace::new(&options).expect("the system allows the mode");
    check("new");
    assert_eq!(space.report().protection, mode.protection);
    check("report");
    if seal == Seal::IfPossible && space.report().is_sealed {
        assert_sealed(&space);
    }
    let writer = space.writer();
    check("writer");
    // Of every kind of room, and in each lane.
    let mut codes = Vec::new();
    for (at, size) in [8, 100, 3000, 16_000, 17_000, 90_000, 1 << 20].into_iter().enumerate() {
        let hot = [HotEdge { start: 2, end: 6, frequency: 10 }];
        let layout = Layout { size, align: 16, lane: Lane::ALL[at % 4], hot: &hot };
        let mut buffer = writer.reserve(&layout).expect("there is room");
        check("reserve");
        buffer.bytes_mut().copy_from_slice(&returns(at as u32, size));
        check("bytes_mut");
        let code = buffer.publish(at).expect("the system lets code be written");
        check("publish");
        assert_eq!(call(code.address()), at as u32);
        check("a call");
        assert_eq!(space.lookup(code.address()).map(|found| found.owner), Some(at));
        check("lookup");
        let lines = [LineEntry { offset: 0, file: "source", line: 1 }];
        space.describe(&code, "function", &lines).expect("there is memory");
        check("describe");
        observers.flush().expect("the files can be written");
        check("flush");
        codes.push(code);
    }
    drop(writer.reserve(&Layout::new(200)).expect("there is room"));
    drop(writer.reserve(&Layout::new(50_000)).expect("there is room"));
    check("a buffer was dropped");
    let first = writer.reserve(&Layout::new(200)).expect("there is room");
    let second = writer.reserve(&Layout::new(200)).expect("there is room");
    check("two buffers");
    codes.push(second.publish(100).expect("the system lets code be written"));
    check("the second of two was published");
    drop(first);
    check("the first of two was dropped");
    call_and_patch(mode, &space, codes[0].address());
    let full = writer.reserve(&Layout::new(9 << 20)).expect_err("that is more than the limit");
    assert!(matches!(full, Error::Full { .. }), "{full:?}");
    check("a failure for want of room");
    retire_in_all_ways(&space, codes);
    writer.rest();
    check("rest");
    drop(writer);
    check("the writer was dropped");
    assert_eq!((space.stats().live, space.stats().used_bytes), (0, 0), "{mode}");
    check("stats");
    let other = space.clone();
    drop(space);
    check("a handle was dropped");
    drop(other);
}

/// Writes calls in both forms and patches what can be patched.
fn call_and_patch(mode: Mode, space: &CodeSpace, target: usize) {
    let writer = space.writer();
    let slot = space.slot(target).expect("there is room for slots");
    check("slot");
    let far = target ^ 1 << 46;
    let mut buffer = writer.reserve(&Layout::new(64)).expect("there is room");
    let near = buffer.call(0..8, target, None, Patching::InPlace).expect("it is in reach");
    check("a direct call");
    buffer.call(8..16, far, Some(&slot), Patching::Never).expect("the slot is in reach");
    check("a call through a slot");
    let code = buffer.publish(0).expect("the system lets code be written");
    // SAFETY: nobody runs the code.
    let patched = unsafe { space.patch_call(near, target + 16) };
    assert_eq!(patched.is_ok(), mode.patches_calls(), "{mode}: {patched:?}");
    check("patch_call");
    // SAFETY: nobody runs the code.
    let patched = unsafe { space.patch_byte(code.address() + 20, 0x90) };
    assert_eq!(patched.is_ok(), mode.patches_bytes(), "{mode}: {patched:?}");
    check("patch_byte");
    slot.set(far);
    check("set");
    // SAFETY: nobody runs the code.
    unsafe { writer.free(code) }.expect("it is the space's");
    check("free");
    drop(slot);
    check("the slot was dropped");
}

/// Gives code back through the writer that wrote it, another one and the space; at once and after its grace.
fn retire_in_all_ways(space: &CodeSpace, codes: Vec<dagwood_codespace::Code>) {
    let other = space.writer();
    for (at, code) in codes.into_iter().enumerate() {
        match at % 3 {
            0 => space.retire(code).expect("it is the space's"),
            1 => other.retire(code).expect("it is the space's"),
            // SAFETY: nobody runs it.
            _ => assert!(unsafe { space.free(code) }.is_ok()),
        }
        check("retire or free");
    }
    for _ in 0..2 {
        other.reclaim(&mut |_| check("reclaim tells of code")).expect("nothing fails");
        check("reclaim");
        space.reclaim(&mut |_| check("reclaim tells of code")).expect("nothing fails");
        check("reclaim");
    }
    // Somebody's mistake must not leave pages open either.
    other.retire(world::place(&other, &returns(1, 100), Lane::Cold, 0)).expect("it is the space's");
    let panics = || {
        for _ in 0..2 {
            let _ = other.reclaim(&mut |_| std::panic::resume_unwind(Box::new(())));
        }
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    check("a panic");
    world::reclaim_all(&other);
    check("reclaim");
}

/// Nobody can make sealed code writable.
fn assert_sealed(space: &CodeSpace) {
    for mapping in world::executable(space) {
        let start = std::ptr::with_exposed_provenance_mut(mapping.range.start);
        // SAFETY: it is refused, which is what is asserted; nothing runs there.
        let result = unsafe { libc::mprotect(start, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(result, -1, "{mapping} can be made writable");
    }
}

#[test]
fn addresses_that_are_reserved_cannot_be_used() {
    let _turn = turn();
    let place = reserve_near(turn as *const () as usize, CHUNK).expect("there are addresses");
    let range = place.base()..place.base() + place.len();
    let touching = |mapping: &Mapping| mapping.range.start < range.end && range.start < mapping.range.end;
    for mapping in mappings().into_iter().filter(touching) {
        assert!(!mapping.read && !mapping.write && !mapping.execute, "{mapping}");
    }
}

/// How many mappings there are of memory for code, and of these addresses.
fn count(reserved: Option<Range<usize>>) -> usize {
    let inside = |mapping: &Mapping| {
        reserved
            .as_ref()
            .is_some_and(|range| mapping.range.start < range.end && range.start < mapping.range.end)
    };
    mappings().iter().filter(|mapping| mapping.is_code_file || inside(mapping)).count()
}

#[test]
fn a_chunk_costs_at_most_six_mappings_and_one_registration() {
    let _turn = turn();
    for mode in Mode::all().filter(|mode| mode.protection != Protection::Flip) {
        for seal in [Seal::Off, Seal::IfPossible] {
            let (before, registered) = (count(None), REGISTERED.load(Ordering::Relaxed));
            let gone = DEREGISTERED.load(Ordering::Relaxed);
            let space =
                CodeSpace::new(&dagwood_codespace::Options { seal, ..mode.options() }).expect("allowed");
            let writer = space.writer();
            let mut random = world::Random::new(8);
            let mut codes = Vec::new();
            while space.stats().chunks < 12 {
                for _ in 0..20 {
                    let size = random.size() + 8000 * random.below(2);
                    codes.push(world::place(&writer, &returns(1, size), random.lane(), 0));
                }
                // What is freed in between must not tear mappings apart either.
                (0..4).for_each(|_| {
                    writer.retire(codes.swap_remove(random.below(codes.len()))).expect("it is the space's");
                });
                writer.reclaim(&mut |_| {}).expect("nothing fails");
            }
            let chunks = space.stats().chunks;
            let reserved = space.report().reserved.map(|(range, _)| range);
            let maps = count(reserved.clone()) - before;
            assert!(maps <= 6 * chunks, "{mode}: {maps} mappings of {chunks} chunks");
            let records = REGISTERED.load(Ordering::Relaxed) - registered;
            assert_eq!(records, chunks, "{mode}: one record for each chunk");
            drop((writer, space));
            assert_eq!(DEREGISTERED.load(Ordering::Relaxed) - gone, records, "{mode}: all are taken back");
            assert!(seal != Seal::Off || count(reserved) <= before, "{mode}: mappings stay");
        }
    }
}

#[test]
fn a_space_whose_owner_wants_no_records_registers_none() {
    let _turn = turn();
    let registered = REGISTERED.load(Ordering::Relaxed);
    let options = dagwood_codespace::Options { unwind: Unwind::None, ..Mode::first().options() };
    let space = CodeSpace::new(&options).expect("allowed");
    let _ = world::place(&space.writer(), &returns(1, 100), Lane::Cold, 0);
    assert_eq!(REGISTERED.load(Ordering::Relaxed), registered);
}
