//! Folding: what is asked for may be there already, or be something simpler.
//!
//! ```text
//!   1. operands all constant   ──► evaluate
//!   2. constant on the left    ──► commute, so that every rule finds it on the right
//!   3. a rule of `rules::GROUPS` matches  ──► its right side
//!   4. a check that cannot fail, a branch whose way is known  ──► nothing, a goto
//! ```
//!
//! # Why
//!
//! Frontends lower one operation at a time and leave identities everywhere. Removing them here, once, means that no
//! pass has to know that `x + 0` exists.
//!
//! # Guarantees
//!
//! * The result has the type that was asked for and the same value for all operands (floats: modulo NaN payloads).
//! * Only what dominates by construction is used: operands, and operands of pure operands.
//! * Rules are directional: in one order of all terms each right side is smaller than its left side, so folding ends.
//!
//! # Cost
//!
//! For each node that is made, the rules of its opcode that ask for what its first operand is.

mod law;
mod pattern;
#[cfg(test)]
mod proof;
mod rules;

use crate::builder::Builder;
use crate::eval::{Value, evaluate};
use crate::method::{Node, Payload};
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

/// The node that stands for what is asked for, if it need not be built as asked.
pub(crate) fn fold(
    builder: &mut Builder<'_, '_>,
    opcode: Opcode,
    ty: Type,
    operands: &[Node],
    payload: Payload,
) -> Option<Node> {
    if operands.is_empty() {
        return None;
    }
    if opcode.has(Properties::ROOT) {
        return root(builder, opcode, operands, payload);
    }
    if payload != Payload::None {
        return None;
    }
    if let Some(bits) = constant(builder, opcode, ty, operands) {
        return Some(builder.constant(ty, bits));
    }
    if let [left, right, ref rest @ ..] = *operands
        && opcode.has(Properties::COMMUTES)
        && is_const(builder, left)
        && !is_const(builder, right)
    {
        let swapped: smallvec::SmallVec<[Node; 3]> =
            [right, left].into_iter().chain(rest.iter().copied()).collect();
        return Some(builder.emit(opcode, ty, &swapped, payload));
    }
    rules::apply(builder, opcode, ty, operands).map(|(node, _)| node)
}

fn is_const(builder: &Builder<'_, '_>, node: Node) -> bool {
    builder.method().const_bits(node).is_some()
}

/// The value of an operation on constants of up to 64 bits.
fn constant(builder: &Builder<'_, '_>, opcode: Opcode, ty: Type, operands: &[Node]) -> Option<u64> {
    if !(1..=3).contains(&operands.len()) || ty == Type::V128 {
        return None;
    }
    let method = builder.method();
    let mut values = smallvec::SmallVec::<[Value; 3]>::new();
    for operand in operands {
        values.push(Value::new(method.ty(*operand), method.const_bits(*operand)?.into()));
    }
    let value = evaluate(opcode, ty, &values)?;
    u64::try_from(value.bits()).ok()
}

/// A root that does nothing, or less than it says.
fn root(builder: &mut Builder<'_, '_>, opcode: Opcode, operands: &[Node], payload: Payload) -> Option<Node> {
    let first = builder.method().const_bits(operands[0]);
    match (opcode, payload) {
        (Opcode::Branch, Payload::Branch(then, otherwise)) => {
            let target = match first {
                Some(0) => otherwise,
                Some(_) => then,
                None if then == otherwise => then,
                None => return inverted_branch(builder, operands[0], payload),
            };
            Some(builder.emit(Opcode::Goto, Type::Void, &[], Payload::Goto(target)))
        }
        (Opcode::Check, _) if first.is_some_and(|bits| bits != 0) => Some(operands[0]),
        (Opcode::Check, _) => {
            // The condition of `ne x 0` is that of `x`, if `x` is wide enough to be one.
            let condition = compared_with_zero(builder, operands[0], Opcode::Ne)?;
            let rest: smallvec::SmallVec<[Node; 2]> =
                std::iter::once(condition).chain(operands[1..].iter().copied()).collect();
            Some(builder.emit(Opcode::Check, Type::Void, &rest, payload))
        }
        (Opcode::DivCheck, _) if builder.method().is_proven_nonzero(operands[0]) => Some(operands[0]),
        (Opcode::BoundsCheck, _) => {
            let length = builder.method().const_bits(*operands.get(1)?)?;
            (first? < length).then_some(operands[0])
        }
        _ => None,
    }
}

/// A branch on `x == 0` or `x != 0` is one on `x`.
fn inverted_branch(builder: &mut Builder<'_, '_>, condition: Node, payload: Payload) -> Option<Node> {
    let Payload::Branch(then, otherwise) = payload else { return None };
    if let Some(node) = compared_with_zero(builder, condition, Opcode::Ne) {
        return Some(builder.emit(Opcode::Branch, Type::Void, &[node], Payload::Branch(then, otherwise)));
    }
    let node = compared_with_zero(builder, condition, Opcode::Eq)?;
    Some(builder.emit(Opcode::Branch, Type::Void, &[node], Payload::Branch(otherwise, then)))
}

/// `x` where the node is `x == 0` or `x != 0`, as `comparison` says, and `x` can be a condition.
fn compared_with_zero(builder: &Builder<'_, '_>, node: Node, comparison: Opcode) -> Option<Node> {
    let method = builder.method();
    if method.opcode(node) != comparison {
        return None;
    }
    let [left, right] = *method.operands(node) else { return None };
    (method.const_bits(right) == Some(0) && method.ty(left) == Type::I32).then_some(left)
}
