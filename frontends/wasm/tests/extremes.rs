//! Modules of extreme shapes lower in time that grows with their size, or are refused with a position; nothing recurses.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il::verify;
use dagwood_wasm::lower::{Options, Program};
use dagwood_wasm::{
    Error, ErrorKind, Lowering, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_LOCALS, MAX_MEMORIES, MAX_PARAMS,
    Module,
};

/// How deep the nesting is.
const DEPTH: usize = 100_000;

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

/// A module with types `() -> ()` and `() -> (i32 × results)`, a tag, and one function of type `() -> ()`.
fn module(results: usize, body: &[u8]) -> Vec<u8> {
    let many = [vec![0x60, 0], leb(results), vec![0x7f; results]].concat();
    let types = [vec![2, 0x60, 0, 0], many].concat();
    let body = [vec![0], body.to_vec(), vec![0x0b]].concat();
    let code = [vec![1], leb(body.len()), body].concat();
    let sections = [section(1, &types), section(3, &[1, 0]), section(13, &[1, 0, 0]), section(10, &code)];
    [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
}

/// Lowers and verifies the function; says how many nodes there are.
fn lower(bytes: Vec<u8>) -> Result<usize, Error> {
    let module = Module::parse(bytes)?;
    let mut program = Program::new();
    let lowering = Lowering::new(Arc::new(module), Options::default(), &mut program);
    let arena = Bump::new();
    let id = lowering.methods().next().expect("there is a function");
    let method = lowering.lower(id, &arena)?;
    verify(lowering.declarations(), &method).unwrap_or_else(|errors| panic!("{}", errors[0]));
    Ok(method.node_count())
}

/// Lowers so many times `open`, then `inner`, then so many times `close`; nodes must be in proportion.
fn nested(open: &[u8], inner: &[u8], close: &[u8]) {
    let body = [open.repeat(DEPTH), inner.to_vec(), close.repeat(DEPTH)].concat();
    let nodes = lower(module(0, &body)).expect("depth alone is no reason to refuse");
    assert!(nodes < 20 * DEPTH, "{nodes} nodes for a nesting of {DEPTH}");
}

#[test]
fn blocks_nest() {
    nested(&[0x02, 0x40], &[0x0c, 5], &[0x0b]);
}

#[test]
fn loops_nest() {
    nested(&[0x03, 0x40], &[0x41, 0, 0x0d, 5], &[0x0b]);
}

#[test]
fn ifs_nest() {
    // The condition is a checked conversion, which nobody folds.
    nested(&[0x43, 0, 0, 0, 0, 0xa8, 0x04, 0x40], &[0x01], &[0x05, 0x0b]);
}

#[test]
fn handlers_nest() {
    nested(&[0x1f, 0x40, 1, 0, 0, 0], &[0x08, 0], &[0x0b]);
}

#[test]
fn handlers_may_have_many_clauses() {
    const CLAUSES: usize = 10_000;
    let open = [vec![0x1f, 0x40], leb(CLAUSES), [0, 0, 0].repeat(CLAUSES)].concat();
    let nodes = lower(module(0, &[open, vec![0x08, 0, 0x0b]].concat())).expect("10,000 clauses are allowed");
    assert!(nodes < 20 * CLAUSES);
}

#[test]
fn a_high_stack_costs_each_value_once() {
    // So many values, then so many branches out of ifs below which they lie, then so many drops.
    let branch = [0x43, 0, 0, 0, 0, 0xa8, 0x04, 0x40, 0x0c, 0, 0x0b];
    let body = [[0x41, 7].repeat(DEPTH), branch.repeat(DEPTH), vec![0x1a; DEPTH]].concat();
    let nodes = lower(module(0, &body)).expect("a high stack is no reason to refuse");
    assert!(nodes < 20 * DEPTH, "{nodes} nodes");
}

#[test]
fn operators_that_stand_for_too_many_nodes_are_refused() {
    const RESULTS: usize = 1_000;
    const BLOCKS: usize = 10_000;
    // A branch table to each of many blocks with many results.
    let values = [0x41, 0].repeat(RESULTS + 1);
    let table = [vec![0x0e], leb(BLOCKS - 1), (0..BLOCKS).flat_map(leb).collect()].concat();
    let close = [vec![0x0b], vec![0x1a; RESULTS], vec![0x00]].concat();
    let body = [[0x02, 1].repeat(BLOCKS), values, table, close.repeat(BLOCKS)].concat();
    let error = lower(module(RESULTS, &body)).expect_err("ten million nodes are too many");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(error.offset().is_some());
}

#[test]
fn stated_limits_hold() {
    let kind =
        |bytes: Vec<u8>| Module::parse(bytes).map_err(|error| (error.kind(), error.offset().is_some())).err();
    let limit = Some((ErrorKind::Limit, true));
    let nops = |count: usize| module(0, &vec![0x01; count]);
    assert_eq!(kind(nops(MAX_FUNCTION_BYTES - 2)), None);
    assert_eq!(kind(nops(MAX_FUNCTION_BYTES - 1)), limit);
    let locals = |count: u32| {
        let body = [vec![1], leb(count as usize), vec![0x7f, 0x0b]].concat();
        let code = [vec![1], leb(body.len()), body].concat();
        let sections = [section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0]), section(10, &code)];
        [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
    };
    assert_eq!(kind(locals(MAX_LOCALS)), None);
    assert_eq!(kind(locals(MAX_LOCALS + 1)), limit);
    let params = |count: usize| {
        let ty = [vec![1, 0x60], leb(count), vec![0x7f; count], vec![0]].concat();
        [b"\0asm\x01\0\0\0".to_vec(), section(1, &ty)].concat()
    };
    assert_eq!(kind(params(MAX_PARAMS)), None);
    assert_eq!(kind(params(MAX_PARAMS + 1)), limit);
    let memories = |count: usize| {
        let memories = [leb(count), [0, 0].repeat(count)].concat();
        [b"\0asm\x01\0\0\0".to_vec(), section(5, &memories)].concat()
    };
    assert_eq!(kind(memories(MAX_MEMORIES)), None);
    assert_eq!(kind(memories(MAX_MEMORIES + 1)), limit);
    let functions = |count: usize| {
        let functions = [leb(count), vec![0; count]].concat();
        let code = [leb(count), [2, 0, 0x0b].repeat(count)].concat();
        let sections = [section(1, &[1, 0x60, 0, 0]), section(3, &functions), section(10, &code)];
        [b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat()
    };
    assert_eq!(kind(functions(MAX_FUNCTIONS)), None);
    assert_eq!(kind(functions(MAX_FUNCTIONS + 1)), limit);
}

#[test]
fn what_is_wrong_is_told_apart_and_placed() {
    let kind = |bytes: &[u8]| {
        let error = Module::parse(bytes).expect_err("the module is wrong");
        (error.kind(), error.offset())
    };
    assert_eq!(kind(b"\0asm\x02\0\0\0"), (ErrorKind::Invalid, Some(4)));
    // i32.add without operands; the body's first byte is its number of locals.
    let bytes = module(0, &[0x6a]);
    let at = bytes.len() as u64 - 2;
    assert_eq!(kind(&bytes), (ErrorKind::Invalid, Some(at)));
    // v128.const, then drop.
    let simd = [vec![0xfd, 12], vec![0; 16], vec![0x1a]].concat();
    assert_eq!(kind(&module(0, &simd)).0, ErrorKind::Unsupported);
    assert_eq!(kind(b"\0asm\x0d\0\x01\0").0, ErrorKind::Unsupported);
}
