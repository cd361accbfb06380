//! The rules of folding. A rule *is* its law: the text is what is matched, what is built, and what is proved.
//!
//! ```text
//!   add (add x A) B  =>  add x (add A B)
//!       │      └ a capital letter matches a constant
//!       └ a small letter matches any node; twice the same letter, the same node
//! ```
//!
//! * Numbers, and `bits`, `top` (`bits - 1`), `smallest` and `largest`, are constants of the type at hand. An operation
//!   on constants is computed when the rule is applied.
//! * `zresize` and `sresize` on the right extend or cut to the type that is asked for.
//! * Conditions follow `if`, separated by commas: `nonzero x` (by what it is), `truth x` (x is one or zero by what it
//!   is), `pow2 A`, `fpow2 A`, or an operation on constants, which must not be zero.
//! * Operands of what commutes match either way; constants stand on its right, as folding puts them there.
//!
//! # Rules for rules
//!
//! To add one, add a line; the tests say what is wrong with it. They hold each rule to this:
//!
//! * Both sides are equal, by evaluation of all values at small widths, and by the ledger of proofs (`proof/ledger.rs`).
//! * The right side is smaller in one order of all terms (`proof/order.rs`), so that folding ends.
//! * It makes at most one node more than it replaces: what it matches may be used elsewhere, and then stays.
//! * It can match: no rule before it, and none for its parts, always comes first.

use std::sync::LazyLock;

use super::law::{Kind, Rule};
use crate::builder::Builder;
use crate::method::Node;
use crate::opcode::{Opcode, TABLE};
use crate::types::Type;

mod arith;
mod bits;
mod compare;
mod convert;
mod divide;
mod float;
mod order;
mod select;
mod shift;

/// Laws of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// What they are about.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for readers, and a test asks for it"))]
    pub(super) name: &'static str,
    /// Why they are there: who writes what they match, or what is won.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for readers, and a test asks for it"))]
    pub(super) why: &'static str,
    pub(super) laws: &'static [&'static str],
}

/// The groups, in the order in which they are tried.
pub(super) const GROUPS: &[&[Group]] = &[
    arith::GROUPS,
    divide::GROUPS,
    bits::GROUPS,
    shift::GROUPS,
    compare::GROUPS,
    order::GROUPS,
    select::GROUPS,
    convert::GROUPS,
    float::GROUPS,
];

/// All laws, in the order in which they are tried.
pub(super) fn laws() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().copied().flatten().flat_map(|group| group.laws).copied()
}

/// The rules for one opcode.
struct Entry {
    rules: Vec<Rule>,
    /// By the opcode of the first operand: the rules that can match, in order.
    by_first: Vec<Vec<u16>>,
}

/// The rules, by the opcode at the root of their left side.
static RULES: LazyLock<Vec<Option<Entry>>> = LazyLock::new(|| {
    let mut by_root: Vec<Vec<Rule>> = Opcode::all().map(|_| Vec::new()).collect();
    for rule in laws().flat_map(|law| Rule::parse(law).variants()) {
        by_root[rule.opcode() as usize].push(rule);
    }
    by_root.into_iter().map(|rules| (!rules.is_empty()).then(|| Entry::new(rules))).collect()
});

impl Entry {
    fn new(rules: Vec<Rule>) -> Entry {
        let mut by_first = vec![Vec::new(); TABLE.len()];
        for (number, rule) in rules.iter().enumerate() {
            match &rule.root().1[0].kind {
                Kind::Op(opcode, _) => by_first[*opcode as usize].push(number as u16),
                _ if rule.root().1[0].is_const => by_first[Opcode::Const as usize].push(number as u16),
                _ => by_first.iter_mut().for_each(|list| list.push(number as u16)),
            }
        }
        Entry { rules, by_first }
    }
}

/// The right side of the first rule that matches, and that rule.
pub(super) fn apply(
    builder: &mut Builder<'_, '_>,
    opcode: Opcode,
    ty: Type,
    operands: &[Node],
) -> Option<(Node, &'static Rule)> {
    let entry = RULES[opcode as usize].as_ref()?;
    let first = builder.method().opcode(*operands.first()?);
    entry.by_first[first as usize].iter().find_map(|number| {
        let rule = &entry.rules[usize::from(*number)];
        rule.apply(builder, ty, operands).map(|node| (node, rule))
    })
}
