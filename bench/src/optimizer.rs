//! `dagwood-bench optimizer`: what strategies gain at run time, and what they cost while compiling.
//!
//! Run time and compile time are those of `dagwood-bench wasm`, with a strategy each in place of all the peers. What is
//! run on demand is held against the same strategy with every row run for every method. Two things are counted rather
//! than timed: units of work, which are the same on every machine. The share of the optimizer is taken over all methods
//! of all programs, each lowered, optimized and compiled in turn on one thread.
//!
//! Olive's programs have tables of their own, because they have no peer: there each strategy is held against none.

mod cost;
mod growth;
mod olive;
mod passes;
mod plot;

use std::sync::LazyLock;

use dagwood_opt::{NONE, QUICK, Strategy, WARM};

use self::cost::Cost;
use self::passes::Passes;
use crate::Options;
use crate::child::CLANG_SCALAR;
use crate::dagwood::Dagwood;
use crate::engine::{Engine, Program, Result};
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
    let guests = olive::programs(options);
    let programs = selected(options, &guests, &mut report)?;
    if !programs.is_empty() {
        compare(options, &programs, &engines()?, GOALS, &mut report)?;
        let total = costs("warm", &programs, cost::of_wasm, &mut report)?;
        conclude(&total, &mut report);
    }
    if !guests.is_empty() {
        olive::run(options, &guests, &mut report)?;
    }
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

/// What OMR's warm strategy takes for a node of its IL, code generation included, on a machine of this class.
const OMR_MICROSECONDS_PER_NODE: f64 = 7.2;

/// Work and time of the usual strategy over all methods of all programs, by one line each and together.
fn costs(
    what: &str,
    programs: &[Program],
    of: fn(&Program, &mut Passes) -> Result<Cost>,
    report: &mut Report,
) -> Result<Cost> {
    let head = [what, "methods", "nodes", "work/node", "of every row", "opt share", "of codegen", "µs/node"];
    let mut table = Table { lines: vec![head.map(String::from).to_vec()] };
    let mut total = Cost::default();
    let mut by_pass = Passes::default();
    for program in programs {
        progress(&format!("compiling {}", program.name));
        let cost = of(program, &mut by_pass)?;
        total.add(&cost);
        table.lines.push(cost.line(&program.name));
        report.detail(format!("work, {}, on demand / every row", program.name), cost.work_ratio(), "ratio");
        report.detail(format!("optimizer's share, {}", program.name), cost.share(), "ratio");
    }
    progress("");
    table.lines.push(total.line("all"));
    report.sections.push(table.to_string());
    report.sections.push(by_pass.table(total.nodes).to_string());
    Ok(total)
}

/// What the project promises of the costs of WebAssembly programs.
fn conclude(total: &Cost, report: &mut Report) {
    let at_most = |bound| Some(Target::AtMost(bound));
    report.conclude("work at warm, on demand / every row".into(), total.work_ratio(), "ratio", at_most(0.5));
    report.conclude("optimizer's share of warm".into(), total.share(), "ratio", None);
    report.conclude("warm, all in / codegen alone".into(), total.times_generating(), "ratio", at_most(2.0));
    report.conclude("warm, all in".into(), total.microseconds_per_node(), "µs/node", None);
    report.conclude("OMR at warm, published".into(), OMR_MICROSECONDS_PER_NODE, "µs/node", None);
}
