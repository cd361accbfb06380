//! The shadow stack: memory of the VM for locals that have an address.
//!
//! A method with such locals takes their memory when it is entered, zero, and gives it back where control leaves. A method
//! with handlers remembers where the top was, because what its callees held when they raised is given back by nobody else.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use dagwood_il::RaiseKind;
use dagwood_il::layout::thread::{SHADOW_LIMIT, SHADOW_TOP};
use dagwood_il::verify::MAX_SLOT_BYTES;

use super::check::trap_of;
use super::memory::trusted;
use super::{Lower, Result};

/// What a frame's slots are aligned to.
const SLOT_ALIGN: u32 = 16;

/// The shadow stack as one activation sees it.
#[derive(Clone, Copy)]
pub(super) struct Shadow {
    /// The top when the method was entered, where its slots begin.
    pub(super) base: Value,
    /// The top while it runs.
    top: Value,
}

impl Lower<'_, '_, '_> {
    /// Takes memory for the slots, or remembers the top where there are only handlers.
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
        let count = self.iconst(types::I64, bytes);
        let top = self.ins().iadd(base, count);
        let limit = self.ins().load(types::I64, trusted(), thread, SHADOW_LIMIT);
        self.raise_overflow_if_above(top, limit);
        self.ins().store(trusted(), top, thread, SHADOW_TOP);
        self.shadow = Some(Shadow { base, top });
        let zero = self.iconst(types::I8, 0);
        self.fill(base, zero, bytes);
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
}
