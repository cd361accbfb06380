//! The machine: executes roots one after the other, and moves between blocks, methods and handlers.

use std::rc::Rc;

use crate::entity::Entity;
use crate::eval::Value;
use crate::method::Block;
use crate::module::{MethodId, Module};
use crate::raise::RaiseKind;
use crate::types::Type;

use super::frame::Frame;
use super::host::{Fault, Host, Raised, Values};
use super::plan::Plan;
use super::stop::{Invalid, Stop, TraceEntry};
use super::{Interpreter, Limits};

/// What keeps a root from going on to the next.
pub(super) enum Trouble {
    /// Something is raised.
    Raise(Raised),
    /// The interpretation ends.
    Stop(Box<Stop>),
}

impl From<Raised> for Trouble {
    fn from(raised: Raised) -> Trouble {
        Trouble::Raise(raised)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Raise(fault.into())
    }
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Trouble {
        Trouble::Stop(Box::new(stop))
    }
}

/// What comes of a part of a root's work.
pub(super) type Step<T> = Result<T, Trouble>;

/// Where control goes after a root.
pub(super) enum Flow {
    /// To the next root of whichever frame is on top now.
    Next,
    /// To a block of the same method.
    Jump(Block),
    /// Nowhere: the first method has returned.
    Done(Values),
}

/// An interpretation.
pub(super) struct Machine<'m, 'p, 'a, H: ?Sized> {
    pub(super) interpreter: &'m mut Interpreter<'p, 'a>,
    pub(super) host: &'m mut H,
    /// The call that is being executed; its callers are suspended.
    pub(super) top: Frame<'p, 'a>,
    limits: Limits,
}

impl<'m, 'p, 'a, H: Host + ?Sized> Machine<'m, 'p, 'a, H> {
    /// A machine about to execute the first root of a method. An argument that is to be a reference, and is none to the host, is a fault.
    pub(super) fn start(
        interpreter: &'m mut Interpreter<'p, 'a>,
        host: &'m mut H,
        method: MethodId,
        context: u64,
        args: &[Value],
        limits: Limits,
    ) -> Result<Self, Stop> {
        interpreter.stacks.clear();
        interpreter.fuel = limits.fuel;
        let plan = interpreter.plan(method, args).map_err(Stop::Invalid)?;
        for arg in args.iter().filter(|arg| arg.ty() == Type::Ref && arg.low() != 0) {
            let checked = host.kind_of(arg.low());
            checked.map_err(|fault| Stop::Raised { raised: fault.into(), trace: Vec::new() })?;
        }
        match interpreter.stacks.push(host, &limits, 0, plan, context, args) {
            Some(top) => Ok(Machine { interpreter, host, top, limits }),
            None => Err(Stop::Raised { raised: stack_overflow(), trace: Vec::new() }),
        }
    }

    /// Executes roots until the first method returns.
    pub(super) fn run(mut self) -> Result<Values, Stop> {
        loop {
            let moved = match self.step() {
                Ok(Flow::Next) => Ok(()),
                Ok(Flow::Jump(target)) => self.jump(target),
                Ok(Flow::Done(values)) => return Ok(values),
                Err(trouble) => Err(trouble),
            };
            match moved {
                Ok(()) => {}
                Err(Trouble::Raise(raised)) => self.unwind(raised)?,
                Err(Trouble::Stop(stop)) => return Err(*stop),
            }
        }
    }

    /// Executes the next root.
    fn step(&mut self) -> Step<Flow> {
        let Some(root) = self.top.roots.get(self.top.next) else {
            return Err(self.invalid("is the last root of a block that does not end"));
        };
        self.top.next += 1;
        if self.interpreter.fuel == 0 {
            return Err(Stop::OutOfFuel { trace: self.trace() }.into());
        }
        self.interpreter.fuel -= 1;
        self.execute(root.node)
    }

    // ---- where control is ----

    pub(super) fn module(&self) -> &'p Module {
        self.interpreter.program.module
    }

    /// All calls under way, the innermost first.
    pub(super) fn trace(&self) -> Vec<TraceEntry> {
        let suspended = self.interpreter.stacks.suspended.iter().rev();
        std::iter::once(&self.top).chain(suspended).map(Frame::trace).collect()
    }

    /// An end, because the root in hand makes no sense.
    pub(super) fn invalid(&self, what: impl Into<String>) -> Trouble {
        let node = self.top.root().map(|root| root.node);
        let method = self.top.plan.method.id();
        Stop::Invalid(Invalid { method, block: Some(self.top.block), node, what: what.into() }).into()
    }

    /// Continues at a successor: in the same extended block, or at a head.
    fn jump(&mut self, target: Block) -> Step<()> {
        let method = self.top.plan.method;
        if target.index() >= method.block_count() {
            return Err(self.invalid(format!("goes to {target}, which does not exist")));
        }
        match method.block(target).extends {
            None => self.enter_head(target, None),
            Some(parent) if parent == self.top.block => self.enter_block(target),
            Some(_) => return Err(self.invalid(format!("goes to {target}, which extends another block"))),
        }
        Ok(())
    }

    fn enter_block(&mut self, block: Block) {
        self.top.block = block;
        self.top.roots = self.top.plan.method.roots(block);
        self.top.next = 0;
    }

    /// Begins an extended block: sets become the locals' values, all others are forgotten.
    fn enter_head(&mut self, head: Block, caught: Option<Raised>) {
        let stacks = &mut self.interpreter.stacks;
        stacks.apply_sets(&self.top);
        self.top.epoch = stacks.begin_epoch();
        self.top.caught = caught;
        self.enter_block(head);
    }

    // ---- raising ----

    /// Goes to the first handler that catches what is raised, in this method or its callers.
    fn unwind(&mut self, raised: Raised) -> Result<(), Stop> {
        let mut trace = Vec::new();
        loop {
            trace.push(self.top.trace());
            if let Some(block) = self.handler(raised) {
                let method = self.top.plan.method;
                let is_head = block.index() < method.block_count() && method.block(block).extends.is_none();
                if !is_head {
                    let what = format!("has the handler {block}, which is not a head");
                    let (method, at) = (method.id(), Some(self.top.block));
                    return Err(Stop::Invalid(Invalid { method, block: at, node: None, what }));
                }
                self.enter_head(block, Some(raised));
                return Ok(());
            }
            if !self.pop() {
                return Err(Stop::Raised { raised, trace });
            }
        }
    }

    /// The first handler of the top frame's block that catches what is raised.
    fn handler(&mut self, raised: Raised) -> Option<Block> {
        let handlers = self.top.plan.method.handlers(self.top.block);
        if raised.kind == RaiseKind::Fault {
            return None;
        }
        let handler = handlers.iter().find(|handler| {
            handler.kinds.contains(raised.kind)
                && match handler.class {
                    // What is not an object is of no class.
                    Some(class) if raised.kind == RaiseKind::Guest => {
                        matches!(self.instance_of(raised.object, class), Ok(true))
                    }
                    _ => true,
                }
        })?;
        Some(handler.block)
    }

    // ---- calls ----

    /// Calls a method from the top frame, which waits for it.
    pub(super) fn enter(&mut self, method: MethodId, context: u64, args: &[Value]) -> Step<()> {
        let plan = self.plan(method, args)?;
        let stacks = &mut self.interpreter.stacks;
        if stacks.suspended.len() + 1 >= self.limits.depth {
            return Err(stack_overflow().into());
        }
        let cells = self.top.cells_end();
        let frame = stacks.push(self.host, &self.limits, cells, plan, context, args);
        let caller = std::mem::replace(&mut self.top, frame.ok_or(stack_overflow())?);
        stacks.suspended.push(caller);
        Ok(())
    }

    /// Calls a method in place of the top frame's, whose handlers no longer count.
    pub(super) fn replace(&mut self, method: MethodId, context: u64, args: &[Value]) -> Step<()> {
        let plan = self.plan(method, args)?;
        let stacks = &mut self.interpreter.stacks;
        stacks.release(self.host, &self.top);
        let cells = self.top.cells;
        match stacks.push(self.host, &self.limits, cells, plan, context, args) {
            Some(frame) => {
                self.top = frame;
                Ok(())
            }
            None => self.fail_in_caller(stack_overflow()),
        }
    }

    /// Raises in the caller of the top frame, which has been released.
    pub(super) fn fail_in_caller(&mut self, raised: Raised) -> Step<()> {
        match self.interpreter.stacks.suspended.pop() {
            Some(caller) => {
                self.top = caller;
                Err(raised.into())
            }
            None => Err(Stop::Raised { raised, trace: Vec::new() }.into()),
        }
    }

    /// Returns from the top frame.
    pub(super) fn leave(&mut self, results: Values) -> Step<Flow> {
        if !self.pop() {
            return Ok(Flow::Done(results));
        }
        if let Some(call) = self.top.root() {
            self.define_all(call.node, &results);
        }
        Ok(Flow::Next)
    }

    /// Drops the top frame and goes back to its caller; false if there is none.
    fn pop(&mut self) -> bool {
        let stacks = &mut self.interpreter.stacks;
        stacks.release(self.host, &self.top);
        match stacks.suspended.pop() {
            Some(caller) => {
                self.top = caller;
                true
            }
            None => false,
        }
    }

    /// The plan of a method that is called with these arguments.
    fn plan(&mut self, method: MethodId, args: &[Value]) -> Step<Rc<Plan<'p, 'a>>> {
        self.interpreter.plan(method, args).map_err(|invalid| Stop::Invalid(invalid).into())
    }
}

/// What is raised where a frame does not fit.
pub(super) fn stack_overflow() -> Raised {
    Raised::new(RaiseKind::StackOverflow, 0)
}
