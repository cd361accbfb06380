//! Demands: what a pass asks the manager for, because of something that it has changed.
//!
//! ```text
//!   pass ── cx.demand ──► pending ── pays? within the budget? ──► runs over its region
//!                            │  └── no ─────────────────────────► the ledger, with the reason
//!                            └ its region follows the blocks wherever cx.apply puts them
//! ```

use crate::pass::Pass;
use crate::region::Region;
use crate::strategy::Strategy;

/// Time saved, in 1/1024 cycles for one entry of the method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gain(pub u64);

impl Gain {
    /// So many cycles each time that a block of this frequency runs; once for each entry if it is not known.
    pub fn cycles(cycles: u32, frequency: Option<dagwood_il::Frequency>) -> Gain {
        let frequency = frequency.unwrap_or(dagwood_il::Frequency::ONCE);
        Gain(u64::from(cycles) * u64::from(frequency.0))
    }

    /// The units of work that it is worth to a strategy.
    pub fn worth(self, strategy: &Strategy) -> u64 {
        let worth = u128::from(self.0) * u128::from(strategy.work_per_cycle) / 1024;
        u64::try_from(worth).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Display for Gain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tenths are more than such estimates are worth, and enough to see that there is something.
        let tenths = (self.0 / 1024 * 10).saturating_add(self.0 % 1024 * 10 / 1024);
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

/// A pass asking for another.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Whom it asks for.
    pub pass: Pass,
    /// Where that may find something.
    pub region: Region,
    /// What has changed, so that it may.
    pub reason: &'static str,
    /// What that may save.
    pub gain: Gain,
    /// What that may cost, in units of work; the manager estimates it from the region if none is said.
    pub cost: Option<u64>,
}

impl Demand {
    /// A demand of which the manager estimates the cost.
    pub fn new(pass: Pass, region: Region, reason: &'static str, gain: Gain) -> Demand {
        Demand { pass, region, reason, gain, cost: None }
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::Frequency;

    use super::*;

    #[test]
    fn gains_are_cycles_for_one_entry() {
        assert_eq!(Gain::cycles(3, None), Gain(3072));
        assert_eq!(Gain::cycles(3, Some(Frequency::COLD)), Gain(0));
        assert_eq!(Gain::cycles(1, Some(Frequency(u32::MAX))).to_string(), "4194303.9");
        assert_eq!(Gain(512).to_string(), "0.5");
        assert_eq!(Gain(u64::MAX).to_string().len(), 19);
    }
}
