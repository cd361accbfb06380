//! From Cranelift's result to an artifact: what must be filled in, and what is known of each return address.
//!
//! Every instruction carries its node's index as its location, so a call's return address leads to the node, and the node
//! to its position in the source and to what it raises. Landings carry their number in the list of what they catch.

use std::collections::BTreeMap;

use cranelift_codegen::binemit::Reloc as ClifReloc;
use cranelift_codegen::ir::{ExternalName, Function, StackSlot};
use cranelift_codegen::{
    CompiledCode, Final, FinalizedMachExceptionHandler, FinalizedRelocTarget, MachSrcLoc,
};
use dagwood_il::entity::Entity;
use dagwood_il::{Method, Module, Node, Opcode, Payload, Properties, RaiseKind, SourcePos, effects};

use crate::artifact::{Artifact, Landing, ListingLine, ReferenceMap, Reloc, RelocKind, RelocTarget, Site};
use crate::back_edges;
use crate::calls::Windows;
use crate::frames::Frames;
use crate::imports;
use crate::lower::Catch;
use crate::traps;

/// What is known of the method besides Cranelift's code.
pub(crate) struct Origin<'o, 'a> {
    /// The method; none for a shim.
    pub(crate) method: Option<&'o Method<'a>>,
    /// What it is declared in.
    pub(crate) module: Option<&'o Module>,
    /// By node: where in the source it stands, for roots.
    pub(crate) positions: &'o [SourcePos],
    /// The nodes whose values are references that are kept in slots of the frame.
    pub(crate) kept: &'o [(Node, StackSlot)],
    /// What the handlers catch, by tag.
    pub(crate) catches: &'o [Catch],
    /// Whether some block is reached from itself.
    pub(crate) has_loops: bool,
    /// Whether to say where each node's code begins.
    pub(crate) wants_listing: bool,
}

/// Which stretch of code belongs to which node: the nodes' indexes as Cranelift's locations, ascending by offset.
pub(crate) type Locations<'c> = &'c [MachSrcLoc<Final>];

/// What the locations of instructions in blocks that rarely run have besides the index of the node. A method has fewer
/// nodes.
pub(crate) const COLD: u32 = 1 << 31;

/// Whether a stretch of code is known to rarely run.
pub(crate) fn is_cold(location: &MachSrcLoc<Final>) -> bool {
    !location.loc.is_default() && location.loc.bits() & COLD != 0
}

/// The index of the node that a stretch of code belongs to; none's if it belongs to none.
pub(crate) fn owner_of(location: &MachSrcLoc<Final>) -> u32 {
    if location.loc.is_default() { u32::MAX } else { location.loc.bits() & !COLD }
}

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
    collect_sites(compiled, origin, &mut artifact)?;
    collect_relocs(compiled, func, &mut artifact)?;
    traps::replace(compiled, origin, &mut artifact)?;
    if origin.has_loops {
        artifact.back_edges = back_edges::find(compiled, locations, origin);
    }
    if origin.wants_listing {
        collect_listing(locations, &mut artifact);
    }
    Ok(artifact)
}

fn collect_relocs(compiled: &CompiledCode, func: &Function, artifact: &mut Artifact) -> Result<(), String> {
    let mut windows = Windows::default();
    for reloc in compiled.buffer.relocs() {
        let (target, addend, is_callee) = match &reloc.target {
            FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => {
                let name = &func.params.user_named_funcs()[*name];
                let target = imports::target(name);
                let target = target.ok_or_else(|| format!("Cranelift refers to an unknown name, {name}"))?;
                (target, reloc.addend, imports::is_callee(name))
            }
            FinalizedRelocTarget::Func(offset) => {
                (RelocTarget::Own, reloc.addend + i64::from(*offset), false)
            }
            FinalizedRelocTarget::ExternalName(other) => {
                return Err(format!("Cranelift refers to a function of its own, {other:?}"));
            }
        };
        let (kind, addend) = match reloc.kind {
            ClifReloc::X86CallPCRel4 | ClifReloc::X86PCRel4 | ClifReloc::X86CallPLTRel4 => {
                (RelocKind::Rel4, addend)
            }
            // What Cranelift adds is the way from the field to the end of its instruction.
            ClifReloc::X86GOTPCRel4 => (RelocKind::Load, addend + 4),
            other => return Err(format!("Cranelift made a relocation of an unknown kind, {other}")),
        };
        if is_callee && kind == RelocKind::Load && windows.gather(artifact, reloc.offset, target)? {
            continue;
        }
        artifact.relocs.push(Reloc { offset: reloc.offset, kind, target, addend });
    }
    artifact.relocs.sort_unstable_by_key(|reloc| reloc.offset);
    artifact.calls.sort_unstable_by_key(|call| call.start);
    Ok(())
}

/// The node that the code at `offset` belongs to, as Cranelift knows it.
pub(crate) fn location_of(locations: Locations<'_>, offset: u32) -> u32 {
    let after = locations.partition_point(|location| location.start <= offset);
    match after.checked_sub(1).map(|index| &locations[index]) {
        Some(location) if offset < location.end => owner_of(location),
        _ => u32::MAX,
    }
}

pub(crate) fn position_of(origin: &Origin<'_, '_>, location: u32) -> SourcePos {
    origin.positions.get(location as usize).copied().unwrap_or_default()
}

fn collect_sites(
    compiled: &CompiledCode,
    origin: &Origin<'_, '_>,
    artifact: &mut Artifact,
) -> Result<(), String> {
    let locations = compiled.buffer.get_srclocs_sorted();
    let mut maps = Maps::new(compiled, origin);
    let mut frames = Frames::new(compiled, origin);
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
        let references = maps.of(call.ret_addr, location, &mut artifact.references);
        let map = references.map_or(0..0, |map| map.first as usize..(map.first + map.count) as usize);
        let map = artifact.references[map].to_vec();
        let frame = frames.of(location, &map, artifact);
        artifact.sites.push(Site {
            return_offset: call.ret_addr,
            position: position_of(origin, location),
            raises: raises_of(origin, location),
            frame_offset: call.frame_offset.unwrap_or(0),
            handlers_first: first as u32,
            handlers_count: (artifact.handlers.len() - first) as u16,
            references,
            frame,
        });
    }
    Ok(())
}

/// The maps of a method's references, as Cranelift made them.
struct Maps<'c, 'o, 'a> {
    compiled: &'c CompiledCode,
    origin: &'o Origin<'o, 'a>,
    /// How far above the end of the frame the frame pointer leads.
    frame: u32,
    /// Those that were made, by what they list: many sites have the same.
    known: BTreeMap<Vec<u32>, ReferenceMap>,
}

impl<'c, 'o, 'a> Maps<'c, 'o, 'a> {
    fn new(compiled: &'c CompiledCode, origin: &'o Origin<'o, 'a>) -> Self {
        let frame = compiled.buffer.frame_layout().map_or(0, |layout| layout.frame_to_fp_offset);
        Maps { compiled, origin, frame, known: BTreeMap::new() }
    }

    /// The map of the site with a return address, if objects may move there.
    fn of(&mut self, return_offset: u32, location: u32, list: &mut Vec<u32>) -> Option<ReferenceMap> {
        let (method, module) = (self.origin.method?, self.origin.module?);
        let node = node_of(method, location)?;
        if !method.opcode(node).has(Properties::YIELDS) || !effects(module, method, node).yields {
            return None;
        }
        let maps = self.compiled.buffer.user_stack_maps();
        let mut places = Vec::new();
        if let Ok(index) = maps.binary_search_by_key(&return_offset, |(at, ..)| *at) {
            places.extend(maps[index].2.entries().map(|(_, offset)| self.frame - offset));
            places.sort_unstable();
        }
        let count = places.len() as u32;
        Some(*self.known.entry(places).or_insert_with_key(|places| {
            let first = list.len() as u32;
            list.extend(places);
            ReferenceMap { first, count }
        }))
    }
}

/// What a root that always raises, raises.
fn raises_of(origin: &Origin<'_, '_>, location: u32) -> Option<(RaiseKind, u16)> {
    let method = origin.method?;
    let node = node_of(method, location)?;
    match method.payload(node) {
        Payload::Raise(kind, reason) if method.opcode(node) == Opcode::Raise => Some((kind, reason)),
        _ => None,
    }
}

pub(crate) fn node_of(method: &Method<'_>, location: u32) -> Option<Node> {
    ((location as usize) < method.node_count()).then(|| Node::new(location as usize))
}

fn collect_listing(locations: Locations<'_>, artifact: &mut Artifact) {
    for location in locations {
        let node = owner_of(location);
        if node != u32::MAX && artifact.listing.last().is_none_or(|line| line.node != node) {
            artifact.listing.push(ListingLine { offset: location.start, node });
        }
    }
}
