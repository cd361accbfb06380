//! Which objects stay or go together, and which of these groups frame states would show too often.
//!
//! *Why.* A frame state shows an object with all that it reaches, as that is at one moment. A large group that changes between many frame
//! states is much more text than the method was.
//!
//! *Cost.* Linear in stores and in what frame states list.

use std::collections::BTreeSet;

use dagwood_il::entity::EntityVec;
use dagwood_il::{Method, Module, Node, Properties};

use crate::analysis::escape::{Escapes, Object, Origin, Use};

/// How many operands virtual objects may take for each node of the method, besides [`MIN_SHOWN`].
const SHOWN_PER_NODE: u64 = 4;
/// How many they may take in the smallest method.
const MIN_SHOWN: u64 = 2048;

/// Objects with those that they may hold or be held by, or that are merged with them.
pub(super) struct Groups {
    /// By object: another one of its group, or itself.
    next: EntityVec<Object, Object>,
}

impl Groups {
    pub(super) fn find(module: &Module, method: &Method<'_>, escapes: &Escapes) -> Groups {
        let mut groups = Groups { next: EntityVec::new() };
        for (object, _) in escapes.objects() {
            groups.next.push(object);
        }
        for (left, right) in escapes.merged() {
            groups.join(left, right);
        }
        for root in method.blocks().flat_map(|block| method.roots(block)) {
            for found in escapes.uses(module, method, root.node) {
                let (Use::Is(holder) | Use::Store(holder, ..)) = found else { continue };
                for held in method.value_operands(root.node).iter().filter_map(|node| escapes.object(*node)) {
                    groups.join(holder, held);
                }
            }
        }
        groups
    }

    fn join(&mut self, left: Object, right: Object) {
        let (left, right) = (self.first(left), self.first(right));
        self.next[left.max(right)] = left.min(right);
    }

    /// The first of an object's group.
    pub(super) fn first(&self, mut object: Object) -> Object {
        while self.next[object] != object {
            object = self.next[object];
        }
        object
    }

    fn of(&self, first: Object) -> impl Iterator<Item = Object> {
        self.next.keys().filter(move |object| self.first(*object) == first)
    }

    /// How many objects of a group the method makes.
    pub(super) fn made(&self, escapes: &Escapes, first: Object) -> usize {
        self.of(first).filter(|object| matches!(escapes.data(*object).origin, Origin::Made(..))).count()
    }

    /// The first of each group that frame states would show too often; `spend` is told of work.
    pub(super) fn shown_too_often(
        &self,
        method: &Method<'_>,
        escapes: &Escapes,
        spend: &mut dyn FnMut(u64) -> bool,
    ) -> BTreeSet<Object> {
        let mut times = EntityVec::filled(0_u64, self.next.len());
        for root in method.blocks().flat_map(|block| method.roots(block)) {
            let Some(frame) = method.frame_of(root.node) else { continue };
            let (shown, work) = self.shown(method, escapes, frame);
            spend(work);
            shown.into_iter().for_each(|first| times[first] += 1);
        }
        let limit = SHOWN_PER_NODE * method.node_count() as u64 + MIN_SHOWN;
        let size = |first: Object| -> u64 {
            self.of(first).map(|object| 1 + escapes.data(object).shape.fields.len() as u64).sum()
        };
        let is_too_often =
            |first: &Object| times[*first] > 0 && times[*first].saturating_mul(size(*first)) > limit;
        self.next.keys().filter(is_too_often).collect()
    }

    /// The groups that a frame state lists objects of, itself or its parents, and how many operands that were.
    fn shown(&self, method: &Method<'_>, escapes: &Escapes, frame: Node) -> (BTreeSet<Object>, u64) {
        let (mut firsts, mut seen, mut work) = (BTreeSet::new(), BTreeSet::from([frame]), 0);
        let mut pending = vec![frame];
        while let Some(node) = pending.pop() {
            work += 1 + method.operands(node).len() as u64;
            for operand in method.operands(node) {
                if method.opcode(*operand).has(Properties::FRAME_ONLY) {
                    pending.extend(Some(*operand).filter(|operand| seen.insert(*operand)));
                } else if let Some(object) = escapes.object(*operand) {
                    firsts.insert(self.first(object));
                }
            }
        }
        (firsts, work)
    }
}
