//! What is held where at one point: locals and fields that lead to objects of which it is known where they were made.

use std::collections::BTreeMap;

use dagwood_il::Local;

use super::Allocation;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Some value.
    Value,
    /// An object that was made here.
    Object(Allocation),
}

impl Held {
    pub(super) fn of(object: Option<Allocation>) -> Held {
        object.map_or(Held::Value, Held::Object)
    }

    /// The object, if it is one that was made here.
    pub fn object(self) -> Option<Allocation> {
        match self {
            Held::Object(object) => Some(object),
            Held::Value => None,
        }
    }
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// By field.
    pub fields: Vec<Held>,
    /// How often its monitor has been entered.
    locks: u8,
}

/// What is held at one point. What is not in it leads to some value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    locals: BTreeMap<Local, Allocation>,
    objects: BTreeMap<Allocation, Contents>,
}

impl State {
    /// How much there is to copy and compare.
    pub(super) fn size(&self) -> u64 {
        1 + (self.locals.len() + self.objects.len()) as u64
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = (Allocation, &Contents)> {
        self.objects.iter().map(|(object, contents)| (*object, contents))
    }

    pub(super) fn mentions(&self, object: Allocation) -> bool {
        self.objects.contains_key(&object) || self.locals.values().any(|own| *own == object)
    }

    pub(super) fn local(&self, local: Local) -> Option<Allocation> {
        self.locals.get(&local).copied()
    }

    pub(super) fn set(&mut self, local: Local, object: Option<Allocation>) {
        match object {
            Some(object) => self.locals.insert(local, object),
            None => self.locals.remove(&local),
        };
    }

    /// An object is made; its fields are zero.
    pub(super) fn allocate(&mut self, object: Allocation, fields: usize) {
        self.objects.insert(object, Contents { fields: vec![Held::Value; fields], locks: 0 });
    }

    pub(super) fn field(&self, object: Allocation, field: usize) -> Held {
        let contents = self.objects.get(&object);
        contents.and_then(|contents| contents.fields.get(field)).copied().unwrap_or(Held::Value)
    }

    pub(super) fn store(&mut self, object: Allocation, field: usize, held: Held) {
        if let Some(own) = self.objects.get_mut(&object).and_then(|contents| contents.fields.get_mut(field)) {
            *own = held;
        }
    }

    /// The monitor is entered once more. False if that is more often than can be counted.
    pub(super) fn enter(&mut self, object: Allocation) -> bool {
        self.count(object, |locks| locks.checked_add(1))
    }

    /// The monitor is left. False if it is not held.
    pub(super) fn exit(&mut self, object: Allocation) -> bool {
        self.count(object, |locks| locks.checked_sub(1))
    }

    fn count(&mut self, object: Allocation, change: impl Fn(u8) -> Option<u8>) -> bool {
        let Some(contents) = self.objects.get_mut(&object) else { return false };
        let Some(locks) = change(contents.locks) else { return false };
        contents.locks = locks;
        true
    }

    /// What is left of it where only some locals are read, and what these lead to, as far as it is known.
    pub(super) fn pruned(
        &self,
        is_read: impl Fn(Local) -> bool,
        is_known: impl Fn(Allocation) -> bool,
    ) -> State {
        let kept = |(local, object): &(&Local, &Allocation)| is_known(**object) && is_read(**local);
        let locals: BTreeMap<Local, Allocation> =
            self.locals.iter().filter(kept).map(|(local, object)| (*local, *object)).collect();
        let mut objects = BTreeMap::new();
        let mut pending: Vec<Allocation> = locals.values().copied().collect();
        while let Some(object) = pending.pop() {
            if objects.contains_key(&object) || !is_known(object) {
                continue;
            }
            let Some(contents) = self.objects.get(&object) else { continue };
            pending.extend(contents.fields.iter().filter_map(|held| held.object()));
            objects.insert(object, contents.clone());
        }
        State { locals, objects }
    }

    /// Another state may be in force as well. Whether that leaves less, and which objects are held differently, and how.
    pub(super) fn meet(&mut self, other: &State) -> (bool, Vec<(Allocation, &'static str)>) {
        const MERGED: &str = "it and something else are held by one local where paths meet";
        const HELD: &str = "it and something else are held by one field where paths meet";
        const LOCKED: &str = "its monitor is held on some paths only where they meet";
        let mut apart = Vec::new();
        let before = self.locals.len() + self.objects.len();
        for (local, object) in &other.locals {
            if self.locals.get(local) != Some(object) {
                apart.push((*object, MERGED));
            }
        }
        self.locals.retain(|local, object| {
            let is_same = other.locals.get(local) == Some(object);
            if !is_same {
                apart.push((*object, MERGED));
            }
            is_same
        });
        self.objects.retain(|object, _| other.objects.contains_key(object));
        let mut has_changed = before != self.locals.len() + self.objects.len();
        for (object, own) in &mut self.objects {
            let Some(contents) = other.objects.get(object) else { continue };
            if own.locks != contents.locks {
                apart.push((*object, LOCKED));
            }
            for (own, held) in own.fields.iter_mut().zip(&contents.fields) {
                if own != held {
                    apart.extend(own.object().into_iter().chain(held.object()).map(|object| (object, HELD)));
                    has_changed |= *own != Held::Value;
                    *own = Held::Value;
                }
            }
        }
        (has_changed, apart)
    }
}
