//! Leaving through a frame state: the guest's frames, with the values that they have now.

use std::collections::BTreeMap;

use crate::method::{FrameData, Node, Payload};
use crate::opcode::Opcode;

use super::host::Host;
use super::machine::{Machine, Step};
use super::stop::{Exit, ExitFrame, ExitObject, ExitValue, Stop};

impl<H: Host + ?Sized> Machine<'_, '_, '_, H> {
    /// What a guard that fails leaves with.
    pub(super) fn exit(&mut self, guard: Node) -> Step<Stop> {
        let method = self.top.plan.method;
        let mut next = method.frame_of(guard);
        if next.is_none() {
            return Err(self.invalid("fails and has no frame state to leave by"));
        }
        let mut frames = Vec::new();
        let mut found = Vec::new();
        while let Some(node) = next {
            // A frame that is its own ancestor would go on for ever.
            if frames.len() > method.node_count() {
                return Err(self.invalid(format!("{node} is its own parent frame")));
            }
            let (frame, parent) = self.exit_frame(node, &mut found)?;
            frames.push(frame);
            next = parent;
        }
        let virtuals = self.exit_objects(found)?;
        let callers = self.trace().split_off(1);
        let slots = self.top.slots;
        Ok(Stop::Exit(Box::new(Exit { method: method.id(), guard, frames, virtuals, slots, callers })))
    }

    /// One frame, and its parent.
    fn exit_frame(&mut self, node: Node, found: &mut Vec<Node>) -> Step<(ExitFrame, Option<Node>)> {
        let method = self.top.plan.method;
        let Payload::Frame(info) = method.payload(node) else {
            return Err(self.invalid(format!("{node} is not a frame state")));
        };
        let FrameData { method: of, position, mode, locals, stack, monitors } = method.frame(info);
        let operands = method.operands(node);
        let (locals, stack) = (usize::from(locals), usize::from(stack));
        let end = locals + stack + usize::from(monitors);
        if operands.len() < end || operands.len() > end + 1 {
            return Err(self.invalid(format!("{node} has {} operands, not {end}", operands.len())));
        }
        let mut values = Vec::with_capacity(end);
        for operand in &operands[..end] {
            values.push(self.exit_value(*operand, found)?);
        }
        let monitors = values.split_off(locals + stack);
        let stack = values.split_off(locals);
        let frame = ExitFrame { method: of, position, mode, locals: values, stack, monitors };
        Ok((frame, operands.get(end).copied()))
    }

    /// One value of a frame or an object; an object that is not there is left to be found.
    fn exit_value(&mut self, node: Node, found: &mut Vec<Node>) -> Step<ExitValue> {
        let method = self.top.plan.method;
        match (method.opcode(node), method.payload(node)) {
            (Opcode::Dead, _) => Ok(ExitValue::Dead),
            (Opcode::Virtual, Payload::Virtual(info)) => {
                found.push(node);
                Ok(ExitValue::Virtual(method.virtual_object(info).id))
            }
            _ => self.value(node).map(ExitValue::Value),
        }
    }

    /// The objects that were optimized away, and all that they refer to.
    fn exit_objects(&mut self, mut found: Vec<Node>) -> Step<Vec<ExitObject>> {
        let method = self.top.plan.method;
        let mut objects = BTreeMap::new();
        while let Some(node) = found.pop() {
            let Payload::Virtual(info) = method.payload(node) else { continue };
            let data = method.virtual_object(info);
            if objects.contains_key(&data.id) {
                continue;
            }
            let mut fields = Vec::new();
            for operand in method.operands(node) {
                fields.push(self.exit_value(*operand, &mut found)?);
            }
            objects.insert(data.id, ExitObject { id: data.id, kind: data.kind, fields });
        }
        Ok(objects.into_values().collect())
    }
}
