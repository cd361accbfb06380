//! Where what stores to memory leave there may still be read.
//!
//! ```text
//!   store @point [%a + 8], %1        nobody: dead
//!   br %c, b2, b3
//!   b2: store @point [%a + 8], %2    the caller
//!       return
//!   b3: return                       … if there is no store here, the first one is for this way alone
//! ```
//!
//! A fact for each location that is stored to: *what it holds may be read*. It becomes true where something may read it or the method may be
//! left, and false where a store covers it.
//!
//! # Guarantees
//!
//! * What may read: reads that are not known to go elsewhere; yield points, fences and guards, where others look; raises that leave the
//!   method, and its end. Handlers that a raise may reach count by what they do.
//! * A slot whose address only accesses to it know is read by those, and where a guard lets the interpreter go on; by nobody else.
//! * A location is made of numbers of values, which mean the same on paths that pass no loop header. So one whose base or index may be another
//!   at the next turn is taken to be read where a loop begins.
//! * At most [`MAX_LOCATIONS`] locations are looked at; what is read-only is not.
//!
//! # Cost
//!
//! Linear in roots, times the number of locations.

use dagwood_il::dataflow::{Direction, Event, Facts, Meet, Problem, solve};
use dagwood_il::effects::is_readonly;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::{
    Block, Cfg, KindSet, Loops, Method, Module, Node, Opcode, Payload, Place, Properties, effects,
};

use super::Analysis;
use super::location::{Location, stored_value};
use super::value_numbers::ValueNumbers;
use crate::cx::PassCx;

/// How many locations are looked at.
pub const MAX_LOCATIONS: usize = 64;

/// A store that nobody reads, or that a later one overwrites although it may have been read by then.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Its block.
    pub block: Block,
    /// The store.
    pub node: Node,
    /// What may read it in between.
    pub seen: Option<&'static str>,
}

/// A store at whose block's end it may be read on some ways only, and before that not at all.
#[derive(Clone, Debug)]
pub struct Partly {
    /// The store.
    pub node: Node,
    /// The blocks to which these ways lead.
    pub ways: Vec<Block>,
}

/// Where what is stored may be read.
#[derive(Clone, Debug)]
pub struct Overwrites {
    count: usize,
    touches: EntityVec<Block, Vec<Touch>>,
    /// The locations that may be read, at the beginnings of blocks.
    read: Facts,
}

/// What a root does to the locations, one bit each.
#[derive(Clone, Copy, Debug)]
struct Touch {
    position: u32,
    reads: u64,
    /// Leaves nothing of what was there.
    overwrites: u64,
    /// May leave not all of it.
    changes: u64,
    /// The location that it stores to.
    own: u64,
    why: &'static str,
}

const BY_HANDLER: &str = "a handler may read it";

impl Overwrites {
    /// Where what `method` stores may be read; none if no location is worth it.
    pub fn compute(
        module: &Module,
        method: &Method<'_>,
        cfg: &Cfg,
        loops: &Loops,
        numbers: &ValueNumbers,
    ) -> Option<Overwrites> {
        let mut search =
            Search { module, method, cfg, numbers, is_private: private_slots(method), tracked: Vec::new() };
        search.track();
        if search.tracked.is_empty() {
            return None;
        }
        let touches = search.touches();
        let read = search.solve(loops, &touches)?;
        Some(Overwrites { count: search.tracked.len(), touches, read })
    }

    /// The stores that nobody reads, and those that somebody may read although they are overwritten in their block.
    pub fn dead(&self, method: &Method<'_>, cfg: &Cfg) -> Vec<Dead> {
        let mut found = Vec::new();
        for block in cfg.order().iter().filter(|block| self.has_stores(**block)) {
            let handled = self.of_edges(cfg, *block, |edge| edge.is_exception());
            let mut live = self.of_edges(cfg, *block, |edge| !edge.is_exception());
            let mut points = cfg.raise_points(*block).iter().rev().peekable();
            // What later stores of this block cover, and why it is live all the same.
            let mut covered = 0_u64;
            let mut reasons = [BY_HANDLER; MAX_LOCATIONS];
            for touch in self.touches[*block].iter().rev() {
                while points.next_if(|point| point.position >= touch.position).is_some() {
                    self.note(&mut reasons, handled & !live, BY_HANDLER);
                    live |= handled;
                }
                let is_read = live & touch.own != 0;
                if touch.own != 0 && (!is_read || covered & touch.own != 0) {
                    let node = method.roots(*block)[touch.position as usize].node;
                    let seen = is_read.then(|| reasons[touch.own.trailing_zeros() as usize]);
                    found.push(Dead { block: *block, node, seen });
                }
                self.note(&mut reasons, touch.reads & !live, touch.why);
                live = (live | touch.reads) & !touch.overwrites;
                covered |= touch.overwrites;
            }
        }
        found
    }

    fn note(&self, reasons: &mut [&'static str; MAX_LOCATIONS], locations: u64, why: &'static str) {
        let noted =
            reasons.iter_mut().take(self.count).enumerate().filter(|(index, _)| locations >> index & 1 != 0);
        noted.for_each(|(_, reason)| *reason = why);
    }

    /// The stores of a block that can wait until its end, and are read on some of the ways on only.
    pub fn partly_read(&self, method: &Method<'_>, cfg: &Cfg, block: Block) -> Vec<Partly> {
        let mut found = Vec::new();
        let ways: Vec<(Block, u64)> = cfg
            .successors(block)
            .iter()
            .filter(|edge| !edge.is_exception())
            .map(|edge| (edge.block, self.at(edge.block)))
            .collect();
        let all = ways.iter().fold(u64::MAX, |all, (_, read)| all & read);
        let any = ways.iter().fold(0, |any, (_, read)| any | read);
        let handled = self.of_edges(cfg, block, |edge| edge.is_exception());
        let last_raise = cfg.raise_points(block).last().map(|point| point.position);
        // What is touched between the store in hand and the end.
        let mut touched = 0;
        for touch in self.touches[block].iter().rev() {
            let is_raise_later = last_raise.is_some_and(|position| position > touch.position);
            let stays = touched | if is_raise_later { handled } else { 0 };
            if touch.own & any & !all & !stays != 0 {
                let node = method.roots(block)[touch.position as usize].node;
                let ways = ways.iter().filter(|(_, read)| read & touch.own != 0).map(|(to, _)| *to).collect();
                found.push(Partly { node, ways });
            }
            touched |= touch.reads | touch.changes;
        }
        found
    }

    fn has_stores(&self, block: Block) -> bool {
        self.touches[block].iter().any(|touch| touch.own != 0)
    }

    fn at(&self, block: Block) -> u64 {
        self.read.words(block).fold(0, |all, (_, word)| all | word)
    }

    fn of_edges(&self, cfg: &Cfg, block: Block, which: impl Fn(&dagwood_il::Edge) -> bool) -> u64 {
        cfg.successors(block).iter().filter(|edge| which(edge)).fold(0, |all, edge| all | self.at(edge.block))
    }
}

/// The slots of which only accesses that name them know the address.
fn private_slots(method: &Method<'_>) -> Vec<bool> {
    let mut is_private = vec![true; method.slots().len()];
    for node in method.nodes() {
        let base = usize::from(stored_value(method, node).is_some());
        for (index, operand) in method.operands(node).iter().enumerate() {
            if let (Opcode::SlotAddress, Payload::Slot(slot)) =
                (method.opcode(*operand), method.payload(*operand))
            {
                let is_access = matches!(method.payload(node), Payload::Access(access) if access.place == Place::Slot(slot));
                is_private[slot.index()] &= is_access && index == base;
            }
        }
    }
    is_private
}

/// A location that is looked at.
#[derive(Clone, Copy)]
struct Tracked {
    place: Place,
    location: Location,
    /// Whether nobody can read it once the method has been left.
    is_private: bool,
    /// Whether its base and index are the same in all turns of loops.
    is_stable: bool,
    stores: u32,
}

impl Tracked {
    /// Whether storing to `other` leaves nothing of what this holds.
    fn is_covered_by(&self, place: Place, other: &Location) -> bool {
        let (own, all) = (u64::from(self.location.ty.bytes()), u64::from(other.ty.bytes()));
        let within = self.location.offset.wrapping_sub(other.offset) as u64;
        let at = |location: &Location| (location.base, location.index, location.scale);
        self.place == place && at(&self.location) == at(other) && within < all && within + own <= all
    }
}

struct Search<'s, 'a> {
    module: &'s Module,
    method: &'s Method<'a>,
    cfg: &'s Cfg,
    numbers: &'s ValueNumbers,
    is_private: Vec<bool>,
    tracked: Vec<Tracked>,
}

impl Search<'_, '_> {
    /// Chooses locations: those of private slots, and those that are stored to more than once.
    fn track(&mut self) {
        let mut all: Vec<Tracked> = Vec::new();
        for block in self.cfg.order() {
            for root in self.method.roots(*block) {
                let Some((place, location)) = self.stored(root.node) else { continue };
                let is_same = |known: &&mut Tracked| (known.place, known.location) == (place, location);
                if let Some(known) = all.iter_mut().find(is_same) {
                    known.stores += 1;
                } else if all.len() < 4 * MAX_LOCATIONS {
                    let is_private = matches!(place, Place::Slot(slot) if self.is_private[slot.index()]);
                    let is_stable = self.is_stable(root.node);
                    all.push(Tracked { place, location, is_private, is_stable, stores: 1 });
                }
            }
        }
        let is_worth_it = |tracked: &&Tracked| {
            let cover = all.iter().filter(|other| tracked.is_covered_by(other.place, &other.location));
            tracked.is_private || cover.map(|other| other.stores).sum::<u32>() > 1
        };
        self.tracked = all.iter().filter(is_worth_it).take(MAX_LOCATIONS).copied().collect();
    }

    fn stored(&self, node: Node) -> Option<(Place, Location)> {
        let Payload::Access(access) = self.method.payload(node) else { return None };
        stored_value(self.method, node)?;
        let is_writable = !is_readonly(self.module, access.place);
        Some((access.place, self.numbers.location(self.method, node).filter(|_| is_writable)?))
    }

    /// Whether what a store's address is computed from is the same wherever it is computed.
    fn is_stable(&self, node: Node) -> bool {
        let method = self.method;
        let mut address = method.value_operands(node).iter().skip(1);
        address.all(|operand| {
            let opcode = method.opcode(*operand);
            method.operands(*operand).is_empty()
                && !opcode.has(Properties::ROOT)
                && !opcode.has(Properties::HEAD)
        })
    }

    /// By block, the roots that touch locations.
    fn touches(&self) -> EntityVec<Block, Vec<Touch>> {
        let mut touches: EntityVec<Block, Vec<Touch>> =
            EntityVec::filled(Vec::new(), self.method.block_count());
        for block in self.cfg.order() {
            for (position, root) in (0..).zip(self.method.roots(*block)) {
                let touch = self.touch(*block, position, root.node);
                if touch.reads | touch.changes != 0 {
                    touches[*block].push(touch);
                }
            }
        }
        touches
    }

    fn touch(&self, block: Block, position: u32, node: Node) -> Touch {
        let (module, method) = (self.module, self.method);
        let effects = effects(module, method, node);
        let uncaught = method.handlers(block).iter().fold(effects.raises, |left, handler| {
            let kinds = handler.kinds;
            left.without(if handler.class.is_some() { kinds.without(KindSet::GUEST) } else { kinds })
        });
        let ends = method.opcode(node).has(Properties::TERMINATES) && method.successors_of(node).is_empty();
        let why = match () {
            () if !effects.reads.is_none() => "it may be read in between",
            () if !uncaught.is_empty() => "a raise in between leaves the method",
            () if effects.leaves => "the interpreter may go on in between",
            () => "others may look in between",
        };
        let is_seen = effects.yields || effects.synchronises || ends || !uncaught.is_empty();
        let mut touch = Touch { position, reads: 0, overwrites: 0, changes: 0, own: 0, why };
        let location = self.numbers.location(method, node);
        let stored = self.stored(node);
        for (index, tracked) in self.tracked.iter().enumerate() {
            let is_named =
                matches!(method.payload(node), Payload::Access(access) if access.place == tracked.place);
            let is_apart =
                location.as_ref().is_some_and(|location| location.is_apart_from(&tracked.location));
            let may_touch = !is_apart && (is_named || !tracked.is_private);
            let bit = 1 << index;
            if effects.leaves
                || is_seen && !tracked.is_private
                || may_touch && effects.may_read(module, tracked.place)
            {
                touch.reads |= bit;
            }
            // A stored address may not outlive a yield point.
            if effects.yields || may_touch && effects.may_write(module, tracked.place) {
                touch.changes |= bit;
            }
            if let Some((place, location)) = stored {
                touch.overwrites |= if tracked.is_covered_by(place, &location) { bit } else { 0 };
                touch.own |= if (tracked.place, tracked.location) == (place, location) { bit } else { 0 };
            }
        }
        touch
    }

    fn solve(&self, loops: &Loops, touches: &EntityVec<Block, Vec<Touch>>) -> Option<Facts> {
        let mut events = Vec::new();
        let unstable = self.tracked.iter().rev().fold(0, |all, one| all << 1 | u64::from(!one.is_stable));
        let mut is_entered_again = EntityVec::filled(false, self.method.block_count());
        loops.irreducible_edges().iter().for_each(|(_, to)| is_entered_again[*to] = true);
        for block in self.cfg.order() {
            if is_entered_again[*block] || loops.is_header(*block) {
                events.push(Event { block: *block, position: 0, column: 0, facts: unstable, becomes: true });
            }
            for touch in &touches[*block] {
                let Touch { position, reads, overwrites, .. } = *touch;
                let mut add = |position, facts, becomes| {
                    events.push(Event { block: *block, position, column: 0, facts, becomes });
                };
                add(position, reads & !overwrites, true);
                add(position + 1, overwrites, false);
            }
        }
        let problem =
            Problem { direction: Direction::Backward, meet: Meet::Any, at_entry: Vec::new(), events };
        solve(problem, self.cfg, |_| true).ok()
    }
}

/// None, too, if the method is too intricate to number its values.
impl Analysis for Option<Overwrites> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<Overwrites> {
        let (cfg, loops) = (cx.cfg(method), cx.loops(method));
        let numbers = cx.get::<Option<ValueNumbers>>(method);
        cx.spend(4 * method.node_count() as u64);
        Overwrites::compute(cx.module(), method, &cfg, &loops, numbers.as_ref().as_ref()?)
    }
}
