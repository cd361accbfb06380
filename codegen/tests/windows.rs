//! Calls have windows, whatever their arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{
    Allocation, Artifact, Compiler, Features, Helper, RelocKind, RelocTarget, Target, Verify,
};
use dagwood_il::{
    Builder, Folding, Handler, KindSet, MethodId, Module, Node, Opcode, Payload, SymbolKind, Type,
};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

/// Every type of a value.
const TYPES: [Type; 7] = [Type::I8, Type::I16, Type::I32, Type::I64, Type::F32, Type::F64, Type::Addr];

fn compile(module: &Module, id: MethodId, fill: impl FnOnce(&mut Builder<'_, '_>)) -> Artifact {
    let arena = Bump::new();
    let mut b = Builder::new(&arena, module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    fill(&mut b);
    let target = Arc::new(Target::new(Features::Host, Verify::On).unwrap());
    Compiler::new(target).compile(module, &b.finish().unwrap()).unwrap()
}

fn params(b: &mut Builder<'_, '_>, count: usize) -> Vec<Node> {
    (0..count)
        .map(|index| {
            let param = b.param(index);
            b.get(param)
        })
        .collect()
}

/// The instructions of code without constants and tables, by offset; all of them are valid.
fn instructions(artifact: &Artifact) -> BTreeMap<u32, Instruction> {
    let decoder = Decoder::with_ip(64, &artifact.code, 0, DecoderOptions::NONE);
    let all: BTreeMap<_, _> =
        decoder.into_iter().map(|instruction| (instruction.ip() as u32, instruction)).collect();
    assert!(all.values().all(|instruction| instruction.code() != Code::INVALID));
    all
}

/// Checks what holds of every artifact, and returns what is called through windows.
fn called(artifact: &Artifact) -> Vec<RelocTarget> {
    let starts = instructions(artifact);
    let targets: BTreeSet<u64> = starts.values().map(Instruction::near_branch_target).collect();
    for call in &artifact.calls {
        assert!(matches!(call.len, 9 | 10));
        let within: Vec<_> =
            starts.range(call.start..call.end()).map(|(_, instruction)| instruction).collect();
        let [nop, slot_call] = within[..] else { panic!("{within:?} in a window") };
        assert_eq!((nop.code(), nop.ip() as u32), (Code::Nop_rm32, call.start));
        assert_eq!((slot_call.code(), slot_call.next_ip() as u32), (Code::Call_rm64, call.end()));
        assert_eq!(slot_call.ip_rel_memory_address(), slot_call.next_ip(), "no displacement yet");
        assert!(artifact.sites.binary_search_by_key(&call.end(), |site| site.return_offset).is_ok());
        assert_eq!(targets.range(u64::from(call.start) + 1..call.end().into()).next(), None);
    }
    assert!(artifact.calls.windows(2).all(|pair| pair[0].end() <= pair[1].start));
    assert!(artifact.sites.is_sorted_by(|a, b| a.return_offset < b.return_offset));
    for reloc in &artifact.relocs {
        assert!(
            artifact.calls.iter().all(|call| reloc.offset + 4 <= call.start || reloc.offset >= call.end())
        );
        let before = match reloc.kind {
            RelocKind::Rel4 => 1,
            RelocKind::Load => 3,
        };
        assert!(starts.contains_key(&(reloc.offset - before)), "{reloc:?} lies in an instruction");
    }
    artifact.calls.iter().map(|call| call.target).collect()
}

#[test]
fn calls_with_any_number_of_arguments_have_windows() {
    for count in (0..20).chain([40, 100]) {
        for shift in 0..TYPES.len() {
            let types: Vec<_> = TYPES.iter().copied().cycle().skip(shift).take(count).collect();
            let mut module = Module::new();
            let results = &types[..count.min(3)];
            let callee = module.declare_method("callee", &types, results);
            let id = module.declare_method("m", &types, &[]);
            let artifact = compile(&module, id, |b| {
                let mut values = params(b, count);
                b.call(callee, &values);
                // Each in the place of the next one of its type, the last in the place of the first: registers in circles.
                let next = |index: usize| {
                    if index + TYPES.len() < count { index + TYPES.len() } else { index % TYPES.len() }
                };
                values = (0..count).map(|index| values[next(index)]).collect();
                let first = b.call(callee, &values);
                for index in 1..results.len() {
                    let result = b.result(results[index], first, index as u32);
                    values[index] = result;
                }
                b.call(callee, &values);
                b.ret(&[]);
            });
            assert_eq!(called(&artifact), [RelocTarget::Method(callee); 3], "{count} arguments");
            assert_eq!(artifact.scattered_calls, 0, "{count} arguments");
            assert_eq!(artifact.align, 1);
        }
    }
}

#[test]
fn a_method_calls_itself_through_a_window() {
    let mut module = Module::new();
    let id = module.declare_method("m", &[Type::I64, Type::I64], &[Type::I64]);
    let artifact = compile(&module, id, |b| {
        let [x, y] = params(b, 2)[..] else { unreachable!() };
        let (left, right) = (b.call(id, &[y, x]), b.call(id, &[x, y]));
        let sum = b.op(Opcode::Add, &[left, right]);
        b.ret(&[sum]);
    });
    assert_eq!(called(&artifact), [RelocTarget::Method(id); 2]);
}

#[test]
fn calls_that_handlers_see_have_windows() {
    let mut module = Module::new();
    let callee = module.declare_method("callee", &[Type::F64; 3], &[Type::I32]);
    let native = module.declare_native("native", &[Type::I32], &[Type::I32]);
    let id = module.declare_method("m", &[Type::F64; 3], &[Type::I32]);
    let artifact = compile(&module, id, |b| {
        let (body, caught) = (b.block(), b.block());
        b.goto(body);
        let list = b.handlers(&[Handler { kinds: KindSet::CATCHABLE, class: None, block: caught }]);
        b.set_handlers(body, Some(list));
        b.switch_to(caught);
        let code = b.emit(Opcode::CaughtKind, Type::I32, &[], Payload::None);
        b.ret(&[code]);
        b.switch_to(body);
        let values = params(b, 3);
        let result = b.call(callee, &[values[2], values[0], values[1]]);
        let result = b.call_native(native, &[result]);
        b.ret(&[result]);
    });
    assert_eq!(called(&artifact), [RelocTarget::Method(callee), RelocTarget::Helper(Helper::CallNative)]);
    for call in &artifact.calls {
        let site = artifact.sites.iter().find(|site| site.return_offset == call.end()).unwrap();
        assert_eq!(site.handlers_count, 1);
    }
}

#[test]
fn what_only_raises_or_polls_or_jumps_stays_short() {
    let mut module = Module::new();
    let callee = module.declare_method("callee", &[Type::I32], &[Type::I32]);
    let id = module.declare_method("m", &[Type::I32], &[Type::I32]);
    let artifact = compile(&module, id, |b| {
        let x = params(b, 1)[0];
        b.emit(Opcode::Poll, Type::Void, &[], Payload::None);
        b.check(x, dagwood_il::RaiseKind::Unreachable, 1);
        b.emit(Opcode::TailCall, Type::Void, &[x], Payload::Method(callee));
    });
    assert_eq!(called(&artifact), []);
    assert!(artifact.relocs.iter().all(|reloc| reloc.kind == RelocKind::Rel4));
    let targets: BTreeSet<_> = artifact.relocs.iter().map(|reloc| reloc.target).collect();
    let helper = RelocTarget::Helper;
    let expected = [RelocTarget::Method(callee), helper(Helper::RaiseSite), helper(Helper::Poll)];
    assert_eq!(targets, BTreeSet::from(expected));
}

#[test]
fn addresses_are_loads_and_no_calls() {
    let mut module = Module::new();
    let callee = module.declare_method("callee", &[], &[Type::I32]);
    let signature = module.signature(&[], &[Type::I32]);
    let symbol = module.declare_symbol("symbol", SymbolKind::Static(Type::I32));
    let id = module.declare_method("m", &[], &[Type::Addr]);
    let artifact = compile(&module, id, |b| {
        let address = b.emit(Opcode::MethodAddress, Type::Addr, &[], Payload::Method(callee));
        // Calling it would be a direct call, if the address could not have come from elsewhere.
        let context = b.context();
        b.call_indirect(signature, &[address, context]);
        let place = b.emit(Opcode::SymbolAddress, Type::Addr, &[], Payload::Symbol(symbol));
        b.ret(&[place]);
    });
    assert_eq!((called(&artifact), artifact.scattered_calls), (vec![], 0));
    let loads: Vec<_> = artifact.relocs.iter().filter(|reloc| reloc.kind == RelocKind::Load).collect();
    assert_eq!(
        loads.iter().map(|reloc| reloc.target).collect::<Vec<_>>(),
        [RelocTarget::Method(callee), RelocTarget::Symbol(symbol)]
    );
    for load in loads {
        let offset = load.offset as usize;
        let [rex, opcode, modrm] = artifact.code[offset - 3..offset] else { unreachable!() };
        assert_eq!((rex & !4, opcode, modrm & 0xc7, load.addend), (0x48, 0x8b, 5, 0));
    }
}

#[test]
fn methods_whose_registers_are_allocated_in_one_pass_have_windows() {
    let mut module = Module::new();
    let callee = module.declare_method("callee", &[Type::I32; 8], &[Type::I32]);
    let id = module.declare_method("m", &[Type::I32; 8], &[Type::I32]);
    let artifact = compile(&module, id, |b| {
        let mut values = params(b, 8);
        for round in 0..12_000 {
            let call = b.call(callee, &values);
            values[round % 8] = (0..10).fold(call, |value, _| b.op(Opcode::Not, &[value]));
        }
        b.ret(&values[..1]);
    });
    assert_eq!(artifact.allocation, Allocation::OnePass);
    assert_eq!((called(&artifact).len(), artifact.scattered_calls), (12_000, 0));
}
