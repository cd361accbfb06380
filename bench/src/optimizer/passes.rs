//! What each pass of a strategy did over all methods: how often it ran, what it changed, its work and its time.

use std::time::Duration;

use dagwood_il::Method;
use dagwood_opt::ledger::{Ledger, Outcome};
use dagwood_opt::{Changed, Observer, Step};

use crate::engine::thread_time;
use crate::report::Table;

/// What one pass did.
#[derive(Clone, Default)]
struct Line {
    pass: &'static str,
    runs: u64,
    changes: u64,
    skips: u64,
    rewrites: u64,
    work: u64,
    time: Duration,
}

/// What all passes did, in the order in which they first came up.
#[derive(Default)]
pub(super) struct Passes {
    lines: Vec<Line>,
    started: Duration,
}

impl Passes {
    fn line(&mut self, pass: &'static str) -> &mut Line {
        let index = self.lines.iter().position(|line| line.pass == pass).unwrap_or_else(|| {
            self.lines.push(Line { pass, ..Line::default() });
            self.lines.len() - 1
        });
        &mut self.lines[index]
    }

    /// Adds what the ledger of a method says.
    pub(super) fn add(&mut self, ledger: &Ledger) {
        for entry in &ledger.entries {
            let line = self.line(entry.pass);
            match &entry.outcome {
                Outcome::Ran(run) => {
                    line.runs += 1;
                    line.changes += u64::from(run.has_changed);
                    line.rewrites += run.rewrites;
                    line.work += run.work;
                }
                Outcome::Skipped(_) => line.skips += 1,
            }
        }
    }

    /// The lines as a table; work and time are by node of what the frontend built.
    pub(super) fn table(&self, nodes: usize) -> Table {
        let head = ["pass", "runs", "changed", "skipped", "rewrites", "work/node", "ns/node"];
        let mut table = Table { lines: vec![head.map(String::from).to_vec()] };
        for line in &self.lines {
            let per_node = |value: f64| value / nodes as f64;
            table.lines.push(vec![
                line.pass.to_owned(),
                line.runs.to_string(),
                line.changes.to_string(),
                line.skips.to_string(),
                line.rewrites.to_string(),
                format!("{:.2}", per_node(line.work as f64)),
                format!("{:.0}", per_node(line.time.as_secs_f64() * 1e9)),
            ]);
        }
        table
    }
}

impl Observer for Passes {
    fn before(&mut self, _: &Step<'_>, _: &Method<'_>) {
        self.started = thread_time();
    }

    fn after(&mut self, step: &Step<'_>, _: &Method<'_>, _: Changed) {
        let time = thread_time().saturating_sub(self.started);
        self.line(step.pass.name).time += time;
    }
}
