//! Store sinking: a `set` or store that only some of the ways on need goes there.
//!
//! ```text
//!   b0: set $x, (mul %a, %b)                 b0: br %c, b1, b2
//!       br %c, b1, b2              ⇒         b1: return
//!   b1: return                               b2: set $x, (mul %a, %b)
//!   b2: goto b3 (reads $x)                       goto b3 (reads $x)
//! ```
//!
//! # Why
//!
//! Exits from a loop, and slow paths, take values along that the fast path has no use for. What a `set` or store uses is computed before it;
//! where that floats it goes along.
//!
//! # Guarantees
//!
//! * It stands on a way on instead, once on each that needs it, and together these are taken no more than half as often. Never in a loop that
//!   it was not in: an edge belongs to none that it enters.
//! * Nothing between its old place and the end of the block reads or changes what it writes, or may raise to where that is seen. A store
//!   whose address dies at the next yield point stays; what is `set` never does.
//!
//! # Cost
//!
//! Linear in roots, and in what [`Overwrites`] costs.

use std::collections::BTreeSet;

use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Cfg, Dying, Edits, Method, Node, Properties};

use crate::analysis::frequencies::{Frequencies, WHOLE};
use crate::analysis::live_locals::{LiveLocals, set};
use crate::analysis::location::stored_value;
use crate::analysis::overwrites::{Overwrites, Partly};
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};

/// The pass.
pub const PASS: Pass =
    Pass { name: "store_sinking", summary: "move sets and stores to the ways on that need them", run };

/// How many of [`WHOLE`] times the ways that need it may be taken.
const MAX_SHARE: u32 = WHOLE / 2;

/// What is to move from the end of a block.
struct Sunk {
    block: Block,
    partly: Partly,
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let (cfg, frequencies) = (cx.cfg(method), cx.get::<Frequencies>(method));
    let live = cx.get::<Result<LiveLocals, TooManyFacts>>(method);
    let has_stores = method.nodes().any(|node| stored_value(method, node).is_some());
    let overwrites = has_stores.then(|| cx.get::<Option<Overwrites>>(method));
    let overwrites = overwrites.as_ref().and_then(|known| known.as_ref().as_ref());
    if !cx.spend(method.node_count() as u64) {
        return Changed::No;
    }
    let mut sunk = Vec::new();
    if let Ok(live) = &*live {
        let finder = Finder { method, cfg: &cfg, live, users: users(method) };
        for block in cfg.order().iter().filter(|block| method.successors(**block).len() > 1) {
            sunk.extend(finder.sets(*block).into_iter().map(|partly| Sunk { block: *block, partly }));
        }
    }
    if let Some(overwrites) = overwrites {
        let dying = Dying::compute(method);
        for block in cfg.order().iter().filter(|block| method.successors(**block).len() > 1) {
            let stores = overwrites.partly_read(method, &cfg, *block).into_iter();
            // A yield point may stand between its old place and its new one.
            let stores =
                stores.filter(|store| !method.operands(store.node).iter().any(|operand| dying.has(*operand)));
            sunk.extend(stores.map(|partly| Sunk { block: *block, partly }));
        }
    }
    let edits = collect(method, cx, &frequencies, sunk);
    cx.apply(method, edits)
}

fn collect(
    method: &mut Method<'_>,
    cx: &mut PassCx<'_>,
    frequencies: &Frequencies,
    sunk: Vec<Sunk>,
) -> Edits {
    let mut edits = Edits::new();
    // What goes to one edge, in the order in which it stood.
    let mut on_edges: Vec<(Block, Block, Vec<Node>)> = Vec::new();
    for Sunk { block, partly: Partly { node, ways } } in sunk.into_iter().rev() {
        let share: u32 = ways.iter().map(|way| frequencies.share(block, *way)).sum();
        if share > MAX_SHARE {
            cx.missed((block, node), || "it is needed on some ways only, but these are taken often".into());
            continue;
        }
        if !cx.allows((block, node), || {
            format!("`{}` is needed only on the way to {}", method.opcode(node), names(&ways))
        }) {
            continue;
        }
        edits.remove(node);
        let (opcode, payload) = (method.opcode(node), method.payload(node));
        let operands = method.operands(node).to_vec();
        for way in ways {
            let copy = method.add_node(opcode, method.ty(node), &operands, payload);
            match on_edges.iter_mut().find(|(from, to, _)| (*from, *to) == (block, way)) {
                Some((_, _, roots)) => roots.push(copy),
                None => on_edges.push((block, way, vec![copy])),
            }
        }
    }
    for (from, to, roots) in on_edges {
        edits.on_edge(from, to, &roots);
    }
    edits
}

fn names(ways: &[Block]) -> String {
    let names: Vec<String> = ways.iter().map(|way| way.to_string()).collect();
    names.join(" and ")
}

/// How many nodes use each one, those of frame states not counted: they place nothing.
fn users(method: &Method<'_>) -> EntityVec<Node, u32> {
    let mut users = EntityVec::filled(0, method.node_count());
    for node in method.nodes().filter(|node| !method.opcode(*node).has(Properties::FRAME_ONLY)) {
        for operand in method.operands(node) {
            users[*operand] += 1;
        }
    }
    users
}

struct Finder<'f, 'a> {
    method: &'f Method<'a>,
    cfg: &'f Cfg,
    live: &'f LiveLocals,
    users: EntityVec<Node, u32>,
}

impl Finder<'_, '_> {
    /// The `set`s of a block that only some of the ways on need, and whose values are computed for them alone; the last first.
    fn sets(&self, block: Block) -> Vec<Partly> {
        let method = self.method;
        let ways: Vec<Block> = self
            .cfg
            .successors(block)
            .iter()
            .filter(|edge| !edge.is_exception())
            .map(|edge| edge.block)
            .collect();
        let mut found = Vec::new();
        let mut set_later = BTreeSet::new();
        for (position, root) in method.roots(block).iter().enumerate().rev() {
            let Some((local, value)) = set(method, root.node) else { continue };
            let is_last = set_later.insert(local);
            let is_for_it =
                !method.is_root(value) && !method.operands(value).is_empty() && self.users[value] == 1;
            if !is_last || !is_for_it {
                continue;
            }
            let position = u32::try_from(position).expect("a method has fewer than 2^32 roots");
            if self.live.is_handled(self.cfg, block, local, position..u32::MAX) {
                continue;
            }
            let needed: Vec<Block> =
                ways.iter().copied().filter(|way| self.live.is_live_in(*way, local)).collect();
            if !needed.is_empty() && needed.len() < ways.len() {
                found.push(Partly { node: root.node, ways: needed });
            }
        }
        found
    }
}
