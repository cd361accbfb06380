//! The end of a copy: what only the finished copy tells.

use super::Applied;
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Method, Payload, Root};
use crate::opcode::Opcode;

/// Drops locals that nobody reads any more since heads were joined, and their sets.
pub(super) fn drop_unread_locals(method: &mut Method<'_>, applied: &mut Applied) {
    let mut kept = EntityVec::filled(false, method.locals().len());
    for local in method.locals().take(method.param_count()) {
        kept[local] = true;
    }
    let mut unread = EntityVec::filled(true, method.locals().len());
    for node in method.nodes() {
        if method.opcode(node) == Opcode::Entry
            && let Payload::Local(local) = method.payload(node)
        {
            (kept[local], unread[local]) = (true, false);
        }
    }
    let is_unread = |method: &Method<'_>, root: &Root| match method.payload(root.node) {
        Payload::Local(local) => unread[local],
        _ => false,
    };
    for block in method.blocks() {
        let roots = method.roots(block);
        if roots.iter().any(|root| is_unread(method, root)) {
            let (dropped, left): (Vec<Root>, Vec<Root>) =
                roots.iter().partition(|root| is_unread(method, root));
            method.set_roots(block, &left);
            for root in dropped {
                method.replace_node(root.node, Opcode::Dead, &[], Payload::None);
            }
        }
    }
    if kept.values().all(|kept| *kept) {
        return;
    }
    let places = method.retain_locals(&kept);
    for old in applied.locals.keys() {
        applied.locals[old] = applied.locals[old].and_then(|local| places[local]);
    }
}

/// Puts the blocks into reverse post-order, without those that are not reached.
pub(super) fn order_blocks(method: &mut Method<'_>, applied: &mut Applied) {
    if method.block_count() == 0 {
        return;
    }
    let order = reached_order(method);
    let mut places = EntityVec::filled(None, method.block_count());
    for (index, block) in order.iter().enumerate() {
        places[*block] = Some(Block::new(index));
    }
    let is_sorted = order.len() == method.block_count() && order.is_sorted();
    if !is_sorted {
        method.reorder_blocks(&order);
        for old in applied.blocks.keys() {
            applied.blocks[old] = applied.blocks[old].and_then(|block| places[block]);
        }
    }
}

/// All blocks that are reached, in reverse post-order by their terminators and handlers as they are.
fn reached_order(method: &Method<'_>) -> Vec<Block> {
    let blocks = method.block_count();
    let entry = Block::new(0);
    let edges = |block: Block| {
        let mut edges = method.successors(block).to_vec();
        edges.extend(method.handlers(block).iter().map(|handler| handler.block));
        edges
    };
    let mut order = Vec::with_capacity(blocks);
    let mut seen = EntityVec::filled(false, blocks);
    seen[entry] = true;
    let mut stack = vec![(entry, edges(entry))];
    while let Some((block, left)) = stack.last_mut() {
        match left.pop() {
            None => {
                order.push(*block);
                stack.pop();
            }
            Some(next) if !std::mem::replace(&mut seen[next], true) => stack.push((next, edges(next))),
            Some(_) => {}
        }
    }
    order.reverse();
    order
}
