//! What the interpreter must know of a method before it runs it: that it can be run, and where values are kept.
//!
//! Each extended block numbers the values that its roots reach, from zero; a frame has as many *cells* as the
//! extended block with most of them. So a frame of a large method is as small as its largest extended block, and
//! the interpreter looks values up by index, without hashing.
//!
//! *Guarantees.* A plan exists only for a method whose every reached node has the operands, the types and the payload
//! that its row asks for. What depends on the order of execution (values used too early, locals never assigned) is
//! found when it happens. This is not the verifier: it accepts much that the verifier does not.
//!
//! *Cost.* Linear in the method's size, once for each method that is called.

use crate::entity::Entity;
use crate::method::{Block, Method, Node};
use crate::module::Module;
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

use super::shape;
use super::stop::Invalid;

/// The number of a node without a cell: it has no value, or no root reaches it.
const NO_CELL: u32 = u32::MAX;

/// Where a method keeps its values.
pub(super) struct Plan<'p, 'a> {
    /// The method.
    pub(super) method: &'p Method<'a>,
    /// By node: its cell.
    cells: Vec<u32>,
    /// How many cells a frame has.
    pub(super) width: usize,
    /// By slot: its offset from the start of the frame's memory.
    slots: Vec<u64>,
    /// The bytes of the frame's memory.
    pub(super) slot_bytes: u64,
}

impl<'p, 'a> Plan<'p, 'a> {
    /// The plan of a method, or what is wrong with it.
    pub(super) fn compute(module: &Module, method: &'p Method<'a>) -> Result<Plan<'p, 'a>, Invalid> {
        let fails = |block, node, what: String| Invalid { method: method.id(), block, node, what };
        shape::check_parameters(module, method).map_err(|what| fails(None, None, what))?;
        let heads = heads(method).map_err(|block| {
            fails(Some(block), None, "extends a block that does not exist, or itself".into())
        })?;
        let mut blocks: Vec<Block> = method.blocks().collect();
        blocks.sort_by_key(|block| heads[block.index()]);

        let mut numbering = Numbering {
            module,
            method,
            cells: vec![NO_CELL; method.node_count()],
            owners: vec![None; method.node_count()],
            pending: Vec::new(),
            next: 0,
        };
        let (mut width, mut head) = (0, None);
        for block in blocks {
            if head.replace(heads[block.index()]) != Some(heads[block.index()]) {
                numbering.next = 0;
            }
            for root in method.roots(block) {
                let numbered = numbering.number(root.node, heads[block.index()]);
                numbered.map_err(|(node, what)| fails(Some(block), Some(node), what))?;
            }
            width = width.max(numbering.next as usize);
        }
        let cells = numbering.cells;
        let (slots, slot_bytes) = slot_offsets(method);
        Ok(Plan { method, cells, width, slots, slot_bytes })
    }

    /// The cell of a node's value.
    pub(super) fn cell(&self, node: Node) -> Option<usize> {
        self.cells.get(node.index()).filter(|cell| **cell != NO_CELL).map(|cell| *cell as usize)
    }

    /// Where a slot is in the frame's memory.
    pub(super) fn slot_offset(&self, index: usize) -> u64 {
        self.slots.get(index).copied().unwrap_or_default()
    }
}

/// By block: the head of its extended block. The error is a block that has none.
fn heads(method: &Method<'_>) -> Result<Vec<Block>, Block> {
    let mut heads: Vec<Option<Block>> = vec![None; method.block_count()];
    let mut path = Vec::new();
    for start in method.blocks() {
        let mut block = start;
        let head = loop {
            match heads.get(block.index()) {
                Some(Some(head)) => break *head,
                // Longer than there are blocks: a circle.
                Some(None) if path.len() < heads.len() => path.push(block),
                _ => return Err(start),
            }
            match method.block(block).extends {
                Some(parent) => block = parent,
                None => break block,
            }
        };
        path.drain(..).for_each(|block| heads[block.index()] = Some(head));
    }
    Ok(heads.into_iter().zip(method.blocks()).map(|(head, block)| head.unwrap_or(block)).collect())
}

/// The numbering of one extended block after the other.
struct Numbering<'n, 'a> {
    module: &'n Module,
    method: &'n Method<'a>,
    cells: Vec<u32>,
    owners: Vec<Option<Block>>,
    pending: Vec<Node>,
    next: u32,
}

impl Numbering<'_, '_> {
    /// Gives cells to what a root of the extended block of `head` reaches.
    fn number(&mut self, root: Node, head: Block) -> Result<(), (Node, String)> {
        self.pending.push(root);
        while let Some(node) = self.pending.pop() {
            let Some(owner) = self.owners.get_mut(node.index()) else {
                return Err((node, "is not of this method".into()));
            };
            match owner.replace(head) {
                None => {}
                Some(owner) if owner == head => continue,
                Some(_) => return Err((node, "is used outside its extended block".into())),
            }
            shape::check_node(self.module, self.method, node).map_err(|what| (node, what))?;
            let count = self.values_of(node);
            if count > 0 {
                self.cells[node.index()] = self.next;
                self.next = match self.next.checked_add(count) {
                    Some(next) if next < NO_CELL => next,
                    _ => return Err((node, "is one value too many for its extended block".into())),
                };
            }
            self.pending.extend_from_slice(self.method.operands(node));
        }
        Ok(())
    }

    /// How many values a node has: a call may have several, and many a root has none.
    fn values_of(&self, node: Node) -> u32 {
        let opcode = self.method.opcode(node);
        let is_call = opcode.has(Properties::CALLS) && !opcode.has(Properties::TERMINATES);
        match shape::signature_of(self.module, self.method.payload(node)) {
            Some(signature) if is_call => signature.results.len() as u32,
            _ => (self.method.ty(node) != Type::Void).into(),
        }
    }
}

/// By slot: its offset; and the bytes of all of them, a multiple of 16.
fn slot_offsets(method: &Method<'_>) -> (Vec<u64>, u64) {
    let mut end = 0_u64;
    let mut offsets = Vec::with_capacity(method.slots().len());
    for slot in method.slots() {
        let data = method.slot(slot);
        end = end.next_multiple_of(data.align.max(1).into());
        offsets.push(end);
        end += u64::from(data.size_bytes);
    }
    (offsets, end.next_multiple_of(16))
}

/// Whether a node can only be had by executing it where it stands.
pub(super) fn is_root(method: &Method<'_>, node: Node) -> bool {
    method.is_root(node) || matches!(method.opcode(node), Opcode::Frame | Opcode::Dead | Opcode::Virtual)
}
