//! Reaching definitions of locals, factored at joins: which `set` an `entry` reads.
//!
//! ```text
//!   b1: set $x, %1 ─┐
//!                   ├─► b3: merge($x) = (b1's set, b2's set)     b3: entry $x ─► the merge
//!   b2: set $x, %2 ─┘   └─► b4: …                                b4: entry $x ─► the merge again
//! ```
//!
//! # Why
//!
//! A set of definitions for each read is quadratic where locals, reads and sets grow together, so engines that keep such sets give
//! up on large methods. A *merge* says once, at the join where several definitions meet, which ones they are; all reads below refer to it:
//! E. Stoltz, M. Gerlek and M. Wolfe, "Extended SSA with factored use-def chains" (1994). The method itself stays as it is.
//!
//! # Guarantees
//!
//! * A local that is live at a head has one definition there: the only one that reaches it, or a merge of that head.
//! * A handler's merges have an argument for each definition in force at a root that may raise into it.
//!
//! # Cost
//!
//! Linear in roots, edges, merges and their arguments. Merges are only where a local is live.

use dagwood_il::cfg::EdgeKind;
use dagwood_il::dataflow::{Liveness, TooManyFacts};
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Cfg, Dominators, KindSet, Local, Method, Node, Opcode, Payload};

use super::Analysis;
use super::frontiers::{Frontiers, Visit, dominator_walk};
use super::uses::Uses;
use crate::cx::PassCx;

/// Where several definitions of a local meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Merge(u32);

impl Entity for Merge {
    fn new(index: usize) -> Merge {
        Merge(u32::try_from(index).expect("a method has fewer than 2^32 merges"))
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What gives a local its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Definition {
    /// The method's caller, for a parameter.
    Initial(Local),
    /// A `set`.
    Set(Node),
    /// One of several.
    Merge(Merge),
}

/// A merge.
#[derive(Clone, Copy, Debug)]
struct MergeData {
    head: Block,
    local: Local,
    args_start: u32,
}

/// Which definitions reach the reads of a method.
#[derive(Clone, Debug)]
pub struct Reaching {
    merges: Vec<MergeData>,
    /// By block, where its merges begin.
    merges_of: Vec<u32>,
    args: Vec<Definition>,
    reads: EntityVec<Node, Option<Definition>>,
}

impl Reaching {
    /// The definitions that reach the `entry` nodes of `method` that are used.
    pub fn compute(
        method: &Method<'_>,
        cfg: &Cfg,
        dominators: &Dominators,
        frontiers: &Frontiers,
        uses: &Uses,
        liveness: &Liveness,
    ) -> Reaching {
        let mut reaching = Reaching::place(method, cfg, frontiers, liveness);
        let mut walk = Walk {
            method,
            cfg,
            current: EntityVec::filled(None, method.locals().len()),
            undo: Vec::new(),
            args: Vec::new(),
            set_since: Vec::new(),
        };
        for local in method.locals().take(method.param_count()) {
            walk.current[local] = Some(Definition::Initial(local));
        }
        let mut marks = Vec::new();
        for visit in dominator_walk(cfg, dominators) {
            match visit {
                Visit::Enter(block) => {
                    marks.push(walk.undo.len());
                    for merge in reaching.merges_at(block) {
                        walk.define(reaching.local(merge), Definition::Merge(merge));
                    }
                    for node in uses.of(block) {
                        if let (Opcode::Entry, Payload::Local(local)) =
                            (method.opcode(*node), method.payload(*node))
                        {
                            reaching.reads[*node] = walk.current[local];
                        }
                    }
                    walk.block(block, &reaching);
                }
                Visit::Leave(_) => walk.back_to(marks.pop().unwrap_or_default()),
            }
        }
        reaching.take_args(&walk.args);
        reaching
    }

    /// Finds where merges are needed.
    fn place(method: &Method<'_>, cfg: &Cfg, frontiers: &Frontiers, liveness: &Liveness) -> Reaching {
        let mut sets: Vec<(Local, Block)> = Vec::new();
        for block in cfg.order() {
            for root in method.roots(*block) {
                if let (Opcode::Set, Payload::Local(local)) =
                    (method.opcode(root.node), method.payload(root.node))
                {
                    sets.push((local, *block));
                }
            }
        }
        sets.sort_by_key(|(local, _)| *local);
        let mut placed: EntityVec<Block, Option<Local>> = EntityVec::filled(None, cfg.block_count());
        let mut found: Vec<(Block, Local)> = Vec::new();
        let mut pending = Vec::new();
        for sets in sets.chunk_by(|left, right| left.0 == right.0) {
            pending.extend(sets.iter().map(|(_, block)| *block));
            let local = sets[0].0;
            while let Some(block) = pending.pop() {
                for join in frontiers.of(block) {
                    if placed[*join] != Some(local) && liveness.is_live_in(*join, local) {
                        placed[*join] = Some(local);
                        found.push((*join, local));
                        pending.push(*join);
                    }
                }
            }
        }
        // By head, and within one by local.
        let mut merges_of = vec![0; cfg.block_count() + 1];
        for (head, _) in &found {
            merges_of[head.index() + 1] += 1;
        }
        for block in 0..cfg.block_count() {
            merges_of[block + 1] += merges_of[block];
        }
        let mut merges: Vec<MergeData> = found
            .iter()
            .map(|(head, local)| MergeData { head: *head, local: *local, args_start: 0 })
            .collect();
        let mut next = merges_of.clone();
        for (head, local) in found {
            let slot = &mut next[head.index()];
            merges[*slot as usize] = MergeData { head, local, args_start: 0 };
            *slot += 1;
        }
        let reads = EntityVec::filled(None, method.node_count());
        Reaching { merges, merges_of, args: Vec::new(), reads }
    }

    fn take_args(&mut self, args: &[(Merge, Definition)]) {
        let mut counts = vec![0; self.merges.len() + 1];
        for (merge, _) in args {
            counts[merge.index()] += 1;
        }
        let mut start = 0;
        for (data, count) in self.merges.iter_mut().zip(&counts) {
            data.args_start = start;
            start += count;
        }
        self.args = args.iter().map(|(_, arg)| *arg).collect();
        let mut next: Vec<u32> = self.merges.iter().map(|data| data.args_start).collect();
        for (merge, arg) in args {
            let slot = &mut next[merge.index()];
            self.args[*slot as usize] = *arg;
            *slot += 1;
        }
    }

    /// What gives an `entry` node its value; none if it is not used, or its local is not assigned.
    pub fn read(&self, entry: Node) -> Option<Definition> {
        self.reads[entry]
    }

    /// The merges of a head, by ascending local.
    pub fn merges_at(&self, head: Block) -> impl Iterator<Item = Merge> + use<> {
        (self.merges_of[head.index()]..self.merges_of[head.index() + 1]).map(Merge)
    }

    /// The merge of a local at a head.
    pub fn merge_of(&self, head: Block, local: Local) -> Option<Merge> {
        let (start, end) = (self.merges_of[head.index()], self.merges_of[head.index() + 1]);
        let found = self.merges[start as usize..end as usize].binary_search_by_key(&local, |data| data.local);
        found.ok().map(|index| Merge::new(start as usize + index))
    }

    /// How many merges there are.
    pub fn merge_count(&self) -> usize {
        self.merges.len()
    }

    /// The head of a merge.
    pub fn head(&self, merge: Merge) -> Block {
        self.merges[merge.index()].head
    }

    /// The local of a merge.
    pub fn local(&self, merge: Merge) -> Local {
        self.merges[merge.index()].local
    }

    /// The definitions that meet, one for each edge or raising root from which they come, with repetitions.
    pub fn args(&self, merge: Merge) -> &[Definition] {
        let end = self.merges.get(merge.index() + 1).map_or(self.args.len(), |data| data.args_start as usize);
        &self.args[self.merges[merge.index()].args_start as usize..end]
    }
}

/// A walk along the dominator tree, with the definitions in force.
struct Walk<'w, 'a> {
    method: &'w Method<'a>,
    cfg: &'w Cfg,
    current: EntityVec<Local, Option<Definition>>,
    undo: Vec<(Local, Option<Definition>)>,
    args: Vec<(Merge, Definition)>,
    /// Locals set in the block in hand.
    set_since: Vec<Local>,
}

impl Walk<'_, '_> {
    fn define(&mut self, local: Local, definition: Definition) {
        let before = self.current[local].replace(definition);
        self.undo.push((local, before));
    }

    fn back_to(&mut self, mark: usize) {
        while self.undo.len() > mark
            && let Some((local, before)) = self.undo.pop()
        {
            self.current[local] = before;
        }
    }

    /// Goes through a block, and brings definitions to where control goes from it.
    fn block(&mut self, block: Block, reaching: &Reaching) {
        let cfg = self.cfg;
        let mut points = cfg.raise_points(block).iter().peekable();
        let edges = cfg.successors(block);
        let exceptions = &edges[edges.partition_point(|edge| !edge.is_exception())..];
        // By exception edge, how much of `set_since` it has been told; none if it has not been left by.
        let mut told: Vec<Option<usize>> = vec![None; exceptions.len()];
        self.set_since.clear();
        for (position, root) in (0..).zip(self.method.roots(block)) {
            if let Some(point) = points.next_if(|point| point.position == position) {
                for (edge, told) in exceptions.iter().zip(&mut told) {
                    if matches!(edge.kind, EdgeKind::Exception(kinds) if kinds.intersection(point.kinds) != KindSet::NONE)
                    {
                        self.raise(edge.block, told, reaching);
                    }
                }
            }
            if let (Opcode::Set, Payload::Local(local)) =
                (self.method.opcode(root.node), self.method.payload(root.node))
            {
                self.define(local, Definition::Set(root.node));
                self.set_since.push(local);
            }
        }
        for edge in edges.iter().take_while(|edge| !edge.is_exception()) {
            for merge in reaching.merges_at(edge.block) {
                self.bring(merge, reaching.local(merge));
            }
        }
    }

    /// Brings a handler what it has not been told yet.
    fn raise(&mut self, handler: Block, told: &mut Option<usize>, reaching: &Reaching) {
        match *told {
            None => {
                for merge in reaching.merges_at(handler) {
                    self.bring(merge, reaching.local(merge));
                }
            }
            Some(from) => {
                for index in from..self.set_since.len() {
                    let local = self.set_since[index];
                    if let Some(merge) = reaching.merge_of(handler, local) {
                        self.bring(merge, local);
                    }
                }
            }
        }
        *told = Some(self.set_since.len());
    }

    fn bring(&mut self, merge: Merge, local: Local) {
        self.args.push((merge, self.current[local].unwrap_or(Definition::Initial(local))));
    }
}

/// The definitions, unless the method is too intricate for them.
impl Analysis for Option<Reaching> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<Reaching> {
        let (cfg, dominators) = (cx.cfg(method), cx.dominators(method));
        let frontiers = cx.get::<Option<Frontiers>>(method);
        let (uses, liveness) = (cx.get::<Uses>(method), cx.get::<Result<Liveness, TooManyFacts>>(method));
        cx.spend(method.node_count() as u64 / 2);
        let (frontiers, liveness) = (frontiers.as_ref().as_ref()?, liveness.as_ref().as_ref().ok()?);
        Some(Reaching::compute(method, &cfg, &dominators, frontiers, &uses, liveness))
    }
}
