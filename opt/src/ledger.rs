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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// A cell of text.
fn left(text: &str, columns: usize) -> String {
    format!("  {text:columns$}")
}

/// A cell of a number.
fn right(text: impl fmt::Display, columns: usize) -> String {
    format!("  {:>columns$}", text.to_string())
}

fn push_line(out: &mut String, cells: &[String], rest: &str) {
    let _ = writeln!(out, "{}", format!("{}  {rest}", cells.concat()).trim_end());
}

/// Columns of what a row came to, rewrites, nodes, and units of work or gain.
const OUTCOME: usize = 9;
const REWRITES: usize = 8;
const NODES: usize = 13;
const UNITS: usize = 8;
/// Columns of the number of a round.
const ROUND: usize = 5;

/// Two tables: rows, and demands where there are any.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.entries.iter().map(|entry| entry.round).max().unwrap_or(0);
        let ran = self.runs().count();
        let skipped = self.entries.len() - ran;
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let (runs, rounds) = (plural(ran, "run"), plural(rounds as usize, "round"));
        let mut out =
            format!("{runs}, {skipped} skipped, in {rounds}; work {} of {}\n", self.work, self.budget);
        let columns = longest(self.entries.iter().map(|entry| entry.pass));
        if !self.entries.is_empty() {
            let head = [
                right("round", ROUND),
                left("pass", columns + 2 + OUTCOME),
                right("rewrites", REWRITES),
                right("nodes", NODES),
                right("work", UNITS),
            ];
            push_line(&mut out, &head, "why");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            self.push_entry(&mut out, index, entry, columns);
        }
        if !self.demands.is_empty() {
            let by = longest(self.demands.iter().map(|demand| demand.by));
            let pass = longest(self.demands.iter().map(|demand| demand.pass).chain(["asks for"]));
            let head = [
                right("round", ROUND),
                left("by", by),
                left("asks for", pass),
                right("gain", UNITS),
                right("cost", UNITS),
            ];
            push_line(&mut out, &head, "because, and what came of it");
            self.demands.iter().for_each(|demand| self.push_demand(&mut out, demand, by, pass));
        }
        f.write_str(&out)
    }
}

/// The columns that names take.
fn longest<'n>(names: impl Iterator<Item = &'n str>) -> usize {
    names.map(str::len).max().unwrap_or(0).max("pass".len())
}

impl Ledger {
    fn push_entry(&self, out: &mut String, index: usize, entry: &Entry, columns: usize) {
        let (ran, run) = match &entry.outcome {
            Outcome::Ran(run) => (true, *run),
            Outcome::Skipped(_) => (false, Run::default()),
        };
        let number = |text: String| if ran { text } else { "-".into() };
        let done = match (ran, run.has_changed) {
            (false, _) => "skipped",
            (true, true) => "changed",
            (true, false) => "unchanged",
        };
        let rewrites = match run.denied {
            0 => run.rewrites.to_string(),
            denied => format!("{}, -{denied}", run.rewrites),
        };
        let (before, after) = run.nodes;
        let nodes = if run.has_changed { format!("{before} → {after}") } else { before.to_string() };
        let cells = [
            right(entry.round, ROUND),
            left(entry.pass, columns),
            left(done, OUTCOME),
            right(number(rewrites), REWRITES),
            right(number(nodes), NODES),
            right(number(run.work.to_string()), UNITS),
        ];
        push_line(out, &cells, &self.why(index, entry));
    }

    /// Why a row ran, or did not.
    fn why(&self, index: usize, entry: &Entry) -> String {
        let run = match &entry.outcome {
            Outcome::Skipped(skip) => return skip.to_string(),
            Outcome::Ran(run) => run,
        };
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
        why
    }

    fn push_demand(&self, out: &mut String, demand: &DemandEntry, by: usize, pass: usize) {
        let fate = match demand.fate {
            Fate::Pending => "waits".into(),
            Fate::Served(index) => {
                let entry = &self.entries[index as usize];
                let changed = matches!(&entry.outcome, Outcome::Ran(run) if run.has_changed);
                format!("ran in round {}{}", entry.round, if changed { "" } else { ", in vain" })
            }
            Fate::Denied(skip) => format!("denied: {skip}"),
        };
        let cells = [
            right(demand.round, ROUND),
            left(demand.by, by),
            left(demand.pass, pass),
            right(demand.gain, UNITS),
            right(demand.cost.map_or("-".into(), |cost| cost.to_string()), UNITS),
        ];
        push_line(out, &cells, &format!("{}; {fate}", demand.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_two_tables_in_line() {
        let run = Run {
            has_changed: true,
            rewrites: 2,
            denied: 1,
            work: 40,
            nodes: (12, 9),
            heads: Some(1),
            is_cut: false,
        };
        let entry = |pass, outcome| Entry { round: 1, pass, why: "it is there", outcome };
        let demand = |pass, fate| DemandEntry {
            round: 1,
            by: "inline",
            pass,
            reason: "a body came in",
            gain: Gain(1536),
            cost: Some(30),
            fate,
        };
        let ledger = Ledger {
            entries: vec![
                entry("eliminate_checks", Outcome::Ran(run)),
                entry("unroll", Outcome::Skipped(Skip::Lacks(Features::LOOPS))),
            ],
            demands: vec![
                demand("eliminate_checks", Fate::Served(0)),
                demand("unroll", Fate::Denied(Skip::DoesNotPay { cost: 30, worth: 1 })),
            ],
            budget: 100,
            work: 40,
        };
        let expected = "\
1 run, 1 skipped, in 1 round; work 40 of 100
  round  pass                         rewrites          nodes      work  why
      1  eliminate_checks  changed       2, -1         12 → 9        40  asked by inline, for 1 extended block
      1  unroll            skipped           -              -         -  not in the method: loops
  round  by      asks for              gain      cost  because, and what came of it
      1  inline  eliminate_checks       1.5        30  a body came in; ran in round 1
      1  inline  unroll                 1.5        30  a body came in; denied: it may cost 30 and is worth 1
";
        assert_eq!(ledger.to_string(), expected);
    }
}
