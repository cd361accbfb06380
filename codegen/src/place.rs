//! Where pure nodes are computed: in the block nearest to their uses from which all of them are reached.
//!
//! ```text
//!   b1 ──► b2 ── use      one use: computed in b2, where it is first needed
//!    └───► b3 ── use      two: computed in b1, before its end
//! ```
//!
//! Operands stand before their users in the node table, so one walk from its end sees every use of a node before the
//! node itself. The common block of two is found in the tree of the extended block, along parents and *jumps*: each
//! block knows one ancestor further up, chosen so that any distance is covered in logarithmically many steps
//! (E. Myers, "An applicative random-access stack", 1983).
//!
//! A use by a frame state places nothing. Constants of integers and addresses of things known beforehand are not placed
//! either: they are computed again in every block that uses them, which costs less than a register held from far away.

use dagwood_il::entity::Entity;
use dagwood_il::{Block, Cfg, Method, Node, Opcode, Payload, Properties, Type};

/// No block, or no node.
const NONE: u32 = u32::MAX;

/// What is known of one node.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// The block in which it is computed.
    block: u32,
    /// The next node of the block's list.
    next: u32,
    /// The last node seen to use it.
    user: u32,
    /// How many uses were seen; more than two count as two.
    uses: u8,
    /// Whether it is a root.
    is_root: bool,
    /// Whether nothing in its block uses it, only blocks further down.
    is_late: bool,
}

const UNUSED: Placed =
    Placed { block: NONE, next: NONE, user: NONE, uses: 0, is_root: false, is_late: false };

/// A block in the tree of its extended block.
#[derive(Clone, Copy, Debug, Default)]
struct Branch {
    parent: u32,
    jump: u32,
    depth: u32,
    head: u32,
}

/// Where pure nodes are computed.
#[derive(Default)]
pub(crate) struct Placement {
    nodes: Vec<Placed>,
    branches: Vec<Branch>,
    lists: Vec<u32>,
}

impl Placement {
    /// Finds the places of all nodes of `method`.
    ///
    /// # Errors
    ///
    /// A node that uses one of another extended block.
    pub(crate) fn compute(&mut self, method: &Method<'_>, cfg: &Cfg) -> Result<(), Node> {
        self.nodes.clear();
        self.nodes.resize(method.node_count(), UNUSED);
        self.lists.clear();
        self.lists.resize(method.block_count(), NONE);
        self.plant(method, cfg);
        for block in cfg.order() {
            for root in method.roots(*block) {
                let placed = &mut self.nodes[root.node.index()];
                placed.block = index(*block);
                placed.is_root = true;
            }
        }
        for node in method.nodes().rev() {
            let at = self.nodes[node.index()].block;
            if at == NONE {
                continue;
            }
            for operand in method.value_operands(node) {
                let found = self.meet(operand.index(), node, at);
                if self.branches[found as usize].head != self.branches[at as usize].head {
                    return Err(node);
                }
            }
            self.list(method, node);
        }
        Ok(())
    }

    /// Notes a use of `operand` in block `at`. Returns where the operand is to be found after that, or a block of another
    /// extended block if it cannot be.
    fn meet(&mut self, operand: usize, user: Node, at: u32) -> u32 {
        let placed = &mut self.nodes[operand];
        placed.user = index(user);
        placed.uses = (placed.uses + 1).min(2);
        let before = placed.block;
        if placed.is_root {
            return before;
        }
        if before == NONE || before == at {
            placed.block = at;
            placed.is_late = false;
            return at;
        }
        let Some(common) = self.common(before, at) else { return before };
        let placed = &mut self.nodes[operand];
        placed.block = common;
        placed.is_late = common != at && (common != before || placed.is_late);
        common
    }

    /// Puts a node whose place is final on its block's list, if nothing else makes sure that it is computed there.
    fn list(&mut self, method: &Method<'_>, node: Node) {
        let placed = &mut self.nodes[node.index()];
        if method.opcode(node).has(Properties::HEAD) {
            placed.block = self.branches[placed.block as usize].head;
        } else if !placed.is_late || is_cheap(method, node) {
            return;
        }
        placed.next = std::mem::replace(&mut self.lists[placed.block as usize], index(node));
    }

    /// Gives every block its place in the tree. Parents stand before their children in the order.
    fn plant(&mut self, method: &Method<'_>, cfg: &Cfg) {
        self.branches.clear();
        self.branches.resize(method.block_count(), Branch::default());
        for block in cfg.order() {
            let own = index(*block);
            self.branches[own as usize] = match method.block(*block).extends {
                None => Branch { parent: own, jump: own, depth: 0, head: own },
                Some(parent) => {
                    let parent = index(parent);
                    let Branch { jump, depth, head, .. } = self.branches[parent as usize];
                    let far = self.branches[jump as usize];
                    let is_even = depth - far.depth == far.depth - self.branches[far.jump as usize].depth;
                    let jump = if is_even && depth > 0 { far.jump } else { parent };
                    Branch { parent, jump, depth: depth + 1, head }
                }
            };
        }
    }

    /// The deepest block from which both are reached; none if they are not of one extended block.
    fn common(&self, mut left: u32, mut right: u32) -> Option<u32> {
        let branch = |block: u32| self.branches[block as usize];
        if branch(left).head != branch(right).head {
            return None;
        }
        if branch(left).depth < branch(right).depth {
            (left, right) = (right, left);
        }
        let depth = branch(right).depth;
        while branch(left).depth > depth {
            let Branch { parent, jump, .. } = branch(left);
            left = if branch(jump).depth >= depth { jump } else { parent };
        }
        while left != right {
            let (a, b) = (branch(left), branch(right));
            (left, right) = if a.jump != b.jump { (a.jump, b.jump) } else { (a.parent, b.parent) };
        }
        Some(left)
    }

    /// The first node to be computed in `block` whatever its roots ask for; for values of the head, known from the start.
    pub(crate) fn first(&self, block: Block) -> Option<Node> {
        node(self.lists[block.index()])
    }

    /// The node after `before` on its block's list. Operands stand before users.
    pub(crate) fn next(&self, before: Node) -> Option<Node> {
        node(self.nodes[before.index()].next)
    }

    /// The only use of a node, if it has just one.
    pub(crate) fn only_user(&self, of: Node) -> Option<Node> {
        let placed = self.nodes[of.index()];
        if placed.uses == 1 { node(placed.user) } else { None }
    }
}

/// Whether a node is computed again in every block that uses it.
pub(crate) fn is_cheap(method: &Method<'_>, node: Node) -> bool {
    match method.opcode(node) {
        Opcode::Const => {
            matches!(method.payload(node), Payload::Const(_))
                && !matches!(method.ty(node), Type::F32 | Type::F64)
        }
        Opcode::Context
        | Opcode::SymbolAddress
        | Opcode::MethodAddress
        | Opcode::ClassAddress
        | Opcode::SlotAddress => true,
        _ => false,
    }
}

fn index(entity: impl Entity) -> u32 {
    u32::try_from(entity.index()).expect("tables stay below 2^32 - 1 entries")
}

fn node(index: u32) -> Option<Node> {
    (index != NONE).then(|| Node::new(index as usize))
}
