//! Arguments, environment, exit, random bytes, clocks, and the table itself.

use dagwood_wasm::wasi::{
    Access, CallError, Errno, FUNCTIONS, MAX_STRINGS_BYTES, Outcome, Wasi, WasiConfig, WasiError,
    function_index,
};
use wasmparser::ValType::{I32, I64};

use crate::harness::{Guest, Scratch};

/// The strings at an array of pointers.
fn strings(guest: &mut Guest, get: &str, sizes: &str) -> Vec<String> {
    let (count, length) = (guest.take(4), guest.take(4));
    guest.ok(sizes, &[count, length]);
    let (count, length) = (guest.u32(count), guest.u32(length));
    let (pointers, bytes) = (guest.take(4 * count as usize), guest.take(length as usize));
    guest.ok(get, &[pointers, bytes]);
    let string = |index: u32| {
        let start = guest.u32(pointers + 4 * u64::from(index)) as usize;
        let end = start + guest.memory[start..].iter().position(|&byte| byte == 0).unwrap();
        String::from_utf8(guest.memory[start..end].to_vec()).unwrap()
    };
    (0..count).map(string).collect()
}

#[test]
fn arguments_and_environment_arrive_in_order() {
    let config = WasiConfig::new().arg("program").args(["", "zwei ü"]).env("B", "1").env("A", "x=y");
    let mut guest = Guest::new(config);
    assert_eq!(strings(&mut guest, "args_get", "args_sizes_get"), ["program", "", "zwei ü"]);
    assert_eq!(strings(&mut guest, "environ_get", "environ_sizes_get"), ["B=1", "A=x=y"]);
}

#[test]
fn no_arguments_are_no_bytes() {
    let mut guest = Guest::new(WasiConfig::new());
    assert!(strings(&mut guest, "args_get", "args_sizes_get").is_empty());
    assert!(strings(&mut guest, "environ_get", "environ_sizes_get").is_empty());
}

#[test]
fn arguments_beyond_memory_are_a_fault() {
    let mut guest = Guest::new(WasiConfig::new().args(["a", "b"]));
    let end = guest.memory.len() as u64;
    assert_eq!(guest.call("args_get", &[end - 7, 0]), Errno::Fault);
    assert_eq!(guest.call("args_get", &[0, end - 3]), Errno::Fault);
    assert_eq!(guest.call("args_sizes_get", &[0, end - 3]), Errno::Fault);
    assert_eq!(guest.call("args_sizes_get", &[0, u64::from(u32::MAX)]), Errno::Fault);
    guest.ok("args_get", &[end - 8, 0]);
}

#[test]
fn strings_that_cannot_be_passed_on_are_refused_with_their_place() {
    let error = |config| Wasi::new(config).unwrap_err();
    let config = WasiConfig::new().args(["fine", "not\0fine"]);
    assert!(matches!(error(config), WasiError::BadString { what: "argument", index: 1 }));
    let config = WasiConfig::new().env("A", "").env("B=C", "");
    assert!(matches!(error(config), WasiError::BadString { what: "variable", index: 1 }));
    assert!(matches!(
        error(WasiConfig::new().env("", "")),
        WasiError::BadString { what: "variable", index: 0 }
    ));
    let config = WasiConfig::new().arg(vec![b'x'; MAX_STRINGS_BYTES]);
    assert!(matches!(error(config), WasiError::TooLong { what: "argument", .. }));
    assert!(Wasi::new(WasiConfig::new().arg(vec![b'x'; MAX_STRINGS_BYTES - 1])).is_ok());
    let config = WasiConfig::new().preopen("/", "a\0b", Access::ReadOnly);
    assert!(matches!(error(config), WasiError::BadString { what: "directory", index: 0 }));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    scratch.file("file", "");
    for name in ["missing", "file"] {
        let host = scratch.path().join(name);
        let error = Wasi::new(WasiConfig::new().preopen(&host, "/", Access::ReadOnly)).unwrap_err();
        assert!(error.to_string().contains(host.to_str().unwrap()), "{error}");
    }
}

#[test]
fn exit_carries_the_code() {
    let mut guest = Guest::new(WasiConfig::new());
    for code in [0, 3, u32::MAX] {
        assert_eq!(guest.try_call("proc_exit", &[u64::from(code)]), Ok(Outcome::Exit(code)));
    }
}

#[test]
fn random_bytes_fill_the_buffer_and_nothing_else() {
    let mut guest = Guest::new(WasiConfig::new());
    let buffer = guest.take(300);
    guest.ok("random_get", &[buffer, 256]);
    assert!(guest.bytes(buffer, 256).iter().any(|&byte| byte != 0));
    assert!(guest.bytes(buffer + 256, 44).iter().all(|&byte| byte == 0));
    let end = guest.memory.len() as u64;
    guest.ok("random_get", &[end, 0]);
    assert_eq!(guest.call("random_get", &[end, 1]), Errno::Fault);
    assert_eq!(guest.call("random_get", &[1, u64::from(u32::MAX)]), Errno::Fault);
}

#[test]
fn clocks_run_and_have_a_resolution() {
    let mut guest = Guest::new(WasiConfig::new());
    let out = guest.take(8);
    for clock in 0..4 {
        guest.ok("clock_res_get", &[clock, out]);
        assert!((1..1_000_000_000).contains(&guest.u64(out)), "clock {clock}");
    }
    guest.ok("clock_time_get", &[0, 1, out]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(now.abs_diff(guest.u64(out)) < 10_000_000_000);
    guest.ok("clock_time_get", &[1, 0, out]);
    let first = guest.u64(out);
    guest.ok("clock_time_get", &[1, 0, out]);
    assert!(guest.u64(out) >= first);
    assert_eq!(guest.call("clock_time_get", &[4, 0, out]), Errno::Inval);
    assert_eq!(guest.call("clock_res_get", &[u64::from(u32::MAX), out]), Errno::Inval);
    assert_eq!(guest.call("clock_time_get", &[0, 0, u64::from(u32::MAX)]), Errno::Fault);
}

#[test]
fn what_a_program_cannot_have_is_notsup() {
    let mut guest = Guest::new(WasiConfig::new());
    for name in ["proc_raise", "sock_accept", "sock_recv", "sock_send", "sock_shutdown"] {
        let count = FUNCTIONS[function_index(name).unwrap()].params.len();
        assert_eq!(guest.call(name, &vec![0; count]), Errno::Notsup, "{name}");
    }
    guest.ok("sched_yield", &[]);
}

#[test]
fn the_table_has_each_function_of_preview_1_once() {
    let mut names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), FUNCTIONS.len()), (46, 46));
    assert_eq!(
        function_index("fd_write").map(|index| FUNCTIONS[index].params),
        Some(&[I32, I32, I32, I32][..])
    );
    assert_eq!(
        function_index("path_open").map(|index| FUNCTIONS[index].params),
        Some(&[I32, I32, I32, I32, I32, I64, I64, I32, I32][..])
    );
    for function in FUNCTIONS {
        let expected: &[_] = if function.name == "proc_exit" { &[] } else { &[I32] };
        assert_eq!(function.results, expected, "{}", function.name);
    }
    assert_eq!(function_index("fd_writ"), None);
}

#[test]
fn a_wrong_call_is_told_apart_from_a_wrong_program() {
    let mut guest = Guest::new(WasiConfig::new());
    let wrong_count = CallError::ArgumentCount { function: "fd_close", expected: 1, found: 2 };
    assert_eq!(guest.try_call("fd_close", &[1, 2]), Err(wrong_count));
    let call = guest.wasi.call(FUNCTIONS.len(), &[], &mut []);
    assert_eq!(call, Err(CallError::NoSuchFunction { index: FUNCTIONS.len() }));
}

#[test]
fn the_upper_half_of_an_i32_is_ignored() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.call("fd_close", &[1 << 32]), Errno::Success);
    assert_eq!(guest.call("fd_close", &[0]), Errno::Badf);
}
