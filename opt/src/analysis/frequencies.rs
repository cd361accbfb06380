//! How often blocks run for one entry of the method: what a profile says, and estimates where it says nothing.
//!
//! ```text
//!   b0           1             b1 is a loop header; it goes round 7 times in 8      b1: 1 / (1 - 7/8) = 8
//!    └► b1 ◄┐    8
//!        ├► b2   7             b3 leads to nothing but a raise                      b3: 0
//!        ├► b3   0
//!        └► b4   1
//! ```
//!
//! Shares are given to the ways out of each block by what is known of their ends: known frequencies first, then heuristics, of which several
//! together count as independent evidence. T. Ball and J. R. Larus, "Branch prediction for free" (1993); Y. Wu and J. R. Larus, "Static branch
//! frequency and program profile analysis" (1994), who also carry them through loops, the inner ones first.
//!
//! # Why
//!
//! Whoever weighs code that runs often against code that does not would guess otherwise, each differently. A frequency that is known is
//! never replaced by an estimate.
//!
//! # Guarantees
//!
//! * Integers only, so every machine finds the same.
//! * A block has frequency zero if it is known not to run, is only reached through raises or through such blocks, or leads only to raises.
//! * The shares of a block's ways out add up to about one, unless all are cold.
//!
//! # Cost
//!
//! Linear in blocks and edges for each of the [`MAX_DEPTH`] outermost loops around them. Loops further in go round as often as an average one does.

use dagwood_il::cfg::Loop;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Cfg, Frequency, Loops, Method, Module, Node, Opcode, Payload, Properties, effects};

use super::Analysis;
use crate::cx::PassCx;

/// One, as a share.
pub const WHOLE: u32 = 1024;
/// How many loops may be around a block until those further in are not looked at.
pub const MAX_DEPTH: u32 = 6;
/// The share of a loop's turns that another follows, at most: 256 turns.
const MAX_CYCLIC: u64 = ONE - ONE / 256;
/// One, as a frequency on the way: with more digits than the result.
const ONE: u64 = 1 << 30;
/// From where on frequencies stay the same: in more than ten loops.
const MAX: u64 = 1 << 62;
/// The digits more.
const DIGITS: u32 = 20;

/// What speaks for one way of a branch, as the share of it: measured by Wu and Larus, in [`WHOLE`]s.
mod evidence {
    use super::WHOLE;

    /// Staying in a loop: eight turns.
    pub(super) const LOOP: u32 = WHOLE * 7 / 8;
    /// Numbers are not what they are compared for equality with, and pointers not null.
    pub(super) const DIFFERENT: u32 = WHOLE * 5 / 8;
    /// Numbers are not negative.
    pub(super) const NOT_NEGATIVE: u32 = WHOLE * 3 / 4;
    /// Not leaving the method at once.
    pub(super) const NO_RETURN: u32 = WHOLE * 3 / 5;
}

/// How often blocks run, and which ways they take.
#[derive(Clone, Debug)]
pub struct Frequencies {
    blocks: EntityVec<Block, Frequency>,
    /// By block: where its ways begin in `shares`.
    starts: Vec<u32>,
    /// The block at the end of each way, and how many of [`WHOLE`] go there.
    shares: Vec<(Block, u32)>,
}

impl Frequencies {
    /// The frequencies in `method`.
    pub fn compute(module: &Module, method: &Method<'_>, cfg: &Cfg, loops: &Loops) -> Frequencies {
        let is_cold = cold_blocks(module, method, cfg);
        let mut found = Frequencies {
            blocks: EntityVec::filled(Frequency::COLD, method.block_count()),
            starts: vec![0],
            shares: Vec::new(),
        };
        let judge = Judge { method, cfg, loops, is_cold: &is_cold };
        for block in method.blocks() {
            judge.add_shares(block, &mut found.shares);
            found.starts.push(u32::try_from(found.shares.len()).expect("a method has fewer than 2^32 edges"));
        }
        let cyclic = found.cyclic(cfg, loops);
        found.propagate(method, cfg, loops, &is_cold, &cyclic);
        found
    }

    /// How often a block runs for one entry of the method.
    pub fn of(&self, block: Block) -> Frequency {
        self.blocks[block]
    }

    /// How many of [`WHOLE`] times the end of `from` leads to `to`.
    pub fn share(&self, from: Block, to: Block) -> u32 {
        let ways = self.ways(from);
        ways.binary_search_by_key(&to, |(block, _)| *block).map_or(0, |index| ways[index].1)
    }

    /// How often the edges from the end of `from` to `to` are taken for one entry of the method.
    pub fn edge(&self, from: Block, to: Block) -> Frequency {
        let taken = u64::from(self.of(from).0) * u64::from(self.share(from, to)) / u64::from(WHOLE);
        Frequency(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// The blocks to which the end of a block leads, each once and ascending, and how many of [`WHOLE`] times.
    pub fn ways(&self, block: Block) -> &[(Block, u32)] {
        &self.shares[self.starts[block.index()] as usize..self.starts[block.index() + 1] as usize]
    }

    /// By header: how often, of [`ONE`], a turn of its loop is followed by another. Inner loops come first.
    fn cyclic(&self, cfg: &Cfg, loops: &Loops) -> EntityVec<Block, u64> {
        let mut cyclic = EntityVec::filled(0, cfg.block_count());
        let mut members: Vec<Vec<Block>> = Vec::new();
        let mut around = Vec::new();
        // The loops around each loop, as far as they are looked at, from inside.
        for (index, (which, data)) in loops.loops().enumerate() {
            debug_assert_eq!(which.index(), index, "loops are listed in their order");
            members.push(Vec::new());
            let deepest = if data.depth < MAX_DEPTH {
                Some(which)
            } else {
                data.parent.and_then(|parent| around[parent.index()])
            };
            around.push(deepest);
            if data.depth >= MAX_DEPTH {
                cyclic[data.header] = share_of(ONE, evidence::LOOP);
            }
        }
        for block in cfg.order() {
            let mut at = loops.innermost(*block).and_then(|which| around[which.index()]);
            while let Some(which) = at {
                members[which.index()].push(*block);
                at = loops.data(which).parent;
            }
        }
        let mut arriving: EntityVec<Block, u64> = EntityVec::filled(0, cfg.block_count());
        for (which, data) in loops.loops().rev().filter(|(_, data)| data.depth < MAX_DEPTH) {
            let (mut back, mut most) = (0_u64, 0);
            for block in &members[which.index()] {
                let is_header = *block == data.header;
                let entered = if is_header { ONE } else { std::mem::take(&mut arriving[*block]) };
                let own = rounds(entered, if is_header { 0 } else { cyclic[*block] });
                self.leave(cfg, *block, own, |to, part| {
                    if loops.contains(which, to) {
                        arriving[to] = arriving[to].saturating_add(part);
                    }
                });
                back = back.saturating_add(share_of(own, self.share(*block, data.header)));
                most = most.max(own);
            }
            // What is cut off on the way in is missing on the way out.
            cyclic[data.header] =
                if most < MAX { back.min(MAX_CYCLIC) } else { share_of(ONE, evidence::LOOP) };
        }
        cyclic
    }

    /// Carries what leaves a block along its edges forward.
    fn leave(&self, cfg: &Cfg, block: Block, frequency: u64, mut arrive: impl FnMut(Block, u64)) {
        let ahead = self.ways(block).iter().filter(|(to, _)| cfg.rank(*to) > cfg.rank(block));
        ahead.for_each(|(to, share)| arrive(*to, share_of(frequency, *share)));
    }

    fn propagate(
        &mut self,
        method: &Method<'_>,
        cfg: &Cfg,
        loops: &Loops,
        is_cold: &EntityVec<Block, bool>,
        cyclic: &EntityVec<Block, u64>,
    ) {
        let mut arriving: EntityVec<Block, u64> = EntityVec::filled(0, method.block_count());
        if let Some(entry) = cfg.order().first() {
            arriving[*entry] = ONE;
        }
        for block in cfg.order() {
            let own = match method.block(*block).frequency {
                Some(Frequency(known)) => u64::from(known) << DIGITS,
                None if is_cold[*block] => 0,
                None => {
                    let cyclic = if loops.is_header(*block) { cyclic[*block] } else { 0 };
                    // What is never entered but is not cold runs seldom, not never.
                    rounds(arriving[*block], cyclic).max(1 << DIGITS)
                }
            };
            self.leave(cfg, *block, own, |to, part| arriving[to] = arriving[to].saturating_add(part));
            self.blocks[*block] = Frequency(u32::try_from(own >> DIGITS).unwrap_or(u32::MAX));
        }
    }
}

/// The blocks that are known not to run, that are reached through raises only or lead only to raises, and what follows only those. The entry
/// is none unless that is known.
pub fn cold_blocks(module: &Module, method: &Method<'_>, cfg: &Cfg) -> EntityVec<Block, bool> {
    let mut is_cold = EntityVec::filled(false, method.block_count());
    let may_be_cold =
        |block: Block| method.block(block).frequency.is_none() && Some(&block) != cfg.order().first();
    // Backward: what all ways on from are cold. In a loop the way round is taken to be hot.
    for block in cfg.order().iter().rev() {
        let known = method.block(*block).frequency == Some(Frequency::COLD);
        let mut ahead = cfg.successors(*block).iter().filter(|edge| !edge.is_exception()).peekable();
        let leads_to_raise = match ahead.peek() {
            None => ends_by_raising(module, method, *block),
            Some(_) => ahead.all(|edge| is_cold[edge.block]),
        };
        is_cold[*block] = known || leads_to_raise && may_be_cold(*block);
    }
    // Forward: what is reached from cold blocks only, or through raises only.
    for block in cfg.order() {
        let mut before =
            cfg.predecessors(*block).iter().filter(|edge| cfg.is_reachable(edge.block)).peekable();
        let follows_raise =
            before.peek().is_some() && before.all(|edge| edge.is_exception() || is_cold[edge.block]);
        is_cold[*block] |= follows_raise && may_be_cold(*block);
    }
    is_cold
}

/// Whether a block without successors ends by raising, not by returning or by a tail call.
fn ends_by_raising(module: &Module, method: &Method<'_>, block: Block) -> bool {
    let end = method.terminator(block);
    end.is_some_and(|end| {
        matches!(method.payload(end), Payload::Raise(..)) || !effects::raises(module, method, end).is_empty()
    })
}

/// A share of a frequency.
fn share_of(frequency: u64, share: u32) -> u64 {
    frequency / u64::from(WHOLE) * u64::from(share)
}

/// How often a header runs that is entered so often and of whose turns so many are followed by another.
fn rounds(entered: u64, cyclic: u64) -> u64 {
    let left = ONE - cyclic.min(MAX_CYCLIC);
    let rounds = u128::from(entered) * u128::from(ONE) / u128::from(left);
    u64::try_from(rounds).unwrap_or(MAX).min(MAX)
}

/// Gives shares to the ways out of blocks.
struct Judge<'j, 'a> {
    method: &'j Method<'a>,
    cfg: &'j Cfg,
    loops: &'j Loops,
    is_cold: &'j EntityVec<Block, bool>,
}

impl Judge<'_, '_> {
    fn add_shares(&self, block: Block, shares: &mut Vec<(Block, u32)>) {
        let start = shares.len();
        let ahead = self.cfg.successors(block).iter().filter(|edge| !edge.is_exception());
        shares.extend(ahead.map(|edge| (edge.block, 0)));
        let ways = &mut shares[start..];
        let Some(end) = self.method.terminator(block).filter(|_| !ways.is_empty()) else { return };
        let weights = self.known(block, ways).unwrap_or_else(|| match self.method.payload(end) {
            // An assumption holds.
            _ if self.method.opcode(end).has(Properties::LEAVES) => {
                (0..ways.len()).map(|way| u64::from(way == 0)).collect()
            }
            Payload::Branch(then, otherwise) => {
                let share = self.branch(block, end, then, otherwise);
                let of = |to: Block| u64::from(if to == then { share } else { WHOLE - share });
                self.warm(ways, of)
            }
            _ => {
                let mut names = self.method.successors(block);
                names.sort_unstable();
                let left = self.left_loop(block);
                let first = |to: Block| names.partition_point(|name| *name < to);
                let count = |to: Block| names[first(to)..].partition_point(|name| *name == to) as u64;
                let turns = u64::from(evidence::LOOP / (WHOLE - evidence::LOOP));
                self.warm(ways, |to| count(to) * if self.stays(left, to) { turns } else { 1 })
            }
        });
        let sum: u64 = weights.iter().fold(0, |sum, weight| sum.saturating_add(*weight));
        for ((_, share), weight) in ways.iter_mut().zip(&weights) {
            let part = u128::from(*weight) * u128::from(WHOLE) / u128::from(sum.max(1));
            *share = u32::try_from(part).unwrap_or(WHOLE);
        }
        ways.sort_unstable_by_key(|(to, _)| *to);
    }

    /// Weights for the ways that are not cold, or for all if all are.
    fn warm(&self, ways: &[(Block, u32)], of: impl Fn(Block) -> u64) -> Vec<u64> {
        let all_cold = ways.iter().all(|(to, _)| self.is_cold[*to]);
        ways.iter().map(|(to, _)| if self.is_cold[*to] && !all_cold { 0 } else { of(*to) }).collect()
    }

    /// How often each way is known to be taken, if that is known.
    fn known(&self, block: Block, ways: &[(Block, u32)]) -> Option<Vec<u64>> {
        let own = |to: Block| match self.cfg.predecessors(to) {
            [_] => self.method.block(to).frequency.map(|known| u64::from(known.0)),
            _ => None,
        };
        let mut weights: Vec<Option<u64>> = ways.iter().map(|(to, _)| own(*to)).collect();
        if let [_] = ways {
            return Some(vec![1]);
        }
        let sum: u64 = weights.iter().flatten().sum();
        let mut missing = weights.iter_mut().filter(|weight| weight.is_none());
        if let Some(only) = missing.next() {
            let all = self.method.block(block).frequency.filter(|_| missing.next().is_none())?;
            *only = Some(u64::from(all.0).saturating_sub(sum));
        }
        let weights: Vec<u64> = weights.into_iter().flatten().collect();
        weights.iter().any(|weight| *weight > 0).then_some(weights)
    }

    /// How many of [`WHOLE`] times a branch goes to `then`.
    fn branch(&self, block: Block, end: Node, then: Block, otherwise: Block) -> u32 {
        let mut share = WHOLE / 2;
        let mut note = |for_then: bool, strength: u32| {
            let says = if for_then { strength } else { WHOLE - strength };
            let (yes, no) = (share * says, (WHOLE - share) * (WHOLE - says));
            share = (u64::from(WHOLE) * u64::from(yes) / u64::from(yes + no)) as u32;
        };
        let left = self.left_loop(block);
        if self.stays(left, then) != self.stays(left, otherwise) {
            note(self.stays(left, then), evidence::LOOP);
        }
        let returns =
            |to: Block| self.cfg.successors(to).iter().all(|edge| edge.is_exception()) && !self.is_cold[to];
        if returns(then) != returns(otherwise) {
            note(returns(otherwise), evidence::NO_RETURN);
        }
        if let Some((is_true, strength)) = self.condition(self.method.operands(end)[0]) {
            note(is_true, strength);
        }
        share
    }

    /// The innermost of the loops around a block that a way out of it leaves.
    fn left_loop(&self, block: Block) -> Option<Loop> {
        let mut around = self.loops.innermost(block);
        for _ in 0..MAX_DEPTH {
            let which = around?;
            let ahead = self.cfg.successors(block).iter();
            let mut ways = ahead.filter(|way| !way.is_exception() && !self.is_cold[way.block]);
            if ways.any(|way| !self.loops.contains(which, way.block)) {
                return Some(which);
            }
            around = self.loops.data(which).parent;
        }
        None
    }

    fn stays(&self, left: Option<Loop>, to: Block) -> bool {
        left.is_none_or(|which| self.loops.contains(which, to))
    }

    /// Whether a condition is likely to be true, and how likely what is likely is.
    fn condition(&self, condition: Node) -> Option<(bool, u32)> {
        let method = self.method;
        let ends = |node: Node| {
            method
                .operands(node)
                .get(1)
                .and_then(|right| Some((method.const_bits(*right)?, method.ty(*right))))
        };
        match method.opcode(condition) {
            Opcode::Eq | Opcode::FEq => Some((false, evidence::DIFFERENT)),
            Opcode::Ne | Opcode::FNe => Some((true, evidence::DIFFERENT)),
            Opcode::SLt | Opcode::SLe if ends(condition)?.0 == 0 => Some((false, evidence::NOT_NEGATIVE)),
            Opcode::SGt | Opcode::SGe => {
                let (bits, ty) = ends(condition)?;
                let minus_one = u64::MAX >> (u64::BITS - 8 * ty.bytes());
                (bits == 0 || bits == minus_one).then_some((true, evidence::NOT_NEGATIVE))
            }
            _ => None,
        }
    }
}

impl Analysis for Frequencies {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Frequencies {
        let (cfg, loops) = (cx.cfg(method), cx.loops(method));
        cx.spend(3 * method.block_count() as u64);
        Frequencies::compute(cx.module(), method, &cfg, &loops)
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::{Bump, Dominators, text};

    use super::*;

    /// The frequencies of a method's blocks, in [`WHOLE`]s.
    fn frequencies(source: &str) -> Vec<u32> {
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).expect("valid");
        let method = &parsed.bodies[0].method;
        let cfg = Cfg::compute(&parsed.module, method);
        let loops = Loops::compute(&cfg, &Dominators::compute(&cfg));
        let found = Frequencies::compute(&parsed.module, method, &cfg, &loops);
        method.blocks().map(|block| found.of(block).0).collect()
    }

    #[test]
    fn a_loop_goes_round_eight_times_and_what_raises_never_runs() {
        let found = frequencies(
            "method @f ($x: i32, $y: i32) -> () {\nb0:\n  goto b1\nb1:\n  %0 = entry.i32 $x\n  br %0, b2, b4\n\
             b2 extends b1:\n  %1 = entry.i32 $y\n  br %1, b3, b5\nb3 extends b2:\n  goto b1\nb4:\n  return\n\
             b5 extends b2:\n  raise unreachable\n}\n",
        );
        assert_eq!(found[0], 1024);
        assert_eq!(found[5], 0);
        // Returning at once speaks against leaving, too.
        assert!((8 * 1024..16 * 1024).contains(&found[1]), "{found:?}");
        assert_eq!(found[2], found[3]);
        assert!((1000..=1024).contains(&found[4]), "{found:?}");
    }

    #[test]
    fn what_is_known_is_carried_on() {
        let found = frequencies(
            "method @f ($x: i32) -> () {\nb0 freq 100:\n  %0 = entry.i32 $x\n  br %0, b1, b2\n\
             b1 extends b0 freq 90:\n  goto b3\nb2 extends b0:\n  goto b3\nb3:\n  return\n}\n",
        );
        assert_eq!(found[1], 90 * 1024);
        assert!((9 * 1024..=10 * 1024).contains(&found[2]), "{found:?}");
        assert!((99 * 1024..=100 * 1024).contains(&found[3]), "{found:?}");
    }

    #[test]
    fn inner_loops_run_more_often_and_nothing_overflows() {
        let found = nest(5);
        assert!(found[..6].is_sorted() && found[2] >= 6 * found[1], "{found:?}");
        let found = nest(40);
        assert!(found[..41].is_sorted(), "{found:?}");
        assert_eq!(found[40], u32::MAX);
    }

    /// The frequencies of so many loops around each other: the first blocks are their headers, from outside.
    fn nest(depth: usize) -> Vec<u32> {
        let mut source = "method @f ($x: i32) -> () {\nb0:\n  goto b1\n".to_string();
        for block in 1..depth {
            source += &format!("b{block}:\n  goto b{}\n", block + 1);
        }
        for block in depth..2 * depth {
            let (header, next) = (2 * depth - block, block + 1);
            source += &format!("b{block}:\n  %{block} = entry.i32 $x\n  br %{block}, b{header}, b{next}\n");
        }
        source += &format!("b{}:\n  return\n}}\n", 2 * depth);
        frequencies(&source)
    }
}
