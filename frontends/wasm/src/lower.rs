//! From a function's body to a method of the IL, in one pass over its operators.
//!
//! ```text
//!   wasm stack, inside an extended block:   nodes
//!   across the joins of control flow:       locals `s<depth>_<type>`, the homes of the stack's places
//!   wasm locals:                            parameters `p<index>`, locals `l<index>`
//! ```
//!
//! # How
//!
//! `br_if` and `if` go on in an *extension* of the block that they end, so that values stay nodes. A label that is
//! branched to and the header of a loop are *heads*: what is on the stack reaches them in its home. Everything below
//! a control instruction is brought home once, when the control instruction begins, so that no branch has to; it
//! costs a root only where a compiler left values on the stack there. A label that nobody branches to makes no join,
//! and code that cannot be reached is skipped.
//!
//! # Guarantees
//!
//! * No recursion: nesting lives on a stack of frames. Nodes are bounded by [`MAX_NODES`], also where operators stand
//!   for many (a branch table whose targets take many values).
//! * Every trap is a check of the IL with kind and reason, so that later passes may prove and remove it.
//! * This file and its children know the IL and `wasmparser`, and nothing of the runtime.

use bumpalo::Bump;
use dagwood_il as il;
use il::{
    Access, Block, Builder, HandlerList, Local, MethodId, Node, Opcode, Payload, Place, SourcePos, Type,
};
use smallvec::SmallVec;
use wasmparser::{BinaryReader, FunctionBody, Operator, OperatorsReader};

use crate::error::{Error, ErrorKind};
use crate::layout::INSTANCE;
use crate::module::Module;

mod calls;
mod control;
mod declare;
mod exceptions;
mod facts;
mod memory;
mod numeric;
mod survey;
mod tables;

use control::Frame;
pub use declare::{Lowering, MethodKind, NATIVES, Native, NativeFunction, Options, Program};
use facts::{Facts, View};
use survey::{Region, survey};

/// Nodes of a method.
pub const MAX_NODES: usize = 1 << 23;

/// Types, where there are few of them.
type Types = SmallVec<[Type; 2]>;

/// A value on the stack.
#[derive(Clone, Copy)]
struct Operand {
    ty: Type,
    /// The value, and the number of the extended block in which it can be used; elsewhere, it is at home.
    node: Option<(Node, u32)>,
}

/// Where the builder stands.
#[derive(Clone, Copy)]
struct Position {
    block: Block,
    /// The number of the extended block, from 1.
    head: u32,
    /// How deep in the extended block.
    depth: u16,
}

/// Lowers one function.
struct Lower<'a, 'm> {
    cx: &'m Lowering,
    module: &'m Module,
    b: Builder<'a, 'm>,
    stack: Vec<Operand>,
    /// How many of the values on the stack, from the bottom, are at home.
    settled: usize,
    frames: Vec<Frame>,
    locals: Vec<Local>,
    /// By depth on the stack: the homes, by type.
    homes: Vec<[Option<Local>; HOME_TYPES]>,
    place: Position,
    heads: u32,
    facts: Facts,
    /// The function and its loops.
    regions: Vec<Region>,
    /// How many of them have begun.
    begun: usize,
    /// What of the first memory is kept in locals here.
    kept: Kept,
    /// The handlers in force.
    handlers: Option<HandlerList>,
    is_reachable: bool,
    /// How many control instructions that cannot be reached are open.
    skipped: usize,
    /// Where in the module the operator is.
    offset: u64,
}

/// Locals that hold what the context says of the first memory; see [`survey`].
#[derive(Clone, Copy, Default)]
struct Kept {
    address: Option<Local>,
    length: Option<Local>,
}

/// How many types a value on the stack can have.
const HOME_TYPES: usize = 5;

impl Lowering {
    /// Lowers a method of the module.
    ///
    /// # Errors
    ///
    /// `Limit` if the method would have more than [`MAX_NODES`] nodes, `Bug` if this compiler is wrong, `Usage` if it is
    /// a method of another module.
    pub fn lower<'a>(&self, method: MethodId, arena: &'a Bump) -> Result<il::Method<'a>, Error> {
        match self.kind(method) {
            Some(MethodKind::Function(function)) => self.lower_function(function, arena),
            Some(MethodKind::Host(ty)) => self.lower_host(method, ty, arena),
            None => Err(Error::new(ErrorKind::Usage, format!("{method} is a method of another module"))),
        }
    }

    fn lower_function<'a>(&self, function: u32, arena: &'a Bump) -> Result<il::Method<'a>, Error> {
        let module = self.module();
        let defined = function as usize - module.imported_functions;
        let range = module.bodies[defined].clone();
        let reader =
            BinaryReader::new_features(&module.bytes[range.clone()], range.start as u64, crate::FEATURES);
        let body = FunctionBody::new(reader);
        let mut b = Builder::new(arena, self.declarations(), self.method(function), self.options().folding);
        let entry = b.block();
        b.switch_to(entry);
        let mut lower = Lower {
            cx: self,
            module,
            b,
            stack: Vec::new(),
            settled: 0,
            frames: Vec::new(),
            locals: Vec::new(),
            homes: Vec::new(),
            place: Position { block: entry, head: 1, depth: 0 },
            heads: 1,
            facts: Facts::default(),
            regions: survey(body.get_operators_reader()?)?,
            begun: 0,
            kept: Kept::default(),
            handlers: None,
            is_reachable: true,
            skipped: 0,
            offset: range.start as u64,
        };
        lower.b.at(SourcePos(range.start as u32));
        lower.begin(function, &body)?;
        lower.operators(body.get_operators_reader()?)?;
        lower.b.finish().map_err(|error| {
            let name = module.function_name(function);
            Error::at(ErrorKind::Bug, range.start as u64, format!("lowering of {name}: {error}"))
        })
    }

    /// The way from a call to a host function: its context says which, and the native function of the type calls it.
    fn lower_host<'a>(&self, method: MethodId, ty: u32, arena: &'a Bump) -> Result<il::Method<'a>, Error> {
        let ty_data = &self.module().types[ty as usize];
        let mut b = Builder::new(arena, self.declarations(), method, self.options().folding);
        let entry = b.block();
        b.switch_to(entry);
        let context = b.context();
        let access =
            Access { place: Place::Symbol(self.symbols().instance), offset: INSTANCE as i32, scale: 1 };
        let mut args = vec![b.load(Type::I64, access, context, None)];
        for index in 0..ty_data.params.len() {
            let param = b.param(index);
            args.push(b.get(param));
        }
        let call = b.call_native(self.host_native(ty), &args);
        let results = ty_data.results.iter().enumerate();
        let results: Vec<Node> =
            results.map(|(index, ty)| b.result(ty.lowered(), call, index as u32)).collect();
        b.ret(&results);
        b.finish().map_err(|error| Error::new(ErrorKind::Bug, format!("lowering of host calls: {error}")))
    }
}

impl Lower<'_, '_> {
    /// Gives all locals their first values, and opens the frame of the function.
    fn begin(&mut self, function: u32, body: &FunctionBody<'_>) -> Result<(), Error> {
        let ty = self.module.function_type(function);
        self.locals.extend((0..ty.params.len()).map(|index| self.b.param(index)));
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            let ty = crate::ValType::from_parser(ty).map_or(Type::I64, crate::ValType::lowered);
            let zero = self.b.constant(ty, 0);
            for _ in 0..count {
                let local = self.b.local(&format!("l{}", self.locals.len()), ty);
                self.b.set(local, zero);
                self.locals.push(local);
            }
        }
        self.frames.push(Frame::function(ty));
        if self.regions[0].uses_memory {
            let address = self.address(View::Memory(0));
            self.kept.address = Some(self.keep("mem0_base", address));
        }
        self.begin_region();
        self.poll();
        Ok(())
    }

    fn operators(&mut self, mut reader: OperatorsReader<'_>) -> Result<(), Error> {
        while !reader.eof() {
            self.offset = reader.original_position();
            let operator = reader.read()?;
            self.b.at(SourcePos(self.offset as u32));
            if self.is_reachable {
                self.operator(&operator)?;
            } else {
                self.skip(&operator);
            }
            self.bound()?;
        }
        Ok(())
    }

    /// Refuses methods that are too large.
    fn bound(&self) -> Result<(), Error> {
        if self.b.method().node_count() <= MAX_NODES {
            return Ok(());
        }
        let message = format!("a function takes at most {MAX_NODES} nodes of the IL");
        Err(Error::at(ErrorKind::Limit, self.offset, message))
    }

    /// Passes over what cannot be reached.
    fn skip(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. } => {
                self.skipped += 1;
            }
            Operator::End if self.skipped > 0 => self.skipped -= 1,
            Operator::End => self.end(),
            Operator::Else if self.skipped == 0 => self.otherwise(),
            _ => {}
        }
    }

    fn operator(&mut self, operator: &Operator<'_>) -> Result<(), Error> {
        match operator {
            Operator::Nop => {}
            Operator::Drop => {
                self.pop();
            }
            Operator::Select | Operator::TypedSelect { .. } => self.select(),
            Operator::LocalGet { local_index } => {
                let value = self.b.get(self.locals[*local_index as usize]);
                self.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.b.set(self.locals[*local_index as usize], value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop();
                self.push(value);
                self.b.set(self.locals[*local_index as usize], value);
            }
            Operator::GlobalGet { global_index } => self.global_get(*global_index),
            Operator::GlobalSet { global_index } => self.global_set(*global_index),
            _ => {
                let is_lowered = self.control(operator)?
                    || self.numeric(operator)
                    || self.memory_operator(operator)
                    || self.table_operator(operator);
                if !is_lowered {
                    let message = format!("an operator that validation should refuse: {operator:?}");
                    return Err(Error::new(ErrorKind::Bug, message));
                }
            }
        }
        Ok(())
    }

    fn select(&mut self) {
        let condition = self.pop();
        let otherwise = self.pop();
        let then = self.pop();
        let value = self.b.op(Opcode::Select, &[condition, then, otherwise]);
        self.push(value);
    }

    /// Enters the function or the next loop: reads the length of the memory if nothing in there changes it.
    fn begin_region(&mut self) {
        let region = self.regions[self.begun];
        if region.uses_memory && !region.may_grow && self.kept.length.is_none() {
            let length = self.length(View::Memory(0));
            self.kept.length = Some(self.keep(&format!("mem0_length{}", self.begun), length));
        }
        self.begun += 1;
    }

    /// Keeps a value in a local of its own.
    fn keep(&mut self, name: &str, value: Node) -> Local {
        let local = self.b.local(name, self.b.method().ty(value));
        self.b.set(local, value);
        local
    }

    /// A place where a thread may be asked to stop, if the options ask for such places.
    fn poll(&mut self) {
        if self.cx.options().polls {
            self.b.emit(Opcode::Poll, Type::Void, &[], Payload::None);
        }
    }

    // ---- the stack ----

    fn push(&mut self, node: Node) {
        let ty = self.b.method().ty(node);
        self.stack.push(Operand { ty, node: Some((node, self.place.head)) });
    }

    /// Pushes a value of which only the home is known.
    fn push_home(&mut self, ty: Type) {
        debug_assert_eq!(self.settled, self.stack.len(), "what is below a value at home is at home");
        self.stack.push(Operand { ty, node: None });
        self.settled = self.stack.len();
    }

    fn pop(&mut self) -> Node {
        let depth = self.stack.len() - 1;
        let node = self.peek(depth);
        self.stack.truncate(depth);
        self.settled = self.settled.min(depth);
        node
    }

    /// The last `count` values, which leave the stack.
    fn pop_many(&mut self, count: usize) -> SmallVec<[Node; 8]> {
        let first = self.stack.len() - count;
        let nodes = (first..self.stack.len()).map(|depth| self.peek(depth)).collect();
        self.stack.truncate(first);
        self.settled = self.settled.min(first);
        nodes
    }

    /// The value at a depth, where the builder stands.
    fn peek(&mut self, depth: usize) -> Node {
        let operand = self.stack[depth];
        if let Some((node, head)) = operand.node
            && head == self.place.head
        {
            return node;
        }
        let home = self.home(depth, operand.ty);
        self.b.get(home)
    }

    /// The local that holds the value of a place on the stack across joins.
    fn home(&mut self, depth: usize, ty: Type) -> Local {
        if self.homes.len() <= depth {
            self.homes.resize(depth + 1, [None; HOME_TYPES]);
        }
        let index = match ty {
            Type::I32 => 0,
            Type::I64 => 1,
            Type::F32 => 2,
            Type::F64 => 3,
            _ => 4,
        };
        if let Some(local) = self.homes[depth][index] {
            return local;
        }
        let local = self.b.local(&format!("s{depth}_{ty}"), ty);
        self.homes[depth][index] = Some(local);
        local
    }

    /// Brings every value on the stack home.
    fn settle(&mut self) {
        for depth in self.settled..self.stack.len() {
            let value = self.peek(depth);
            let home = self.home(depth, self.stack[depth].ty);
            self.b.set(home, value);
        }
        self.settled = self.stack.len();
    }

    // ---- blocks ----

    /// A new head, under the handlers in force.
    fn new_block(&mut self) -> Block {
        let block = self.b.block();
        self.b.set_handlers(block, self.handlers);
        block
    }

    /// A block that continues this one.
    fn extension(&mut self) -> Block {
        let block = self.b.extension(self.place.block);
        block.expect("`make_room` leaves room for an extension")
    }

    /// Begins a new extended block if this one is as deep as they get. Comes before operands are taken.
    fn make_room(&mut self) {
        if self.place.depth + 1 >= il::MAX_EXTENSION_DEPTH {
            self.settle();
            let next = self.new_block();
            self.b.goto(next);
            self.begin_head(next);
        }
    }

    /// Begins to fill a head. What is on the stack is at home.
    fn begin_head(&mut self, block: Block) {
        self.b.switch_to(block);
        self.heads += 1;
        self.place = Position { block, head: self.heads, depth: 0 };
        self.facts.forget_all();
        self.settled = self.stack.len();
        self.is_reachable = true;
    }

    /// Begins to fill an extension of the block at `parent`.
    fn begin_extension(&mut self, block: Block, parent: Position) {
        self.b.switch_to(block);
        self.place = Position { block, head: parent.head, depth: parent.depth + 1 };
        self.is_reachable = true;
    }
}
