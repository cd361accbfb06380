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
//! state says is only as good as that no allocation in it escapes; so all are taken not to until one is seen to.
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

use dagwood_il::cfg::EdgeKind;
use dagwood_il::dataflow::{Liveness, TooManyFacts, heads_of_uses};
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::layout::ObjectKind;
use dagwood_il::{Block, Cfg, KindSet, Local, Method, Module, Node, Opcode, Payload, Properties, Type};

use super::Analysis;
use super::live_locals::set;
use crate::cx::PassCx;
use state::State;
pub use state::{Contents, Held};
pub use uses::{Field, Shape, Use, comparison};

/// How many allocations are looked at, the first ones.
pub const MAX_ALLOCATIONS: usize = 128;
/// How many elements an array may have.
pub const MAX_ELEMENTS: u32 = 16;
/// How many fields an object may have.
pub const MAX_FIELDS: usize = 32;

/// A root that makes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allocation(u32);

impl Entity for Allocation {
    fn new(index: usize) -> Allocation {
        Allocation(u32::try_from(index).expect("there are at most MAX_ALLOCATIONS"))
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
}

/// An allocation.
#[derive(Clone, Debug)]
pub struct Site {
    /// The root.
    pub node: Node,
    /// Its block.
    pub block: Block,
    /// What it makes.
    pub shape: Shape,
    /// Where what it makes escapes first, if it does.
    pub escape: Option<Escape>,
}

/// What the analysis finds.
#[derive(Clone, Debug)]
pub struct Escapes {
    sites: EntityVec<Allocation, Site>,
    /// By node: the allocation that its value comes from.
    leads: EntityVec<Node, Option<Allocation>>,
    /// By head: what is held there.
    heads: EntityVec<Block, Option<State>>,
    /// By head: what floats and takes references, but for frame states.
    users: EntityVec<Block, Vec<Node>>,
    /// Allocations that could not be looked at: their blocks and roots, and why.
    unknown: Vec<Unknown>,
}

impl Escapes {
    /// Which allocations of `method` escape. `spend` is told of work; when it says no more, all escape.
    pub fn compute(
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        liveness: &Liveness,
        spend: &mut dyn FnMut(u64) -> bool,
    ) -> Escapes {
        let (sites, unknown) = find_sites(module, method, cfg);
        let Nodes { entries, users } = Nodes::collect(method);
        let escapes = Escapes {
            sites,
            users,
            leads: EntityVec::filled(None, method.node_count()),
            heads: EntityVec::filled(None, method.block_count()),
            unknown,
        };
        if escapes.sites.is_empty() {
            return escapes;
        }
        let mut walk = Walk {
            module,
            method,
            cfg,
            liveness,
            entries,
            escapes,
            is_pending: EntityVec::filled(false, method.block_count()),
        };
        let is_done = walk.run(spend);
        let mut escapes = walk.escapes;
        if !is_done {
            let why = "there was no time to follow it";
            for allocation in escapes.sites.keys() {
                let site = &mut escapes.sites[allocation];
                site.escape.get_or_insert(Escape { at: Place::Root(site.block, site.node), why });
            }
        }
        escapes
    }

    /// The allocations.
    pub fn sites(&self) -> impl Iterator<Item = (Allocation, &Site)> {
        self.sites.iter()
    }

    /// An allocation.
    pub fn site(&self, allocation: Allocation) -> &Site {
        &self.sites[allocation]
    }

    /// Allocations that could not be looked at: block, root, and why.
    pub fn unknown(&self) -> &[(Block, Node, &'static str)] {
        &self.unknown
    }

    /// The allocation that a value comes from, if what that makes does not escape. Nodes that are newer than this come from none.
    pub fn object(&self, node: Node) -> Option<Allocation> {
        self.leads.get(node).copied().flatten().filter(|allocation| self.sites[*allocation].escape.is_none())
    }

    /// The allocation that a root is, if it could be looked at.
    pub fn made_by(&self, root: Node) -> Option<Allocation> {
        self.sites.iter().find(|(_, site)| site.node == root).map(|(allocation, _)| allocation)
    }

    /// The comparisons of references in the extended block with this head.
    pub fn comparisons(&self, head: Block) -> &[Node] {
        &self.users[head]
    }

    /// What a root does with objects that do not escape.
    pub fn uses(&self, module: &Module, method: &Method<'_>, node: Node) -> Vec<Use> {
        uses::of(module, method, node, &|node| self.object(node), &|object| &self.sites[object].shape)
    }

    /// What objects that do not escape hold at a head, of those that are in use there.
    pub fn at_head(&self, head: Block) -> impl Iterator<Item = (Allocation, &Contents)> {
        let objects = self.heads[head].iter().flat_map(State::objects);
        objects.filter(|(allocation, _)| self.sites[*allocation].escape.is_none())
    }
}

/// An allocation that is not looked at: its block and root, and why.
type Unknown = (Block, Node, &'static str);

/// The roots that allocate what can be looked at, and those that allocate something else.
fn find_sites(
    module: &Module,
    method: &Method<'_>,
    cfg: &Cfg,
) -> (EntityVec<Allocation, Site>, Vec<Unknown>) {
    let (mut sites, mut unknown) = (EntityVec::new(), Vec::new());
    for block in cfg.order() {
        for root in method.roots(*block) {
            if !method.opcode(root.node).has(Properties::ALLOCATES) {
                continue;
            }
            let shape = match uses::shape_of(module, method, root.node) {
                _ if sites.len() == MAX_ALLOCATIONS => Err("the method makes too many objects"),
                shape => shape,
            };
            match shape {
                Ok(shape) => {
                    sites.push(Site { node: root.node, block: *block, shape, escape: None });
                }
                Err(why) => unknown.push((*block, root.node, why)),
            }
        }
    }
    (sites, unknown)
}

/// By head: what else than roots is looked at in its extended block.
struct Nodes {
    /// `entry` nodes of references.
    entries: EntityVec<Block, Vec<(Node, Local)>>,
    /// Nodes that float and take references, but for frame states.
    users: EntityVec<Block, Vec<Node>>,
}

impl Nodes {
    fn collect(method: &Method<'_>) -> Nodes {
        let blocks = method.block_count();
        let mut nodes = Nodes {
            entries: EntityVec::filled(Vec::new(), blocks),
            users: EntityVec::filled(Vec::new(), blocks),
        };
        for (node, head) in heads_of_uses(method).iter() {
            let Some(head) = *head else { continue };
            let opcode = method.opcode(node);
            if let (Opcode::Entry, Payload::Local(local)) = (opcode, method.payload(node)) {
                if method.ty(node) == Type::Ref {
                    nodes.entries[head].push((node, local));
                }
            } else if !method.is_root(node)
                && !opcode.has(Properties::FRAME_ONLY)
                && method.operands(node).iter().any(|operand| method.ty(*operand) == Type::Ref)
            {
                nodes.users[head].push(node);
            }
        }
        nodes
    }
}

struct Walk<'w, 'a> {
    module: &'w Module,
    method: &'w Method<'a>,
    cfg: &'w Cfg,
    liveness: &'w Liveness,
    /// By head: its `entry` nodes of references.
    entries: EntityVec<Block, Vec<(Node, Local)>>,
    escapes: Escapes,
    is_pending: EntityVec<Block, bool>,
}

impl Walk<'_, '_> {
    /// Walks until no state at a head changes. Whether there was time for it.
    fn run(&mut self, spend: &mut dyn FnMut(u64) -> bool) -> bool {
        let heads: Vec<Block> =
            self.cfg.order().iter().copied().filter(|block| self.is_head(*block)).collect();
        let Some(entry) = heads.first() else { return true };
        self.escapes.heads[*entry] = Some(State::default());
        self.is_pending[*entry] = true;
        let mut has_changed = true;
        while std::mem::take(&mut has_changed) {
            for head in &heads {
                if !std::mem::take(&mut self.is_pending[*head]) {
                    continue;
                }
                has_changed = true;
                let work = self.extended_block(*head);
                if !spend(work) {
                    return false;
                }
            }
        }
        true
    }

    fn is_head(&self, block: Block) -> bool {
        self.method.block(block).extends.is_none()
    }

    /// Walks the tree of blocks below a head. Returns what it cost.
    fn extended_block(&mut self, head: Block) -> u64 {
        let Some(state) = self.escapes.heads[head].clone() else { return 1 };
        for index in 0..self.entries[head].len() {
            let (node, local) = self.entries[head][index];
            self.escapes.leads[node] = state.local(local);
        }
        let mut work = 1;
        let mut pending = vec![(head, state)];
        while let Some((block, mut state)) = pending.pop() {
            work += self.block(block, head, &mut state);
            for edge in self.cfg.successors(block).iter().filter(|edge| !edge.is_exception()) {
                work += state.size();
                match edge.kind {
                    EdgeKind::Extension => pending.push((edge.block, state.clone())),
                    _ => self.arrive(edge.block, &state),
                }
            }
        }
        for index in 0..self.escapes.users[head].len() {
            let node = self.escapes.users[head][index];
            self.floating(head, node);
        }
        work
    }

    fn block(&mut self, block: Block, head: Block, state: &mut State) -> u64 {
        let (method, cfg) = (self.method, self.cfg);
        let mut points = cfg.raise_points(block).iter().peekable();
        let mut work = method.roots(block).len() as u64;
        for (position, root) in (0..).zip(method.roots(block)) {
            if let Some(point) = points.next_if(|point| point.position == position) {
                for edge in cfg.successors(block).iter().filter(|edge| catches(edge.kind, point.kinds)) {
                    work += state.size();
                    self.arrive(edge.block, state);
                }
            }
            self.root(block, head, root.node, state);
        }
        work
    }

    /// The allocation that a value comes from, unless it has escaped.
    fn object(&self, node: Node) -> Option<Allocation> {
        self.escapes.object(node)
    }

    /// What a root does to the state, and which objects escape by it.
    fn root(&mut self, block: Block, head: Block, node: Node, state: &mut State) {
        let at = Place::Root(block, node);
        self.escapes.leads[node] = None;
        if let Some((local, value)) = set(self.method, node) {
            return state.set(local, self.object(value));
        }
        if self.method.opcode(node).has(Properties::ALLOCATES) {
            self.allocate(node, head, state);
        }
        for found in self.escapes.uses(self.module, self.method, node) {
            match found {
                Use::Is(object) => self.escapes.leads[node] = Some(object),
                Use::Constant(..) | Use::Class(..) => {}
                Use::Load(object, field) => {
                    self.escapes.leads[node] = state.field(object, field).object();
                }
                Use::Store(object, field, value) => {
                    state.store(object, field, Held::of(self.object(value)));
                }
                Use::Enter(object) if state.enter(object) => {}
                Use::Enter(object) => self.escape(object, at, "its monitor is entered too often"),
                Use::Exit(object) if state.exit(object) => {}
                Use::Exit(object) => self.escape(object, at, "its monitor is left without being held"),
                Use::Escape(object, why) => self.escape(object, at, why),
            }
        }
    }

    fn allocate(&mut self, node: Node, head: Block, state: &mut State) {
        let Some(allocation) = self.escapes.made_by(node) else { return };
        let site = &self.escapes.sites[allocation];
        if site.escape.is_none() {
            // Control gets here for the first time without one, so where it comes around with one, two states have met.
            let is_alone = |state: &State| !state.mentions(allocation);
            debug_assert!(
                self.escapes.heads[head].as_ref().is_none_or(is_alone),
                "one object at most is in use"
            );
            self.escapes.leads[node] = Some(allocation);
            state.allocate(allocation, site.shape.fields.len());
        }
    }

    /// A node that floats and uses references.
    fn floating(&mut self, head: Block, node: Node) {
        if comparison(self.method, node).is_some() {
            return;
        }
        for operand in self.method.operands(node) {
            if let Some(object) = self.object(*operand) {
                self.escape(object, Place::Root(head, node), "a choice may lead to it or to something else");
            }
        }
    }

    /// Control may arrive at a head with this state.
    fn arrive(&mut self, head: Block, state: &State) {
        let (sites, liveness) = (&self.escapes.sites, self.liveness);
        let is_known = |allocation: Allocation| sites[allocation].escape.is_none();
        let arriving = state.pruned(|local| liveness.is_live_in(head, local), is_known);
        let Some(known) = &mut self.escapes.heads[head] else {
            self.escapes.heads[head] = Some(arriving);
            self.is_pending[head] = true;
            return;
        };
        let (has_changed, apart) = known.meet(&arriving);
        self.is_pending[head] |= has_changed;
        for (object, why) in apart {
            self.escape(object, Place::Head(head), why);
        }
    }

    /// An object escapes. Wherever it was, all is looked at again: what is stored in it escapes, too.
    fn escape(&mut self, object: Allocation, at: Place, why: &'static str) {
        let site = &mut self.escapes.sites[object];
        if site.escape.is_some() {
            return;
        }
        site.escape = Some(Escape { at, why });
        let own = self.method.head(site.block);
        self.is_pending[own] = true;
        for head in self.cfg.order() {
            let mentions = |state: &State| state.mentions(object);
            self.is_pending[*head] |= self.escapes.heads[*head].as_ref().is_some_and(mentions);
        }
    }
}

fn catches(kind: EdgeKind, raised: KindSet) -> bool {
    matches!(kind, EdgeKind::Exception(kinds) if !kinds.intersection(raised).is_empty())
}

/// What an allocation makes.
impl Site {
    /// The kind of object.
    pub fn kind(&self) -> ObjectKind {
        self.shape.kind
    }
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
