//! Memory: loads and stores, bytes in bulk, and the addresses of things.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{GlobalValue, GlobalValueData, InstBuilder, MemFlagsData, Value, types};
use dagwood_il::entity::Entity;
use dagwood_il::layout::context::THREAD;
use dagwood_il::layout::thread::{SHADOW_LIMIT, SHADOW_TOP, STACK_LIMIT};
use dagwood_il::verify::MAX_SLOT_BYTES;
use dagwood_il::{Access, MethodId, Node, Opcode, Payload, RaiseKind, Slot, SymbolId, Type};

use super::check::trap_of;
use super::{Lower, Result, Shadow, clif_type};
use crate::artifact::Helper;
use crate::imports::Handled;

/// What a frame's slots are aligned to.
const SLOT_ALIGN: u32 = 16;

/// Accesses that do not trap; any address will do.
pub(super) fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Accesses of the runtime's own words, which are aligned.
pub(super) fn trusted() -> MemFlagsData {
    MemFlagsData::trusted()
}

impl Lower<'_, '_, '_> {
    // ---- loads and stores ----

    /// The address of an access but for the constant part.
    fn address(&mut self, access: Access, base: Node, index: Option<Node>) -> Value {
        let base = self.value(base);
        match index {
            None => base,
            Some(index) => {
                let index = self.value(index);
                let scaled = self.shift_left(index, u32::from(access.scale).trailing_zeros());
                self.ins().iadd(base, scaled)
            }
        }
    }

    pub(super) fn load(&mut self, node: Node) -> Result<Value> {
        let Payload::Access(access) = self.method.payload(node) else {
            return Err(self.input(&format!("{node} names no memory")));
        };
        let operands = self.method.value_operands(node);
        let address = self.address(access, operands[0], operands.get(1).copied());
        let (ty, offset) = (self.method.ty(node), access.offset);
        let extended =
            self.extension_of(node).map(|user| (user, self.method.opcode(user), self.method.ty(user)));
        let Some((user, opcode, wide)) = extended else {
            return Ok(self.ins().load(clif_type(ty), flags(), address, offset));
        };
        let wide = clif_type(wide);
        let value = match (ty, opcode) {
            (Type::I8, Opcode::SExt) => self.ins().sload8(wide, flags(), address, offset),
            (Type::I8, _) => self.ins().uload8(wide, flags(), address, offset),
            (Type::I16, Opcode::SExt) => self.ins().sload16(wide, flags(), address, offset),
            (Type::I16, _) => self.ins().uload16(wide, flags(), address, offset),
            (_, Opcode::SExt) => self.ins().sload32(flags(), address, offset),
            _ => self.ins().uload32(flags(), address, offset),
        };
        self.tables.slots[user.index()].value = value;
        Ok(value)
    }

    /// The extension that is the only use of a load, which then loads the wider value at once.
    fn extension_of(&self, load: Node) -> Option<Node> {
        let user = self.tables.placement.only_user(load)?;
        let extends = matches!(self.method.opcode(user), Opcode::SExt | Opcode::UExt);
        let widths = (self.method.ty(load), self.method.ty(user));
        let has_instruction =
            matches!(widths, (Type::I8 | Type::I16, Type::I32 | Type::I64) | (Type::I32, Type::I64));
        (extends && has_instruction).then_some(user)
    }

    pub(super) fn store(&mut self, node: Node) -> Result<()> {
        let Payload::Access(access) = self.method.payload(node) else {
            return Err(self.input(&format!("{node} names no memory")));
        };
        let operands = self.method.value_operands(node);
        let address = self.address(access, operands[1], operands.get(2).copied());
        let value = self.value(operands[0]);
        self.ins().store(flags(), value, address, access.offset);
        Ok(())
    }

    // ---- bytes in bulk ----

    pub(super) fn memory_operation(&mut self, node: Node) -> Result<()> {
        let helper = match self.method.opcode(node) {
            Opcode::MemoryCopy => Helper::MemoryCopy,
            _ => Helper::MemoryFill,
        };
        let (first, second) = self.operands(node);
        let count = self.operand(node, 2);
        self.call_helper(helper, Handled::No, &[first, second, count]);
        Ok(())
    }

    pub(super) fn memory_compare(&mut self, node: Node) -> Value {
        let (left, right) = self.operands(node);
        let count = self.operand(node, 2);
        self.call_pure_helper(Helper::MemoryCompare, &[left, right, count])
    }

    // ---- addresses ----

    pub(super) fn symbol_address(&mut self, symbol: SymbolId) -> Value {
        let global = self.tables.imports.symbol(self.cursor.func, symbol);
        self.ins().symbol_value(types::I64, global)
    }

    pub(super) fn method_address(&mut self, method: MethodId) -> Value {
        let callee = self.tables.imports.method(self.cursor.func, self.module, method);
        self.ins().func_addr(types::I64, callee)
    }

    pub(super) fn slot_address(&mut self, slot: Slot) -> Value {
        let offset = self.slot_offsets[slot.index()];
        let base = self.shadow.map_or(self.context, |shadow| shadow.base);
        let offset = self.iconst(types::I64, offset.into());
        self.ins().iadd(base, offset)
    }

    /// The address of the thread block.
    pub(super) fn thread(&mut self) -> Value {
        let context = self.context;
        self.ins().load(types::I64, trusted().with_readonly(), context, THREAD)
    }

    // ---- the shadow stack ----

    /// Takes memory for the slots. A method that only has handlers remembers the top, to take back what the callees held
    /// when they raised.
    pub(super) fn take_shadow(&mut self) -> Result<()> {
        let mut bytes = 0u64;
        for slot in self.method.slots() {
            let data = self.method.slot(slot);
            bytes = bytes.next_multiple_of(data.align.clamp(1, SLOT_ALIGN).into());
            let offset = u32::try_from(bytes).ok();
            bytes += u64::from(data.size_bytes);
            match offset.filter(|_| bytes <= MAX_SLOT_BYTES) {
                Some(offset) => self.slot_offsets.push(offset),
                None => return Err(self.limit("bytes of locals with addresses", MAX_SLOT_BYTES as usize)),
            }
        }
        let bytes = bytes.next_multiple_of(SLOT_ALIGN.into());
        let has_handlers = self.cfg.order().iter().any(|block| !self.cfg.raise_points(*block).is_empty());
        if bytes == 0 && !has_handlers {
            return Ok(());
        }
        let thread = self.thread();
        let base = self.ins().load(types::I64, trusted(), thread, SHADOW_TOP);
        self.shadow = Some(Shadow { base, top: base });
        if bytes == 0 {
            return Ok(());
        }
        let bytes = self.iconst(types::I64, bytes);
        let top = self.ins().iadd(base, bytes);
        let limit = self.ins().load(types::I64, trusted(), thread, SHADOW_LIMIT);
        self.raise_overflow_if_above(top, limit);
        self.ins().store(trusted(), top, thread, SHADOW_TOP);
        self.shadow = Some(Shadow { base, top });
        Ok(())
    }

    /// The overflow belongs to the call of this method: no handler of its own sees it.
    fn raise_overflow_if_above(&mut self, top: Value, limit: Value) {
        let is_above = self.ins().icmp(IntCC::UnsignedGreaterThan, top, limit);
        self.ins().trapnz(is_above, trap_of(RaiseKind::StackOverflow));
    }

    /// Gives back what callees held when they raised into this method.
    pub(super) fn restore_shadow(&mut self) {
        if let Some(Shadow { top, .. }) = self.shadow {
            let thread = self.thread();
            self.ins().store(trusted(), top, thread, SHADOW_TOP);
        }
    }

    /// Gives back the slots' memory before the method ends.
    pub(super) fn release_shadow(&mut self) {
        if let Some(Shadow { base, top }) = self.shadow
            && base != top
        {
            let thread = self.thread();
            self.ins().store(trusted(), base, thread, SHADOW_TOP);
        }
    }

    /// The global value that a prologue compares the stack pointer with.
    pub(super) fn stack_limit(&mut self) -> GlobalValue {
        let func = &mut *self.cursor.func;
        let flags = func.dfg.mem_flags.insert(trusted()).expect("a new function has no other flags");
        let context = func.create_global_value(GlobalValueData::VMContext);
        let mut load = |base, offset: i32| {
            let offset = offset.into();
            func.create_global_value(GlobalValueData::Load { base, offset, global_type: types::I64, flags })
        };
        let thread = load(context, THREAD);
        load(thread, STACK_LIMIT)
    }
}
