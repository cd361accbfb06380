//! Locals and slots of a copy.

use std::collections::HashSet;

use crate::entity::{Entity, EntityVec};
use crate::method::{Local, Method};

/// Gives `new` the parameters and slots of `old`, and those of its locals that are read. A local or slot that has the
/// name of an earlier one gets a number behind it, so that whoever adds one need not look for a name.
pub(super) fn copy_locals(
    old: &Method<'_>,
    read: &EntityVec<Local, bool>,
    new: &mut Method<'_>,
) -> EntityVec<Local, Option<Local>> {
    let mut locals = EntityVec::filled(None, old.locals().len());
    let mut names = Names::default();
    for local in old.locals() {
        let data = old.local(local);
        if local.index() < old.param_count() {
            names.claim(data.name);
            locals[local] = Some(new.add_param(data.name, data.ty));
        } else if read[local] {
            let again = names.again(data.name);
            locals[local] = Some(new.add_local(again.as_deref().unwrap_or(data.name), data.ty));
        }
    }
    let mut names = Names::default();
    for slot in old.slots() {
        let data = old.slot(slot);
        let again = names.again(data.name);
        new.add_slot(again.as_deref().unwrap_or(data.name), data.size_bytes, data.align);
    }
    locals
}

/// The names that have been given.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// Whether the name is new.
    fn claim(&mut self, name: &str) -> bool {
        !self.taken.contains(name) && self.taken.insert(name.to_owned())
    }

    /// Another name, if this one is taken.
    fn again(&mut self, name: &str) -> Option<String> {
        if self.claim(name) {
            return None;
        }
        let is_number = |tail: &str| !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
        let stem = match name.rsplit_once('_') {
            Some((stem, tail)) if !stem.is_empty() && is_number(tail) => stem,
            _ => name,
        };
        let mut others = (2_u32..).map(|number| format!("{stem}_{number}"));
        others.find(|other| self.claim(other))
    }
}
