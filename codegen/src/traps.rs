//! Traps become calls.
//!
//! ```text
//!   cmp  rsi, rcx            cmp  rsi, rcx
//!   jae  trap ──┐            jae  stub ──┐
//!   …           │      ─►    …           │
//!   ud2       ◄─┘            call RaiseSite   ◄─┘ the site of its return address says what is raised, and where
//! ```
//!
//! Cranelift compiles a check that no handler sees to a branch to a trap at the end of the code. That costs neither a block
//! nor an edge nor a register. But a trap stops the program by a signal, which takes a hundred times as long as a call, and
//! belongs to the host. So each trap is replaced by a call, and the branches to it are redirected. Polls are compiled in the
//! same way; their call comes back, and is followed by a jump to where the branch would have continued.
//!
//! The branches are found by decoding, from its start, each stretch of code that belongs to the same node as a trap: no
//! byte that is not an instruction is ever taken for one.
//!
//! # Guarantees
//!
//! Every trap has at least one branch that was redirected, or else compiling fails: no trap can be reached.

use cranelift_codegen::CompiledCode;
use cranelift_codegen::ir::TrapCode;
use dagwood_il::{Payload, RaiseKind};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use smallvec::SmallVec;

use crate::artifact::{Artifact, Helper, ReferenceMap, Reloc, RelocKind, RelocTarget, Site};
use crate::frames::Frames;
use crate::lower::{POLLED, UNREACHABLE, kind_of};
use crate::sites::{Locations, Origin, location_of, node_of, owner_of, position_of};

/// The bytes of a trap, of a call or jump, and of a conditional branch to 32 bits away.
const TRAP_BYTES: u32 = 2;
const CALL_BYTES: u32 = 5;
const BRANCH_BYTES: usize = 6;
/// The opcodes of a trap, a call, a jump and a breakpoint.
const TRAP: [u8; 2] = [0x0f, 0x0b];
const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
const BREAKPOINT: u8 = 0xcc;

/// A trap that stands for a call.
struct Trap {
    offset: u32,
    code: TrapCode,
    /// The node that it belongs to, as Cranelift knows it.
    location: u32,
    /// Where the call that replaces it stands.
    stub: u32,
    /// Where each branch to it continues if it is not taken.
    branches: SmallVec<[u32; 2]>,
}

/// Puts a call in the place of each trap.
pub(crate) fn replace(
    compiled: &CompiledCode,
    origin: &Origin<'_, '_>,
    artifact: &mut Artifact,
) -> Result<(), String> {
    let locations = compiled.buffer.get_srclocs_sorted();
    let mut traps = collect(compiled, locations);
    let (Some(first), Some(last)) = (traps.first(), traps.last()) else { return Ok(()) };
    let (first, end) = (first.offset, last.offset + TRAP_BYTES);
    // Nothing but the traps at the very end: the calls take their place.
    if end - first == traps.len() as u32 * TRAP_BYTES && end as usize == artifact.code.len() {
        artifact.code.truncate(first as usize);
    }
    let mut next = artifact.code.len() as u32;
    for trap in &mut traps {
        trap.stub = next;
        next += if trap.code == POLLED { 2 * CALL_BYTES } else { CALL_BYTES };
    }
    redirect(&mut traps, locations, origin, artifact);
    let mut frames = Frames::new(compiled, origin);
    for trap in &traps {
        let frame = frames.of(trap.location, &[], artifact);
        emit(trap, origin, frame, artifact)?;
    }
    // The last return address is then one inside of the code, too.
    artifact.code.push(BREAKPOINT);
    Ok(())
}

/// The traps that stand for calls, by ascending offset: those at the end of the code, to which checks branch.
fn collect(compiled: &CompiledCode, locations: Locations<'_>) -> Vec<Trap> {
    let code = compiled.buffer.data();
    let is_call = |offset: u32, trap: TrapCode| {
        // A division's own record stands at the division, which is never executed with an operand it stops for.
        trap != UNREACHABLE && code.get(offset as usize..).is_some_and(|code| code.starts_with(&TRAP))
    };
    let traps = compiled.buffer.traps().iter().filter(|trap| is_call(trap.offset, trap.code));
    traps
        .map(|trap| Trap {
            offset: trap.offset,
            code: trap.code,
            location: location_of(locations, trap.offset),
            stub: 0,
            branches: SmallVec::new(),
        })
        .collect()
}

/// Redirects the branches to `traps` to what replaces them.
fn redirect(traps: &mut [Trap], locations: Locations<'_>, origin: &Origin<'_, '_>, artifact: &mut Artifact) {
    let mut has_trap = vec![false; origin.positions.len() + 1];
    let slot = |location: u32| (location as usize).min(origin.positions.len());
    for trap in traps.iter() {
        has_trap[slot(trap.location)] = true;
    }
    let end = traps[0].offset;
    let mut instruction = Instruction::default();
    for stretch in locations.iter().filter(|at| at.start < end && has_trap[slot(owner_of(at))]) {
        let (start, end) = (stretch.start as usize, stretch.end.min(end) as usize);
        let mut decoder =
            Decoder::with_ip(64, &artifact.code[start..end], start as u64, DecoderOptions::NONE);
        let mut found: SmallVec<[(u32, u32); 2]> = SmallVec::new();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if !instruction.is_jcc_short_or_near() || instruction.len() != BRANCH_BYTES {
                continue;
            }
            let target = instruction.near_branch_target();
            if let Ok(index) = traps.binary_search_by_key(&target, |trap| trap.offset.into()) {
                let next = instruction.next_ip() as u32;
                traps[index].branches.push(next);
                found.push((next, traps[index].stub));
            }
        }
        for (next, stub) in found {
            put_distance(artifact, next, stub);
        }
    }
}

/// Gives the branch or jump that ends at `next` the target `to`.
fn put_distance(artifact: &mut Artifact, next: u32, to: u32) {
    artifact.code[next as usize - 4..next as usize].copy_from_slice(&to.wrapping_sub(next).to_le_bytes());
}

/// Emits the call that replaces a trap.
fn emit(
    trap: &Trap,
    origin: &Origin<'_, '_>,
    frame: Option<u32>,
    artifact: &mut Artifact,
) -> Result<(), String> {
    if trap.branches.is_empty() {
        return Err(format!("no branch to the trap at {:#x} was found", trap.offset));
    }
    let is_poll = trap.code == POLLED;
    artifact.code.extend_from_slice(&[CALL, 0, 0, 0, 0]);
    artifact.relocs.push(Reloc {
        offset: trap.stub + 1,
        kind: RelocKind::Rel4,
        target: RelocTarget::Helper(if is_poll { Helper::Poll } else { Helper::RaiseSite }),
        addend: -4,
    });
    artifact.sites.push(Site {
        return_offset: trap.stub + CALL_BYTES,
        position: position_of(origin, trap.location),
        raises: if is_poll { None } else { Some(raised(trap, origin)?) },
        frame_offset: 0,
        handlers_first: 0,
        handlers_count: 0,
        // A poll in a method that has references is not a trap.
        references: is_poll.then(ReferenceMap::default),
        frame,
    });
    if is_poll {
        let [back] = trap.branches[..] else {
            return Err(format!("the poll at {:#x} has several branches", trap.offset));
        };
        artifact.code.extend_from_slice(&[JUMP, 0, 0, 0, 0]);
        put_distance(artifact, trap.stub + 2 * CALL_BYTES, back);
    }
    Ok(())
}

/// What a trap raises: the kind is the trap's, the reason its node's.
fn raised(trap: &Trap, origin: &Origin<'_, '_>) -> Result<(RaiseKind, u16), String> {
    let kind = kind_of(trap.code).ok_or_else(|| format!("the trap {} is not one of ours", trap.code))?;
    let node = origin.method.and_then(|method| Some(method.payload(node_of(method, trap.location)?)));
    Ok(match node {
        Some(Payload::Raise(_, reason)) => (kind, reason),
        _ => (kind, 0),
    })
}
