//! What a pure node may be instead, given what is known where it is needed.
//!
//! ```text
//!   sdiv x, y      x and y not negative              udiv x, y
//!   and x, 255     x at most 255                     x
//!   select c, x, y c known                           x
//! ```
//!
//! Which laws hold whatever the operands, the builder knows. Here are those that need a fact.

use dagwood_il::{Method, Node, Opcode};

use crate::analysis::facts::Known;

/// Something that has the value of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A constant.
    Constant(u64),
    /// Another node, which the node is computed from.
    Node(Node),
    /// An operation on these.
    Operation(Opcode, Vec<Node>),
}

/// What a node that floats may be instead, if that is better.
pub(super) fn form(known: &Known<'_, '_>, node: Node) -> Option<Form> {
    let (method, opcode) = (known.method(), known.method().opcode(node));
    if opcode == Opcode::Const || method.ty(node).bits() > 64 {
        return None;
    }
    let constant = known.fact(node).as_constant().or_else(|| known.comparison(node).map(u64::from));
    if let Some(bits) = constant {
        return Some(Form::Constant(bits));
    }
    match *method.operands(node) {
        [a] => unary(known, method, node, a),
        [a, b] => binary(known, opcode, a, b),
        [condition, then, otherwise] if opcode == Opcode::Select => {
            let fact = known.fact(condition);
            let holds = known.comparison(condition);
            if fact.is_nonzero() || holds == Some(true) {
                Some(Form::Node(then))
            } else if fact.umax() == 0 || holds == Some(false) {
                Some(Form::Node(otherwise))
            } else {
                None
            }
        }
        _ => None,
    }
}

fn unary(known: &Known<'_, '_>, method: &Method<'_>, node: Node, a: Node) -> Option<Form> {
    let (opcode, fact) = (method.opcode(node), known.fact(a));
    if let (Opcode::Wrap, [wide]) = (method.opcode(a), method.operands(a))
        && method.ty(*wide) == method.ty(node)
    {
        // Nothing was cut off, so extending gives it back.
        let (wide_fact, mask) = (known.fact(*wide), method.ty(a).mask());
        let largest = (mask >> 1) as i64;
        let is_same = match opcode {
            Opcode::UExt => wide_fact.umax() <= mask,
            Opcode::SExt => -largest - 1 <= wide_fact.smin() && wide_fact.smax() <= largest,
            _ => false,
        };
        if is_same {
            return Some(Form::Node(*wide));
        }
    }
    match opcode {
        Opcode::SExt if fact.is_nonnegative() => Some(Form::Operation(Opcode::UExt, vec![a])),
        Opcode::Abs if fact.is_nonnegative() => Some(Form::Node(a)),
        _ => None,
    }
}

fn binary(known: &Known<'_, '_>, opcode: Opcode, a: Node, b: Node) -> Option<Form> {
    let (left, right) = (known.fact(a), known.fact(b));
    let unsigned = |opcode| {
        let both = left.is_nonnegative() && right.is_nonnegative();
        both.then(|| Form::Operation(opcode, vec![a, b]))
    };
    let smaller = |is_signed: bool, wants_smaller: bool| {
        if known.is_at_most(a, b, is_signed, 0) {
            Some(Form::Node(if wants_smaller { a } else { b }))
        } else if known.is_at_most(b, a, is_signed, 0) {
            Some(Form::Node(if wants_smaller { b } else { a }))
        } else {
            None
        }
    };
    match opcode {
        Opcode::SRem | Opcode::URem if is_remainder(known, opcode, a, b) => Some(Form::Node(a)),
        Opcode::SDiv => unsigned(Opcode::UDiv),
        Opcode::SRem => unsigned(Opcode::URem),
        Opcode::SShr if left.is_nonnegative() => Some(Form::Operation(Opcode::UShr, vec![a, b])),
        // Each bit is as in `a`, since it is zero there or one in `b`; and the other way round.
        Opcode::And if left.zeros() | right.ones() == u64::MAX => Some(Form::Node(a)),
        Opcode::And if right.zeros() | left.ones() == u64::MAX => Some(Form::Node(b)),
        Opcode::Or if (left.ones() | right.zeros()) & left.ty().mask() == left.ty().mask() => {
            Some(Form::Node(a))
        }
        Opcode::Or if (right.ones() | left.zeros()) & left.ty().mask() == left.ty().mask() => {
            Some(Form::Node(b))
        }
        Opcode::UMin => smaller(false, true),
        Opcode::UMax => smaller(false, false),
        Opcode::SMin => smaller(true, true),
        Opcode::SMax => smaller(true, false),
        _ => None,
    }
}

/// Whether a remainder is its dividend.
fn is_remainder(known: &Known<'_, '_>, opcode: Opcode, a: Node, b: Node) -> bool {
    let may_be_negative = !known.fact(a).is_nonnegative() || !known.fact(b).is_nonnegative();
    !(opcode == Opcode::SRem && may_be_negative) && known.is_at_most(a, b, false, 1)
}
