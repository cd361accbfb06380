//! Programs that are text of the IL: read, verified, and run in either engine.
//!
//! *What a program finds.* A context of [`CONTEXT_BYTES`] zero bytes; zeros in every static; the native functions of
//! [`CONSOLE`]. Nothing else: a program that declares other native functions is refused with a list of them.
//!
//! *Limits.* In the interpreter, fuel counts roots. Compiled, it counts the polls that the text has. See
//! [`watchdog`](crate::watchdog) for time. The limit for memory is that of objects, and of the interpreter's slots.
//!
//! Loads and stores of compiled IL go where their addresses say: what comes from elsewhere should be read before it is
//! run, as machine code should. The interpreter keeps to memory that it knows.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bumpalo::Bump;
use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::interp::{self, Interpreter, Regions, Stop, TraceEntry};
use dagwood_il::text::{self, Refusal, Source};
use dagwood_il::world::ClosedWorld;
use dagwood_il::{Method, MethodId, Module, NativeId, RaiseKind, SourcePos, SymbolKind, Type, World};
use dagwood_opt::closed_world;
use dagwood_runtime::compiler::{Bodies, BodyError};
use dagwood_runtime::context::Context;
use dagwood_runtime::heap::{self, Heap};
use dagwood_runtime::jit::{CallCx, CallError, Jit};
use dagwood_runtime::objects::Objects;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::thread::{self, Interrupt, Thread};

use crate::args::similar;
use crate::engine::{Ended, Engine, Limits, Trap, with_backtrace};
use crate::progress::Progress;
use crate::report::{At, Failure, diagnostic};
use crate::watchdog::{Watchdog, timeout};

/// The bytes of the VM context that a program gets.
const CONTEXT_BYTES: usize = 4096;
/// How many errors of a file are shown.
const MAX_SHOWN: usize = 20;

/// The native functions that a program may declare: each prints its argument on a line of standard output.
pub(crate) const CONSOLE: &[(&str, Type)] =
    &[("print_i32", Type::I32), ("print_i64", Type::I64), ("print_f32", Type::F32), ("print_f64", Type::F64)];

/// Where native functions print.
pub(crate) type Sink<'s> = Mutex<&'s mut (dyn Write + Send)>;

/// A program of the IL.
pub(crate) struct Dag<'a> {
    /// The file's name.
    name: &'a str,
    /// What is in the file.
    pub(crate) text: &'a str,
    /// What that says.
    pub(crate) source: Source<'a>,
}

impl<'a> Dag<'a> {
    /// Reads and verifies a file.
    pub(crate) fn read(name: &'a str, text: &'a str, arena: &'a Bump) -> Result<Dag<'a>, Failure> {
        let source = text::parse(text, arena).map_err(|error| {
            let message = format!("{}; expected {}", error.what, error.expected);
            let at = At { line: error.line, column: error.column };
            Failure::Failed(diagnostic(name, text, at, "syntax", message))
        })?;
        text::verify(&source, text).map_err(|refusals| refused(name, text, &refusals))?;
        Ok(Dag { name, text, source })
    }

    /// The declarations.
    pub(crate) fn module(&self) -> &Module {
        &self.source.module
    }

    /// The method with a name and a body.
    pub(crate) fn method(&self, name: &str) -> Result<MethodId, Failure> {
        let bare = name.strip_prefix('@').unwrap_or(name);
        let bodies = || self.source.bodies.iter().map(|body| body.method.id());
        let name_of = |id: MethodId| self.module().methods[id].name.as_str();
        if let Some(id) = bodies().find(|id| name_of(*id) == bare) {
            return Ok(id);
        }
        let hint = match similar(bare, bodies().map(name_of)) {
            Some(close) => format!("; did you mean `@{close}`?"),
            None if bodies().len() == 0 => "; it has no methods with bodies".into(),
            None => {
                const SHOWN: usize = 10;
                let names: Vec<String> = bodies().take(SHOWN).map(|id| format!("@{}", name_of(id))).collect();
                let more = if bodies().len() > SHOWN { ", …" } else { "" };
                format!("; its methods are {}{more}; --invoke chooses one", names.join(", "))
            }
        };
        Err(Failure::of(self.name, format!("it has no method `@{bare}` with a body{hint}")))
    }

    /// Runs a method. Its arguments are of its signature's types.
    pub(crate) fn call(
        &self,
        engine: Engine,
        method: MethodId,
        args: &[Value],
        limits: &Limits,
        sink: &Sink<'_>,
    ) -> Result<Ended, Failure> {
        self.check_natives()?;
        match engine {
            Engine::Interpreter => self.interpret(method, args, limits, sink),
            Engine::Native => self.native(method, args, limits, sink),
        }
    }

    /// Refuses programs that need native functions which are not there.
    fn check_natives(&self) -> Result<(), Failure> {
        let module = self.module();
        let missing = module.natives.iter().filter(|(id, _)| console(module, *id).is_none());
        let lines: Vec<String> = missing
            .map(|(id, decl)| {
                let signature = crate::engine::signature(module.native_signature(id));
                format!("\n  native @{} {signature}", decl.name)
            })
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let there: Vec<String> = CONSOLE.iter().map(|(name, ty)| format!("@{name} ({ty}) -> ()")).collect();
        let there = there.join(", ");
        let message = format!("native functions are missing:{}\n  those there are: {there}", lines.concat());
        Err(Failure::of(self.name, message))
    }

    // ---- the interpreter ----

    fn interpret(
        &self,
        method: MethodId,
        args: &[Value],
        limits: &Limits,
        sink: &Sink<'_>,
    ) -> Result<Ended, Failure> {
        let module = self.module();
        let mut bodies: Vec<Option<&Method<'_>>> = vec![None; module.methods.len()];
        for body in &self.source.bodies {
            bodies[body.method.id().index()] = Some(&body.method);
        }
        let find = |id: MethodId| bodies.get(id.index()).copied().flatten();
        let mut host = Regions::new(module);
        if let Some(bytes) = limits.max_memory {
            (host.heap_limit, host.slot_limit) = (bytes, bytes);
        }
        let context = host.add(CONTEXT_BYTES);
        for id in module.natives.keys() {
            host.native(id, |_, _, args| {
                print_values(sink, args);
                Ok(interp::Values::new())
            });
        }
        let mut interpreter = Interpreter::new(interp::Program { module, bodies: &find });
        let budget = interp::Limits { fuel: limits.fuel.unwrap_or(u64::MAX), ..interp::Limits::default() };
        let _watchdog = Watchdog::start(limits.timeout, None)?;
        match interpreter.run(&mut host, method, context, args, budget) {
            Ok(values) => Ok(Ended::Values(values.into_iter().map(Into::into).collect())),
            Err(stop) => self.stopped(stop),
        }
    }

    fn stopped(&self, stop: Stop) -> Result<Ended, Failure> {
        let (kind, reason, text, trace) = match stop {
            Stop::Raised { raised, trace } => {
                let text = match raised.kind {
                    RaiseKind::Guest => format!("uncaught exception {:#x}", raised.object),
                    RaiseKind::Fault if raised.object != 0 => {
                        format!("fault: no memory at {:#x}", raised.object)
                    }
                    kind if raised.reason != 0 => format!("{kind} (reason {})", raised.reason),
                    kind => kind.to_string(),
                };
                (raised.kind, raised.reason, text, trace)
            }
            Stop::OutOfFuel { trace } => {
                (RaiseKind::Interrupt, Interrupt::Fuel.reason(), OUT_OF_FUEL.to_owned(), trace)
            }
            Stop::Exit(exit) => {
                let text = format!(
                    "guard {} failed, and there is no interpreter of the program to go on",
                    exit.guard
                );
                let position = exit.frames.first().map_or(SourcePos::NONE, |frame| frame.position);
                let here = TraceEntry { method: exit.method, position };
                let trace = std::iter::once(here).chain(exit.callers.iter().copied()).collect();
                (RaiseKind::Fault, 0, text, trace)
            }
            Stop::Invalid(invalid) => {
                return Err(Failure::of(self.name, format!("the interpreter found invalid IL: {invalid}")));
            }
        };
        let lines = trace.iter().map(|entry| self.frame(entry.method, entry.position, None));
        let text = with_backtrace(&text, &lines.collect::<Vec<_>>(), 0);
        Ok(Ended::Trap(Trap { kind, reason, text }))
    }

    // ---- machine code ----

    fn native(
        &self,
        method: MethodId,
        args: &[Value],
        limits: &Limits,
        sink: &Sink<'_>,
    ) -> Result<Ended, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::of(self.name, error);
        let module = self.module();
        let mut jit = Jit::new(module.clone(), limits.jit_options()?).map_err(|error| failed(&error))?;
        let mut options = heap::Options::default();
        if let Some(bytes) = limits.max_memory {
            options.limit_bytes = bytes as usize;
        }
        let heap = Heap::new(Arc::clone(jit.classes()), &options).map_err(|error| failed(&error))?;
        for (id, symbol) in module.symbols.iter() {
            if let SymbolKind::Static(_) = symbol.kind {
                jit.bind_symbol(id, heap.static_address(id));
            }
        }
        {
            let _watchdog = Watchdog::start(limits.timeout, None)?;
            self.compile(&jit)?;
        }
        let mut objects = Objects::new(module, &heap);
        for id in module.natives.keys() {
            objects.register(id, |_, args| {
                print_values(sink, args);
                Ok(Vec::new())
            });
        }
        let thread = Thread::new(&thread::Options::default()).map_err(|error| failed(&error))?;
        thread.set_fuel(limits.fuel);
        let context = Context::new(CONTEXT_BYTES).map_err(|error| failed(&error))?;
        let _watchdog = Watchdog::start(limits.timeout, Some(thread.interrupter()))?;
        let cx = CallCx { thread: &thread, context: &context, host: &objects };
        match jit.call(cx, method, args) {
            Ok(values) => Ok(Ended::Values(values.into_iter().map(Into::into).collect())),
            Err(CallError::Raised(raise)) => Ok(Ended::Trap(self.raised(&raise, limits))),
            Err(error) => Err(failed(&error)),
        }
    }

    fn compile(&self, jit: &Jit) -> Result<(), Failure> {
        let methods: Vec<MethodId> = self.source.bodies.iter().map(|body| body.method.id()).collect();
        let _progress = Progress::start(format!("compiling {} methods", methods.len()));
        // Methods do not move between threads, so each is read again by the one that compiles it.
        let reader = text::Reader::new(self.text, &self.source);
        let reader = Mutex::new(reader.map_err(|error| Failure::of(self.name, error))?);
        let world = closed_world(self.module(), self.text.as_bytes(), methods.iter().copied());
        let bodies = Texts { reader, world };
        jit.compile(&methods, &bodies).map_err(|error| Failure::of(self.name, error))
    }

    fn raised(&self, raise: &Raise, limits: &Limits) -> Trap {
        let frames = raise.trace.frames().iter();
        let lines = frames.map(|frame| self.frame(frame.method, frame.position, Some(frame.offset)));
        let text = match (raise.kind, Interrupt::from_reason(raise.reason), limits.timeout) {
            (RaiseKind::Interrupt, Some(Interrupt::Fuel), _) => OUT_OF_FUEL.to_owned(),
            (RaiseKind::Interrupt, Some(Interrupt::Timeout), Some(limit)) => timeout(limit),
            _ => raise.to_string(),
        };
        let text = with_backtrace(&text, &lines.collect::<Vec<_>>(), raise.trace.omitted());
        Trap { kind: raise.kind, reason: raise.reason, text }
    }

    /// A line of a backtrace.
    fn frame(&self, method: MethodId, position: SourcePos, offset: Option<u32>) -> String {
        let mut line = match self.module().methods.get(method) {
            Some(decl) => format!("@{}", decl.name),
            None => method.to_string(),
        };
        if position != SourcePos::NONE {
            line += &format!(" at !{}", position.0);
        }
        offset.iter().for_each(|offset| line += &format!(", code offset {offset:#x}"));
        line
    }
}

/// The methods of a file, which is all there is of the program.
struct Texts<'s> {
    reader: Mutex<text::Reader<'s>>,
    world: ClosedWorld<'s>,
}

impl Bodies for Texts<'_> {
    fn build<'a>(&self, id: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let body = reader.body(id, arena)?.ok_or_else(|| format!("{id} has no body"))?;
        Ok(body.method)
    }

    fn world(&self) -> &dyn World {
        &self.world
    }
}

/// What is said of a program that has used up its fuel.
pub(crate) const OUT_OF_FUEL: &str = "interrupt: the fuel of --fuel is used up";

/// The index in [`CONSOLE`] of a native function.
fn console(module: &Module, native: NativeId) -> Option<usize> {
    let signature = module.native_signature(native);
    let name = &module.natives[native].name;
    let fits = |(known, ty): &(&str, Type)| {
        known == name && signature.params.as_slice() == [*ty] && signature.results.is_empty()
    };
    CONSOLE.iter().position(fits)
}

/// Prints the arguments of a native function; that nobody reads them is not the program's failure.
fn print_values(sink: &Sink<'_>, args: &[Value]) {
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    for value in args {
        // Without the type, which the function's name says.
        let text = value.to_string();
        let _ = writeln!(sink, "{}", text.split_once(' ').map_or(&*text, |(_, number)| number));
    }
}

/// All that the verifier found.
fn refused(name: &str, text: &str, refusals: &[Refusal]) -> Failure {
    let shown = refusals.iter().take(MAX_SHOWN).map(|refusal| {
        let at = At { line: refusal.position.line, column: refusal.position.column };
        diagnostic(name, text, at, refusal.rule.name(), &refusal.message)
    });
    let mut message = shown.collect::<Vec<_>>().join("\nerror: ");
    if refusals.len() > MAX_SHOWN {
        message += &format!("\n{name}: and {} more", refusals.len() - MAX_SHOWN);
    }
    Failure::Failed(message)
}
