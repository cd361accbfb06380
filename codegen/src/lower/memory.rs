//! Loads and stores, and the addresses of things.

use cranelift_codegen::ir::{GlobalValue, GlobalValueData, InstBuilder, MemFlagsData, Value, types};
use dagwood_il::entity::Entity;
use dagwood_il::layout::context::THREAD;
use dagwood_il::layout::thread::STACK_LIMIT;
use dagwood_il::{Access, MethodId, Node, Opcode, Payload, Slot, SymbolId, Type};

use super::{Lower, Result, clif_type};
use crate::imports::Use;

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

    // ---- addresses ----

    pub(super) fn symbol_address(&mut self, symbol: SymbolId) -> Value {
        let global = self.tables.imports.symbol(self.cursor.func, symbol);
        self.ins().symbol_value(types::I64, global)
    }

    pub(super) fn method_address(&mut self, method: MethodId) -> Value {
        let callee = self.tables.imports.method(self.cursor.func, self.module, method, Use::Address);
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
