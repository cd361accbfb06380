//! The experiments of `dagwood-bench codespace`: what a function's memory costs, beside its peers.
//!
//! They run code that they wrote themselves and map memory as peers do, so they hold `unsafe`, which the bench does not:
//! that is why they have a crate. All calls of published code stand in `function.rs`, all mappings of peers in `peer.rs`.
//!
//! *How it is measured.* A figure of one thread is the least of many short slices, a figure of two threads the median
//! over the slices in which both provably ran; what is compared takes turns. `slices.rs` says why.

mod beside;
mod bytes;
mod churn;
mod clock;
mod cold;
mod concurrent;
mod findings;
mod forms;
mod function;
mod layout;
mod modes;
mod near;
mod observers;
mod patch;
mod peer;
pub mod probe;
mod resident;
mod sizes;
mod slices;
mod throw;
mod warm;
mod writers;

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

pub use findings::{Failure, Figure, Findings, Result, Section, Target};

/// How the experiments are run.
pub struct Plan {
    /// Fewer rounds and processes: about a minute for all.
    pub quick: bool,
    /// The workspace's root, where cargo builds the probe.
    pub workspace: PathBuf,
    /// Where the bench keeps what it builds.
    pub output: PathBuf,
}

impl Plan {
    /// A number of rounds that a full run makes, or what is left of it when time is short.
    pub(crate) fn rounds(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(5) } else { full }
    }
}

/// One experiment.
pub struct Experiment {
    /// What `--only` selects it by.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&Plan, &mut Findings) -> Result<()>,
}

/// All of them, in the order of their tables.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment { name: "warm", run: warm::run },
    Experiment { name: "concurrent", run: concurrent::run },
    Experiment { name: "writers", run: writers::run },
    Experiment { name: "modes", run: modes::run },
    Experiment { name: "churn", run: churn::run },
    Experiment { name: "cold", run: cold::run },
    Experiment { name: "resident", run: resident::run },
    Experiment { name: "near", run: near::run },
    Experiment { name: "layout", run: layout::run },
    Experiment { name: "forms", run: forms::run },
    Experiment { name: "throw", run: throw::run },
    Experiment { name: "patch", run: patch::run },
    Experiment { name: "observers", run: observers::run },
];

/// Says on a terminal what is being done; the next one takes the line's place.
pub(crate) fn progress(text: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}
