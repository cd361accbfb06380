//! For each rule, methods that break it and near misses that do not.

mod anything;
mod declarations;
mod places;
mod structure;
mod types;

use bumpalo::Bump;

use super::*;
use crate::entity::Entity;
use crate::method::{Access, Assumption, FrameData, FrameMode, Handler, HandlerList, Place, Root, SourcePos};
use crate::module::{ClassData, Implementation, SlotDecl, SymbolKind};
use crate::opcode::Opcode;
use crate::raise::KindSet;
use crate::types::Type;

/// A module with something of every sort, and a method `(i32, i64, ref) -> (i32)` in the making.
struct Fixture<'a> {
    module: Module,
    method: Method<'a>,
    roots: Vec<Vec<Root>>,
    /// `(i32) -> (i32, i64)`.
    callee: MethodId,
    object: ClassId,
    point: ClassId,
    shape: ClassId,
    counter: SymbolId,
    object_static: SymbolId,
    field: SymbolId,
    element: SymbolId,
    memory: SymbolId,
}

/// The declarations of every fixture.
fn declarations() -> Module {
    let mut module = Module::new();
    let area = module.signature(&[Type::Ref], &[Type::I32]);
    let class = |name: &str, superclass, is_interface, size_bytes| ClassData {
        name: name.into(),
        superclass,
        interfaces: Vec::new(),
        is_interface,
        size_bytes,
        slots: Vec::new(),
        implementations: Vec::new(),
    };
    let point_area = module.declare_method("Point_area", &[Type::Ref], &[Type::I32]);
    let slot = |method| SlotDecl { name: "area".into(), signature: area, method };
    let object = module.classes.push(class("Object", None, false, 8));
    let shape = module.classes.push(ClassData { slots: vec![slot(None)], ..class("Shape", None, true, 8) });
    let point = module.classes.push(ClassData {
        interfaces: vec![shape],
        slots: vec![slot(Some(point_area))],
        implementations: vec![Implementation { interface: shape, slot: 0, method: point_area }],
        ..class("Point", Some(object), false, 24)
    });
    module.declare_symbol("counter", SymbolKind::Static(Type::I64));
    module.declare_symbol("object", SymbolKind::Static(Type::Ref));
    module.declare_symbol("x", SymbolKind::Field { class: point, offset: 8, ty: Type::I32 });
    module.declare_symbol("y", SymbolKind::Field { class: point, offset: 12, ty: Type::I32 });
    module.declare_symbol("ints", SymbolKind::Element(Type::I32));
    module.declare_symbol("memory", SymbolKind::Region);
    module.declare_method("callee", &[Type::I32], &[Type::I32, Type::I64]);
    module.declare_native("print", &[Type::I32], &[]);
    module
}

fn named<K: Entity, V>(table: &crate::entity::EntityVec<K, V>, is_it: impl Fn(&V) -> bool) -> K {
    table.iter().find(|(_, value)| is_it(value)).expect("the fixture declares it").0
}

impl<'a> Fixture<'a> {
    fn new(arena: &'a Bump) -> Fixture<'a> {
        let mut module = declarations();
        let id = module.declare_method("m", &[Type::I32, Type::I64, Type::Ref], &[Type::I32]);
        let mut method = Method::new(arena, id);
        for (name, ty) in [("a", Type::I32), ("b", Type::I64), ("o", Type::Ref)] {
            method.add_param(name, ty);
        }
        let class = |name: &str| named(&module.classes, |class: &ClassData| class.name == name);
        let symbol = |name: &str| named(&module.symbols, |data| data.name == name);
        Fixture {
            callee: named(&module.methods, |decl| decl.name == "callee"),
            object: class("Object"),
            point: class("Point"),
            shape: class("Shape"),
            counter: symbol("counter"),
            object_static: symbol("object"),
            field: symbol("x"),
            element: symbol("ints"),
            memory: symbol("memory"),
            roots: Vec::new(),
            method,
            module,
        }
    }

    fn block(&mut self, extends: Option<Block>) -> Block {
        self.roots.push(Vec::new());
        self.method.add_block(extends, None)
    }

    /// A block whose raises of `kinds` go to `to`.
    fn handled_block(&mut self, kinds: KindSet, to: usize) -> Block {
        let list = self.handlers(kinds, None, Block::new(to));
        self.roots.push(Vec::new());
        self.method.add_block(None, Some(list))
    }

    fn handlers(&mut self, kinds: KindSet, class: Option<ClassId>, block: Block) -> HandlerList {
        self.method.add_handlers(&[Handler { kinds, class, block }])
    }

    fn node(&mut self, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        self.method.add_node(opcode, ty, operands, payload)
    }

    /// Puts a node at the end of a block's list.
    fn list(&mut self, block: Block, node: Node) -> Node {
        self.roots[block.index()].push(Root { node, position: SourcePos::NONE });
        node
    }

    fn root(&mut self, block: Block, opcode: Opcode, ty: Type, operands: &[Node], payload: Payload) -> Node {
        let node = self.node(opcode, ty, operands, payload);
        self.list(block, node)
    }

    fn constant(&mut self, ty: Type, bits: u64) -> Node {
        self.node(Opcode::Const, ty, &[], Payload::Const(bits))
    }

    fn local(&mut self, name: &str, ty: Type) -> Local {
        self.method.add_local(name, ty)
    }

    /// The value of a parameter.
    fn param(&mut self, index: usize) -> Node {
        let local = Local::new(index);
        let ty = self.method.local(local).ty;
        self.node(Opcode::Entry, ty, &[], Payload::Local(local))
    }

    fn set(&mut self, block: Block, local: Local, value: Node) -> Node {
        self.root(block, Opcode::Set, Type::Void, &[value], Payload::Local(local))
    }

    fn goto(&mut self, block: Block, to: Block) -> Node {
        self.root(block, Opcode::Goto, Type::Void, &[], Payload::Goto(to))
    }

    fn branch(&mut self, block: Block, condition: Node, then: Block, otherwise: Block) -> Node {
        self.root(block, Opcode::Branch, Type::Void, &[condition], Payload::Branch(then, otherwise))
    }

    fn ret(&mut self, block: Block, value: Node) -> Node {
        self.root(block, Opcode::Return, Type::Void, &[value], Payload::None)
    }

    /// Returns zero.
    fn end(&mut self, block: Block) -> Node {
        let zero = self.constant(Type::I32, 0);
        self.ret(block, zero)
    }

    /// A root that may raise, yield and write.
    fn call(&mut self, block: Block) -> Node {
        let zero = self.constant(Type::I32, 0);
        self.root(block, Opcode::Call, Type::I32, &[zero], Payload::Method(self.callee))
    }

    fn access(place: Place, scale: u8) -> Payload {
        Payload::Access(Access { place, offset: 0, scale })
    }

    fn frame(&mut self, mode: FrameMode, locals: u16, slots: &[Node]) -> Node {
        let info = self.method.add_frame(FrameData {
            method: self.method.id(),
            position: SourcePos::NONE,
            mode,
            locals,
            stack: 0,
            monitors: (slots.len() as u16).saturating_sub(locals),
        });
        self.node(Opcode::Frame, Type::Void, slots, Payload::Frame(info))
    }

    fn guard(&mut self, block: Block, assumptions: &[Assumption], operands: &[Node]) -> Node {
        let info = self.method.add_guard(assumptions, None);
        self.root(block, Opcode::Guard, Type::Void, operands, Payload::Guard(info))
    }

    fn verify(&mut self) -> Result<(), Vec<VerifyError>> {
        for (index, roots) in self.roots.iter().enumerate() {
            self.method.set_roots(Block::new(index), roots);
        }
        verify(&self.module, &self.method)
    }
}

type Make = fn(&mut Fixture<'_>);

/// A rule, a name, a method that breaks it, and one that nearly does.
type Case = (Rule, &'static str, Make, Make);

/// Checks all cases and reports those that are not as they say.
#[track_caller]
fn check_cases(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (rule, name, bad, near) in cases {
        for (make, expected, what) in [(bad, &[*rule][..], "breaking"), (near, &[][..], "a near miss of")] {
            let found = verdict(*make);
            if found != expected {
                wrong.push(format!("{what} {rule}, {name}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The rules that a method breaks.
fn verdict(make: Make) -> Vec<Rule> {
    let arena = Bump::new();
    let mut fixture = Fixture::new(&arena);
    make(&mut fixture);
    let mut rules: Vec<Rule> =
        fixture.verify().err().unwrap_or_default().into_iter().map(|error| error.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// A method of one block that is made by `make` and returns zero.
fn one_block(fixture: &mut Fixture<'_>, make: impl FnOnce(&mut Fixture<'_>, Block)) {
    let block = fixture.block(None);
    make(fixture, block);
    fixture.end(block);
}

#[test]
fn every_rule_is_broken_by_a_test() {
    let mut tested: Vec<Rule> = [structure::CASES, types::CASES, places::CASES]
        .into_iter()
        .flatten()
        .map(|(rule, ..)| *rule)
        .chain(declarations::CASES.iter().map(|(rule, ..)| *rule))
        .collect();
    tested.sort_unstable();
    tested.dedup();
    assert_eq!(tested, Rule::ALL);
}

#[test]
fn an_error_says_where_and_what_would_be_right() {
    let arena = Bump::new();
    let mut fixture = Fixture::new(&arena);
    let block = fixture.block(None);
    let (a, b) = (fixture.param(0), fixture.param(1));
    let sum = fixture.node(Opcode::Add, Type::I32, &[a, b], Payload::None);
    fixture.ret(block, sum);
    let errors = fixture.verify().expect_err("i64 is not i32");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "%2: operand 1 of `add`, %1, is i64; it should be i32 [operand-type]");
    assert_eq!(errors[0].node(), Some(sum));
}

#[test]
fn errors_are_bounded() {
    let arena = Bump::new();
    let mut fixture = Fixture::new(&arena);
    let block = fixture.block(None);
    for _ in 0..1000 {
        fixture.root(block, Opcode::Return, Type::Void, &[], Payload::None);
    }
    assert_eq!(fixture.verify().expect_err("blocks end once").len(), MAX_ERRORS);
}

#[test]
fn a_million_nodes_in_a_chain_are_verified_without_recursion() {
    let arena = Bump::new();
    let mut fixture = Fixture::new(&arena);
    let block = fixture.block(None);
    let mut value = fixture.param(0);
    for _ in 0..1_000_000 {
        value = fixture.node(Opcode::Neg, Type::I32, &[value], Payload::None);
    }
    fixture.ret(block, value);
    assert_eq!(fixture.verify(), Ok(()));
}
