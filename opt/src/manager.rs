//! The manager: runs a strategy's rows over a method, and what passes demand of each other, as far as it pays.
//!
//! ```text
//!   round 1    every row in order: those whose condition holds run everywhere, those that wait for a demand where they are demanded
//!   round 2…   the rows that were demanded after they had passed, best gain for its cost first as far as the budget lasts, in order
//! ```
//!
//! *Why rounds.* A pass that has made work for one before it asks for it, and it runs once more, there only: so nothing is scheduled
//! twice on suspicion. A demand must cite a change since its pass last ran, and pay; both are checked when its row comes up. A pass that
//! [`includes`] another and runs everywhere serves what is demanded of that, too.
//!
//! *Guarantees.* Ends: [`MAX_ROUNDS`], and each pass ends. A pass is told when it has used half of the work that is left, so that those
//! after it still run: a method that is too large is optimized less, never refused. A pass that panics or breaks the method is a [`Fault`] with its
//! name. Deterministic: no clock, no hash order. Without remarks nothing is formatted.
//!
//! *Cost.* For each row that does not run, the look at its condition; one scan of the method for features after each change.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dagwood_il::profile::MethodProfile;
use dagwood_il::verify::{VerifyError, verify};
use dagwood_il::world::{Recorder, Replay};
use dagwood_il::{Method, Module, World};

use crate::cx::{Made, PassCx, State};
use crate::demand::{Demand, Gain};
use crate::features::Features;
use crate::ledger::{DemandEntry, Entry, Fate, Ledger, Outcome, Run, Skip};
use crate::order::includes;
use crate::pass::{Changed, Pass};
use crate::program::{Callees, NoCallees, NothingKnown};
use crate::region::Region;
use crate::remark::Remark;
use crate::strategy::{BASE_WORK, Row, Strategy, When};

/// How many rounds there are at most. Most methods need one or two; more follow only from passes that keep making work for each other.
pub const MAX_ROUNDS: u32 = 6;

/// The work for each root of a region that a pass is taken to need before it has run.
const WORK_PER_ROOT: u64 = 8;

/// Whether the method is held against the specification after each pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// In debug builds only.
    #[default]
    Debug,
    /// Always.
    Each,
}

/// Whether passes say what they do and do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remarks {
    /// They do not, which costs nothing.
    #[default]
    Off,
    /// They do.
    On,
}

/// How to optimize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How many rewrites are allowed, the first ones; all if none is said.
    pub rewrite_limit: Option<u64>,
    /// The units of work that may be used; what the strategy says if none is said.
    pub budget: Option<u64>,
    /// Chooses among orders that should not matter; 0 for the natural ones.
    pub seed: u64,
    /// Whether the method is verified after each pass.
    pub verify: Verify,
    /// Whether there are remarks.
    pub remarks: Remarks,
}

/// What the outcome depends on, besides the method.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// The declarations.
    pub module: &'r Module,
    /// The running program, as far as it may be known. Whoever installs what comes out must see to what was [`asked`](Report::asked).
    pub world: &'r dyn World,
    /// What was observed of the method.
    pub profile: Option<&'r MethodProfile>,
    /// Where the bodies of callees come from.
    pub callees: &'r dyn Callees,
    /// The passes.
    pub strategy: &'r Strategy,
    /// How.
    pub options: &'r Options,
}

impl<'r> Request<'r> {
    /// A request that knows nothing but declarations.
    pub fn new(module: &'r Module, strategy: &'r Strategy, options: &'r Options) -> Request<'r> {
        Request { module, world: &NothingKnown, profile: None, callees: &NoCallees, strategy, options }
    }
}

/// What came of a request, besides the method.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What ran, who asked, what it cost, and what did not run and why.
    pub ledger: Ledger,
    /// What passes said, if they were asked to.
    pub remarks: Vec<Remark>,
    /// How many rewrites were asked for; some of them may have been denied.
    pub rewrites: u64,
    /// What the world was asked, and answered. The method holds while what that [assumes](Replay::assumptions) does, whether or not
    /// an answer was used.
    pub asked: Replay,
}

/// A pass that is about to run, or has just run.
#[derive(Clone, Copy, Debug)]
pub struct Step<'s> {
    /// The pass.
    pub pass: Pass,
    /// In which round.
    pub round: u32,
    /// The declarations.
    pub module: &'s Module,
}

/// Who watches passes run: to dump, to take times.
pub trait Observer {
    /// A pass is about to run.
    fn before(&mut self, _step: &Step<'_>, _method: &Method<'_>) {}
    /// A pass has run.
    fn ran(&mut self, _step: &Step<'_>) {}
    /// The method has been verified, too, if that was to be.
    fn after(&mut self, _step: &Step<'_>, _method: &Method<'_>, _changed: Changed) {}
}

/// Nobody.
impl Observer for () {}

/// A pass went wrong. The method is not to be used any more.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The pass.
    pub pass: &'static str,
    /// The method's name.
    pub method: String,
    /// What it did.
    pub kind: FaultKind,
    /// The numbers of the first and last rewrite that it had asked for; none if it had not asked.
    pub rewrites: Option<(u64, u64)>,
    /// What it said, if there were remarks.
    pub remarks: Vec<Remark>,
}

/// What a pass did wrong.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// It panicked with this message.
    Panicked(String),
    /// It left a method that is not well-formed.
    Malformed(Vec<VerifyError>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pass `{}` on @{}: ", self.pass, self.method)?;
        match &self.kind {
            FaultKind::Panicked(message) => write!(f, "it panicked: {message}")?,
            FaultKind::Malformed(errors) => {
                f.write_str("what it leaves is not well-formed")?;
                errors.iter().try_for_each(|error| write!(f, "\n  {error}"))?;
            }
        }
        match self.rewrites {
            None => f.write_str("\n  it had asked for no rewrite")?,
            Some((first, last)) => write!(f, "\n  it had asked for rewrites {first} to {last}")?,
        }
        self.remarks.iter().try_for_each(|remark| write!(f, "\n  {remark}"))
    }
}

impl std::error::Error for Fault {}

/// Optimizes a method.
///
/// # Errors
///
/// A [`Fault`] if a pass panics, or breaks the method and that is looked for. The method is not to be used then.
pub fn optimize(
    request: &Request<'_>,
    method: &mut Method<'_>,
    observer: &mut dyn Observer,
) -> Result<Report, Fault> {
    let world = Recorder::new(request.world);
    let request = &Request { world: &world, ..*request };
    let strategy = request.strategy;
    let nodes = method.node_count() as u64;
    let allowed = strategy.work_per_node.saturating_mul(nodes).saturating_add(BASE_WORK);
    let budget = request.options.budget.unwrap_or(allowed);
    let mut manager = Manager {
        request,
        state: State::new(request.options.seed),
        ledger: Ledger { budget, ..Ledger::default() },
        features: None,
        last: vec![None; strategy.rows.len()],
        round: 1,
        is_ending: false,
    };
    for round in 1..=MAX_ROUNDS {
        manager.round = round;
        if round > 1 {
            manager.choose(method);
        }
        for index in 0..strategy.rows.len() {
            manager.row(index, method, observer)?;
        }
        if manager.state.waiting.is_empty() {
            break;
        }
    }
    manager.deny_if(Skip::Rounds, |_, _| true);
    manager.is_ending = true;
    for index in 0..strategy.rows.len() {
        manager.row(index, method, observer)?;
    }
    manager.deny_if(Skip::Rounds, |_, _| true);
    manager.ledger.work = manager.state.work;
    let Manager { ledger, state, .. } = manager;
    Ok(Report { ledger, remarks: state.remarks, rewrites: state.rewrites, asked: world.finish() })
}

/// When a pass last ran.
#[derive(Clone, Copy)]
struct LastRun {
    /// How often the method had changed when it began.
    version: u64,
    /// What it used for each root that it looked at.
    work_per_root: u64,
}

/// What is demanded of one pass, all demands together.
struct Wanted {
    region: Region,
    gain: Gain,
    cost: u64,
}

struct Manager<'r> {
    request: &'r Request<'r>,
    state: State,
    ledger: Ledger,
    /// What the method has, as of a version of it.
    features: Option<(u64, Features)>,
    /// By the first row of each pass.
    last: Vec<Option<LastRun>>,
    round: u32,
    /// Whether only what comes last is still to run.
    is_ending: bool,
}

impl Manager<'_> {
    fn left(&self) -> u64 {
        self.ledger.budget.saturating_sub(self.state.work)
    }

    /// The first row of a pass, which stands for the pass.
    fn slot(&self, pass: &str) -> Option<usize> {
        self.request.strategy.rows.iter().position(|row| row.pass.name == pass)
    }

    /// Another pass of the strategy that does what this one does, and more.
    fn including(&self, pass: &str) -> Option<Pass> {
        let mut rows = self.request.strategy.rows.iter();
        rows.find(|row| row.pass.name != pass && includes(row.pass.name, pass)).map(|row| row.pass)
    }

    fn last_run(&self, pass: &str) -> Option<LastRun> {
        self.slot(pass).and_then(|slot| self.last[slot])
    }

    /// Whether something has changed since a pass, or one that does as much, last ran everywhere or where it was asked to.
    fn has_changed_since(&self, pass: &str) -> bool {
        let rows = self.request.strategy.rows.iter().zip(&self.last);
        let mut runs = rows.filter(|(row, _)| includes(row.pass.name, pass)).filter_map(|(_, last)| *last);
        runs.all(|last| last.version != self.state.version)
    }

    fn features(&mut self, method: &Method<'_>) -> Features {
        match self.features {
            Some((version, features)) if version == self.state.version => features,
            _ => {
                let features = Features::of(method);
                self.features = Some((self.state.version, features));
                features
            }
        }
    }

    // ---- demands ----

    /// Takes waiting demands out for which `is_denied` holds, and says why in the ledger.
    fn deny_if(&mut self, skip: Skip, is_denied: impl Fn(&Manager<'_>, &Demand) -> bool) {
        let waiting = std::mem::take(&mut self.state.waiting);
        let (denied, kept): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, demand)| is_denied(self, demand));
        self.state.waiting = kept;
        for (entry, _) in denied {
            self.ledger.demands[entry as usize].fate = Fate::Denied(skip);
        }
    }

    /// Enters the demands that a pass has just made.
    fn hear(&mut self) {
        for Made { by, mut demand } in std::mem::take(&mut self.state.made) {
            let entry = self.ledger.demands.len() as u32;
            let asked = demand.pass.name;
            if self.slot(asked).is_none()
                && let Some(whole) = self.including(asked)
            {
                demand.pass = whole;
            }
            let is_listed = self.slot(demand.pass.name).is_some();
            self.ledger.demands.push(DemandEntry {
                round: self.round,
                by,
                pass: asked,
                reason: demand.reason,
                gain: demand.gain,
                cost: demand.cost,
                fate: if is_listed { Fate::Pending } else { Fate::Denied(Skip::NoRow) },
            });
            if is_listed {
                self.state.waiting.push((entry, demand));
            }
        }
    }

    /// What is demanded of a pass; none if nothing is.
    fn wanted(&mut self, pass: &str, method: &Method<'_>) -> Option<Wanted> {
        self.deny_if(Skip::RegionGone, |_, demand| demand.region.is_empty());
        if !self.state.waiting.iter().any(|(_, demand)| demand.pass.name == pass) {
            return None;
        }
        let work_per_root = self.last_run(pass).map_or(WORK_PER_ROOT, |last| last.work_per_root);
        let mut wanted: Option<Wanted> = None;
        for (entry, demand) in self.state.waiting.iter().filter(|(_, demand)| demand.pass.name == pass) {
            let estimate = || demand.region.roots(method).saturating_mul(work_per_root);
            let cost = demand.cost.unwrap_or_else(estimate);
            self.ledger.demands[*entry as usize].cost = Some(cost);
            match &mut wanted {
                None => wanted = Some(Wanted { region: demand.region.clone(), gain: demand.gain, cost }),
                Some(wanted) => {
                    wanted.region.join(&demand.region);
                    wanted.gain.0 = wanted.gain.0.saturating_add(demand.gain.0);
                    wanted.cost = wanted.cost.saturating_add(cost);
                }
            }
        }
        // Overlapping demands look at each root once.
        wanted.map(|wanted| {
            let all = wanted.region.roots(method).saturating_mul(work_per_root);
            Wanted { cost: wanted.cost.min(all.max(1)), ..wanted }
        })
    }

    /// Why what is wanted of a pass is not done; none if it is.
    fn objection(&self, pass: &str, wanted: &Wanted) -> Option<Skip> {
        let (cost, worth) = (wanted.cost, wanted.gain.worth(self.request.strategy));
        if !self.has_changed_since(pass) {
            Some(Skip::NothingChanged)
        } else if worth < cost {
            Some(Skip::DoesNotPay { cost, worth })
        } else if cost > self.left() {
            Some(Skip::Budget)
        } else {
            None
        }
    }

    /// Before a further round: of the passes that are demanded, those that the budget suffices for, best gain for its cost first.
    fn choose(&mut self, method: &Method<'_>) {
        let mut ranked = Vec::new();
        for (index, row) in self.request.strategy.rows.iter().enumerate() {
            if self.slot(row.pass.name) == Some(index)
                && let Some(wanted) = self.wanted(row.pass.name, method)
            {
                ranked.push((row.pass.name, wanted));
            }
        }
        // Stable: what is as good stays in the order of the rows.
        ranked.sort_by(|(_, left), (_, right)| {
            let ratio = |of: &Wanted, to: &Wanted| u128::from(of.gain.0) * u128::from(to.cost.max(1));
            ratio(right, left).cmp(&ratio(left, right))
        });
        let mut left = self.left();
        for (pass, wanted) in ranked {
            // What will be refused anyway gets nothing set aside; its row says why, if nothing has changed until then.
            if self.objection(pass, &wanted).is_some() {
                continue;
            }
            match left.checked_sub(wanted.cost) {
                Some(rest) => left = rest,
                None => self.deny_if(Skip::Budget, |_, demand| demand.pass.name == pass),
            }
        }
    }

    // ---- rows ----

    /// A row comes up.
    fn row(
        &mut self,
        index: usize,
        method: &mut Method<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), Fault> {
        let row = self.request.strategy.rows[index];
        let name = row.pass.name;
        let comes_last = matches!(row.when, When::Last(_));
        if comes_last != self.is_ending {
            return Ok(());
        }
        let wanted = self.wanted(name, method);
        if wanted.is_none() && self.round > 1 && !comes_last {
            return Ok(());
        }
        let lacks = match row.when.needs() {
            Features::NONE => Features::NONE,
            needs => needs.without(self.features(method)),
        };
        let runs_anyway = comes_last || self.round == 1 && !row.when.is_on_demand();
        let skip = match &wanted {
            _ if lacks != Features::NONE => Some(Skip::Lacks(lacks)),
            _ if runs_anyway && self.left() == 0 => Some(Skip::Budget),
            _ if runs_anyway => None,
            None => Some(Skip::NotDemanded),
            Some(wanted) => self.objection(name, wanted),
        };
        if let Some(skip) = skip {
            match self.including(name).filter(|_| matches!(skip, Skip::Lacks(_))) {
                Some(whole) => {
                    let waiting = self.state.waiting.iter_mut().map(|(_, demand)| demand);
                    waiting.filter(|demand| demand.pass.name == name).for_each(|demand| demand.pass = whole);
                }
                None => self.deny_if(skip, |_, demand| demand.pass.name == name),
            }
            let outcome = Outcome::Skipped(skip);
            self.ledger.entries.push(Entry { round: self.round, pass: name, why: row.why, outcome });
            return Ok(());
        }
        let entry = self.ledger.entries.len() as u32;
        let region = wanted.filter(|_| !runs_anyway).map_or(Region::All, |wanted| wanted.region);
        let waiting = std::mem::take(&mut self.state.waiting);
        for (number, demand) in waiting {
            let is_served = demand.pass.name == name || runs_anyway && includes(name, demand.pass.name);
            if is_served {
                self.ledger.demands[number as usize].fate = Fate::Served(entry);
            } else {
                self.state.waiting.push((number, demand));
            }
        }
        let run = self.run(&row, region, method, observer)?;
        let outcome = Outcome::Ran(run);
        self.ledger.entries.push(Entry { round: self.round, pass: name, why: row.why, outcome });
        self.hear();
        Ok(())
    }

    /// Runs a pass, with all that belongs around it.
    fn run(
        &mut self,
        row: &Row,
        region: Region,
        method: &mut Method<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Run, Fault> {
        let step = Step { pass: row.pass, round: self.round, module: self.request.module };
        observer.before(&step, method);
        let (version, work, rewrites) = (self.state.version, self.state.work, self.state.rewrites);
        let first_remark = self.state.remarks.len();
        let nodes = method.node_count() as u32;
        let heads = match &region {
            Region::All => None,
            Region::Heads(heads) => Some(heads.len() as u32),
        };
        let roots = region.roots(method);
        let mut cx = PassCx {
            request: self.request,
            work_limit: work.saturating_add(self.left().div_ceil(2)),
            state: &mut self.state,
            pass: row.pass.name,
            region,
            is_cut: false,
        };
        let result = catch_unwind(AssertUnwindSafe(|| (row.pass.run)(method, &mut cx)));
        observer.ran(&step);
        let is_cut = cx.is_cut;
        let fault = match result {
            Err(panic) => Some(FaultKind::Panicked(message_of(&*panic))),
            Ok(changed) => {
                self.state.settle_remarks(method);
                if changed == Changed::Yes && self.state.version == version {
                    self.state.has_changed();
                }
                let is_verified = cfg!(debug_assertions) || self.request.options.verify == Verify::Each;
                let verified = is_verified && self.state.version != version;
                let errors = if verified { verify(self.request.module, method).err() } else { None };
                errors.map(FaultKind::Malformed)
            }
        };
        if let Some(kind) = fault {
            return Err(Fault {
                pass: row.pass.name,
                method: self.request.module.methods[method.id()].name.clone(),
                kind,
                rewrites: (self.state.rewrites > rewrites).then_some((rewrites + 1, self.state.rewrites)),
                remarks: self.state.remarks.split_off(first_remark),
            });
        }
        let has_changed = self.state.version != version;
        let work = self.state.work - work;
        if let Some(slot) = self.slot(row.pass.name) {
            let work_per_root = work.div_ceil(roots.max(1)).max(1);
            self.last[slot] = Some(LastRun { version, work_per_root });
        }
        observer.after(&step, method, if has_changed { Changed::Yes } else { Changed::No });
        let asked = self.state.rewrites - rewrites;
        let limit = self.request.options.rewrite_limit.unwrap_or(u64::MAX);
        let denied = self.state.rewrites.saturating_sub(limit).min(asked);
        let nodes = (nodes, method.node_count() as u32);
        Ok(Run { has_changed, rewrites: asked - denied, denied, work, is_cut, heads, nodes })
    }
}

/// What a panic said.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests;
