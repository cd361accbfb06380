//! Text tests: IL with directives in its comments, next to the lines that they are about.
//!
//! ```text
//!   ; run: none                                  the strategy whose output `check` and its like look at
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
//!   … ; error: divisor                           this line is refused, by a message that holds this
//!   ;---                                         what follows is another source, with directives of its own
//! ```
//!
//! A file's name is its claim. A source that expects errors expects nothing else. Every other source is also printed,
//! read again and compared, and verified before and after its strategy. [`calls`](crate::calls) says how calls are written.

use bumpalo::Bump;
use dagwood_il::text::{self, Source};
use dagwood_il::verify::verify;
use dagwood_opt::Strategy;
use dagwood_runtime::codespace::Options as Space;

use crate::calls::{Engines, evaluate};
use crate::native::Compiled;

/// A directive and the line it stands on.
struct Directive<'s> {
    line: u32,
    name: &'s str,
    text: &'s str,
}

const NAMES: &[&str] =
    &["run", "eval", "interpret", "broken", "refused", "check", "next", "not", "unchanged", "error"];

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
    let output = optimize(source, &directives)?;
    check_output(&output, &directives)?;
    run_calls(source, &parsed, &directives, space)
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

fn print(source: &Source<'_>) -> String {
    text::print_module(&source.module, &source.bodies.iter().map(|body| &body.method).collect::<Vec<_>>())
}

fn round_trip(parsed: &Source<'_>) -> Result<(), String> {
    let printed = print(parsed);
    let arena = Bump::new();
    let again = text::parse(&printed, &arena)
        .map_err(|error| format!("what is printed is not read: {error}\n{printed}"))?;
    let reprinted = print(&again);
    if printed == reprinted { Ok(()) } else { Err(format!("printed:\n{printed}\nand again:\n{reprinted}")) }
}

/// The input and the output of the test's strategy, as text.
fn optimize(source: &str, directives: &[Directive<'_>]) -> Result<(String, String), String> {
    let name = directives
        .iter()
        .find(|directive| directive.name == "run")
        .map_or("none", |directive| directive.text);
    let strategy = Strategy::by_name(name).ok_or_else(|| format!("there is no strategy `{name}`"))?;
    let arena = Bump::new();
    let mut parsed = text::parse(source, &arena).map_err(|error| error.to_string())?;
    let input = print(&parsed);
    for body in &mut parsed.bodies {
        let _ = strategy.run(&parsed.module, &mut body.method);
        verify(&parsed.module, &body.method).map_err(|errors| format!("after `{name}`: {errors:?}"))?;
    }
    Ok((input, print(&parsed)))
}

fn check_output((input, output): &(String, String), directives: &[Directive<'_>]) -> Result<(), String> {
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
            _ => {}
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
}
