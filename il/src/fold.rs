//! Simplification of nodes as they are built.

use crate::builder::Builder;
use crate::method::{Node, Payload};
use crate::opcode::Opcode;
use crate::types::Type;

/// The node that already is what is asked for, if there is one.
pub(crate) fn fold(_: &mut Builder<'_, '_>, _: Opcode, _: Type, _: &[Node], _: Payload) -> Option<Node> {
    None
}
