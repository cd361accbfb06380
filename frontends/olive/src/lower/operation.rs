//! Operations other than jumps.

use dagwood_il as il;
use il::layout::ELEMENTS_OFFSET;
use il::{Access, MethodId, Node, Opcode, Payload, Place, RaiseKind, SymbolId, Type};

use super::Lower;
use crate::program::{Binary, Compare, Dispatch, Element, Member, Op, Type as Static, Unary};

impl Lower<'_, '_> {
    /// Lowers the operation at which the walk stands.
    pub(super) fn operation(&mut self, op: &Op) {
        match op {
            Op::Int(value) => self.push_constant(Type::I32, *value as u32 as u64),
            Op::Long(value) => self.push_constant(Type::I64, *value as u64),
            Op::Double(value) => self.push_constant(Type::F64, value.to_bits()),
            Op::Null => self.push_constant(Type::Ref, 0),
            Op::Load(local) => {
                let value = self.b.get(self.locals[usize::from(*local)]);
                self.stack.push(value);
            }
            Op::Store(local) => {
                let value = self.pop();
                self.b.set(self.locals[usize::from(*local)], value);
            }
            Op::Pop => drop(self.stack.pop()),
            Op::Dup => self.stack.extend_from_within(self.stack.len() - 1..),
            Op::Swap => {
                let top = self.stack.len() - 1;
                self.stack.swap(top - 1, top);
            }
            Op::Unary(op) => self.unary(*op),
            Op::Binary(op) => self.binary(*op),
            Op::Compare(op) => self.compare(*op),
            Op::Jump(label) => self.jump(*label),
            Op::If(label) | Op::IfNot(label) => self.branch(op, *label),
            Op::Switch(cases, other) => self.switch(cases, *other),
            Op::Get(member) | Op::Put(member) => self.field(op, *member),
            Op::GetStatic(member) | Op::PutStatic(member) => self.global(op, *member),
            Op::New(_) | Op::NewArray(_) => self.allocate(op),
            Op::Length => {
                let array = self.array(0);
                let length = self.b.op(Opcode::ArrayLength, &[array]);
                self.replace(1, Some(length));
            }
            Op::GetElement => self.get_element(),
            Op::PutElement => self.put_element(),
            Op::InstanceOf(class) | Op::Cast(class) => self.class_test(op, *class),
            Op::Call(_) | Op::Virtual(_) | Op::Interface(_) | Op::Native(_) => self.call(op),
            Op::Return => {
                let results: Vec<Node> = self.stack.drain(..).collect();
                self.b.ret(&results);
            }
            Op::Throw => {
                let object = self.object(0);
                let frame = self.before();
                self.b.emit(Opcode::Throw, Type::Void, &[object, frame], Payload::None);
            }
            Op::Lock => {
                let object = self.object(0);
                self.replace(1, None);
                let monitor = self.monitor(self.walk.locks as usize);
                self.b.set(monitor, object);
                self.walk.locks += 1;
                self.monitor_root(Opcode::MonitorEnter, object);
                self.walk.locks -= 1;
            }
            Op::Unlock => {
                self.walk.locks -= 1;
                let monitor = self.monitor(self.walk.locks as usize);
                let object = self.b.get(monitor);
                self.monitor_root(Opcode::MonitorExit, object);
                self.walk.locks += 1;
            }
        }
    }

    fn push_constant(&mut self, ty: Type, bits: u64) {
        let value = self.b.constant(ty, bits);
        self.stack.push(value);
    }

    /// The value at a depth below the top.
    fn peek(&self, depth: usize) -> Node {
        self.stack[self.stack.len() - 1 - depth]
    }

    /// Takes values from the stack, and perhaps puts one there.
    fn replace(&mut self, taken: usize, value: Option<Node>) {
        self.stack.truncate(self.stack.len() - taken);
        self.stack.extend(value);
    }

    // ---- arithmetic ----

    fn unary(&mut self, op: Unary) {
        use Opcode::{FNeg, FloatToSInt, Neg, SExt, SIntToFloat, Wrap};
        let value = self.pop();
        let from = self.b.method().ty(value);
        let to = match op {
            Unary::Neg => {
                let value = self.b.op(if from.is_float() { FNeg } else { Neg }, &[value]);
                return self.stack.push(value);
            }
            Unary::ToInt => Type::I32,
            Unary::ToLong => Type::I64,
            Unary::ToDouble => Type::F64,
        };
        let opcode = match (from, to) {
            _ if from == to => return self.stack.push(value),
            (Type::F64, _) => FloatToSInt,
            (_, Type::F64) => SIntToFloat,
            (Type::I64, _) => Wrap,
            _ => SExt,
        };
        let value = self.b.convert(opcode, to, value);
        self.stack.push(value);
    }

    fn binary(&mut self, op: Binary) {
        let (left, right) = (self.peek(1), self.peek(0));
        let is_float = self.b.method().ty(left).is_float();
        let opcode = match op {
            Binary::Add if is_float => Opcode::FAdd,
            Binary::Sub if is_float => Opcode::FSub,
            Binary::Mul if is_float => Opcode::FMul,
            Binary::Div if is_float => Opcode::FDiv,
            Binary::Rem if is_float => Opcode::FRem,
            Binary::Add => Opcode::Add,
            Binary::Sub => Opcode::Sub,
            Binary::Mul => Opcode::Mul,
            Binary::Div => Opcode::SDiv,
            Binary::Rem => Opcode::SRem,
            Binary::And => Opcode::And,
            Binary::Or => Opcode::Or,
            Binary::Xor => Opcode::Xor,
            Binary::Shl => Opcode::Shl,
            Binary::Shr => Opcode::SShr,
            Binary::Ushr => Opcode::UShr,
        };
        let right = match opcode {
            Opcode::SDiv | Opcode::SRem => self.check(Opcode::DivCheck, &[right], RaiseKind::Division),
            _ => right,
        };
        let value = self.b.op(opcode, &[left, right]);
        self.replace(2, Some(value));
    }

    fn compare(&mut self, op: Compare) {
        let (left, right) = (self.peek(1), self.peek(0));
        let is_float = self.b.method().ty(left).is_float();
        let opcode = match op {
            Compare::Eq if is_float => Opcode::FEq,
            Compare::Ne if is_float => Opcode::FNe,
            Compare::Lt if is_float => Opcode::FLt,
            Compare::Le if is_float => Opcode::FLe,
            Compare::Gt if is_float => Opcode::FGt,
            Compare::Ge if is_float => Opcode::FGe,
            Compare::Eq => Opcode::Eq,
            Compare::Ne => Opcode::Ne,
            Compare::Lt => Opcode::SLt,
            Compare::Le => Opcode::SLe,
            Compare::Gt => Opcode::SGt,
            Compare::Ge => Opcode::SGe,
        };
        let value = self.b.op(opcode, &[left, right]);
        self.replace(2, Some(value));
    }

    // ---- objects ----

    /// The reference at a depth below the top, once it is known not to be null.
    fn object(&mut self, depth: usize) -> Node {
        let object = self.peek(depth);
        let is_this = !self.method.is_static && object == self.b.get(self.locals[0]);
        let made = [Opcode::NullCheck, Opcode::New, Opcode::NewArray, Opcode::NewObjectArray];
        if is_this || made.contains(&self.b.method().opcode(object)) {
            return object;
        }
        self.check(Opcode::NullCheck, &[object], RaiseKind::Null)
    }

    fn array(&mut self, depth: usize) -> Node {
        self.object(depth)
    }

    fn field(&mut self, op: &Op, member: SymbolId) {
        let Member { ty, offset, .. } = self.cx.program.members[member];
        let offset = offset.expect("the reader has seen a field, not a static");
        let access = Access { place: Place::Symbol(member), offset: offset as i32, scale: 1 };
        if let Op::Get(_) = op {
            let object = self.object(0);
            let value = self.b.load(ty.lowered(), access, object, None);
            return self.replace(1, Some(value));
        }
        let (object, value) = (self.object(1), self.peek(0));
        self.b.store(access, value, object, None);
        self.replace(2, None);
    }

    fn global(&mut self, op: &Op, member: SymbolId) {
        let ty = self.cx.program.members[member].ty.lowered();
        let access = Access { place: Place::Symbol(member), offset: 0, scale: 1 };
        let address = self.b.emit(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(member));
        if let Op::GetStatic(_) = op {
            let value = self.b.load(ty, access, address, None);
            return self.stack.push(value);
        }
        let value = self.pop();
        self.b.store(access, value, address, None);
    }

    fn allocate(&mut self, op: &Op) {
        let length = match op {
            Op::NewArray(_) => {
                let length = self.peek(0);
                let length = self.check(Opcode::SizeCheck, &[length], RaiseKind::NegativeSize);
                self.replace(1, None);
                Some(length)
            }
            _ => None,
        };
        let operands: Vec<Node> = length.into_iter().chain([self.after()]).collect();
        let (opcode, payload) = match op {
            Op::New(class) => (Opcode::New, Payload::Class(*class)),
            Op::NewArray(Element::Class(class)) => (Opcode::NewObjectArray, Payload::Class(*class)),
            Op::NewArray(element) => (Opcode::NewArray, Payload::Element(element.stored())),
            _ => unreachable!("the other operations allocate nothing"),
        };
        let object = self.b.emit(opcode, Type::Ref, &operands, payload);
        self.stack.push(object);
    }

    /// The array and the index, checked, of an access with so many values above them.
    fn element(&mut self, above: usize) -> (Node, Node) {
        let array = self.array(above + 1);
        let length = self.b.op(Opcode::ArrayLength, &[array]);
        let index = self.check(Opcode::BoundsCheck, &[self.peek(above), length], RaiseKind::Bounds);
        (array, self.b.convert(Opcode::UExt, Type::I64, index))
    }

    fn element_access(&self, ty: Type) -> Access {
        let place = Place::Symbol(self.cx.declared.elements(ty));
        Access { place, offset: ELEMENTS_OFFSET, scale: ty.bytes() as u8 }
    }

    fn get_element(&mut self) {
        let ty = self.element_type(1);
        let (array, index) = self.element(0);
        let mut value = self.b.load(ty, self.element_access(ty), array, Some(index));
        if ty == Type::I8 {
            value = self.b.convert(Opcode::UExt, Type::I32, value);
        }
        self.replace(2, Some(value));
    }

    fn put_element(&mut self) {
        let ty = self.element_type(2);
        let (mut array, index) = self.element(1);
        let mut value = self.peek(0);
        if ty == Type::I8 {
            value = self.b.convert(Opcode::Wrap, ty, value);
        }
        if ty == Type::Ref && self.b.method().const_bits(value).is_none() {
            let frame = self.before();
            array = self.b.emit(Opcode::StoreCheck, Type::Ref, &[array, value, frame], Payload::None);
        }
        self.b.store(self.element_access(ty), value, array, Some(index));
        self.replace(3, None);
    }

    /// How the array at a depth below the top keeps its elements.
    fn element_type(&self, depth: usize) -> Type {
        let types = &self.walk.stack;
        match types[types.len() - 1 - depth] {
            Static::Array(element) => element.stored(),
            other => unreachable!("the verifier has seen an array where there is {other:?}"),
        }
    }

    fn class_test(&mut self, op: &Op, class: il::ClassId) {
        let object = self.peek(0);
        let is_cast = matches!(op, Op::Cast(_));
        let value = match (class == self.cx.program.known.object, is_cast) {
            (true, true) => object,
            (true, false) => {
                let null = self.b.constant(Type::Ref, 0);
                self.b.op(Opcode::Ne, &[object, null])
            }
            (false, true) => {
                let frame = self.before();
                self.b.emit(Opcode::CastCheck, Type::Ref, &[object, frame], Payload::Class(class))
            }
            (false, false) => self.b.emit(Opcode::InstanceOf, Type::I32, &[object], Payload::Class(class)),
        };
        self.replace(1, Some(value));
    }

    fn monitor_root(&mut self, opcode: Opcode, object: Node) {
        let frame = self.after();
        self.b.emit(opcode, Type::Void, &[object, frame], Payload::None);
    }

    // ---- calls ----

    /// The one method that a call finds with the receiver at a depth below the top.
    fn only_target(&self, depth: usize, dispatch: Dispatch) -> Option<MethodId> {
        let types = &self.walk.stack;
        match types[types.len() - 1 - depth] {
            Static::Class(class) => self.cx.program.only_target(class, dispatch),
            _ => None,
        }
    }

    fn call(&mut self, op: &Op) {
        let program = self.cx.program;
        let (count, has_receiver, result, opcode, payload) = match op {
            Op::Call(id) => {
                let method = &program.methods[*id];
                (method.params, !method.is_static, method.result, Opcode::Call, Payload::Method(*id))
            }
            Op::Native(id) => {
                let shape = &program.natives[*id].shape;
                (shape.params.len(), false, shape.result, Opcode::CallNative, Payload::Native(*id))
            }
            Op::Virtual(dispatch) | Op::Interface(dispatch) => {
                let shape = program.shape(*dispatch);
                let count = shape.params.len() + 1;
                let (opcode, payload) = match (self.only_target(count - 1, *dispatch), op) {
                    (Some(target), _) => (Opcode::Call, Payload::Method(target)),
                    (None, Op::Virtual(_)) => (Opcode::CallVirtual, Payload::Dispatch(*dispatch)),
                    (None, _) => (Opcode::CallInterface, Payload::Dispatch(*dispatch)),
                };
                (count, true, shape.result, opcode, payload)
            }
            _ => unreachable!("the other operations call nothing"),
        };
        let receiver = has_receiver.then(|| self.object(count - 1));
        let mut operands = self.stack.split_off(self.stack.len() - count);
        if let Some(receiver) = receiver {
            operands[0] = receiver;
        }
        operands.push(self.after());
        let ty = result.map_or(Type::Void, |ty| ty.lowered());
        let value = self.b.emit(opcode, ty, &operands, payload);
        self.stack.extend(result.map(|_| value));
    }
}
