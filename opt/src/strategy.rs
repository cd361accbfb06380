//! Strategies: for each tier, the passes that run for it, with the condition and the reason for each row. One table, `LINES`, says of each pass
//! how every tier runs it.
//!
//! A pass that is to run again is *demanded* by one that has changed something for it, not listed twice. What the builder folds needs no
//! pass, so [`NONE`] compiles what the frontend built. Which orders the tables must keep is in [`order`](crate::order).

use std::borrow::Cow;

use crate::features::Features;
use crate::pass::Pass;
use crate::passes::{
    check_motion, dead_store, escape_analysis, global_value_propagation, gvn, gvn_pre, if_conversion, inline,
    jump_threading, layout, loop_inversion, mark_cold, monitor_elimination, store_sinking, switch_shaping,
    tail_duplication, throw_to_goto, value_propagation,
};

/// When a row's pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// For every method, in the first round.
    Always,
    /// In the first round, for methods that have all of these features.
    Has(Features),
    /// When another pass has demanded it, and it pays.
    Demanded,
    /// The same, for methods that have all of these features.
    DemandedWith(Features),
    /// Once, when all else is done, for methods that have all of these features.
    Last(Features),
}

impl When {
    /// What the method must have.
    pub(crate) fn needs(self) -> Features {
        match self {
            When::Always | When::Demanded => Features::NONE,
            When::Has(features) | When::DemandedWith(features) | When::Last(features) => features,
        }
    }

    /// Whether somebody must ask for it.
    pub(crate) fn is_on_demand(self) -> bool {
        matches!(self, When::Demanded | When::DemandedWith(_))
    }
}

/// A row of a strategy.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What runs.
    pub pass: Pass,
    /// When.
    pub when: When,
    /// Why it stands here.
    pub why: &'static str,
}

/// What is done to a method of one tier.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// The units of work that may be used for each node of the method, besides [`BASE_WORK`].
    pub work_per_node: u64,
    /// The units of work that are worth one cycle saved for each entry of the method.
    pub work_per_cycle: u64,
    /// The passes, in order.
    pub rows: Cow<'static, [Row]>,
}

/// The units of work that may be used for the smallest method.
pub const BASE_WORK: u64 = 4096;

impl Strategy {
    /// The strategy of ours with this name.
    pub fn by_name(name: &str) -> Option<&'static Strategy> {
        STRATEGIES.iter().copied().find(|strategy| strategy.name == name)
    }

    /// These passes, each once and in this order, whatever it costs.
    pub fn of_passes(passes: &[Pass]) -> Strategy {
        let row = |pass: &Pass| Row { pass: *pass, when: When::Always, why: "asked for by name" };
        Strategy { name: "passes", rows: passes.iter().map(row).collect(), ..EVERYTHING }
    }

    /// This one, with every row run for every method in the first round: what running on demand is measured against.
    pub fn without_conditions(&self) -> Strategy {
        let row = |row: &Row| Row { when: When::Always, ..*row };
        Strategy { rows: self.rows.iter().map(row).collect(), ..self.clone() }
    }
}

/// Spares nothing.
const EVERYTHING: Strategy = Strategy {
    name: "passes",
    why: "what was asked for by name",
    work_per_node: u64::MAX,
    work_per_cycle: u64::MAX,
    rows: Cow::Borrowed(&[]),
};

/// Compiles what the frontend built.
pub const NONE: &Strategy = &Strategy {
    name: "none",
    why: "the quickest way to machine code, and the base that passes are measured against",
    work_per_node: 0,
    work_per_cycle: 0,
    rows: Cow::Borrowed(&[]),
};

/// How a strategy runs a line's pass, if the method has the features that it needs.
#[derive(Clone, Copy)]
enum Runs {
    No,
    /// Where somebody asks for it.
    Asked,
    Yes,
    /// When all else is done.
    Last,
}

use Runs::{Asked, Last, No, Yes};

/// A pass, and how the strategies run it: the quick one, the warm one, and those that take their time.
struct Line {
    pass: Pass,
    needs: Features,
    runs: [Runs; 3],
    why: &'static str,
}

const fn line(pass: Pass, needs: Features, runs: [Runs; 3], why: &'static str) -> Line {
    Line { pass, needs, runs, why }
}

const ANYTHING: Features = Features::NONE;
const BRANCHES: Features = Features::BRANCHES.union(Features::HEADS);

/// The rows of all strategies, in order.
const LINES: &[Line] = &[
    line(mark_cold::PASS, BRANCHES, [Yes, Yes, Yes], "before all that asks how often blocks run"),
    line(
        inline::PASS,
        Features::CALLS,
        [No, Yes, Yes],
        "before all that looks at code: there is more of it then, and calls hide less",
    ),
    line(
        throw_to_goto::PASS,
        Features::HANDLERS,
        [No, Yes, Yes],
        "what is thrown and caught here is a jump, and more is known where it is caught",
    ),
    line(
        loop_inversion::PASS,
        Features::LOOPS,
        [No, Yes, Yes],
        "before all that looks at what each turn does whatever happens",
    ),
    line(
        jump_threading::PASS,
        BRANCHES,
        [No, Asked, Yes],
        "where branches are decided along some paths: before facts are joined where these meet",
    ),
    line(
        tail_duplication::PASS,
        BRANCHES.union(Features::PROFILE),
        [No, Yes, Yes],
        "the same, where the profile says which path matters",
    ),
    line(
        escape_analysis::PASS,
        Features::ALLOCATIONS,
        [No, Yes, Yes],
        "when callees are there and paths apart; before facts, which then know fields, and no frame states hold objects",
    ),
    line(
        global_value_propagation::PASS,
        Features::DECISIONS,
        [No, Yes, Yes],
        "ranges, bounds and counters along all paths: checks go",
    ),
    line(
        gvn::PASS,
        Features::SYNCHRONISATION,
        [No, Yes, Yes],
        "so that monitors of one value are known to be: without monitors what does this and more comes later",
    ),
    line(
        monitor_elimination::PASS,
        Features::SYNCHRONISATION,
        [No, Yes, Yes],
        "when it is known what is the same object; before loads and stores are moved, which monitors keep in place",
    ),
    line(check_motion::PASS, Features::CHECKS, [No, No, Yes], "for the checks that are left"),
    line(
        gvn_pre::PASS,
        Features::RECURRENCE,
        [No, Yes, Yes],
        "what was computed, loaded or checked is not again; after checks, so that loads may follow them out of loops",
    ),
    line(
        value_propagation::PASS,
        ANYTHING,
        [Yes, Asked, Asked],
        "checks and branches that what stands above them decides: cheap, and copies of blocks have some",
    ),
    line(
        dead_store::PASS,
        Features::STORES,
        [No, Asked, Yes],
        "where loads are served without memory, what fed them is dead",
    ),
    line(store_sinking::PASS, BRANCHES, [No, No, Yes], "what is not dead may be needed on few ways"),
    line(if_conversion::PASS, BRANCHES, [No, Yes, Yes], "when what could be decided about branches is"),
    line(switch_shaping::PASS, Features::SWITCHES, [No, Yes, Yes], "the same, for switches"),
    line(
        layout::PASS,
        Features::BRANCHES,
        [Last, Last, Last],
        "for the order of code, when all blocks are there",
    ),
];

/// The column of a strategy.
const OF_QUICK: usize = 0;
const OF_WARM: usize = 1;
const OF_HOT: usize = 2;

/// When a line's pass runs, by a column; never if none is said.
const fn when(line: &Line, column: usize) -> Option<When> {
    let needs_nothing = Features::NONE.has(line.needs);
    match line.runs[column] {
        No => None,
        Asked if needs_nothing => Some(When::Demanded),
        Asked => Some(When::DemandedWith(line.needs)),
        Yes if needs_nothing => Some(When::Always),
        Yes => Some(When::Has(line.needs)),
        Last => Some(When::Last(line.needs)),
    }
}

/// How many rows a column has.
const fn count(column: usize) -> usize {
    let (mut index, mut count) = (0, 0);
    while index < LINES.len() {
        if when(&LINES[index], column).is_some() {
            count += 1;
        }
        index += 1;
    }
    count
}

/// The rows of a column.
const fn rows<const COUNT: usize>(column: usize) -> [Row; COUNT] {
    let mut rows = [Row { pass: LINES[0].pass, when: When::Always, why: "" }; COUNT];
    let (mut index, mut count) = (0, 0);
    while index < LINES.len() {
        let line = &LINES[index];
        if let Some(when) = when(line, column) {
            rows[count] = Row { pass: line.pass, when, why: line.why };
            count += 1;
        }
        index += 1;
    }
    rows
}

const QUICK_ROWS: &[Row] = &rows::<{ count(OF_QUICK) }>(OF_QUICK);
const WARM_ROWS: &[Row] = &rows::<{ count(OF_WARM) }>(OF_WARM);
/// Of those that take their time, and of those that spare none, which differ in what they may spend.
const HOT_ROWS: &[Row] = &rows::<{ count(OF_HOT) }>(OF_HOT);

/// Compiles quickly.
pub const QUICK: &Strategy = &Strategy {
    name: "quick",
    why: "for methods that have just begun to run: only what is sure to save more than it costs",
    work_per_node: 32,
    work_per_cycle: 16,
    rows: Cow::Borrowed(QUICK_ROWS),
};

/// The usual one.
pub const WARM: &Strategy = &Strategy {
    name: "warm",
    why: "for methods that run often: as good as can be for about what machine code costs",
    work_per_node: 128,
    work_per_cycle: 128,
    rows: Cow::Borrowed(WARM_ROWS),
};

/// Takes its time.
pub const HOT: &Strategy = &Strategy {
    name: "hot",
    why: "for methods in which the program spends a good part of its time",
    work_per_node: 512,
    work_per_cycle: 1024,
    rows: Cow::Borrowed(HOT_ROWS),
};

/// Spares no time.
pub const SCORCHING: &Strategy = &Strategy {
    name: "scorching",
    why: "for the few methods that are most of what runs",
    work_per_node: 2048,
    work_per_cycle: 8192,
    rows: Cow::Borrowed(HOT_ROWS),
};

/// Every strategy, from the quickest to compile to the quickest to run.
pub const STRATEGIES: &[&Strategy] = &[NONE, QUICK, WARM, HOT, SCORCHING];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::PASSES;

    #[test]
    fn names_find_their_strategy_and_nothing_else() {
        for strategy in STRATEGIES {
            assert_eq!(Strategy::by_name(strategy.name).map(|found| found.name), Some(strategy.name));
            assert!(PASSES.iter().all(|pass| pass.name != strategy.name), "{} is a pass too", strategy.name);
        }
        assert!(Strategy::by_name("fastest").is_none());
    }

    #[test]
    fn every_row_is_of_a_pass_in_the_table_and_has_a_reason() {
        for row in STRATEGIES.iter().flat_map(|strategy| &*strategy.rows) {
            assert!(PASSES.iter().any(|pass| pass.name == row.pass.name), "{:?}", row.pass);
            assert!(!row.why.is_empty(), "{:?} has no reason", row.pass);
        }
    }

    #[test]
    fn later_strategies_spend_more() {
        for pair in STRATEGIES.windows(2) {
            assert!(pair[0].work_per_node < pair[1].work_per_node, "{}", pair[1].name);
            assert!(pair[0].work_per_cycle < pair[1].work_per_cycle, "{}", pair[1].name);
        }
    }
}
