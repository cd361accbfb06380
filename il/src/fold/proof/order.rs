//! Why folding ends: one order of all terms, in which each right side is smaller than its left side.
//!
//! ```text
//!   weight(op x y) = weight(op) + weight(x) + weight(y)      zero and any other node weigh 1, other constants 2
//! ```
//!
//! What weighs less is smaller, if no letter stands in it more often. Of equal weight the order of the roots' opcodes
//! decides, then that of their operands, from the first. This is the order of Knuth and Bendix (1970): it has no endless
//! descent, and a term with a smaller part is smaller, so it does not matter in which order rules are applied. What only
//! brings a constant to the right is left out of it, and happens to an operation once.

use std::cmp::Ordering;

use super::rules;
use crate::fold::law::{Condition, Kind, Literal, Rule, Term};
use crate::opcode::Opcode;

/// What a node weighs at least, and constants exactly.
const LEAST: i32 = 1;
const ZERO: i32 = 1;
const CONSTANT: i32 = 2;

/// What is more costly, or has fewer rules, is heavier: it is what is rewritten.
fn weight(opcode: Opcode) -> i32 {
    use Opcode::*;
    match opcode {
        SDiv | SRem | FDiv => 14,
        UDiv | URem => 12,
        SMulHigh | UMulHigh | Mul | FMul => 8,
        Select => 9,
        RotR | FSub | FRem => 5,
        // Of the comparisons with a constant, the strict ones have the rules.
        SLe | SGe | ULe | UGe | FGe | FLe | SExt => 5,
        SLt | SGt | ULt | UGt | FLt | FGt | Sub | SShr | SIntToFloat | UExt => 4,
        Wrap | Shl => 2,
        _ => 3,
    }
}

/// Of opcodes of one weight, the one that is rewritten has the larger number.
fn precedence(opcode: Opcode) -> usize {
    use Opcode::*;
    let first = [Shl, Add, And, Or, Eq, Ne, Xor, UExt];
    first.iter().position(|other| *other == opcode).unwrap_or(first.len() + opcode as usize)
}

/// What a term weighs without its letters, and how often each of them stands in it.
fn weigh(term: &Term, counts: &mut [i32]) -> i32 {
    match &term.kind {
        Kind::Letter(letter) => {
            counts[*letter] += 1;
            0
        }
        Kind::Literal(Literal::Int(0)) => ZERO,
        _ if term.is_const => CONSTANT,
        Kind::Literal(_) => CONSTANT,
        Kind::Op(opcode, terms) => {
            weight(*opcode) + terms.iter().map(|term| weigh(term, counts)).sum::<i32>()
        }
        // At most one conversion.
        Kind::Resize { extend, operand } => weight(*extend) + weigh(operand, counts),
    }
}

/// How much lighter `b` is than `a` at least, whatever the letters stand for; none if that has no bound.
fn difference(rule: &Rule, a: &Term, b: &Term) -> Option<i32> {
    let mut counts = [vec![0; rule.letters.len()], vec![0; rule.letters.len()]];
    let mut difference = weigh(a, &mut counts[0]) - weigh(b, &mut counts[1]);
    for (index, letter) in rule.letters.iter().enumerate() {
        let more = counts[0][index] - counts[1][index];
        let is_zero = |condition: &Condition| !matches!(condition, Condition::Pow2(l) | Condition::NonZero(l) if *l == index);
        difference += match (letter.is_const, more < 0) {
            (false, true) => return None,
            (false, false) => more * LEAST,
            (true, true) => more * CONSTANT,
            (true, false) => more * if rule.conditions.iter().all(is_zero) { ZERO } else { CONSTANT },
        };
    }
    Some(difference)
}

/// Whether `b` is smaller than `a`, whatever the letters stand for.
fn is_smaller(rule: &Rule, a: &Term, b: &Term) -> bool {
    difference(rule, a, b).is_some_and(|lighter| lighter > 0 || lighter == 0 && comes_after(rule, a, b))
}

/// Whether a law does nothing but bring a constant to the right of a comparison.
fn exchanges(rule: &Rule) -> bool {
    let (Kind::Op(_, left), Kind::Op(_, right)) = (&rule.left.kind, &rule.right.kind) else { return false };
    matches!((&left[..], &right[..]), ([a, b], [c, d]) if a == d && b == c && a.is_const && !b.is_const)
}

fn comes_after(rule: &Rule, a: &Term, b: &Term) -> bool {
    if b.is_const {
        return !a.is_const && !matches!(a.kind, Kind::Letter(_));
    }
    let (Kind::Op(left, xs), Kind::Op(right, ys)) = (&a.kind, &b.kind) else { return false };
    match precedence(*left).cmp(&precedence(*right)) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => xs
            .iter()
            .zip(ys)
            .find(|(x, y)| x != y && !(x.is_const && y.is_const))
            .is_some_and(|(x, y)| is_smaller(rule, x, y)),
    }
}

#[test]
fn the_right_side_of_each_law_is_smaller() {
    let mut failed = Vec::new();
    for rule in rules().into_iter().flat_map(Rule::variants) {
        if !exchanges(&rule) && !is_smaller(&rule, &rule.left, &rule.right) {
            failed.push(rule.law);
        }
    }
    failed.dedup();
    assert!(failed.is_empty(), "not smaller: {failed:#?}");
}

#[test]
fn precedences_are_those_of_one_order() {
    let mut seen: Vec<usize> = Opcode::all().map(precedence).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), Opcode::all().len(), "no two opcodes are level");
}

/// The operations of a term that are made when it is built, given that those in `there` are there already.
fn made(term: &Term, there: &[&Term]) -> usize {
    if term.is_const || there.contains(&term) {
        return 0;
    }
    match &term.kind {
        Kind::Op(_, terms) => 1 + terms.iter().map(|term| made(term, there)).sum::<usize>(),
        Kind::Resize { operand, .. } => 1 + made(operand, there),
        _ => 0,
    }
}

fn parts<'t>(term: &'t Term, found: &mut Vec<&'t Term>) {
    found.push(term);
    if let Kind::Op(_, terms) = &term.kind {
        terms.iter().for_each(|term| parts(term, found));
    }
}

#[test]
fn a_rule_makes_at_most_one_node_more_than_it_replaces() {
    for rule in rules() {
        let mut there = Vec::new();
        parts(&rule.left, &mut there);
        assert!(made(&rule.right, &there) <= 2, "`{}` makes more", rule.law);
    }
}
