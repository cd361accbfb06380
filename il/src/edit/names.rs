//! Locals and slots of a copy.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use super::split::Map;
use crate::entity::{Entity, EntityVec};
use crate::method::{Local, LocalData, Method, SlotData};

/// Gives `new` the parameters and slots of `old`, and those of its locals that are read. A local or slot that has the
/// name of an earlier one gets a number behind it, so that whoever adds one need not look for a name.
pub(super) fn copy_locals<'a>(
    old: &Method<'a>,
    read: &EntityVec<Local, bool>,
    new: &mut Method<'a>,
) -> EntityVec<Local, Option<Local>> {
    let mut locals = EntityVec::filled(None, old.locals().len());
    let mut names = Names::default();
    for local in old.locals() {
        let data = *old.local(local);
        let is_param = local.index() < old.param_count();
        if is_param || read[local] {
            let name = names.unique(old, data.name);
            locals[local] = Some(new.push_local(LocalData { name, ..data }, is_param));
        }
    }
    let mut names = Names::default();
    for slot in old.slots() {
        let data = *old.slot(slot);
        let name = names.unique(old, data.name);
        new.push_slot(SlotData { name, ..data });
    }
    locals
}

/// The names that have been given.
#[derive(Default)]
struct Names<'a> {
    taken: HashSet<&'a str, BuildHasherDefault<FxHasher>>,
    /// By stem: the number that is tried next.
    next: Map<&'a str, u32>,
}

impl<'a> Names<'a> {
    /// The name, or another one if it is taken.
    fn unique(&mut self, method: &Method<'a>, name: &'a str) -> &'a str {
        if self.taken.insert(name) {
            return name;
        }
        let is_number = |tail: &str| !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
        let stem = match name.rsplit_once('_') {
            Some((stem, tail)) if !stem.is_empty() && is_number(tail) => stem,
            _ => name,
        };
        let number = self.next.entry(stem).or_insert(2);
        loop {
            let other = format!("{stem}_{number}");
            *number += 1;
            if !self.taken.contains(other.as_str()) {
                let other = method.arena().alloc_str(&other);
                self.taken.insert(other);
                return other;
            }
        }
    }
}
