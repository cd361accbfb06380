//! Text tests: IL with directives in its comments, next to the lines that they are about.
//!
//! ```text
//!   ; run: none                                  the strategy whose output `check` and its like look at
//!   ; eval: @f(i32 7, f64 nan) == i32 3          in the interpreter and as native code
//!   ; eval: @f(i32 0) raises division reason 2   what is raised
//!   ; interpret: @f() == i32 1                   in the interpreter alone, for what has no machine code yet
//!   ; refused: monitor_enter                     compiling is refused, by a message that holds this
//!   ; check: add.i32 %0, %1                      the output holds this, after what was checked before
//!   ; next: return %2                            and this on the line after
//!   ; not: mul                                   the output does not hold this anywhere
//!   ; unchanged                                  the output is the input
//!   … ; error: divisor                           this line is refused, by a message that holds this
//! ```
//!
//! A file's name is its claim. A file that expects an error expects nothing else. Every other file is also printed, read
//! again and compared, and verified before and after its strategy.

use std::fmt::Write;

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::interp::{Interpreter, Limits, Program, Regions, Stop};
use dagwood_il::text::{self, Source};
use dagwood_il::verify::{verify, verify_module};
use dagwood_il::{MethodId, Module, RaiseKind, Type};
use dagwood_opt::Strategy;

use crate::native;

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With results.
    Values(Vec<Value>),
    /// With a raise that nothing caught.
    Raised(RaiseKind, u16),
}

impl Outcome {
    /// Whether both are the same, NaN payloads aside.
    pub fn agrees(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Values(left), Outcome::Values(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(a, b)| a.same_modulo_nan(*b))
            }
            _ => self == other,
        }
    }
}

/// Fuel of an evaluation: a test that needs more hangs.
const FUEL: u64 = 100_000_000;

/// A directive and the line it stands on.
struct Directive<'s> {
    line: u32,
    name: &'s str,
    text: &'s str,
}

const NAMES: &[&str] = &["run", "eval", "interpret", "refused", "check", "next", "not", "unchanged", "error"];

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
pub fn run(source: &str) -> Result<(), String> {
    let directives = directives(source);
    if directives.is_empty() {
        return Err("the file has no directive, so it tests nothing".into());
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
    for directive in &directives {
        let held = match directive.name {
            "eval" => evaluate(&parsed, source, directive.text, Engines::Both),
            "interpret" => evaluate(&parsed, source, directive.text, Engines::Interpreter),
            "refused" => refuse(source, directive.text),
            _ => Ok(()),
        };
        held.map_err(|what| format!("line {}: {what}", directive.line))?;
    }
    Ok(())
}

/// The source, read and verified; or what is wrong with it, by line.
fn refusals<'a>(source: &str, arena: &'a Bump) -> Result<Source<'a>, Vec<(u32, String)>> {
    let parsed = text::parse(source, arena).map_err(|error| vec![(error.line, error.to_string())])?;
    verify_module(&parsed.module)
        .map_err(|errors| errors.iter().map(|error| (0, error.to_string())).collect::<Vec<_>>())?;
    let mut refused = Vec::new();
    for body in &parsed.bodies {
        for error in verify(&parsed.module, &body.method).err().unwrap_or_default() {
            let at = error.node().and_then(|node| body.positions.node(node));
            let at = at.or_else(|| body.positions.block(error.block()?)).unwrap_or(body.positions.method());
            refused.push((at.line, error.to_string()));
        }
    }
    if refused.is_empty() { Ok(parsed) } else { Err(refused) }
}

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
    Ok(())
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

// ---- evaluation ----

/// Where a call is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engines {
    Both,
    Interpreter,
}

/// Compiling the source is refused with a message that holds `text`.
fn refuse(source: &str, text: &str) -> Result<(), String> {
    match native::compile(source) {
        Ok(_) => Err("compiling is not refused".into()),
        Err(what) if what.contains(text) => Ok(()),
        Err(what) => Err(format!("compiling is refused with `{what}`, not `{text}`")),
    }
}

/// Holds a call against the interpreter, and native code.
fn evaluate(parsed: &Source<'_>, source: &str, text: &str, engines: Engines) -> Result<(), String> {
    let (call, expected) = match (text.split_once("=="), text.split_once(" raises ")) {
        (Some((call, values)), _) => (call, Outcome::Values(values_of(values)?)),
        (None, Some((call, raised))) => (call, raised_of(raised)?),
        (None, None) => return Err(format!("`{text}` says neither `==` nor `raises`")),
    };
    let (name, args) = call.trim().trim_start_matches('@').split_once('(').ok_or("a call has arguments")?;
    let args = values_of(args.trim().trim_end_matches(')'))?;
    let method = method_named(&parsed.module, name).ok_or_else(|| format!("there is no method `{name}`"))?;
    let interpreted = interpret(source, method, &args)?;
    if !interpreted.agrees(&expected) {
        return Err(format!("the interpreter gives {interpreted:?}, not {expected:?}"));
    }
    if engines == Engines::Interpreter {
        return Ok(());
    }
    let native = native::call(source, method, &args)?;
    if native.agrees(&expected) {
        Ok(())
    } else {
        Err(format!("native code gives {native:?}, not {expected:?}"))
    }
}

fn method_named(module: &Module, name: &str) -> Option<MethodId> {
    module.methods.iter().find(|(_, decl)| decl.name == name).map(|(id, _)| id)
}

fn interpret(source: &str, method: MethodId, args: &[Value]) -> Result<Outcome, String> {
    let arena = Bump::new();
    let parsed = text::parse(source, &arena).map_err(|error| error.to_string())?;
    let (module, bodies) = (&parsed.module, &parsed.bodies);
    let lookup = |id| bodies.iter().map(|body| &body.method).find(|method| method.id() == id);
    let mut host = Regions::new(module);
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    match Interpreter::new(Program { module, bodies: &lookup }).run(&mut host, method, 0, args, limits) {
        Ok(values) => Ok(Outcome::Values(values.to_vec())),
        Err(Stop::Raised { raised, .. }) => Ok(Outcome::Raised(raised.kind, raised.reason)),
        Err(stop) => Err(format!("the interpreter stops: {stop:?}")),
    }
}

fn raised_of(text: &str) -> Result<Outcome, String> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let kind = kind.parse().map_err(|()| format!("`{kind}` is no kind"))?;
    let reason = match (words.next(), words.next()) {
        (Some("reason"), Some(number)) => number.parse().map_err(|_| format!("`{number}` is no reason"))?,
        _ => 0,
    };
    Ok(Outcome::Raised(kind, reason))
}

/// `i32 7, f64 1.5, …`
fn values_of(text: &str) -> Result<Vec<Value>, String> {
    text.split(',').map(str::trim).filter(|value| !value.is_empty()).map(value_of).collect()
}

fn value_of(text: &str) -> Result<Value, String> {
    let bad = || {
        let mut what = String::new();
        let _ = write!(what, "`{text}` is no value: a type and a number");
        what
    };
    let (ty, number) = text.split_once(' ').ok_or_else(bad)?;
    let ty: Type = ty.parse().map_err(|()| bad())?;
    let number = number.trim();
    let bits = if let Some(hex) = number.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).map_err(|_| bad())?
    } else if ty == Type::F32 {
        number.parse::<f32>().map_err(|_| bad())?.to_bits().into()
    } else if ty == Type::F64 {
        number.parse::<f64>().map_err(|_| bad())?.to_bits()
    } else {
        number.parse::<i64>().map(|value| value as u64).or_else(|_| number.parse()).map_err(|_| bad())?
    };
    Ok(Value::from_bits(ty, bits & ty.mask()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_at_their_type() {
        assert_eq!(values_of("i8 -1, i64 0x10").expect("two values"), [Value::i8(-1), Value::i64(16)]);
        assert!(value_of("f32 nan").expect("a value").is_nan());
        assert!(value_of("i32").is_err() && value_of("i32 x").is_err());
    }

    #[test]
    fn a_test_without_directives_is_refused() {
        assert!(run("; nothing is claimed\n").is_err());
    }
}
