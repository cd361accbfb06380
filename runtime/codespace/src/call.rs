//! The forms that a call may have, and how one is written so that it can change while it runs.
//!
//! ```text
//!  window  |<------------ 6..=15 bytes ----------->|
//!  near    [ nop .. ][ E8 |    rel32    ][ nop 0..3 ]      field at a multiple of 4 where the call is patched
//!  slot    [ nop .. ][ FF 15 |        disp32        ]      the target stands in a word of data
//! ```
//!
//! A *window* holds one call and nothing else, so its form can be chosen when its address is known: a direct call if the
//! target is in reach, else a call through a slot. Neither goes over a trampoline, which would cost each call a second
//! branch. Linkers relax calls through their table of addresses in the same manner (`GOTPCRELX` of the x86-64 psABI), and so
//! does the compiler of CPython.
//!
//! *Why 8 bytes are enough for a patched call.* In a window of n bytes at address a the field can start at any of the n − 4
//! addresses a + 1 ..= a + n − 4. From n = 8 on these are at least four addresses in a row, and one of four in a row is a
//! multiple of 4. A field there lies inside one aligned word of 8 bytes and inside one cache line: one plain store of 4
//! aligned bytes changes it, other cores see the old target or the new one, and no other byte is read or written, so threads
//! that patch different calls need no lock. In 7 bytes there may be no such place, and at some addresses not even one inside
//! an aligned word. HotSpot places the calls that it patches by the same rule.
//!
//! *Guarantees.* The bytes of a window decode to no-operations and exactly one call. The last possible place is taken, so the
//! return address lies at the end of the window or at most 3 bytes before it. A window that is refused is left as it was.
//!
//! Everything here is a function of bytes and addresses. What is near is measured as the processor does it, modulo 2⁶⁴ from
//! the end of the instruction.

pub(crate) mod slot;

use crate::{Error, INT3};

/// The shortest window: what a call through a slot takes.
pub const WINDOW_MIN: usize = 6;
/// The shortest window of a call that is patched.
pub const WINDOW_MIN_PATCHED: usize = 8;
/// The longest window: what the longest instruction takes.
pub const WINDOW_MAX: usize = 15;
/// The bytes of a stub: an indirect jump, rounded up so that stubs in a row are aligned.
pub const STUB_LEN: usize = 8;

/// The bytes of a displacement.
const FIELD: usize = 4;
/// The bytes of a load that [`load_address`] knows.
const LOAD_LEN: usize = 7;

const CALL_NEAR: &[u8] = &[0xe8];
const CALL_SLOT: &[u8] = &[0xff, 0x15];
const JUMP_SLOT: [u8; 2] = [0xff, 0x25];

/// The no-operations that the manuals of both makers recommend, by length less one (Intel SDM, volume 2, NOP; AMD64 APM,
/// volume 3, NOP).
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// How far something is from code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// So near that a signed displacement of 32 bits leads there: this one, from the end of the field that holds it.
    Rel32(i32),
    /// Farther.
    Far,
}

impl Reach {
    /// The way from `end`, the end of an instruction that ends in its displacement, to `target`.
    pub fn between(end: usize, target: usize) -> Reach {
        let distance = target.wrapping_sub(end).cast_signed();
        i32::try_from(distance).map_or(Reach::Far, Reach::Rel32)
    }

    fn displacement(self, from: usize, to: usize) -> Result<i32, Error> {
        match self {
            Reach::Rel32(displacement) => Ok(displacement),
            Reach::Far => Err(Error::OutOfReach { from, to }),
        }
    }
}

/// Whether the target of a call changes after its code was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patching {
    /// It does not: 6 bytes are enough, and the field may lie anywhere.
    Never,
    /// It may, while other threads run the call: 8 bytes are needed. Only some spaces can do that: see
    /// [`Protection::patches_calls`](crate::Protection::patches_calls).
    InPlace,
    /// It may, and the call goes through its slot however near the target is: 6 bytes are enough. Any space can do that.
    BySlot,
}

/// The form of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallForm {
    /// `call rel32`: the target stands in the code.
    Near,
    /// `call [rip + disp32]`: the target stands in a slot.
    Slot,
}

/// A call in code, as it was written into its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallSite {
    field: usize,
    form: CallForm,
    patched: bool,
}

impl CallSite {
    /// The address of the 4 bytes that say where the call goes: those of the target or those of the slot.
    pub fn field(&self) -> usize {
        self.field
    }

    /// Where the callee returns to.
    pub fn return_address(&self) -> usize {
        self.field.wrapping_add(FIELD)
    }

    /// Whether the call is direct or goes through a slot.
    pub fn form(&self) -> CallForm {
        self.form
    }

    /// Whether another target can be stored into the call while it runs. The target of a call through a slot changes with
    /// its slot instead.
    pub fn is_patchable(&self) -> bool {
        self.form == CallForm::Near && self.patched
    }

    /// The store that makes the call go to `target`.
    ///
    /// # Errors
    /// [`Error::Range`] if the call is not patchable, [`Error::OutOfReach`] if a near call cannot reach the target: then it
    /// may be directed to a stub.
    pub(crate) fn patch(&self, target: usize) -> Result<Patch, Error> {
        let what = match self.form {
            CallForm::Near if self.patched => {
                let from = self.return_address();
                let displacement = Reach::between(from, target).displacement(from, target)?;
                return Ok(Patch { address: self.field, value: displacement.cast_unsigned() });
            }
            CallForm::Near => "a patch: the call was written to stay",
            CallForm::Slot => "a patch: the call goes through a slot",
        };
        Err(Error::Range { what, start: self.field, end: self.return_address() })
    }
}

/// One store of 4 bytes that redirects a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// Where, in the executable view: a multiple of 4.
    pub(crate) address: usize,
    /// What.
    pub(crate) value: u32,
}

/// Fills `window`, whose first byte will run at `address`, with a call of `target`: directly if it is in reach, else
/// through the word at `slot`, which is to hold it. [`Patching::BySlot`] takes the slot always.
///
/// # Errors
/// [`Error::Range`] if the window is too short or too long; [`Error::OutOfReach`] if the target is out of reach, or to be
/// called through a slot, and there is no slot, or the slot is out of reach too. The window is then unchanged.
pub(crate) fn write_call(
    window: &mut [u8],
    address: usize,
    target: usize,
    slot: Option<usize>,
    patching: Patching,
) -> Result<CallSite, Error> {
    let len = window.len();
    let (shortest, what) = match patching {
        Patching::Never | Patching::BySlot => (WINDOW_MIN, "a call"),
        Patching::InPlace => (WINDOW_MIN_PATCHED, "a call that is patched"),
    };
    if !(shortest..=WINDOW_MAX).contains(&len) {
        return Err(Error::Range { what, start: address, end: address.wrapping_add(len) });
    }
    let last = address.wrapping_add(len - FIELD);
    let field = match patching {
        Patching::Never | Patching::BySlot => last,
        Patching::InPlace => last & !(FIELD - 1),
    };
    let patched = patching == Patching::InPlace;
    let from = field.wrapping_add(FIELD);
    if patching != Patching::BySlot
        && let Reach::Rel32(displacement) = Reach::between(from, target)
    {
        emit(window, field.wrapping_sub(address), CALL_NEAR, displacement);
        return Ok(CallSite { field, form: CallForm::Near, patched });
    }
    let slot = slot.ok_or(Error::OutOfReach { from, to: target })?;
    let from = last.wrapping_add(FIELD);
    let displacement = Reach::between(from, slot).displacement(from, slot)?;
    emit(window, len - FIELD, CALL_SLOT, displacement);
    Ok(CallSite { field: last, form: CallForm::Slot, patched })
}

/// Writes an instruction whose field stands at offset `field` of the window, and nothing around it.
fn emit(window: &mut [u8], field: usize, opcode: &[u8], displacement: i32) {
    let (before, rest) = window.split_at_mut(field - opcode.len());
    let (instruction, after) = rest.split_at_mut(opcode.len() + FIELD);
    fill_nops(before);
    instruction[..opcode.len()].copy_from_slice(opcode);
    instruction[opcode.len()..].copy_from_slice(&displacement.to_le_bytes());
    fill_nops(after);
}

/// Fills bytes with as few no-operations as there can be, of at most 9 bytes each.
pub(crate) fn fill_nops(bytes: &mut [u8]) {
    for nop in bytes.chunks_mut(NOPS.len()) {
        nop.copy_from_slice(NOPS[nop.len() - 1]);
    }
}

/// A stub that runs at `address` and jumps to where the word at `slot` says; `int3` up to its length.
///
/// # Errors
/// [`Error::OutOfReach`] if the slot is.
pub(crate) fn stub(address: usize, slot: usize) -> Result<[u8; STUB_LEN], Error> {
    let from = address.wrapping_add(JUMP_SLOT.len() + FIELD);
    let [a, b, c, d] = Reach::between(from, slot).displacement(from, slot)?.to_le_bytes();
    Ok([JUMP_SLOT[0], JUMP_SLOT[1], a, b, c, d, INT3, INT3])
}

/// How an address, or any other word, gets into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadForm {
    /// `mov reg, imm32`, sign-extended.
    Immediate,
    /// `lea reg, [rip + disp32]`.
    Near,
    /// `mov reg, [rip + disp32]`: the word stands in a slot.
    Slot,
}

/// Rewrites an instruction of 7 bytes, which will run at `address`, so that it brings `value` into the register that it
/// names: as an immediate if it fits, as an address relative to the instruction if it is in reach, else from the word at
/// `slot`, which is to hold it. The instruction may have any of the three forms when it comes.
///
/// # Errors
/// [`Error::Range`] if the bytes are not one instruction of these forms; [`Error::OutOfReach`] as for a call. The
/// instruction is then unchanged.
pub(crate) fn load_address(
    instruction: &mut [u8],
    address: usize,
    value: usize,
    slot: Option<usize>,
) -> Result<LoadForm, Error> {
    let end = address.wrapping_add(instruction.len());
    let register = loaded_register(instruction).ok_or(Error::Range {
        what: "a load that can be relaxed",
        start: address,
        end,
    })?;
    let (low, high) = (register & 7, register >> 3);
    let relative = |opcode, displacement| ([0x48 | high << 2, opcode, 0x05 | low << 3], displacement);
    let (form, (opcode, field)) = if let Ok(immediate) = i32::try_from(value.cast_signed()) {
        (LoadForm::Immediate, ([0x48 | high, 0xc7, 0xc0 | low], immediate))
    } else if let Reach::Rel32(displacement) = Reach::between(end, value) {
        (LoadForm::Near, relative(0x8d, displacement))
    } else {
        let slot = slot.ok_or(Error::OutOfReach { from: end, to: value })?;
        let displacement = Reach::between(end, slot).displacement(end, slot)?;
        (LoadForm::Slot, relative(0x8b, displacement))
    };
    instruction[..3].copy_from_slice(&opcode);
    instruction[3..].copy_from_slice(&field.to_le_bytes());
    Ok(form)
}

/// The number of the register that a load of one of the three forms names.
fn loaded_register(instruction: &[u8]) -> Option<u8> {
    let &[rex, opcode, modrm, ..] = instruction else { return None };
    if instruction.len() != LOAD_LEN {
        return None;
    }
    match opcode {
        0x8b | 0x8d if rex & !0x04 == 0x48 && modrm & 0xc7 == 0x05 => {
            Some((modrm >> 3 & 7) | (rex & 0x04) << 1)
        }
        0xc7 if rex & !0x01 == 0x48 && modrm & 0xf8 == 0xc0 => Some((modrm & 7) | (rex & 0x01) << 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
