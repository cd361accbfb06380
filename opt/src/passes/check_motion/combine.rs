//! Several checks against one length become the one that reaches furthest.

use std::collections::BTreeSet;

use dagwood_il::entity::Entity;
use dagwood_il::{Block, Edits, Method, Node, Opcode, Payload, SourcePos};

use super::is_barrier;
use crate::analysis::facts::{Facts, Known, Reading, Visitor};
use crate::cx::PassCx;

/// A bounds check: `index + gap <= length` of what both are computed from.
#[derive(Clone, Copy)]
pub(super) struct Check {
    root: Node,
    position: SourcePos,
    index: Reading,
    length: Reading,
    gap: i128,
    /// What its operand for the length is at least, passed or not.
    least: u64,
}

/// A check that reaches further than one shortly before it.
pub(super) struct Pair {
    block: Block,
    first: Check,
    second: Check,
}

/// The pairs of checks with nothing noticeable between them.
pub(super) fn find(method: &Method<'_>, cx: &mut PassCx<'_>, facts: &Facts) -> Vec<Pair> {
    let mut heads = cx.heads(method);
    let within = heads.iter().take_while(|head| cx.spend(facts.size_of(**head))).count();
    heads.truncate(within);
    let mut pairs = Pairs { found: Vec::new(), recent: Vec::new() };
    let mut known = facts.known(cx.module(), method);
    for head in heads {
        facts.walk(&mut known, head, &mut pairs);
    }
    pairs.found
}

/// Makes one check of two, but for those that were `moved` already.
pub(super) fn apply(
    method: &mut Method<'_>,
    cx: &mut PassCx<'_>,
    edits: &mut Edits,
    pairs: Vec<Pair>,
    mut moved: BTreeSet<Node>,
) {
    for Pair { block, first, second } in pairs {
        if moved.contains(&first.root) || moved.contains(&second.root) {
            continue;
        }
        if !raises_alike(method, &first, &second) {
            cx.missed((block, first.root), || {
                format!(
                    "{} reaches further, but what it raises can be told from what this raises",
                    second.root
                )
            });
        } else if cx.allows((block, first.root), || format!("{} is made along with it", second.root)) {
            moved.extend([first.root, second.root]);
            combine(method, edits, &first, &second);
        }
    }
}

/// Whether nobody can tell what one raises from what the other does.
fn raises_alike(method: &Method<'_>, first: &Check, second: &Check) -> bool {
    first.position == second.position
        && method.payload(first.root) == method.payload(second.root)
        && method.frame_of(first.root) == method.frame_of(second.root)
}

fn combine(method: &mut Method<'_>, edits: &mut Edits, first: &Check, second: &Check) {
    let mut operands = method.operands(first.root).to_vec();
    let ty = method.ty(operands[1]);
    let further =
        u64::try_from(second.gap - first.gap).expect("the second reaches further, within the length's type");
    let further = method.add_node(Opcode::Const, ty, &[], Payload::Const(further));
    operands[1] = method.add_node(Opcode::Sub, ty, &[operands[1], further], Payload::None);
    let (opcode, payload) = (method.opcode(first.root), method.payload(first.root));
    let check = method.add_node(opcode, method.ty(first.root), &operands, payload);
    edits.change(first.root, check);
    edits.remove(second.root);
    edits.replace(second.root, method.operands(second.root)[0]);
}

/// Finds pairs of checks in a block with nothing noticeable between them.
struct Pairs {
    found: Vec<Pair>,
    /// The checks since something was noticeable.
    recent: Vec<Check>,
}

/// How many checks are remembered.
const MAX_RECENT: usize = 16;

impl Visitor for Pairs {
    fn block(&mut self, _: &mut Known<'_, '_>, _: Block) {
        self.recent.clear();
    }

    fn root(&mut self, known: &mut Known<'_, '_>, block: Block, position: u32, root: Node) {
        let method = known.method();
        if method.opcode(root) != Opcode::BoundsCheck {
            if is_barrier(known.module(), method, block, root) {
                self.recent.clear();
            }
            return;
        }
        if !known.outcome(root).1 {
            return;
        }
        let source = method.roots(block)[position as usize].position;
        let check = described(known, root, source);
        let fits = |first: &&Check| {
            // The first check's length less the difference must not wrap, though it fail.
            (first.index, first.length) == (check.index, check.length)
                && check.gap > first.gap
                && check.gap - first.gap <= i128::from(first.least)
        };
        let first = self.recent.iter().find(fits).copied();
        if let Some(first) = first {
            self.found.push(Pair { block, first, second: check });
        }
        // What raises for another index or length, or something else, keeps later checks from moving up across it.
        let is_crossed = |other: &Check| {
            (other.index, other.length) == (check.index, check.length) && raises_alike(method, other, &check)
        };
        if !self.recent.iter().all(is_crossed) || self.recent.len() >= MAX_RECENT {
            self.recent.clear();
        }
        self.recent.push(check);
    }
}

fn described(known: &Known<'_, '_>, root: Node, position: SourcePos) -> Check {
    let operands = known.method().operands(root);
    let (index, below) = known.simplest(Reading::new(operands[0].index(), false));
    let (length, above) = known.simplest(Reading::new(operands[1].index(), false));
    let least = known.fact(operands[1]).umin();
    Check { root, position, index, length, gap: 1 + below - above, least }
}
