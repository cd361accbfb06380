//! What a space says about itself.

use std::ops::Range;

use crate::{Barrier, CodeSpace, Protection, Rung, space};

/// How much a space holds. Exact while nobody writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Functions that lookups find.
    pub live: usize,
    /// Their bytes.
    pub live_bytes: usize,
    /// Functions that are retired and were not reclaimed yet, but for those that a writer still keeps to itself.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Functions that an allocation freed and that are to be told at the next reclaim.
    pub untold: usize,
    /// The bytes of spans and of the pages of large functions that are in use: what [`crate::Options::max_bytes`] limits.
    pub used_bytes: usize,
    /// The bytes of pages that have memory. What a writer's spans got since it has them is not counted yet.
    pub resident_bytes: usize,
    /// The bytes of what is known about chunks and spans: indexes, maps of free pages and granules.
    pub metadata_bytes: usize,
    /// Chunks that have memory. The addresses of others are kept for later ones.
    pub chunks: usize,
    /// Slots in use.
    pub slots: usize,
}

/// How a space was made, after everything that the system refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The addresses that were reserved at the start and how they were found, if any were.
    pub reserved: Option<(Range<usize>, Rung)>,
    /// The last rung of the ladder that a chunk had to climb to.
    pub rung: Rung,
    /// How many places were tried in all.
    pub tries: u32,
    /// How code is written.
    pub protection: Protection,
    /// Whether all executable mappings are sealed.
    pub is_sealed: bool,
    /// How reclaiming orders itself before threads that enter code.
    pub barrier: Barrier,
}

impl CodeSpace {
    /// How much the space holds. Looks at each function, so it takes a while: 5 ns for each.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let mut stats = Stats {
            waiting: shared.quarantine.len(),
            waiting_bytes: shared.quarantine.bytes(),
            untold: space::lock(&shared.untold).len(),
            used_bytes: shared.used(),
            slots: shared.slots.count().1,
            metadata_bytes: shared.directory.metadata_bytes(),
            ..Stats::default()
        };
        for chunk in shared.directory.chunks() {
            for found in chunk.functions() {
                stats.live += 1;
                stats.live_bytes += found.len;
            }
        }
        for lane in &shared.lanes {
            let bytes = space::lock(&lane.state).bytes();
            stats.metadata_bytes += bytes.metadata;
            stats.resident_bytes += bytes.touched;
            stats.chunks += bytes.chunks;
        }
        stats
    }

    /// How the space was made, and where its chunks came to stand.
    pub fn report(&self) -> Report {
        let shared = self.shared();
        let memories = || shared.directory.chunks().map(|chunk| chunk.memory());
        Report {
            reserved: shared.region.reserved(),
            rung: memories().filter_map(|memory| memory.rung()).max().unwrap_or(Rung::Reserved),
            tries: shared.region.tries(),
            protection: shared.protection,
            is_sealed: memories().all(|memory| memory.is_sealed()),
            barrier: shared.domain.barrier(),
        }
    }
}
