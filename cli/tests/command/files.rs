//! Files of every sort: missing, empty, huge, of another kind, or full of anything.

use std::fs::File;
use std::process::Stdio;

use crate::rig::{Ended, command, dagwood, directory, file};

#[test]
fn files_that_cannot_be_read_are_named_with_the_reason() {
    for command in ["run", "check", "print"] {
        dagwood(&[command, "missing.wasm"]).badly(1, &["error: missing.wasm: there is no such file"]);
        dagwood(&[command, "."]).badly(1, &["error: .: this is a directory"]);
        dagwood(&[command, &file("empty.wasm", "")]).badly(1, &["this file is empty"]);
    }
    dagwood(&["check", &file("x.wasm", "(module)")])
        .badly(1, &["it begins with the bytes 28 6d 6f 64", "(at byte 0x0)"]);
    dagwood(&["check", &file("x", "\x7fELF")]).badly(1, &["neither WebAssembly", "7f 45 4c 46"]);
    dagwood(&["check", &file("x.dag", b"method \xff")])
        .badly(1, &["x.dag:1:8: syntax: the byte 0xff is not UTF-8"]);
}

#[test]
fn files_are_told_apart_by_what_is_in_them() {
    assert!(dagwood(&["check", &file("module", ";; text\n(module)")]).well().contains("a valid module"));
    assert!(dagwood(&["check", &file("il", "; text\nmethod @f () -> ()")]).well().contains("valid IL"));
}

#[test]
fn huge_files_are_refused_before_they_are_read() {
    let path = directory().join("huge.wasm");
    File::create(&path).expect("it can be made").set_len((1 << 30) + 1).expect("holes take no room");
    let name = path.to_str().expect("UTF-8");
    dagwood(&["check", name]).badly(1, &["1073741825 bytes are too many"]);
    let path = directory().join("huge.dag");
    File::create(&path).expect("it can be made").set_len((64 << 20) + 1).expect("holes take no room");
    dagwood(&["check", path.to_str().expect("UTF-8")]).badly(1, &["67108865 bytes are too many"]);
}

#[test]
fn contents_do_not_reach_the_terminal_as_control_characters() {
    let ended = dagwood(&["check", &file("x.dag", "method @f \x1b[31m\x07 () -> ()")]);
    assert!(ended.code == 1 && !ended.err.contains(['\x1b', '\x07']), "{ended:?}");
    let ended = dagwood(&["run", "--invoke", "\x1b[31m", "examples/numbers.wat"]);
    assert!(ended.code == 1 && !ended.err.contains('\x1b'), "{ended:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [&["print", "examples/wordcount.wasm"][..], &["--help"], &["run", "examples/gcd.dag"]] {
        let mut child = command(arguments);
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the command starts");
        drop(child.stdout.take());
        let ended = Ended::of(child.wait_with_output().expect("the command ends"));
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn damaged_files_are_refused_and_never_crash() {
    let module =
        std::fs::read(crate::rig::root().join("examples/wordcount.wasm")).expect("it is in the tree");
    let il = std::fs::read(crate::rig::root().join("examples/gcd.dag")).expect("it is in the tree");
    let mut state = 12345_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for round in 0..24 {
        let (name, original) = if round % 2 == 0 { ("x.wasm", &module) } else { ("x.dag", &il) };
        let mut bytes = original.clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        let name = file(name, bytes);
        for arguments in [&["check", &name][..], &["run", "--timeout", "2", &name]] {
            let output = command(arguments).output().expect("the command starts");
            let code = output.status.code().expect("no signal ended it");
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(code != 101 && !err.contains("panicked"), "{name}: {err}");
        }
    }
}
