//! Escape analysis: which objects that a method makes nobody else ever sees, and what holds them where.
//!
//! ```text
//!   b0: %a = new @Pair           $p ─► %a      [%a.left: a value, %a.right: a value]
//!       set $p, %a
//!       store @right [%a], %b    %b does not escape unless %a does: %a.right ─► %b
//!   b1: %p = entry $p            %p ─► %a                       passed, returned, thrown, stored elsewhere:
//!       call @f(%p)              %a escapes here, and with it %b             it escapes
//! ```
//!
//! Along all paths the analysis carries which locals lead to which allocation, and which fields of those hold another one. Where paths
//! meet these must agree, as far as anybody reads them: an object that is *perhaps* somewhere would have to be made. What such a
//! state says is only as good as that no object in it escapes; so all are taken not to until one is seen to.
//!
//! Where one local leads to objects of one shape on all paths, but to different ones, it leads to one that merges them from there on:
//!
//! ```text
//!   $p ─► %a ─┐                                            what an accumulator or an iterator in a loop is,
//!             ├─► b3: $p ─► a merged object, and           of which each turn makes the next
//!   $p ─► %b ─┘       so is whatever held %a and %b
//! ```
//!
//! # Why
//!
//! An object that nobody else sees need not be there. The IL has no single assignment, and fields are worse than locals; so states are
//! kept for heads of extended blocks, and only of what is live there: most objects die soon. J.-D. Choi and others, "Escape analysis
//! for Java" (1999); that objects may hold each other is from L. Stadler and others, "Partial escape analysis" (2014).
//!
//! # Guarantees
//!
//! * Conservative: what is not understood escapes, and the first reason is kept.
//! * Of an allocation that does not escape, one object at most is in use at any time: control gets there for the first time with
//!   something else wherever one made before might be, and so these meet.
//! * Handlers see the state of each root that may raise into them.
//!
//! # Cost
//!
//! A walk of the method, and another of each extended block for each change of the state at its head, of which there are no more than
//! allocations and their fields that are live there. At most [`MAX_ALLOCATIONS`] are looked at.

mod state;
mod uses;
mod walk;

use std::collections::BTreeMap;

use dagwood_il::dataflow::{Liveness, TooManyFacts};
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Cfg, Local, Method, Module, Node, Properties};

use super::Analysis;
use crate::cx::PassCx;
use state::State;
use walk::Walk;

pub use state::{Contents, Held};
pub use uses::{Field, Shape, Use, comparison};

/// How many allocations are looked at, the first ones.
pub const MAX_ALLOCATIONS: usize = 128;
/// How many objects merge others.
pub const MAX_MERGED: usize = 64;
/// How often the method is walked again because objects were found to meet.
pub const MAX_ROUNDS: usize = 8;
/// How many elements an array may have.
pub const MAX_ELEMENTS: u32 = 16;
/// How many fields an object may have.
pub const MAX_FIELDS: usize = 32;

/// An object that the method makes, or one of several of a shape that paths merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object(u32);

impl Entity for Object {
    fn new(index: usize) -> Object {
        Object(u32::try_from(index).expect("there are at most MAX_ALLOCATIONS and MAX_MERGED"))
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an object is seen by others, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape {
    /// The root at which, or the head to which paths lead on which it is held differently.
    pub at: Place,
    /// How.
    pub why: &'static str,
}

/// Where an object escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a root of a block.
    Root(Block, Node),
    /// Where paths meet.
    Head(Block),
    /// Perhaps nowhere: it was not followed to the end.
    Unknown,
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A root of a block makes it.
    Made(Block, Node),
    /// At this head, it is what the local leads to: another object on each path.
    Merged(Block, Local),
}

/// An object.
#[derive(Clone, Debug)]
pub struct ObjectData {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is.
    pub shape: Shape,
    /// Where it escapes first, if it does.
    pub escape: Option<Escape>,
}

/// What the analysis finds.
#[derive(Clone, Debug)]
pub struct Escapes {
    /// Those that are made first.
    objects: EntityVec<Object, ObjectData>,
    /// By node: the object that its value is.
    leads: EntityVec<Node, Option<Object>>,
    /// By head: what is held there.
    heads: EntityVec<Block, Option<State>>,
    /// By edge: which merged object is which other one before.
    arrivals: BTreeMap<(Block, Block), Vec<(Object, Object)>>,
    /// By head: what floats and takes references, but for frame states.
    users: EntityVec<Block, Vec<Node>>,
    /// Allocations that could not be looked at: their blocks and roots, and why.
    unknown: Vec<Unknown>,
}

impl Escapes {
    /// Which objects of `method` escape. `spend` is told of work; when it says no more, all do.
    pub fn compute(
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        liveness: &Liveness,
        spend: &mut dyn FnMut(u64) -> bool,
    ) -> Escapes {
        let (objects, unknown) = find_allocations(module, method, cfg);
        let mut escapes = Escapes {
            objects,
            leads: EntityVec::new(),
            heads: EntityVec::filled(None, method.block_count()),
            arrivals: BTreeMap::new(),
            users: EntityVec::filled(Vec::new(), method.block_count()),
            unknown,
        };
        if escapes.objects.is_empty() {
            return escapes;
        }
        let is_done = Walk::new(module, method, cfg, liveness, &mut escapes).run(spend);
        if !is_done {
            let (at, why) = (Place::Unknown, "there was no time to follow it");
            for object in escapes.objects.keys() {
                escapes.objects[object].escape.get_or_insert(Escape { at, why });
            }
        }
        escapes
    }

    /// The objects.
    pub fn objects(&self) -> impl Iterator<Item = (Object, &ObjectData)> {
        self.objects.iter()
    }

    /// What there is to know of an object.
    pub fn data(&self, object: Object) -> &ObjectData {
        &self.objects[object]
    }

    /// Allocations that could not be looked at: block, root, and why.
    pub fn unknown(&self) -> &[Unknown] {
        &self.unknown
    }

    /// The object that a value is, if it does not escape. Nodes that are newer than this are none.
    pub fn object(&self, node: Node) -> Option<Object> {
        self.leads.get(node).copied().flatten().filter(|object| self.is_kept(*object))
    }

    fn is_kept(&self, object: Object) -> bool {
        self.objects[object].escape.is_none()
    }

    /// The object that a root makes, if it could be looked at.
    pub fn made_by(&self, method: &Method<'_>, root: Node) -> Option<Object> {
        if !method.opcode(root).has(Properties::ALLOCATES) {
            return None;
        }
        let is_made = |data: &ObjectData| matches!(data.origin, Origin::Made(_, node) if node == root);
        self.objects.iter().find(|(_, data)| is_made(data)).map(|(object, _)| object)
    }

    /// What floats in the extended block with this head and takes references, but for frame states: comparisons, selects, and others.
    pub fn users(&self, head: Block) -> &[Node] {
        &self.users[head]
    }

    /// What a root does with objects that do not escape.
    pub fn uses(&self, module: &Module, method: &Method<'_>, node: Node) -> Vec<Use> {
        uses::of(module, method, node, &|node| self.object(node), &|object| &self.objects[object].shape)
    }

    /// What objects that do not escape hold at a head, of those that are in use there.
    pub fn at_head(&self, head: Block) -> impl Iterator<Item = (Object, &Contents)> {
        let objects = self.heads[head].iter().flat_map(State::objects);
        objects.filter(|(object, _)| self.is_kept(*object))
    }

    /// Which objects are merged on the edge from the end of a block to a head: what each is from there on, and before.
    pub fn arriving(&self, from: Block, head: Block) -> impl Iterator<Item = (Object, Object)> {
        let merged = self.arrivals.get(&(from, head)).into_iter().flatten().copied();
        merged.filter(|(merged, _)| self.is_kept(*merged))
    }

    /// Which objects are merged, on any edge.
    pub fn merged(&self) -> impl Iterator<Item = (Object, Object)> {
        self.arrivals.values().flatten().copied().filter(|(merged, _)| self.is_kept(*merged))
    }
}

/// An allocation that is not looked at: its block and root, and why.
type Unknown = (Block, Node, &'static str);

/// The roots that allocate what can be looked at, and those that allocate something else.
fn find_allocations(
    module: &Module,
    method: &Method<'_>,
    cfg: &Cfg,
) -> (EntityVec<Object, ObjectData>, Vec<Unknown>) {
    let (mut objects, mut unknown) = (EntityVec::new(), Vec::new());
    for block in cfg.order() {
        for root in method.roots(*block) {
            if !method.opcode(root.node).has(Properties::ALLOCATES) {
                continue;
            }
            let shape = match uses::shape_of(module, method, root.node) {
                _ if objects.len() == MAX_ALLOCATIONS => Err("the method makes too many objects"),
                shape => shape,
            };
            match shape {
                Ok(shape) => {
                    let origin = Origin::Made(*block, root.node);
                    objects.push(ObjectData { origin, shape, escape: None });
                }
                Err(why) => unknown.push((*block, root.node, why)),
            }
        }
    }
    (objects, unknown)
}

/// The escapes, unless the method is too intricate for them.
impl Analysis for Option<Escapes> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<Escapes> {
        let cfg = cx.cfg(method);
        let liveness = cx.get::<Result<Liveness, TooManyFacts>>(method);
        let liveness = liveness.as_ref().as_ref().ok()?;
        cx.spend(method.node_count() as u64);
        let module = cx.module();
        Some(Escapes::compute(module, method, &cfg, liveness, &mut |work| cx.spend(work)))
    }
}
