//! From locals to block parameters.
//!
//! ```text
//!   b1: set $x, %1 ─┐                       ┌─► block1: jump block3(v1)
//!   b2: set $x, %2 ─┴► b3: entry $x         └─► block2: jump block3(v2)      block3(v3: i32)
//! ```
//!
//! Extended blocks are lowered in reverse post-order of their heads, so when a head is begun all edges into it have been
//! seen but those that close a cycle. Each edge brings the values of the locals that are live at the head. A local gets a
//! parameter there only if
//!
//! * two edges bring different values; or
//! * the head is that of a loop, and the loop sets the local; or
//! * an edge that closes a cycle comes from no such loop: then every live local gets one.
//!
//! Otherwise the one value that all edges bring is the local's. Register allocation is most of the compile time, and
//! block parameters are what makes it expensive; this leaves no superfluous ones where control flow is reducible.
//!
//! Inside an extended block there is nothing to merge: the locals' values are a table, with a log of what each block
//! changed so that its siblings begin with the values of their parent.

use cranelift_codegen::ir::{BlockArg, Function, Inst, Value};
use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Cfg, Dominators, Liveness, Local, Loops, Method, Node, Opcode, Payload};

/// The parameters that a block can have: Cranelift counts them with 16 bits.
pub(crate) const MAX_BLOCK_PARAMS: usize = 60_000;

/// The values that all edges of a method may bring to heads together. Few locals live at few heads are far from it; many
/// at many would take the product in memory.
pub(crate) const MAX_EDGE_VALUES: usize = 1 << 23;

const NONE: u32 = u32::MAX;

/// What a local holds: a node of this extended block, or the value it had at the head.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binding {
    /// Nothing that is ever read.
    Unset,
    /// A node, whose value is found where it is needed.
    Node(Node),
    /// A value.
    Value(Value),
}

/// An edge into a head that has not been begun.
struct Incoming {
    inst: Inst,
    /// Which of the instruction's destinations.
    destination: u32,
    /// Where its values start.
    values: u32,
    /// The next edge into the same head.
    next: u32,
}

/// What is known of a block as a head.
#[derive(Clone, Copy)]
struct Head {
    /// The last edge seen.
    edges: u32,
    /// Its parameters' locals, once it has been begun.
    params: Option<(u32, u32)>,
}

/// The values of locals while a method is lowered.
#[derive(Default)]
pub(crate) struct Locals {
    live: Lists,
    bindings: Vec<Binding>,
    log: Vec<(Local, Binding)>,
    heads: Vec<Head>,
    incoming: Vec<Incoming>,
    values: Vec<Value>,
    params: Vec<Local>,
    /// How many values edges have brought so far.
    brought: usize,
    stores: Stores,
}

/// The live locals of each head, by block.
#[derive(Default)]
struct Lists {
    starts: Vec<u32>,
    locals: Vec<Local>,
}

impl Lists {
    fn get(&self, block: Block) -> std::ops::Range<usize> {
        self.starts[block.index()] as usize..self.starts[block.index() + 1] as usize
    }
}

impl Locals {
    /// Prepares for `method`.
    pub(crate) fn prepare(&mut self, method: &Method<'_>, cfg: &Cfg) -> Result<(), TooManyFacts> {
        let liveness = Liveness::compute(method, cfg)?;
        self.live.starts.clear();
        self.live.locals.clear();
        for block in method.blocks() {
            self.live.starts.push(self.live.locals.len() as u32);
            if method.block(block).extends.is_none() {
                self.live.locals.extend(liveness.live_in(block));
            }
        }
        self.live.starts.push(self.live.locals.len() as u32);
        self.bindings.clear();
        self.bindings.resize(method.locals().len(), Binding::Unset);
        self.log.clear();
        self.heads.clear();
        self.heads.resize(method.block_count(), Head { edges: NONE, params: None });
        self.incoming.clear();
        self.values.clear();
        self.params.clear();
        self.brought = 0;
        self.stores.prepare(method, cfg);
        Ok(())
    }

    /// What a local holds.
    pub(crate) fn get(&self, local: Local) -> Binding {
        self.bindings[local.index()]
    }

    /// Gives a local what it holds where the method is entered.
    pub(crate) fn bind(&mut self, local: Local, binding: Binding) {
        self.bindings[local.index()] = binding;
    }

    /// Gives a local what it holds from here on, in this block and those that continue it.
    pub(crate) fn set(&mut self, local: Local, binding: Binding) {
        let before = std::mem::replace(&mut self.bindings[local.index()], binding);
        self.log.push((local, before));
    }

    /// A point to which [`Locals::restore`] can go back.
    pub(crate) fn mark(&self) -> usize {
        self.log.len()
    }

    /// Gives every local what it held at `mark`.
    pub(crate) fn restore(&mut self, mark: usize) {
        for (local, before) in self.log.drain(mark..).rev() {
            self.bindings[local.index()] = before;
        }
    }

    /// How many locals' values an edge into `head` must bring now: those that are live, or once the head has been begun,
    /// those that have parameters.
    pub(crate) fn wanted_count(&self, head: Block) -> usize {
        self.wanted_locals(head).len()
    }

    /// What one of these locals holds.
    pub(crate) fn wanted(&self, head: Block, index: usize) -> Binding {
        self.get(self.wanted_locals(head)[index])
    }

    fn wanted_locals(&self, head: Block) -> &[Local] {
        match self.heads[head.index()].params {
            Some((start, end)) => &self.params[start as usize..end as usize],
            None => &self.live.locals[self.live.get(head)],
        }
    }

    /// Adds an edge into `head`: destination `destination` of `inst`, bringing `values`, one for each wanted local. None if
    /// edges have brought too many.
    pub(crate) fn add_edge(
        &mut self,
        func: &mut Function,
        head: Block,
        inst: Inst,
        destination: usize,
        values: &[Value],
    ) -> Option<()> {
        self.brought += values.len();
        if self.brought > MAX_EDGE_VALUES {
            return None;
        }
        if self.heads[head.index()].params.is_some() {
            for value in values {
                append_argument(func, inst, destination, *value);
            }
            return Some(());
        }
        let start = self.values.len() as u32;
        self.values.extend_from_slice(values);
        let edges = &mut self.heads[head.index()].edges;
        let next = std::mem::replace(edges, self.incoming.len() as u32);
        self.incoming.push(Incoming { inst, destination: destination as u32, values: start, next });
        Some(())
    }

    /// Begins a head: finds out which live locals need a parameter, calls `add_param` for each and gives the value to
    /// all edges seen so far; binds all live locals. None if there are too many.
    pub(crate) fn begin_head(
        &mut self,
        func: &mut Function,
        head: Block,
        mut add_param: impl FnMut(&mut Function, Local) -> Value,
    ) -> Option<()> {
        let cycle = self.stores.cycle(head);
        let live = self.live.get(head);
        let params_start = self.params.len();
        for (index, at) in live.enumerate() {
            let local = self.live.locals[at];
            let one = self.one_value(head, index).filter(|_| !self.stores.may_set(&cycle, local));
            let value = match one {
                Some(value) => value,
                None if self.params.len() - params_start == MAX_BLOCK_PARAMS => return None,
                None => {
                    self.params.push(local);
                    let value = add_param(func, local);
                    self.pass(func, head, index);
                    value
                }
            };
            self.bindings[local.index()] = Binding::Value(value);
        }
        self.heads[head.index()].params = Some((params_start as u32, self.params.len() as u32));
        Some(())
    }

    /// The value of the live local with this index on every edge seen so far, if it is the same.
    fn one_value(&self, head: Block, index: usize) -> Option<Value> {
        let mut at = self.heads[head.index()].edges;
        let mut one = None;
        while at != NONE {
            let edge = &self.incoming[at as usize];
            let value = self.values[edge.values as usize + index];
            if one.is_some_and(|one| one != value) {
                return None;
            }
            one = Some(value);
            at = edge.next;
        }
        one
    }

    /// Passes the values of the live local with this index along every edge seen so far.
    fn pass(&self, func: &mut Function, head: Block, index: usize) {
        let mut at = self.heads[head.index()].edges;
        while at != NONE {
            let edge = &self.incoming[at as usize];
            let value = self.values[edge.values as usize + index];
            append_argument(func, edge.inst, edge.destination as usize, value);
            at = edge.next;
        }
    }
}

fn append_argument(func: &mut Function, inst: Inst, destination: usize, value: Value) {
    let dfg = &mut func.dfg;
    let destinations =
        dfg.insts[inst].branch_destination_mut(&mut dfg.jump_tables, &mut dfg.exception_tables);
    destinations[destination].append_argument(BlockArg::Value(value), &mut dfg.value_lists);
}

/// Which loops set which locals.
#[derive(Default)]
struct Stores {
    /// By block, where edges that close a cycle lead to it.
    cycles: Vec<Cycle>,
    /// By local, where its numbers start.
    starts: Vec<u32>,
    /// For each local, the numbers of the loops with a `set` of it, ascending.
    numbers: Vec<u32>,
}

/// What edges that close a cycle say about a head.
#[derive(Clone, Copy, Default)]
enum Cycle {
    /// There are none.
    #[default]
    None,
    /// They come from the head's own loop, which has these numbers.
    Loop(u32, u32),
    /// They come from elsewhere.
    Irreducible,
}

impl Stores {
    fn prepare(&mut self, method: &Method<'_>, cfg: &Cfg) {
        self.cycles.clear();
        let closes = |block: Block| {
            cfg.predecessors(block)
                .iter()
                .any(|edge| cfg.is_reachable(edge.block) && cfg.rank(edge.block) >= cfg.rank(block))
        };
        if !cfg.order().iter().any(|block| closes(*block)) {
            return;
        }
        let loops = Loops::compute(cfg, &Dominators::compute(cfg));
        self.cycles.resize(method.block_count(), Cycle::None);
        for (_, data) in loops.loops() {
            self.cycles[data.header.index()] = Cycle::Loop(*data.span().start(), *data.span().end());
        }
        for (_, head) in loops.irreducible_edges() {
            self.cycles[head.index()] = Cycle::Irreducible;
        }
        self.collect(method, cfg, &loops);
    }

    fn collect(&mut self, method: &Method<'_>, cfg: &Cfg, loops: &Loops) {
        let sets = || {
            cfg.order().iter().flat_map(|block| {
                let number = loops.innermost(*block).map(|inner| *loops.data(inner).span().start());
                method.roots(*block).iter().filter_map(move |root| {
                    match (method.opcode(root.node), method.payload(root.node)) {
                        (Opcode::Set, Payload::Local(local)) => Some((local, number?)),
                        _ => None,
                    }
                })
            })
        };
        self.starts.clear();
        self.starts.resize(method.locals().len() + 1, 0);
        for (local, _) in sets() {
            self.starts[local.index() + 1] += 1;
        }
        for local in 1..self.starts.len() {
            self.starts[local] += self.starts[local - 1];
        }
        self.numbers.clear();
        self.numbers.resize(self.starts.last().map_or(0, |end| *end as usize), 0);
        let mut next = self.starts.clone();
        for (local, number) in sets() {
            let slot = &mut next[local.index()];
            self.numbers[*slot as usize] = number;
            *slot += 1;
        }
        for local in 1..self.starts.len() {
            self.numbers[self.starts[local - 1] as usize..self.starts[local] as usize].sort_unstable();
        }
    }

    fn cycle(&self, head: Block) -> Cycle {
        self.cycles.get(head.index()).copied().unwrap_or_default()
    }

    /// Whether an edge that closes the cycle may bring another value of `local` than the head began with.
    fn may_set(&self, cycle: &Cycle, local: Local) -> bool {
        match *cycle {
            Cycle::None => false,
            Cycle::Irreducible => true,
            Cycle::Loop(first, last) => {
                let range = self.starts[local.index()] as usize..self.starts[local.index() + 1] as usize;
                let numbers = &self.numbers[range];
                let at = numbers.partition_point(|number| *number < first);
                numbers.get(at).is_some_and(|number| *number <= last)
            }
        }
    }
}
