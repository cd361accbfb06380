//! What a root may do to the world, asked of one interface by everybody.
//!
//! The answer is put together from the opcode's row, the node's payload and what callees declare; no pass lists
//! opcodes. Memory is divided into alias classes: the [`Place`]s that accesses name.
//!
//! ```text
//!                      opaque                 overlaps every place that is not read-only
//!      ┌───────────┬──────┴───┬──────────┬───────┐
//!   static s   field f   element T   region r   slot x      these never overlap each other
//! ```
//!
//! # Guarantees
//!
//! * Conservative: what a root does not admit to here, it does not do.
//! * A slot's address may have been given away: an opaque access and a call that may touch any memory may touch it.
//! * A read-only place is written by stores that name it (construction) and by nothing else. Reads of it may be merged
//!   with an earlier read; no read may move to where construction may not have ended.
//!
//! # Cost
//!
//! Constant time, without allocation; a question about a set of symbols is logarithmic in the set.

use crate::method::{Method, Node, Payload, Place};
use crate::module::{CallEffects, MemorySet, Module, SymbolId, SymbolKind};
use crate::opcode::{Opcode, Properties};
use crate::raise::KindSet;

/// Memory that a root may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryUse<'a> {
    /// None at all.
    None,
    /// One place.
    Place(Place),
    /// Symbols, ascending.
    Symbols(&'a [SymbolId]),
    /// Any.
    All,
}

impl<'a> MemoryUse<'a> {
    /// Whether it is none at all.
    pub fn is_none(self) -> bool {
        matches!(self, MemoryUse::None | MemoryUse::Symbols([]))
    }

    /// Whether `place` may be touched.
    pub fn may_touch(self, module: &Module, place: Place) -> bool {
        match self {
            MemoryUse::None => false,
            MemoryUse::Place(own) => may_overlap(module, own, place),
            MemoryUse::Symbols(symbols) => {
                if let Place::Symbol(symbol) = place
                    && symbols.binary_search(&symbol).is_ok()
                {
                    return true;
                }
                symbols.iter().any(|own| may_overlap(module, Place::Symbol(*own), place))
            }
            MemoryUse::All => true,
        }
    }

    fn of(set: &'a MemorySet) -> MemoryUse<'a> {
        match set {
            MemorySet::None => MemoryUse::None,
            MemorySet::Symbols(symbols) => MemoryUse::Symbols(symbols),
            MemorySet::All => MemoryUse::All,
        }
    }
}

/// What a root may do. Nodes that are not roots do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects<'a> {
    /// The memory that it may read.
    pub reads: MemoryUse<'a>,
    /// The memory that it may write.
    pub writes: MemoryUse<'a>,
    /// What it may raise; see [`raises`].
    pub raises: KindSet,
    /// Whether a thread may stop here, and with it objects may move and assumptions may fail.
    pub yields: bool,
    /// Whether it orders memory with other threads.
    pub synchronises: bool,
    /// Whether it may leave compiled code when an assumption fails.
    pub leaves: bool,
}

impl Effects<'_> {
    /// Those of a node that floats.
    pub const PURE: Effects<'static> = Effects {
        reads: MemoryUse::None,
        writes: MemoryUse::None,
        raises: KindSet::NONE,
        yields: false,
        synchronises: false,
        leaves: false,
    };

    /// Whether what `place` holds may be another value afterwards. A read-only place changes only by a store to it.
    pub fn may_write(&self, module: &Module, place: Place) -> bool {
        let is_named = matches!(self.writes, MemoryUse::Place(own) if own == place);
        is_named || !is_readonly(module, place) && self.writes.may_touch(module, place)
    }

    /// Whether a read of `place` may find another value afterwards: one that is written here, or one that another thread
    /// wrote and that becomes visible here.
    pub fn may_change(&self, module: &Module, place: Place) -> bool {
        self.may_write(module, place) || self.synchronises && !is_readonly(module, place)
    }

    /// Whether a read of `place` that stands after it must not move before it. What is read-only may be under construction
    /// until here, if this runs code of the guest; but a region was there before the method was entered.
    pub fn keeps_reads_below(&self, module: &Module, place: Place) -> bool {
        let is_constructed_elsewhere = match place {
            Place::Symbol(symbol) => module.symbols[symbol].kind == SymbolKind::Region,
            Place::Slot(_) => false,
        };
        self.may_change(module, place)
            || is_readonly(module, place) && !is_constructed_elsewhere && self.is_observable()
    }

    /// Whether it may depend on what `place` holds.
    pub fn may_read(&self, module: &Module, place: Place) -> bool {
        self.reads.may_touch(module, place)
    }

    /// Whether executing it twice could be told from executing it once: it writes, synchronises, or runs code that may.
    pub fn is_observable(&self) -> bool {
        !self.writes.is_none() || self.synchronises
    }
}

/// What `node` may do.
pub fn effects<'a>(module: &'a Module, method: &Method<'_>, node: Node) -> Effects<'a> {
    if !method.is_root(node) {
        return Effects::PURE;
    }
    let row = method.opcode(node).row();
    let own = own_memory(method, node);
    let mut effects = Effects {
        reads: if row.has(Properties::READS) { own } else { MemoryUse::None },
        writes: if row.has(Properties::WRITES) { own } else { MemoryUse::None },
        raises: raises(module, method, node),
        yields: row.has(Properties::YIELDS),
        synchronises: row.has(Properties::SYNCHRONISES),
        leaves: row.has(Properties::LEAVES),
    };
    if row.has(Properties::CALLS) {
        let callee = callee_effects(module, method, node);
        effects.reads = MemoryUse::of(&callee.reads);
        effects.writes = MemoryUse::of(&callee.writes);
        effects.yields = callee.yields;
        // Declarations do not speak of monitors and fences; code that cannot yield and touches named memory only has none.
        effects.synchronises =
            callee.yields || callee.reads == MemorySet::All || callee.writes == MemorySet::All;
    }
    effects
}

/// What `node` may raise into its block's handlers, and else out of its method.
///
/// * A division raises only while its divisor is unproven.
/// * A call raises what its callee declares, and `stack_overflow` where the callee is a method: it has a frame.
/// * A tail call raises nothing here: this method's frame, and with it its handlers, is gone before the callee starts.
pub fn raises(module: &Module, method: &Method<'_>, node: Node) -> KindSet {
    let opcode = method.opcode(node);
    let row = opcode.row();
    if row.has(Properties::ROOT_UNLESS_PROVEN) {
        return if method.is_root(node) { row.raises } else { KindSet::NONE };
    }
    if row.has(Properties::CALLS) {
        if row.has(Properties::TERMINATES) {
            return KindSet::NONE;
        }
        let callee = callee_effects(module, method, node).raises;
        return match opcode {
            Opcode::CallNative => callee,
            _ => callee.union(KindSet::STACK_OVERFLOW),
        };
    }
    match method.payload(node) {
        Payload::Raise(kind, _) if row.raises.is_empty() => KindSet::one(kind),
        _ => row.raises,
    }
}

/// Whether two places may share a byte.
pub fn may_overlap(module: &Module, left: Place, right: Place) -> bool {
    if left == right {
        return true;
    }
    match (left, right) {
        (Place::Slot(_), Place::Slot(_)) => false,
        (Place::Symbol(symbol), slot @ Place::Slot(_)) | (slot @ Place::Slot(_), Place::Symbol(symbol)) => {
            is_opaque_over(module, symbol, slot)
        }
        (Place::Symbol(a), Place::Symbol(b)) => {
            let same_elements = match (&module.symbols[a].kind, &module.symbols[b].kind) {
                (SymbolKind::Element(a), SymbolKind::Element(b)) => a == b,
                _ => false,
            };
            same_elements || is_opaque_over(module, a, right) || is_opaque_over(module, b, left)
        }
    }
}

/// Whether `symbol` is opaque and `place` not safe from it.
fn is_opaque_over(module: &Module, symbol: SymbolId, place: Place) -> bool {
    module.symbols[symbol].kind == SymbolKind::Opaque && !is_readonly(module, place)
}

/// Whether nothing writes the place once construction has ended.
pub fn is_readonly(module: &Module, place: Place) -> bool {
    matches!(place, Place::Symbol(symbol) if module.symbols[symbol].is_readonly)
}

/// The memory that a root's payload names.
fn own_memory(method: &Method<'_>, node: Node) -> MemoryUse<'static> {
    match method.payload(node) {
        Payload::Access(access) => MemoryUse::Place(access.place),
        Payload::Symbol(symbol) => MemoryUse::Place(Place::Symbol(symbol)),
        Payload::Slot(slot) => MemoryUse::Place(Place::Slot(slot)),
        _ => MemoryUse::All,
    }
}

/// What the callee of a call declares; a callee that is not known may do anything.
fn callee_effects<'a>(module: &'a Module, method: &Method<'_>, node: Node) -> &'a CallEffects {
    match method.payload(node) {
        Payload::Method(id) => &module.methods[id].effects,
        Payload::Native(id) => &module.natives[id].effects,
        _ => &CallEffects::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;

    use super::*;
    use crate::method::Access;
    use crate::raise::RaiseKind;
    use crate::types::Type;

    #[test]
    fn alias_classes_overlap_as_their_kinds_say() {
        let mut module = Module::new();
        let counter = Place::Symbol(module.declare_symbol("counter", SymbolKind::Static(Type::I64)));
        let region = Place::Symbol(module.declare_symbol("memory", SymbolKind::Region));
        let ints = Place::Symbol(module.declare_symbol("ints", SymbolKind::Element(Type::I32)));
        let more_ints = Place::Symbol(module.declare_symbol("more_ints", SymbolKind::Element(Type::I32)));
        let longs = Place::Symbol(module.declare_symbol("longs", SymbolKind::Element(Type::I64)));
        let opaque = Place::Symbol(module.declare_symbol("opaque", SymbolKind::Opaque));
        let constant = module.declare_symbol("constant", SymbolKind::Static(Type::I64));
        module.symbols[constant].is_readonly = true;
        let constant = Place::Symbol(constant);
        let arena = Bump::new();
        let id = module.declare_method("m", &[], &[]);
        let mut method = Method::new(&arena, id);
        let slot = Place::Slot(method.add_slot("a", 8, 8));
        let other_slot = Place::Slot(method.add_slot("b", 8, 8));

        let all = [counter, region, ints, more_ints, longs, opaque, constant, slot, other_slot];
        let overlapping = [(ints, more_ints)];
        for left in all {
            for right in all {
                let expected = left == right
                    || overlapping.contains(&(left, right))
                    || overlapping.contains(&(right, left))
                    || [left, right].contains(&opaque) && ![left, right].contains(&constant);
                assert_eq!(may_overlap(&module, left, right), expected, "{left:?} and {right:?}");
            }
        }
    }

    #[test]
    fn a_call_does_what_its_callee_declares() {
        let mut module = Module::new();
        let counter = module.declare_symbol("counter", SymbolKind::Static(Type::I64));
        let other = module.declare_symbol("other", SymbolKind::Static(Type::I64));
        let constant = module.declare_symbol("constant", SymbolKind::Static(Type::I64));
        module.symbols[constant].is_readonly = true;
        let unknown = module.declare_method("unknown", &[], &[]);
        let known = module.declare_native("known", &[], &[]);
        module.natives[known].effects = CallEffects {
            reads: MemorySet::None,
            writes: MemorySet::Symbols(vec![counter]),
            raises: KindSet::GUEST,
            yields: false,
        };
        let arena = Bump::new();
        let mut method = Method::new(&arena, unknown);
        let call = method.add_node(Opcode::Call, Type::Void, &[], Payload::Method(unknown));
        let native = method.add_node(Opcode::CallNative, Type::Void, &[], Payload::Native(known));
        let tail = method.add_node(Opcode::TailCall, Type::Void, &[], Payload::Method(unknown));

        let call = effects(&module, &method, call);
        assert!(call.yields && call.synchronises && call.raises == KindSet::ALL);
        assert!(call.may_write(&module, Place::Symbol(counter)));
        assert!(
            !call.may_write(&module, Place::Symbol(constant)),
            "nothing unnamed writes what is read-only"
        );
        let native = effects(&module, &method, native);
        assert_eq!(native.raises, KindSet::GUEST);
        assert!(!native.yields && !native.synchronises && native.reads.is_none());
        assert!(native.may_write(&module, Place::Symbol(counter)));
        assert!(!native.may_write(&module, Place::Symbol(other)));
        assert_eq!(raises(&module, &method, tail), KindSet::NONE);
    }

    #[test]
    fn divisions_raise_until_they_are_proven_and_checks_what_their_payload_says() {
        let mut module = Module::new();
        let id = module.declare_method("m", &[], &[]);
        let memory = module.declare_symbol("memory", SymbolKind::Region);
        let arena = Bump::new();
        let mut method = Method::new(&arena, id);
        let two = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(2));
        let zero = method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(0));
        let proven = method.add_node(Opcode::SDiv, Type::I32, &[two, two], Payload::None);
        let unproven = method.add_node(Opcode::SDiv, Type::I32, &[two, zero], Payload::None);
        let check =
            method.add_node(Opcode::Check, Type::Void, &[two], Payload::Raise(RaiseKind::Signature, 0));
        assert_eq!(effects(&module, &method, proven), Effects::PURE);
        assert_eq!(raises(&module, &method, unproven), KindSet::DIVISION);
        assert_eq!(raises(&module, &method, check), KindSet::SIGNATURE);

        let context = method.add_node(Opcode::Context, Type::Addr, &[], Payload::None);
        let access = Access { place: Place::Symbol(memory), offset: 0, scale: 1 };
        let store = method.add_node(Opcode::Store, Type::Void, &[two, context], Payload::Access(access));
        let store = effects(&module, &method, store);
        assert!(store.is_observable() && store.reads.is_none());
        assert_eq!(store.writes, MemoryUse::Place(access.place));
    }
}
