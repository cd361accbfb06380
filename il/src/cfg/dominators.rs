//! Which blocks every path to a block goes through.
//!
//! Lengauer and Tarjan, "A fast algorithm for finding dominators in a flowgraph" (1979), in the version with path
//! compression only. Iterating to a fixed point (Cooper, Harvey and Kennedy) is shorter and as fast on common methods,
//! but quadratic on ladders and long irreducible regions, which input may contain on purpose.
//!
//! # Guarantees
//!
//! Exception edges count. Blocks that cannot be reached dominate nothing and have no dominators.
//!
//! # Cost
//!
//! O(edges × log blocks) to compute; [`Dominators::dominates`] is constant, [`Dominators::common`] linear in the
//! difference of depths. Nothing recurses.

use super::Cfg;
use crate::entity::EntityVec;
use crate::method::Block;

/// The dominator tree of a method.
#[derive(Clone, Debug)]
pub struct Dominators {
    nodes: EntityVec<Block, Option<TreeNode>>,
}

#[derive(Clone, Copy, Debug)]
struct TreeNode {
    parent: Option<Block>,
    depth: u32,
    /// Numbers in an order of the tree in which what a block dominates follows it without gaps.
    first: u32,
    last: u32,
}

impl Dominators {
    /// The dominator tree of a graph.
    pub fn compute(cfg: &Cfg) -> Dominators {
        let parents = immediate_dominators(cfg);
        let mut nodes: EntityVec<Block, Option<TreeNode>> = EntityVec::filled(None, cfg.block_count());
        for block in cfg.order() {
            nodes[*block] = Some(TreeNode { parent: parents[*block], depth: 0, first: 0, last: 0 });
        }
        // A dominator precedes what it dominates in reverse post-order: sizes upward, then numbers downward.
        let mut sizes: EntityVec<Block, u32> = EntityVec::filled(1, cfg.block_count());
        for block in cfg.order().iter().rev() {
            if let Some(parent) = parents[*block] {
                sizes[parent] += sizes[*block];
            }
        }
        let mut next: EntityVec<Block, u32> = EntityVec::filled(0, cfg.block_count());
        for block in cfg.order() {
            let (depth, first) = match parents[*block] {
                Some(parent) => {
                    let first = next[parent];
                    next[parent] += sizes[*block];
                    (nodes[parent].map_or(0, |node| node.depth + 1), first)
                }
                None => (0, 0),
            };
            next[*block] = first + 1;
            let last = first + sizes[*block] - 1;
            nodes[*block] = Some(TreeNode { parent: parents[*block], depth, first, last });
        }
        Dominators { nodes }
    }

    /// The last block before `block` that every path to it goes through; none for the entry and what cannot be reached.
    pub fn immediate(&self, block: Block) -> Option<Block> {
        self.nodes[block]?.parent
    }

    /// How many blocks dominate `block`, itself not counted.
    pub fn depth(&self, block: Block) -> Option<u32> {
        self.nodes[block].map(|node| node.depth)
    }

    /// Whether every path to `block` goes through `dominator`. Every block that can be reached dominates itself.
    pub fn dominates(&self, dominator: Block, block: Block) -> bool {
        match (self.nodes[dominator], self.nodes[block]) {
            (Some(above), Some(below)) => above.first <= below.first && below.first <= above.last,
            _ => false,
        }
    }

    /// The nearest block that dominates both; none if one of them cannot be reached.
    pub fn common(&self, left: Block, right: Block) -> Option<Block> {
        self.nodes[right]?;
        let mut above = left;
        while !self.dominates(above, right) {
            above = self.nodes[above]?.parent?;
        }
        self.nodes[above].map(|_| above)
    }
}

/// The forest of Lengauer and Tarjan. Everything is by number in a depth-first preorder.
struct Forest {
    ancestor: Vec<u32>,
    label: Vec<u32>,
    semi: Vec<u32>,
    path: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Forest {
    /// The number with the least semidominator on the path from `vertex` to the root of its tree, that root excluded.
    fn evaluate(&mut self, vertex: u32) -> u32 {
        if self.ancestor[vertex as usize] == NONE {
            return vertex;
        }
        let mut at = vertex;
        while self.ancestor[self.ancestor[at as usize] as usize] != NONE {
            self.path.push(at);
            at = self.ancestor[at as usize];
        }
        // From the top down, so that each one sees its ancestor already compressed.
        while let Some(at) = self.path.pop() {
            let above = self.ancestor[at as usize];
            let (own, inherited) = (self.label[at as usize], self.label[above as usize]);
            if self.semi[inherited as usize] < self.semi[own as usize] {
                self.label[at as usize] = inherited;
            }
            self.ancestor[at as usize] = self.ancestor[above as usize];
        }
        self.label[vertex as usize]
    }
}

fn immediate_dominators(cfg: &Cfg) -> EntityVec<Block, Option<Block>> {
    let mut idoms = EntityVec::filled(None, cfg.block_count());
    let Some(entry) = cfg.order().first() else { return idoms };
    let (preorder, numbers, parents) = depth_first(cfg, *entry);
    let count = preorder.len();
    let identity: Vec<u32> = (0..).take(count).collect();
    let mut forest = Forest {
        ancestor: vec![NONE; count],
        label: identity.clone(),
        semi: identity.clone(),
        path: Vec::new(),
    };
    let mut dominator = identity;
    // The vertices with each semidominator, as lists through `next_in_bucket`.
    let mut bucket = vec![NONE; count];
    let mut next_in_bucket = vec![NONE; count];
    for vertex in (1..count).rev() {
        let number = u32::try_from(vertex).expect("blocks are numbered by 32 bits");
        for edge in cfg.predecessors(preorder[vertex]) {
            let Some(from) = numbers[edge.block] else { continue };
            let best = forest.evaluate(from);
            forest.semi[vertex] = forest.semi[vertex].min(forest.semi[best as usize]);
        }
        let semi = forest.semi[vertex] as usize;
        next_in_bucket[vertex] = std::mem::replace(&mut bucket[semi], number);
        let parent = parents[vertex];
        forest.ancestor[vertex] = parent;
        let mut member = std::mem::replace(&mut bucket[parent as usize], NONE);
        while member != NONE {
            let best = forest.evaluate(member);
            let is_earlier = forest.semi[best as usize] < forest.semi[member as usize];
            dominator[member as usize] = if is_earlier { best } else { parent };
            member = next_in_bucket[member as usize];
        }
    }
    for vertex in 1..count {
        if dominator[vertex] != forest.semi[vertex] {
            dominator[vertex] = dominator[dominator[vertex] as usize];
        }
        idoms[preorder[vertex]] = Some(preorder[dominator[vertex] as usize]);
    }
    idoms
}

/// A depth-first spanning tree: blocks in preorder, each block's number, and each number's parent.
fn depth_first(cfg: &Cfg, entry: Block) -> (Vec<Block>, EntityVec<Block, Option<u32>>, Vec<u32>) {
    let mut preorder: Vec<Block> = Vec::with_capacity(cfg.order().len());
    let mut numbers = EntityVec::filled(None, cfg.block_count());
    let mut parents = Vec::with_capacity(cfg.order().len());
    let mut stack = vec![(entry, 0)];
    while let Some((block, parent)) = stack.pop() {
        if numbers[block].is_some() {
            continue;
        }
        let number = u32::try_from(preorder.len()).expect("blocks are numbered by 32 bits");
        numbers[block] = Some(number);
        preorder.push(block);
        parents.push(parent);
        let successors = cfg.successors(block).iter().rev();
        stack.extend(successors.map(|edge| (edge.block, number)));
    }
    (preorder, numbers, parents)
}
