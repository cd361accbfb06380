//! IL that no verifier has seen: it stops with a reason, and neither panics nor hangs.

use super::shape::signature_of;
use super::*;
use crate::entity::Entity;
use crate::layout::ObjectKind;
use crate::method::{
    Access, Assumption, Block, Dispatch, FrameData, FrameMode, Handler, Local, Node, Payload, Place, Root,
    Slot, SourcePos, VirtualData,
};
use crate::module::{
    ClassData, ClassId, Implementation, NativeId, SignatureId, SlotDecl, SymbolId, SymbolKind,
};
use crate::opcode::{Class, Operand, Outcome, PayloadKind, Properties, Row};
use crate::raise::{KindSet, RaiseKind};

/// A reproducible stream of choices (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.roll(items.len())]
    }

    fn of(&mut self, class: Class) -> Type {
        let types: Vec<Type> = class.types().collect();
        self.pick(&types)
    }
}

/// Declarations of every sort.
fn module() -> Module {
    let mut module = Module::new();
    module.declare_method("first", &[Type::I32, Type::Ref], &[Type::I32]);
    module.declare_method("second", &[], &[]);
    module.declare_method("third", &[Type::Ref], &[Type::I64, Type::F32]);
    module.declare_method("bodiless", &[], &[Type::I32]);
    module.declare_native("native", &[], &[Type::I32]);
    let signature = module.signature(&[Type::Ref], &[Type::I64, Type::F32]);
    for (name, superclass, method) in
        [("A", None, None), ("B", Some(ClassId::new(0)), Some(MethodId::new(2)))]
    {
        module.classes.push(ClassData {
            name: name.into(),
            superclass,
            interfaces: vec![],
            is_interface: false,
            size_bytes: 32,
            slots: vec![SlotDecl { name: "m".into(), signature, method }],
            implementations: method
                .map(|method| Implementation { interface: ClassId::new(0), slot: 0, method })
                .into_iter()
                .collect(),
        });
    }
    module.declare_symbol("static", SymbolKind::Static(Type::I64));
    module.declare_symbol("opaque", SymbolKind::Opaque);
    module
}

/// Writes a method at random: right as far as it easily can be, so that it gets far, but for one choice in `oddity`.
struct Scribe<'d, 'm, 'a> {
    dice: &'d mut Dice,
    module: &'m Module,
    method: Method<'a>,
    /// What the block in hand has so far.
    nodes: Vec<Node>,
    blocks: Vec<Block>,
    block: Block,
    oddity: usize,
}

impl Scribe<'_, '_, '_> {
    fn is_odd(&mut self) -> bool {
        self.oddity > 0 && self.dice.roll(self.oddity) == 0
    }

    /// An operand of a type; made, if there is none or chance will have it so.
    fn operand(&mut self, ty: Type) -> Node {
        if self.is_odd() && !self.nodes.is_empty() {
            return self.dice.pick(&self.nodes);
        }
        let there: Vec<Node> =
            self.nodes.iter().copied().filter(|node| self.method.ty(*node) == ty).collect();
        if !there.is_empty() && self.dice.roll(3) > 0 {
            return self.dice.pick(&there);
        }
        let bits = self.dice.pick(&[0, 1, 7, u64::MAX, 0x1_0000, 0x4000_0000_0000]);
        let payload = match ty {
            Type::V128 => Payload::Wide(self.method.add_wide(bits.into())),
            _ => Payload::Const(bits & ty.mask()),
        };
        self.node(Opcode::Const, ty, &[], payload)
    }

    fn operands(&mut self, types: &[Type]) -> Vec<Node> {
        types.iter().map(|ty| self.operand(*ty)).collect()
    }

    fn node(&mut self, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        let node = self.method.add_node(opcode, ty, operands, payload);
        self.nodes.push(node);
        node
    }

    /// A block where the block in hand may go.
    fn target(&mut self) -> Block {
        let target = self.dice.pick(&self.blocks);
        let parent = self.method.block(target).extends;
        let is_right = parent.is_none_or(|parent| parent == self.block);
        // The first is a head in any case.
        if is_right || self.is_odd() { target } else { self.blocks[0] }
    }

    fn payload(&mut self, row: &Row) -> Payload {
        if self.is_odd() {
            return Payload::Index(3);
        }
        let (block, other) = (self.target(), self.target());
        let class = ClassId::new(self.dice.roll(2));
        let dice = &mut *self.dice;
        match row.payload {
            PayloadKind::None => Payload::None,
            PayloadKind::Const => Payload::Const(dice.roll(256) as u64),
            PayloadKind::Local => Payload::Local(Local::new(dice.roll(self.method.locals().len()))),
            PayloadKind::Slot => Payload::Slot(Slot::new(0)),
            PayloadKind::Access => {
                let scale = dice.pick(&[1, 2, 4, 8]);
                let place = Place::Symbol(SymbolId::new(dice.roll(2)));
                Payload::Access(Access { place, offset: dice.roll(64) as i32, scale })
            }
            PayloadKind::Symbol => Payload::Symbol(SymbolId::new(dice.roll(2))),
            PayloadKind::Method => Payload::Method(MethodId::new(dice.roll(4))),
            PayloadKind::Native => Payload::Native(NativeId::new(0)),
            PayloadKind::Signature => Payload::Signature(SignatureId::new(dice.roll(3))),
            PayloadKind::Dispatch => Payload::Dispatch(Dispatch { class, slot: 0 }),
            PayloadKind::Class => Payload::Class(class),
            PayloadKind::Element => Payload::Element(dice.pick(&[Type::I8, Type::F64, Type::V128])),
            PayloadKind::Index => Payload::Index(1),
            PayloadKind::Raise => {
                let kind = row.raises.iter().next().unwrap_or(dice.pick(&[RaiseKind::Null, RaiseKind::Cast]));
                Payload::Raise(kind, 3)
            }
            PayloadKind::Goto => Payload::Goto(block),
            PayloadKind::Branch => Payload::Branch(block, other),
            PayloadKind::Switch => Payload::Switch(self.method.add_switch(&[(1, block)], other)),
            PayloadKind::Frame => {
                let (method, mode, position) = (self.method.id(), FrameMode::After, SourcePos(1));
                let data = FrameData { method, position, mode, locals: 1, stack: 1, monitors: 0 };
                Payload::Frame(self.method.add_frame(data))
            }
            PayloadKind::Virtual => Payload::Virtual(
                self.method.add_virtual(VirtualData { id: 0, kind: ObjectKind::Object(class) }),
            ),
            PayloadKind::Guard => {
                let successors = row.has(Properties::TERMINATES).then_some((block, other));
                Payload::Guard(self.method.add_guard(&[Assumption::Custom(1)], successors))
            }
        }
    }

    /// A node of an opcode.
    fn any(&mut self, opcode: Opcode) -> Node {
        let row = opcode.row();
        let payload = self.payload(row);
        let signature = signature_of(self.module, payload).cloned().unwrap_or_default();
        let mut ty = match row.outcome {
            Outcome::Nothing => Type::Void,
            Outcome::Fixed(ty) => ty,
            Outcome::Own(class) => self.dice.of(class),
            Outcome::Signature => signature.outcome(),
        };
        let mut types: Vec<Type> = Vec::new();
        for operand in row.operands {
            types.push(match operand {
                Operand::Own => ty,
                Operand::Of(class) => self.dice.of(*class),
                Operand::Like => types.last().copied().unwrap_or_default(),
            });
        }
        match (opcode, payload) {
            (Opcode::Set, Payload::Local(local)) => types = vec![self.method.local(local).ty],
            (Opcode::Entry, Payload::Local(local)) => ty = self.method.local(local).ty,
            (Opcode::Return, _) => types = self.module.method_signature(self.method.id()).results.to_vec(),
            _ if row.payload == PayloadKind::Dispatch => types = signature.params.to_vec(),
            _ if row.has(Properties::CALLS) => types.extend(signature.params),
            _ => {}
        }
        let mut operands = self.operands(&types);
        if opcode == Opcode::Guard || row.has(Properties::FRAME) && self.dice.roll(3) == 0 {
            let payload = self.payload(Opcode::Frame.row());
            let values = self.operands(&[Type::I32, Type::F64]);
            operands.push(self.node(Opcode::Frame, Type::Void, &values, payload));
        }
        self.node(opcode, ty, &operands, payload)
    }

    fn fill(&mut self, block: Block) {
        self.block = block;
        self.nodes.clear();
        let mut roots = Vec::new();
        let is_end = |opcode: &Opcode| opcode.has(Properties::TERMINATES);
        let (ends, others): (Vec<Opcode>, Vec<Opcode>) = Opcode::all().partition(is_end);
        for _ in 0..self.dice.roll(6) {
            let opcode = self.dice.pick(&others);
            if self.is_likely(opcode) || self.is_odd() {
                roots.push(self.any(opcode));
            }
        }
        let end = self.dice.pick(&ends);
        let end = if self.is_likely(end) { end } else { Opcode::Return };
        roots.push(self.any(end));
        let roots: Vec<Root> =
            roots.into_iter().map(|node| Root { node, position: SourcePos::NONE }).collect();
        self.method.set_roots(block, &roots);
    }

    /// Whether an opcode is likely to be right where nothing is done for it: most are.
    fn is_likely(&mut self, opcode: Opcode) -> bool {
        use Opcode::*;
        let is_rare =
            matches!(opcode, Load | Store | MemoryCopy | MemoryFill | MemoryCompare | ArrayLength | ClassOf);
        let is_conversion =
            opcode.has(Properties::WIDENS) || opcode.has(Properties::NARROWS) || opcode == Bitcast;
        let is_particular = matches!(
            opcode,
            Result | Caught | CaughtKind | TailCall | TailCallIndirect | CallVirtual | CallInterface
        );
        let is_unlikely = is_rare || is_conversion || is_particular;
        !opcode.has(Properties::FRAME_ONLY) && (!is_unlikely || self.dice.roll(20) == 0)
    }
}

/// A method of some blocks, written at random.
fn scribble<'a>(arena: &'a Bump, module: &Module, id: MethodId, dice: &mut Dice) -> Method<'a> {
    let mut method = Method::new(arena, id);
    for (index, ty) in module.method_signature(id).params.iter().enumerate() {
        method.add_param(&format!("p{index}"), *ty);
    }
    method.add_local("x", Type::F32);
    method.add_slot("s", 8, 8);
    let mut blocks = Vec::new();
    for index in 0..=dice.roll(5) {
        let extends = (index > 0 && dice.roll(2) == 0).then(|| Block::new(dice.roll(index)));
        blocks.push(method.add_block(extends, None));
    }
    let handler = |dice: &mut Dice| Handler {
        kinds: KindSet::CATCHABLE,
        class: (dice.roll(2) == 0).then(|| ClassId::new(0)),
        block: dice.pick(&blocks),
    };
    let list = [handler(dice), handler(dice)];
    let list = method.add_handlers(&list);
    let oddity = dice.pick(&[0, 0, 20, 100]);
    let block = blocks[0];
    let mut scribe = Scribe { dice, module, method, nodes: Vec::new(), blocks, block, oddity };
    for block in scribe.blocks.clone() {
        if scribe.dice.roll(2) == 0 {
            scribe.method.set_handlers(block, Some(list));
        }
        scribe.fill(block);
    }
    scribe.method
}

/// Checks that what is wrong is the IL, and not that a root of the table means nothing to the interpreter.
fn assert_has_meaning(methods: &[Method<'_>], invalid: &Invalid) {
    let method = methods.iter().find(|method| method.id() == invalid.method);
    if let (Some(method), Some(node)) = (method, invalid.node) {
        let is_root = method.opcode(node).has(Properties::ROOT);
        let is_unknown = invalid.what.ends_with("is not a root")
            || invalid.what == format!("{node} is used before it has happened");
        assert!(!(is_root && is_unknown), "{invalid}");
    }
}

#[test]
fn nothing_that_is_written_at_random_panics_or_hangs() {
    let module = module();
    let mut dice = Dice(0x0dd5_eed5);
    let mut outcomes = [0; 5];
    for _ in 0..20_000 {
        let arena = Bump::new();
        let methods: Vec<Method<'_>> =
            (0..3).map(|index| scribble(&arena, &module, MethodId::new(index), &mut dice)).collect();
        let mut host = Regions::new(&module);
        host.heap_limit = 1 << 16;
        let chance = dice.roll(2);
        host.guards(move |_| chance == 0);
        let limits = Limits { fuel: 300, depth: 20, stack_bytes: 1 << 16 };
        let args = [Value::i32(3), Value::reference(0)];
        let outcome = match run_within(&module, &methods, &mut host, &args, limits) {
            Ok(_) => 0,
            Err(Stop::Raised { .. }) => 1,
            Err(Stop::OutOfFuel { .. }) => 2,
            Err(Stop::Exit(_)) => 3,
            Err(Stop::Invalid(invalid)) => {
                assert_has_meaning(&methods, &invalid);
                4
            }
        };
        outcomes[outcome] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 100), "every way to end has been seen: {outcomes:?}");
}

#[test]
fn what_is_wrong_is_said() {
    let arena = Bump::new();
    let mut module = module();
    let id = module.declare_method("m", &[], &[Type::I32]);
    let method = build(&arena, &module, id, |b| {
        let x = b.local("x", Type::I32);
        let x = b.get(x);
        b.ret(&[x]);
    });
    assert_eq!(complaint(&module, &[method], &[]), "method4, b0, %1: $0 is read before it is assigned");
    let method = build(&arena, &module, id, |b| {
        let wide = b.i64(1);
        b.ret(&[wide]);
    });
    assert_eq!(
        complaint(&module, &[method], &[]),
        "method4, b0, %1: `return` does not have the types it must have here"
    );
    let method = build(&arena, &module, id, |b| {
        let call = b.call(MethodId::new(3), &[]);
        b.ret(&[call]);
    });
    assert_eq!(complaint(&module, &[method], &[]), "method3: has no body");
    let method = build(&arena, &module, id, |b| b.ret(&[]));
    let said = complaint(&module, &[method], &[Value::i32(1)]);
    assert_eq!(said, "method4: is called with arguments that its signature does not have");
    let method = build(&arena, &module, id, |b| {
        let (one, wide) = (b.i32(1), b.i64(1));
        let sum = b.emit(Opcode::Add, Type::I32, &[one, wide], Payload::None);
        b.ret(&[sum]);
    });
    assert_eq!(complaint(&module, &[method], &[]), "method4, b0, %2: `add` has an operand 1 of type i64");
}
