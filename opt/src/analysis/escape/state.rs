//! What is held where at one point: locals and fields that lead to objects of which it is known where they were made.

use std::collections::BTreeMap;

use dagwood_il::Local;

use super::Object;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Some value.
    Value,
    /// An object that was made here.
    Object(Object),
}

impl Held {
    pub(super) fn of(object: Option<Object>) -> Held {
        object.map_or(Held::Value, Held::Object)
    }

    /// The object, if it is one that was made here.
    pub fn object(self) -> Option<Object> {
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
    locals: BTreeMap<Local, Object>,
    objects: BTreeMap<Object, Contents>,
}

impl State {
    /// How much there is to copy and compare.
    pub(super) fn size(&self) -> u64 {
        1 + (self.locals.len() + self.objects.len()) as u64
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = (Object, &Contents)> {
        self.objects.iter().map(|(object, contents)| (*object, contents))
    }

    pub(super) fn mentions(&self, object: Object) -> bool {
        self.objects.contains_key(&object) || self.locals.values().any(|own| *own == object)
    }

    pub(super) fn local(&self, local: Local) -> Option<Object> {
        self.locals.get(&local).copied()
    }

    pub(super) fn set(&mut self, local: Local, object: Option<Object>) {
        match object {
            Some(object) => self.locals.insert(local, object),
            None => self.locals.remove(&local),
        };
    }

    /// An object is made; its fields are zero.
    pub(super) fn allocate(&mut self, object: Object, fields: usize) {
        self.objects.insert(object, Contents { fields: vec![Held::Value; fields], locks: 0 });
    }

    pub(super) fn field(&self, object: Object, field: usize) -> Held {
        let contents = self.objects.get(&object);
        contents.and_then(|contents| contents.fields.get(field)).copied().unwrap_or(Held::Value)
    }

    pub(super) fn store(&mut self, object: Object, field: usize, held: Held) {
        if let Some(own) = self.objects.get_mut(&object).and_then(|contents| contents.fields.get_mut(field)) {
            *own = held;
        }
    }

    /// The monitor is entered once more. False if that is more often than can be counted.
    pub(super) fn enter(&mut self, object: Object) -> bool {
        self.count(object, |locks| locks.checked_add(1))
    }

    /// The monitor is left. False if it is not held.
    pub(super) fn exit(&mut self, object: Object) -> bool {
        self.count(object, |locks| locks.checked_sub(1))
    }

    fn count(&mut self, object: Object, change: impl Fn(u8) -> Option<u8>) -> bool {
        let Some(contents) = self.objects.get_mut(&object) else { return false };
        let Some(locks) = change(contents.locks) else { return false };
        contents.locks = locks;
        true
    }

    /// What is left of it where only some locals are read, and what these lead to, as far as it is known.
    pub(super) fn pruned(&self, is_read: impl Fn(Local) -> bool, is_known: impl Fn(Object) -> bool) -> State {
        let kept = |(local, object): &(&Local, &Object)| is_known(**object) && is_read(**local);
        let locals: BTreeMap<Local, Object> =
            self.locals.iter().filter(kept).map(|(local, object)| (*local, *object)).collect();
        let mut objects = BTreeMap::new();
        let mut pending: Vec<Object> = locals.values().copied().collect();
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

    /// Objects get other names, all at once.
    pub(super) fn rename(&mut self, names: &BTreeMap<Object, Object>) {
        let name = |object: Object| names.get(&object).copied().unwrap_or(object);
        for object in self.locals.values_mut() {
            *object = name(*object);
        }
        let objects = std::mem::take(&mut self.objects).into_iter();
        self.objects = objects.map(|(object, contents)| (name(object), contents)).collect();
        for held in self.objects.values_mut().flat_map(|contents| &mut contents.fields) {
            *held = Held::of(held.object().map(name));
        }
    }

    /// Another state may be in force as well. Whether that leaves less, and where the two are apart.
    pub(super) fn meet(&mut self, other: &State) -> (bool, Vec<Apart>) {
        let mut apart = Vec::new();
        let before = self.locals.len() + self.objects.len();
        for (local, object) in &other.locals {
            if !self.locals.contains_key(local) {
                apart.push(Apart::Local(*local, *object, None));
            }
        }
        self.locals.retain(|local, object| {
            let found = other.locals.get(local);
            if found != Some(object) {
                apart.push(Apart::Local(*local, *object, found.copied()));
            }
            found == Some(object)
        });
        self.objects.retain(|object, _| other.objects.contains_key(object));
        let mut has_changed = before != self.locals.len() + self.objects.len();
        for (object, own) in &mut self.objects {
            let Some(contents) = other.objects.get(object) else { continue };
            if own.locks != contents.locks {
                apart.push(Apart::Locks(*object));
            }
            for (own, held) in own.fields.iter_mut().zip(&contents.fields) {
                if own != held {
                    apart.extend(own.object().into_iter().chain(held.object()).map(Apart::Field));
                    has_changed |= *own != Held::Value;
                    *own = Held::Value;
                }
            }
        }
        (has_changed, apart)
    }
}

/// Where two states are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// A local leads to an object, and to another one or something else.
    Local(Local, Object, Option<Object>),
    /// A field holds an object, and something else.
    Field(Object),
    /// An object's monitor has been entered more often in one of them.
    Locks(Object),
}
