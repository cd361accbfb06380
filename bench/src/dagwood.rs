//! Our own engine, behind the same trait as its peers.

use std::num::NonZeroUsize;
use std::rc::Rc;

use dagwood_opt::Strategy;
use dagwood_wasm::{
    Compiled, Engine as Ours, EngineOptions, Instance as WasmInstance, Linker, Module, Store, Val,
};

use crate::engine::{Compilation, Engine, Failure, Instance, Program, Result, Sample, timed};

/// The name in tables and goals.
pub(crate) const NAME: &str = "dagwood";

/// The engine as `dagwood run` configures it without limits: native code, no polls.
pub(crate) struct Dagwood {
    /// Its name in tables and goals.
    pub(crate) name: &'static str,
    /// What is done to methods before they become machine code.
    pub(crate) strategy: &'static Strategy,
}

impl Dagwood {
    /// Compiles a module in an engine of its own, with the time that it took.
    fn compiled(&self, what: &str, wasm: &[u8]) -> Result<(Ours, Rc<Compiled>, Compilation)> {
        let mut options = EngineOptions::default();
        options.jit.threads = NonZeroUsize::MIN;
        options.jit.strategy = self.strategy;
        let engine = Ours::new(options).map_err(|error| Failure::because(what, error))?;
        let (compiled, time) = timed(|| engine.compile(Module::parse(wasm)?));
        let compiled = compiled.map_err(|error| Failure::because(what, error))?;
        Ok((engine, compiled, Compilation { time }))
    }
}

impl Engine for Dagwood {
    fn name(&self) -> &str {
        self.name
    }

    fn policy(&self) -> &str {
        "a check, compare and branch, at every access, not masked; no polls"
    }

    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>> {
        let what = format!("{} in {}", program.name, self.name);
        let (engine, compiled, _) = self.compiled(&what, &program.code)?;
        let store =
            Store::new(&engine, Default::default()).map_err(|error| Failure::because(&what, error))?;
        let instance = WasmInstance::new(&Linker::new(&store), &compiled);
        let instance = instance.map_err(|error| Failure::because(&what, error))?;
        Ok(Some(Box::new(Ready { what, instance })))
    }

    fn compile(&self, wasm: &[u8]) -> Result<Option<Compilation>> {
        let (_, _, compilation) = self.compiled(self.name, wasm)?;
        Ok(Some(compilation))
    }
}

/// A module of ours with its memory.
struct Ready {
    what: String,
    instance: WasmInstance,
}

impl Instance for Ready {
    fn run(&mut self, n: i32) -> Result<Sample> {
        let (results, time) = timed(|| self.instance.call("run", &[Val::I32(n)]));
        let results = results.map_err(|error| Failure::because(&self.what, error))?;
        match results.as_slice() {
            [Val::I64(value)] => Ok(Sample { checksum: *value as u64, time }),
            [Val::F64(bits)] => Ok(Sample { checksum: *bits, time }),
            _ => Err(Failure(format!("{}: `run` returns neither i64 nor f64", self.what))),
        }
    }
}
