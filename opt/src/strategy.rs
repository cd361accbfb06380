//! Strategies: for each tier, the table of passes that run for it, with the reason for each row.
//!
//! What the builder folds needs no pass, so [`NONE`] compiles what the frontend built.

use std::fmt;

use dagwood_il::{Method, Module};

/// Whether a pass changed its method.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The method is as it was.
    No,
    /// Something is different; analyses must be computed again.
    Yes,
}

/// One optimization. Dumping, timing and verifying are not its business.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name: that of its file, and of its use on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Does it.
    pub run: fn(&Module, &mut Method<'_>) -> Changed,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A row of a strategy.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What runs.
    pub pass: Pass,
    /// Why it stands here.
    pub why: &'static str,
}

/// What is done to a method of one tier.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// The passes, in order.
    pub steps: &'static [Step],
}

impl Strategy {
    /// The strategy with this name.
    pub fn by_name(name: &str) -> Option<&'static Strategy> {
        STRATEGIES.iter().copied().find(|strategy| strategy.name == name)
    }

    /// Runs the passes in order.
    pub fn run(&self, module: &Module, method: &mut Method<'_>) -> Changed {
        let mut changed = Changed::No;
        for step in self.steps {
            if (step.pass.run)(module, method) == Changed::Yes {
                changed = Changed::Yes;
            }
        }
        changed
    }
}

/// Compiles what the frontend built.
pub const NONE: &Strategy = &Strategy {
    name: "none",
    why: "the quickest way to machine code, and the base that passes are measured against",
    steps: &[],
};

/// Every strategy, from the quickest to compile to the quickest to run.
pub const STRATEGIES: &[&Strategy] = &[NONE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_strategy_and_nothing_else() {
        for strategy in STRATEGIES {
            assert_eq!(Strategy::by_name(strategy.name).map(|found| found.name), Some(strategy.name));
        }
        assert!(Strategy::by_name("fastest").is_none());
    }

    #[test]
    fn without_passes_nothing_changes() {
        let mut module = Module::new();
        let id = module.declare_method("f", &[], &[]);
        let arena = bumpalo::Bump::new();
        let mut method = Method::new(&arena, id);
        assert_eq!(NONE.run(&module, &mut method), Changed::No);
        assert_eq!(method.node_count(), 0);
    }
}
