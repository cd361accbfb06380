//! Limits: whatever a program does, `--fuel`, `--timeout` and `--max-memory` hold.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::rig::{ENGINES, Ended, TRAPPED, both, command, dagwood, file};

const NUMBERS: &str = "examples/numbers.wat";
const SPIN: &str = "method @main () -> () {\nb0:\n  goto b1\nb1:\n  goto b1\n}";

#[test]
fn fuel_stops_an_endless_loop_where_it_is() {
    for engine in ENGINES {
        let run = |arguments: &[&str]| dagwood(&[&["run"], engine, arguments].concat());
        let said = ["trap: interrupt: the fuel of --fuel is used up\n  in spin (function 4) at byte 0x"];
        run(&["--fuel", "100000", "--invoke", "spin", NUMBERS]).badly(TRAPPED, &said);
    }
    let spin = file("spin.dag", SPIN);
    dagwood(&["run", "--interpret", "--fuel", "1000", &spin]).badly(TRAPPED, &["fuel", "in @main"]);
    let polite = file("polite.dag", SPIN.replace("b1:\n", "b1:\n  poll\n"));
    dagwood(&["run", "--fuel", "1000", &polite]).badly(TRAPPED, &["fuel", "in @main"]);
}

#[test]
fn both_engines_count_the_same_steps_of_webassembly() {
    assert_eq!(both(&["--fuel", "100000", "--invoke", "fib", NUMBERS, "12"]).well(), "i64 144\n");
    // 465 calls, each a step: the last one is refused.
    assert_eq!(both(&["--fuel", "464", "--invoke", "fib", NUMBERS, "12"]).code, TRAPPED);
    assert_eq!(both(&["--fuel", "465", "--invoke", "fib", NUMBERS, "12"]).code, 0);
}

#[test]
fn time_stops_an_endless_loop() {
    let spin = file("spin.dag", SPIN);
    for engine in ENGINES {
        for program in [&["--invoke", "spin", NUMBERS][..], &[&spin]] {
            let begun = Instant::now();
            let ended = dagwood(&[&["run"], engine, &["--timeout", "200ms"], program].concat());
            ended.badly(TRAPPED, &["trap: interrupt: it ran longer than the 0.2 s of --timeout"]);
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        }
    }
}

/// Runs a program that waits for input which never comes, with so much time.
fn run_out_of_time(engine: &[&str], timeout: &str) -> Ended {
    let mut child = command(&[&["run"], engine, &["--timeout", timeout, "examples/wordcount.wasm"]].concat());
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the command starts");
    let input = child.stdin.take();
    let ended = Ended::of(child.wait_with_output().expect("the command ends"));
    drop(input);
    ended
}

#[test]
fn time_stops_a_program_that_waits_for_input() {
    for engine in ENGINES {
        // Compiling has the same limit, and what is enough for it is the machine's affair. Whatever is too little stops it too.
        let is_waiting = ["200ms", "2s", "20s"].into_iter().any(|timeout| {
            let ended = run_out_of_time(engine, timeout);
            let is_waiting = ended.err.contains("in __wasi_fd_read");
            ended.badly(TRAPPED, &["trap: interrupt: it ran longer than", "of --timeout"]);
            is_waiting
        });
        assert!(is_waiting, "the program comes to its input in time: {engine:?}");
    }
}

#[test]
fn memory_does_not_grow_past_its_limit() {
    let grow = file(
        "grow.wat",
        "(module (memory 1) (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))",
    );
    assert_eq!(both(&["--max-memory", "128K", "--invoke", "grow", &grow, "1"]).well(), "i32 1\n");
    assert_eq!(both(&["--max-memory", "128K", "--invoke", "grow", &grow, "2"]).well(), "i32 -1\n");
    for engine in ENGINES {
        let arguments = [&["run"], engine, &["--max-memory", "1K", "--invoke", "grow", &grow, "0"]].concat();
        dagwood(&arguments).badly(1, &["limit"]);
    }
}

#[test]
fn limits_that_are_no_numbers_are_refused() {
    for (option, value, said) in [
        ("--fuel", "many", "a whole number"),
        ("--fuel", "0", "at least 1"),
        ("--timeout", "-1", "seconds"),
        ("--timeout", "soon", "seconds"),
        ("--max-memory", "1T", "a number of bytes"),
        ("--threads", "-4", "a number from 1"),
    ] {
        dagwood(&["run", option, value, NUMBERS]).badly(2, &[option, value, said]);
    }
}

#[test]
fn a_time_limit_holds_while_compiling() {
    let depth = 20_000;
    let body = format!("{}{}", "(try_table (catch_all 0) ".repeat(depth), ")".repeat(depth));
    let slow = file("slow.wat", format!("(module (func (export \"f\") (block {body})))"));
    dagwood(&["run", "--timeout", "10ms", "--invoke", "f", &slow])
        .badly(TRAPPED, &["--timeout", "being compiled"]);
}

#[test]
fn tables_and_memories_share_the_memory_limit() {
    let tables = file(
        "tables.wat",
        "(module (table $t 0 funcref)
           (func (export \"grow\") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))",
    );
    assert_eq!(both(&["--max-memory", "8K", "--invoke", "grow", &tables, "1024"]).well(), "i32 0\n");
    assert_eq!(both(&["--max-memory", "8K", "--invoke", "grow", &tables, "1025"]).well(), "i32 -1\n");
}
