//! Tables, references and globals.

use dagwood_il as il;
use il::{Access, Node, Opcode, Place, Type};
use wasmparser::Operator;

use super::facts::View;
use super::{Lower, NativeFunction};
use crate::layout::VIEW_LENGTH;
use crate::trap::reason;

impl Lower<'_, '_> {
    /// Lowers the operator if it is one of tables or references.
    pub(super) fn table_operator(&mut self, operator: &Operator<'_>) -> bool {
        match *operator {
            Operator::RefNull { .. } => {
                let null = self.b.constant(Type::Addr, 0);
                self.push(null);
            }
            Operator::RefIsNull => {
                let reference = self.pop();
                let null = self.b.constant(Type::Addr, 0);
                let is_null = self.b.op(Opcode::Eq, &[reference, null]);
                self.push(is_null);
            }
            Operator::RefFunc { function_index } => {
                let reference = self.function_reference(function_index);
                self.push(reference);
            }
            Operator::TableGet { table } => {
                let index = self.pop();
                let value = self.table_entry(table, index, reason::TABLE);
                self.push(value);
            }
            Operator::TableSet { table } => self.table_set(table),
            Operator::TableSize { table } => {
                let length = self.length(View::Table(table));
                let size = self.narrow(length, self.module.tables[table as usize].limits.is_64);
                self.push(size);
            }
            Operator::TableGrow { table } => self.table_grow(table),
            Operator::TableFill { table } => {
                let [destination, value, count] = self.pop_three();
                let (destination, count) = (self.wide(destination), self.wide(count));
                let table = self.b.i64(i64::from(table));
                self.native(NativeFunction::TableFill, &[table, destination, value, count]);
            }
            Operator::TableCopy { dst_table, src_table } => {
                self.transfer_native(NativeFunction::TableCopy, dst_table, src_table);
            }
            Operator::TableInit { elem_index, table } => {
                self.transfer_native(NativeFunction::TableInit, table, elem_index);
            }
            Operator::ElemDrop { elem_index } => {
                let segment = self.b.i64(i64::from(elem_index));
                self.native(NativeFunction::ElemDrop, &[segment]);
            }
            _ => return false,
        }
        true
    }

    /// The three operands of a bulk operation.
    pub(super) fn pop_three(&mut self) -> [Node; 3] {
        let third = self.pop();
        let second = self.pop();
        let first = self.pop();
        [first, second, third]
    }

    /// Lowers a bulk operation from `from` to `to` (tables, memories or segments) as a native call.
    pub(super) fn transfer_native(&mut self, function: NativeFunction, to: u32, from: u32) {
        let [destination, source, count] = self.pop_three().map(|node| self.wide(node));
        let (to, from) = (self.b.i64(i64::from(to)), self.b.i64(i64::from(from)));
        self.native(function, &[to, from, destination, source, count]);
    }

    /// An index or count as 64 bits.
    pub(super) fn wide(&mut self, node: Node) -> Node {
        match self.b.method().ty(node) {
            Type::I32 => self.b.convert(Opcode::UExt, Type::I64, node),
            _ => node,
        }
    }

    /// A size as the index type that it is measured in.
    pub(super) fn narrow(&mut self, node: Node, is_64: bool) -> Node {
        if is_64 { node } else { self.b.convert(Opcode::Wrap, Type::I32, node) }
    }

    /// Where a memory or table is.
    pub(super) fn address(&mut self, view: View) -> Node {
        if let (View::Memory(0), Some(local)) = (view, self.kept.address) {
            return self.b.get(local);
        }
        if let Some(node) = self.facts.address(view) {
            return node;
        }
        let (symbols, offset) = self.view(view);
        let node = self.context_word(Type::Addr, symbols.address, offset);
        self.facts.note_address(view, node);
        node
    }

    /// The bytes of a memory, or the elements of a table.
    pub(super) fn length(&mut self, view: View) -> Node {
        if let (View::Memory(0), Some(local)) = (view, self.kept.length) {
            return self.b.get(local);
        }
        if let Some(node) = self.facts.length(view) {
            return node;
        }
        let (symbols, offset) = self.view(view);
        let node = self.context_word(Type::I64, symbols.length, offset + VIEW_LENGTH);
        self.facts.note_length(view, node);
        node
    }

    fn view(&self, view: View) -> (super::declare::ViewSymbols, u32) {
        let layout = self.cx.layout();
        match view {
            View::Memory(memory) => (self.cx.memory(memory), layout.memory(memory)),
            View::Table(table) => (self.cx.table(table), layout.table(table)),
        }
    }

    /// An element of a table, as an access and the index that was checked.
    fn element(&mut self, table: u32, index: Node, reason: u16) -> (Access, Node, Node) {
        let index = self.wide(index);
        let length = self.length(View::Table(table));
        let index = self.b.checked(Opcode::BoundsCheck, Type::I64, &[index, length], reason);
        let base = self.address(View::Table(table));
        (Access { place: Place::Symbol(self.cx.table(table).contents), offset: 0, scale: 8 }, base, index)
    }

    /// Reads an element of a table; beyond it, raises with `reason`.
    pub(super) fn table_entry(&mut self, table: u32, index: Node, reason: u16) -> Node {
        let (access, base, index) = self.element(table, index, reason);
        self.b.load(Type::Addr, access, base, Some(index))
    }

    fn table_set(&mut self, table: u32) {
        let value = self.pop();
        let index = self.pop();
        let (access, base, index) = self.element(table, index, reason::TABLE);
        self.b.store(access, value, base, Some(index));
    }

    fn table_grow(&mut self, table: u32) {
        let count = self.pop();
        let value = self.pop();
        let count = self.wide(count);
        let index = self.b.i64(i64::from(table));
        let before = self.native(NativeFunction::TableGrow, &[index, value, count]);
        self.facts.forget_lengths();
        let before = self.narrow(before, self.module.tables[table as usize].limits.is_64);
        self.push(before);
    }

    // ---- globals ----

    /// Where a global's value is.
    fn global_place(&mut self, global: u32) -> (Access, Node) {
        let offset = self.cx.layout().global(global);
        let place = Place::Symbol(self.cx.global(global));
        if (global as usize) < self.module.imported_globals {
            let base = self.context_word(Type::Addr, self.cx.symbols().instance, offset);
            (Access { place, offset: 0, scale: 1 }, base)
        } else {
            (Access { place, offset: offset as i32, scale: 1 }, self.b.context())
        }
    }

    pub(super) fn global_get(&mut self, global: u32) {
        let ty = self.module.globals[global as usize];
        let defined = (global as usize).checked_sub(self.module.imported_globals);
        let constant = defined.and_then(|index| self.module.global_values[index].as_number());
        let value = match constant {
            Some(bits) if !ty.is_mutable => self.b.constant(ty.value.lowered(), bits),
            _ => {
                let (access, base) = self.global_place(global);
                self.b.load(ty.value.lowered(), access, base, None)
            }
        };
        self.push(value);
    }

    pub(super) fn global_set(&mut self, global: u32) {
        let value = self.pop();
        let (access, base) = self.global_place(global);
        self.b.store(access, value, base, None);
    }
}
