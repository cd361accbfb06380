//! Where pure nodes are first needed: the place that each of their uses comes after.
//!
//! ```text
//!   b1: root 0 uses %a             %a: before root 0 of b1
//!       br …, b2, b3
//!   b2: root 0 uses %b             %b: before the end of b1, since neither b2 nor b3 comes after the other
//!   b3: root 0 uses %b
//! ```
//!
//! *Why.* What is known at that place is known at every use, so that a node may be replaced for all of them.
//!
//! *Guarantees.* Uses by frame states count. *Cost.* Linear in operands, times at most the depth of an extended block.

use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Method, Node, Opcode};

use super::shape::Lists;

/// Before which root a pure node is first needed.
#[derive(Clone, Debug)]
pub struct Places {
    first: Lists<Node>,
}

type Place = (Block, u32);

impl Places {
    /// The places of a method's pure nodes.
    pub fn compute(method: &Method<'_>) -> Places {
        let mut places: EntityVec<Node, Option<Place>> = EntityVec::filled(None, method.node_count());
        for block in method.blocks() {
            for (position, root) in (0..).zip(method.roots(block)) {
                places[root.node] = Some((block, position));
            }
        }
        // Users stand after their operands, but for virtual objects that hold each other.
        while carry(method, &mut places) {}
        let first = Lists::collect(method.node_count(), |add| {
            for (node, place) in places.iter() {
                if let Some((block, position)) = *place
                    && !method.is_root(node)
                    && let Some(root) = method.roots(block).get(position as usize)
                {
                    add(root.node.index(), node);
                }
            }
        });
        Places { first }
    }

    /// The pure nodes that are first needed by this root, operands before users.
    pub fn needed_first_by(&self, root: Node) -> &[Node] {
        self.first.of(root)
    }
}

/// Carries places from users to operands. Whether it must be done again.
fn carry(method: &Method<'_>, places: &mut EntityVec<Node, Option<Place>>) -> bool {
    let mut is_late = false;
    for node in method.nodes().rev() {
        let Some(place) = places[node] else { continue };
        for operand in method.operands(node) {
            if method.is_root(*operand) {
                continue;
            }
            let common = places[*operand].map_or(place, |known| common(method, known, place));
            let has_moved = places[*operand] != Some(common);
            is_late |= has_moved && *operand >= node && method.opcode(*operand) == Opcode::Virtual;
            places[*operand] = Some(common);
        }
    }
    is_late
}

/// The last place that both come after.
fn common(method: &Method<'_>, left: Place, right: Place) -> Place {
    let depth =
        |place: Place| std::iter::successors(Some(place.0), |block| method.block(*block).extends).count();
    let (mut left, mut right) = (left, right);
    let (mut left_depth, mut right_depth) = (0, 0);
    if left.0 != right.0 {
        (left_depth, right_depth) = (depth(left), depth(right));
    }
    while left.0 != right.0 {
        let climbs_left = left_depth >= right_depth;
        let (place, depth) =
            if climbs_left { (&mut left, &mut left_depth) } else { (&mut right, &mut right_depth) };
        let Some(parent) = method.block(place.0).extends else { return left.min(right) };
        let end = method.roots(parent).len().saturating_sub(1);
        *place = (parent, u32::try_from(end).unwrap_or(u32::MAX));
        *depth -= 1;
    }
    left.min(right)
}
