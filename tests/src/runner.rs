//! Text tests: IL with directives in its comments, next to the lines that they are about.
//!
//! ```text
//!   ; run: warm                                  the strategy, or the pass, whose output `check` and its like look at
//!   ; passes: mark_cold, mark_cold               the same for a list of passes
//!   ; opt-limit: 3                               of their rewrites only the first ones are allowed
//!   ; eval: @f(i32 7, f64 nan) == i32 3          in the interpreter and as native code
//!   ; eval: @f(i32 0) raises division reason 2   what is raised
//!   ; interpret: @f() == i32 1                   in the interpreter alone, for what has no machine code yet
//!   ; interpret: @f() exits @f:3 after [] []     a guard has failed
//!   ; broken: 4                                  guards on `custom 4` fail
//!   ; refused: monitor_enter                     compiling some method is refused, by a message that holds this
//!   ; check: add.i32 %0, %1                      the output holds this, after what was checked before
//!   ; next: return %2                            and this on the line after
//!   ; not: mul                                   the output does not hold this anywhere
//!   ; unchanged                                  the output is the input
//!   ; remark: b1 is never expected               a pass says that it did this
//!   ; missed: is too deep                        a pass says why it did not do something
//!   ; ledger: mark_cold skipped                  the ledger of some method holds this; runs of spaces are one space
//!   … ; error: divisor                           this line is refused, by a message that holds this
//!   ;---                                         what follows is another source, with directives of its own
//! ```
//!
//! A file's name is its claim. A source that expects errors expects nothing else. Every other source is also printed,
//! read again and compared, and verified before its passes and after each. `eval` and `interpret` hold before the passes and after them.
//! [`calls`](crate::calls) says how calls are written.

use bumpalo::Bump;
use dagwood_il::text::{self, Source};
use dagwood_runtime::codespace::Options as Space;

use crate::calls::{Engines, evaluate};
use crate::native::Compiled;
use crate::optimized::{Optimized, print};

/// A directive and the line it stands on.
pub(crate) struct Directive<'s> {
    pub(crate) line: u32,
    pub(crate) name: &'s str,
    pub(crate) text: &'s str,
}

const NAMES: &[&str] = &[
    "run",
    "passes",
    "opt-limit",
    "eval",
    "interpret",
    "broken",
    "refused",
    "check",
    "next",
    "not",
    "unchanged",
    "remark",
    "missed",
    "ledger",
    "error",
];

/// What begins a line between two sources.
const SEPARATOR: &str = ";---";

fn directives(source: &str) -> Vec<Directive<'_>> {
    let mut found = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let Some((_, comment)) = line.split_once(';') else { continue };
        let (name, text) = comment.split_once(':').unwrap_or((comment, ""));
        if NAMES.contains(&name.trim()) {
            found.push(Directive { line: index as u32 + 1, name: name.trim(), text: text.trim() });
        }
    }
    found
}

/// Runs one test; an error says what is not as the test says.
///
/// # Errors
///
/// The first directive that does not hold, or what keeps the file from being a test.
pub fn run(file: &str) -> Result<(), String> {
    run_in(file, &Space::default())
}

/// As [`run`], with native code in a space of its own that is made so.
///
/// # Errors
///
/// As for [`run`].
pub fn run_in(file: &str, space: &Space) -> Result<(), String> {
    // Each source keeps the lines that it has in the file.
    let mut source = String::new();
    for (index, line) in file.lines().enumerate() {
        if line.starts_with(SEPARATOR) {
            run_source(&source, space)?;
            source = "\n".repeat(index);
        } else {
            source += line;
        }
        source.push('\n');
    }
    run_source(&source, space)
}

fn run_source(source: &str, space: &Space) -> Result<(), String> {
    let directives = directives(source);
    if directives.is_empty() {
        return Err("a source has no directive, so it tests nothing".into());
    }
    let expected: Vec<&Directive<'_>> =
        directives.iter().filter(|directive| directive.name == "error").collect();
    let arena = Bump::new();
    let refused = refusals(source, &arena);
    if !expected.is_empty() {
        return expect_errors(&expected, &refused.err().unwrap_or_default());
    }
    let parsed = refused.map_err(|errors| format!("refused: {errors:?}"))?;
    round_trip(&parsed)?;
    let optimized = Optimized::new(source, &directives)?;
    check_output(&optimized, &directives)?;
    run_calls(source, &parsed, &directives, space)?;
    if optimized.output == optimized.input {
        return Ok(());
    }
    let Optimized { output, .. } = optimized;
    let fails = |what: String| format!("after the passes: {what}\n{output}");
    let parsed = text::parse(&output, &arena).map_err(|error| fails(error.to_string()))?;
    text::verify(&parsed, &output).map_err(|errors| fails(format!("{errors:?}")))?;
    run_calls(&output, &parsed, &directives, space).map_err(fails)
}

/// Evaluates what is to be evaluated, and compiles what is to be refused.
fn run_calls(
    source: &str,
    parsed: &Source<'_>,
    directives: &[Directive<'_>],
    space: &Space,
) -> Result<(), String> {
    let of = |name: &'static str| directives.iter().filter(move |directive| directive.name == name);
    let at = |directive: &Directive<'_>, what: String| format!("line {}: {what}", directive.line);
    let mut broken = Vec::new();
    for directive in of("broken") {
        let number = directive.text.parse();
        broken.push(number.map_err(|_| at(directive, "the condition has no number".into()))?);
    }
    if of("eval").next().is_some() {
        let engines = Engines::Both(&Compiled::new(source, space)?);
        for directive in of("eval") {
            evaluate(parsed, &broken, directive.text, &engines).map_err(|what| at(directive, what))?;
        }
    }
    for directive in of("interpret") {
        evaluate(parsed, &broken, directive.text, &Engines::Interpreter)
            .map_err(|what| at(directive, what))?;
    }
    if of("refused").next().is_some() {
        let refusals = Compiled::refusals(source)?;
        for directive in of("refused") {
            if !refusals.iter().any(|what| what.contains(directive.text)) {
                return Err(at(directive, format!("no such refusal, but: {refusals:?}")));
            }
        }
    }
    Ok(())
}

/// The source, read and verified; or what is wrong with it, by line.
fn refusals<'a>(source: &str, arena: &'a Bump) -> Result<Source<'a>, Vec<(u32, String)>> {
    let parsed = text::parse(source, arena).map_err(|error| vec![(error.line, error.to_string())])?;
    match text::verify(&parsed, source) {
        Ok(()) => Ok(parsed),
        Err(refusals) => {
            Err(refusals.iter().map(|refusal| (refusal.position.line, refusal.to_string())).collect())
        }
    }
}

/// Each line that expects an error has one, and no other line has.
fn expect_errors(expected: &[&Directive<'_>], refused: &[(u32, String)]) -> Result<(), String> {
    for directive in expected {
        let found =
            refused.iter().any(|(line, what)| *line == directive.line && what.contains(directive.text));
        if !found {
            return Err(format!(
                "line {} is not refused with `{}`; refused: {refused:?}",
                directive.line, directive.text
            ));
        }
    }
    match refused.iter().find(|(line, _)| !expected.iter().any(|directive| directive.line == *line)) {
        Some((line, what)) => Err(format!("line {line} is refused as well: {what}")),
        None => Ok(()),
    }
}

fn round_trip(parsed: &Source<'_>) -> Result<(), String> {
    let printed = print(parsed);
    let arena = Bump::new();
    let again = text::parse(&printed, &arena)
        .map_err(|error| format!("what is printed is not read: {error}\n{printed}"))?;
    let reprinted = print(&again);
    if printed == reprinted { Ok(()) } else { Err(format!("printed:\n{printed}\nand again:\n{reprinted}")) }
}

fn check_output(optimized: &Optimized, directives: &[Directive<'_>]) -> Result<(), String> {
    let Optimized { input, output, .. } = optimized;
    let lines: Vec<&str> = output.lines().collect();
    let mut from = 0;
    for directive in directives {
        let fails =
            |what: &str| Err(format!("line {}: {what} `{}` in\n{output}", directive.line, directive.text));
        match directive.name {
            "check" => match lines[from..].iter().position(|line| line.contains(directive.text)) {
                Some(offset) => from += offset + 1,
                None => return fails("no"),
            },
            "next" if lines.get(from).is_some_and(|line| line.contains(directive.text)) => from += 1,
            "next" => return fails("not on the next line:"),
            "not" if output.contains(directive.text) => return fails("there is"),
            "unchanged" if input != output => return fails("changed"),
            _ => optimized.check(directive)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_without_directives_is_refused() {
        assert!(run("; nothing is claimed\n").is_err());
        assert!(run("; unchanged\n;---\n").is_err());
    }

    #[test]
    fn the_sources_of_a_file_keep_their_lines() {
        assert_eq!(run("symbol ; error: 1:\n;---\nmethod ; error: 3:\n;--- here\n; unchanged\n"), Ok(()));
    }

    #[test]
    fn an_error_that_is_not_expected_fails() {
        let source = "method @f () -> () {\nb0:\n  %0 = const.i32 1 ; error: exists\n  return\n}\n";
        assert!(run(source).is_err());
    }

    #[test]
    fn what_passes_are_said_to_do_is_held_against_what_they_do() {
        let body = "method @f ($x: i32) -> () {\nb0:\n  %0 = entry.i32 $x\n  br %0, b1, b2\nb1:\n  return\nb2:\n  raise bounds\n}\n";
        let with = |directives: &str| run(&format!("{directives}\n{body}"));
        assert_eq!(
            with("; run: mark_cold\n; check: b2 freq 0\n; remark: b2\n; ledger: mark_cold changed 1"),
            Ok(())
        );
        for wrong in
            ["remark: b1", "missed: b2", "ledger: mark_cold changed 2", "check: b1 freq 0", "unchanged"]
        {
            assert!(with(&format!("; run: quick\n; {wrong}")).is_err(), "{wrong}");
        }
        for wrong in ["run: no_such", "passes: no_such", "run: warm\n; passes: mark_cold", "opt-limit: few"] {
            assert!(with(&format!("; {wrong}\n; check: b0")).is_err(), "{wrong}");
        }
    }
}
