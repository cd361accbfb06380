//! What is known where the builder stands, besides the values of locals: views that were read already, and bounds
//! that were checked already.
//!
//! ```text
//!   log:  | facts of other heads | Address(mem0) | Length(mem0) | Checked(mem0, %7, +15) | …
//!          0                      └ from           └ lengths_from
//! ```
//!
//! # Why
//!
//! Compiled code reads the address and the length of a memory from the VM context, and every access would read both
//! again. The builder does not know that only calls change them, and that memories never shrink; the frontend does,
//! so it forwards here what the builder cannot.
//!
//! # Guarantees
//!
//! * A fact is used only where control must have passed what it is from: facts are logged along a path of one extended
//!   block, and [`Facts::back_to`] returns to a mark when another path from there is followed.
//! * A length is forgotten at each call and each growth. Addresses never change, and what was in bounds once stays in
//!   bounds, because nothing shrinks.
//!
//! # Cost
//!
//! A look-up walks at most [`WINDOW`] entries.

use dagwood_il::Node;

/// How far back a look-up walks.
const WINDOW: usize = 24;

/// What can be viewed in the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// A memory.
    Memory(u32),
    /// A table.
    Table(u32),
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    /// Where something is.
    Address(View, Node),
    /// How long something is.
    Length(View, Node),
    /// In a memory, the byte at `index + last` is in bounds; `checked` is `index` as the check yielded it.
    Checked { memory: u32, index: Node, last: u64, checked: Node },
}

/// A point in the log to return to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    len: usize,
    from: usize,
    lengths_from: usize,
}

/// The facts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    log: Vec<Fact>,
    from: usize,
    lengths_from: usize,
}

impl Facts {
    /// Forgets everything: a new extended block begins.
    pub(super) fn forget_all(&mut self) {
        self.from = self.log.len();
        self.lengths_from = self.log.len();
    }

    /// Forgets what a call may change.
    pub(super) fn forget_lengths(&mut self) {
        self.lengths_from = self.log.len();
    }

    /// Where the log stands.
    pub(super) fn mark(&self) -> Mark {
        Mark { len: self.log.len(), from: self.from, lengths_from: self.lengths_from }
    }

    /// Returns to a mark, to follow another path from there.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.log.truncate(mark.len);
        self.from = mark.from;
        self.lengths_from = mark.lengths_from;
    }

    fn recent(&self, from: usize) -> impl Iterator<Item = &Fact> {
        let from = from.max(self.log.len().saturating_sub(WINDOW));
        self.log[from..].iter().rev()
    }

    /// Where something is, if that was read.
    pub(super) fn address(&self, view: View) -> Option<Node> {
        self.recent(self.from).find_map(|fact| match fact {
            Fact::Address(of, node) if *of == view => Some(*node),
            _ => None,
        })
    }

    /// How long something is, if that was read since it last may have changed.
    pub(super) fn length(&self, view: View) -> Option<Node> {
        self.recent(self.lengths_from).find_map(|fact| match fact {
            Fact::Length(of, node) if *of == view => Some(*node),
            _ => None,
        })
    }

    /// What the check yielded that proves the byte at `index + last` to be in bounds.
    pub(super) fn checked(&self, memory: u32, index: Node, last: u64) -> Option<Node> {
        self.recent(self.from).find_map(|fact| match fact {
            Fact::Checked { memory: of, index: at, last: proven, checked }
                if *of == memory && (*at == index || *checked == index) && *proven >= last =>
            {
                Some(*checked)
            }
            _ => None,
        })
    }

    /// Notes where something is.
    pub(super) fn note_address(&mut self, view: View, node: Node) {
        self.log.push(Fact::Address(view, node));
    }

    /// Notes how long something is.
    pub(super) fn note_length(&mut self, view: View, node: Node) {
        self.log.push(Fact::Length(view, node));
    }

    /// Notes a check that was passed.
    pub(super) fn note_checked(&mut self, memory: u32, index: Node, last: u64, checked: Node) {
        self.log.push(Fact::Checked { memory, index, last, checked });
    }
}
