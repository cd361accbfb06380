//! Where expressions are put, and which of their computations that makes superfluous.

use dagwood_il::cfg::Loop;
use dagwood_il::dataflow::{Facts, Liveness, Meet, TooManyFacts};
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Frequency, Method, Node, Type};

use super::expressions::{Expressions, Kind, SLOW, Use};
use super::{ByBlock, MAX_EXPRESSIONS};
use crate::analysis::available::{Happening, Occurrence, anticipated, available};
use crate::cx::PassCx;

/// An edge between blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: Block,
    pub(super) to: Block,
}

/// Values that may be live around a loop, those put before it included, for one more that is quick to compute to be put there.
const MAX_LIVE: usize = 10;

/// How much more often a loop's blocks run than what is around it, where nothing is known.
const TURNS: u64 = 8;

/// An expression on an edge, and a node that computes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insertion {
    expression: usize,
    pub(super) edge: Edge,
    pub(super) sample: Node,
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Found {
    /// By expression.
    insertions: Vec<Insertion>,
    /// By expression.
    uses: Vec<(usize, Use)>,
    pub(super) missed: Vec<((Block, Node), &'static str)>,
}

impl Found {
    /// Where an expression is to be computed.
    pub(super) fn insertions_of(&self, expression: usize) -> &[Insertion] {
        let first = self.insertions.partition_point(|insertion| insertion.expression < expression);
        let end = self.insertions.partition_point(|insertion| insertion.expression <= expression);
        &self.insertions[first..end]
    }

    /// The computations of an expression that are not needed, with its index.
    pub(super) fn uses_of(&self, expression: usize) -> &[(usize, Use)] {
        let first = self.uses.partition_point(|(of, _)| *of < expression);
        let end = self.uses.partition_point(|(of, _)| *of <= expression);
        &self.uses[first..end]
    }
}

/// A set of expressions.
type Set = [u64; MAX_EXPRESSIONS.div_ceil(64)];

fn has(set: &Set, index: usize) -> bool {
    set[index / 64] >> (index % 64) & 1 != 0
}

/// What a block does to expressions.
#[derive(Clone, Copy, Default)]
struct Ends {
    /// Those that are computed, provided or killed in it.
    touched: Set,
    /// Of these, those that are known at its end.
    known: Set,
}

/// By block, what it does to expressions.
fn ends(expressions: &Expressions, blocks: usize) -> ByBlock<Ends> {
    let mut ends = ByBlock::filled(Ends::default(), blocks);
    for own in expressions.occurrences.iter().filter(|own| own.happening != Happening::Blocks) {
        let (word, bit) = (own.expression as usize / 64, 1 << (own.expression % 64));
        let Ends { touched, known } = &mut ends[own.block];
        touched[word] |= bit;
        known[word] = if own.happening == Happening::Kills { known[word] & !bit } else { known[word] | bit };
    }
    ends
}

/// By loop, the expressions that may become other values in it.
fn killed(expressions: &Expressions) -> Vec<Set> {
    let loops = &expressions.loops;
    let mut killed = vec![Set::default(); loops.loops().count()];
    for occurrence in expressions.occurrences.iter().filter(|own| own.happening == Happening::Kills) {
        let index = occurrence.expression as usize;
        let mut around = loops.innermost(occurrence.block);
        while let Some(which) = around
            && !has(&killed[which.index()], index)
        {
            killed[which.index()][index / 64] |= 1 << (index % 64);
            around = loops.data(which).parent;
        }
    }
    killed
}

/// Finds what is to be done; none if there are too many facts to tell.
pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>, expressions: &Expressions) -> Option<Found> {
    let liveness = cx.get::<Result<Liveness, TooManyFacts>>(method);
    let cfg = &expressions.cfg;
    cx.spend(4 * (expressions.occurrences.len() + method.block_count()) as u64);
    let search = Search {
        method,
        expressions,
        liveness: liveness.as_ref().as_ref().ok()?,
        may: available(&expressions.occurrences, cfg, Meet::Any).ok()?,
        must: available(&expressions.occurrences, cfg, Meet::All).ok()?,
        anticipated: anticipated(&expressions.occurrences, cfg).ok()?,
        killed: killed(expressions),
        ends: ends(expressions, method.block_count()),
        found: Found::default(),
        is_missed: vec![false; expressions.list.len()],
        put_at: vec![Vec::new(); expressions.list.len()],
        hoisted: ByBlock::filled(0, method.block_count()),
    };
    search.run()
}

struct Search<'s, 'a> {
    method: &'s Method<'a>,
    expressions: &'s Expressions,
    liveness: &'s Liveness,
    may: Facts,
    must: Facts,
    anticipated: Facts,
    killed: Vec<Set>,
    ends: ByBlock<Ends>,
    found: Found,
    /// By expression, whether a reason has been given.
    is_missed: Vec<bool>,
    /// By expression, the joins before which it is put.
    put_at: Vec<Vec<Block>>,
    /// By loop header, how many values were put before it.
    hoisted: ByBlock<usize>,
}

impl Search<'_, '_> {
    fn run(mut self) -> Option<Found> {
        let cfg = &self.expressions.cfg;
        for head in cfg.order() {
            if cfg.predecessors(*head).len() < 2
                || cfg.predecessors(*head).iter().any(|edge| edge.is_exception())
            {
                continue;
            }
            let partly: Vec<u32> = self.may.at(*head).filter(|fact| !self.must.holds(*head, *fact)).collect();
            for fact in partly {
                self.consider(*head, fact);
            }
        }
        let mut events = self.expressions.occurrences.clone();
        for (index, joins) in (0..).zip(&self.put_at) {
            events.extend(joins.iter().map(|join| Occurrence {
                block: *join,
                position: 0,
                expression: index,
                happening: Happening::Computes,
            }));
        }
        self.must = available(&events, cfg, Meet::All).ok()?;
        for (index, expression) in self.expressions.list.iter().enumerate() {
            for used in &expression.computed {
                if self.is_known(index, used) {
                    self.found.uses.push((index, *used));
                }
            }
        }
        self.found.insertions.sort_by_key(|insertion| insertion.expression);
        Some(self.found)
    }

    fn miss(&mut self, index: usize, why: &'static str) {
        if !std::mem::replace(&mut self.is_missed[index], true) {
            let used = self.expressions.list[index].computed[0];
            self.found.missed.push(((used.point.block, used.node), why));
        }
    }

    /// Whether an expression that is available on some edges into a join should be computed on the others.
    fn consider(&mut self, join: Block, fact: u32) {
        let (cfg, loops) = (&self.expressions.cfg, &self.expressions.loops);
        let index = fact as usize;
        let expression = &self.expressions.list[index];
        let around = loops.innermost(join).filter(|around| loops.data(*around).header == join);
        let around = around.filter(|around| !has(&self.killed[around.index()], index));
        if around.is_some()
            && self.put_at[index].iter().any(|header| {
                let outer = loops.innermost(*header).filter(|outer| loops.data(*outer).header == *header);
                outer.is_some_and(|outer| {
                    loops.contains(outer, join) && !has(&self.killed[outer.index()], index)
                })
            })
        {
            return;
        }
        let before = cfg.predecessors(join).iter().map(|edge| edge.block);
        let (with, without): (Vec<Block>, Vec<Block>) =
            before.filter(|block| cfg.is_reachable(*block)).partition(|block| {
                around.is_some_and(|around| loops.contains(around, *block)) || self.holds_at_end(*block, fact)
            });
        if without.is_empty() {
            return;
        }
        let is_wanted = self.anticipated.holds(join, fact)
            || match around {
                Some(around) => expression.is_safe && self.is_in_each_turn(index, around),
                None => {
                    let is_here = |used: &Use| used.point.block == join;
                    matches!(expression.kind, Kind::Value) && expression.computed.iter().any(is_here)
                }
            };
        let often = |blocks: &[Block]| blocks.iter().map(|block| self.frequency(*block)).sum::<u64>();
        if !is_wanted {
            self.miss(index, "not every path from the join computes it");
        } else if often(&without) > often(&with) {
            self.miss(index, "the paths that have computed it are rare");
        } else if around.is_some() && !self.has_room(index, join) {
            self.miss(index, "it is quick to compute, and registers are few");
        } else if let Some(sample) = self.expressions.sample(self.method, index, join) {
            self.hoisted[join] += 1;
            self.put_at[index].push(join);
            let edges = without.iter().map(|from| Edge { from: *from, to: join });
            self.found.insertions.extend(edges.map(|edge| Insertion { expression: index, edge, sample }));
        } else {
            self.miss(index, "what it is computed from is not in locals before the join");
        }
    }

    fn holds_at_end(&self, block: Block, fact: u32) -> bool {
        let Ends { touched, known } = &self.ends[block];
        let index = fact as usize;
        if has(touched, index) { has(known, index) } else { self.must.holds(block, fact) }
    }

    fn in_block(&self, block: Block) -> impl Iterator<Item = &Occurrence> {
        let all = &self.expressions.occurrences;
        let first = all.partition_point(|own| own.block < block);
        let end = all.partition_point(|own| own.block <= block);
        all[first..end].iter()
    }

    /// Whether an expression is computed in each turn of a loop.
    fn is_in_each_turn(&self, index: usize, around: Loop) -> bool {
        let (loops, cfg) = (&self.expressions.loops, &self.expressions.cfg);
        self.expressions.list[index].computed.iter().any(|used| {
            let mut block = used.point.block;
            let Some(mut inner) = loops.innermost(block) else { return false };
            loop {
                let header = loops.data(inner).header;
                let mut back =
                    cfg.predecessors(header).iter().filter(|edge| loops.contains(inner, edge.block));
                if !back.any(|edge| self.expressions.dominators.dominates(block, edge.block)) {
                    return false;
                }
                match loops.data(inner).parent {
                    _ if inner == around => return true,
                    Some(outer) => (block, inner) = (header, outer),
                    None => return false,
                }
            }
        })
    }

    /// Whether a register for a value around a loop is well spent.
    fn has_room(&self, index: usize, header: Block) -> bool {
        let expression = &self.expressions.list[index];
        let ty = self.method.ty(expression.computed[0].node);
        let is_alike = |other: Type| other.is_float() == ty.is_float();
        let live =
            self.liveness.live_in(header).filter(|local| is_alike(self.method.local(*local).ty)).count();
        expression.weight >= SLOW || live + self.hoisted[header] < MAX_LIVE
    }

    fn frequency(&self, block: Block) -> u64 {
        match self.method.block(block).frequency {
            Some(Frequency::COLD) => 0,
            _ => TURNS.saturating_pow(self.expressions.loops.depth(block)),
        }
    }

    /// Whether a computation's value is known at the head of its extended block, and nothing happens to it on the way.
    fn is_known(&self, index: usize, used: &Use) -> bool {
        let Ok(fact) = u32::try_from(index) else { return false };
        let mut block = used.point.block;
        let mut before = self.in_block(block).take_while(|own| own.position < used.point.position);
        if has(&self.ends[block].touched, index)
            && before.any(|own| own.expression == fact && own.happening != Happening::Blocks)
        {
            return false;
        }
        while let Some(parent) = self.method.block(block).extends {
            if has(&self.ends[parent].touched, index) {
                return false;
            }
            block = parent;
        }
        // What is put before a head is there from its first root on.
        self.must.holds(block, fact) || self.put_at[index].contains(&block)
    }
}
