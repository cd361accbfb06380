//! Methods put together without any care: the verifier must say something about each, and never panic.

use super::*;
use crate::cfg::tests::Numbers;
use crate::layout::ObjectKind;
use crate::method::{Dispatch, SwitchTable, VirtualData, WideConst};
use crate::opcode::{PayloadKind, Properties, TABLE};
use crate::raise::RaiseKind;

/// An index that is there, but now and then one that is not.
fn some<K: Entity>(numbers: &mut Numbers, count: usize) -> K {
    let beyond = if numbers.below(64) == 0 { 3 } else { 0 };
    K::new(numbers.below(count.max(1) + beyond))
}

fn block(f: &Fixture<'_>, numbers: &mut Numbers) -> Block {
    some(numbers, f.method.block_count())
}

fn symbol(f: &Fixture<'_>, numbers: &mut Numbers) -> SymbolId {
    some(numbers, f.module.symbols.len())
}

fn class(f: &Fixture<'_>, numbers: &mut Numbers) -> ClassId {
    some(numbers, f.module.classes.len())
}

fn ty(numbers: &mut Numbers) -> Type {
    match numbers.below(12) {
        index if index < Type::VALUES.len() => Type::VALUES[index],
        9 => Type::Void,
        _ => Type::I32,
    }
}

/// A payload of a kind, but now and then of another.
fn payload(f: &mut Fixture<'_>, numbers: &mut Numbers, kind: PayloadKind) -> Payload {
    let kind = match numbers.below(64) {
        0 => TABLE[numbers.below(TABLE.len())].payload,
        _ => kind,
    };
    match kind {
        PayloadKind::None => Payload::None,
        PayloadKind::Const => match numbers.below(8) {
            0 => Payload::Wide(WideConst::new(numbers.below(2))),
            _ => Payload::Const(numbers.below(3) as u64),
        },
        PayloadKind::Local => Payload::Local(some(numbers, f.method.locals().len())),
        PayloadKind::Slot => Payload::Slot(some(numbers, f.method.slots().len())),
        PayloadKind::Access => {
            let place = match numbers.below(2) {
                0 => Place::Symbol(symbol(f, numbers)),
                _ => Place::Slot(some(numbers, f.method.slots().len())),
            };
            Fixture::access(place, [1, 1, 1, 3][numbers.below(4)])
        }
        PayloadKind::Symbol => Payload::Symbol(symbol(f, numbers)),
        PayloadKind::Method => Payload::Method(some(numbers, f.module.methods.len())),
        PayloadKind::Native => Payload::Native(some(numbers, f.module.natives.len())),
        PayloadKind::Signature => Payload::Signature(some(numbers, f.module.signatures.len())),
        PayloadKind::Dispatch => {
            Payload::Dispatch(Dispatch { class: class(f, numbers), slot: numbers.below(2) as u32 })
        }
        PayloadKind::Class => Payload::Class(class(f, numbers)),
        PayloadKind::Element => Payload::Element(ty(numbers)),
        PayloadKind::Index => Payload::Index(numbers.below(3) as u32),
        PayloadKind::Raise => Payload::Raise(RaiseKind::ALL[numbers.below(RaiseKind::ALL.len())], 0),
        PayloadKind::Goto => Payload::Goto(block(f, numbers)),
        PayloadKind::Branch => Payload::Branch(block(f, numbers), block(f, numbers)),
        PayloadKind::Switch => match numbers.below(8) {
            0 => Payload::Switch(SwitchTable::new(99)),
            _ => {
                let cases = [(numbers.below(3) as u64, block(f, numbers)), (2, block(f, numbers))];
                let default = block(f, numbers);
                Payload::Switch(f.method.add_switch(&cases, default))
            }
        },
        PayloadKind::Frame => {
            let (locals, stack, monitors) =
                (numbers.below(3) as u16, numbers.below(2) as u16, numbers.below(2) as u16);
            let mode = [FrameMode::Reexecute, FrameMode::After, FrameMode::Raise][numbers.below(3)];
            let (method, position) = (some(numbers, f.module.methods.len()), SourcePos::NONE);
            let data = FrameData { method, position, mode, locals, stack, monitors };
            Payload::Frame(f.method.add_frame(data))
        }
        PayloadKind::Virtual => {
            let kind = match numbers.below(3) {
                0 => ObjectKind::Array(Type::I64),
                1 => ObjectKind::ObjectArray(class(f, numbers)),
                _ => ObjectKind::Object(class(f, numbers)),
            };
            Payload::Virtual(f.method.add_virtual(VirtualData { id: 0, kind }))
        }
        PayloadKind::Guard => {
            let assumption = match numbers.below(3) {
                0 => Assumption::NotOverridden(class(f, numbers), numbers.below(2) as u32),
                1 => Assumption::NotWritten(symbol(f, numbers)),
                _ => Assumption::Custom(0),
            };
            let successors = (numbers.below(2) == 0).then(|| (block(f, numbers), block(f, numbers)));
            let assumptions = &[assumption][..numbers.below(2)];
            Payload::Guard(f.method.add_guard(assumptions, successors))
        }
    }
}

fn anything(f: &mut Fixture<'_>, numbers: &mut Numbers) {
    f.local("x", Type::I32);
    f.method.add_slot("s", 8, 8);
    for index in 0..3 {
        f.param(index);
    }
    // Where there is one block only, the later stages have their turn more often.
    let blocks = 1 + numbers.below(2) * numbers.below(5);
    for index in 0..blocks {
        let extends = (index > 0 && numbers.below(3) == 0).then(|| some(numbers, blocks));
        let block = f.block(extends);
        if numbers.below(3) == 0 {
            let kinds = [KindSet::CATCHABLE, KindSet::GUEST, KindSet::NONE][numbers.below(3)];
            let list = f.handlers(kinds, None, some(numbers, blocks));
            f.method.set_handlers(block, Some(list));
        }
    }
    for index in 0..blocks {
        for _ in 0..numbers.below(8) {
            let row = &TABLE[numbers.below(TABLE.len())];
            if row.has(Properties::TERMINATES) && numbers.below(16) > 0 {
                continue;
            }
            let mut operands: Vec<Node> = Vec::new();
            let extra = usize::from(row.has(Properties::VARIADIC) || numbers.below(32) == 0);
            for _ in 0..row.operands.len() + extra * numbers.below(4) {
                operands.push(some(numbers, f.method.node_count()));
            }
            let (payload, ty) = (payload(f, numbers, row.payload), ty(numbers));
            let node = f.node(row.opcode, ty, &operands, payload);
            if row.has(Properties::ROOT) || numbers.below(64) == 0 {
                f.list(Block::new(index), node);
            }
        }
        let to = block(f, numbers);
        match numbers.below(3) * usize::from(blocks > 1) {
            0 => f.end(Block::new(index)),
            1 => f.goto(Block::new(index), to),
            _ => {
                let condition = some(numbers, f.method.node_count());
                let otherwise = block(f, numbers);
                f.branch(Block::new(index), condition, to, otherwise)
            }
        };
    }
}

#[test]
fn whatever_a_method_holds_the_verifier_does_not_panic() {
    let mut numbers = Numbers(3);
    let mut found: Vec<Rule> = Vec::new();
    for _ in 0..20_000 {
        let arena = Bump::new();
        let mut f = Fixture::new(&arena);
        anything(&mut f, &mut numbers);
        match f.verify() {
            Ok(()) => {
                let cfg = Cfg::compute(&f.module, &f.method);
                let dominators = crate::cfg::Dominators::compute(&cfg);
                crate::cfg::Loops::compute(&cfg, &dominators);
                crate::dataflow::Liveness::compute(&f.method, &cfg).expect("it is small");
            }
            Err(errors) => found.extend(errors.iter().map(|error| error.rule)),
        }
        found.sort_unstable();
        found.dedup();
    }
    assert!(found.len() >= 25, "carelessness breaks most rules: {found:?}");
}
