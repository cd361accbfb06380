//! The copy of a method through the builder.
//!
//! ```text
//!   old extended block        new
//!   b1: load, …   ──fill──►   c1: load, …        a pure node is copied when the first root needs it
//!       goto b2   ──merge─►       b2's roots …   b2 is entered from b1 only
//!       br b3, b4 ──────────►     br c2, c3      c2 continues c1 if b3 continued b1 or b1 is all that leads there
//! ```
//!
//! # Why
//!
//! What the builder does for a frontend it does again here: fold, number, forward locals. So whatever an edit makes
//! possible of these happens, and nobody has to look for it.
//!
//! # Guarantees
//!
//! * A block is copied once; a node once for each extended block in whose blocks it stands. Copies of blocks that
//!   [`Edits::duplicate`](super::Edits::duplicate) asked for share their nodes with the original until here.
//! * Blocks stand in reverse post-order afterwards, nodes in the order of their blocks.
//! * Nothing recurses.
//!
//! # Cost
//!
//! Linear in the nodes that are needed: a dense lookup for each operand, one hash probe for each node, and a fold for those that are not
//! what they were: a node that a builder has folded does not fold for the same operands.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use smallvec::SmallVec;

use super::lists::Source;
use super::plan::{Plan, constant, known_target, raised_in, same_handlers};
use super::split::Map;
use super::{Applied, finish};
use crate::builder::{Builder, Folding, MAX_EXTENSION_DEPTH, Stretch};
use crate::cfg::reached_handlers;
use crate::effects::raises;
use crate::entity::{Entity, EntityVec};
use crate::method::*;
use crate::module::Module;
use crate::opcode::Opcode;
use crate::raise::KindSet;

/// How many blocks may be merged into one, so that no walk along an extended block's stretches grows with the method.
const MAX_MERGED: u16 = 128;

/// What became of a node.
#[derive(Clone, Copy, Default)]
struct Memo {
    /// The extended block for which that is so; zero for none.
    instance: u32,
    /// The copy; none while its operands are being copied.
    node: Option<Node>,
    /// Whether the copy is the same operation on operands of which that is true as well. What such operands are given to folds no more
    /// than it did.
    is_same: bool,
}

/// What is to be done next in the extended block in hand.
enum Step {
    /// Fill the copy of a block.
    Fill(Block),
    /// An old extended block ends: what its nodes have become in others counts again, back to this length of the log.
    Leave(usize),
}

/// An old extended block that is being copied.
struct Instance {
    /// Where its locals are read: at the end of a stretch, or at the head of the new extended block if it is not joined.
    joined: Option<Stretch>,
}

struct Copy<'c, 'a, 'm> {
    module: &'m Module,
    old: &'c Method<'a>,
    source: &'c Source,
    plan: Plan,
    builder: Builder<'a, 'm>,
    memo: EntityVec<Node, Memo>,
    /// What `memo` said of nodes for extended blocks further out.
    log: Vec<(Node, Memo)>,
    instances: Vec<Instance>,
    /// By old block whose copy has been made: the instance to which it belongs; zero for one that begins its own.
    instance_of: EntityVec<Block, u32>,
    /// By old head that was joined: the stretch after which it comes.
    joined: EntityVec<Block, Option<Stretch>>,
    instance: u32,
    applied: Applied,
    wides: Vec<Option<WideConst>>,
    frames: Vec<Option<FrameInfo>>,
    /// New lists of handlers by old list and by what is raised.
    handlers: Map<(HandlerList, KindSet), Option<HandlerList>>,
    heads: BinaryHeap<Reverse<(u32, Block)>>,
    steps: Vec<Step>,
    /// The blocks that continue the one being ended.
    children: Vec<Block>,
    /// Nodes that are to be copied, operands above users.
    pending: Vec<Node>,
    /// The old block whose handlers are in force in the copy in hand, and how many have been merged into that.
    first: Block,
    merged: u16,
    /// How many of the first roots of the copy in hand are known to raise nothing.
    quiet: usize,
    has_folded: bool,
}

/// Copies `method` as `source` says, and puts the copy in its place. Where a branch turned out to be constant on the way, the
/// plan knew too many edges, and heads may have been left that can be joined: then the copy is copied once more.
pub(super) fn replace(module: &Module, method: &mut Method<'_>, source: &Source) -> Applied {
    let (first, mut applied, has_folded) = copy(module, method, source);
    *method = first;
    if has_folded {
        let (second, then, _) = copy(module, method, &Source::of(method));
        *method = second;
        for old in applied.blocks.keys() {
            applied.blocks[old] = applied.blocks[old].and_then(|block| then.blocks[block]);
        }
        for old in applied.locals.keys() {
            applied.locals[old] = applied.locals[old].and_then(|local| then.locals[local]);
        }
    }
    applied
}

/// A copy of `old` as `source` says, and whether a branch folded of which the plan did not know.
fn copy<'a>(module: &Module, old: &Method<'a>, source: &Source) -> (Method<'a>, Applied, bool) {
    let plan = Plan::compute(module, old, source);
    let mut method = Method::new(old.arena(), old.id());
    let locals = super::names::copy_locals(old, &plan.read, &mut method);
    let blocks = old.block_count();
    let mut copy = Copy {
        module,
        old,
        source,
        plan,
        builder: Builder::resume(module, method, Folding::On, old.node_count()),
        memo: EntityVec::filled(Memo::default(), old.node_count()),
        log: Vec::new(),
        instances: vec![Instance { joined: None }],
        instance_of: EntityVec::filled(0, blocks),
        joined: EntityVec::filled(None, blocks),
        instance: 0,
        applied: Applied { blocks: EntityVec::filled(None, blocks), locals },
        wides: Vec::new(),
        frames: Vec::new(),
        handlers: Map::default(),
        heads: BinaryHeap::new(),
        steps: Vec::new(),
        children: Vec::new(),
        pending: Vec::new(),
        first: Block::new(0),
        merged: 0,
        quiet: 0,
        has_folded: false,
    };
    copy.run();
    let Copy { builder, mut applied, has_folded, .. } = copy;
    let mut method = match builder.finish() {
        Ok(method) => method,
        Err(error) => unreachable!("a copy of {} builds what was built: {error}", old.id()),
    };
    finish::drop_unread_locals(&mut method, &mut applied);
    finish::order_blocks(&mut method, &mut applied);
    // What was dropped nobody uses.
    method.note_folded();
    (method, applied, has_folded)
}

impl Copy<'_, '_, '_> {
    fn run(&mut self) {
        let Some(entry) = self.old.blocks().next() else { return };
        self.make_head(entry);
        while let Some(Reverse((_, head))) = self.heads.pop() {
            self.log.clear();
            self.steps.push(Step::Fill(head));
            while let Some(step) = self.steps.pop() {
                match step {
                    Step::Fill(block) => self.fill(block),
                    Step::Leave(length) => {
                        for (node, memo) in self.log.drain(length..).rev() {
                            self.memo[node] = memo;
                        }
                    }
                }
            }
        }
    }

    // ---- blocks ----

    fn fill(&mut self, first: Block) {
        let new = self.applied.blocks[first].expect("a block is filled once it was made");
        self.builder.switch_to(new);
        (self.first, self.merged, self.quiet) = (first, 0, 0);
        let mut block = first;
        self.enter(block, self.joined[block]);
        loop {
            let roots = self.old.roots(block);
            let (end, roots) = roots.split_last().expect("a block that is reached has an end");
            for root in roots {
                if self.plan.needed[root.node] {
                    self.copy_root(*root);
                }
            }
            match self.end(block, *end) {
                Some(next) => block = next,
                None => break,
            }
        }
        // The first child is filled first.
        while let Some(child) = self.children.pop() {
            self.steps.push(Step::Fill(child));
        }
        self.set_handlers(self.first, new);
    }

    /// Begins an old extended block, or continues the one to which `block` belongs.
    fn enter(&mut self, block: Block, joined: Option<Stretch>) {
        if self.instance_of[block] != 0 {
            self.instance = self.instance_of[block];
            return;
        }
        self.instance = u32::try_from(self.instances.len()).expect("there are fewer than 2^32 blocks");
        self.instances.push(Instance { joined });
        self.instance_of[block] = self.instance;
        self.steps.push(Step::Leave(self.log.len()));
        let source = self.source;
        for (node, entry) in source.given(block) {
            if let Payload::Local(local) = self.old.payload(*entry) {
                let value = self.local_at_head(local);
                self.note(*node, value);
            }
        }
    }

    /// Ends the copy of `block`, or returns the block that is merged into it.
    fn end(&mut self, block: Block, root: Root) -> Option<Block> {
        self.builder.at(root.position);
        let node = root.node;
        let operands = self.copy_operands(node);
        let bits = operands.first().and_then(|value| self.builder.method().const_bits(*value));
        if let Some(to) = known_target(self.old, node, bits) {
            self.has_folded |= known_target(self.old, node, constant(self.old, self.source, node)).is_none();
            if self.merge(block, to) {
                return Some(to);
            }
            let to = self.target(block, to);
            self.builder.goto(to);
            return None;
        }
        let payload = self.end_payload(block, node);
        self.builder.emit(self.old.opcode(node), self.old.ty(node), &operands, payload);
        None
    }

    /// Whether `to` is entered from `block` only, as part of its extended block or not.
    fn continues(&self, block: Block, to: Block) -> bool {
        self.old.block(to).extends == Some(block) || self.plan.sole[to] == Some(block)
    }

    /// Whether the blocks below `to` still fit if `to` is at this depth.
    fn fits(&self, to: Block, depth: u16) -> bool {
        depth + self.plan.heights[to] < MAX_EXTENSION_DEPTH
    }

    /// Lets the block being filled go on with what is in `to`, if that is possible.
    fn merge(&mut self, block: Block, to: Block) -> bool {
        let Some(new) = self.builder.current() else { return false };
        let mergeable = self.continues(block, to)
            && self.applied.blocks[to].is_none()
            && self.merged < MAX_MERGED
            && self.fits(to, self.builder.depth(new))
            && (same_handlers(self.old, self.first, to)
                || raised_in(self.module, self.old, to).is_empty()
                || !self.has_raised());
        if !mergeable {
            return false;
        }
        if !same_handlers(self.old, self.first, to) && !self.has_raised() {
            self.first = to;
        }
        self.merged += 1;
        self.applied.blocks[to] = Some(new);
        if self.builder.method().block(new).frequency.is_none() {
            self.builder.method_mut().set_frequency(new, self.old.block(to).frequency);
        }
        let before = self.builder.next_stretch();
        if self.old.block(to).extends.is_some() {
            self.instance_of[to] = self.instance;
        }
        self.enter(to, before);
        true
    }

    /// Whether anything in the block being filled may raise.
    fn has_raised(&mut self) -> bool {
        let roots = self.builder.pending_roots();
        let (module, method) = (self.module, self.builder.method());
        let unchecked = &roots[self.quiet.min(roots.len())..];
        let quiet = unchecked.iter().take_while(|root| raises(module, method, root.node).is_empty()).count();
        self.quiet += quiet;
        self.quiet < roots.len()
    }

    /// The copy of a block at which `block`, which is being ended, continues.
    fn target(&mut self, block: Block, to: Block) -> Block {
        if let Some(new) = self.applied.blocks[to] {
            return new;
        }
        let is_child = self.old.block(to).extends.is_some();
        if let Some(current) = self.builder.current()
            && self.continues(block, to)
            && (is_child || self.fits(to, self.builder.depth(current) + 1))
            && let Some(new) = self.builder.extension(current)
        {
            if is_child {
                self.instance_of[to] = self.instance;
            } else {
                self.joined[to] = self.builder.stretch();
            }
            self.children.push(to);
            self.made(to, new);
            return new;
        }
        debug_assert!(!is_child, "what continued an extended block still fits below it");
        self.make_head(to)
    }

    fn make_head(&mut self, head: Block) -> Block {
        if let Some(new) = self.applied.blocks[head] {
            return new;
        }
        let new = self.builder.block();
        let rank = self.plan.ranks[head].expect("what is copied is reached in the old method");
        self.heads.push(Reverse((rank, head)));
        self.made(head, new);
        new
    }

    fn made(&mut self, old: Block, new: Block) {
        self.applied.blocks[old] = Some(new);
        self.builder.method_mut().set_frequency(new, self.old.block(old).frequency);
    }

    /// Gives `new` those handlers of `block` at which something raised in it may arrive.
    fn set_handlers(&mut self, block: Block, new: Block) {
        let list = match self.old.block(block).handlers {
            Some(list) if !self.old.handler_list(list).is_empty() => list,
            _ => return self.builder.set_handlers(new, None),
        };
        let method = self.builder.method();
        let roots = method.roots(new).iter();
        let kinds = roots.fold(KindSet::NONE, |all, root| all.union(raises(self.module, method, root.node)));
        let handlers = match self.handlers.get(&(list, kinds)) {
            Some(handlers) => *handlers,
            None => {
                let reached: SmallVec<[Handler; 4]> = reached_handlers(self.old.handler_list(list), kinds)
                    .map(|(handler, _)| handler)
                    .collect();
                let handlers: SmallVec<[Handler; 4]> = reached
                    .into_iter()
                    .map(|handler| Handler { block: self.make_head(handler.block), ..handler })
                    .collect();
                let handlers = (!handlers.is_empty()).then(|| self.builder.handlers(&handlers));
                self.handlers.insert((list, kinds), handlers);
                handlers
            }
        };
        self.builder.set_handlers(new, handlers);
    }

    // ---- nodes ----

    fn copy_root(&mut self, root: Root) {
        let node = root.node;
        self.builder.at(root.position);
        let operands = self.copy_operands(node);
        let is_same = self.is_same(node);
        let new = match self.old.payload(node) {
            Payload::Local(local) => return self.builder.set(self.local(local), operands[0]),
            payload => self.emit(node, &operands, payload, is_same),
        };
        self.remember(node, Memo { instance: self.instance, node: Some(new), is_same });
        if let Some(also) = self.source.stands_for(node) {
            self.note(also, new);
        }
    }

    fn copy_operands(&mut self, node: Node) -> SmallVec<[Node; 4]> {
        let old = self.old;
        old.operands(node).iter().map(|operand| self.value(*operand)).collect()
    }

    /// Whether a node, whose operands have been copied, is the same operation on the same operands as before, and does not fold.
    fn is_same(&self, node: Node) -> bool {
        let is_same = |operand: &Node| {
            let memo = self.memo[*operand];
            memo.instance == self.instance && memo.is_same && self.source.resolve(*operand) == *operand
        };
        self.source.is_folded(node) && self.old.operands(node).iter().all(is_same)
    }

    /// The copy of a node with these operands.
    fn emit(&mut self, node: Node, operands: &[Node], payload: Payload, is_same: bool) -> Node {
        let (opcode, ty) = (self.old.opcode(node), self.old.ty(node));
        let payload = self.payload(payload);
        if is_same {
            self.builder.emit_folded(opcode, ty, operands, payload)
        } else {
            self.builder.emit(opcode, ty, operands, payload)
        }
    }

    /// What a node has become in the extended block in hand, if it is known.
    fn known(&self, node: Node) -> Option<Node> {
        let memo = self.memo[node];
        if memo.instance == self.instance { memo.node } else { None }
    }

    fn note(&mut self, node: Node, new: Node) {
        self.remember(node, Memo { instance: self.instance, node: Some(new), is_same: false });
    }

    fn remember(&mut self, node: Node, memo: Memo) {
        let before = std::mem::replace(&mut self.memo[node], memo);
        if before.instance != 0 && before.instance != memo.instance {
            self.log.push((node, before));
        }
    }

    /// The copy of a value that is used here: what it has become, or a pure node that is copied now.
    fn value(&mut self, node: Node) -> Node {
        let node = self.source.resolve(node);
        if let Some(new) = self.known(node) {
            return new;
        }
        let bottom = self.pending.len();
        self.pending.push(node);
        while self.pending.len() > bottom {
            let top = self.pending[self.pending.len() - 1];
            if self.known(top).is_some() || self.expand(top) {
                self.pending.pop();
            }
        }
        self.known(node).expect("the node was just copied")
    }

    /// Copies a node whose operands have been copied; else puts these on top of the pending nodes.
    fn expand(&mut self, node: Node) -> bool {
        let old = self.old;
        let opcode = old.opcode(node);
        if opcode == Opcode::Virtual {
            self.copy_virtuals(node);
            return true;
        }
        let was_expanded = self.memo[node].instance == self.instance;
        let height = self.pending.len();
        let mut operands: SmallVec<[Node; 4]> = SmallVec::new();
        for operand in old.operands(node) {
            let operand = self.source.resolve(*operand);
            match self.known(operand) {
                Some(new) => operands.push(new),
                None => self.pending.push(operand),
            }
        }
        if self.pending.len() > height {
            assert!(!was_expanded, "{node}, `{opcode}`, does not need itself after all replacements");
            self.remember(node, Memo { instance: self.instance, node: None, is_same: false });
            return false;
        }
        if opcode == Opcode::Entry
            && let Payload::Local(local) = old.payload(node)
        {
            let new = self.local_at_head(local);
            let own = Payload::Local(self.local(local));
            let is_same = self.builder.method().payload(new) == own;
            self.remember(node, Memo { instance: self.instance, node: Some(new), is_same });
            return true;
        }
        let is_same = self.is_same(node);
        let new = self.copy_pure(node, &operands, is_same);
        self.remember(node, Memo { instance: self.instance, node: Some(new), is_same });
        true
    }

    fn copy_pure(&mut self, node: Node, operands: &[Node], is_same: bool) -> Node {
        let old = self.old;
        let (opcode, ty) = (old.opcode(node), old.ty(node));
        if old.is_root(node) {
            debug_assert!(false, "{node}, `{opcode}`, is used where it has not happened");
            return self.builder.method_mut().add_node(Opcode::Dead, ty, &[], Payload::None);
        }
        let before = self.builder.method().node_count();
        let new = self.emit(node, operands, old.payload(node), is_same);
        debug_assert!(
            new.index() < before || !self.builder.method().is_root(new),
            "{node}, `{opcode}`, floats because of what its divisor is, and so it must stay"
        );
        new
    }

    /// What a local holds at the head of the old extended block in hand.
    fn local_at_head(&mut self, local: Local) -> Node {
        let local = self.local(local);
        match self.instances[self.instance as usize].joined {
            Some(stretch) => self.builder.get_at(stretch, local),
            None => self.builder.entry(local),
        }
    }

    /// Copies a virtual object and those that it holds, which may hold it. They come after all else that they hold.
    fn copy_virtuals(&mut self, first: Node) {
        let old = self.old;
        let mut group = vec![first];
        let mut seen = std::collections::HashSet::from([first]);
        let mut next = 0;
        while let Some(node) = group.get(next).copied() {
            next += 1;
            for operand in old.operands(node) {
                let operand = self.source.resolve(*operand);
                if old.opcode(operand) != Opcode::Virtual {
                    self.value(operand);
                } else if self.known(operand).is_none() && seen.insert(operand) {
                    group.push(operand);
                }
            }
        }
        for node in &group {
            let Payload::Virtual(info) = old.payload(*node) else { continue };
            let method = self.builder.method_mut();
            let info = method.add_virtual(old.virtual_object(info));
            let new = method.add_node(Opcode::Virtual, old.ty(*node), &[], Payload::Virtual(info));
            self.note(*node, new);
        }
        for node in group {
            let operands = self.copy_operands(node);
            if let Some(new) = self.known(node) {
                let payload = self.builder.method().payload(new);
                self.builder.method_mut().replace_node(new, Opcode::Virtual, &operands, payload);
            }
        }
    }

    // ---- payloads ----

    fn local(&self, local: Local) -> Local {
        self.applied.locals[local].expect("a local that is read or set is kept")
    }

    /// The payload of a copy, for all that names no block.
    fn payload(&mut self, payload: Payload) -> Payload {
        match payload {
            Payload::Wide(wide) => {
                let known = slot_of(&mut self.wides, wide.index());
                let method = self.builder.method_mut();
                Payload::Wide(*known.get_or_insert_with(|| method.add_wide(self.old.wide(wide))))
            }
            Payload::Frame(info) => {
                let known = slot_of(&mut self.frames, info.index());
                let method = self.builder.method_mut();
                Payload::Frame(*known.get_or_insert_with(|| method.add_frame(self.old.frame(info))))
            }
            Payload::Guard(info) => {
                let data = self.old.guard(info);
                Payload::Guard(self.builder.method_mut().add_guard(data.assumptions, None))
            }
            Payload::Local(local) => Payload::Local(self.local(local)),
            payload => payload,
        }
    }

    /// The payload of the copy of a root that ends `block`. Makes the blocks that it names.
    fn end_payload(&mut self, block: Block, end: Node) -> Payload {
        match self.old.payload(end) {
            Payload::Goto(to) => Payload::Goto(self.target(block, to)),
            Payload::Branch(then, otherwise) => {
                let then = self.target(block, then);
                Payload::Branch(then, self.target(block, otherwise))
            }
            Payload::Switch(table) => {
                let data = self.old.switch(table);
                let cases: Vec<_> =
                    data.cases.iter().map(|(bits, to)| (*bits, self.target(block, *to))).collect();
                let default = self.target(block, data.default);
                Payload::Switch(self.builder.method_mut().add_switch(&cases, default))
            }
            Payload::Guard(info) => {
                let data = self.old.guard(info);
                let successors = data.successors.map(|(holds, failed)| {
                    let holds = self.target(block, holds);
                    (holds, self.target(block, failed))
                });
                Payload::Guard(self.builder.method_mut().add_guard(data.assumptions, successors))
            }
            payload => self.payload(payload),
        }
    }
}

/// The place for what became of the entry at `index` of a table.
fn slot_of<T>(table: &mut Vec<Option<T>>, index: usize) -> &mut Option<T> {
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    &mut table[index]
}
