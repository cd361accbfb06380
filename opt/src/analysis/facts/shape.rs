//! What the walks of [`facts`](super) ask of a method again and again: which nodes an extended block has, who uses them.
//!
//! *Cost.* Linear in nodes and operands, once for each method.

use dagwood_il::dataflow::heads_of_uses;
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Method, Node, Properties, Type};

/// Lists of nodes in one array.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    starts: Vec<u32>,
    nodes: Vec<Node>,
}

impl Lists {
    /// The lists of these pairs of index and entry, in their order.
    pub(super) fn collect<I: Iterator<Item = (usize, Node)>>(count: usize, pairs: impl Fn() -> I) -> Lists {
        let mut starts = vec![0_u32; count + 1];
        for (index, _) in pairs() {
            starts[index + 1] += 1;
        }
        for index in 0..count {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut nodes = vec![Node::new(0); starts[count] as usize];
        for (index, node) in pairs() {
            nodes[next[index] as usize] = node;
            next[index] += 1;
        }
        Lists { starts, nodes }
    }

    pub(super) fn get(&self, index: usize) -> &[Node] {
        &self.nodes[self.starts[index] as usize..self.starts[index + 1] as usize]
    }
}

/// Nodes by extended block, and users by node.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    nodes: Lists,
    users: Lists,
}

impl Shape {
    /// The shape of a method.
    pub(super) fn compute(method: &Method<'_>) -> Shape {
        let heads = heads_of_uses(method);
        let nodes = || heads.iter().filter_map(|(node, head)| Some((head.as_ref()?.index(), node)));
        let nodes = Lists::collect(method.block_count(), nodes);
        let computed = || method.nodes().filter(|node| heads[*node].is_some() && is_computed(method, *node));
        let users = || {
            computed().flat_map(|node| {
                method.value_operands(node).iter().map(move |operand| (operand.index(), node))
            })
        };
        let users = Lists::collect(method.node_count(), users);
        Shape { nodes, users }
    }

    /// The nodes that roots of the extended block need, ascending: operands before users.
    pub(super) fn nodes_of(&self, head: Block) -> &[Node] {
        self.nodes.get(head.index())
    }

    /// The nodes whose value depends on this one's and on nothing but operands.
    pub(super) fn users_of(&self, node: Node) -> &[Node] {
        self.users.get(node.index())
    }
}

/// Whether a node has a value that its operands alone decide.
fn is_computed(method: &Method<'_>, node: Node) -> bool {
    let row = method.opcode(node).row();
    let others = [Properties::READS, Properties::CALLS, Properties::ALLOCATES, Properties::FRAME_ONLY];
    method.ty(node) != Type::Void && !others.into_iter().any(|other| row.has(other))
}
