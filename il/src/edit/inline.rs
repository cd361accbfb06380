//! Putting a callee's body in place of a call.
//!
//! ```text
//!   b1: %1 = load …            b1: %1 = load …            set $t, %1: what the rest needs
//!       %2 = call @f(%1)           set $p0, %1            the callee's parameter
//!       store …, %2                goto b5
//!                              b5: … the callee …         raises to its own handlers, then to the call's
//!                                  set $result, %7        for each return
//!                                  goto b9
//!                              b9: store …, entry $result
//! ```
//!
//! The body is brought over as pending nodes, blocks and locals, in the order of the callee's tables; the rest is a split.
//! Rejoining, forwarding arguments and results, and folding what the arguments make constant is the copy's work.
//!
//! # Guarantees
//!
//! * The meaning stays, but for the `stack_overflow` that the call might have raised: the callee has no frame any more.
//! * Frame states of the callee have the call's frame state as parent. If the call has none, they have none.
//! * A tail call of the callee becomes a call, with the call's frame state, and reaches only the call's handlers.
//! * Slots of the callee are zero each time that it is entered.
//! * All that was the callee's has the position of the call in the source: positions are those of one method.
//!
//! # Cost
//!
//! Linear in the callee, and in what crosses from before the call to after it.

use smallvec::SmallVec;

use super::lists::Source;
use super::split::{Crossing, Map, set_carriers, split};
use crate::dying::any_dies;
use crate::entity::{Entity, EntityVec};
use crate::method::*;
use crate::module::{Module, Signature};
use crate::opcode::{Opcode, Outcome, PayloadKind, Properties, TABLE};
use crate::types::Type;

/// Why a call cannot become its callee's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInlined {
    /// It is no call, or a call that gives its callee another context than this method's.
    NotThisContext,
    /// The callee has no body.
    NoBody,
    /// The callee's parameters and results are not those of the call.
    OtherSignature,
    /// The callee's slots take more than [`MAX_INLINED_SLOT_BYTES`].
    LargeSlots,
    /// A frame state would have more than [`MAX_OPERANDS`] operands.
    LargeFrame,
    /// An argument [dies](crate::Dying) at the next yield point, so the callee's parameter, a local, must not hold it.
    DyingArgument,
}

impl std::fmt::Display for NotInlined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NotInlined::NotThisContext => "it is no call with this method's context",
            NotInlined::NoBody => "the callee has no body",
            NotInlined::OtherSignature => "the callee has another signature than the call",
            NotInlined::LargeSlots => "the callee has large slots, which each entry would have to clear",
            NotInlined::LargeFrame => "a frame state would have too many operands",
            NotInlined::DyingArgument => "an argument dies at the next yield point, and no local may hold it",
        })
    }
}

impl std::error::Error for NotInlined {}

/// How many bytes of slots an inlined callee may have: they are cleared by stores each time it is entered.
pub const MAX_INLINED_SLOT_BYTES: u32 = 256;

/// A callee's body, brought over.
#[derive(Clone, Debug)]
pub(super) struct Body {
    call: Node,
    /// Where it goes on behind the call.
    pub(super) tail: Block,
    entry: Block,
    blocks: Vec<Block>,
    params: Vec<Local>,
    results: Vec<Local>,
    /// Roots at its beginning: what clears slots.
    clears: Vec<Node>,
    /// The call's frame state, if the body refers to it.
    frame: Option<Node>,
}

/// Brings the body of `callee` over, to stand in place of `call`.
pub(super) fn import(
    module: &Module,
    method: &mut Method<'_>,
    call: Node,
    callee: &Method<'_>,
) -> Result<Body, NotInlined> {
    check(module, method, call, callee)?;
    let signature = module.method_signature(callee.id());
    let frame = method.frame_of(call);
    let name = module.methods[callee.id()].name.clone();
    let mut locals = EntityVec::new();
    for local in callee.locals() {
        let data = callee.local(local);
        locals.push(method.add_local(&format!("{name}_{}", data.name), data.ty));
    }
    let results =
        signature.results.iter().map(|ty| method.add_local(&format!("{name}_result"), *ty)).collect();
    let mut blocks = EntityVec::new();
    for _ in callee.blocks() {
        blocks.push(method.add_block(None, None));
    }
    let tail = method.add_block(None, None);
    let virtuals = callee.virtual_ids().into_iter().zip(method.free_virtual_ids()).collect();
    let mut import = Import {
        method,
        callee,
        signature,
        frame,
        uses_frame: false,
        body: Body {
            call,
            tail,
            entry: blocks[Block::new(0)],
            blocks: blocks.values().copied().collect(),
            params: locals.values().take(callee.param_count()).copied().collect(),
            results,
            clears: Vec::new(),
            frame: None,
        },
        locals,
        blocks,
        slots: EntityVec::new(),
        nodes: EntityVec::filled(None, callee.node_count()),
        handlers: Map::default(),
        virtuals,
    };
    import.slots();
    import.nodes();
    import.lists();
    let Import { mut body, uses_frame, .. } = import;
    body.frame = frame.filter(|_| uses_frame);
    Ok(body)
}

/// Whether `callee` can stand in place of `call`.
pub(super) fn check(
    module: &Module,
    method: &Method<'_>,
    call: Node,
    callee: &Method<'_>,
) -> Result<(), NotInlined> {
    let signature = module.method_signature(callee.id());
    let row = method.opcode(call).row();
    let is_own_context = matches!(row.payload, PayloadKind::Method | PayloadKind::Dispatch);
    if !row.has(Properties::CALLS) || row.has(Properties::TERMINATES) || !is_own_context {
        return Err(NotInlined::NotThisContext);
    }
    if callee.block_count() == 0 {
        return Err(NotInlined::NoBody);
    }
    let args = method.value_operands(call).iter().map(|arg| method.ty(*arg));
    if !args.eq(signature.params.iter().copied()) || method.ty(call) != signature.outcome() {
        return Err(NotInlined::OtherSignature);
    }
    let bytes: u64 = callee.slots().map(|slot| u64::from(callee.slot(slot).size_bytes)).sum();
    if bytes > u64::from(MAX_INLINED_SLOT_BYTES) {
        return Err(NotInlined::LargeSlots);
    }
    let is_large =
        |node: Node| callee.opcode(node) == Opcode::Frame && callee.operands(node).len() >= MAX_OPERANDS;
    if callee.nodes().any(is_large) {
        return Err(NotInlined::LargeFrame);
    }
    if any_dies(method, method.value_operands(call)) {
        return Err(NotInlined::DyingArgument);
    }
    Ok(())
}

/// A body on its way.
struct Import<'c, 'a, 'b> {
    method: &'c mut Method<'a>,
    callee: &'c Method<'b>,
    signature: &'c Signature,
    frame: Option<Node>,
    uses_frame: bool,
    body: Body,
    locals: EntityVec<Local, Local>,
    blocks: EntityVec<Block, Block>,
    slots: EntityVec<Slot, Slot>,
    nodes: EntityVec<Node, Option<Node>>,
    handlers: Map<HandlerList, HandlerList>,
    /// By number of a virtual object: its number here.
    virtuals: Map<u32, u32>,
}

impl Import<'_, '_, '_> {
    fn slots(&mut self) {
        for slot in self.callee.slots() {
            let data = self.callee.slot(slot);
            let new = self.method.add_slot(data.name, data.size_bytes, data.align);
            self.slots.push(new);
            self.clear(new, data.size_bytes);
        }
    }

    fn clear(&mut self, slot: Slot, size_bytes: u32) {
        let method = &mut *self.method;
        let address = method.add_node(Opcode::SlotAddress, Type::Addr, &[], Payload::Slot(slot));
        let mut offset = 0;
        for ty in [Type::I64, Type::I32, Type::I16, Type::I8] {
            while offset + ty.bytes() <= size_bytes {
                let zero = method.add_node(Opcode::Const, ty, &[], Payload::Const(0));
                let access = Access {
                    place: Place::Slot(slot),
                    offset: i32::try_from(offset).expect("a slot that is cleared is small"),
                    scale: 1,
                };
                let payload = Payload::Access(access);
                let store = method.add_node(Opcode::Store, Type::Void, &[zero, address], payload);
                self.body.clears.push(store);
                offset += ty.bytes();
            }
        }
    }

    /// All nodes but those that end blocks, which need their block.
    fn nodes(&mut self) {
        for node in self.callee.nodes() {
            let opcode = self.callee.opcode(node);
            if opcode.has(Properties::TERMINATES) {
                continue;
            }
            // A virtual object may stand before what it holds: itself, until all are there.
            let operands = match opcode {
                Opcode::Virtual => SmallVec::new(),
                _ => self.operands(node),
            };
            let payload = self.payload(self.callee.payload(node));
            let new = self.method.add_node(opcode, self.callee.ty(node), &operands, payload);
            self.nodes[node] = Some(new);
        }
        for node in self.callee.nodes() {
            if self.callee.opcode(node) == Opcode::Virtual
                && let Some(new) = self.nodes[node]
            {
                let operands = self.operands(node);
                let payload = self.method.payload(new);
                self.method.replace_node(new, Opcode::Virtual, &operands, payload);
            }
        }
    }

    fn operands(&mut self, node: Node) -> SmallVec<[Node; 4]> {
        let callee = self.callee;
        let operands = callee.operands(node).iter();
        let mut operands: SmallVec<[Node; 4]> = operands
            .map(|operand| self.nodes[*operand].expect("operands stand before their users"))
            .collect();
        let is_frame = |node: &Node| callee.opcode(*node) == Opcode::Frame;
        let is_outermost = is_frame(&node) && !callee.operands(node).last().is_some_and(is_frame);
        if is_outermost && let Some(frame) = self.frame {
            self.uses_frame = true;
            operands.push(frame);
        }
        operands
    }

    fn payload(&mut self, payload: Payload) -> Payload {
        let callee = self.callee;
        match payload {
            Payload::Local(local) => Payload::Local(self.locals[local]),
            Payload::Slot(slot) => Payload::Slot(self.slots[slot]),
            Payload::Access(access @ Access { place: Place::Slot(slot), .. }) => {
                Payload::Access(Access { place: Place::Slot(self.slots[slot]), ..access })
            }
            Payload::Wide(wide) => Payload::Wide(self.method.add_wide(callee.wide(wide))),
            Payload::Frame(info) => Payload::Frame(self.method.add_frame(callee.frame(info))),
            Payload::Virtual(info) => {
                let data = callee.virtual_object(info);
                let id = self.virtuals[&data.id];
                Payload::Virtual(self.method.add_virtual(VirtualData { id, ..data }))
            }
            Payload::Goto(to) => Payload::Goto(self.blocks[to]),
            Payload::Branch(then, otherwise) => Payload::Branch(self.blocks[then], self.blocks[otherwise]),
            Payload::Switch(table) => {
                let data = callee.switch(table);
                let cases: Vec<_> = data.cases.iter().map(|(bits, to)| (*bits, self.blocks[*to])).collect();
                Payload::Switch(self.method.add_switch(&cases, self.blocks[data.default]))
            }
            Payload::Guard(info) => {
                let data = callee.guard(info);
                let successors =
                    data.successors.map(|(holds, failed)| (self.blocks[holds], self.blocks[failed]));
                Payload::Guard(self.method.add_guard(data.assumptions, successors))
            }
            payload => payload,
        }
    }

    fn lists(&mut self) {
        let mut roots = Vec::new();
        for block in self.callee.blocks() {
            let data = *self.callee.block(block);
            let new = self.blocks[block];
            self.method.set_extends(new, data.extends.map(|above| self.blocks[above]));
            self.method.set_frequency(new, data.frequency);
            let handlers = data.handlers.map(|list| self.handler_list(list));
            self.method.set_handlers(new, handlers);
            roots.clear();
            if block.index() == 0 {
                roots.extend_from_slice(&self.body.clears);
            }
            for root in data.roots {
                if self.callee.opcode(root.node).has(Properties::TERMINATES) {
                    self.end(new, root.node, &mut roots);
                } else {
                    roots.extend(self.nodes[root.node]);
                }
            }
            self.set_roots(new, &roots);
        }
    }

    fn set_roots(&mut self, block: Block, nodes: &[Node]) {
        let position = SourcePos::NONE;
        let roots: Vec<Root> = nodes.iter().map(|node| Root { node: *node, position }).collect();
        self.method.set_roots(block, &roots);
    }

    fn handler_list(&mut self, list: HandlerList) -> HandlerList {
        if let Some(new) = self.handlers.get(&list) {
            return *new;
        }
        let handlers: Vec<Handler> = self
            .callee
            .handler_list(list)
            .iter()
            .map(|handler| Handler { block: self.blocks[handler.block], ..*handler })
            .collect();
        let new = self.method.add_handlers(&handlers);
        self.handlers.insert(list, new);
        new
    }

    /// Appends what a root that ends a block of the callee becomes.
    fn end(&mut self, block: Block, end: Node, roots: &mut Vec<Node>) {
        let opcode = self.callee.opcode(end);
        let operands = self.operands(end);
        if opcode.has(Properties::CALLS) {
            // Its handlers are the call's alone, so it stands in a block of its own.
            let own = self.method.add_block(Some(block), None);
            self.body.blocks.push(own);
            self.method.set_frequency(own, self.method.block(block).frequency);
            roots.push(self.method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(own)));
            let own_roots = self.call_in_place(end, &operands);
            return self.set_roots(own, &own_roots);
        }
        if opcode == Opcode::Return {
            self.go_on(&operands, roots);
        } else {
            let payload = self.payload(self.callee.payload(end));
            roots.push(self.method.add_node(opcode, self.callee.ty(end), &operands, payload));
        }
    }

    /// The roots that a tail call becomes.
    fn call_in_place(&mut self, end: Node, operands: &[Node]) -> Vec<Node> {
        let kind = self.callee.opcode(end).row().payload;
        let plain = TABLE.iter().find(|row| {
            let calls = row.has(Properties::CALLS) && !row.has(Properties::TERMINATES);
            calls && row.payload == kind && row.outcome == Outcome::Signature
        });
        let opcode = plain.expect("for each tail call there is a call").opcode;
        let mut operands = operands.to_vec();
        if let Some(frame) = self.frame {
            self.uses_frame = true;
            operands.push(frame);
        }
        let payload = self.payload(self.callee.payload(end));
        let call = self.method.add_node(opcode, self.signature.outcome(), &operands, payload);
        let mut values = Vec::new();
        for (index, ty) in (0..).zip(&self.signature.results) {
            values.push(match index {
                0 => call,
                _ => self.method.add_node(Opcode::Result, *ty, &[call], Payload::Index(index)),
            });
        }
        let mut roots = vec![call];
        self.go_on(&values, &mut roots);
        roots
    }

    /// Sets the results and goes on behind the call.
    fn go_on(&mut self, values: &[Node], roots: &mut Vec<Node>) {
        for (local, value) in self.body.results.iter().zip(values) {
            roots.push(self.method.add_node(Opcode::Set, Type::Void, &[*value], Payload::Local(*local)));
        }
        let tail = Payload::Goto(self.body.tail);
        roots.push(self.method.add_node(Opcode::Goto, Type::Void, &[], tail));
    }
}

/// Puts bodies in the places of their calls.
pub(super) fn place(method: &mut Method<'_>, source: &mut Source, crossing: &mut Crossing, bodies: &[Body]) {
    let by_call: Map<Node, &Body> = bodies.iter().map(|body| (body.call, body)).collect();
    let mut places = Vec::new();
    for block in method.blocks() {
        for (position, root) in method.roots(block).iter().enumerate() {
            if let Some(body) = by_call.get(&root.node) {
                places.push((block, position, *body));
            }
        }
    }
    carry_results(method, crossing, bodies);
    // The last first, as with splits.
    for (block, position, body) in places.into_iter().rev() {
        place_one(method, source, crossing, (block, position), body);
    }
}

/// The results of calls go through the locals that returns set.
fn carry_results(method: &mut Method<'_>, crossing: &mut Crossing, bodies: &[Body]) {
    let by_call: Map<Node, &Body> = bodies.iter().map(|body| (body.call, body)).collect();
    for body in bodies {
        if let Some(first) = body.results.first() {
            crossing.carry(method, body.call, *first);
        }
    }
    for node in method.nodes() {
        if method.opcode(node) == Opcode::Result
            && let [call] = *method.operands(node)
            && let Some(body) = by_call.get(&call)
            && let Payload::Index(index) = method.payload(node)
        {
            crossing.carry(method, node, body.results[index as usize]);
        }
    }
}

fn place_one(
    method: &mut Method<'_>,
    source: &mut Source,
    crossing: &mut Crossing,
    (block, position): (Block, usize),
    body: &Body,
) {
    let outer = *method.block(block);
    let at = outer.roots[position].position;
    split(method, source, crossing, (block, position), body.tail, 1);
    let mut roots = method.roots(block).to_vec();
    roots.pop();
    let args = method.value_operands(body.call).to_vec();
    for (param, arg) in body.params.iter().zip(args) {
        let set = method.add_node(Opcode::Set, Type::Void, &[arg], Payload::Local(*param));
        roots.push(Root { node: set, position: at });
    }
    let mut given = Vec::new();
    if let Some(frame) = body.frame {
        let leaves = crossing.leaves(method, source, block, &[], &[frame]);
        given = set_carriers(method, crossing, &leaves.nodes, at, &mut roots);
    }
    let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(body.entry));
    roots.push(Root { node: end, position: at });
    method.set_roots(block, &roots);
    let mut lists: Map<Option<HandlerList>, Option<HandlerList>> = Map::default();
    for inner in &body.blocks {
        let data = *method.block(*inner);
        let list = *lists.entry(data.handlers).or_insert_with(|| both(method, data.handlers, outer.handlers));
        method.set_handlers(*inner, list);
        method.set_frequency(*inner, scaled(data.frequency, outer.frequency));
        let roots: Vec<Root> = data.roots.iter().map(|root| Root { position: at, ..*root }).collect();
        method.set_roots(*inner, &roots);
        if data.extends.is_none() {
            source.give(*inner, given.clone());
        }
    }
}

/// The handlers of a list, then those of another.
fn both(
    method: &mut Method<'_>,
    first: Option<HandlerList>,
    second: Option<HandlerList>,
) -> Option<HandlerList> {
    let (Some(inner), Some(outer)) = (first, second) else { return first.or(second) };
    let handlers = [method.handler_list(inner), method.handler_list(outer)].concat();
    Some(method.add_handlers(&handlers))
}

/// A frequency for one entry of the callee as one for one entry of the caller.
fn scaled(inner: Option<Frequency>, call: Option<Frequency>) -> Option<Frequency> {
    let (Frequency(inner), Frequency(call)) = (inner?, call?);
    let product = u64::from(inner) * u64::from(call) / u64::from(Frequency::ONCE.0);
    Some(Frequency(u32::try_from(product).unwrap_or(u32::MAX)))
}
