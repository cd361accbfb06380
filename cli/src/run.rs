//! `dagwood run`: a program from its start, or one function of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;

use bumpalo::Bump;
use dagwood_il::MethodId;
use dagwood_il::eval::Value;
use dagwood_wasm::wasi::{Access, Stdio, WasiConfig};

use crate::args::Matches;
use crate::dag::Dag;
use crate::engine::{Ended, Engine, Limits, signature};
use crate::load::{Loaded, Source, load, load_olive};
use crate::olive;
use crate::report::{Failure, Output};
use crate::value;
use crate::wasm::{self, Program};

/// The method that a program of the IL runs from.
const MAIN: &str = "main";
/// The options that make sense for programs that use WASI alone.
const WASI_OPTIONS: [&str; 3] = ["--dir", "--read-dir", "--env"];
/// The options that make sense for Olive alone.
const OLIVE_OPTIONS: [&str; 3] = ["--bytecode", "--profile-out", "--profile-in"];

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let limits = Limits::read(matches)?;
    let system = grants(matches)?;
    let invoke = matches.text("--invoke")?;
    let (file, arguments) = matches.operands.split_first().expect("a command with an operand has been read");
    if let Some((name, text)) = load_olive(file)? {
        refuse(
            matches,
            &WASI_OPTIONS,
            &format!("is for WebAssembly; {name} is Olive, which sees no system"),
        )?;
        return finish(olive::run(matches, &name, &text, &limits, arguments)?);
    }
    let Loaded { name, source } = load(file)?;
    refuse(matches, &OLIVE_OPTIONS, &format!("is for Olive; {name} is not"))?;
    let ended = match source {
        Source::Wasm(bytes) => {
            let program = Program::new(&name, wasm::parse(&name, bytes)?, Engine::chosen(matches), &limits)?;
            run_wasm(&program, system.arg(file.as_bytes()), invoke, arguments, &name)?
        }
        Source::Il(text) => {
            refuse(
                matches,
                &WASI_OPTIONS,
                &format!("is for WebAssembly; {name} is IL, which sees no system"),
            )?;
            run_il(&name, &text, Engine::chosen(matches), &limits, invoke, arguments)?
        }
    };
    finish(ended)
}

/// Refuses options that make no sense here.
fn refuse(matches: &Matches, options: &[&str], why: &str) -> Result<(), Failure> {
    match options.iter().find(|option| matches.has(option)) {
        Some(option) => Err(matches.usage(format!("{option} {why}"))),
        None => Ok(()),
    }
}

/// What the program may see of the system.
fn grants(matches: &Matches) -> Result<WasiConfig, Failure> {
    let mut system = WasiConfig::new().stdin(Stdio::Inherit).stdout(Stdio::Inherit).stderr(Stdio::Inherit);
    for (option, access) in [("--dir", Access::ReadWrite), ("--read-dir", Access::ReadOnly)] {
        for value in matches.values(option) {
            let (host, guest) = split(value, b"::").unwrap_or((value, value));
            if host.is_empty() || guest.is_empty() {
                return Err(
                    matches.usage(format!("{option} takes HOST or HOST::GUEST, not `{}`", value.display()))
                );
            }
            system = system.preopen(host, guest.as_bytes(), access);
        }
    }
    for value in matches.values("--env") {
        match split(value, b"=") {
            Some((name, value)) if !name.is_empty() => system = system.env(name.as_bytes(), value.as_bytes()),
            _ => return Err(matches.usage(format!("--env takes NAME=VALUE, not `{}`", value.display()))),
        }
    }
    Ok(system)
}

/// What is before and behind the first separator.
fn split<'v>(value: &'v OsStr, separator: &[u8]) -> Option<(&'v OsStr, &'v OsStr)> {
    let bytes = value.as_bytes();
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + separator.len()..])))
}

/// Calls what is asked for of a module: an export with arguments, or its start with all of them.
pub(crate) fn run_wasm(
    program: &Program<'_>,
    system: WasiConfig,
    invoke: Option<&str>,
    arguments: &[OsString],
    name: &str,
) -> Result<Ended, Failure> {
    match invoke {
        Some(export) => {
            let ty = program.function(export)?;
            let args = wasm::read_args(&ty, &texts(arguments, name)?)
                .map_err(|what| wrong_arguments(name, &format!("`{export}` is {ty}"), &what, arguments))?;
            program.call(system, export, &args)
        }
        None => {
            let ty = program.function(wasm::START)?;
            if !ty.params.is_empty() || !ty.results.is_empty() {
                let what = format!("`{}` is {ty}; a program's takes and returns nothing", wasm::START);
                return Err(Failure::of(name, what));
            }
            let system = system.args(arguments.iter().map(|argument| argument.as_bytes()));
            program.call(system, wasm::START, &[])
        }
    }
}

fn run_il(
    name: &str,
    text: &str,
    engine: Engine,
    limits: &Limits,
    invoke: Option<&str>,
    arguments: &[OsString],
) -> Result<Ended, Failure> {
    let arena = Bump::new();
    let program = Dag::read(name, text, &arena)?;
    let (method, args) = arguments_of(&program, name, invoke, arguments)?;
    let mut out = io::stdout();
    program.call(engine, method, &args, limits, &Mutex::new(&mut out))
}

/// The method that is asked for, and its arguments.
pub(crate) fn arguments_of(
    program: &Dag<'_>,
    name: &str,
    invoke: Option<&str>,
    arguments: &[OsString],
) -> Result<(MethodId, Vec<Value>), Failure> {
    let method = program.method(invoke.unwrap_or(MAIN))?;
    let module = program.module();
    let declared = module.method_signature(method);
    let args = value::read_all(&declared.params, &texts(arguments, name)?).map_err(|what| {
        let method = format!("`@{}` is {}", module.methods[method].name, signature(declared));
        wrong_arguments(name, &method, &what, arguments)
    })?;
    Ok((method, args))
}

/// Arguments of a call, which are numbers and so UTF-8.
pub(crate) fn texts<'t>(arguments: &'t [OsString], name: &str) -> Result<Vec<&'t str>, Failure> {
    let text = |argument: &'t OsString| {
        argument
            .to_str()
            .ok_or_else(|| Failure::of(name, format!("an argument is not UTF-8: {}", argument.display())))
    };
    arguments.iter().map(text).collect()
}

pub(crate) fn wrong_arguments(name: &str, function: &str, what: &str, arguments: &[OsString]) -> Failure {
    let is_option = |argument: &OsString| argument.as_bytes().starts_with(b"--");
    let hint = match arguments.iter().find(|argument| is_option(argument)) {
        Some(option) => format!("options stand before the file; `{}` is an argument here", option.display()),
        None => "arguments follow the file: dagwood run --invoke NAME FILE ARGUMENTS...".into(),
    };
    Failure::usage(format!("{name}: {function}: {what}"), hint)
}

/// Prints the results, or says how else it ended.
fn finish(ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::Values(values) => {
            let mut out = Output::standard();
            for value in values {
                out.put(&format!("{}\n", value.text))?;
            }
            out.finish()
        }
        Ended::Exit(code) => Err(Failure::Exit(code)),
        Ended::Trap(trap) => Err(Failure::Trap(trap.text)),
    }
}
