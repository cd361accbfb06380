//! What an experiment found: tables for people, figures for machines.

use std::error::Error;
use std::fmt::Display;

/// Why an experiment cannot go on: one sentence for the user.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The result of anything here that can fail. What is timed fails with an error of its own: to box one takes memory to
/// return it in, which costs as much as what is timed.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured; unique among the figures of a run.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit; `ratio` is a figure over another one.
    pub unit: &'static str,
    /// What it should be, where a target is set.
    pub target: Option<Target>,
}

/// Everything that the experiments of one run found.
#[derive(Default)]
pub struct Findings {
    /// Tables with notes below, in the order of the experiments.
    pub sections: Vec<Section>,
    /// Figures that stand in the tables.
    pub details: Vec<Figure>,
    /// What it comes down to.
    pub summary: Vec<Figure>,
}

/// A table: the first line is the head, the first cell of each line says what the others are of.
#[derive(Default)]
pub struct Section {
    /// The lines, all of the same number of cells.
    pub lines: Vec<Vec<String>>,
    /// What was done, a sentence each.
    pub notes: Vec<String>,
}

impl Section {
    /// A table with this head.
    pub(crate) fn new(head: &[&str]) -> Section {
        Section { lines: vec![head.iter().map(ToString::to_string).collect()], notes: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, cells: impl IntoIterator<Item = impl Display>) {
        self.lines.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, sentence: impl Display) {
        self.notes.push(sentence.to_string());
    }
}

impl Findings {
    /// Adds a figure of a table.
    pub(crate) fn detail(&mut self, name: impl Display, value: f64, unit: &'static str) {
        self.details.push(Figure { name: name.to_string(), value, unit, target: None });
    }

    /// Adds a figure of the summary.
    pub(crate) fn conclude(
        &mut self,
        name: impl Display,
        value: f64,
        unit: &'static str,
        target: impl Into<Option<Target>>,
    ) {
        self.summary.push(Figure { name: name.to_string(), value, unit, target: target.into() });
    }
}
