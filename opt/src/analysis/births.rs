//! Since when a value is what it is: the last place that has to be passed before it can be computed, and at which it becomes another one.
//!
//! ```text
//!   b1: %i = entry $i      a merge: born at the head of b1, in each turn anew
//!       %2 = mul %i, %n    born with %i, the younger of its operands; %n was there when the method was entered
//! ```
//!
//! *Cost.* Linear in nodes.

use dagwood_il::edit::Point;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Cfg, Dominators, Method, Node, Properties};

use super::memory::{Memory, State};
use super::reaching::Reaching;
use super::uses::Uses;
use super::value_numbers::{Number, ValueNumbers};

/// Since when each number is what it is.
#[derive(Clone, Debug)]
pub struct Births {
    births: Vec<Option<Point>>,
    /// By root: the place behind it.
    places: EntityVec<Node, Option<Point>>,
}

impl Births {
    /// The births of a method's values.
    pub fn compute(
        method: &Method<'_>,
        cfg: &Cfg,
        dominators: &Dominators,
        uses: &Uses,
        reaching: &Reaching,
        memory: &Memory,
        numbers: &ValueNumbers,
    ) -> Births {
        let mut places: EntityVec<Node, Option<Point>> = EntityVec::filled(None, method.node_count());
        for block in cfg.order() {
            for (after, root) in (1..).zip(method.roots(*block)) {
                places[root.node] = Some(Point { block: *block, position: after });
            }
        }
        let mut births = Births { births: vec![None; numbers.bound()], places };
        for block in cfg.order() {
            let head = Some(Point { block: *block, position: 0 });
            for merge in reaching.merges_at(*block) {
                births.births[numbers.merge_value(merge)] = head;
            }
            for node in uses.of(*block) {
                if numbers.number(*node).map(Number::index) != Some(node.index()) {
                    continue;
                }
                let row = method.opcode(*node).row();
                let is_computed = !method.is_root(*node) || row.has(Properties::FUNCTION);
                births.births[node.index()] = if row.has(Properties::HEAD) {
                    head
                } else if let Some((_, state)) = memory.before(*node).filter(|_| row.has(Properties::READS)) {
                    let state = match state {
                        State::Entry => None,
                        State::Root(root) => births.places[root],
                        State::Join(block) => Some(Point { block, position: 0 }),
                    };
                    younger(dominators, state, births.of_operands(method, numbers, dominators, *node))
                } else if is_computed {
                    births.of_operands(method, numbers, dominators, *node)
                } else {
                    births.places[*node]
                };
            }
        }
        births
    }

    /// The place after which a value can be computed and at which it becomes another one; none if it is there from the method's entry.
    pub fn of(&self, number: Number) -> Option<Point> {
        self.births[number.index()]
    }

    /// The place behind a root; none for what control does not reach.
    pub fn behind(&self, root: Node) -> Option<Point> {
        self.places[root]
    }

    fn of_operands(
        &self,
        method: &Method<'_>,
        numbers: &ValueNumbers,
        dominators: &Dominators,
        node: Node,
    ) -> Option<Point> {
        let operands = method.value_operands(node).iter().filter_map(|operand| numbers.number(*operand));
        operands.fold(None, |youngest, number| younger(dominators, youngest, self.of(number)))
    }
}

/// The later of two places on one path.
pub fn younger(dominators: &Dominators, left: Option<Point>, right: Option<Point>) -> Option<Point> {
    let (Some(a), Some(b)) = (left, right) else { return left.or(right) };
    let key = |point: Point| (dominators.depth(point.block), point.position);
    Some(if key(a) >= key(b) { a } else { b })
}
