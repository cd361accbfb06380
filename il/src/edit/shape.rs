//! Edges that go elsewhere: retargeting, roots on edges, preheaders, duplicates.

use super::Shape;
use super::lists::Source;
use super::split::{Map, tree};
use crate::method::{Block, Frequency, Method, Node, Payload, Root, SourcePos};
use crate::opcode::Opcode;
use crate::types::Type;

/// Changes the graph as asked.
pub(super) fn reshape(method: &mut Method<'_>, source: &mut Source, shape: &Shape) {
    match shape {
        Shape::Retarget { block, from, to } => retarget(method, *block, *from, *to),
        Shape::OnEdge { from, to, roots } => on_edge(method, *from, *to, roots),
        Shape::Preheader { block, header, from, roots } => preheader(method, *block, *header, from, roots),
        Shape::Duplicate { block, from, to } => duplicate(method, source, *block, *from, *to),
    }
}

/// Makes the edges from the end of `block` to `from` go to `to`.
fn retarget(method: &mut Method<'_>, block: Block, from: Block, to: Block) {
    redirect(method, block, |target| if target == from { to } else { target });
}

/// Makes the edges from the end of `block` go where `place` says. The end is a new node: duplicates share theirs.
pub(super) fn redirect(method: &mut Method<'_>, block: Block, place: impl Fn(Block) -> Block) {
    let Some(end) = method.terminator(block) else { return };
    let payload = redirected(method, method.payload(end), place);
    if payload == method.payload(end) {
        return;
    }
    let operands = method.operands(end).to_vec();
    let end = method.add_node(method.opcode(end), method.ty(end), &operands, payload);
    let mut roots = method.roots(block).to_vec();
    if let Some(last) = roots.last_mut() {
        last.node = end;
    }
    method.set_roots(block, &roots);
}

/// A payload that names other blocks.
fn redirected(method: &mut Method<'_>, payload: Payload, place: impl Fn(Block) -> Block) -> Payload {
    match payload {
        Payload::Goto(target) => Payload::Goto(place(target)),
        Payload::Branch(then, otherwise) => Payload::Branch(place(then), place(otherwise)),
        Payload::Switch(table) => {
            let data = method.switch(table);
            let cases: Vec<_> = data.cases.iter().map(|(bits, target)| (*bits, place(*target))).collect();
            Payload::Switch(method.add_switch(&cases, place(data.default)))
        }
        Payload::Guard(info) => {
            let data = method.guard(info);
            let successors = data.successors.map(|(holds, failed)| (place(holds), place(failed)));
            Payload::Guard(method.add_guard(data.assumptions, successors))
        }
        payload => payload,
    }
}

/// Appends roots to a list, all at one position in the source.
fn append(roots: &mut Vec<Root>, nodes: &[Node], position: SourcePos) {
    roots.extend(nodes.iter().map(|node| Root { node: *node, position }));
}

fn position_of_end(method: &Method<'_>, block: Block) -> SourcePos {
    method.roots(block).last().map_or(SourcePos::NONE, |root| root.position)
}

/// How often an edge is taken, as far as that is known: as often as its ends run, less what goes to blocks that only
/// `from` leads to.
fn edge_frequency(method: &Method<'_>, from: Block, to: Block) -> Option<Frequency> {
    let Frequency(mut left) = method.block(from).frequency?;
    let mut successors = method.successors(from);
    successors.sort_unstable();
    successors.dedup();
    for next in successors {
        if next != to && method.block(next).extends == Some(from) {
            left = left.saturating_sub(method.block(next).frequency?.0);
        }
    }
    method.block(to).frequency.map(|other| other.min(Frequency(left)))
}

fn on_edge(method: &mut Method<'_>, from: Block, to: Block, nodes: &[Node]) {
    let position = position_of_end(method, from);
    let mut roots = Vec::new();
    if method.block(to).extends == Some(from) {
        append(&mut roots, nodes, position);
        roots.extend_from_slice(method.roots(to));
        return method.set_roots(to, &roots);
    }
    if method.successors(from).iter().all(|next| *next == to) {
        let Some((end, before)) = method.roots(from).split_last() else { return };
        roots.extend_from_slice(before);
        append(&mut roots, nodes, position);
        roots.push(*end);
        return method.set_roots(from, &roots);
    }
    let block = method.add_block(Some(from), method.block(from).handlers);
    let frequency = edge_frequency(method, from, to);
    method.set_frequency(block, frequency);
    append(&mut roots, nodes, position);
    let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(to));
    roots.push(Root { node: end, position });
    method.set_roots(block, &roots);
    retarget(method, from, to, block);
}

fn preheader(method: &mut Method<'_>, block: Block, header: Block, from: &[Block], nodes: &[Node]) {
    let frequency = from.iter().try_fold(0_u32, |sum, from| {
        edge_frequency(method, *from, header).map(|Frequency(count)| sum.saturating_add(count))
    });
    let position = from.first().map_or(SourcePos::NONE, |from| position_of_end(method, *from));
    let mut roots = Vec::new();
    append(&mut roots, nodes, position);
    let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(header));
    roots.push(Root { node: end, position });
    method.set_roots(block, &roots);
    method.set_handlers(block, method.block(header).handlers);
    method.set_frequency(block, frequency.map(Frequency));
    for from in from {
        retarget(method, *from, header, block);
    }
}

/// Makes `copy` the head of another extended block like that of `to`, with the same nodes, for the edges from → to.
fn duplicate(method: &mut Method<'_>, source: &mut Source, copy: Block, from: Block, to: Block) {
    let entered = edge_frequency(method, from, to);
    let share = Share::of(entered, method.block(to).frequency);
    let blocks = tree(method, to);
    let mut copies = vec![(to, copy)];
    for block in &blocks[1..] {
        copies.push((*block, method.add_block(None, None)));
    }
    let by_block: Map<Block, Block> = copies.iter().copied().collect();
    let copy_of = |block: Block| by_block.get(&block).copied();
    for (block, copy) in &copies {
        let data = *method.block(*block);
        method.set_extends(*copy, data.extends.and_then(copy_of));
        method.set_roots(*copy, data.roots);
        method.set_handlers(*copy, data.handlers);
        let (ours, theirs) = share.divide(data.frequency);
        method.set_frequency(*copy, ours);
        method.set_frequency(*block, theirs);
    }
    for (_, copy) in &copies {
        // What leads back to the head leads back to the original.
        redirect(method, *copy, |target| if target == to { to } else { copy_of(target).unwrap_or(target) });
    }
    source.give(copy, source.given(to).to_vec());
    retarget(method, from, to, copy);
}

/// Which part of a block's frequency its copy gets.
struct Share(Option<(u64, u64)>);

impl Share {
    fn of(entered: Option<Frequency>, all: Option<Frequency>) -> Share {
        Share(entered.zip(all).map(|(entered, all)| (u64::from(entered.0), u64::from(all.0))))
    }

    /// The copy's part, and what is left.
    fn divide(&self, whole: Option<Frequency>) -> (Option<Frequency>, Option<Frequency>) {
        match (self.0, whole) {
            (Some((part, all)), Some(Frequency(whole))) if all > 0 => {
                let ours = u64::from(whole) * part.min(all) / all;
                let ours = u32::try_from(ours).expect("a part is no more than the whole");
                (Some(Frequency(ours)), Some(Frequency(whole - ours)))
            }
            _ => (whole, whole),
        }
    }
}
