//! What a call may do, found from the bodies: those of a method's own roots, and those of the methods that it calls.
//!
//! ```text
//!   effects(m)  =  the roots of m  ∪  effects(callee) for each call of a known method      least solution
//! ```
//!
//! A call whose receiver chooses among several methods is taken to do anything: the IL does not say what such a call may do.

use dagwood_il as il;
use il::entity::EntityVec;
use il::{CallEffects, KindSet, MemorySet, MemoryUse, Method, MethodId, Module, Opcode, Payload, Place};

/// The symbols that are listed; a method that touches more may touch any memory.
const MAX_SYMBOLS: usize = 64;

/// What a method does by itself.
pub(super) struct Own {
    effects: CallEffects,
    callees: Vec<MethodId>,
}

impl Own {
    /// What a body does besides calling methods.
    pub(super) fn of(module: &Module, method: &Method<'_>) -> Own {
        let none = CallEffects {
            reads: MemorySet::None,
            writes: MemorySet::None,
            raises: KindSet::NONE,
            yields: false,
        };
        let mut own = Own { effects: none, callees: Vec::new() };
        for root in method.blocks().flat_map(|block| method.roots(block)) {
            if let (Opcode::Call, Payload::Method(callee)) =
                (method.opcode(root.node), method.payload(root.node))
            {
                own.callees.push(callee);
                continue;
            }
            let effects = il::effects(module, method, root.node);
            add(&mut own.effects.reads, &memory(effects.reads));
            add(&mut own.effects.writes, &memory(effects.writes));
            own.effects.raises = own.effects.raises.union(effects.raises);
            own.effects.yields |= effects.yields;
        }
        own.callees.sort_unstable();
        own.callees.dedup();
        own
    }
}

/// The effects of all methods.
pub(super) fn solve(own: EntityVec<MethodId, Own>) -> EntityVec<MethodId, CallEffects> {
    let mut all: EntityVec<MethodId, CallEffects> = EntityVec::new();
    for own in own.values() {
        all.push(own.effects.clone());
    }
    let mut has_changed = true;
    while std::mem::take(&mut has_changed) {
        for (id, own) in own.iter() {
            let mut sum = all[id].clone();
            for callee in &own.callees {
                let callee = &all[*callee];
                add(&mut sum.reads, &callee.reads);
                add(&mut sum.writes, &callee.writes);
                sum.raises = sum.raises.union(callee.raises).union(KindSet::STACK_OVERFLOW);
                sum.yields |= callee.yields;
            }
            if sum != all[id] {
                all[id] = sum;
                has_changed = true;
            }
        }
    }
    all
}

fn memory(memory: MemoryUse<'_>) -> MemorySet {
    match memory {
        MemoryUse::None => MemorySet::None,
        MemoryUse::Place(Place::Symbol(symbol)) => MemorySet::Symbols(vec![symbol]),
        MemoryUse::Symbols(symbols) => MemorySet::Symbols(symbols.to_vec()),
        MemoryUse::Place(Place::Slot(_)) | MemoryUse::All => MemorySet::All,
    }
}

fn add(set: &mut MemorySet, more: &MemorySet) {
    let sum = match (&*set, more) {
        (MemorySet::All, _) | (_, MemorySet::All) => MemorySet::All,
        (_, MemorySet::None) => return,
        (MemorySet::None, more) => more.clone(),
        (MemorySet::Symbols(symbols), MemorySet::Symbols(more)) => {
            let mut sum: Vec<_> = symbols.iter().chain(more).copied().collect();
            sum.sort_unstable();
            sum.dedup();
            if sum.len() > MAX_SYMBOLS { MemorySet::All } else { MemorySet::Symbols(sum) }
        }
    };
    *set = sum;
}
