//! Programs that are WebAssembly: instantiated with WASI, and run in either engine.
//!
//! *Limits.* Fuel counts polls, one for each call and each turn of a loop, in both engines. Polls are compiled in only if
//! there is a limit for fuel or time. What the program waits for in WASI ends with the time limit too.

use std::rc::Rc;

use dagwood_il::eval::Value;
use dagwood_il::{RaiseKind, Type};
use dagwood_runtime::thread::Interrupt;
use dagwood_wasm::wasi::{Wasi, WasiConfig};
use dagwood_wasm::{
    Compiled, EngineOptions, ErrorKind, ExternType, FuncType, Instance, Linker, Mode, Module, Options,
    RunError, Store, StoreOptions, Val, ValType, wasi,
};

use crate::args::similar;
use crate::dag::OUT_OF_FUEL;
use crate::engine::{Ended, Engine, Limits, Shown, Trap, with_backtrace};
use crate::progress::Progress;
use crate::report::Failure;
use crate::value;
use crate::watchdog::{Watchdog, timeout};

/// The export that a command runs from.
pub(crate) const START: &str = "_start";
/// The export that must run before any other of a module that is no command.
const INITIALIZE: &str = "_initialize";

/// How many imports that are missing are listed.
const MAX_IMPORTS: usize = 100;

/// A module that is ready to be instantiated.
pub(crate) struct Program<'n> {
    name: &'n str,
    engine: dagwood_wasm::Engine,
    compiled: Rc<Compiled>,
    limits: Limits,
}

/// Decodes and validates a module.
pub(crate) fn parse(name: &str, bytes: Vec<u8>) -> Result<Module, Failure> {
    Module::parse(bytes).map_err(|error| Failure::of(name, error))
}

/// The exported functions of a module with their types, in order.
pub(crate) fn functions(module: &Module) -> impl Iterator<Item = (&str, FuncType)> {
    module.exports().iter().filter_map(|export| match module.export_type(export) {
        ExternType::Func(ty) => Some((export.name.as_str(), ty)),
        _ => None,
    })
}

impl<'n> Program<'n> {
    /// Compiles a module for an engine.
    pub(crate) fn new(
        name: &'n str,
        module: Module,
        engine: Engine,
        limits: &Limits,
    ) -> Result<Program<'n>, Failure> {
        let mode = match engine {
            Engine::Native => Mode::Native,
            Engine::Interpreter => Mode::Interpret,
        };
        let lowering = Options { polls: limits.ask_for_polls(), ..Options::default() };
        let options = EngineOptions { mode, lowering, jit: limits.jit_options()? };
        let _progress = Progress::start(format!("compiling {} functions", module.function_count()));
        let _watchdog = Watchdog::start(limits.timeout, None)?;
        let failed = |error: dagwood_wasm::Error| Failure::of(name, error);
        let engine = dagwood_wasm::Engine::new(options).map_err(failed)?;
        let compiled = engine.compile(module).map_err(failed)?;
        Ok(Program { name, engine, compiled, limits: limits.clone() })
    }

    /// The type of an exported function.
    pub(crate) fn function(&self, export: &str) -> Result<FuncType, Failure> {
        let module = self.compiled.module();
        if let Some((_, ty)) = functions(module).find(|(name, _)| *name == export) {
            return Ok(ty);
        }
        const SHOWN: usize = 10;
        let names: Vec<String> = functions(module).take(SHOWN).map(|(name, _)| format!("`{name}`")).collect();
        let hint = match similar(export, functions(module).map(|(name, _)| name)) {
            Some(close) => format!("; did you mean `{close}`?"),
            None if names.is_empty() => "; it exports no functions at all".into(),
            None => format!("; --invoke calls one of those it has: {}", names.join(", ")),
        };
        Err(Failure::of(self.name, format!("it exports no function `{export}`{hint}")))
    }

    /// Instantiates the module and calls an exported function, after what must run before it.
    pub(crate) fn call(&self, system: WasiConfig, export: &str, args: &[Val]) -> Result<Ended, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::of(self.name, error);
        let system = match self.limits.timeout {
            Some(limit) => {
                let deadline = std::time::Instant::now() + limit;
                system.interrupt(move || std::time::Instant::now() >= deadline)
            }
            None => system,
        };
        let mut options = StoreOptions::default();
        if let Some(bytes) = self.limits.max_memory {
            options.max_memory_bytes = bytes;
            options.max_exception_bytes =
                options.max_exception_bytes.min(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        let store = Store::new(&self.engine, options).map_err(|error| failed(&error))?;
        store.set_fuel(self.limits.fuel);
        let mut linker = Linker::new(&store);
        wasi::define(&mut linker, Wasi::new(system).map_err(|error| failed(&error))?);
        let _watchdog = Watchdog::start(self.limits.timeout, Some(store.interrupter()))?;
        let run = || -> Result<Vec<Val>, RunError> {
            let instance = Instance::new(&linker, &self.compiled)?;
            if export != START && export != INITIALIZE && instance.function(INITIALIZE).is_ok() {
                instance.call(INITIALIZE, &[])?;
            }
            instance.call(export, args)
        };
        match run() {
            Ok(values) => Ok(Ended::Values(values.into_iter().map(shown).collect())),
            Err(RunError::Exit(code)) => Ok(Ended::Exit(code)),
            Err(RunError::Trap(trap)) => Ok(Ended::Trap(self.trapped(&trap))),
            Err(RunError::Usage(error)) if error.kind() == ErrorKind::Link && error.offset().is_none() => {
                let mut message = String::from("imports are missing or of other types:");
                let mut lines = error.message().lines();
                lines.by_ref().take(MAX_IMPORTS).for_each(|line| message += &format!("\n  {line}"));
                match lines.count() {
                    0 => Err(failed(&message)),
                    more => Err(failed(&format_args!("{message}\n  and {more} more"))),
                }
            }
            Err(RunError::Usage(error)) => Err(failed(&error)),
        }
    }

    fn trapped(&self, trap: &dagwood_wasm::Trap) -> Trap {
        let text = match (trap.kind, Interrupt::from_reason(trap.reason), self.limits.timeout) {
            (RaiseKind::Interrupt, Some(Interrupt::Fuel), _) => OUT_OF_FUEL.to_owned(),
            (RaiseKind::Interrupt, Some(Interrupt::Timeout), Some(limit)) => timeout(limit),
            _ => trap.message.clone(),
        };
        let frames: Vec<String> = trap.backtrace.iter().map(|frame| frame.to_string()).collect();
        let text = with_backtrace(&text, &frames, trap.omitted);
        Trap { kind: trap.kind, reason: trap.reason, text }
    }
}

/// Reads the arguments of a call.
pub(crate) fn read_args(ty: &FuncType, texts: &[&str]) -> Result<Vec<Val>, String> {
    let lowered: Vec<Type> = ty.params.iter().map(|ty| ty.lowered()).collect();
    if ty.params.iter().all(|ty| ty.lowered() != Type::Addr) || ty.params.len() != texts.len() {
        let values = value::read_all(&lowered, texts)?;
        return Ok(values.into_iter().zip(&ty.params).map(|(value, ty)| val(*ty, value)).collect());
    }
    let one = |(index, (ty, text)): (usize, (&ValType, &&str))| {
        let parsed = match ty.lowered() {
            Type::Addr => Val::parse(*ty, text),
            lowered => value::read(lowered, text).map(|value| val(*ty, value)),
        };
        parsed.ok_or_else(|| format!("argument {}, `{text}`, is no {ty}", index + 1))
    };
    ty.params.iter().zip(texts).enumerate().map(one).collect()
}

/// A number of the IL as one of WebAssembly.
fn val(ty: ValType, value: Value) -> Val {
    match ty {
        ValType::I32 => Val::I32(value.low() as i32),
        ValType::I64 => Val::I64(value.low() as i64),
        ValType::F32 => Val::F32(value.low() as u32),
        ValType::F64 => Val::F64(value.low()),
        reference => Val::zero(reference),
    }
}

/// A result, to be printed and compared. References are compared by what can be seen of them.
fn shown(val: Val) -> Shown {
    match val {
        Val::I32(value) => Value::i32(value).into(),
        Val::I64(value) => Value::i64(value).into(),
        Val::F32(bits) => Value::from_bits(Type::F32, bits.into()).into(),
        Val::F64(bits) => Value::from_bits(Type::F64, bits).into(),
        reference => {
            let number = match reference {
                Val::FuncRef(Some(func)) => u64::from(func.number()) + 1,
                Val::ExternRef(Some(number)) => u64::from(number) + 1,
                Val::ExnRef(Some(_)) => 1,
                _ => 0,
            };
            Shown { value: Value::reference(number), text: format!("{} {reference}", reference.ty()) }
        }
    }
}
