//! Which nodes have one value: global value numbering over locals and memory, without another form of the method.
//!
//! ```text
//!   b1: set $i, 0; set $j, 0                 $i and $j go round the loop alike: one number
//!   b2: %1 = add (entry $i), 1; set $i, %1   %1 and %2: one number
//!       %2 = add (entry $j), 1; set $j, %2
//!       goto b2
//! ```
//!
//! * A pure node has the number of those with its opcode, type, payload and operands' numbers.
//! * `entry $x` has the number of the one definition that reaches it. A merge has the number of its arguments if that is one, else that
//!   of the merges at its head that have its arguments.
//! * A load has the number of what the last store to its location stored, if nothing else may have been written since; else that of
//!   loads of the location in the same [`State`].
//! * A check, and every root whose row says [`FUNCTION`](Properties::FUNCTION), has the number of those with its operands: reason and
//!   kind do not matter. What it yields differs from its operand's number, because it proves something; [`ValueNumbers::raw`] tells the
//!   value from the proof.
//! * Every other root is a number of its own.
//!
//! # Why by hashing
//!
//! Optimistic: what comes around a loop is taken to agree until it is seen not to. K. D. Cooper and L. T. Simpson, "SCC-based value
//! numbering" (1995), whose simpler variant in reverse post-order this is: it walks the method as it lies in memory, and two or three times
//! in practice. Partitions (B. Alpern, M. Wegman, F. K. Zadeck, 1988) need users of every node, and cannot see through a merge.
//!
//! # Guarantees
//!
//! * Two nodes of one number have one value, wherever the first was last computed before the second: where it dominates it.
//! * After [`MAX_ROUNDS`] what comes around loops is taken not to agree, and one more round ends it.
//!
//! # Cost
//!
//! A round costs a hash probe for each node. Methods without loops take one round, most others two: another follows only where merges turn
//! out to have other arguments than were believed.

use std::hash::{Hash, Hasher};

use dagwood_il::entity::Entity;
use dagwood_il::{Cfg, Method, Node, Opcode, Payload, Properties};
use hashbrown::HashTable;
use rustc_hash::FxHasher;

use super::Analysis;
use super::location::{Location, stored_value};
use super::memory::{Memory, State};
use super::reaching::{Definition, Merge, Reaching};
use super::uses::Uses;
use crate::cx::PassCx;

/// How many optimistic rounds are made.
pub const MAX_ROUNDS: usize = 12;

/// How many stores that a load cannot see are passed in search of one that it sees.
pub const MAX_PASSED_STORES: usize = 16;

/// The number of a value. Numbers are dense enough to index tables of [`ValueNumbers::bound`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u32);

impl Entity for Number {
    fn new(index: usize) -> Number {
        Number(u32::try_from(index).expect("a method has fewer than 2^32 values"))
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Not numbered yet.
const NONE: u32 = u32::MAX;

/// The operation of a merge: no opcode's.
const MERGE: u32 = u32::MAX;

/// The numbers of a method's values.
#[derive(Clone, Debug)]
pub struct ValueNumbers {
    /// By value: nodes, then merges, then what parameters hold at first.
    numbers: Vec<u32>,
    /// By number: that of the value without the proofs that it has passed.
    raw: Vec<u32>,
    nodes: usize,
    merges: usize,
    rounds: usize,
}

impl ValueNumbers {
    /// Numbers the nodes of `method` that are used.
    pub fn compute(
        method: &Method<'_>,
        cfg: &Cfg,
        uses: &Uses,
        reaching: &Reaching,
        memory: &Memory,
    ) -> ValueNumbers {
        let (nodes, merges) = (method.node_count(), reaching.merge_count());
        let count = nodes + merges + method.param_count();
        let mut numbering = Numbering {
            method,
            reaching,
            memory,
            values: ValueNumbers {
                numbers: vec![NONE; count],
                raw: vec![NONE; count],
                nodes,
                merges,
                rounds: 0,
            },
            late: vec![false; merges],
            has_late: false,
            table: HashTable::with_capacity(nodes + merges),
            words: Vec::with_capacity(4 * nodes),
            starts: vec![0; nodes + merges],
            key: Vec::new(),
        };
        for param in nodes + merges..count {
            numbering.values.numbers[param] = index(param);
            numbering.values.raw[param] = index(param);
        }
        loop {
            numbering.values.rounds += 1;
            let is_last = numbering.values.rounds > MAX_ROUNDS;
            numbering.round(uses, cfg, is_last);
            if !numbering.has_late || is_last || numbering.is_settled(cfg) {
                return numbering.values;
            }
        }
    }

    /// The number of a node; none for one that no root needs, that has neither a value nor an outcome, or that control does not reach.
    pub fn number(&self, node: Node) -> Option<Number> {
        known(self.numbers[node.index()])
    }

    /// The number of what a definition gives its local.
    pub fn defined(&self, method: &Method<'_>, definition: Definition) -> Option<Number> {
        known(self.defined_number(method, definition))
    }

    /// The number of a value without the proofs that it has passed: that of what a check checked, for what it yields.
    pub fn raw(&self, number: Number) -> Number {
        Number(self.raw[number.index()])
    }

    /// Greater than the index of every number.
    pub fn bound(&self) -> usize {
        self.numbers.len()
    }

    /// How many rounds it took.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Where a load or store goes; none for other nodes.
    pub fn location(&self, method: &Method<'_>, node: Node) -> Option<Location> {
        Location::of(method, node, |node| self.raw_number(node))
    }

    fn raw_number(&self, node: Node) -> u32 {
        match self.numbers[node.index()] {
            NONE => index(node.index()),
            number => self.raw[number as usize],
        }
    }

    /// The index of the number that a merge has if it is one of its own.
    pub(super) fn merge_value(&self, merge: Merge) -> usize {
        self.nodes + merge.index()
    }

    fn defined_number(&self, method: &Method<'_>, definition: Definition) -> u32 {
        match definition {
            Definition::Initial(local) => {
                self.numbers.get(self.nodes + self.merges + local.index()).copied().unwrap_or(NONE)
            }
            Definition::Set(set) => self.numbers[method.operands(set)[0].index()],
            Definition::Merge(merge) => self.numbers[self.merge_value(merge)],
        }
    }
}

fn known(number: u32) -> Option<Number> {
    (number != NONE).then_some(Number(number))
}

fn index(value: usize) -> u32 {
    u32::try_from(value).expect("a method has fewer than 2^32 values")
}

/// A value of a round's table: its hash, and which. As small as can be: most of the time goes into probes that miss the cache.
type Entry = (u32, u32);

struct Numbering<'n, 'a> {
    method: &'n Method<'a>,
    reaching: &'n Reaching,
    memory: &'n Memory,
    values: ValueNumbers,
    /// By merge: whether an argument comes from later in the order.
    late: Vec<bool>,
    has_late: bool,
    table: HashTable<Entry>,
    /// The words of all keys in the table, each after how many they are.
    words: Vec<u32>,
    /// By value in the table, where the words of its key begin.
    starts: Vec<u32>,
    /// The words of the key in hand: operation, numbers, and what else tells values apart besides the payload.
    key: Vec<u32>,
}

impl Numbering<'_, '_> {
    fn round(&mut self, uses: &Uses, cfg: &Cfg, is_last: bool) {
        self.table.clear();
        self.words.clear();
        for block in cfg.order() {
            for merge in self.reaching.merges_at(*block) {
                let value = self.values.merge_value(merge);
                let number =
                    if is_last && self.late[merge.index()] { index(value) } else { self.merge(merge) };
                self.assign(value, number, number);
            }
            for node in uses.of(*block) {
                self.node(*node);
            }
        }
    }

    /// Whether another round would find the same: merges have the numbers that their arguments, which are known now, give them. All
    /// others follow from what stands before them.
    fn is_settled(&mut self, cfg: &Cfg) -> bool {
        self.table.clear();
        self.words.clear();
        let mut merges = cfg.order().iter().flat_map(|block| self.reaching.merges_at(*block));
        merges.all(|merge| self.merge(merge) == self.values.numbers[self.values.merge_value(merge)])
    }

    fn assign(&mut self, value: usize, number: u32, raw: u32) {
        self.values.numbers[value] = number;
        if number as usize == value {
            self.values.raw[value] = raw;
        }
    }

    fn merge(&mut self, merge: Merge) -> u32 {
        self.key.clear();
        self.key.extend([MERGE, index(self.reaching.head(merge).index())]);
        let mut one = None;
        let mut agree = true;
        for arg in self.reaching.args(merge) {
            let number = self.values.defined_number(self.method, *arg);
            if number == NONE {
                self.late[merge.index()] = true;
                self.has_late = true;
            } else {
                agree &= *one.get_or_insert(number) == number;
            }
            self.key.push(number);
        }
        let value = index(self.values.merge_value(merge));
        match one {
            Some(number) if agree => number,
            None => value,
            Some(_) => self.find(Payload::None, value),
        }
    }

    fn node(&mut self, node: Node) {
        let method = self.method;
        let own = index(node.index());
        let row = method.opcode(node).row();
        if row.has(Properties::FRAME_ONLY) {
            return;
        }
        let payload = self.payload(own);
        let mut raw = None;
        let number = if method.is_root(node) {
            if row.has(Properties::FUNCTION) {
                self.collect(node, row.has(Properties::COMMUTES), |values, node| values.raw_number(node));
                if row.has(Properties::PROVES) {
                    raw = Some(self.values.raw_number(method.operands(node)[0]));
                }
                self.find(payload, own)
            } else if row.has(Properties::READS) {
                self.load(node)
            } else {
                own
            }
        } else if let (Opcode::Entry, Payload::Local(_)) = (row.opcode, payload) {
            let definition = self.reaching.read(node);
            let number = definition.map_or(NONE, |definition| self.values.defined_number(method, definition));
            if number == NONE { own } else { number }
        } else if row.has(Properties::HEAD) {
            own
        } else {
            self.collect(node, row.has(Properties::COMMUTES), |values, node| values.numbers[node.index()]);
            self.find(payload, own)
        };
        self.assign(node.index(), number, raw.unwrap_or(number));
    }

    /// Makes the key of the operands' numbers.
    fn collect(&mut self, node: Node, commutes: bool, number: impl Fn(&ValueNumbers, Node) -> u32) {
        self.key.clear();
        self.key.push(self.operation(node));
        let operands = self.method.value_operands(node);
        self.key.extend(operands.iter().map(|operand| number(&self.values, *operand)));
        if commutes && self.key[1] > self.key[2] {
            self.key.swap(1, 2);
        }
    }

    /// The number of a load: what was stored, or that of the location in its state.
    fn load(&mut self, node: Node) -> u32 {
        let own = index(node.index());
        let method = self.method;
        let (Some((class, mut state)), Some(location)) =
            (self.memory.before(node), self.values.location(method, node))
        else {
            return own;
        };
        for _ in 0..MAX_PASSED_STORES {
            let State::Root(root) = state else { break };
            let (Some(stored), Some(written)) =
                (stored_value(method, root), self.values.location(method, root))
            else {
                break;
            };
            if written == location {
                let number = self.values.numbers[stored.index()];
                return if number == NONE { own } else { number };
            }
            match self.memory.before(root) {
                Some((of, before)) if of == class && written.is_apart_from(&location) => state = before,
                _ => break,
            }
        }
        let (kind, id) = match state {
            State::Entry => (0, 0),
            State::Root(root) => (1, index(root.index())),
            State::Join(block) => (2, index(block.index())),
        };
        let Location { base, index, scale, offset, .. } = location;
        self.key.clear();
        self.key.push(self.operation(node));
        let (low, high) = (offset as u32, (offset >> 32) as u32);
        self.key.extend([
            base,
            index.unwrap_or(NONE),
            u32::from(scale),
            low,
            high,
            u32::from(class),
            kind,
            id,
        ]);
        self.find(Payload::None, own)
    }

    /// Opcode and type of a node in one word.
    fn operation(&self, node: Node) -> u32 {
        (self.method.opcode(node) as u32) << 8 | self.method.ty(node) as u32
    }

    /// What the payload of a value adds to its key. Where a check raises, why does not matter; a location says all of an access.
    fn payload(&self, value: u32) -> Payload {
        if value as usize >= self.values.nodes {
            return Payload::None;
        }
        match self.method.payload(Node::new(value as usize)) {
            Payload::Raise(..) | Payload::Access(_) => Payload::None,
            payload => payload,
        }
    }

    /// The number of the value with this payload and the key in hand: `value`, if there is none yet.
    fn find(&mut self, payload: Payload, value: u32) -> u32 {
        let mut hasher = FxHasher::default();
        if payload != Payload::None {
            payload.hash(&mut hasher);
        }
        self.key.iter().for_each(|word| hasher.write_u32(*word));
        let hash = hasher.finish();
        let (words, key, starts) = (&self.words, &self.key, &self.starts);
        let found = self.table.find(hash, |(own, other)| {
            let start = starts[*other as usize] as usize;
            *own == hash as u32
                && words[start] as usize == key.len()
                && words[start + 1..][..key.len()] == **key
                && self.payload(*other) == payload
        });
        if let Some((_, known)) = found {
            return *known;
        }
        self.starts[value as usize] = index(self.words.len());
        self.words.push(index(self.key.len()));
        self.words.extend_from_slice(&self.key);
        // Entries never move: there is room for all.
        self.table.insert_unique(hash, (hash as u32, value), |(own, _)| u64::from(*own));
        value
    }
}

/// The numbers, unless the method is too intricate for them.
impl Analysis for Option<ValueNumbers> {
    fn of(method: &Method<'_>, cx: &mut PassCx<'_>) -> Option<ValueNumbers> {
        let (cfg, uses) = (cx.cfg(method), cx.get::<Uses>(method));
        let (reaching, memory) = (cx.get::<Option<Reaching>>(method), cx.get::<Option<Memory>>(method));
        let (reaching, memory) = (reaching.as_ref().as_ref()?, memory.as_ref().as_ref()?);
        let numbers = ValueNumbers::compute(method, &cfg, &uses, reaching, memory);
        cx.spend(numbers.rounds() as u64 * method.node_count() as u64);
        Some(numbers)
    }
}

#[cfg(test)]
mod tests;
