//! Bytes in bulk: a few of them by loads and stores, more by the runtime's helpers.

use cranelift_codegen::ir::{self, InstBuilder, Value, types};
use dagwood_il::{Node, Opcode};

use super::Lower;
use super::memory::flags;
use crate::artifact::Helper;
use crate::imports::Handled;

/// The bytes that are copied or filled without a call, if their number is constant.
const MAX_INLINE: u64 = 64;

/// The widest pieces that make up `count` bytes, with their offsets.
fn pieces(count: u64) -> impl Iterator<Item = (ir::Type, i32)> {
    let widths = [types::I8X16, types::I64, types::I32, types::I16, types::I8];
    let mut offset = 0;
    std::iter::from_fn(move || {
        let ty = widths.into_iter().find(|ty| u64::from(ty.bytes()) <= count - offset)?;
        let at = offset;
        offset += u64::from(ty.bytes());
        Some((ty, at as i32))
    })
}

impl Lower<'_, '_, '_> {
    pub(super) fn memory_operation(&mut self, node: Node) {
        let is_copy = self.method.opcode(node) == Opcode::MemoryCopy;
        let (to, from) = self.operands(node);
        match self.const_operand(node, 2) {
            Some(count) if count <= MAX_INLINE && is_copy => self.copy(to, from, count),
            Some(count) if count <= MAX_INLINE => {
                let byte = self.ins().ireduce(types::I8, from);
                self.fill(to, byte, count);
            }
            _ => {
                let helper = if is_copy { Helper::MemoryCopy } else { Helper::MemoryFill };
                let count = self.operand(node, 2);
                self.call_helper(helper, Handled::No, &[to, from, count]);
            }
        }
    }

    /// Copies a few bytes. All are read before any is written, so the areas may overlap.
    fn copy(&mut self, to: Value, from: Value, count: u64) {
        let start = self.tables.arguments.len();
        for (ty, offset) in pieces(count) {
            let value = self.ins().load(ty, flags(), from, offset);
            self.tables.arguments.push(value);
        }
        for (index, (_, offset)) in pieces(count).enumerate() {
            let value = self.tables.arguments[start + index];
            self.ins().store(flags(), value, to, offset);
        }
        self.tables.arguments.truncate(start);
    }

    /// Fills a constant number of bytes.
    pub(super) fn fill(&mut self, to: Value, byte: Value, count: u64) {
        if count > MAX_INLINE {
            let byte = self.ins().uextend(types::I32, byte);
            let count = self.iconst(types::I64, count);
            self.call_helper(Helper::MemoryFill, Handled::No, &[to, byte, count]);
            return;
        }
        let wide = (count >= 16).then(|| self.ins().splat(types::I8X16, byte));
        let narrow = (!count.is_multiple_of(16)).then(|| {
            let ones = self.iconst(types::I64, 0x0101_0101_0101_0101);
            let byte = self.ins().uextend(types::I64, byte);
            self.ins().imul(byte, ones)
        });
        for (ty, offset) in pieces(count) {
            let value = if ty == types::I8X16 { wide } else { narrow };
            let value = value.expect("there is a value for every piece");
            match ty {
                types::I8X16 | types::I64 => self.ins().store(flags(), value, to, offset),
                types::I32 => self.ins().istore32(flags(), value, to, offset),
                types::I16 => self.ins().istore16(flags(), value, to, offset),
                _ => self.ins().istore8(flags(), value, to, offset),
            };
        }
    }

    pub(super) fn memory_compare(&mut self, node: Node) -> Value {
        let (left, right) = self.operands(node);
        let count = self.operand(node, 2);
        self.call_pure_helper(Helper::MemoryCompare, &[left, right, count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_byte_once() {
        for count in 0..=MAX_INLINE {
            let mut next = 0;
            for (ty, offset) in pieces(count) {
                assert_eq!(offset, next);
                next += ty.bytes() as i32;
            }
            assert_eq!(next as u64, count);
        }
    }
}
