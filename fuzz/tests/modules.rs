//! WebAssembly modules that nearly are ones: an error with a place, or a module that compiles and stays within its limits.

use std::path::Path;
use std::time::{Duration, Instant};

use dagwood_fuzz::{Choices, bytes_of_seed, mutate, seeds};
use dagwood_wasm::{Engine, EngineOptions, Instance, Linker, Mode, Module, Store, StoreOptions};

/// What a module of some tens of kilobytes may take, however it was mutated.
const MOST: Duration = Duration::from_secs(20);

/// Valid modules of this repository.
fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<_> = ["examples", "bench/kernels"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).expect("the folder can be listed"))
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are modules");
    files.iter().map(|file| std::fs::read(file).expect("a module can be read")).collect()
}

/// Parses, compiles and instantiates; an error is fine, and says where.
fn survive(bytes: Vec<u8>, mode: Mode) -> Result<(), String> {
    let module = Module::parse(bytes).map_err(|error| {
        assert!(error.offset().is_some(), "an error in a module says where: {error}");
        error.to_string()
    })?;
    let engine =
        Engine::new(EngineOptions { mode, ..EngineOptions::default() }).map_err(|error| error.to_string())?;
    let compiled = engine.compile(module).map_err(|error| error.to_string())?;
    let options = StoreOptions { max_memory_bytes: 64 << 20, ..StoreOptions::default() };
    let store = Store::new(&engine, options).map_err(|error| error.to_string())?;
    Instance::new(&Linker::new(&store), &compiled).map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn mutated_modules_are_errors_or_modules() {
    let corpus = corpus();
    let (mut accepted, mut refused) = (0, 0);
    for seed in seeds(60) {
        let bytes = bytes_of_seed(seed, 200);
        let mut choices = Choices::new(&bytes);
        let mutated = match choices.below(8) {
            0 => [b"\0asm\x01\0\0\0".as_slice(), &bytes_of_seed(seed ^ 1, 400)].concat(),
            1 => bytes_of_seed(seed ^ 2, 400),
            _ => mutate(&corpus[choices.below(corpus.len())], &mut choices),
        };
        let start = Instant::now();
        let mode = if seed.is_multiple_of(4) { Mode::Interpret } else { Mode::Native };
        match survive(mutated, mode) {
            Ok(()) => accepted += 1,
            Err(what) => {
                refused += 1;
                assert!(!what.is_empty(), "seed {seed}: an error says something");
            }
        }
        assert!(start.elapsed() < MOST, "seed {seed} took {:?}", start.elapsed());
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(refused > 0, "most mutations break something");
}

#[test]
fn what_is_not_supported_is_refused_with_a_place() {
    // A type section with (func (param nullexnref)), which validates.
    let bytes = b"\0asm\x01\0\0\0\x01\x05\x01\x60\x01\x74\0".to_vec();
    let error = Module::parse(bytes).expect_err("there are no values of this type");
    assert_eq!(error.to_string(), "unsupported: values of type nullexnref (at byte 0xa)");
}
