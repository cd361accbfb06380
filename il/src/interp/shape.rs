//! Whether a node has the operands, types and payload that its row asks for.

use crate::entity::Entity;
use crate::method::{Method, Node, Payload};
use crate::module::{Module, Signature};
use crate::opcode::{Opcode, Operand, Outcome, PayloadKind, Properties, Row};
use crate::raise::RaiseKind;
use crate::types::Type;

/// Checks that the method is declared and that its parameters are as declared.
pub(super) fn check_parameters(module: &Module, method: &Method<'_>) -> Result<(), String> {
    let Some(signature) = signature_of(module, Payload::Method(method.id())) else {
        return Err("is not declared".into());
    };
    let params = method.locals().take(method.param_count()).map(|local| method.local(local).ty);
    if !params.eq(signature.params.iter().copied()) {
        return Err("its parameters are not those of its signature".into());
    }
    if method.block_count() == 0 {
        return Err("has no blocks".into());
    }
    Ok(())
}

/// The signature that a call's payload names, if it is a call's and names one.
pub(super) fn signature_of(module: &Module, payload: Payload) -> Option<&Signature> {
    let id = match payload {
        Payload::Method(method) => module.methods.get(method)?.signature,
        Payload::Native(native) => module.natives.get(native)?.signature,
        Payload::Signature(signature) => signature,
        Payload::Dispatch(dispatch) => {
            module.classes.get(dispatch.class)?.slots.get(dispatch.slot as usize)?.signature
        }
        _ => return None,
    };
    module.signatures.get(id)
}

/// Checks a node whose operands may be anything.
pub(super) fn check_node(module: &Module, method: &Method<'_>, node: Node) -> Result<(), String> {
    let opcode = method.opcode(node);
    let row = opcode.row();
    if method.operands(node).iter().any(|operand| operand.index() >= method.node_count()) {
        return Err("has an operand that is not of this method".into());
    }
    if !is_payload(module, method, node, row) {
        return Err(format!("`{opcode}` has a payload that is not what it should be"));
    }
    let signature = signature_of(module, method.payload(node)).filter(|_| opcode.has(Properties::CALLS));
    let ty = method.ty(node);
    let is_outcome = match row.outcome {
        Outcome::Nothing => ty == Type::Void,
        Outcome::Fixed(fixed) => ty == fixed,
        Outcome::Own(class) => class.contains(ty),
        Outcome::Signature => signature.is_some_and(|signature| signature.outcome() == ty),
    };
    if !is_outcome {
        return Err(format!("`{opcode}` has the type {ty}"));
    }
    // Those of a frame state are looked at only where one leaves by it.
    if opcode.has(Properties::FRAME_ONLY) {
        return Ok(());
    }
    let operands: Vec<Type> = method.value_operands(node).iter().map(|operand| method.ty(*operand)).collect();
    let fixed = check_operands(row, ty, &operands)?;
    let rest = &operands[fixed..];
    if let Some(signature) = signature {
        // A dispatching call's receiver is both in its row and the first of its signature's parameters.
        let is_dispatch = row.payload == PayloadKind::Dispatch;
        let args = if is_dispatch { &operands[..] } else { rest };
        if args != signature.params.as_slice() {
            return Err(format!("`{opcode}` has arguments that its signature does not"));
        }
    } else if opcode != Opcode::Return && !rest.is_empty() {
        return Err(format!("`{opcode}` has {} operands", operands.len()));
    }
    check_particulars(module, method, node, &operands)
}

/// Checks operands against a row's, and says how many those are.
fn check_operands(row: &Row, ty: Type, operands: &[Type]) -> Result<usize, String> {
    let opcode = row.opcode;
    let mut expected = row.operands.len();
    if row.has(Properties::OPTIONAL_LAST) && operands.len() + 1 == expected {
        expected -= 1;
    }
    if operands.len() < expected {
        return Err(format!("`{opcode}` has {} operands", operands.len()));
    }
    for (index, (operand, actual)) in row.operands.iter().zip(operands).enumerate() {
        let is_right = match operand {
            Operand::Own => *actual == ty,
            Operand::Of(class) => class.contains(*actual),
            Operand::Like => index > 0 && *actual == operands[index - 1],
        };
        if !is_right {
            return Err(format!("`{opcode}` has an operand {index} of type {actual}"));
        }
    }
    let from = operands.first().map_or(0, |first| first.bits());
    let is_wrong = row.has(Properties::WIDENS) && from >= ty.bits()
        || row.has(Properties::NARROWS) && from <= ty.bits()
        || row.has(Properties::SAME_WIDTH) && from != ty.bits();
    if is_wrong {
        return Err(format!("`{opcode}` cannot give {ty} from its operand"));
    }
    Ok(expected)
}

/// What rows cannot say.
fn check_particulars(
    module: &Module,
    method: &Method<'_>,
    node: Node,
    operands: &[Type],
) -> Result<(), String> {
    let opcode = method.opcode(node);
    let own = signature_of(module, Payload::Method(method.id()));
    let is_right = match (opcode, method.payload(node)) {
        (Opcode::Entry, Payload::Local(local)) => method.local(local).ty == method.ty(node),
        (Opcode::Set, Payload::Local(local)) => [method.local(local).ty] == operands,
        (Opcode::Return, _) => own.is_some_and(|own| own.results.as_slice() == operands),
        (Opcode::TailCall | Opcode::TailCallIndirect, payload) => signature_of(module, payload)
            .is_some_and(|callee| own.is_some_and(|own| own.results == callee.results)),
        (Opcode::Result, Payload::Index(index)) => {
            let call = method.operands(node)[0];
            let is_call = method.opcode(call).has(Properties::CALLS);
            let results = signature_of(module, method.payload(call)).map(|signature| &signature.results);
            let ty = results.and_then(|results| results.get(index as usize));
            is_call && index > 0 && ty == Some(&method.ty(node))
        }
        _ => true,
    };
    if is_right { Ok(()) } else { Err(format!("`{opcode}` does not have the types it must have here")) }
}

/// Whether a node's payload is of the row's kind and refers to what exists.
fn is_payload(module: &Module, method: &Method<'_>, node: Node, row: &Row) -> bool {
    match (row.payload, method.payload(node)) {
        (PayloadKind::None, Payload::None)
        | (PayloadKind::Access, Payload::Access(_))
        | (PayloadKind::Index, Payload::Index(_))
        | (PayloadKind::Goto, Payload::Goto(_))
        | (PayloadKind::Branch, Payload::Branch(..))
        | (PayloadKind::Switch, Payload::Switch(_))
        | (PayloadKind::Frame, Payload::Frame(_))
        | (PayloadKind::Virtual, Payload::Virtual(_))
        | (PayloadKind::Guard, Payload::Guard(_)) => true,
        (PayloadKind::Const, Payload::Const(_)) => method.ty(node) != Type::V128,
        (PayloadKind::Const, Payload::Wide(_)) => method.ty(node) == Type::V128,
        (PayloadKind::Local, Payload::Local(local)) => local.index() < method.locals().len(),
        (PayloadKind::Slot, Payload::Slot(slot)) => slot.index() < method.slots().len(),
        (PayloadKind::Symbol, Payload::Symbol(symbol)) => symbol.index() < module.symbols.len(),
        (PayloadKind::Class, Payload::Class(class)) => class.index() < module.classes.len(),
        (PayloadKind::Element, Payload::Element(ty)) => !matches!(ty, Type::Void | Type::Ref),
        (PayloadKind::Method, payload @ Payload::Method(_))
        | (PayloadKind::Native, payload @ Payload::Native(_))
        | (PayloadKind::Signature, payload @ Payload::Signature(_))
        | (PayloadKind::Dispatch, payload @ Payload::Dispatch(_)) => signature_of(module, payload).is_some(),
        (PayloadKind::Raise, Payload::Raise(kind, _)) => match row.raises.is_empty() {
            true => !matches!(kind, RaiseKind::Guest | RaiseKind::Fault),
            false => row.raises.contains(kind),
        },
        _ => false,
    }
}
