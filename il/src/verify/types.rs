//! Each used node against its row: operand and result types, payloads, signatures.

use super::{Cx, Errors, Rule};
use crate::method::{Node, Payload, Place};
use crate::module::{Module, Signature, SymbolKind};
use crate::opcode::{Class, Opcode, Operand, Outcome, Properties};
use crate::raise::{KindSet, RaiseKind};
use crate::types::Type;

pub(super) fn check(cx: &Cx<'_, '_>, errors: &mut Errors) {
    for node in cx.used_nodes() {
        if check_frame_operands(cx, node, errors) {
            check_operands(cx, node, errors);
            check_result(cx, node, errors);
            check_width(cx, node, errors);
            check_payload(cx, node, errors);
        }
    }
}

/// Whether what belongs in frame states is nowhere else.
fn check_frame_operands(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) -> bool {
    let method = cx.method;
    let opcode = method.opcode(node);
    if opcode.has(Properties::FRAME_ONLY) {
        return true;
    }
    let stray = method
        .value_operands(node)
        .iter()
        .find(|operand| method.opcode(**operand).has(Properties::FRAME_ONLY));
    if let Some(stray) = stray {
        let what = method.opcode(*stray);
        errors.add(
            Rule::FrameOperand,
            cx.subject(node),
            format_args!(
                "`{opcode}` uses {stray}, a `{what}`, which is no value; it belongs in a frame state"
            ),
        );
    }
    stray.is_none()
}

fn check_operands(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let method = cx.method;
    let row = method.opcode(node).row();
    let values = method.value_operands(node);
    for (index, (operand, wanted)) in values.iter().zip(row.operands).enumerate() {
        let ty = method.ty(*operand);
        let expected = match wanted {
            Operand::Own => Wanted::One(method.ty(node)),
            Operand::Of(class) => Wanted::Of(*class),
            Operand::Like => Wanted::One(method.ty(values[index - 1])),
        };
        if !expected.allows(ty) {
            errors.add(
                Rule::OperandType,
                cx.subject(node),
                format_args!(
                    "operand {index} of `{}`, {operand}, is {ty}; it should be {expected}",
                    row.name
                ),
            );
        }
    }
}

/// A type or one of several.
enum Wanted {
    One(Type),
    Of(Class),
}

impl Wanted {
    fn allows(&self, ty: Type) -> bool {
        match self {
            Wanted::One(wanted) => *wanted == ty,
            Wanted::Of(class) => class.contains(ty),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::One(ty) => write!(f, "{ty}"),
            Wanted::Of(class) => {
                for (index, ty) in class.types().enumerate() {
                    write!(f, "{}{ty}", if index > 0 { " or " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

fn check_result(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let opcode = cx.method.opcode(node);
    let ty = cx.method.ty(node);
    let expected = match opcode.row().outcome {
        Outcome::Nothing => Wanted::One(Type::Void),
        Outcome::Fixed(ty) => Wanted::One(ty),
        Outcome::Own(class) => Wanted::Of(class),
        Outcome::Signature => match callee_signature(cx.module, cx.method.payload(node)) {
            Some(signature) => Wanted::One(signature.outcome()),
            None => return,
        },
    };
    if !expected.allows(ty) {
        errors.add(
            Rule::ResultType,
            cx.subject(node),
            format_args!("`{opcode}` is {ty}; it should be {expected}"),
        );
    }
}

fn check_width(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let opcode = cx.method.opcode(node);
    let Some(operand) = cx.method.value_operands(node).first() else { return };
    let (from, to) = (cx.method.ty(*operand), cx.method.ty(node));
    let wrong = if opcode.has(Properties::WIDENS) && to.bits() <= from.bits() {
        "widen"
    } else if opcode.has(Properties::NARROWS) && to.bits() >= from.bits() {
        "narrow"
    } else if opcode.has(Properties::SAME_WIDTH) && to.bits() != from.bits() {
        "keep the width"
    } else if opcode.has(Properties::SAME_WIDTH) && (to == Type::Ref) != (from == Type::Ref) {
        "not turn references into something else, or something else into references"
    } else {
        return;
    };
    errors.add(
        Rule::Width,
        cx.subject(node),
        format_args!("`{opcode}` goes from {from} to {to}; it should {wrong}"),
    );
}

fn check_payload(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let method = cx.method;
    let opcode = method.opcode(node);
    match method.payload(node) {
        Payload::Const(_) | Payload::Wide(_) => check_constant(cx, node, errors),
        Payload::Local(local) => {
            let held = method.local(local);
            let ty = method.value_operands(node).first().map_or(method.ty(node), |value| method.ty(*value));
            if ty != held.ty {
                errors.add(
                    Rule::LocalType,
                    cx.subject(node),
                    format_args!("`{opcode}` of `${}` has {ty}; the local holds {}", held.name, held.ty),
                );
            }
        }
        Payload::Access(_) | Payload::Element(_) => check_access(cx, node, errors),
        Payload::Symbol(symbol) => {
            let data = &cx.module.symbols[symbol];
            let is_placeless = matches!(data.kind, SymbolKind::Field { .. } | SymbolKind::Element(_));
            if opcode == Opcode::SymbolAddress && is_placeless {
                errors.add(
                    Rule::Access,
                    cx.subject(node),
                    format_args!(
                        "`@{}` has no address of its own; only its object or array has one",
                        data.name
                    ),
                );
            }
        }
        Payload::Raise(kind, _) => check_raise_kind(cx, node, kind, errors),
        Payload::Class(class) if opcode == Opcode::New && cx.module.classes[class].is_interface => {
            let name = &cx.module.classes[class].name;
            errors.add(
                Rule::ClassKind,
                cx.subject(node),
                format_args!("`@{name}` is an interface; objects are made of classes"),
            );
        }
        Payload::Dispatch(dispatch) => {
            let data = &cx.module.classes[dispatch.class];
            if data.is_interface != (opcode == Opcode::CallInterface) {
                let is = if data.is_interface { "an interface" } else { "a class" };
                errors.add(
                    Rule::ClassKind,
                    cx.subject(node),
                    format_args!("`@{}` is {is}, which `{opcode}` does not call through", data.name),
                );
            }
            check_call(cx, node, errors);
        }
        _ if opcode.has(Properties::CALLS) => check_call(cx, node, errors),
        Payload::Index(index) => check_result_number(cx, node, index, errors),
        _ if opcode == Opcode::Return => {
            let results = &cx.module.method_signature(method.id()).results;
            check_values(cx, node, method.value_operands(node), results, Rule::Return, errors);
        }
        _ => {}
    }
}

fn check_constant(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let ty = cx.method.ty(node);
    let wrong = match cx.method.payload(node) {
        Payload::Wide(_) if ty != Type::V128 => "128 bits are a constant of v128",
        Payload::Const(_) if ty == Type::V128 => "a constant of v128 has 128 bits",
        Payload::Const(bits) if bits & !ty.mask() != 0 => "the bits above the type's width should be zero",
        Payload::Const(bits) if ty == Type::Ref && bits != 0 => "a reference constant can only be null",
        _ => return,
    };
    errors.add(Rule::Constant, cx.subject(node), format_args!("a constant of {ty}: {wrong}"));
}

fn check_access(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let method = cx.method;
    let access = match method.payload(node) {
        Payload::Access(access) => access,
        Payload::Element(Type::Void | Type::Ref) => {
            let message = format_args!(
                "the elements of an array are values, and references are those of `newobjectarray`"
            );
            return errors.add(Rule::Access, cx.subject(node), message);
        }
        _ => return,
    };
    let row = method.opcode(node).row();
    let values = method.value_operands(node);
    let has_index = values.len() == row.operands.len();
    if !matches!(access.scale, 1 | 2 | 4 | 8) || !has_index && access.scale != 1 {
        errors.add(
            Rule::Access,
            cx.subject(node),
            format_args!("the scale is {}; it should be 1, 2, 4 or 8, and 1 without an index", access.scale),
        );
    }
    let Place::Symbol(symbol) = access.place else { return };
    let data = &cx.module.symbols[symbol];
    let held = match data.kind {
        SymbolKind::Static(ty) | SymbolKind::Field { ty, .. } | SymbolKind::Element(ty) => ty,
        SymbolKind::Region | SymbolKind::Opaque => return,
    };
    let ty = if row.outcome == Outcome::Nothing { method.ty(values[0]) } else { method.ty(node) };
    if ty.bits() > held.bits() || (ty == Type::Ref) != (held == Type::Ref) {
        errors.add(
            Rule::Access,
            cx.subject(node),
            format_args!("`{}` of {ty}, but `@{}` holds {held}", row.name, data.name),
        );
    }
}

fn check_raise_kind(cx: &Cx<'_, '_>, node: Node, kind: RaiseKind, errors: &mut Errors) {
    let row = cx.method.opcode(node).row();
    match row.raises.iter().next() {
        Some(lowest) if kind != lowest => errors.add(
            Rule::RaiseKind,
            cx.subject(node),
            format_args!("`{}` raises `{kind}`; it should say `{lowest}`", row.name),
        ),
        None if KindSet::GUEST.union(KindSet::FAULT).contains(kind) => errors.add(
            Rule::RaiseKind,
            cx.subject(node),
            format_args!("`{}` raises `{kind}`, which is not for programs to raise so", row.name),
        ),
        _ => {}
    }
}

/// The signature that a call's payload names.
fn callee_signature(module: &Module, payload: Payload) -> Option<&Signature> {
    match payload {
        Payload::Method(id) => Some(module.method_signature(id)),
        Payload::Native(id) => Some(module.native_signature(id)),
        Payload::Signature(id) => Some(&module.signatures[id]),
        Payload::Dispatch(dispatch) => {
            let slot = &module.classes[dispatch.class].slots[dispatch.slot as usize];
            Some(&module.signatures[slot.signature])
        }
        _ => None,
    }
}

fn check_call(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let payload = cx.method.payload(node);
    let row = cx.method.opcode(node).row();
    let Some(signature) = callee_signature(cx.module, payload) else { return };
    // An indirect call's first operands are the callee and its context; a receiver is an argument like others.
    let skipped = if matches!(payload, Payload::Signature(_)) { row.operands.len() } else { 0 };
    let arguments = &cx.method.value_operands(node)[skipped..];
    check_values(cx, node, arguments, &signature.params, Rule::CallArguments, errors);
    if row.has(Properties::TERMINATES) {
        let own = &cx.module.method_signature(cx.method.id()).results;
        if signature.results != *own {
            errors.add(
                Rule::TailCall,
                cx.subject(node),
                format_args!(
                    "the callee returns {}; this method returns {}",
                    Types(&signature.results),
                    Types(own)
                ),
            );
        }
    }
}

/// Compares the types of values with those that a signature asks for.
fn check_values(
    cx: &Cx<'_, '_>,
    node: Node,
    values: &[Node],
    wanted: &[Type],
    rule: Rule,
    errors: &mut Errors,
) {
    let is_same = values.len() == wanted.len()
        && values.iter().zip(wanted).all(|(value, wanted)| cx.method.ty(*value) == *wanted);
    if !is_same {
        let types: Vec<Type> = values.iter().map(|value| cx.method.ty(*value)).collect();
        let opcode = cx.method.opcode(node);
        errors.add(
            rule,
            cx.subject(node),
            format_args!("`{opcode}` has {}; the signature says {}", Types(&types), Types(wanted)),
        );
    }
}

/// Prints a list of types.
struct Types<'t>(&'t [Type]);

impl std::fmt::Display for Types<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(")?;
        for (index, ty) in self.0.iter().enumerate() {
            write!(f, "{}{ty}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}

fn check_result_number(cx: &Cx<'_, '_>, node: Node, number: u32, errors: &mut Errors) {
    let method = cx.method;
    let Some(call) = method.operands(node).first() else { return };
    let opcode = method.opcode(*call);
    let is_call = opcode.has(Properties::CALLS) && !opcode.has(Properties::TERMINATES);
    let results = match callee_signature(cx.module, method.payload(*call)) {
        Some(signature) if is_call => &signature.results,
        _ => {
            let message = format_args!("its operand is `{opcode}`; it should be a call");
            return errors.add(Rule::ResultNumber, cx.subject(node), message);
        }
    };
    let ty = method.ty(node);
    match results.get(number as usize) {
        Some(wanted) if number > 0 && ty == *wanted => {}
        Some(wanted) if number > 0 => errors.add(
            Rule::ResultNumber,
            cx.subject(node),
            format_args!("it is {ty}; result {number} of the call is {wanted}"),
        ),
        _ => errors.add(
            Rule::ResultNumber,
            cx.subject(node),
            format_args!("there is no further result {number}; the call has {}", Types(results)),
        ),
    }
}
