//! `dagwood opt`: what the passes make of a file, and what they say about it.
//!
//! ```text
//!   for each method:   IL after some passes (--dump-after), IL after all (--emit), remarks, ledger
//!   at the end:        where the time went (--time-passes)
//! ```
//!
//! What is no IL stands in comments if IL is printed too, so that the output reads as a file of IL where there is one body of each method.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use dagwood_il::{Method, Module, text};
use dagwood_opt::{
    Changed, Fault, Observer, Options, Pass, Remarks, Report, Request, Step, Strategy, Verify, WARM,
    optimize, passes,
};

use crate::args::{self, Matches, similar};
use crate::load::load;
use crate::methods::{Known, Methods, Polls};
use crate::report::{Failure, Output};

/// The strategy that the options ask for: a list of passes, a strategy, or `warm`.
pub(crate) fn chosen(matches: &Matches) -> Result<Cow<'static, Strategy>, Failure> {
    let strategy = matches.read("--strategy", args::strategy)?;
    match (matches.text("--passes")?, strategy) {
        (Some(_), Some(_)) => Err(matches.usage("--passes and --strategy exclude each other")),
        (None, strategy) => Ok(Cow::Borrowed(strategy.unwrap_or(WARM))),
        (Some(names), None) => {
            let passes: Result<Vec<Pass>, Failure> =
                names.split(',').map(|name| pass(matches, name)).collect();
            Ok(Cow::Owned(Strategy::of_passes(&passes?)))
        }
    }
}

/// The pass of this name.
fn pass(matches: &Matches, name: &str) -> Result<Pass, Failure> {
    passes::by_name(name).ok_or_else(|| {
        let names = || passes::PASSES.iter().map(|pass| pass.name);
        let hint = match similar(name, names()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("the passes are {}", names().collect::<Vec<_>>().join(", ")),
        };
        matches.usage(format!("there is no pass `{name}`; {hint}"))
    })
}

/// The form of remarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// After which passes the IL is printed.
enum Dumps {
    None,
    All,
    After(&'static str),
}

/// What is printed.
struct Wanted {
    il: bool,
    dumps: Dumps,
    remarks: Option<Form>,
    ledger: bool,
    times: bool,
    /// What stands before lines that are no IL.
    margin: &'static str,
}

impl Wanted {
    fn read(matches: &Matches) -> Result<Wanted, Failure> {
        let remarks = matches.read("--remarks", |text| match text {
            "text" => Ok(Form::Text),
            "json" => Ok(Form::Json),
            _ => Err("`text` or `json`"),
        })?;
        let dumps = match matches.text("--dump-after")? {
            None => Dumps::None,
            Some("all") => Dumps::All,
            Some(name) => Dumps::After(pass(matches, name)?.name),
        };
        let (ledger, times) = (matches.has("--ledger"), matches.has("--time-passes"));
        let is_silent = remarks.is_none() && !ledger && !times && matches!(dumps, Dumps::None);
        let il = matches.has("--emit") || is_silent;
        let margin = if il || !matches!(dumps, Dumps::None) { "; " } else { "" };
        if remarks == Some(Form::Json) && (il || ledger || times || !margin.is_empty()) {
            return Err(matches.usage("--remarks json is a line of JSON for each remark, and nothing else"));
        }
        Ok(Wanted { il, dumps, remarks, ledger, times, margin })
    }
}

/// How to optimize, as the options say.
pub(crate) fn options(matches: &Matches) -> Result<Options, Failure> {
    Ok(Options {
        rewrite_limit: matches.read("--opt-limit", args::number)?,
        budget: matches.read("--budget", args::number)?,
        seed: matches.read("--seed", args::number)?.unwrap_or(0),
        verify: if matches.has("--verify") { Verify::Each } else { Verify::default() },
        remarks: Remarks::Off,
    })
}

/// Optimizes a method, and counts the limit of rewrites down.
pub(crate) fn apply(
    known: &Known<'_>,
    strategy: &Strategy,
    options: &mut Options,
    method: &mut Method<'_>,
    observer: &mut dyn Observer,
) -> Result<Report, Box<Fault>> {
    let request = Request {
        world: known.world,
        callees: known.callees,
        ..Request::new(known.module, strategy, options)
    };
    let report = optimize(&request, method, observer).map_err(Box::new)?;
    if let Some(limit) = &mut options.rewrite_limit {
        *limit = limit.saturating_sub(report.rewrites);
    }
    Ok(report)
}

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let mut strategy = chosen(matches)?;
    if matches.has("--every-row") {
        strategy = Cow::Owned(strategy.without_conditions());
    }
    let wanted = Wanted::read(matches)?;
    let mut options = options(matches)?;
    if wanted.remarks.is_some() {
        options.remarks = Remarks::On;
    }
    let function = matches.text("--function")?;
    let mut loaded = load(&matches.operands[0])?;
    let name = loaded.name.clone();
    let arena = Bump::new();
    let mut methods = Methods::open(&mut loaded, &arena, Polls::Off)?;
    let selected = methods.select(function)?;
    let mut out = Output::chosen(matches.value("--output"))?;
    if wanted.il && function.is_none() {
        out.put(&methods.declarations())?;
    }
    // A file of IL is printed when all of it is there, as one that can be read again.
    let is_printed_whole = wanted.il && function.is_none() && methods.is_il();
    let mut watch = Watch { dumps: &wanted.dumps, text: String::new(), rows: Vec::new(), started: None };
    let (mut count, mut total) = (0, Totals::default());
    let comments: Vec<String> = selected.iter().map(|id| methods.comment(*id)).collect();
    methods.each(&selected, |known, method| {
        total.nodes += method.node_count() as u64;
        let started = Instant::now();
        let report = apply(known, &strategy, &mut options, method, &mut watch);
        total.time += started.elapsed();
        out.put(&std::mem::take(&mut watch.text))?;
        let report = report.map_err(|fault| Failure::of(&name, fault))?;
        total.add(&report);
        out.put(&said(&wanted, known.module, method, &strategy, &report))?;
        if wanted.il && !is_printed_whole {
            out.put(&format!("{}{}\n", comments[count], text::print_method(known.module, method)))?;
        }
        count += 1;
        Ok(())
    })?;
    if let Some(text) = methods.canonical().filter(|_| is_printed_whole) {
        out.put(&text)?;
    }
    if wanted.times {
        out.put(&indent(&times(&watch.rows, &total, count), wanted.margin))?;
    }
    out.finish()
}

/// What there is to say of a method.
fn said(
    wanted: &Wanted,
    module: &Module,
    method: &Method<'_>,
    strategy: &Strategy,
    report: &Report,
) -> String {
    let name = &module.methods[method.id()].name;
    let mut out = String::new();
    match wanted.remarks {
        None => {}
        Some(Form::Json) => report.remarks.iter().for_each(|remark| out += &(remark.json(name) + "\n")),
        Some(Form::Text) if report.remarks.is_empty() => {}
        Some(Form::Text) => {
            let _ = writeln!(out, "@{name}: {}", counted(report.remarks.len() as u64, "remark"));
            report.remarks.iter().for_each(|remark| {
                let _ = writeln!(out, "  {remark}");
            });
        }
    }
    if wanted.ledger {
        let _ = write!(out, "@{name}, {}: {}", strategy.name, report.ledger);
    }
    indent(&out, wanted.margin)
}

fn indent(text: &str, margin: &str) -> String {
    text.lines().map(|line| format!("{margin}{line}\n")).collect()
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What a pass took, over all methods.
struct TimeRow {
    pass: &'static str,
    time: Duration,
    runs: u64,
    changes: u64,
}

/// What all passes took and did.
#[derive(Default)]
struct Totals {
    time: Duration,
    rewrites: u64,
    work: u64,
    nodes: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.rewrites += report.rewrites;
        self.work += report.ledger.work;
    }
}

/// Takes times, and prints methods in between.
struct Watch<'w> {
    dumps: &'w Dumps,
    text: String,
    rows: Vec<TimeRow>,
    started: Option<Instant>,
}

impl Watch<'_> {
    fn row(&mut self, pass: &'static str) -> &mut TimeRow {
        let known = self.rows.iter().position(|row| row.pass == pass);
        let index = known.unwrap_or_else(|| {
            self.rows.push(TimeRow { pass, time: Duration::ZERO, runs: 0, changes: 0 });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}

impl Observer for Watch<'_> {
    fn before(&mut self, _: &Step<'_>, _: &Method<'_>) {
        self.started = Some(Instant::now());
    }

    fn ran(&mut self, step: &Step<'_>) {
        let time = self.started.take().map_or(Duration::ZERO, |started| started.elapsed());
        let row = self.row(step.pass.name);
        row.time += time;
        row.runs += 1;
    }

    fn after(&mut self, step: &Step<'_>, method: &Method<'_>, changed: Changed) {
        let is_wanted = match self.dumps {
            Dumps::None => false,
            Dumps::All => true,
            Dumps::After(name) => *name == step.pass.name,
        };
        let has_changed = changed == Changed::Yes;
        self.row(step.pass.name).changes += u64::from(has_changed);
        if is_wanted {
            let what = if has_changed { "" } else { ", which changed nothing" };
            let _ = writeln!(self.text, "; after {}, round {}{what}", step.pass.name, step.round);
            self.text += &(text::print_method(step.module, method) + "\n");
        }
    }
}

/// A table of the passes by time, the longest first, and what is left for the manager itself.
fn times(rows: &[TimeRow], total: &Totals, methods: usize) -> String {
    let mut rows: Vec<&TimeRow> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.time));
    let share = |time: Duration| 100.0 * time.as_secs_f64() / total.time.as_secs_f64().max(1e-9);
    let columns = rows.iter().map(|row| row.pass.len()).max().unwrap_or(0).max("manager".len());
    let mut out =
        format!("  {:columns$}  {:>6}  {:>8}  {:>10}  {:>6}\n", "pass", "runs", "changed", "ms", "%");
    let mut line = |name: &str, runs: &str, changes: &str, time: Duration| {
        let ms = time.as_secs_f64() * 1e3;
        let _ = writeln!(out, "  {name:columns$}  {runs:>6}  {changes:>8}  {ms:>10.3}  {:>6.1}", share(time));
    };
    let mut passes = Duration::ZERO;
    for row in rows {
        passes += row.time;
        line(row.pass, &row.runs.to_string(), &row.changes.to_string(), row.time);
    }
    line("manager", "", "", total.time.saturating_sub(passes));
    line("all", "", "", total.time);
    let _ = writeln!(
        out,
        "  {} of {}; {}, {} of work",
        counted(methods as u64, "method"),
        counted(total.nodes, "node"),
        counted(total.rewrites, "rewrite"),
        counted(total.work, "unit"),
    );
    out
}
