//! What a function does with its first memory, found in one pass over its operators before it is lowered.
//!
//! ```text
//!   function (region 0)            uses memory: read its address once, at the entry
//!     loop (region 1)              uses memory, cannot grow it: read its length once, before the loop
//!       loop (region 2)            … and here it is known already
//!     loop (region 3): call f      may grow it: read its length where it is needed
//! ```
//!
//! # Why
//!
//! Loop headers are joins, so that what was read before a loop would be read again on every turn; address and length
//! of the memory are what nearly every loop reads. Keeping both in locals is worth a second pass over the operators.

use wasmparser::{MemArgTarget, Operator, OperatorsReader};

use super::memory::{load_of, store_of};
use crate::error::Error;

/// A function or one of its loops, with all that is nested in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Region {
    /// Whether it accesses the first memory.
    pub(super) uses_memory: bool,
    /// Whether the memory may grow meanwhile: whether it grows it or calls.
    pub(super) may_grow: bool,
}

/// The function, then its loops in the order in which they begin.
pub(super) fn survey(mut reader: OperatorsReader<'_>) -> Result<Vec<Region>, Error> {
    let mut regions = vec![Region::default()];
    // By control instruction that is open: the loop that it is, if it is one.
    let mut open: Vec<Option<usize>> = vec![Some(0)];
    let mut innermost = vec![0];
    while !reader.eof() {
        let operator = reader.read()?;
        match &operator {
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => open.push(None),
            Operator::Loop { .. } => {
                open.push(Some(regions.len()));
                innermost.push(regions.len());
                regions.push(Region::default());
            }
            Operator::End => {
                if let Some(Some(region)) = open.pop() {
                    innermost.pop();
                    if let Some(around) = innermost.last() {
                        let inner = regions[region];
                        regions[*around].uses_memory |= inner.uses_memory;
                        regions[*around].may_grow |= inner.may_grow;
                    }
                }
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::MemoryGrow { .. } => {
                regions[innermost[innermost.len() - 1]].may_grow = true;
            }
            _ => {
                if accesses_memory(&operator) {
                    regions[innermost[innermost.len() - 1]].uses_memory = true;
                }
            }
        }
    }
    Ok(regions)
}

/// Whether the operator accesses the first memory, one value at a time.
fn accesses_memory(operator: &Operator<'_>) -> bool {
    let load = load_of(operator).map(|(memarg, _)| memarg);
    let memarg = load.or_else(|| store_of(operator).map(|(memarg, _)| memarg));
    memarg.is_some_and(|memarg| memarg.target == MemArgTarget::Memory(0))
}
