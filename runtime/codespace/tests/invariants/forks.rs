//! What a forked process sees: code that runs, no view that writes it, and errors instead of writing.

use std::fmt::Debug;
use std::ptr;
use std::sync::mpsc;

use dagwood_codespace::{
    CallSite, Code, CodeBuf, CodeSpace, CodeWriter, Domain, Error, Lane, Layout, Options, Patching,
};

use crate::world::{INT3, Mode, bytes_at, call, mappings, place, reclaim_all, returns, run, turn};

/// What the child found wrong, one after the other.
#[derive(Default)]
struct Findings(String);

impl Findings {
    fn expect(&mut self, is_true: bool, what: impl Debug) {
        if !is_true {
            self.0.push_str(&format!("{what:?}; "));
        }
    }

    /// That a call was refused because of the fork.
    fn expect_refused<T: Debug, E: Into<Error>>(&mut self, result: Result<T, E>, what: &str) {
        let result = result.map_err(Into::into);
        let is_refused = matches!(result, Err(Error::Forked));
        self.expect(is_refused, (what, &result));
    }
}

/// Runs `body` in a forked process and returns what it found, or how it ended.
fn in_child(body: impl FnOnce(&mut Findings)) -> String {
    let mut pipe = [0; 2];
    // SAFETY: the pointer is to two descriptors.
    assert_eq!(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the tests run one after the other, and others of this program wait for their turn meanwhile: they hold no lock
    // of the allocator or of the crate. The child returns to nothing of the parent's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let mut findings = Findings::default();
        body(&mut findings);
        // SAFETY: the pointer is to that many bytes; then the child ends without running anything else.
        unsafe {
            libc::write(pipe[1], findings.0.as_ptr().cast(), findings.0.len());
            libc::_exit(0);
        }
    }
    let mut text = vec![0; 4096];
    let mut status = 0;
    // SAFETY: the end for writing is closed, so that reading ends with the child; the pointers are to what the calls fill.
    let read = unsafe {
        libc::close(pipe[1]);
        let read = libc::read(pipe[0], text.as_mut_ptr().cast(), text.len());
        libc::close(pipe[0]);
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        read
    };
    text.truncate(usize::try_from(read).unwrap_or(0));
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if status != 0 {
        text.push_str(&format!("ended with status {status:#x}"));
    }
    text
}

/// What there is when the fork happens.
struct Scene<'w> {
    space: &'w CodeSpace,
    writer: &'w CodeWriter,
    live: Vec<Code>,
    retired: Code,
    freed: Code,
    /// What is being written: something small, something large.
    half: CodeBuf<'w>,
    large: CodeBuf<'w>,
    site: CallSite,
}

#[test]
fn a_forked_process_runs_code_and_can_write_none() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let put = |value: u32, len| place(&writer, &returns(value, len), Lane::Baseline, value as usize);
        let live: Vec<Code> = (0..20).map(|at| put(at, 90)).chain([put(20, 20_000)]).collect();
        let [retired, freed, waiting] = [50, 51, 52].map(|value| put(value, 90));
        let mut buffer = writer.reserve(&Layout::new(32)).expect("there is room");
        let site = buffer.call(0..12, live[0].address(), None, Patching::InPlace).expect("in reach");
        let caller = buffer.publish(0).expect("the system lets code be written");
        let half = writer.reserve(&Layout::new(100)).expect("there is room");
        let large = writer.reserve(&Layout::new(30_000)).expect("there is room");
        space.retire(waiting).expect("it is the space's");
        let scene = Scene { space: &space, writer: &writer, live, retired, freed, half, large, site };
        let before = snapshot(&scene);
        let found = in_child(|findings| act_in_child(findings, mode, &scene));
        assert_eq!(found, "", "{mode}");
        assert!(snapshot(&scene) == before, "{mode}: the child changed the parent's code");
        // The parent goes on as before.
        let Scene { live, retired, freed, mut half, large, .. } = scene;
        drop(large);
        assert!(half.bytes_mut().iter().all(|&byte| byte == INT3));
        drop(half.publish(0).expect("the system lets code be written"));
        for (at, code) in live.iter().enumerate() {
            assert_eq!(call(code.address()), at as u32, "{mode}");
        }
        assert_eq!(call(put(77, 90).address()), 77, "{mode}");
        writer.retire(retired).expect("it is the space's");
        // SAFETY: nobody runs it.
        unsafe { writer.free(freed) }.expect("it is the space's");
        assert_eq!(reclaim_all(&writer), 2, "{mode}: what waited, and what was retired");
        assert_eq!(caller.len(), 32);
    }
}

/// The bytes of all code.
fn snapshot(scene: &Scene<'_>) -> Vec<Vec<u8>> {
    let codes = scene.live.iter().chain([&scene.retired, &scene.freed]);
    codes.map(|code| bytes_at(run(code)).to_vec()).collect()
}

/// What the child tries.
fn act_in_child(findings: &mut Findings, mode: Mode, scene: &Scene<'_>) {
    let Scene { space, writer, live, .. } = scene;
    let views = mappings().into_iter().filter(|mapping| mapping.is_code_file && mapping.write).count();
    findings.expect(views == 0, ("write views", views));
    for (at, code) in live.iter().enumerate() {
        findings.expect(call(code.address()) == at as u32, ("a call", at));
        let found = space.lookup(code.address()).map(|found| found.owner);
        findings.expect(found == Some(at), ("a lookup", found));
    }
    for size in [50, 500, 5000, 50_000] {
        findings.expect_refused(writer.reserve(&Layout::new(size)), "reserve where it was written before");
        findings.expect_refused(space.writer().reserve(&Layout::new(size)), "reserve in a new writer");
    }
    // SAFETY: nobody runs the code.
    let patched = unsafe { space.patch_call(scene.site, live[1].address()) };
    // SAFETY: as above.
    let byte_patched = unsafe { space.patch_byte(live[2].address() + 10, 0x90) };
    findings.expect_refused(patched, "patch_call");
    findings.expect_refused(byte_patched, "patch_byte");
    findings.expect_refused(space.reclaim(&mut |_| {}), "reclaim");
    findings.expect_refused(writer.reclaim(&mut |_| {}), "reclaim of a writer");
    // SAFETY: this process has its own copies of these values, and ends without dropping them.
    let (retired, freed) =
        unsafe { (ptr::read(&raw const scene.retired), ptr::read(&raw const scene.freed)) };
    // SAFETY: as above; nobody runs it.
    findings.expect_refused(unsafe { space.free(freed) }, "free");
    // Retiring only takes note; nothing comes of it.
    let _ = space.retire(retired);
    findings.expect_refused(space.reclaim(&mut |_| {}), "reclaim after retiring");
    // SAFETY: as for the values above.
    let large = unsafe { ptr::read(&raw const scene.large) };
    findings.expect_refused(large.publish(0), "publish");
    // Dropping gives back what is this process's alone.
    // SAFETY: as for the values above.
    unsafe {
        drop(ptr::read(&raw const scene.half));
        drop(ptr::read(*writer));
        drop(ptr::read(*space));
    }
    let own = mode.space();
    let code = place(&own.writer(), &returns(5, 10), Lane::Baseline, 0);
    findings.expect(call(code.address()) == 5, "a space of the child's own");
}

/// Frees a function in a space of the process's own; says how many were freed.
fn freed_in_own_space(space: &CodeSpace) -> usize {
    let writer = space.writer();
    let code = place(&writer, &returns(1, 100), Lane::Baseline, 0);
    writer.retire(code).expect("it is the space's");
    let mut freed = 0;
    for _ in 0..4 {
        let _ = writer.reclaim(&mut |_| freed += 1);
    }
    freed
}

#[test]
fn in_a_forked_process_only_the_thread_that_forked_holds_code_up() {
    let _turn = turn();
    let (entered, has_entered) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    let running = std::thread::spawn(move || {
        let participants = [(), ()].map(|()| Domain::global().join().expect("there is memory"));
        let _running = participants[0].enter();
        let _parked = participants[1].enter();
        entered.send(()).expect("somebody waits");
        // SAFETY: the thread is in no code.
        unsafe { participants[1].park([5], || is_done.recv().is_err()) };
    });
    has_entered.recv().expect("the thread enters");
    let own = Domain::global().join().expect("there is memory");
    let session = own.enter();
    let parent = CodeSpace::new(&Options::default()).expect("allowed");
    assert_eq!(freed_in_own_space(&parent), 0, "two threads are running");
    let found = in_child(|findings| {
        let space = CodeSpace::new(&Options::default()).expect("allowed");
        findings.expect(freed_in_own_space(&space) == 0, "this thread is still running");
        drop(session);
        findings.expect(freed_in_own_space(&space) == 2, "the other one is not there");
        let again = own.enter();
        findings.expect(freed_in_own_space(&space) == 0, "it may enter again");
        drop(again);
    });
    assert_eq!(found, "");
    drop(done);
    running.join().expect("it ends");
    assert_eq!(freed_in_own_space(&parent), 2, "the parent goes on");
}
