//! Windows are run: calls return what their targets return, in every form, also while they are patched.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::*;

const LEN: usize = 128 << 10;
/// The bytes between two callers.
const STRIDE: usize = 128;
/// Where the callees stand, behind the callers.
const CALLEES: usize = 120 << 10;

/// Memory that is mapped twice: writable, and executable at an address that was wished for.
struct Twice {
    writable: *mut u8,
    executable: *mut u8,
}

impl Twice {
    fn new(wish: usize) -> Twice {
        let file =
            rustix::fs::memfd_create("windows", MemfdFlags::CLOEXEC).expect("the system has memory files");
        rustix::fs::ftruncate(&file, LEN as u64).expect("the file can grow");
        let map = |wish, access| {
            // SAFETY: a wish never replaces a mapping; the mapping is ours.
            unsafe { rustix::mm::mmap(wish, LEN, access, MapFlags::SHARED, &file, 0) }
                .expect("there is room")
                .cast()
        };
        Twice {
            writable: map(ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE),
            executable: map(ptr::without_provenance_mut::<c_void>(wish), ProtFlags::READ | ProtFlags::EXEC),
        }
    }

    fn address(&self, offset: usize) -> usize {
        self.executable.expose_provenance() + offset
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= LEN);
        // SAFETY: the range lies in the mapping, and no thread reads it while the tests set code up.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.writable.add(offset), bytes.len()) };
    }

    /// `mov eax, value; ret`.
    fn callee(&self, offset: usize, value: u32) -> usize {
        let [a, b, c, d] = value.to_le_bytes();
        self.write(offset, &[0xb8, a, b, c, d, 0xc3]);
        self.address(offset)
    }

    /// A function with the window at an offset: `sub rsp, 8; window; add rsp, 8; ret`.
    fn caller(&self, window: usize, bytes: &[u8]) {
        self.write(window - 4, &[0x48, 0x83, 0xec, 0x08]);
        self.write(window, bytes);
        self.write(window + bytes.len(), &[0x48, 0x83, 0xc4, 0x08, 0xc3]);
    }

    /// Runs the function at an offset, which this thread may have changed through the other view: processors promise to
    /// see that after an instruction that serializes.
    fn run_changed(&self, offset: usize) -> u32 {
        std::hint::black_box(std::arch::x86_64::__cpuid(0));
        self.run(offset)
    }

    /// Runs the function at an offset.
    fn run(&self, offset: usize) -> u32 {
        assert!(offset < LEN);
        // SAFETY: the tests wrote a function there that takes nothing, returns a number, keeps the stack as it was and
        // changes no register that a callee saves.
        let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(self.executable.add(offset)) };
        function()
    }

    fn patch(&self, patch: Patch) {
        let at = patch.address - self.address(0);
        assert!(at < LEN && at.is_multiple_of(4));
        // SAFETY: the word lies in the mapping and is aligned; Rust code accesses it as an atomic alone once code runs.
        unsafe { AtomicU32::from_ptr(self.writable.add(at).cast()) }.store(patch.value, Ordering::Release);
    }
}

impl Drop for Twice {
    fn drop(&mut self) {
        for view in [self.writable, self.executable] {
            // SAFETY: the mapping is ours and nothing refers to it any more.
            unsafe { rustix::mm::munmap(view.cast(), LEN) }.expect("it is mapped");
        }
    }
}

/// Code, and code that it does not reach. Other tests may have the addresses that are wished for, so several are tried.
fn near_and_far() -> (Twice, Twice) {
    let near = Twice::new(0x2000_0000_0000);
    let is_far = |far: &Twice| Reach::between(near.address(0), far.address(0)) == Reach::Far;
    let far = (0x30..0x60).map(|wish| Twice::new(wish << 40)).find(is_far);
    (near, far.expect("one of so many addresses is free"))
}

#[test]
fn calls_of_every_window_run_in_both_forms() {
    let (near, far) = near_and_far();
    let callees = [near.callee(CALLEES, 11), near.callee(CALLEES + 64, 22)];
    let far_callee = far.callee(CALLEES, 33);
    let slot = CALLEES + 128;
    near.write(slot, &far_callee.to_le_bytes());
    for (len, start, patching) in windows() {
        let window = STRIDE + start % STRIDE;
        let address = near.address(window);
        let mut bytes = vec![0; len];
        let mut write = |target| {
            let site = write_call(&mut bytes, address, target, Some(near.address(slot)), patching)
                .expect("it can be called");
            near.caller(window, &bytes);
            site
        };
        assert_eq!(write(far_callee).form(), CallForm::Slot);
        assert_eq!(near.run_changed(window - 4), 33);
        let site = write(callees[0]);
        assert_eq!(near.run_changed(window - 4), 11);
        if site.is_patchable() {
            near.patch(site.patch(callees[1]).expect("it is near"));
            assert_eq!(near.run_changed(window - 4), 22);
        }
    }
}

#[test]
fn stubs_and_loads_run() {
    let (near, far) = near_and_far();
    let target = far.callee(CALLEES, 44);
    let slot = near.address(CALLEES + 128);
    near.write(CALLEES + 128, &target.to_le_bytes());
    let window = STRIDE;
    near.write(CALLEES, &stub(near.address(CALLEES), slot).expect("the slot is near"));
    let mut bytes = [0; 8];
    write_call(&mut bytes, near.address(window), near.address(CALLEES), None, Patching::InPlace)
        .expect("it is near");
    near.caller(window, &bytes);
    assert_eq!(near.run_changed(window - 4), 44);
    // Now `rax` is loaded and called: the address itself, in each form.
    for (target, form) in [(target, LoadForm::Slot), (near.callee(CALLEES + 64, 55), LoadForm::Near)] {
        let mut bytes = [0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xff, 0xd0];
        assert_eq!(load_address(&mut bytes[..7], near.address(window), target, Some(slot)), Ok(form));
        near.caller(window, &bytes);
        assert_eq!(near.run_changed(window - 4), if form == LoadForm::Slot { 44 } else { 55 });
    }
    let mut bytes = [0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3];
    assert_eq!(load_address(&mut bytes[..7], near.address(window), 66, None), Ok(LoadForm::Immediate));
    near.write(window, &bytes);
    assert_eq!(near.run_changed(window), 66);
}

#[test]
fn a_call_that_runs_while_it_is_patched_goes_to_one_target_or_the_other() {
    const PATCHES: usize = 200_000;
    let near = Twice::new(0x2000_0000_0000);
    // One target stands before the call and one behind it, so that the displacements differ in several bytes.
    let callees = [near.callee(CALLEES, 1), near.callee(0x40, 2)];
    // The window lies across the end of a cache line, the operation code on the first one and the field on the next.
    let window = 0x1000 - 4;
    let mut bytes = [0; 8];
    let site = write_call(&mut bytes, near.address(window), callees[0], None, Patching::InPlace)
        .expect("it is near");
    near.caller(window, &bytes);
    assert_eq!(site.field() % 64, 0);
    let over = AtomicBool::new(false);
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        let stop = Stop(&over);
        let (shared, over, counts) = (Shared(&near), &over, &counts);
        let caller = scope.spawn(move || {
            let Shared(near) = { shared };
            while !over.load(Ordering::Relaxed) {
                let target = near.run(window - 4) as usize - 1;
                counts[target].fetch_add(1, Ordering::Relaxed);
            }
        });
        for patch in 1..=PATCHES {
            let target = patch % 2;
            near.patch(site.patch(callees[target]).expect("it is near"));
            // From time to time the new target must be seen, whatever the scheduler does.
            if patch % (PATCHES / 8) < 2 {
                let seen = counts[target].load(Ordering::Relaxed);
                while counts[target].load(Ordering::Relaxed) == seen && !caller.is_finished() {
                    thread::yield_now();
                }
            }
        }
        drop(stop);
        caller.join().expect("each call returned what a target returns");
    });
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) > 4), "{counts:?}");
}

/// Ends the calls, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Memory that several threads run.
struct Shared<'a>(&'a Twice);

// SAFETY: the mappings belong to no thread, and while threads share them they are run and patched atomically, no more.
unsafe impl Send for Shared<'_> {}
