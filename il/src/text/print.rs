//! Printing: modules and methods in the order in which they read best and always the same.
//!
//! Blocks stand in the order of their indexes, but never above the block that they extend. Nodes are numbered as they
//! are written; one that floats stands just above the first root that needs it, its operands first. Virtual objects
//! that hold each other cannot all stand below their operands, and are the only lines that name what is below.

mod line;

use std::fmt::Write;

use bitvec::vec::BitVec;

use self::line::Lines;
use super::constant::print_frequency;
use super::words::{KIND_SETS, is_bare, is_word, word_for};
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Method, Node, Root, SourcePos};
use crate::module::*;
use crate::opcode::Opcode;
use crate::raise::KindSet;
use crate::types::Type;

/// A module as text, and the bodies of those methods of it that are given.
pub fn print_module(module: &Module, methods: &[&Method<'_>]) -> String {
    let mut bodies: Vec<&&Method<'_>> = methods.iter().collect();
    bodies.sort_by_key(|method| method.id());
    let mut bodies = bodies.into_iter().peekable();
    let mut out = String::new();
    for signature in module.signatures.values() {
        out += "signature ";
        push_signature(&mut out, signature);
        out.push('\n');
    }
    push_gap(&mut out);
    module.classes.values().for_each(|class| push_class(&mut out, module, class));
    push_gap(&mut out);
    module.symbols.values().for_each(|symbol| push_symbol(&mut out, module, symbol));
    push_gap(&mut out);
    for native in module.natives.values() {
        out += "native ";
        push_name(&mut out, '@', &native.name);
        out.push(' ');
        push_signature(&mut out, &module.signatures[native.signature]);
        push_effects(&mut out, module, &native.effects);
        out.push('\n');
    }
    push_gap(&mut out);
    for (id, decl) in module.methods.iter() {
        let mut is_declared_only = true;
        while let Some(method) = bodies.next_if(|method| method.id() == id) {
            is_declared_only = false;
            push_gap(&mut out);
            push_method(&mut out, module, method);
            push_gap(&mut out);
        }
        if is_declared_only {
            out += "method ";
            push_name(&mut out, '@', &decl.name);
            out.push(' ');
            push_signature(&mut out, &module.signatures[decl.signature]);
            push_effects(&mut out, module, &decl.effects);
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// One method as text.
pub fn print_method(module: &Module, method: &Method<'_>) -> String {
    let mut out = String::new();
    push_method(&mut out, module, method);
    out
}

/// One node as a line of text. Nodes have the numbers of their indexes, which are those that `{node}` prints and not
/// those of [`print_method`].
pub fn print_node(module: &Module, method: &Method<'_>, node: Node) -> String {
    let mut out = String::new();
    Lines { module, method, numbers: None }.push(&mut out, node, true);
    out
}

fn push_method(out: &mut String, module: &Module, method: &Method<'_>) {
    let decl = &module.methods[method.id()];
    *out += "method ";
    push_name(out, '@', &decl.name);
    *out += " (";
    for (index, local) in method.locals().take(method.param_count()).enumerate() {
        let data = method.local(local);
        push_comma(out, index);
        push_name(out, '$', data.name);
        push(out, format_args!(": {}", data.ty));
    }
    *out += ") -> ";
    push_types(out, &module.signatures[decl.signature].results);
    push_effects(out, module, &decl.effects);
    *out += " {\n";
    for local in method.locals().skip(method.param_count()) {
        let data = method.local(local);
        *out += "  local ";
        push_name(out, '$', data.name);
        push(out, format_args!(": {}\n", data.ty));
    }
    for slot in method.slots() {
        let data = method.slot(slot);
        *out += "  slot ";
        push_name(out, '$', data.name);
        push(out, format_args!(": {} align {}\n", data.size_bytes, data.align));
    }
    let order = Order::compute(method);
    let lines = Lines { module, method, numbers: Some(&order.numbers) };
    for (block, entries) in &order.blocks {
        push_block_line(out, module, method, *block);
        for Root { node, position } in entries {
            *out += "  ";
            lines.push(out, *node, order.is_used[node.index()]);
            if *position != SourcePos::NONE {
                push(out, format_args!(" !{}", position.0));
            }
            out.push('\n');
        }
    }
    *out += "}\n";
}

fn push_block_line(out: &mut String, module: &Module, method: &Method<'_>, block: Block) {
    let data = method.block(block);
    push(out, block);
    if let Some(parent) = data.extends {
        push(out, format_args!(" extends {parent}"));
    }
    if let Some(frequency) = data.frequency {
        push(out, format_args!(" freq {}", print_frequency(frequency)));
    }
    if let Some(list) = data.handlers {
        *out += " handlers [";
        for (index, handler) in method.handler_list(list).iter().enumerate() {
            push_comma(out, index);
            push_kinds(out, handler.kinds);
            if let Some(class) = handler.class {
                out.push(' ');
                push_name(out, '@', &module.classes[class].name);
            }
            push(out, format_args!(": {}", handler.block));
        }
        out.push(']');
    }
    *out += ":\n";
}

/// The order of a method's lines.
struct Order {
    /// The blocks, and the nodes of their lines, those that float with no position.
    blocks: Vec<(Block, Vec<Root>)>,
    /// The number of a node, where it has a line.
    numbers: EntityVec<Node, Option<u32>>,
    /// By node: whether it is an operand.
    is_used: BitVec,
}

impl Order {
    fn compute(method: &Method<'_>) -> Order {
        let count = method.node_count();
        let mut is_placed: BitVec = BitVec::repeat(false, count);
        for root in method.blocks().flat_map(|block| method.roots(block)) {
            is_placed.set(root.node.index(), true);
        }
        let mut is_used: BitVec = BitVec::repeat(false, count);
        // Roots are seen from the start: they have their place, and no user moves it.
        let mut is_seen = is_placed;
        let mut blocks = Vec::new();
        for block in parents_first(method) {
            let mut entries = Vec::new();
            for root in method.roots(block) {
                push_floating(method, root.node, &mut is_seen, &mut is_used, &mut entries);
                entries.push(*root);
            }
            blocks.push((block, entries));
        }
        let mut numbers = EntityVec::filled(None, count);
        let mut next = 0;
        for Root { node, .. } in blocks.iter().flat_map(|(_, entries)| entries) {
            if method.ty(*node) != Type::Void || is_used[node.index()] {
                numbers[*node] = Some(next);
                next += 1;
            }
        }
        Order { blocks, numbers, is_used }
    }
}

/// The blocks by index, those that a block extends before it.
fn parents_first(method: &Method<'_>) -> Vec<Block> {
    let mut is_listed: BitVec = BitVec::repeat(false, method.block_count());
    let mut blocks = Vec::with_capacity(method.block_count());
    for block in method.blocks() {
        let first = blocks.len();
        let mut next = Some(block);
        while let Some(block) = next.filter(|block| !is_listed[block.index()]) {
            is_listed.set(block.index(), true);
            blocks.push(block);
            next = method.block(block).extends;
        }
        blocks[first..].reverse();
    }
    blocks
}

/// Adds to `entries` what floats below `root` and has not been seen, operands first.
fn push_floating(
    method: &Method<'_>,
    root: Node,
    is_seen: &mut BitVec,
    is_used: &mut BitVec,
    entries: &mut Vec<Root>,
) {
    let mut path = vec![(root, 0)];
    while let Some((node, operand)) = path.last_mut() {
        match method.operands(*node).get(*operand) {
            Some(next) => {
                *operand += 1;
                is_used.set(next.index(), true);
                if method.opcode(*next) != Opcode::Dead && !is_seen.replace(next.index(), true) {
                    path.push((*next, 0));
                }
            }
            None => {
                let node = *node;
                path.pop();
                if !path.is_empty() {
                    entries.push(Root { node, position: SourcePos::NONE });
                }
            }
        }
    }
}

// ---- declarations ----

fn push_class(out: &mut String, module: &Module, class: &ClassData) {
    *out += if class.is_interface { "interface " } else { "class " };
    push_name(out, '@', &class.name);
    if let Some(superclass) = class.superclass {
        *out += " extends ";
        push_name(out, '@', &module.classes[superclass].name);
    }
    for (index, interface) in class.interfaces.iter().enumerate() {
        *out += if index == 0 { " implements " } else { ", " };
        push_name(out, '@', &module.classes[*interface].name);
    }
    push(out, format_args!(" size {}", class.size_bytes));
    if !class.slots.is_empty() || !class.implementations.is_empty() {
        *out += " {\n";
        for slot in &class.slots {
            *out += "  slot ";
            push_word(out, &slot.name);
            out.push(' ');
            push_signature(out, &module.signatures[slot.signature]);
            if let Some(method) = slot.method {
                *out += " = ";
                push_name(out, '@', &module.methods[method].name);
            }
            out.push('\n');
        }
        for implementation in &class.implementations {
            *out += "  implement ";
            let interface = &module.classes[implementation.interface];
            push_name(out, '@', &interface.name);
            push_slot(out, Some(interface), implementation.slot);
            *out += " = ";
            push_name(out, '@', &module.methods[implementation.method].name);
            out.push('\n');
        }
        out.push('}');
    }
    out.push('\n');
}

fn push_symbol(out: &mut String, module: &Module, symbol: &SymbolData) {
    *out += "symbol ";
    push_name(out, '@', &symbol.name);
    match symbol.kind {
        SymbolKind::Static(ty) => push(out, format_args!(" static {ty}")),
        SymbolKind::Field { class, offset, ty } => {
            *out += " field ";
            push_name(out, '@', &module.classes[class].name);
            push(out, format_args!(" {offset} {ty}"));
        }
        SymbolKind::Element(ty) => push(out, format_args!(" element {ty}")),
        SymbolKind::Region => *out += " region",
        SymbolKind::Opaque => *out += " opaque",
    }
    if let Some((min, max)) = symbol.range {
        push(out, format_args!(" from {min} to {max}"));
    }
    *out += if symbol.is_readonly { " readonly\n" } else { "\n" };
}

/// Effects after a blank; nothing where nothing is known.
fn push_effects(out: &mut String, module: &Module, effects: &CallEffects) {
    if *effects == CallEffects::UNKNOWN {
        return;
    }
    *out += " reads ";
    push_memory(out, module, &effects.reads);
    *out += " writes ";
    push_memory(out, module, &effects.writes);
    *out += " raises ";
    push_kinds(out, effects.raises);
    if effects.yields {
        *out += " yields";
    }
}

fn push_memory(out: &mut String, module: &Module, set: &MemorySet) {
    match set {
        MemorySet::None => *out += "none",
        MemorySet::All => *out += "all",
        MemorySet::Symbols(symbols) => {
            out.push('[');
            for (index, symbol) in symbols.iter().enumerate() {
                push_comma(out, index);
                push_name(out, '@', &module.symbols[*symbol].name);
            }
            out.push(']');
        }
    }
}

// ---- pieces ----

/// Appends a piece.
fn push(out: &mut String, piece: impl std::fmt::Display) {
    write!(out, "{piece}").expect("writing to a string cannot fail");
}

/// An empty line, unless there is one already.
fn push_gap(out: &mut String) {
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
}

fn push_comma(out: &mut String, index: usize) {
    if index > 0 {
        *out += ", ";
    }
}

pub(super) fn push_name(out: &mut String, sigil: char, name: &str) {
    out.push(sigil);
    if is_bare(name) { *out += name } else { push_quoted(out, name) }
}

fn push_word(out: &mut String, name: &str) {
    if is_word(name) { *out += name } else { push_quoted(out, name) }
}

fn push_quoted(out: &mut String, name: &str) {
    out.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            '\n' => *out += "\\n",
            '\r' => *out += "\\r",
            '\t' => *out += "\\t",
            _ if character.is_control() => push(out, format_args!("\\u{{{:x}}}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// `.name`, or `.number` of a slot that the class does not have.
fn push_slot(out: &mut String, class: Option<&ClassData>, slot: u32) {
    out.push('.');
    match class.and_then(|class| class.slots.get(slot as usize)) {
        Some(decl) => push_word(out, &decl.name),
        None => push(out, slot),
    }
}

fn push_types(out: &mut String, types: &[Type]) {
    out.push('(');
    for (index, ty) in types.iter().enumerate() {
        push_comma(out, index);
        push(out, ty);
    }
    out.push(')');
}

fn push_signature(out: &mut String, signature: &Signature) {
    push_types(out, &signature.params);
    *out += " -> ";
    push_types(out, &signature.results);
}

fn push_kinds(out: &mut String, kinds: KindSet) {
    match word_for(KIND_SETS, &kinds) {
        Some(word) => *out += word,
        None => {
            for (index, kind) in kinds.iter().enumerate() {
                if index > 0 {
                    out.push('|');
                }
                push(out, kind);
            }
        }
    }
}
