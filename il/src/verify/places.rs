//! Each use where its value is available: within the extended block, after the roots that give it, before the next
//! yield point for what a moving collector would invalidate.

use super::structure::Shape;
use super::{Cx, Errors, Rule, Subject};
use crate::dying::inherits;
use crate::effects::effects;
use crate::entity::EntityVec;
use crate::method::{Block, Method, Node};
use crate::opcode::{Opcode, PayloadKind, Properties};

/// Where nodes are used.
pub(super) struct Uses {
    /// For each node that a root needs, the head of the extended block in which it is used.
    pub(super) heads: EntityVec<Node, Option<Block>>,
}

impl Uses {
    /// Finds the extended block of every used node, and checks that there is one.
    pub(super) fn collect(method: &Method<'_>, shape: &Shape, errors: &mut Errors) -> Uses {
        let mut heads = EntityVec::filled(None, method.node_count());
        for (node, place) in shape.places.iter() {
            heads[node] = place.map(|(block, _)| shape.heads[block]);
        }
        // Virtual objects may stand before what they hold, so the order of the table does not do.
        let mut pending: Vec<Node> = method.nodes().filter(|node| heads[*node].is_some()).collect();
        while let Some(node) = pending.pop() {
            let Some(head) = heads[node] else { continue };
            for operand in method.operands(node) {
                let known = *heads[*operand].get_or_insert_with(|| {
                    pending.push(*operand);
                    head
                });
                if known != head {
                    let opcode = method.opcode(*operand);
                    errors.add(
                        Rule::ExtendedBlock,
                        shape.subject(node),
                        format_args!(
                            "it uses {operand} (`{opcode}`) in the extended block of {head}, but that belongs to \
                             the one of {known}; values travel between them in locals"
                        ),
                    );
                }
            }
        }
        Uses { heads }
    }
}

pub(super) fn check(cx: &Cx<'_, '_>, errors: &mut Errors) {
    check_availability(cx, errors);
    for node in cx.used_nodes() {
        let opcode = cx.method.opcode(node);
        if matches!(opcode, Opcode::Caught | Opcode::CaughtKind)
            && let Some(head) = cx.uses.heads[node]
            && !cx.shape.is_handler[head]
        {
            errors.add(
                Rule::Caught,
                cx.subject(node),
                format_args!("`{opcode}` is used in the extended block of {head}, which should be a handler"),
            );
        }
    }
    if cx.used_nodes().any(|node| cx.method.opcode(node).has(Properties::DIES_AT_YIELD)) {
        check_ref_addresses(cx, errors);
    }
}

/// From where on a value is available: a position of a block, and all blocks below that block.
type Since = (Block, u32);

fn check_availability(cx: &Cx<'_, '_>, errors: &mut Errors) {
    // None where a value is available from the head on.
    let mut since: EntityVec<Node, Option<Since>> = EntityVec::filled(None, cx.method.node_count());
    for node in cx.used_nodes() {
        let place = cx.shape.places[node];
        if place.is_none() && cx.method.is_root(node) {
            let opcode = cx.method.opcode(node);
            errors.add(
                Rule::RootPlace,
                Subject::Node(node),
                format_args!("`{opcode}` is used, but stands in no block's list; it should stand in one"),
            );
        }
        let mut latest = None;
        for operand in cx.method.operands(node) {
            let Some(own) = since[*operand] else { continue };
            latest = match latest {
                None => Some(own),
                Some(other) => match later(cx, own, other) {
                    Some(later) => Some(later),
                    None => {
                        report_siblings(cx, node, own.0, other.0, errors);
                        Some(other)
                    }
                },
            };
            if let Some((block, position)) = place
                && cx.shape.heads[block] == cx.shape.heads[own.0]
                && later(cx, own, (block, position)) != Some((block, position))
            {
                errors.add(
                    Rule::Availability,
                    cx.subject(node),
                    format_args!(
                        "it uses {operand}, which is available only from root {} of {} on",
                        own.1, own.0
                    ),
                );
            }
        }
        since[node] = place.map_or(latest, |(block, position)| Some((block, position + 1)));
    }
}

/// The later of two points; none if no path has both.
fn later(cx: &Cx<'_, '_>, left: Since, right: Since) -> Option<Since> {
    if left.0 == right.0 {
        Some(left.max(right))
    } else if cx.shape.is_above(cx.method, left.0, right.0) {
        Some(right)
    } else if cx.shape.is_above(cx.method, right.0, left.0) {
        Some(left)
    } else {
        None
    }
}

fn report_siblings(cx: &Cx<'_, '_>, node: Node, left: Block, right: Block, errors: &mut Errors) {
    // Operands of different extended blocks have been reported as such.
    if cx.shape.heads[left] == cx.shape.heads[right] {
        errors.add(
            Rule::Availability,
            cx.subject(node),
            format_args!("it needs values of {left} and of {right}, which are on no path together"),
        );
    }
}

/// Follows what is computed from the addresses of references, as [`Dying`](crate::Dying) does, with the time of their birth.
fn check_ref_addresses(cx: &Cx<'_, '_>, errors: &mut Errors) {
    let method = cx.method;
    let yields = count_yields(cx);
    // For each value that dies at a yield point, how many yield points were before the oldest address it comes from.
    let mut born: EntityVec<Node, Option<u32>> = EntityVec::filled(None, method.node_count());
    for node in cx.used_nodes() {
        let row = method.opcode(node).row();
        let oldest =
            method.operands(node).iter().filter_map(|operand| Some((born[*operand]?, *operand))).min();
        if let Some((birth, operand)) = oldest {
            let is_stored = row.has(Properties::WRITES)
                && row.payload == PayloadKind::Access
                && born[method.operands(node)[0]].is_some();
            let wrong = match row.payload {
                _ if row.has(Properties::FRAME_ONLY) => {
                    Some("a frame state is read after the next yield point")
                }
                PayloadKind::Local => Some("a local may outlive the next yield point"),
                _ if is_stored => Some("memory may outlive the next yield point"),
                _ if row.has(Properties::TERMINATES) && method.successors_of(node).is_empty() => {
                    Some("the caller may reach the next yield point")
                }
                _ if cx.shape.places[node].is_none() => None,
                _ if effects(cx.module, method, node).yields => Some("this is a yield point"),
                _ if yields[node] > birth => Some("a yield point stands in between"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let message =
                    format_args!("it uses {operand}, computed from the address of a reference: {wrong}");
                errors.add(Rule::RefAddress, cx.subject(node), message);
            }
        }
        born[node] = match row {
            _ if row.has(Properties::DIES_AT_YIELD) => Some(yields[node]),
            _ if inherits(row) => oldest.map(|(birth, _)| birth),
            _ => None,
        };
    }
}

/// For each root, how many yield points are before it on the path from its head.
fn count_yields(cx: &Cx<'_, '_>) -> EntityVec<Node, u32> {
    let mut counts = EntityVec::filled(0, cx.method.node_count());
    let mut at_ends: EntityVec<Block, u32> = EntityVec::filled(0, cx.method.block_count());
    for block in &cx.shape.order {
        let mut count = cx.method.block(*block).extends.map_or(0, |parent| at_ends[parent]);
        for root in cx.method.roots(*block) {
            counts[root.node] = count;
            count += u32::from(effects(cx.module, cx.method, root.node).yields);
        }
        at_ends[*block] = count;
    }
    counts
}
