//! Frames, and the tables that all frames share.
//!
//! ```text
//!   suspended │ frame │ frame │      top frame in the machine
//!   locals    │ ...   │ ...   │ ...     their values at the head of the extended block
//!   journal   │ ...   │ ...   │ ...     sets since then
//!   cells     │ ...   │ ...   │ ...     values since then
//! ```
//!
//! A cell holds a value and the *epoch* in which it was computed. Entering a head begins a new epoch, so that all
//! values of the last extended block are forgotten without touching them. Epochs are never used twice, so tables
//! that are used again need no cleaning either.

use std::rc::Rc;

use crate::entity::Entity;
use crate::eval::Value;
use crate::method::{Block, Local, Node, Root, SourcePos};

use super::Limits;
use super::host::{Host, Raised};
use super::plan::Plan;
use super::stop::TraceEntry;

/// A call under way.
pub(super) struct Frame<'p, 'a> {
    pub(super) plan: Rc<Plan<'p, 'a>>,
    pub(super) block: Block,
    pub(super) roots: &'a [Root],
    /// The index of the root that is executed next.
    pub(super) next: usize,
    /// The epoch of the extended block.
    pub(super) epoch: u64,
    /// Where the frame's part of each table begins.
    pub(super) cells: usize,
    pub(super) locals: usize,
    pub(super) journal: usize,
    /// What the handler whose extended block this is has caught.
    pub(super) caught: Option<Raised>,
    pub(super) context: u64,
    /// Where its address-taken locals are.
    pub(super) slots: u64,
}

impl Frame<'_, '_> {
    /// The root that is being executed.
    pub(super) fn root(&self) -> Option<Root> {
        self.roots.get(self.next.checked_sub(1)?).copied()
    }

    /// The method, and the position of the root that is being executed.
    pub(super) fn trace(&self) -> TraceEntry {
        let position = self.root().map_or(SourcePos::NONE, |root| root.position);
        TraceEntry { method: self.plan.method.id(), position }
    }

    /// Where the cells of the frame above begin.
    pub(super) fn cells_end(&self) -> usize {
        self.cells + self.plan.width
    }
}

/// A value and when it was computed.
#[derive(Clone, Copy, Default)]
pub(super) struct Cell {
    pub(super) value: Value,
    pub(super) epoch: u64,
}

/// What all frames share, kept from call to call.
#[derive(Default)]
pub(super) struct Stacks<'p, 'a> {
    pub(super) suspended: Vec<Frame<'p, 'a>>,
    pub(super) cells: Vec<Cell>,
    pub(super) locals: Vec<Value>,
    pub(super) journal: Vec<(Local, Value)>,
    /// The nodes that are being evaluated, users below operands.
    pub(super) pending: Vec<Node>,
    /// The last epoch.
    pub(super) epoch: u64,
    /// The bytes of all frames' address-taken locals.
    slot_bytes: u64,
}

impl<'p, 'a> Stacks<'p, 'a> {
    /// Forgets all frames.
    pub(super) fn clear(&mut self) {
        self.suspended.clear();
        self.locals.clear();
        self.journal.clear();
        self.slot_bytes = 0;
    }

    /// A frame at the start of its method, its cells from `cells` on; none if it does not fit.
    pub(super) fn push<H: Host + ?Sized>(
        &mut self,
        host: &mut H,
        limits: &Limits,
        cells: usize,
        plan: Rc<Plan<'p, 'a>>,
        context: u64,
        args: &[Value],
    ) -> Option<Frame<'p, 'a>> {
        let (locals, journal) = (self.locals.len(), self.journal.len());
        let (cells_end, locals_end) = (cells + plan.width, locals + plan.method.locals().len());
        let bytes = cells_end * size_of::<Cell>()
            + locals_end * size_of::<Value>()
            + (self.suspended.len() + 1) * size_of::<Frame<'p, 'a>>();
        let slot_bytes = self.slot_bytes.saturating_add(plan.slot_bytes);
        if slot_bytes.saturating_add(bytes as u64) > limits.stack_bytes as u64 {
            return None;
        }
        let slots = match plan.slot_bytes {
            0 => 0,
            bytes => host.enter_slots(bytes)?,
        };
        self.slot_bytes = slot_bytes;
        if self.cells.len() < cells_end {
            self.cells.resize(cells_end, Cell::default());
        }
        self.locals.extend_from_slice(args);
        self.locals.resize(locals_end, Value::default());
        let epoch = self.begin_epoch();
        let block = Block::new(0);
        let roots = plan.method.roots(block);
        Some(Frame {
            plan,
            block,
            roots,
            next: 0,
            epoch,
            cells,
            locals,
            journal,
            caught: None,
            context,
            slots,
        })
    }

    /// Frees what the last frame has in the tables.
    pub(super) fn release<H: Host + ?Sized>(&mut self, host: &mut H, frame: &Frame<'p, 'a>) {
        self.locals.truncate(frame.locals);
        self.journal.truncate(frame.journal);
        if frame.plan.slot_bytes > 0 {
            self.slot_bytes -= frame.plan.slot_bytes;
            host.leave_slots(frame.slots, frame.plan.slot_bytes);
        }
    }

    /// An epoch that has never been.
    pub(super) fn begin_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// Turns the frame's sets into the values that its locals have at a head.
    pub(super) fn apply_sets(&mut self, frame: &Frame<'p, 'a>) {
        for (local, value) in self.journal.drain(frame.journal..) {
            self.locals[frame.locals + local.index()] = value;
        }
    }
}
