//! Random programs before and after random passes; and the same passes on the same programs, again and on several threads.

use dagwood_fuzz::{Checked, Plan, bytes_of_seed, check_passes, check_plan, optimized, optimized_by, seeds};
use dagwood_il::{Edits, Folding, Method, Properties};
use dagwood_opt::{Changed, Pass, PassCx, Strategy, passes};

/// The bytes of a seed's program.
fn bytes(seed: u64) -> Vec<u8> {
    bytes_of_seed(seed, 64 + (seed as usize * 37) % 1200)
}

#[test]
fn passes_change_no_outcome() {
    let (mut agreed, mut unfinished) = (0, 0);
    for seed in seeds(150) {
        match check_passes(&bytes(seed)) {
            Ok(Checked::Agrees) => agreed += 1,
            Ok(Checked::OutOfFuel) => unfinished += 1,
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    println!("{agreed} programs agree, {unfinished} took too long");
    assert!(unfinished * 10 < agreed, "most programs end");
}

#[test]
fn plans_cover_every_strategy_and_lists_of_passes() {
    let plans: Vec<String> = (0..400).map(|seed| Plan::of(&bytes(seed)).to_string()).collect();
    let names = dagwood_opt::STRATEGIES.iter().map(|strategy| strategy.name).chain(["passes"]);
    for name in names {
        assert!(plans.iter().any(|plan| plan.starts_with(name)), "{name}");
    }
    for pass in dagwood_opt::passes::PASSES {
        assert!(plans.iter().any(|plan| plan.contains(pass.name)), "{}", pass.name);
    }
}

/// Objects are few among what programs are made of, so those that need not be made have a hunt of their own.
#[test]
fn objects_that_are_not_made_change_no_outcome() {
    let list = [passes::escape_analysis::PASS];
    let plan = Plan { strategy: Strategy::of_passes(&list), folding: Folding::On, seed: 0 };
    let mut gone = 0;
    for seed in seeds(60) {
        if let Err(difference) = check_plan(&bytes(seed), &plan) {
            panic!("seed {seed}: {difference}");
        }
        gone += optimized_by(&bytes(seed), &plan).expect("the pass goes well").rewrites();
    }
    println!("{gone} objects, or groups of them, are not made");
    assert!(gone > 60, "{gone} objects are not made");
}

/// Takes an operand for the result of what commutes.
const WRONG: Pass = Pass { name: "wrong", summary: "a mistake", run: go_wrong };

fn go_wrong(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let mut edits = Edits::new();
    for node in method.nodes() {
        let opcode = method.opcode(node);
        let [first, _] = method.operands(node) else { continue };
        let is_alike = opcode.has(Properties::COMMUTES) && method.ty(*first) == method.ty(node);
        if is_alike && !method.is_root(node) && cx.allows(node, || format!("{opcode} is taken for {first}")) {
            edits.replace(node, *first);
        }
    }
    cx.apply(method, edits)
}

#[test]
fn a_pass_that_is_wrong_changes_outcomes() {
    let plan = Plan { strategy: Strategy::of_passes(&[WRONG]), folding: Folding::On, seed: 0 };
    let found = (0..24).filter(|seed| check_plan(&bytes(*seed), &plan).is_err()).count();
    assert!(found >= 4, "{found} of 24 programs show it");
}

/// What passes make of programs, and say, on so many threads.
fn printed(programs: u64, threads: u64) -> Vec<String> {
    let work = |thread: u64| -> Vec<(u64, String)> {
        let own = (0..programs).filter(|seed| seed % threads == thread);
        let print = |seed: u64| {
            let printed = optimized(&bytes(seed)).expect("passes go well");
            (seed, printed.text + &printed.said)
        };
        own.map(print).collect()
    };
    let mut all: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect()
    });
    all.sort();
    all.into_iter().map(|(_, text)| text).collect()
}

/// Programs have two and a half methods on average; `DAGWOOD_FUZZ_PROGRAMS=400` makes a thousand.
#[test]
fn identical_input_has_identical_output_on_any_thread() {
    let programs =
        std::env::var("DAGWOOD_FUZZ_PROGRAMS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let first = printed(programs, 1);
    for threads in [1, 1, 4, 4, 4] {
        for (seed, (left, right)) in first.iter().zip(&printed(programs, threads)).enumerate() {
            assert!(left == right, "seed {seed} on {threads} threads:\n{left}\nand\n{right}");
        }
    }
}
