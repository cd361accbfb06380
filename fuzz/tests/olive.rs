//! Programs of the guest with objects: every engine does the same, and text that is nearly a program is an error with a place.

use dagwood_fuzz::{Choices, bytes_of_seed, mutate, mutate_words, olive_program, seeds};
use dagwood_il::{Bump, Folding, Method, MethodId, verify, verify_module};
use dagwood_olive::engine::{Limits, Native, run_bodies, run_bytecode, run_il};
use dagwood_olive::host::Value;
use dagwood_olive::lower::Exits;
use dagwood_olive::{Lowering, Program};
use dagwood_opt::{Callees, Request, STRATEGIES, Strategy, closed_world, optimize};
use dagwood_runtime::heap::Collect;
use dagwood_runtime::jit::Options;

const LIMITS: Limits = Limits { fuel: 1_000_000, depth: 1000, heap_bytes: 16 << 20 };

fn fail(seed: u64, source: &str, what: &str) -> ! {
    panic!("seed {seed}: {what}\n{source}")
}

/// Whether the lowering of a program is well-formed; says what is wrong.
fn lowers_well(program: &Program, folding: Folding) -> Result<Lowering<'_>, String> {
    let lowering = Lowering::new(program, folding);
    verify_module(lowering.module()).map_err(|errors| format!("{errors:?}"))?;
    for id in lowering.module().methods.keys() {
        let arena = Bump::new();
        let method = lowering.lower(id, None, &arena).map_err(|error| error.to_string())?;
        verify(lowering.module(), &method)
            .map_err(|errors| format!("{}: {errors:?}", program.method_name(id)))?;
    }
    Ok(lowering)
}

#[test]
fn engines_agree_about_programs_with_objects() {
    let (mut compared, mut caught) = (0, 0);
    for seed in seeds(20) {
        let source = olive_program(&bytes_of_seed(seed, 1500));
        let program = Program::read(&source).unwrap_or_else(|error| fail(seed, &source, &error.to_string()));
        let main = program.find_method("Main.main").expect("the generator makes one");
        let mut expected = Vec::new();
        let ended = run_bytecode(&program, main, &[], LIMITS, None, &mut expected);
        for folding in [Folding::On, Folding::Off] {
            let lowering = lowers_well(&program, folding).unwrap_or_else(|what| fail(seed, &source, &what));
            let mut out = Vec::new();
            let lowered = run_il(&lowering, main, &[], LIMITS, &mut out);
            match ended.agrees(&lowered) {
                None => {}
                Some(true) if out == expected => compared += 1,
                Some(_) => fail(seed, &source, &format!("{folding:?}: {ended} as bytecode, {lowered} as IL")),
            }
        }
        let lowering = Lowering::new(&program, Folding::On);
        let strategy = STRATEGIES[seed as usize % STRATEGIES.len()];
        let options = Options { strategy, ..Options::default() };
        let native = Native::new(&lowering, None, LIMITS, options);
        let native = native.unwrap_or_else(|error| fail(seed, &source, &error.to_string()));
        native.set_collect(if seed % 2 == 0 { Collect::AtEveryYield } else { Collect::WhenFull });
        let mut out = Vec::new();
        let compiled = native.call(main, &[], LIMITS, &mut out);
        let compiled = compiled.unwrap_or_else(|error| fail(seed, &source, &error.to_string()));
        match ended.agrees(&compiled) {
            None => {}
            Some(true) if out == expected => compared += 1,
            Some(_) => fail(seed, &source, &format!("{ended} as bytecode, {compiled} as native code")),
        }
        caught += usize::from(String::from_utf8_lossy(&expected).lines().count() > 3);
    }
    assert!(compared > 20 && caught > 5, "{compared} compared, {caught} of them with output");
}

/// The bodies of a program after the passes of a strategy, by index.
fn optimized<'a>(
    lowering: &Lowering<'_>,
    strategy: &Strategy,
    arena: &'a Bump,
) -> Result<Vec<Method<'a>>, String> {
    let (module, program) = (lowering.module(), lowering.program());
    let world = closed_world(module, &[], module.methods.keys());
    let callees = Lowered(lowering);
    let options =
        dagwood_opt::Options { verify: dagwood_opt::Verify::Each, ..dagwood_opt::Options::default() };
    let request = Request { world: &world, callees: &callees, ..Request::new(module, strategy, &options) };
    let mut bodies = Vec::new();
    for id in module.methods.keys() {
        let mut method = lowering.lower(id, None, arena).map_err(|error| error.to_string())?;
        optimize(&request, &mut method, &mut ())
            .map_err(|fault| format!("{}: {fault}", program.method_name(id)))?;
        bodies.push(method);
    }
    Ok(bodies)
}

/// The bodies that are inlined.
struct Lowered<'l>(&'l Lowering<'l>);

impl Callees for Lowered<'_> {
    fn body<'b>(&self, method: MethodId, arena: &'b Bump) -> Option<Method<'b>> {
        self.0.lower(method, None, arena).ok()
    }
}

#[test]
fn frame_states_say_all_that_the_bytecode_needs_to_go_on() {
    let mut left = 0;
    for seed in seeds(20) {
        let source = olive_program(&bytes_of_seed(seed, 1000));
        let program = Program::read(&source).unwrap_or_else(|error| fail(seed, &source, &error.to_string()));
        let lowering = Lowering::new(&program, Folding::On).with_exits(Exits::Everywhere);
        let arena = Bump::new();
        let strategy = STRATEGIES[seed as usize % STRATEGIES.len()];
        let bodies = optimized(&lowering, strategy, &arena).unwrap_or_else(|what| fail(seed, &source, &what));
        for id in lowering.module().methods.keys().filter(|id| program.methods()[*id].is_static) {
            let params = program.methods()[id].param_types();
            let args: Vec<Value> = params.map(|ty| Value::from_bits(ty.lowered(), 0)).collect();
            let mut expected = Vec::new();
            let ended = run_bytecode(&program, id, &args, LIMITS, None, &mut expected);
            for guards in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144].map(|guards| guards + seed % 3) {
                let mut out = Vec::new();
                let other = run_bodies(&lowering, &bodies, id, &args, LIMITS, guards, &mut out);
                match ended.agrees(&other) {
                    None => {}
                    Some(true) if out == expected => left += 1,
                    Some(_) => {
                        let name = format!("{} after `{}`", program.method_name(id), strategy.name);
                        fail(
                            seed,
                            &source,
                            &format!("{name}, left at guard {guards}: {ended} as bytecode, {other} else"),
                        );
                    }
                }
            }
        }
    }
    assert!(left > 100, "{left} exits");
}

#[test]
fn text_that_is_nearly_a_program_is_one_or_an_error() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in seeds(200) {
        let bytes = bytes_of_seed(seed, 400);
        let source = olive_program(&bytes);
        let mut choices = Choices::new(&bytes);
        let mutated = match seed % 4 {
            0 => String::from_utf8_lossy(&mutate(source.as_bytes(), &mut choices)).into_owned(),
            _ => mutate_words(&source, &mut choices),
        };
        match Program::read(&mutated) {
            Ok(program) => {
                accepted += 1;
                if let Err(what) = lowers_well(&program, Folding::On) {
                    panic!("seed {seed}: {what}\n{mutated}");
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!error.what.is_empty() && !error.expected.is_empty(), "seed {seed}: {error}");
            }
        }
    }
    assert!(accepted > 0 && refused > 20, "{accepted} accepted, {refused} refused");
}
