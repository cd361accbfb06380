//! Where objects start: what tells a reference from every other number.
//!
//! ```text
//!   objects   │ header … │ header … … … │ header … │ made since │ free
//!   bits      1 . . . .  1 . . . . . . .  1 . . .  ┴ known_to   ┴ top
//! ```
//!
//! # Why
//!
//! A header proves nothing: the fields of an object are whatever its program stores there, so the words behind an address in its
//! middle may look like a header. One bit for each place where an object may start does prove it. Code makes objects by moving
//! the top and tells nobody; but there are no gaps between them, so the bits are found by going from header to header, from where
//! somebody asked last. Handles in place of references would prove as much, but every reference that passes through a native
//! function would need one made and dropped, and the interpreter would need them too.
//!
//! # Guarantees
//!
//! What is said to be a start is one, as long as nothing but the fields of objects is written in the heap by compiled code.
//!
//! # Cost
//!
//! Nothing for code, and for collections one store. Who asks for an object passes each one before it that nobody passed since the
//! last collection: a few loads each, once. A bit for every 16 bytes passed.

use std::cell::{Cell, RefCell};

use dagwood_il::layout::OBJECT_ALIGN;

const ALIGN: usize = OBJECT_ALIGN as usize;
const BITS: usize = u64::BITS as usize;

/// The starts of the objects of one half, as far as they are known.
#[derive(Debug)]
pub(super) struct Starts {
    /// Where the first object starts.
    first: Cell<usize>,
    /// Where the first object starts that has no bit yet.
    known_to: Cell<usize>,
    bits: RefCell<Vec<u64>>,
}

impl Starts {
    /// Of objects from `first` on, none of which is known.
    pub(super) fn new(first: usize) -> Starts {
        Starts { first: Cell::new(first), known_to: Cell::new(first), bits: RefCell::default() }
    }

    /// Forgets all; objects are from `first` on now.
    pub(super) fn reset(&self, first: usize) {
        self.first.set(first);
        self.known_to.set(first);
        self.bits.borrow_mut().clear();
    }

    /// Whether an object starts at `address`. Objects end at `top`; `size_at` says how many bytes the object at an address has,
    /// if there is a header.
    pub(super) fn has(&self, address: usize, top: usize, size_at: impl Fn(usize) -> Option<usize>) -> bool {
        let first = self.first.get();
        if address < first || address >= top || !address.is_multiple_of(ALIGN) {
            return false;
        }
        let mut bits = self.bits.borrow_mut();
        let mut next = self.known_to.get();
        while next <= address {
            let Some(size) = size_at(next).filter(|size| (ALIGN..=top - next).contains(size)) else { break };
            let (word, bit) = place(next - first);
            if word >= bits.len() {
                bits.resize(word + 1, 0);
            }
            bits[word] |= 1 << bit;
            next += size;
        }
        self.known_to.set(next);
        let (word, bit) = place(address - first);
        bits.get(word).is_some_and(|bits| bits >> bit & 1 != 0)
    }
}

/// The word and the bit in it of what is so many bytes behind the first start.
fn place(offset: usize) -> (usize, usize) {
    (offset / ALIGN / BITS, offset / ALIGN % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects of 16, 32, 48, … bytes from 64 on.
    fn size_at(address: usize) -> Option<usize> {
        let (mut start, mut size) = (64, 16);
        while start < address {
            start += size;
            size += 16;
        }
        (start == address).then_some(size)
    }

    #[test]
    fn starts_are_found_in_any_order_and_nothing_else_is_one() {
        let top = 64 + (1..=40).map(|count| count * 16).sum::<usize>();
        let all: Vec<usize> =
            (0..top + 64).filter(|at| *at < top && size_at(*at).is_some() && *at >= 64).collect();
        assert_eq!(all.len(), 40);
        for step in [1, 7, 64] {
            let starts = Starts::new(64);
            for offset in 0..step {
                for address in (offset..top + 64).step_by(step) {
                    let is_start = all.binary_search(&address).is_ok();
                    assert_eq!(starts.has(address, top, size_at), is_start, "{address}, by {step}");
                }
            }
        }
    }

    #[test]
    fn what_is_behind_a_header_that_is_none_is_no_object() {
        let starts = Starts::new(64);
        let damaged = |address| size_at(address).filter(|_| address < 100);
        assert!(starts.has(80, 1 << 20, damaged) && !starts.has(112, 1 << 20, damaged));
        assert!(starts.has(112, 1 << 20, size_at), "it is looked at again");
        starts.reset(80);
        assert!(!starts.has(64, 1 << 20, size_at) && starts.has(80, 1 << 20, |_| Some(16)));
        assert!(!starts.has(96, 100, |_| Some(16)), "it does not end below the top");
    }
}
