//! What a program sees of the system: its arguments, environment and directories, and its exit code.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use crate::rig::{ENGINES, Ended, both, command, dagwood, directory, file};

/// A program that ends with a code.
fn exits_with(code: u32) -> String {
    file(
        "exit.wat",
        format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
               (memory (export \"memory\") 1) (func (export \"_start\") (call $exit (i32.const {code}))))"
        ),
    )
}

/// A program that prints the bytes that a pair of functions of WASI gives: its arguments or its environment.
fn prints(what: &str) -> String {
    file(
        "prints.wat",
        format!(
            "(module
               (import \"wasi_snapshot_preview1\" \"{what}_get\" (func $get (param i32 i32) (result i32)))
               (import \"wasi_snapshot_preview1\" \"{what}_sizes_get\" (func $sizes (param i32 i32) (result i32)))
               (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
               (memory (export \"memory\") 1)
               (func (export \"_start\")
                 (drop (call $sizes (i32.const 0) (i32.const 12)))
                 (drop (call $get (i32.const 64) (i32.const 1024)))
                 (i32.store (i32.const 8) (i32.const 1024))
                 (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"
        ),
    )
}

#[test]
fn exit_codes_pass_through() {
    // The system keeps eight bits; a failure stays one.
    for (code, seen) in [(0, 0), (7, 7), (300, 300 % 256), (256, 1)] {
        let ended = both(&[&exits_with(code)]);
        assert_eq!((ended.code, ended.err.as_str()), (seen, ""));
    }
    dagwood(&["run", "--dir", ".", "examples/wordcount.wasm", "missing.txt"]).badly(1, &["missing.txt"]);
}

#[test]
fn arguments_after_the_file_are_the_programs_whatever_they_look_like() {
    let program = prints("args");
    let out = both(&[&program, "--interpret", "-n", "", "--", "ä"]).well();
    assert_eq!(out, format!("{program}\0--interpret\0-n\0\0--\0ä\0"));
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    let output = command(&["run", &program]).arg(odd).output().expect("the command starts");
    assert!(output.stdout.ends_with(b"\0\xff\0"));
}

#[test]
fn the_environment_is_what_is_given_and_nothing_else() {
    let program = prints("environ");
    assert_eq!(both(&["--env", "A=1", "--env", "B=x=y", "--env", "C=", &program]).well(), "A=1\0B=x=y\0C=\0");
    assert_eq!(both(&[&program]).well(), "");
    dagwood(&["run", "--env", "A", &program]).badly(2, &["--env takes NAME=VALUE, not `A`"]);
    dagwood(&["run", "--env", "=1", &program]).badly(2, &["NAME=VALUE"]);
}

#[test]
fn standard_input_reaches_the_program() {
    for engine in ENGINES {
        let arguments = [&["run"], engine, &["examples/wordcount.wasm"]].concat();
        let mut child = command(&arguments);
        let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the command starts");
        child.stdin.take().expect("it is piped").write_all(b"one two two").expect("it is read");
        let out = Ended::of(child.wait_with_output().expect("the command ends")).well();
        assert!(out.contains("two") && out.contains('2'), "{out}");
    }
}

#[test]
fn directories_are_granted_by_name_and_nothing_else_is_seen() {
    let path = directory();
    std::fs::write(path.join("a.txt"), "word").expect("it can be written");
    let host = path.to_str().expect("UTF-8");
    let run = |grant: &[&str]| both(&[grant, &["examples/wordcount.wasm", "/data/a.txt"]].concat());
    let granted = format!("{host}::/data");
    assert!(run(&["--dir", &granted]).well().contains("word"));
    assert!(run(&["--read-dir", &granted]).well().contains("word"));
    run(&[]).badly(1, &["/data/a.txt"]);
    run(&["--dir", host]).badly(1, &["/data/a.txt"]);
    dagwood(&["run", "--dir", "nowhere", "examples/wordcount.wasm"])
        .badly(1, &["cannot open the directory nowhere"]);
    for wrong in ["", "::", "a::", "::b"] {
        dagwood(&["run", "--dir", wrong, "examples/wordcount.wasm"]).badly(2, &["HOST or HOST::GUEST"]);
    }
}

#[test]
fn what_is_granted_for_reading_is_not_written() {
    let path = directory();
    let host = path.to_str().expect("UTF-8");
    let creates = file(
        "creates.wat",
        "(module
           (import \"wasi_snapshot_preview1\" \"path_open\"
             (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") 1) (data (i32.const 0) \"new\")
           (func (export \"_start\")
             (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 1)
               (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))))",
    );
    for engine in ENGINES {
        let run = |option| dagwood(&[&["run"], engine, &[option, host, &creates]].concat()).code;
        assert_ne!(run("--read-dir"), 0);
        assert!(!path.join("new").exists());
        assert_eq!(run("--dir"), 0);
        assert!(path.join("new").exists());
        std::fs::remove_file(path.join("new")).expect("it is there");
    }
}
