//! Methods that are run, by what they are about.

mod flow;
mod guards;
mod invalid;
mod memory;
mod objects;
mod raises;

use bumpalo::Bump;

use super::*;
use crate::builder::{Builder, Folding};
use crate::module::MethodId;
use crate::opcode::Opcode;
use crate::types::Type;

/// A method built as it is written: nothing is folded away before the interpreter sees it.
fn build<'a>(
    arena: &'a Bump,
    module: &Module,
    id: MethodId,
    fill: impl FnOnce(&mut Builder<'a, '_>),
) -> Method<'a> {
    let mut b = Builder::new(arena, module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    fill(&mut b);
    b.finish().expect("the method is whole")
}

/// Calls the first of some methods.
fn run(
    module: &Module,
    methods: &[Method<'_>],
    host: &mut Regions<'_>,
    args: &[Value],
) -> Result<Values, Stop> {
    let limits = Limits { fuel: 100_000_000, ..Limits::default() };
    run_within(module, methods, host, args, limits)
}

fn run_within(
    module: &Module,
    methods: &[Method<'_>],
    host: &mut Regions<'_>,
    args: &[Value],
    limits: Limits,
) -> Result<Values, Stop> {
    let bodies = |id| methods.iter().find(|method| method.id() == id);
    interpret(Program { module, bodies: &bodies }, host, methods[0].id(), CONTEXT, args, limits)
}

/// The one result of a call that returns.
fn result(module: &Module, methods: &[Method<'_>], args: &[Value]) -> Value {
    let results = run(module, methods, &mut Regions::new(module), args).expect("returns");
    assert_eq!(results.len(), 1, "there is one result");
    results[0]
}

/// What a call raises that nobody catches.
fn raised(module: &Module, methods: &[Method<'_>], host: &mut Regions<'_>, args: &[Value]) -> Raised {
    match run(module, methods, host, args) {
        Err(Stop::Raised { raised, .. }) => raised,
        other => panic!("raises: {other:?}"),
    }
}

/// What is said of a call that makes no sense.
fn complaint(module: &Module, methods: &[Method<'_>], args: &[Value]) -> String {
    match run(module, methods, &mut Regions::new(module), args) {
        Err(Stop::Invalid(invalid)) => invalid.to_string(),
        other => panic!("makes no sense: {other:?}"),
    }
}

/// The VM context of these runs.
const CONTEXT: u64 = 0xc0de;
