//! IL that no verifier has seen: it stops with a reason, and neither panics nor hangs.

use super::*;
use crate::entity::Entity;
use crate::method::{
    Access, Assumption, Block, FrameData, FrameMode, Handler, Local, Node, Payload, Place, Root, Slot,
    SourcePos, VirtualData,
};
use crate::module::{
    ClassData, ClassId, Implementation, NativeId, SignatureId, SlotDecl, SymbolId, SymbolKind,
};
use crate::opcode::{Class, Operand, Outcome, PayloadKind, Properties, TABLE};
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

    fn ty(&mut self) -> Type {
        self.pick(&Type::VALUES)
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

/// Writes a method at random: of the right shape mostly, so that it gets far, and otherwise of any.
struct Scribe<'d, 'a> {
    dice: &'d mut Dice,
    method: Method<'a>,
    nodes: Vec<Node>,
    blocks: Vec<Block>,
}

impl Scribe<'_, '_> {
    /// An operand of one of some types; made, if chance will not have one that is there.
    fn operand(&mut self, class: Class) -> Node {
        if !self.nodes.is_empty() && self.dice.roll(200) == 0 {
            return self.dice.pick(&self.nodes);
        }
        for _ in 0..4 {
            if self.nodes.is_empty() {
                break;
            }
            // Mostly what was made last, which is likely to be in the same extended block.
            let back = self.dice.roll(8).min(self.nodes.len() - 1);
            let node = self.nodes[self.nodes.len() - 1 - back];
            if class.contains(self.method.ty(node)) {
                return node;
            }
        }
        let ty = self.dice.of(class);
        let bits = self.dice.pick(&[0, 1, 7, u64::MAX, 0x1_0000, 0x4000_0000_0000]);
        let payload = match ty {
            Type::V128 => Payload::Wide(self.method.add_wide(bits.into())),
            _ => Payload::Const(bits & ty.mask()),
        };
        self.node(Opcode::Const, ty, &[], payload)
    }

    fn node(&mut self, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        let node = self.method.add_node(opcode, ty, operands, payload);
        self.nodes.push(node);
        node
    }

    fn payload(&mut self, kind: PayloadKind) -> Payload {
        if self.dice.roll(100) == 0 {
            return Payload::Index(3);
        }
        let block = self.dice.pick(&self.blocks);
        let other = self.dice.pick(&self.blocks);
        let class = ClassId::new(self.dice.roll(2));
        let position = SourcePos(self.dice.roll(9) as u32);
        let dice = &mut *self.dice;
        match kind {
            PayloadKind::None => Payload::None,
            PayloadKind::Const => Payload::Const(dice.roll(256) as u64),
            PayloadKind::Local => Payload::Local(Local::new(dice.roll(self.method.locals().len()))),
            PayloadKind::Slot => Payload::Slot(Slot::new(0)),
            PayloadKind::Access => {
                let scale = dice.pick(&[1, 2, 4, 8]);
                let place = Place::Symbol(SymbolId::new(dice.roll(2)));
                Payload::Access(Access { place, offset: dice.roll(64) as i32, scale })
            }
            PayloadKind::Symbol => Payload::Symbol(SymbolId::new(dice.roll(3))),
            PayloadKind::Method => Payload::Method(MethodId::new(dice.roll(4))),
            PayloadKind::Native => Payload::Native(NativeId::new(0)),
            PayloadKind::Signature => Payload::Signature(SignatureId::new(dice.roll(4))),
            PayloadKind::Dispatch => Payload::Dispatch(crate::method::Dispatch { class, slot: 0 }),
            PayloadKind::Class => Payload::Class(class),
            PayloadKind::Element => Payload::Element(dice.ty()),
            PayloadKind::Index => Payload::Index(1),
            PayloadKind::Raise => Payload::Raise(dice.pick(RaiseKind::ALL), 3),
            PayloadKind::Goto => Payload::Goto(block),
            PayloadKind::Branch => Payload::Branch(block, other),
            PayloadKind::Switch => Payload::Switch(self.method.add_switch(&[(1, block)], other)),
            PayloadKind::Frame => {
                let (locals, stack) = (dice.roll(3) as u16, dice.roll(2) as u16);
                let (method, mode) = (self.method.id(), FrameMode::After);
                let data = FrameData { method, position, mode, locals, stack, monitors: 0 };
                Payload::Frame(self.method.add_frame(data))
            }
            PayloadKind::Virtual => Payload::Virtual(self.method.add_virtual(VirtualData { id: 0, class })),
            PayloadKind::Guard => {
                let successors = (dice.roll(2) == 0).then_some((block, other));
                Payload::Guard(self.method.add_guard(&[Assumption::Custom(1)], successors))
            }
        }
    }

    /// A node of any opcode.
    fn any(&mut self, opcode: Opcode) -> Node {
        let row = opcode.row();
        let ty = match row.outcome {
            Outcome::Nothing => Type::Void,
            Outcome::Fixed(ty) => ty,
            Outcome::Own(class) => self.dice.of(class),
            Outcome::Signature => self.dice.pick(&[Type::I32, Type::I64, Type::Void]),
        };
        let mut operands = Vec::new();
        for operand in row.operands {
            let class = match operand {
                Operand::Own => single(ty),
                Operand::Of(class) => *class,
                Operand::Like => operands.last().map_or(Class::ANY, |last| single(self.method.ty(*last))),
            };
            operands.push(self.operand(class));
        }
        if row.has(Properties::VARIADIC) {
            for _ in 0..self.dice.roll(3) {
                operands.push(self.operand(Class::ANY));
            }
        }
        if row.has(Properties::FRAME) && self.dice.roll(3) == 0 {
            let payload = self.payload(PayloadKind::Frame);
            let values = [self.operand(Class::ANY), self.operand(Class::ANY)];
            operands.push(self.node(Opcode::Frame, Type::Void, &values, payload));
        }
        let payload = self.payload(row.payload);
        self.node(opcode, ty, &operands, payload)
    }

    fn fill(&mut self, block: Block) {
        let length = self.dice.roll(6);
        let mut roots: Vec<Node> = (0..length)
            .map(|_| {
                let opcode = TABLE[self.dice.roll(TABLE.len())].opcode;
                self.any(opcode)
            })
            .collect();
        let ends: Vec<Opcode> = Opcode::all().filter(|opcode| opcode.has(Properties::TERMINATES)).collect();
        let end = self.dice.pick(&ends);
        roots.push(self.any(end));
        let roots: Vec<Root> =
            roots.into_iter().map(|node| Root { node, position: SourcePos::NONE }).collect();
        self.method.set_roots(block, &roots);
    }
}

/// The set of one type.
fn single(ty: Type) -> Class {
    let classes = [
        Class::I32,
        Class::I64,
        Class::ADDR,
        Class::REF,
        Class::INT,
        Class::FLOAT,
        Class::POINTER,
        Class::EQ,
        Class::ANY,
    ];
    classes.into_iter().find(|class| class.contains(ty)).unwrap_or(Class::ANY)
}

/// A method of some blocks, written at random.
fn scribble<'a>(arena: &'a Bump, module: &Module, id: MethodId, dice: &mut Dice) -> Method<'a> {
    let mut method = Method::new(arena, id);
    for (index, ty) in module.method_signature(id).params.iter().enumerate() {
        method.add_param(&format!("p{index}"), *ty);
    }
    let ty = dice.ty();
    method.add_local("x", ty);
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
    let mut scribe = Scribe { dice, method, nodes: Vec::new(), blocks };
    for block in scribe.blocks.clone() {
        if scribe.dice.roll(2) == 0 {
            scribe.method.set_handlers(block, Some(list));
        }
        scribe.nodes.clear();
        scribe.fill(block);
    }
    scribe.method
}

#[test]
fn nothing_that_is_written_at_random_panics_or_hangs() {
    let module = module();
    let mut dice = Dice(0x0dd5_eed5);
    let mut outcomes = [0; 5];
    for _ in 0..30_000 {
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
            Err(Stop::Invalid(_)) => 4,
        };
        outcomes[outcome] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 20), "every way to end has been seen: {outcomes:?}");
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
