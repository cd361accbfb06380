//! The verifier: which types are on the stack, and which monitors are held, at every operation of a method.
//!
//! ```text
//!   walk the code once, from the first operation to the last
//!     at a label:   what is on the stack fits what the label says, and is that from here on
//!     at a jump:    what is on the stack fits what its label says
//! ```
//!
//! # Why
//!
//! Locals have declared types and labels say what is on the stack, so nothing has to be found by going round loops: one
//! walk is enough, every type is exact, and interfaces need no exception from the rules. Lowering makes the same walk.
//!
//! # Guarantees
//!
//! What passes cannot take a value for one of another type, use a stack that is not there, run past the end of its code, or
//! leave a method with a monitor held: an operation that may raise while one is held is covered by a handler of all objects,
//! and handlers are entered with just the monitors that their label says.
//!
//! # Cost
//!
//! Linear in operations, times the values on the stack where there are labels and the handlers where something may raise.

use crate::error::{Error, Result};
use crate::program::*;

/// The values that can be on the stack.
pub(crate) const MAX_STACK: usize = 256;

/// Verifies a method.
pub(crate) fn verify(program: &Program, method: &Method) -> Result<()> {
    let mut walk = Walk::new(program, method)?;
    while walk.arrive()? {
        walk.step()?;
    }
    Ok(())
}

/// A walk along a method's code, with what is known where it stands.
pub(crate) struct Walk<'p> {
    program: &'p Program,
    method: &'p Method,
    /// The labels at which something may go on, by ascending place. Others are places of handlers, and nothing more.
    labels: Vec<LabelId>,
    /// How many of them have been passed.
    passed: usize,
    is_reached: bool,
    /// The operation before which it stands.
    pub(crate) at: usize,
    /// The types on the stack, the top last.
    pub(crate) stack: Vec<Type>,
    /// How many monitors are held.
    pub(crate) locks: u32,
}

impl<'p> Walk<'p> {
    pub(crate) fn new(program: &'p Program, method: &'p Method) -> Result<Walk<'p>> {
        let jumps = method.code.iter().flat_map(Op::targets);
        let mut labels: Vec<LabelId> = jumps.chain(method.handlers.iter().map(|own| own.target)).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.sort_by_key(|label| method.label(*label).at);
        let walk =
            Walk { program, method, labels, passed: 0, is_reached: true, at: 0, stack: Vec::new(), locks: 0 };
        for handler in &method.handlers {
            let Label { name, at, stack, .. } = method.label(handler.target);
            let fail = |what: String, expected: &str| Err(Error::new(handler.place, what, expected));
            if handler.from >= handler.to {
                return fail("the handler covers nothing".into(), "its first label before its second");
            }
            if *at as usize == method.code.len() {
                return fail(format!("there is no code at `{name}`"), "an operation behind the label");
            }
            let caught = Type::Class(handler.class);
            if !matches!(stack.as_slice(), [only] if program.is_assignable(caught, *only)) {
                let class = &program.classes[handler.class].name;
                return fail(
                    format!("what `{class}` catches does not fit `{name}`"),
                    &format!("`{name}: ({class})`"),
                );
            }
        }
        Ok(walk)
    }

    /// Arrives at the next operation, past the labels before it; false at the end of the code.
    pub(crate) fn arrive(&mut self) -> Result<bool> {
        let method = self.method;
        while let Some(label) = self.labels.get(self.passed).copied()
            && method.label(label).at as usize == self.at
            && self.at < method.code.len()
        {
            self.passed += 1;
            if self.is_reached {
                self.reach(label)?;
            }
            let Label { stack, locks, .. } = method.label(label);
            (self.stack, self.locks, self.is_reached) = (stack.clone(), *locks, true);
        }
        match method.code.get(self.at) {
            None if self.is_reached => Err(self.error("the code ends here", "`return`, `throw` or `jump`")),
            None => Ok(false),
            Some(_) if !self.is_reached => {
                Err(self.error("this is never reached", "a label before it to which something jumps"))
            }
            Some(op) => {
                if op.may_raise() {
                    self.check_handlers()?;
                }
                Ok(true)
            }
        }
    }

    /// Does what the operation does to types.
    pub(crate) fn step(&mut self) -> Result<()> {
        let op = &self.method.code[self.at];
        self.operation(op)?;
        for label in op.targets() {
            self.reach(label)?;
        }
        self.is_reached = !op.is_last();
        self.at += 1;
        Ok(())
    }

    /// Checks that what is here is what a label expects.
    fn reach(&self, label: LabelId) -> Result<()> {
        let Label { name, at, stack, locks } = self.method.label(label);
        if *at as usize == self.method.code.len() {
            return Err(self.error(format!("there is no code at `{name}`"), "an operation behind the label"));
        }
        let fits = |(from, to): (&Type, &Type)| self.program.is_assignable(*from, *to);
        if self.stack.len() != stack.len() || !self.stack.iter().zip(stack).all(fits) {
            let (here, there) = (self.types(&self.stack), self.types(stack));
            return Err(
                self.error(format!("with ({here}) on the stack"), format!("({there}), which `{name}` says"))
            );
        }
        if self.locks != *locks {
            let what = format!("with {} monitors held", self.locks);
            return Err(self.error(what, format!("{locks}, which `{name}` says")));
        }
        Ok(())
    }

    /// Checks that whatever is raised here finds handlers that expect the monitors held here.
    fn check_handlers(&self) -> Result<()> {
        for handler in self.method.handlers_at(self.at) {
            let Label { name, locks, .. } = self.method.label(handler.target);
            if *locks != self.locks {
                let what = format!("this may raise with {} monitors held", self.locks);
                return Err(self.error(what, format!("{locks}, which the handler `{name}` says")));
            }
            if handler.class == self.program.known.object {
                return Ok(());
            }
        }
        match self.locks {
            0 => Ok(()),
            _ => {
                Err(self.error("this may raise with a monitor held", "a handler of `Object` that covers it"))
            }
        }
    }

    fn operation(&mut self, op: &Op) -> Result<()> {
        let program = self.program;
        match op {
            Op::Int(_) => self.push(Type::Int),
            Op::Long(_) => self.push(Type::Long),
            Op::Double(_) => self.push(Type::Double),
            Op::Null => self.push(Type::Null),
            Op::Load(local) => self.push(self.method.locals[usize::from(*local)].ty),
            Op::Store(0) if !self.method.is_static => {
                Err(self.error("`this` is given a value", "a variable"))
            }
            Op::Store(local) => self.pop_as(self.method.locals[usize::from(*local)].ty),
            Op::Pop => self.pop("a value").map(drop),
            Op::Dup => {
                let value = self.pop("a value")?;
                self.push(value)?;
                self.push(value)
            }
            Op::Swap => {
                let (right, left) = (self.pop("two values")?, self.pop("two values")?);
                self.push(right)?;
                self.push(left)
            }
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) => self.arithmetic(op),
            Op::Jump(_) => Ok(()),
            Op::If(_) | Op::IfNot(_) | Op::Switch(..) => self.pop_as(Type::Int),
            Op::Call(_) | Op::Virtual(_) | Op::Interface(_) | Op::Native(_) => self.call(op),
            Op::Return => self.result(),
            Op::Throw => self.pop_as(Type::Class(program.known.object)),
            Op::Lock => {
                self.locks += 1;
                if self.locks > u8::MAX.into() {
                    return Err(self.error("too many monitors are held", "at most 255"));
                }
                self.pop_as(Type::Class(program.known.object))
            }
            Op::Unlock => match self.locks.checked_sub(1) {
                Some(locks) => {
                    self.locks = locks;
                    Ok(())
                }
                None => Err(self.error("no monitor is held", "`lock` before it")),
            },
            _ => self.object(op),
        }
    }

    fn arithmetic(&mut self, op: &Op) -> Result<()> {
        let right = self.pop("a number")?;
        let is_number = |ty: Type| matches!(ty, Type::Int | Type::Long | Type::Double);
        if let Op::Unary(op) = op {
            if !is_number(right) {
                return Err(self.found(right, "a number"));
            }
            return self.push(match op {
                Unary::Neg => right,
                Unary::ToInt => Type::Int,
                Unary::ToLong => Type::Long,
                Unary::ToDouble => Type::Double,
            });
        }
        let left = self.pop("two values")?;
        if matches!(op, Op::Compare(Compare::Eq | Compare::Ne)) && left.is_reference() && right.is_reference()
        {
            return self.push(Type::Int);
        }
        let is_integral = matches!(op, Op::Binary(op) if op.is_integral());
        if left != right || !is_number(left) || is_integral && left == Type::Double {
            let what = format!("found {}", self.types(&[left, right]));
            let numbers = if is_integral { "integers" } else { "numbers" };
            return Err(self.error(what, format!("two {numbers} of one type")));
        }
        self.push(if let Op::Compare(_) = op { Type::Int } else { left })
    }

    /// An operation on objects, arrays or statics.
    fn object(&mut self, op: &Op) -> Result<()> {
        let program = self.program;
        match op {
            Op::New(class) => {
                if program.classes[*class].is_abstract {
                    let what = format!("there are no objects of just `{}`", program.classes[*class].name);
                    return Err(self.error(what, "a class that is not abstract"));
                }
                self.push(Type::Class(*class))
            }
            Op::Get(member) => {
                self.pop_as(Type::Class(program.members[*member].class))?;
                self.push(program.members[*member].ty)
            }
            Op::Put(member) => {
                self.pop_as(program.members[*member].ty)?;
                self.pop_as(Type::Class(program.members[*member].class))
            }
            Op::GetStatic(member) => self.push(program.members[*member].ty),
            Op::PutStatic(member) => self.pop_as(program.members[*member].ty),
            Op::NewArray(element) => {
                self.pop_as(Type::Int)?;
                self.push(Type::Array(*element))
            }
            Op::Length => {
                self.pop_array()?;
                self.push(Type::Int)
            }
            Op::GetElement => {
                self.pop_as(Type::Int)?;
                let element = self.pop_array()?;
                self.push(element.ty())
            }
            Op::PutElement => {
                let value = self.pop("an array, an index and a value")?;
                self.pop_as(Type::Int)?;
                let element = self.pop_array()?;
                self.check(value, element.ty())
            }
            Op::InstanceOf(class) | Op::Cast(class) => {
                self.pop_as(Type::Class(program.known.object))?;
                self.push(if let Op::Cast(_) = op { Type::Class(*class) } else { Type::Int })
            }
            _ => unreachable!("the other operations are none on objects"),
        }
    }

    fn call(&mut self, op: &Op) -> Result<()> {
        let program = self.program;
        let (receiver, shape) = match op {
            Op::Call(id) => {
                let method = &program.methods[*id];
                for ty in method.param_types().rev() {
                    self.pop_as(ty)?;
                }
                return method.result.map_or(Ok(()), |ty| self.push(ty));
            }
            Op::Virtual(dispatch) | Op::Interface(dispatch) => {
                (Some(dispatch.class), program.shape(*dispatch))
            }
            Op::Native(native) => (None, &program.natives[*native].shape),
            _ => unreachable!("the other operations call nothing"),
        };
        for ty in shape.params.iter().rev() {
            self.pop_as(*ty)?;
        }
        if let Some(class) = receiver {
            self.pop_as(Type::Class(class))?;
        }
        shape.result.map_or(Ok(()), |ty| self.push(ty))
    }

    fn result(&mut self) -> Result<()> {
        if self.locks > 0 {
            return Err(self.error("a monitor is held", "`unlock` before `return`"));
        }
        if let Some(ty) = self.method.result {
            self.pop_as(ty)?;
        }
        match self.stack.is_empty() {
            true => Ok(()),
            false => {
                Err(self
                    .error(format!("({}) is left on the stack", self.types(&self.stack)), "the result alone"))
            }
        }
    }

    // ---- the stack ----

    fn push(&mut self, ty: Type) -> Result<()> {
        self.stack.push(ty);
        match self.stack.len() {
            len if len > MAX_STACK => {
                Err(self.error("the stack grows too large", format!("at most {MAX_STACK} values")))
            }
            _ => Ok(()),
        }
    }

    fn pop(&mut self, expected: &str) -> Result<Type> {
        self.stack.pop().ok_or_else(|| self.error("the stack is empty", expected))
    }

    fn pop_as(&mut self, wanted: Type) -> Result<()> {
        let found = self.stack.pop();
        match found {
            Some(found) => self.check(found, wanted),
            None => Err(self.error("the stack is empty", self.program.type_name(wanted))),
        }
    }

    fn pop_array(&mut self) -> Result<Element> {
        match self.pop("an array")? {
            Type::Array(element) => Ok(element),
            found => Err(self.found(found, "an array")),
        }
    }

    fn check(&self, found: Type, wanted: Type) -> Result<()> {
        match self.program.is_assignable(found, wanted) {
            true => Ok(()),
            false => Err(self.found(found, &self.program.type_name(wanted))),
        }
    }

    // ---- errors ----

    fn types(&self, types: &[Type]) -> String {
        types.iter().map(|ty| self.program.type_name(*ty)).collect::<Vec<_>>().join(", ")
    }

    fn found(&self, found: Type, expected: &str) -> Box<Error> {
        self.error(format!("found {} on the stack", self.program.type_name(found)), expected)
    }

    fn error(&self, what: impl Into<String>, expected: impl Into<String>) -> Box<Error> {
        Error::new(self.method.places[self.at], what, expected)
    }
}
