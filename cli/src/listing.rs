//! Assembly: an artifact's code in NASM's syntax, with the IL beside it.
//!
//! ```text
//!   L1:
//!     0010  mov eax,[rdi+10h]               ; %4 = load.i32 @mem [%1 + 16]
//!     0013  nop dword [rax]                 ; %5 = call.i32 @gcd(%4, %2)
//!     0017  call qword [rip+@gcd]
//!   D1:
//!     0040  dd 0x3f800000
//! ```
//!
//! # How
//!
//! Constants and jump tables stand between and behind the instructions, and decoding them as instructions would lose
//! the thread. So decoding follows the flow of control, from everything that is known to be an instruction: the start,
//! the handlers, the return addresses, the beginnings of nodes, and where branches and jump tables lead. What is
//! reached by none of these is data.
//!
//! *Guarantees.* Every byte of the code is shown once, in order, as an instruction or as data.
//!
//! *Cost.* Each byte of code is decoded once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use dagwood_codegen::{Artifact, RelocKind, RelocTarget};
use dagwood_il::entity::Entity;
use dagwood_il::{Method, Module, Node, text};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Formatter, Instruction, NasmFormatter, OpKind, Register,
    SymbolResolver, SymbolResult,
};

/// The columns that an instruction takes before its comment.
const CODE_COLUMNS: usize = 44;
/// The columns that bytes take where they are shown: eight bytes, and the rest on the next line.
const BYTES_A_LINE: usize = 8;
/// The bytes of data on a line.
const DATA_BYTES_A_LINE: u32 = 16;
/// The bytes of an entry of a jump table.
const JUMP_ENTRY_BYTES: u32 = 4;
/// The characters of a node that are shown.
const NODE_CHARS: usize = 140;

/// Whether to show the bytes of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// They are shown.
    Shown,
    /// They are not.
    Hidden,
}

/// The assembly of a method's code.
pub(crate) fn print(module: &Module, method: &Method<'_>, artifact: &Artifact, bytes: Bytes) -> String {
    let flow = Flow::follow(artifact);
    let name = &module.methods[method.id()].name;
    let Artifact { code, frame_size, .. } = artifact;
    let mut out = format!("; method @{name}: {} bytes of code, {frame_size} bytes of stack\n", code.len());
    let mut formatter = formatter(module, artifact, &flow);
    let (mut offset, mut node) = (0, None);
    let mut line = String::new();
    while offset < code.len() as u32 {
        if let Some(label) = flow.labels.get(&offset) {
            let _ = writeln!(out, "{label}:");
        }
        let Some(instruction) = flow.instructions.get(&offset) else {
            offset = push_data(&mut out, code, offset, &flow);
            continue;
        };
        line.clear();
        formatter.format(instruction, &mut line);
        let next = offset + instruction.len() as u32;
        let mut comments = Vec::new();
        if let Some((kind, reason)) = raised_at(artifact, next) {
            let reason = if reason == 0 { String::new() } else { format!(" reason {reason}") };
            comments.push(format!("raises {kind}{reason}"));
        }
        if let Some(begun) = node_at(artifact, method, offset).filter(|begun| Some(*begun) != node) {
            node = Some(begun);
            let node = text::print_node(module, method, begun);
            comments.push(node.trim().chars().take(NODE_CHARS).collect());
        }
        let encoding = (bytes == Bytes::Shown).then(|| &code[offset as usize..next as usize]);
        push_line(&mut out, offset, encoding, &line, &comments.join(": "));
        offset = next;
    }
    out
}

/// `  0010  mov eax,1      ; comment`, with the bytes before the instruction where they are shown.
fn push_line(out: &mut String, offset: u32, encoding: Option<&[u8]>, line: &str, comment: &str) {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x} "));
    let (first, rest) = match encoding {
        Some(bytes) => bytes.split_at(bytes.len().min(BYTES_A_LINE)),
        None => (&[][..], &[][..]),
    };
    let width = if encoding.is_some() { BYTES_A_LINE * 3 } else { 0 };
    let text = format!("  {offset:04x}  {:width$}{line}", hex(first));
    let _ = match comment {
        "" => writeln!(out, "{text}"),
        _ => writeln!(out, "{text:columns$} ; {comment}", columns = CODE_COLUMNS + width),
    };
    if !rest.is_empty() {
        let _ = writeln!(out, "        {}", hex(rest).trim_end());
    }
}

/// Writes a line of data and gives the offset behind it.
fn push_data(out: &mut String, code: &[u8], offset: u32, flow: &Flow) -> u32 {
    let next_label = flow.labels.range(offset + 1..).next().map(|(offset, _)| *offset);
    let next_code = flow.instructions.range(offset..).next().map(|(offset, _)| *offset);
    let end = [next_label, next_code].into_iter().flatten().fold(code.len() as u32, u32::min);
    if let Some((table, target)) = flow.entries.get(&offset).filter(|_| end - offset >= JUMP_ENTRY_BYTES) {
        let label = |offset: &u32| flow.labels.get(offset).map_or("?", String::as_str);
        let _ = writeln!(out, "  {offset:04x}  dd {}-{}", label(target), label(table));
        return offset + JUMP_ENTRY_BYTES;
    }
    let end = end.min(offset + DATA_BYTES_A_LINE);
    let bytes = code[offset as usize..end as usize].iter();
    let bytes: Vec<String> = bytes.map(|byte| format!("0x{byte:02x}")).collect();
    let _ = writeln!(out, "  {offset:04x}  db {}", bytes.join(", "));
    end
}

/// The node whose code begins at or before an offset; none before the first.
fn node_at(artifact: &Artifact, method: &Method<'_>, offset: u32) -> Option<Node> {
    let after = artifact.listing.partition_point(|line| line.offset <= offset);
    let line = artifact.listing[..after].last()?;
    ((line.node as usize) < method.node_count()).then(|| Node::new(line.node as usize))
}

/// What the call that returns to an offset raises.
fn raised_at(artifact: &Artifact, next: u32) -> Option<(dagwood_il::RaiseKind, u16)> {
    let index = artifact.sites.binary_search_by_key(&next, |site| site.return_offset).ok()?;
    artifact.sites[index].raises
}

/// What is filled in at installation: by the offset of the field, whose address.
type Fields = BTreeMap<u32, RelocTarget>;

fn fields(artifact: &Artifact) -> Fields {
    let relocs = artifact.relocs.iter().map(|reloc| (reloc.offset, reloc.target));
    let calls = artifact.calls.iter().map(|call| (call.end() - 4, call.target));
    relocs.chain(calls).collect()
}

// ---- what is an instruction ----

/// Where instructions are, and the names of places that others refer to.
#[derive(Default)]
struct Flow {
    instructions: BTreeMap<u32, Instruction>,
    labels: BTreeMap<u32, String>,
    /// The entries of jump tables: where each one's table begins, and where it leads.
    entries: BTreeMap<u32, (u32, u32)>,
}

impl Flow {
    fn follow(artifact: &Artifact) -> Flow {
        let mut flow = Flow::default();
        let mut walk = Walk {
            code: &artifact.code,
            fields: fields(artifact),
            targets: BTreeSet::new(),
            data: BTreeSet::new(),
            entries: BTreeMap::new(),
        };
        let mut pending: Vec<u32> = vec![0];
        pending.extend(artifact.handlers.iter().map(|handler| handler.offset));
        pending.extend(artifact.listing.iter().map(|line| line.offset));
        // The calls that raise stand behind everything; nothing that is reached may fall into them.
        let is_call = |reloc: &&dagwood_codegen::Reloc| {
            let before = (reloc.offset as usize).checked_sub(1).and_then(|at| artifact.code.get(at));
            reloc.kind == RelocKind::Rel4 && before == Some(&CALL)
        };
        pending.extend(artifact.relocs.iter().filter(is_call).map(|reloc| reloc.offset - 1));
        while let Some(offset) = pending.pop() {
            if let Some(instruction) = walk.decode(offset, &flow.instructions) {
                flow.instructions.insert(offset, instruction);
                walk.successors(&instruction, &flow.instructions, &mut pending);
            }
        }
        flow.entries = std::mem::take(&mut walk.entries);
        let code_labels = walk.targets.iter().filter(|offset| flow.instructions.contains_key(offset));
        flow.labels
            .extend(code_labels.enumerate().map(|(index, offset)| (*offset, format!("L{}", index + 1))));
        let data_labels = walk.data.iter().filter(|offset| !flow.instructions.contains_key(offset));
        flow.labels
            .extend(data_labels.enumerate().map(|(index, offset)| (*offset, format!("D{}", index + 1))));
        flow
    }
}

/// The first byte of a call of a place that a relocation names.
const CALL: u8 = 0xe8;

/// Decoding, along the flow of control.
struct Walk<'c> {
    code: &'c [u8],
    fields: Fields,
    /// Where branches lead.
    targets: BTreeSet<u32>,
    /// What instructions read relative to themselves.
    data: BTreeSet<u32>,
    entries: BTreeMap<u32, (u32, u32)>,
}

impl Walk<'_> {
    /// The instruction at an offset, unless it is known already or there is none.
    fn decode(&self, offset: u32, known: &BTreeMap<u32, Instruction>) -> Option<Instruction> {
        let within = known
            .range(..=offset)
            .next_back()
            .is_some_and(|(start, known)| offset < start + known.len() as u32);
        let bytes = self.code.get(offset as usize..).filter(|bytes| !bytes.is_empty() && !within)?;
        let instruction = Decoder::with_ip(64, bytes, offset.into(), DecoderOptions::NONE).decode();
        (instruction.code() != Code::INVALID).then_some(instruction)
    }

    /// Where control goes after an instruction, and what it refers to.
    fn successors(
        &mut self,
        instruction: &Instruction,
        known: &BTreeMap<u32, Instruction>,
        pending: &mut Vec<u32>,
    ) {
        let (start, next) = (instruction.ip() as u32, instruction.next_ip() as u32);
        let is_relocated = self.fields.range(start..next).next().is_some();
        let own =
            |address: u64| u32::try_from(address).ok().filter(|offset| (*offset as usize) < self.code.len());
        if instruction.is_ip_rel_memory_operand()
            && !is_relocated
            && let Some(offset) = own(instruction.ip_rel_memory_address())
        {
            self.data.insert(offset);
        }
        if has_near_branch(instruction)
            && !is_relocated
            && let Some(target) = own(instruction.near_branch_target())
        {
            self.targets.insert(target);
            pending.push(target);
        }
        match instruction.flow_control() {
            FlowControl::Return
            | FlowControl::UnconditionalBranch
            | FlowControl::Exception
            | FlowControl::Interrupt => {}
            FlowControl::IndirectBranch => self.jump_tables(next, known, pending),
            _ => pending.push(next),
        }
    }

    /// The targets of a jump table that begins at an offset: distances from its start, of four bytes each.
    fn jump_tables(&mut self, table: u32, known: &BTreeMap<u32, Instruction>, pending: &mut Vec<u32>) {
        if !self.data.contains(&table) {
            return;
        }
        let end = known.range(table..).next().map_or(self.code.len() as u32, |(offset, _)| *offset);
        let mut at = table;
        while at + JUMP_ENTRY_BYTES <= end && !self.targets.contains(&at) {
            let field = self.code[at as usize..].first_chunk().copied().unwrap_or_default();
            let target = table.wrapping_add_signed(i32::from_le_bytes(field));
            if target as usize >= self.code.len() {
                return;
            }
            self.targets.insert(target);
            self.entries.insert(at, (table, target));
            pending.push(target);
            at += JUMP_ENTRY_BYTES;
        }
    }
}

fn has_near_branch(instruction: &Instruction) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

// ---- names ----

/// NASM's syntax, with hexadecimal numbers as they are elsewhere.
fn formatter(module: &Module, artifact: &Artifact, flow: &Flow) -> NasmFormatter {
    let names = fields(artifact);
    let names = names.into_iter().map(|(field, target)| (field, name_of(module, target))).collect();
    let resolver = Names { names, labels: flow.labels.clone() };
    let mut formatter = NasmFormatter::with_options(Some(Box::new(resolver)), None);
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_rip_relative_addresses(true);
    options.set_space_after_operand_separator(true);
    options.set_first_operand_char_index(8);
    options.set_show_branch_size(false);
    formatter
}

/// What an instruction calls a relocation's target.
fn name_of(module: &Module, target: RelocTarget) -> String {
    let missing = || "?".to_owned();
    match target {
        RelocTarget::Method(id) => {
            format!("@{}", module.methods.get(id).map_or_else(missing, |decl| decl.name.clone()))
        }
        RelocTarget::Native(id) => {
            format!("@{}", module.natives.get(id).map_or_else(missing, |decl| decl.name.clone()))
        }
        RelocTarget::Symbol(id) => {
            format!("@{}", module.symbols.get(id).map_or_else(missing, |data| data.name.clone()))
        }
        RelocTarget::Description(kind) => format!("{kind:?}"),
        RelocTarget::Helper(helper) => format!("{helper:?}"),
        RelocTarget::Own => "code".to_owned(),
    }
}

/// Names for the addresses in instructions.
struct Names {
    /// By the offset of the relocation's field.
    names: BTreeMap<u32, String>,
    labels: BTreeMap<u32, String>,
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let kind = instruction.op_kind(instruction_operand?);
        let is_place = match kind {
            OpKind::NearBranch32 | OpKind::NearBranch64 | OpKind::Immediate64 => true,
            OpKind::Memory => instruction.memory_base() == Register::RIP,
            _ => false,
        };
        let (start, next) = (instruction.ip() as u32, instruction.next_ip() as u32);
        if let Some((_, name)) = self.names.range(start..next).next().filter(|_| is_place) {
            return Some(SymbolResult::with_str(address, name));
        }
        let label = u32::try_from(address).ok().and_then(|offset| self.labels.get(&offset));
        let label = label.filter(|_| is_place && kind != OpKind::Immediate64)?;
        Some(SymbolResult::with_str(address, label))
    }
}
