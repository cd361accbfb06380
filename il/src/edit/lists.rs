//! Putting edits into the lists of the method that is about to be copied.

use super::split::{Map, Set};
use super::{Edits, Point};
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Method, Node, Root, SourcePos};

/// What the copy is told besides the method.
#[derive(Default)]
pub(super) struct Source {
    /// How many of the method's first nodes do not fold as they are.
    folded: usize,
    /// Of these, those that have other operands now.
    refolded: Set<Node>,
    /// By node: what stands for it; empty if nothing is replaced.
    replaced: EntityVec<Node, Option<Node>>,
    /// By head that a split made: nodes of what is before it, and the `entry` that has the value there.
    given: Map<Block, Vec<(Node, Node)>>,
    /// Roots, each with the node that it stands for from where it happens on.
    stands_for: Map<Node, Node>,
}

impl Source {
    /// What a method's copy is to be told before anything is edited.
    pub(super) fn of(method: &Method<'_>) -> Source {
        Source { folded: method.folded(), ..Source::default() }
    }

    /// A node gets other operands.
    pub(super) fn refold(&mut self, node: Node) {
        self.refolded.insert(node);
    }

    /// Whether a node does not fold as long as it has the copies of its operands.
    pub(super) fn is_folded(&self, node: Node) -> bool {
        node.index() < self.folded && (self.refolded.is_empty() || !self.refolded.contains(&node))
    }

    /// What stands for a node after all replacements.
    pub(super) fn resolve(&self, node: Node) -> Node {
        let mut node = node;
        while let Some(Some(with)) = self.replaced.get(node) {
            node = *with;
        }
        node
    }

    /// Makes `with` stand for `node`.
    pub(super) fn replace(&mut self, method: &Method<'_>, node: Node, with: Node) {
        debug_assert_eq!(method.ty(node), method.ty(with), "{node} is replaced by a value of its type");
        if self.replaced.len() < method.node_count() {
            self.replaced.resize(method.node_count(), None);
        }
        let with = self.resolve(with);
        assert!(with != node, "{node} is not replaced by what it replaces");
        self.replaced[node] = Some(with);
    }

    /// What is before `head` and used after it: nodes, and the `entry` of each.
    pub(super) fn given(&self, head: Block) -> &[(Node, Node)] {
        if self.given.is_empty() {
            return &[];
        }
        self.given.get(&head).map_or(&[], Vec::as_slice)
    }

    /// From where `root` happens on, it stands for `node`, which is before its extended block.
    pub(super) fn stand_for(&mut self, root: Node, node: Node) {
        self.stands_for.insert(root, node);
    }

    /// The node for which a root stands from where it happens on.
    pub(super) fn stands_for(&self, root: Node) -> Option<Node> {
        if self.stands_for.is_empty() { None } else { self.stands_for.get(&root).copied() }
    }

    /// Says what is given at a head.
    pub(super) fn give(&mut self, head: Block, nodes: Vec<(Node, Node)>) {
        if !nodes.is_empty() {
            self.given.insert(head, nodes);
        }
    }
}

/// What becomes of a root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    Becomes(Node),
}

/// Removes, changes and inserts roots, and ends blocks anew. The splits' points are moved along with what they precede.
pub(super) fn edit(edits: &mut Edits, method: &mut Method<'_>, source: &mut Source) {
    let mut fates: EntityVec<Node, Fate> = EntityVec::new();
    if !edits.removed.is_empty() || !edits.changed.is_empty() {
        fates.resize(method.node_count(), Fate::Stays);
    }
    for node in &edits.removed {
        fates[*node] = Fate::Goes;
    }
    for (node, to) in &edits.changed {
        fates[*node] = Fate::Becomes(*to);
        if method.ty(*node) == method.ty(*to) {
            source.replace(method, *node, *to);
        }
    }
    edits.inserted.sort_by_key(|(point, _)| *point);
    edits.splits.sort_by_key(|(point, _)| *point);
    let mut ends: EntityVec<Block, Option<Node>> = EntityVec::new();
    if !edits.ended.is_empty() {
        ends.resize(method.block_count(), None);
    }
    for (block, end) in &edits.ended {
        ends[*block] = Some(*end);
    }
    let (mut inserted, mut splits) = (edits.inserted.as_slice(), edits.splits.as_mut_slice());
    let mut roots = Vec::new();
    for block in method.blocks() {
        let own_inserted;
        (own_inserted, inserted) = inserted.split_at(inserted.partition_point(|(at, _)| at.block <= block));
        let own_splits;
        let count = splits.partition_point(|(at, _)| at.block <= block);
        (own_splits, splits) = std::mem::take(&mut splits).split_at_mut(count);
        let old = method.roots(block);
        let end = ends.get(block).copied().flatten();
        let is_touched = end.is_some()
            || !own_inserted.is_empty()
            || !fates.is_empty() && old.iter().any(|root| fates[root.node] != Fate::Stays);
        if is_touched {
            roots.clear();
            relist(old, end, &fates, own_inserted, own_splits, &mut roots);
            method.set_roots(block, &roots);
        }
    }
}

/// The new list of a block.
fn relist(
    old: &[Root],
    end: Option<Node>,
    fates: &EntityVec<Node, Fate>,
    inserted: &[(Point, Root)],
    splits: &mut [(Point, Block)],
    roots: &mut Vec<Root>,
) {
    let mut inserted = inserted.iter().peekable();
    let mut splits = splits.iter_mut().peekable();
    for (position, root) in (0..).zip(old) {
        while let Some((at, _)) = splits.next_if(|(at, _)| at.position <= position) {
            at.position = u32::try_from(roots.len()).expect("a block has fewer than 2^32 roots");
        }
        while let Some((_, new)) = inserted.next_if(|(at, _)| at.position <= position) {
            let inherits = new.position == SourcePos::NONE;
            roots.push(Root { position: if inherits { root.position } else { new.position }, ..*new });
        }
        let is_last = position as usize + 1 == old.len();
        let fate = fates.get(root.node).copied().unwrap_or(Fate::Stays);
        match (fate, end) {
            (_, Some(end)) if is_last => roots.push(Root { node: end, ..*root }),
            (Fate::Stays, _) => roots.push(*root),
            (Fate::Goes, _) => {}
            (Fate::Becomes(node), _) => roots.push(Root { node, ..*root }),
        }
    }
    debug_assert!(inserted.peek().is_none(), "roots are inserted before the end of a block");
}
