//! What each root does: memory, checks, guards and ends of blocks. Calls and objects have files of their own.

use std::cmp::Ordering;

use crate::eval::{Value, compute_checked};
use crate::method::{Node, Payload};
use crate::opcode::Opcode;
use crate::types::Type;

use super::host::{GuardSite, Host, Raised};
use super::machine::{Flow, Machine, Step};

impl<H: Host + ?Sized> Machine<'_, '_, '_, H> {
    /// Executes a root.
    pub(super) fn execute(&mut self, node: Node) -> Step<Flow> {
        use Opcode::*;
        let method = self.top.plan.method;
        let payload = method.payload(node);
        match (method.opcode(node), payload) {
            (Set, Payload::Local(local)) => {
                let value = self.operand(node, 0)?;
                self.set(local, value);
            }
            (Load | Store, _) => self.access(node)?,
            (MemoryCopy | MemoryFill | MemoryCompare, _) => self.bulk(node)?,
            (Fence, _) => self.host.fence(),
            (RefAddress, _) => {
                let reference = self.operand(node, 0)?;
                self.define(node, Value::addr(reference.low()));
            }

            (Check, Payload::Raise(kind, reason)) => {
                if !self.operand(node, 0)?.is_true() {
                    return Err(Raised::new(kind, reason).into());
                }
            }
            (
                NullCheck | BoundsCheck | DivCheck | SizeCheck | SAddChecked | SSubChecked | SMulChecked
                | UAddChecked | USubChecked | UMulChecked | SDivChecked | FloatToSIntChecked
                | FloatToUIntChecked | SDiv | UDiv | SRem | URem,
                _,
            ) => self.checked(node)?,
            (
                CastCheck | StoreCheck | New | NewArray | NewObjectArray | ArrayLength | InstanceOf | ClassOf
                | MonitorEnter | MonitorExit,
                _,
            ) => self.object(node)?,

            (Call | CallIndirect | CallVirtual | CallInterface | CallNative, _) => self.call(node)?,
            (TailCall | TailCallIndirect, _) => return self.tail_call(node),
            (Poll, _) => {
                let context = self.top.context;
                self.ask(|host| host.poll(context))?;
            }
            (Guard | GuardBranch, _) => return self.guard(node),

            (Goto, Payload::Goto(target)) => return Ok(Flow::Jump(target)),
            (Branch, Payload::Branch(then, otherwise)) => {
                let holds = self.operand(node, 0)?.is_true();
                return Ok(Flow::Jump(if holds { then } else { otherwise }));
            }
            (Switch, Payload::Switch(table)) => {
                let (value, data) = (self.operand(node, 0)?, method.switch(table));
                let found = data.cases.binary_search_by_key(&value.low(), |(case, _)| *case);
                return Ok(Flow::Jump(found.map_or(data.default, |index| data.cases[index].1)));
            }
            (Return, _) => {
                let results = self.operands_from(node, 0)?;
                return self.leave(results.into_iter().collect());
            }
            (Throw, _) => return Err(Raised::guest(self.operand(node, 0)?.low()).into()),
            (Raise, Payload::Raise(kind, reason)) => return Err(Raised::new(kind, reason).into()),

            // A pure node may stand in a list; it is evaluated there.
            _ if method.ty(node) != Type::Void => {
                self.value(node)?;
            }
            (opcode, _) => return Err(self.invalid(format!("`{opcode}` is not a root"))),
        }
        Ok(Flow::Next)
    }

    /// A computation that raises for its operands' sake.
    fn checked(&mut self, node: Node) -> Step<()> {
        let method = self.top.plan.method;
        let operands = self.operands_from(node, 0)?;
        let (opcode, payload) = (method.opcode(node), method.payload(node));
        let reason = if let Payload::Raise(_, reason) = payload { reason } else { 0 };
        match compute_checked(opcode, method.ty(node), &operands) {
            Some(Ok(value)) => {
                self.define(node, value);
                Ok(())
            }
            Some(Err(kind)) => Err(Raised::new(kind, reason).into()),
            None => Err(self.invalid(format!("`{opcode}` has no value here"))),
        }
    }

    /// Passes a guard, goes to its second successor, or leaves.
    fn guard(&mut self, node: Node) -> Step<Flow> {
        let method = self.top.plan.method;
        let Payload::Guard(info) = method.payload(node) else {
            return Err(self.invalid("has no assumptions"));
        };
        let data = method.guard(info);
        let site = GuardSite { method: method.id(), node, assumptions: data.assumptions };
        let holds = self.host.holds(site);
        match (method.opcode(node), data.successors) {
            (Opcode::GuardBranch, Some((fast, slow))) => Ok(Flow::Jump(if holds { fast } else { slow })),
            (Opcode::Guard, _) if holds => Ok(Flow::Next),
            (Opcode::Guard, _) => Err(self.exit(node)?.into()),
            _ => Err(self.invalid("has no successors")),
        }
    }

    /// A read or a write of memory.
    fn access(&mut self, node: Node) -> Step<()> {
        let method = self.top.plan.method;
        let Payload::Access(access) = method.payload(node) else {
            return Err(self.invalid("does not say where it goes"));
        };
        let operands = self.operands_from(node, 0)?;
        let (stored, address) = match method.opcode(node) {
            Opcode::Store => {
                operands.split_first().map_or((None, &[][..]), |(first, rest)| (Some(*first), rest))
            }
            _ => (None, &operands[..]),
        };
        let [base, index @ ..] = address else { return Err(self.invalid("has no base")) };
        let index = index.first().map_or(0, |index| index.low());
        let address = base
            .low()
            .wrapping_add(index.wrapping_mul(access.scale.into()))
            .wrapping_add_signed(access.offset.into());
        if let Some(value) = stored {
            self.host.store(address, value.ty().bytes(), value.bits())?;
            return Ok(());
        }
        let ty = method.ty(node);
        let bits = self.host.load(address, ty.bytes())?;
        self.define(node, Value::new(ty, bits));
        Ok(())
    }

    /// A copy, fill or comparison of bytes.
    fn bulk(&mut self, node: Node) -> Step<()> {
        let operands = self.operands_from(node, 0)?;
        let [first, second, count] = operands[..] else { return Err(self.invalid("has too few operands")) };
        let count = count.low();
        match self.top.plan.method.opcode(node) {
            Opcode::MemoryCopy => self.host.copy(first.low(), second.low(), count)?,
            Opcode::MemoryFill => self.host.fill(first.low(), second.low() as u8, count)?,
            _ => {
                let order = match self.host.compare(first.low(), second.low(), count)? {
                    Ordering::Less => -1,
                    Ordering::Equal => 0,
                    Ordering::Greater => 1,
                };
                self.define(node, Value::i32(order));
            }
        }
        Ok(())
    }
}
