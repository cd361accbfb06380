//! `dagwood bisect`: which rewrite is the first to change what a program does.
//!
//! IL is run as its options say; see [`outcome`](crate::outcome). A module of WebAssembly runs as native code, and is held against the
//! interpreter, which runs what it was lowered to.

use bumpalo::Bump;
use dagwood_opt::bisect::first_bad;
use dagwood_opt::{Options, Remark, RemarkKind, Remarks, Strategy, Verify};
use dagwood_wasm::wasi::{Buffer, Stdio, WasiConfig};

use crate::args::Matches;
use crate::engine::{Engine, Limits};
use crate::load::{Loaded, Source, load};
use crate::methods::{Methods, Polls};
use crate::opt::{apply, chosen};
use crate::outcome::{Trial, Verdict, quietly};
use crate::report::{Failure, Output};
use crate::run::run_wasm;
use crate::wasm::{self, Program};

/// What was found out.
struct Found {
    /// How many rewrites there are.
    total: u64,
    /// The guilty one, and what it leads to.
    guilty: Option<(u64, String)>,
    /// What it said, and of which method.
    remark: Option<(String, Remark)>,
}

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let strategy = chosen(matches)?;
    let (file, arguments) = matches.operands.split_first().expect("a command with an operand has been read");
    let Loaded { name, source } = load(file)?;
    let found = match source {
        Source::Il(text) => {
            let trial = Trial::read(matches, &strategy, arguments)?;
            quietly(|| bisect_il(&name, &text, &trial))?
        }
        Source::Wasm(bytes) => {
            if matches.has("--command") {
                return Err(matches.usage("--command is for IL; a module is run by its exports"));
            }
            quietly(|| bisect_wasm(matches, &name, bytes, &strategy))?
        }
    };
    let mut out = Output::chosen(matches.value("--output"))?;
    out.put(&sentence(&name, &strategy, &found))?;
    out.finish()?;
    if found.guilty.is_some() { Err(Failure::Reported) } else { Ok(()) }
}

fn sentence(name: &str, strategy: &Strategy, found: &Found) -> String {
    let total = found.total;
    let Some((number, what)) = &found.guilty else {
        return format!(
            "{name}: `{}` makes {total} rewrites, and none of them changes the outcome\n",
            strategy.name
        );
    };
    let mut out = match number {
        0 => format!("{name}: it is bad without any rewrite of `{}`\n", strategy.name),
        _ => format!("{name}: rewrite {number} of {total} is the first to change the outcome\n"),
    };
    if let Some((method, remark)) = &found.remark {
        out += &format!("  @{method}: {remark}\n");
    }
    what.lines().for_each(|line| out += &format!("  {line}\n"));
    out
}

/// The words for what is bad; none for what is good.
fn badness(name: &str, verdict: Verdict) -> Result<Option<String>, Failure> {
    match verdict {
        Verdict::Good => Ok(None),
        Verdict::Bad(what) | Verdict::Fault(_, what) => Ok(Some(what)),
        Verdict::Unclear => Err(Failure::of(name, "a limit stopped the program; --fuel allows it more")),
    }
}

/// The first of `total` rewrites, or of any if it is not known, that `badness` finds bad.
fn search(
    total: u64,
    remarks: Vec<(String, Remark)>,
    mut badness: impl FnMut(u64) -> Result<Option<String>, Failure>,
) -> Result<Found, Failure> {
    let first = first_bad(total, |limit| Ok::<_, Failure>(badness(limit)?.is_none()))?;
    let guilty = match first {
        Some(number) => Some((number, badness(number)?.unwrap_or_default())),
        None => badness(0)?.map(|what| (0, what)),
    };
    let number = guilty.as_ref().map_or(0, |(number, _)| *number);
    Ok(Found { total, guilty, remark: remark_of(number, remarks) })
}

/// What was said of a rewrite. Its number is one of all methods together; each method's own begin at one.
fn remark_of(number: u64, remarks: Vec<(String, Remark)>) -> Option<(String, Remark)> {
    let is_rewrite = |remark: &Remark| remark.kind != RemarkKind::Missed;
    remarks
        .into_iter()
        .filter(|(_, remark)| is_rewrite(remark))
        .nth(usize::try_from(number.checked_sub(1)?).ok()?)
}

fn bisect_il(name: &str, text: &str, trial: &Trial<'_>) -> Result<Found, Failure> {
    // Where a pass goes wrong there is no total; what it has asked for until then is found by doubling.
    let mut total = 1;
    let mut remarks = Vec::new();
    match trial.optimized(name, text, None)? {
        Ok(optimized) => (total, remarks) = (optimized.rewrites, optimized.remarks),
        Err(_) => {
            while total < MAX_REWRITES && trial.optimized(name, text, Some(total))?.is_ok() {
                total *= 2;
            }
        }
    }
    let mut found = search(total, remarks, |limit| badness(name, trial.verdict(name, text, Some(limit))?))?;
    if let (None, Some((number, _))) = (&found.remark, &found.guilty)
        && let Ok(below) = trial.optimized(name, text, number.checked_sub(1))?
    {
        // The limit below it denies it by name.
        found.remark = remark_of(*number, below.remarks);
    }
    Ok(found)
}

/// More rewrites than any file has.
const MAX_REWRITES: u64 = 1 << 40;

fn bisect_wasm(matches: &Matches, name: &str, bytes: Vec<u8>, strategy: &Strategy) -> Result<Found, Failure> {
    let Some(listed) = Strategy::by_name(strategy.name) else {
        return Err(matches.usage("--passes is for IL; `dagwood compile --emit il` makes IL of a module"));
    };
    let limits = Limits { strategy: Some(listed), ..Limits::read(matches)? };
    let (total, remarks) = rewrites_of(name, bytes.clone(), strategy, limits.ask_for_polls())?;
    let module = wasm::parse(name, bytes)?;
    let observe = |engine: Engine, opt_limit: Option<u64>| {
        let program = Program::new(name, module.clone(), engine, &Limits { opt_limit, ..limits.clone() })?;
        let output = Buffer::new();
        let system = WasiConfig::new().stdout(Stdio::Buffer(output.clone()));
        let ended =
            run_wasm(&program, system.arg(name), matches.text("--invoke")?, &matches.operands[1..], name)?;
        Ok::<_, Failure>((ended, output.contents()))
    };
    let expected = observe(Engine::Interpreter, None)?;
    search(total, remarks, |limit| {
        let given = observe(Engine::Native, Some(limit))?;
        let verdict = match expected.0.agrees(&given.0) {
            None => Verdict::Unclear,
            Some(true) if expected.1 == given.1 => Verdict::Good,
            Some(_) => Verdict::Bad(format!(
                "the interpreter gives {}, native code {}",
                expected.0.summary(),
                given.0.summary()
            )),
        };
        badness(name, verdict)
    })
}

/// The rewrites of a module's functions, in the order in which it is compiled.
fn rewrites_of(
    name: &str,
    bytes: Vec<u8>,
    strategy: &Strategy,
    polls: bool,
) -> Result<(u64, Vec<(String, Remark)>), Failure> {
    let mut loaded = Loaded { name: name.into(), source: Source::Wasm(bytes) };
    let arena = Bump::new();
    let mut methods = Methods::open(&mut loaded, &arena, if polls { Polls::On } else { Polls::Off })?;
    let selected = methods.select(None)?;
    let mut options = Options { remarks: Remarks::On, verify: Verify::Each, ..Options::default() };
    let (mut total, mut remarks) = (0, Vec::new());
    methods.each(&selected, |known, method| {
        let report = apply(known, strategy, &mut options, method, &mut ())
            .map_err(|fault| Failure::of(name, fault))?;
        total += report.rewrites;
        let method = &known.module.methods[method.id()].name;
        remarks.extend(report.remarks.into_iter().map(|remark| (method.clone(), remark)));
        Ok(())
    })?;
    Ok((total, remarks))
}
