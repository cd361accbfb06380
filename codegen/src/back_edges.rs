//! The branches that close loops, and how often they are taken.
//!
//! ```text
//!   head:  …                     start ─► cmp  r8, r9   ┐
//!          …                              jl   head     ┘ one back edge: 9 bytes
//!          cmp r8, r9            end   ─►
//! ```
//!
//! Where a function is placed decides which of its branches straddle a boundary of the cache, and a loop whose last two
//! instructions do may take half as long again. So whoever places the code is told where they are. The processor makes one
//! operation of a compare and the branch behind it ("macro-fusion" in Intel's optimization manual): both belong to the edge.
//!
//! Cranelift lays blocks out in reverse post-order, those that rarely run behind all others. So among the others a branch
//! backward closes a loop. It stands at the end of a stretch that belongs to one node, where it is recognised by its bytes
//! and confirmed by decoding the stretch from its start: jumps through tables are not seen.
//!
//! # Guarantees
//!
//! Every edge is a direct branch in the code whose target is at or before it, with whole instructions. The same method yields
//! the same edges. Frequencies are estimates, and only ever decide about speed.
//!
//! # Cost
//!
//! Nothing for methods without loops. Otherwise some bytes of each stretch are compared, and the stretches that end in a
//! branch backward are decoded.

use std::cmp::Reverse;

use cranelift_codegen::CompiledCode;
use cranelift_codegen::ir::{Function, SourceLoc};
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Cfg, Frequency};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use crate::artifact::BackEdge;
use crate::sites::{COLD, Locations, Origin, is_cold, owner_of};

/// The edges that an artifact lists at most: whoever places a function weighs each of them for each place.
pub const MAX_BACK_EDGES: usize = 64;
/// How much more often a loop runs than what it stands in, where nobody knows better.
const ESTIMATED_ROUNDS_LOG2: usize = 3;
/// The depth of loops from which on the estimate stays the same.
const MAX_ESTIMATED_DEPTH: usize = 6;
/// The bytes of `jmp rel32` and of `jcc rel32`, and the opcode of the former.
const JUMP_BYTES: usize = 5;
const BRANCH_BYTES: usize = 6;
const JUMP: u8 = 0xe9;

/// Whether an edge leads to a block that stands before its end: without loops, none does.
pub(crate) fn has_loops(cfg: &Cfg) -> bool {
    let is_back = |from: Block, to: Block| cfg.rank(to) <= cfg.rank(from);
    cfg.order().iter().any(|from| cfg.successors(*from).iter().any(|edge| is_back(*from, edge.block)))
}

/// Lets the code of blocks that rarely run be told from other code, once it is compiled.
pub(crate) fn mark_cold(func: &mut Function) {
    let mut next_block = func.layout.entry_block();
    while let Some(block) = next_block {
        next_block = func.layout.next_block(block);
        if !func.layout.is_cold(block) {
            continue;
        }
        let mut next = func.layout.first_inst(block);
        while let Some(inst) = next {
            next = func.layout.next_inst(inst);
            let location = func.srcloc(inst);
            if !location.is_default() {
                func.set_srcloc(inst, SourceLoc::new(location.bits() | COLD));
            }
        }
    }
}

/// A back edge whose frequency is not known yet.
struct Edge {
    start: u32,
    end: u32,
    /// Where the loop starts.
    head: u32,
    /// The node whose code branches, as its index.
    owner: u32,
}

/// The back edges of a method that has loops: the hottest first, of those that are equally hot the first.
pub(crate) fn find(
    compiled: &CompiledCode,
    locations: Locations<'_>,
    origin: &Origin<'_, '_>,
) -> Vec<BackEdge> {
    let mut edges = Vec::new();
    let hot = locations.iter().position(is_cold).unwrap_or(locations.len());
    for count in 1..=hot {
        collect(compiled.buffer.data(), &locations[..count], &mut edges);
    }
    let (known, nesting) = (known_frequencies(&edges, origin), Nesting::of(&edges));
    let mut found: Vec<BackEdge> = edges
        .iter()
        .map(|edge| {
            let known = known.binary_search_by_key(&edge.owner, |known| known.0).map(|index| known[index].1);
            let frequency = known.ok().flatten().unwrap_or_else(|| nesting.estimate(edge.start));
            BackEdge { start: edge.start, end: edge.end, frequency }
        })
        .collect();
    found.sort_by_key(|edge| Reverse(edge.frequency));
    found.truncate(MAX_BACK_EDGES);
    found
}

// ---- where they are ----

/// Appends the back edges at the end of the last of some stretches: a jump, a branch, or a branch and a jump behind it.
fn collect(code: &[u8], stretches: Locations<'_>, edges: &mut Vec<Edge>) {
    let Some(last) = stretches.last() else { return };
    let (start, end) = (last.start as usize, last.end as usize);
    let jump = match &code[start..end] {
        [.., JUMP, a, b, c, d] => Some(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => None,
    };
    let branch_end = if jump.is_some() { end - JUMP_BYTES } else { end };
    let branch = match &code[start..branch_end] {
        [.., 0x0f, 0x80..=0x8f, a, b, c, d] => Some(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => None,
    };
    for (distance, end, bytes) in [(branch, branch_end, BRANCH_BYTES), (jump, end, JUMP_BYTES)] {
        let Some(distance) = distance else { continue };
        let (at, head) = (end - bytes, end as i64 + i64::from(distance));
        if (0..=at as i64).contains(&head)
            && let Some(first) = first_of(code, stretches, at)
        {
            let owner = stretches.iter().rev().map(owner_of).find(|owner| *owner != u32::MAX);
            edges.push(Edge {
                start: first as u32,
                end: end as u32,
                head: head as u32,
                owner: owner.unwrap_or(u32::MAX),
            });
        }
    }
}

/// Where the compare starts that the branch at `at` in the last of some stretches is executed with, or the branch itself if
/// there is none; nothing if no instruction starts at `at`.
fn first_of(code: &[u8], stretches: Locations<'_>, at: usize) -> Option<usize> {
    let (last, before) = stretches.split_last()?;
    let mut compare = last_instruction(code, last.start as usize, at)?;
    if at == last.start as usize
        && let Some(before) = before.last().filter(|before| before.end == last.start)
    {
        compare = last_instruction(code, before.start as usize, at)?;
    }
    Some(if code[at] != JUMP && can_fuse(&compare) { compare.ip() as usize } else { at })
}

/// The last instruction of a stretch of code, an invalid one if the stretch is empty; nothing if an instruction goes beyond
/// its end.
fn last_instruction(code: &[u8], start: usize, end: usize) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, &code[start..end], start as u64, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        // Behind a jump through a table stands the table.
        if instruction.is_invalid() || instruction.flow_control() == FlowControl::IndirectBranch {
            return None;
        }
    }
    Some(instruction)
}

/// Whether a conditional branch behind an instruction becomes one operation with it.
fn can_fuse(instruction: &Instruction) -> bool {
    let has_memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
    let is_fit = match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test => !has_memory || instruction.op1_kind() == OpKind::Register,
        Mnemonic::Add | Mnemonic::Sub | Mnemonic::And => instruction.op0_kind() == OpKind::Register,
        Mnemonic::Inc | Mnemonic::Dec => !has_memory,
        _ => false,
    };
    is_fit && !instruction.is_ip_rel_memory_operand()
}

// ---- how often they are taken ----

/// The frequencies of blocks that somebody gave them, by the nodes in `edges` that stand there: ascending.
fn known_frequencies(edges: &[Edge], origin: &Origin<'_, '_>) -> Vec<(u32, Option<u32>)> {
    let mut known: Vec<(u32, Option<u32>)> = edges.iter().map(|edge| (edge.owner, None)).collect();
    known.sort_unstable();
    known.dedup();
    let Some(method) = origin.method.filter(|_| !known.is_empty()) else { return known };
    for block in method.blocks() {
        let Some(frequency) = method.block(block).frequency else { continue };
        for root in method.roots(block) {
            let node = root.node.index() as u32;
            if let Ok(index) = known.binary_search_by_key(&node, |known| known.0) {
                known[index].1 = Some(frequency.0);
            }
        }
    }
    known
}

/// How deep the loops of a method are nested, in the order in which the code is laid out.
struct Nesting {
    /// Where loops start, and where they end: both ascending.
    starts: Vec<u32>,
    ends: Vec<u32>,
}

impl Nesting {
    /// A loop goes from its head to the last of its back edges: what has one head is one loop.
    fn of(edges: &[Edge]) -> Nesting {
        let mut loops: Vec<(u32, u32)> = edges.iter().map(|edge| (edge.head, edge.end)).collect();
        loops.sort_unstable_by_key(|(start, end)| (*start, Reverse(*end)));
        loops.dedup_by_key(|(start, _)| *start);
        let starts = loops.iter().map(|(start, _)| *start).collect();
        let mut ends: Vec<u32> = loops.iter().map(|(_, end)| *end).collect();
        ends.sort_unstable();
        Nesting { starts, ends }
    }

    /// An estimate of how often what stands at an offset runs.
    fn estimate(&self, offset: u32) -> u32 {
        let begun = self.starts.partition_point(|start| *start <= offset);
        let ended = self.ends.partition_point(|end| *end <= offset);
        Frequency::ONCE.0 << (ESTIMATED_ROUNDS_LOG2 * (begun - ended).min(MAX_ESTIMATED_DEPTH))
    }
}
