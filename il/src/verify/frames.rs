//! Frame states, the virtual objects in them, and the guards that leave by them.

use super::{Cx, Errors, Rule};
use crate::effects::{Effects, effects};
use crate::entity::EntityVec;
use crate::layout::ObjectKind;
use crate::method::{Assumption, Block, FrameMode, GuardInfo, Node, Payload};
use crate::module::SymbolKind;
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

pub(super) fn check(cx: &Cx<'_, '_>, errors: &mut Errors) {
    let mut has_guards = false;
    for node in cx.used_nodes() {
        match (cx.method.opcode(node), cx.method.payload(node)) {
            (Opcode::Frame, _) => check_frame(cx, node, errors),
            (Opcode::Virtual, _) => check_virtual(cx, node, errors),
            (_, Payload::Guard(info)) => {
                has_guards = true;
                check_guard(cx, node, info, errors);
            }
            _ => {}
        }
    }
    if has_guards {
        check_moments(cx, errors);
    }
}

fn check_frame(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let method = cx.method;
    let Payload::Frame(info) = method.payload(node) else { return };
    let data = method.frame(info);
    let (locals, stack, monitors) =
        (usize::from(data.locals), usize::from(data.stack), usize::from(data.monitors));
    let operands = method.operands(node);
    let has_parent = operands.last().is_some_and(|last| method.opcode(*last) == Opcode::Frame);
    let slots = &operands[..operands.len() - usize::from(has_parent)];
    if slots.len() != locals + stack + monitors {
        return errors.add(
            Rule::FrameSlots,
            cx.subject(node),
            format_args!(
                "it says {locals} locals, {stack} on the stack and {monitors} monitors, but has {} slots",
                slots.len()
            ),
        );
    }
    for (index, slot) in slots.iter().enumerate() {
        let is_monitor = index >= locals + stack;
        let ty = method.ty(*slot);
        let is_fit = match method.opcode(*slot) {
            Opcode::Virtual => true,
            Opcode::Dead => !is_monitor,
            _ if is_monitor => ty == Type::Ref,
            _ => ty != Type::Void,
        };
        if !is_fit {
            let what = method.opcode(*slot);
            let wanted = if is_monitor { "a reference or `virtual`" } else { "a value, `dead` or `virtual`" };
            errors.add(
                Rule::FrameSlots,
                cx.subject(node),
                format_args!("slot {index} is {slot}, a `{what}` of {ty}; it should be {wanted}"),
            );
        }
    }
}

fn check_virtual(cx: &Cx<'_, '_>, node: Node, errors: &mut Errors) {
    let method = cx.method;
    if let Payload::Virtual(info) = method.payload(node)
        && let ObjectKind::Object(class) = method.virtual_object(info).kind
        && let class = &cx.module.classes[class]
        && class.is_interface
    {
        errors.add(
            Rule::FrameSlots,
            cx.subject(node),
            format_args!("`@{}` is an interface; a virtual object has a class", class.name),
        );
    }
    if let Payload::Virtual(info) = method.payload(node)
        && let ObjectKind::Array(ty @ (Type::Ref | Type::Void)) = method.virtual_object(info).kind
    {
        errors.add(
            Rule::FrameSlots,
            cx.subject(node),
            format_args!("it is an array of {ty}; one of references has their class, others hold values"),
        );
    }
    for field in method.operands(node) {
        let what = method.opcode(*field);
        if method.ty(*field) == Type::Void && !matches!(what, Opcode::Dead | Opcode::Virtual) {
            errors.add(
                Rule::FrameSlots,
                cx.subject(node),
                format_args!("a field is {field}, a `{what}`; it should be a value, `dead` or `virtual`"),
            );
        }
    }
}

fn check_guard(cx: &Cx<'_, '_>, node: Node, info: GuardInfo, errors: &mut Errors) {
    let method = cx.method;
    let opcode = method.opcode(node);
    let data = method.guard(info);
    let mut fail = |wrong: &str| {
        errors.add(Rule::Guard, cx.subject(node), format_args!("`{opcode}` {wrong}"));
    };
    if data.assumptions.is_empty() {
        fail("assumes nothing; it should name an assumption");
    }
    for assumption in data.assumptions {
        if let Assumption::NotWritten(symbol) = assumption
            && !matches!(cx.module.symbols[*symbol].kind, SymbolKind::Static(_) | SymbolKind::Field { .. })
        {
            fail("assumes that memory is not written which is neither a static nor a field");
        }
    }
    if opcode.has(Properties::TERMINATES) {
        if data.successors.is_none() {
            fail("ends its block; it should have successors");
        }
        return;
    }
    if data.successors.is_some() {
        fail("has successors; `guard_br` is for these");
    }
    match method.frame_of(node).map(|frame| method.payload(frame)) {
        None => fail("has no frame state to leave by"),
        Some(Payload::Frame(frame)) if method.frame(frame).mode == FrameMode::Raise => {
            fail("leaves by a frame state of mode `raise`; it should be `reexecute` or `after`");
        }
        Some(_) => {}
    }
}

/// Where a frame state was first carried on the path in hand.
#[derive(Clone, Copy)]
struct FirstUse {
    block: Block,
    /// How many roots before it were observable.
    observed: u32,
}

/// Whether a frame state that is carried here is of a moment no later than this. One of mode `after` is only if it is left
/// by: its moment is the end of an operation, of which what carries it may be but a part.
fn has_moment(mode: FrameMode, effects: &Effects<'_>) -> bool {
    mode == FrameMode::Reexecute || mode == FrameMode::After && effects.leaves
}

/// Checks that nothing observable stands between the moment of a frame state and a root that leaves by it.
fn check_moments(cx: &Cx<'_, '_>, errors: &mut Errors) {
    let method = cx.method;
    let mut first_uses: EntityVec<Node, Option<FirstUse>> = EntityVec::filled(None, method.node_count());
    let mut at_ends: EntityVec<Block, u32> = EntityVec::filled(0, method.block_count());
    // Blocks come after those above them: what is recorded of a block that is not above this one is of another path.
    for block in &cx.shape.order {
        let mut observed = method.block(*block).extends.map_or(0, |parent| at_ends[parent]);
        for root in method.roots(*block) {
            let effects = effects(cx.module, method, root.node);
            if let Some(frame) = method.frame_of(root.node)
                && let Payload::Frame(info) = method.payload(frame)
                && has_moment(method.frame(info).mode, &effects)
            {
                let first = match first_uses[frame] {
                    Some(first) if cx.shape.is_above(method, first.block, *block) => first,
                    _ => FirstUse { block: *block, observed },
                };
                first_uses[frame] = Some(first);
                if effects.leaves && first.observed != observed {
                    errors.add(
                        Rule::FrameMoment,
                        cx.subject(root.node),
                        format_args!(
                            "it leaves by {frame}, of a moment in {} before a root that writes or synchronises; \
                             it should take the frame of its own place",
                            first.block
                        ),
                    );
                }
            }
            observed += u32::from(effects.is_observable());
        }
        at_ends[*block] = observed;
    }
}
