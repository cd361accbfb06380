//! From Cranelift's result to an artifact: every raise gets its call, and every return address its site.
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
//! belongs to the host. So each trap is replaced by a call of five bytes, and the branches to it are redirected. They
//! are found by decoding, from its start, each stretch of code that belongs to the same node as the trap: no byte that
//! is not an instruction is ever taken for one.
//!
//! # Guarantees
//!
//! Every trap has at least one branch that was redirected, or else compiling fails: no trap can be reached.

use cranelift_codegen::binemit::Reloc as ClifReloc;
use cranelift_codegen::ir::{ExternalName, Function, TrapCode};
use cranelift_codegen::{CompiledCode, FinalizedMachExceptionHandler, FinalizedRelocTarget, MachSrcLoc};
use dagwood_il::entity::Entity;
use dagwood_il::{Method, Node, Payload, SourcePos};
use iced_x86::{Decoder, DecoderOptions, Instruction};

use crate::artifact::{Artifact, Helper, Landing, ListingLine, Reloc, RelocKind, RelocTarget, Site};
use crate::imports;
use crate::lower::{Catch, UNREACHABLE, kind_of};

/// What is known of the method besides Cranelift's code.
pub(crate) struct Origin<'o, 'a> {
    /// The method; none for a shim.
    pub(crate) method: Option<&'o Method<'a>>,
    /// By node: where in the source it stands, for roots.
    pub(crate) positions: &'o [SourcePos],
    /// What the handlers catch, by tag.
    pub(crate) catches: &'o [Catch],
    /// Whether to say where each node's code begins.
    pub(crate) wants_listing: bool,
}

/// The bytes of a trap, of a call, and of a conditional branch to 32 bits away.
const TRAP_BYTES: u32 = 2;
const CALL_BYTES: u32 = 5;
const BRANCH_BYTES: usize = 6;
/// The opcodes of a trap, of a call, and of a breakpoint.
const TRAP: [u8; 2] = [0x0f, 0x0b];
const CALL: u8 = 0xe8;
const BREAKPOINT: u8 = 0xcc;

/// A trap that stands for a raise.
struct Trap {
    offset: u32,
    code: TrapCode,
    /// The node that it belongs to, as Cranelift knows it.
    location: u32,
    /// Whether a branch to it has been redirected.
    is_reached: bool,
}

type Locations<'c> = &'c [MachSrcLoc<cranelift_codegen::Final>];

/// Makes an artifact of compiled code, or says what is wrong with the code.
pub(crate) fn finish(
    compiled: &CompiledCode,
    func: &Function,
    origin: &Origin<'_, '_>,
) -> Result<Artifact, String> {
    let buffer = &compiled.buffer;
    let locations = buffer.get_srclocs_sorted();
    let mut artifact = Artifact {
        code: buffer.data().to_vec(),
        align: buffer.alignment,
        frame_size: buffer.frame_layout().map_or(0, |layout| layout.frame_to_fp_offset) + 16,
        ..Artifact::default()
    };
    collect_relocs(compiled, func, &mut artifact)?;
    collect_calls(compiled, origin, &mut artifact)?;
    let mut traps = collect_traps(compiled, locations);
    if !traps.is_empty() {
        replace_traps(&mut traps, locations, origin, &mut artifact)?;
    }
    if origin.wants_listing {
        collect_listing(locations, &mut artifact);
    }
    Ok(artifact)
}

fn collect_relocs(compiled: &CompiledCode, func: &Function, artifact: &mut Artifact) -> Result<(), String> {
    for reloc in compiled.buffer.relocs() {
        let kind = match reloc.kind {
            ClifReloc::Abs8 => RelocKind::Abs8,
            ClifReloc::X86CallPCRel4 | ClifReloc::X86PCRel4 | ClifReloc::X86CallPLTRel4 => RelocKind::Rel4,
            other => return Err(format!("Cranelift made a relocation of an unknown kind, {other}")),
        };
        let (target, addend) = match &reloc.target {
            FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => {
                let name = &func.params.user_named_funcs()[*name];
                let target = imports::target(name);
                (target.ok_or_else(|| format!("Cranelift refers to an unknown name, {name}"))?, reloc.addend)
            }
            FinalizedRelocTarget::Func(offset) => (RelocTarget::Own, reloc.addend + i64::from(*offset)),
            FinalizedRelocTarget::ExternalName(other) => {
                return Err(format!("Cranelift refers to a function of its own, {other:?}"));
            }
        };
        artifact.relocs.push(Reloc { offset: reloc.offset, kind, target, addend });
    }
    artifact.relocs.sort_unstable_by_key(|reloc| reloc.offset);
    Ok(())
}

/// The node that the code at `offset` belongs to, as Cranelift knows it.
fn location_of(locations: Locations<'_>, offset: u32) -> u32 {
    let after = locations.partition_point(|location| location.start <= offset);
    match after.checked_sub(1).map(|index| &locations[index]) {
        Some(location) if offset < location.end => location.loc.bits(),
        _ => u32::MAX,
    }
}

fn position_of(origin: &Origin<'_, '_>, location: u32) -> SourcePos {
    origin.positions.get(location as usize).copied().unwrap_or_default()
}

fn collect_calls(
    compiled: &CompiledCode,
    origin: &Origin<'_, '_>,
    artifact: &mut Artifact,
) -> Result<(), String> {
    let locations = compiled.buffer.get_srclocs_sorted();
    for call in compiled.buffer.call_sites() {
        let location = location_of(locations, call.ret_addr - 1);
        let first = artifact.handlers.len();
        for handler in call.exception_handlers {
            let FinalizedMachExceptionHandler::Tag(tag, offset) = handler else {
                return Err("Cranelift lists a handler without a tag".into());
            };
            let (kinds, class) = origin.catches[tag.as_u32() as usize];
            artifact.handlers.push(Landing { kinds, class, offset: *offset });
        }
        artifact.sites.push(Site {
            return_offset: call.ret_addr,
            position: position_of(origin, location),
            raises: raises_of(origin, location),
            frame_offset: call.frame_offset.unwrap_or(0),
            handlers_first: first as u32,
            handlers_count: (artifact.handlers.len() - first) as u16,
        });
    }
    Ok(())
}

/// What a root that always raises, raises.
fn raises_of(origin: &Origin<'_, '_>, location: u32) -> Option<(dagwood_il::RaiseKind, u16)> {
    let method = origin.method?;
    let node = node_of(method, location)?;
    match method.payload(node) {
        Payload::Raise(kind, reason) if method.opcode(node) == dagwood_il::Opcode::Raise => {
            Some((kind, reason))
        }
        _ => None,
    }
}

fn node_of(method: &Method<'_>, location: u32) -> Option<Node> {
    ((location as usize) < method.node_count()).then(|| Node::new(location as usize))
}

/// The traps that stand for raises: those at the end of the code, to which checks branch.
fn collect_traps(compiled: &CompiledCode, locations: Locations<'_>) -> Vec<Trap> {
    let code = compiled.buffer.data();
    let is_raise = |offset: u32, trap: TrapCode| {
        // A division's own record stands at the division, which is never executed with an operand it stops for.
        trap != UNREACHABLE && code.get(offset as usize..).is_some_and(|code| code.starts_with(&TRAP))
    };
    let traps = compiled.buffer.traps().iter().filter(|trap| is_raise(trap.offset, trap.code));
    traps
        .map(|trap| Trap {
            offset: trap.offset,
            code: trap.code,
            location: location_of(locations, trap.offset),
            is_reached: false,
        })
        .collect()
}

/// Puts a call in the place of each trap.
fn replace_traps(
    traps: &mut [Trap],
    locations: Locations<'_>,
    origin: &Origin<'_, '_>,
    artifact: &mut Artifact,
) -> Result<(), String> {
    let count = traps.len() as u32;
    let (first, last) = (traps[0].offset, traps[traps.len() - 1].offset);
    let is_dense = last - first == (count - 1) * TRAP_BYTES;
    if is_dense && (last + TRAP_BYTES) as usize == artifact.code.len() {
        artifact.code.truncate(first as usize);
    }
    let start = artifact.code.len() as u32;
    redirect(traps, locations, origin, start, artifact);
    for (index, trap) in (0..).zip(traps.iter()) {
        if !trap.is_reached {
            return Err(format!("no branch to the trap at {:#x} was found", trap.offset));
        }
        let offset = start + index * CALL_BYTES;
        artifact.code.extend_from_slice(&[CALL, 0, 0, 0, 0]);
        artifact.relocs.push(Reloc {
            offset: offset + 1,
            kind: RelocKind::Rel4,
            target: RelocTarget::Helper(Helper::RaiseSite),
            addend: -4,
        });
        let kind = kind_of(trap.code).ok_or_else(|| format!("the trap {} is not one of ours", trap.code))?;
        let reason = match origin.method.and_then(|method| Some((method, node_of(method, trap.location)?))) {
            Some((method, node)) => match method.payload(node) {
                Payload::Raise(_, reason) => reason,
                _ => 0,
            },
            None => 0,
        };
        artifact.sites.push(Site {
            return_offset: offset + CALL_BYTES,
            position: position_of(origin, trap.location),
            raises: Some((kind, reason)),
            frame_offset: 0,
            handlers_first: 0,
            handlers_count: 0,
        });
    }
    // The last return address is then one inside of the code, too.
    artifact.code.push(BREAKPOINT);
    Ok(())
}

/// Redirects the branches to `traps` to calls that start at `start`.
fn redirect(
    traps: &mut [Trap],
    locations: Locations<'_>,
    origin: &Origin<'_, '_>,
    start: u32,
    artifact: &mut Artifact,
) {
    let mut raising = vec![false; origin.positions.len() + 1];
    let slot = |location: u32| (location as usize).min(origin.positions.len());
    for trap in traps.iter() {
        raising[slot(trap.location)] = true;
    }
    let end = traps[0].offset;
    let mut instruction = Instruction::default();
    for stretch in locations.iter().filter(|stretch| stretch.start < end && raising[slot(stretch.loc.bits())])
    {
        let bytes = &artifact.code[stretch.start as usize..stretch.end.min(end) as usize];
        let mut branches: smallvec::SmallVec<[(usize, usize); 2]> = smallvec::SmallVec::new();
        let mut decoder = Decoder::with_ip(64, bytes, stretch.start.into(), DecoderOptions::NONE);
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if instruction.is_jcc_short_or_near() && instruction.len() == BRANCH_BYTES {
                let target = instruction.near_branch_target();
                if let Ok(index) = traps.binary_search_by_key(&target, |trap| trap.offset.into()) {
                    branches.push((instruction.next_ip() as usize, index));
                }
            }
        }
        for (next, index) in branches {
            traps[index].is_reached = true;
            let distance = start + index as u32 * CALL_BYTES - next as u32;
            artifact.code[next - 4..next].copy_from_slice(&distance.to_le_bytes());
        }
    }
}

fn collect_listing(locations: Locations<'_>, artifact: &mut Artifact) {
    for location in locations {
        let node = location.loc.bits();
        if node != u32::MAX && artifact.listing.last().is_none_or(|line| line.node != node) {
            artifact.listing.push(ListingLine { offset: location.start, node });
        }
    }
}
