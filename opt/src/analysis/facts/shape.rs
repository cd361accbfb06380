//! What the walks of [`facts`](super) ask of a method again and again: which nodes an extended block has, who uses them.
//!
//! *Cost.* Linear in nodes and operands, once for each method.

use dagwood_il::dataflow::heads_of_uses;
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Method, Node, Properties, Type};

/// Lists in one array.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists<T> {
    starts: Vec<u32>,
    entries: Vec<T>,
}

impl<T> Lists<T> {
    /// A list for each of these, in their order, which stand without gaps: what `add` adds.
    pub(super) fn build<K: Entity>(
        keys: impl Iterator<Item = K>,
        mut add: impl FnMut(K, &mut Vec<T>),
    ) -> Self {
        let (mut starts, mut entries) = (vec![0], Vec::new());
        for key in keys {
            add(key, &mut entries);
            starts.push(u32::try_from(entries.len()).expect("lists have fewer than 2^32 entries"));
        }
        Lists { starts, entries }
    }

    pub(super) fn get(&self, index: usize) -> &[T] {
        &self.entries[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    pub(super) fn of(&self, key: impl Entity) -> &[T] {
        self.get(key.index())
    }
}

impl Lists<Node> {
    /// The lists of the pairs of index and entry that `each` shows, in their order: it is asked twice.
    pub(super) fn collect(count: usize, each: impl Fn(&mut dyn FnMut(usize, Node))) -> Self {
        let mut starts = vec![0_u32; count + 1];
        each(&mut |index, _| starts[index + 1] += 1);
        for index in 0..count {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut entries = vec![Node::new(0); starts[count] as usize];
        each(&mut |index, node| {
            entries[next[index] as usize] = node;
            next[index] += 1;
        });
        Lists { starts, entries }
    }
}

/// Nodes by extended block, and users by node.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    nodes: Lists<Node>,
    users: Lists<Node>,
}

impl Shape {
    /// The shape of a method.
    pub(super) fn compute(method: &Method<'_>) -> Shape {
        let heads = heads_of_uses(method);
        let nodes = Lists::collect(method.block_count(), |add| {
            for (node, head) in heads.iter() {
                if let Some(head) = head {
                    add(head.index(), node);
                }
            }
        });
        let users = Lists::collect(method.node_count(), |add| {
            for node in method.nodes().filter(|node| heads[*node].is_some() && is_computed(method, *node)) {
                for operand in method.value_operands(node) {
                    add(operand.index(), node);
                }
            }
        });
        Shape { nodes, users }
    }

    /// The nodes that roots of the extended block need, ascending: operands before users.
    pub(super) fn nodes_of(&self, head: Block) -> &[Node] {
        self.nodes.of(head)
    }

    /// The nodes whose value depends on this one's and on nothing but operands.
    pub(super) fn users_of(&self, node: Node) -> &[Node] {
        self.users.of(node)
    }
}

/// Whether a node has a value that its operands alone decide.
fn is_computed(method: &Method<'_>, node: Node) -> bool {
    let row = method.opcode(node).row();
    let others = [Properties::READS, Properties::CALLS, Properties::ALLOCATES, Properties::FRAME_ONLY];
    method.ty(node) != Type::Void && !others.into_iter().any(|other| row.has(other))
}
