//! The rules of folding. A rule *is* its law: the text is what is matched, what is built, and what the tests prove.
//!
//! ```text
//!   add (add x A) B  =>  add x (add A B)
//!       │      └ a capital letter matches a constant
//!       └ a small letter matches any node; twice the same letter, the same node
//! ```
//!
//! A number matches the constant of the type at hand; `zresize` and `sresize` on the right extend or cut to the type that
//! was asked for. Conditions follow `if`: `nonzero A`, `truth x` (x is one or zero), `i32 x`, `same x` (x has the type
//! asked for). Constants stand on the right of what commutes; rules need to match only that.
//!
//! To add a rule, add a line. The tests evaluate both sides on all pairs of 8-bit values and on samples of the wider types.

use std::sync::LazyLock;

use super::pattern::Rule;
use crate::builder::Builder;
use crate::method::Node;
use crate::opcode::Opcode;
use crate::types::Type;

/// The laws, in the order in which they are tried.
pub(super) const LAWS: &[&str] = &[
    // Sums.
    "add x 0 => x",
    "add (add x A) B => add x (add A B)",
    "add (sub x y) y => x",
    "add y (sub x y) => x",
    "add x (neg y) => sub x y",
    "add (neg x) y => sub y x",
    "sub x x => 0",
    "sub x A => add x (neg A)",
    "sub 0 x => neg x",
    "sub (add x y) y => x",
    "sub (add x y) x => y",
    "sub x (neg y) => add x y",
    "neg (neg x) => x",
    "neg (sub x y) => sub y x",
    // Products.
    "mul x 0 => 0",
    "mul x 1 => x",
    "mul x -1 => neg x",
    "mul (mul x A) B => mul x (mul A B)",
    "sdiv x 1 => x",
    "udiv x 1 => x",
    "sdiv x -1 => neg x",
    "srem x 1 => 0",
    "urem x 1 => 0",
    "srem x -1 => 0",
    "abs (abs x) => abs x",
    "abs (neg x) => abs x",
    "smin x x => x",
    "smax x x => x",
    "umin x x => x",
    "umax x x => x",
    "umin x 0 => 0",
    "umax x 0 => x",
    // Bits.
    "and x 0 => 0",
    "and x -1 => x",
    "and x x => x",
    "and (and x A) B => and x (and A B)",
    "or x 0 => x",
    "or x -1 => -1",
    "or x x => x",
    "or (or x A) B => or x (or A B)",
    "xor x 0 => x",
    "xor x x => 0",
    "xor x -1 => not x",
    "xor (xor x A) B => xor x (xor A B)",
    "not (not x) => x",
    "shl x 0 => x",
    "sshr x 0 => x",
    "ushr x 0 => x",
    "rotl x 0 => x",
    "rotr x 0 => x",
    "shl 0 x => 0",
    "sshr 0 x => 0",
    "ushr 0 x => 0",
    "bswap (bswap x) => x",
    "bitrev (bitrev x) => x",
    // Comparisons.
    "eq x x => 1",
    "ne x x => 0",
    "slt x x => 0",
    "sle x x => 1",
    "sgt x x => 0",
    "sge x x => 1",
    "ult x x => 0",
    "ule x x => 1",
    "ugt x x => 0",
    "uge x x => 1",
    "ult x 0 => 0",
    "uge x 0 => 1",
    "ne x 0 => x if truth x",
    "eq (eq x y) 0 => ne x y",
    "eq (ne x y) 0 => eq x y",
    "eq (slt x y) 0 => sge x y",
    "eq (sle x y) 0 => sgt x y",
    "eq (sgt x y) 0 => sle x y",
    "eq (sge x y) 0 => slt x y",
    "eq (ult x y) 0 => uge x y",
    "eq (ule x y) 0 => ugt x y",
    "eq (ugt x y) 0 => ule x y",
    "eq (uge x y) 0 => ult x y",
    "eq (feq x y) 0 => fne x y",
    "eq (fne x y) 0 => feq x y",
    "eq (sub x y) 0 => eq x y",
    "ne (sub x y) 0 => ne x y",
    "eq (xor x y) 0 => eq x y",
    "ne (xor x y) 0 => ne x y",
    // Choices.
    "select A x y => x if nonzero A",
    "select 0 x y => y",
    "select c x x => x",
    "select c 1 0 => c if truth c",
    "select (ne c 0) x y => select c x y if i32 c",
    "select (eq c 0) x y => select c y x if i32 c",
    // Conversions.
    "wrap (wrap x) => wrap x",
    "wrap (uext x) => zresize x",
    "wrap (sext x) => sresize x",
    "uext (uext x) => uext x",
    "sext (sext x) => sext x",
    "sext (uext x) => uext x",
    "bitcast x => x if same x",
    "bitcast (bitcast x) => bitcast x",
    "addr_add x 0 => x",
    "addr_add (addr_add x A) B => addr_add x (add A B)",
    // Floats: only what holds for every value, NaNs and signed zeros included.
    "fneg (fneg x) => x",
    "fabs (fabs x) => fabs x",
    "fabs (fneg x) => fabs x",
    "fcanonicalise (fcanonicalise x) => fcanonicalise x",
];

/// The rules, by the opcode at the root of their left side.
static RULES: LazyLock<Vec<Vec<Rule>>> = LazyLock::new(|| {
    let mut by_opcode: Vec<Vec<Rule>> = Opcode::all().map(|_| Vec::new()).collect();
    for law in LAWS {
        let rule = Rule::parse(law);
        by_opcode[rule.opcode() as usize].push(rule);
    }
    by_opcode
});

/// The right side of the first rule that matches.
pub(super) fn apply(
    builder: &mut Builder<'_, '_>,
    opcode: Opcode,
    ty: Type,
    operands: &[Node],
) -> Option<Node> {
    RULES[opcode as usize].iter().find_map(|rule| rule.apply(builder, ty, operands))
}
