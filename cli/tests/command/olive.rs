//! Olive from outside: every command takes its files.

use crate::rig::{TRAPPED, dagwood, file, root};

const LISTS: &str = "frontends/olive/programs/lists.olive";

#[test]
fn programs_run_in_every_engine() {
    let expected = dagwood(&["run", LISTS]).well();
    assert!(expected.starts_with("1000\n0\n499\n"), "{expected}");
    for engine in ["--interpret", "--bytecode"] {
        assert_eq!(dagwood(&["run", engine, LISTS]).well(), expected, "{engine}");
    }
    for strategy in ["none", "quick", "warm", "hot", "scorching"] {
        assert_eq!(dagwood(&["run", "--strategy", strategy, LISTS]).well(), expected, "{strategy}");
    }
    let call = |engine: &[&str], argument: &str| {
        let source = file(
            "half.olive",
            "class A { static method half(x int, y long) long { load y load x to_long div return } }",
        );
        dagwood(&[&["run"], engine, &["--invoke", "A.half", &source, argument, "-7"]].concat())
    };
    for engine in [&[][..], &["--strategy", "warm"], &["--interpret"], &["--bytecode"]] {
        assert_eq!(call(engine, "2").well(), "i64 -3\n");
        call(engine, "0").badly(TRAPPED, &["trap: uncaught DivisionFault\n  in A.half at !3\n"]);
    }
}

#[test]
fn what_was_observed_is_written_read_and_used() {
    let path = root().join("target/lists.profile");
    std::fs::create_dir_all(root().join("target")).expect("the tree can be written");
    let path = path.to_str().expect("the path is UTF-8");
    let plain = dagwood(&["run", "--bytecode", "--profile-out", path, LISTS]).well();
    let profile = std::fs::read_to_string(path).expect("the profile was written");
    assert!(profile.contains("method @\"List.is_sorted\" entries 1\n  at 0 runs 1000\n"), "{profile}");
    assert_eq!(dagwood(&["run", "--profile-in", path, LISTS]).well(), plain);
    let other = file("other.profile", "method @\"List.sort\" entries 1\n  at x runs 1\n");
    dagwood(&["run", "--profile-in", &other, LISTS])
        .badly(1, &["other.profile:2:6: profile: found `x`; expected a position"]);
    dagwood(&["run", "--profile-out", path, LISTS]).badly(2, &["--profile-out goes with --bytecode"]);
    dagwood(&["run", "--bytecode", "--profile-in", path, LISTS])
        .badly(2, &["--profile-in is for native code"]);
    dagwood(&["run", "--bytecode", "examples/gcd.dag"]).badly(2, &["--bytecode is for Olive"]);
    dagwood(&["run", "--env", "A=1", LISTS]).badly(2, &["--env is for WebAssembly"]);
}

#[test]
fn files_are_checked_and_the_engines_compared() {
    let shapes = "frontends/olive/programs/shapes.olive";
    let lines = dagwood(&["check", "--differential", LISTS, shapes]).well();
    assert_eq!(
        lines,
        format!(
            "{LISTS}: a valid Olive program of 3 classes with 10 methods; both engines agree about 1 call\n\
             {shapes}: a valid Olive program of 7 classes with 14 methods; both engines agree about 1 call\n"
        )
    );
    let wrong = file("wrong.olive", "class A {\n  method f() int { load x return }\n}\n");
    let expected = "2:25: olive: found `x`; expected the name of a variable or parameter of this method\n    2 |   method f()";
    dagwood(&["check", &wrong]).badly(1, &[expected]);
    let native =
        file("native.olive", "native beep()\nclass Main { static method main() { native beep return } }\n");
    assert!(dagwood(&["check", &native]).well().ends_with("1 class with 1 method\n"));
    dagwood(&["run", &native]).badly(1, &["the native `beep` is not there", "print_i32"]);
}

#[test]
fn the_il_of_a_program_is_text_like_any_other() {
    let all = dagwood(&["print", LISTS]).well();
    let il = file("lists.dag", &all);
    assert_eq!(dagwood(&["print", &il]).well(), all);
    assert_eq!(
        dagwood(&["run", "--interpret", "--invoke", "Main.main", &il]).well(),
        dagwood(&["run", LISTS]).well()
    );
    let one = dagwood(&["print", "--function", "List.reverse", LISTS]).well();
    assert!(
        one.starts_with("method @\"List.reverse\" ($p0: ref) -> (ref)") && one.contains(" reexecute ["),
        "{one}"
    );
    assert!(dagwood(&["compile", "--emit", "asm", "--function", "List.sum", LISTS]).well().contains("ret"));
}
