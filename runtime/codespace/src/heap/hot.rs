//! Where in its first granule a function starts, so that its hot loops do not straddle cache lines.
//!
//! ```text
//!   line            line            line
//!   |....[function ......cmp,jcc|...            start + 0: the back edge straddles
//!   |........[function ......cmp|,jcc           start + 4: it does still
//!   |............[function .....|cmp,jcc        start + 8: it does not
//! ```
//!
//! The compare and the branch of a loop's back edge run as one operation. Where a cache line ends inside the pair, the same
//! loop was measured to take up to 1.6 times as long, and no other place was as bad. Code can start at any multiple of its
//! alignment, so a function is moved by up to 60 bytes instead of being compiled again or padded inside.
//!
//! *Choice.* Among the multiples of max(alignment, 4) below 64: the least sum of the frequencies of straddling back edges,
//! then the fewest granules, then the least offset. Without a back edge that is 0.
//!
//! *Cost.* The starts at which one edge straddles follow each other, modulo 64, so an edge is two additions to a table of
//! differences, and the sums over it are the costs: O(edges + 16), no allocation, and no edge need be left out.

use crate::GRANULE;

/// The least distance between two starts that are considered.
const STEP: usize = 4;
/// How many there are at most.
const STARTS: usize = GRANULE / STEP;

/// The compare and branch at the end of a loop, which the processor runs as one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HotEdge {
    /// The offset of the first byte of the compare, from the start of the function.
    pub start: u32,
    /// The offset behind the last byte of the branch. An edge that does not end behind its start does not count.
    pub end: u32,
    /// How often the branch runs each time the function is entered, times 1024.
    pub frequency: u32,
}

impl HotEdge {
    /// How often the branch of an edge runs that runs once for each time the function is entered.
    pub const ONCE: u32 = 1024;
}

/// The offset in its first granule at which a function starts that is aligned to `align`, a power of two, and takes `bytes`
/// with whatever follows its code.
pub(crate) fn start_offset(align: usize, bytes: usize, edges: &[HotEdge]) -> usize {
    if edges.is_empty() || align >= GRANULE {
        return 0;
    }
    let costs = straddled(edges);
    let step = align.max(STEP);
    (0..GRANULE)
        .step_by(step)
        .min_by_key(|&start| (costs[start / STEP], bytes.saturating_add(start).div_ceil(GRANULE)))
        .unwrap_or(0)
}

/// The sum of the frequencies of the edges that straddle, for each start.
fn straddled(edges: &[HotEdge]) -> [u64; STARTS] {
    // Starts from 16 on stand for themselves less 16, so that no edge's range has to be split; the last entry is behind all.
    let mut steps = [0u64; 2 * STARTS + 1];
    for edge in edges {
        let len = edge.end.saturating_sub(edge.start) as usize;
        // A single byte never straddles, and what is longer than a line always does.
        if !(2..=GRANULE).contains(&len) {
            continue;
        }
        // It straddles if its first byte is one of the last len − 1 of a line: at the starts first ..= first + len − 2.
        let first = (2 * GRANULE + 1 - len - edge.start as usize % GRANULE) % GRANULE;
        let from = first.div_ceil(STEP);
        let to = (first + len - 2) / STEP + 1;
        steps[from] = steps[from].wrapping_add(u64::from(edge.frequency));
        steps[to] = steps[to].wrapping_sub(u64::from(edge.frequency));
    }
    let mut costs = [0; STARTS];
    let mut cost = 0u64;
    for (at, step) in steps.into_iter().enumerate() {
        cost = cost.wrapping_add(step);
        costs[at % STARTS] += cost;
    }
    costs
}

#[cfg(test)]
mod tests;
