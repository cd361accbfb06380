//! From a method to Cranelift's intermediate form.
//!
//! ```text
//!   heads in reverse post-order
//!     └ blocks of the extended block, parents first
//!         └ roots in order
//!             └ operands, where they are first needed    (place.rs says in which block)
//! ```
//!
//! # How raising is lowered
//!
//! A check that no handler of its method sees becomes `trapnz`: one fused compare and branch, and no edge for the
//! register allocator. Cranelift gathers the traps at the end of the code, where `traps.rs` puts a call of the runtime in
//! the place of each. Where a handler of the block does catch the kind, the check branches to it, through a cold block
//! that brings the locals along.
//!
//! # Guarantees
//!
//! Nothing recurses over the method. Each root is lowered once, each pure node at most once in its block.

mod arith;
mod bytes;
mod call;
mod check;
mod compare;
mod control;
mod convert;
mod divide;
mod edge;
mod float;
mod memory;
mod object;
mod shadow;

pub(crate) use check::{POLLED, UNREACHABLE, kind_of};

use cranelift_codegen::cursor::{Cursor, CursorPosition, FuncCursor};
use cranelift_codegen::entity::packed_option::ReservedValue;
use cranelift_codegen::ir::{self, InsertBuilder, InstBuilder, SourceLoc, Value, types};
use dagwood_il::entity::Entity;
use dagwood_il::layout::ObjectKind;
use dagwood_il::{
    Block, Cfg, ClassId, Frequency, KindSet, Method, Module, Node, Opcode, Payload, Properties, SourcePos,
    Type, effects,
};

use crate::back_edges;
use crate::error::CompileError;
use crate::imports::Imports;
use crate::place::{Placement, is_cheap};
use crate::spill::{self, References, TooMuch};
use crate::ssa::{Binding, Locals, MAX_BLOCK_PARAMS};
use crate::target::Target;
use shadow::Shadow;

/// What stands for a value in the tables while there is none.
fn no_value() -> Value {
    Value::reserved_value()
}

/// The values of a node.
#[derive(Clone, Copy)]
struct Slot {
    /// Its value; of a comparison, the 8-bit flag.
    value: Value,
    /// What is computed again in every region that needs it: a cheap node, or a flag as a number.
    local: Value,
    /// The region in which `local` is valid.
    region: u32,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { value: no_value(), local: no_value(), region: 0 }
    }
}

/// What a handler catches, by the tag of its landing.
pub(crate) type Catch = (KindSet, Option<ClassId>);

/// Tables that one compilation after the other uses.
#[derive(Default)]
pub(crate) struct Tables {
    placement: Placement,
    locals: Locals,
    slots: Vec<Slot>,
    blocks: Vec<ir::Block>,
    children: Children,
    pending: Vec<Node>,
    arguments: Vec<Value>,
    imports: Imports,
    /// By node: where in the source it stands, for roots.
    pub(crate) positions: Vec<SourcePos>,
    /// By tag.
    pub(crate) catches: Vec<Catch>,
    pub(crate) references: References,
    /// Whether some block is reached from itself.
    pub(crate) has_loops: bool,
}

/// The blocks that continue each block, in reverse post-order.
#[derive(Default)]
struct Children {
    first: Vec<Option<Block>>,
    next: Vec<Option<Block>>,
}

impl Children {
    fn prepare(&mut self, method: &Method<'_>, cfg: &Cfg) {
        for list in [&mut self.first, &mut self.next] {
            list.clear();
            list.resize(method.block_count(), None);
        }
        for block in cfg.order().iter().rev() {
            if let Some(parent) = method.block(*block).extends {
                self.next[block.index()] = self.first[parent.index()].replace(*block);
            }
        }
    }
}

/// A method being lowered.
pub(crate) struct Lower<'l, 'm, 'a> {
    target: &'l Target,
    module: &'m Module,
    method: &'m Method<'a>,
    cfg: &'l Cfg,
    tables: &'l mut Tables,
    cursor: FuncCursor<'l>,
    /// The block being lowered.
    block: Block,
    /// The place of the root being lowered in its block's list.
    position: u32,
    /// Where in the block's raise points the next one is.
    raise_point: usize,
    /// The stretch of code in which values that are computed again may be used again.
    region: u32,
    regions: u32,
    context: Value,
    shadow: Option<Shadow>,
    /// By slot: the offset from the base.
    slot_offsets: Vec<u32>,
    /// The stack slot through which natives get their arguments.
    buffer: Option<ir::StackSlot>,
    /// Whether there is a value that is a reference.
    has_references: bool,
    /// Whether objects may move while the root being lowered calls.
    moves_objects: bool,
}

type Result<T> = std::result::Result<T, CompileError>;

/// Lowers `method` into `func`, which is empty.
pub(crate) fn lower(
    target: &Target,
    module: &Module,
    method: &Method<'_>,
    tables: &mut Tables,
    func: &mut ir::Function,
) -> Result<()> {
    let cfg = Cfg::compute(module, method);
    let too_many = |_| CompileError::Limit { method: method.id(), what: "live locals", limit: None };
    let stray = |node| CompileError::Input {
        method: method.id(),
        what: format!("{node} uses a node of another extended block"),
    };
    tables.placement.compute(method, &cfg).map_err(stray)?;
    tables.locals.prepare(method, &cfg).map_err(too_many)?;
    tables.children.prepare(method, &cfg);
    tables.slots.clear();
    tables.slots.resize(method.node_count(), Slot::default());
    tables.blocks.clear();
    tables.blocks.resize(method.block_count(), ir::Block::reserved_value());
    tables.positions.clear();
    tables.positions.resize(method.node_count(), SourcePos::NONE);
    tables.catches.clear();
    tables.references.clear();
    tables.imports.clear();
    tables.has_loops = back_edges::has_loops(&cfg);
    let lower = Lower {
        target,
        module,
        method,
        cfg: &cfg,
        tables,
        cursor: FuncCursor::new(func),
        block: Block::new(0),
        position: 0,
        raise_point: 0,
        region: 0,
        regions: 0,
        context: no_value(),
        shadow: None,
        slot_offsets: Vec::new(),
        buffer: None,
        has_references: has_references(method),
        moves_objects: false,
    };
    lower.run()
}

/// Whether a method has values that are references.
pub(crate) fn has_references(method: &Method<'_>) -> bool {
    let mut types =
        method.locals().map(|local| method.local(local).ty).chain(method.nodes().map(|node| method.ty(node)));
    types.any(|ty| ty == Type::Ref)
}

/// Cranelift's type for a value.
pub(crate) fn clif_type(ty: Type) -> ir::Type {
    match ty {
        Type::Void => types::INVALID,
        Type::I8 => types::I8,
        Type::I16 => types::I16,
        Type::I32 => types::I32,
        Type::I64 | Type::Addr | Type::Ref => types::I64,
        Type::F32 => types::F32,
        Type::F64 => types::F64,
        Type::V128 => types::I8X16,
    }
}

impl<'l, 'm, 'a> Lower<'l, 'm, 'a> {
    fn run(mut self) -> Result<()> {
        // Cranelift keeps locations relative to the first it is given, and takes the one before that for none.
        self.cursor.set_srcloc(SourceLoc::new(0));
        self.cursor.set_srcloc(SourceLoc::default());
        let cfg = self.cfg;
        if cfg.order().is_empty() {
            return Err(self.input("it has no blocks"));
        }
        self.enter()?;
        let mut pending = Vec::new();
        for head in cfg.order().iter().filter(|block| self.method.block(**block).extends.is_none()) {
            self.tables.locals.restore(0);
            pending.push((*head, 0));
            while let Some((block, mark)) = pending.pop() {
                self.tables.locals.restore(mark);
                self.lower_block(block)?;
                let mark = self.tables.locals.mark();
                let first = pending.len();
                let mut child = self.tables.children.first[block.index()];
                while let Some(next) = child {
                    pending.push((next, mark));
                    child = self.tables.children.next[next.index()];
                }
                pending[first..].reverse();
            }
        }
        self.spill()
    }

    /// Gives references their places in the frame.
    fn spill(&mut self) -> Result<()> {
        if !self.has_references {
            return Ok(());
        }
        let references = self.method.nodes().filter(|node| self.method.ty(*node) == Type::Ref);
        let values = references.map(|node| self.tables.slots[node.index()].value);
        self.tables.references.values.extend(values.filter(|value| *value != no_value()));
        self.cursor.set_position(CursorPosition::Nowhere);
        let slots = spill::spill(self.cursor.func, &self.tables.references);
        let slots = slots.map_err(|TooMuch { what, limit }| self.limit(what, limit))?;
        let tables = &mut *self.tables;
        let known = self.method.nodes().filter_map(|node| {
            let value = tables.slots[node.index()].value;
            Some((node, slots[(value != no_value()).then_some(value)?]?))
        });
        tables.references.kept.extend(known);
        Ok(())
    }

    // ---- blocks ----

    /// Cranelift's block for a block's beginning.
    fn clif_block(&mut self, block: Block) -> ir::Block {
        let known = self.tables.blocks[block.index()];
        if known != ir::Block::reserved_value() {
            return known;
        }
        let made = self.cursor.func.dfg.make_block();
        self.tables.blocks[block.index()] = made;
        made
    }

    /// Makes a block and continues in it.
    fn continue_in(&mut self, block: ir::Block) {
        self.cursor.func.layout.append_block(block);
        self.cursor.goto_bottom(block);
    }

    fn new_block(&mut self) -> ir::Block {
        self.cursor.func.dfg.make_block()
    }

    /// Makes a block that rarely runs, and continues in it, in a region of its own. Returns the region to go back to.
    fn begin_cold(&mut self, block: ir::Block) -> u32 {
        self.continue_in(block);
        self.cursor.func.layout.set_cold(block);
        let before = self.region;
        self.begin_region();
        before
    }

    fn begin_region(&mut self) {
        self.regions += 1;
        self.region = self.regions;
    }

    fn lower_block(&mut self, block: Block) -> Result<()> {
        self.block = block;
        self.raise_point = 0;
        self.begin_region();
        let clif = self.clif_block(block);
        if block.index() != 0 {
            self.continue_in(clif);
        }
        // The entry runs whenever the method does, whatever is said of it; Cranelift wants it hot.
        if block.index() != 0 && self.method.block(block).frequency == Some(Frequency::COLD) {
            self.cursor.func.layout.set_cold(clif);
        }
        if self.method.block(block).extends.is_none() {
            self.begin_head(block, clif)?;
        }
        let roots = self.method.roots(block);
        for (position, root) in (0..).zip(roots) {
            self.position = position;
            self.tables.positions[root.node.index()] = root.position;
            if position as usize + 1 == roots.len() {
                self.lower_late()?;
            }
            self.lower_root(root.node)?;
        }
        Ok(())
    }

    /// Binds the live locals, and computes what belongs to the head alone.
    fn begin_head(&mut self, block: Block, clif: ir::Block) -> Result<()> {
        let mut caught = None;
        if block.index() != 0 {
            let is_handler = self.cfg.predecessors(block).iter().any(|edge| edge.is_exception());
            let func = &mut *self.cursor.func;
            if is_handler {
                let mut param = || func.dfg.append_block_param(clif, types::I64);
                caught = Some((param(), param()));
                func.layout.set_cold(clif);
            }
            let method = self.method;
            let references = &mut self.tables.references.values;
            self.tables
                .locals
                .begin_head(func, block, |func, local| {
                    let ty = method.local(local).ty;
                    let param = func.dfg.append_block_param(clif, clif_type(ty));
                    if ty == Type::Ref {
                        references.push(param);
                    }
                    param
                })
                .ok_or_else(|| self.limit("locals live in one block", MAX_BLOCK_PARAMS))?;
        }
        if caught.is_some() {
            self.restore_shadow();
        }
        let mut next = self.tables.placement.first(block);
        while let Some(node) = next {
            next = self.tables.placement.next(node);
            if !self.method.opcode(node).has(Properties::HEAD) {
                continue;
            }
            self.at(node);
            let value = match (self.method.opcode(node), self.method.payload(node), caught) {
                (Opcode::Entry, Payload::Local(local), _) => match self.tables.locals.get(local) {
                    Binding::Value(value) => value,
                    _ => return Err(self.input(&format!("{node} reads a local that is not assigned"))),
                },
                (Opcode::Caught, _, Some((object, _))) => object,
                (Opcode::CaughtKind, _, Some((_, code))) => self.ins().ireduce(types::I32, code),
                _ => return Err(self.input(&format!("{node} stands outside of a handler"))),
            };
            self.tables.slots[node.index()].value = value;
        }
        Ok(())
    }

    /// Computes what only blocks further down use.
    fn lower_late(&mut self) -> Result<()> {
        let mut next = self.tables.placement.first(self.block);
        while let Some(node) = next {
            next = self.tables.placement.next(node);
            self.force(node)?;
        }
        Ok(())
    }

    // ---- values ----

    /// Instructions go where the cursor stands.
    fn ins(&mut self) -> InsertBuilder<'_, &mut FuncCursor<'l>> {
        self.cursor.ins()
    }

    /// The instructions that follow belong to `node`.
    fn at(&mut self, node: Node) {
        self.cursor.set_srcloc(SourceLoc::new(node.index() as u32));
    }

    /// The opcode of a node that the next error is about.
    fn unsupported<T>(&self, node: Node) -> Result<T> {
        let opcode = self.method.opcode(node);
        Err(CompileError::Unsupported { method: self.method.id(), opcode, block: self.block, node })
    }

    fn input(&self, what: &str) -> CompileError {
        CompileError::Input { method: self.method.id(), what: what.into() }
    }

    fn limit(&self, what: &'static str, limit: usize) -> CompileError {
        CompileError::Limit { method: self.method.id(), what, limit: Some(limit as u64) }
    }

    /// A constant of Cranelift's.
    fn iconst(&mut self, ty: ir::Type, bits: u64) -> Value {
        let mask = u64::MAX >> (64 - ty.bits());
        self.ins().iconst(ty, (bits & mask) as i64)
    }

    /// Makes sure that a node has its value, and its operands before it.
    fn force(&mut self, node: Node) -> Result<()> {
        if self.is_ready(node) {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.tables.pending);
        pending.push(node);
        while let Some(node) = pending.last().copied() {
            let before = pending.len();
            if !self.is_ready(node) {
                let operands = self.method.value_operands(node);
                pending.extend(operands.iter().copied().filter(|operand| !self.is_ready(*operand)));
                if pending.len() > before {
                    continue;
                }
                self.at(node);
                let value = self.lower_pure(node)?;
                self.tables.slots[node.index()].value = value;
            }
            pending.pop();
        }
        self.tables.pending = pending;
        Ok(())
    }

    fn is_ready(&self, node: Node) -> bool {
        self.tables.slots[node.index()].value != no_value() || is_cheap(self.method, node)
    }

    /// The value of a node that has been forced, with a comparison's as 0 or 1 in 32 bits.
    fn value(&mut self, node: Node) -> Value {
        let is_cheap = is_cheap(self.method, node);
        let slot = self.tables.slots[node.index()];
        if !is_cheap && !self.method.opcode(node).has(Properties::TRUTH) {
            return slot.value;
        }
        if slot.region == self.region {
            return slot.local;
        }
        let local = match is_cheap {
            true => self.cheap(node),
            false => self.ins().uextend(types::I32, slot.value),
        };
        let slot = &mut self.tables.slots[node.index()];
        (slot.local, slot.region) = (local, self.region);
        local
    }

    /// A node's value as a condition: of a comparison, the flag.
    fn condition(&mut self, node: Node) -> Value {
        match self.method.opcode(node).has(Properties::TRUTH) {
            true => self.tables.slots[node.index()].value,
            false => self.value(node),
        }
    }

    /// The value of a node's operand.
    fn operand(&mut self, node: Node, index: usize) -> Value {
        let operand = self.method.operands(node)[index];
        self.value(operand)
    }

    /// The values of a node's first two operands.
    fn operands(&mut self, node: Node) -> (Value, Value) {
        (self.operand(node, 0), self.operand(node, 1))
    }

    /// The type of a node's operand.
    fn operand_type(&self, node: Node, index: usize) -> Type {
        self.method.ty(self.method.operands(node)[index])
    }

    /// A node's value where it is a constant of up to 64 bits.
    fn const_operand(&self, node: Node, index: usize) -> Option<u64> {
        self.method.const_bits(self.method.operands(node)[index])
    }

    /// The value of a node that is computed wherever it is used.
    fn cheap(&mut self, node: Node) -> Value {
        match (self.method.opcode(node), self.method.payload(node)) {
            (_, Payload::Const(bits)) => self.iconst(clif_type(self.method.ty(node)), bits),
            (_, Payload::Symbol(symbol)) => self.symbol_address(symbol),
            (_, Payload::Method(method)) => self.method_address(method),
            (_, Payload::Class(class)) => self.description(ObjectKind::Object(class)),
            (_, Payload::Slot(slot)) => self.slot_address(slot),
            _ => self.context,
        }
    }

    // ---- dispatch ----

    fn lower_root(&mut self, node: Node) -> Result<()> {
        for operand in self.method.value_operands(node) {
            self.force(*operand)?;
        }
        self.at(node);
        let opcode = self.method.opcode(node);
        self.moves_objects = opcode.has(Properties::YIELDS) && effects(self.module, self.method, node).yields;
        let value = match opcode {
            Opcode::Set => {
                let Payload::Local(local) = self.method.payload(node) else {
                    return Err(self.input(&format!("{node} names no local")));
                };
                let value = self.method.operands(node)[0];
                self.tables.locals.set(local, Binding::Node(value));
                return Ok(());
            }
            Opcode::SDiv | Opcode::UDiv | Opcode::SRem | Opcode::URem => self.division(node)?,
            Opcode::RefAddress => self.operand(node, 0),
            Opcode::Load => self.load(node)?,
            Opcode::Store => return self.store(node),
            Opcode::MemoryCopy | Opcode::MemoryFill => {
                self.memory_operation(node);
                return Ok(());
            }
            Opcode::MemoryCompare => self.memory_compare(node),
            Opcode::Fence => {
                self.ins().fence();
                return Ok(());
            }
            Opcode::Check
            | Opcode::NullCheck
            | Opcode::BoundsCheck
            | Opcode::DivCheck
            | Opcode::SizeCheck => match self.check(node)? {
                Some(value) => value,
                None => return Ok(()),
            },
            Opcode::SAddChecked
            | Opcode::SSubChecked
            | Opcode::SMulChecked
            | Opcode::UAddChecked
            | Opcode::USubChecked
            | Opcode::UMulChecked => self.checked_arithmetic(node)?,
            Opcode::SDivChecked => self.checked_division(node)?,
            Opcode::FloatToSIntChecked | Opcode::FloatToUIntChecked => self.checked_conversion(node)?,
            Opcode::CastCheck => self.cast(node)?,
            Opcode::StoreCheck => self.store_check(node)?,
            Opcode::InstanceOf => self.instance_of(node)?,
            Opcode::New | Opcode::NewArray | Opcode::NewObjectArray => self.allocate(node)?,
            Opcode::ArrayLength => self.array_length(node),
            Opcode::ClassOf => self.class_of(node),
            Opcode::MonitorEnter | Opcode::MonitorExit => return self.monitor(node),
            Opcode::Call
            | Opcode::CallIndirect
            | Opcode::CallVirtual
            | Opcode::CallInterface
            | Opcode::CallNative => match self.call(node)? {
                Some(value) => value,
                None => return Ok(()),
            },
            Opcode::Poll => return self.poll(),
            Opcode::Goto
            | Opcode::Branch
            | Opcode::Switch
            | Opcode::Return
            | Opcode::TailCall
            | Opcode::TailCallIndirect
            | Opcode::Throw
            | Opcode::Raise => return self.terminator(node),
            _ => return self.unsupported(node),
        };
        self.tables.slots[node.index()].value = value;
        Ok(())
    }

    fn lower_pure(&mut self, node: Node) -> Result<Value> {
        use Opcode::*;
        Ok(match self.method.opcode(node) {
            Const => self.wide_constant(node),
            Result => return self.result(node),
            Add | Sub | Mul | SMulHigh | UMulHigh | Neg | Abs | SMin | SMax | UMin | UMax | And | Or
            | Xor | Not | Shl | SShr | UShr | RotL | RotR | Clz | Ctz | Popcnt | Bswap | Bitrev => {
                self.integer(node)
            }
            SDiv | UDiv | SRem | URem if !self.method.is_root(node) => self.division(node)?,
            Eq | Ne | SLt | SLe | SGt | SGe | ULt | ULe | UGt | UGe => self.compare_integers(node),
            FEq | FNe | FLt | FLe | FGt | FGe => self.compare_floats(node),
            Select => self.select(node),
            FAdd | FSub | FMul | FDiv | FRem | Fma | FNeg | FAbs | FCopysign | FMin | FMax | FSqrt
            | FFloor | FCeil | FTrunc | FNearest | FCanonicalise => self.float(node),
            Wrap | SExt | UExt | SIntToFloat | UIntToFloat | FloatToSInt | FloatToUInt | FPromote
            | FDemote | Bitcast | AddrAdd => self.convert(node),
            opcode if opcode.has(Properties::ROOT) || opcode.has(Properties::HEAD) => {
                return Err(self.input(&format!("{node} is used where it has not happened yet")));
            }
            _ => return self.unsupported(node),
        })
    }
}
