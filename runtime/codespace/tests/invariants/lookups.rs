//! Lookups in signal handlers, while code is published, retired and reclaimed.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

use dagwood_codespace::{Code, CodeSpace, CodeWriter, Found};

use crate::world::{self, Mode, PAGE, Random, returns, turn};

/// How many functions live throughout, and how many each writer replaces.
const LASTING: usize = 64;
const CHANGING: usize = 32;
const WRITERS: usize = 2;

/// A function as the handler may know it. The number of the version is odd while it is live, and changes before anything
/// else does.
struct Known {
    version: AtomicUsize,
    address: AtomicUsize,
    len: AtomicUsize,
}

impl Known {
    #[expect(clippy::declare_interior_mutable_const, reason = "it is what arrays are made of")]
    const NONE: Known =
        Known { version: AtomicUsize::new(0), address: AtomicUsize::new(0), len: AtomicUsize::new(0) };

    fn set(&self, code: Option<&Code>) {
        let version = self.version.load(Ordering::Relaxed);
        assert_eq!(version & 1 == 1, code.is_none(), "a version ends before the next one begins");
        if let Some(code) = code {
            self.address.store(code.address(), Ordering::Relaxed);
            self.len.store(code.len(), Ordering::Relaxed);
        }
        self.version.store(version + 1, Ordering::SeqCst);
    }
}

/// What the handler reads and counts. Everything is an atomic: a handler may use nothing else.
static SPACE: AtomicPtr<CodeSpace> = AtomicPtr::new(ptr::null_mut());
static KNOWN: [Known; LASTING + WRITERS * CHANGING] = [Known::NONE; LASTING + WRITERS * CHANGING];
static SEED: AtomicU64 = AtomicU64::new(1);
static EXACT: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);
static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// The owner under which code is published: from what a lookup says of it one sees whether that stands together.
fn owner_of(address: usize, len: usize) -> usize {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ len
}

fn is_sound(found: &Found, pc: usize) -> bool {
    (found.address..found.address + found.len).contains(&pc)
        && found.owner == owner_of(found.address, found.len)
}

/// Looks up some addresses of live code, for which the answer is known, and some others.
extern "C" fn handler(_: libc::c_int) {
    // SAFETY: the space lives while the timers run.
    let Some(space) = (unsafe { SPACE.load(Ordering::Acquire).as_ref() }) else { return };
    SIGNALS.fetch_add(1, Ordering::Relaxed);
    let mut random = Random::new(SEED.fetch_add(1, Ordering::Relaxed));
    for _ in 0..12 {
        let known = &KNOWN[random.below(KNOWN.len())];
        let version = known.version.load(Ordering::SeqCst);
        let (address, len) = (known.address.load(Ordering::Relaxed), known.len.load(Ordering::Relaxed));
        if version & 1 == 0 {
            continue;
        }
        let found = space.lookup(address + random.below(len));
        let behind = space.lookup(address + len);
        fence(Ordering::Acquire);
        if known.version.load(Ordering::SeqCst) != version {
            continue;
        }
        let owner = owner_of(address, len);
        let is_exact =
            found == Some(Found { address, len, owner }) && behind.is_none_or(|next| next.address > address);
        (if is_exact { &EXACT } else { &WRONG }).fetch_add(1, Ordering::Relaxed);
        let pc = address.wrapping_add(random.below(64 * PAGE)).wrapping_sub(32 * PAGE);
        if space.lookup(pc).is_some_and(|found| !is_sound(&found, pc)) {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Signals to the thread that makes it, for as long as it lives.
struct Timer(libc::timer_t);

impl Timer {
    fn start(nanoseconds: i64) -> Timer {
        // SAFETY: all zeros is an action and an event with nothing set.
        let (mut action, mut event): (libc::sigaction, libc::sigevent) = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler does only what handlers may do.
        assert_eq!(unsafe { libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut()) }, 0);
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        // SAFETY: it has no arguments.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are to what the call takes.
        let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        let interval = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
        let interval = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: as above.
        let set = unsafe { libc::timer_settime(timer, 0, &raw const interval, ptr::null_mut()) };
        assert_eq!(set, 0);
        Timer(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was made and is not used any more.
        unsafe { libc::timer_delete(self.0) };
    }
}

fn publish(writer: &CodeWriter, random: &mut Random) -> Code {
    let size = random.size();
    let layout = dagwood_codespace::Layout { lane: random.lane(), ..dagwood_codespace::Layout::new(size) };
    let mut buffer = writer.reserve(&layout).expect("there is room");
    buffer.bytes_mut().copy_from_slice(&returns(1, size));
    let owner = owner_of(buffer.address(), size);
    buffer.publish(owner).expect("the system lets code be written")
}

/// Replaces functions, one after the other, while signals come; some are freed at once.
fn replace(space: &CodeSpace, number: usize, has_enough: &AtomicBool) {
    let writer = space.writer();
    let mut random = Random::new(number as u64 + 70);
    let known = &KNOWN[LASTING + number * CHANGING..][..CHANGING];
    let mut codes: [Option<Code>; CHANGING] = [const { None }; CHANGING];
    let timer = Timer::start(60_000);
    for step in 0.. {
        let at = random.below(CHANGING);
        if let Some(code) = codes[at].take() {
            known[at].set(None);
            match step % 3 {
                0 => writer.retire(code).expect("it is the space's"),
                1 => space.retire(code).expect("it is the space's"),
                // SAFETY: nobody runs it, and what the handlers are just looking up they throw away.
                _ => assert!(unsafe { writer.free(code) }.is_ok()),
            }
        }
        let code = publish(&writer, &mut random);
        known[at].set(Some(&code));
        codes[at] = Some(code);
        if step % 16 == 0 {
            writer.reclaim(&mut |_| {}).expect("nothing fails");
            if has_enough.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    drop(timer);
    known.iter().for_each(|known| {
        if known.version.load(Ordering::Relaxed) & 1 == 1 {
            known.set(None)
        }
    });
}

#[test]
fn lookups_in_signal_handlers_are_exact_about_live_code_while_other_code_changes() {
    const ENOUGH: usize = 12_000;
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let mut random = Random::new(7);
        let lasting: Vec<Code> = (0..LASTING).map(|_| publish(&writer, &mut random)).collect();
        KNOWN.iter().zip(&lasting).for_each(|(known, code)| known.set(Some(code)));
        SPACE.store((&raw const space).cast_mut(), Ordering::Release);
        EXACT.store(0, Ordering::Relaxed);
        let has_enough = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let has_enough = &has_enough;
            let writers = [0, 1].map(|number| {
                let space = &space;
                scope.spawn(move || replace(space, number, has_enough))
            });
            while EXACT.load(Ordering::Relaxed) < ENOUGH && writers.iter().any(|writer| !writer.is_finished())
            {
                std::thread::yield_now();
            }
            has_enough.store(true, Ordering::Relaxed);
        });
        SPACE.store(ptr::null_mut(), Ordering::Release);
        KNOWN[..LASTING].iter().for_each(|known| known.set(None));
        let (exact, wrong) = (EXACT.load(Ordering::Relaxed), WRONG.load(Ordering::Relaxed));
        assert_eq!(wrong, 0, "{mode}: {exact} answers were right");
        assert!(exact >= ENOUGH, "{mode}: {exact}");
    }
    assert!(SIGNALS.load(Ordering::Relaxed) > 0);
    world::assert_write_xor_execute("all that");
}
