//! Where a method begins, and where its blocks end.

use cranelift_codegen::cursor::Cursor;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, BlockCall, InstBuilder, JumpTableData, Value, types};
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Node, Opcode, Payload, SwitchTable, Type};

use super::arith::Extend;
use super::{Binding, Lower, MAX_BLOCK_PARAMS, Result, clif_type};
use crate::imports::method_signature;

/// The fewest cases for which a table of addresses is made.
const MIN_TABLE: usize = 4;
/// How many entries a table may have for each case in it.
const TABLE_SPARSITY: u64 = 3;

/// Cases of a switch that are decided together, by index.
#[derive(Clone, Copy)]
struct Cluster {
    first: usize,
    last: usize,
}

impl Lower<'_, '_, '_> {
    /// Lowers what happens before the first root.
    pub(super) fn enter(&mut self) -> Result<()> {
        let signature = self.module.method_signature(self.method.id());
        if signature.params.len().max(signature.results.len()) > MAX_BLOCK_PARAMS {
            return Err(self.limit("parameters or results", MAX_BLOCK_PARAMS));
        }
        if signature.params.len() != self.method.param_count() {
            return Err(self.input("its parameters are not those of its signature"));
        }
        self.cursor.func.signature = method_signature(signature);
        self.cursor.func.stack_limit = Some(self.stack_limit());
        let entry = self.clif_block(Block::new(0));
        self.continue_in(entry);
        self.context = self.cursor.func.dfg.append_block_param(entry, types::I64);
        for local in self.method.locals().take(self.method.param_count()) {
            let ty = clif_type(self.method.local(local).ty);
            let value = self.cursor.func.dfg.append_block_param(entry, ty);
            if self.method.local(local).ty == Type::Ref {
                self.tables.references.values.push(value);
            }
            self.tables.locals.bind(local, Binding::Value(value));
        }
        self.take_shadow()
    }

    pub(super) fn terminator(&mut self, node: Node) -> Result<()> {
        match (self.method.opcode(node), self.method.payload(node)) {
            (Opcode::Goto, Payload::Goto(block)) => self.jump_to(block, &[]),
            (Opcode::Branch, Payload::Branch(then, otherwise)) => self.branch(node, then, otherwise),
            (Opcode::Switch, Payload::Switch(table)) => self.switch(node, table),
            (Opcode::Return, _) => {
                let start = self.tables.arguments.len();
                for operand in self.method.value_operands(node) {
                    let value = self.value(*operand);
                    self.tables.arguments.push(value);
                }
                self.release_shadow();
                let values = &self.tables.arguments[start..];
                self.cursor.ins().return_(values);
                self.tables.arguments.truncate(start);
                Ok(())
            }
            (Opcode::TailCall | Opcode::TailCallIndirect, _) => self.tail_call(node),
            (Opcode::Throw, _) => self.throw(node),
            (Opcode::Raise, _) => self.raise(node),
            _ => Err(self.input(&format!("{node} does not say where it continues"))),
        }
    }

    fn branch(&mut self, node: Node, mut then: Block, mut otherwise: Block) -> Result<()> {
        let mut condition = self.condition(self.method.operands(node)[0]);
        if self.is_better_inverted(then, otherwise) {
            condition = self.complement(condition).unwrap_or_else(|| {
                let zero = self.iconst(self.cursor.func.dfg.value_type(condition), 0);
                self.ins().icmp(IntCC::Equal, condition, zero)
            });
            (then, otherwise) = (otherwise, then);
        }
        let start = self.tables.arguments.len();
        let edges = [then, otherwise].map(|block| {
            let is_head = self.method.block(block).extends.is_none();
            is_head.then(|| self.collect_edge(block))
        });
        let (to_then, to_otherwise) = (self.clif_block(then), self.clif_block(otherwise));
        let inst = self.ins().brif(condition, to_then, &[], to_otherwise, &[]);
        // The last collected is on top.
        for (index, block) in [then, otherwise].into_iter().enumerate().rev() {
            if let Some(start) = edges[index] {
                self.finish_edge(block, inst, index, start)?;
            }
        }
        self.tables.arguments.truncate(start);
        Ok(())
    }

    /// Whether the way that is known to be the more frequent follows only if the ways change places. Cranelift goes on with the second one;
    /// but on ways to blocks that are reached from elsewhere, too, it puts blocks of their own, and goes on with that of the first.
    fn is_better_inverted(&self, then: Block, otherwise: Block) -> bool {
        let [then, otherwise] = [then, otherwise].map(|block| self.method.block(block));
        let Some((first, second)) = then.frequency.zip(otherwise.frequency) else { return false };
        match (then.extends, otherwise.extends) {
            (Some(_), _) => first > second,
            (None, None) => first < second,
            (None, Some(_)) => false,
        }
    }

    // ---- switches ----

    fn switch(&mut self, node: Node, table: SwitchTable) -> Result<()> {
        let ty = self.operand_type(node, 0);
        let data = self.method.switch(table);
        let wide = if ty == Type::I64 { Type::I64 } else { Type::I32 };
        let x = self.operand(node, 0);
        let x = self.extend(x, ty, wide, Extend::Unsigned);
        let default = self.relay(data.default, &mut Vec::new());
        let mut relays = Vec::new();
        let targets: Vec<ir::Block> =
            data.cases.iter().map(|(_, block)| self.relay(*block, &mut relays)).collect();
        self.decide(x, wide, data.cases, &targets, default);
        relays.push((data.default, default));
        for (block, relay) in relays {
            if self.method.block(block).extends.is_none() {
                self.continue_in(relay);
                let region = self.region;
                self.begin_region();
                self.jump_to(block, &[])?;
                self.region = region;
            }
        }
        Ok(())
    }

    /// Cranelift's block to go to for a case: a head is reached by one jump for all cases that lead there.
    fn relay(&mut self, block: Block, relays: &mut Vec<(Block, ir::Block)>) -> ir::Block {
        if self.method.block(block).extends.is_some() {
            return self.clif_block(block);
        }
        if let Some((_, relay)) = relays.iter().find(|(known, _)| *known == block) {
            return *relay;
        }
        let relay = self.new_block();
        relays.push((block, relay));
        relay
    }

    /// Finds the case of `x` by halving the cases, down to tables and single ones.
    fn decide(
        &mut self,
        x: Value,
        ty: Type,
        cases: &[(u64, Block)],
        targets: &[ir::Block],
        default: ir::Block,
    ) {
        let clif = clif_type(ty);
        let clusters = clusters(cases);
        let mut pending = vec![(self.cursor.current_block(), 0, clusters.len())];
        while let Some((block, start, end)) = pending.pop() {
            if let Some(block) = block
                && self.cursor.current_block() != Some(block)
            {
                self.continue_in(block);
            }
            match end - start {
                0 => {
                    self.ins().jump(default, &[]);
                }
                1 => self.decide_cluster(x, ty, cases, targets, default, clusters[start]),
                count => {
                    let middle = start + count / 2;
                    let (below, above) = (self.new_block(), self.new_block());
                    let least = self.iconst(clif, cases[clusters[middle].first].0);
                    let is_below = self.ins().icmp(IntCC::UnsignedLessThan, x, least);
                    self.ins().brif(is_below, below, &[], above, &[]);
                    pending.push((Some(above), middle, end));
                    pending.push((Some(below), start, middle));
                }
            }
        }
    }

    fn decide_cluster(
        &mut self,
        x: Value,
        ty: Type,
        cases: &[(u64, Block)],
        targets: &[ir::Block],
        default: ir::Block,
        Cluster { first, last }: Cluster,
    ) {
        let clif = clif_type(ty);
        let least = cases[first].0;
        let start = self.iconst(clif, least);
        if first == last {
            let is_case = self.ins().icmp(IntCC::Equal, x, start);
            self.ins().brif(is_case, targets[first], &[], default, &[]);
            return;
        }
        let index = if least == 0 { x } else { self.ins().isub(x, start) };
        let index = match ty {
            Type::I64 => {
                // A table is indexed by 32 bits; what does not fit goes to the default before it is cut off.
                let table = self.new_block();
                let entries = self.iconst(clif, cases[last].0 - least);
                let is_outside = self.ins().icmp(IntCC::UnsignedGreaterThan, index, entries);
                self.ins().brif(is_outside, default, &[], table, &[]);
                self.continue_in(table);
                self.ins().ireduce(types::I32, index)
            }
            _ => index,
        };
        let pool = &mut self.cursor.func.dfg.value_lists;
        let default = BlockCall::new(default, [], pool);
        let mut entries = Vec::with_capacity((cases[last].0 - least + 1) as usize);
        for (case, target) in cases[first..=last].iter().zip(&targets[first..=last]) {
            entries.resize((case.0 - least) as usize, default);
            entries.push(BlockCall::new(*target, [], pool));
        }
        let table = self.cursor.func.create_jump_table(JumpTableData::new(default, &entries));
        self.ins().br_table(index, table);
    }
}

/// Groups ascending cases: as many as make a table that is dense enough, else one by one.
fn clusters(cases: &[(u64, Block)]) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    let mut first = 0;
    while first < cases.len() {
        let mut last = first;
        while let Some((next, _)) = cases.get(last + 1)
            && next - cases[first].0 < TABLE_SPARSITY * (last + 2 - first) as u64
        {
            last += 1;
        }
        if last + 1 - first < MIN_TABLE {
            clusters.extend((first..=last).map(|case| Cluster { first: case, last: case }));
        } else {
            clusters.push(Cluster { first, last });
        }
        first = last + 1;
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_cases_make_a_table_and_sparse_ones_do_not() {
        let of = |values: &[u64]| {
            let cases: Vec<_> = values.iter().map(|value| (*value, Block::new(0))).collect();
            clusters(&cases).iter().map(|cluster| (cluster.first, cluster.last)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[1, 2, 3]), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(of(&[1, 2, 3, 4, 6]), [(0, 4)]);
        assert_eq!(of(&[1, 100, 101, 102, 103, u64::MAX]), [(0, 0), (1, 4), (5, 5)]);
    }
}
