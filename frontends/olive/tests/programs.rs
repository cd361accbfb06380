//! Every program of `programs`, in every engine: it prints what its comments say.

use std::fs;
use std::path::Path;

use dagwood_il::{Bump, Folding};
use dagwood_olive::engine::{Ended, Limits, Native, run_bytecode, run_il};
use dagwood_olive::host::Value;
use dagwood_olive::observe::Observed;
use dagwood_olive::{Lowering, Program};
use dagwood_opt::STRATEGIES;
use dagwood_runtime::heap::Collect;
use dagwood_runtime::jit::Options;

/// The programs, with their names and sources.
fn programs() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let entries = fs::read_dir(folder).expect("the programs can be listed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.sort();
    let read = |path: &Path| {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("programs are UTF-8"))
    };
    paths.iter().map(|path| read(path)).collect()
}

/// What the comments that begin with `;=` say that a program prints.
fn expected(source: &str) -> String {
    let lines = source.lines().filter_map(|line| line.strip_prefix(";= "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// What `Main.run` is given, by which benchmarks say how much is to be done.
const WORK: i32 = 9;

#[test]
fn programs_do_the_same_work_in_every_engine() {
    for (name, source) in programs() {
        let program = Program::read(&source).unwrap_or_else(|error| panic!("{name}:{error}"));
        let run = program.find_method("Main.run").expect("a program has a `Main.run`");
        let (args, limits) = ([Value::Int(WORK)], Limits::default());
        let mut observed = Observed::new(&program);
        let expected = run_bytecode(&program, run, &args, limits, Some(&mut observed), &mut Vec::new());
        assert!(matches!(expected, Ended::Returned(Some(Value::Long(_)))), "{name}: {expected}");
        let profile = observed.snapshot(&program);
        let lowering = Lowering::new(&program, Folding::On);
        let ended = run_il(&lowering, run, &args, limits, &mut Vec::new());
        assert_eq!(expected.agrees(&ended), Some(true), "{name}: {ended}");
        for strategy in STRATEGIES {
            let options = Options { strategy, ..Options::default() };
            let native = Native::new(&lowering, Some(&profile), limits, options).expect("it can be compiled");
            for collect in [Collect::WhenFull, Collect::AtEveryYield] {
                native.set_collect(collect);
                let ended = native.call(run, &args, limits, &mut Vec::new()).expect("it runs");
                assert_eq!(expected.agrees(&ended), Some(true), "{name}, {}: {ended}", strategy.name);
            }
        }
    }
}

#[test]
fn programs_print_what_they_say_in_every_engine() {
    let programs = programs();
    assert!(programs.len() >= 4, "there are programs");
    for (name, source) in programs {
        let program = Program::read(&source).unwrap_or_else(|error| panic!("{name}:{error}"));
        let main = program.find_method("Main.main").expect("a program has a `Main.main`");
        let check = |engine: &str, ended: Ended, out: Vec<u8>| {
            assert!(matches!(ended, Ended::Returned(None)), "{name}, {engine}: {ended}");
            assert_eq!(String::from_utf8_lossy(&out), expected(&source), "{name}, {engine}");
        };
        let mut out = Vec::new();
        let ended = run_bytecode(&program, main, &[], Limits::default(), None, &mut out);
        check("bytecode", ended, out);
        for folding in [Folding::On, Folding::Off] {
            let lowering = Lowering::new(&program, folding);
            dagwood_il::verify_module(lowering.module())
                .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
            let arena = Bump::new();
            for id in lowering.module().methods.keys() {
                let method = lowering.lower(id, None, &arena).expect("what is verified can be lowered");
                if let Err(errors) = dagwood_il::verify(lowering.module(), &method) {
                    let text = dagwood_il::text::print_method(lowering.module(), &method);
                    panic!("{name}: {errors:?}\n{text}");
                }
            }
            let mut out = Vec::new();
            let ended = run_il(&lowering, main, &[], Limits::default(), &mut out);
            check("IL", ended, out);
            // What was not folded at first is folded by the first pass.
            let strategies = if folding == Folding::On { STRATEGIES } else { &STRATEGIES[..1] };
            for strategy in strategies {
                let engine = format!("native code, {}", strategy.name);
                let options = Options { strategy, ..Options::default() };
                let native = Native::new(&lowering, None, Limits::default(), options);
                let native = native.unwrap_or_else(|error| panic!("{name}, {engine}: {error}"));
                for collect in [Collect::WhenFull, Collect::AtEveryYield] {
                    native.set_collect(collect);
                    let mut out = Vec::new();
                    let ended = native.call(main, &[], Limits::default(), &mut out);
                    let ended = ended.unwrap_or_else(|error| panic!("{name}, {engine}: {error}"));
                    check(&engine, ended, out);
                }
            }
        }
    }
}
