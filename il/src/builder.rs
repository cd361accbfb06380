//! The builder: how a frontend writes a method.
//!
//! ```text
//!   emit(op, …) ── pure? ──► fold ──► number ──► the one node of that value in its extended block
//!        └──────── root ────────────────────────► appended to the block being filled
//!   get(local)  ──► the node last set on the way from the head, else `entry local`
//! ```
//!
//! # Why
//!
//! A frontend that writes `x + 0`, the same address twice, or a local it has just set would make work for every
//! later pass. Numbering, folding and forwarding as nodes are made costs one probe each and leaves nothing to find.
//!
//! # Guarantees
//!
//! * Every block is filled once, from its first root to the one that ends it, before another is begun.
//! * With [`Folding::Off`] what is asked for is what is built, so that the two can be compared.
//! * A mistake of the frontend is kept and returned by [`Builder::finish`]. What the builder does not see, the verifier
//!   does. Only an index that is not this method's panics.
//!
//! # Cost
//!
//! One hash probe for each pure node, at most [`MAX_EXTENSION_DEPTH`] for a read of a local.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault};

use bumpalo::Bump;
use hashbrown::{HashMap, HashTable};
use rustc_hash::FxHasher;

use crate::entity::Entity;
use crate::fold;
use crate::method::*;
use crate::module::{MethodId, Module, NativeId, SignatureId};
use crate::opcode::{Opcode, Outcome, Properties};
use crate::raise::RaiseKind;
use crate::types::Type;

/// How many blocks an extended block can be deep. Where it is reached, [`Builder::extension`] says so and the
/// frontend begins a new extended block, so that no walk along one grows with the method.
pub const MAX_EXTENSION_DEPTH: u16 = 64;

/// Whether the builder simplifies what it builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folding {
    /// Simplify.
    On,
    /// Build exactly what is asked for; for comparing the two.
    Off,
}

/// What a frontend did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// A node was emitted while no block was being filled.
    NoBlock {
        /// What was emitted.
        opcode: Opcode,
        /// The position in force.
        position: SourcePos,
    },
    /// A block was begun while another was being filled, or a second time.
    BlockOrder {
        /// The block that was to be begun.
        block: Block,
    },
    /// A block has no roots.
    Unfilled {
        /// The block.
        block: Block,
    },
    /// A node has more operands than [`MAX_OPERANDS`].
    TooManyOperands {
        /// What was emitted.
        opcode: Opcode,
        /// How many operands it was to have.
        operands: usize,
    },
    /// An opcode was built with a helper that its row does not fit.
    WrongShape {
        /// The opcode.
        opcode: Opcode,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoBlock { opcode, position: SourcePos(at) } => {
                write!(f, "`{opcode}` (position {at}) was emitted while no block was being filled")
            }
            BuildError::BlockOrder { block } => {
                write!(f, "{block} was begun before the block in hand had ended, or a second time")
            }
            BuildError::Unfilled { block } => write!(f, "{block} was made but never filled"),
            BuildError::TooManyOperands { opcode, operands } => {
                write!(f, "`{opcode}` has {operands} operands; a node has at most {MAX_OPERANDS}")
            }
            BuildError::WrongShape { opcode } => {
                write!(f, "`{opcode}` does not have the operands it was built with")
            }
        }
    }
}

impl std::error::Error for BuildError {}

type Hasher = BuildHasherDefault<FxHasher>;

/// Where equal nodes are one: the extended block with this head. A frame state, which says how things are at a point,
/// is one only up to the next root that has an effect.
type Scope = (Block, u32);

/// A stretch of a block, with what locals are set to in it. A block is one stretch unless others are merged into it.
pub(crate) type Stretch = u32;

/// The block being filled, and its last stretch.
#[derive(Clone, Copy)]
struct Current {
    block: Block,
    head: Block,
    stretch: Stretch,
}

/// Where a block lies in its extended block.
#[derive(Clone, Copy)]
struct Place {
    head: Block,
    depth: u16,
    /// Its last stretch so far; none before it is begun.
    stretch: Option<Stretch>,
}

/// Builds one method.
pub struct Builder<'a, 'm> {
    module: &'m Module,
    method: Method<'a>,
    folding: Folding,
    /// Pure nodes, with where they are the one node of their value.
    numbers: HashTable<(Node, Scope)>,
    /// What a local was last set to in a stretch, or found to be.
    values: HashMap<(Stretch, Local), Node, Hasher>,
    /// By stretch: the one before it on the way from the head.
    stretches: Vec<Option<Stretch>>,
    /// By block.
    places: Vec<Place>,
    current: Option<Current>,
    /// How many roots with effects there have been.
    moment: u32,
    roots: Vec<Root>,
    position: SourcePos,
    error: Option<BuildError>,
}

impl<'a, 'm> Builder<'a, 'm> {
    /// Begins a method. Its parameters become locals named `p0`, `p1`, …
    pub fn new(arena: &'a Bump, module: &'m Module, id: MethodId, folding: Folding) -> Builder<'a, 'm> {
        let mut method = Method::new(arena, id);
        for (index, ty) in module.method_signature(id).params.iter().enumerate() {
            method.add_param(&format!("p{index}"), *ty);
        }
        Builder::resume(module, method, folding, 0)
    }

    /// Continues with a method that has locals and no blocks, and will have about `nodes` nodes.
    pub(crate) fn resume(
        module: &'m Module,
        method: Method<'a>,
        folding: Folding,
        nodes: usize,
    ) -> Builder<'a, 'm> {
        debug_assert_eq!(method.block_count(), 0, "every block is made by the builder");
        Builder {
            module,
            method,
            folding,
            numbers: HashTable::with_capacity(nodes),
            values: HashMap::default(),
            stretches: Vec::new(),
            places: Vec::new(),
            current: None,
            moment: 0,
            roots: Vec::new(),
            position: SourcePos::NONE,
            error: None,
        }
    }

    /// The method, for what the builder does not do.
    pub(crate) fn method_mut(&mut self) -> &mut Method<'a> {
        &mut self.method
    }

    /// The method as far as it is built.
    pub fn method(&self) -> &Method<'a> {
        &self.method
    }

    /// The declarations it refers to.
    pub fn module(&self) -> &'m Module {
        self.module
    }

    /// Ends the method.
    ///
    /// # Errors
    ///
    /// The first thing that the frontend did wrong.
    pub fn finish(mut self) -> Result<Method<'a>, BuildError> {
        if let Some(Current { block, .. }) = self.current {
            self.fail(BuildError::Unfilled { block });
        }
        let unfilled = self.method.blocks().find(|block| self.method.roots(*block).is_empty());
        match self.error.or(unfilled.map(|block| BuildError::Unfilled { block })) {
            Some(error) => Err(error),
            None => {
                if self.folding == Folding::On {
                    self.method.note_folded();
                }
                Ok(self.method)
            }
        }
    }

    fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }

    // ---- locals ----

    /// The local of a parameter.
    ///
    /// # Panics
    ///
    /// If the method has fewer parameters.
    pub fn param(&self, index: usize) -> Local {
        assert!(index < self.method.param_count(), "the signature has this parameter");
        Local::new(index)
    }

    /// Declares a local.
    pub fn local(&mut self, name: &str, ty: Type) -> Local {
        self.method.add_local(name, ty)
    }

    /// Declares a local whose address is taken.
    pub fn slot(&mut self, name: &str, size_bytes: u32, align: u32) -> Slot {
        self.method.add_slot(name, size_bytes, align)
    }

    /// The value of a local where the builder stands.
    pub fn get(&mut self, local: Local) -> Node {
        let ty = self.method.local(local).ty;
        let Some(Current { stretch, .. }) = self.current else { return self.stray(Opcode::Entry, ty) };
        self.get_at(stretch, local)
    }

    /// The value of a local at the end of a stretch on the way from the head to where the builder stands.
    pub(crate) fn get_at(&mut self, stretch: Stretch, local: Local) -> Node {
        let node = match self.known(stretch, local) {
            Some(node) => node,
            None => self.entry(local),
        };
        self.values.insert((stretch, local), node);
        node
    }

    /// The value of a local at the head of the extended block in hand.
    pub(crate) fn entry(&mut self, local: Local) -> Node {
        let ty = self.method.local(local).ty;
        let Some(Current { head, .. }) = self.current else { return self.stray(Opcode::Entry, ty) };
        self.number(head, Opcode::Entry, ty, &[], Payload::Local(local))
    }

    /// What a local is known to hold at the end of a stretch.
    fn known(&self, stretch: Stretch, local: Local) -> Option<Node> {
        let mut stretch = stretch;
        loop {
            if let Some(node) = self.values.get(&(stretch, local)) {
                return Some(*node);
            }
            stretch = self.stretches[stretch as usize]?;
        }
    }

    fn begin_stretch(&mut self, after: Option<Stretch>) -> Stretch {
        self.stretches.push(after);
        u32::try_from(self.stretches.len() - 1).expect("a method has fewer than 2^32 stretches")
    }

    /// Ends the stretch in hand, whose values can be asked for from now on, and begins another in the same block.
    pub(crate) fn next_stretch(&mut self) -> Option<Stretch> {
        let before = self.current?.stretch;
        let stretch = self.begin_stretch(Some(before));
        if let Some(current) = &mut self.current {
            current.stretch = stretch;
            self.places[current.block.index()].stretch = Some(stretch);
        }
        Some(before)
    }

    /// The stretch in hand.
    pub(crate) fn stretch(&self) -> Option<Stretch> {
        self.current.map(|current| current.stretch)
    }

    /// The roots so far of the block being filled.
    pub(crate) fn pending_roots(&self) -> &[Root] {
        &self.roots
    }

    /// How many blocks are above a block in its extended block.
    pub(crate) fn depth(&self, block: Block) -> u16 {
        self.places[block.index()].depth
    }

    /// Gives a local a value. Setting it to what it holds already leaves no root.
    pub fn set(&mut self, local: Local, value: Node) {
        if let Some(Current { stretch, .. }) = self.current {
            let before = self.values.insert((stretch, local), value);
            let above = self.stretches[stretch as usize];
            let before = before.or_else(|| above.and_then(|above| self.known(above, local)));
            let is_entry = self.method.payload(value) == Payload::Local(local);
            if self.folding == Folding::On && (before == Some(value) || before.is_none() && is_entry) {
                return;
            }
        }
        self.root(Opcode::Set, Type::Void, &[value], Payload::Local(local));
    }

    // ---- blocks ----

    /// Makes a head, to be filled later.
    pub fn block(&mut self) -> Block {
        let block = self.method.add_block(None, None);
        self.places.push(Place { head: block, depth: 0, stretch: None });
        block
    }

    /// Makes a block that continues the extended block of `parent`, which must become its only predecessor. None
    /// where that would be deeper than [`MAX_EXTENSION_DEPTH`]: then a head must do, and values must pass through locals.
    pub fn extension(&mut self, parent: Block) -> Option<Block> {
        let Place { head, depth, .. } = self.places[parent.index()];
        if depth + 1 >= MAX_EXTENSION_DEPTH {
            return None;
        }
        let handlers = self.method.block(parent).handlers;
        let block = self.method.add_block(Some(parent), handlers);
        self.places.push(Place { head, depth: depth + 1, stretch: None });
        Some(block)
    }

    /// Makes a list of handlers, for blocks to share.
    pub fn handlers(&mut self, handlers: &[Handler]) -> HandlerList {
        self.method.add_handlers(handlers)
    }

    /// Says which handlers a block has. An extension has those of its parent until told otherwise.
    pub fn set_handlers(&mut self, block: Block, handlers: Option<HandlerList>) {
        self.method.set_handlers(block, handlers);
    }

    /// Says how often a block runs.
    pub fn set_frequency(&mut self, block: Block, frequency: Frequency) {
        self.method.set_frequency(block, Some(frequency));
    }

    /// Begins to fill a block.
    pub fn switch_to(&mut self, block: Block) {
        if self.current.is_some() || !self.method.roots(block).is_empty() {
            self.fail(BuildError::BlockOrder { block });
        }
        let head = self.places[block.index()].head;
        let above = self.method.block(block).extends.and_then(|parent| self.places[parent.index()].stretch);
        let stretch = self.begin_stretch(above);
        self.places[block.index()].stretch = Some(stretch);
        self.roots.clear();
        self.current = Some(Current { block, head, stretch });
    }

    /// The block being filled.
    pub fn current(&self) -> Option<Block> {
        self.current.map(|current| current.block)
    }

    /// The source position of the roots that follow.
    pub fn at(&mut self, position: SourcePos) {
        self.position = position;
    }

    // ---- nodes ----

    /// Emits any operation: a root is appended to the block being filled, a pure node is simplified and numbered.
    /// `ty` is the type of the result, `Void` for none.
    pub fn emit(&mut self, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        if self.current.is_none() {
            return self.stray(opcode, ty);
        }
        if operands.len() > MAX_OPERANDS {
            self.fail(BuildError::TooManyOperands { opcode, operands: operands.len() });
            return self.stray(opcode, ty);
        }
        if self.folding == Folding::On
            && let Some(node) = fold::fold(self, opcode, ty, operands, payload)
        {
            return node;
        }
        self.emit_folded(opcode, ty, operands, payload)
    }

    /// The same for what is known not to fold.
    pub(crate) fn emit_folded(
        &mut self,
        opcode: Opcode,
        ty: Type,
        operands: &[Node],
        payload: Payload,
    ) -> Node {
        let Some(Current { head, .. }) = self.current else { return self.stray(opcode, ty) };
        let unless_proven = opcode.has(Properties::ROOT_UNLESS_PROVEN)
            && !operands.get(1).is_some_and(|divisor| self.method.is_proven_nonzero(*divisor));
        if opcode.has(Properties::ROOT) || unless_proven {
            self.root(opcode, ty, operands, payload)
        } else {
            self.number(head, opcode, ty, operands, payload)
        }
    }

    /// The one node of a value in its extended block.
    fn number(&mut self, head: Block, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        if self.folding == Folding::Off && !opcode.has(Properties::HEAD) {
            return self.method.add_node(opcode, ty, operands, payload);
        }
        let hasher = Hasher::default();
        let scope: Scope = (head, if opcode == Opcode::Frame { self.moment } else { 0 });
        let hash = hasher.hash_one((scope, opcode, ty, operands, payload));
        let method = &self.method;
        let found = self.numbers.find(hash, |(node, of)| {
            *of == scope
                && method.opcode(*node) == opcode
                && method.ty(*node) == ty
                && method.operands(*node) == operands
                && method.payload(*node) == payload
        });
        if let Some((node, _)) = found {
            return *node;
        }
        let node = self.method.add_node(opcode, ty, operands, payload);
        let method = &self.method;
        self.numbers.insert_unique(hash, (node, scope), |(node, of)| {
            let node = *node;
            let parts =
                (of, method.opcode(node), method.ty(node), method.operands(node), method.payload(node));
            hasher.hash_one(parts)
        });
        node
    }

    /// Appends a root, and ends the block if the root does.
    fn root(&mut self, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        let Some(Current { block, .. }) = self.current else { return self.stray(opcode, ty) };
        let node = self.method.add_node(opcode, ty, operands, payload);
        let effects = [Properties::WRITES, Properties::CALLS, Properties::YIELDS, Properties::SYNCHRONISES];
        self.moment += u32::from(effects.iter().any(|effect| opcode.has(*effect)));
        self.roots.push(Root { node, position: self.position });
        if opcode.has(Properties::TERMINATES) {
            self.method.set_roots(block, &self.roots);
            self.roots.clear();
            self.current = None;
        }
        node
    }

    /// A node that is nowhere: what a mistake yields until [`Builder::finish`] reports it.
    fn stray(&mut self, opcode: Opcode, ty: Type) -> Node {
        self.fail(BuildError::NoBlock { opcode, position: self.position });
        self.method.add_node(Opcode::Dead, ty, &[], Payload::None)
    }

    // ---- shorthands ----

    /// A constant, by its bits; those above the width of `ty` are dropped.
    pub fn constant(&mut self, ty: Type, bits: u64) -> Node {
        self.emit(Opcode::Const, ty, &[], Payload::Const(bits & ty.mask()))
    }

    /// A constant of 32 bits.
    pub fn i32(&mut self, value: i32) -> Node {
        self.constant(Type::I32, value as u32 as u64)
    }

    /// A constant of 64 bits.
    pub fn i64(&mut self, value: i64) -> Node {
        self.constant(Type::I64, value as u64)
    }

    /// A constant of 128 bits.
    pub fn wide(&mut self, bits: u128) -> Node {
        let wide = self.method.add_wide(bits);
        self.emit(Opcode::Const, Type::V128, &[], Payload::Wide(wide))
    }

    /// The VM context.
    pub fn context(&mut self) -> Node {
        self.emit(Opcode::Context, Type::Addr, &[], Payload::None)
    }

    /// An operation on operands of one type, without a payload: its result has their type, or the one that its row fixes.
    pub fn op(&mut self, opcode: Opcode, operands: &[Node]) -> Node {
        let first = operands.first().map_or(Type::Void, |node| self.method.ty(*node));
        let ty = match opcode.row().outcome {
            Outcome::Own(_) if opcode == Opcode::Select => {
                operands.get(1).map_or(Type::Void, |node| self.method.ty(*node))
            }
            Outcome::Own(_) => first,
            Outcome::Fixed(ty) => ty,
            Outcome::Nothing | Outcome::Signature => Type::Void,
        };
        self.emit(opcode, ty, operands, Payload::None)
    }

    /// An operation whose result has a type of its own: a conversion.
    pub fn convert(&mut self, opcode: Opcode, ty: Type, operand: Node) -> Node {
        self.emit(opcode, ty, &[operand], Payload::None)
    }

    /// A check or checked operation that raises with a reason; the kind is the lowest of its row.
    pub fn checked(&mut self, opcode: Opcode, ty: Type, operands: &[Node], reason: u16) -> Node {
        match opcode.row().raises.iter().next() {
            Some(kind) => self.emit(opcode, ty, operands, Payload::Raise(kind, reason)),
            None => {
                self.fail(BuildError::WrongShape { opcode });
                self.stray(opcode, ty)
            }
        }
    }

    /// Raises unless the condition holds.
    pub fn check(&mut self, condition: Node, kind: RaiseKind, reason: u16) {
        self.emit(Opcode::Check, Type::Void, &[condition], Payload::Raise(kind, reason));
    }

    /// Reads memory.
    pub fn load(&mut self, ty: Type, access: Access, base: Node, index: Option<Node>) -> Node {
        match index {
            Some(index) => self.emit(Opcode::Load, ty, &[base, index], Payload::Access(access)),
            None => self.emit(Opcode::Load, ty, &[base], Payload::Access(access)),
        }
    }

    /// Writes memory.
    pub fn store(&mut self, access: Access, value: Node, base: Node, index: Option<Node>) {
        match index {
            Some(index) => {
                self.emit(Opcode::Store, Type::Void, &[value, base, index], Payload::Access(access))
            }
            None => self.emit(Opcode::Store, Type::Void, &[value, base], Payload::Access(access)),
        };
    }

    /// Calls a method; the node is its first result.
    pub fn call(&mut self, callee: MethodId, args: &[Node]) -> Node {
        let ty = self.module.method_signature(callee).outcome();
        self.emit(Opcode::Call, ty, args, Payload::Method(callee))
    }

    /// Calls a native function; the node is its first result.
    pub fn call_native(&mut self, callee: NativeId, args: &[Node]) -> Node {
        let ty = self.module.native_signature(callee).outcome();
        self.emit(Opcode::CallNative, ty, args, Payload::Native(callee))
    }

    /// Calls the method at an address: operands are address, context, then the arguments.
    pub fn call_indirect(&mut self, signature: SignatureId, operands: &[Node]) -> Node {
        let ty = self.module.signatures[signature].outcome();
        self.emit(Opcode::CallIndirect, ty, operands, Payload::Signature(signature))
    }

    /// A further result of a call, from 1; 0 is the call itself.
    pub fn result(&mut self, ty: Type, call: Node, index: u32) -> Node {
        match index {
            0 => call,
            _ => self.emit(Opcode::Result, ty, &[call], Payload::Index(index)),
        }
    }

    /// A frame state: locals, stack, monitors, and the parent frame if there is one.
    pub fn frame(&mut self, data: FrameData, values: &[Node]) -> Node {
        let info = self.method.add_frame(data);
        self.emit(Opcode::Frame, Type::Void, values, Payload::Frame(info))
    }

    /// A guard: leaves through the frame state when an assumption fails.
    pub fn guard(&mut self, assumptions: &[Assumption], frame: Node) {
        let info = self.method.add_guard(assumptions, None);
        self.emit(Opcode::Guard, Type::Void, &[frame], Payload::Guard(info));
    }

    /// Ends the block: continues at another.
    pub fn goto(&mut self, block: Block) {
        self.emit(Opcode::Goto, Type::Void, &[], Payload::Goto(block));
    }

    /// Ends the block: continues at `then` if the condition is not zero, else at `otherwise`.
    pub fn branch(&mut self, condition: Node, then: Block, otherwise: Block) {
        self.emit(Opcode::Branch, Type::Void, &[condition], Payload::Branch(then, otherwise));
    }

    /// Ends the block: continues at the case of the value, else at the default. Of several cases of one value the
    /// first counts.
    pub fn switch(&mut self, value: Node, cases: &[(u64, Block)], default: Block) {
        let mask = self.method.ty(value).mask();
        let mut cases: Vec<(u64, Block)> = cases.iter().map(|(bits, block)| (bits & mask, *block)).collect();
        cases.sort_by_key(|(bits, _)| *bits);
        cases.dedup_by_key(|(bits, _)| *bits);
        let table = self.method.add_switch(&cases, default);
        self.emit(Opcode::Switch, Type::Void, &[value], Payload::Switch(table));
    }

    /// Ends the block: returns values.
    pub fn ret(&mut self, values: &[Node]) {
        self.emit(Opcode::Return, Type::Void, values, Payload::None);
    }

    /// Ends the block: raises.
    pub fn raise(&mut self, kind: RaiseKind, reason: u16) {
        self.emit(Opcode::Raise, Type::Void, &[], Payload::Raise(kind, reason));
    }

    /// Ends the block: throws an exception object.
    pub fn throw(&mut self, object: Node) {
        self.emit(Opcode::Throw, Type::Void, &[object], Payload::None);
    }
}
