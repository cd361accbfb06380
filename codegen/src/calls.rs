//! Calls get windows.
//!
//! ```text
//!   mov  r10, [rip + callee]         mov  rdi, rbx      ┐ moved up
//!   mov  rdi, rbx              ─►    mov  rsi, [rsp]    ┘
//!   mov  rsi, [rsp]                  nop                ┐ the window, all of the call's
//!   call r10                         call [rip + 0]     ┘
//! ```
//!
//! Whether a callee is in reach of `call rel32` is known only when the code is installed, and may change when the call is
//! redirected. So Cranelift is told that every callee is far, and loads the address first. Its register allocator then puts
//! the arguments' moves between load and call. They are moved up here, and what is left is a stretch of bytes with room
//! for either form, in which the field can be kept inside one aligned word wherever the code is placed.
//!
//! # Guarantees
//!
//! Only instructions that go on to the next one, do not name the loaded register and do not address memory relative to
//! themselves are moved: so nothing changes but the order. Load and call come from one instruction of Cranelift's, so no
//! branch leads between them. Where the stretch looks different, the call is left as it is, and counted.
//!
//! # Cost
//!
//! The stretch from load to call is decoded, once.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions,
    Register,
};

use crate::artifact::{Artifact, Call, RelocTarget};

/// The bytes of `mov r64, [rip + displacement]`, and of its part before the displacement.
const LOAD_BYTES: usize = 7;
const LOAD_PREFIX_BYTES: usize = 3;
/// `call [rip + 0]`.
const SLOT_CALL: [u8; 6] = [0xff, 0x15, 0, 0, 0, 0];
/// What fills the rest of a window: by its length less three, one instruction that does nothing.
const NOPS: [&[u8]; 2] = [&[0x0f, 0x1f, 0x00], &[0x0f, 0x1f, 0x40, 0x00]];

/// Makes windows.
#[derive(Default)]
pub(crate) struct Windows {
    /// Which registers an instruction names; made for the first call.
    registers: Option<InstructionInfoFactory>,
}

impl Windows {
    /// Gives the call of `target`, whose address is loaded by the instruction with its displacement at `field`, a window.
    /// Whether it has one after that. The artifact has its sites already.
    pub(crate) fn gather(
        &mut self,
        artifact: &mut Artifact,
        field: u32,
        target: RelocTarget,
    ) -> Result<bool, String> {
        let site = artifact.sites.partition_point(|site| site.return_offset <= field);
        let load = (field as usize).checked_sub(LOAD_PREFIX_BYTES);
        let (Some(site), Some(load)) = (artifact.sites.get(site), load) else {
            return Err(format!("the callee that is loaded at {field:#x} is not called"));
        };
        let end = site.return_offset as usize;
        let Some(call) = self.call_of(&artifact.code[..end], load) else {
            artifact.scattered_calls += 1;
            return Ok(false);
        };
        artifact.code.copy_within(load + LOAD_BYTES..call, load);
        let start = call - LOAD_BYTES;
        let (nop, slot_call) = artifact.code[start..end].split_at_mut(end - start - SLOT_CALL.len());
        nop.copy_from_slice(NOPS[nop.len() - NOPS[0].len()]);
        slot_call.copy_from_slice(&SLOT_CALL);
        artifact.calls.push(Call { start: start as u32, len: (end - start) as u8, target });
        Ok(true)
    }

    /// Where the call starts that ends `code` and calls what is loaded at `load`; none if what stands between them must
    /// stay there.
    fn call_of(&mut self, code: &[u8], load: usize) -> Option<usize> {
        let mut decoder = Decoder::with_ip(64, &code[load..], load as u64, DecoderOptions::NONE);
        let mut instruction = decoder.decode();
        let callee = instruction.op0_register();
        let is_load = instruction.code() == Code::Mov_r64_rm64 && instruction.is_ip_rel_memory_operand();
        if !is_load || instruction.len() != LOAD_BYTES {
            return None;
        }
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.code() == Code::Call_rm64 && instruction.op0_register() == callee {
                return (instruction.next_ip() as usize == code.len()).then_some(instruction.ip() as usize);
            }
            if !self.can_move(&instruction, callee) {
                return None;
            }
        }
        None
    }

    /// Whether an instruction does the same before the load of `callee` and seven bytes further up.
    fn can_move(&mut self, instruction: &Instruction, callee: Register) -> bool {
        if instruction.is_invalid()
            || instruction.flow_control() != FlowControl::Next
            || instruction.is_ip_rel_memory_operand()
        {
            return false;
        }
        let registers = self.registers.get_or_insert_with(InstructionInfoFactory::new);
        let info = registers.info_options(instruction, InstructionInfoOptions::NO_MEMORY_USAGE);
        info.used_registers().iter().all(|used| used.register().full_register() != callee)
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::SourcePos;

    use super::*;
    use crate::artifact::{Helper, Site};

    const TARGET: RelocTarget = RelocTarget::Helper(Helper::CallNative);

    /// `between`, put between a load of `r10` and its call.
    fn around(between: &[&[u8]]) -> Artifact {
        let code = [&[0x90, 0x4c, 0x8b, 0x15, 0, 0, 0, 0], &*between.concat(), &[0x41, 0xff, 0xd2]].concat();
        let site = Site {
            return_offset: code.len() as u32,
            position: SourcePos::NONE,
            raises: None,
            frame_offset: 0,
            handlers_first: 0,
            handlers_count: 0,
            references: None,
            frame: None,
        };
        Artifact { code, sites: vec![site], ..Artifact::default() }
    }
    fn gather(artifact: &mut Artifact) -> bool {
        Windows::default().gather(artifact, 4, TARGET).unwrap()
    }

    #[test]
    fn moves_of_arguments_go_before_the_window() {
        let moves: [&[u8]; 6] = [
            &[0x48, 0x89, 0xdf],                   // mov rdi, rbx
            &[0x48, 0x8b, 0x74, 0x24, 8],          // mov rsi, [rsp + 8]
            &[0x4c, 0x89, 0x5c, 0x24, 16],         // mov [rsp + 16], r11
            &[0x0f, 0x28, 0xc7],                   // movaps xmm0, xmm7
            &[0xf3, 0x0f, 0x6f, 0x4c, 0x24, 0x20], // movdqu xmm1, [rsp + 32]
            &[0x48, 0x8d, 0x54, 0x24, 0x40],       // lea rdx, [rsp + 64]
        ];
        for count in 0..=moves.len() {
            let mut artifact = around(&moves[..count]);
            let len = artifact.code.len();
            assert!(gather(&mut artifact), "{count}");
            let window: &[u8] = &[0x0f, 0x1f, 0x40, 0, 0xff, 0x15, 0, 0, 0, 0];
            assert_eq!(artifact.code, [&[0x90], &*moves[..count].concat(), window].concat());
            assert_eq!(artifact.calls, [Call { start: len as u32 - 10, len: 10, target: TARGET }]);
            assert_eq!((artifact.calls[0].end(), artifact.scattered_calls), (len as u32, 0));
        }
    }

    #[test]
    fn a_call_through_a_register_of_the_first_eight_has_a_window_of_nine_bytes() {
        let mut artifact = around(&[]);
        artifact.code.splice(1.., [0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xff, 0xd0]);
        artifact.sites[0].return_offset -= 1;
        assert!(gather(&mut artifact));
        assert_eq!(artifact.code, [0x90, 0x0f, 0x1f, 0, 0xff, 0x15, 0, 0, 0, 0]);
        assert_eq!(artifact.calls, [Call { start: 1, len: 9, target: TARGET }]);
    }

    #[test]
    fn whatever_depends_on_its_place_stays_there() {
        let others: [&[u8]; 9] = [
            &[0x4c, 0x89, 0xd7],             // mov rdi, r10
            &[0x4c, 0x89, 0x54, 0x24, 8],    // mov [rsp + 8], r10
            &[0x49, 0x8b, 0x7a, 8],          // mov rdi, [r10 + 8]
            &[0x49, 0x89, 0xfa],             // mov r10, rdi
            &[0x41, 0xb2, 1],                // mov r10b, 1
            &[0x48, 0x8b, 0x3d, 1, 0, 0, 0], // mov rdi, [rip + 1]
            &[0x74, 0],                      // je +0
            &[0xe8, 0, 0, 0, 0],             // call +0
            &[0x06],                         // no instruction
        ];
        for other in others {
            let mut artifact = around(&[&[0x48, 0x89, 0xdf], other]);
            let before = artifact.code.clone();
            assert!(!gather(&mut artifact), "{other:x?}");
            assert_eq!((artifact.code, artifact.calls.len(), artifact.scattered_calls), (before, 0, 1));
        }
    }

    #[test]
    fn a_call_of_something_else_is_left_alone() {
        let mut artifact = around(&[]);
        *artifact.code.last_mut().unwrap() = 0xd3; // call r11
        assert!(!gather(&mut artifact));
        let mut artifact = around(&[]);
        artifact.sites.clear();
        assert!(Windows::default().gather(&mut artifact, 4, TARGET).is_err());
    }
}
