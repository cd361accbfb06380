//! The ledger of proofs, `il/proofs.tsv`: for each law of integers, what a solver said of it.
//!
//! ```text
//!   hash of the questions   result                        widths      solver      law
//!   9f86d081884c7d65        proved                        8 16 32 64  z3 4.8.12   add x 0 => x
//!   60303ae22b998861        exhaustive only: no answer…   8 16        z3 4.8.12   udiv (udiv x A) B => …
//! ```
//!
//! Widths are those of the widest type, which for comparisons is that of the truth where the operands are narrower. The
//! hash is of all scripts that are asked, so an entry is stale as soon as the law, or what an operation means to the
//! solver, is another. A test without any solver fails where an entry is missing, stale, or says that a law is false.
//!
//! With a solver on the path, `DAGWOOD_PROVE=write cargo test -p dagwood-il ledger` proves what is missing or stale and
//! writes the ledger, `DAGWOOD_PROVE=all` proves everything again, and `DAGWOOD_PROVE=20` a twentieth of it.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::rules;
use super::smt::{Meaning, meanings, script, typings};
use super::solver::{Answer, Solver};
use crate::fold::law::Rule;
use crate::types::Type;

/// How long a solver may take for one script.
const LIMIT: Duration = Duration::from_secs(12);

/// Of a hundred laws of integers, how many may be proved by exhaustion of small widths alone.
const MAX_UNPROVED_PERCENT: usize = 3;

const LEDGER: &str = include_str!("../../../proofs.tsv");
const HEAD: &str = "# Proofs of the laws of integers: see il/src/fold/proof/ledger.rs\n# hash\tresult\twidths\tsolver\tlaw\n";
const PROVED: &str = "proved";
const UNPROVED: &str = "exhaustive only: ";

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hash: u64,
    result: String,
    widths: String,
    solver: String,
}

fn read(ledger: &str) -> HashMap<&str, Entry> {
    let lines = ledger.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [hash, result, widths, solver, law] = fields[..] else { panic!("`{line}` has five fields") };
            let hash = u64::from_str_radix(hash, 16).expect("a hash is a hexadecimal number");
            (law, Entry { hash, result: result.into(), widths: widths.into(), solver: solver.into() })
        })
        .collect()
}

/// FNV-1a, by Fowler, Noll and Vo, of all scripts of a rule.
fn hash(rule: &Rule) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for types in typings(rule) {
        for byte in meanings(rule).iter().flat_map(|meaning| script(rule, &types, *meaning).into_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}

/// The rules that a solver can be asked about.
fn integer_rules() -> Vec<Rule> {
    rules().into_iter().filter(|rule| !rule.is_float()).collect()
}

/// What the solver says of a rule.
fn prove(rule: &Rule, solver: &Solver, worker: usize) -> Entry {
    let file: PathBuf =
        std::env::temp_dir().join(format!("dagwood-proof-{}-{worker}.smt2", std::process::id()));
    let mut widths: Vec<u32> = Vec::new();
    let mut result = PROVED.to_string();
    for types in typings(rule) {
        let width = types.iter().map(|ty| ty.bits()).max().expect("a rule has a type");
        if !is_proved(rule, &types, solver, &file) {
            println!("no answer at {types:?}: {}", rule.law);
            result = format!("{UNPROVED}no answer in {} s at {width} bits", LIMIT.as_secs());
            // It will not be quicker with more bits.
            break;
        }
        widths.push(width);
    }
    // The file is one of the system's temporary ones, whoever removes it.
    let _ = std::fs::remove_file(file);
    widths.sort_unstable();
    widths.dedup();
    let widths = widths.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    Entry { hash: hash(rule), result, widths, solver: solver.name.clone() }
}

/// Whether the solver proves the rule at these types, by any of the meanings of a division.
fn is_proved(rule: &Rule, types: &[Type], solver: &Solver, file: &Path) -> bool {
    meanings(rule).iter().any(|meaning| match solver.ask(&script(rule, types, *meaning), file, LIMIT) {
        Answer::Proved => true,
        Answer::Refuted if *meaning == Meaning::Exact => panic!("`{}` is false at {types:?}", rule.law),
        Answer::Refuted | Answer::Timeout => false,
        Answer::Failed(what) => panic!("`{}`: {} says {what}", rule.law, solver.name),
    })
}

/// Asks about many rules, two at a time.
fn prove_all(rules: &[&Rule], solver: &Solver) -> Vec<Entry> {
    let next = AtomicUsize::new(0);
    let work = |worker: usize| {
        let mut entries = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match rules.get(index) {
                Some(rule) => entries.push((index, prove(rule, solver, worker))),
                None => return entries,
            }
        }
    };
    let mut entries = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no law is false")).collect::<Vec<_>>()
    });
    entries.sort_by_key(|(index, _)| *index);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// What is wrong with the ledger, as a list.
fn complaints(rules: &[Rule], ledger: &HashMap<&str, Entry>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut unproved = 0;
    for rule in rules {
        match ledger.get(rule.law) {
            None => complaints.push(format!("no entry: {}", rule.law)),
            Some(entry) if entry.hash != hash(rule) => complaints.push(format!("stale: {}", rule.law)),
            Some(entry) if entry.result == PROVED => {}
            Some(entry) if entry.result.starts_with(UNPROVED) => unproved += 1,
            Some(entry) => complaints.push(format!("{}: {}", entry.result, rule.law)),
        }
    }
    for law in ledger.keys().filter(|law| !rules.iter().any(|rule| rule.law == **law)) {
        complaints.push(format!("no such law: {law}"));
    }
    if unproved * 100 > rules.len() * MAX_UNPROVED_PERCENT {
        complaints.push(format!("{unproved} of {} laws are proved by exhaustion alone", rules.len()));
    }
    complaints
}

/// The ledger that a solver writes, with what is still right in the old one.
fn rewritten(rules: &[Rule], ledger: &HashMap<&str, Entry>, solver: &Solver) -> String {
    let is_right = |rule: &Rule| ledger.get(rule.law).is_some_and(|entry| entry.hash == hash(rule));
    let wanted: Vec<&Rule> = rules.iter().filter(|rule| !is_right(rule)).collect();
    let mut proved = prove_all(&wanted, solver).into_iter();
    let mut text = HEAD.to_string();
    for rule in rules {
        let entry = if is_right(rule) {
            ledger[rule.law].clone()
        } else {
            proved.next().expect("each was asked about")
        };
        let Entry { hash, result, widths, solver } = entry;
        let _ = writeln!(text, "{hash:016x}\t{result}\t{widths}\t{solver}\t{}", rule.law);
    }
    text
}

#[test]
fn the_ledger_has_a_proof_of_every_law_of_integers() {
    let (rules, ledger) = (integer_rules(), read(LEDGER));
    let wish = std::env::var("DAGWOOD_PROVE").unwrap_or_default();
    if wish == "write" {
        let solver = Solver::on_path().expect("a solver is on the path");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/proofs.tsv");
        let old = std::fs::read_to_string(path).expect("the ledger can be read");
        std::fs::write(path, rewritten(&rules, &read(&old), &solver)).expect("the ledger can be written");
        return;
    }
    let complaints = complaints(&rules, &ledger);
    assert!(
        complaints.is_empty(),
        "DAGWOOD_PROVE=write with a solver on the path mends this: {complaints:#?}"
    );
    let Some(part) = (if wish == "all" { Some(1) } else { wish.parse::<usize>().ok() }) else { return };
    let Some(solver) = Solver::on_path() else {
        println!("there is no solver on the path; the ledger stands");
        return;
    };
    let proved: Vec<&Rule> = rules.iter().filter(|rule| ledger[rule.law].result == PROVED).collect();
    let chosen: Vec<&Rule> = proved.into_iter().step_by(part).collect();
    let again = prove_all(&chosen, &solver);
    let count = again.iter().filter(|entry| entry.result == PROVED).count();
    println!("{} proves {count} of {} laws again", solver.name, chosen.len());
    // Another solver, or a slower machine, may need longer for some.
    assert!(count * 10 >= chosen.len() * 9, "most laws are proved again");
}

#[test]
fn a_missing_a_stale_and_a_false_entry_are_found() {
    let rules: Vec<Rule> = ["add x 0 => x", "sub x x => 0", "neg (neg x) => x"].map(Rule::parse).into();
    let line =
        |rule: &Rule, hash: u64, result: &str| format!("{hash:016x}\t{result}\t64\tsolver 1\t{}\n", rule.law);
    let right: String = rules.iter().map(|rule| line(rule, hash(rule), PROVED)).collect();
    assert_eq!(complaints(&rules, &read(&right)), Vec::<String>::new());
    let missing: String = rules[1..].iter().map(|rule| line(rule, hash(rule), PROVED)).collect();
    assert_eq!(complaints(&rules, &read(&missing)), ["no entry: add x 0 => x"]);
    let stale = right.replace(&format!("{:016x}", hash(&rules[1])), "0123456789abcdef");
    assert_eq!(complaints(&rules, &read(&stale)), ["stale: sub x x => 0"]);
    let refuted = right.replacen(PROVED, "refuted", 1);
    assert_eq!(complaints(&rules, &read(&refuted)), ["refuted: add x 0 => x"]);
    let unproved = right.replacen(PROVED, "exhaustive only: no answer", 1);
    assert_eq!(complaints(&rules, &read(&unproved)), ["1 of 3 laws are proved by exhaustion alone"]);
    assert_eq!(complaints(&rules[1..], &read(&right)), ["no such law: add x 0 => x"]);
}
