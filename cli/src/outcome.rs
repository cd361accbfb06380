//! What passes make of a program: whether it still does what it did without them. What `bisect` and `reduce` ask again and again.
//!
//! ```text
//!   IL ── as it is ──► interpreter ──► outcome ┐
//!    └─ passes ──► IL ─► interpreter, or code ─┴─ the same?           --invoke NAME FILE ARGUMENTS...
//!                  └───► a file ──► a command ─── exit code 0?        --command 'COMMAND {}'
//! ```
//!
//! A pass that panics, or leaves what is not well-formed, is bad whatever the program would do.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use bumpalo::Bump;
use dagwood_il::{Method, text};
use dagwood_opt::{Options, Remark, Remarks, Strategy, TextCallees, Verify, closed_world};

use crate::args::Matches;
use crate::dag::Dag;
use crate::engine::{Ended, Engine, Limits};
use crate::methods::Known;
use crate::opt::apply;
use crate::report::Failure;
use crate::run::arguments_of;

/// The roots that a run may execute unless `--fuel` says otherwise: what is cut from a program may have ended it.
const FUEL: u64 = 10_000_000;

/// How a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As without passes, or to a command's liking.
    Good,
    /// It ended otherwise, or a command failed; in words.
    Bad(String),
    /// A pass went wrong: its name, and what it did.
    Fault(&'static str, String),
    /// It was stopped by a limit, so that nothing can be said.
    Unclear,
}

/// What programs are put to.
pub(crate) struct Trial<'m> {
    pub(crate) strategy: &'m Strategy,
    options: Options,
    engine: Engine,
    limits: Limits,
    command: Option<&'m str>,
    invoke: Option<&'m str>,
    arguments: &'m [OsString],
}

/// A program after its passes.
pub(crate) struct Optimized {
    /// As text.
    pub(crate) text: String,
    /// How many rewrites were asked for.
    pub(crate) rewrites: u64,
    /// What was said, with the method that it was said of.
    pub(crate) remarks: Vec<(String, Remark)>,
}

impl<'m> Trial<'m> {
    /// What the options ask for.
    pub(crate) fn read(
        matches: &'m Matches,
        strategy: &'m Strategy,
        arguments: &'m [OsString],
    ) -> Result<Trial<'m>, Failure> {
        let (command, invoke) = (matches.text("--command")?, matches.text("--invoke")?);
        if command.is_some() && (invoke.is_some() || !arguments.is_empty()) {
            return Err(matches.usage("with --command nothing else says what to run"));
        }
        if command.is_some_and(|command| !command.contains("{}")) {
            return Err(matches.usage("--command needs `{}` where the file's name is to stand"));
        }
        let mut limits = Limits::read(matches)?;
        limits.fuel = limits.fuel.or(Some(FUEL));
        // What runs has had its passes.
        limits.strategy = None;
        let options = Options { verify: Verify::Each, remarks: Remarks::On, ..Options::default() };
        let engine = if matches.has("--native") { Engine::Native } else { Engine::Interpreter };
        Ok(Trial { strategy, options, engine, limits, command, invoke, arguments })
    }

    /// A program after its passes, with so many rewrites; or the pass that went wrong, and what it did.
    pub(crate) fn optimized(
        &self,
        name: &str,
        source: &str,
        limit: Option<u64>,
    ) -> Result<Result<Optimized, (&'static str, String)>, Failure> {
        let arena = Bump::new();
        let Dag { mut source, text: whole, .. } = Dag::read(name, source, &arena)?;
        let callees = TextCallees::new(whole, &source).map_err(|error| Failure::of(name, error))?;
        let ids: Vec<_> = source.bodies.iter().map(|body| body.method.id()).collect();
        let world = closed_world(&source.module, whole.as_bytes(), ids);
        let known = Known { module: &source.module, world: &world, callees: &callees };
        let mut options = Options { rewrite_limit: limit, ..self.options.clone() };
        let (mut rewrites, mut remarks) = (0, Vec::new());
        source.bodies.sort_by_key(|body| body.method.id());
        for body in &mut source.bodies {
            match apply(&known, self.strategy, &mut options, &mut body.method, &mut ()) {
                Err(fault) => return Ok(Err((fault.pass, fault.to_string()))),
                Ok(report) => {
                    rewrites += report.rewrites;
                    let name = &source.module.methods[body.method.id()].name;
                    remarks.extend(report.remarks.into_iter().map(|remark| (name.clone(), remark)));
                }
            }
        }
        let methods: Vec<&Method<'_>> = source.bodies.iter().map(|body| &body.method).collect();
        Ok(Ok(Optimized { text: text::print_module(&source.module, &methods), rewrites, remarks }))
    }

    /// How a program does after its passes, with so many rewrites.
    pub(crate) fn verdict(&self, name: &str, source: &str, limit: Option<u64>) -> Result<Verdict, Failure> {
        let optimized = match self.optimized(name, source, limit)? {
            Ok(optimized) => optimized,
            Err((pass, what)) => return Ok(Verdict::Fault(pass, what)),
        };
        if let Some(command) = self.command {
            return run_command(command, &optimized.text);
        }
        let before = self.observe(name, source, Engine::Interpreter, &self.limits)?;
        let after = self.observe(name, &optimized.text, self.engine, &self.limits)?;
        Ok(match before.0.agrees(&after.0) {
            // Passes may make a program execute a few roots more, but not twice as many.
            None if after.0.is_out_of_fuel() && self.ends_with_half(name, source)? => Verdict::Bad(format!(
                "without passes it gives {}, with them it does not end within twice the fuel",
                before.0.summary()
            )),
            None => Verdict::Unclear,
            Some(true) if before.1 == after.1 => Verdict::Good,
            Some(is_same) => {
                let what = if is_same { ", with other output" } else { "" };
                Verdict::Bad(format!(
                    "without passes it gives {}, with them {}{what}",
                    before.0.summary(),
                    after.0.summary()
                ))
            }
        })
    }

    /// Whether a program ends by itself with half of the fuel.
    fn ends_with_half(&self, name: &str, source: &str) -> Result<bool, Failure> {
        let halved = Limits { fuel: self.limits.fuel.map(|fuel| fuel / 2), ..self.limits.clone() };
        Ok(!self.observe(name, source, Engine::Interpreter, &halved)?.0.is_out_of_fuel())
    }

    /// How a program ends, and what it prints.
    fn observe(
        &self,
        name: &str,
        source: &str,
        engine: Engine,
        limits: &Limits,
    ) -> Result<(Ended, Vec<u8>), Failure> {
        let arena = Bump::new();
        let program = Dag::read(name, source, &arena)?;
        let (method, args) = arguments_of(&program, name, self.invoke, self.arguments)?;
        let mut output = Vec::new();
        let sink: &mut (dyn Write + Send) = &mut output;
        let ended = program.call(engine, method, &args, limits, &Mutex::new(sink))?;
        Ok((ended, output))
    }
}

/// Whether a command is content with a file of this text.
fn run_command(command: &str, text: &str) -> Result<Verdict, Failure> {
    let path = temporary();
    let name = path.display().to_string();
    let failed = |error: std::io::Error| Failure::of(&name, error);
    std::fs::write(&path, text).map_err(failed)?;
    let line = command.replace("{}", &name);
    let status = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let _ = std::fs::remove_file(&path);
    let status = status.map_err(|error| Failure::of(command, error))?;
    if status.success() {
        Ok(Verdict::Good)
    } else {
        Ok(Verdict::Bad(format!("the command ends with {status}")))
    }
}

/// A file for a command to read, of this process alone.
fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("dagwood-{}.dag", std::process::id()))
}

/// Lets panics of passes be silent while `work` is done: they become verdicts.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}
