//! What compiling the methods of a program takes: units of work and time, each method lowered, optimized and compiled in turn.

use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use dagwood_codegen::{Compiler, Features, Target as Machine, Verify};
use dagwood_il::world::ClosedWorld;
use dagwood_il::{Method, MethodId, Module as Declarations, World};
use dagwood_opt::{Callees, Options as Optimization, Request, WARM, closed_world, optimize};
use dagwood_wasm::lower::Program as Lowered;
use dagwood_wasm::{Lowering, Module, Options as LoweringOptions};

use super::EVERY_ROW;
use super::passes::Passes;
use crate::engine::{Failure, Program, Result, timed};

/// What compiling methods took.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    methods: usize,
    pub(super) nodes: usize,
    /// Units of work on demand, and with every row.
    work: u64,
    work_every_row: u64,
    /// The time of optimizing, and of making machine code of what came out.
    optimizing: Duration,
    generating: Duration,
    /// The time of making machine code of what the frontend built.
    generating_alone: Duration,
}

impl Cost {
    pub(super) fn add(&mut self, other: &Cost) {
        self.methods += other.methods;
        self.nodes += other.nodes;
        self.work += other.work;
        self.work_every_row += other.work_every_row;
        self.optimizing += other.optimizing;
        self.generating += other.generating;
        self.generating_alone += other.generating_alone;
    }

    pub(super) fn work_ratio(&self) -> f64 {
        self.work as f64 / self.work_every_row as f64
    }

    pub(super) fn share(&self) -> f64 {
        self.optimizing.as_secs_f64() / (self.optimizing + self.generating).as_secs_f64()
    }

    pub(super) fn times_generating(&self) -> f64 {
        (self.optimizing + self.generating).as_secs_f64() / self.generating_alone.as_secs_f64()
    }

    pub(super) fn microseconds_per_node(&self) -> f64 {
        (self.optimizing + self.generating).as_secs_f64() * 1e6 / self.nodes as f64
    }

    pub(super) fn line(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            self.methods.to_string(),
            self.nodes.to_string(),
            format!("{:.2}", self.work as f64 / self.nodes as f64),
            format!("{:.2}", self.work_ratio()),
            format!("{:.2}", self.share()),
            format!("{:.2}", self.times_generating()),
            format!("{:.2}", self.microseconds_per_node()),
        ]
    }
}

/// A code generator as the engine has it, for timing it by itself.
pub(super) fn compiler() -> Result<Compiler> {
    let machine =
        Machine::new(Features::Host, Verify::Off).map_err(|error| Failure::because("codegen", error))?;
    Ok(Compiler::new(Arc::new(machine)))
}

/// The methods of a program, as a frontend lowers them. Their bodies may come into each other.
pub(super) trait Methods: Callees {
    /// The program's name.
    fn name(&self) -> &str;
    /// The declarations.
    fn declarations(&self) -> &Declarations;
    /// Those that have a body.
    fn ids(&self) -> Vec<MethodId>;
    /// What passes may know.
    fn world(&self) -> &dyn World;
    /// Builds a body.
    fn lower<'a>(&self, id: MethodId, arena: &'a Bump) -> Result<Method<'a>>;
}

/// What the usual strategy costs over all methods of a program.
pub(super) fn cost(methods: &dyn Methods, by_pass: &mut Passes) -> Result<Cost> {
    let failed = |error: &dyn std::fmt::Display| Failure::because(methods.name(), error);
    let declarations = methods.declarations();
    let options = Optimization::default();
    let request =
        Request { world: methods.world(), callees: methods, ..Request::new(declarations, WARM, &options) };
    let every_row = Request { strategy: &EVERY_ROW, ..request };
    let mut compiler = compiler()?;
    let mut cost = Cost::default();
    for id in methods.ids() {
        let arena = Bump::new();
        let mut method = methods.lower(id, &arena)?;
        cost.methods += 1;
        cost.nodes += method.node_count();
        let (ran, optimizing) = timed(|| optimize(&request, &mut method, by_pass));
        let ledger = ran.map_err(|fault| failed(&fault))?.ledger;
        by_pass.add(&ledger);
        cost.work += ledger.work;
        cost.optimizing += optimizing;
        let (code, generating) = timed(|| compiler.compile(declarations, &method).map(drop));
        code.map_err(|error| failed(&error))?;
        cost.generating += generating;

        let alone = methods.lower(id, &arena)?;
        let (code, generating) = timed(|| compiler.compile(declarations, &alone).map(drop));
        code.map_err(|error| failed(&error))?;
        cost.generating_alone += generating;

        let mut all = methods.lower(id, &arena)?;
        let ran = optimize(&every_row, &mut all, &mut ());
        cost.work_every_row += ran.map_err(|fault| failed(&fault))?.ledger.work;
    }
    Ok(cost)
}

/// The functions of a WebAssembly module.
struct Functions<'p> {
    program: &'p Program,
    lowering: &'p Lowering,
    world: ClosedWorld<'p>,
}

impl Callees for Functions<'_> {
    fn body<'a>(&self, method: MethodId, arena: &'a Bump) -> Option<Method<'a>> {
        self.lowering.lower(method, arena).ok()
    }

    fn least_size(&self, method: MethodId) -> Option<u64> {
        self.lowering.least_size(method)
    }
}

impl Methods for Functions<'_> {
    fn name(&self) -> &str {
        &self.program.name
    }

    fn declarations(&self) -> &Declarations {
        self.lowering.declarations()
    }

    fn ids(&self) -> Vec<MethodId> {
        self.lowering.methods().collect()
    }

    fn world(&self) -> &dyn World {
        &self.world
    }

    fn lower<'a>(&self, id: MethodId, arena: &'a Bump) -> Result<Method<'a>> {
        self.lowering.lower(id, arena).map_err(|error| Failure::because(&self.program.name, error))
    }
}

/// As [`cost`], of a WebAssembly program.
pub(super) fn of_wasm(program: &Program, by_pass: &mut Passes) -> Result<Cost> {
    let module = Module::parse(program.code.as_slice());
    let module = Arc::new(module.map_err(|error| Failure::because(&program.name, error))?);
    let lowering = Lowering::new(module, LoweringOptions::default(), &mut Lowered::new());
    let world = closed_world(lowering.declarations(), &program.code, lowering.methods());
    cost(&Functions { program, lowering: &lowering, world }, by_pass)
}
