//! Calls: direct, through a table, to imports, and in place of the caller.

use dagwood_il as il;
use il::{Access, Node, Opcode, Payload, Place, RaiseKind, SignatureId, SymbolId, Type};
use smallvec::SmallVec;

use super::{Lower, NativeFunction};
use crate::layout::{INSTANCE, RECORD_CODE, RECORD_CONTEXT, RECORD_TYPE};
use crate::trap::reason;

/// Operands of a call: address, context, arguments.
type Operands = SmallVec<[Node; 8]>;

impl Lower<'_, '_> {
    /// Reads a word at an offset from an address.
    pub(super) fn word(&mut self, ty: Type, symbol: SymbolId, base: Node, offset: u32) -> Node {
        let access = Access { place: Place::Symbol(symbol), offset: offset as i32, scale: 1 };
        self.b.load(ty, access, base, None)
    }

    /// Reads a word of the context.
    pub(super) fn context_word(&mut self, ty: Type, symbol: SymbolId, offset: u32) -> Node {
        let context = self.b.context();
        self.word(ty, symbol, context, offset)
    }

    /// Calls a native function with the instance's number and `args`.
    pub(super) fn native(&mut self, function: NativeFunction, args: &[Node]) -> Node {
        let instance = self.context_word(Type::I64, self.cx.symbols().instance, INSTANCE);
        let operands: Operands = std::iter::once(instance).chain(args.iter().copied()).collect();
        self.b.call_native(self.cx.native(function), &operands)
    }

    /// The address of the record of a function.
    pub(super) fn function_reference(&mut self, function: u32) -> Node {
        let context = self.b.context();
        let offset = self.b.i64(i64::from(self.cx.layout().function(function)));
        self.b.op(Opcode::AddrAdd, &[context, offset])
    }

    pub(super) fn call(&mut self, function: u32) {
        let ty = self.module.functions[function as usize];
        let params = self.module.types[ty as usize].params.len();
        let args = self.pop_many(params);
        let call = if self.is_imported(function) {
            let operands = self.import_operands(function, &args);
            self.b.call_indirect(self.cx.signature(ty).0, &operands)
        } else {
            self.b.call(self.cx.method(function), &args)
        };
        self.finish_call(ty, call);
    }

    pub(super) fn return_call(&mut self, function: u32) {
        let ty = self.module.functions[function as usize];
        self.leave_frame();
        let args = self.pop_many(self.module.types[ty as usize].params.len());
        if self.is_imported(function) {
            let operands = self.import_operands(function, &args);
            self.tail_call_indirect(self.cx.signature(ty).0, &operands);
        } else {
            let method = self.cx.method(function);
            self.b.emit(Opcode::TailCall, Type::Void, &args, Payload::Method(method));
            self.is_reachable = false;
        }
    }

    pub(super) fn call_indirect(&mut self, ty: u32, table: u32) {
        let operands = self.indirect_operands(ty, table);
        let call = self.b.call_indirect(self.cx.signature(ty).0, &operands);
        self.finish_call(ty, call);
    }

    pub(super) fn return_call_indirect(&mut self, ty: u32, table: u32) {
        self.leave_frame();
        let operands = self.indirect_operands(ty, table);
        self.tail_call_indirect(self.cx.signature(ty).0, &operands);
    }

    fn is_imported(&self, function: u32) -> bool {
        (function as usize) < self.module.imported_functions
    }

    /// Leaves the reach of handlers, which do not catch what a callee raises that stands in place of this function.
    fn leave_frame(&mut self) {
        if self.handlers.is_some() {
            let handlers = self.handlers;
            self.make_room();
            self.continue_under(None);
            self.handlers = handlers;
        }
    }

    fn tail_call_indirect(&mut self, signature: SignatureId, operands: &[Node]) {
        self.b.emit(Opcode::TailCallIndirect, Type::Void, operands, Payload::Signature(signature));
        self.is_reachable = false;
    }

    /// Code, context and arguments for a call of an import, whose record is in the context.
    fn import_operands(&mut self, function: u32, args: &[Node]) -> Operands {
        let (records, record) = (self.cx.symbols().records, self.cx.layout().function(function));
        let code = self.context_word(Type::Addr, records, record + RECORD_CODE);
        let context = self.context_word(Type::Addr, records, record + RECORD_CONTEXT);
        [code, context].into_iter().chain(args.iter().copied()).collect()
    }

    /// Takes index and arguments of a call through a table; checks the entry.
    fn indirect_operands(&mut self, ty: u32, table: u32) -> Operands {
        let index = self.pop();
        let args = self.pop_many(self.module.types[ty as usize].params.len());
        let entry = self.table_entry(table, index, reason::ELEMENT);
        let record = self.b.checked(Opcode::NullCheck, Type::Addr, &[entry], reason::UNINITIALIZED);
        let records = self.cx.symbols().records;
        let found = self.word(Type::I64, records, record, RECORD_TYPE);
        let expected = self.b.i64(self.cx.signature(ty).1 as i64);
        let is_same = self.b.op(Opcode::Eq, &[found, expected]);
        self.b.check(is_same, RaiseKind::Signature, 0);
        let code = self.word(Type::Addr, records, record, RECORD_CODE);
        let context = self.word(Type::Addr, records, record, RECORD_CONTEXT);
        [code, context].into_iter().chain(args).collect()
    }

    /// Pushes the results of a call, after which lengths have to be read again.
    fn finish_call(&mut self, ty: u32, call: Node) {
        self.facts.forget_lengths();
        let results = self.module.types[ty as usize].results.iter().enumerate();
        for (index, ty) in results {
            let value = self.b.result(ty.lowered(), call, index as u32);
            self.push(value);
        }
    }
}
