//! Linear memories: loads, stores, sizes, bulk operations.
//!
//! # Bounds
//!
//! An access of `size` bytes at `index + offset` touches bytes up to `index + last`, where `last = offset + size - 1`.
//!
//! ```text
//!   boundscheck index, length - last
//! ```
//!
//! The obvious `boundscheck index + last, length` would wrap in a 64-bit memory, and costs an addition for each access
//! where the difference is one node for all accesses of a block. It cannot wrap where the memory has `last` bytes from
//! its start, because memories never shrink; otherwise it is `length - umin(last, length)`, which is zero and lets
//! nothing pass. The address is computed from what the check yields, so that no pass can move the access before its check.
//!
//! No check is needed for a constant index below the size that the memory has from its start, nor where an earlier
//! check on the same path covers this one.

use dagwood_il as il;
use il::{Access, Node, Opcode, Payload, Place, RaiseKind, Type};
use wasmparser::{MemArg, MemArgTarget, Operator};

use super::facts::View;
use super::{Lower, NativeFunction};
use crate::module::PAGE_BYTES;
use crate::trap::reason;

/// How a value is widened after a load.
#[derive(Clone, Copy)]
enum Extend {
    Signed,
    Unsigned,
}

/// What a load or store moves.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// The type of the value on the stack.
    ty: Type,
    /// The type in memory.
    cell: Type,
    extend: Extend,
}

const fn shape(ty: Type, cell: Type, extend: Extend) -> Shape {
    Shape { ty, cell, extend }
}

/// Whether the operator is a load, and of what.
#[rustfmt::skip]
pub(super) fn load_of<'a>(operator: &'a Operator<'_>) -> Option<(&'a MemArg, Shape)> {
    use self::Extend::{Signed as S, Unsigned as U};
    use Type::{F32, F64, I8, I16, I32, I64};
    Some(match operator {
        Operator::I32Load { memarg } => (memarg, shape(I32, I32, U)),
        Operator::I64Load { memarg } => (memarg, shape(I64, I64, U)),
        Operator::F32Load { memarg } => (memarg, shape(F32, F32, U)),
        Operator::F64Load { memarg } => (memarg, shape(F64, F64, U)),
        Operator::I32Load8S { memarg } => (memarg, shape(I32, I8, S)),
        Operator::I32Load8U { memarg } => (memarg, shape(I32, I8, U)),
        Operator::I32Load16S { memarg } => (memarg, shape(I32, I16, S)),
        Operator::I32Load16U { memarg } => (memarg, shape(I32, I16, U)),
        Operator::I64Load8S { memarg } => (memarg, shape(I64, I8, S)),
        Operator::I64Load8U { memarg } => (memarg, shape(I64, I8, U)),
        Operator::I64Load16S { memarg } => (memarg, shape(I64, I16, S)),
        Operator::I64Load16U { memarg } => (memarg, shape(I64, I16, U)),
        Operator::I64Load32S { memarg } => (memarg, shape(I64, I32, S)),
        Operator::I64Load32U { memarg } => (memarg, shape(I64, I32, U)),
        _ => return None,
    })
}

/// Whether the operator is a store, and into what.
pub(super) fn store_of<'a>(operator: &'a Operator<'_>) -> Option<(&'a MemArg, Type)> {
    Some(match operator {
        Operator::I32Store { memarg } | Operator::I64Store32 { memarg } => (memarg, Type::I32),
        Operator::I64Store { memarg } => (memarg, Type::I64),
        Operator::F32Store { memarg } => (memarg, Type::F32),
        Operator::F64Store { memarg } => (memarg, Type::F64),
        Operator::I32Store8 { memarg } | Operator::I64Store8 { memarg } => (memarg, Type::I8),
        Operator::I32Store16 { memarg } | Operator::I64Store16 { memarg } => (memarg, Type::I16),
        _ => return None,
    })
}

/// The operands of an access that is in bounds.
struct Target {
    access: Access,
    base: Node,
    index: Option<Node>,
}

impl Lower<'_, '_> {
    /// Lowers the operator if it is one of memories.
    pub(super) fn memory_operator(&mut self, operator: &Operator<'_>) -> bool {
        if let Some((memarg, shape)) = load_of(operator) {
            self.load(memarg, shape);
            return true;
        }
        if let Some((memarg, cell)) = store_of(operator) {
            self.store(memarg, cell);
            return true;
        }
        match *operator {
            Operator::MemorySize { mem } => {
                let length = self.length(View::Memory(mem));
                let bits = self.b.i64(i64::from(PAGE_BYTES.trailing_zeros()));
                let pages = self.b.op(Opcode::UShr, &[length, bits]);
                let pages = self.narrow(pages, self.is_64(mem));
                self.push(pages);
            }
            Operator::MemoryGrow { mem } => {
                let pages = self.pop();
                let pages = self.wide(pages);
                let memory = self.b.i64(i64::from(mem));
                let before = self.native(NativeFunction::MemoryGrow, &[memory, pages]);
                self.facts.forget_lengths();
                let before = self.narrow(before, self.is_64(mem));
                self.push(before);
            }
            Operator::MemoryFill { mem } => self.fill(mem),
            Operator::MemoryCopy { dst_mem, src_mem } if dst_mem == src_mem => self.copy(dst_mem),
            Operator::MemoryCopy { dst_mem, src_mem } => {
                self.transfer_native(NativeFunction::MemoryCopy, dst_mem, src_mem);
            }
            Operator::MemoryInit { data_index, mem } => {
                self.transfer_native(NativeFunction::MemoryInit, mem, data_index);
            }
            Operator::DataDrop { data_index } => {
                let segment = self.b.i64(i64::from(data_index));
                self.native(NativeFunction::DataDrop, &[segment]);
            }
            _ => return false,
        }
        true
    }

    fn is_64(&self, memory: u32) -> bool {
        self.module.memories[memory as usize].is_64
    }

    /// The bytes that the memory has at least, whatever happens.
    fn least_bytes(&self, memory: u32) -> u64 {
        self.module.memories[memory as usize].min.saturating_mul(PAGE_BYTES)
    }

    fn load(&mut self, memarg: &MemArg, shape: Shape) {
        let index = self.pop();
        let target = self.target_of(memarg, index, shape.cell);
        let value = self.b.load(shape.cell, target.access, target.base, target.index);
        let value = match shape.extend {
            _ if shape.cell == shape.ty => value,
            Extend::Signed => self.b.convert(Opcode::SExt, shape.ty, value),
            Extend::Unsigned => self.b.convert(Opcode::UExt, shape.ty, value),
        };
        self.push(value);
    }

    fn store(&mut self, memarg: &MemArg, cell: Type) {
        let value = self.pop();
        let index = self.pop();
        let target = self.target_of(memarg, index, cell);
        let is_narrower = self.b.method().ty(value) != cell;
        let value = if is_narrower { self.b.convert(Opcode::Wrap, cell, value) } else { value };
        self.b.store(target.access, value, target.base, target.index);
    }

    /// Checks an access, and says where it goes.
    fn target_of(&mut self, memarg: &MemArg, index: Node, cell: Type) -> Target {
        let MemArgTarget::Memory(memory) = memarg.target else {
            unreachable!("validation refuses accesses to arrays")
        };
        let index = self.wide(index);
        let index = self.in_bounds(memory, index, memarg.offset, u64::from(cell.bytes()));
        let base = self.address(View::Memory(memory));
        let place = Place::Symbol(self.cx.memory(memory).contents);
        let offset = memarg.offset;
        let constant = self.b.method().const_bits(index).map(|bits| bits.wrapping_add(offset));
        let (index, offset) = match (constant.map(i32::try_from), i32::try_from(offset)) {
            (Some(Ok(address)), _) => (None, address),
            (_, Ok(offset)) => (Some(index), offset),
            (_, Err(_)) => (Some(self.moved(index, offset)), 0),
        };
        Target { access: Access { place, offset, scale: 1 }, base, index }
    }

    fn moved(&mut self, index: Node, offset: u64) -> Node {
        let offset = self.b.i64(offset as i64);
        self.b.op(Opcode::Add, &[index, offset])
    }

    /// Proves `size` bytes at `index + offset` to be in bounds; gives the index as proven.
    fn in_bounds(&mut self, memory: u32, index: Node, offset: u64, size: u64) -> Node {
        let last = offset.saturating_add(size - 1);
        let end = self.b.method().const_bits(index).and_then(|bits| bits.checked_add(last));
        if end.is_some_and(|end| end < self.least_bytes(memory)) {
            return index;
        }
        if let Some(checked) = self.facts.checked(memory, index, last) {
            return checked;
        }
        let limit = self.limit(memory, last);
        let checked = self.b.checked(Opcode::BoundsCheck, Type::I64, &[index, limit], reason::MEMORY);
        self.facts.note_checked(memory, index, last, checked);
        checked
    }

    /// What an index must be below for byte `index + last` to be in bounds.
    fn limit(&mut self, memory: u32, last: u64) -> Node {
        let length = self.length(View::Memory(memory));
        let last_node = self.b.i64(last as i64);
        if last <= self.least_bytes(memory) {
            return self.b.op(Opcode::Sub, &[length, last_node]);
        }
        let within = self.b.op(Opcode::UMin, &[last_node, length]);
        self.b.op(Opcode::Sub, &[length, within])
    }

    // ---- bulk operations ----

    /// Checks that `count` bytes at `start` are in bounds; gives their address.
    fn range(&mut self, memory: u32, start: Node, count: Node) -> Node {
        let length = self.length(View::Memory(memory));
        let is_inside = if self.is_64(memory) {
            let is_shorter = self.b.op(Opcode::ULe, &[count, length]);
            self.b.check(is_shorter, RaiseKind::Bounds, reason::MEMORY);
            let room = self.b.op(Opcode::Sub, &[length, count]);
            self.b.op(Opcode::ULe, &[start, room])
        } else {
            let end = self.b.op(Opcode::Add, &[start, count]);
            self.b.op(Opcode::ULe, &[end, length])
        };
        self.b.check(is_inside, RaiseKind::Bounds, reason::MEMORY);
        let base = self.address(View::Memory(memory));
        self.b.op(Opcode::AddrAdd, &[base, start])
    }

    fn fill(&mut self, memory: u32) {
        let [start, byte, count] = self.pop_three();
        let (start, count) = (self.wide(start), self.wide(count));
        let address = self.range(memory, start, count);
        let contents = Payload::Symbol(self.cx.memory(memory).contents);
        self.b.emit(Opcode::MemoryFill, Type::Void, &[address, byte, count], contents);
    }

    fn copy(&mut self, memory: u32) {
        let [destination, source, count] = self.pop_three().map(|node| self.wide(node));
        let to = self.range(memory, destination, count);
        let from = self.range(memory, source, count);
        let contents = Payload::Symbol(self.cx.memory(memory).contents);
        self.b.emit(Opcode::MemoryCopy, Type::Void, &[to, from, count], contents);
    }
}
