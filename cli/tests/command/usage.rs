//! The command line: help that is complete, examples that work, and answers to what makes no sense.

use crate::rig::{dagwood, root};

const COMMANDS: [&str; 4] = ["run", "check", "print", "compile"];

#[test]
fn help_lists_everything() {
    let general = dagwood(&["--help"]).well();
    for option in [
        "--interpret",
        "--invoke",
        "--dir",
        "--read-dir",
        "--env",
        "--fuel",
        "--timeout",
        "--max-memory",
        "--threads",
        "--differential",
        "--function",
        "--emit",
        "--bytes",
        "--polls",
        "--output",
        "--version",
    ] {
        assert!(general.contains(option), "{option}");
    }
    for code in ["  0 ", "  1 ", "  2 ", "  134 "] {
        assert!(general.contains(code), "{code}");
    }
    for command in COMMANDS {
        let own = dagwood(&[command, "--help"]).well();
        assert!(own.contains("Examples:") && own.contains("Exit codes:"), "{own}");
        assert_eq!(dagwood(&["help", command]).well(), own);
        assert_eq!(dagwood(&[command, "-h", "--frobnicate"]).code, 2);
    }
    assert_eq!(dagwood(&["-h"]).well(), general);
    assert_eq!(dagwood(&["help"]).well(), general);
    assert_eq!(dagwood(&["--version"]).well(), format!("dagwood {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_examples_of_the_help_work() {
    std::fs::create_dir_all(root().join("target")).expect("the tree can be written");
    for command in COMMANDS {
        let help = dagwood(&["help", command]).well();
        let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  dagwood ")).collect();
        assert!(examples.len() >= 3, "{help}");
        for example in examples {
            let ended = dagwood(&example.split(' ').collect::<Vec<_>>());
            let expected = if example.contains("--invoke spin") { 134 } else { 0 };
            assert_eq!(ended.code, expected, "{example}: {ended:?}");
        }
    }
}

#[test]
fn what_is_misspelt_is_corrected() {
    dagwood(&["chekc", "x"]).badly(2, &["`chekc` is no command", "did you mean `check`?"]);
    dagwood(&["run", "--intrepret", "x"]).badly(2, &["did you mean `--interpret`?"]);
    dagwood(&["examples/gcd.dag"]).badly(2, &["did you mean `dagwood run examples/gcd.dag`?"]);
    dagwood(&["check", "--emit", "asm", "x"]).badly(2, &["it is an option of `dagwood compile`"]);
    dagwood(&["compile", "--emit", "bytes", "examples/gcd.dag"])
        .badly(2, &["--emit takes `il`, `clif` or `asm`"]);
    dagwood(&["compile", "examples/gcd.dag"]).badly(2, &["--emit says what to print"]);
    dagwood(&[]).badly(2, &["dagwood --help"]);
    dagwood(&["run"]).badly(2, &["no file is given", "usage: dagwood run"]);
    dagwood(&["print", "a", "b"]).badly(2, &["one too many"]);
}

#[test]
fn nonsense_is_answered_and_never_crashes() {
    const WORDS: &[&str] = &[
        "run",
        "check",
        "print",
        "compile",
        "help",
        "--",
        "-",
        "--=",
        "-x",
        "--dir",
        "--fuel",
        "1",
        "=",
        "--emit=asm",
        "",
        "é",
        "--timeout=",
        "examples/gcd.dag",
        "examples/numbers.wat",
        "--function",
        "\u{1b}[0m",
        "--invoke",
        "0",
        "-o",
        "--max-memory",
        "99999999999999999999",
        "--threads=1",
        "--env",
        "--bytes",
    ];
    let mut state = 2024_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..150 {
        let arguments: Vec<&str> = (0..1 + random(6)).map(|_| WORDS[random(WORDS.len())]).collect();
        if arguments.contains(&"-o") {
            // It would write wherever the next word says.
            continue;
        }
        let ended = dagwood(&arguments);
        assert!([0, 1, 2].contains(&ended.code), "{arguments:?}: {ended:?}");
        assert!(ended.code == 0 || !ended.err.is_empty(), "{arguments:?}: {ended:?}");
    }
}
