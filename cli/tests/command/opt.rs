//! `dagwood opt`, `bisect` and `reduce`: what passes do, and who is to blame.

use crate::rig::{dagwood, directory, file};

/// Two blocks only raise; `mark_cold` marks both. One is in a method that calls the other.
const RAISING: &str = "\
method @half ($x: i32) -> (i32) {
b0:
  %x = entry.i32 $x
  %one = const.i32 1
  %odd = and.i32 %x, %one
  br %odd, b1, b2
b1:
  raise overflow reason 3
b2:
  %y = entry.i32 $x
  %two = const.i32 2
  %z = sdiv.i32 %y, %two
  return %z
}

method @main () -> (i32) {
b0:
  %a = const.i32 84
  %b = call.i32 @half(%a)
  br %b, b1, b2
b1 extends b0:
  return %b
b2:
  raise unreachable
}
";

#[test]
fn what_comes_out_is_il_with_all_else_in_comments() {
    let source = file("raising.dag", RAISING);
    let out = dagwood(&["opt", "--emit", "--remarks", "text", "--ledger", "--time-passes", &source]).well();
    assert!(out.contains("b1 freq 0:") && out.contains("; @half, warm: "), "{out}");
    assert!(out.contains(";   done      1  mark_cold            b1             b1 is never"), "{out}");
    assert!(out.contains("; ") && out.contains("2 methods of"), "{out}");
    let il = file("optimized.dag", &out);
    assert_eq!(dagwood(&["run", &il]).well(), "i32 42\n");
    // Without anything else the IL alone, with all that it needs.
    let alone = dagwood(&["opt", &source]).well();
    assert!(alone.contains("\nmethod @half") && !alone.contains(';'), "{alone}");
    let fields = "class @P size 32\nsymbol @x field @P 16 i32\nmethod @main ($p: ref) -> (i32) {\n\
                  b0:\n  %p = entry.ref $p\n  %c = nullcheck.ref %p\n  %x = load.i32 @x [%c + 16]\n  return %x\n}\n";
    let out = dagwood(&["opt", "--strategy", "warm", &file("fields.dag", fields)]).well();
    dagwood(&["check", &file("fields-again.dag", &out)]).well();
    for strategy in ["none", "quick", "warm", "hot", "scorching"] {
        assert_eq!(dagwood(&["run", "--strategy", strategy, &source]).well(), "i32 42\n");
        dagwood(&["check", "--differential", "--strategy", strategy, &source]).well();
    }
}

#[test]
fn modules_are_optimized_too_and_remarks_are_json_on_request() {
    let out = dagwood(&["opt", "--function", "fib", "--ledger", "examples/numbers.wat"]).well();
    assert!(out.starts_with("@f1_fib, warm: ") && !out.contains("method @"), "{out}");
    let source = file("remarks.dag", RAISING);
    let json = dagwood(&["opt", "--passes", "mark_cold", "--remarks", "json", &source]).well();
    let first = "{\"kind\":\"done\",\"number\":1,\"method\":\"half\",\"pass\":\"mark_cold\",\"block\":\"b1\"";
    assert!(json.starts_with(first) && json.lines().count() == 2, "{json}");
}

#[test]
fn rewrites_are_numbered_over_all_methods_and_limited() {
    let source = file("limited.dag", RAISING);
    let cold = |limit: &str| {
        let out = dagwood(&["opt", "--passes", "mark_cold", "--opt-limit", limit, &source]).well();
        out.matches("freq 0").count()
    };
    assert_eq!(["0", "1", "2", "3"].map(cold), [0, 1, 2, 2]);
}

#[test]
fn mistakes_are_answered_with_what_would_be_right() {
    let gcd = "examples/gcd.dag";
    dagwood(&["opt", "--passes", "mark_clod", gcd]).badly(2, &["did you mean `mark_cold`?"]);
    dagwood(&["opt", "--passes", "x", gcd]).badly(2, &["the passes are ", "mark_cold"]);
    dagwood(&["opt", "--strategy", "tepid", gcd]).badly(2, &["`quick`, `warm`"]);
    dagwood(&["opt", "--passes", "rebuild", "--strategy", "warm", gcd]).badly(2, &["exclude each other"]);
    dagwood(&["opt", "--remarks", "json", "--emit", gcd]).badly(2, &["nothing else"]);
    dagwood(&["bisect", "--command", "true", gcd]).badly(2, &["`{}`"]);
    dagwood(&["reduce", gcd]).badly(1, &["nothing goes wrong"]);
}

#[test]
fn bisect_names_the_guilty_rewrite() {
    let source = file("bisected.dag", RAISING);
    let bisect = ["bisect", "--passes", "mark_cold"];
    let well = dagwood(&[&bisect[..], &[&source]].concat()).well();
    assert!(well.contains("makes 2 rewrites, and none of them changes the outcome"), "{well}");
    // A command that does not like the second rewrite.
    let command = "test $(grep -c 'freq 0' {}) -lt 2";
    let ended = dagwood(&[&bisect[..], &["--command", command, &source]].concat());
    assert!(ended.code == 1 && ended.out.contains("rewrite 2 of 2 is the first to change"), "{ended:?}");
    assert!(ended.out.contains("@main: done") && ended.out.contains("b2 is never expected"), "{ended:?}");
    let well = dagwood(&["bisect", "--invoke", "divide", "examples/numbers.wat", "84", "2"]).well();
    assert!(well.contains("none of them changes the outcome"), "{well}");
}

#[test]
fn reduce_keeps_what_makes_a_command_fail_and_little_else() {
    let source = file("reduced.dag", RAISING);
    let small = directory().join("small.dag");
    let small = small.to_str().expect("UTF-8");
    let command = "! grep -q 'freq 0' {}";
    dagwood(&["reduce", "--passes", "mark_cold", "--command", command, "-o", small, &source]).well();
    let text = std::fs::read_to_string(small).expect("it was written");
    dagwood(&["check", small]).well();
    assert!(text.matches("\nb0:").count() == 1 && text.lines().count() <= 13, "{text}");
}
