//! Guards that hold, guards that fail, and the frames that are left then. Built by hand.

use super::*;
use crate::layout::ObjectKind;
use crate::method::{Assumption, Block, FrameData, FrameMode, Node, Payload, Root, SourcePos, VirtualData};
use crate::module::{ClassData, ClassId};
use crate::raise::RaiseKind;

/// A list of roots without positions.
fn roots(nodes: &[Node]) -> Vec<Root> {
    nodes.iter().map(|node| Root { node: *node, position: SourcePos(5) }).collect()
}

/// A constant in a method built by hand.
fn constant(method: &mut Method<'_>, ty: Type, bits: u64) -> Node {
    method.add_node(Opcode::Const, ty, &[], Payload::Const(bits))
}

fn goto(method: &mut Method<'_>, target: Block) -> Node {
    method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(target))
}

/// A block that returns a constant.
fn returning(method: &mut Method<'_>, bits: u64) -> Block {
    let block = method.add_block(None, None);
    let value = constant(method, Type::I32, bits);
    let end = method.add_node(Opcode::Return, Type::Void, &[value], Payload::None);
    method.set_roots(block, &roots(&[end]));
    block
}

#[test]
fn a_guard_branch_goes_either_way() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[], &[Type::I32]);
    let mut method = Method::new(&arena, id);
    let entry = method.add_block(None, None);
    let (fast, slow) = (returning(&mut method, 1), returning(&mut method, 2));
    let info = method.add_guard(&[Assumption::Custom(3)], Some((fast, slow)));
    let guard = method.add_node(Opcode::GuardBranch, Type::Void, &[], Payload::Guard(info));
    method.set_roots(entry, &roots(&[guard]));

    let methods = [method];
    for (holds, expected) in [(true, 1), (false, 2)] {
        let mut host = Regions::new(&module);
        host.guards(move |site| {
            assert_eq!((site.node, site.assumptions), (guard, &[Assumption::Custom(3)][..]));
            holds
        });
        assert_eq!(run(&module, &methods, &mut host, &[]).expect("returns")[0], Value::i32(expected));
    }
}

/// A guard in a callee with a frame state of two frames and two objects that refer to each other.
#[test]
fn a_guard_that_fails_leaves_with_its_frames() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let outer = module.declare_method("outer", &[], &[Type::I32]);
    let id = module.declare_method("m", &[Type::I32], &[Type::I32]);
    let class = module.classes.push(class("Pair"));
    let caller = build(&arena, &module, outer, |b| {
        let four = b.i32(4);
        b.at(SourcePos(11));
        let call = b.call(id, &[four]);
        b.ret(&[call]);
    });

    let mut method = Method::new(&arena, id);
    let p = method.add_param("p", Type::I32);
    let entry = method.add_block(None, None);
    let value = method.add_node(Opcode::Entry, Type::I32, &[], Payload::Local(p));
    // Used by the frame state alone.
    let sum = method.add_node(Opcode::Add, Type::I32, &[value, value], Payload::None);
    let dead = method.add_node(Opcode::Dead, Type::Void, &[], Payload::None);
    let kind = ObjectKind::Object(class);
    let infos = [0, 1].map(|id| method.add_virtual(VirtualData { id, kind }));
    let objects = infos.map(|info| method.add_node(Opcode::Virtual, Type::Void, &[], Payload::Virtual(info)));
    method.replace_node(objects[0], Opcode::Virtual, &[sum, objects[1]], Payload::Virtual(infos[0]));
    method.replace_node(objects[1], Opcode::Virtual, &[dead, objects[0]], Payload::Virtual(infos[1]));
    let mut frame = |position, mode, [locals, stack, monitors]: [u16; 3], operands: &[Node]| {
        let position = SourcePos(position);
        let info = method.add_frame(FrameData { method: id, position, mode, locals, stack, monitors });
        method.add_node(Opcode::Frame, Type::Void, operands, Payload::Frame(info))
    };
    let parent = frame(7, FrameMode::After, [1, 1, 0], &[value, sum]);
    let innermost = frame(3, FrameMode::Reexecute, [2, 0, 1], &[dead, sum, objects[0], parent]);
    let info = method.add_guard(&[Assumption::NotExtended(class)], None);
    let guard = method.add_node(Opcode::Guard, Type::Void, &[innermost], Payload::Guard(info));
    let end = method.add_node(Opcode::Return, Type::Void, &[value], Payload::None);
    method.set_roots(entry, &roots(&[guard, end]));

    let methods = [caller, method];
    assert_eq!(result(&module, &methods, &[]), Value::i32(4));

    let mut host = Regions::new(&module);
    host.guards(|_| false);
    let Err(Stop::Exit(exit)) = run(&module, &methods, &mut host, &[]) else { panic!("leaves") };
    let eight = ExitValue::Value(Value::i32(8));
    let frames = [
        ExitFrame {
            method: id,
            position: SourcePos(3),
            mode: FrameMode::Reexecute,
            locals: vec![ExitValue::Dead, eight],
            stack: vec![],
            monitors: vec![ExitValue::Virtual(0)],
        },
        ExitFrame {
            method: id,
            position: SourcePos(7),
            mode: FrameMode::After,
            locals: vec![ExitValue::Value(Value::i32(4))],
            stack: vec![eight],
            monitors: vec![],
        },
    ];
    assert_eq!(exit.frames, frames);
    let objects = [
        ExitObject { id: 0, kind, fields: vec![eight, ExitValue::Virtual(1)] },
        ExitObject { id: 1, kind, fields: vec![ExitValue::Dead, ExitValue::Virtual(0)] },
    ];
    assert_eq!(exit.virtuals, objects);
    assert_eq!((exit.method, exit.guard), (id, guard));
    assert_eq!(exit.callers, [TraceEntry { method: outer, position: SourcePos(11) }]);
}

#[test]
fn circles_and_strays_are_found() {
    let (arena, mut module) = (Bump::new(), Module::new());
    let id = module.declare_method("m", &[], &[Type::I32]);
    let hand = |fill: &dyn Fn(&mut Method<'_>, Block)| {
        let mut method = Method::new(&arena, id);
        let entry = method.add_block(None, None);
        fill(&mut method, entry);
        complaint(&module, &[method], &[])
    };

    let circle = hand(&|method, entry| {
        let one = constant(method, Type::I32, 1);
        let sum = method.add_node(Opcode::Add, Type::I32, &[one, one], Payload::None);
        let difference = method.add_node(Opcode::Sub, Type::I32, &[sum, one], Payload::None);
        method.replace_node(sum, Opcode::Add, &[one, difference], Payload::None);
        let end = method.add_node(Opcode::Return, Type::Void, &[sum], Payload::None);
        method.set_roots(entry, &roots(&[end]));
    });
    assert!(circle.ends_with("depends on itself"), "{circle}");

    let stray = hand(&|method, entry| {
        let one = constant(method, Type::I32, 1);
        let check =
            method.add_node(Opcode::DivCheck, Type::I32, &[one], Payload::Raise(RaiseKind::Division, 0));
        let end = method.add_node(Opcode::Return, Type::Void, &[check], Payload::None);
        method.set_roots(entry, &roots(&[end, check]));
    });
    assert!(stray.ends_with("is used before it has happened"), "{stray}");

    let endless = hand(&|method, entry| {
        let one = constant(method, Type::I32, 1);
        method.set_roots(entry, &roots(&[one]));
    });
    assert!(endless.ends_with("a block that does not end"), "{endless}");

    let extensions = hand(&|method, entry| {
        let other = method.add_block(None, None);
        let middle = method.add_block(Some(other), None);
        let jump = goto(method, middle);
        method.set_roots(entry, &roots(&[jump]));
    });
    assert!(extensions.contains("which extends another block"), "{extensions}");

    let shared = hand(&|method, entry| {
        let other = method.add_block(None, None);
        let one = constant(method, Type::I32, 1);
        for block in [entry, other] {
            let end = method.add_node(Opcode::Return, Type::Void, &[one], Payload::None);
            method.set_roots(block, &roots(&[end]));
        }
    });
    assert!(shared.ends_with("is used outside its extended block"), "{shared}");
}

fn class(name: &str) -> ClassData {
    ClassData {
        name: name.into(),
        superclass: None::<ClassId>,
        interfaces: vec![],
        is_interface: false,
        size_bytes: 32,
        slots: vec![],
        implementations: vec![],
    }
}
