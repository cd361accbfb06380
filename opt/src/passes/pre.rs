//! Partial redundancy elimination: what is computed on some paths to where it is computed again is computed on the others, too, before
//! they meet; and so what a loop computes in each turn alike is computed before it.
//!
//! ```text
//!   b1: %1 = load @m [%a]    b2: call @f          b1: %1 = load…; set $t, %1    b2: call @f
//!        ╲                    ╱                        ╲                         ╱
//!         b3: %2 = load @m [entry $a]        ⇒          ╲           new: set $t, load @m [entry $a]
//!                                                        b3: %2 = entry $t
//! ```
//!
//! An expression is what a piece of memory holds, or a floating value. It is *available* where every path has computed it, or stored it,
//! since it last may have changed. At a join that some paths reach with it and others without, and from which every path computes it,
//! it is put on the edges of those without, if they run less often than the join. At a loop's header these are the edges into the
//! loop.
//!
//! * A load is made only where it would be made anyway, unless its address cannot be wrong.
//! * A floating value may be computed in vain. It leaves a loop if every turn computes it, and if it takes several cycles
//!   or a register for it is likely to be free.
//! * Checks stay where they are: moving them is another pass's business. What is computed from the result of a root stays, too,
//!   and may go when the pass is run again, after that root.
//!
//! # Guarantees
//!
//! Nothing is put on exception edges. No path makes more loads than before, but for those that cannot fault.
//!
//! # Cost
//!
//! Linear in nodes, besides the bit vectors of at most [`MAX_EXPRESSIONS`](crate::analysis::available::MAX_EXPRESSIONS) expressions: of more,
//! those in the innermost loops are looked at.

mod expressions;
mod insertions;

use dagwood_il::edit::{Edits, Point};
use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Local, Method, Node, Opcode, Payload, SourcePos, Type};

use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use crate::passes::dead_store;
use crate::passes::gvn::Redundant;
use expressions::{Expression, Expressions, Use};
use insertions::{Edge, Insertion};

/// The pass.
pub const PASS: Pass = Pass {
    name: "pre",
    summary: "compute before joins and loops what some of their paths have computed already",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let found = find(method, cx, &[]);
    let mut edits = Edits::new();
    found.iter().for_each(|found| collect(method, cx, &mut edits, found));
    cx.apply(method, edits)
}

/// The expressions of a method, and what is to be done with them.
pub(super) struct Found {
    expressions: Expressions,
    what: insertions::Found,
}

/// What is to be done, if there is anything. What is `redundant` is going to be known without being computed.
pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>, redundant: &[Redundant]) -> Option<Found> {
    let cfg = cx.cfg(method);
    if cfg.order().iter().all(|block| cfg.predecessors(*block).len() < 2) {
        return None;
    }
    let expressions = Expressions::find(method, cx, redundant)?;
    let what = insertions::find(method, cx, &expressions)?;
    Some(Found { expressions, what })
}

/// Asks for each rewrite, and says what it is.
pub(super) fn collect(method: &mut Method<'_>, cx: &mut PassCx<'_>, edits: &mut Edits, found: &Found) {
    let Found { expressions, what } = found;
    for (place, why) in &what.missed {
        cx.missed(*place, || (*why).into());
    }
    let mut on_edges: Vec<(Edge, Vec<Node>)> = Vec::new();
    let mut served = Vec::new();
    for (index, expression) in expressions.list.iter().enumerate() {
        let uses = what.uses_of(index);
        let Some((_, Use { node, point, .. })) = uses.first() else { continue };
        let opcode = method.opcode(*node);
        let insertions = what.insertions_of(index);
        let is_allowed = cx.allows((point.block, *node), || match insertions.len() {
            0 => format!("`{opcode}` is known on all paths"),
            count => {
                format!("`{opcode}` is known on all paths but {count}, which compute it before they get here")
            }
        });
        if is_allowed {
            let ty = method.ty(*node);
            let local = method.add_local("early", ty);
            let is_stored = expression.provided.iter().any(|known| known.value != known.node);
            provide(method, edits, expression, uses, local);
            for Insertion { edge, sample, .. } in insertions {
                on_edges.push((*edge, make(method, *sample, local)));
            }
            for (_, Use { node, point, .. }) in uses {
                let entry = method.add_node(Opcode::Entry, ty, &[], Payload::Local(local));
                edits.replace(*node, entry);
                if method.is_root(*node) {
                    edits.remove(*node);
                }
                if is_stored {
                    served.push(point.block);
                }
            }
        }
    }
    on_edges.sort_by_key(|(edge, _)| *edge);
    for of_edge in on_edges.chunk_by(|left, right| left.0 == right.0) {
        let Edge { from, to } = of_edge[0].0;
        let roots: Vec<Node> = of_edge.iter().flat_map(|(_, roots)| roots).copied().collect();
        edits.preheader(method, to, &[from], &roots);
    }
    dead_store::demand(method, cx, &served);
}

/// Keeps the value in `local` wherever it is known and not taken from there.
fn provide(
    method: &mut Method<'_>,
    edits: &mut Edits,
    expression: &Expression,
    replaced: &[(usize, Use)],
    local: Local,
) {
    for Use { node, point, value } in expression.computed.iter().chain(&expression.provided) {
        if !replaced.iter().any(|(_, replaced)| replaced.node == *node) {
            let set = method.add_node(Opcode::Set, Type::Void, &[*value], Payload::Local(local));
            edits.insert(*point, set, SourcePos::NONE);
        }
    }
}

/// The roots that compute an expression from locals alone, and put it into one.
fn make(method: &mut Method<'_>, sample: Node, local: Local) -> Vec<Node> {
    let mut made: Vec<(Node, Node)> = Vec::new();
    let mut pending = vec![(sample, false)];
    while let Some((node, is_ready)) = pending.pop() {
        if made.iter().any(|(from, _)| *from == node) {
            continue;
        }
        let operands = method.operands(node).to_vec();
        if !is_ready {
            pending.push((node, true));
            pending.extend(operands.iter().map(|operand| (*operand, false)));
            continue;
        }
        let copies: Vec<Node> = operands
            .iter()
            .filter_map(|operand| made.iter().find(|(from, _)| from == operand))
            .map(|(_, to)| *to)
            .collect();
        let copy = method.add_node(method.opcode(node), method.ty(node), &copies, method.payload(node));
        made.push((node, copy));
    }
    let value = made.last().map_or(sample, |(_, to)| *to);
    let set = method.add_node(Opcode::Set, Type::Void, &[value], Payload::Local(local));
    if method.is_root(value) { vec![value, set] } else { vec![set] }
}

/// A place before a root, for what is asked of positions.
fn point(block: Block, position: u32) -> Point {
    Point { block, position }
}

/// A table by block.
type ByBlock<T> = EntityVec<Block, T>;

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use dagwood_il::{Bump, text};

    use super::*;
    use crate::analysis::available::MAX_EXPRESSIONS;
    use crate::{Options, Remarks, Request, Strategy, optimize};

    /// What is said of a method that loads so much before and behind a join.
    fn said(loads: usize) -> Vec<String> {
        let loaded = |name: &str| {
            (0..loads).fold(String::new(), |mut text, load| {
                writeln!(text, "  %{name}{load} = load.i32 @mem [%{name} + {}]", 4 * load)
                    .expect("a string takes all");
                text
            })
        };
        let source = format!(
            "symbol @mem region\nmethod @f ($a: addr, $c: i32) -> () {{\nb0:\n  %a = entry.addr $a\n  %c = entry.i32 $c\n  br %c, b1, b2\n\
             b1 extends b0:\n{}  goto b3\nb2 extends b0:\n  goto b3\nb3:\n  %b = entry.addr $a\n{}  return\n}}\n",
            loaded("a"),
            loaded("b"),
        );
        let arena = Bump::new();
        let mut parsed = text::parse(&source, &arena).expect("valid");
        let strategy = Strategy::of_passes(&[PASS]);
        let options = Options { remarks: Remarks::On, ..Options::default() };
        let request = Request::new(&parsed.module, &strategy, &options);
        let report = optimize(&request, &mut parsed.bodies[0].method, &mut ()).expect("nothing goes wrong");
        report
            .remarks
            .into_iter()
            .map(|remark| remark.text)
            .filter(|text| text.contains("too many"))
            .collect()
    }

    #[test]
    fn of_too_many_expressions_it_is_said_which_are_not_looked_at() {
        assert!(said(MAX_EXPRESSIONS).is_empty());
        assert!(said(MAX_EXPRESSIONS + 3)[0].contains("nor 2 in no deeper loops"));
    }
}
