//! What a copy keeps: blocks that are reached, roots that are needed, locals that are read, heads that can be joined.
//!
//! ```text
//!   entry ──edges──► blocks in order ──roots with effects──► needed nodes ◄── a `set` whose local is read
//!                    └ the one predecessor of a head, if there is one
//! ```
//!
//! *Guarantees.* Conservative: edges are those of the old terminators, but for conditions that are constants already, and a
//! local counts as read even if its reader is going to be joined. The next rebuild sees what this one left.
//! Nothing recurses.
//!
//! *Cost.* Linear in blocks, edges, roots, and operands of needed nodes.

use super::lists::Source;
use crate::cfg::reached_handlers;
use crate::effects::{effects, raises};
use crate::entity::EntityVec;
use crate::method::{Block, Local, Method, Node, Payload};
use crate::module::Module;
use crate::opcode::{Opcode, Properties};
use crate::raise::KindSet;

/// What a copy keeps.
pub(super) struct Plan {
    /// By block: its place in reverse post-order; none if it is not reached.
    pub(super) ranks: EntityVec<Block, Option<u32>>,
    /// By head that only one block continues at: that block.
    pub(super) sole: EntityVec<Block, Option<Block>>,
    /// By block: how many blocks its extended block goes on below it.
    pub(super) heights: EntityVec<Block, u16>,
    /// Whether a root happens.
    pub(super) needed: EntityVec<Node, bool>,
    /// Whether an `entry` reads the local.
    pub(super) read: EntityVec<Local, bool>,
}

impl Plan {
    pub(super) fn compute(module: &Module, method: &Method<'_>, source: &Source) -> Plan {
        let graph = Graph::walk(module, method, source);
        let mut ranks = EntityVec::filled(None, method.block_count());
        for (rank, block) in (0..).zip(&graph.order) {
            ranks[*block] = Some(rank);
        }
        let heights = heights(method, &graph.order);
        let (needed, read) = Marker::run(module, method, source, &graph.order);
        Plan { ranks, sole: graph.sole(method), heights, needed, read }
    }
}

/// Where the end of a block leads if that is known: the value that it depends on is a constant, or does not matter.
pub(super) fn known_target(method: &Method<'_>, end: Node, bits: Option<u64>) -> Option<Block> {
    match method.payload(end) {
        Payload::Goto(to) => Some(to),
        Payload::Branch(then, otherwise) if then == otherwise => Some(then),
        Payload::Branch(then, otherwise) => bits.map(|bits| if bits == 0 { otherwise } else { then }),
        Payload::Switch(table) => {
            let data = method.switch(table);
            if data.cases.iter().all(|(_, to)| *to == data.default) {
                return Some(data.default);
            }
            let bits = bits?;
            let case = data.cases.iter().find(|(value, _)| *value == bits);
            Some(case.map_or(data.default, |(_, to)| *to))
        }
        _ => None,
    }
}

/// The constant on which the end of a block depends, if it is one already.
pub(super) fn constant(method: &Method<'_>, source: &Source, end: Node) -> Option<u64> {
    let value = method.operands(end).first()?;
    method.const_bits(source.resolve(*value))
}

/// The blocks that are reached, and their edges.
struct Graph {
    /// In reverse post-order.
    order: Vec<Block>,
    /// Targets of all edges, those to handlers with `true`.
    edges: Vec<(Block, bool)>,
    /// By block that was reached: its edges.
    ranges: EntityVec<Block, (u32, u32)>,
}

impl Graph {
    /// Depth first from the entry, last successor first, as [`Cfg::order`](crate::Cfg::order).
    fn walk(module: &Module, method: &Method<'_>, source: &Source) -> Graph {
        let blocks = method.block_count();
        let mut graph = Graph {
            order: Vec::with_capacity(blocks),
            edges: Vec::new(),
            ranges: EntityVec::filled((0, 0), blocks),
        };
        let Some(entry) = method.blocks().next() else { return graph };
        let mut seen = EntityVec::filled(false, blocks);
        seen[entry] = true;
        graph.add_edges(module, method, source, entry);
        // A block with how many of its edges are still to be followed.
        let mut stack = vec![(entry, graph.count(entry))];
        while let Some((block, left)) = stack.last_mut() {
            if *left == 0 {
                graph.order.push(*block);
                stack.pop();
                continue;
            }
            *left -= 1;
            let (next, _) = graph.edges[(graph.ranges[*block].0 + *left) as usize];
            if !std::mem::replace(&mut seen[next], true) {
                graph.add_edges(module, method, source, next);
                stack.push((next, graph.count(next)));
            }
        }
        graph.order.reverse();
        graph
    }

    fn count(&self, block: Block) -> u32 {
        let (start, end) = self.ranges[block];
        end - start
    }

    fn add_edges(&mut self, module: &Module, method: &Method<'_>, source: &Source, block: Block) {
        let index = |len: usize| u32::try_from(len).expect("a method has fewer than 2^32 edges");
        let start = self.edges.len();
        if let Some(end) = method.terminator(block) {
            match known_target(method, end, constant(method, source, end)) {
                Some(to) => self.edges.push((to, false)),
                None => self.edges.extend(method.successors_of(end).into_iter().map(|to| (to, false))),
            }
        }
        let handlers = method.handlers(block);
        if !handlers.is_empty() {
            let kinds = raised_in(module, method, block);
            self.edges.extend(reached_handlers(handlers, kinds).map(|(handler, _)| (handler.block, true)));
        }
        self.ranges[block] = (index(start), index(self.edges.len()));
    }

    /// By head that one block continues at, and nothing else leads to: that block.
    fn sole(&self, method: &Method<'_>) -> EntityVec<Block, Option<Block>> {
        let mut sole: EntityVec<Block, Option<Block>> = EntityVec::filled(None, method.block_count());
        let mut several = EntityVec::filled(false, method.block_count());
        if let Some(entry) = self.order.first() {
            several[*entry] = true;
        }
        for block in &self.order {
            let (start, end) = self.ranges[*block];
            for (to, is_exception) in &self.edges[start as usize..end as usize] {
                several[*to] |= *is_exception || sole[*to].is_some_and(|other| other != *block);
                sole[*to] = Some(*block);
            }
        }
        for block in &self.order {
            if several[*block] || method.block(*block).extends.is_some() {
                sole[*block] = None;
            }
        }
        sole
    }
}

/// What the roots of a block may raise.
pub(super) fn raised_in(module: &Module, method: &Method<'_>, block: Block) -> KindSet {
    let roots = method.roots(block).iter();
    roots.fold(KindSet::NONE, |kinds, root| kinds.union(raises(module, method, root.node)))
}

/// How many blocks each extended block goes on below each of its blocks. `order` has blocks after those above them.
fn heights(method: &Method<'_>, order: &[Block]) -> EntityVec<Block, u16> {
    let mut heights = EntityVec::filled(0, method.block_count());
    for block in order.iter().rev() {
        if let Some(parent) = method.block(*block).extends {
            heights[parent] = heights[parent].max(heights[*block] + 1);
        }
    }
    heights
}

/// Finds what is needed.
struct Marker<'c, 'a> {
    method: &'c Method<'a>,
    source: &'c Source,
    needed: EntityVec<Node, bool>,
    read: EntityVec<Local, bool>,
    /// By local: the last of its `set` roots, as an index of `sets`.
    last_set: EntityVec<Local, Option<u32>>,
    /// `set` roots, each with the one of the same local before it.
    sets: Vec<(Node, Option<u32>)>,
    pending: Vec<Node>,
}

impl Marker<'_, '_> {
    fn run(
        module: &Module,
        method: &Method<'_>,
        source: &Source,
        order: &[Block],
    ) -> (EntityVec<Node, bool>, EntityVec<Local, bool>) {
        let locals = method.locals().len();
        let mut marker = Marker {
            method,
            source,
            needed: EntityVec::filled(false, method.node_count()),
            read: EntityVec::filled(false, locals),
            last_set: EntityVec::filled(None, locals),
            sets: Vec::new(),
            pending: Vec::new(),
        };
        for block in order {
            for (_, entry) in source.given(*block) {
                marker.need(*entry);
            }
            for root in method.roots(*block) {
                match method.payload(root.node) {
                    Payload::Local(local) => marker.add_set(local, root.node),
                    // What happens again behind a cut is needed by those who name what happened before it.
                    _ if source.stands_for(root.node).is_some() => marker.need(root.node),
                    _ if has_effect(module, method, root.node) => marker.need(root.node),
                    _ => {}
                }
            }
        }
        marker.close();
        (marker.needed, marker.read)
    }

    fn need(&mut self, node: Node) {
        if !std::mem::replace(&mut self.needed[node], true) {
            self.pending.push(node);
        }
    }

    fn add_set(&mut self, local: Local, set: Node) {
        let index = u32::try_from(self.sets.len()).expect("a method has fewer than 2^32 roots");
        let before = self.last_set[local].replace(index);
        self.sets.push((set, before));
    }

    /// Whatever is needed needs its operands, and what is read needs its sets.
    fn close(&mut self) {
        let method = self.method;
        while let Some(node) = self.pending.pop() {
            for operand in method.operands(node) {
                self.need(self.source.resolve(*operand));
            }
            if method.opcode(node) == Opcode::Entry
                && let Payload::Local(local) = method.payload(node)
                && !std::mem::replace(&mut self.read[local], true)
            {
                let mut next = self.last_set[local];
                while let Some(index) = next {
                    let (set, before) = self.sets[index as usize];
                    self.need(set);
                    next = before;
                }
            }
        }
    }
}

/// Whether somebody could tell that a root did not happen, besides those who use its value.
fn has_effect(module: &Module, method: &Method<'_>, node: Node) -> bool {
    let row = method.opcode(node).row();
    let plain = [Properties::TERMINATES, Properties::WRITES, Properties::YIELDS, Properties::LEAVES];
    if !row.has(Properties::CALLS) && plain.iter().any(|property| row.has(*property)) {
        return true;
    }
    let effects = effects(module, method, node);
    row.has(Properties::TERMINATES)
        || effects.is_observable()
        || effects.yields
        || effects.leaves
        || !effects.raises.is_empty()
}

/// Whether equal lists of handlers are in force in two blocks.
pub(super) fn same_handlers(method: &Method<'_>, left: Block, right: Block) -> bool {
    method.block(left).handlers == method.block(right).handlers
        || method.handlers(left) == method.handlers(right)
}
