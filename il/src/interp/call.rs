//! Calls: which method is meant, and the natives and foreign code that are called at once.

use crate::eval::Value;
use crate::layout::ObjectKind;
use crate::method::{Dispatch, Node, Payload};
use crate::module::{MethodId, Signature};
use crate::opcode::Opcode;

use super::host::{Fault, Host, Values};
use super::machine::{Flow, Machine, Step};
use super::shape;

/// Who is called, with which context.
enum Callee {
    /// A method of the program.
    Method(MethodId, u64),
    /// Something else at an address.
    Foreign(u64, u64),
}

impl<H: Host + ?Sized> Machine<'_, '_, '_, H> {
    /// Executes a call.
    pub(super) fn call(&mut self, node: Node) -> Step<()> {
        let (callee, args) = self.callee(node)?;
        match callee {
            Some(Callee::Method(method, context)) => self.enter(method, context, &args),
            Some(Callee::Foreign(address, context)) => {
                let results = self.call_foreign(node, address, context, &args)?;
                self.define_all(node, &results);
                Ok(())
            }
            None => {
                let results = self.call_native(node, &args)?;
                self.define_all(node, &results);
                Ok(())
            }
        }
    }

    /// Executes a call in place of this method.
    pub(super) fn tail_call(&mut self, node: Node) -> Step<Flow> {
        let (callee, args) = self.callee(node)?;
        match callee {
            Some(Callee::Method(method, context)) => {
                self.replace(method, context, &args).map(|()| Flow::Next)
            }
            Some(Callee::Foreign(address, context)) => {
                let results = self.call_foreign(node, address, context, &args)?;
                self.leave(results)
            }
            None => Err(self.invalid("is not a tail call")),
        }
    }

    /// Who is called, and with which arguments; none for a native function.
    fn callee(&mut self, node: Node) -> Step<(Option<Callee>, smallvec::SmallVec<[Value; 4]>)> {
        let method = self.top.plan.method;
        let context = self.top.context;
        let mut operands = self.operands_from(node, 0)?;
        let callee = match (method.opcode(node), method.payload(node)) {
            (_, Payload::Native(_)) => None,
            (_, Payload::Method(callee)) => Some(Callee::Method(callee, context)),
            (_, Payload::Signature(_)) if operands.len() >= 2 => {
                let (address, context) = (operands[0].low(), operands[1].low());
                operands.drain(..2);
                Some(match self.host.method_at(address) {
                    Some(callee) => Callee::Method(callee, context),
                    None => Callee::Foreign(address, context),
                })
            }
            (opcode, Payload::Dispatch(dispatch)) => {
                let receiver = operands.first().map_or(0, |receiver| receiver.low());
                let callee = self.dispatch(opcode, dispatch, receiver)?;
                Some(Callee::Method(callee, context))
            }
            _ => return Err(self.invalid("calls nothing")),
        };
        if let Some(Callee::Method(callee, _)) = callee {
            self.check_signature(node, callee)?;
        }
        Ok((callee, operands))
    }

    /// The signature by which a node calls.
    fn signature(&self, node: Node) -> Step<&Signature> {
        let payload = self.top.plan.method.payload(node);
        shape::signature_of(self.module(), payload).ok_or_else(|| self.invalid("calls without a signature"))
    }

    /// Checks that a method found at run time is what its caller takes it for.
    fn check_signature(&self, node: Node, callee: MethodId) -> Step<()> {
        let expected = self.signature(node)?;
        match shape::signature_of(self.module(), Payload::Method(callee)) {
            Some(actual) if actual == expected => Ok(()),
            Some(_) => Err(self.invalid(format!("calls {callee} by a signature that is not its own"))),
            None => Err(self.invalid(format!("calls {callee}, which is not declared"))),
        }
    }

    fn call_native(&mut self, node: Node, args: &[Value]) -> Step<Values> {
        let Payload::Native(native) = self.top.plan.method.payload(node) else {
            return Err(self.invalid("calls nothing"));
        };
        let context = self.top.context;
        let results = self.ask(|host| host.native(native, context, args))?;
        self.check_results(node, results)
    }

    fn call_foreign(&mut self, node: Node, address: u64, context: u64, args: &[Value]) -> Step<Values> {
        let signature = self.signature(node)?.clone();
        let results = self.ask(|host| host.call_address(address, context, &signature, args))?;
        self.check_results(node, results)
    }

    /// Checks that the host has returned what was declared.
    fn check_results(&self, node: Node, results: Values) -> Step<Values> {
        let expected = &self.signature(node)?.results;
        if expected.iter().copied().eq(results.iter().map(|result| result.ty())) {
            Ok(results)
        } else {
            Err(self.invalid("calls a function of the host that returns what it was not declared to"))
        }
    }

    /// The method that the class of a receiver has at a slot.
    fn dispatch(&mut self, opcode: Opcode, dispatch: Dispatch, receiver: u64) -> Step<MethodId> {
        let ObjectKind::Object(class) = self.host.kind_of(receiver)? else {
            return Err(Fault { address: receiver }.into());
        };
        let module = self.module();
        if !module.is_subclass(class, dispatch.class) {
            return Err(self.invalid(format!("has a receiver of {class}, not of {}", dispatch.class)));
        }
        let found = match opcode {
            Opcode::CallVirtual => {
                module.classes[class].slots.get(dispatch.slot as usize).and_then(|slot| slot.method)
            }
            _ => module.implementation(class, dispatch.class, dispatch.slot),
        };
        found.ok_or_else(|| self.invalid(format!("calls an abstract method of {class}")))
    }
}
