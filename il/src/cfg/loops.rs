//! The loops of a method and how they nest.
//!
//! A loop is natural: a header that dominates the sources of its back edges, with all blocks that reach one of these
//! without passing the header. Two back edges to one header make one loop. A cycle that can be entered at several
//! places has no header and is no loop here: the edges that close it are listed as irreducible.
//!
//! Inner loops are found first and then stand for their blocks (a union-find forest), so no block is walked once for
//! each loop around it: R. E. Tarjan, "Testing flow graph reducibility" (1974).
//!
//! # Guarantees
//!
//! A loop's number is greater than that of each loop around it. Nothing recurses.
//!
//! # Cost
//!
//! Nearly linear in edges; every question is answered in constant time.

use std::ops::RangeInclusive;

use super::{Cfg, Dominators};
use crate::entity::{Entity, EntityVec, entity};
use crate::method::Block;

entity! {
    /// A natural loop.
    Loop, "loop";
}

/// A loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopData {
    /// The block through which it is entered.
    pub header: Block,
    /// The innermost loop around it.
    pub parent: Option<Loop>,
    /// How many loops are around it.
    pub depth: u32,
    /// Numbers in an order of the forest in which the loops inside follow without gaps.
    first: u32,
    last: u32,
}

impl LoopData {
    /// Numbers of which the first is the loop's own, and the others those of the loops inside it.
    pub fn span(&self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

/// The loops of a method.
#[derive(Clone, Debug)]
pub struct Loops {
    loops: EntityVec<Loop, LoopData>,
    innermost: EntityVec<Block, Option<Loop>>,
    irreducible: Vec<(Block, Block)>,
}

impl Loops {
    /// The loops of a graph.
    pub fn compute(cfg: &Cfg, dominators: &Dominators) -> Loops {
        let mut irreducible = Vec::new();
        let mut headers = Vec::new();
        for block in cfg.order() {
            let mut is_header = false;
            for edge in cfg.predecessors(*block) {
                let Some(from) = cfg.rank(edge.block) else { continue };
                if dominators.dominates(*block, edge.block) {
                    is_header = true;
                } else if Some(from) >= cfg.rank(*block) {
                    irreducible.push((edge.block, *block));
                }
            }
            if is_header {
                headers.push(*block);
            }
        }
        let mut forest = Forest {
            innermost: EntityVec::filled(None, cfg.block_count()),
            parents: EntityVec::filled(None, headers.len()),
            representatives: EntityVec::filled(None, cfg.block_count()),
        };
        for (index, header) in headers.iter().enumerate().rev() {
            forest.collect(Loop::new(index), *header, cfg, dominators);
        }
        Loops { loops: number_loops(&headers, &forest.parents), innermost: forest.innermost, irreducible }
    }

    /// All loops; those inside stand after those around them.
    pub fn loops(&self) -> impl DoubleEndedIterator<Item = (Loop, &LoopData)> {
        self.loops.iter()
    }

    /// A loop.
    #[inline]
    pub fn data(&self, which: Loop) -> &LoopData {
        &self.loops[which]
    }

    /// The innermost loop that holds a block.
    #[inline]
    pub fn innermost(&self, block: Block) -> Option<Loop> {
        self.innermost[block]
    }

    /// How many loops hold a block.
    pub fn depth(&self, block: Block) -> u32 {
        self.innermost[block].map_or(0, |which| self.loops[which].depth + 1)
    }

    /// Whether a loop holds a block.
    #[inline]
    pub fn contains(&self, which: Loop, block: Block) -> bool {
        self.innermost[block].is_some_and(|inner| {
            let (outer, inner) = (&self.loops[which], &self.loops[inner]);
            outer.first <= inner.first && inner.first <= outer.last
        })
    }

    /// Whether the block is the header of a loop.
    #[inline]
    pub fn is_header(&self, block: Block) -> bool {
        self.innermost[block].is_some_and(|which| self.loops[which].header == block)
    }

    /// The edges that close a cycle whose target does not dominate its source, by target in reverse post-order.
    pub fn irreducible_edges(&self) -> &[(Block, Block)] {
        &self.irreducible
    }
}

/// What is known while loops are found, innermost first.
struct Forest {
    innermost: EntityVec<Block, Option<Loop>>,
    parents: EntityVec<Loop, Option<Loop>>,
    /// The header of a loop that holds the block, one step up; none where no loop found so far holds it.
    representatives: EntityVec<Block, Option<Block>>,
}

impl Forest {
    /// The header of the outermost loop found so far that holds `block`, or itself.
    fn find(&mut self, block: Block) -> Block {
        let mut top = block;
        while let Some(above) = self.representatives[top] {
            top = above;
        }
        let mut at = block;
        while let Some(above) = self.representatives[at] {
            self.representatives[at] = Some(top);
            at = above;
        }
        top
    }

    /// Walks back from the sources of the back edges to `header`.
    fn collect(&mut self, which: Loop, header: Block, cfg: &Cfg, dominators: &Dominators) {
        self.innermost[header] = Some(which);
        let latches = cfg.predecessors(header).iter().map(|edge| edge.block);
        let mut pending: Vec<Block> = latches.filter(|latch| dominators.dominates(header, *latch)).collect();
        while let Some(block) = pending.pop() {
            let top = self.find(block);
            if top == header {
                continue;
            }
            match self.innermost[top] {
                Some(inner) => self.parents[inner] = Some(which),
                None => self.innermost[top] = Some(which),
            }
            self.representatives[top] = Some(header);
            let before = cfg.predecessors(top).iter().map(|edge| edge.block);
            pending.extend(before.filter(|block| cfg.is_reachable(*block)));
        }
    }
}

fn number_loops(headers: &[Block], parents: &EntityVec<Loop, Option<Loop>>) -> EntityVec<Loop, LoopData> {
    let mut sizes: EntityVec<Loop, u32> = EntityVec::filled(1, headers.len());
    for which in parents.keys().rev() {
        if let Some(parent) = parents[which] {
            sizes[parent] += sizes[which];
        }
    }
    let mut next: EntityVec<Loop, u32> = EntityVec::filled(0, headers.len());
    let mut next_top = 0;
    let mut loops: EntityVec<Loop, LoopData> = EntityVec::new();
    for (which, header) in parents.keys().zip(headers) {
        let parent = parents[which];
        let (depth, counter) = match parent {
            Some(parent) => (loops[parent].depth + 1, &mut next[parent]),
            None => (0, &mut next_top),
        };
        let first = *counter;
        *counter += sizes[which];
        next[which] = first + 1;
        loops.push(LoopData { header: *header, parent, depth, first, last: first + sizes[which] - 1 });
    }
    loops
}
