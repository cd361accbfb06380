//! Where in memory an access goes, as numbers of values: base + index × scale + offset.
//!
//! Addresses wrap, and so does everything here: `[a + 8]` and `[a - 8 + 16]` are one place, and two accesses at a known distance are
//! apart if the distance is enough both ways around.

use dagwood_il::{Access, Method, Node, Opcode, Payload, Properties, Type};

/// Steps that are taken to simplify one operand.
const MAX_STEPS: usize = 8;

/// An address, and how much is accessed there. Equal locations are one piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The number of the base, without the proofs that it has passed.
    pub base: u32,
    /// The number of the index.
    pub index: Option<u32>,
    /// What the index is multiplied by.
    pub scale: u8,
    /// Added to the address, in bytes.
    pub offset: i64,
    /// What is accessed.
    pub ty: Type,
}

impl Location {
    /// Where a load or store goes; none for other nodes. `number` gives the number of a value, apart from proofs.
    pub fn of(method: &Method<'_>, node: Node, number: impl Fn(Node) -> u32) -> Option<Location> {
        let Payload::Access(Access { offset, mut scale, .. }) = method.payload(node) else { return None };
        let stored = stored_value(method, node);
        let operands = &method.value_operands(node)[usize::from(stored.is_some())..];
        let ty = method.ty(stored.unwrap_or(node));
        let (mut base, mut index) = (*operands.first()?, operands.get(1).copied());
        let mut offset = i64::from(offset);
        for _ in 0..MAX_STEPS {
            base = without_proofs(method, base);
            if method.opcode(base) != Opcode::AddrAdd {
                break;
            }
            let moved = method.operands(base)[1];
            match method.const_bits(moved) {
                Some(bits) => offset = offset.wrapping_add(bits as i64),
                None if index.is_none() => (index, scale) = (Some(moved), 1),
                None => break,
            }
            base = method.operands(base)[0];
        }
        for _ in 0..MAX_STEPS {
            let Some(at) = index.map(|index| without_proofs(method, index)) else { break };
            index = Some(at);
            if let Some(bits) = method.const_bits(at) {
                offset = offset.wrapping_add((bits as i64).wrapping_mul(i64::from(scale)));
                (index, scale) = (None, 1);
            } else if method.opcode(at) == Opcode::Add
                && let [left, right] = method.operands(at)
                && let Some(bits) = method.const_bits(*right)
            {
                offset = offset.wrapping_add((bits as i64).wrapping_mul(i64::from(scale)));
                index = Some(*left);
            } else {
                break;
            }
        }
        Some(Location { base: number(base), index: index.map(number), scale, offset, ty })
    }

    /// Whether no byte belongs to both.
    pub fn is_apart_from(&self, other: &Location) -> bool {
        let is_comparable = (self.base, self.index, self.scale) == (other.base, other.index, other.scale);
        let distance = other.offset.wrapping_sub(self.offset) as u64;
        is_comparable
            && distance >= u64::from(self.ty.bytes())
            && distance.wrapping_neg() >= u64::from(other.ty.bytes())
    }
}

/// What a root that only writes one place writes there.
pub fn stored_value(method: &Method<'_>, node: Node) -> Option<Node> {
    let row = method.opcode(node).row();
    let is_store = matches!(method.payload(node), Payload::Access(_))
        && row.has(Properties::WRITES)
        && !row.has(Properties::READS);
    if is_store { method.operands(node).first().copied() } else { None }
}

/// The value that checks yielded, before the checks.
pub fn without_proofs(method: &Method<'_>, node: Node) -> Node {
    let mut node = node;
    while method.opcode(node).has(Properties::PROVES) {
        node = method.operands(node)[0];
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_at_one_address_are_apart_if_neither_reaches_the_other() {
        let at = |offset, ty| Location { base: 1, index: Some(2), scale: 4, offset, ty };
        let low = at(8, Type::I64);
        assert!(low.is_apart_from(&at(16, Type::I64)) && at(16, Type::I64).is_apart_from(&low));
        assert!(!low.is_apart_from(&at(15, Type::I8)) && !low.is_apart_from(&low));
        assert!(!at(1, Type::I64).is_apart_from(&low) && at(0, Type::I64).is_apart_from(&low));
        // Around the end of the address space.
        assert!(!at(i64::MAX, Type::I64).is_apart_from(&at(i64::MIN, Type::I8)));
        assert!(at(i64::MAX, Type::I8).is_apart_from(&at(i64::MIN, Type::I8)));
        // Nothing is known of other bases and indexes.
        assert!(!low.is_apart_from(&Location { base: 3, ..at(16, Type::I64) }));
        assert!(!low.is_apart_from(&Location { index: None, ..at(16, Type::I64) }));
    }
}
