//! `dagwood-bench optimizer`: what strategies gain at run time, and what they cost while compiling.
//!
//! Run time and compile time are those of `dagwood-bench wasm`, with a strategy each in place of all the peers. What is
//! run on demand is held against the same strategy with every row run for every method. Two things are counted rather
//! than timed: units of work, which are the same on every machine. The share of the optimizer is taken over all methods
//! of all programs, each lowered, optimized and compiled in turn on one thread.

mod growth;
mod passes;
mod plot;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bumpalo::Bump;
use dagwood_codegen::{Compiler, Features, Target as Machine, Verify};
use dagwood_opt::{NONE, Options as Optimization, QUICK, Request, Strategy, WARM, optimize};
use dagwood_wasm::lower::Program as Lowered;
use dagwood_wasm::{Lowering, Module, Options as LoweringOptions};

use self::passes::Passes;
use crate::Options;
use crate::child::CLANG_SCALAR;
use crate::dagwood::Dagwood;
use crate::engine::{Engine, Failure, Program, Result, timed};
use crate::programs::selected;
use crate::report::{Report, Table, Target, progress};
use crate::wasm::{Goal, Kind, compare};

/// The usual strategy with every row run for every method.
static EVERY_ROW: LazyLock<Strategy> = LazyLock::new(|| WARM.without_conditions());

const WARM_NAME: &str = "warm";
const QUICK_NAME: &str = "quick";
const EVERY_ROW_NAME: &str = "warm, every row";
const PEER: &str = "wasmtime explicit";

/// The ratios that the project promises, for programs with 32-bit memories.
const GOALS: &[Goal] = &[
    Goal { kind: Kind::Run, engine: QUICK_NAME, base: PEER, target: Target::AtMost(1.0) },
    Goal { kind: Kind::Run, engine: WARM_NAME, base: PEER, target: Target::AtMost(0.9) },
    Goal { kind: Kind::Run, engine: WARM_NAME, base: EVERY_ROW_NAME, target: Target::AtMost(1.01) },
    Goal { kind: Kind::Run, engine: WARM_NAME, base: CLANG_SCALAR, target: Target::AtMost(1.15) },
    Goal { kind: Kind::Compile, engine: WARM_NAME, base: PEER, target: Target::AtMost(1.0) },
    Goal { kind: Kind::Compile, engine: WARM_NAME, base: "none", target: Target::AtMost(2.0) },
];

/// The bench.
pub(crate) fn run(options: &Options) -> Result<Report> {
    if cfg!(debug_assertions) {
        eprintln!("dagwood-bench: times of a debug build mean nothing; use `cargo run --release`");
    }
    let mut report = Report::default();
    let programs = selected(options, &mut report)?;
    compare(options, &programs, &engines()?, GOALS, &mut report)?;
    costs(&programs, &mut report)?;
    growth::run(options, &mut report)?;
    Ok(report)
}

fn engines() -> Result<Vec<Box<dyn Engine>>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    #[cfg(feature = "peers")]
    engines.extend(crate::wasmtime::engines(true)?.into_iter().filter(|engine| engine.name() == PEER));
    let ours: [(&'static str, &'static Strategy); 4] =
        [("none", NONE), (QUICK_NAME, QUICK), (WARM_NAME, WARM), (EVERY_ROW_NAME, &EVERY_ROW)];
    for (name, strategy) in ours {
        engines.push(Box::new(Dagwood { name, strategy }));
    }
    engines.extend(crate::child::native());
    Ok(engines)
}

/// What compiling methods took.
#[derive(Clone, Copy, Default)]
struct Cost {
    methods: usize,
    nodes: usize,
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
    fn add(&mut self, other: &Cost) {
        self.methods += other.methods;
        self.nodes += other.nodes;
        self.work += other.work;
        self.work_every_row += other.work_every_row;
        self.optimizing += other.optimizing;
        self.generating += other.generating;
        self.generating_alone += other.generating_alone;
    }

    fn work_ratio(&self) -> f64 {
        self.work as f64 / self.work_every_row as f64
    }

    fn share(&self) -> f64 {
        self.optimizing.as_secs_f64() / (self.optimizing + self.generating).as_secs_f64()
    }

    fn times_generating(&self) -> f64 {
        (self.optimizing + self.generating).as_secs_f64() / self.generating_alone.as_secs_f64()
    }

    fn microseconds_per_node(&self) -> f64 {
        (self.optimizing + self.generating).as_secs_f64() * 1e6 / self.nodes as f64
    }

    fn line(&self, name: &str) -> Vec<String> {
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

/// What OMR's warm strategy takes for a node of its IL, code generation included, on a machine of this class.
const OMR_MICROSECONDS_PER_NODE: f64 = 7.2;

/// Work and time of the usual strategy over all methods of all programs.
fn costs(programs: &[Program], report: &mut Report) -> Result<()> {
    let head =
        ["warm", "methods", "nodes", "work/node", "of every row", "opt share", "of codegen", "µs/node"];
    let mut table = Table { lines: vec![head.map(String::from).to_vec()] };
    let mut total = Cost::default();
    let mut by_pass = Passes::default();
    for program in programs {
        progress(&format!("compiling {}", program.name));
        let cost = cost(program, &mut by_pass)?;
        total.add(&cost);
        table.lines.push(cost.line(&program.name));
        report.detail(format!("work, {}, on demand / every row", program.name), cost.work_ratio(), "ratio");
        report.detail(format!("optimizer's share, {}", program.name), cost.share(), "ratio");
    }
    progress("");
    table.lines.push(total.line("all"));
    report.sections.push(table.to_string());
    report.sections.push(by_pass.table(total.nodes).to_string());
    let at_most = |bound| Some(Target::AtMost(bound));
    report.conclude("work at warm, on demand / every row".into(), total.work_ratio(), "ratio", at_most(0.5));
    report.conclude("optimizer's share of warm".into(), total.share(), "ratio", None);
    report.conclude("warm, all in / codegen alone".into(), total.times_generating(), "ratio", at_most(2.0));
    report.conclude("warm, all in".into(), total.microseconds_per_node(), "µs/node", None);
    report.conclude("OMR at warm, published".into(), OMR_MICROSECONDS_PER_NODE, "µs/node", None);
    Ok(())
}

/// A code generator as the engine has it, for timing it by itself.
fn compiler() -> Result<Compiler> {
    let machine =
        Machine::new(Features::Host, Verify::Off).map_err(|error| Failure::because("codegen", error))?;
    Ok(Compiler::new(Arc::new(machine)))
}

fn cost(program: &Program, by_pass: &mut Passes) -> Result<Cost> {
    let failed = |error| Failure::because(&program.name, error);
    let module = Arc::new(Module::parse(program.wasm.as_slice()).map_err(failed)?);
    let lowering = Lowering::new(module, LoweringOptions::default(), &mut Lowered::new());
    let declarations = lowering.declarations();
    let options = Optimization::default();
    let mut compiler = compiler()?;
    let mut cost = Cost::default();
    for id in lowering.methods() {
        let arena = Bump::new();
        let lower = || lowering.lower(id, &arena).map_err(failed);
        let mut method = lower()?;
        cost.methods += 1;
        cost.nodes += method.node_count();
        let request = Request::new(declarations, WARM, &options);
        let (ran, optimizing) = timed(|| optimize(&request, &mut method, by_pass));
        let ledger = ran.map_err(|fault| Failure::because(&program.name, fault))?.ledger;
        by_pass.add(&ledger);
        cost.work += ledger.work;
        cost.optimizing += optimizing;
        let (code, generating) = timed(|| compiler.compile(declarations, &method).map(drop));
        code.map_err(|error| Failure::because(&program.name, error))?;
        cost.generating += generating;

        let alone = lower()?;
        let (code, generating) = timed(|| compiler.compile(declarations, &alone).map(drop));
        code.map_err(|error| Failure::because(&program.name, error))?;
        cost.generating_alone += generating;

        let mut all = lower()?;
        let every_row = Request::new(declarations, &EVERY_ROW, &options);
        let ran = optimize(&every_row, &mut all, &mut ());
        cost.work_every_row += ran.map_err(|fault| Failure::because(&program.name, fault))?.ledger.work;
    }
    Ok(cost)
}
