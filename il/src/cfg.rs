//! The control-flow graph of a method, exception edges included.
//!
//! ```text
//!   b1: ...                      b1 ──normal──► b3      ends with a jump to a head
//!       boundscheck   ─ ─ ─ ►    b1 ─extension► b2      ends with a jump to a block that continues it
//!       br %c, b2, b3            b1 ─exception► b4      a root in it may raise what b4 handles
//! ```
//!
//! An exception edge leaves from *each* root that may raise, not from the end of its block; [`Cfg::raise_points`]
//! says from where. Whoever carries facts along edges uses [`dataflow`](crate::dataflow), which cannot forget that.
//!
//! # Guarantees
//!
//! * One edge for each pair of blocks and kind, however often a switch names it.
//! * Nothing recurses. Answers do not depend on anything but the method and what its callees declare.
//! * Blocks that cannot be reached have edges, but no place in [`Cfg::order`].
//!
//! The method's blocks must end with a terminator and name blocks that exist, as the verifier's `structure` rules say.
//!
//! # Cost
//!
//! Time and memory are linear in blocks, roots and edges. A handler list counts once for each block that has it.

pub mod dominators;
pub mod loops;

use crate::effects::raises;
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Handler, Method};
use crate::module::Module;
use crate::opcode::Properties;
use crate::raise::KindSet;

pub use dominators::Dominators;
pub use loops::{Loop, LoopData, Loops};

/// How control gets from one block to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    /// From the end of a block to a head.
    Normal,
    /// From the end of a block to a block that continues its extended block.
    Extension,
    /// From raising roots to a handler that catches these of their kinds.
    Exception(KindSet),
}

/// One end of an edge: the block at the other one, and the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The successor, or the predecessor.
    pub block: Block,
    /// How control gets there.
    pub kind: EdgeKind,
}

impl Edge {
    /// Whether the edge leaves from raising roots.
    #[inline]
    pub fn is_exception(&self) -> bool {
        matches!(self.kind, EdgeKind::Exception(_))
    }
}

/// A root that may raise into a handler of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisePoint {
    /// Its place in the block's list. Roots before it have happened, it has not.
    pub position: u32,
    /// What it may raise, as far as it can be caught.
    pub kinds: KindSet,
}

/// Lists by block, in two arrays.
#[derive(Clone, Debug, Default)]
struct Lists<T> {
    starts: Vec<u32>,
    values: Vec<T>,
}

impl<T> Lists<T> {
    fn with_capacity(blocks: usize) -> Self {
        let mut starts = Vec::with_capacity(blocks + 1);
        starts.push(0);
        Lists { starts, values: Vec::new() }
    }

    /// Ends the list of the next block: what has been pushed since the last call.
    fn close(&mut self) {
        self.starts.push(u32::try_from(self.values.len()).expect("a method has fewer than 2^32 edges"));
    }

    fn get(&self, block: Block) -> &[T] {
        &self.values[self.starts[block.index()] as usize..self.starts[block.index() + 1] as usize]
    }
}

/// The control-flow graph of a method. It does not borrow the method; edges are those of when it was computed.
#[derive(Clone, Debug)]
pub struct Cfg {
    successors: Lists<Edge>,
    predecessors: Lists<Edge>,
    /// For each entry of `predecessors`, its place among the successors of the block it comes from.
    places: Vec<u32>,
    raise_points: Lists<RaisePoint>,
    first_leaves: EntityVec<Block, Option<u32>>,
    order: Vec<Block>,
    ranks: EntityVec<Block, Option<u32>>,
}

impl Cfg {
    /// The graph of `method`.
    pub fn compute(module: &Module, method: &Method<'_>) -> Cfg {
        let (successors, raise_points) = collect_edges(module, method);
        let first_leaves = first_leaves(module, method);
        let (predecessors, places) = reverse_edges(&successors, method.block_count());
        let order = reverse_post_order(&successors, method.block_count());
        let mut ranks = EntityVec::filled(None, method.block_count());
        for (rank, block) in (0..).zip(&order) {
            ranks[*block] = Some(rank);
        }
        Cfg { successors, predecessors, places, raise_points, first_leaves, order, ranks }
    }

    /// How many blocks the method has.
    pub fn block_count(&self) -> usize {
        self.ranks.len()
    }

    /// Where control may go from a block: its successors in order, then its handlers in order.
    #[inline]
    pub fn successors(&self, block: Block) -> &[Edge] {
        self.successors.get(block)
    }

    /// From where control may come to a block, by ascending block. Those that cannot be reached are among them.
    #[inline]
    pub fn predecessors(&self, block: Block) -> &[Edge] {
        self.predecessors.get(block)
    }

    /// The predecessors of a block, each with the edge's place among its successors.
    pub(crate) fn incoming(&self, block: Block) -> impl Iterator<Item = (Edge, usize)> {
        let start = self.predecessors.starts[block.index()] as usize;
        let edges = self.predecessors(block);
        edges.iter().zip(&self.places[start..]).map(|(edge, place)| (*edge, *place as usize))
    }

    /// The roots of a block that may raise into one of its handlers, in order. Those of a block without handlers
    /// leave the method and are not listed.
    pub fn raise_points(&self, block: Block) -> &[RaisePoint] {
        self.raise_points.get(block)
    }

    /// The position of the first root at which control may leave the method rather than reach the next one: by a raise that
    /// no handler of the block catches for sure, or to the interpreter. None if every path goes on to the block's end or
    /// to a handler.
    pub fn first_leave(&self, block: Block) -> Option<u32> {
        self.first_leaves[block]
    }

    /// The blocks that can be reached, in reverse post-order: but for loops, a block stands after its predecessors.
    /// Handlers stand late.
    #[inline]
    pub fn order(&self) -> &[Block] {
        &self.order
    }

    /// A block's place in [`Cfg::order`]; none if it cannot be reached.
    #[inline]
    pub fn rank(&self, block: Block) -> Option<u32> {
        self.ranks[block]
    }

    /// Whether control can get to a block.
    #[inline]
    pub fn is_reachable(&self, block: Block) -> bool {
        self.ranks[block].is_some()
    }
}

/// The handlers at which a raise of one of `kinds` may arrive, in the order in which they are tried, each with those
/// of the kinds that it may get.
pub fn reached_handlers(handlers: &[Handler], kinds: KindSet) -> impl Iterator<Item = (Handler, KindSet)> {
    let mut left = kinds.intersection(KindSet::CATCHABLE);
    handlers.iter().filter_map(move |handler| {
        let caught = handler.kinds.intersection(left);
        // A handler for one class leaves the guest's other exceptions to those after it.
        let taken = if handler.class.is_some() { caught.without(KindSet::GUEST) } else { caught };
        left = left.without(taken);
        (!caught.is_empty()).then_some((*handler, caught))
    })
}

fn collect_edges(module: &Module, method: &Method<'_>) -> (Lists<Edge>, Lists<RaisePoint>) {
    let mut edges: Lists<Edge> = Lists::with_capacity(method.block_count());
    let mut points = Lists::with_capacity(method.block_count());
    // For each block, where the current block's edge to it is, by the length of `edges` when the block began.
    let mut seen: EntityVec<Block, u32> = EntityVec::filled(u32::MAX, method.block_count());
    for block in method.blocks() {
        let start = edges.values.len();
        for to in method.successors(block) {
            if !is_listed(&edges.values[start..], seen[to], start, to) {
                seen[to] = index_of(edges.values.len());
                let extends = method.block(to).extends == Some(block);
                let kind = if extends { EdgeKind::Extension } else { EdgeKind::Normal };
                edges.values.push(Edge { block: to, kind });
            }
        }
        let handlers = method.handlers(block);
        if !handlers.is_empty() {
            let mut kinds = KindSet::NONE;
            for (position, root) in (0..).zip(method.roots(block)) {
                let raised = raises(module, method, root.node).intersection(KindSet::CATCHABLE);
                if !raised.is_empty() {
                    kinds = kinds.union(raised);
                    points.values.push(RaisePoint { position, kinds: raised });
                }
            }
            let start = edges.values.len();
            for (handler, caught) in reached_handlers(handlers, kinds) {
                let to = handler.block;
                if is_listed(&edges.values[start..], seen[to], start, to) {
                    let edge = &mut edges.values[seen[to] as usize];
                    if let EdgeKind::Exception(kinds) = &mut edge.kind {
                        *kinds = kinds.union(caught);
                    }
                } else {
                    seen[to] = index_of(edges.values.len());
                    edges.values.push(Edge { block: to, kind: EdgeKind::Exception(caught) });
                }
            }
        }
        edges.close();
        points.close();
    }
    (edges, points)
}

fn first_leaves(module: &Module, method: &Method<'_>) -> EntityVec<Block, Option<u32>> {
    let mut leaves = EntityVec::filled(None, method.block_count());
    for block in method.blocks() {
        let handlers = method.handlers(block);
        let found = method.roots(block).iter().position(|root| {
            let uncaught = handlers.iter().fold(raises(module, method, root.node), |left, handler| {
                let caught = handler.kinds;
                left.without(if handler.class.is_some() { caught.without(KindSet::GUEST) } else { caught })
            });
            !uncaught.is_empty() || method.opcode(root.node).has(Properties::LEAVES)
        });
        leaves[block] = found.map(index_of);
    }
    leaves
}

/// Whether `edges`, which begin at index `start` of all edges, hold one to `to` where `seen` says it may be.
fn is_listed(edges: &[Edge], seen: u32, start: usize, to: Block) -> bool {
    (seen as usize).checked_sub(start).and_then(|index| edges.get(index)).is_some_and(|edge| edge.block == to)
}

fn index_of(len: usize) -> u32 {
    u32::try_from(len).expect("a method has fewer than 2^32 edges")
}

fn reverse_edges(successors: &Lists<Edge>, blocks: usize) -> (Lists<Edge>, Vec<u32>) {
    let mut starts = vec![0; blocks + 1];
    for edge in &successors.values {
        starts[edge.block.index() + 1] += 1;
    }
    for block in 0..blocks {
        starts[block + 1] += starts[block];
    }
    // Every slot is overwritten: there are as many as edges.
    let mut values = successors.values.clone();
    let mut places = vec![0; values.len()];
    let mut next = starts.clone();
    for from in (0..blocks).map(Block::new) {
        for (place, edge) in (0..).zip(successors.get(from)) {
            let slot = &mut next[edge.block.index()];
            values[*slot as usize] = Edge { block: from, kind: edge.kind };
            places[*slot as usize] = place;
            *slot += 1;
        }
    }
    (Lists { starts, values }, places)
}

/// Depth first from the entry, last successor first: so the first one follows its block, and handlers come last.
fn reverse_post_order(successors: &Lists<Edge>, blocks: usize) -> Vec<Block> {
    let mut order = Vec::new();
    if blocks == 0 {
        return order;
    }
    let entry = Block::new(0);
    let mut seen = EntityVec::filled(false, blocks);
    seen[entry] = true;
    // A block with how many of its successors are still to be visited.
    let mut stack = vec![(entry, successors.get(entry).len())];
    while let Some((block, left)) = stack.last_mut() {
        if *left == 0 {
            order.push(*block);
            stack.pop();
            continue;
        }
        *left -= 1;
        let next = successors.get(*block)[*left].block;
        if !std::mem::replace(&mut seen[next], true) {
            stack.push((next, successors.get(next).len()));
        }
    }
    order.reverse();
    order
}

#[cfg(test)]
pub(crate) mod tests;
