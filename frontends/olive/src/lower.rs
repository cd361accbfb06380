//! From a method's bytecode to a method of the IL, in one pass over its operations.
//!
//! ```text
//!   on the stack, inside an extended block:  nodes
//!   across joins:                            locals `s<depth>_<type>`, the homes of the stack's places
//!   parameters, variables:                   parameters `p<index>`, locals `v_<name>`
//!   monitors that are held:                  locals `m<depth>`
//! ```
//!
//! # How
//!
//! A conditional jump goes on in an *extension* of the block that it ends, and so does a label that one jump alone reaches:
//! values stay nodes. Other labels are *heads*, which the stack reaches in its homes. A handler of the IL learns what was
//! raised; if it is no exception object yet but a kind, the prelude makes one, and all goes on at the handler's label.
//!
//! # Frame states
//!
//! Every root that may raise or yield says which frame it interrupts. The position is the index of an operation, the mode says
//! how the interpreter goes on there:
//!
//! ```text
//!   reexecute   at the operation: checks, with its operands still on the stack; polls, at the label that is jumped to
//!   after       behind the operation, with what it yields pushed: calls, allocations, monitors
//!   raise       at a handler's first operation, with what is yielded as the exception: making one for a kind
//! ```
//!
//! Locals that nobody will read are `dead`; monitors are those held, the last one last.
//!
//! # Calls
//!
//! A program's classes are all there will be. So a virtual or interface call for which there is one method, of all that objects
//! of the receiver's type have, is a direct call of it, and as such may be inlined.
//!
//! # Guarantees
//!
//! This file and its children know the IL and programs, and nothing of the runtime.

use std::collections::BTreeMap;

use bumpalo::Bump;
use dagwood_il as il;
use il::entity::EntityVec;
use il::profile::MethodProfile;
use il::{
    Assumption, Block, BuildError, Builder, Folding, FrameData, FrameMode, Handler, HandlerList, KindSet,
    Local, MethodId, Module, Node, Opcode, Payload, RaiseKind, SourcePos, Type,
};

use crate::liveness::Liveness;
use crate::program::{LabelId, Method, Op, Program};
use crate::verify::Walk;

mod declare;
mod effects;
mod operation;

use declare::Declared;

/// The lowering of one program.
#[derive(Clone, Debug)]
pub struct Lowering<'p> {
    program: &'p Program,
    declared: Declared,
    folding: Folding,
    exits: Exits,
}

/// Where methods can be left for the interpreter of the bytecode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exits {
    /// Nowhere.
    #[default]
    None,
    /// Before every operation: a guard stands there, whose assumption is the frontend's own of the operation's index. For tests of
    /// frame states.
    Everywhere,
}

impl<'p> Lowering<'p> {
    /// The lowering of a program. It looks at all bodies, to declare what calls of them may do.
    pub fn new(program: &'p Program, folding: Folding) -> Lowering<'p> {
        let declared = declare::declare(program);
        let mut lowering = Lowering { program, declared, folding, exits: Exits::None };
        let mut own = EntityVec::new();
        let mut arena = Bump::new();
        for id in program.methods.keys() {
            arena.reset();
            let method = lowering.lower(id, None, &arena).expect("what is verified can be lowered");
            own.push(effects::Own::of(lowering.module(), &method));
        }
        for (id, effects) in effects::solve(own).iter() {
            lowering.declared.module.methods[id].effects = effects.clone();
        }
        lowering
    }

    /// The same, but for where methods can be left.
    pub fn with_exits(self, exits: Exits) -> Lowering<'p> {
        Lowering { exits, ..self }
    }

    /// The declarations.
    pub fn module(&self) -> &Module {
        &self.declared.module
    }

    /// The program.
    pub fn program(&self) -> &'p Program {
        self.program
    }

    /// Lowers a method. If it has been observed, its blocks say how often they run.
    ///
    /// # Errors
    ///
    /// If this file is wrong.
    pub fn lower<'a>(
        &self,
        id: MethodId,
        profile: Option<&MethodProfile>,
        arena: &'a Bump,
    ) -> Result<il::Method<'a>, BuildError> {
        let method = &self.program.methods[id];
        let lower = Lower {
            cx: self,
            id,
            method,
            profile,
            b: Builder::new(arena, self.module(), id, self.folding),
            walk: Walk::new(self.program, method).expect("the program is verified"),
            live: Liveness::compute(method),
            stack: Vec::new(),
            homes: BTreeMap::new(),
            monitors: Vec::new(),
            locals: Vec::new(),
            places: BTreeMap::new(),
            depth: 0,
            handlers: None,
            lists: BTreeMap::new(),
            catchers: BTreeMap::new(),
        };
        lower.run()
    }
}

/// How a place in the code that has labels is reached.
#[derive(Clone, Debug)]
enum Reached {
    /// By one jump, which comes before it: the extension that the jump leaves, and the stack and depth there.
    ByOne(Option<(Block, Vec<Node>, u16)>),
    /// From several places: a head.
    ByMany(Block),
}

/// Lowers one method.
struct Lower<'a, 'm> {
    cx: &'m Lowering<'m>,
    id: MethodId,
    method: &'m Method,
    profile: Option<&'m MethodProfile>,
    b: Builder<'a, 'm>,
    /// Knows the types on the stack and the monitors held.
    walk: Walk<'m>,
    live: Liveness,
    /// The values on the stack.
    stack: Vec<Node>,
    /// By depth and type: the homes of the stack's places.
    homes: BTreeMap<(usize, u8), Local>,
    monitors: Vec<Local>,
    locals: Vec<Local>,
    /// The places with labels, by operation. Those that are only fallen into are none.
    places: BTreeMap<usize, Reached>,
    /// How deep in its extended block the block being filled is.
    depth: u16,
    /// The handlers that the block being filled has; none while nothing in it may raise.
    handlers: Option<Vec<(il::ClassId, LabelId)>>,
    lists: BTreeMap<Vec<(il::ClassId, LabelId)>, HandlerList>,
    /// The handlers' blocks of the IL, which are filled last.
    catchers: BTreeMap<(il::ClassId, LabelId), Block>,
}

impl<'a> Lower<'a, '_> {
    fn run(mut self) -> Result<il::Method<'a>, BuildError> {
        let entry = self.b.block();
        self.survey();
        self.b.switch_to(entry);
        self.begin();
        while self.arrive() {
            let op = &self.method.code[self.walk.at];
            self.b.at(SourcePos(self.walk.at as u32));
            if op.may_raise() {
                self.cover();
            }
            if self.cx.exits == Exits::Everywhere {
                let frame = self.before();
                self.b.guard(&[Assumption::Custom(self.walk.at as u32)], frame);
            }
            self.operation(op);
            self.walk.step().expect("the program is verified");
        }
        while let Some(((class, target), block)) = self.catchers.pop_first() {
            self.catch(class, target, block);
        }
        self.b.finish()
    }

    /// Finds how the places with labels are reached.
    fn survey(&mut self) {
        let method = self.method;
        // How often it is jumped to, the first jump, and whether it is a handler's.
        let mut jumps: BTreeMap<usize, (u32, usize)> = BTreeMap::new();
        for label in &method.labels {
            jumps.entry(label.at as usize).or_insert((0, 0));
        }
        for (at, op) in method.code.iter().enumerate() {
            for label in op.targets() {
                let place = jumps.entry(method.label(label).at as usize).or_default();
                *place = (place.0 + 1, at);
            }
        }
        for handler in &method.handlers {
            jumps.entry(method.label(handler.target).at as usize).or_default().0 += 2;
        }
        jumps.remove(&method.code.len());
        for (place, (count, last)) in jumps {
            let is_fallen_into = place == 0 || !method.code[place - 1].is_last();
            let reached = match (count, is_fallen_into) {
                (0, _) => continue,
                (1, false) if last < place => Reached::ByOne(None),
                _ => Reached::ByMany(self.b.block()),
            };
            self.places.insert(place, reached);
        }
    }

    /// Gives all locals their first values.
    fn begin(&mut self) {
        self.frequency(0);
        for (index, local) in self.method.locals.iter().enumerate() {
            if index < self.method.params {
                self.locals.push(self.b.param(index));
                continue;
            }
            let ty = local.ty.lowered();
            let zero = self.b.constant(ty, 0);
            let variable = self.b.local(&format!("v_{}", local.name), ty);
            self.b.set(variable, zero);
            self.locals.push(variable);
        }
    }

    /// Arrives at the next operation, in the block where it belongs; false at the end of the code.
    fn arrive(&mut self) -> bool {
        let at = self.walk.at;
        if let Some(reached) = self.places.get(&at).cloned() {
            match reached {
                Reached::ByMany(head) => {
                    if self.b.current().is_some() {
                        self.settle();
                        self.b.goto(head);
                    }
                    self.walk.arrive().expect("the program is verified");
                    self.begin_head(head);
                }
                Reached::ByOne(jump) => {
                    let (block, stack, depth) = jump.expect("the jump comes before the label");
                    self.begin_block(block, depth);
                    self.stack = stack;
                }
            }
            self.frequency(at);
        }
        self.walk.arrive().expect("the program is verified")
    }

    fn frequency(&mut self, at: usize) {
        let frequency = self.profile.and_then(|profile| profile.frequency(SourcePos(at as u32)));
        if let (Some(frequency), Some(block)) = (frequency, self.b.current()) {
            self.b.set_frequency(block, frequency);
        }
    }

    // ---- blocks ----

    fn begin_block(&mut self, block: Block, depth: u16) {
        self.b.switch_to(block);
        self.b.set_handlers(block, None);
        (self.depth, self.handlers) = (depth, None);
    }

    /// Begins to fill a head; what is on the stack, by its types, is at home.
    fn begin_head(&mut self, head: Block) {
        self.begin_block(head, 0);
        self.stack = (0..self.walk.stack.len()).map(|depth| self.at_home(depth)).collect();
    }

    /// Begins a new extended block if this one is about as deep as they get.
    fn make_room(&mut self) {
        if self.depth + 2 >= il::MAX_EXTENSION_DEPTH {
            self.settle();
            let head = self.b.block();
            self.b.goto(head);
            self.begin_head(head);
        }
    }

    /// A block that continues the one being filled.
    fn extension(&mut self) -> Block {
        let block = self.b.current().expect("an operation stands in a block");
        self.b.extension(block).expect("`make_room` leaves room for an extension")
    }

    /// Sees to it that the block being filled has the handlers of the operation.
    fn cover(&mut self) {
        let object = self.cx.program.known.object;
        let mut handlers = Vec::new();
        for handler in self.method.handlers_at(self.walk.at) {
            handlers.push((handler.class, handler.target));
            if handler.class == object {
                break;
            }
        }
        if self.handlers.as_ref().is_some_and(|own| *own != handlers) {
            self.make_room();
            let next = self.extension();
            self.b.goto(next);
            self.begin_block(next, self.depth + 1);
        }
        if self.handlers.is_none() && !handlers.is_empty() {
            let list = self.handler_list(&handlers);
            let block = self.b.current().expect("an operation stands in a block");
            self.b.set_handlers(block, Some(list));
        }
        self.handlers = Some(handlers);
    }

    fn handler_list(&mut self, handlers: &[(il::ClassId, LabelId)]) -> HandlerList {
        if let Some(list) = self.lists.get(handlers) {
            return *list;
        }
        let mut own = Vec::new();
        for (class, target) in handlers {
            let block = *self.catchers.entry((*class, *target)).or_insert_with(|| self.b.block());
            own.push(Handler { kinds: self.kinds(*class).union(KindSet::GUEST), class: Some(*class), block });
        }
        let list = self.b.handlers(&own);
        self.lists.insert(handlers.to_vec(), list);
        list
    }

    /// The kinds of raises that are exceptions of a class.
    fn kinds(&self, class: il::ClassId) -> KindSet {
        let program = self.cx.program;
        let faults = program.known.faults.iter().filter(|(_, fault)| program.is_subclass(*fault, class));
        faults.fold(KindSet::NONE, |kinds, (kind, _)| kinds.union(KindSet::one(*kind)))
    }

    /// Fills a handler's block of the IL.
    fn catch(&mut self, class: il::ClassId, target: LabelId, block: Block) {
        let label = self.method.label(target);
        let at = label.at as usize;
        self.b.at(SourcePos(label.at));
        self.begin_block(block, 0);
        let Some(Reached::ByMany(head)) = self.places.get(&at).cloned() else {
            unreachable!("a handler's label is a head");
        };
        let caught = self.b.emit(Opcode::Caught, Type::Ref, &[], Payload::None);
        let home = self.home(0, Type::Ref);
        if !self.kinds(class).is_empty() {
            let null = self.b.constant(Type::Ref, 0);
            let is_kind = self.b.op(Opcode::Eq, &[caught, null]);
            let (make, is_object) = (self.extension(), self.extension());
            self.b.branch(is_kind, make, is_object);
            self.begin_block(make, 1);
            let code = self.b.emit(Opcode::CaughtKind, Type::I32, &[], Payload::None);
            let mask = self.b.i32(0xff);
            let kind = self.b.op(Opcode::And, &[code, mask]);
            self.walk.locks = label.locks;
            let frame = self.frame(FrameMode::Raise, at, &[], |live, local| live.is_live_before(at, local));
            let made = self.b.call(self.cx.program.known.fault_of, &[kind, frame]);
            self.b.set(home, made);
            self.b.goto(head);
            self.begin_block(is_object, 1);
        }
        self.b.set(home, caught);
        self.b.goto(head);
    }

    // ---- the stack, monitors, frames ----

    /// The local that holds the value of a place on the stack across joins.
    fn home(&mut self, depth: usize, ty: Type) -> Local {
        let b = &mut self.b;
        *self.homes.entry((depth, ty as u8)).or_insert_with(|| b.local(&format!("s{depth}_{ty}"), ty))
    }

    fn at_home(&mut self, depth: usize) -> Node {
        let home = self.home(depth, self.walk.stack[depth].lowered());
        self.b.get(home)
    }

    /// Brings every value on the stack home.
    fn settle(&mut self) {
        for depth in 0..self.stack.len() {
            let value = self.stack[depth];
            let home = self.home(depth, self.b.method().ty(value));
            self.b.set(home, value);
        }
    }

    fn monitor(&mut self, depth: usize) -> Local {
        while self.monitors.len() <= depth {
            let local = self.b.local(&format!("m{}", self.monitors.len()), Type::Ref);
            self.monitors.push(local);
        }
        self.monitors[depth]
    }

    /// A frame state at an operation, with these values on the stack and the monitors held here.
    fn frame(
        &mut self,
        mode: FrameMode,
        at: usize,
        stack: &[Node],
        is_live: impl Fn(&Liveness, usize) -> bool,
    ) -> Node {
        let mut values = Vec::with_capacity(self.locals.len() + stack.len());
        for index in 0..self.locals.len() {
            values.push(match is_live(&self.live, index) {
                true => self.b.get(self.locals[index]),
                false => self.b.emit(Opcode::Dead, Type::Void, &[], Payload::None),
            });
        }
        values.extend(stack);
        for depth in 0..self.walk.locks as usize {
            let monitor = self.monitor(depth);
            values.push(self.b.get(monitor));
        }
        let data = FrameData {
            method: self.id,
            position: SourcePos(at as u32),
            mode,
            locals: self.locals.len() as u16,
            stack: stack.len() as u16,
            monitors: self.walk.locks as u16,
        };
        self.b.frame(data, &values)
    }

    /// The frame before the operation, with its operands on the stack.
    fn before(&mut self) -> Node {
        let (at, stack) = (self.walk.at, self.stack.clone());
        self.frame(FrameMode::Reexecute, at, &stack, |live, local| live.is_live_before(at, local))
    }

    /// The frame behind the operation, without what it yields.
    fn after(&mut self) -> Node {
        let (at, stack) = (self.walk.at, self.stack.clone());
        self.frame(FrameMode::After, at, &stack, |live, local| live.is_live_after(at, local))
    }

    // ---- jumps ----

    /// The block to which a conditional jump goes; where the edge needs a block of its own, it is to be filled by
    /// [`Lower::finish_edges`].
    fn edge(&mut self, label: LabelId, edges: &mut Vec<(Block, usize)>) -> Block {
        let place = self.method.label(label).at as usize;
        let is_back = place <= self.walk.at;
        match self.places.get(&place) {
            Some(Reached::ByMany(head)) if !is_back && self.stack.is_empty() => *head,
            Some(Reached::ByMany(_)) => {
                if let Some((block, _)) = edges.iter().find(|(_, known)| *known == place) {
                    return *block;
                }
                let block = self.extension();
                edges.push((block, place));
                block
            }
            _ => {
                let block = self.extension();
                let state = (block, self.stack.clone(), self.depth + 1);
                self.places.insert(place, Reached::ByOne(Some(state)));
                block
            }
        }
    }

    /// Fills the blocks of edges, once the block that they leave has ended.
    fn finish_edges(&mut self, edges: Vec<(Block, usize)>) {
        let depth = self.depth;
        for (block, place) in edges {
            self.begin_block(block, depth + 1);
            self.depart(place);
        }
        self.depth = depth;
    }

    /// Ends the block: goes on at a place that is a head.
    fn depart(&mut self, place: usize) {
        let Some(Reached::ByMany(head)) = self.places.get(&place).cloned() else {
            unreachable!("other places are extensions");
        };
        if place <= self.walk.at {
            let stack = self.stack.clone();
            let frame = self
                .frame(FrameMode::Reexecute, place, &stack, |live, local| live.is_live_before(place, local));
            self.b.emit(Opcode::Poll, Type::Void, &[frame], Payload::None);
        }
        self.settle();
        self.b.goto(head);
    }

    fn jump(&mut self, label: LabelId) {
        let place = self.method.label(label).at as usize;
        if let Some(Reached::ByMany(_)) = self.places.get(&place) {
            return self.depart(place);
        }
        self.make_room();
        let next = self.edge(label, &mut Vec::new());
        self.b.goto(next);
    }

    /// Goes to a label if the condition is not zero, or if it is.
    fn branch(&mut self, op: &Op, label: LabelId) {
        self.make_room();
        let condition = self.pop();
        let mut edges = Vec::new();
        let (there, next) = (self.edge(label, &mut edges), self.extension());
        match op {
            Op::If(_) => self.b.branch(condition, there, next),
            _ => self.b.branch(condition, next, there),
        }
        self.finish_edges(edges);
        self.begin_block(next, self.depth + 1);
        self.frequency(self.walk.at + 1);
    }

    fn switch(&mut self, cases: &[(i32, LabelId)], other: LabelId) {
        self.make_room();
        let value = self.pop();
        let mut edges = Vec::new();
        let mut blocks = Vec::with_capacity(cases.len());
        for (case, label) in cases {
            blocks.push((*case as u32 as u64, self.edge(*label, &mut edges)));
        }
        let other = self.edge(other, &mut edges);
        self.b.switch(value, &blocks, other);
        self.finish_edges(edges);
    }

    fn pop(&mut self) -> Node {
        self.stack.pop().expect("the verifier has seen that there is a value")
    }

    /// A root that raises, with the frame before the operation: a check that yields its first operand.
    fn check(&mut self, opcode: Opcode, operands: &[Node], kind: RaiseKind) -> Node {
        let ty = self.b.method().ty(operands[0]);
        let mut operands = operands.to_vec();
        operands.push(self.before());
        self.b.emit(opcode, ty, &operands, Payload::Raise(kind, 0))
    }
}
