//! Roots on objects: allocation, type tests, lengths and monitors.

use crate::eval::Value;
use crate::layout::{CLASS_OFFSET, LENGTH_OFFSET, ObjectKind};
use crate::method::{Node, Payload};
use crate::module::ClassId;
use crate::opcode::Opcode;
use crate::raise::RaiseKind;

use super::host::{Fault, Host, Raised};
use super::machine::{Machine, Step};

impl<H: Host + ?Sized> Machine<'_, '_, '_, H> {
    /// Executes a root on objects.
    pub(super) fn object(&mut self, node: Node) -> Step<()> {
        let method = self.top.plan.method;
        let operands = self.operands_from(node, 0)?;
        let first = operands.first().copied().unwrap_or_default();
        let value = match (method.opcode(node), method.payload(node)) {
            (Opcode::CastCheck, Payload::Class(class)) => {
                if first.low() != 0 && !self.instance_of(first.low(), class)? {
                    return Err(Raised::new(RaiseKind::Cast, 0).into());
                }
                first
            }
            (Opcode::InstanceOf, Payload::Class(class)) => {
                Value::flag(first.low() != 0 && self.instance_of(first.low(), class)?)
            }
            (Opcode::StoreCheck, _) => {
                let stored = operands.get(1).map_or(0, |stored| stored.low());
                if !self.may_store(first.low(), stored)? {
                    return Err(Raised::new(RaiseKind::Store, 0).into());
                }
                first
            }
            (Opcode::New, Payload::Class(class)) => self.allocate(ObjectKind::Object(class), 0)?,
            (Opcode::NewArray, Payload::Element(ty)) => {
                self.allocate(ObjectKind::Array(ty), first.signed())?
            }
            (Opcode::NewObjectArray, Payload::Class(class)) => {
                self.allocate(ObjectKind::ObjectArray(class), first.signed())?
            }
            (Opcode::ArrayLength, _) => {
                let length = self.host.load(first.low().wrapping_add_signed(LENGTH_OFFSET.into()), 4)?;
                Value::i32(length as i32)
            }
            (Opcode::ClassOf, _) => {
                let description = self.host.load(first.low().wrapping_add_signed(CLASS_OFFSET.into()), 8)?;
                Value::addr(description as u64)
            }
            (Opcode::MonitorEnter, _) => return Ok(self.ask(|host| host.monitor_enter(first.low()))?),
            (Opcode::MonitorExit, _) => return Ok(self.ask(|host| host.monitor_exit(first.low()))?),
            _ => return Err(self.invalid("does not say of which class")),
        };
        self.define(node, value);
        Ok(())
    }

    fn allocate(&mut self, kind: ObjectKind, length: i64) -> Step<Value> {
        let length = u32::try_from(length).map_err(|_| Raised::new(RaiseKind::NegativeSize, 0))?;
        let module = self.interpreter.program.module;
        let object = self.ask(|host| host.allocate(module, kind, length))?;
        Ok(Value::reference(object))
    }

    /// Whether an object is an instance of a class. An array is one of none.
    pub(super) fn instance_of(&mut self, object: u64, class: ClassId) -> Result<bool, Fault> {
        Ok(match self.host.kind_of(object)? {
            ObjectKind::Object(actual) => self.module().is_subclass(actual, class),
            ObjectKind::Array(_) | ObjectKind::ObjectArray(_) => false,
        })
    }

    /// Whether a reference may be stored in an array: null may in every array of references.
    fn may_store(&mut self, array: u64, stored: u64) -> Result<bool, Fault> {
        match self.host.kind_of(array)? {
            ObjectKind::ObjectArray(class) => Ok(stored == 0 || self.instance_of(stored, class)?),
            ObjectKind::Object(_) | ObjectKind::Array(_) => Ok(false),
        }
    }
}
