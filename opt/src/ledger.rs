//! The ledger: what ran and what did not, who asked for it and why, what it changed and what it cost.
//!
//! Always kept, because it is small and holds no text that would have to be made: a few words for each row of the strategy and each
//! demand. No demand is lost: it has an [`Entry`] that served it, or a [`Skip`] that says why there is none.

use std::fmt::{self, Write};

use crate::demand::Gain;
use crate::features::Features;

/// How the optimization of a method went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The rows, in the order in which they came up.
    pub entries: Vec<Entry>,
    /// The demands, in the order in which they were made.
    pub demands: Vec<DemandEntry>,
    /// The units of work that there were.
    pub budget: u64,
    /// Those that were used.
    pub work: u64,
}

/// A row that came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In which round, from 1.
    pub round: u32,
    /// Its pass.
    pub pass: &'static str,
    /// Why the row stands in the strategy.
    pub why: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran.
    Ran(Run),
    /// It did not.
    Skipped(Skip),
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Whether it changed the method.
    pub has_changed: bool,
    /// Rewrites that it was allowed.
    pub rewrites: u64,
    /// Rewrites that the limit denied it.
    pub denied: u64,
    /// Units of work.
    pub work: u64,
    /// Whether it stopped early because that was all it might use.
    pub is_cut: bool,
    /// How many extended blocks it was asked to look at; none if everywhere.
    pub heads: Option<u32>,
    /// Nodes before and after.
    pub nodes: (u32, u32),
}

/// Why a row or a demand came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The row waits to be demanded, and nobody did.
    NotDemanded,
    /// The method has none of what the pass works on.
    Lacks(Features),
    /// The strategy has no row for the pass.
    NoRow,
    /// Nothing has changed since the pass last ran.
    NothingChanged,
    /// It would cost more than what it may gain is worth.
    DoesNotPay {
        /// What it may cost, in units of work.
        cost: u64,
        /// What it may cost at most to be worth it.
        worth: u64,
    },
    /// The budget of work does not suffice.
    Budget,
    /// The blocks that it was about are gone.
    RegionGone,
    /// As many rounds as there may be have been.
    Rounds,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::NotDemanded => f.write_str("nobody asked for it"),
            Skip::Lacks(features) => write!(f, "not in the method: {features}"),
            Skip::NoRow => f.write_str("the strategy has no row for it"),
            Skip::NothingChanged => f.write_str("nothing has changed since it last ran"),
            Skip::DoesNotPay { cost, worth } => {
                write!(f, "it may cost {cost} and is worth {worth}")
            }
            Skip::Budget => f.write_str("the budget does not suffice"),
            Skip::RegionGone => f.write_str("its blocks are gone"),
            Skip::Rounds => f.write_str("there have been enough rounds"),
        }
    }
}

/// A demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandEntry {
    /// In which round it was made.
    pub round: u32,
    /// Who asked.
    pub by: &'static str,
    /// For whom.
    pub pass: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What it may gain.
    pub gain: Gain,
    /// What it may cost, in units of work; none if nobody had to know.
    pub cost: Option<u64>,
    /// What came of it.
    pub fate: Fate,
}

/// What came of a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits.
    Pending,
    /// The entry of this index served it.
    Served(u32),
    /// It came to nothing.
    Denied(Skip),
}

impl Ledger {
    /// How many rows ran.
    pub fn runs(&self) -> impl Iterator<Item = (&Entry, &Run)> {
        self.entries.iter().filter_map(|entry| match &entry.outcome {
            Outcome::Ran(run) => Some((entry, run)),
            Outcome::Skipped(_) => None,
        })
    }

    /// Who asked for an entry, each once.
    fn askers(&self, index: usize) -> Vec<&'static str> {
        let served = |demand: &&DemandEntry| demand.fate == Fate::Served(index as u32);
        let mut askers: Vec<&'static str> =
            self.demands.iter().filter(served).map(|demand| demand.by).collect();
        askers.dedup();
        askers
    }
}

/// What every line of a table begins with.
fn push_line(out: &mut String, cells: &[(&str, usize)], rest: &str) {
    let mut line = String::new();
    for (cell, columns) in cells {
        // A negative alignment would be clearer; numbers are told by their first character.
        let is_number = cell.starts_with(|c: char| c.is_ascii_digit()) || *cell == "-";
        let _ = match is_number {
            true => write!(line, "  {cell:>columns$}"),
            false => write!(line, "  {cell:columns$}"),
        };
    }
    let _ = writeln!(out, "{}", format!("{line}  {rest}").trim_end());
}

/// Two tables: rows, and demands where there are any.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.entries.iter().map(|entry| entry.round).max().unwrap_or(0);
        let ran = self.runs().count();
        let skipped = self.entries.len() - ran;
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut out = format!(
            "{}, {skipped} skipped, in {}; work {} of {}\n",
            plural(ran, "run"),
            plural(rounds as usize, "round"),
            self.work,
            self.budget
        );
        let name =
            |names: &mut dyn Iterator<Item = &'static str>| names.map(str::len).max().unwrap_or(0).max(4);
        let columns = name(&mut self.entries.iter().map(|entry| entry.pass));
        if !self.entries.is_empty() {
            let head =
                [("round", 5), ("pass", columns), ("", 9), ("rewrites", 8), ("nodes", 13), ("work", 8)];
            push_line(&mut out, &head, "why");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            self.push_entry(&mut out, index, entry, columns);
        }
        if !self.demands.is_empty() {
            let by = name(&mut self.demands.iter().map(|demand| demand.by));
            let pass = name(&mut self.demands.iter().map(|demand| demand.pass));
            push_line(
                &mut out,
                &[("round", 5), ("by", by), ("asks for", pass.max(8)), ("gain", 8), ("cost", 8)],
                "because, and what came of it",
            );
            for demand in &self.demands {
                self.push_demand(&mut out, demand, by, pass.max(8));
            }
        }
        f.write_str(&out)
    }
}

impl Ledger {
    fn push_entry(&self, out: &mut String, index: usize, entry: &Entry, columns: usize) {
        let round = entry.round.to_string();
        match &entry.outcome {
            Outcome::Skipped(skip) => {
                let cells =
                    [(&*round, 5), (entry.pass, columns), ("skipped", 9), ("-", 8), ("-", 13), ("-", 8)];
                push_line(out, &cells, &skip.to_string());
            }
            Outcome::Ran(run) => {
                let done = if run.has_changed { "changed" } else { "unchanged" };
                let rewrites = match run.denied {
                    0 => run.rewrites.to_string(),
                    denied => format!("{}, {denied} no", run.rewrites),
                };
                let (before, after) = run.nodes;
                let nodes =
                    if run.has_changed { format!("{before} → {after}") } else { before.to_string() };
                let work = run.work.to_string();
                let cells = [
                    (&*round, 5),
                    (entry.pass, columns),
                    (done, 9),
                    (&*rewrites, 8),
                    (&*nodes, 13),
                    (&*work, 8),
                ];
                let mut why = match self.askers(index) {
                    askers if askers.is_empty() => entry.why.to_owned(),
                    askers => format!("asked by {}", askers.join(", ")),
                };
                if let Some(heads) = run.heads {
                    let _ = write!(why, ", for {heads} extended block{}", if heads == 1 { "" } else { "s" });
                }
                if run.is_cut {
                    why += "; stopped at its share of the budget";
                }
                push_line(out, &cells, &why);
            }
        }
    }

    fn push_demand(&self, out: &mut String, demand: &DemandEntry, by: usize, pass: usize) {
        let round = demand.round.to_string();
        let gain = demand.gain.to_string();
        let cost = demand.cost.map_or("-".into(), |cost| cost.to_string());
        let fate = match demand.fate {
            Fate::Pending => "waits".into(),
            Fate::Served(index) => {
                let entry = &self.entries[index as usize];
                let changed = matches!(&entry.outcome, Outcome::Ran(run) if run.has_changed);
                format!("ran in round {}{}", entry.round, if changed { "" } else { ", in vain" })
            }
            Fate::Denied(skip) => format!("denied: {skip}"),
        };
        let cells = [(&*round, 5), (demand.by, by), (demand.pass, pass), (&*gain, 8), (&*cost, 8)];
        push_line(out, &cells, &format!("{}; {fate}", demand.reason));
    }
}
