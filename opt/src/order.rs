//! Which passes must stand before which in every strategy, and why.
//!
//! *What a constraint says.* In a strategy that has rows of both, the first row of `before` stands above the first row of `after`. Later rows
//! are free: whoever lists a pass twice knows why, and demands go through the rows in their order anyway.

use crate::strategy::Strategy;

/// A pass that must stand before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// The earlier pass, by name.
    pub before: &'static str,
    /// The later one.
    pub after: &'static str,
    /// What is lost otherwise.
    pub why: &'static str,
}

/// The constraints of our passes.
pub const CONSTRAINTS: &[Constraint] = &[
    Constraint {
        before: "gvn",
        after: "pre",
        why: "what is known on all paths anyway would be put on those without it for nothing",
    },
    Constraint {
        before: "gvn",
        after: "dead_store",
        why: "stores whose loads are served without memory are dead",
    },
    Constraint {
        before: "check_motion",
        after: "pre",
        why: "loads leave a loop only if no check stands before them",
    },
    Constraint { before: "check_motion", after: "gvn_pre", why: "the same" },
    Constraint {
        before: "gvn_pre",
        after: "dead_store",
        why: "stores whose loads are served without memory are dead",
    },
    Constraint { before: "inline", after: "gvn_pre", why: "what a call hides cannot be seen to be the same" },
    Constraint {
        before: "mark_cold",
        after: "loop_inversion",
        why: "cold loops are not worth a copy of their test",
    },
    Constraint { before: "mark_cold", after: "jump_threading", why: "the same, for blocks" },
    Constraint {
        before: "loop_inversion",
        after: "check_motion",
        why: "checks go before a loop from its head, where its test was",
    },
    Constraint {
        before: "jump_threading",
        after: "global_value_propagation",
        why: "joined facts are weaker than those of each path",
    },
    Constraint {
        before: "global_value_propagation",
        after: "check_motion",
        why: "what cannot raise need not be moved",
    },
    Constraint { before: "mark_cold", after: "inline", why: "calls that are never expected to run stay" },
    Constraint {
        before: "inline",
        after: "escape_analysis",
        why: "what is passed to a call escapes; in its callee's body it may not",
    },
    Constraint {
        before: "throw_to_goto",
        after: "escape_analysis",
        why: "what is thrown escapes, even if it is caught here",
    },
    Constraint {
        before: "tail_duplication",
        after: "escape_analysis",
        why: "where paths stay apart an object does not meet others",
    },
    Constraint {
        before: "escape_analysis",
        after: "global_value_propagation",
        why: "facts are known of values, not of fields; and checks of an object are decided with it",
    },
    Constraint {
        before: "escape_analysis",
        after: "gvn",
        why: "fields in locals are numbered without memory",
    },
    Constraint { before: "escape_analysis", after: "gvn_pre", why: "the same" },
    Constraint {
        before: "escape_analysis",
        after: "monitor_elimination",
        why: "monitors of objects that are not made need no thought",
    },
    Constraint {
        before: "gvn",
        after: "monitor_elimination",
        why: "objects that are one value are one operand then, in frame states, too",
    },
    Constraint {
        before: "monitor_elimination",
        after: "pre",
        why: "loads and stores do not pass what orders memory",
    },
    Constraint { before: "monitor_elimination", after: "gvn_pre", why: "the same" },
    Constraint { before: "inline", after: "gvn", why: "what a call hides cannot be seen to be the same" },
    Constraint { before: "inline", after: "pre", why: "the same" },
    Constraint {
        before: "inline",
        after: "value_propagation",
        why: "arguments that are known decide what a callee does",
    },
    Constraint { before: "inline", after: "dead_store", why: "a call may read whatever was stored" },
    Constraint {
        before: "mark_cold",
        after: "if_conversion",
        why: "a branch to where nothing goes is better than a choice",
    },
    Constraint {
        before: "mark_cold",
        after: "store_sinking",
        why: "the ways that are never taken are where things sink to",
    },
    Constraint {
        before: "dead_store",
        after: "store_sinking",
        why: "what nobody needs does not have to be moved",
    },
];

/// Passes that do, among other things, all that another one does: the former and the latter, by name. What is demanded of the latter is
/// served when the former runs everywhere.
pub const INCLUSIONS: &[(&str, &str)] =
    &[("global_value_propagation", "value_propagation"), ("gvn_pre", "gvn"), ("gvn_pre", "pre")];

/// Whether a pass does all that another does, which may be itself.
pub fn includes(pass: &str, other: &str) -> bool {
    pass == other || INCLUSIONS.contains(&(pass, other))
}

/// The constraints that a strategy does not keep.
pub fn violations<'c>(strategy: &Strategy, constraints: &'c [Constraint]) -> Vec<&'c Constraint> {
    let first = |name: &str| strategy.rows.iter().position(|row| row.pass.name == name);
    let is_broken = |constraint: &&Constraint| match (first(constraint.before), first(constraint.after)) {
        (Some(before), Some(after)) => before > after,
        _ => false,
    };
    constraints.iter().filter(is_broken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::{Changed, Pass};
    use crate::passes::PASSES;
    use crate::strategy::STRATEGIES;

    #[test]
    fn every_strategy_keeps_every_constraint() {
        for strategy in STRATEGIES {
            assert_eq!(violations(strategy, CONSTRAINTS), Vec::<&Constraint>::new(), "{}", strategy.name);
        }
    }

    #[test]
    fn constraints_are_about_passes_that_exist_and_have_reasons() {
        let exists = |name: &str| PASSES.iter().any(|pass| pass.name == name);
        assert!(INCLUSIONS.iter().all(|(pass, part)| exists(pass) && exists(part)));
        for constraint in CONSTRAINTS {
            assert!(exists(constraint.before) && exists(constraint.after), "{constraint:?}");
            assert!(!constraint.why.is_empty(), "{constraint:?}");
        }
    }

    #[test]
    fn a_broken_constraint_is_found() {
        let pass = |name| Pass { name, summary: "", run: |_, _| Changed::No };
        let strategy = Strategy::of_passes(&[pass("b"), pass("a"), pass("b")]);
        let constraint = |before, after| Constraint { before, after, why: "a test" };
        assert_eq!(violations(&strategy, &[constraint("a", "b")]).len(), 1);
        assert!(violations(&strategy, &[constraint("b", "a"), constraint("a", "c")]).is_empty());
    }
}
