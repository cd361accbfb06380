//! Every operation compiles for every type that its row allows, or is rejected by name, with and without the host's
//! special instructions, where nothing catches and in a block whose handler catches everything.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{Artifact, CompileError, Compiler, Features, Target, Verify};
use dagwood_il::opcode::{Operand, Outcome, PayloadKind};
use dagwood_il::{
    Access, Builder, ClassData, Dispatch, Folding, Handler, KindSet, Method, Module, Opcode, Payload, Place,
    Properties, RaiseKind, SlotDecl, SymbolKind, Type,
};

fn compilers() -> Vec<Compiler> {
    let target = |features| Compiler::new(Arc::new(Target::new(features, Verify::On).unwrap()));
    vec![target(Features::Host), target(Features::Baseline)]
}

/// The ways to give a row's operands and result types.
fn typings(opcode: Opcode) -> Vec<(Vec<Type>, Type)> {
    let row = opcode.row();
    let results: Vec<Type> = match row.outcome {
        Outcome::Own(class) => class.types().collect(),
        Outcome::Fixed(ty) => vec![ty],
        Outcome::Nothing | Outcome::Signature => vec![Type::Void],
    };
    let mut typings = Vec::new();
    for result in results {
        let mut lists: Vec<Vec<Type>> = vec![Vec::new()];
        for operand in row.operands {
            lists = lists
                .into_iter()
                .flat_map(|list| {
                    let types: Vec<Type> = match operand {
                        Operand::Own => vec![result],
                        Operand::Of(class) => class.types().collect(),
                        Operand::Like => vec![*list.last().unwrap()],
                    };
                    types.into_iter().map(move |ty| list.iter().copied().chain([ty]).collect())
                })
                .collect();
        }
        typings.extend(lists.into_iter().map(|list| (list, result)));
    }
    typings.retain(|(operands, result)| {
        let width = operands.first().map_or(0, |ty| ty.bits());
        let is_ref = |ty: Type| ty == Type::Ref;
        (!row.has(Properties::WIDENS) || result.bits() > width)
            && (!row.has(Properties::NARROWS) || result.bits() < width)
            && (!row.has(Properties::SAME_WIDTH)
                || result.bits() == width && is_ref(*result) == is_ref(operands[0]))
    });
    typings
}

fn payload(opcode: Opcode, module: &Module) -> Payload {
    let symbol = module.symbols.keys().next().unwrap();
    let kind = opcode.row().raises.iter().next().unwrap_or(RaiseKind::Unreachable);
    match opcode.row().payload {
        PayloadKind::Access => Payload::Access(Access { place: Place::Symbol(symbol), offset: -8, scale: 4 }),
        PayloadKind::Symbol => Payload::Symbol(symbol),
        PayloadKind::Raise => Payload::Raise(kind, 7),
        PayloadKind::Class => Payload::Class(module.classes.keys().next_back().unwrap()),
        PayloadKind::Element => Payload::Element(Type::I32),
        PayloadKind::Dispatch => {
            Payload::Dispatch(Dispatch { class: module.classes.keys().next().unwrap(), slot: 0 })
        }
        _ => Payload::None,
    }
}

/// An interface with a slot, and a class.
fn declare_classes(module: &mut Module) {
    let signature = module.signature(&[Type::Ref], &[]);
    let slot = SlotDecl { name: "slot".into(), signature, method: None };
    for (name, is_interface, slots) in [("I", true, vec![slot]), ("C", false, vec![])] {
        module.classes.push(ClassData {
            name: name.into(),
            superclass: None,
            interfaces: vec![],
            is_interface,
            size_bytes: 24,
            slots,
            implementations: vec![],
        });
    }
}

/// A method that does one thing with its parameters, or a constant in the place of one, and returns what comes out.
fn method<'a>(
    arena: &'a Bump,
    module: &mut Module,
    opcode: Opcode,
    (operands, result): &(Vec<Type>, Type),
    constant: Option<u64>,
    is_handled: bool,
) -> Method<'a> {
    let results: &[Type] = if *result == Type::Void { &[] } else { &[*result] };
    let id = module.declare_method("m", operands, results);
    let mut b = Builder::new(arena, module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    let body = b.block();
    b.goto(body);
    if is_handled {
        let block = b.block();
        let list = b.handlers(&[Handler { kinds: KindSet::CATCHABLE, class: None, block }]);
        b.set_handlers(body, Some(list));
        b.switch_to(block);
        b.raise(RaiseKind::Unreachable, 1);
    }
    b.switch_to(body);
    let mut nodes: Vec<_> = (0..operands.len()).map(|index| b.get(b.param(index))).collect();
    if let Some(bits) = constant {
        let last = nodes.len() - 1;
        nodes[last] = b.constant(operands[last], bits);
    }
    let node = b.emit(opcode, *result, &nodes, payload(opcode, module));
    if !opcode.has(Properties::TERMINATES) {
        b.ret(if *result == Type::Void { &[] } else { std::slice::from_ref(&node) });
    }
    b.finish().unwrap()
}

fn check(artifact: &Artifact, what: &str) {
    assert!(!artifact.code.is_empty(), "{what}");
    assert!(artifact.sites.is_sorted_by_key(|site| site.return_offset), "{what}");
    assert!(artifact.sites.iter().all(|site| site.return_offset as usize <= artifact.code.len()), "{what}");
}

/// Operations that are tested where their payloads come from, or that have no machine code yet.
const ELSEWHERE: &[Opcode] = &[
    Opcode::Const,
    Opcode::Entry,
    Opcode::Caught,
    Opcode::CaughtKind,
    Opcode::Result,
    Opcode::SlotAddress,
    Opcode::MethodAddress,
    Opcode::Set,
    Opcode::Call,
    Opcode::CallIndirect,
    Opcode::CallNative,
    Opcode::Frame,
    Opcode::Dead,
    Opcode::Virtual,
    Opcode::Goto,
    Opcode::Branch,
    Opcode::Switch,
    Opcode::Return,
    Opcode::TailCall,
    Opcode::TailCallIndirect,
];

/// Operations that are rejected by name.
const UNSUPPORTED: &[Opcode] = &[Opcode::Guard, Opcode::GuardBranch];

#[test]
fn every_operation_compiles_for_every_type() {
    let mut compilers = compilers();
    for opcode in Opcode::all().filter(|opcode| !ELSEWHERE.contains(opcode) && !UNSUPPORTED.contains(opcode))
    {
        for typing in typings(opcode) {
            let last = typing.0.last().copied().unwrap_or_default();
            let mut constants = vec![None];
            if last.is_int() {
                constants.extend(
                    [0, 1, 2, 3, 7, 10, last.mask(), last.mask() >> 1, (last.mask() >> 1) + 1].map(Some),
                );
            }
            for constant in constants {
                for is_handled in [false, true] {
                    let mut module = Module::new();
                    module.declare_symbol("s", SymbolKind::Region);
                    declare_classes(&mut module);
                    let arena = Bump::new();
                    let method = method(&arena, &mut module, opcode, &typing, constant, is_handled);
                    for compiler in &mut compilers {
                        let what = format!("{opcode} {typing:?} {constant:?} handled: {is_handled}");
                        match compiler.compile(&module, &method) {
                            Ok(artifact) => check(&artifact, &what),
                            Err(error) => panic!("{what}: {error}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_has_no_machine_code_is_rejected_by_name() {
    let mut compiler = compilers().remove(0);
    for opcode in UNSUPPORTED {
        let typing = typings(*opcode).remove(0);
        let mut module = Module::new();
        module.declare_symbol("s", SymbolKind::Region);
        let arena = Bump::new();
        let method = method(&arena, &mut module, *opcode, &typing, None, false);
        match compiler.compile(&module, &method) {
            Err(CompileError::Unsupported { opcode: named, .. }) => assert_eq!(named, *opcode),
            other => panic!("{opcode}: {other:?}"),
        }
    }
}
