//! Collecting: every object that is reached moves to the other half, and every reference follows.
//!
//! ```text
//!   roots ──► copy ──► │ copied, scanned │ copied, not yet scanned │ free │
//!                                        └─ its references ──► copy ─┘
//! ```
//!
//! An object that was copied leaves its new address in its header, with the lowest bit set, which no description's address has.
//!
//! *Guarantees.* Before the first object moves it is known that every frame on the stack tells its references. A reference to no
//! object is a panic: objects that were left are poison under [`Collect::AtEveryYield`], so a reference that was forgotten is found
//! by the next collection that meets it. A panic on the way leaves the heap marked as broken: some references lead to the one half
//! and some to the other, and nobody may follow either.

use std::sync::atomic::Ordering;

use dagwood_il::Type;
use dagwood_il::layout::{CLASS_OFFSET, ELEMENTS_OFFSET, OBJECT_ALIGN, ObjectKind};

use super::{CHUNK, Collect, FIRST_SOFT, Heap};
use crate::raise::Raise;
use crate::references;

/// What a header has whose object was copied, besides its new address.
const MOVED: u64 = 1;
/// What memory is filled with where objects were: no address, and no description's.
const POISON: u8 = 0xdb;

/// Where copies go.
struct To {
    /// The objects that are left.
    from: std::ops::Range<usize>,
    /// The first free byte.
    top: usize,
    end: usize,
}

impl Heap {
    /// Collects: what nothing leads to is gone, everything else moves.
    ///
    /// # Errors
    ///
    /// A fault if compiled code waits for this in a call that it was told does not yield, or was entered without a heap and has
    /// references, or if an earlier collection was cut off.
    ///
    /// # Panics
    ///
    /// If a reference leads to no object. Nothing can be done with the heap then.
    pub fn collect(&self) -> Result<(), Raise> {
        self.check_whole()?;
        let frames = references::of(self)?;
        let from = self.space.half(self.half.get()).start..self.cursor().0;
        let target = self.space.half(self.half.get() + 1);
        let mut to = To { from: from.clone(), top: target.start, end: target.end };
        self.is_broken.set(true);

        // SAFETY: no code that waits for us has gone on since.
        unsafe { frames.update(|reference| self.moved(&mut to, reference)) };
        self.held.update(|reference| self.moved(&mut to, reference));
        for (is_reference, storage) in self.classes.statics().iter().zip(&self.statics) {
            if *is_reference {
                let word = &storage.0[0];
                word.store(self.moved(&mut to, word.load(Ordering::Relaxed)), Ordering::Relaxed);
            }
        }
        self.scan(&mut to, target.start);

        self.half.set(self.half.get() + 1);
        self.starts.reset(target.start);
        if self.collect.get() == Collect::AtEveryYield {
            self.space.fill(from, POISON);
        }
        let live = to.top - target.start;
        self.set_cursor(to.top, to.top);
        self.soft_end.set((to.top + live.max(FIRST_SOFT).max(CHUNK)).min(target.end));
        self.live_bytes.set(live);
        self.collections.set(self.collections.get() + 1);
        self.is_broken.set(false);
        Ok(())
    }

    /// Follows the references of all copies, which makes more of them.
    fn scan(&self, to: &mut To, mut next: usize) {
        while next < to.top {
            let info = self.classes.info_at(self.space.word(next + CLASS_OFFSET as usize));
            let info = info.expect("what was copied has a description");
            let length = self.length_at(next);
            match info.kind {
                ObjectKind::Object(_) => {
                    for offset in &info.references {
                        self.follow(to, next + *offset as usize);
                    }
                }
                ObjectKind::ObjectArray(_) | ObjectKind::Array(Type::Ref) => {
                    let first = next + ELEMENTS_OFFSET as usize;
                    (0..length as usize).for_each(|index| self.follow(to, first + index * 8));
                }
                ObjectKind::Array(_) => {}
            }
            next += info.object_bytes(length) as usize;
        }
    }

    fn follow(&self, to: &mut To, place: usize) {
        let reference = self.space.word(place);
        if reference != 0 {
            self.space.set_word(place, self.moved(to, reference));
        }
    }

    /// Where the object is now that a reference leads to; copies it if nothing led to it before.
    fn moved(&self, to: &mut To, reference: u64) -> u64 {
        if reference == 0 {
            return 0;
        }
        let address = reference as usize;
        let is_inside = to.from.contains(&address) && address.is_multiple_of(OBJECT_ALIGN as usize);
        assert!(is_inside, "the reference {reference:#x} leads out of the heap, or to where an object was");
        let header = self.space.word(address + CLASS_OFFSET as usize);
        if header & MOVED != 0 {
            return header & !MOVED;
        }
        let info = self.classes.info_at(header);
        let info = info.unwrap_or_else(|| panic!("the reference {reference:#x} leads to no object"));
        let size = info.object_bytes(self.length_at(address)) as usize;
        assert!(size <= to.from.end - address && size <= to.end - to.top, "an object lies within its half");
        let copy = to.top;
        to.top += size;
        self.space.copy(copy, address, size);
        self.space.set_word(address + CLASS_OFFSET as usize, copy as u64 | MOVED);
        copy as u64
    }
}
