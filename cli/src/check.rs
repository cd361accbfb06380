//! `dagwood check`: whether files are valid, and whether the two engines agree about them.

use std::ffi::OsStr;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use bumpalo::Bump;
use dagwood_il::Folding;
use dagwood_olive::{Lowering, Program};
use dagwood_wasm::Module;
use dagwood_wasm::wasi::{Buffer, Stdio, WasiConfig};

use crate::args::Matches;
use crate::dag::Dag;
use crate::engine::{Ended, Engine, Limits};
use crate::load::{Loaded, Source, load, load_olive};
use crate::olive::{self, How};
use crate::report::{Failure, Output, say};
use crate::wasm;

/// How long a call may take in each engine if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a call ended, and what it printed.
struct Observed {
    ended: Ended,
    output: Vec<u8>,
}

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let mut limits = Limits::read(matches)?;
    limits.timeout = limits.timeout.or(Some(PATIENCE));
    let is_differential = matches.has("--differential");
    let mut is_right = true;
    let mut out = Output::standard();
    for file in &matches.operands {
        let check = check(file, is_differential.then_some(&limits));
        match check {
            Ok(line) => out.put(&line)?,
            Err(failure) => {
                failure.print();
                is_right = false;
            }
        }
    }
    out.finish()?;
    if is_right { Ok(()) } else { Err(Failure::Reported) }
}

/// Checks a file, and compares the engines if there are limits to do so within; says what was found.
fn check(file: &OsStr, limits: Option<&Limits>) -> Result<String, Failure> {
    if let Some((name, text)) = load_olive(file)? {
        let program = olive::read(&name, &text)?;
        let what = format!("{name}: a valid Olive program of {}", olive::contents(&program));
        let calls = limits.map(|limits| compare_entries(&name, &program, limits)).transpose()?;
        return Ok(verdict(&what, calls));
    }
    let Loaded { name, source } = load(file)?;
    match source {
        Source::Wasm(bytes) => {
            let module = wasm::parse(&name, bytes)?;
            let what = format!("{name}: a valid module of {}", contents(&module));
            let calls = limits.map(|limits| compare_module(&name, module, limits)).transpose()?;
            Ok(verdict(&what, calls))
        }
        Source::Il(text) => {
            let arena = Bump::new();
            let program = Dag::read(&name, &text, &arena)?;
            let count = program.source.bodies.len();
            let what = format!("{name}: valid IL of {}", counted(count, "method"));
            let calls = limits.map(|limits| compare_methods(&name, &program, limits)).transpose()?;
            Ok(verdict(&what, calls))
        }
    }
}

fn verdict(what: &str, calls: Option<usize>) -> String {
    match calls {
        None => format!("{what}\n"),
        Some(0) => format!("{what}; nothing to compare: no function is without parameters\n"),
        Some(calls) => format!("{what}; both engines agree about {}\n", counted(calls, "call")),
    }
}

pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn contents(module: &Module) -> String {
    let defined = module.function_count() - module.imported_function_count();
    let functions = counted(defined, "function");
    let (imports, exports) = (module.imports().len(), module.exports().len());
    format!("{functions}, {}, {}", counted(imports, "import"), counted(exports, "export"))
}

/// Calls every exported function without parameters, each in an instance of its own.
fn compare_module(name: &str, module: Module, limits: &Limits) -> Result<usize, Failure> {
    let exports = wasm::functions(&module).filter(|(_, ty)| ty.params.is_empty());
    let exports: Vec<String> = exports.map(|(export, _)| export.to_owned()).collect();
    let interpreted = wasm::Program::new(name, module.clone(), Engine::Interpreter, limits)?;
    let native = wasm::Program::new(name, module, Engine::Native, limits)?;
    compare(name, exports.into_iter().map(|export| (export.clone(), export)), |export, engine| {
        let program = if engine == Engine::Native { &native } else { &interpreted };
        let output = Buffer::new();
        let system = WasiConfig::new().arg(name).stdout(Stdio::Buffer(output.clone()));
        let ended = program.call(system, export, &[])?;
        Ok(Observed { ended, output: output.contents() })
    })
}

/// Calls every method without parameters.
fn compare_methods(name: &str, program: &Dag<'_>, limits: &Limits) -> Result<usize, Failure> {
    let module = program.module();
    let bodies = program.source.bodies.iter().map(|body| body.method.id());
    let methods = bodies.filter(|id| module.method_signature(*id).params.is_empty());
    compare(name, methods.map(|id| (format!("@{}", module.methods[id].name), id)), |id, engine| {
        let mut output = Vec::new();
        let sink: &mut (dyn Write + Send) = &mut output;
        let ended = program.call(engine, *id, &[], limits, &Mutex::new(sink))?;
        Ok(Observed { ended, output })
    })
}

/// Calls every static method without parameters, in the interpreter of the bytecode and as native code.
fn compare_entries(name: &str, program: &Program, limits: &Limits) -> Result<usize, Failure> {
    let lowering = Lowering::new(program, Folding::On);
    let call = olive::Call { name, lowering: &lowering, limits, profile: None };
    compare(name, olive::entries(program), |method, engine| {
        let how = if engine == Engine::Native { How::Il(engine) } else { How::Bytecode };
        let mut output = Vec::new();
        let ended = call.run(how, *method, &[], None, &mut output)?;
        Ok(Observed { ended, output })
    })
}

/// Makes each call, given with its name, in both engines; counts the calls that ended by themselves.
fn compare<C>(
    name: &str,
    calls: impl Iterator<Item = (String, C)>,
    observe: impl Fn(&C, Engine) -> Result<Observed, Failure>,
) -> Result<usize, Failure> {
    let (mut agreed, mut differ) = (0, Vec::new());
    for (call, callee) in calls {
        let (interpreted, native) =
            (observe(&callee, Engine::Interpreter)?, observe(&callee, Engine::Native)?);
        match interpreted.ended.agrees(&native.ended) {
            None => say(&format!("{name}: `{call}` was stopped by a limit; nothing to compare")),
            Some(true) if interpreted.output == native.output => agreed += 1,
            Some(is_same) => {
                let (left, right) = (interpreted.ended.summary(), native.ended.summary());
                let what = if is_same { " with other output" } else { "" };
                differ.push(format!("`{call}` gives {left} interpreted, {right} as native code{what}"));
            }
        }
    }
    match differ.as_slice() {
        [] => Ok(agreed),
        lines => Err(Failure::of(name, format!("the engines differ:\n  {}", lines.join("\n  ")))),
    }
}
