//! About how many cycles it takes to compute what floats, with all that it is computed from.
//!
//! *Cost.* Linear in operands.

use dagwood_il::entity::EntityVec;
use dagwood_il::{Method, Node, Properties};

use super::Analysis;
use crate::cx::PassCx;

/// The cycles that something slow takes.
pub const SLOW: u32 = 4;

/// Cycles by node; none for roots, and for what costs nothing.
#[derive(Clone, Debug)]
pub struct Weights {
    weights: EntityVec<Node, u32>,
}

impl Weights {
    /// The weights of a method's nodes.
    pub fn compute(method: &Method<'_>) -> Weights {
        let mut weights: EntityVec<Node, u32> = EntityVec::filled(0, method.node_count());
        for node in method.nodes() {
            let opcode = method.opcode(node);
            let operands = method.operands(node);
            if operands.is_empty() || method.is_root(node) || opcode.has(Properties::FRAME_ONLY) {
                continue;
            }
            let own = if opcode.has(Properties::SLOW) { SLOW } else { 1 };
            weights[node] = operands.iter().map(|operand| weights[*operand]).fold(own, u32::saturating_add);
        }
        Weights { weights }
    }

    /// The cycles of a node.
    pub fn of(&self, node: Node) -> u32 {
        self.weights[node]
    }
}

impl Analysis for Weights {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Weights {
        cx.spend(method.node_count() as u64 / 4);
        Weights::compute(method)
    }
}
