//! Programs that are Olive's text: read, lowered, and run in each of their engines.
//!
//! ```text
//!   run               native code             --profile-in: blocks are as frequent as was observed
//!   run --interpret   the reference interpreter of the IL
//!   run --bytecode    the interpreter of the bytecode          --profile-out: what it observes is written to a file
//! ```
//!
//! Commands that show IL take the text of a program's lowering, as if it stood in a file.
//!
//! *Limits.* Fuel counts operations of the bytecode, roots of the IL, and polls of native code, which stand where loops jump back.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;

use bumpalo::Bump;
use dagwood_il::profile::ProfileSnapshot;
use dagwood_il::{Folding, MethodId, Module, RaiseKind, text};
use dagwood_olive::engine::{self, Native, missing_native, run_bytecode, run_il};
use dagwood_olive::host::{CONSOLE, Value};
use dagwood_olive::observe::Observed;
use dagwood_olive::{Lowering, Program};
use dagwood_runtime::thread::{self, Thread};

use crate::args::{Matches, similar};
use crate::check::counted;
use crate::engine::{Ended, Engine, Limits, Trap, signature, with_backtrace};
use crate::report::{At, Failure, Output, diagnostic};
use crate::run::{texts, wrong_arguments};
use crate::value;
use crate::watchdog::Watchdog;

/// The method that a program runs from.
const MAIN: &str = "Main.main";

/// Reads and verifies a program.
pub(crate) fn read(name: &str, text: &str) -> Result<Program, Failure> {
    Program::read(text).map_err(|error| {
        let At { line, column } = At { line: error.position.line, column: error.position.column };
        let message = format!("{}; expected {}", error.what, error.expected);
        Failure::Failed(diagnostic(name, text, At { line, column }, "olive", message))
    })
}

/// The IL of a program, as text.
pub(crate) fn il_text(name: &str, text: &str) -> Result<String, Failure> {
    let program = read(name, text)?;
    let lowering = Lowering::new(&program, Folding::On);
    let (module, arena) = (lowering.module(), Bump::new());
    let lower = |id| lowering.lower(id, None, &arena);
    let methods: Result<Vec<_>, _> = module.methods.keys().map(lower).collect();
    let methods = methods.map_err(|error| Failure::of(name, error))?;
    Ok(text::print_module(module, &methods.iter().collect::<Vec<_>>()))
}

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By an engine that runs the IL.
    Il(Engine),
    /// By the interpreter of the bytecode.
    Bytecode,
}

/// Runs a method, `Main.main` if none is named.
pub(crate) fn run(
    matches: &Matches,
    name: &str,
    text: &str,
    limits: &Limits,
    arguments: &[OsString],
) -> Result<Ended, Failure> {
    let (is_bytecode, profile_out) = (matches.has("--bytecode"), matches.value("--profile-out"));
    if is_bytecode && matches.has("--interpret") {
        return Err(matches.usage("--interpret and --bytecode are different engines; one is enough"));
    }
    if profile_out.is_some() && !is_bytecode {
        return Err(matches.usage("--profile-out goes with --bytecode, which observes"));
    }
    let program = read(name, text)?;
    let method = find(name, &program, matches.text("--invoke")?.unwrap_or(MAIN))?;
    let how = if is_bytecode { How::Bytecode } else { How::Il(Engine::chosen(matches)) };
    let profile_in = matches.value("--profile-in");
    if profile_in.is_some() && how != How::Il(Engine::Native) {
        return Err(matches.usage("--profile-in is for native code; leave out --interpret and --bytecode"));
    }
    let lowering = Lowering::new(&program, Folding::On);
    let declared = lowering.module().method_signature(method);
    let args = value::read_all(&declared.params, &texts(arguments, name)?).map_err(|what| {
        let method = format!("`{}` is {}", program.method_name(method), signature(declared));
        wrong_arguments(name, &method, &what, arguments)
    })?;
    let args: Vec<Value> = args.iter().map(|arg| Value::from_bits(arg.ty(), arg.low())).collect();
    let profile = profile_in.map(|path| read_profile(path, lowering.module())).transpose()?;
    let mut observed = Observed::new(&program);
    let call = Call { name, lowering: &lowering, limits, profile: profile.as_ref() };
    let ended = call.run(how, method, &args, Some(&mut observed), &mut std::io::stdout())?;
    if let Some(path) = profile_out {
        let mut out = Output::chosen(Some(path))?;
        out.put(&text::print_profile(lowering.module(), &observed.snapshot(&program)))?;
        out.finish()?;
    }
    Ok(ended)
}

fn read_profile(path: &OsStr, module: &Module) -> Result<ProfileSnapshot, Failure> {
    let name = path.to_string_lossy();
    let source = fs::read_to_string(path).map_err(|error| Failure::of(&name, error))?;
    text::parse_profile(&source, module).map_err(|error| {
        let message = format!("{}; expected {}", error.what, error.expected);
        let at = At { line: error.line, column: error.column };
        Failure::Failed(diagnostic(&name, &source, at, "profile", message))
    })
}

/// The method with a name.
fn find(name: &str, program: &Program, wanted: &str) -> Result<MethodId, Failure> {
    if let Some(id) = program.find_method(wanted) {
        return Ok(id);
    }
    let names: Vec<String> = program.methods().keys().map(|id| program.method_name(id)).collect();
    let hint = match similar(wanted, names.iter().map(String::as_str)) {
        Some(close) => format!("; did you mean `{close}`?"),
        None => "; --invoke takes the names of a class and a method: `List.sort`".into(),
    };
    Err(Failure::of(name, format!("it has no method `{wanted}` with a body{hint}")))
}

/// What is in a program besides the prelude.
pub(crate) fn contents(program: &Program) -> String {
    let prelude = Program::read("").expect("a program may have nothing of its own");
    let classes = program.classes().len() - prelude.classes().len();
    let methods = program.methods().len() - prelude.methods().len();
    format!(
        "{classes} {} with {}",
        if classes == 1 { "class" } else { "classes" },
        counted(methods, "method")
    )
}

/// The static methods without parameters, by name.
pub(crate) fn entries(program: &Program) -> impl Iterator<Item = (String, MethodId)> {
    let methods = program.methods().iter().filter(|(_, method)| method.is_static && method.params == 0);
    methods.map(|(id, _)| (program.method_name(id), id))
}

/// What calls of one program have in common.
pub(crate) struct Call<'c> {
    /// The file's name.
    pub(crate) name: &'c str,
    /// The program's lowering.
    pub(crate) lowering: &'c Lowering<'c>,
    /// How much it may use.
    pub(crate) limits: &'c Limits,
    /// What was observed of it.
    pub(crate) profile: Option<&'c ProfileSnapshot>,
}

impl Call<'_> {
    /// Calls a method.
    pub(crate) fn run(
        &self,
        how: How,
        method: MethodId,
        args: &[Value],
        observed: Option<&mut Observed>,
        out: &mut dyn Write,
    ) -> Result<Ended, Failure> {
        let program = self.lowering.program();
        if let Some(missing) = missing_native(program) {
            let there: Vec<&str> = CONSOLE.iter().map(|(name, _)| *name).collect();
            let there = there.join(", ");
            let message = format!("the native `{missing}` is not there, or not like this; there are {there}");
            return Err(Failure::of(self.name, message));
        }
        let default = engine::Limits::default();
        let limits = engine::Limits {
            fuel: self.limits.fuel.unwrap_or(default.fuel),
            heap_bytes: self.limits.max_memory.unwrap_or(default.heap_bytes),
            ..default
        };
        if how == How::Il(Engine::Native) {
            return self.native(method, args, limits, out);
        }
        let _watchdog = Watchdog::start(self.limits.timeout, None)?;
        Ok(self.ended(match how {
            How::Bytecode => run_bytecode(program, method, args, limits, observed, out),
            How::Il(_) => run_il(self.lowering, method, args, limits, out),
        }))
    }

    fn native(
        &self,
        method: MethodId,
        args: &[Value],
        limits: engine::Limits,
        out: &mut dyn Write,
    ) -> Result<Ended, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::of(self.name, error);
        let native = {
            let _watchdog = Watchdog::start(self.limits.timeout, None)?;
            let options = self.limits.jit_options()?;
            Native::new(self.lowering, self.profile, limits, options).map_err(|error| failed(&error))?
        };
        let thread = Thread::new(&thread::Options::default()).map_err(|error| failed(&error))?;
        thread.set_fuel(self.limits.fuel);
        let _watchdog = Watchdog::start(self.limits.timeout, Some(thread.interrupter()))?;
        let ended = native.call_on(&thread, method, args, out).map_err(|error| failed(&error))?;
        Ok(self.ended(ended))
    }

    /// How a call ended, as all programs' calls do.
    fn ended(&self, ended: engine::Ended) -> Ended {
        let program = self.lowering.program();
        let text = ended.to_string();
        // Exceptions of different classes are told apart by their classes' indexes.
        let index = |class: &str| program.classes().values().position(|own| own.name == class);
        let (kind, reason, trace) = match ended {
            engine::Ended::Returned(value) => {
                return Ended::Values(value.map(|value| value.to_il().into()).into_iter().collect());
            }
            engine::Ended::Uncaught(class, trace) => {
                (RaiseKind::Guest, index(&class).unwrap_or_default() as u16, trace)
            }
            engine::Ended::Stopped(kind, trace) => (kind, 0, trace),
        };
        let lines = trace.iter().map(|(method, at)| format!("{} at !{at}", program.method_name(*method)));
        let text = with_backtrace(&text, &lines.collect::<Vec<_>>(), 0);
        Ended::Trap(Trap { kind, reason, text })
    }
}
