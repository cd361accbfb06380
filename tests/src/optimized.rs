//! What the passes of a text test make of its source.
//!
//! The passes are those of `run:`, a strategy or one pass, or those that `passes:` lists. They run on the methods in the order of the text, with
//! one count of rewrites for all of them, which `opt-limit:` ends. The source is all there is of the program. Whatever the seed, the
//! output must be the same.

use bumpalo::Bump;
use dagwood_il::MethodId;
use dagwood_il::text::{self, Source};
use dagwood_opt::{
    NONE, Options, Pass, Remark, RemarkKind, Remarks, Report, Request, Strategy, TextCallees, Verify,
    closed_world, optimize, passes,
};

use crate::runner::Directive;

/// A seed that shuffles what should not matter.
const OTHER_SEED: u64 = 0x5eed;

/// A source before and after its passes.
pub(crate) struct Optimized {
    pub(crate) input: String,
    pub(crate) output: String,
    remarks: Vec<Remark>,
    ledgers: String,
}

impl Optimized {
    /// Runs the passes that the directives ask for.
    pub(crate) fn new(source: &str, directives: &[Directive<'_>]) -> Result<Optimized, String> {
        let strategy = strategy(directives)?;
        let limit = match directives.iter().find(|directive| directive.name == "opt-limit") {
            Some(limit) => Some(limit.text.parse().map_err(|_| "`opt-limit` takes a number".to_owned())?),
            None => None,
        };
        let optimized = run(source, &strategy, limit, 0)?;
        // A limit cuts rewrites off by their numbers, and those are in the order of the seed.
        if limit.is_none() && run(source, &strategy, limit, OTHER_SEED)?.output != optimized.output {
            return Err(format!("the output depends on the seed {OTHER_SEED}:\n{}", optimized.output));
        }
        Ok(optimized)
    }

    /// Holds a `remark:`, `missed:` or `ledger:` against what was said; nothing of other directives.
    pub(crate) fn check(&self, directive: &Directive<'_>) -> Result<(), String> {
        let said = match directive.name {
            "remark" => self.remarks(|kind| matches!(kind, RemarkKind::Done(_))),
            "missed" => self.remarks(|kind| kind == RemarkKind::Missed),
            "ledger" => squeeze(&self.ledgers),
            _ => return Ok(()),
        };
        if said.contains(&squeeze(directive.text)) {
            return Ok(());
        }
        Err(format!("line {}: no {} `{}` in\n{said}", directive.line, directive.name, directive.text))
    }

    fn remarks(&self, is_asked: impl Fn(RemarkKind) -> bool) -> String {
        let remarks = self.remarks.iter().filter(|remark| is_asked(remark.kind));
        squeeze(&remarks.map(|remark| format!("{remark}\n")).collect::<String>())
    }
}

/// Every run of spaces is one space, so that tests need not count columns.
fn squeeze(text: &str) -> String {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The strategy that the directives ask for.
fn strategy(directives: &[Directive<'_>]) -> Result<Strategy, String> {
    let pass = |name: &str| passes::by_name(name).ok_or_else(|| format!("there is no pass `{name}`"));
    let text =
        |name: &str| directives.iter().find(|directive| directive.name == name).map(|found| found.text);
    match (text("run"), text("passes")) {
        (Some(_), Some(_)) => Err("a source says `run` or `passes`, not both".into()),
        (None, None) => Ok(NONE.clone()),
        (None, Some(names)) => {
            let passes: Vec<Pass> =
                names.split(',').map(|name| pass(name.trim())).collect::<Result<_, _>>()?;
            Ok(Strategy::of_passes(&passes))
        }
        (Some(name), None) => match Strategy::by_name(name) {
            Some(strategy) => Ok(strategy.clone()),
            None => Ok(Strategy::of_passes(&[
                pass(name).map_err(|_| format!("there is no strategy and no pass `{name}`"))?
            ])),
        },
    }
}

fn run(source: &str, strategy: &Strategy, limit: Option<u64>, seed: u64) -> Result<Optimized, String> {
    let arena = Bump::new();
    let mut parsed = text::parse(source, &arena).map_err(|error| error.to_string())?;
    let input = print(&parsed);
    let callees = TextCallees::new(source, &parsed).map_err(|error| error.to_string())?;
    let bodies: Vec<MethodId> = parsed.bodies.iter().map(|body| body.method.id()).collect();
    let world = closed_world(&parsed.module, source.as_bytes(), bodies);
    let (mut remarks, mut ledgers, mut asked) = (Vec::new(), String::new(), 0);
    for body in &mut parsed.bodies {
        let options = Options {
            rewrite_limit: limit.map(|limit: u64| limit.saturating_sub(asked)),
            seed,
            verify: Verify::Each,
            remarks: Remarks::On,
            ..Options::default()
        };
        let request =
            Request { world: &world, callees: &callees, ..Request::new(&parsed.module, strategy, &options) };
        let report: Report =
            optimize(&request, &mut body.method, &mut ()).map_err(|fault| fault.to_string())?;
        asked += report.rewrites;
        remarks.extend(report.remarks);
        ledgers += &report.ledger.to_string();
    }
    Ok(Optimized { input, output: print(&parsed), remarks, ledgers })
}

/// A source as the printer writes it.
pub(crate) fn print(source: &Source<'_>) -> String {
    text::print_module(&source.module, &source.bodies.iter().map(|body| &body.method).collect::<Vec<_>>())
}
