//! `dagwood run`: results, traps and exit codes, the same in both engines.

use crate::rig::{ENGINES, TRAPPED, both, dagwood, file};

const NUMBERS: &str = "examples/numbers.wat";

#[test]
fn the_readmes_program_prints_what_it_should_in_both_engines() {
    let out = both(&["--dir", ".", "examples/wordcount.wasm", "examples/wordcount.txt"]).well();
    assert!(out.starts_with("     61   14.3 %  the\n"), "{out}");
}

#[test]
fn functions_are_called_with_typed_arguments_and_print_typed_results() {
    assert_eq!(both(&["--invoke", "add", NUMBERS, "2", "-3"]).well(), "i32 -1\n");
    assert_eq!(both(&["--invoke=add", NUMBERS, "0xffffffff", "1"]).well(), "i32 0\n");
    assert_eq!(both(&["--invoke", "fib", NUMBERS, "15"]).well(), "i64 610\n");
    assert_eq!(both(&["--invoke", "answer", NUMBERS]).well(), "i32 42\nf64 0.5\n");
    let floats = file(
        "floats.wat",
        "(module (func (export \"f\") (param f32 f64) (result f64 f32) local.get 1 local.get 0))",
    );
    assert_eq!(both(&["--invoke", "f", &floats, "1.5", "-inf"]).well(), "f64 -inf\nf32 1.5\n");
    let references = file(
        "references.wat",
        "(module (func (export \"f\") (param externref i32) (result externref funcref i32)
           local.get 0 ref.null func local.get 1))",
    );
    let out = both(&["--invoke", "f", &references, "7", "1"]).well();
    assert_eq!(out, "externref extern 7\nfuncref null\ni32 1\n");
}

#[test]
fn il_runs_from_main_and_calls_natives() {
    assert_eq!(both(&["examples/gcd.dag"]).well(), "12\ni32 21\n");
    assert_eq!(both(&["--invoke", "gcd", "examples/gcd.dag", "12", "18"]).well(), "i32 6\n");
    assert_eq!(both(&["--invoke", "@gcd", "examples/gcd.dag", "12", "18"]).well(), "i32 6\n");
    let printer = file(
        "printer.dag",
        "native @print_f64 (f64) -> ()\nnative @print_i64 (i64) -> ()\nsymbol @total static i64
         method @main ($by: i64) -> (i64, f64) {\nb0:\n  %by = entry.i64 $by\n  %at = symbol_address @total
           %old = load.i64 @total [%at]\n  %new = add.i64 %old, %by\n  store @total [%at], %new
           call_native @print_i64(%new)\n  %half = const.f64 0.5\n  call_native @print_f64(%half)
           return %new, %half\n}",
    );
    assert_eq!(both(&[&printer, "-7"]).well(), "-7\n0.5\ni64 -7\nf64 0.5\n");
}

#[test]
fn a_trap_says_its_kind_and_where_the_program_stood() {
    for engine in ENGINES {
        let run = |arguments: &[&str]| dagwood(&[&["run"], engine, arguments].concat());
        let frames = ["in divide (function 2) at byte 0x", "in trap (function 3) at byte 0x"];
        run(&["--invoke", "trap", NUMBERS]).badly(TRAPPED, &["trap: integer divide by zero\n", frames[0]]);
        let deep = file("deep.wat", "(module (func $deep (export \"deep\") call $deep))");
        run(&["--invoke", "deep", &deep])
            .badly(TRAPPED, &["trap: call stack exhausted\n  in deep", "times", "more"]);
        let il = file(
            "raises.dag",
            "method @inner () -> () {\nb0:\n  raise overflow reason 3 !77\n}
             method @main () -> () {\nb0:\n  call @inner() !12\n  return\n}",
        );
        run(&[&il]).badly(TRAPPED, &["trap: overflow (reason 3)\n", "in @inner at !77", "in @main at !12"]);
    }
    let names = dagwood(&["run", "--invoke", "trap", NUMBERS]).err;
    assert!(names.contains("function 3"), "{names}");
}

#[test]
fn a_module_that_is_no_command_is_initialized_before_it_is_called() {
    let reactor = file(
        "reactor.wat",
        "(module (global $g (mut i32) (i32.const 1)) (func (export \"_initialize\") (global.set $g (i32.const 5)))
           (func (export \"get\") (result i32) (global.get $g)))",
    );
    assert_eq!(both(&["--invoke", "get", &reactor]).well(), "i32 5\n");
}

#[test]
fn missing_imports_are_listed_one_a_line() {
    let module = file(
        "imports.wat",
        "(module (import \"env\" \"first\" (func (param i32))) (import \"env\" \"second\" (memory 1))
           (import \"wasi_snapshot_preview1\" \"fd_close\" (func (param i64)))
           (import \"wasi_snapshot_preview1\" \"sched_yield\" (func (result i32))) (func (export \"_start\")))",
    );
    for engine in ENGINES {
        let ended = dagwood(&[&["run"], engine, &[&module]].concat());
        assert_eq!(ended.err.lines().count(), 4, "{ended:?}");
        let lines = [
            "imports are missing",
            "\n  unknown import: `first` of `env`, function (i32)",
            "\n  unknown import: `second`",
        ];
        ended.badly(1, &[&lines[..], &["\n  incompatible import type: `fd_close`"]].concat());
    }
    let il = file(
        "natives.dag",
        "native @beep (i32) -> (i64)\nnative @boop () -> ()\nmethod @main () -> () {\nb0:\n  return\n}",
    );
    dagwood(&["run", &il])
        .badly(1, &["missing:\n  native @beep (i32) -> (i64)\n  native @boop () -> ()\n", "@print_i32"]);
}

#[test]
fn what_is_not_there_or_does_not_fit_is_said_with_what_would() {
    dagwood(&["run", NUMBERS]).badly(1, &["exports no function `_start`", "--invoke", "`add`, `fib`"]);
    dagwood(&["run", "--invoke", "fob", NUMBERS]).badly(1, &["did you mean `fib`?"]);
    dagwood(&["run", "--invoke", "gdc", "examples/gcd.dag"]).badly(1, &["did you mean `@gcd`?"]);
    dagwood(&["run", "--invoke", "fib", NUMBERS])
        .badly(2, &["`fib` is (i32) -> (i64)", "0 arguments are given"]);
    dagwood(&["run", "--invoke", "add", NUMBERS, "1", "2.5"])
        .badly(2, &["argument 2, `2.5`, is not an integer of 32 bits"]);
    dagwood(&["run", "--invoke", "add", NUMBERS, "1", "--interpret"])
        .badly(2, &["options stand before the file"]);
    let start = file("start.wat", "(module (func (export \"_start\") (param i32)))");
    dagwood(&["run", &start]).badly(1, &["`_start` is (i32) -> ()"]);
    dagwood(&["run", "--env", "A=1", "examples/gcd.dag"]).badly(2, &["--env is for WebAssembly"]);
}

#[test]
fn any_number_of_threads_makes_the_same_program() {
    let run = |threads| {
        let program = ["--dir", ".", "examples/wordcount.wasm", "-n", "3", "examples/wordcount.txt"];
        dagwood(&[&["run", "--threads", threads][..], &program].concat()).well()
    };
    assert_eq!(run("1"), run("4"));
    dagwood(&["run", "--threads", "0", "examples/gcd.dag"])
        .badly(2, &["--threads takes a number from 1 to 1024"]);
}

#[test]
fn profilers_and_debuggers_see_functions_by_their_names() {
    let directory = crate::rig::directory();
    let dump = directory.to_str().expect("the build's directory has a name in UTF-8");
    let options = ["run", "--perf-map", "--jitdump", dump, "--gdb", "--invoke", "add", NUMBERS, "2", "3"];
    let mut command = crate::rig::command(&options);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("the command starts");
    let id = child.id();
    let output = child.wait_with_output().expect("the command ends");
    assert_eq!(crate::rig::Ended::of(output).well(), "i32 5\n");
    let map = format!("/tmp/perf-{id}.map");
    let names = std::fs::read_to_string(&map).expect("the map was written");
    std::fs::remove_file(&map).expect("it is ours");
    assert!(names.lines().any(|line| line.contains("add")), "{names}");
    assert!(names.lines().any(|line| line.ends_with("entry shim")), "{names}");
    let dumped = std::fs::read(directory.join(format!("jit-{id}.dump"))).expect("the dump was written");
    assert!(dumped.windows(4).any(|name| name == b"add\0"), "functions have their names");
    crate::rig::dagwood(&["run", "--jitdump", "/nowhere", "--invoke", "add", NUMBERS, "2", "3"])
        .badly(1, &["cannot open a file for a profiler"]);
    crate::rig::dagwood(&["run", "--jitdump", "", "--invoke", "add", NUMBERS, "2", "3"])
        .badly(2, &["--jitdump takes a directory"]);
}
