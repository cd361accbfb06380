//! Objects: fields, arrays, type tests, dispatch, monitors, and exceptions that are objects.

use super::*;
use crate::layout::{ELEMENTS_OFFSET, HEADER_BYTES};
use crate::method::{Access, Dispatch, Handler, Node, Payload, Place};
use crate::module::{ClassData, ClassId, Implementation, SlotDecl, SymbolId, SymbolKind};
use crate::raise::{KindSet, RaiseKind};

/// Shape ◄── Square ◄── Cube; Cube implements Named, an interface with one slot.
struct Zoo {
    module: Module,
    shape: ClassId,
    square: ClassId,
    cube: ClassId,
    named: ClassId,
    /// The field of Shape.
    side: SymbolId,
    /// area, in Shape's table at 0: Shape has none, Square and Cube have one each; name is Cube's only.
    areas: [MethodId; 2],
    name: MethodId,
}

fn class(name: &str, superclass: Option<ClassId>) -> ClassData {
    ClassData {
        name: name.into(),
        superclass,
        interfaces: vec![],
        is_interface: false,
        size_bytes: HEADER_BYTES + 8,
        slots: vec![],
        implementations: vec![],
    }
}

impl Zoo {
    fn new() -> Zoo {
        let mut module = Module::new();
        let signature = module.signature(&[Type::Ref], &[Type::I32]);
        let areas = ["square", "cube"].map(|name| module.declare_method(name, &[Type::Ref], &[Type::I32]));
        let name = module.declare_method("name", &[Type::Ref], &[Type::I32]);
        let slot = |method| SlotDecl { name: "area".into(), signature, method };
        let mut push = |name, superclass, slots, interfaces, implementations| {
            module.classes.push(ClassData { slots, interfaces, implementations, ..class(name, superclass) })
        };
        let named = push("Named", None, vec![slot(None)], vec![], vec![]);
        let shape = push("Shape", None, vec![slot(None)], vec![], vec![]);
        let square = push("Square", Some(shape), vec![slot(Some(areas[0]))], vec![], vec![]);
        let implementation = Implementation { interface: named, slot: 0, method: name };
        let cube = push("Cube", Some(square), vec![slot(Some(areas[1]))], vec![named], vec![implementation]);
        let field = SymbolKind::Field { class: shape, offset: HEADER_BYTES, ty: Type::I32 };
        let side = module.declare_symbol("side", field);
        Zoo { module, shape, square, cube, named, side, areas, name }
    }

    /// The bodies of the methods: the side, times one, 10 and 100.
    fn bodies<'a>(&self, arena: &'a Bump) -> Vec<Method<'a>> {
        let methods = [(self.areas[0], 1), (self.areas[1], 10), (self.name, 100)];
        let body = |(id, factor)| {
            build(arena, &self.module, id, |b| {
                let receiver = b.param(0);
                let receiver = b.get(receiver);
                let side = b.load(Type::I32, self.field(), receiver, None);
                let factor = b.i32(factor);
                let product = b.op(Opcode::Mul, &[side, factor]);
                b.ret(&[product]);
            })
        };
        methods.into_iter().map(body).collect()
    }

    fn field(&self) -> Access {
        Access { place: Place::Symbol(self.side), offset: HEADER_BYTES as i32, scale: 1 }
    }

    /// Runs a method that `fill` writes, which gives what the node that it returns does.
    fn run(
        &mut self,
        ty: Type,
        fill: impl FnOnce(&Zoo, &mut Builder<'_, '_>) -> Node,
    ) -> Result<Value, Stop> {
        let arena = Bump::new();
        let id = self.module.declare_method("main", &[], &[ty]);
        let mut methods = vec![build(&arena, &self.module, id, |b| {
            let node = fill(self, b);
            b.ret(&[node]);
        })];
        methods.extend(self.bodies(&arena));
        run(&self.module, &methods, &mut Regions::new(&self.module), &[]).map(|results| results[0])
    }

    /// What such a method raises.
    fn raised(&mut self, ty: Type, fill: impl FnOnce(&Zoo, &mut Builder<'_, '_>) -> Node) -> RaiseKind {
        match self.run(ty, fill) {
            Err(Stop::Raised { raised, .. }) => raised.kind,
            other => panic!("raises: {other:?}"),
        }
    }
}

fn new(b: &mut Builder<'_, '_>, class: ClassId) -> Node {
    b.emit(Opcode::New, Type::Ref, &[], Payload::Class(class))
}

fn null(b: &mut Builder<'_, '_>) -> Node {
    b.constant(Type::Ref, 0)
}

/// A new object of a class with a side of 7.
fn with_side(zoo: &Zoo, b: &mut Builder<'_, '_>, class: ClassId) -> Node {
    let (object, seven) = (new(b, class), b.i32(7));
    b.store(zoo.field(), seven, object, None);
    object
}

#[test]
fn calls_go_to_the_method_of_the_receivers_class() {
    let mut zoo = Zoo::new();
    let call = |opcode, declared: fn(&Zoo) -> ClassId, of: fn(&Zoo) -> ClassId| {
        move |zoo: &Zoo, b: &mut Builder<'_, '_>| {
            let receiver = with_side(zoo, b, of(zoo));
            let dispatch = Dispatch { class: declared(zoo), slot: 0 };
            b.emit(opcode, Type::I32, &[receiver], Payload::Dispatch(dispatch))
        }
    };
    let (shape, square, cube, named) = (
        (|zoo| zoo.shape) as fn(&Zoo) -> ClassId,
        (|zoo| zoo.square) as fn(&Zoo) -> ClassId,
        (|zoo| zoo.cube) as fn(&Zoo) -> ClassId,
        (|zoo| zoo.named) as fn(&Zoo) -> ClassId,
    );
    assert_eq!(zoo.run(Type::I32, call(Opcode::CallVirtual, shape, square)), Ok(Value::i32(7)));
    assert_eq!(zoo.run(Type::I32, call(Opcode::CallVirtual, shape, cube)), Ok(Value::i32(70)));
    assert_eq!(zoo.run(Type::I32, call(Opcode::CallInterface, named, cube)), Ok(Value::i32(700)));
    assert!(matches!(zoo.run(Type::I32, call(Opcode::CallVirtual, shape, shape)), Err(Stop::Invalid(_))));
    assert!(matches!(zoo.run(Type::I32, call(Opcode::CallVirtual, cube, square)), Err(Stop::Invalid(_))));
    let kind = zoo.raised(Type::I32, |zoo, b| {
        let receiver = null(b);
        let dispatch = Dispatch { class: zoo.shape, slot: 0 };
        b.emit(Opcode::CallVirtual, Type::I32, &[receiver], Payload::Dispatch(dispatch))
    });
    assert_eq!(kind, RaiseKind::Fault);
}

#[test]
fn type_tests_follow_classes_and_interfaces() {
    type Pick = fn(&Zoo) -> ClassId;
    let cases: [(Pick, Pick, bool); 5] = [
        (|zoo| zoo.cube, |zoo| zoo.shape, true),
        (|zoo| zoo.cube, |zoo| zoo.named, true),
        (|zoo| zoo.square, |zoo| zoo.named, false),
        (|zoo| zoo.square, |zoo| zoo.square, true),
        (|zoo| zoo.shape, |zoo| zoo.square, false),
    ];
    for (of, asked, expected) in cases {
        let mut zoo = Zoo::new();
        let test = |zoo: &Zoo, b: &mut Builder<'_, '_>| {
            let object = new(b, of(zoo));
            b.emit(Opcode::InstanceOf, Type::I32, &[object], Payload::Class(asked(zoo)))
        };
        assert_eq!(zoo.run(Type::I32, test), Ok(Value::flag(expected)));
        let cast = |zoo: &Zoo, b: &mut Builder<'_, '_>| {
            let object = new(b, of(zoo));
            b.emit(Opcode::CastCheck, Type::Ref, &[object], Payload::Class(asked(zoo)))
        };
        match zoo.run(Type::Ref, cast) {
            Ok(object) => assert!(expected && object.is_true()),
            Err(stop) => assert!(!expected && stop.to_string().starts_with("cast"), "{stop}"),
        }
    }
    let mut zoo = Zoo::new();
    let test = |opcode, ty| {
        move |zoo: &Zoo, b: &mut Builder<'_, '_>| {
            let null = null(b);
            b.emit(opcode, ty, &[null], Payload::Class(zoo.cube))
        }
    };
    assert_eq!(zoo.run(Type::I32, test(Opcode::InstanceOf, Type::I32)), Ok(Value::i32(0)));
    assert_eq!(zoo.run(Type::Ref, test(Opcode::CastCheck, Type::Ref)), Ok(Value::reference(0)));
}

#[test]
fn the_class_of_an_object_is_that_classs_address() {
    let mut zoo = Zoo::new();
    let equal = zoo.run(Type::I32, |zoo, b| {
        let object = new(b, zoo.square);
        let class = b.op(Opcode::ClassOf, &[object]);
        let address = b.emit(Opcode::ClassAddress, Type::Addr, &[], Payload::Class(zoo.square));
        b.op(Opcode::Eq, &[class, address])
    });
    assert_eq!(equal, Ok(Value::i32(1)));
}

#[test]
fn arrays_have_a_length_and_elements_that_are_zero_at_first() {
    let mut zoo = Zoo::new();
    let sum = zoo.run(Type::I32, |zoo, b| {
        let (three, two) = (b.i32(3), b.i64(2));
        let array = b.emit(Opcode::NewArray, Type::Ref, &[three], Payload::Element(Type::I32));
        let access = Access { place: Place::Symbol(zoo.side), offset: ELEMENTS_OFFSET, scale: 4 };
        let fresh = b.load(Type::I32, access, array, Some(two));
        b.store(access, three, array, Some(two));
        let element = b.load(Type::I32, access, array, Some(two));
        let length = b.op(Opcode::ArrayLength, &[array]);
        let sum = b.op(Opcode::Add, &[length, element]);
        b.op(Opcode::Sub, &[sum, fresh])
    });
    assert_eq!(sum, Ok(Value::i32(6)));

    let array = |length, element: Option<Type>| {
        move |zoo: &Zoo, b: &mut Builder<'_, '_>| {
            let length = b.i32(length);
            match element {
                Some(ty) => b.emit(Opcode::NewArray, Type::Ref, &[length], Payload::Element(ty)),
                None => b.emit(Opcode::NewObjectArray, Type::Ref, &[length], Payload::Class(zoo.shape)),
            }
        }
    };
    for element in [Some(Type::F64), None] {
        assert_eq!(zoo.raised(Type::Ref, array(-1, element)), RaiseKind::NegativeSize);
        assert_eq!(zoo.raised(Type::Ref, array(i32::MAX, element)), RaiseKind::OutOfMemory);
    }
    let kind = zoo.raised(Type::I32, |_, b| {
        let null = null(b);
        b.op(Opcode::ArrayLength, &[null])
    });
    assert_eq!(kind, RaiseKind::Fault);
}

#[test]
fn arrays_take_what_their_class_allows() {
    let store = |of: fn(&Zoo) -> Option<ClassId>| {
        let mut zoo = Zoo::new();
        zoo.run(Type::Ref, |zoo, b| {
            let one = b.i32(1);
            let array = b.emit(Opcode::NewObjectArray, Type::Ref, &[one], Payload::Class(zoo.square));
            let stored = match of(zoo) {
                Some(class) => new(b, class),
                None => null(b),
            };
            b.emit(Opcode::StoreCheck, Type::Ref, &[array, stored], Payload::None)
        })
    };
    assert!(store(|zoo| Some(zoo.cube)).is_ok() && store(|_| None).is_ok());
    assert!(
        matches!(store(|zoo| Some(zoo.shape)), Err(Stop::Raised { raised, .. }) if raised.kind == RaiseKind::Store)
    );
}

#[test]
fn monitors_are_left_as_often_as_entered() {
    let leave = |entered: usize, left: usize| {
        let mut zoo = Zoo::new();
        zoo.run(Type::Ref, |zoo, b| {
            let object = new(b, zoo.shape);
            for _ in 0..entered {
                b.emit(Opcode::MonitorEnter, Type::Void, &[object], Payload::None);
            }
            for _ in 0..left {
                b.emit(Opcode::MonitorExit, Type::Void, &[object], Payload::None);
            }
            object
        })
    };
    assert!(leave(2, 2).is_ok());
    assert!(matches!(leave(2, 3), Err(Stop::Raised { raised, .. }) if raised.kind == RaiseKind::Monitor));
}

#[test]
fn handlers_catch_by_the_class_of_the_exception() {
    for (thrown, expected) in [(0, 0), (1, 1), (2, 2)] {
        let zoo = Zoo::new();
        let mut module = zoo.module.clone();
        let arena = Bump::new();
        let id = module.declare_method("main", &[], &[Type::I32]);
        let method = build(&arena, &module, id, |b| {
            let (start, cubes, squares, others) = (b.block(), b.block(), b.block(), b.block());
            let catch = |class, block| Handler { kinds: KindSet::GUEST, class, block };
            let handlers =
                [catch(Some(zoo.named), cubes), catch(Some(zoo.square), squares), catch(None, others)];
            let list = b.handlers(&handlers);
            b.set_handlers(start, Some(list));
            b.goto(start);
            b.switch_to(start);
            let object = new(b, [zoo.cube, zoo.square, zoo.shape][thrown]);
            b.throw(object);
            for (block, value) in [(cubes, 0), (squares, 1), (others, 2)] {
                b.switch_to(block);
                let value = b.i32(value);
                b.ret(&[value]);
            }
        });
        assert_eq!(result(&module, &[method], &[]), Value::i32(expected));
    }
}
