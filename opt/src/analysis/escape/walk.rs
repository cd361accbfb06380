//! The walk that finds out: along all paths, with what is held where, until no state at a head changes; and all of it again, with more
//! objects that merge others, where some were found to meet.

use std::collections::BTreeMap;

use dagwood_il::cfg::EdgeKind;
use dagwood_il::dataflow::{Liveness, heads_of_uses};
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{Block, Cfg, KindSet, Local, Method, Module, Node, Opcode, Payload, Properties, Type};

use super::state::{Apart, Held, State};
use super::uses::{Shape, Use, comparison};
use super::{Escape, Escapes, MAX_MERGED, MAX_ROUNDS, Object, ObjectData, Origin, Place};
use crate::analysis::live_locals::set;

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

/// A walk along all paths, with what is held where.
pub(super) struct Walk<'w, 'a> {
    module: &'w Module,
    method: &'w Method<'a>,
    cfg: &'w Cfg,
    liveness: &'w Liveness,
    /// By head: its `entry` nodes of references.
    entries: EntityVec<Block, Vec<(Node, Local)>>,
    escapes: &'w mut Escapes,
    /// By head and local: the object that merges what the local leads to there.
    merged: BTreeMap<(Block, Local), Object>,
    /// Where this walk has met objects that could be merged.
    wanted: Vec<(Block, Local, Shape)>,
    is_pending: EntityVec<Block, bool>,
    /// What looking for objects that escape has cost since the last extended block.
    work: u64,
}

impl<'w, 'a> Walk<'w, 'a> {
    /// A walk that has not begun.
    pub(super) fn new(
        module: &'w Module,
        method: &'w Method<'a>,
        cfg: &'w Cfg,
        liveness: &'w Liveness,
        escapes: &'w mut Escapes,
    ) -> Walk<'w, 'a> {
        let Nodes { entries, users } = Nodes::collect(method);
        escapes.users = users;
        Walk {
            module,
            method,
            cfg,
            liveness,
            entries,
            escapes,
            merged: BTreeMap::new(),
            wanted: Vec::new(),
            is_pending: EntityVec::filled(false, method.block_count()),
            work: 0,
        }
    }

    /// Walks the method, again with more objects that merge others wherever some met. Whether there was time for it.
    pub(super) fn run(&mut self, spend: &mut dyn FnMut(u64) -> bool) -> bool {
        for _ in 0..MAX_ROUNDS {
            self.wanted.clear();
            if !self.round(spend) {
                return false;
            }
            let room = MAX_MERGED - self.merged.len();
            self.wanted.truncate(room);
            if self.wanted.is_empty() {
                return true;
            }
            for (head, local, shape) in std::mem::take(&mut self.wanted) {
                let origin = Origin::Merged(head, local);
                let object = self.escapes.objects.push(ObjectData { origin, shape, escape: None });
                self.merged.insert((head, local), object);
            }
        }
        self.round(spend)
    }

    /// Walks until no state at a head changes. Whether there was time for it.
    fn round(&mut self, spend: &mut dyn FnMut(u64) -> bool) -> bool {
        let heads: Vec<Block> =
            self.cfg.order().iter().copied().filter(|block| self.is_head(*block)).collect();
        for object in self.escapes.objects.keys() {
            self.escapes.objects[object].escape = None;
        }
        self.escapes.leads = EntityVec::filled(None, self.method.node_count());
        self.escapes.heads = EntityVec::filled(None, self.method.block_count());
        self.escapes.arrivals.clear();
        let Some(entry) = heads.first() else { return true };
        spend(self.method.node_count() as u64);
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
                    _ => self.arrive((block, edge.block), &state),
                }
            }
        }
        for index in 0..self.escapes.users[head].len() {
            let node = self.escapes.users[head][index];
            self.floating(head, node);
        }
        work + std::mem::take(&mut self.work)
    }

    fn block(&mut self, block: Block, head: Block, state: &mut State) -> u64 {
        let (method, cfg) = (self.method, self.cfg);
        let mut points = cfg.raise_points(block).iter().peekable();
        let mut work = method.roots(block).len() as u64;
        for (position, root) in (0..).zip(method.roots(block)) {
            if let Some(point) = points.next_if(|point| point.position == position) {
                for edge in cfg.successors(block).iter().filter(|edge| catches(edge.kind, point.kinds)) {
                    work += state.size();
                    self.arrive_by_raise(edge.block, state);
                }
            }
            self.root(block, head, root.node, state);
        }
        work
    }

    /// The allocation that a value comes from, unless it has escaped.
    fn object(&self, node: Node) -> Option<Object> {
        self.escapes.object(node)
    }

    /// What a root does to the state, and which objects escape by it.
    fn root(&mut self, block: Block, head: Block, node: Node, state: &mut State) {
        let at = Place::Root(block, node);
        self.escapes.leads[node] = None;
        if let Some((local, value)) = set(self.method, node) {
            return state.set(local, self.object(value));
        }
        self.allocate(node, head, state);
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
        let made = self.escapes.made_by(self.method, node);
        let Some(object) = made.filter(|object| self.escapes.is_kept(*object)) else { return };
        // Control gets here for the first time without one, so where it comes around with one, two states have met.
        let is_alone = |state: &State| !state.mentions(object);
        debug_assert!(self.escapes.heads[head].as_ref().is_none_or(is_alone), "one object at most is in use");
        self.escapes.leads[node] = Some(object);
        state.allocate(object, self.escapes.objects[object].shape.fields.len());
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

    /// What is in force of a state at a head.
    fn pruned(&self, head: Block, state: &State) -> State {
        state.pruned(|local| self.liveness.is_live_in(head, local), |object| self.escapes.is_kept(object))
    }

    /// Control may arrive at a handler with this state. Nothing is merged there: nothing can be done on the way.
    fn arrive_by_raise(&mut self, head: Block, state: &State) {
        let arriving = self.pruned(head, state);
        self.meet(head, &arriving);
    }

    /// Control may arrive at a head from the end of a block with this state.
    fn arrive(&mut self, (from, head): (Block, Block), state: &State) {
        let mut arriving = self.pruned(head, state);
        let mut names: BTreeMap<Object, Object> = BTreeMap::new();
        let mut twice = Vec::new();
        let at_head = self.merged.range((head, Local::new(0))..).take_while(|((at, _), _)| *at == head);
        for ((_, local), merged) in at_head {
            let is_alike = |object: &Object| {
                self.escapes.is_kept(*merged)
                    && self.escapes.objects[*object].shape == self.escapes.objects[*merged].shape
            };
            if let Some(object) = arriving.local(*local).filter(is_alike) {
                twice.extend(names.insert(object, *merged).into_iter().flat_map(|other| [other, *merged]));
            }
        }
        let is_there = |merged: &&Object| arriving.mentions(**merged) && !names.contains_key(*merged);
        twice.extend(names.values().filter(is_there));
        if twice.is_empty() {
            arriving.rename(&names);
        }
        self.escapes
            .arrivals
            .insert((from, head), names.into_iter().map(|(object, merged)| (merged, object)).collect());
        for object in twice {
            self.escape(object, Place::Head(head), "it and one made before it are in use where paths meet");
        }
        self.meet(head, &arriving);
    }

    fn meet(&mut self, head: Block, arriving: &State) {
        let Some(known) = &mut self.escapes.heads[head] else {
            self.escapes.heads[head] = Some(arriving.clone());
            self.is_pending[head] = true;
            return;
        };
        let (has_changed, apart) = known.meet(arriving);
        self.is_pending[head] |= has_changed;
        self.want(head, &apart);
        for apart in apart {
            let (object, other, why) = match apart {
                Apart::Local(_, object, other) => {
                    (object, other, "it and something else are held by one local where paths meet")
                }
                Apart::Field(object) => {
                    (object, None, "it and something else are held by one field where paths meet")
                }
                Apart::Locks(object) => {
                    (object, None, "its monitor is held on some paths only where they meet")
                }
            };
            for object in [object].into_iter().chain(other) {
                self.escape(object, Place::Head(head), why);
            }
        }
    }

    /// Wants objects that meet to be merged, one for each pair.
    fn want(&mut self, head: Block, apart: &[Apart]) {
        let is_handler = self.cfg.predecessors(head).iter().any(|edge| edge.is_exception());
        let mut pairs = Vec::new();
        for apart in apart {
            let Apart::Local(local, left, Some(right)) = *apart else { continue };
            let shape = &self.escapes.objects[left].shape;
            let is_fit = !is_handler
                && self.escapes.is_kept(left)
                && self.escapes.is_kept(right)
                && *shape == self.escapes.objects[right].shape
                && !self.merged.contains_key(&(head, local))
                && !self.wanted.iter().any(|wanted| (wanted.0, wanted.1) == (head, local))
                && !pairs.contains(&(left, right));
            if is_fit {
                pairs.push((left, right));
                self.wanted.push((head, local, shape.clone()));
            }
        }
    }

    /// An object escapes, and with it what it is merged with. Wherever these were, all is looked at again: what is stored in them
    /// escapes, too.
    fn escape(&mut self, object: Object, at: Place, why: &'static str) {
        let mut pending = vec![object];
        while let Some(object) = pending.pop() {
            let data = &mut self.escapes.objects[object];
            if data.escape.is_some() {
                continue;
            }
            data.escape = Some(Escape { at, why });
            self.work += (self.cfg.order().len() + self.escapes.arrivals.len()) as u64;
            if let Origin::Made(block, _) = data.origin {
                self.is_pending[self.method.head(block)] = true;
            }
            for head in self.cfg.order() {
                let mentions = |state: &State| state.mentions(object);
                self.is_pending[*head] |= self.escapes.heads[*head].as_ref().is_some_and(mentions);
            }
            for (merged, from) in self.escapes.arrivals.values().flatten() {
                if *merged == object {
                    pending.push(*from);
                } else if *from == object {
                    pending.push(*merged);
                }
            }
        }
    }
}

fn catches(kind: EdgeKind, raised: KindSet) -> bool {
    matches!(kind, EdgeKind::Exception(kinds) if !kinds.intersection(raised).is_empty())
}
