//! `dagwood print` and `dagwood compile`: what they show is the program, and reads back where it is text.

use crate::rig::{both, dagwood, directory, file};

const NUMBERS: &str = "examples/numbers.wat";

#[test]
fn the_il_of_a_module_is_valid_il_and_prints_as_itself() {
    for module in [NUMBERS, "examples/wordcount.wasm"] {
        let printed = dagwood(&["print", module]).well();
        assert!(printed.contains("; function "), "functions have their names above them");
        let il = file("printed.dag", &printed);
        dagwood(&["check", &il]).well();
        let again = dagwood(&["print", &il]).well();
        let without_comments: String =
            printed.lines().filter(|line| !line.starts_with(';')).map(|line| format!("{line}\n")).collect();
        let blank =
            |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(blank(&again), blank(&without_comments));
        assert_eq!(dagwood(&["compile", "--emit", "il", module]).well(), printed);
    }
}

#[test]
fn canonical_il_is_a_fixed_point_that_runs_the_same() {
    let printed = dagwood(&["print", "examples/gcd.dag"]).well();
    let il = file("gcd.dag", &printed);
    assert_eq!(dagwood(&["print", &il]).well(), printed);
    assert_eq!(both(&[&il]).well(), "12\ni32 21\n");
}

#[test]
fn functions_are_found_by_name_export_method_and_index() {
    let by_name = dagwood(&["print", "--function", "fib", NUMBERS]).well();
    assert!(by_name.starts_with("; function 1, \"fib\", exported as \"fib\"\nmethod @f1_fib ("), "{by_name}");
    for other in ["1", "f1_fib", "@f1_fib"] {
        assert_eq!(dagwood(&["print", "--function", other, NUMBERS]).well(), by_name);
    }
    assert!(dagwood(&["print", "--function", "0", "examples/gcd.dag"]).well().starts_with("method @gcd "));
    dagwood(&["print", "--function", "fbi", NUMBERS]).badly(1, &["did you mean `fib`?"]);
    dagwood(&["print", "--function", "99", NUMBERS]).badly(1, &["no function `99`"]);
    dagwood(&["print", "--function", "0", "examples/wordcount.wasm"]).badly(1, &["function 0 is imported"]);
}

#[test]
fn assembly_stands_beside_the_il() {
    let asm = dagwood(&["compile", "--emit", "asm", "examples/gcd.dag"]).well();
    let line = |start: &str, end: &str| {
        let found = asm.lines().any(|line| line.contains(start) && line.ends_with(end));
        assert!(found, "{start} … {end} in {asm}");
    };
    line("; method @gcd: ", " bytes of stack");
    line("div     ", "");
    line("call    qword [rip+@gcd]", "");
    line("call    qword [rip+CallNative]", "");
    line("call    RaiseSite", "; raises division: %4 = divcheck.i32 %2");
    line("", " = urem.i32 %1, %4");
    line("jmp     L1", "goto b1");
    assert!(asm.lines().any(|line| line == "L1:"), "{asm}");
}

#[test]
fn constants_and_jump_tables_are_data() {
    let arms = 12;
    let labels: String = (0..arms).map(|index| format!(" {index}")).collect();
    let bodies: String = (0..arms).map(|index| format!(") (return (i32.const {}))", 100 + index)).collect();
    let table = file(
        "table.wat",
        format!(
            "(module (func (export \"table\") (param i32) (result i32)
               {} (br_table{labels} (local.get 0)){bodies} (i32.const 0))
             (func (export \"half\") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.3))))",
            "(block ".repeat(arms)
        ),
    );
    assert_eq!(both(&["--invoke", "table", &table, "5"]).well(), "i32 105\n");
    let asm = dagwood(&["compile", "--emit", "asm", &table]).well();
    assert_eq!(asm.matches("dd L").count(), arms, "{asm}");
    assert_eq!(asm.matches("mov     rsp, rbp").count(), arms + 1, "each arm is decoded: {asm}");
    assert!(asm.contains("[rip+D1]") && asm.contains("\nD1:\n") && asm.contains(" db 0x33, 0x33"), "{asm}");
    assert!(!asm.contains("(bad)"), "{asm}");
}

#[test]
fn bytes_are_shown_on_request() {
    let plain = dagwood(&["compile", "--emit", "asm", "--function", "add", NUMBERS]).well();
    let bytes = dagwood(&["compile", "--emit", "asm", "--bytes", "--function", "add", NUMBERS]).well();
    assert!(plain.contains("  0000  push    rbp\n"), "{plain}");
    assert!(bytes.contains("  0000  55                      push    rbp\n"), "{bytes}");
    dagwood(&["compile", "--emit", "clif", "--bytes", NUMBERS]).badly(2, &["--bytes goes with --emit asm"]);
}

#[test]
fn polls_are_there_only_if_asked_for() {
    let emit = |more: &[&str]| {
        dagwood(&[&["compile", "--emit", "il", "--function", "spin", NUMBERS], more].concat()).well()
    };
    assert!(!emit(&[]).contains("poll") && emit(&["--polls"]).contains("poll"));
}

#[test]
fn clif_is_what_cranelift_is_given() {
    let clif = dagwood(&["compile", "--emit", "clif", "--function", "add", NUMBERS]).well();
    assert!(clif.contains("function u0:") && clif.contains("iadd"), "{clif}");
}

#[test]
fn output_goes_to_a_file() {
    let path = directory().join("out.il");
    let name = path.to_str().expect("UTF-8");
    assert_eq!(dagwood(&["compile", "--emit", "il", NUMBERS, "-o", name]).well(), "");
    let written = std::fs::read_to_string(&path).expect("it is written");
    assert_eq!(written, dagwood(&["compile", "--emit", "il", NUMBERS]).well());
    dagwood(&["compile", "--emit", "il", "--function", "nope", "-o", name, NUMBERS]).badly(1, &["nope"]);
    assert_eq!(std::fs::read_to_string(&path).expect("it is as it was"), written);
    dagwood(&["compile", "--emit", "il", NUMBERS, "-o", "missing/x"])
        .badly(1, &["missing/x: cannot be written"]);
}
