//! Where expressions are put, and which of their computations that makes superfluous.

use std::collections::BTreeMap;

use dagwood_il::cfg::Loop;
use dagwood_il::dataflow::{Facts, Liveness, Meet, TooManyFacts};
use dagwood_il::edit::Point;
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Method, Node, Type};

use super::ByBlock;
use super::expressions::{Expressions, Kind, Use};
use crate::analysis::available::{Happening, Occurrence, Set, anticipated, available};
use crate::analysis::frequencies::Frequencies;
use crate::analysis::weights::SLOW;
use crate::cx::PassCx;

/// An edge between blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: Block,
    pub(super) to: Block,
}

/// Values that may be live around a loop, those put before it included, for one more that is quick to compute to be put there.
const MAX_LIVE: usize = 10;

/// How many times as often as the ways that have computed an expression those may run that have not, and compute it then. It is one
/// computation less on the former, and no more on the latter; but a value that is kept is in a register's way.
const MAX_RARENESS: u64 = 2;

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

/// What a block does to expressions.
#[derive(Clone, Copy, Default)]
struct Ends {
    /// Those that are computed, provided or killed in it.
    touched: Set,
    /// Of these, those that are known at its end.
    known: Set,
    /// Those that are computed in it.
    computed: Set,
}

/// By block, what it does to expressions.
fn ends(expressions: &Expressions, blocks: usize) -> ByBlock<Ends> {
    let mut ends = ByBlock::filled(Ends::default(), blocks);
    for Occurrence { block, expressions, happening, .. } in &expressions.occurrences {
        let Ends { touched, known, computed } = &mut ends[*block];
        match happening {
            Happening::Blocks => continue,
            Happening::Kills => *known = known.without(expressions),
            Happening::Computes | Happening::Provides => *known = known.or(expressions),
        }
        *touched = touched.or(expressions);
        if *happening == Happening::Computes {
            *computed = computed.or(expressions);
        }
    }
    ends
}

/// By loop, the expressions that may become other values in it.
fn killed(expressions: &Expressions) -> Vec<Set> {
    let loops = &expressions.loops;
    let mut killed = vec![Set::default(); loops.loops().count()];
    for occurrence in expressions.occurrences.iter().filter(|own| own.happening == Happening::Kills) {
        let mut around = loops.innermost(occurrence.block);
        while let Some(which) = around {
            let set = &mut killed[which.index()];
            if occurrence.expressions.without(set).is_empty() {
                break;
            }
            *set = set.or(&occurrence.expressions);
            around = loops.data(which).parent;
        }
    }
    killed
}

/// Finds what is to be done; none if there are too many facts to tell.
pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>, expressions: &Expressions) -> Option<Found> {
    let liveness = cx.get::<Result<Liveness, TooManyFacts>>(method);
    let frequencies = cx.get::<Frequencies>(method);
    let cfg = &expressions.cfg;
    if !cx.spend(4 * (expressions.occurrences.len() + method.block_count()) as u64) {
        return None;
    }
    let safe = expressions.list.iter().enumerate().filter(|(_, expression)| expression.is_safe);
    let values = expressions.list.iter().enumerate().filter(|(_, own)| matches!(own.kind, Kind::Value));
    let search = Search {
        method,
        expressions,
        liveness: liveness.as_ref().as_ref().ok()?,
        frequencies: &frequencies,
        may: available(&expressions.occurrences, cfg, Meet::Any).ok()?,
        must: available(&expressions.occurrences, cfg, Meet::All).ok()?,
        anticipated: anticipated(&expressions.occurrences, cfg).ok()?,
        killed: killed(expressions),
        ends: ends(expressions, method.block_count()),
        safe: safe.map(|(index, _)| index).collect(),
        values: values.map(|(index, _)| index).collect(),
        found: Found::default(),
        missed: Set::default(),
        put_at: vec![Vec::new(); expressions.list.len()],
        hoisted: ByBlock::filled(0, method.block_count()),
    };
    search.run()
}

struct Search<'s, 'a> {
    method: &'s Method<'a>,
    expressions: &'s Expressions,
    liveness: &'s Liveness,
    frequencies: &'s Frequencies,
    may: Facts,
    must: Facts,
    anticipated: Facts,
    killed: Vec<Set>,
    ends: ByBlock<Ends>,
    /// The expressions that may be computed in vain, and those that float.
    safe: Set,
    values: Set,
    found: Found,
    /// The expressions of which it has been said why they are not put somewhere.
    missed: Set,
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
            let partly = Set::at(&self.may, *head).without(&Set::at(&self.must, *head));
            let wanted = self.wanted(*head).and(&partly);
            for index in partly.without(&wanted).without(&self.missed).iter() {
                self.miss(index, "not every path from the join computes it");
            }
            for index in wanted.iter() {
                self.consider(*head, index);
            }
        }
        let mut events = self.expressions.occurrences.clone();
        let mut put_at: BTreeMap<Block, Set> = BTreeMap::new();
        for (index, joins) in self.put_at.iter().enumerate() {
            joins.iter().for_each(|join| put_at.entry(*join).or_default().add(index));
        }
        events.extend(put_at.iter().map(|(join, expressions)| Occurrence {
            block: *join,
            position: 0,
            expressions: *expressions,
            happening: Happening::Computes,
        }));
        if !put_at.is_empty() {
            self.must = available(&events, cfg, Meet::All).ok()?;
        }
        self.find_known(&put_at);
        self.found.insertions.sort_by_key(|insertion| insertion.expression);
        Some(self.found)
    }

    fn miss(&mut self, index: usize, why: &'static str) {
        if !self.missed.has(index) {
            self.missed.add(index);
            let used = self.expressions.list[index].computed[0];
            self.found.missed.push(((used.point.block, used.node), why));
        }
    }

    /// The loop of which a block is the header.
    fn headed_by(&self, header: Block) -> Option<Loop> {
        let loops = &self.expressions.loops;
        loops.innermost(header).filter(|around| loops.data(*around).header == header)
    }

    /// The expressions that may be put before a join: every path from it computes them, or they may be computed in vain.
    fn wanted(&self, join: Block) -> Set {
        let in_vain = match self.headed_by(join) {
            Some(around) => self.safe.without(&self.killed[around.index()]),
            None => Set::default(),
        };
        let here = self.values.and(&self.ends[join].computed);
        Set::at(&self.anticipated, join).or(&in_vain).or(&here)
    }

    /// Whether an expression that is available on some edges into a join should be computed on the others.
    fn consider(&mut self, join: Block, index: usize) {
        let (cfg, loops) = (&self.expressions.cfg, &self.expressions.loops);
        let expression = &self.expressions.list[index];
        let around = self.headed_by(join).filter(|around| !self.killed[around.index()].has(index));
        let is_put_around = |header: &Block| {
            let outer = self.headed_by(*header);
            outer.is_some_and(|outer| loops.contains(outer, join) && !self.killed[outer.index()].has(index))
        };
        if around.is_some() && self.put_at[index].iter().any(is_put_around) {
            return;
        }
        let before = cfg.predecessors(join).iter().map(|edge| edge.block);
        let (with, without): (Vec<Block>, Vec<Block>) =
            before.filter(|block| cfg.is_reachable(*block)).partition(|block| {
                around.is_some_and(|around| loops.contains(around, *block))
                    || self.holds_at_end(*block, index)
            });
        if without.is_empty() {
            return;
        }
        let is_wanted = Set::at(&self.anticipated, join).has(index)
            || match around {
                Some(around) => expression.is_safe && self.is_in_each_turn(index, around),
                None => self.values.has(index) && self.ends[join].computed.has(index),
            };
        let often = |from: &[Block]| {
            from.iter().map(|from| u64::from(self.frequencies.edge(*from, join).0)).sum::<u64>()
        };
        if !is_wanted {
            self.miss(index, "not every path from the join computes it");
        } else if often(&without) > MAX_RARENESS * often(&with) {
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

    fn holds_at_end(&self, block: Block, index: usize) -> bool {
        let Ends { touched, known, .. } = &self.ends[block];
        if touched.has(index) { known.has(index) } else { Set::at(&self.must, block).has(index) }
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

    /// Finds the computations whose values are known at the heads of their extended blocks, with nothing that happens to them on the way.
    /// What is put before a head is there from its first root on.
    fn find_known(&mut self, put_at: &BTreeMap<Block, Set>) {
        let Expressions { list, occurrences, cfg, .. } = self.expressions;
        let mut known = ByBlock::filled(Set::default(), self.method.block_count());
        for block in cfg.order() {
            known[*block] = match self.method.block(*block).extends {
                Some(parent) => known[parent].without(&self.ends[parent].touched),
                None => Set::at(&self.must, *block).or(&put_at.get(block).copied().unwrap_or_default()),
            };
        }
        let is_touched_before = |index: usize, point: Point| {
            let first = occurrences.partition_point(|own| own.block < point.block);
            let mut before = occurrences[first..]
                .iter()
                .take_while(|own| own.block == point.block && own.position < point.position);
            before.any(|own| own.happening != Happening::Blocks && own.expressions.has(index))
        };
        for (index, expression) in list.iter().enumerate() {
            for used in &expression.computed {
                let Use { point, .. } = *used;
                let is_touched = self.ends[point.block].touched.has(index);
                if known[point.block].has(index) && !(is_touched && is_touched_before(index, point)) {
                    self.found.uses.push((index, *used));
                }
            }
        }
    }
}
