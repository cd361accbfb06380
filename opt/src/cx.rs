//! What a pass is given besides its method: what it may ask, and whom it tells.

use std::rc::Rc;

use dagwood_il::edit::{Applied, Edits};
use dagwood_il::profile::MethodProfile;
use dagwood_il::{Block, Bump, Cfg, Dominators, Frequency, Loops, Method, MethodId, Module, World};

use crate::analysis::{Analysis, Cache};
use crate::demand::{Demand, Gain};
use crate::manager::{Remarks, Request};
use crate::pass::Changed;
use crate::region::Region;
use crate::remark::{Place, Remark, RemarkKind};

/// A demand and who made it.
pub(crate) struct Made {
    pub(crate) by: &'static str,
    pub(crate) demand: Demand,
}

/// What is kept from pass to pass.
pub(crate) struct State {
    pub(crate) cache: Cache,
    /// Demands that have been made, by a pass that the manager has not heard out yet.
    pub(crate) made: Vec<Made>,
    /// Regions of demands that wait, by the number of their entry in the ledger.
    pub(crate) waiting: Vec<(u32, Demand)>,
    pub(crate) remarks: Vec<Remark>,
    /// The first of the remarks whose places are still those of the method as it is.
    pub(crate) fresh_remarks: usize,
    /// How many rewrites have been asked for.
    pub(crate) rewrites: u64,
    /// Units of work that have been spent.
    pub(crate) work: u64,
    /// How often the method has changed.
    pub(crate) version: u64,
    /// Where the sequence of the seed has got to.
    pub(crate) random: u64,
    /// How many nodes have come in from other methods.
    pub(crate) grown: u64,
}

impl State {
    pub(crate) fn new(seed: u64) -> State {
        State {
            cache: Cache::default(),
            made: Vec::new(),
            waiting: Vec::new(),
            remarks: Vec::new(),
            fresh_remarks: 0,
            rewrites: 0,
            work: 0,
            version: 0,
            random: seed,
            grown: 0,
        }
    }

    /// The method is about to change, or the pass has ended.
    pub(crate) fn settle_remarks(&mut self, method: &Method<'_>) {
        Remark::locate(&mut self.remarks[self.fresh_remarks..], method);
        self.fresh_remarks = self.remarks.len();
    }

    /// Regions go where their blocks went.
    fn follow(&mut self, method: &Method<'_>, applied: &Applied) {
        let made = self.made.iter_mut().map(|made| &mut made.demand);
        for demand in made.chain(self.waiting.iter_mut().map(|(_, demand)| demand)) {
            demand.region.follow(method, applied);
        }
    }

    pub(crate) fn has_changed(&mut self) {
        self.version += 1;
        self.cache.clear();
    }
}

/// What a pass may ask, and whom it tells what it does.
pub struct PassCx<'c> {
    pub(crate) request: &'c Request<'c>,
    pub(crate) state: &'c mut State,
    pub(crate) pass: &'static str,
    pub(crate) region: Region,
    /// The total of work at which this pass has had its share.
    pub(crate) work_limit: u64,
    pub(crate) is_cut: bool,
}

impl<'c> PassCx<'c> {
    /// The declarations.
    pub fn module(&self) -> &'c Module {
        self.request.module
    }

    /// The running program, as far as it may be known. Asking records: what an answer assumes is in the report.
    pub fn world(&self) -> &dyn World {
        self.request.world
    }

    /// What was observed of the method, if anything.
    pub fn profile(&self) -> Option<&MethodProfile> {
        self.request.profile
    }

    /// A callee's body, in `arena`; none if it may not be looked at. The world is asked first.
    pub fn callee<'a>(&self, callee: MethodId, arena: &'a Bump) -> Option<Method<'a>> {
        if !self.may_look_at(callee) {
            return None;
        }
        self.request.callees.body(callee, arena)
    }

    /// Whether a callee's body may be looked at: what [`PassCx::callee`] asks first.
    pub fn may_look_at(&self, callee: MethodId) -> bool {
        self.request.world.body(callee).value.is_some()
    }

    /// How many nodes a callee's body has at least, if that can be guessed without building it.
    pub fn least_size(&self, callee: MethodId) -> Option<u64> {
        self.request.callees.least_size(callee)
    }

    // ---- where to look ----

    /// Where to look. After [`PassCx::apply`] it is where that has come to be.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The heads of the region's extended blocks, the most frequent first, so that rare ones go without where work runs out.
    pub fn heads(&self, method: &Method<'_>) -> Vec<Block> {
        let is_inside =
            |block: &Block| method.block(*block).extends.is_none() && self.region.has_head(*block);
        let mut heads: Vec<Block> = method.blocks().filter(is_inside).collect();
        let frequency = |block: &Block| method.block(*block).frequency.unwrap_or(Frequency::ONCE);
        heads.sort_by_key(|block| std::cmp::Reverse(frequency(block)));
        heads
    }

    // ---- what is done ----

    /// Whether an optional rewrite may be done: numbers it, and remarks on it. Ask once for each rewrite, directly before collecting its
    /// edits. `what` is asked only if somebody reads remarks.
    #[must_use]
    pub fn allows(&mut self, at: impl Into<Place>, what: impl FnOnce() -> String) -> bool {
        self.state.rewrites += 1;
        let number = self.state.rewrites;
        let is_allowed = self.request.options.rewrite_limit.is_none_or(|limit| number <= limit);
        if self.request.options.remarks == Remarks::On {
            let kind = if is_allowed { RemarkKind::Done(number) } else { RemarkKind::Denied(number) };
            self.remark(kind, at.into(), what());
        }
        is_allowed
    }

    /// Applies edits, if there are any: the method becomes an edited copy of itself. Nodes and blocks that the pass holds mean nothing
    /// afterwards; regions of demands and the pass's own follow.
    pub fn apply(&mut self, method: &mut Method<'_>, edits: Edits) -> Changed {
        if edits.is_empty() {
            return Changed::No;
        }
        self.state.settle_remarks(method);
        // The copy is not what a pass has its share for.
        self.state.work = self.state.work.saturating_add(method.node_count() as u64);
        let applied = edits.apply(self.request.module, method);
        self.state.follow(method, &applied);
        self.region.follow(method, &applied);
        self.state.has_changed();
        Changed::Yes
    }

    /// Says why something that could have been was not done.
    pub fn missed(&mut self, at: impl Into<Place>, why: impl FnOnce() -> String) {
        if self.request.options.remarks == Remarks::On {
            self.remark(RemarkKind::Missed, at.into(), why());
        }
    }

    #[cold]
    fn remark(&mut self, kind: RemarkKind, place: Place, text: String) {
        let position = dagwood_il::SourcePos::NONE;
        self.state.remarks.push(Remark { kind, pass: self.pass, place, position, text });
    }

    /// Asks for another pass, or for this one again, because of a change. Its region is in blocks of the method as it is now.
    pub fn demand(&mut self, demand: Demand) {
        self.state.made.push(Made { by: self.pass, demand });
    }

    // ---- what it costs ----

    /// Notes work, in visits of nodes or what takes as long. False once the pass has had its share of the budget: it then stops
    /// looking, and does what it has found.
    pub fn spend(&mut self, units: u64) -> bool {
        self.state.work = self.state.work.saturating_add(units);
        self.is_cut |= self.state.work > self.work_limit;
        !self.is_cut
    }

    /// The units of work that the pass may still spend.
    pub fn left(&self) -> u64 {
        self.work_limit.saturating_sub(self.state.work)
    }

    /// The units of work that a gain is worth to the strategy.
    pub fn worth(&self, gain: Gain) -> u64 {
        gain.worth(self.request.strategy)
    }

    /// By how many nodes of other methods the method may still grow: by as many as it has of its own, or `least`, over all rounds.
    pub fn room(&self, method: &Method<'_>, least: u64) -> u64 {
        let grown = self.state.grown;
        let own = (method.node_count() as u64).saturating_sub(grown);
        own.max(least).saturating_sub(grown)
    }

    /// Notes that so many nodes of other methods come in.
    pub fn note_growth(&mut self, nodes: u64) {
        self.state.grown = self.state.grown.saturating_add(nodes);
    }

    /// Puts what should not matter into an order that the seed chooses; seed 0 leaves it as it is.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        if self.request.options.seed == 0 {
            return;
        }
        // Fisher and Yates, with the numbers of splitmix64 (Steele and others 2014).
        for end in (1..items.len()).rev() {
            self.state.random = self.state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.state.random;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            items.swap(end, ((word ^ word >> 31) % (end as u64 + 1)) as usize);
        }
    }

    // ---- what is known ----

    /// An analysis of the method as it is, computed when first asked for.
    pub fn get<A: Analysis>(&mut self, method: &Method<'_>) -> Rc<A> {
        if let Some(known) = self.state.cache.get() {
            return known;
        }
        let analysis = Rc::new(A::of(method, self));
        self.state.cache.put(analysis.clone());
        analysis
    }

    /// The control-flow graph.
    pub fn cfg(&mut self, method: &Method<'_>) -> Rc<Cfg> {
        self.get(method)
    }

    /// Which blocks dominate which.
    pub fn dominators(&mut self, method: &Method<'_>) -> Rc<Dominators> {
        self.get(method)
    }

    /// The loops.
    pub fn loops(&mut self, method: &Method<'_>) -> Rc<Loops> {
        self.get(method)
    }
}
