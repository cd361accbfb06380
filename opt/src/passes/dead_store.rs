//! Dead stores: what is stored, or given to a local, and overwritten before anybody may look goes.
//!
//! ```text
//!   store @point [%a + 8], %1                          (gone)
//!   set $x, %2                                         (gone: neither the handler nor b3 reads $x first)
//!   %3 = udiv %4, %5        may raise        ⇒         %3 = udiv %4, %5
//!   set $x, %3                                         set $x, %3
//!   store @point [%a + 8], %3                          store @point [%a + 8], %3
//! ```
//!
//! # Why
//!
//! Frontends store what their source says. After inlining, and when loads are served from what was stored, most of it is read by nobody; and
//! a value that is stored must be computed.
//!
//! # Guarantees
//!
//! * A raise between the two stores counts: a handler may read a local or memory, and the caller memory. So do yield points, fences, and
//!   guards, from which the interpreter goes on.
//! * Slots whose address goes nowhere are forgotten when the method is left; other memory is not.
//! * What is read-only is left alone. Any part of what is found may be done without the rest.
//!
//! # Cost
//!
//! Two problems for the dataflow engine: the live locals at the beginnings of all blocks, and at most
//! [`MAX_LOCATIONS`](crate::analysis::overwrites::MAX_LOCATIONS) locations in memory.

use dagwood_il::dataflow::TooManyFacts;
use dagwood_il::entity::Entity;
use dagwood_il::{Block, Cfg, Edits, Local, Method, Node};

use crate::analysis::live_locals::{LiveLocals, set};
use crate::analysis::location::stored_value;
use crate::analysis::overwrites::{Dead, Overwrites};
use crate::cx::PassCx;
use crate::demand::{Demand, Gain};
use crate::pass::{Changed, Pass};
use crate::region::Region;

/// The pass.
pub const PASS: Pass = Pass {
    name: "dead_store",
    summary: "remove stores and sets that are overwritten before anybody looks",
    run,
};

/// The cycles that a store costs which nobody reads any more.
const STORE_CYCLES: u32 = 1;

/// Asks for this pass where loads in these blocks are served by what was stored, without memory: nobody may read that now.
pub(super) fn demand(method: &Method<'_>, cx: &mut PassCx<'_>, served: &[Block]) {
    if !served.is_empty() {
        let of = |block: &Block| Gain::cycles(STORE_CYCLES, method.block(*block).frequency).0;
        let gain = Gain(served.iter().map(of).fold(0, u64::saturating_add));
        // It looks everywhere, and costs as much.
        cx.demand(Demand::new(PASS, Region::All, "loads are served by what was stored", gain));
    }
}

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let cfg = cx.cfg(method);
    if !cx.spend(method.node_count() as u64) {
        return Changed::No;
    }
    let mut edits = Edits::new();
    let live = cx.get::<Result<LiveLocals, TooManyFacts>>(method);
    for (block, node, local) in live.iter().flat_map(|live| dead_sets(method, &cfg, live)) {
        if cx.allows((block, node), || {
            format!("nobody reads ${} before it is set again", method.local(local).name)
        }) {
            edits.remove(node);
        }
    }
    let has_stores = method.nodes().any(|node| stored_value(method, node).is_some());
    let overwrites = has_stores.then(|| cx.get::<Option<Overwrites>>(method));
    let found = overwrites
        .iter()
        .filter_map(|known| known.as_ref().as_ref())
        .flat_map(|known| known.dead(method, &cfg));
    for Dead { block, node, seen } in found {
        match seen {
            Some(why) => cx.missed((block, node), || format!("what is stored is overwritten, but {why}")),
            None if cx.allows((block, node), || "nobody reads what is stored".into()) => edits.remove(node),
            None => {}
        }
    }
    cx.apply(method, edits)
}

/// The `set`s whose locals are set again on all ways to where they are read.
fn dead_sets(method: &Method<'_>, cfg: &Cfg, live: &LiveLocals) -> Vec<(Block, Node, Local)> {
    let mut found = Vec::new();
    // The next place in the block in hand at which each local is set: block, position.
    let mut next_set: Vec<(Option<Block>, u32)> = vec![(None, 0); method.locals().len()];
    for block in cfg.order() {
        for (position, root) in method.roots(*block).iter().enumerate().rev() {
            let Some((local, _)) = set(method, root.node) else { continue };
            let position = u32::try_from(position).expect("a method has fewer than 2^32 roots");
            let (at, next) = std::mem::replace(&mut next_set[local.index()], (Some(*block), position));
            let is_set_again = at == Some(*block);
            let end = if is_set_again { next } else { u32::MAX };
            let is_read = !is_set_again && live.is_live_out(cfg, *block, local)
                || live.is_handled(cfg, *block, local, position..end);
            if !is_read {
                found.push((*block, root.node, local));
            }
        }
    }
    found
}
