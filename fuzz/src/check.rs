//! The differential check: a program's outcome in the interpreter and as native code, folding on and off, rebuilt or not.
//!
//! ```text
//!   bytes ─► program ─┬─ folding on  ─┬─ as built ──┬─ verify ─► interpret ─► outcome ┐
//!                     │               │             └─ verify ─► compile   ─► outcome ├─ all the same
//!                     │               ├─ rebuilt ─── …                                │
//!                     └─ folding off ─┴─ …                                            ┘
//! ```
//!
//! What is rebuilt is copied without edits, once or more; or with edits between that change nothing but the graph.
//!
//! Native code is run again, now and then, after some of its methods were evicted and compiled anew: in whatever way the
//! space writes code, the outcome stays the same.
//!
//! An outcome is the results or what was raised, and the bytes of the program's memory afterwards. NaNs in results are
//! equal to each other; the generator makes those canonical whose bits could be seen elsewhere.

use std::fmt;

use bumpalo::Bump;
use dagwood_codegen::Features;
use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::interp::{Interpreter, Limits, Program as Bodies, Raised, Regions, Stop, Values};
use dagwood_il::text;
use dagwood_il::verify::verify;
use dagwood_il::{Edits, Folding, Method, MethodId, RaiseKind, Type};
use dagwood_runtime::codespace::{Fallback, Options as Space, Protection};
use dagwood_runtime::compiler::bodies;
use dagwood_runtime::context::Context;
use dagwood_runtime::heap::{self, Collect, Heap};
use dagwood_runtime::jit::{CallCx, CallError, Jit, Options};
use dagwood_runtime::memory::{Limits as MemoryLimits, LinearMemory};
use dagwood_runtime::objects::Objects;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::thread::{self, Thread};
use dagwood_runtime::{Bodies as Sources, EvictError};

use crate::choices::{Choices, bytes_of_seed};
use crate::generate::{MEMORY_BYTES, Program, Refused, mix};
use crate::reshape::reshape;

/// Roots that an interpretation may execute. Loops are bounded, but their nesting multiplies.
const FUEL: u64 = 2_000_000;
/// The bytes of objects that a program may make, where they are never freed, or have at once: more than it can with its fuel.
const HEAP_BYTES: usize = 256 << 20;

/// How a program ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Results, or what was raised: kind, reason, object.
    pub result: Result<Vec<Value>, (RaiseKind, u16, u64)>,
    /// The memory afterwards.
    pub memory: Vec<u8>,
}

impl Outcome {
    pub(crate) fn agrees(&self, other: &Outcome) -> bool {
        let results = match (&self.result, &other.result) {
            (Ok(left), Ok(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(a, b)| a.same_modulo_nan(*b))
            }
            (left, right) => left == right,
        };
        results && self.memory == other.memory
    }
}

/// Two ways of running a program came to different ends, or one of them failed.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What happened.
    pub what: String,
    /// The program, as text.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.text)
    }
}

impl std::error::Error for Difference {}

/// Whether a check compared anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// All ways agree.
    Agrees,
    /// The program took more than its fuel, so nothing was compared.
    OutOfFuel,
}

/// Makes the program of these bytes and compares its outcomes.
///
/// # Errors
///
/// The first difference.
pub fn check(bytes: &[u8]) -> Result<Checked, Difference> {
    let program = Program::generate(bytes);
    let args = arguments(&program, bytes);
    let fails =
        |what: String| Difference { what: format!("{what}; arguments {args:?}"), text: text_of(&program) };
    let mut first: Option<(String, Outcome)> = None;
    for form in FORMS {
        let Some(interpreted) = interpret(&program, form, &args).map_err(fails)? else {
            return Ok(Checked::OutOfFuel);
        };
        let sources = bodies(|id, arena| Ok(form.build(&program, id, arena)?));
        let native = run_native(&program, &sources, &args, Evictions::of(bytes));
        let native = native.map_err(|what| fails(format!("native, {form}: {what}")))?;
        let native = native.into_iter().zip(["native", "native, after evictions"]);
        for (outcome, engine) in std::iter::once((interpreted, "interpreted")).chain(native) {
            let name = format!("{engine}, {form}");
            match &first {
                None => first = Some((name, outcome)),
                Some((other, expected)) if !expected.agrees(&outcome) => {
                    return Err(fails(format!("{other}: {expected:?}\n{name}: {outcome:?}")));
                }
                Some(_) => {}
            }
        }
    }
    Ok(Checked::Agrees)
}

/// In what form a program runs.
#[derive(Clone, Copy, Debug)]
struct Form {
    folding: Folding,
    /// How many times it is copied.
    rebuilds: usize,
    graph: Graph,
}

/// Whether the graph is changed after each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Graph {
    Kept,
    Reshaped,
}

/// Every form that is compared with the first.
const FORMS: [Form; 5] = [
    Form { folding: Folding::On, rebuilds: 0, graph: Graph::Kept },
    Form { folding: Folding::Off, rebuilds: 0, graph: Graph::Kept },
    Form { folding: Folding::On, rebuilds: 1, graph: Graph::Kept },
    Form { folding: Folding::Off, rebuilds: 2, graph: Graph::Kept },
    Form { folding: Folding::On, rebuilds: 2, graph: Graph::Reshaped },
];

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folding {:?}, rebuilt {} times, graph {:?}", self.folding, self.rebuilds, self.graph)
    }
}

impl Form {
    /// The body of a method in this form.
    fn build<'a>(self, program: &Program, id: MethodId, arena: &'a Bump) -> Result<Method<'a>, String> {
        let mut method = program.build(id, arena, self.folding).map_err(|error| format!("{id}: {error}"))?;
        let check = |method: &Method<'_>, rebuilt: usize| {
            verify(&program.module, method).map_err(|errors| {
                let text = text::print_method(&program.module, method);
                format!("{id}, {self}, after {rebuilt}: {errors:?}\n{text}")
            })
        };
        check(&method, 0)?;
        for rebuilt in 1..=self.rebuilds {
            Edits::new().apply(&program.module, &mut method);
            check(&method, rebuilt)?;
            if self.graph == Graph::Reshaped {
                let seed = (id.index() * 31 + method.node_count() * 7 + rebuilt) as u64;
                let bytes = bytes_of_seed(seed, 64);
                let body = |id| program.build(id, arena, self.folding);
                reshape(&program.module, &mut method, &mut Choices::new(&bytes), body)
                    .map_err(|error| format!("{id}: {error}"))?;
                check(&method, rebuilt)?;
            }
        }
        Ok(method)
    }
}

/// Arguments for the program's entry, from the end of its bytes.
pub(crate) fn arguments(program: &Program, bytes: &[u8]) -> Vec<Value> {
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let mut choices = Choices::new(&reversed);
    let params = &program.module.method_signature(program.entry()).params;
    let bits = |choices: &mut Choices<'_>, ty: Type| {
        if ty.is_float() { choices.float_bits(ty.bits()) } else { choices.bits() }
    };
    params.iter().map(|ty| Value::from_bits(*ty, bits(&mut choices, *ty) & ty.mask())).collect()
}

/// Whether methods are evicted, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evictions {
    protection: Protection,
    /// Methods whose number has a bit here, by its last bits. None is evicted if this is zero.
    chosen: u64,
}

/// A number in which each byte matters: FNV-1a by Fowler, Noll and Vo.
pub(crate) fn seed_of(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, mix)
}

impl Evictions {
    /// None.
    pub(crate) const NONE: Evictions = Evictions { protection: Protection::Dual, chosen: 0 };

    /// Those of the program of these bytes: none for three of four programs.
    fn of(bytes: &[u8]) -> Evictions {
        let seed = seed_of(bytes);
        let protections = [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip];
        let protection = protections[(seed >> 8) as usize % protections.len()];
        if seed.is_multiple_of(4) {
            Evictions { protection, chosen: seed.rotate_right(16) | 1 }
        } else {
            Evictions::NONE
        }
    }

    /// Evicts, has the room freed, and compiles again.
    fn apply(self, jit: &Jit, methods: &[MethodId], sources: &dyn Sources) -> Result<(), String> {
        let mut evicted = Vec::new();
        for &method in methods {
            if self.chosen >> (method.index() % 64) & 1 == 0 {
                continue;
            }
            match jit.evict(&[method]) {
                Ok(_) => evicted.push(method),
                Err(EvictError::Pinned { .. }) => {}
                Err(error) => return Err(format!("evicting: {error}")),
            }
        }
        let reclaimed = jit.code().reclaim().map_err(|error| format!("reclaiming: {error}"))?;
        // Other threads of the process may hold some of it up, and none of it is lost.
        if reclaimed.freed + reclaimed.waiting != evicted.len() {
            return Err(format!("{} methods were evicted: {reclaimed:?}", evicted.len()));
        }
        jit.compile(&evicted, sources).map_err(|error| format!("compiling what was evicted: {error}"))
    }
}

/// The program as text, folding on.
fn text_of(program: &Program) -> String {
    let arena = Bump::new();
    match build(program, &arena, FORMS[0]) {
        Ok(methods) => text::print_module(&program.module, &methods),
        Err(error) => error,
    }
}

/// The bodies of all methods, verified.
fn build<'a>(program: &Program, arena: &'a Bump, form: Form) -> Result<Vec<&'a Method<'a>>, String> {
    let build = |id: &MethodId| Ok(&*arena.alloc(form.build(program, *id, arena)?));
    program.methods.iter().map(build).collect()
}

fn interpret(program: &Program, form: Form, args: &[Value]) -> Result<Option<Outcome>, String> {
    let arena = Bump::new();
    let methods = build(program, &arena, form)?;
    interpret_bodies(program, &methods, args)
}

/// What memory holds before a program runs: little of it alike, and nothing that a pass could know.
fn at_first() -> [u8; MEMORY_BYTES as usize] {
    std::array::from_fn(|index| (index as u8).wrapping_mul(29) ^ 0x5c)
}

/// The outcome of these bodies; none if the fuel did not suffice.
pub(crate) fn interpret_bodies(
    program: &Program,
    methods: &[&Method<'_>],
    args: &[Value],
) -> Result<Option<Outcome>, String> {
    let lookup = |id: MethodId| methods.iter().copied().find(|method| method.id() == id);
    let entry = program.entry();
    let mut host = Regions::new(&program.module);
    let memory = host.add(MEMORY_BYTES as usize);
    host.bytes_mut(memory, MEMORY_BYTES as usize)
        .map_err(|fault| format!("{fault:?}"))?
        .copy_from_slice(&at_first());
    host.bind(program.memory, memory);
    host.heap_limit = HEAP_BYTES as u64;
    host.native(program.pass, |_, _, args| Ok(Values::from_slice(args)));
    host.native(program.native, |_, _, args| match mix(args[0].low() as u32, args[1].low()) {
        Ok(mixed) => Ok(Values::from_slice(&[Value::i64(mixed as i64)])),
        Err(Refused) => Err(Raised::guest(0)),
    });
    let limits = Limits { fuel: FUEL, ..Limits::default() };
    let program = Bodies { module: &program.module, bodies: &lookup };
    let result = match Interpreter::new(program).run(&mut host, entry, 0, args, limits) {
        Ok(values) => Ok(values.to_vec()),
        Err(Stop::Raised { raised, .. }) => Err((raised.kind, raised.reason, raised.object)),
        Err(Stop::OutOfFuel { .. }) => return Ok(None),
        Err(stop) => return Err(format!("the interpreter stops: {stop}")),
    };
    let memory = host.bytes(memory, MEMORY_BYTES as usize).map_err(|fault| format!("{fault:?}"))?.to_vec();
    Ok(Some(Outcome { result, memory }))
}

/// The outcome of native code, and once more if something is evicted.
pub(crate) fn run_native(
    program: &Program,
    sources: &dyn Sources,
    args: &[Value],
    evictions: Evictions,
) -> Result<Vec<Outcome>, String> {
    let options = Options {
        verify_code: dagwood_codegen::Verify::On,
        threads: std::num::NonZeroUsize::MIN,
        features: Features::Host,
        space: Space {
            reserve_bytes: 4 << 20,
            protection: evictions.protection,
            fallback: Fallback::Allowed,
            ..Space::default()
        },
        ..Options::default()
    };
    let mut memory =
        LinearMemory::new(MEMORY_BYTES as usize, &MemoryLimits { cap: 1 << 16, reserve: 1 << 16 })
            .map_err(|error| error.to_string())?;
    let mut jit = Jit::new(program.module.clone(), options).map_err(|error| error.to_string())?;
    jit.bind_symbol(program.memory, memory.address());
    jit.compile(&program.methods, sources).map_err(|error| error.to_string())?;
    let eager = heap::Options { limit_bytes: HEAP_BYTES, collect: Collect::AtEveryYield };
    let heap = Heap::new(jit.classes().clone(), &eager).map_err(|error| error.to_string())?;
    let mut natives = Objects::new(&program.module, &heap);
    natives.register(program.pass, |_, args| Ok(args.to_vec()));
    natives.register(program.native, |_, args| match mix(args[0].low() as u32, args[1].low()) {
        Ok(mixed) => Ok(vec![Value::i64(mixed as i64)]),
        Err(Refused) => Err(Raise::guest(0)),
    });
    let fails = |error: String| format!("{evictions:?}: {error}");
    let mut outcomes = vec![run(&jit, program, args, &natives, &mut memory).map_err(fails)?];
    if evictions.chosen != 0 {
        evictions.apply(&jit, &program.methods, sources).map_err(fails)?;
        outcomes.push(run(&jit, program, args, &natives, &mut memory).map_err(fails)?);
    }
    Ok(outcomes)
}

/// The outcome of a program that is compiled.
fn run(
    jit: &Jit,
    program: &Program,
    args: &[Value],
    natives: &Objects<'_>,
    memory: &mut LinearMemory,
) -> Result<Outcome, String> {
    memory.as_mut_slice()[..MEMORY_BYTES as usize].copy_from_slice(&at_first());
    let thread = Thread::new(&thread::Options::default()).map_err(|error| error.to_string())?;
    // With fuel every poll calls the runtime, which must change nothing.
    thread.set_fuel(Some(u64::MAX));
    let context = Context::new(64).map_err(|error| error.to_string())?;
    let cx = CallCx { thread: &thread, context: &context, host: natives };
    let result = match jit.call(cx, program.entry(), args) {
        Ok(values) => Ok(values),
        Err(CallError::Raised(raise)) if raise.cause.is_none() => {
            Err((raise.kind, raise.reason, raise.object))
        }
        Err(error) => return Err(error.to_string()),
    };
    Ok(Outcome { result, memory: memory.as_slice().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_programs_are_evicted_from_in_each_way_of_writing_code_and_most_are_not() {
        let all: Vec<Evictions> = (0..1000_u32).map(|seed| Evictions::of(&seed.to_le_bytes())).collect();
        let evicting: Vec<_> = all.iter().filter(|evictions| evictions.chosen != 0).collect();
        assert!((150..350).contains(&evicting.len()), "{} of 1000", evicting.len());
        for protection in [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip] {
            let count = evicting.iter().filter(|evictions| evictions.protection == protection).count();
            assert!(count > 20, "{protection:?}: {count}");
        }
        // The first method, which others may call, goes each time.
        assert!(evicting.iter().all(|evictions| evictions.chosen & 1 == 1 && evictions.chosen != u64::MAX));
    }
}
