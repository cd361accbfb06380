//! The interpreter: what programs mean, and where they start.
//!
//! ```text
//!   frames ──► one operation after the other ──► a result
//!     ▲              ├─ call: a frame above          └─ or a stop: uncaught, out of memory, stack, fuel
//!     │              └─ raise: the first handler that covers it and catches it, in this frame or those below
//!     └── of a call, or of compiled code that was left
//! ```
//!
//! # Guarantees
//!
//! * Nothing recurses, and it ends: each operation costs one unit of fuel.
//! * A frame says all there is to say: a program can be continued from any frames whose values fit their methods.
//!
//! # Cost
//!
//! Some nanoseconds an operation. With a profile, each operation counts itself as well.

use dagwood_il as il;
use il::layout::{ELEMENTS_OFFSET, ObjectKind};
use il::{MethodId, RaiseKind};

use crate::host::{Host, Value};
use crate::observe::Observed;
use crate::program::*;

/// How much an interpretation may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many operations may be executed.
    pub fuel: u64,
    /// How many calls may be under way at once.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { fuel: u64::MAX, depth: 20_000 }
    }
}

/// A call that is under way.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The method.
    pub method: MethodId,
    /// The operation that is next; in a caller, the call.
    pub at: usize,
    /// The values of parameters and variables.
    pub locals: Vec<Value>,
    /// The values on the stack; in a caller, without the arguments.
    pub stack: Vec<Value>,
    /// The objects whose monitors it has entered, the last one last.
    pub locks: Vec<u64>,
}

impl Frame {
    /// The frame of a call that is about to begin.
    pub fn new(program: &Program, method: MethodId, args: &[Value]) -> Frame {
        let variables = program.methods()[method].locals.iter().skip(args.len());
        let locals = args.iter().copied().chain(variables.map(|local| Value::zero(local.ty))).collect();
        Frame { method, at: 0, locals, stack: Vec::new(), locks: Vec::new() }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().expect("the verifier has seen that there is a value")
    }

    fn pop_int(&mut self) -> i32 {
        match self.pop() {
            Value::Int(value) => value,
            other => unreachable!("the verifier has seen an int where there is {other:?}"),
        }
    }

    /// Takes a reference that must not be null.
    fn pop_object(&mut self) -> Result<u64, Raise> {
        match self.pop() {
            Value::Ref(0) => Err(Raise::Kind(RaiseKind::Null)),
            Value::Ref(object) => Ok(object),
            other => unreachable!("the verifier has seen a reference where there is {other:?}"),
        }
    }
}

/// What is raised.
#[derive(Clone, Copy, Debug)]
enum Raise {
    Kind(RaiseKind),
    Object(u64),
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What was raised: `guest` for an exception, `interrupt` where the fuel is used up.
    pub kind: RaiseKind,
    /// The class of the exception that nobody caught; none for what cannot be caught.
    pub class: Option<il::ClassId>,
    /// Where: methods and operations, the innermost first.
    pub trace: Vec<(MethodId, usize)>,
}

/// An interpretation.
pub struct Interpreter<'i, H> {
    program: &'i Program,
    host: &'i mut H,
    observed: Option<&'i mut Observed>,
    limits: Limits,
    top: Frame,
    callers: Vec<Frame>,
}

/// Calls a method. `observed` learns what happens, if it is given.
///
/// # Errors
///
/// Why there is no result.
pub fn call<H: Host>(
    program: &Program,
    host: &mut H,
    observed: Option<&mut Observed>,
    limits: Limits,
    method: MethodId,
    args: &[Value],
) -> Result<Option<Value>, Stop> {
    let mut interpreter = Interpreter {
        program,
        host,
        observed,
        limits,
        top: Frame::new(program, method, args),
        callers: Vec::new(),
    };
    interpreter.entered();
    interpreter.run()
}

/// Goes on from frames, the innermost last.
///
/// # Errors
///
/// Why there is no result.
///
/// # Panics
///
/// If there are no frames.
pub fn resume<H: Host>(
    program: &Program,
    host: &mut H,
    limits: Limits,
    mut frames: Vec<Frame>,
) -> Result<Option<Value>, Stop> {
    let top = frames.pop().expect("there is a frame to go on from");
    Interpreter { program, host, observed: None, limits, top, callers: frames }.run()
}

impl<H: Host> Interpreter<'_, H> {
    fn run(&mut self) -> Result<Option<Value>, Stop> {
        let program = self.program;
        loop {
            if self.limits.fuel == 0 {
                return Err(self.stop(RaiseKind::Interrupt, None));
            }
            self.limits.fuel -= 1;
            let op = &program.methods[self.top.method].code[self.top.at];
            if let Some(observed) = &mut self.observed {
                observed.step(program, self.host, &self.top, op);
            }
            if let Op::Return = op {
                let result = self.top.stack.pop();
                let Some(caller) = self.callers.pop() else { return Ok(result) };
                self.top = caller;
                self.top.stack.extend(result);
                self.top.at += 1;
            } else if let Err(raise) = self.step(op) {
                self.catch(raise)?;
            }
        }
    }

    fn entered(&mut self) {
        if let Some(observed) = &mut self.observed {
            observed.enter(self.top.method);
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one row for each operation")]
    fn step(&mut self, op: &Op) -> Result<(), Raise> {
        let (program, top) = (self.program, &mut self.top);
        match op {
            Op::Int(value) => top.push(Value::Int(*value)),
            Op::Long(value) => top.push(Value::Long(*value)),
            Op::Double(value) => top.push(Value::Double(*value)),
            Op::Null => top.push(Value::Ref(0)),
            Op::Load(local) => top.push(top.locals[usize::from(*local)]),
            Op::Store(local) => top.locals[usize::from(*local)] = top.pop(),
            Op::Pop => drop(top.pop()),
            Op::Dup => {
                let value = top.pop();
                top.stack.extend([value, value]);
            }
            Op::Swap => {
                let (right, left) = (top.pop(), top.pop());
                top.stack.extend([right, left]);
            }
            Op::Unary(op) => {
                let value = top.pop();
                top.push(unary(*op, value));
            }
            Op::Binary(op) => {
                let (right, left) = (top.pop(), top.pop());
                top.push(binary(*op, left, right)?);
            }
            Op::Compare(op) => {
                let (right, left) = (top.pop(), top.pop());
                top.push(Value::Int(compare(*op, left, right).into()));
            }
            Op::Jump(label) => return self.jump(*label),
            Op::If(label) | Op::IfNot(label) => {
                if (top.pop_int() != 0) == matches!(op, Op::If(_)) {
                    return self.jump(*label);
                }
            }
            Op::Switch(cases, other) => {
                let value = top.pop_int();
                let case = cases.iter().find(|(case, _)| *case == value);
                return self.jump(case.map_or(*other, |(_, label)| *label));
            }
            Op::New(class) => {
                let object = self.allocate(ObjectKind::Object(*class), 0)?;
                self.top.push(Value::Ref(object));
            }
            Op::NewArray(element) => {
                let length =
                    u32::try_from(top.pop_int()).map_err(|_| Raise::Kind(RaiseKind::NegativeSize))?;
                let kind = match element {
                    Element::Class(class) => ObjectKind::ObjectArray(*class),
                    _ => ObjectKind::Array(element.stored()),
                };
                let array = self.allocate(kind, length)?;
                self.top.push(Value::Ref(array));
            }
            Op::Get(member) => {
                let Member { ty, offset, .. } = &program.members[*member];
                let object = top.pop_object()?;
                let bits = self.host.read(object, field_offset(*offset), ty.lowered());
                top.push(Value::from_bits(ty.lowered(), bits));
            }
            Op::Put(member) => {
                let Member { ty, offset, .. } = &program.members[*member];
                let value = top.pop();
                let object = top.pop_object()?;
                self.host.write(object, field_offset(*offset), ty.lowered(), value.bits());
            }
            Op::GetStatic(member) => {
                let bits = self.host.read_static(*member);
                top.push(Value::from_bits(program.members[*member].ty.lowered(), bits));
            }
            Op::PutStatic(member) => self.host.write_static(*member, top.pop().bits()),
            Op::Length => {
                let array = top.pop_object()?;
                top.push(Value::Int(self.host.length(array) as i32));
            }
            Op::GetElement => {
                let index = top.pop_int();
                let array = top.pop_object()?;
                let (ty, offset) = self.element(array, index)?;
                self.top.push(Value::from_bits(ty, self.host.read(array, offset, ty)));
            }
            Op::PutElement => {
                let value = top.pop();
                let index = top.pop_int();
                let array = top.pop_object()?;
                let (ty, offset) = self.element(array, index)?;
                if let (ObjectKind::ObjectArray(class), Value::Ref(object)) = (self.host.kind(array), value)
                    && !self.is_instance(object, class, true)
                {
                    return Err(Raise::Kind(RaiseKind::Store));
                }
                self.host.write(array, offset, ty, value.bits());
            }
            Op::InstanceOf(class) => {
                let object = top.pop().bits();
                let is_instance = self.is_instance(object, *class, false);
                self.top.push(Value::Int(is_instance.into()));
            }
            Op::Cast(class) => {
                let object = top.pop().bits();
                if !self.is_instance(object, *class, true) {
                    return Err(Raise::Kind(RaiseKind::Cast));
                }
                self.top.push(Value::Ref(object));
            }
            Op::Call(method) => return self.enter(*method),
            Op::Virtual(dispatch) | Op::Interface(dispatch) => {
                let receiver = top.stack.len() - 1 - program.shape(*dispatch).params.len();
                let receiver = top.stack[receiver].bits();
                let ObjectKind::Object(class) = self.kind(receiver)? else {
                    unreachable!("the verifier has seen an object of a class");
                };
                let method = program.select(class, *dispatch);
                return self.enter(method.expect("a class that is not abstract has all methods"));
            }
            Op::Native(native) => {
                let args = top.stack.len() - program.natives[*native].shape.params.len();
                let result = self.host.native(program, *native, &top.stack[args..]).map_err(Raise::Kind)?;
                top.stack.truncate(args);
                top.stack.extend(result);
            }
            Op::Throw => return Err(Raise::Object(top.pop_object()?)),
            Op::Lock => {
                let object = top.pop_object()?;
                self.host.lock(object);
                top.locks.push(object);
            }
            Op::Unlock => {
                let object = top.locks.pop().expect("the verifier has seen that a monitor is held");
                self.host.unlock(object);
            }
            Op::Return => unreachable!("`run` returns"),
        }
        self.top.at += 1;
        Ok(())
    }

    fn jump(&mut self, label: LabelId) -> Result<(), Raise> {
        self.top.at = self.program.methods[self.top.method].label(label).at as usize;
        Ok(())
    }

    /// Calls a method with the arguments on the stack.
    fn enter(&mut self, method: MethodId) -> Result<(), Raise> {
        let callee = &self.program.methods[method];
        let args = self.top.stack.len() - callee.params;
        if !callee.is_static {
            self.kind(self.top.stack[args].bits())?;
        }
        if self.callers.len() + 1 >= self.limits.depth {
            return Err(Raise::Kind(RaiseKind::StackOverflow));
        }
        let frame = Frame::new(self.program, method, &self.top.stack[args..]);
        self.top.stack.truncate(args);
        self.callers.push(std::mem::replace(&mut self.top, frame));
        self.entered();
        Ok(())
    }

    // ---- objects ----

    fn allocate(&mut self, kind: ObjectKind, length: u32) -> Result<u64, Raise> {
        self.host.allocate(self.program, kind, length).ok_or(Raise::Kind(RaiseKind::OutOfMemory))
    }

    /// What an object is; raises if it is null.
    fn kind(&mut self, object: u64) -> Result<ObjectKind, Raise> {
        if object == 0 { Err(Raise::Kind(RaiseKind::Null)) } else { Ok(self.host.kind(object)) }
    }

    /// Whether an object is an instance of a class; of null, what is asked for is the answer.
    fn is_instance(&mut self, object: u64, class: il::ClassId, of_null: bool) -> bool {
        match self.kind(object) {
            Ok(ObjectKind::Object(own)) => self.program.is_subclass(own, class),
            Ok(_) => false,
            Err(_) => of_null,
        }
    }

    /// The type of an array's element and its offset from the reference.
    fn element(&mut self, array: u64, index: i32) -> Result<(il::Type, u64), Raise> {
        let ty = self.host.kind(array).element().expect("the verifier has seen an array");
        match u32::try_from(index) {
            Ok(index) if index < self.host.length(array) => {
                Ok((ty, ELEMENTS_OFFSET as u64 + u64::from(index) * u64::from(ty.bytes())))
            }
            _ => Err(Raise::Kind(RaiseKind::Bounds)),
        }
    }

    // ---- exceptions ----

    /// Goes on at the first handler that catches what is raised.
    fn catch(&mut self, raise: Raise) -> Result<(), Stop> {
        let program = self.program;
        let (kind, class) = match raise {
            Raise::Kind(kind) => (kind, program.fault_class(kind)),
            Raise::Object(object) => match self.host.kind(object) {
                ObjectKind::Object(class) => (RaiseKind::Guest, Some(class)),
                _ => unreachable!("the verifier has seen an object of a class"),
            },
        };
        let Some(class) = class else { return Err(self.stop(kind, None)) };
        let handler = |frame: &Frame| {
            let method = &program.methods[frame.method];
            let found =
                method.handlers_at(frame.at).find(|handler| program.is_subclass(class, handler.class));
            found.map(|handler| method.label(handler.target).at as usize)
        };
        let frames = std::iter::once(&self.top).chain(self.callers.iter().rev());
        let Some((depth, at)) =
            (0_usize..).zip(frames.map(handler)).find_map(|(depth, at)| Some((depth, at?)))
        else {
            return Err(self.stop(kind, Some(class)));
        };
        let object = match raise {
            Raise::Object(object) => Some(object),
            Raise::Kind(_) => self.host.allocate(program, ObjectKind::Object(class), 0),
        };
        let Some(object) = object else { return Err(self.stop(RaiseKind::OutOfMemory, None)) };
        self.callers.truncate(self.callers.len() - depth.saturating_sub(1));
        if depth > 0 {
            self.top = self.callers.pop().expect("the frame of the handler is below");
        }
        self.top.stack.clear();
        self.top.push(Value::Ref(object));
        self.top.at = at;
        Ok(())
    }

    fn stop(&self, kind: RaiseKind, class: Option<il::ClassId>) -> Stop {
        Stop { kind, class, trace: self.trace() }
    }

    fn trace(&self) -> Vec<(MethodId, usize)> {
        const SHOWN: usize = 64;
        let frames = std::iter::once(&self.top).chain(self.callers.iter().rev());
        frames.take(SHOWN).map(|frame| (frame.method, frame.at)).collect()
    }
}

fn field_offset(offset: Option<u32>) -> u64 {
    offset.expect("the reader has seen a field, not a static").into()
}

// ---- arithmetic; shared with nothing, so that other engines can be held against it ----

fn unary(op: Unary, value: Value) -> Value {
    match (op, value) {
        (Unary::Neg, Value::Int(value)) => Value::Int(value.wrapping_neg()),
        (Unary::Neg, Value::Long(value)) => Value::Long(value.wrapping_neg()),
        (Unary::Neg, Value::Double(value)) => Value::Double(-value),
        (Unary::ToInt, Value::Long(value)) => Value::Int(value as i32),
        (Unary::ToInt, Value::Double(value)) => Value::Int(value as i32),
        (Unary::ToLong, Value::Int(value)) => Value::Long(value.into()),
        (Unary::ToLong, Value::Double(value)) => Value::Long(value as i64),
        (Unary::ToDouble, Value::Int(value)) => Value::Double(value.into()),
        (Unary::ToDouble, Value::Long(value)) => Value::Double(value as f64),
        (_, value) => value,
    }
}

/// The operations on integers of a type, as a match.
macro_rules! integers {
    ($op:expr, $left:expr, $right:expr) => {
        match $op {
            Binary::Add => $left.wrapping_add($right),
            Binary::Sub => $left.wrapping_sub($right),
            Binary::Mul => $left.wrapping_mul($right),
            Binary::Div | Binary::Rem if $right == 0 => return Err(Raise::Kind(RaiseKind::Division)),
            Binary::Div => $left.wrapping_div($right),
            Binary::Rem => $left.wrapping_rem($right),
            Binary::And => $left & $right,
            Binary::Or => $left | $right,
            Binary::Xor => $left ^ $right,
            Binary::Shl => $left.wrapping_shl($right as u32),
            Binary::Shr => $left.wrapping_shr($right as u32),
            Binary::Ushr => $left.cast_unsigned().wrapping_shr($right as u32).cast_signed(),
        }
    };
}

fn binary(op: Binary, left: Value, right: Value) -> Result<Value, Raise> {
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Value::Int(integers!(op, left, right)),
        (Value::Long(left), Value::Long(right)) => Value::Long(integers!(op, left, right)),
        (Value::Double(left), Value::Double(right)) => Value::Double(match op {
            Binary::Add => left + right,
            Binary::Sub => left - right,
            Binary::Mul => left * right,
            Binary::Div => left / right,
            _ => left % right,
        }),
        _ => unreachable!("the verifier has seen two numbers of one type"),
    })
}

fn compare(op: Compare, left: Value, right: Value) -> bool {
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(&right)),
        (Value::Long(left), Value::Long(right)) => Some(left.cmp(&right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(&right),
        (left, right) => Some(left.bits().cmp(&right.bits())),
    };
    match op {
        Compare::Eq => order.is_some_and(|order| order.is_eq()),
        Compare::Ne => order.is_none_or(|order| order.is_ne()),
        Compare::Lt => order.is_some_and(|order| order.is_lt()),
        Compare::Le => order.is_some_and(|order| order.is_le()),
        Compare::Gt => order.is_some_and(|order| order.is_gt()),
        Compare::Ge => order.is_some_and(|order| order.is_ge()),
    }
}
