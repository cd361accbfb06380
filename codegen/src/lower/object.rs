//! Objects: allocation, type tests, dispatch, lengths and monitors.
//!
//! ```text
//!   new:    top + size <= limit ? write the header at top : call the runtime       memory is zeroed ahead of use
//!   cast:   display of the object's class, at the depth of the class asked for      interfaces, and deep classes: the runtime
//!   call:   description ─► word of the slot ─► code
//!           description ─► chain of the key ─► entry with the key ─► code           the last entry's code raises
//! ```
//!
//! A receiver or array that is null is read from, as any null is that nobody checked: a fault. A receiver of another class than the
//! call names is not looked for; whoever makes IL of untyped code casts before it calls.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, SigRef, Value, types};
use dagwood_il::layout::description::{
    DISPLAY, DISPLAY_CLASSES, ELEMENT, ENTRY_BYTES, ENTRY_CODE, INTERFACES, METHODS, interface_chain,
    interface_key,
};
use dagwood_il::layout::thread::{OBJECT_LIMIT, OBJECT_TOP};
use dagwood_il::layout::{
    CLASS_OFFSET, HEADER_BYTES, LENGTH_OFFSET, OBJECT_ALIGN, ObjectKind, RUNTIME_OFFSET,
};
use dagwood_il::{ClassId, Dispatch, Node, Opcode, Payload, RaiseKind};

use super::check::When;
use super::memory::{flags, trusted};
use super::{Lower, Result};
use crate::artifact::Helper;

/// The bytes of an address.
const WORD: i32 = 8;

impl Lower<'_, '_, '_> {
    /// The address of a description.
    pub(super) fn description(&mut self, kind: ObjectKind) -> Value {
        let global = self.tables.imports.description(self.cursor.func, kind);
        self.ins().symbol_value(types::I64, global)
    }

    /// The address of an object's description, which is a fault if there is no object.
    fn description_of(&mut self, object: Value) -> Value {
        self.ins().load(types::I64, flags(), object, CLASS_OFFSET)
    }

    fn class(&self, node: Node) -> Result<ClassId> {
        match self.method.payload(node) {
            Payload::Class(class) => Ok(class),
            _ => Err(self.input(&format!("{node} names no class"))),
        }
    }

    // ---- allocation ----

    pub(super) fn allocate(&mut self, node: Node) -> Result<Value> {
        let (kind, length) = match (self.method.opcode(node), self.method.payload(node)) {
            (Opcode::New, Payload::Class(class)) => (ObjectKind::Object(class), None),
            (_, Payload::Class(class)) => (ObjectKind::ObjectArray(class), Some(self.length(node)?)),
            (_, Payload::Element(ty)) => (ObjectKind::Array(ty), Some(self.length(node)?)),
            _ => return Err(self.input(&format!("{node} does not say what it makes"))),
        };
        let (size, length) = match (kind, length) {
            (ObjectKind::Object(class), _) => {
                let bytes = self.module.classes[class].size_bytes.max(HEADER_BYTES);
                let bytes = u64::from(bytes).next_multiple_of(OBJECT_ALIGN.into());
                (self.iconst(types::I64, bytes), self.iconst(types::I64, 0))
            }
            (_, Some(length)) => (self.array_size(kind, length), length),
            (_, None) => unreachable!("an array has a length"),
        };
        let description = self.description(kind);
        let thread = self.thread();
        let object = self.ins().load(types::I64, trusted(), thread, OBJECT_TOP);
        let limit = self.ins().load(types::I64, trusted(), thread, OBJECT_LIMIT);
        let top = self.ins().iadd(object, size);
        let is_full = self.ins().icmp(IntCC::UnsignedGreaterThan, top, limit);
        let (cold, fast, next) = (self.new_block(), self.new_block(), self.new_block());
        let result = self.cursor.func.dfg.append_block_param(next, types::I64);
        self.ins().brif(is_full, cold, &[], fast, &[]);

        let region = self.begin_cold(cold);
        let start = self.tables.arguments.len();
        self.tables.arguments.extend_from_slice(&[description, length]);
        let made = self.call_raising_helper(Helper::Allocate, start)?.expect("the helper has a result");
        self.ins().jump(next, &[made.into()]);
        self.region = region;

        self.continue_in(fast);
        self.ins().store(trusted(), top, thread, OBJECT_TOP);
        self.ins().store(trusted(), description, object, CLASS_OFFSET);
        // The runtime's word is zero, and the length stands above it.
        const { assert!(LENGTH_OFFSET == RUNTIME_OFFSET + 4) };
        let lengths = self.shift_left(length, 32);
        self.ins().store(trusted(), lengths, object, RUNTIME_OFFSET);
        self.ins().jump(next, &[BlockArg::Value(object)]);
        self.continue_in(next);
        Ok(result)
    }

    /// The length of an array that is made, in 64 bits.
    fn length(&mut self, node: Node) -> Result<Value> {
        let length = self.operand(node, 0);
        let zero = self.iconst(types::I32, 0);
        let is_negative = self.ins().icmp(IntCC::SignedLessThan, length, zero);
        self.raise_if(node, is_negative, When::NonZero, RaiseKind::NegativeSize)?;
        Ok(self.ins().uextend(types::I64, length))
    }

    fn array_size(&mut self, kind: ObjectKind, length: Value) -> Value {
        let element = kind.element().map_or(1, |ty| ty.bytes());
        let bytes = self.shift_left(length, element.trailing_zeros());
        let rest = self.iconst(types::I64, (HEADER_BYTES + OBJECT_ALIGN - 1).into());
        let bytes = self.ins().iadd(bytes, rest);
        let mask = self.iconst(types::I64, !u64::from(OBJECT_ALIGN - 1));
        self.ins().band(bytes, mask)
    }

    // ---- headers ----

    pub(super) fn array_length(&mut self, node: Node) -> Value {
        let array = self.operand(node, 0);
        self.ins().load(types::I32, flags(), array, LENGTH_OFFSET)
    }

    pub(super) fn class_of(&mut self, node: Node) -> Value {
        let object = self.operand(node, 0);
        self.description_of(object)
    }

    /// Counts in the object how often its monitor was entered: one thread has a heap at a time.
    pub(super) fn monitor(&mut self, node: Node) -> Result<()> {
        let object = self.operand(node, 0);
        let count = self.ins().load(types::I32, flags(), object, RUNTIME_OFFSET);
        let one = self.iconst(types::I32, 1);
        let count = match self.method.opcode(node) {
            Opcode::MonitorEnter => self.ins().iadd(count, one),
            _ => {
                self.raise_if(node, count, When::Zero, RaiseKind::Monitor)?;
                self.ins().isub(count, one)
            }
        };
        self.ins().store(flags(), count, object, RUNTIME_OFFSET);
        Ok(())
    }

    // ---- type tests ----

    /// Whether the operand is of the class, as a flag; null is not.
    pub(super) fn instance_of(&mut self, node: Node) -> Result<Value> {
        let (object, class) = (self.operand(node, 0), self.class(node)?);
        Ok(self.test(object, class, 0))
    }

    pub(super) fn cast(&mut self, node: Node) -> Result<Value> {
        let (object, class) = (self.operand(node, 0), self.class(node)?);
        let is_instance = self.test(object, class, 1);
        self.raise_if(node, is_instance, When::Zero, RaiseKind::Cast)?;
        Ok(object)
    }

    /// Whether an object is of a class, as a flag; of null, `of_null`.
    fn test(&mut self, object: Value, class: ClassId, of_null: u64) -> Value {
        let (some, done) = (self.new_block(), self.new_block());
        let flag = self.cursor.func.dfg.append_block_param(done, types::I8);
        let of_null = self.iconst(types::I8, of_null);
        self.ins().brif(object, some, &[], done, &[of_null.into()]);
        self.continue_in(some);
        let own = self.description_of(object);
        let asked = self.description(ObjectKind::Object(class));
        let depth = self.module.superclasses(class).count() - 1;
        let is_instance = if self.module.classes[class].is_interface || depth >= DISPLAY_CLASSES {
            self.ask(own, asked)
        } else {
            let at_depth = self.ins().load(types::I64, flags(), own, DISPLAY + depth as i32 * WORD);
            self.ins().icmp(IntCC::Equal, at_depth, asked)
        };
        self.ins().jump(done, &[is_instance.into()]);
        self.continue_in(done);
        flag
    }

    /// Asks the runtime whether objects with one description are of the class with the other, as a flag.
    fn ask(&mut self, own: Value, asked: Value) -> Value {
        let answer = self.call_pure_helper(Helper::InstanceOf, &[own, asked]);
        let zero = self.iconst(types::I32, 0);
        self.ins().icmp(IntCC::NotEqual, answer, zero)
    }

    /// An array of objects takes null and objects of its class, and no other array takes anything.
    pub(super) fn store_check(&mut self, node: Node) -> Result<Value> {
        let (array, stored) = self.operands(node);
        let kind = self.description_of(array);
        let element = self.ins().load(types::I64, flags(), kind, ELEMENT);
        let zero = self.iconst(types::I64, 0);
        let takes_null = self.ins().icmp(IntCC::NotEqual, element, zero);
        let (some, other, done) = (self.new_block(), self.new_block(), self.new_block());
        let flag = self.cursor.func.dfg.append_block_param(done, types::I8);
        self.ins().brif(stored, some, &[], done, &[takes_null.into()]);
        self.continue_in(some);
        let own = self.description_of(stored);
        let is_same = self.ins().icmp(IntCC::Equal, own, element);
        self.ins().brif(is_same, done, &[is_same.into()], other, &[]);
        self.continue_in(other);
        let is_instance = self.ask(own, element);
        self.ins().jump(done, &[is_instance.into()]);
        self.continue_in(done);
        self.raise_if(node, flag, When::Zero, RaiseKind::Store)?;
        Ok(array)
    }

    // ---- dispatch ----

    /// The code that a call goes to whose first operand is the receiver, and its signature.
    pub(super) fn dispatch(&mut self, node: Node, dispatch: Dispatch) -> Result<(Value, SigRef)> {
        let class = self.module.classes.get(dispatch.class);
        let slot = class.and_then(|class| class.slots.get(dispatch.slot as usize));
        let Some(slot) = slot else {
            return Err(self.input(&format!("{node} calls what its class does not have")));
        };
        let signature = self.tables.imports.signature(self.cursor.func, self.module, slot.signature);
        let receiver = self.operand(node, 0);
        let description = self.description_of(receiver);
        let code = match self.method.opcode(node) {
            Opcode::CallVirtual => {
                let offset = i32::try_from(dispatch.slot).ok().and_then(|slot| slot.checked_mul(WORD));
                let offset = offset.and_then(|offset| offset.checked_add(METHODS));
                let offset =
                    offset.ok_or_else(|| self.limit("slots of a class", (i32::MAX / WORD) as usize))?;
                self.ins().load(types::I64, flags(), description, offset)
            }
            _ => self.search(description, interface_key(dispatch)),
        };
        Ok((code, signature))
    }

    /// The code that a description has for a slot of an interface.
    fn search(&mut self, description: Value, key: u64) -> Value {
        let chain = INTERFACES + interface_chain(key) as i32 * WORD;
        let first = self.ins().load(types::I64, flags(), description, chain);
        let (test, other, found) = (self.new_block(), self.new_block(), self.new_block());
        let entry = self.cursor.func.dfg.append_block_param(test, types::I64);
        self.ins().jump(test, &[first.into()]);
        self.continue_in(test);
        let own = self.ins().load(types::I64, flags(), entry, 0);
        let asked = self.iconst(types::I64, key);
        let is_found = self.ins().icmp(IntCC::Equal, own, asked);
        self.ins().brif(is_found, found, &[], other, &[]);
        self.continue_in(other);
        let step = self.iconst(types::I64, ENTRY_BYTES as u64);
        let next = self.ins().iadd(entry, step);
        // The last entry has no key.
        self.ins().brif(own, test, &[next.into()], found, &[]);
        self.continue_in(found);
        self.ins().load(types::I64, flags(), entry, ENTRY_CODE)
    }
}
