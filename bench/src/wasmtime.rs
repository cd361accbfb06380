//! The peer in this process: wasmtime, with guard pages or with explicit bounds checks.
//!
//! The crate is built without its `parallel-compilation` feature, so it compiles on the calling thread; fuel and epochs
//! are off, which is the default.

use wasmtime::{Config, Engine as Wasmtime, Func, Instance as WasmInstance, Module, Store, Val};

use crate::engine::{Compilation, Engine, Failure, Instance, Program, Result, Sample, timed};

/// How wasmtime keeps accesses inside a memory.
struct Mode {
    name: &'static str,
    policy: &'static str,
    configure: fn(&mut Config),
}

/// The name of the default mode, which other engines are shown in relation to.
pub(crate) const GUARD: &str = "wasmtime guard";
/// The name of the mode that checks as Dagwood does.
pub(crate) const EXPLICIT: &str = "wasmtime explicit";

const MODES: &[Mode] = &[
    Mode {
        name: GUARD,
        policy: "as configured by default: 32-bit memories by guard pages, without a check; \
                 64-bit memories by compare and select, masked against speculation; no polls",
        configure: |_| {},
    },
    Mode {
        name: EXPLICIT,
        policy: "no reservation, no guard, no signals: compare and branch at every access, not masked; no polls",
        configure: |config| {
            config.memory_reservation(0).memory_guard_size(0).signals_based_traps(false);
        },
    },
    Mode {
        name: "wasmtime masked",
        policy: "no reservation, no guard, signals on: compare and select at every access, masked against speculation; \
                 no polls",
        configure: |config| {
            config.memory_reservation(0).memory_guard_size(0);
        },
    },
];

/// A mode of wasmtime, ready to compile.
struct Peer {
    mode: &'static Mode,
    engine: Wasmtime,
}

/// The modes of wasmtime; with `quick` only the two that the targets name.
pub(crate) fn engines(quick: bool) -> Result<Vec<Box<dyn Engine>>> {
    let modes = if quick { &MODES[..2] } else { MODES };
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    for mode in modes {
        let mut config = Config::new();
        config.wasm_memory64(true);
        (mode.configure)(&mut config);
        let engine = Wasmtime::new(&config).map_err(|error| Failure::because(mode.name, error))?;
        engines.push(Box::new(Peer { mode, engine }));
    }
    Ok(engines)
}

impl Engine for Peer {
    fn name(&self) -> &str {
        self.mode.name
    }

    fn policy(&self) -> &str {
        self.mode.policy
    }

    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>> {
        let named = |error| Failure::because(format!("{} in {}", program.name, self.mode.name), error);
        let module = Module::new(&self.engine, &program.code).map_err(named)?;
        let mut store = Store::new(&self.engine, ());
        let instance = WasmInstance::new(&mut store, &module, &[]).map_err(named)?;
        let run = instance
            .get_func(&mut store, "run")
            .ok_or_else(|| Failure(format!("{} does not export `run`", program.name)))?;
        Ok(Some(Box::new(Ready { store, run })))
    }

    fn compile(&self, wasm: &[u8]) -> Result<Option<Compilation>> {
        let (module, time) = timed(|| Module::new(&self.engine, wasm));
        module.map_err(|error| Failure::because(self.mode.name, error))?;
        Ok(Some(Compilation { time }))
    }
}

/// A module of wasmtime's with its memory.
struct Ready {
    store: Store<()>,
    run: Func,
}

impl Instance for Ready {
    fn run(&mut self, n: i32) -> Result<Sample> {
        let mut results = [Val::I64(0)];
        let (called, time) = timed(|| self.run.call(&mut self.store, &[Val::I32(n)], &mut results));
        called.map_err(|error| Failure::because("a call in wasmtime", error))?;
        match results[0] {
            Val::I64(value) => Ok(Sample { checksum: value.cast_unsigned(), time }),
            Val::F64(bits) => Ok(Sample { checksum: bits, time }),
            _ => Err(Failure("`run` returns neither i64 nor f64".into())),
        }
    }
}
