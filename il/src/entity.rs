//! Typed indexes, and the tables they index.
//!
//! An index is a `NonZeroU32`, so `Option<Node>` is as small as `Node`. A [`Table`] lives in the
//! compilation's arena and grows by segments: nothing moves when it grows, so the arena holds no
//! abandoned copies, and a whole method is freed at once.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use bumpalo::Bump;

/// An index into a [`Table`] or [`EntityVec`].
pub trait Entity: Copy + Eq + fmt::Debug {
    /// The entity with this index.
    ///
    /// # Panics
    ///
    /// If `index` is `u32::MAX`, which no table reaches: they refuse to grow to it.
    fn new(index: usize) -> Self;
    /// The entity's index, from zero.
    fn index(self) -> usize;
}

/// Declares index types: documentation, name, and the prefix with which they print.
macro_rules! entity {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::num::NonZeroU32);

        impl $crate::entity::Entity for $name {
            #[inline]
            fn new(index: usize) -> $name {
                let index = u32::try_from(index).expect("tables stay below 2^32 entries");
                $name(std::num::NonZeroU32::MIN.checked_add(index).expect("tables stay below 2^32 - 1 entries"))
            }

            #[inline]
            fn index(self) -> usize {
                (self.0.get() - 1) as usize
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), $crate::entity::Entity::index(*self))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        }
    )*};
}
pub(crate) use entity;

/// The indexes of a table, ascending. It does not borrow the table.
#[derive(Clone, Debug)]
pub struct Keys<K> {
    left: std::ops::Range<usize>,
    key: PhantomData<K>,
}

fn keys<K: Entity>(len: usize) -> Keys<K> {
    Keys { left: 0..len, key: PhantomData }
}

impl<K: Entity> Iterator for Keys<K> {
    type Item = K;

    #[inline]
    fn next(&mut self) -> Option<K> {
        self.left.next().map(K::new)
    }

    #[inline]
    fn nth(&mut self, count: usize) -> Option<K> {
        self.left.nth(count).map(K::new)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<K: Entity> DoubleEndedIterator for Keys<K> {
    #[inline]
    fn next_back(&mut self) -> Option<K> {
        self.left.next_back().map(K::new)
    }
}

impl<K: Entity> ExactSizeIterator for Keys<K> {}

/// Entries a segment holds.
const SEGMENT: usize = 32;
const SEGMENT_BITS: u32 = SEGMENT.trailing_zeros();

/// A growing array in an arena, indexed by one entity type. Entries never move.
pub struct Table<'a, K, V> {
    segments: bumpalo::collections::Vec<'a, &'a mut [V; SEGMENT]>,
    len: usize,
    key: PhantomData<K>,
}

impl<'a, K: Entity, V: Copy + Default> Table<'a, K, V> {
    /// An empty table in `arena`.
    pub fn new_in(arena: &'a Bump) -> Self {
        Table { segments: bumpalo::collections::Vec::new_in(arena), len: 0, key: PhantomData }
    }

    /// Appends `value` and returns its index.
    #[inline]
    pub fn push(&mut self, value: V) -> K {
        let index = self.len;
        if index == self.segments.len() << SEGMENT_BITS {
            let arena: &'a Bump = self.segments.bump();
            self.segments.push(arena.alloc([V::default(); SEGMENT]));
        }
        self.segments[index >> SEGMENT_BITS][index & (SEGMENT - 1)] = value;
        self.len += 1;
        K::new(index)
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All indexes, ascending.
    pub fn keys(&self) -> Keys<K> {
        keys(self.len)
    }

    /// The entry at `key`, if there is one.
    pub fn get(&self, key: K) -> Option<&V> {
        (key.index() < self.len).then(|| &self[key])
    }
}

impl<K: Entity, V> Index<K> for Table<'_, K, V> {
    type Output = V;

    #[inline]
    fn index(&self, key: K) -> &V {
        let index = key.index();
        debug_assert!(index < self.len, "an index belongs to the table it is used with");
        &self.segments[index >> SEGMENT_BITS][index & (SEGMENT - 1)]
    }
}

impl<K: Entity, V> IndexMut<K> for Table<'_, K, V> {
    #[inline]
    fn index_mut(&mut self, key: K) -> &mut V {
        let index = key.index();
        debug_assert!(index < self.len, "an index belongs to the table it is used with");
        &mut self.segments[index >> SEGMENT_BITS][index & (SEGMENT - 1)]
    }
}

/// A growing array on the heap, indexed by one entity type: for declarations, which outlive compilations,
/// and for side tables of analyses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityVec<K, V> {
    values: Vec<V>,
    key: PhantomData<K>,
}

impl<K, V> Default for EntityVec<K, V> {
    fn default() -> Self {
        EntityVec { values: Vec::new(), key: PhantomData }
    }
}

impl<K: Entity, V> EntityVec<K, V> {
    /// An empty array.
    pub fn new() -> Self {
        Self::default()
    }

    /// An array of `len` copies of `value`: a side table for a table of that length.
    pub fn filled(value: V, len: usize) -> Self
    where
        V: Clone,
    {
        EntityVec { values: vec![value; len], key: PhantomData }
    }

    /// Appends `value` and returns its index.
    pub fn push(&mut self, value: V) -> K {
        self.values.push(value);
        K::new(self.values.len() - 1)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Makes the array `len` long, filling with `value`.
    pub fn resize(&mut self, len: usize, value: V)
    where
        V: Clone,
    {
        self.values.resize(len, value);
    }

    /// The entry at `key`, if there is one.
    pub fn get(&self, key: K) -> Option<&V> {
        self.values.get(key.index())
    }

    /// All indexes, ascending.
    pub fn keys(&self) -> Keys<K> {
        keys(self.values.len())
    }

    /// All entries with their indexes, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> + ExactSizeIterator {
        self.values.iter().enumerate().map(|(index, value)| (K::new(index), value))
    }

    /// All entries, by ascending index.
    pub fn values(&self) -> std::slice::Iter<'_, V> {
        self.values.iter()
    }
}

impl<K: Entity, V> Index<K> for EntityVec<K, V> {
    type Output = V;

    fn index(&self, key: K) -> &V {
        &self.values[key.index()]
    }
}

impl<K: Entity, V> IndexMut<K> for EntityVec<K, V> {
    fn index_mut(&mut self, key: K) -> &mut V {
        &mut self.values[key.index()]
    }
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro declares what other crates name")]
mod tests {
    use super::*;

    entity! {
        /// A test index.
        Item, "item";
    }

    #[test]
    fn option_is_free_and_segments_keep_entries() {
        assert_eq!(size_of::<Option<Item>>(), 4);
        let arena = Bump::new();
        let mut table: Table<'_, Item, u32> = Table::new_in(&arena);
        let keys: Vec<Item> = (0..1000).map(|value| table.push(value)).collect();
        for (value, key) in keys.iter().enumerate() {
            assert_eq!(table[*key] as usize, value);
        }
        assert_eq!(table.keys().len(), 1000);
        assert!(table.get(Item::new(1000)).is_none());
    }
}
