//! The walk along an extended block: each block once, knowing what the path to it says.

use dagwood_il::{Block, Local, Method, Node};

use super::fact::Fact;
use super::known::{Known, Mark};
use super::relations::{Bound, Reading};

/// A bound between what two locals hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalBound {
    /// What is below, and whether it is read as a signed number.
    pub less: (Local, bool),
    /// By how much.
    pub gap: i128,
    /// What is above, and whether it is read as a signed number.
    pub more: (Local, bool),
}

impl LocalBound {
    /// The same of the values that the locals hold here.
    pub(super) fn here(&self, known: &Known<'_, '_>) -> Bound {
        let reading = |(local, is_signed): (Local, bool)| Reading::new(known.value_of(local), is_signed);
        Bound { less: reading(self.less), gap: self.gap, more: reading(self.more) }
    }
}

/// What is known of locals at a head. Of those that are not named, nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Facts, by ascending local.
    pub facts: Vec<(Local, Fact)>,
    /// Bounds.
    pub bounds: Vec<LocalBound>,
}

impl State {
    /// What is known of a local.
    pub(super) fn fact(&self, method: &Method<'_>, local: Local) -> Fact {
        let found = self.facts.binary_search_by_key(&local, |(local, _)| *local);
        found.map_or(Fact::any(method.local(local).ty), |index| self.facts[index].1)
    }

    /// What holds if one of the two does.
    pub(super) fn either(mut self, other: Option<&State>) -> State {
        let Some(other) = other else { return self };
        for (local, fact) in &mut self.facts {
            let found = other.facts.binary_search_by_key(local, |(local, _)| *local);
            *fact = found.map_or(Fact::any(fact.ty()), |index| fact.join(&other.facts[index].1));
        }
        self.facts.retain(|(_, fact)| !fact.is_any());
        self
    }

    /// Adds what is known of a local.
    pub(super) fn meet(&mut self, local: Local, fact: Fact) {
        match self.facts.binary_search_by_key(&local, |(local, _)| *local) {
            Ok(index) => self.facts[index].1 = self.facts[index].1.and(fact),
            Err(index) => self.facts.insert(index, (local, fact)),
        }
    }
}

/// Who looks on. Nothing is shown of places that control cannot reach.
pub trait Visitor {
    /// A block begins.
    fn block(&mut self, _known: &mut Known<'_, '_>, _block: Block) {}
    /// A root is about to happen.
    fn root(&mut self, _known: &mut Known<'_, '_>, _block: Block, _position: u32, _root: Node) {}
    /// Control leaves a block for a head, or for a block that continues it.
    fn edge(&mut self, _known: &mut Known<'_, '_>, _from: Block, _to: Block) {}
}

struct Step {
    block: Block,
    /// Where to go back to when the block is left.
    mark: Mark,
    /// What the branch at its end tests, if that is known there.
    decided: Option<bool>,
    next: usize,
}

/// Walks along the extended block of `head`.
pub(super) fn walk(known: &mut Known<'_, '_>, head: Block, state: &State, visitor: &mut impl Visitor) {
    let mark = known.enter(head, &state.facts);
    for bound in &state.bounds {
        known.learn(bound.here(known));
    }
    let mut steps: Vec<Step> = Vec::new();
    steps.push(step(known, head, mark, visitor));
    while let Some(last) = steps.last_mut() {
        let (block, index) = (last.block, last.next);
        last.next += 1;
        let method = known.method();
        let successors = method.successors(block);
        let Some(to) = successors.get(index).copied().filter(|_| known.is_possible()) else {
            known.back_to(last.mark);
            steps.pop();
            continue;
        };
        if successors[..index].contains(&to) {
            continue;
        }
        let mark = known.mark();
        if let Some(terminator) = method.terminator(block) {
            known.take(terminator, index, last.decided);
        }
        if known.is_possible() {
            visitor.edge(known, block, to);
            if method.block(to).extends == Some(block) {
                steps.push(step(known, to, mark, visitor));
                continue;
            }
        }
        known.back_to(mark);
    }
}

/// Goes through a block.
fn step(known: &mut Known<'_, '_>, block: Block, mark: Mark, visitor: &mut impl Visitor) -> Step {
    visit(known, block, visitor);
    let end = known.method().terminator(block).filter(|_| known.is_possible());
    Step { block, mark, decided: end.and_then(|end| known.decided(end)), next: 0 }
}

/// Shows the roots of a block, and lets them happen.
fn visit(known: &mut Known<'_, '_>, block: Block, visitor: &mut impl Visitor) {
    visitor.block(known, block);
    for (position, root) in (0..).zip(known.method().roots(block)) {
        if !known.is_possible() {
            return;
        }
        visitor.root(known, block, position, root.node);
        known.pass(root.node);
    }
}
