//! Tables and blocks.

use super::*;

#[test]
fn tables_and_blocks() {
    check_cases(CASES);
}

fn single(fixture: &mut Fixture<'_>) {
    one_block(fixture, |_, _| {});
}

/// Two arms, one of which may extend the entry.
fn arms(fixture: &mut Fixture<'_>, extends: bool) -> (Block, Block, Block) {
    let entry = fixture.block(None);
    let then = fixture.block(extends.then_some(entry));
    let otherwise = fixture.block(None);
    let condition = fixture.param(0);
    fixture.branch(entry, condition, then, otherwise);
    (entry, then, otherwise)
}

fn handler(fixture: &mut Fixture<'_>, kinds: KindSet, class: Option<ClassId>) {
    let entry = fixture.block(None);
    let list = fixture.handlers(kinds, class, Block::new(1));
    fixture.method.set_handlers(entry, Some(list));
    let handler = fixture.block(None);
    fixture.call(entry);
    fixture.end(entry);
    fixture.end(handler);
}

fn switch(fixture: &mut Fixture<'_>, cases: &[u64]) {
    let entry = fixture.block(None);
    let next = fixture.block(None);
    let byte = fixture.constant(Type::I8, 0);
    let cases: Vec<(u64, Block)> = cases.iter().map(|value| (*value, next)).collect();
    let table = fixture.method.add_switch(&cases, next);
    fixture.root(entry, Opcode::Switch, Type::Void, &[byte], Payload::Switch(table));
    fixture.end(next);
}

/// As many blocks in one extended block.
fn chain(fixture: &mut Fixture<'_>, blocks: u16) {
    let mut at = fixture.block(None);
    for _ in 1..blocks {
        let next = fixture.block(Some(at));
        fixture.goto(at, next);
        at = next;
    }
    fixture.end(at);
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    (Rule::Exists, "an operand", |f| one_block(f, |f, block| {
        f.root(block, Opcode::Poll, Type::Void, &[], Payload::None);
        f.node(Opcode::Neg, Type::I32, &[Node::new(1000)], Payload::None);
    }), single),
    (Rule::Exists, "a block", |f| { let b = f.block(None); f.goto(b, Block::new(7)); },
        |f| { let b = f.block(None); let next = f.block(None); f.goto(b, next); f.end(next); }),
    (Rule::Exists, "a method", |f| one_block(f, |f, _| {
        f.node(Opcode::MethodAddress, Type::Addr, &[], Payload::Method(MethodId::new(99)));
    }), |f| one_block(f, |f, _| {
        f.node(Opcode::MethodAddress, Type::Addr, &[], Payload::Method(MethodId::new(0)));
    })),
    (Rule::Payload, "another variant", |f| one_block(f, |f, _| { f.node(Opcode::Context, Type::Addr, &[], Payload::Index(1)); }),
        |f| one_block(f, |f, _| { f.node(Opcode::Context, Type::Addr, &[], Payload::None); })),
    (Rule::OperandCount, "one missing", |f| one_block(f, |f, _| { let a = f.param(0); f.node(Opcode::SDiv, Type::I32, &[a], Payload::None); }),
        |f| one_block(f, |f, _| { let a = f.param(0); f.node(Opcode::SDiv, Type::I32, &[a, a], Payload::None); })),
    (Rule::OperandCount, "a load without an index may, without a base may not", |f| one_block(f, |f, _| {
        f.node(Opcode::Load, Type::I32, &[], Fixture::access(Place::Symbol(f.memory), 1));
    }), |f| one_block(f, |f, block| {
        let context = f.node(Opcode::Context, Type::Addr, &[], Payload::None);
        f.root(block, Opcode::Load, Type::I32, &[context], Fixture::access(Place::Symbol(f.memory), 1));
    })),
    (Rule::OperandOrder, "itself", |f| one_block(f, |f, _| { f.node(Opcode::Neg, Type::I32, &[Node::new(0)], Payload::None); }), single),

    (Rule::EntryBlock, "no blocks", |_| {}, single),
    (Rule::EntryBlock, "a loop to it", |f| { let b = f.block(None); f.goto(b, b); },
        |f| { let b = f.block(None); let again = f.block(None); f.goto(b, again); f.goto(again, again); }),
    (Rule::BlockEnd, "no roots", |f| { f.block(None); }, single),
    (Rule::BlockEnd, "no end", |f| { let b = f.block(None); f.call(b); }, |f| { let b = f.block(None); f.call(b); f.end(b); }),
    (Rule::BlockEnd, "two ends", |f| { let b = f.block(None); f.end(b); f.end(b); }, single),
    (Rule::Extension, "two predecessors",
        |f| { let (_, then, otherwise) = arms(f, true); f.goto(otherwise, then); f.end(then); },
        |f| { let (_, then, otherwise) = arms(f, false); f.goto(otherwise, then); f.end(then); }),
    (Rule::Extension, "both arms at once are one predecessor",
        |f| { let entry = f.block(None); let next = f.block(None); let arm = f.block(Some(next)); let a = f.param(0);
            f.branch(entry, a, next, arm); f.end(next); f.end(arm); },
        |f| { let entry = f.block(None); let next = f.block(Some(entry)); let a = f.param(0); f.branch(entry, a, next, next); f.end(next); }),
    (Rule::Extension, "an arm that nothing enters may be left over",
        |f| { let entry = f.block(None); let next = f.block(None); let arm = f.block(Some(entry)); f.goto(entry, next); f.goto(next, arm); f.end(arm); },
        |f| { let entry = f.block(None); let next = f.block(None); let arm = f.block(Some(entry)); f.goto(entry, next); f.end(next); f.end(arm); }),
    (Rule::Extension, "too deep", |f| chain(f, 65), |f| chain(f, 64)),
    (Rule::Extension, "a cycle", |f| { single(f); let a = f.block(Some(Block::new(2))); let b = f.block(Some(a)); f.goto(a, b); f.goto(b, a); },
        |f| { single(f); let a = f.block(None); let b = f.block(Some(a)); f.goto(a, b); f.goto(b, a); }),
    (Rule::Handler, "catches nothing", |f| handler(f, KindSet::NONE, None), |f| handler(f, KindSet::NULL, None)),
    (Rule::Handler, "catches faults", |f| handler(f, KindSet::ALL, None), |f| handler(f, KindSet::CATCHABLE, None)),
    (Rule::Handler, "a class without guest", |f| handler(f, KindSet::NULL, Some(f.object)), |f| handler(f, KindSet::GUEST, Some(f.object))),
    (Rule::Handler, "entered by a jump",
        |f| { let b = f.handled_block(KindSet::CATCHABLE, 1); let h = f.block(None); f.goto(b, h); f.end(h); },
        |f| { let b = f.handled_block(KindSet::CATCHABLE, 1); let h = f.block(None); f.end(b); f.end(h); }),
    (Rule::SwitchCases, "twice", |f| switch(f, &[1, 1]), |f| switch(f, &[1, 2])),
    (Rule::SwitchCases, "too wide", |f| switch(f, &[256]), |f| switch(f, &[0, 255])),
    (Rule::Locals, "one name twice", |f| { f.local("x", Type::I32); f.local("x", Type::I64); single(f); },
        |f| { f.local("x", Type::I32); f.local("y", Type::I32); single(f); }),
    (Rule::Locals, "void", |f| { f.local("x", Type::Void); single(f); }, |f| { f.local("x", Type::V128); single(f); }),
    (Rule::Slots, "an odd alignment", |f| { f.method.add_slot("s", 8, 3); single(f); }, |f| { f.method.add_slot("s", 8, 16); single(f); }),
    (Rule::Size, "slots beyond the stack", |f| { f.method.add_slot("s", (1 << 24) + 1, 8); single(f); },
        |f| { f.method.add_slot("s", 1 << 24, 8); single(f); }),
];
