//! Methods of every shape that can be large: they compile, or are refused with the limit that they pass.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{Allocation, Artifact, CompileError, Compiler, Features, Target, Verify};
use dagwood_il::{Access, Builder, Folding, Method, Module, Node, Opcode, Payload, Place, SymbolKind, Type};

fn compile(module: &Module, method: &Method<'_>) -> Result<Artifact, CompileError> {
    Compiler::new(Arc::new(Target::new(Features::Host, Verify::Off).unwrap())).compile(module, method)
}

fn build(fill: impl FnOnce(&mut Builder<'_, '_>)) -> Result<Artifact, CompileError> {
    let mut module = Module::new();
    let id = module.declare_method("large", &[Type::I32], &[Type::I32]);
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    fill(&mut b);
    compile(&module, &b.finish().unwrap())
}

#[test]
fn a_chain_of_a_million_nodes_compiles() {
    let artifact = build(|b| {
        let mut x = b.get(b.param(0));
        for _ in 0..1_000_000 {
            x = b.op(Opcode::Not, &[x]);
        }
        b.ret(&[x]);
    });
    let artifact = artifact.unwrap();
    assert!(artifact.code.len() > 2_000_000);
    assert_eq!(artifact.allocation, Allocation::OnePass);
}

#[test]
fn a_chain_of_opposites_compiles() {
    let artifact = build(|b| {
        let (mut x, zero) = (b.get(b.param(0)), b.i32(0));
        for _ in 0..200_000 {
            x = b.op(Opcode::Eq, &[x, zero]);
        }
        b.ret(&[x]);
    });
    artifact.unwrap();
}

/// Adds up `values` pairwise, so that no chain is long.
fn sum(b: &mut Builder<'_, '_>, mut values: Vec<Node>) -> Node {
    while values.len() > 1 {
        values = values
            .chunks(2)
            .map(|pair| if let [x, y] = pair { b.op(Opcode::Add, &[*x, *y]) } else { pair[0] })
            .collect();
    }
    values[0]
}

#[test]
fn many_locals_through_many_blocks_compile() {
    let artifact = build(|b| {
        let locals: Vec<_> = (0..500).map(|index| b.local(&format!("l{index}"), Type::I32)).collect();
        let start = b.get(b.param(0));
        locals.iter().for_each(|local| b.set(*local, start));
        for _ in 0..100 {
            let (left, right, next) = (b.block(), b.block(), b.block());
            let x = b.get(locals[0]);
            b.branch(x, left, right);
            for (block, opcode) in [(left, Opcode::Add), (right, Opcode::Xor)] {
                b.switch_to(block);
                for pair in locals.windows(2) {
                    let (x, y) = (b.get(pair[0]), b.get(pair[1]));
                    let z = b.op(opcode, &[x, y]);
                    b.set(pair[0], z);
                }
                b.goto(next);
            }
            b.switch_to(next);
        }
        let values = locals.iter().map(|local| b.get(*local)).collect();
        let total = sum(b, values);
        b.ret(&[total]);
    });
    assert_eq!(artifact.unwrap().allocation, Allocation::OnePass);
}

#[test]
fn a_switch_of_many_cases_compiles() {
    for (count, step) in [(20_000, 1), (20_000, 1000)] {
        let artifact = build(|b| {
            let out = b.local("out", Type::I32);
            let (join, default) = (b.block(), b.block());
            let x = b.get(b.param(0));
            b.set(out, x);
            let blocks: Vec<_> = (0..64).map(|_| b.block()).collect();
            let cases: Vec<_> = (0..count).map(|case| (case * step, blocks[case as usize % 64])).collect();
            b.switch(x, &cases, default);
            for (index, block) in (0..).zip(blocks.into_iter().chain([default])) {
                b.switch_to(block);
                let value = b.i32(index);
                b.set(out, value);
                b.goto(join);
            }
            b.switch_to(join);
            let value = b.get(out);
            b.ret(&[value]);
        });
        artifact.unwrap();
    }
}

#[test]
fn too_many_locals_live_in_one_block_are_a_limit() {
    let artifact = build(|b| {
        let locals: Vec<_> = (0..70_000).map(|index| b.local(&format!("l{index}"), Type::I32)).collect();
        let start = b.get(b.param(0));
        locals.iter().for_each(|local| b.set(*local, start));
        let head = b.block();
        b.goto(head);
        b.switch_to(head);
        let one = b.i32(1);
        for local in &locals {
            let x = b.get(*local);
            let y = b.op(Opcode::Add, &[x, one]);
            b.set(*local, y);
        }
        let end = b.block();
        let first = b.get(locals[0]);
        b.branch(first, head, end);
        b.switch_to(end);
        let first = b.get(locals[0]);
        b.ret(&[first]);
    });
    assert!(matches!(artifact, Err(CompileError::Limit { .. })), "{artifact:?}");
}

#[test]
fn too_many_values_brought_to_blocks_are_a_limit() {
    let artifact = build(|b| {
        let locals: Vec<_> = (0..3_000).map(|index| b.local(&format!("l{index}"), Type::I32)).collect();
        let start = b.get(b.param(0));
        locals.iter().for_each(|local| b.set(*local, start));
        let end = b.block();
        for _ in 0..3_000 {
            let next = b.block();
            let x = b.get(b.param(0));
            b.branch(x, next, end);
            b.switch_to(next);
        }
        b.goto(end);
        b.switch_to(end);
        let values = locals.iter().map(|local| b.get(*local)).collect();
        let total = sum(b, values);
        b.ret(&[total]);
    });
    assert!(matches!(artifact, Err(CompileError::Limit { limit: Some(_), .. })), "{artifact:?}");
}

/// So many references are loaded, live across so many calls in one block, and used behind them.
fn references_across_calls(references: usize, calls: usize) -> Result<Artifact, CompileError> {
    let mut module = Module::new();
    let memory = module.declare_symbol("memory", SymbolKind::Region);
    let callee = module.declare_method("callee", &[], &[]);
    let id = module.declare_method("large", &[Type::Addr], &[Type::I32]);
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    let base = b.get(b.param(0));
    let zero = b.emit(Opcode::Const, Type::Ref, &[], Payload::Const(0));
    let access = |index: usize| Access { place: Place::Symbol(memory), offset: 8 * index as i32, scale: 1 };
    let loaded: Vec<Node> =
        (0..references).map(|index| b.load(Type::Ref, access(index), base, None)).collect();
    for _ in 0..calls {
        b.call(callee, &[]);
    }
    let equal: Vec<Node> = loaded.into_iter().map(|loaded| b.op(Opcode::Eq, &[loaded, zero])).collect();
    let result = sum(&mut b, equal);
    b.ret(&[result]);
    compile(&module, &b.finish().unwrap())
}

#[test]
fn references_live_across_many_calls_compile_with_one_map_or_are_refused_by_name() {
    let artifact = references_across_calls(1_000, 10_000).unwrap();
    assert_eq!(artifact.references.len(), 1_000, "all maps are one");
    let refused = references_across_calls(2_000, 10_000).unwrap_err().to_string();
    assert!(refused.contains("references that maps of safepoints list"), "{refused}");
}
