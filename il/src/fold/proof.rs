//! That the laws hold, that folding by them ends, and that the matcher does what they say.
//!
//! ```text
//!   text ─► law ─┬─ model: all values at small widths ──────── exhaustive
//!                ├─ eval: many values of the real types ────── sampled (floats, and integers once more)
//!                ├─ SMT-LIB: 8 to 64 bits, by a solver ─────── ledger, which is in the tree
//!                ├─ one order of all terms ─────────────────── order
//!                └─ nodes: left built, right expected ──────── applied
//! ```
//!
//! *Why.* A rule that is wrong for one value in 2^64 is a miscompile that nobody finds.

mod applied;
mod exhaustive;
mod ledger;
mod model;
mod order;
mod sampled;
mod smt;
mod solver;

use super::law::Rule;
use super::rules::{GROUPS, laws};

/// All rules, each in the form of its text.
fn rules() -> Vec<Rule> {
    laws().map(Rule::parse).collect()
}

#[test]
fn groups_say_what_they_are_and_no_law_stands_twice() {
    let mut seen = std::collections::HashSet::new();
    for group in GROUPS.iter().copied().flatten() {
        assert!(!group.name.is_empty() && !group.why.is_empty(), "a group has a name and a reason");
        for law in group.laws {
            assert!(seen.insert(*law), "`{law}` of `{}` stands twice", group.name);
        }
    }
}
