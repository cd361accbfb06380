//! The states of memory: for each load, what last may have changed what it reads.
//!
//! ```text
//!   store.field  a ─┐                                 state of `field`: this store
//!   call @f         │ declares that it writes `other`
//!   load.field   ◄──┘                                 … still this store
//!   b9 (a join)                                       state of `field`: the join, if a path to it changed it
//! ```
//!
//! # Why
//!
//! Reads are of one value if they are of one location in one state. States of memory are to its alias classes what definitions are to
//! locals, and are found the same way; a state where paths meet is one of its own, because what a join makes of several states has no
//! name in the method.
//!
//! # Guarantees
//!
//! * A state is of one alias class; two reads of a class in one state, at one address, give one value where one dominates the other.
//! * What other threads write becomes visible where the method synchronises, and nowhere else; what is read-only changes by stores
//!   that name it alone.
//! * There are at most [`MAX_CLASSES`] classes. What is read beyond them shares the last one, which every write changes.
//!
//! # Cost
//!
//! Linear in roots and frontiers, times the classes that a root changes.

use dagwood_il::cfg::Dominators;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{
    Block, Cfg, Effects, Method, Module, Node, Opcode, Payload, Place, Properties, SymbolKind, effects,
    effects::is_readonly,
};

use super::Analysis;
use super::frontiers::{Frontiers, Visit, dominator_walk};
use crate::cx::PassCx;

/// How many alias classes are told apart.
pub const MAX_CLASSES: usize = 64;

/// What last may have changed memory of one alias class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing since the method was entered.
    #[default]
    Entry,
    /// A root.
    Root(Node),
    /// One of several, which meet at the block.
    Join(Block),
}

/// The states in which the loads and stores of a method find their alias classes.
#[derive(Clone, Debug)]
pub struct Memory {
    places: Vec<Place>,
    before: EntityVec<Node, Option<(u8, State)>>,
}

/// A root that reads one place, or changes memory.
#[derive(Clone, Copy)]
struct Touch {
    node: Node,
    /// The class that it reads or stores to by name.
    own: Option<u8>,
    /// The classes that it changes, one bit each.
    changes: u64,
}

impl Memory {
    /// The states of `method`.
    pub fn compute(
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        dominators: &Dominators,
        frontiers: &Frontiers,
    ) -> Memory {
        let mut memory = Memory { places: Vec::new(), before: EntityVec::filled(None, method.node_count()) };
        memory.find_classes(module, method, cfg);
        if memory.places.is_empty() {
            return memory;
        }
        let (starts, touches) = memory.touches(module, method, cfg);
        let of = |block: Block| &touches[starts[block.index()] as usize..starts[block.index() + 1] as usize];
        let joins = joins(cfg, frontiers, |block| of(block).iter().fold(0, |all, touch| all | touch.changes));

        let mut current = [State::Entry; MAX_CLASSES];
        let mut undo: Vec<(u8, State)> = Vec::new();
        let mut marks = Vec::new();
        for visit in dominator_walk(cfg, dominators) {
            let block = match visit {
                Visit::Enter(block) => block,
                Visit::Leave(_) => {
                    let mark = marks.pop().unwrap_or_default();
                    while undo.len() > mark
                        && let Some((class, before)) = undo.pop()
                    {
                        current[usize::from(class)] = before;
                    }
                    continue;
                }
            };
            marks.push(undo.len());
            let mut change = |current: &mut [State; MAX_CLASSES], classes: u64, state: State| {
                for class in bits(classes) {
                    let before = std::mem::replace(&mut current[usize::from(class)], state);
                    undo.push((class, before));
                }
            };
            change(&mut current, joins[block], State::Join(block));
            for touch in of(block) {
                memory.before[touch.node] = touch.own.map(|class| (class, current[usize::from(class)]));
                change(&mut current, touch.changes, State::Root(touch.node));
            }
        }
        memory
    }

    /// The number of a load's or store's alias class, and the class's state before it. None for what does not access one place, for
    /// stores to what is not read, and where control does not get.
    pub fn before(&self, root: Node) -> Option<(u8, State)> {
        self.before[root]
    }

    fn find_classes(&mut self, module: &Module, method: &Method<'_>, cfg: &Cfg) {
        for block in cfg.order() {
            for root in method.roots(*block) {
                if let Some(place) = read_place(method, root.node)
                    && self.places.len() < MAX_CLASSES
                    && self.class(module, place).is_none()
                {
                    self.places.push(place);
                }
            }
        }
    }

    /// The class of a place, if something reads it.
    fn class(&self, module: &Module, place: Place) -> Option<u8> {
        let elements = |place: Place| match place {
            Place::Symbol(symbol) if !is_readonly(module, place) => match &module.symbols[symbol].kind {
                SymbolKind::Element(ty) => Some(*ty),
                _ => None,
            },
            _ => None,
        };
        let is_same =
            |own: &Place| *own == place || elements(*own).is_some_and(|ty| elements(place) == Some(ty));
        let last = MAX_CLASSES - 1;
        let found = self.places.iter().take(last).position(is_same);
        let found = found.or((self.places.len() > last).then_some(last));
        found.and_then(|class| u8::try_from(class).ok())
    }

    /// What roots do to the classes, by block.
    fn touches(&self, module: &Module, method: &Method<'_>, cfg: &Cfg) -> (Vec<u32>, Vec<Touch>) {
        let (mut starts, mut touches) = (vec![0], Vec::new());
        for block in method.blocks() {
            let roots = if cfg.is_reachable(block) { method.roots(block) } else { &[] };
            for root in roots {
                if !touches_memory(method.opcode(root.node)) {
                    continue;
                }
                let effects = effects(module, method, root.node);
                let changes = self.changes(module, &effects);
                let own = match method.payload(root.node) {
                    Payload::Access(access) => self.class(module, access.place),
                    _ => None,
                };
                touches.push(Touch { node: root.node, own, changes });
            }
            starts.push(u32::try_from(touches.len()).expect("a method has fewer than 2^32 roots"));
        }
        (starts, touches)
    }

    fn changes(&self, module: &Module, effects: &Effects<'_>) -> u64 {
        if !effects.is_observable() {
            return 0;
        }
        let last = MAX_CLASSES - 1;
        let named = self.places.iter().take(last).enumerate();
        let named = named.filter(|(_, place)| effects.may_change(module, **place));
        let rest = if self.places.len() > last { 1 << last } else { 0 };
        named.fold(rest, |all, (class, _)| all | 1 << class)
    }
}

/// The place that a root reads, if it does nothing but give what one place holds.
pub fn read_place(method: &Method<'_>, node: Node) -> Option<Place> {
    let row = method.opcode(node).row();
    match method.payload(node) {
        Payload::Access(access) if row.has(Properties::READS) && !row.has(Properties::WRITES) => {
            Some(access.place)
        }
        _ => None,
    }
}

fn touches_memory(opcode: Opcode) -> bool {
    [Properties::READS, Properties::WRITES, Properties::CALLS, Properties::SYNCHRONISES]
        .iter()
        .any(|property| opcode.has(*property))
}

/// By block, the classes of which several states meet at it.
fn joins(cfg: &Cfg, frontiers: &Frontiers, changes: impl Fn(Block) -> u64) -> EntityVec<Block, u64> {
    let mut joins: EntityVec<Block, u64> = EntityVec::filled(0, cfg.block_count());
    let mut pending: Vec<(Block, u64)> = cfg
        .order()
        .iter()
        .map(|block| (*block, changes(*block)))
        .filter(|(_, classes)| *classes != 0)
        .collect();
    while let Some((block, classes)) = pending.pop() {
        for join in frontiers.of(block) {
            let new = classes & !joins[*join];
            if new != 0 {
                joins[*join] |= new;
                pending.push((*join, new));
            }
        }
    }
    joins
}

fn bits(mut word: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        u8::try_from(bit).ok().filter(|bit| *bit < 64)
    })
}

/// The states, unless the method is too intricate for them.
impl Analysis for Option<Memory> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<Memory> {
        let (cfg, dominators) = (cx.cfg(method), cx.dominators(method));
        let frontiers = cx.get::<Option<Frontiers>>(method);
        cx.spend(method.node_count() as u64 / 2);
        let frontiers = frontiers.as_ref().as_ref()?;
        Some(Memory::compute(cx.module(), method, &cfg, &dominators, frontiers))
    }
}
