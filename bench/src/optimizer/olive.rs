//! Olive's programs: what strategies gain and cost where there are objects, calls of methods and exceptions.
//!
//! Run time is that of `Main.run(n)`; compile time goes from text to code that could be called. No other engine runs these
//! programs, so strategies are held against none, and that against the interpreter of the bytecode, which takes so long that
//! it runs once.

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use bumpalo::Bump;
use dagwood_il::{Folding, Method, MethodId, Module as Declarations, World};
use dagwood_olive::engine::{Ended, Limits, Native, Whole, run_bytecode};
use dagwood_olive::host::Value;
use dagwood_olive::{Lowering, Program as Guest};
use dagwood_opt::{Callees, HOT, NONE, QUICK, Strategy, WARM};
use dagwood_runtime::compiler::{Bodies, Verify};
use dagwood_runtime::jit;
use dagwood_runtime::thread::{self, Thread};

use super::cost::{Cost, Methods, cost};
use super::costs;
use super::passes::Passes;
use crate::Options;
use crate::engine::{Compilation, Engine, Failure, Instance, Program, Result, Sample, timed};
use crate::measure::{Plan, geomean, ratio, run_times};
use crate::report::{Report, Table, Target, progress};
use crate::wasm::{Goal, Kind, compare};

const BASE: &str = "olive none";
const WARM_NAME: &str = "olive warm";
const BYTECODE: &str = "olive bytecode";

/// What strategies should gain here.
const GOALS: &[Goal] =
    &[Goal { kind: Kind::Run, engine: WARM_NAME, base: BASE, target: Target::AtMost(1.0) }];

/// The bytes of all objects, so few that they are collected in every run of those that make many.
const HEAP_BYTES: u64 = 64 << 20;

macro_rules! programs {
    ($($name:literal: $n:literal,)*) => {
        [$(($name, $n, include_str!(concat!("../../../frontends/olive/programs/", $name, ".olive"))),)*]
    };
}

/// The programs, what they are given, and their texts.
const PROGRAMS: [(&str, i32, &str); 11] = programs! {
    "boxes": 1_000_000,
    "calculator": 200_000,
    "counter": 4_000_000,
    "exceptions": 30_000,
    "lists": 30_000,
    "maps": 12_000,
    "matrix": 260,
    "queens": 11,
    "scheduler": 500_000,
    "shapes": 20_000,
    "strings": 100_000,
};

/// The programs, once they are read: code refers to them.
static GUESTS: LazyLock<Vec<Guest>> = LazyLock::new(|| {
    PROGRAMS.iter().map(|(.., text)| Guest::read(text).expect("tests read every program")).collect()
});

fn name(program: &str) -> String {
    format!("olive/{program}")
}

fn guest(name_of: &str) -> &'static Guest {
    let found = PROGRAMS.iter().position(|(program, ..)| name(program) == name_of);
    &GUESTS[found.expect("it is one of these")]
}

/// Every program that `--only` leaves in.
pub(super) fn programs(options: &Options) -> Vec<Program> {
    let all = PROGRAMS.iter().map(|(program, n, text)| Program {
        name: name(program),
        code: text.as_bytes().to_vec(),
        native: None,
        n: Some(*n),
        memory64: false,
    });
    all.filter(|program| options.selects(&program.name)).collect()
}

/// The part of the bench.
pub(super) fn run(options: &Options, programs: &[Program], report: &mut Report) -> Result<()> {
    let native = |name, strategy| Box::new(Ours { name, strategy }) as Box<dyn Engine>;
    let engines =
        [native(BASE, NONE), native("olive quick", QUICK), native(WARM_NAME, WARM), native("olive hot", HOT)];
    compare(options, programs, &engines, GOALS, report)?;
    if !options.quick {
        bytecode(programs, [native(BASE, NONE), Box::new(Bytecode)], report)?;
    }
    let total = costs("olive, warm", programs, of_olive, report)?;
    report.conclude("olive, work at warm, on demand / every row".into(), total.work_ratio(), "ratio", None);
    report.conclude("olive, warm, all in / codegen alone".into(), total.times_generating(), "ratio", None);
    Ok(())
}

/// How long the interpreter takes, for each nanosecond of code that is not optimized.
fn bytecode(programs: &[Program], engines: [Box<dyn Engine>; 2], report: &mut Report) -> Result<()> {
    let mut table = Table { lines: vec![["olive", "bytecode / none"].map(String::from).to_vec()] };
    let mut ratios = Vec::new();
    for program in programs {
        progress(&format!("interpreting {}", program.name));
        let plan = Plan { instances: 1, rounds: 1, compilations: 0 };
        let series = run_times(program, program.n.unwrap_or_default(), &engines, plan)?;
        if let Some(value) = ratio(&series[1], &series[0]) {
            report.detail(format!("run time, {}, {BYTECODE} / {BASE}", program.name), value, "ratio");
            table.lines.push(vec![program.name.clone(), format!("{value:.1}")]);
            ratios.push(value);
        }
    }
    progress("");
    if let Some(value) = geomean(&ratios) {
        report.detail(format!("run time, geomean, {BYTECODE} / {BASE}"), value, "ratio");
        table.lines.push(vec!["geomean".into(), format!("{value:.1}")]);
    }
    report.sections.push(table.to_string());
    Ok(())
}

/// Native code by a strategy.
struct Ours {
    name: &'static str,
    strategy: &'static Strategy,
}

impl Ours {
    fn compiled<'p>(&self, guest: &'p Guest) -> Result<Native<'p>> {
        let limits = Limits { heap_bytes: HEAP_BYTES, ..Limits::default() };
        let options = jit::Options {
            strategy: self.strategy,
            verify: Verify::Off,
            threads: NonZeroUsize::MIN,
            ..jit::Options::default()
        };
        let lowering = Lowering::new(guest, Folding::On);
        Native::new(&lowering, None, limits, options).map_err(|error| Failure::because(self.name, error))
    }
}

impl Engine for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn policy(&self) -> &str {
        "checks of null, bounds, casts and stores; polls where loops jump back"
    }

    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>> {
        let guest = guest(&program.name);
        let thread = Thread::new(&thread::Options::default());
        let thread = thread.map_err(|error| Failure::because(self.name, error))?;
        Ok(Some(Box::new(Ready { guest, native: self.compiled(guest)?, thread })))
    }

    fn compile(&self, code: &[u8]) -> Result<Option<Compilation>> {
        let text = std::str::from_utf8(code).map_err(|error| Failure::because(self.name, error))?;
        let (compiled, time) = timed(|| {
            let guest = Guest::read(text).map_err(|error| Failure::because(self.name, error))?;
            self.compiled(&guest).map(drop)
        });
        compiled?;
        Ok(Some(Compilation { time }))
    }
}

/// A program with its code.
struct Ready {
    guest: &'static Guest,
    native: Native<'static>,
    thread: Thread,
}

fn entry(guest: &Guest) -> MethodId {
    guest.find_method("Main.run").expect("tests run it of every program")
}

fn sample(run: impl FnOnce() -> Result<Ended>) -> Result<Sample> {
    let (ended, time) = timed(run);
    match ended? {
        Ended::Returned(Some(Value::Long(value))) => Ok(Sample { checksum: value as u64, time }),
        ended => Err(Failure(format!("`Main.run` ends with {ended}"))),
    }
}

impl Instance for Ready {
    fn run(&mut self, n: i32) -> Result<Sample> {
        sample(|| {
            let args = [Value::Int(n)];
            let ended = self.native.call_on(&self.thread, entry(self.guest), &args, &mut std::io::sink());
            ended.map_err(|error| Failure::because("`Main.run`", error))
        })
    }
}

/// The interpreter of the bytecode.
struct Bytecode;

impl Engine for Bytecode {
    fn name(&self) -> &str {
        BYTECODE
    }

    fn policy(&self) -> &str {
        "every operation looks at what it is given"
    }

    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>> {
        Ok(Some(Box::new(Interpreted { guest: guest(&program.name) })))
    }
}

/// A program that is interpreted.
struct Interpreted {
    guest: &'static Guest,
}

impl Instance for Interpreted {
    fn run(&mut self, n: i32) -> Result<Sample> {
        // Its objects stay until the run ends.
        let limits = Limits { heap_bytes: u64::MAX, ..Limits::default() };
        let args = [Value::Int(n)];
        let mut out = std::io::sink();
        sample(|| Ok(run_bytecode(self.guest, entry(self.guest), &args, limits, None, &mut out)))
    }
}

/// The methods of a program.
struct Lowered<'l> {
    name: &'l str,
    lowering: &'l Lowering<'l>,
    whole: Whole<'l, 'l>,
}

impl Callees for Lowered<'_> {
    fn body<'a>(&self, method: MethodId, arena: &'a Bump) -> Option<Method<'a>> {
        self.lowering.lower(method, None, arena).ok()
    }
}

impl Methods for Lowered<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn declarations(&self) -> &Declarations {
        self.lowering.module()
    }

    fn ids(&self) -> Vec<MethodId> {
        self.lowering.module().methods.keys().collect()
    }

    fn world(&self) -> &dyn World {
        self.whole.world()
    }

    fn lower<'a>(&self, id: MethodId, arena: &'a Bump) -> Result<Method<'a>> {
        self.lowering.lower(id, None, arena).map_err(|error| Failure::because(self.name, error))
    }
}

/// As [`cost`], of one of these programs.
fn of_olive(program: &Program, by_pass: &mut Passes) -> Result<Cost> {
    let lowering = Lowering::new(guest(&program.name), Folding::On);
    let whole = Whole::new(&lowering, None);
    cost(&Lowered { name: &program.name, lowering: &lowering, whole }, by_pass)
}
