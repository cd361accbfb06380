//! What nodes and blocks name is there, so that later stages can look without asking.

use super::{Errors, Rule, Subject};
use crate::entity::Entity;
use crate::layout::ObjectKind;
use crate::method::{Assumption, Dispatch, Method, Node, Payload, Place};
use crate::module::{ClassId, MethodId, Module, SignatureId};
use crate::opcode::{Opcode, PayloadKind, Properties};

pub(super) fn check(module: &Module, method: &Method<'_>, errors: &mut Errors) {
    if !has_method(module, method.id()) {
        errors.add(
            Rule::Exists,
            Subject::Method,
            format_args!("the module declares no {} with a signature", method.id()),
        );
    }
    for node in method.nodes() {
        check_node(module, method, node, errors);
    }
    let (nodes, blocks) = (method.node_count(), method.block_count());
    for block in method.blocks() {
        let data = method.block(block);
        if let Some(parent) = data.extends
            && parent.index() >= blocks
        {
            errors.add(
                Rule::Exists,
                Subject::Block(block),
                format_args!("it extends {parent}, but there are only {blocks} blocks"),
            );
        }
        if let Some(list) = data.handlers
            && !(method.has_handlers(list)
                && method.handler_list(list).iter().all(|handler| is_class_or_none(module, handler.class)))
        {
            errors.add(
                Rule::Exists,
                Subject::Block(block),
                format_args!("its {list} names a block or class that is not there"),
            );
        }
        for (position, root) in (0..).zip(data.roots) {
            if root.node.index() >= nodes {
                errors.add(
                    Rule::Exists,
                    Subject::Root(block, position, root.node),
                    format_args!("there are only {nodes} nodes"),
                );
            }
        }
    }
}

fn check_node(module: &Module, method: &Method<'_>, node: Node, errors: &mut Errors) {
    let row = method.opcode(node).row();
    let payload = method.payload(node);
    let subject = Subject::Node(node);
    if kind_of(payload) != row.payload {
        errors.add(
            Rule::Payload,
            subject,
            format_args!(
                "`{}` has a payload of kind {:?}; it should be {:?}",
                row.name,
                kind_of(payload),
                row.payload
            ),
        );
    }
    if !(method.has(payload) && is_declared(module, method, payload)) {
        errors.add(
            Rule::Exists,
            subject,
            format_args!("`{}` names {payload:?}, which is not there", row.name),
        );
    }
    let operands = method.operands(node);
    let mut all_exist = true;
    for operand in operands {
        if operand.index() >= method.node_count() {
            all_exist = false;
            let nodes = method.node_count();
            errors.add(
                Rule::Exists,
                subject,
                format_args!("it uses {operand}, but there are only {nodes} nodes"),
            );
        } else if *operand >= node && !are_virtual(method, node, *operand) {
            errors.add(
                Rule::OperandOrder,
                subject,
                format_args!("it uses {operand}, which should stand before it in the node table"),
            );
        }
    }
    if !all_exist {
        return;
    }
    let (most, count) = (row.operands.len(), method.value_operands(node).len());
    let least = if row.has(Properties::OPTIONAL_LAST) { most - 1 } else { most };
    if count < least || count > most && !row.has(Properties::VARIADIC) {
        let frame = if row.has(Properties::FRAME) { " and perhaps a frame state" } else { "" };
        errors.add(
            Rule::OperandCount,
            subject,
            format_args!(
                "`{}` has {count} operands; it should have {}{}{frame}",
                row.name,
                Least(least, most),
                if row.has(Properties::VARIADIC) { " or more" } else { "" },
            ),
        );
    }
}

/// Prints how many operands there should be.
struct Least(usize, usize);

impl std::fmt::Display for Least {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Least(least, most) if least == most => write!(f, "{most}"),
            Least(least, most) => write!(f, "{least} or {most}"),
        }
    }
}

fn kind_of(payload: Payload) -> PayloadKind {
    match payload {
        Payload::None => PayloadKind::None,
        Payload::Const(_) | Payload::Wide(_) => PayloadKind::Const,
        Payload::Local(_) => PayloadKind::Local,
        Payload::Slot(_) => PayloadKind::Slot,
        Payload::Access(_) => PayloadKind::Access,
        Payload::Symbol(_) => PayloadKind::Symbol,
        Payload::Method(_) => PayloadKind::Method,
        Payload::Native(_) => PayloadKind::Native,
        Payload::Signature(_) => PayloadKind::Signature,
        Payload::Dispatch(_) => PayloadKind::Dispatch,
        Payload::Class(_) => PayloadKind::Class,
        Payload::Element(_) => PayloadKind::Element,
        Payload::Index(_) => PayloadKind::Index,
        Payload::Raise(..) => PayloadKind::Raise,
        Payload::Goto(_) => PayloadKind::Goto,
        Payload::Branch(..) => PayloadKind::Branch,
        Payload::Switch(_) => PayloadKind::Switch,
        Payload::Frame(_) => PayloadKind::Frame,
        Payload::Virtual(_) => PayloadKind::Virtual,
        Payload::Guard(_) => PayloadKind::Guard,
    }
}

/// Whether all that a payload names in the module is there. What it names in the method must be.
fn is_declared(module: &Module, method: &Method<'_>, payload: Payload) -> bool {
    if !method.has(payload) {
        return false;
    }
    match payload {
        Payload::Symbol(symbol) => module.symbols.get(symbol).is_some(),
        Payload::Access(access) => match access.place {
            Place::Symbol(symbol) => module.symbols.get(symbol).is_some(),
            Place::Slot(_) => true,
        },
        Payload::Method(id) => has_method(module, id),
        Payload::Native(id) => {
            module.natives.get(id).is_some_and(|decl| has_signature(module, decl.signature))
        }
        Payload::Signature(id) => has_signature(module, id),
        Payload::Dispatch(Dispatch { class, slot }) => has_slot(module, class, slot),
        Payload::Class(class) => module.classes.get(class).is_some(),
        Payload::Frame(info) => module.methods.get(method.frame(info).method).is_some(),
        Payload::Virtual(info) => match method.virtual_object(info).kind {
            ObjectKind::Object(class) | ObjectKind::ObjectArray(class) => module.classes.get(class).is_some(),
            ObjectKind::Array(_) => true,
        },
        Payload::Guard(info) => method.guard(info).assumptions.iter().all(|assumption| match *assumption {
            Assumption::NotExtended(class) => module.classes.get(class).is_some(),
            Assumption::NotOverridden(class, slot) => has_slot(module, class, slot),
            Assumption::NotWritten(symbol) => module.symbols.get(symbol).is_some(),
            Assumption::NotRedefined(id) => module.methods.get(id).is_some(),
            Assumption::Custom(_) => true,
        }),
        _ => true,
    }
}

fn has_signature(module: &Module, id: SignatureId) -> bool {
    module.signatures.get(id).is_some()
}

fn has_method(module: &Module, id: MethodId) -> bool {
    module.methods.get(id).is_some_and(|decl| has_signature(module, decl.signature))
}

fn has_slot(module: &Module, class: ClassId, slot: u32) -> bool {
    let slot = module.classes.get(class).and_then(|class| class.slots.get(slot as usize));
    slot.is_some_and(|slot| has_signature(module, slot.signature))
}

fn is_class_or_none(module: &Module, class: Option<ClassId>) -> bool {
    class.is_none_or(|class| module.classes.get(class).is_some())
}

/// Whether both nodes are virtual objects, which may hold each other.
fn are_virtual(method: &Method<'_>, holder: Node, held: Node) -> bool {
    method.opcode(holder) == Opcode::Virtual && method.opcode(held) == Opcode::Virtual
}
