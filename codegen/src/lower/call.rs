//! Calls: of methods, of natives, of the runtime.
//!
//! A call that a handler of its block may see ends Cranelift's block, with one landing for each handler that it may
//! reach. A landing is a cold block: it gets the exception object and the raise code, and brings the locals along as
//! they stood at the call.

use cranelift_codegen::ir::{
    BlockArg, BlockCall, ExceptionTableData, ExceptionTableItem, ExceptionTag, FuncRef, Inst, InstBuilder,
    SigRef, StackSlot, StackSlotData, StackSlotKind, UserStackMapEntry, Value, ValueDef, types,
};
use dagwood_il::cfg::reached_handlers;
use dagwood_il::entity::Entity;
use dagwood_il::layout::thread::POLL;
use dagwood_il::layout::{BUFFER_SLOT_BYTES, NativeWord};
use dagwood_il::{Block, KindSet, NativeId, Node, Opcode, Payload, RaiseKind, Type};

use super::check::{POLLED, UNREACHABLE};
use super::memory::trusted;
use super::{Catch, Lower, Result, clif_type};
use crate::artifact::Helper;
use crate::imports::{Handled, Use};

/// What is called.
#[derive(Clone, Copy)]
enum Callee {
    Direct(FuncRef, SigRef),
    Indirect(Value, SigRef),
}

impl Lower<'_, '_, '_> {
    /// Lowers a call; its first result, if it has one.
    pub(super) fn call(&mut self, node: Node) -> Result<Option<Value>> {
        match self.method.payload(node) {
            Payload::Method(method) => {
                let function = self.tables.imports.method(self.cursor.func, self.module, method, Use::Call);
                let signature = self.cursor.func.dfg.ext_funcs[function].signature;
                let start = self.push_arguments(&[self.context], self.method.value_operands(node));
                self.emit_call(Callee::Direct(function, signature), start)
            }
            Payload::Signature(signature) => {
                let signature = self.tables.imports.signature(self.cursor.func, self.module, signature);
                let [address, arguments @ ..] = self.method.value_operands(node) else {
                    return Err(self.input(&format!("{node} calls nothing")));
                };
                let address = self.value(*address);
                let start = self.push_arguments(&[], arguments);
                self.emit_call(Callee::Indirect(address, signature), start)
            }
            Payload::Native(native) => self.call_native(node, native),
            Payload::Dispatch(dispatch) => {
                let (code, signature) = self.dispatch(node, dispatch)?;
                let start = self.push_arguments(&[self.context], self.method.value_operands(node));
                self.emit_call(Callee::Indirect(code, signature), start)
            }
            _ => Err(self.input(&format!("{node} does not say what it calls"))),
        }
    }

    /// Puts arguments on the argument stack; where they start.
    fn push_arguments(&mut self, first: &[Value], rest: &[Node]) -> usize {
        let start = self.tables.arguments.len();
        self.tables.arguments.extend_from_slice(first);
        for argument in rest {
            let value = self.value(*argument);
            self.tables.arguments.push(value);
        }
        start
    }

    /// The handlers that the root being lowered may reach, with what each catches, by landing.
    fn landings(&mut self) -> Vec<(Catch, Block)> {
        let points = self.cfg.raise_points(self.block);
        while points.get(self.raise_point).is_some_and(|point| point.position < self.position) {
            self.raise_point += 1;
        }
        let kinds = match points.get(self.raise_point) {
            Some(point) if point.position == self.position => point.kinds,
            _ => KindSet::NONE,
        };
        let handlers = reached_handlers(self.method.handlers(self.block), kinds);
        handlers.map(|(handler, _)| ((handler.kinds, handler.class), handler.block)).collect()
    }

    /// Emits a call with the arguments from `start` on; its first result.
    fn emit_call(&mut self, callee: Callee, start: usize) -> Result<Option<Value>> {
        let landings = self.landings();
        let arguments = &self.tables.arguments[start..];
        if landings.is_empty() {
            let inst = match callee {
                Callee::Direct(function, _) => self.cursor.ins().call(function, arguments),
                Callee::Indirect(address, signature) => {
                    self.cursor.ins().call_indirect(signature, address, arguments)
                }
            };
            self.tables.arguments.truncate(start);
            self.note_safepoint(inst);
            return Ok(self.cursor.func.dfg.inst_results(inst).first().copied());
        }
        self.emit_try_call(callee, start, &landings)
    }

    fn emit_try_call(
        &mut self,
        callee: Callee,
        start: usize,
        landings: &[(Catch, Block)],
    ) -> Result<Option<Value>> {
        let (Callee::Direct(_, signature) | Callee::Indirect(_, signature)) = callee;
        let next = self.new_block();
        let func = &mut *self.cursor.func;
        let results = func.dfg.signatures[signature].returns.len();
        let mut passed = Vec::with_capacity(results);
        for index in 0..results {
            let ty = func.dfg.signatures[signature].returns[index].value_type;
            func.dfg.append_block_param(next, ty);
            passed.push(BlockArg::TryCallRet(index as u32));
        }
        let normal = BlockCall::new(next, passed, &mut func.dfg.value_lists);
        let exception = [BlockArg::TryCallExn(0), BlockArg::TryCallExn(1)];
        let mut items = Vec::with_capacity(landings.len());
        for (catch, _) in landings {
            let block = func.dfg.make_block();
            func.dfg.append_block_param(block, types::I64);
            func.dfg.append_block_param(block, types::I64);
            let tag = ExceptionTag::from_u32(self.tables.catches.len() as u32);
            self.tables.catches.push(*catch);
            let call = BlockCall::new(block, exception, &mut func.dfg.value_lists);
            items.push((block, ExceptionTableItem::Tag(tag, call)));
        }
        let blocks: Vec<_> = items.iter().map(|(block, _)| *block).collect();
        let table = ExceptionTableData::new(signature, normal, items.into_iter().map(|(_, item)| item));
        let table = func.dfg.exception_tables.push(table);
        let arguments = &self.tables.arguments[start..];
        let inst = match callee {
            Callee::Direct(function, _) => self.cursor.ins().try_call(function, arguments, table),
            Callee::Indirect(address, _) => self.cursor.ins().try_call_indirect(address, arguments, table),
        };
        self.tables.arguments.truncate(start);
        self.note_safepoint(inst);
        for (block, (_, handler)) in blocks.into_iter().zip(landings) {
            let region = self.begin_cold(block);
            let params = self.cursor.func.dfg.block_params(block);
            let caught = [params[0].into(), params[1].into()];
            self.jump_to(*handler, &caught)?;
            self.region = region;
        }
        self.continue_in(next);
        Ok(self.cursor.func.dfg.block_params(next).first().copied())
    }

    /// Notes a call during which objects may move.
    fn note_safepoint(&mut self, inst: Inst) {
        if self.moves_objects {
            self.tables.references.safepoints.push(inst);
        }
    }

    /// A further result of a call.
    pub(super) fn result(&mut self, node: Node) -> Result<Value> {
        let Payload::Index(index) = self.method.payload(node) else {
            return Err(self.input(&format!("{node} does not say which result it is")));
        };
        let first = self.tables.slots[self.method.operands(node)[0].index()].value;
        let dfg = &self.cursor.func.dfg;
        let value = match dfg.value_def(first) {
            ValueDef::Result(inst, 0) => dfg.inst_results(inst).get(index as usize),
            ValueDef::Param(block, 0) => dfg.block_params(block).get(index as usize),
            _ => None,
        };
        value.copied().ok_or_else(|| self.input(&format!("{node} is no result of its call")))
    }

    // ---- natives ----

    fn call_native(&mut self, node: Node, native: NativeId) -> Result<Option<Value>> {
        let signature = self.module.native_signature(native);
        let slots = signature.params.len().max(signature.results.len()).max(1) as u32;
        let buffer = self.native_buffer(slots * BUFFER_SLOT_BYTES);
        for (index, argument) in (0..).zip(self.method.value_operands(node)) {
            let value = self.value(*argument);
            self.ins().stack_store(types::I64, value, buffer, index * BUFFER_SLOT_BYTES as i32);
        }
        let word = self.iconst(types::I64, NativeWord { native, slots }.encode());
        let address = self.ins().stack_addr(types::I64, buffer, 0);
        let start = self.tables.arguments.len();
        self.tables.arguments.extend_from_slice(&[self.context, word, address]);
        self.call_raising_helper(Helper::CallNative, start)?;
        self.map_arguments(node, buffer);
        let results = &self.module.native_signature(native).results;
        let start = self.tables.arguments.len();
        for (index, ty) in (0..).zip(results) {
            let value =
                self.ins().stack_load(types::I64, clif_type(*ty), buffer, index * BUFFER_SLOT_BYTES as i32);
            self.tables.arguments.push(value);
        }
        let first = self.gather(start);
        self.tables.arguments.truncate(start);
        Ok(first)
    }

    /// Lets the references among a native's arguments be found in the buffer, until the native has read them.
    fn map_arguments(&mut self, node: Node, slot: StackSlot) {
        let Some(inst) = self.tables.references.safepoints.last().copied().filter(|_| self.moves_objects)
        else {
            return;
        };
        for (index, argument) in (0..).zip(self.method.value_operands(node)) {
            if self.method.ty(*argument) == Type::Ref {
                let entry = UserStackMapEntry { ty: types::I64, slot, offset: index * BUFFER_SLOT_BYTES };
                self.cursor.func.dfg.append_user_stack_map_entry(inst, entry);
            }
        }
    }

    /// Makes the values from `start` on results that [`Lower::result`] finds: parameters of one block, if there are several.
    fn gather(&mut self, start: usize) -> Option<Value> {
        let values = &self.tables.arguments[start..];
        if values.len() < 2 {
            return values.first().copied();
        }
        let func = &mut *self.cursor.func;
        let next = func.dfg.make_block();
        for value in values {
            let ty = func.dfg.value_type(*value);
            func.dfg.append_block_param(next, ty);
        }
        let arguments: Vec<BlockArg> = values.iter().map(|value| (*value).into()).collect();
        self.ins().jump(next, &arguments);
        self.continue_in(next);
        self.cursor.func.dfg.block_params(next).first().copied()
    }

    /// The stack slot through which natives get their arguments, with at least this many bytes.
    fn native_buffer(&mut self, bytes: u32) -> StackSlot {
        let func = &mut *self.cursor.func;
        let buffer = *self.buffer.get_or_insert_with(|| {
            func.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4))
        });
        let size = &mut func.sized_stack_slots[buffer].size;
        *size = bytes.max(*size);
        buffer
    }

    // ---- helpers ----

    pub(super) fn call_helper(&mut self, helper: Helper, handled: Handled, arguments: &[Value]) -> Inst {
        let function = self.tables.imports.helper(self.cursor.func, helper, handled);
        self.ins().call(function, arguments)
    }

    /// Calls a helper that computes a value and does nothing else.
    pub(super) fn call_pure_helper(&mut self, helper: Helper, arguments: &[Value]) -> Value {
        let inst = self.call_helper(helper, Handled::No, arguments);
        self.cursor.func.dfg.first_result(inst)
    }

    /// Calls a helper that may raise, with the arguments from `start` on; its result.
    pub(super) fn call_raising_helper(&mut self, helper: Helper, start: usize) -> Result<Option<Value>> {
        let handled = match self.landings().is_empty() {
            true => Handled::No,
            false => Handled::Yes,
        };
        let function = self.tables.imports.helper(self.cursor.func, helper, handled);
        let signature = self.cursor.func.dfg.ext_funcs[function].signature;
        self.emit_call(Callee::Direct(function, signature), start)
    }

    /// Lowers a poll. Like a check, it is a trap where no handler sees what it may raise and there are no references: `traps.rs`
    /// calls the helper there, which keeps all registers, and comes back.
    pub(super) fn poll(&mut self) -> Result<()> {
        let thread = self.thread();
        let flag = self.ins().load(types::I32, trusted(), thread, POLL);
        if !self.has_references && self.landings().is_empty() {
            self.ins().trapnz(flag, POLLED);
            return Ok(());
        }
        let (cold, next) = (self.new_block(), self.new_block());
        self.ins().brif(flag, cold, &[], next, &[]);
        let region = self.begin_cold(cold);
        self.call_raising_helper(Helper::Poll, self.tables.arguments.len())?;
        self.ins().jump(next, &[]);
        self.continue_in(next);
        self.region = region;
        Ok(())
    }

    // ---- raising ----

    /// Raises what the site says; ends the block.
    pub(super) fn call_raise_site(&mut self) {
        self.call_helper(Helper::RaiseSite, Handled::No, &[]);
        self.ins().trap(UNREACHABLE);
    }

    pub(super) fn throw(&mut self, node: Node) -> Result<()> {
        let object = self.operand(node, 0);
        let handlers = self.method.handlers(self.block);
        let first = handlers.iter().find(|handler| handler.kinds.contains(RaiseKind::Guest));
        if let Some(handler) = first
            && handler.class.is_none()
        {
            let code = self.iconst(types::I64, RaiseKind::Guest.code(0).into());
            return self.jump_to(handler.block, &[object.into(), code.into()]);
        }
        let start = self.tables.arguments.len();
        self.tables.arguments.push(object);
        self.call_raising_helper(Helper::Throw, start)?;
        self.ins().trap(UNREACHABLE);
        Ok(())
    }

    // ---- calls in place of this method ----

    pub(super) fn tail_call(&mut self, node: Node) -> Result<()> {
        let operands = self.method.value_operands(node);
        match (self.method.opcode(node), self.method.payload(node)) {
            (Opcode::TailCall, Payload::Method(method)) => {
                let function = self.tables.imports.method(self.cursor.func, self.module, method, Use::Jump);
                let start = self.push_arguments(&[self.context], operands);
                self.release_shadow();
                let arguments = &self.tables.arguments[start..];
                self.cursor.ins().return_call(function, arguments);
                self.tables.arguments.truncate(start);
            }
            (_, Payload::Signature(signature)) if !operands.is_empty() => {
                let signature = self.tables.imports.signature(self.cursor.func, self.module, signature);
                let address = self.value(operands[0]);
                let start = self.push_arguments(&[], &operands[1..]);
                self.release_shadow();
                let arguments = &self.tables.arguments[start..];
                self.cursor.ins().return_call_indirect(signature, address, arguments);
                self.tables.arguments.truncate(start);
            }
            _ => return Err(self.input(&format!("{node} does not say what it calls"))),
        }
        Ok(())
    }
}
