//! `dagwood-bench codespace`: what executable memory costs, beside its peers.
//!
//! The experiments are a crate of their own, `dagwood-bench-codespace`, because they run machine code that they wrote
//! themselves. Here they are chosen, and what they find becomes a report.

use dagwood_bench_codespace::{EXPERIMENTS, Figure, Findings, Plan, Target as Bound};

use crate::Options;
use crate::engine::{Failure, Result};
use crate::kernels::{output_directory, root};
use crate::report::{Report, Row, Table, Target, progress};

/// What no bench measures: it is asserted by tests.
const ELSEWHERE: &str = "random operations against a model: `cargo test --release -p dagwood-codespace`";

/// The bench.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let plan = Plan { quick: options.quick, workspace: root(), output: output_directory()? };
    let mut findings = Findings::default();
    let mut chosen = 0;
    for experiment in EXPERIMENTS.iter().filter(|experiment| options.selects(experiment.name)) {
        progress(experiment.name);
        (experiment.run)(&plan, &mut findings).map_err(|error| Failure::because(experiment.name, error))?;
        chosen += 1;
    }
    if chosen == 0 {
        let names: Vec<&str> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
        return Err(Failure(format!("no experiment is selected; there are {}", names.join(", "))));
    }
    progress("");
    Ok(report(findings))
}

fn report(findings: Findings) -> Report {
    let mut report = Report::default();
    for section in findings.sections {
        let table = Table { lines: section.lines };
        let notes: String = section.notes.iter().map(|note| format!("  {note}\n")).collect();
        report.sections.push(format!("{table}{notes}"));
    }
    report.sections.push(format!("{ELSEWHERE}\n"));
    report.details = findings.details.into_iter().map(row).collect();
    report.summary = findings.summary.into_iter().map(row).collect();
    report
}

fn row(figure: Figure) -> Row {
    let target = figure.target.map(|target| match target {
        Bound::AtMost(bound) => Target::AtMost(bound),
        Bound::AtLeast(bound) => Target::AtLeast(bound),
    });
    Row { name: figure.name, value: figure.value, unit: figure.unit, target }
}
