//! Every row of the table, at every type that it takes, with and without what is optional, reads back as it was.

use bumpalo::Bump;
use dagwood_il::layout::ObjectKind;
use dagwood_il::opcode::{Operand, Outcome, PayloadKind, Row, TABLE};
use dagwood_il::*;

use crate::same::round_trip;

/// Declarations to refer to.
struct World {
    module: Module,
    id: MethodId,
    callee: MethodId,
    native: NativeId,
    class: ClassId,
    symbol: SymbolId,
}

impl World {
    fn new() -> World {
        let mut module = Module::new();
        let callee = module.declare_method("callee", &[Type::I32], &[Type::F64]);
        let native = module.declare_native("native", &[Type::I32], &[]);
        let signature = module.signature(&[Type::Ref], &[Type::I32]);
        let slots = vec![SlotDecl { name: "slot".into(), signature, method: Some(callee) }];
        let class = module.classes.push(ClassData {
            name: "Class".into(),
            superclass: None,
            interfaces: Vec::new(),
            is_interface: false,
            size_bytes: 16,
            slots,
            implementations: Vec::new(),
        });
        let symbol = module.declare_symbol("symbol", SymbolKind::Region);
        let id = module.declare_method("f", &[Type::I32], &[]);
        World { module, id, callee, native, class, symbol }
    }
}

/// A method to which one node of each sort is added.
struct Sample<'a, 'w> {
    world: &'w World,
    method: Method<'a>,
    roots: Vec<Root>,
    local: Local,
    slot: Slot,
    blocks: [Block; 3],
    frame: Node,
    object: Node,
}

impl<'a, 'w> Sample<'a, 'w> {
    fn new(world: &'w World, arena: &'a Bump) -> Self {
        let mut method = Method::new(arena, world.id);
        let local = method.add_param("p", Type::I32);
        let slot = method.add_slot("s", 8, 8);
        let blocks = [(); 3].map(|()| method.add_block(None, None));
        let data = FrameData {
            method: world.id,
            position: SourcePos(3),
            mode: FrameMode::After,
            locals: 1,
            stack: 0,
            monitors: 0,
        };
        let object = method.add_node(Opcode::Const, Type::Ref, &[], Payload::Const(0));
        let info = method.add_frame(data);
        let frame = method.add_node(Opcode::Frame, Type::Void, &[object], Payload::Frame(info));
        Sample { world, method, roots: Vec::new(), local, slot, blocks, frame, object }
    }

    fn constant(&mut self, ty: Type) -> Node {
        let payload = match ty {
            Type::V128 => Payload::Wide(self.method.add_wide(1 << 100)),
            Type::Ref | Type::Void => Payload::Const(0),
            _ => Payload::Const(1),
        };
        self.method.add_node(Opcode::Const, ty, &[], payload)
    }

    /// Operands of the types that a row asks for; a divisor is not a constant, so that a division stays a root.
    fn operands(&mut self, row: &Row, own: Type, count: usize) -> Vec<Node> {
        let mut types: Vec<Type> = Vec::new();
        for operand in &row.operands[..count] {
            types.push(match operand {
                Operand::Own => own,
                Operand::Of(class) => class.types().last().unwrap(),
                Operand::Like => types[types.len() - 1],
            });
        }
        let nodes: Vec<Node> = types.iter().map(|ty| self.constant(*ty)).collect();
        match nodes[..] {
            [left, right] if row.has(Properties::ROOT_UNLESS_PROVEN) => {
                vec![left, self.method.add_node(Opcode::Add, own, &[right, right], Payload::None)]
            }
            _ => nodes,
        }
    }

    fn payloads(&mut self, row: &Row, ty: Type) -> Vec<Payload> {
        let world = self.world;
        let World { callee, native, class, symbol, .. } = *world;
        let dispatch = Dispatch { class, slot: 0 };
        let [first, second, third] = self.blocks;
        let accesses = [
            (Place::Symbol(symbol), 0, 1),
            (Place::Slot(self.slot), -8, 4),
            (Place::Symbol(symbol), i32::MIN, 2),
        ];
        let assumptions = [
            Assumption::NotExtended(class),
            Assumption::NotOverridden(class, 0),
            Assumption::NotWritten(symbol),
            Assumption::NotRedefined(callee),
            Assumption::Custom(9),
        ];
        match row.payload {
            PayloadKind::None => vec![Payload::None],
            PayloadKind::Const if ty == Type::V128 => vec![Payload::Wide(self.method.add_wide(u128::MAX))],
            PayloadKind::Const if ty == Type::Ref => vec![Payload::Const(0)],
            PayloadKind::Const => vec![Payload::Const(ty.mask()), Payload::Const(2)],
            PayloadKind::Local => vec![Payload::Local(self.local)],
            PayloadKind::Slot => vec![Payload::Slot(self.slot)],
            PayloadKind::Access => {
                accesses.map(|(place, offset, scale)| Payload::Access(Access { place, offset, scale })).into()
            }
            PayloadKind::Symbol => vec![Payload::Symbol(symbol)],
            PayloadKind::Method => vec![Payload::Method(callee)],
            PayloadKind::Native => vec![Payload::Native(native)],
            PayloadKind::Signature => world.module.signatures.keys().map(Payload::Signature).collect(),
            PayloadKind::Dispatch => vec![Payload::Dispatch(dispatch)],
            PayloadKind::Class => vec![Payload::Class(class)],
            PayloadKind::Element => Type::VALUES.map(Payload::Element).into(),
            PayloadKind::Index => vec![Payload::Index(1), Payload::Index(u32::MAX)],
            PayloadKind::Raise => RaiseKind::ALL
                .iter()
                .flat_map(|kind| [Payload::Raise(*kind, 0), Payload::Raise(*kind, u16::MAX)])
                .collect(),
            PayloadKind::Goto => vec![Payload::Goto(second)],
            PayloadKind::Branch => vec![Payload::Branch(third, first)],
            PayloadKind::Switch => {
                let empty = self.method.add_switch(&[], first);
                let full = self.method.add_switch(&[(0, second), (0x7f, third), (0xff, first)], third);
                vec![Payload::Switch(empty), Payload::Switch(full)]
            }
            PayloadKind::Frame => [FrameMode::Reexecute, FrameMode::After, FrameMode::Raise]
                .map(|mode| {
                    let position = if mode == FrameMode::Raise { SourcePos::NONE } else { SourcePos(5) };
                    let data = FrameData { method: callee, position, mode, locals: 1, stack: 1, monitors: 1 };
                    Payload::Frame(self.method.add_frame(data))
                })
                .into(),
            PayloadKind::Virtual => {
                let (object, array) = (ObjectKind::Object(class), ObjectKind::ObjectArray(class));
                let kinds = [object, array, ObjectKind::Array(Type::I8)];
                kinds
                    .map(|kind| Payload::Virtual(self.method.add_virtual(VirtualData { id: 4, kind })))
                    .into()
            }
            PayloadKind::Guard => {
                let successors = row.has(Properties::TERMINATES).then_some((first, third));
                [&assumptions[..], &assumptions[..1], &[]]
                    .map(|assumptions| Payload::Guard(self.method.add_guard(assumptions, successors)))
                    .into()
            }
        }
    }

    /// The type of a node of a row: what it is where the row leaves it open.
    fn ty(&self, row: &Row, own: Type, payload: Payload) -> Type {
        let module = &self.world.module;
        let callee = match payload {
            Payload::Method(id) => module.method_signature(id),
            Payload::Native(id) => module.native_signature(id),
            Payload::Signature(id) => &module.signatures[id],
            Payload::Dispatch(Dispatch { class, slot }) => {
                &module.signatures[module.classes[class].slots[slot as usize].signature]
            }
            _ => return own,
        };
        if row.outcome == Outcome::Signature { callee.outcome() } else { own }
    }

    /// Every node of a row that differs in its text.
    fn add(&mut self, row: &Row) {
        let types: Vec<Type> = match row.outcome {
            Outcome::Nothing | Outcome::Signature => vec![Type::Void],
            Outcome::Fixed(ty) => vec![ty],
            Outcome::Own(class) => class.types().collect(),
        };
        let most = row.operands.len();
        let counts: &[usize] = match row.has(Properties::OPTIONAL_LAST) {
            true => &[most - 1, most],
            false => &[most],
        };
        for own in types {
            for payload in self.payloads(row, own) {
                for count in counts {
                    let mut operands = self.operands(row, own, *count);
                    self.push(row, self.ty(row, own, payload), &operands, payload);
                    if row.has(Properties::VARIADIC) {
                        operands.extend([self.object, self.object, self.object]);
                        self.push(row, self.ty(row, own, payload), &operands, payload);
                    }
                    if row.has(Properties::FRAME) {
                        operands.push(self.frame);
                        self.push(row, self.ty(row, own, payload), &operands, payload);
                    }
                }
            }
        }
    }

    fn push(&mut self, row: &Row, ty: Type, operands: &[Node], payload: Payload) {
        let mut operands = operands.to_vec();
        if row.payload == PayloadKind::Frame {
            let dead = self.method.add_node(Opcode::Dead, Type::Void, &[], Payload::None);
            operands = vec![self.object, dead, self.object, self.frame];
        }
        let node = self.method.add_node(row.opcode, ty, &operands, payload);
        let node = match self.method.is_root(node) {
            true => node,
            // What floats is held by the next line; what is dead is written among its operands.
            false => self.method.add_node(Opcode::Return, Type::Void, &[node, node], Payload::None),
        };
        let position = SourcePos(u32::try_from(self.roots.len()).unwrap());
        self.roots.push(Root { node, position });
    }
}

#[test]
fn every_row_at_every_type_with_every_payload() {
    let world = World::new();
    for row in TABLE {
        let arena = Bump::new();
        let mut sample = Sample::new(&world, &arena);
        sample.add(row);
        sample.method.set_roots(sample.blocks[0], &sample.roots);
        let printed = round_trip(&world.module, &[&sample.method]);
        assert!(printed.contains(row.name), "{}\n{printed}", row.name);
    }
}

#[test]
fn all_rows_together() {
    let world = World::new();
    let arena = Bump::new();
    let mut sample = Sample::new(&world, &arena);
    TABLE.iter().for_each(|row| sample.add(row));
    sample.method.set_roots(sample.blocks[1], &sample.roots);
    round_trip(&world.module, &[&sample.method]);
}
