//! Objects in generated programs: a few classes, one interface, arrays, and the statements that use them.
//!
//! ```text
//!   Named (interface: name)          Node { next: ref, n: i64, run }  ◄── Leaf { other: ref, run, name }  implements Named
//! ```
//!
//! What a new object is, is known where it is made, and where it comes from a local that holds nodes only; there its fields are used
//! and its methods called. Any other reference may be null or an array, so it is only tested, cast, compared and passed on. No address
//! of an object is ever seen: engines differ in those.

use dagwood_il::layout::ELEMENTS_OFFSET;
use dagwood_il::{
    Access, ClassData, ClassId, Dispatch, Implementation, MethodId, Module, Node, Opcode, Payload, Place,
    SlotDecl, SymbolId, SymbolKind, Type,
};

use super::Generator;

/// What a program declares for its objects.
pub(super) struct Declared {
    named: ClassId,
    node: ClassId,
    leaf: ClassId,
    next: SymbolId,
    n: SymbolId,
    other: SymbolId,
    longs: SymbolId,
    references: SymbolId,
}

/// What is known of a reference to a new object.
#[derive(Clone, Copy)]
pub(super) enum Known {
    /// An object of a class.
    Object(ClassId),
    /// An array of so many integers.
    Longs(u32),
    /// An array of so many references to nodes.
    Nodes(u32),
}

/// The elements that arrays have at most.
const MAX_LENGTH: usize = 4;

/// The locals that hold nodes only, at most.
const MAX_NODE_LOCALS: usize = 3;

/// The methods that stand in tables, which precede all others.
pub(super) const TABLE_METHODS: usize = 2;

impl Declared {
    /// Declares classes, with the methods for their tables: each takes a receiver and a number.
    pub(super) fn new(module: &mut Module) -> (Declared, [MethodId; TABLE_METHODS]) {
        let (params, results) = ([Type::Ref, Type::I64], [Type::I64]);
        let methods = ["run_node", "run_leaf"].map(|name| module.declare_method(name, &params, &results));
        let signature = module.signature(&params, &results);
        let slot = |name: &str, method| SlotDecl { name: name.into(), signature, method };
        let mut class = |name: &str, superclass, slots| {
            module.classes.push(ClassData {
                name: name.into(),
                superclass,
                interfaces: vec![],
                is_interface: false,
                size_bytes: if superclass.is_some() { 40 } else { 32 },
                slots,
                implementations: vec![],
            })
        };
        let named = class("Named", None, vec![slot("name", None)]);
        let node = class("Node", None, vec![slot("run", Some(methods[0]))]);
        let leaf = class("Leaf", Some(node), vec![slot("run", Some(methods[1]))]);
        module.classes[named].is_interface = true;
        module.classes[leaf].interfaces = vec![named];
        module.classes[leaf].implementations =
            vec![Implementation { interface: named, slot: 0, method: methods[0] }];
        let mut field = |name: &str, class, offset, ty| {
            module.declare_symbol(name, SymbolKind::Field { class, offset, ty })
        };
        let next = field("next", node, 16, Type::Ref);
        let n = field("n", node, 24, Type::I64);
        let other = field("other", leaf, 32, Type::Ref);
        let longs = module.declare_symbol("longs", SymbolKind::Element(Type::I64));
        let references = module.declare_symbol("references", SymbolKind::Element(Type::Ref));
        (Declared { named, node, leaf, next, n, other, longs, references }, methods)
    }
}

impl Generator<'_, '_> {
    /// A statement on objects.
    pub(super) fn object(&mut self) {
        match self.choices.below(14) {
            10 => self.keep(),
            11..=13 => self.recall(),
            0 | 1 => self.new_object(),
            2 => self.new_array(),
            3 | 4 => self.use_known(),
            5 => self.test_class(),
            6 => self.cast(),
            7 => self.dispatch(),
            8 => self.monitor(),
            _ => self.pass_on(),
        }
    }

    fn know(&mut self, node: Node, known: Known) {
        self.known.insert(node, known);
        self.pool.push(node);
    }

    /// A reference of the pool that leads to a new object.
    fn known(&mut self) -> Option<(Node, Known)> {
        let all: Vec<(Node, Known)> =
            self.pool.iter().filter_map(|node| Some((*node, *self.known.get(node)?))).collect();
        self.choices.pick(&all).copied()
    }

    fn new_object(&mut self) {
        let objects = &self.program.objects;
        let class = [objects.node, objects.leaf][self.choices.below(2)];
        let node = self.builder.emit(Opcode::New, Type::Ref, &[], Payload::Class(class));
        self.know(node, Known::Object(class));
    }

    /// Makes the locals that hold nodes only.
    pub(super) fn node_locals(&mut self) {
        for index in 0..self.choices.below(MAX_NODE_LOCALS + 1) {
            let local = self.builder.local(&format!("node{index}"), Type::Ref);
            let class = self.program.objects.node;
            let node = self.builder.emit(Opcode::New, Type::Ref, &[], Payload::Class(class));
            self.builder.set(local, node);
            self.node_locals.push(local);
        }
        // What is drawn at the end is always the same, since there are no bytes left.
        self.shown_nodes = self.choices.below(self.node_locals.len() + 1);
    }

    /// A local that holds nodes gets one: one that is there, more often a new one.
    fn keep(&mut self) {
        let Some(local) = self.choices.pick(&self.node_locals).copied() else { return self.new_object() };
        let node = match self.known() {
            Some((node, Known::Object(_))) if self.choices.one_in(3) => node,
            _ => {
                let class = Payload::Class(self.program.objects.node);
                let node = self.builder.emit(Opcode::New, Type::Ref, &[], class);
                self.know(node, Known::Object(self.program.objects.node));
                self.use_known();
                node
            }
        };
        self.builder.set(local, node);
    }

    /// Uses what a local that holds nodes has: at least a node.
    fn recall(&mut self) {
        let Some(local) = self.choices.pick(&self.node_locals).copied() else { return self.use_known() };
        let node = self.builder.get(local);
        let class = self.program.objects.node;
        self.known.entry(node).or_insert(Known::Object(class));
        self.pool.push(node);
        self.use_known();
        if self.choices.one_in(4) {
            self.show_field(node);
        }
    }

    /// Lets the host see the numbers in some of the nodes that locals hold at the end: those of the first ones.
    pub(super) fn show_nodes(&mut self) {
        for index in 0..self.shown_nodes {
            let node = self.builder.get(self.node_locals[index]);
            self.show_field(node);
        }
    }

    /// Lets the host see the number in a node.
    fn show_field(&mut self, node: Node) {
        let access = Access { place: Place::Symbol(self.program.objects.n), offset: 24, scale: 1 };
        let number = self.builder.load(Type::I64, access, node, None);
        self.show(number);
    }

    fn new_array(&mut self) {
        let length = self.choices.below(MAX_LENGTH + 1);
        // Now and then one that cannot be made.
        let count = if self.choices.one_in(16) { -1 } else { length as i32 };
        let count = self.builder.i32(count);
        if self.choices.below(2) == 0 {
            let array = self.builder.emit(Opcode::NewArray, Type::Ref, &[count], Payload::Element(Type::I64));
            self.know(array, Known::Longs(length as u32));
        } else {
            let class = Payload::Class(self.program.objects.node);
            let array = self.builder.emit(Opcode::NewObjectArray, Type::Ref, &[count], class);
            self.know(array, Known::Nodes(length as u32));
        }
    }

    /// Loads from or stores to a new object, or asks for its length.
    fn use_known(&mut self) {
        let Some((node, known)) = self.known() else { return self.new_object() };
        let objects = &self.program.objects;
        let (symbol, offset, ty) = match known {
            Known::Object(class) if class == objects.leaf && self.choices.below(3) == 0 => {
                (objects.other, 32, Type::Ref)
            }
            Known::Object(_) if self.choices.below(2) == 0 => (objects.next, 16, Type::Ref),
            Known::Object(_) => (objects.n, 24, Type::I64),
            Known::Longs(0) | Known::Nodes(0) => {
                let length = self.builder.op(Opcode::ArrayLength, &[node]);
                return self.pool.push(length);
            }
            Known::Longs(length) => {
                (objects.longs, ELEMENTS_OFFSET + 8 * self.choices.below(length as usize) as i32, Type::I64)
            }
            Known::Nodes(length) => (
                objects.references,
                ELEMENTS_OFFSET + 8 * self.choices.below(length as usize) as i32,
                Type::Ref,
            ),
        };
        let access = Access { place: Place::Symbol(symbol), offset, scale: 1 };
        if self.choices.below(2) == 0 {
            let loaded = self.builder.load(ty, access, node, None);
            if self.choices.one_in(2) {
                self.show(loaded);
            }
            return self.pool.push(loaded);
        }
        let value = self.value(ty);
        if let Known::Nodes(_) = known {
            self.builder.emit(Opcode::StoreCheck, Type::Ref, &[node, value], Payload::None);
        }
        self.builder.store(access, value, node, None);
    }

    fn class(&mut self) -> ClassId {
        let objects = &self.program.objects;
        [objects.node, objects.leaf, objects.named][self.choices.below(3)]
    }

    /// Whether a reference is of a class, or exactly of it.
    fn test_class(&mut self) {
        let class = self.class();
        let truth = match self.known() {
            Some((node, _)) if self.choices.below(3) == 0 => {
                let own = self.builder.op(Opcode::ClassOf, &[node]);
                let asked = self.builder.emit(Opcode::ClassAddress, Type::Addr, &[], Payload::Class(class));
                self.builder.op(Opcode::Eq, &[own, asked])
            }
            _ => {
                let value = self.value(Type::Ref);
                self.builder.emit(Opcode::InstanceOf, Type::I32, &[value], Payload::Class(class))
            }
        };
        self.pool.push(truth);
    }

    fn cast(&mut self) {
        let (class, value) = (self.class(), self.value(Type::Ref));
        let cast = self.builder.emit(Opcode::CastCheck, Type::Ref, &[value], Payload::Class(class));
        self.pool.push(cast);
    }

    /// Calls a method through the table of a new object, or through its interface. Methods in tables call none.
    fn dispatch(&mut self) {
        let Some((node, Known::Object(class))) = self.known() else { return self.new_object() };
        if self.callees.len() < TABLE_METHODS {
            return;
        }
        let objects = &self.program.objects;
        let is_by_interface = class == objects.leaf && self.choices.below(2) == 0;
        let (opcode, of) = match is_by_interface {
            true => (Opcode::CallInterface, objects.named),
            false => (Opcode::CallVirtual, objects.node),
        };
        let number = self.value(Type::I64);
        let payload = Payload::Dispatch(Dispatch { class: of, slot: 0 });
        let result = self.builder.emit(opcode, Type::I64, &[node, number], payload);
        self.pool.push(result);
    }

    /// Enters a monitor and leaves it; now and then once too often.
    fn monitor(&mut self) {
        let Some((node, _)) = self.known() else { return self.new_object() };
        self.lock(Opcode::MonitorEnter, node);
        for _ in 0..self.choices.below(3) {
            // Within, or after it was left for a moment.
            let (first, second) = match self.choices.below(2) {
                0 => (Opcode::MonitorEnter, Opcode::MonitorExit),
                _ => (Opcode::MonitorExit, Opcode::MonitorEnter),
            };
            self.lock(first, node);
            if self.choices.one_in(2) {
                self.use_known();
            }
            self.lock(second, node);
        }
        let exits = if self.choices.one_in(8) { 2 } else { 1 };
        for _ in 0..exits {
            self.lock(Opcode::MonitorExit, node);
        }
    }

    fn lock(&mut self, opcode: Opcode, node: Node) {
        self.builder.emit(opcode, Type::Void, &[node], Payload::None);
    }

    /// Gives a reference to a native function, which gives it back.
    fn pass_on(&mut self) {
        let value = self.value(Type::Ref);
        let same = self.builder.call_native(self.program.pass, &[value]);
        self.pool.push(same);
    }
}
