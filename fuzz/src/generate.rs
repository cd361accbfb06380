//! Programs of valid IL, made from bytes.
//!
//! ```text
//!   bytes ──► module: memory, natives, classes, methods m0 … mk, each calling only those before it
//!         ──► bodies: straight code, if, loop, switch, try — nested, every loop with a counter
//! ```
//!
//! # Why
//!
//! Operations are drawn from the opcode table, and their operands from what is available at the types the row
//! asks for. A new opcode is therefore covered on the day it gets its row, without a line here.
//!
//! # Guarantees
//!
//! * Every program passes the verifier, and ends: loops count down, calls go to earlier methods only.
//! * The same bytes make the same program, whatever the folding, up to what folding leaves out.

mod counting;
mod objects;

use std::collections::BTreeMap;

use bumpalo::Bump;
use dagwood_il::opcode::{Class, Operand, Outcome, PayloadKind, Row, TABLE};
use dagwood_il::{
    Access, Block, BuildError, Builder, Folding, Handler, KindSet, Local, Method, MethodId, Module, NativeId,
    Node, Opcode, Payload, Place, Properties, RaiseKind, SourcePos, SymbolId, SymbolKind, Type,
};

use crate::choices::Choices;
use objects::{Declared, Known, TABLE_METHODS};

/// Bytes of the memory that a program may touch.
pub const MEMORY_BYTES: u32 = 256;
/// How deep control flow nests.
const MAX_DEPTH: usize = 4;
/// Statements a region may have.
const MAX_STATEMENTS: usize = 10;
/// Times a loop runs at most.
const MAX_TRIPS: usize = 5;
/// Operations that one statement may compute.
const MAX_COMPUTATIONS: usize = 4;
/// How many of the values made last are preferred.
const RECENT: usize = 3;
/// Methods a program may have.
const MAX_METHODS: usize = 4;

/// The types that generated values have. 128 bits have operations of no kind but moves.
const TYPES: [Type; 8] =
    [Type::I32, Type::I64, Type::I8, Type::I16, Type::F32, Type::F64, Type::Addr, Type::Ref];
/// How many of them the host may see, because they are the same in every engine.
const SEEN_TYPES: usize = 7;

/// A generated program: declarations, and bytes from which each body is built again at will.
pub struct Program {
    /// The declarations.
    pub module: Module,
    /// The methods, in an order in which each calls only those before it; the last is the one to run.
    pub methods: Vec<MethodId>,
    /// The memory that the program may touch, a static of [`MEMORY_BYTES`] bytes.
    pub memory: SymbolId,
    /// A native function that mixes its arguments, and raises now and then; see [`mix`].
    pub native: NativeId,
    /// A native function that returns the reference that it is given.
    pub pass: NativeId,
    objects: Declared,
    seeds: Vec<Vec<u8>>,
}

/// What [`mix`] raises in place of a number: `guest`, of no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What the native function of a program does, for both engines: mixes, or raises.
pub fn mix(left: u32, right: u64) -> Result<u64, Refused> {
    let mixed = (u64::from(left).wrapping_mul(0x9e37_79b9) ^ right).rotate_left(17);
    if mixed % 7 == 3 { Err(Refused) } else { Ok(mixed) }
}

impl Program {
    /// The program that these bytes make.
    pub fn generate(bytes: &[u8]) -> Program {
        let mut choices = Choices::new(bytes);
        let mut module = Module::new();
        let memory = module.declare_symbol("memory", SymbolKind::Region);
        let native = module.declare_native("mix", &[Type::I32, Type::I64], &[Type::I64]);
        let pass = module.declare_native("pass", &[Type::Ref], &[Type::Ref]);
        let (objects, table) = Declared::new(&mut module);
        let count = 1 + choices.below(MAX_METHODS);
        let mut methods = table.to_vec();
        for index in 0..count {
            // The last is called by the host.
            let types = if index + 1 == count { SEEN_TYPES } else { TYPES.len() };
            let params: Vec<Type> = (0..choices.below(5)).map(|_| TYPES[choices.below(types)]).collect();
            let results: Vec<Type> = (0..1 + choices.below(3)).map(|_| TYPES[choices.below(types)]).collect();
            methods.push(module.declare_method(&format!("m{index}"), &params, &results));
        }
        let count = methods.len();
        let share = choices_left(bytes, count);
        let seeds = (0..count)
            .map(|index| bytes.iter().copied().skip(index).step_by(count).take(share).collect())
            .collect();
        Program { module, methods, memory, native, pass, objects, seeds }
    }

    /// The method to run.
    pub fn entry(&self) -> MethodId {
        *self.methods.last().expect("a program has a method")
    }

    /// Builds the body of a method.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] would be a mistake of the generator.
    ///
    /// # Panics
    ///
    /// If the method is not one of the program's.
    pub fn build<'a>(
        &self,
        id: MethodId,
        arena: &'a Bump,
        folding: Folding,
    ) -> Result<Method<'a>, BuildError> {
        let index =
            self.methods.iter().position(|method| *method == id).expect("the method is the program's");
        let builder = Builder::new(arena, &self.module, id, folding);
        let choices = Choices::new(&self.seeds[index]);
        Generator {
            program: self,
            // Methods in tables may be called by each other through them, so they call none.
            callees: if index < TABLE_METHODS { &[] } else { &self.methods[..index] },
            builder,
            choices,
            locals: Vec::new(),
            pool: Vec::new(),
            known: BTreeMap::new(),
            node_locals: Vec::new(),
            shown_nodes: 0,
            depth: 0,
            // Methods begin at other places, so that the last one does not hide what the others show.
            shown: index as u32 * 5,
        }
        .method()
    }
}

fn choices_left(bytes: &[u8], methods: usize) -> usize {
    bytes.len() / methods + 1
}

/// Whether operations of this row can be drawn: a value from values, with nothing else to say.
fn is_computation(row: &Row) -> bool {
    let shape = matches!(row.outcome, Outcome::Own(_) | Outcome::Fixed(_)) && !row.operands.is_empty();
    let payload = matches!(row.payload, PayloadKind::None | PayloadKind::Raise);
    // A value of no type cannot be had.
    let operands = row.operands.iter().all(|operand| match operand {
        Operand::Of(class) => TYPES.iter().any(|ty| class.contains(*ty)),
        Operand::Own | Operand::Like => true,
    });
    // What reads an object fails where there is none, and what it gives may be an address.
    let reads_object = row.payload == PayloadKind::None
        && row.has(Properties::ROOT)
        && row.operands.contains(&Operand::Of(Class::REF));
    shape
        && payload
        && operands
        && !reads_object
        && row.opcode != Opcode::Result
        && !row.has(Properties::FRAME_ONLY)
}

/// The state of one body in the making.
struct Generator<'a, 'p> {
    program: &'p Program,
    callees: &'p [MethodId],
    builder: Builder<'a, 'p>,
    choices: Choices<'p>,
    locals: Vec<(Local, Type)>,
    /// What can be used where the builder stands.
    pool: Vec<Node>,
    /// What new objects are.
    known: BTreeMap<Node, Known>,
    /// Locals that hold nodes only.
    node_locals: Vec<Local>,
    /// How many of these the host sees at the end.
    shown_nodes: usize,
    depth: usize,
    /// How many values have been stored only so that the host sees them.
    shown: u32,
}

impl<'a> Generator<'a, '_> {
    fn method(mut self) -> Result<Method<'a>, BuildError> {
        let signature = self.builder.module().method_signature(self.builder.method().id());
        let (params, results) = (signature.params.clone(), signature.results.clone());
        let entry = self.builder.block();
        self.builder.switch_to(entry);
        for (index, ty) in params.iter().enumerate() {
            self.locals.push((self.builder.param(index), *ty));
        }
        for index in 0..2 + self.choices.below(6) {
            let ty = TYPES[self.choices.below(TYPES.len())];
            let local = self.builder.local(&format!("v{index}"), ty);
            // What is loaded here no fold and no pass knows.
            let value = if self.choices.one_in(2) && TYPES[..SEEN_TYPES].contains(&ty) {
                let (access, base, index) = self.place(ty);
                self.builder.load(ty, access, base, Some(index))
            } else {
                self.constant(ty)
            };
            self.builder.set(local, value);
            self.locals.push((local, ty));
        }
        self.node_locals();
        self.region();
        for (local, _) in self.locals.clone() {
            let value = self.builder.get(local);
            self.show(value);
        }
        self.show_nodes();
        let values: Vec<Node> = results.iter().map(|ty| self.value(*ty)).collect();
        self.builder.ret(&values);
        self.builder.finish()
    }

    /// Statements, one after the other. The builder stands in an open block before and after.
    fn region(&mut self) {
        self.depth += 1;
        for ordinal in 0..1 + self.choices.below(MAX_STATEMENTS) {
            self.builder.at(SourcePos(ordinal as u32));
            let is_flat = self.depth > MAX_DEPTH || self.choices.is_exhausted();
            match self.choices.below(if is_flat { 20 } else { 29 }) {
                0..=4 => (0..1 + self.choices.below(MAX_COMPUTATIONS)).for_each(|_| self.compute()),
                5..=6 => self.set(),
                7 => self.load(),
                8 => self.store(),
                9 => self.call(),
                10 => self.call_native(),
                11 => self.check(),
                12 => self.call_indirect(),
                13 => self.bulk(),
                14 => self.poll(),
                15..=17 => self.object(),
                18 | 19 => self.accesses(),
                20 | 21 => self.if_else(),
                22 | 23 => self.counted_loop(),
                24 | 25 => self.counting_loop(),
                26 => self.switch(),
                27 => self.throw_if(),
                _ => self.try_region(),
            }
        }
        self.depth -= 1;
    }

    // ---- values ----

    fn constant(&mut self, ty: Type) -> Node {
        let bits = match ty {
            Type::Ref => 0,
            ty if ty.is_float() => self.choices.float_bits(ty.bits()),
            _ => self.choices.bits(),
        };
        self.builder.constant(ty, bits)
    }

    /// A value of a type: one of the pool, a local's, or a constant.
    fn value(&mut self, ty: Type) -> Node {
        let fitting: Vec<Node> =
            self.pool.iter().copied().filter(|node| self.builder.method().ty(*node) == ty).collect();
        match self.choices.below(8) {
            // What was made last is used most, so that much is computed from much.
            0..=2 if !fitting.is_empty() => {
                fitting[fitting.len() - 1 - self.choices.below(fitting.len().min(RECENT))]
            }
            3 if !fitting.is_empty() => fitting[self.choices.below(fitting.len())],
            0..=5 => match self.local_of(ty) {
                Some(local) => self.builder.get(local),
                None => self.constant(ty),
            },
            _ => self.constant(ty),
        }
    }

    fn local_of(&mut self, ty: Type) -> Option<Local> {
        let fitting: Vec<Local> =
            self.locals.iter().filter(|(_, of)| *of == ty).map(|(local, _)| *local).collect();
        self.choices.pick(&fitting).copied()
    }

    /// An operation of the table on available values.
    fn compute(&mut self) {
        // Arithmetic is a small part of the table, and most of what passes work on.
        let is_arithmetic = self.choices.one_in(2);
        let is_wanted = |row: &&Row| !is_arithmetic || row.operands == [Operand::Own, Operand::Own];
        let rows: Vec<&Row> = TABLE.iter().filter(|row| is_computation(row)).filter(is_wanted).collect();
        let row = rows[self.choices.below(rows.len())];
        let Some((ty, operands)) = self.operands(row) else { return };
        let payload = match (row.payload, row.raises.iter().next()) {
            (PayloadKind::Raise, Some(kind)) => Payload::Raise(kind, self.choices.byte().into()),
            (PayloadKind::Raise, None) => return,
            _ => Payload::None,
        };
        let node = self.builder.emit(row.opcode, ty, &operands, payload);
        self.pool.push(node);
        if self.choices.one_in(3) {
            self.show(node);
        }
    }

    /// Types and values for the operands of a row; none if the types drawn do not fit together.
    fn operands(&mut self, row: &Row) -> Option<(Type, Vec<Node>)> {
        let own = match row.outcome {
            Outcome::Fixed(ty) => ty,
            Outcome::Own(class) => {
                let types: Vec<Type> = TYPES.into_iter().filter(|ty| class.contains(*ty)).collect();
                *self.choices.pick(&types)?
            }
            _ => return None,
        };
        let (mut operands, mut before) = (Vec::new(), Type::Void);
        for operand in row.operands {
            let ty = match operand {
                Operand::Own => own,
                Operand::Like => before,
                Operand::Of(class) => {
                    let types: Vec<Type> =
                        TYPES.into_iter().filter(|ty| class.contains(*ty) && fits(row, *ty, own)).collect();
                    *self.choices.pick(&types)?
                }
            };
            let value = self.value(ty);
            // The payload and the sign of a NaN are nobody's promise, so nothing may come to depend on them.
            let shows_bits = row.has(Properties::SAME_WIDTH) || row.opcode == Opcode::FCopysign;
            operands.push(if shows_bits { self.canonical(value) } else { value });
            before = ty;
        }
        Some((own, operands))
    }

    fn canonical(&mut self, value: Node) -> Node {
        let is_float = self.builder.method().ty(value).is_float();
        if is_float { self.builder.op(Opcode::FCanonicalise, &[value]) } else { value }
    }

    // ---- statements ----

    fn set(&mut self) {
        let Some((local, ty)) = self.choices.pick(&self.locals).copied() else { return };
        let value = self.value(ty);
        self.builder.set(local, value);
    }

    /// A place in the program's memory: base, and an index that cannot leave it whatever its value.
    fn place(&mut self, ty: Type) -> (Access, Node, Node) {
        let scale = [1, 2, 4, 8][self.choices.below(4)];
        let slots = (MEMORY_BYTES / 2 / u32::from(scale)).next_power_of_two() as i64;
        let (index, mask) = (self.value(Type::I64), self.builder.i64(slots - 1));
        let index = self.builder.op(Opcode::And, &[index, mask]);
        let offset = self.choices.below((MEMORY_BYTES / 2 - ty.bytes()) as usize) as i32;
        let base =
            self.builder.emit(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(self.program.memory));
        (Access { place: Place::Symbol(self.program.memory), offset, scale }, base, index)
    }

    /// Addresses differ between engines, so none is ever stored, loaded or made from the memory's own.
    fn load(&mut self) {
        let ty = TYPES[self.choices.below(SEEN_TYPES)];
        let (access, base, index) = self.place(ty);
        let node = self.builder.load(ty, access, base, Some(index));
        self.pool.push(node);
    }

    fn store(&mut self) {
        let ty = TYPES[self.choices.below(SEEN_TYPES)];
        let value = self.value(ty);
        let value = self.canonical(value);
        let (access, base, index) = self.place(ty);
        self.builder.store(access, value, base, Some(index));
    }

    /// Stores a value, if the host may see it, where the last few that were shown are not: what is wrong is then likely to be noticed.
    fn show(&mut self, value: Node) {
        let ty = self.builder.method().ty(value);
        if !TYPES[..SEEN_TYPES].contains(&ty) {
            return;
        }
        let value = self.canonical(value);
        let base =
            self.builder.emit(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(self.program.memory));
        let offset = (self.shown * 8 % MEMORY_BYTES) as i32;
        self.shown += 1;
        self.builder.store(
            Access { place: Place::Symbol(self.program.memory), offset, scale: 1 },
            value,
            base,
            None,
        );
    }

    fn call(&mut self) {
        let Some(callee) = self.choices.pick(self.callees).copied() else { return };
        let signature = self.program.module.method_signature(callee);
        let args: Vec<Node> = signature.params.iter().map(|ty| self.value(*ty)).collect();
        let call = self.builder.call(callee, &args);
        for (index, ty) in signature.results.iter().enumerate() {
            let node = self.builder.result(*ty, call, index as u32);
            self.pool.push(node);
        }
    }

    fn call_native(&mut self) {
        let args = [self.value(Type::I32), self.value(Type::I64)];
        let node = self.builder.call_native(self.program.native, &args);
        self.pool.push(node);
    }

    fn call_indirect(&mut self) {
        let Some(callee) = self.choices.pick(self.callees).copied() else { return };
        let id = self.program.module.methods[callee].signature;
        let signature = self.program.module.method_signature(callee);
        let address = self.builder.emit(Opcode::MethodAddress, Type::Addr, &[], Payload::Method(callee));
        let mut operands = vec![address, self.builder.context()];
        for ty in &signature.params {
            operands.push(self.value(*ty));
        }
        let call = self.builder.call_indirect(id, &operands);
        for (index, ty) in signature.results.iter().enumerate() {
            let node = self.builder.result(*ty, call, index as u32);
            self.pool.push(node);
        }
    }

    fn poll(&mut self) {
        self.builder.emit(Opcode::Poll, Type::Void, &[], Payload::None);
    }

    /// A copy, a fill or a comparison of parts of the memory.
    fn bulk(&mut self) {
        let memory = Payload::Symbol(self.program.memory);
        let (to, from) = (self.address(), self.address());
        let (count, mask) = (self.value(Type::I64), self.builder.i64(i64::from(MEMORY_BYTES / 2 - 1)));
        let count = self.builder.op(Opcode::And, &[count, mask]);
        match self.choices.below(3) {
            0 => self.builder.emit(Opcode::MemoryCopy, Type::Void, &[to, from, count], memory),
            1 => {
                let byte = self.value(Type::I32);
                self.builder.emit(Opcode::MemoryFill, Type::Void, &[to, byte, count], memory)
            }
            _ => {
                let order = self.builder.emit(Opcode::MemoryCompare, Type::I32, &[to, from, count], memory);
                // Only the sign means something.
                let zero = self.builder.i32(0);
                let less = self.builder.op(Opcode::SLt, &[order, zero]);
                self.pool.push(less);
                less
            }
        };
    }

    /// An address in the first half of the memory.
    fn address(&mut self) -> Node {
        let base =
            self.builder.emit(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(self.program.memory));
        let offset = self.choices.below(MEMORY_BYTES as usize / 2) as i64;
        let offset = self.builder.i64(offset);
        self.builder.op(Opcode::AddrAdd, &[base, offset])
    }

    /// A check that mostly passes, of any kind that a frontend may raise.
    fn check(&mut self) {
        let value = self.value(Type::I32);
        let limit = self.constant(Type::I32);
        let condition = self.builder.op(Opcode::Ne, &[value, limit]);
        let kinds: Vec<RaiseKind> = KindSet::CATCHABLE.without(KindSet::GUEST).iter().collect();
        let kind = kinds[self.choices.below(kinds.len())];
        let reason = self.choices.byte().into();
        self.builder.check(condition, kind, reason);
    }

    // ---- control flow ----

    /// Runs `fill` in a fresh block, whose values end with it, and continues at `join`.
    fn arm(&mut self, parent: Option<Block>, block: Block, join: Block) {
        let mark = self.pool.len();
        if parent.is_none() {
            self.pool.clear();
        }
        self.builder.switch_to(block);
        self.region();
        self.builder.goto(join);
        self.pool.truncate(mark);
    }

    /// A block after the one in hand: an extension if there is room, else a head. And the parent, if it is one.
    fn after(&mut self, block: Block) -> (Option<Block>, Block) {
        match self.builder.extension(block) {
            Some(extension) => (Some(block), extension),
            None => (None, self.head_like(block)),
        }
    }

    /// A head with the handlers of `block`.
    fn head_like(&mut self, block: Block) -> Block {
        let handlers = self.builder.method().block(block).handlers;
        let head = self.builder.block();
        self.builder.set_handlers(head, handlers);
        head
    }

    fn here(&self) -> Block {
        self.builder.current().expect("statements stand in a block")
    }

    fn begin(&mut self, head: Block) {
        self.pool.clear();
        self.builder.switch_to(head);
    }

    fn if_else(&mut self) {
        let here = self.here();
        let condition = self.value(Type::I32);
        let (then_parent, then) = self.after(here);
        let (else_parent, otherwise) = self.after(here);
        let join = self.head_like(here);
        self.builder.branch(condition, then, otherwise);
        let pool = self.pool.clone();
        self.arm(then_parent, then, join);
        self.pool = pool;
        self.arm(else_parent, otherwise, join);
        self.begin(join);
    }

    fn switch(&mut self) {
        let here = self.here();
        let ty = [Type::I32, Type::I64, Type::I8][self.choices.below(3)];
        let value = self.value(ty);
        let join = self.head_like(here);
        let cases: Vec<(u64, Block)> = (0..self.choices.below(5))
            .map(|_| (self.choices.bits() & ty.mask(), self.head_like(here)))
            .collect();
        let default = self.head_like(here);
        self.builder.switch(value, &cases, default);
        for block in cases.iter().map(|(_, block)| *block).chain([default]) {
            self.arm(None, block, join);
        }
        self.begin(join);
    }

    fn counted_loop(&mut self) {
        let here = self.here();
        let counter = self.builder.local(&format!("n{}", here), Type::I32);
        let trips = self.choices.below(MAX_TRIPS + 1) as i32;
        let trips = self.builder.i32(trips);
        self.builder.set(counter, trips);
        let (header, after) = (self.head_like(here), self.head_like(here));
        self.builder.goto(header);
        self.begin(header);
        let (left, one) = (self.builder.get(counter), self.builder.i32(1));
        let (_, body) = self.after(header);
        self.builder.branch(left, body, after);
        self.builder.switch_to(body);
        let fewer = self.builder.op(Opcode::Sub, &[left, one]);
        self.builder.set(counter, fewer);
        self.region();
        self.builder.goto(header);
        self.begin(after);
    }

    /// Throws an object of the guest, or goes on.
    fn throw_if(&mut self) {
        let here = self.here();
        let condition = self.value(Type::I32);
        let (throwing, going_on) = (self.after(here).1, self.head_like(here));
        self.builder.branch(condition, throwing, going_on);
        let is_extension = self.builder.method().block(throwing).extends.is_some();
        self.builder.switch_to(throwing);
        let object = if is_extension { self.value(Type::Addr) } else { self.constant(Type::Addr) };
        self.builder.throw(object);
        self.begin(going_on);
    }

    /// A region whose raises are caught: the handler keeps what was raised, or throws on.
    fn try_region(&mut self) {
        let here = self.here();
        let outer = self.builder.method().handlers(here).to_vec();
        let (body, handler, join) = (self.builder.block(), self.head_like(here), self.head_like(here));
        let kinds = match self.choices.below(4) {
            0 => KindSet::CATCHABLE,
            1 => KindSet::GUEST,
            2 => KindSet::DIVISION.union(KindSet::BOUNDS).union(KindSet::OVERFLOW),
            _ => KindSet::CATCHABLE.without(KindSet::GUEST),
        };
        let list: Vec<Handler> =
            std::iter::once(Handler { kinds, class: None, block: handler }).chain(outer).collect();
        let list = self.builder.handlers(&list);
        self.builder.set_handlers(body, Some(list));
        self.builder.goto(body);
        self.begin(body);
        self.region();
        self.builder.goto(join);
        self.begin(handler);
        let code = self.builder.emit(Opcode::CaughtKind, Type::I32, &[], Payload::None);
        self.pool.push(code);
        let object = self.builder.emit(Opcode::Caught, Type::Addr, &[], Payload::None);
        self.pool.push(object);
        self.region();
        self.builder.goto(join);
        self.begin(join);
    }
}

/// Whether a conversion from `from` to `to` is one.
fn fits(row: &Row, from: Type, to: Type) -> bool {
    (!row.has(Properties::WIDENS) || from.bits() < to.bits())
        && (!row.has(Properties::NARROWS) || from.bits() > to.bits())
        && (!row.has(Properties::SAME_WIDTH)
            || from.bits() == to.bits() && (from == Type::Ref) == (to == Type::Ref))
}
