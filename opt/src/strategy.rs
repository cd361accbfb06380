//! Strategies: for each tier, the table of passes that run for it, with the condition and the reason for each row.
//!
//! A pass that is to run again is *demanded* by one that has changed something for it, not listed twice. What the builder folds needs no
//! pass, so [`NONE`] compiles what the frontend built. Which orders the tables must keep is in [`order`](crate::order).

use std::borrow::Cow;

use crate::features::Features;
use crate::pass::Pass;
use crate::passes::{
    check_motion, dead_store, escape_analysis, global_value_propagation, gvn, if_conversion, inline,
    jump_threading, layout, loop_inversion, mark_cold, monitor_elimination, pre, store_sinking,
    switch_shaping, tail_duplication, throw_to_goto, value_propagation,
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

const fn row(pass: Pass, when: When, why: &'static str) -> Row {
    Row { pass, when, why }
}

const BRANCHES: When = When::Has(Features::BRANCHES.union(Features::HEADS));
const LAST_BRANCHES: When = When::Last(Features::BRANCHES);
const CALLS: When = When::Has(Features::CALLS);
const ALLOCATIONS: When = When::Has(Features::ALLOCATIONS);
const STORES: When = When::Has(Features::STORES);
const SYNCHRONISATION: When = When::Has(Features::SYNCHRONISATION);
const SWITCHES: When = When::Has(Features::SWITCHES);

/// Compiles quickly.
pub const QUICK: &Strategy = &Strategy {
    name: "quick",
    why: "for methods that have just begun to run: only what is sure to save more than it costs",
    work_per_node: 32,
    work_per_cycle: 16,
    rows: Cow::Borrowed(QUICK_ROWS),
};

const QUICK_ROWS: &[Row] = &[
    row(mark_cold::PASS, BRANCHES, "before all that asks how often blocks run"),
    row(
        value_propagation::PASS,
        When::Always,
        "checks and branches that what stands above them decides: cheap, and most code has some",
    ),
    row(layout::PASS, LAST_BRANCHES, "for the order of code, when all blocks are there"),
];

/// The usual one.
pub const WARM: &Strategy = &Strategy {
    name: "warm",
    why: "for methods that run often: as good as can be for about what machine code costs",
    work_per_node: 128,
    work_per_cycle: 128,
    rows: Cow::Borrowed(WARM_ROWS),
};

const WARM_ROWS: &[Row] = &[
    row(mark_cold::PASS, BRANCHES, "before all that asks how often blocks run"),
    row(inline::PASS, CALLS, "before all that looks at code: there is more of it then, and calls hide less"),
    row(
        throw_to_goto::PASS,
        When::Has(Features::HANDLERS),
        "what is thrown and caught here is a jump, and more is known where it is caught",
    ),
    row(
        loop_inversion::PASS,
        When::Has(Features::LOOPS),
        "before all that looks at what each turn does whatever happens",
    ),
    row(
        jump_threading::PASS,
        When::DemandedWith(Features::BRANCHES),
        "where what came in decides branches along some paths: before facts are joined where these meet",
    ),
    row(tail_duplication::PASS, BRANCHES, "the same, where the profile says which path matters"),
    row(
        escape_analysis::PASS,
        ALLOCATIONS,
        "when callees are there and paths apart; before facts, which then know fields, and no frame states hold objects",
    ),
    row(
        global_value_propagation::PASS,
        When::Always,
        "ranges, bounds and counters along all paths: checks go",
    ),
    row(
        gvn::PASS,
        When::Always,
        "what was computed, loaded or checked above is not again, before anything is moved",
    ),
    row(
        monitor_elimination::PASS,
        SYNCHRONISATION,
        "when it is known what is the same object; before loads and stores are moved, which monitors keep in place",
    ),
    row(
        pre::PASS,
        BRANCHES,
        "what only some paths or turns know yet; after checks, so that loads may follow them out of loops",
    ),
    row(value_propagation::PASS, When::Demanded, "for what copies of blocks decide"),
    row(
        dead_store::PASS,
        When::DemandedWith(Features::STORES),
        "where loads are served without memory, what fed them is dead",
    ),
    row(if_conversion::PASS, BRANCHES, "when what could be decided about branches is"),
    row(switch_shaping::PASS, SWITCHES, "the same, for switches"),
    row(layout::PASS, LAST_BRANCHES, "for the order of code, when all blocks are there"),
];

/// Takes its time.
pub const HOT: &Strategy = &Strategy {
    name: "hot",
    why: "for methods in which the program spends a good part of its time",
    work_per_node: 512,
    work_per_cycle: 1024,
    rows: Cow::Borrowed(HOT_ROWS),
};

/// Of those that take their time, and of those that spare none, which differ in what they may spend.
const HOT_ROWS: &[Row] = &[
    row(mark_cold::PASS, BRANCHES, "before all that asks how often blocks run"),
    row(inline::PASS, CALLS, "before all that looks at code: there is more of it then, and calls hide less"),
    row(
        throw_to_goto::PASS,
        When::Has(Features::HANDLERS),
        "what is thrown and caught here is a jump, and more is known where it is caught",
    ),
    row(
        loop_inversion::PASS,
        When::Has(Features::LOOPS),
        "before all that looks at what each turn does whatever happens",
    ),
    row(jump_threading::PASS, BRANCHES, "before facts are joined where paths meet"),
    row(tail_duplication::PASS, BRANCHES, "the same, where the profile says which path matters"),
    row(
        escape_analysis::PASS,
        ALLOCATIONS,
        "when callees are there and paths apart; before facts, which then know fields, and no frame states hold objects",
    ),
    row(
        global_value_propagation::PASS,
        When::Always,
        "ranges, bounds and counters along all paths: checks go",
    ),
    row(
        gvn::PASS,
        When::Always,
        "what was computed, loaded or checked above is not again, before anything is moved",
    ),
    row(
        monitor_elimination::PASS,
        SYNCHRONISATION,
        "when it is known what is the same object; before loads and stores are moved, which monitors keep in place",
    ),
    row(check_motion::PASS, When::Has(Features::CHECKS), "for the checks that are left"),
    row(
        pre::PASS,
        BRANCHES,
        "what only some paths or turns know yet; after checks, so that loads may follow them out of loops",
    ),
    row(value_propagation::PASS, When::Demanded, "for what copies of blocks decide"),
    row(dead_store::PASS, STORES, "when loads are served without memory, what fed them is dead"),
    row(store_sinking::PASS, BRANCHES, "what is not dead may be needed on few ways"),
    row(if_conversion::PASS, BRANCHES, "when what could be decided about branches is"),
    row(switch_shaping::PASS, SWITCHES, "the same, for switches"),
    row(layout::PASS, LAST_BRANCHES, "for the order of code, when all blocks are there"),
];

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
