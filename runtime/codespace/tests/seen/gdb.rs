//! Backtraces by gdb, through code that it can know from its registered image only.

use std::process::Command;

use dagwood_codespace::{Gdb, LineEntry, Observed, Observers, Observing};

use super::code::{BODY, CALL, Copies};
use super::{arguments_of, is_installed, skip};

/// How many functions the child registers, and how far apart they stand.
const FUNCTIONS: &str = "SEEN_FUNCTIONS";
const STRIDE: &str = "SEEN_STRIDE";

extern "C" fn stops_in_the_debugger() {
    // SAFETY: raises a signal, and nothing else.
    unsafe { std::arch::asm!("int3") };
}

#[test]
#[ignore = "is run under gdb by the others"]
fn child_is_seen() {
    let number = |name| std::env::var(name).expect("the parent says").parse::<usize>().unwrap();
    let (functions, stride) = (number(FUNCTIONS), number(STRIDE));
    let copies = Copies::new(&BODY, functions, stride);
    let observers = Observers::new(&Observing { gdb: Gdb::Registered, ..Observing::default() }).unwrap();
    let lines = [
        LineEntry { offset: 0, file: "/source/of/it.il", line: 6 },
        LineEntry { offset: CALL, file: "/source/of/it.il", line: 7 },
        LineEntry { offset: CALL + 2, file: "/source/of/it.il", line: 8 },
    ];
    for index in 0..functions {
        observers.published(&Observed {
            address: copies.address(index),
            bytes: copies.bytes(),
            name: &format!("jitted_method_{index}"),
            lines: if index % 2 == 1 { &lines } else { &[] },
        });
    }
    observers.flush().unwrap();
    outer_rust_frame(&copies, functions / 2);
}

#[inline(never)]
fn outer_rust_frame(copies: &Copies, index: usize) {
    copies.call(index, stops_in_the_debugger as *const () as usize);
    std::hint::black_box(copies);
}

/// The backtrace that gdb prints where the child stops; none where gdb cannot run a program.
fn backtrace(functions: usize, stride: usize) -> Option<String> {
    if !is_installed("gdb") {
        return None;
    }
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "set width 0"])
        .args(["-ex", "run", "-ex", "backtrace", "--args"])
        .arg(std::env::current_exe().unwrap())
        .args(arguments_of("gdb::child_is_seen"))
        .env(FUNCTIONS, functions.to_string())
        .env(STRIDE, stride.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if complaint.contains("Operation not permitted") || complaint.contains("Could not trace") {
        skip(&format!("gdb may not trace programs here: {complaint}"));
        return None;
    }
    assert!(text.contains("SIGTRAP"), "{text}\n{complaint}");
    Some(text)
}

/// The line of the first frame that mentions `name`.
fn frame(text: &str, name: &str) -> usize {
    text.lines()
        .position(|line| line.starts_with('#') && line.contains(name))
        .unwrap_or_else(|| panic!("no frame of {name} in:\n{text}"))
}

fn assert_seen(text: &str, name: &str) {
    let called = frame(text, "stops_in_the_debugger");
    let method = frame(text, name);
    let caller = frame(text, "outer_rust_frame");
    let below = frame(text, "child_is_seen");
    assert_eq!(method, called + 1, "{text}");
    assert!(method < caller && caller < below, "{text}");
}

#[test]
fn gdb_shows_the_name_the_line_and_the_frames_below() {
    let Some(text) = backtrace(3, 64) else { return };
    assert_seen(&text, "jitted_method_1 ");
    assert!(text.lines().any(|line| line.contains("jitted_method_1 ") && line.contains("it.il:7")), "{text}");
}

#[test]
fn gdb_shows_names_of_functions_without_lines() {
    let Some(text) = backtrace(1, 64) else { return };
    assert_seen(&text, "jitted_method_0 ");
}

#[test]
fn gdb_shows_each_of_thousands_of_functions_that_are_registered_at_once() {
    for stride in [448, 64] {
        let Some(text) = backtrace(3001, stride) else { return };
        assert_seen(&text, "jitted_method_1500 ");
    }
}
