//! Checks of what a loop does not change, made by its first turn before anything else, are made before the loop.

use std::collections::{BTreeMap, BTreeSet};

use dagwood_il::cfg::Loop;
use dagwood_il::{Block, Edits, Local, Loops, Method, Node, Opcode, Payload, Properties, Root, Type};

use super::is_barrier;
use crate::cx::PassCx;

/// How many nodes a check's operands may be computed from.
const MAX_NODES: usize = 24;
/// How many checks are moved before one loop.
const MAX_CHECKS: usize = 16;

/// A loop and checks to make before it.
pub(super) struct Found {
    header: Block,
    checks: Vec<Root>,
    /// Where the loop is entered from.
    from: Vec<Block>,
}

/// The loops with checks that can be made before them.
pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>) -> Vec<Found> {
    let (cfg, loops) = (cx.cfg(method), cx.loops(method));
    let mut found = Vec::new();
    for (id, data) in loops.loops() {
        let header = data.header;
        let edges = cfg.predecessors(header);
        let is_entered_normally = edges.iter().all(|edge| !edge.is_exception());
        let is_within = cx.region().has_head(header) && cx.spend(method.roots(header).len() as u64);
        let checks = if is_entered_normally && is_within {
            checks(method, cx, &loops, id, header)
        } else {
            Vec::new()
        };
        // Whoever comes back from a handler would come in without having passed the check.
        let is_caught_within =
            method.handlers(header).iter().any(|handler| loops.contains(id, handler.block));
        if let Some(check) = checks.first().filter(|_| is_caught_within) {
            cx.missed((header, check.node), || "what it raises may be caught in the loop".into());
        } else if !checks.is_empty() {
            let from =
                edges.iter().map(|edge| edge.block).filter(|from| !loops.contains(id, *from)).collect();
            found.push(Found { header, checks, from });
        }
    }
    found
}

/// Makes them there, as far as that is allowed. They must not be changed otherwise.
pub(super) fn apply(
    method: &mut Method<'_>,
    cx: &mut PassCx<'_>,
    edits: &mut Edits,
    loops: Vec<Found>,
) -> BTreeSet<Node> {
    let mut moved = BTreeSet::new();
    for Found { header, mut checks, from } in loops {
        checks
            .retain(|check| cx.allows((header, check.node), || "it is made once before the loop".to_owned()));
        if !checks.is_empty() {
            hoist(method, edits, header, &from, &checks);
            moved.extend(checks.iter().map(|check| check.node));
        }
    }
    moved
}

/// The checks of the header's block that its first turn makes before anything could be noticed.
fn checks(method: &Method<'_>, cx: &PassCx<'_>, loops: &Loops, id: Loop, header: Block) -> Vec<Root> {
    let mut set = None;
    let mut found = Vec::new();
    for root in method.roots(header) {
        let row = method.opcode(root.node).row();
        let opcode = method.opcode(root.node);
        // A division knows its divisor to be proven by the check alone.
        let is_check = (row.has(Properties::PROVES) || opcode == Opcode::Check) && opcode != Opcode::DivCheck;
        if is_check && found.len() < MAX_CHECKS {
            let set = set.get_or_insert_with(|| set_in(method, loops, id));
            if method.frame_of(root.node).is_none() && is_invariant(method, root.node, set) {
                found.push(*root);
                continue;
            }
        }
        if is_barrier(cx.module(), method, header, root.node) {
            break;
        }
    }
    found
}

/// The locals that a loop sets.
fn set_in(method: &Method<'_>, loops: &Loops, id: Loop) -> BTreeSet<Local> {
    let blocks = method.blocks().filter(|block| loops.contains(id, *block));
    let roots = blocks.flat_map(|block| method.roots(block));
    let sets = roots.filter(|root| method.opcode(root.node) == Opcode::Set);
    sets.filter_map(|root| match method.payload(root.node) {
        Payload::Local(local) => Some(local),
        _ => None,
    })
    .collect()
}

/// Whether a check's operands are computed from locals that are not set, and from nothing that has a place in time.
fn is_invariant(method: &Method<'_>, check: Node, set: &BTreeSet<Local>) -> bool {
    let mut nodes = method.operands(check).to_vec();
    let mut next = 0;
    while let Some(node) = nodes.get(next).copied() {
        next += 1;
        let opcode = method.opcode(node);
        let is_fixed = match (opcode, method.payload(node)) {
            (Opcode::Entry, Payload::Local(local)) => !set.contains(&local),
            _ => !method.is_root(node) && !opcode.has(Properties::HEAD) && opcode != Opcode::Result,
        };
        if !is_fixed || nodes.len() > MAX_NODES {
            return false;
        }
        nodes.extend_from_slice(method.operands(node));
    }
    true
}

/// Puts a block before the loop that makes the checks.
fn hoist(method: &mut Method<'_>, edits: &mut Edits, header: Block, from: &[Block], checks: &[Root]) {
    let handlers = method.block(header).handlers;
    let before = method.add_block(None, handlers);
    let mut roots = Vec::new();
    let mut copies = BTreeMap::new();
    for check in checks {
        let operands: Vec<Node> = method
            .operands(check.node)
            .to_vec()
            .into_iter()
            .map(|node| copy(method, &mut copies, node))
            .collect();
        let data = (method.opcode(check.node), method.ty(check.node), method.payload(check.node));
        let node = method.add_node(data.0, data.1, &operands, data.2);
        roots.push(Root { node, position: check.position });
        edits.remove(check.node);
        if data.1 != Type::Void {
            edits.replace(check.node, method.operands(check.node)[0]);
        }
    }
    let goto = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(header));
    let position = checks.last().map(|check| check.position).unwrap_or_default();
    roots.push(Root { node: goto, position });
    method.set_roots(before, &roots);
    for from in from {
        edits.retarget(*from, header, before);
    }
}

/// The same value in another extended block. At most [`MAX_NODES`] deep: what is deeper is not invariant.
fn copy(method: &mut Method<'_>, copies: &mut BTreeMap<Node, Node>, node: Node) -> Node {
    if let Some(copy) = copies.get(&node) {
        return *copy;
    }
    let operands: Vec<Node> =
        method.operands(node).to_vec().into_iter().map(|operand| copy(method, copies, operand)).collect();
    let new = method.add_node(method.opcode(node), method.ty(node), &operands, method.payload(node));
    copies.insert(node, new);
    new
}
