//! One node as a line.
//!
//! It prints whatever a node holds, well-formed or not, for lines are what messages show: an index without an entry is
//! `?` and its number, and what has another shape than its row asks for is printed payload first.

use super::*;
use crate::layout::ObjectKind;
use crate::method::*;
use crate::opcode::{Outcome, Row};
use crate::text::constant;
use crate::text::words::{ASSUMPTIONS, FRAME_MODES, Shape, about, shape};

/// Prints nodes of one method.
pub(super) struct Lines<'a, 'x> {
    pub(super) module: &'x Module,
    pub(super) method: &'x Method<'a>,
    /// What nodes are called; by their indexes if none.
    pub(super) numbers: Option<&'x EntityVec<Node, Option<u32>>>,
}

impl Lines<'_, '_> {
    /// Appends the line of a node, without its position; with its name if it has a value or `is_used`.
    pub(super) fn push(&self, out: &mut String, node: Node, is_used: bool) {
        let method = self.method;
        let (row, ty) = (method.opcode(node).row(), method.ty(node));
        if ty != Type::Void || is_used {
            self.push_value(out, node);
            *out += " = ";
        }
        *out += row.name;
        let is_plain = match row.outcome {
            Outcome::Own(_) => false,
            Outcome::Fixed(fixed) => ty == fixed,
            Outcome::Nothing | Outcome::Signature => ty == Type::Void,
        };
        if !is_plain {
            push(out, format_args!(".{ty}"));
        }
        let operands = method.value_operands(node);
        match (shape(row), method.payload(node)) {
            (Shape::Trailing, payload) => self.push_trailing(out, row, operands, payload),
            (Shape::Callee, payload) => {
                out.push(' ');
                self.push_payload(out, ty, payload);
                *out += if matches!(payload, Payload::Signature(_)) { " (" } else { "(" };
                self.push_values(out, operands);
                out.push(')');
            }
            (Shape::Address, Payload::Access(access)) => self.push_access(out, row, operands, access),
            (Shape::Lists, Payload::Frame(info)) => self.push_frame(out, operands, method.frame(info)),
            (Shape::Lists, Payload::Virtual(info)) => {
                let VirtualData { id, kind } = method.virtual_object(info);
                push(out, format_args!(" {id} "));
                *out += if kind.element().is_some() { "array " } else { "" };
                match kind {
                    ObjectKind::Array(ty) => push(out, ty),
                    ObjectKind::Object(class) | ObjectKind::ObjectArray(class) => self.push_class(out, class),
                }
                out.push(' ');
                self.push_list(out, operands);
            }
            (_, Payload::None) => {
                *out += if operands.is_empty() { "" } else { " " };
                self.push_values(out, operands);
            }
            (_, payload) => {
                out.push(' ');
                self.push_payload(out, ty, payload);
                *out += if operands.is_empty() { "" } else { ", " };
                self.push_values(out, operands);
            }
        }
        if let Some(frame) = method.frame_of(node) {
            *out += " frame ";
            self.push_value(out, frame);
        }
    }

    // ---- operands ----

    fn push_value(&self, out: &mut String, node: Node) {
        match self.numbers {
            None => push(out, node),
            Some(numbers) => match numbers[node] {
                Some(number) => push(out, format_args!("%{number}")),
                None => push(out, format_args!("%?{}", node.index())),
            },
        }
    }

    fn push_values(&self, out: &mut String, nodes: &[Node]) {
        for (index, node) in nodes.iter().enumerate() {
            push_comma(out, index);
            match self.method.opcode(*node) {
                Opcode::Dead => *out += Opcode::Dead.name(),
                _ => self.push_value(out, *node),
            }
        }
    }

    /// `[%a, %b]`
    fn push_list(&self, out: &mut String, nodes: &[Node]) {
        out.push('[');
        self.push_values(out, nodes);
        out.push(']');
    }

    // ---- declarations ----

    fn push_class(&self, out: &mut String, id: ClassId) {
        push_declared(out, self.module.classes.get(id).map(|data| &data.name), id);
    }

    fn push_symbol(&self, out: &mut String, id: SymbolId) {
        push_declared(out, self.module.symbols.get(id).map(|data| &data.name), id);
    }

    fn push_callee(&self, out: &mut String, id: MethodId) {
        push_declared(out, self.module.methods.get(id).map(|decl| &decl.name), id);
    }

    /// `@C.slot`
    fn push_dispatch(&self, out: &mut String, class: ClassId, slot: u32) {
        self.push_class(out, class);
        push_slot(out, self.module.classes.get(class), slot);
    }

    fn push_slot_name(&self, out: &mut String, slot: Slot) {
        let name = self.method.slots().find(|other| *other == slot).map(|slot| self.method.slot(slot).name);
        push_local(out, name, slot);
    }

    // ---- payloads ----

    /// A payload that stands first.
    fn push_payload(&self, out: &mut String, ty: Type, payload: Payload) {
        match payload {
            Payload::Const(bits) => *out += &constant::print(ty, bits.into()),
            Payload::Wide(wide) => *out += &constant::print(Type::V128, self.method.wide(wide)),
            Payload::Local(local) => {
                let has_local = local.index() < self.method.locals().len();
                push_local(out, has_local.then(|| self.method.local(local).name), local);
            }
            Payload::Slot(slot) => self.push_slot_name(out, slot),
            Payload::Symbol(id) => self.push_symbol(out, id),
            Payload::Class(id) => self.push_class(out, id),
            Payload::Method(id) => self.push_callee(out, id),
            Payload::Native(id) => push_declared(out, self.module.natives.get(id).map(|decl| &decl.name), id),
            Payload::Element(ty) => push(out, ty),
            Payload::Signature(id) => match self.module.signatures.get(id) {
                Some(signature) => push_signature(out, signature),
                None => push(out, format_args!("?{id}")),
            },
            Payload::Dispatch(Dispatch { class, slot }) => self.push_dispatch(out, class, slot),
            Payload::Guard(info) => self.push_guard(out, self.method.guard(info)),
            // Not of a row whose payload stands first.
            _ => push(out, format_args!("?{payload:?}")),
        }
    }

    fn push_guard(&self, out: &mut String, guard: GuardData<'_>) {
        out.push('[');
        for (index, assumption) in guard.assumptions.iter().enumerate() {
            push_comma(out, index);
            *out += word_for(ASSUMPTIONS, &about(assumption)).unwrap_or_default();
            out.push(' ');
            match *assumption {
                Assumption::NotExtended(class) => self.push_class(out, class),
                Assumption::NotOverridden(class, slot) => self.push_dispatch(out, class, slot),
                Assumption::NotWritten(symbol) => self.push_symbol(out, symbol),
                Assumption::NotRedefined(method) => self.push_callee(out, method),
                Assumption::Custom(number) => push(out, number),
            }
        }
        out.push(']');
        if let Some((holds, failed)) = guard.successors {
            push(out, format_args!(", {holds}, {failed}"));
        }
    }

    /// Operands, then the payload.
    fn push_trailing(&self, out: &mut String, row: &Row, operands: &[Node], payload: Payload) {
        out.push(' ');
        self.push_values(out, operands);
        let comma = if operands.is_empty() { "" } else { ", " };
        match payload {
            Payload::Raise(kind, reason) => {
                if operands.is_empty() || row.raises.iter().next() != Some(kind) {
                    push(out, format_args!("{comma}{kind}"));
                }
                if reason != 0 {
                    push(out, format_args!(" reason {reason}"));
                }
            }
            Payload::Index(index) => push(out, format_args!("{comma}{index}")),
            Payload::Goto(block) => push(out, format_args!("{comma}{block}")),
            Payload::Branch(then, otherwise) => push(out, format_args!("{comma}{then}, {otherwise}")),
            Payload::Switch(table) => {
                let SwitchData { cases, default } = self.method.switch(table);
                let ty = operands.first().map(|node| self.method.ty(*node)).filter(|ty| ty.is_int());
                *out += comma;
                out.push('[');
                for (index, (bits, block)) in cases.iter().enumerate() {
                    push_comma(out, index);
                    *out += &constant::print(ty.unwrap_or(Type::I64), (*bits).into());
                    push(out, format_args!(": {block}"));
                }
                push(out, format_args!("], {default}"));
            }
            _ => push(out, format_args!("{comma}?{payload:?}")),
        }
    }

    /// `place [base + index*scale + offset]`, then the operands before the base.
    fn push_access(&self, out: &mut String, row: &Row, operands: &[Node], access: Access) {
        out.push(' ');
        match access.place {
            Place::Symbol(symbol) => self.push_symbol(out, symbol),
            Place::Slot(slot) => self.push_slot_name(out, slot),
        }
        *out += " [";
        let (values, address) = operands.split_at((row.operands.len() - 2).min(operands.len()));
        for (index, node) in address.iter().enumerate() {
            *out += if index == 0 { "" } else { " + " };
            self.push_values(out, &[*node]);
            if index == 1 && access.scale != 1 {
                push(out, format_args!("*{}", access.scale));
            }
        }
        match access.offset {
            0 => {}
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                push(out, format_args!(" {sign} {}", offset.unsigned_abs()));
            }
        }
        out.push(']');
        *out += if values.is_empty() { "" } else { ", " };
        self.push_values(out, values);
    }

    /// `@method:position mode [locals] [stack] monitors [objects] parent %frame`
    fn push_frame(&self, out: &mut String, operands: &[Node], data: FrameData) {
        out.push(' ');
        self.push_callee(out, data.method);
        if data.position != SourcePos::NONE {
            push(out, format_args!(":{}", data.position.0));
        }
        out.push(' ');
        *out += word_for(FRAME_MODES, &data.mode).unwrap_or_default();
        let mut rest = operands;
        for (name, count) in [(" ", data.locals), (" ", data.stack), (" monitors ", data.monitors)] {
            let (these, others) = rest.split_at(usize::from(count).min(rest.len()));
            rest = others;
            if count > 0 || name == " " {
                *out += name;
                self.push_list(out, these);
            }
        }
        if !rest.is_empty() {
            *out += " parent ";
            self.push_values(out, rest);
        }
    }
}

/// `@name`, or `@?` and the index of what is not declared.
fn push_declared(out: &mut String, name: Option<&String>, index: impl Entity) {
    match name {
        Some(name) => push_name(out, '@', name),
        None => push(out, format_args!("@?{}", index.index())),
    }
}

/// `$name`, or `$?` and the index of what the method does not have.
fn push_local(out: &mut String, name: Option<&str>, index: impl Entity) {
    match name {
        Some(name) => push_name(out, '$', name),
        None => push(out, format_args!("$?{}", index.index())),
    }
}
