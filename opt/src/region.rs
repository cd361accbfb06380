//! Where in a method a pass is to look: everywhere, or in some extended blocks.

use dagwood_il::edit::Applied;
use dagwood_il::{Block, Method};

/// Where a pass is to look. Local passes keep to it; what is global looks everywhere all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// Everywhere.
    All,
    /// In the extended blocks with these heads, which ascend.
    Heads(Vec<Block>),
}

impl Region {
    /// The extended blocks that hold these blocks.
    pub fn around(method: &Method<'_>, blocks: impl IntoIterator<Item = Block>) -> Region {
        let mut heads: Vec<Block> = blocks.into_iter().map(|block| method.head(block)).collect();
        heads.sort_unstable();
        heads.dedup();
        Region::Heads(heads)
    }

    /// Whether the extended block with this head is in it.
    pub fn has_head(&self, head: Block) -> bool {
        match self {
            Region::All => true,
            Region::Heads(heads) => heads.binary_search(&head).is_ok(),
        }
    }

    /// Whether a block's extended block is in it.
    pub fn has(&self, method: &Method<'_>, block: Block) -> bool {
        match self {
            Region::All => true,
            Region::Heads(_) => self.has_head(method.head(block)),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Region::Heads(heads) if heads.is_empty())
    }

    /// How many roots stand in it.
    pub fn roots(&self, method: &Method<'_>) -> u64 {
        let inside = method.blocks().filter(|block| self.has(method, *block));
        inside.map(|block| method.roots(block).len() as u64).sum()
    }

    /// Becomes where its blocks have gone in the method that edits were applied to.
    pub(crate) fn follow(&mut self, method: &Method<'_>, applied: &Applied) {
        if let Region::Heads(heads) = self {
            let gone_to = |head: &Block| applied.blocks.get(*head).copied().flatten();
            *self = Region::around(method, heads.iter().filter_map(gone_to));
        }
    }

    /// This and the other.
    pub(crate) fn join(&mut self, other: &Region) {
        match (&mut *self, other) {
            (Region::All, _) => {}
            (_, Region::All) => *self = Region::All,
            (Region::Heads(own), Region::Heads(other)) => {
                own.extend(other);
                own.sort_unstable();
                own.dedup();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::{Bump, text};

    use super::*;

    #[test]
    fn a_region_is_made_of_whole_extended_blocks() {
        let source = "method @f ($x: i32) -> () {\nb0:\n  %0 = entry.i32 $x\n  br %0, b1, b2\n\
                      b1 extends b0:\n  return\nb2:\n  return\n}\n";
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).expect("valid");
        let method = &parsed.bodies[0].method;
        let [b0, b1, b2] = [0, 1, 2].map(|index| method.blocks().nth(index).expect("three blocks"));
        let mut region = Region::around(method, [b1, b1]);
        assert_eq!(region, Region::Heads(vec![b0]));
        assert!(region.has(method, b1) && !region.has(method, b2));
        assert_eq!(region.roots(method), 2);
        region.join(&Region::around(method, [b2]));
        assert_eq!(region.roots(method), Region::All.roots(method));
        region.join(&Region::All);
        assert_eq!(region, Region::All);
    }
}
