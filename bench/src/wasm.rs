//! `dagwood-bench wasm`: run time and compile time of WebAssembly programs, in every engine that is here.
//!
//! Run time is CPU time of a call of `run(n)` in steady state; compile time is CPU time from a module's bytes to code
//! that could be called, validation included, on one thread. Programs with 64-bit memories have means of their own,
//! because engines differ there in what they mask.

use crate::Options;
use crate::child;
use crate::dagwood;
use crate::engine::{Engine, Program, Result};
use crate::measure::{Plan, Series, compile_times, geomean, median_milliseconds, ratio, run_times};
use crate::programs::selected;
use crate::report::{Report, Table, Target, progress};

const FULL: Plan = Plan { instances: 5, rounds: 4, compilations: 15 };
const QUICK: Plan = Plan { instances: 2, rounds: 3, compilations: 5 };

/// What is measured, and with it which times an engine has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CPU time of a call.
    Run,
    /// CPU time from bytes to code.
    Compile,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Run => "run time",
            Kind::Compile => "compile time",
        }
    }
}

/// The times of all engines on one program.
struct Measured<'p> {
    program: &'p Program,
    series: Vec<Series>,
}

/// A summary figure that has a target: geometric mean of one engine against another.
pub(crate) struct Goal {
    /// What of it.
    pub(crate) kind: Kind,
    /// Which engine.
    pub(crate) engine: &'static str,
    /// Against which.
    pub(crate) base: &'static str,
    /// What the mean should be.
    pub(crate) target: Target,
}

/// The ratios that the project promises, for programs with 32-bit memories.
const GOALS: &[Goal] = &[
    Goal { kind: Kind::Run, engine: dagwood::NAME, base: "wasmtime explicit", target: Target::AtMost(1.30) },
    Goal {
        kind: Kind::Compile,
        engine: dagwood::NAME,
        base: "wasmtime explicit",
        target: Target::AtMost(1.0),
    },
];

/// The bench.
pub(crate) fn run(options: &Options) -> Result<Report> {
    if cfg!(debug_assertions) {
        eprintln!("dagwood-bench: times of a debug build mean nothing; use `cargo run --release`");
    }
    let mut report = Report::default();
    let programs = selected(options, &[], &mut report)?;
    compare(options, &programs, &engines(options)?, GOALS, &mut report)?;
    Ok(report)
}

/// Runs and compiles the programs in every engine; the first one is the base of the tables.
pub(crate) fn compare(
    options: &Options,
    programs: &[Program],
    engines: &[Box<dyn Engine>],
    goals: &[Goal],
    report: &mut Report,
) -> Result<()> {
    let plan = if options.quick { QUICK } else { FULL };

    let mut runs = Vec::new();
    let mut compilations = Vec::new();
    for program in programs {
        progress(&format!("measuring {}", program.name));
        if let Some(n) = program.n {
            runs.push(Measured { program, series: run_times(program, n, engines, plan)? });
        }
        compilations.push(Measured { program, series: compile_times(program, engines, plan)? });
    }
    progress("");

    report.sections.push(policies(engines));
    for (kind, measured) in [(Kind::Run, &runs), (Kind::Compile, &compilations)] {
        let section = table(kind, measured, engines, report);
        report.sections.push(section);
    }
    for (kind, measured) in [(Kind::Run, &runs), (Kind::Compile, &compilations)] {
        summarise(kind, measured, engines, goals, report);
    }
    Ok(())
}

/// Every engine on this machine.
fn engines(options: &Options) -> Result<Vec<Box<dyn Engine>>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    #[cfg(feature = "peers")]
    engines.extend(crate::wasmtime::engines(options.quick)?);
    engines.push(Box::new(dagwood::Dagwood { name: dagwood::NAME, strategy: dagwood_opt::NONE }));
    engines.extend(child::node(options.quick));
    engines.extend(child::native());
    Ok(engines)
}

fn policies(engines: &[Box<dyn Engine>]) -> String {
    let mut text = String::from("How each engine keeps a program inside its memory:\n");
    for engine in engines {
        text += &format!("  {:18} {}\n", engine.name(), engine.policy());
    }
    text
}

/// One line a program: the time of the first engine that has one, then every engine's ratio to it.
fn table(kind: Kind, measured: &[Measured<'_>], engines: &[Box<dyn Engine>], report: &mut Report) -> String {
    let shown: Vec<usize> = (0..engines.len())
        .filter(|&index| measured.iter().any(|program| !program.series[index].is_empty()))
        .collect();
    let Some(&base) = shown.first() else { return String::new() };
    let mut head = vec![kind.word().to_owned(), format!("{} ms", engines[base].name())];
    head.extend(shown.iter().skip(1).map(|&index| engines[index].name().to_owned()));
    let mut table = Table { lines: vec![head] };
    for Measured { program, series } in measured {
        let milliseconds = median_milliseconds(&series[base]);
        if let Some(value) = milliseconds {
            report.detail(
                format!("{}, {}, {}", kind.word(), program.name, engines[base].name()),
                value,
                "ms",
            );
        }
        let mut line = vec![program.name.clone(), cell(milliseconds)];
        for &index in shown.iter().skip(1) {
            let value = ratio(&series[index], &series[base]);
            if let Some(value) = value {
                let name = against(kind, &program.name, engines[index].name(), engines[base].name());
                report.detail(name, value, "ratio");
            }
            line.push(cell(value));
        }
        table.lines.push(line);
    }
    for memory64 in [false, true] {
        let mut line = vec![format!("geomean{}", if memory64 { ", memory64" } else { "" }), String::new()];
        line.extend(shown.iter().skip(1).map(|&index| cell(mean(measured, memory64, index, base))));
        if line.iter().skip(2).any(|cell| cell != "-") {
            table.lines.push(line);
        }
    }
    table.to_string()
}

fn cell(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.2}"))
}

fn against(kind: Kind, what: &str, engine: &str, base: &str) -> String {
    format!("{}, {what}, {engine} / {base}", kind.word())
}

/// The geometric mean of one engine's ratios to another's over the programs with or without 64-bit memories.
fn mean(measured: &[Measured<'_>], memory64: bool, engine: usize, base: usize) -> Option<f64> {
    let ratios: Vec<f64> = measured
        .iter()
        .filter(|measured| measured.program.memory64 == memory64)
        .filter_map(|measured| ratio(&measured.series[engine], &measured.series[base]))
        .collect();
    geomean(&ratios)
}

/// Geometric means against the base of the tables, then the goals.
fn summarise(
    kind: Kind,
    measured: &[Measured<'_>],
    engines: &[Box<dyn Engine>],
    goals: &[Goal],
    report: &mut Report,
) {
    for memory64 in [false, true] {
        let what = if memory64 { "geomean of memory64" } else { "geomean" };
        for (index, engine) in engines.iter().enumerate().skip(1) {
            if let Some(value) = mean(measured, memory64, index, 0) {
                let name = against(kind, what, engine.name(), engines[0].name());
                report.detail(name, value, "ratio");
            }
        }
    }
    let find = |name: &str| engines.iter().position(|engine| engine.name() == name);
    for goal in goals.iter().filter(|goal| goal.kind == kind) {
        let (Some(engine), Some(base)) = (find(goal.engine), find(goal.base)) else { continue };
        if let Some(value) = mean(measured, false, engine, base) {
            report.conclude(
                against(kind, "geomean", goal.engine, goal.base),
                value,
                "ratio",
                Some(goal.target),
            );
        }
    }
}
