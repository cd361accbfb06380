//! Blocks: where they begin, how they end, what they continue, what handles their raises.

use std::collections::HashSet;

use super::{Errors, MAX_EDGES, MAX_SLOT_BYTES, Rule, Subject};
use crate::builder::MAX_EXTENSION_DEPTH;
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Method, Node, Payload};
use crate::module::Module;
use crate::opcode::Properties;
use crate::raise::KindSet;
use crate::types::Type;

/// How the blocks of a method hang together.
pub(super) struct Shape {
    /// The head of each block's extended block.
    pub(super) heads: EntityVec<Block, Block>,
    /// How many blocks are above each block in its extended block.
    pub(super) depths: EntityVec<Block, u16>,
    /// All blocks, each after those above it and together with those below it.
    pub(super) order: Vec<Block>,
    /// Whether the block is a handler of some block.
    pub(super) is_handler: EntityVec<Block, bool>,
    /// For each node that is in a list, the block and the position; the last one if there are several.
    pub(super) places: EntityVec<Node, Option<(Block, u32)>>,
}

impl Shape {
    /// Where to show an error about a node.
    pub(super) fn subject(&self, node: Node) -> Subject {
        match self.places[node] {
            Some((block, position)) => Subject::Root(block, position, node),
            None => Subject::Node(node),
        }
    }

    /// Whether `upper` is `lower` or a block above it.
    pub(super) fn is_above(&self, method: &Method<'_>, upper: Block, lower: Block) -> bool {
        let mut at = lower;
        for _ in self.depths[upper]..self.depths[lower] {
            match method.block(at).extends {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        at == upper
    }
}

/// Checks the structure. What it returns is of use only if nothing was found.
pub(super) fn check(module: &Module, method: &Method<'_>, errors: &mut Errors) -> Shape {
    check_locals(module, method, errors);
    check_slots(method, errors);
    let blocks = method.block_count();
    let mut shape = Shape {
        heads: EntityVec::new(),
        depths: EntityVec::new(),
        order: Vec::new(),
        is_handler: EntityVec::filled(false, blocks),
        places: EntityVec::filled(None, method.node_count()),
    };
    check_ends(method, &mut shape, errors);
    if is_too_large(method, errors) {
        return shape;
    }
    for block in method.blocks() {
        check_handlers(method, block, &mut shape, errors);
    }
    check_entries(method, &shape, errors);
    for block in method.blocks() {
        let (head, depth) = climb(method, block, errors);
        shape.heads.push(head);
        shape.depths.push(depth);
    }
    shape.order = preorder(method);
    shape
}

fn check_locals(module: &Module, method: &Method<'_>, errors: &mut Errors) {
    let signature = module.method_signature(method.id());
    if method.param_count() != signature.params.len() {
        errors.add(
            Rule::Locals,
            Subject::Method,
            format_args!(
                "it has {} parameters; its signature has {}",
                method.param_count(),
                signature.params.len()
            ),
        );
    }
    let mut names = HashSet::new();
    for local in method.locals() {
        let data = method.local(local);
        let expected = signature.params.get(local.index());
        if let Some(expected) = expected
            && local.index() < method.param_count()
            && data.ty != *expected
        {
            errors.add(
                Rule::Locals,
                Subject::Local(local),
                format_args!("the parameter `${}` is {}; its signature says {expected}", data.name, data.ty),
            );
        }
        if data.ty == Type::Void {
            errors.add(
                Rule::Locals,
                Subject::Local(local),
                format_args!("a local holds a value, never void"),
            );
        }
        if !names.insert(data.name) {
            errors.add(
                Rule::Locals,
                Subject::Local(local),
                format_args!("`${}` is the name of another local", data.name),
            );
        }
    }
}

fn check_slots(method: &Method<'_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    let mut total = 0_u64;
    for slot in method.slots() {
        let data = method.slot(slot);
        total = total.next_multiple_of(data.align.clamp(1, 16).into()) + u64::from(data.size_bytes);
        if data.size_bytes == 0 || !data.align.is_power_of_two() || data.align > 16 {
            errors.add(
                Rule::Slots,
                Subject::Slot(slot),
                format_args!(
                    "it has {} bytes aligned to {}; there should be some, aligned to 1, 2, 4, 8 or 16",
                    data.size_bytes, data.align
                ),
            );
        }
        if !names.insert(data.name) {
            errors.add(
                Rule::Slots,
                Subject::Slot(slot),
                format_args!("`${}` is the name of another slot", data.name),
            );
        }
    }
    if total > MAX_SLOT_BYTES {
        errors.add(
            Rule::Size,
            Subject::Method,
            format_args!("its slots have {total} bytes; they may have {MAX_SLOT_BYTES}"),
        );
    }
}

fn check_ends(method: &Method<'_>, shape: &mut Shape, errors: &mut Errors) {
    for block in method.blocks() {
        let roots = method.roots(block);
        if roots.is_empty() {
            errors.add(
                Rule::BlockEnd,
                Subject::Block(block),
                format_args!("it has no roots; one should end it"),
            );
        }
        for (position, root) in (0..).zip(roots) {
            let node = root.node;
            let subject = Subject::Root(block, position, node);
            let opcode = method.opcode(node);
            let is_last = position as usize + 1 == roots.len();
            if opcode.has(Properties::TERMINATES) != is_last {
                let what = if is_last { "does not end a block, but is" } else { "ends a block, but is not" };
                errors.add(Rule::BlockEnd, subject, format_args!("`{opcode}` {what} the last root"));
            }
            if !method.is_root(node) {
                errors.add(
                    Rule::RootPlace,
                    subject,
                    format_args!("`{opcode}` floats to its uses; it should be in no block's list"),
                );
            }
            if let Some((first, at)) = shape.places[node].replace((block, position)) {
                errors.add(
                    Rule::RootPlace,
                    subject,
                    format_args!("it is also root {at} of {first}; a root has one place"),
                );
            }
            if let Payload::Switch(table) = method.payload(node) {
                let ty = method.operands(node).first().map_or(Type::Void, |operand| method.ty(*operand));
                let cases = method.switch(table).cases;
                let ascend = cases.is_sorted_by(|(left, _), (right, _)| left < right);
                if !ascend || cases.last().is_some_and(|(value, _)| value & !ty.mask() != 0) {
                    errors.add(
                        Rule::SwitchCases,
                        subject,
                        format_args!("cases should ascend without repetition and fit {ty}"),
                    );
                }
            }
        }
    }
}

fn is_too_large(method: &Method<'_>, errors: &mut Errors) -> bool {
    let edges: usize =
        method.blocks().map(|block| method.successors(block).len() + method.handlers(block).len()).sum();
    if edges > MAX_EDGES {
        errors.add(
            Rule::Size,
            Subject::Method,
            format_args!("it has {edges} edges, those to handlers included; it may have {MAX_EDGES}"),
        );
    }
    edges > MAX_EDGES
}

fn check_handlers(method: &Method<'_>, block: Block, shape: &mut Shape, errors: &mut Errors) {
    for (index, handler) in method.handlers(block).iter().enumerate() {
        shape.is_handler[handler.block] = true;
        if handler.kinds.is_empty() || !handler.kinds.without(KindSet::CATCHABLE).is_empty() {
            errors.add(
                Rule::Handler,
                Subject::Block(block),
                format_args!("handler {index} should catch some kind, and never `fault`"),
            );
        }
        if handler.class.is_some() && handler.kinds.intersection(KindSet::GUEST).is_empty() {
            errors.add(
                Rule::Handler,
                Subject::Block(block),
                format_args!("handler {index} names a class; then it should catch `guest`"),
            );
        }
    }
}

/// Checks how blocks are entered: the first one, extensions and handlers.
fn check_entries(method: &Method<'_>, shape: &Shape, errors: &mut Errors) {
    // For each block, a predecessor, and whether there are others.
    let mut sources: EntityVec<Block, Option<(Block, bool)>> = EntityVec::filled(None, method.block_count());
    for block in method.blocks() {
        for to in method.successors(block) {
            let source = &mut sources[to];
            *source = match *source {
                None => Some((block, false)),
                Some((first, several)) => Some((first, several || first != block)),
            };
        }
    }
    let Some(entry) = method.blocks().next() else {
        return errors.add(
            Rule::EntryBlock,
            Subject::Method,
            format_args!("it has no blocks; it should have one"),
        );
    };
    let is_head = method.block(entry).extends.is_none();
    if !is_head || sources[entry].is_some() || shape.is_handler[entry] {
        errors.add(
            Rule::EntryBlock,
            Subject::Block(entry),
            format_args!("the first block should be a head that no block continues at, and no handler"),
        );
    }
    for block in method.blocks() {
        if shape.is_handler[block]
            && let Some((from, _)) = sources[block]
        {
            errors.add(
                Rule::Handler,
                Subject::Block(block),
                format_args!("{from} continues at it, but it is a handler; only raises should enter it"),
            );
        }
        let Some(parent) = method.block(block).extends else { continue };
        if shape.is_handler[block] {
            errors.add(
                Rule::Handler,
                Subject::Block(block),
                format_args!("it extends {parent}, but it is a handler; a handler should be a head"),
            );
        }
        // Where a branch was folded, an arm is left over that nothing enters.
        if sources[block].is_some_and(|source| source != (parent, false)) {
            errors.add(
                Rule::Extension,
                Subject::Block(block),
                format_args!("it extends {parent}, which should be its only predecessor"),
            );
        }
    }
}

/// The head of a block's extended block, and how many blocks are above it.
fn climb(method: &Method<'_>, block: Block, errors: &mut Errors) -> (Block, u16) {
    let (mut head, mut depth) = (block, 0);
    while let Some(parent) = method.block(head).extends {
        (head, depth) = (parent, depth + 1);
        if depth >= MAX_EXTENSION_DEPTH {
            errors.add(
                Rule::Extension,
                Subject::Block(block),
                format_args!("{MAX_EXTENSION_DEPTH} or more blocks are above it; a head should come sooner"),
            );
            break;
        }
    }
    (head, depth)
}

/// All blocks by a walk of the extended blocks from their heads down.
fn preorder(method: &Method<'_>) -> Vec<Block> {
    // Children as lists: the first one, and each one's next sibling.
    let mut first: EntityVec<Block, Option<Block>> = EntityVec::filled(None, method.block_count());
    let mut next: EntityVec<Block, Option<Block>> = EntityVec::filled(None, method.block_count());
    for block in method.blocks().rev() {
        if let Some(parent) = method.block(block).extends {
            next[block] = first[parent].replace(block);
        }
    }
    let mut order = Vec::with_capacity(method.block_count());
    let mut pending = Vec::new();
    for head in method.blocks().filter(|block| method.block(*block).extends.is_none()) {
        pending.push(head);
        while let Some(block) = pending.pop() {
            order.push(block);
            pending.extend(next[block]);
            pending.extend(first[block]);
        }
    }
    order
}
