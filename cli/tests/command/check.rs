//! `dagwood check`: what is right is said in a line, and what is wrong with its place.

use crate::rig::{dagwood, file, root};

#[test]
fn valid_files_are_described_in_a_line() {
    let out =
        dagwood(&["check", "examples/wordcount.wasm", "examples/numbers.wat", "examples/gcd.dag"]).well();
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("examples/wordcount.wasm: a valid module of 106 functions, 12 imports"),
        "{out}"
    );
    assert_eq!(lines[2], "examples/gcd.dag: valid IL of 2 methods");
}

#[test]
fn wrong_modules_have_byte_offsets() {
    let bytes = std::fs::read(root().join("examples/wordcount.wasm")).expect("it is in the tree");
    let short = file("short.wasm", &bytes[..1000]);
    dagwood(&["check", &short]).badly(1, &["short.wasm: invalid module: ", "(at byte 0x"]);
    let mut changed = bytes.clone();
    changed[9] ^= 0x55;
    let changed = file("changed.wasm", changed);
    dagwood(&["check", &changed]).badly(1, &["invalid module: ", "(at byte 0x"]);
    dagwood(&["run", &changed]).badly(1, &["invalid module: ", "(at byte 0x"]);
    let version = file("version.wasm", b"\0asm\x07\0\0\0");
    dagwood(&["check", &version]).badly(1, &["(at byte 0x4)"]);
    let typed = file("typed.wat", "(module (func (result i32) (i64.const 1)))");
    dagwood(&["check", &typed]).badly(1, &["type mismatch", "(at byte 0x"]);
    let modern = file("modern.wat", "(module (func (result v128) (v128.const i64x2 1 2)))");
    dagwood(&["check", &modern]).badly(1, &["unsupported", "(at byte 0x"]);
    let text = file("text.wat", "(module\n  (func (nonsense)))");
    dagwood(&["check", &text]).badly(1, &["text.wat:2:", "nonsense"]);
}

#[test]
fn wrong_il_is_shown_with_a_caret() {
    let syntax = file("syntax.dag", "method @f () -> () {\nb0:\n  %x = konst.i32 1\n  return\n}\n");
    let said =
        ["syntax.dag:3:8: syntax: ", "perhaps `const`", "\n    3 |   %x = konst.i32 1\n      |        ^"];
    dagwood(&["check", &syntax]).badly(1, &said);
    let types = file(
        "types.dag",
        "method @f () -> (i32) {\nb0:\n  %x = const.i32 1\n  %y = const.i64 2\n  %z = add.i32 %x, %y\n  return %z\n}\n",
    );
    let said = ["types.dag:5:3: operand-type: ", "%y", "\n    5 |   %z = add.i32 %x, %y\n      |   ^"];
    dagwood(&["check", &types]).badly(1, &said);
    dagwood(&["run", &types]).badly(1, &said);
    let class = file("class.dag", "symbol @x static i32\nsymbol @x static i32\n");
    dagwood(&["check", &class]).badly(1, &["class.dag:2:", "@x"]);
}

#[test]
fn every_file_is_checked_also_after_a_wrong_one() {
    let ended = dagwood(&["check", "missing.wasm", "examples/gcd.dag", "examples"]);
    assert_eq!(ended.out, "examples/gcd.dag: valid IL of 2 methods\n");
    ended.badly(1, &["missing.wasm: there is no such file", "examples: this is a directory"]);
}

#[test]
fn engines_are_compared_call_by_call() {
    let ended =
        dagwood(&["check", "--differential", "--fuel", "10000", "examples/numbers.wat", "examples/gcd.dag"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("`spin` was stopped by a limit"), "{ended:?}");
    assert!(ended.out.contains("both engines agree about 2 calls\n"), "{ended:?}");
    assert!(
        ended.out.contains("gcd.dag: valid IL of 2 methods; both engines agree about 1 call\n"),
        "{ended:?}"
    );
    let none = file("none.wat", "(module (func (export \"f\") (param i32)))");
    assert!(dagwood(&["check", "--differential", &none]).well().contains("nothing to compare"));
}
