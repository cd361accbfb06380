//! The text form as a property: what is printed reads back, and what nearly is a program is an error or a program.

use bumpalo::Bump;
use dagwood_codegen::{Compiler, Features, Target, Verify};
use dagwood_fuzz::{Choices, Program, bytes_of_seed, mutate, mutate_words, seeds};
use dagwood_il::interp::{Interpreter, Limits, Program as Bodies, Regions};
use dagwood_il::verify::verify;
use dagwood_il::{Folding, text};

/// A generated program as text.
fn printed(seed: u64) -> String {
    let program = Program::generate(&bytes_of_seed(seed, 32 + (seed as usize * 29) % 600));
    let arena = Bump::new();
    let folding = if seed.is_multiple_of(2) { Folding::On } else { Folding::Off };
    let methods: Vec<_> = program
        .methods
        .iter()
        .map(|id| program.build(*id, &arena, folding).unwrap_or_else(|error| panic!("seed {seed}: {error}")))
        .collect();
    text::print_module(&program.module, &methods.iter().collect::<Vec<_>>())
}

#[test]
fn what_is_printed_reads_back_as_it_was() {
    for seed in seeds(100) {
        let first = printed(seed);
        let arena = Bump::new();
        let source =
            text::parse(&first, &arena).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{first}"));
        for body in &source.bodies {
            verify(&source.module, &body.method)
                .unwrap_or_else(|errors| panic!("seed {seed}: {errors:?}\n{first}"));
        }
        let again = text::print_module(
            &source.module,
            &source.bodies.iter().map(|body| &body.method).collect::<Vec<_>>(),
        );
        assert_eq!(first, again, "seed {seed}");
    }
}

/// Reads `source`; what reads is verified; what is well-formed is interpreted with little fuel, and compiled.
fn survive(source: &[u8], compiler: &mut Compiler) -> Result<(), String> {
    let arena = Bump::new();
    let bytes = source;
    let source = text::parse_bytes(bytes, &arena).map_err(|error| error.to_string())?;
    let written = std::str::from_utf8(bytes).expect("what was read is text");
    text::verify(&source, written).map_err(|refusals| refusals[0].to_string())?;
    let lookup = |id| source.bodies.iter().map(|body| &body.method).find(|method| method.id() == id);
    let program = Bodies { module: &source.module, bodies: &lookup };
    for body in &source.bodies {
        let signature = source.module.method_signature(body.method.id());
        let args: Vec<_> = signature.params.iter().map(|ty| dagwood_il::eval::Value::zero(*ty)).collect();
        let limits = Limits { fuel: 2_000, ..Limits::default() };
        // Any end will do: it is one.
        let _ = Interpreter::new(program).run(
            &mut Regions::new(&source.module),
            body.method.id(),
            0,
            &args,
            limits,
        );
        let _ = compiler.compile(&source.module, &body.method);
    }
    Ok(())
}

#[test]
fn nearly_programs_are_errors_with_a_place_or_programs() {
    let target = Target::new(Features::Host, Verify::On).expect("this machine is supported");
    let mut compiler = Compiler::new(std::sync::Arc::new(target));
    let (mut accepted, mut refused) = (0, 0);
    for seed in seeds(300) {
        let bytes = bytes_of_seed(seed ^ 0x5eed, 200);
        let mut choices = Choices::new(&bytes);
        let source = printed(seed % 50);
        let mutated = match choices.below(8) {
            0 => bytes_of_seed(seed, 300),
            1..=3 => mutate(source.as_bytes(), &mut choices),
            _ => mutate_words(&source, &mut choices).into_bytes(),
        };
        match survive(&mutated, &mut compiler) {
            Ok(()) => accepted += 1,
            Err(what) => {
                refused += 1;
                let mut place = what.splitn(3, ':').map(|part| part.parse::<u32>().is_ok());
                assert!(
                    place.next() == Some(true) && place.next() == Some(true),
                    "seed {seed}: no place in `{what}`"
                );
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(refused > 0, "most mutations break something");
}
