//! The method: nodes, roots, blocks and locals, and the only functions that change them.
//!
//! ```text
//!   method ── blocks ── roots ──► nodes ──► operands (nodes)
//!                │        │
//!                │        └ each with its position in the source
//!                └ extends: the block whose extended block it continues, or none for a head
//! ```
//!
//! # Guarantees
//!
//! * A node is never changed by anything but [`Method::replace_node`], and never moves.
//! * Everything lives in one arena; a node takes 24 bytes and 4 for each operand, a root 8.
//!
//! What a well-formed method is, the verifier says; this module only keeps indexes valid.

use std::collections::BTreeSet;

use bumpalo::Bump;
use smallvec::SmallVec;

use crate::entity::{Entity, EntityVec, Keys, Table, entity};
use crate::module::{ClassId, MethodId};
use crate::opcode::{Opcode, Properties};
pub use crate::payload::*;
use crate::pool::OperandPool;
use crate::raise::KindSet;
use crate::types::Type;

entity! {
    /// An operation and at most one value.
    Node, "%";
    /// A list of roots with one end.
    Block, "b";
    /// A named variable of the frontend.
    Local, "$";
    /// A local whose address is taken: memory that the VM owns.
    Slot, "slot";
    /// The cases of a switch.
    SwitchTable, "switch";
    /// What a frame state is of.
    FrameInfo, "frame";
    /// What a virtual object is of.
    VirtualInfo, "virtual";
    /// The assumptions of a guard.
    GuardInfo, "guard";
    /// A list of handlers, shared by blocks.
    HandlerList, "handlers";
    /// A constant of 128 bits.
    WideConst, "wide";
}

/// A node with a position in its block's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The node.
    pub node: Node,
    /// Where in the source it comes from.
    pub position: SourcePos,
}

/// A node's own 24 bytes.
#[derive(Clone, Copy, Debug)]
struct NodeData {
    payload: Payload,
    operands_start: u32,
    operands_len: u16,
    opcode: Opcode,
    ty: Type,
}

const _: () = assert!(size_of::<NodeData>() == 24, "a node takes 24 bytes besides its operands");

impl Default for NodeData {
    fn default() -> Self {
        NodeData {
            payload: Payload::None,
            operands_start: 0,
            operands_len: 0,
            opcode: Opcode::Dead,
            ty: Type::Void,
        }
    }
}

/// A block.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockData<'a> {
    /// The roots, in order; the last one ends the block.
    pub roots: &'a [Root],
    /// The only predecessor, whose extended block this block continues; none for a head.
    pub extends: Option<Block>,
    /// The handlers of what is raised here, in the order in which they are tried.
    pub handlers: Option<HandlerList>,
    /// How often it runs, relative to the method's entry; none if not known.
    pub frequency: Option<Frequency>,
}

/// How often a block runs for one entry of its method, in units of 1/1024; saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frequency(pub u32);

impl Frequency {
    /// Never, as far as is known.
    pub const COLD: Frequency = Frequency(0);
    /// As often as the method.
    pub const ONCE: Frequency = Frequency(1024);
}

/// A local.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalData<'a> {
    /// The frontend's name for it, unique in the method.
    pub name: &'a str,
    /// The type of what it holds.
    pub ty: Type,
}

/// A local whose address is taken. Its bytes are zero when the method is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotData<'a> {
    /// The frontend's name for it, unique in the method.
    pub name: &'a str,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// Its alignment in bytes, a power of two of at most 16.
    pub align: u32,
}

/// A handler of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The kinds that it catches.
    pub kinds: KindSet,
    /// For guest exceptions, the class that it catches; any if none.
    pub class: Option<ClassId>,
    /// The handler's block, a head.
    pub block: Block,
}

/// The operands that one node can have.
pub const MAX_OPERANDS: usize = u16::MAX as usize;

/// The unit of compilation, with its IL.
pub struct Method<'a> {
    arena: &'a Bump,
    id: MethodId,
    nodes: Table<'a, Node, NodeData>,
    operands: OperandPool<'a>,
    blocks: Table<'a, Block, BlockData<'a>>,
    locals: Table<'a, Local, LocalData<'a>>,
    params: usize,
    slots: Table<'a, Slot, SlotData<'a>>,
    // Rare, and small where they are not: a segment each would cost a small method more than they hold.
    switches: bumpalo::collections::Vec<'a, SwitchData<'a>>,
    frames: bumpalo::collections::Vec<'a, FrameData>,
    virtuals: bumpalo::collections::Vec<'a, VirtualData>,
    guards: bumpalo::collections::Vec<'a, GuardData<'a>>,
    handlers: bumpalo::collections::Vec<'a, &'a [Handler]>,
    wides: bumpalo::collections::Vec<'a, u128>,
    /// How many of the first nodes are known not to fold.
    folded: usize,
}

impl<'a> Method<'a> {
    /// A method without blocks; its parameters become the first locals.
    pub fn new(arena: &'a Bump, id: MethodId) -> Method<'a> {
        use bumpalo::collections::Vec;
        Method {
            arena,
            id,
            nodes: Table::new_in(arena),
            operands: OperandPool::new_in(arena),
            blocks: Table::new_in(arena),
            locals: Table::new_in(arena),
            params: 0,
            slots: Table::new_in(arena),
            switches: Vec::new_in(arena),
            frames: Vec::new_in(arena),
            virtuals: Vec::new_in(arena),
            guards: Vec::new_in(arena),
            handlers: Vec::new_in(arena),
            wides: Vec::new_in(arena),
            folded: 0,
        }
    }

    /// Which method this is.
    pub fn id(&self) -> MethodId {
        self.id
    }

    /// The arena in which it lives.
    pub fn arena(&self) -> &'a Bump {
        self.arena
    }

    // ---- nodes ----

    /// How many nodes there are, unreachable ones included.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, in the order in which they were made: operands before users.
    pub fn nodes(&self) -> Keys<Node> {
        self.nodes.keys()
    }

    /// A node's opcode.
    #[inline]
    pub fn opcode(&self, node: Node) -> Opcode {
        self.nodes[node].opcode
    }

    /// The type of a node's value.
    #[inline]
    pub fn ty(&self, node: Node) -> Type {
        self.nodes[node].ty
    }

    /// What a node says besides its operands.
    #[inline]
    pub fn payload(&self, node: Node) -> Payload {
        self.nodes[node].payload
    }

    /// A node's operands, a frame state last where there is one.
    #[inline]
    pub fn operands(&self, node: Node) -> &[Node] {
        let data = &self.nodes[node];
        self.operands.get(data.operands_start, data.operands_len)
    }

    /// A node's operands without its frame state.
    #[inline]
    pub fn value_operands(&self, node: Node) -> &[Node] {
        let data = &self.nodes[node];
        let operands = self.operands.get(data.operands_start, data.operands_len);
        match operands.split_last() {
            Some((last, values))
                if data.opcode.has(Properties::FRAME) && self.opcode(*last) == Opcode::Frame =>
            {
                values
            }
            _ => operands,
        }
    }

    /// The frame state that a root carries.
    #[inline]
    pub fn frame_of(&self, node: Node) -> Option<Node> {
        let last = *self.operands(node).last()?;
        let has_frame = self.opcode(node).has(Properties::FRAME) && self.opcode(last) == Opcode::Frame;
        has_frame.then_some(last)
    }

    /// The value of a constant of up to 64 bits, as bits.
    #[inline]
    pub fn const_bits(&self, node: Node) -> Option<u64> {
        match self.payload(node) {
            Payload::Const(bits) => Some(bits),
            _ => None,
        }
    }

    /// Whether the node happens where it stands in a block's list, rather than floating to its uses.
    #[inline]
    pub fn is_root(&self, node: Node) -> bool {
        let opcode = self.opcode(node);
        opcode.has(Properties::ROOT)
            || opcode.has(Properties::ROOT_UNLESS_PROVEN)
                && !self.operands(node).get(1).is_some_and(|divisor| self.is_proven_nonzero(*divisor))
    }

    /// Whether a value is known not to be zero by what it is: a constant, or a passed `divcheck`.
    #[inline]
    pub fn is_proven_nonzero(&self, node: Node) -> bool {
        match self.payload(node) {
            Payload::Const(bits) => bits != 0,
            _ => self.opcode(node) == Opcode::DivCheck,
        }
    }

    /// Adds a node. It is in no block's list yet.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_OPERANDS`] operands.
    pub fn add_node(&mut self, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        let run = self.operands.push(operands);
        self.nodes.push(NodeData { payload, operands_start: run.start, operands_len: run.len, opcode, ty })
    }

    /// Makes `node` another operation of the same type, for all of its users.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_OPERANDS`] operands.
    pub fn replace_node(&mut self, node: Node, opcode: Opcode, operands: &[Node], payload: Payload) {
        // What is computed from it comes later.
        self.folded = self.folded.min(node.index());
        let run = self.operands.push(operands);
        let ty = self.nodes[node].ty;
        self.nodes[node] = NodeData { payload, operands_start: run.start, operands_len: run.len, opcode, ty };
    }

    /// How many of the first nodes are what a builder that folds made of them: they do not fold for what they and their operands are.
    pub(crate) fn folded(&self) -> usize {
        self.folded
    }

    /// All nodes are what a builder that folds made of them.
    pub(crate) fn note_folded(&mut self) {
        self.folded = self.nodes.len();
    }

    // ---- blocks ----

    /// How many blocks there are.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// All blocks; the first is where the method is entered.
    pub fn blocks(&self) -> Keys<Block> {
        self.blocks.keys()
    }

    /// A block.
    #[inline]
    pub fn block(&self, block: Block) -> &BlockData<'a> {
        &self.blocks[block]
    }

    /// The block's roots, in order.
    #[inline]
    pub fn roots(&self, block: Block) -> &'a [Root] {
        self.blocks[block].roots
    }

    /// The root that ends the block; none while it is being built.
    #[inline]
    pub fn terminator(&self, block: Block) -> Option<Node> {
        let last = self.roots(block).last()?.node;
        self.opcode(last).has(Properties::TERMINATES).then_some(last)
    }

    /// Where the block's end may continue, in order and with repetitions. Handlers are not among them.
    #[inline]
    pub fn successors(&self, block: Block) -> SmallVec<[Block; 2]> {
        self.terminator(block).map(|end| self.successors_of(end)).unwrap_or_default()
    }

    /// Where a root that ends a block may continue.
    #[inline]
    pub fn successors_of(&self, terminator: Node) -> SmallVec<[Block; 2]> {
        match self.payload(terminator) {
            Payload::Goto(block) => SmallVec::from_slice(&[block]),
            Payload::Branch(then, otherwise) => SmallVec::from_slice(&[then, otherwise]),
            Payload::Switch(table) => {
                let data = self.switch(table);
                data.cases.iter().map(|(_, block)| *block).chain([data.default]).collect()
            }
            Payload::Guard(info) => match self.guard(info).successors {
                Some((holds, failed)) => SmallVec::from_slice(&[holds, failed]),
                None => SmallVec::new(),
            },
            _ => SmallVec::new(),
        }
    }

    /// The handlers of a block, in the order in which they are tried.
    pub fn handlers(&self, block: Block) -> &'a [Handler] {
        self.blocks[block].handlers.map_or(&[], |list| self.handlers[list.index()])
    }

    /// The head of the block's extended block.
    #[inline]
    pub fn head(&self, block: Block) -> Block {
        let mut head = block;
        while let Some(parent) = self.blocks[head].extends {
            head = parent;
        }
        head
    }

    /// Adds a block without roots.
    pub fn add_block(&mut self, extends: Option<Block>, handlers: Option<HandlerList>) -> Block {
        self.blocks.push(BlockData { extends, handlers, ..BlockData::default() })
    }

    /// Gives a block its roots.
    pub fn set_roots(&mut self, block: Block, roots: &[Root]) {
        self.blocks[block].roots = self.arena.alloc_slice_copy(roots);
    }

    /// Says which block a block continues.
    pub(crate) fn set_extends(&mut self, block: Block, extends: Option<Block>) {
        self.blocks[block].extends = extends;
    }

    /// Says which handlers a block has.
    pub fn set_handlers(&mut self, block: Block, handlers: Option<HandlerList>) {
        self.blocks[block].handlers = handlers;
    }

    /// Says how often a block runs.
    pub fn set_frequency(&mut self, block: Block, frequency: Option<Frequency>) {
        self.blocks[block].frequency = frequency;
    }

    /// Leaves only the blocks of `order`, in that order. All that they name must be among them.
    pub(crate) fn reorder_blocks(&mut self, order: &[Block]) {
        let mut places: EntityVec<Block, Option<Block>> = EntityVec::filled(None, self.blocks.len());
        for (index, block) in order.iter().enumerate() {
            places[*block] = Some(Block::new(index));
        }
        let place = |block: Block| places[block].unwrap_or(block);
        for block in self.blocks.keys().filter(|block| places[*block].is_none()) {
            if let Some(end) = self.terminator(block) {
                self.nodes[end] = NodeData::default();
            }
        }
        let mut blocks = Table::new_in(self.arena);
        for block in order {
            if let Some(end) = self.terminator(*block) {
                let payload = match self.payload(end) {
                    Payload::Goto(to) => Payload::Goto(place(to)),
                    Payload::Branch(then, otherwise) => Payload::Branch(place(then), place(otherwise)),
                    payload => payload,
                };
                self.nodes[end].payload = payload;
            }
            let data = self.blocks[*block];
            blocks.push(BlockData { extends: data.extends.map(place), ..data });
        }
        self.blocks = blocks;
        for data in &mut self.switches {
            let cases = data.cases.iter().map(|(bits, block)| (*bits, place(*block)));
            *data =
                SwitchData { cases: self.arena.alloc_slice_fill_iter(cases), default: place(data.default) };
        }
        for data in &mut self.guards {
            data.successors = data.successors.map(|(holds, failed)| (place(holds), place(failed)));
        }
        for list in &mut self.handlers {
            let handlers = list.iter().map(|handler| Handler { block: place(handler.block), ..*handler });
            *list = self.arena.alloc_slice_fill_iter(handlers);
        }
    }

    // ---- locals ----

    /// All locals; the parameters are the first.
    pub fn locals(&self) -> Keys<Local> {
        self.locals.keys()
    }

    /// A local.
    pub fn local(&self, local: Local) -> &LocalData<'a> {
        &self.locals[local]
    }

    /// How many of the locals are parameters.
    pub fn param_count(&self) -> usize {
        self.params
    }

    /// Adds a parameter. All of them precede the other locals.
    pub fn add_param(&mut self, name: &str, ty: Type) -> Local {
        debug_assert_eq!(self.params, self.locals.len(), "parameters precede the other locals");
        self.params += 1;
        self.add_local(name, ty)
    }

    /// Adds a local.
    pub fn add_local(&mut self, name: &str, ty: Type) -> Local {
        self.locals.push(LocalData { name: self.arena.alloc_str(name), ty })
    }

    /// Adds a local, or a parameter, whose name lives as long as the method.
    pub(crate) fn push_local(&mut self, data: LocalData<'a>, is_param: bool) -> Local {
        debug_assert!(!is_param || self.params == self.locals.len(), "parameters precede the other locals");
        self.params += usize::from(is_param);
        self.locals.push(data)
    }

    /// Adds a slot whose name lives as long as the method.
    pub(crate) fn push_slot(&mut self, data: SlotData<'a>) -> Slot {
        self.slots.push(data)
    }

    /// Leaves only the parameters and the other locals that are `kept`, which are all that nodes name. Returns where
    /// each one is now.
    pub(crate) fn retain_locals(&mut self, kept: &EntityVec<Local, bool>) -> EntityVec<Local, Option<Local>> {
        let mut locals = Table::new_in(self.arena);
        let mut places = EntityVec::filled(None, self.locals.len());
        for local in self.locals.keys().filter(|local| kept[*local]) {
            places[local] = Some(locals.push(self.locals[local]));
        }
        self.locals = locals;
        for node in self.nodes.keys() {
            if let Payload::Local(local) = &mut self.nodes[node].payload
                && let Some(place) = places[*local]
            {
                *local = place;
            }
        }
        places
    }

    /// All locals whose address is taken.
    pub fn slots(&self) -> Keys<Slot> {
        self.slots.keys()
    }

    /// A local whose address is taken.
    pub fn slot(&self, slot: Slot) -> &SlotData<'a> {
        &self.slots[slot]
    }

    /// Adds a local whose address is taken.
    pub fn add_slot(&mut self, name: &str, size_bytes: u32, align: u32) -> Slot {
        self.slots.push(SlotData { name: self.arena.alloc_str(name), size_bytes, align })
    }

    // ---- what payloads refer to ----

    /// A switch's cases.
    pub fn switch(&self, table: SwitchTable) -> SwitchData<'a> {
        self.switches[table.index()]
    }

    /// Adds the cases of a switch, by ascending value.
    pub fn add_switch(&mut self, cases: &[(u64, Block)], default: Block) -> SwitchTable {
        self.switches.push(SwitchData { cases: self.arena.alloc_slice_copy(cases), default });
        SwitchTable::new(self.switches.len() - 1)
    }

    /// What a frame state is of.
    pub fn frame(&self, info: FrameInfo) -> FrameData {
        self.frames[info.index()]
    }

    /// Adds what a frame state is of; equal ones are one entry where they follow each other.
    pub fn add_frame(&mut self, data: FrameData) -> FrameInfo {
        if self.frames.last() != Some(&data) {
            self.frames.push(data);
        }
        FrameInfo::new(self.frames.len() - 1)
    }

    /// What a virtual object is of.
    pub fn virtual_object(&self, info: VirtualInfo) -> VirtualData {
        self.virtuals[info.index()]
    }

    /// Adds what a virtual object is of.
    pub fn add_virtual(&mut self, data: VirtualData) -> VirtualInfo {
        self.virtuals.push(data);
        VirtualInfo::new(self.virtuals.len() - 1)
    }

    /// The numbers of virtual objects.
    pub(crate) fn virtual_ids(&self) -> BTreeSet<u32> {
        self.virtuals.iter().map(|data| data.id).collect()
    }

    /// The numbers that no virtual object has, from the least up: there are more than a method has nodes.
    pub fn free_virtual_ids(&self) -> impl Iterator<Item = u32> + use<> {
        let taken = self.virtual_ids();
        (0..=u32::MAX).filter(move |id| !taken.contains(id))
    }

    /// What a guard stands on.
    pub fn guard(&self, info: GuardInfo) -> GuardData<'a> {
        self.guards[info.index()]
    }

    /// Adds what a guard stands on.
    pub fn add_guard(&mut self, assumptions: &[Assumption], successors: Option<(Block, Block)>) -> GuardInfo {
        self.guards.push(GuardData { assumptions: self.arena.alloc_slice_copy(assumptions), successors });
        GuardInfo::new(self.guards.len() - 1)
    }

    /// A shared list of handlers.
    pub fn handler_list(&self, list: HandlerList) -> &'a [Handler] {
        self.handlers[list.index()]
    }

    /// Adds a list of handlers, for blocks to share.
    pub fn add_handlers(&mut self, handlers: &[Handler]) -> HandlerList {
        self.handlers.push(self.arena.alloc_slice_copy(handlers));
        HandlerList::new(self.handlers.len() - 1)
    }

    /// Whether all that a payload names in this method is there: blocks, locals, slots, entries of tables.
    pub fn has(&self, payload: Payload) -> bool {
        let has_block = |block: Block| block.index() < self.blocks.len();
        match payload {
            Payload::Wide(wide) => wide.index() < self.wides.len(),
            Payload::Local(local) => local.index() < self.locals.len(),
            Payload::Slot(slot) | Payload::Access(Access { place: Place::Slot(slot), .. }) => {
                slot.index() < self.slots.len()
            }
            Payload::Goto(block) => has_block(block),
            Payload::Branch(then, otherwise) => has_block(then) && has_block(otherwise),
            Payload::Switch(table) => self.switches.get(table.index()).is_some_and(|data| {
                has_block(data.default) && data.cases.iter().all(|(_, block)| has_block(*block))
            }),
            Payload::Frame(info) => info.index() < self.frames.len(),
            Payload::Virtual(info) => info.index() < self.virtuals.len(),
            Payload::Guard(info) => self.guards.get(info.index()).is_some_and(|data| {
                data.successors.is_none_or(|(holds, failed)| has_block(holds) && has_block(failed))
            }),
            _ => true,
        }
    }

    /// Whether a list of handlers, and each block that it names, is there.
    pub fn has_handlers(&self, list: HandlerList) -> bool {
        let list = self.handlers.get(list.index());
        list.is_some_and(|list| list.iter().all(|handler| handler.block.index() < self.blocks.len()))
    }

    /// The bits of a constant of 128 bits.
    pub fn wide(&self, wide: WideConst) -> u128 {
        self.wides[wide.index()]
    }

    /// Adds a constant of 128 bits; equal ones are one entry.
    pub fn add_wide(&mut self, bits: u128) -> WideConst {
        let found = self.wides.iter().position(|wide| *wide == bits);
        WideConst::new(found.unwrap_or_else(|| {
            self.wides.push(bits);
            self.wides.len() - 1
        }))
    }
}
