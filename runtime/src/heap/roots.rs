//! References that the host holds: the collector finds and updates them.
//!
//! ```text
//!   Root     one reference, held as long as the host likes          a place in a table
//!   Roots    the references of one activation of an interpreter     a stretch of a stack
//! ```
//!
//! A reference that the host keeps in a variable of its own is stale after the next place where objects may move. What it keeps for
//! longer it puts here, and asks here again.

use std::cell::RefCell;

use super::Heap;

/// What a heap has been told to hold.
#[derive(Debug, Default)]
pub(super) struct Held {
    table: RefCell<Table>,
    stack: RefCell<Vec<u64>>,
}

#[derive(Debug, Default)]
struct Table {
    references: Vec<u64>,
    free: Vec<u32>,
}

impl Held {
    /// Replaces every reference by what `update` makes of it.
    pub(super) fn update(&self, mut update: impl FnMut(u64) -> u64) {
        let mut table = self.table.borrow_mut();
        let mut stack = self.stack.borrow_mut();
        for reference in table.references.iter_mut().chain(stack.iter_mut()) {
            *reference = update(*reference);
        }
    }

    /// Puts a reference on top of the stack.
    pub(super) fn push(&self, reference: u64) {
        self.stack.borrow_mut().push(reference);
    }

    /// How many references are on the stack.
    pub(super) fn depth(&self) -> usize {
        self.stack.borrow().len()
    }

    /// Takes the references from `depth` on off the stack, the lowest first.
    pub(super) fn pop_to(&self, depth: usize) -> Vec<u64> {
        self.stack.borrow_mut().split_off(depth)
    }
}

/// A reference that the collector sees, until it is dropped.
#[derive(Debug)]
pub struct Root<'h> {
    heap: &'h Heap,
    index: usize,
}

impl Root<'_> {
    /// The reference, as it is now.
    pub fn get(&self) -> u64 {
        self.heap.held.table.borrow().references[self.index]
    }

    /// Holds another one instead.
    ///
    /// # Panics
    ///
    /// If it is not null and leads to no object.
    pub fn set(&self, reference: u64) {
        self.heap.assert_object(reference);
        self.heap.held.table.borrow_mut().references[self.index] = reference;
    }
}

impl Drop for Root<'_> {
    fn drop(&mut self) {
        let mut table = self.heap.held.table.borrow_mut();
        table.references[self.index] = 0;
        table.free.push(self.index as u32);
    }
}

/// References of one activation, null at first. They are dropped in the reverse order of their making.
#[derive(Debug)]
pub struct Roots<'h> {
    heap: &'h Heap,
    first: usize,
    count: usize,
}

impl Roots<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The reference at an index, as it is now.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    pub fn get(&self, index: usize) -> u64 {
        assert!(index < self.count, "reference {index} of {}", self.count);
        self.heap.held.stack.borrow()[self.first + index]
    }

    /// Replaces the reference at an index.
    ///
    /// # Panics
    ///
    /// If there are not as many, or if the reference is not null and leads to no object.
    pub fn set(&self, index: usize, reference: u64) {
        assert!(index < self.count, "reference {index} of {}", self.count);
        self.heap.assert_object(reference);
        self.heap.held.stack.borrow_mut()[self.first + index] = reference;
    }
}

impl Drop for Roots<'_> {
    fn drop(&mut self) {
        let held = &self.heap.held;
        // A panic on its way may drop them out of order; what is left above is dropped with them.
        held.stack.borrow_mut().truncate(self.first);
    }
}

impl Heap {
    /// Holds a reference, or null, until what this returns is dropped.
    ///
    /// # Panics
    ///
    /// If it is not null and leads to no object.
    pub fn root(&self, reference: u64) -> Root<'_> {
        self.assert_object(reference);
        let mut table = self.held.table.borrow_mut();
        let index = match table.free.pop() {
            Some(index) => index as usize,
            None => {
                table.references.push(0);
                table.references.len() - 1
            }
        };
        table.references[index] = reference;
        Root { heap: self, index }
    }

    /// Holds as many references as an activation needs.
    pub fn roots(&self, count: usize) -> Roots<'_> {
        let first = self.held.depth();
        self.held.stack.borrow_mut().resize(first + count, 0);
        Roots { heap: self, first, count }
    }
}
