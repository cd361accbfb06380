//! Operand lists, in chunks that never move.

use bumpalo::Bump;

use crate::method::Node;

/// A run of the operand pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OperandRun {
    pub(crate) start: u32,
    pub(crate) len: u16,
}

/// Operand lists, in chunks that never move. A run lies in one chunk; one longer than a chunk has its own.
pub(crate) struct OperandPool<'a> {
    chunks: bumpalo::collections::Vec<'a, &'a mut [Node]>,
    used: usize,
}

/// Operands a chunk holds.
const CHUNK: usize = 64;
const CHUNK_BITS: u32 = CHUNK.trailing_zeros();

impl<'a> OperandPool<'a> {
    pub(crate) fn new_in(arena: &'a Bump) -> Self {
        OperandPool { chunks: bumpalo::collections::Vec::new_in(arena), used: CHUNK }
    }

    pub(crate) fn push(&mut self, operands: &[Node]) -> OperandRun {
        let len = u16::try_from(operands.len()).expect("operand lists are bounded by MAX_OPERANDS");
        if operands.is_empty() {
            return OperandRun { start: 0, len };
        }
        if self.used + operands.len() > CHUNK {
            let arena: &'a Bump = self.chunks.bump();
            self.chunks.push(arena.alloc_slice_fill_copy(operands.len().max(CHUNK), operands[0]));
            self.used = 0;
        }
        let chunk = self.chunks.len() - 1;
        let start =
            u32::try_from(chunk << CHUNK_BITS | self.used).expect("operand pools stay below 2^32 entries");
        self.chunks[chunk][self.used..self.used + operands.len()].copy_from_slice(operands);
        self.used += operands.len();
        OperandRun { start, len }
    }

    #[inline]
    pub(crate) fn get(&self, start: u32, len: u16) -> &[Node] {
        if len == 0 {
            return &[];
        }
        let offset = start as usize & (CHUNK - 1);
        &self.chunks[start as usize >> CHUNK_BITS][offset..offset + len as usize]
    }
}
