//! Calls that text tests ask for, in the interpreter and as native code.
//!
//! ```text
//!   call     = @method(value, …) outcome
//!   outcome  = == value, …                                    what is returned
//!            | raises kind (reason n)?                        what nothing catches
//!            | exits @method:position mode [slot, …] [slot, …] … (parent …)? (virtual n @Class [slot, …])*
//!   value    = i8 -1 | i32 0xff | f64 1.5 | f32 nan | addr 0 | …       slot = value | dead | virtual n
//! ```
//!
//! Programs may declare native functions by these names, with any signature: `echo…` returns its arguments, as many as it
//! has results; `toss…` throws its argument; `raise…` raises the kind of this number with this reason. No other one is
//! there, and a call of it is a fault. A guard on `custom n` fails if the test says `broken: n`.

use std::fmt::Write;

use dagwood_il::eval::Value;
use dagwood_il::interp::{
    Exit, ExitFrame, ExitValue, Host, Interpreter, Limits, Program, Raised, Regions, Stop, Values,
};
use dagwood_il::layout::ObjectKind;
use dagwood_il::text::Source;
use dagwood_il::{Assumption, FrameMode, MethodId, Module, NativeId, RaiseKind, SourcePos, Type};

use dagwood_runtime::heap::Collect;
use dagwood_runtime::view::MemoryView;

use crate::native::Compiled;

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With results.
    Values(Vec<Value>),
    /// With a raise that nothing caught.
    Raised(RaiseKind, u16),
    /// By a guard, with these frames.
    Exit(String),
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

/// Where a call is evaluated.
pub(crate) enum Engines<'e> {
    /// In the interpreter alone.
    Interpreter,
    /// In the interpreter, and as this code.
    Both(&'e Compiled),
}

/// Holds a call, as a directive asks for it, against the engines.
pub(crate) fn evaluate(
    parsed: &Source<'_>,
    broken: &[u32],
    text: &str,
    engines: &Engines<'_>,
) -> Result<(), String> {
    let split = |separator| text.split_once(separator);
    let (call, expected) = if let Some((call, values)) = split(" ==") {
        (call, Outcome::Values(values_of(values)?))
    } else if let Some((call, raised)) = split(" raises ") {
        (call, raised_of(raised)?)
    } else if let Some((call, frames)) = split(" exits ") {
        (call, Outcome::Exit(frames.split_whitespace().collect::<Vec<_>>().join(" ")))
    } else {
        return Err(format!("`{text}` says neither `==` nor `raises` nor `exits`"));
    };
    let (name, args) = call.trim().trim_start_matches('@').split_once('(').ok_or("a call has arguments")?;
    let args = values_of(args.trim().trim_end_matches(')'))?;
    let method = method_named(&parsed.module, name).ok_or_else(|| format!("there is no method `{name}`"))?;
    let interpreted = interpret(parsed, broken, method, &args)?;
    if !interpreted.agrees(&expected) {
        return Err(format!("the interpreter gives {interpreted:?}, not {expected:?}"));
    }
    let Engines::Both(compiled) = engines else { return Ok(()) };
    for collect in [Collect::WhenFull, Collect::AtEveryYield] {
        let native = compiled.call(method, &args, collect)?;
        if !native.agrees(&expected) {
            return Err(format!("native code gives {native:?}, not {expected:?}, collecting {collect:?}"));
        }
    }
    let shared = interpret_shared(parsed, compiled, method, &args)?;
    match shared.agrees(&expected) {
        true => Ok(()),
        false => Err(format!("over the heap the interpreter gives {shared:?}, not {expected:?}")),
    }
}

fn method_named(module: &Module, name: &str) -> Option<MethodId> {
    module.methods.iter().find(|(_, decl)| decl.name == name).map(|(id, _)| id)
}

// ---- the interpreter ----

fn interpret(
    parsed: &Source<'_>,
    broken: &[u32],
    method: MethodId,
    args: &[Value],
) -> Result<Outcome, String> {
    let module = &parsed.module;
    let lookup = |id| parsed.bodies.iter().map(|body| &body.method).find(|method| method.id() == id);
    let mut host = Regions::new(module);
    host.guards(|site| {
        !site.assumptions.iter().any(|assumption| match assumption {
            Assumption::Custom(number) => broken.contains(number),
            _ => false,
        })
    });
    for (id, native) in test_natives(module) {
        host.native(id, move |_, _, args| match native.call(args) {
            Ok(results) => Ok(Values::from_slice(results)),
            Err(raised) => Err(raised),
        });
    }
    run(Program { module, bodies: &lookup }, &mut host, method, args)
}

/// Interprets over the heap that native code has, collecting it at every yield point.
fn interpret_shared(
    parsed: &Source<'_>,
    compiled: &Compiled,
    method: MethodId,
    args: &[Value],
) -> Result<Outcome, String> {
    let module = &parsed.module;
    let lookup = |id| parsed.bodies.iter().map(|body| &body.method).find(|method| method.id() == id);
    compiled.prepare(Collect::AtEveryYield);
    let objects = compiled.objects();
    let mut host = objects.interpreter(MemoryView::new()).map_err(|error| error.to_string())?;
    run(Program { module, bodies: &lookup }, &mut host, method, args)
}

fn run(
    program: Program<'_, '_>,
    host: &mut impl Host,
    method: MethodId,
    args: &[Value],
) -> Result<Outcome, String> {
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    let module = program.module;
    match Interpreter::new(program).run(host, method, 0, args, limits) {
        Ok(values) => Ok(Outcome::Values(values.to_vec())),
        Err(Stop::Raised { raised, .. }) => Ok(Outcome::Raised(raised.kind, raised.reason)),
        Err(Stop::Exit(exit)) => Ok(Outcome::Exit(exit_text(module, &exit))),
        Err(stop) => Err(format!("the interpreter stops: {stop}")),
    }
}

/// The frames of an exit, the innermost first, and the objects in them.
fn exit_text(module: &Module, exit: &Exit) -> String {
    let frames: Vec<String> = exit.frames.iter().map(|frame| frame_text(module, frame)).collect();
    let mut text = frames.join(" parent ");
    for object in &exit.virtuals {
        let of = match object.kind {
            ObjectKind::Object(class) => format!("@{}", module.classes[class].name),
            ObjectKind::Array(ty) => format!("array {ty}"),
            ObjectKind::ObjectArray(class) => format!("array @{}", module.classes[class].name),
        };
        let _ = write!(text, " virtual {} {of} {}", object.id, slots(&object.fields));
    }
    text
}

fn frame_text(module: &Module, frame: &ExitFrame) -> String {
    let mut text = format!("@{}", module.methods[frame.method].name);
    if frame.position != SourcePos::NONE {
        let _ = write!(text, ":{}", frame.position.0);
    }
    let mode = match frame.mode {
        FrameMode::Reexecute => "reexecute",
        FrameMode::After => "after",
        FrameMode::Raise => "raise",
    };
    let _ = write!(text, " {mode} {} {}", slots(&frame.locals), slots(&frame.stack));
    if !frame.monitors.is_empty() {
        let _ = write!(text, " monitors {}", slots(&frame.monitors));
    }
    text
}

fn slots(values: &[ExitValue]) -> String {
    let slot = |value: &ExitValue| match value {
        ExitValue::Value(value) => value.to_string(),
        ExitValue::Dead => "dead".into(),
        ExitValue::Virtual(id) => format!("virtual {id}"),
    };
    format!("[{}]", values.iter().map(slot).collect::<Vec<_>>().join(", "))
}

// ---- native functions ----

/// A native function that tests may declare.
#[derive(Clone, Copy)]
pub(crate) enum TestNative {
    /// Returns this many of its arguments.
    Echo(usize),
    /// Throws its argument.
    Toss,
    /// Raises the kind that its first argument says, with its second as the reason.
    Raise,
}

impl TestNative {
    /// What a call does.
    pub(crate) fn call(self, args: &[Value]) -> Result<&[Value], Raised> {
        let low = |index: usize| args.get(index).map_or(0, |arg| arg.low());
        match self {
            TestNative::Echo(results) => Ok(&args[..results.min(args.len())]),
            TestNative::Toss => Err(Raised::guest(low(0))),
            TestNative::Raise => {
                let kind = RaiseKind::from_number(low(0) as u8).unwrap_or(RaiseKind::Fault);
                Err(Raised::new(kind, low(1) as u16))
            }
        }
    }
}

/// The native functions of a module that are there.
pub(crate) fn test_natives(module: &Module) -> impl Iterator<Item = (NativeId, TestNative)> {
    module.natives.iter().filter_map(|(id, decl)| {
        let results = module.native_signature(id).results.len();
        let native = match decl.name.as_str() {
            name if name.starts_with("echo") => TestNative::Echo(results),
            name if name.starts_with("toss") => TestNative::Toss,
            name if name.starts_with("raise") => TestNative::Raise,
            _ => return None,
        };
        Some((id, native))
    })
}

// ---- values ----

fn raised_of(text: &str) -> Result<Outcome, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (kind, reason) = match words[..] {
        [kind] => (kind, "0"),
        [kind, "reason", reason] => (kind, reason),
        _ => return Err(format!("`{text}` is no raise: `kind`, or `kind reason n`")),
    };
    let kind = kind.parse().map_err(|()| format!("`{kind}` is no kind"))?;
    let reason = reason.parse().map_err(|_| format!("`{reason}` is no reason"))?;
    Ok(Outcome::Raised(kind, reason))
}

/// `i32 7, f64 1.5, …`
fn values_of(text: &str) -> Result<Vec<Value>, String> {
    text.split(',').map(str::trim).filter(|value| !value.is_empty()).map(value_of).collect()
}

fn value_of(text: &str) -> Result<Value, String> {
    let bad = || format!("`{text}` is no value: a type and a number");
    let (ty, number) = text.split_once(' ').ok_or_else(bad)?;
    let ty: Type = ty.parse().map_err(|()| bad())?;
    let number = number.trim();
    let bits = if let Some(hex) = number.strip_prefix("0x") {
        u128::from_str_radix(hex, 16).map_err(|_| bad())?
    } else if ty == Type::F32 {
        number.parse::<f32>().map_err(|_| bad())?.to_bits().into()
    } else if ty == Type::F64 {
        number.parse::<f64>().map_err(|_| bad())?.to_bits().into()
    } else {
        number.parse::<i128>().map_err(|_| bad())? as u128
    };
    let value = Value::new(ty, bits);
    // An integer may be given signed or unsigned, but it must fit.
    let is_exact = match ty {
        Type::V128 => true,
        _ => {
            let above = (bits as i128) >> ty.bits();
            above == 0 || above == -1 && (bits as i128) >> (ty.bits() - 1) == -1
        }
    };
    if is_exact { Ok(value) } else { Err(format!("`{text}` does not fit its type")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_at_their_type() {
        assert_eq!(values_of("i8 -1, i64 0x10").expect("two values"), [Value::i8(-1), Value::i64(16)]);
        assert_eq!(values_of("i8 255, i8 -128").expect("two values"), [Value::i8(-1), Value::i8(-128)]);
        assert!(value_of("f32 nan").expect("a value").is_nan());
        for bad in ["i32", "i32 x", "i8 256", "i8 -129", "i32 0x100000000"] {
            assert!(value_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_raise_has_a_kind_and_perhaps_a_reason() {
        assert_eq!(raised_of(" null "), Ok(Outcome::Raised(RaiseKind::Null, 0)));
        assert_eq!(raised_of("bounds reason 7"), Ok(Outcome::Raised(RaiseKind::Bounds, 7)));
        assert!(raised_of("bounds 7").is_err() && raised_of("nil").is_err());
    }
}
