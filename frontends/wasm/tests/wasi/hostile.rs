//! Arguments nobody sane would pass: every function answers, none panics, hangs or leaves the directory.

use std::sync::atomic::{AtomicU32, Ordering};

use dagwood_wasm::wasi::{
    Access, Buffer, CallError, Errno, FUNCTIONS, Outcome, Resolution, Stdio, Wasi, WasiConfig, function_index,
};
use proptest::prelude::*;

use crate::harness::{ANY, Guest, READ, ROOT, Scratch};

/// Numbers at which something changes, for a memory of this many bytes.
fn patterns(memory_bytes: u64) -> Vec<u64> {
    let mut patterns = vec![0, 1, 2, 3, 4, 5, 7, 8, 16, 47, 48, 64, 255, 1023, 1024, 1025, 4095, 4096, 4097];
    for back in [0, 1, 3, 4, 7, 8, 23, 24, 31, 32, 47, 48, 63, 64] {
        patterns.push(memory_bytes.saturating_sub(back));
    }
    for bit in [15, 16, 31, 32, 33, 62, 63] {
        patterns.extend([(1u64 << bit) - 1, 1 << bit, !(1 << bit)]);
    }
    patterns.extend([!0, !0 - 1, !0 - 7]);
    patterns
}

/// A system with something of everything, whose waits end at the second question.
fn system(scratch: &Scratch, access: Access, resolution: Resolution) -> Wasi {
    let asked = AtomicU32::new(0);
    let config = WasiConfig::new()
        .args(["program", "argument"])
        .env("NAME", "value")
        .stdin(Stdio::Buffer(Buffer::from(&b"input"[..])))
        .stdout(Stdio::Buffer(Buffer::with_limit(1 << 20)))
        .preopen(scratch.path().join("root"), "/", access)
        .resolution(resolution)
        .interrupt(move || asked.fetch_add(1, Ordering::Relaxed) > 0);
    Wasi::new(config).unwrap()
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.dir("root/dir");
    scratch.file("root/file", "text");
    scratch.link("../outside", "root/out");
    scratch.dir("outside");
    scratch
}

fn is_answer(result: &Result<Outcome, CallError>) -> bool {
    matches!(result, Ok(_) | Err(CallError::Interrupted))
}

#[test]
fn every_function_answers_when_all_arguments_are_the_same_bad_one() {
    let scratch = scratch();
    for memory_bytes in [0, 1, 64, 1 << 16] {
        for pattern in patterns(memory_bytes) {
            for (index, function) in FUNCTIONS.iter().enumerate() {
                let mut memory = vec![0; memory_bytes as usize];
                let mut wasi = system(&scratch, Access::ReadOnly, Resolution::Kernel);
                let args = vec![pattern; function.params.len()];
                let result = wasi.call(index, &args, &mut memory);
                assert!(is_answer(&result), "{} {pattern:#x}: {result:?}", function.name);
            }
        }
    }
}

#[test]
fn no_single_argument_of_a_good_call_can_be_made_harmful() {
    let scratch = scratch();
    let mut guest = Guest::new(WasiConfig::new());
    guest.memory.truncate(MEMORY_BYTES);
    let [path, length] = guest.put("file");
    let buffer = guest.put("some bytes");
    let iovecs = guest.iovecs(&[buffer, buffer]);
    let subscription = guest.take(48);
    let out = guest.take(128);
    let good: &[(&str, &[u64])] = &[
        ("args_get", &[out, out]),
        ("args_sizes_get", &[out, out]),
        ("clock_time_get", &[0, 0, out]),
        ("fd_advise", &[4, 0, 0, 0]),
        ("fd_allocate", &[4, 0, 1]),
        ("fd_fdstat_get", &[4, out]),
        ("fd_fdstat_set_flags", &[4, 0]),
        ("fd_fdstat_set_rights", &[4, 0, 0]),
        ("fd_filestat_get", &[4, out]),
        ("fd_filestat_set_size", &[4, 1]),
        ("fd_filestat_set_times", &[4, 1, 1, 5]),
        ("fd_pread", &[4, iovecs, 2, 0, out]),
        ("fd_prestat_get", &[ROOT, out]),
        ("fd_prestat_dir_name", &[ROOT, out, 10]),
        ("fd_pwrite", &[4, iovecs, 2, 0, out]),
        ("fd_read", &[4, iovecs, 2, out]),
        ("fd_readdir", &[ROOT, out, 100, 0, out]),
        ("fd_renumber", &[4, 0]),
        ("fd_seek", &[4, 1, 0, out]),
        ("fd_write", &[1, iovecs, 2, out]),
        ("path_create_directory", &[ROOT, path, length]),
        ("path_filestat_get", &[ROOT, 1, path, length, out]),
        ("path_filestat_set_times", &[ROOT, 1, path, length, 1, 1, 5]),
        ("path_link", &[ROOT, 0, path, length, ROOT, path, length]),
        ("path_open", &[ROOT, 1, path, length, 0, READ, READ, 0, out]),
        ("path_readlink", &[ROOT, path, length, out, 10, out]),
        ("path_rename", &[ROOT, path, length, ROOT, path, length]),
        ("path_symlink", &[path, length, ROOT, path, length]),
        ("poll_oneoff", &[subscription, out, 1, out]),
        ("random_get", &[out, 10]),
    ];
    let path_open = function_index("path_open").unwrap();
    let open_file = &[ROOT, 1, path, length, 0, READ | ANY, 0, 0, out];
    let success = Ok(Outcome::Errno(Errno::Success));
    for (name, args) in good {
        let index = function_index(name).unwrap();
        for place in 0..args.len() {
            for pattern in patterns(guest.memory.len() as u64) {
                let mut args = args.to_vec();
                args[place] = pattern;
                let mut wasi = system(&scratch, Access::ReadOnly, Resolution::Kernel);
                let mut memory = guest.memory.clone();
                assert_eq!(wasi.call(path_open, open_file, &mut memory), success);
                let result = wasi.call(index, &args, &mut memory);
                assert!(is_answer(&result), "{name} {args:x?}: {result:?}");
            }
        }
    }
    assert_eq!(scratch.read("root/file"), "text");
}

/// An argument: a number at which something changes, a small one, a place in memory, or anything.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => proptest::sample::select(patterns(MEMORY_BYTES as u64)),
        4 => 0..8u64,
        3 => 0..MEMORY_BYTES as u64,
        1 => any::<u64>(),
    ]
}

const MEMORY_BYTES: usize = 4096;

/// Memory full of what looks like pointers, lengths, paths and flags.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        3 => (0..MEMORY_BYTES as u32).prop_map(u32::to_le_bytes),
        3 => (0..8u32).prop_map(u32::to_le_bytes),
        2 => proptest::sample::select(vec![*b"file", *b"dir/", *b"../.", *b"out/", *b"././"]),
        1 => any::<[u8; 4]>(),
    ];
    proptest::collection::vec(word, 64).prop_map(|words| words.concat().repeat(MEMORY_BYTES / 256))
}

fn resolution() -> impl Strategy<Value = Resolution> {
    proptest::sample::select(vec![Resolution::Kernel, Resolution::Walk])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_one_call_on_a_writable_directory_is_answered(
        index in 0..FUNCTIONS.len(),
        args in proptest::collection::vec(argument(), 9),
        mut memory in memory(),
        resolution in resolution(),
    ) {
        let scratch = scratch();
        let mut wasi = system(&scratch, Access::ReadWrite, resolution);
        let result = wasi.call(index, &args[..FUNCTIONS[index].params.len()], &mut memory);
        prop_assert!(is_answer(&result), "{result:?}");
        prop_assert_eq!(std::fs::read_dir(scratch.path().join("outside")).unwrap().count(), 0);
    }

    #[test]
    fn any_calls_one_after_another_are_answered(
        calls in proptest::collection::vec(
            (0..FUNCTIONS.len(), proptest::collection::vec(argument(), 9)), 1..12),
        mut memory in memory(),
        resolution in resolution(),
    ) {
        let scratch = scratch();
        let mut wasi = system(&scratch, Access::ReadOnly, resolution);
        for (index, args) in calls {
            let result = wasi.call(index, &args[..FUNCTIONS[index].params.len()], &mut memory);
            prop_assert!(is_answer(&result), "{result:?}");
        }
        prop_assert_eq!(scratch.read("root/file"), "text");
        prop_assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 2);
    }

    #[test]
    fn both_resolutions_agree_on_any_path(
        components in proptest::collection::vec(proptest::sample::select(vec![
            "", ".", "..", "dir", "dir", "file", "missing", "out", "inner", "around", "loop", "back", "abs", "slash",
        ]), 1..8),
        lookup in 0..2u64,
    ) {
        let scratch = scratch();
        scratch.dir("root/dir/dir");
        scratch.link("dir/dir", "root/inner");
        scratch.link("../../dir/../file", "root/dir/dir/around");
        scratch.link("loop", "root/loop");
        scratch.link("..", "root/dir/back");
        scratch.link("/", "root/dir/abs");
        scratch.link("dir/", "root/slash");
        let path = components.join("/");
        let [kernel, walk] = [Resolution::Kernel, Resolution::Walk].map(|resolution| {
            let root = scratch.path().join("root");
            let config = WasiConfig::new().preopen(root, "/", Access::ReadWrite).resolution(resolution);
            let mut guest = Guest::new(config);
            guest.stat(&path, lookup).map(|stat| guest.u64(stat + 8))
        });
        prop_assert_eq!(kernel, walk, "{}", path);
    }
}
