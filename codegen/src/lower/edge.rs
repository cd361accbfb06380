//! Edges: what a block brings to the head it goes on in, as arguments of Cranelift's blocks.
//!
//! A block that continues another needs nothing brought: what was computed before holds there too.

use cranelift_codegen::ir::{self, InstBuilder};
use dagwood_il::Block;

use super::{Binding, Lower, Result, no_value};
use crate::ssa::MAX_EDGE_VALUES;

impl Lower<'_, '_, '_> {
    /// Collects what an edge into `head` brings. The values are at the end of the argument stack, from the index returned.
    pub(super) fn collect_edge(&mut self, head: Block) -> usize {
        let start = self.tables.arguments.len();
        for index in 0..self.tables.locals.wanted_count(head) {
            let value = match self.tables.locals.wanted(head, index) {
                Binding::Value(value) => value,
                Binding::Node(node) => self.value(node),
                Binding::Unset => no_value(),
            };
            self.tables.arguments.push(value);
        }
        start
    }

    /// Gives an edge into `head` what was collected for it.
    pub(super) fn finish_edge(
        &mut self,
        head: Block,
        inst: ir::Inst,
        destination: usize,
        start: usize,
    ) -> Result<()> {
        let values = &self.tables.arguments[start..];
        if values.contains(&no_value()) {
            return Err(
                self.input(&format!("a local is live into {head} that is not assigned on every way there"))
            );
        }
        let added = self.tables.locals.add_edge(self.cursor.func, head, inst, destination, values);
        self.tables.arguments.truncate(start);
        added.ok_or_else(|| self.limit("values brought to blocks", MAX_EDGE_VALUES))
    }

    /// Ends the current block of Cranelift's with a jump to a head or a block that continues this one.
    pub(super) fn jump_to(&mut self, block: Block, first_arguments: &[ir::BlockArg]) -> Result<()> {
        let clif = self.clif_block(block);
        if self.method.block(block).extends.is_some() {
            self.ins().jump(clif, first_arguments);
            return Ok(());
        }
        let start = self.collect_edge(block);
        let inst = self.ins().jump(clif, first_arguments);
        self.finish_edge(block, inst, 0, start)
    }
}
