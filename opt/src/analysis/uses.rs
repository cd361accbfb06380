//! Which nodes each extended block needs, in the order of their making: what every walk over values asks.
//!
//! *Cost.* Linear in nodes and operands.

use dagwood_il::dataflow::heads_of_uses;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Method, Node};

use super::Analysis;
use crate::cx::PassCx;

/// The nodes that roots need, by extended block.
#[derive(Clone, Debug)]
pub struct Uses {
    heads: EntityVec<Node, Option<Block>>,
    /// By block, where the nodes of its extended block begin; one more for their end.
    starts: Vec<u32>,
    nodes: Vec<Node>,
}

impl Uses {
    /// The nodes of a method.
    pub fn compute(method: &Method<'_>) -> Uses {
        let heads = heads_of_uses(method);
        let mut starts = vec![0_u32; method.block_count() + 1];
        for head in heads.values().flatten() {
            starts[head.index() + 1] += 1;
        }
        for block in 0..method.block_count() {
            starts[block + 1] += starts[block];
        }
        let mut next = starts.clone();
        let mut nodes = vec![Node::new(0); next[method.block_count()] as usize];
        for (node, head) in heads.iter() {
            if let Some(head) = head {
                let slot = &mut next[head.index()];
                nodes[*slot as usize] = node;
                *slot += 1;
            }
        }
        Uses { heads, starts, nodes }
    }

    /// By node, the head of the extended block of which a root needs it: what [`heads_of_uses`] says.
    pub fn heads(&self) -> &EntityVec<Node, Option<Block>> {
        &self.heads
    }

    /// The nodes that the roots of a head's extended block need: operands before their users. Of a block that is no head, none.
    pub fn of(&self, head: Block) -> &[Node] {
        &self.nodes[self.starts[head.index()] as usize..self.starts[head.index() + 1] as usize]
    }
}

impl Analysis for Uses {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Uses {
        cx.spend(method.node_count() as u64 / 2);
        Uses::compute(method)
    }
}
