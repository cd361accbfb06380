//! Where blocks end that were cut.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use crate::method::Block;

/// For each block that was cut, the block that has its end now.
#[derive(Default)]
pub(super) struct Tails(HashMap<Block, Block, BuildHasherDefault<FxHasher>>);

impl Tails {
    /// The block that has the end of `block`.
    pub(super) fn end_of(&self, block: Block) -> Block {
        let mut block = block;
        while let Some(tail) = self.0.get(&block) {
            block = *tail;
        }
        block
    }

    /// `tail` has the end of `block`, unless a part behind that was cut off before.
    pub(super) fn add(&mut self, block: Block, tail: Block) {
        self.0.entry(block).or_insert(tail);
    }
}
