//! Values: those of operands, evaluated when a root first needs them, and those that roots leave behind.

use smallvec::SmallVec;

use crate::entity::Entity;
use crate::eval::{Value, compute};
use crate::layout::ObjectKind;
use crate::method::{Local, Node, Payload};
use crate::opcode::Opcode;
use crate::types::Type;

use super::frame::Cell;
use super::host::Host;
use super::machine::{Machine, Step};
use super::plan;

impl<H: Host + ?Sized> Machine<'_, '_, '_, H> {
    /// The value of an operand of a node.
    pub(super) fn operand(&mut self, node: Node, index: usize) -> Step<Value> {
        match self.top.plan.method.value_operands(node).get(index) {
            Some(operand) => self.value(*operand),
            None => Err(self.invalid("has too few operands")),
        }
    }

    /// The values of a node's operands from one on, a frame state left out.
    pub(super) fn operands_from(&mut self, node: Node, from: usize) -> Step<SmallVec<[Value; 4]>> {
        let method = self.top.plan.method;
        method.value_operands(node).iter().skip(from).map(|operand| self.value(*operand)).collect()
    }

    /// The value of a node.
    pub(super) fn value(&mut self, node: Node) -> Step<Value> {
        let cell = self.cell(node, 0)?;
        if cell.epoch == self.top.epoch {
            return Ok(cell.value);
        }
        self.evaluate(node)
    }

    /// Gives a node its value.
    pub(super) fn define(&mut self, node: Node, value: Value) {
        let frame = &self.top;
        if let Some(cell) = frame.plan.cell(node) {
            self.interpreter.stacks.cells[frame.cells + cell] = Cell { value, epoch: frame.epoch };
        }
    }

    /// Gives a call its results.
    pub(super) fn define_all(&mut self, node: Node, values: &[Value]) {
        let frame = &self.top;
        let Some(cell) = frame.plan.cell(node) else { return };
        let cells = &mut self.interpreter.stacks.cells[frame.cells + cell..frame.cells_end()];
        for (cell, value) in cells.iter_mut().zip(values) {
            *cell = Cell { value: *value, epoch: frame.epoch };
        }
    }

    /// Gives a local a value, for the next head to see.
    pub(super) fn set(&mut self, local: Local, value: Value) {
        self.interpreter.stacks.journal.push((local, value));
    }

    /// The cell of a result of a node; result 0 is its value. It is of this epoch if it has been computed.
    #[inline]
    fn cell(&self, node: Node, result: usize) -> Step<&Cell> {
        let frame = &self.top;
        let cell = frame.plan.cell(node).map(|cell| frame.cells + cell + result);
        match cell.and_then(|cell| self.interpreter.stacks.cells.get(cell)) {
            Some(cell) => Ok(cell),
            None => Err(self.invalid(format!("{node} has no value"))),
        }
    }

    /// Evaluates a pure node, and before it all that it needs: on a stack of our own, however deep that is.
    fn evaluate(&mut self, node: Node) -> Step<Value> {
        let method = self.top.plan.method;
        let mut pending = std::mem::take(&mut self.interpreter.stacks.pending);
        pending.clear();
        pending.push(node);
        let mut result = Value::default();
        while let Some(node) = pending.last().copied() {
            if plan::is_root(method, node) {
                return Err(self.invalid(format!("{node} is used before it has happened")));
            }
            let mut operands: SmallVec<[Value; 4]> = SmallVec::new();
            let mut missing = None;
            for operand in method.operands(node) {
                let cell = self.cell(*operand, 0)?;
                if cell.epoch != self.top.epoch {
                    missing = Some(*operand);
                    break;
                }
                operands.push(cell.value);
            }
            match missing {
                // A path longer than there are values is a circle.
                Some(operand) if pending.len() > self.top.plan.width => {
                    return Err(self.invalid(format!("{operand} depends on itself")));
                }
                Some(operand) => pending.push(operand),
                None => {
                    result = self.pure(node, &operands)?;
                    self.define(node, result);
                    pending.pop();
                }
            }
        }
        self.interpreter.stacks.pending = pending;
        Ok(result)
    }

    /// The value of a pure node whose operands have these values.
    fn pure(&mut self, node: Node, operands: &[Value]) -> Step<Value> {
        let frame = &self.top;
        let (method, ty) = (frame.plan.method, frame.plan.method.ty(node));
        let payload = method.payload(node);
        let value = match (method.opcode(node), payload) {
            (Opcode::Const, Payload::Const(bits)) => Some(Value::from_bits(ty, bits)),
            (Opcode::Const, Payload::Wide(wide)) => Some(Value::new(ty, method.wide(wide))),
            (Opcode::Entry, Payload::Local(local)) => {
                let value = self.interpreter.stacks.locals.get(frame.locals + local.index()).copied();
                value.filter(|value| value.ty() != Type::Void)
            }
            (Opcode::Context, _) => Some(Value::addr(frame.context)),
            (Opcode::Caught, _) => {
                let object = frame.caught.map(|raised| raised.object);
                if let (Type::Ref, Some(object @ 1..)) = (ty, object) {
                    self.host.kind_of(object)?;
                }
                object.map(|object| Value::from_bits(ty, object))
            }
            (Opcode::CaughtKind, _) => {
                frame.caught.map(|raised| Value::from_bits(ty, raised.kind.code(raised.reason).into()))
            }
            (Opcode::Result, Payload::Index(index)) => match method.operands(node).first() {
                Some(call) => {
                    let cell = self.cell(*call, index as usize)?;
                    (cell.epoch == frame.epoch).then_some(cell.value)
                }
                None => None,
            },
            (Opcode::SlotAddress, Payload::Slot(slot)) => {
                Some(Value::addr(frame.slots.wrapping_add(frame.plan.slot_offset(slot.index()))))
            }
            (Opcode::SymbolAddress, Payload::Symbol(symbol)) => {
                self.host.symbol_address(symbol).map(Value::addr)
            }
            (Opcode::MethodAddress, Payload::Method(method)) => {
                Some(Value::addr(self.host.method_address(method)))
            }
            (Opcode::ClassAddress, Payload::Class(class)) => {
                Some(Value::addr(self.host.description_of(ObjectKind::Object(class))))
            }
            (opcode, _) => compute(opcode, ty, operands),
        };
        value.ok_or_else(|| match payload {
            Payload::Local(local) => self.invalid(format!("{local} is read before it is assigned")),
            _ => self.invalid(format!("{node} (`{}`) has no value here", method.opcode(node))),
        })
    }
}
