//! The files for perf, read back here and, where it is installed, by perf.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dagwood_codespace::{
    Code, CodeSpace, Error, Layout, LineEntry, NAME_BYTES, Observed, Observers, Observing, Options,
    Protection,
};

use super::code::{BODY, CALL, Copies, LOOP};
use super::{Directory, arguments_of, is_installed, skip};

/// Where the child puts its jitdump; its perf map goes where perf looks for it if there is none.
const JITDUMP: &str = "SEEN_JITDUMP";
/// Some dozens of samples are taken meanwhile.
const ROUNDS: usize = 150_000_000;

fn map_in(directory: &Path) -> PathBuf {
    directory.join(format!("perf-{}.map", std::process::id()))
}

fn dump_in(directory: &Path) -> PathBuf {
    directory.join(format!("jit-{}.dump", std::process::id()))
}

fn observing_map(directory: &Directory) -> Observing {
    Observing { perf_map: Some(directory.0.clone()), ..Observing::default() }
}

fn observing_dump(directory: &Directory) -> Observing {
    Observing { jitdump: Some(directory.0.clone()), ..Observing::default() }
}

fn observed<'a>(address: usize, name: &'a str) -> Observed<'a> {
    Observed { address, bytes: &BODY, name, lines: &[] }
}

#[test]
fn a_perf_map_has_a_line_for_each_function_once_it_is_flushed() {
    let directory = Directory::new("map");
    let observers = Observers::new(&observing_map(&directory)).unwrap();
    observers.published(&observed(0x7f00_1234_5678, "a name with spaces"));
    observers.published(&observed(0x40, "two\nlines"));
    observers.published(&observed(0x80, &"é".repeat(NAME_BYTES)));
    observers.published(&Observed { bytes: &[], ..observed(0xc0, "of no bytes") });
    observers.published(&observed(usize::MAX, "past the end"));
    let map = map_in(&directory.0);
    assert_eq!(std::fs::read_to_string(&map).unwrap(), "");
    observers.flush().unwrap();
    let cut = "é".repeat(NAME_BYTES / 2);
    let expected = format!("7f0012345678 c a name with spaces\n40 c two?lines\n80 c {cut}\n");
    assert_eq!(std::fs::read_to_string(&map).unwrap(), expected);
    observers.freed(0x40);
    observers.flush().unwrap();
    assert_eq!(std::fs::read_to_string(&map).unwrap(), expected);
}

#[test]
fn full_buffers_and_dropping_flush_and_the_map_of_another_engine_stays() {
    let directory = Directory::new("full");
    let map = map_in(&directory.0);
    std::fs::write(&map, "1000 10 of another engine\n").unwrap();
    let observers = Observers::new(&observing_map(&directory)).unwrap();
    let count = 10_000;
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let observers = &observers;
            scope.spawn(move || {
                for index in 0..count / 2 {
                    let address = 0x10_0000 + (2 * index + thread) * 64;
                    observers.published(&observed(address, "with a name of a common length"));
                }
            });
        }
    });
    let before = std::fs::read_to_string(&map).unwrap();
    assert!(before.len() > 256 << 10, "{} bytes", before.len());
    drop(observers);
    let after = std::fs::read_to_string(&map).unwrap();
    let mut lines: Vec<&str> = after.lines().collect();
    assert_eq!(lines.remove(0), "1000 10 of another engine");
    lines.sort_unstable();
    let expected: Vec<_> = (0..count)
        .map(|index| format!("{:x} c with a name of a common length", 0x10_0000 + index * 64))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn files_are_this_users_alone_and_links_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("links");
    let (map, target) = (map_in(&directory.0), directory.0.join("target"));
    drop(Observers::new(&observing_map(&directory)).unwrap());
    assert_eq!(std::fs::metadata(&map).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = |why| {
        let error = Observers::new(&observing_map(&directory)).unwrap_err();
        assert!(matches!(error, Error::System { .. }), "{why}: {error}");
        std::fs::remove_file(&map).unwrap();
    };
    std::fs::rename(&map, &target).unwrap();
    std::os::unix::fs::symlink(&target, &map).unwrap();
    refused("a symbolic link");
    std::fs::hard_link(&target, &map).unwrap();
    refused("a second name of a file");
    rustix::fs::mknodat(rustix::fs::CWD, &map, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    refused("a pipe");
    assert_eq!(std::fs::read(&target).unwrap(), b"");
    let nowhere = Observing { perf_map: Some(directory.0.join("nowhere")), ..Observing::default() };
    let missing = rustix::io::Errno::NOENT.raw_os_error();
    assert!(matches!(Observers::new(&nowhere).unwrap_err(), Error::System { errno, .. } if errno == missing));
}

#[test]
fn the_first_error_of_writing_is_kept_and_nothing_is_written_after_it() {
    let directory = Directory::new("error");
    // Whatever is written behind this limit fails; the limit is the process's, so a child has it.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(arguments_of("perf::child_has_no_room"))
        .env(JITDUMP, &directory.0)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[test]
#[ignore = "is run by another"]
fn child_has_no_room() {
    let directory = PathBuf::from(std::env::var_os(JITDUMP).expect("the parent says"));
    let observers =
        Observers::new(&Observing { perf_map: Some(directory.clone()), ..Observing::default() }).unwrap();
    observers.published(&observed(0x40, "fits"));
    observers.flush().unwrap();
    let full = rustix::io::Errno::FBIG.raw_os_error();
    let len = std::fs::metadata(map_in(&directory)).unwrap().len();
    let limit = rustix::process::Rlimit { current: Some(len + 4), maximum: None };
    // The signal that comes with it is not wanted.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    observers.published(&observed(0x80, "does not fit"));
    for _ in 0..2 {
        let error = observers.flush().unwrap_err();
        assert!(matches!(error, Error::System { errno, .. } if errno == full), "{error}");
        observers.published(&observed(0xc0, "comes too late"));
    }
    drop(observers);
    assert_eq!(std::fs::metadata(map_in(&directory)).unwrap().len(), len + 4);
}

#[test]
fn a_forked_child_writes_nothing_to_its_parents_files() {
    let directory = Directory::new("fork");
    let observing = Observing { jitdump: Some(directory.0.clone()), ..observing_map(&directory) };
    let observers = Observers::new(&observing).unwrap();
    observers.published(&observed(0x40, "once"));
    // SAFETY: the child takes no lock that another thread may hold: only this thread knows these observers.
    let child = unsafe { libc::fork() };
    if child == 0 {
        observers.published(&observed(0x80, "of the child"));
        let flushed = observers.flush();
        drop(observers);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(flushed.is_err())) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above, with room for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    drop(observers);
    assert_eq!(std::fs::read_to_string(map_in(&directory.0)).unwrap(), "40 c once\n");
    let kinds: Vec<u32> =
        records(&std::fs::read(dump_in(&directory.0)).unwrap()).iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [LOAD, CLOSE]);
}

const LOAD: u32 = 0;
const DEBUG_INFO: u32 = 2;
const CLOSE: u32 = 3;

struct Record {
    kind: u32,
    time: u64,
    body: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The records of a jitdump, whose header is checked.
fn records(dump: &[u8]) -> Vec<Record> {
    let header: Vec<u32> = (0..6).map(|index| word(dump, 4 * index)).collect();
    assert_eq!(header, [0x4a69_5444, 1, 40, 62, 0, std::process::id()]);
    assert_eq!(long(dump, 32), 0, "no flags");
    let (mut at, mut records) = (40, Vec::new());
    while at < dump.len() {
        let len = word(dump, at + 4) as usize;
        let (kind, time, body) = (word(dump, at), long(dump, at + 8), dump[at + 16..at + len].to_vec());
        records.push(Record { kind, time, body });
        at += len;
    }
    assert!(records.is_sorted_by_key(|record| record.time));
    records
}

#[test]
fn a_jitdump_has_each_functions_bytes_and_before_them_its_lines() {
    let directory = Directory::new("dump");
    let observers = Observers::new(&observing_dump(&directory)).unwrap();
    let lines = [
        LineEntry { offset: 0, file: "one.il", line: 6 },
        LineEntry { offset: CALL, file: "two.il", line: 7 },
        LineEntry { offset: BODY.len() as u32, file: "two.il", line: 8 },
    ];
    observers.published(&observed(0x40, "plain"));
    observers.published(&Observed { lines: &lines, ..observed(0x1000, "with lines") });
    drop(observers);
    let records = records(&std::fs::read(dump_in(&directory.0)).unwrap());
    let kinds: Vec<u32> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [LOAD, DEBUG_INFO, LOAD, CLOSE]);
    for (record, address, number, name) in
        [(&records[0], 0x40, 0, "plain"), (&records[2], 0x1000, 1, "with lines")]
    {
        let body = &record.body;
        assert_eq!(word(body, 0), std::process::id());
        assert_eq!([8, 16, 24, 32].map(|at| long(body, at)), [address, address, BODY.len() as u64, number]);
        assert_eq!(body[40..], [name.as_bytes(), &[0], &BODY].concat());
    }
    let entry = |offset: u64, line: u32, file: &str| {
        [&(0x1000 + offset).to_le_bytes()[..], &line.to_le_bytes(), &[0; 4], file.as_bytes(), &[0]].concat()
    };
    let head = [0x1000_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
    assert_eq!(records[1].body, [head, entry(0, 6, "one.il"), entry(8, 7, "two.il")].concat());
    assert!(records[3].body.is_empty());
}

#[test]
fn a_space_shows_its_observers_the_bytes_of_what_is_described() {
    let directory = Directory::new("described");
    let observing = Observing { jitdump: Some(directory.0.clone()), ..observing_map(&directory) };
    let observers = Arc::new(Observers::new(&observing).unwrap());
    for protection in [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip] {
        let observers = Some(Arc::clone(&observers));
        let space = CodeSpace::new(&Options { protection, observers, ..Options::default() }).unwrap();
        let writer = space.writer();
        let mut buffer = writer.reserve(&Layout::new(BODY.len())).unwrap();
        buffer.bytes_mut().copy_from_slice(&BODY);
        let code = buffer.publish(0).expect("the system lets code be written");
        space.describe(&code, "described", &[]).unwrap();
        observers_see(&space, &directory, &code);
    }
}

fn observers_see(space: &CodeSpace, directory: &Directory, code: &Code) {
    space.observers().expect("it was made with some").flush().unwrap();
    let map = std::fs::read_to_string(map_in(&directory.0)).unwrap();
    assert_eq!(map.lines().last().unwrap(), format!("{:x} c described", code.address()));
    let records = records(&std::fs::read(dump_in(&directory.0)).unwrap());
    assert!(records.last().unwrap().body.ends_with(&BODY));
}

#[test]
fn a_jitdump_is_mapped_executable_but_never_writable_and_only_once() {
    let directory = Directory::new("mapped");
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let dump = dump_in(&directory.0).into_os_string().into_string().unwrap();
        let rights = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
        maps.lines().filter(|line| line.ends_with(&dump)).map(rights).collect::<Vec<_>>()
    };
    let observers = Observers::new(&observing_dump(&directory)).unwrap();
    assert_eq!(mapped(), ["r-xp"]);
    Observers::new(&observing_dump(&directory)).expect_err("it is being written");
    observers.published(&observed(0x40, "f"));
    observers.flush().unwrap();
    assert_eq!(mapped(), ["r-xp"]);
    drop(observers);
    assert_eq!(mapped(), [""; 0]);
    Observers::new(&observing_dump(&directory)).expect("nobody writes it any more");
}

#[test]
#[ignore = "is run under perf by the others"]
fn child_is_sampled() {
    let copies = Copies::new(&LOOP, 3, 4096);
    let jitdump = std::env::var_os(JITDUMP).map(PathBuf::from);
    let perf_map = jitdump.is_none().then(|| PathBuf::from(Observing::PERF_MAP_DIRECTORY));
    let observers = Observers::new(&Observing { perf_map, jitdump, ..Observing::default() }).unwrap();
    let lines = [LineEntry { offset: 0, file: "/source/of/loops.il", line: 3 }];
    for (index, lines) in [&[][..], &lines].into_iter().enumerate() {
        let (address, name) = (copies.address(index), &format!("jitted_loop_{index}"));
        observers.published(&Observed { address, bytes: copies.bytes(), name, lines });
    }
    observers.flush().unwrap();
    for index in 0..3 {
        copies.call(index, ROUNDS);
    }
    println!("\nprocess {}", std::process::id());
}

/// Runs perf in `directory`; none if it fails in a way that only says that it may not sample here.
fn perf(directory: &Directory, arguments: &[&str], jitdump: Option<&Path>) -> Option<String> {
    let mut command = Command::new("perf");
    command.current_dir(&directory.0).args(arguments).env("HOME", &directory.0);
    if let Some(jitdump) = jitdump {
        command.env(JITDUMP, jitdump);
    }
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && arguments[0] == "record" {
        skip(&format!("perf cannot sample here: {complaint}"));
        return None;
    }
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn record(directory: &Directory, jitdump: Option<&Path>) -> Option<String> {
    let exe = std::env::current_exe().unwrap();
    let mut arguments = vec!["record", "-k", "1", "-e", "cpu-clock", "-F", "999", "-o", "data", "--"];
    arguments.push(exe.to_str().unwrap());
    arguments.extend(arguments_of("perf::child_is_sampled"));
    perf(directory, &arguments, jitdump)
}

/// The names that samples were given.
fn symbols(directory: &Directory, data: &str) -> String {
    perf(directory, &["report", "-i", data, "--stdio", "--sort", "dso,symbol"], None).unwrap()
}

fn assert_named(report: &str) {
    for name in ["jitted_loop_0", "jitted_loop_1"] {
        assert!(report.contains(name), "no {name} in:\n{report}");
    }
    assert!(!report.contains("jitted_loop_2"), "{report}");
}

#[test]
fn perf_report_names_samples_by_the_perf_map() {
    if !is_installed("perf") {
        return;
    }
    let directory = Directory::new("report");
    let Some(text) = record(&directory, None) else { return };
    let process = text.lines().find_map(|line| line.strip_prefix("process ")).unwrap();
    let report = symbols(&directory, "data");
    std::fs::remove_file(format!("{}/perf-{process}.map", Observing::PERF_MAP_DIRECTORY)).unwrap();
    assert_named(&report);
}

#[test]
fn perf_inject_makes_images_of_the_jitdump() {
    if !is_installed("perf") {
        return;
    }
    let directory = Directory::new("inject");
    if record(&directory, Some(&directory.0)).is_none() {
        return;
    }
    perf(&directory, &["inject", "--jit", "-i", "data", "-o", "data.jit"], None).unwrap();
    let images = std::fs::read_dir(&directory.0)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "so"))
        .count();
    assert_eq!(images, 2, "one for each function");
    let report = symbols(&directory, "data.jit");
    assert_named(&report);
    assert!(report.contains(".so"), "{report}");
}
