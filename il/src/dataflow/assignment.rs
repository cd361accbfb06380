//! Whether every local is assigned before it is read.
//!
//! A local that is not a parameter and is live where the method is entered has a path to an `entry` of it on which
//! nothing sets it: liveness answers the question. Only where the answer is no, a second analysis, forward, finds the
//! reads at the ends of such paths.

use super::liveness::{fact, sets};
use super::{Direction, Event, Liveness, Meet, Problem, TooManyFacts, solve};
use crate::cfg::Cfg;
use crate::entity::{Entity, EntityVec};
use crate::method::{Block, Local, Method, Node, Payload};
use crate::opcode::Opcode;

/// Locals whose reads are looked for, of those that are read before they are assigned.
const MAX_LOCALS: usize = 64;

/// The `entry` nodes that may read a local that was not assigned, by ascending node. `heads` is what
/// [`heads_of_uses`](super::heads_of_uses) says. Of very many locals, the reads of some only.
///
/// # Errors
///
/// If the reads are too many to tell.
pub fn unassigned_reads(
    method: &Method<'_>,
    cfg: &Cfg,
    heads: &EntityVec<Node, Option<Block>>,
) -> Result<Vec<Node>, TooManyFacts> {
    let Some(entry) = cfg.order().first() else { return Ok(Vec::new()) };
    let live = Liveness::compute_with(method, cfg, heads, |block| block == *entry)?;
    let suspects: Vec<u32> = live
        .live_in(*entry)
        .filter(|local| local.index() >= method.param_count())
        .take(MAX_LOCALS)
        .map(fact)
        .collect();
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let is_suspect = |local: Local| suspects.binary_search(&fact(local)).is_ok();
    let events = sets(method)
        .filter(|(.., local)| is_suspect(*local))
        .map(|(block, position, local)| Event::of(fact(local), block, position, false))
        .collect();
    let problem =
        Problem { direction: Direction::Forward, meet: Meet::Any, at_entry: suspects.clone(), events };
    let unassigned = solve(problem, cfg, |_| true)?;
    let reads =
        heads.iter().filter(|(node, head)| match (method.opcode(*node), method.payload(*node), head) {
            (Opcode::Entry, Payload::Local(local), Some(head)) => {
                is_suspect(local) && unassigned.holds(*head, fact(local))
            }
            _ => false,
        });
    Ok(reads.map(|(node, _)| node).collect())
}
