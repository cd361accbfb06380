//! Values that die: nobody may use them at or after the next yield point.
//!
//! ```text
//!   %p = ref_address %r      born: the object may move at the next yield point
//!   %q = addr_add %p, 8      dies with it, as does every value that is computed from it
//!   %x = load [%q]           does not: what memory holds, or a call returns, is another value
//! ```
//!
//! Which operations give birth to such values the table says ([`Properties::DIES_AT_YIELD`]), and this is the one place that says what
//! is computed from them. So no local, no memory, no frame state and no caller ever has one, and who moves or keeps values
//! asks here instead of naming opcodes.
//!
//! *Cost.* One look at each node, where there are no such operations; two walks over all nodes where there are. Of few values it can be asked
//! at the price of what they are computed from.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::entity::{Entity, EntityVec};
use crate::method::{Method, Node};
use crate::opcode::{Properties, Row};

/// Which values of a method die at the next yield point.
#[derive(Clone, Debug, Default)]
pub struct Dying {
    /// By node; shorter than the method where none dies.
    dies: EntityVec<Node, bool>,
    /// How many nodes have been looked at.
    known: usize,
}

/// Whether what is computed from a dying value dies with it.
pub(crate) fn inherits(row: &Row) -> bool {
    !row.has(Properties::READS) && !row.has(Properties::CALLS)
}

/// Whether one of these values dies at the next yield point: as [`Dying`] says, but looking only at what they are computed from.
pub(crate) fn any_dies(method: &Method<'_>, values: &[Node]) -> bool {
    let mut seen: HashSet<Node, BuildHasherDefault<FxHasher>> = HashSet::default();
    let mut pending = values.to_vec();
    while let Some(node) = pending.pop() {
        let opcode = method.opcode(node);
        if !inherits(opcode.row()) || !seen.insert(node) {
            continue;
        }
        if opcode.has(Properties::DIES_AT_YIELD) {
            return true;
        }
        pending.extend(method.operands(node));
    }
    false
}

impl Dying {
    /// Finds them.
    pub fn compute(method: &Method<'_>) -> Dying {
        let mut dying = Dying::default();
        dying.extend(method, |node| node);
        dying
    }

    /// Looks at the nodes that were added since, whose operands are what `resolve` says.
    pub(crate) fn extend(&mut self, method: &Method<'_>, resolve: impl Fn(Node) -> Node) {
        let (first, count) = (std::mem::replace(&mut self.known, method.node_count()), method.node_count());
        let fresh = || (first..count).map(Node::new);
        if self.dies.is_empty() && !fresh().any(|node| method.opcode(node).has(Properties::DIES_AT_YIELD)) {
            return;
        }
        self.dies.resize(count, false);
        let mut has_changed = true;
        while std::mem::take(&mut has_changed) {
            for node in fresh().filter(|node| inherits(method.opcode(*node).row())) {
                let dies = method.opcode(node).has(Properties::DIES_AT_YIELD)
                    || method.operands(node).iter().any(|operand| self.has(resolve(*operand)));
                has_changed |= dies && !std::mem::replace(&mut self.dies[node], true);
            }
        }
    }

    /// Whether a value dies at the next yield point.
    pub fn has(&self, node: Node) -> bool {
        self.dies.get(node).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;

    use super::*;
    use crate::text;

    #[test]
    fn looking_down_from_a_value_finds_what_looking_at_all_does() {
        let arena = Bump::new();
        let source = "symbol @ints region
        native @length (addr) -> (i64)
        method @f ($n: i32) -> (i64) {
        b0:
          %n = entry.i32 $n
          %a = newarray i32, %n
          %p = ref_address %a
          %twelve = const.i64 12
          %q = addr_add %p, %twelve
          %x = load.i64 @ints [%q]
          %length = call_native @length(%q)
          %sum = add.i64 %x, %length
          return %sum
        }";
        let method = text::parse(source, &arena).expect("the test's source is text").bodies.remove(0).method;
        let dying = Dying::compute(&method);
        for node in method.nodes() {
            assert_eq!(any_dies(&method, &[node]), dying.has(node), "{node}");
        }
        assert_eq!(method.nodes().filter(|node| dying.has(*node)).count(), 2);
        let all: Vec<Node> = method.nodes().collect();
        assert!(any_dies(&method, &all) && !any_dies(&method, &[]));
    }
}
