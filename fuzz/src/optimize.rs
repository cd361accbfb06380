//! Passes in the differential check: a program before them, after each of them, and as native code after all.
//!
//! ```text
//!   bytes ─► program, plan (a strategy or a random list of passes, seed)
//!     interpret ─► expected
//!     for each method, after each pass that changed it: interpret ─► the same?
//!     native code of what comes out ─────────────────────────────► the same?
//!       no ─► bisect the rewrites of all methods ─► the first that changes the outcome, with its remark
//! ```

use std::fmt;

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::world::ClosedWorld;
use dagwood_il::{Folding, Method, MethodId, text};
use dagwood_opt::bisect::first_bad;
use dagwood_opt::{
    Callees, Changed, Observer, Options, Pass, Remark, RemarkKind, Remarks, Request, STRATEGIES, Step,
    Strategy, Verify, closed_world, optimize, passes,
};
use dagwood_runtime::compiler::bodies;

use crate::check::{
    Checked, Difference, Evictions, Outcome, arguments, interpret_bodies, run_native, seed_of,
};
use crate::choices::{Choices, bytes_of_seed};
use crate::generate::Program;

/// How many passes a random list has at most.
const MAX_PASSES: usize = 6;

/// How a program is optimized.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The passes.
    pub strategy: Strategy,
    /// Whether the builder folds before they come.
    pub folding: Folding,
    /// Shuffles what should not matter.
    pub seed: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { strategy, folding, seed } = self;
        let passes: Vec<&str> = strategy.rows.iter().map(|row| row.pass.name).collect();
        write!(f, "{} ({}), folding {folding:?}, seed {seed}", strategy.name, passes.join(", "))
    }
}

impl Plan {
    /// The plan of these bytes: one of the strategies, or as often a random list of passes.
    pub fn of(bytes: &[u8]) -> Plan {
        let seed = seed_of(bytes);
        let decisions = bytes_of_seed(seed, 64);
        let mut choices = Choices::new(&decisions);
        let strategy = if choices.one_in(2) {
            let listed: Vec<Pass> = (0..=choices.below(MAX_PASSES))
                .map(|_| *choices.pick(passes::PASSES).expect("there are passes"))
                .collect();
            Strategy::of_passes(&listed)
        } else {
            (**choices.pick(STRATEGIES).expect("there are strategies")).clone()
        };
        let folding = if choices.one_in(3) { Folding::Off } else { Folding::On };
        Plan { strategy, folding, seed: if choices.one_in(2) { seed } else { 0 } }
    }
}

/// The bodies of a program, for passes that ask for callees.
struct Built<'p> {
    program: &'p Program,
    folding: Folding,
}

impl Callees for Built<'_> {
    fn body<'a>(&self, method: MethodId, arena: &'a Bump) -> Option<Method<'a>> {
        let is_there = self.program.methods.contains(&method);
        is_there.then(|| self.program.build(method, arena, self.folding).ok()).flatten()
    }
}

/// What a program's passes did.
#[derive(Clone, Debug, Default)]
pub struct Printed {
    /// The program after them.
    pub text: String,
    /// What they said of it, by method, and all ledgers.
    pub said: String,
    rewrites: u64,
    remarks: Vec<(String, Remark)>,
}

impl Printed {
    /// How many rewrites passes asked for.
    pub fn rewrites(&self) -> u64 {
        self.rewrites
    }
}

/// A program and what is done to it.
struct Case<'p> {
    program: &'p Program,
    plan: &'p Plan,
    world: ClosedWorld<'p>,
    args: Vec<Value>,
}

impl<'p> Case<'p> {
    fn new(program: &'p Program, plan: &'p Plan, args: Vec<Value>) -> Case<'p> {
        // Bodies of generated programs are told apart by their numbers.
        let world = closed_world(&program.module, b"generated", program.methods.iter().copied());
        Case { program, plan, world, args }
    }

    fn build<'a>(&self, id: MethodId, arena: &'a Bump) -> Result<Method<'a>, String> {
        self.program.build(id, arena, self.plan.folding).map_err(|error| format!("{id}: {error}"))
    }

    /// Optimizes a method with so many rewrites.
    fn optimize(
        &self,
        method: &mut Method<'_>,
        limit: Option<u64>,
        observer: &mut dyn Observer,
        printed: &mut Printed,
    ) -> Result<(), String> {
        let options = Options {
            rewrite_limit: limit.map(|limit| limit.saturating_sub(printed.rewrites)),
            seed: self.plan.seed,
            verify: Verify::Each,
            remarks: Remarks::On,
            ..Options::default()
        };
        let request = Request {
            world: &self.world,
            callees: &Built { program: self.program, folding: self.plan.folding },
            ..Request::new(&self.program.module, &self.plan.strategy, &options)
        };
        let report = optimize(&request, method, observer).map_err(|fault| fault.to_string())?;
        let name = &self.program.module.methods[method.id()].name;
        printed.said += &format!("@{name}: {}", report.ledger);
        report.remarks.iter().for_each(|remark| printed.said += &format!("{remark}\n"));
        printed.rewrites += report.rewrites;
        printed.remarks.extend(report.remarks.into_iter().map(|remark| (name.clone(), remark)));
        Ok(())
    }

    /// What happened, with the program before its passes.
    fn failed(&self, what: String) -> Difference {
        let arena = Bump::new();
        let built: Vec<Method<'_>> =
            self.program.methods.iter().filter_map(|id| self.build(*id, &arena).ok()).collect();
        let text = text::print_module(&self.program.module, &built.iter().collect::<Vec<_>>());
        Difference { what: format!("{}; arguments {:?}: {what}", self.plan, self.args), text }
    }

    /// All methods after their passes, or one of them and the others before, with so many rewrites.
    fn optimized<'a>(
        &self,
        arena: &'a Bump,
        limit: Option<u64>,
        only: Option<MethodId>,
    ) -> Result<(Vec<&'a Method<'a>>, Printed), String> {
        let mut printed = Printed::default();
        let mut methods = Vec::new();
        for id in &self.program.methods {
            let mut method = self.build(*id, arena)?;
            if only.is_none_or(|only| only == *id) {
                self.optimize(&mut method, limit, &mut (), &mut printed)?;
            }
            methods.push(&*arena.alloc(method));
        }
        printed.text = text::print_module(&self.program.module, &methods);
        Ok((methods, printed))
    }

    /// What differs from the expected outcome with so many rewrites; nothing if the fuel did not suffice.
    fn difference(&self, expected: &Outcome, limit: Option<u64>, only: Option<MethodId>) -> Option<String> {
        let arena = Bump::new();
        let methods = match self.optimized(&arena, limit, only) {
            Ok((methods, _)) => methods,
            Err(what) => return Some(what),
        };
        let differs = |engine: &str, outcome: &Outcome| {
            (!outcome.agrees(expected)).then(|| format!("{engine} gives {outcome:?}, expected {expected:?}"))
        };
        match interpret_bodies(self.program, &methods, &self.args) {
            Ok(None) => return None,
            Ok(Some(outcome)) => {
                if let Some(what) = differs("the interpreter", &outcome) {
                    return Some(what);
                }
            }
            Err(what) => return Some(what),
        }
        let text = text::print_module(&self.program.module, &methods);
        let sources = bodies(|id, arena| {
            let parsed = text::parse(&text, arena)?;
            let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
            body.map(|body| body.method).ok_or_else(|| format!("{id} has no body").into())
        });
        match run_native(self.program, &sources, &self.args, Evictions::NONE) {
            Ok(outcomes) => outcomes.iter().find_map(|outcome| differs("native code", outcome)),
            Err(what) => Some(format!("native code: {what}")),
        }
    }

    /// The first rewrite without which there is no difference.
    fn blame(&self, expected: &Outcome, only: Option<MethodId>) -> String {
        let arena = Bump::new();
        // A pass that goes wrong before the end has no total.
        let total = self.optimized(&arena, None, only).map_or(MAX_REWRITES, |(_, printed)| printed.rewrites);
        let is_good =
            |limit| Ok::<_, std::convert::Infallible>(self.difference(expected, Some(limit), only).is_none());
        let Ok(Some(number)) = first_bad(total, is_good) else {
            return "no rewrite alone is to blame: others hide it, or a pass changes what it did not ask for"
                .into();
        };
        let Ok((_, below)) = self.optimized(&arena, Some(number - 1), only) else {
            return format!("rewrite {number}");
        };
        let rewrites = below.remarks.iter().filter(|(_, remark)| remark.kind != RemarkKind::Missed);
        match rewrites.skip(number as usize - 1).map(|(method, remark)| format!("@{method}: {remark}")).next()
        {
            Some(remark) => format!("rewrite {number} is the first: {remark}"),
            None => format!("rewrite {number} is the first"),
        }
    }
}

/// More rewrites than a generated program has.
const MAX_REWRITES: u64 = 1 << 20;

/// Interprets the program after each pass on one of its methods.
struct Each<'e, 'p> {
    case: &'e Case<'p>,
    /// The methods before passes, as text.
    others: &'e [(MethodId, String)],
    expected: &'e Outcome,
    difference: Option<String>,
}

impl Each<'_, '_> {
    /// The outcome with a method as it is now. It comes by text, which may be read into one arena with the others.
    fn outcome(&self, method: MethodId, text: &str) -> Result<Option<Outcome>, String> {
        let declarations = text::print_module(&self.case.program.module, &[]);
        // Those of methods come with their bodies.
        let others = declarations.lines().filter(|line| !line.starts_with("method "));
        let mut whole: String = others.flat_map(|line| [line, "\n"]).collect();
        for (id, other) in self.others {
            whole += if *id == method { text } else { other };
        }
        let arena = Bump::new();
        let parsed = text::parse(&whole, &arena).map_err(|error| format!("{error}\n{whole}"))?;
        let methods: Vec<&Method<'_>> = parsed.bodies.iter().map(|body| &body.method).collect();
        interpret_bodies(self.case.program, &methods, &self.case.args)
    }
}

impl Observer for Each<'_, '_> {
    fn after(&mut self, step: &Step<'_>, method: &Method<'_>, changed: Changed) {
        if changed == Changed::No || self.difference.is_some() {
            return;
        }
        let text = text::print_method(step.module, method);
        let what = match self.outcome(method.id(), &text) {
            Ok(None) => return,
            Ok(Some(outcome)) if outcome.agrees(self.expected) => return,
            Ok(Some(outcome)) => format!("{outcome:?}, expected {:?}", self.expected),
            Err(what) => what,
        };
        self.difference = Some(format!("after {}: {what}\n{text}", step.pass.name));
    }
}

/// Makes the program and the plan of these bytes, and compares outcomes before passes, after each, and as native code after all.
///
/// # Errors
///
/// The first difference, with the rewrite to blame.
pub fn check_passes(bytes: &[u8]) -> Result<Checked, Difference> {
    check_plan(bytes, &Plan::of(bytes))
}

/// The same for another plan.
///
/// # Errors
///
/// The first difference, with the rewrite to blame.
pub fn check_plan(bytes: &[u8], plan: &Plan) -> Result<Checked, Difference> {
    let program = Program::generate(bytes);
    let case = Case::new(&program, plan, arguments(&program, bytes));
    let arena = Bump::new();
    let fails = |what| case.failed(what);
    let mut methods: Vec<&Method<'_>> = Vec::new();
    for id in &program.methods {
        methods.push(arena.alloc(case.build(*id, &arena).map_err(fails)?));
    }
    let Some(expected) = interpret_bodies(&program, &methods, &case.args).map_err(fails)? else {
        return Ok(Checked::OutOfFuel);
    };
    let others: Vec<(MethodId, String)> =
        methods.iter().map(|method| (method.id(), text::print_method(&program.module, method))).collect();
    for id in &program.methods {
        let mut method = case.build(*id, &arena).map_err(fails)?;
        let mut each = Each { case: &case, others: &others, expected: &expected, difference: None };
        let optimized = case.optimize(&mut method, None, &mut each, &mut Printed::default());
        if let Some(what) = each.difference.or(optimized.err()) {
            return Err(fails(format!("{what}\n{}", case.blame(&expected, Some(*id)))));
        }
    }
    match case.difference(&expected, None, None) {
        Some(what) => Err(fails(format!("{what}\n{}", case.blame(&expected, None)))),
        None => Ok(Checked::Agrees),
    }
}

/// What the passes of these bytes' plan make of their program: the same whenever and wherever this runs.
///
/// # Errors
///
/// What a pass did wrong.
pub fn optimized(bytes: &[u8]) -> Result<Printed, Difference> {
    optimized_by(bytes, &Plan::of(bytes))
}

/// The same for another plan.
///
/// # Errors
///
/// What a pass did wrong.
pub fn optimized_by(bytes: &[u8], plan: &Plan) -> Result<Printed, Difference> {
    let program = Program::generate(bytes);
    let case = Case::new(&program, plan, Vec::new());
    let arena = Bump::new();
    let (_, printed) = case.optimized(&arena, None, None).map_err(|what| case.failed(what))?;
    Ok(printed)
}
