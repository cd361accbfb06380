//! Value propagation within extended blocks: what checks and branches say is used below them.
//!
//! ```text
//!   br (ult %i, 10), b2, b3                      br (ult %i, 10), b2, b3
//!   b2: boundscheck %i, 16                ⇒      b2:
//!       br (ult %i, 20), b4, b5                      goto b4
//!       store … (sdiv %i, 2)                         store … (udiv %i, 2)
//! ```
//!
//! # Why
//!
//! Frontends check each operation by itself. What one check or branch has settled makes many others idle.
//!
//! # Guarantees
//!
//! * A check goes only where it cannot raise; nothing moves, and nothing is checked that was not.
//! * A node that floats is replaced for all of its uses only by what is known at all of them; what is known in one place
//!   only is used in the operands of the roots that are there.
//! * What needed a check is computed from the check that covers it, where there is one in the extended block.
//! * A `divcheck` is never replaced by a value of which only facts prove that it is not zero: the division would not know.
//!
//! # Cost
//!
//! One walk along each extended block ([`facts`](crate::analysis::facts)). [`global_value_propagation`](super::global_value_propagation)
//! does the same with what is known taking all paths into account, for about three times as much.

mod forms;

use dagwood_il::entity::EntityVec;
use dagwood_il::{Block, Edits, Method, Node, Opcode, Payload, Properties, Type};

use crate::analysis::facts::{Facts, Known, Places, Visitor};
use crate::cx::PassCx;
use crate::pass::{Changed, Pass};
use forms::{Form, form};

/// The pass.
pub const PASS: Pass = Pass {
    name: "value_propagation",
    summary: "use what checks and branches say below them, within extended blocks",
    run,
};

fn run(method: &mut Method<'_>, cx: &mut PassCx<'_>) -> Changed {
    let cfg = cx.cfg(method);
    propagate(method, cx, &Facts::local(method, &cfg))
}

/// Uses facts wherever they help.
pub(super) fn propagate(method: &mut Method<'_>, cx: &mut PassCx<'_>, facts: &Facts) -> Changed {
    let found = find(method, cx, facts);
    let mut edits = Edits::new();
    for finding in found {
        let Finding { block, node, what } = finding;
        let shown = Shown { method, node, what: &what };
        if cx.allows((block, node), || shown.to_string()) {
            apply(method, &mut edits, block, node, what);
        }
    }
    cx.apply(method, edits)
}

/// What facts allow to do at a place.
struct Finding {
    block: Block,
    node: Node,
    what: What,
}

enum What {
    /// The node has the value of this for all of its uses.
    Value(Form),
    /// The operand of the root with this index has the value of this, here.
    Operand(usize, Form),
    /// The root cannot raise; its value is this.
    Passes(Form),
    /// The block ends by going on here.
    Way(Block),
    /// The block goes on at none but these of the switch's targets, and the default.
    Cases(Vec<(u64, Block)>, Block),
}

/// A finding in words.
struct Shown<'s, 'a> {
    method: &'s Method<'a>,
    node: Node,
    what: &'s What,
}

impl std::fmt::Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let opcode = self.method.opcode(self.node);
        match self.what {
            What::Value(Form::Constant(bits)) => write!(f, "{opcode} is always {bits:#x}"),
            What::Value(Form::Node(node)) => write!(f, "{opcode} is always {node}"),
            What::Value(Form::Operation(other, _)) => write!(f, "{opcode} is as good as {other} here"),
            What::Operand(index, _) => write!(f, "operand {index} of {opcode} is known here"),
            What::Passes(_) => write!(f, "{opcode} cannot raise"),
            What::Way(to) => write!(f, "{opcode} always goes to {to}"),
            What::Cases(cases, _) => write!(f, "{opcode} has but {} cases that there can be", cases.len()),
        }
    }
}

fn find(method: &Method<'_>, cx: &mut PassCx<'_>, facts: &Facts) -> Vec<Finding> {
    let mut heads = cx.heads(method);
    let within = heads.iter().take_while(|head| cx.spend(facts.size_of(**head))).count();
    heads.truncate(within);
    let places = Places::compute(method);
    let mut known = facts.known(cx.module(), method);
    let ways = EntityVec::filled(Vec::new(), method.block_count());
    let removed = EntityVec::filled(None, method.node_count());
    let mut finder = Finder { method, places: &places, found: Vec::new(), ways, removed };
    for head in heads {
        facts.walk(&mut known, head, &mut finder);
    }
    finder.ends();
    finder.found
}

struct Finder<'f, 'a> {
    method: &'f Method<'a>,
    places: &'f Places,
    found: Vec<Finding>,
    /// By block that was walked through: where it may go on.
    ways: EntityVec<Block, Vec<Block>>,
    /// Checks that go, and what their values are then.
    removed: EntityVec<Node, Option<Node>>,
}

impl Visitor for Finder<'_, '_> {
    fn root(&mut self, known: &mut Known<'_, '_>, block: Block, _: u32, root: Node) {
        let method = self.method;
        for node in self.places.needed_first_by(root) {
            if let Some(form) = form(known, *node) {
                self.found.push(Finding { block, node: *node, what: What::Value(form) });
            }
        }
        if self.check(known, block, root) {
            return;
        }
        for (index, operand) in method.value_operands(root).iter().enumerate() {
            let is_elsewhere = !self.places.needed_first_by(root).contains(operand);
            if is_elsewhere && let Some(form @ (Form::Constant(_) | Form::Node(_))) = form(known, *operand) {
                self.found.push(Finding { block, node: root, what: What::Operand(index, form) });
            }
        }
    }

    fn edge(&mut self, _: &mut Known<'_, '_>, from: Block, to: Block) {
        self.ways[from].push(to);
    }
}

impl Finder<'_, '_> {
    /// Looks at a root that may raise, and at a question about an object. Whether it goes.
    fn check(&mut self, known: &Known<'_, '_>, block: Block, root: Node) -> bool {
        let (method, opcode) = (self.method, self.method.opcode(root));
        let row = opcode.row();
        if row.has(Properties::TERMINATES) || row.has(Properties::CALLS) || row.has(Properties::ALLOCATES) {
            return false;
        }
        let operands = method.value_operands(root);
        let value = if opcode == Opcode::InstanceOf {
            known.answer(root).map(|holds| Form::Constant(holds.into()))
        } else if opcode == Opcode::Check {
            let passes = known.fact(operands[0]).is_nonzero() || known.comparison(operands[0]) == Some(true);
            passes.then_some(Form::Node(operands[0]))
        } else if row.has(Properties::PROVES) {
            self.proven(known, root, operands[0])
        } else if matches!(method.payload(root), Payload::Raise(..)) && !known.outcome(root).1 {
            plain(method, known, root)
        } else {
            None
        };
        let Some(value) = value else { return false };
        if let Form::Node(node) = value {
            self.removed[root] = Some(node);
        }
        self.found.push(Finding { block, node: root, what: What::Passes(value) });
        true
    }

    /// What a check yields that cannot raise: what an earlier one yielded, else its operand.
    fn proven(&self, known: &Known<'_, '_>, root: Node, operand: Node) -> Option<Form> {
        let (method, opcode) = (self.method, self.method.opcode(root));
        let earlier = known.passed(opcode, method.payload(root), operand);
        let earlier = earlier.map(|earlier| self.removed[earlier].unwrap_or(earlier));
        if opcode == Opcode::DivCheck {
            return earlier.filter(|earlier| method.opcode(*earlier) == Opcode::DivCheck).map(Form::Node);
        }
        (!known.outcome(root).1).then(|| Form::Node(earlier.unwrap_or(operand)))
    }

    /// Looks at the ends of blocks, now that it is known where they may go on.
    fn ends(&mut self) {
        for (block, ways) in self.ways.iter() {
            let Some(end) = self.method.terminator(block) else { continue };
            let what = match (self.method.payload(end), ways.as_slice()) {
                (Payload::Branch(then, otherwise), [way]) if then != otherwise => What::Way(*way),
                (Payload::Switch(_), [way]) if self.method.successors(block).iter().any(|to| to != way) => {
                    What::Way(*way)
                }
                (Payload::Switch(table), [_, _, ..]) => {
                    let data = self.method.switch(table);
                    let cases: Vec<_> =
                        data.cases.iter().copied().filter(|(_, to)| ways.contains(to)).collect();
                    if cases.len() == data.cases.len() {
                        continue;
                    }
                    What::Cases(cases, data.default)
                }
                _ => continue,
            };
            self.found.push(Finding { block, node: end, what });
        }
    }
}

/// What checked arithmetic that cannot raise computes: the operation that wraps. A quotient needs a divisor that says it is proven.
fn plain(method: &Method<'_>, known: &Known<'_, '_>, root: Node) -> Option<Form> {
    if let Some(bits) = known.outcome(root).0.as_constant() {
        return Some(Form::Constant(bits));
    }
    let (operands, opcode) = (method.value_operands(root), method.opcode(root));
    let plain = opcode.unchecked();
    let is_proven = || operands.get(1).is_some_and(|divisor| method.is_proven_nonzero(*divisor));
    let stands_alone = !plain.has(Properties::ROOT_UNLESS_PROVEN) || is_proven();
    (plain != opcode && stands_alone).then(|| Form::Operation(plain, operands.to_vec()))
}

fn apply(method: &mut Method<'_>, edits: &mut Edits, block: Block, node: Node, what: What) {
    match what {
        What::Value(form) => {
            let with = made(method, method.ty(node), form);
            edits.replace(node, with);
        }
        What::Operand(index, form) => {
            let ty = method.ty(method.operands(node)[index]);
            let with = made(method, ty, form);
            edits.replace_operand(node, index, with);
        }
        What::Passes(form) => {
            edits.remove(node);
            if method.ty(node) != Type::Void {
                let with = made(method, method.ty(node), form);
                edits.replace(node, with);
            }
        }
        What::Way(to) => {
            let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(to));
            edits.end(block, end);
        }
        What::Cases(cases, default) => {
            let operands = method.operands(node).to_vec();
            let table = method.add_switch(&cases, default);
            let end = method.add_node(Opcode::Switch, Type::Void, &operands, Payload::Switch(table));
            edits.end(block, end);
        }
    }
}

/// The node of a form.
fn made(method: &mut Method<'_>, ty: Type, form: Form) -> Node {
    match form {
        Form::Constant(bits) => method.add_node(Opcode::Const, ty, &[], Payload::Const(bits)),
        Form::Node(node) => node,
        Form::Operation(opcode, operands) => method.add_node(opcode, ty, &operands, Payload::None),
    }
}
