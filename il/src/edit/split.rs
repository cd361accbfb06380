//! Cutting an extended block in two.
//!
//! ```text
//!   b1: %1 = load …            b1: %1 = load …
//!       ────────── point         set $t, %1
//!       store …, %1              goto b9
//!                           b9: store …, %1       with %1 given: it is `entry $t` there
//! ```
//!
//! What is after the point becomes an extended block of its own, with all blocks below. It keeps its nodes, and
//! [`Source::given`] says what those of them stand for that were before the point: the copy does the rest. Pure nodes are
//! copied from what they are computed from; so only roots, what belongs to the head, and further results of calls go
//! through locals. A divisor that a check has proven is checked once more, so that divisions still float; and so happens once more what
//! [dies](crate::Dying) at the next yield point, because no local may hold it. Each node that goes through a local has
//! one, however often its block is cut.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use super::lists::Source;
use crate::builder::MAX_EXTENSION_DEPTH;
use crate::dying::Dying;
use crate::entity::EntityVec;
use crate::method::{Block, Local, Method, Node, Payload, Root, SourcePos};
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

/// A map without an order that anybody sees.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<FxHasher>>;

/// A set, likewise.
pub(super) type Set<K> = HashSet<K, BuildHasherDefault<FxHasher>>;

/// The local through which a node goes.
#[derive(Clone, Copy)]
struct Carrier {
    /// An `entry` of it.
    entry: Node,
    /// Whether it holds the node's value from where that is made on, so that cuts need not set it.
    is_set: bool,
}

/// The locals through which nodes go from one extended block to another: for each node, its local and an `entry` of that.
#[derive(Default)]
pub(super) struct Crossing {
    carriers: Map<Node, Carrier>,
    /// By node: the number of the last walk that came by.
    seen: EntityVec<Node, u32>,
    /// By node: the number of the last walk of which it is a root.
    inside: EntityVec<Node, u32>,
    walk: u32,
    dying: Dying,
}

impl Crossing {
    /// Says which local has a node's value, wherever that is available.
    pub(super) fn carry(&mut self, method: &mut Method<'_>, node: Node, local: Local) {
        self.add(method, node, local, true);
    }

    fn add(&mut self, method: &mut Method<'_>, node: Node, local: Local, is_set: bool) -> Carrier {
        let ty = method.local(local).ty;
        let entry = method.add_node(Opcode::Entry, ty, &[], Payload::Local(local));
        let carrier = Carrier { entry, is_set };
        self.carriers.insert(node, carrier);
        carrier
    }

    fn carrier(&mut self, method: &mut Method<'_>, node: Node) -> Carrier {
        if let Some(carrier) = self.carriers.get(&node) {
            return *carrier;
        }
        let name = match method.payload(node) {
            Payload::Local(local) => method.local(local).name.to_owned(),
            _ => "t".to_owned(),
        };
        let local = method.add_local(&name, method.ty(node));
        self.add(method, node, local, false)
    }

    /// What `roots` and the operands `more` need that is before them: of it, what goes through locals. `block` is where
    /// it comes from: the nodes belong to its extended block.
    pub(super) fn leaves(
        &mut self,
        method: &Method<'_>,
        source: &Source,
        block: Block,
        roots: &[Node],
        more: &[Node],
    ) -> Leaves {
        let nodes = method.node_count();
        self.dying.extend(method, |node| source.resolve(node));
        self.seen.resize(nodes, 0);
        self.inside.resize(nodes, 0);
        self.walk += 1;
        for root in roots {
            self.inside[*root] = self.walk;
        }
        let before = Before::of(method, source, block);
        let mut pending: Vec<Node> = more.iter().map(|node| source.resolve(*node)).collect();
        for root in roots {
            pending.extend(method.operands(*root).iter().map(|operand| source.resolve(*operand)));
        }
        let (mut leaves, mut divisors, mut dying) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(node) = pending.pop() {
            if std::mem::replace(&mut self.seen[node], self.walk) == self.walk
                || self.inside[node] == self.walk
            {
                continue;
            }
            let divisor = self.checked_divisor(method, source, node);
            let has_values = roots.is_empty() && divisor.is_some();
            let happens_again = method.is_root(node) && self.dying.has(node);
            if happens_again {
                dying.push(node);
                pending.extend(method.value_operands(node).iter().map(|operand| source.resolve(*operand)));
            } else if has_values
                || before.given.contains(&node)
                || self.must_cross(method, source, &before, node)
            {
                leaves.push(node);
            } else {
                divisors.extend(divisor);
                pending.extend(method.operands(node).iter().map(|operand| source.resolve(*operand)));
            }
        }
        leaves.sort_unstable();
        divisors.sort_unstable();
        divisors.dedup();
        dying.sort_unstable();
        Leaves { nodes: leaves, divisors, dying }
    }

    /// The divisor of a division that floats, if a check before makes it float.
    fn checked_divisor(&self, method: &Method<'_>, source: &Source, node: Node) -> Option<Node> {
        let has_divisor = method.opcode(node).has(Properties::ROOT_UNLESS_PROVEN);
        let divisor = source.resolve(*method.operands(node).get(1).filter(|_| has_divisor)?);
        let is_before = method.is_root(divisor) && self.inside[divisor] != self.walk;
        (is_before && !method.is_root(node)).then_some(divisor)
    }

    /// Whether the node cannot be computed again from its operands.
    fn must_cross(&self, method: &Method<'_>, source: &Source, before: &Before, node: Node) -> bool {
        let opcode = method.opcode(node);
        if opcode == Opcode::Entry
            && let Payload::Local(local) = method.payload(node)
        {
            return before.set.contains(&local);
        }
        let is_before = |operand: &Node| self.inside[source.resolve(*operand)] != self.walk;
        opcode.has(Properties::HEAD)
            || method.is_root(node)
            || opcode == Opcode::Result && method.operands(node).iter().any(is_before)
    }
}

/// What crosses a cut.
pub(super) struct Leaves {
    /// The nodes that go through locals.
    pub(super) nodes: Vec<Node>,
    /// Checked divisors of divisions that float behind the cut: there they are checked again, so that these still float.
    divisors: Vec<Node>,
    /// Roots before the cut that die at the next yield point, of which there is none in between: they happen again behind it.
    dying: Vec<Node>,
}

/// What is before a point of a block.
struct Before {
    /// Locals that are set on the way from the head.
    set: Vec<Local>,
    /// Nodes that are given at the head.
    given: Vec<Node>,
}

impl Before {
    /// What is before the end of a block.
    fn of(method: &Method<'_>, source: &Source, block: Block) -> Before {
        let mut set = Vec::new();
        let mut at = Some(block);
        while let Some(block) = at {
            for root in method.roots(block) {
                if let Payload::Local(local) = method.payload(root.node) {
                    set.push(local);
                }
            }
            at = method.block(block).extends;
        }
        let given = source.given(method.head(block)).iter().map(|(node, _)| *node).collect();
        Before { set, given }
    }
}

/// The blocks of an extended block from `top` on down, as far as they are reached.
pub(super) fn tree(method: &Method<'_>, top: Block) -> Vec<Block> {
    let mut blocks = vec![top];
    let mut next = 0;
    while let Some(block) = blocks.get(next).copied() {
        next += 1;
        let own = blocks.len();
        for to in method.successors(block) {
            if method.block(to).extends == Some(block) && !blocks[own..].contains(&to) {
                blocks.push(to);
            }
        }
    }
    blocks
}

/// Cuts `block` before the root at `position`: `tail`, a block without roots, gets what is after it. Without the first
/// `skipped` of these: a call that becomes its callee's body.
pub(super) fn split(
    method: &mut Method<'_>,
    source: &mut Source,
    crossing: &mut Crossing,
    (block, position): (Block, usize),
    tail: Block,
    skipped: usize,
) {
    let data = *method.block(block);
    debug_assert!(position < data.roots.len(), "{block} is cut before one of its roots");
    let (upper, lower) = data.roots.split_at(position);
    for to in method.successors(block) {
        if method.block(to).extends == Some(block) {
            method.set_extends(to, Some(tail));
        }
    }
    method.set_roots(block, upper);
    method.set_roots(tail, &lower[skipped..]);
    method.set_handlers(tail, data.handlers);
    method.set_frequency(tail, data.frequency);
    let below: Vec<Node> = tree(method, tail)
        .into_iter()
        .flat_map(|block| method.roots(block).iter().map(|root| root.node))
        .collect();
    let leaves = crossing.leaves(method, source, block, &below, &[]);
    let at = lower.first().map_or(SourcePos::NONE, |root| root.position);
    let mut roots = upper.to_vec();
    let given = set_carriers(method, crossing, &leaves.nodes, at, &mut roots);
    happen_again(method, source, &leaves, &given, tail, at);
    source.give(tail, given);
    let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(tail));
    roots.push(Root { node: end, position: at });
    method.set_roots(block, &roots);
}

/// Checks divisors at the beginning of `tail`, and makes what dies there. If that is joined with what is before it the checks fold away.
fn happen_again(
    method: &mut Method<'_>,
    source: &mut Source,
    leaves: &Leaves,
    given: &[(Node, Node)],
    tail: Block,
    position: SourcePos,
) {
    let mut roots = Vec::new();
    for divisor in &leaves.divisors {
        let Some((_, entry)) = given.iter().find(|(node, _)| node == divisor) else { continue };
        let (opcode, ty) = (method.opcode(*divisor), method.ty(*divisor));
        let node = method.add_node(opcode, ty, &[*entry], method.payload(*divisor));
        source.stand_for(node, *divisor);
        roots.push(Root { node, position });
    }
    for dying in &leaves.dying {
        let (opcode, ty) = (method.opcode(*dying), method.ty(*dying));
        let operands = method.value_operands(*dying).to_vec();
        let node = method.add_node(opcode, ty, &operands, method.payload(*dying));
        source.stand_for(node, *dying);
        roots.push(Root { node, position });
    }
    if !roots.is_empty() {
        roots.extend_from_slice(method.roots(tail));
        method.set_roots(tail, &roots);
    }
}

/// Sets the locals of what crosses, and says what is given behind.
pub(super) fn set_carriers(
    method: &mut Method<'_>,
    crossing: &mut Crossing,
    leaves: &[Node],
    at: SourcePos,
    roots: &mut Vec<Root>,
) -> Vec<(Node, Node)> {
    let mut given = Vec::with_capacity(leaves.len());
    for node in leaves {
        let Carrier { entry, is_set } = crossing.carrier(method, *node);
        if !is_set {
            let set = method.add_node(Opcode::Set, Type::Void, &[*node], method.payload(entry));
            roots.push(Root { node: set, position: at });
        }
        given.push((*node, entry));
    }
    given
}

/// Cuts extended blocks where edits made them too deep.
pub(super) fn cut_deep(method: &mut Method<'_>, source: &mut Source, crossing: &mut Crossing) {
    loop {
        let mut ends: Vec<Block> = Vec::new();
        let depths = depths(method);
        for block in method.blocks().filter(|block| depths[*block] == MAX_EXTENSION_DEPTH) {
            ends.extend(method.block(block).extends);
        }
        if ends.is_empty() {
            return;
        }
        ends.sort_unstable();
        ends.dedup();
        for block in ends {
            let tail = method.add_block(None, None);
            let position = method.roots(block).len().saturating_sub(1);
            split(method, source, crossing, (block, position), tail, 0);
        }
    }
}

/// By block: how many are above it in its extended block.
fn depths(method: &Method<'_>) -> EntityVec<Block, u16> {
    let mut depths: EntityVec<Block, Option<u16>> = EntityVec::filled(None, method.block_count());
    let mut path = Vec::new();
    for block in method.blocks() {
        let mut at = Some(block);
        while let Some(block) = at.filter(|block| depths[*block].is_none()) {
            path.push(block);
            at = method.block(block).extends;
        }
        let mut depth = at.and_then(|block| depths[block]).map_or(0, |depth| depth.saturating_add(1));
        while let Some(block) = path.pop() {
            depths[block] = Some(depth);
            depth = depth.saturating_add(1);
        }
    }
    let mut all = EntityVec::new();
    for depth in depths.values() {
        all.push(depth.unwrap_or(0));
    }
    all
}
