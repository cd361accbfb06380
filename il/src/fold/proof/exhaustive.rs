//! All values, at small widths: one and two letters at 8 bits, three at 5, four at 4.
//!
//! Constants are letters like others, kept to what the conditions say. A distance of a shift is taken modulo the width,
//! which is a power of two: laws that know that are tried at 8, 4 and 2 bits. Where a law
//! has several types, all ways of giving them widths are tried, but for types that are only in its conditions.

use super::model::Env;
use super::rules;
use crate::fold::law::{Kind, Rule, Term};
use crate::opcode::Opcode;
use crate::types::Type;

/// Whether any operation of the term is as `test` says.
fn any(term: &Term, test: &dyn Fn(Opcode, &[Term]) -> bool) -> bool {
    match &term.kind {
        Kind::Op(opcode, terms) => test(*opcode, terms) || terms.iter().any(|term| any(term, test)),
        Kind::Resize { operand, .. } => any(operand, test),
        _ => false,
    }
}

/// The widths that types of the rule are given, the widest first.
fn widths(rule: &Rule) -> &'static [u32] {
    use Opcode::*;
    let either = |test: &dyn Fn(Opcode, &[Term]) -> bool| any(&rule.left, test) || any(&rule.right, test);
    let shifts = |opcode| matches!(opcode, Shl | SShr | UShr | RotL | RotR);
    let computes_distance = |opcode, terms: &[Term]| {
        shifts(opcode) && !terms[1].is_const && matches!(terms[1].kind, Kind::Op(..))
    };
    match rule.letters.len() {
        0..=1 if either(&|opcode, _| opcode == Bswap) => &[16, 8, 4],
        2 if either(&|opcode, _| opcode == Bswap) => &[8, 4],
        0..=2 if either(&|opcode, _| shifts(opcode)) => &[8, 4, 2],
        0..=2 => &[8, 5, 3],
        3 if either(&computes_distance) => &[8, 4, 2],
        3 => &[5, 3, 2],
        _ => &[4, 2],
    }
}

/// All ways of giving widths to the types of a rule.
fn typings(rule: &Rule) -> Vec<Vec<u32>> {
    let has = |side: &Term, ty: usize| {
        side.ty == ty || any(side, &|_, terms| terms.iter().any(|term| term.ty == ty))
    };
    let fixed = |ty: usize| rule.types[ty].single().map(Type::bits);
    let mut typings = vec![Vec::new()];
    for ty in 0..rule.types.len() {
        let count = if has(&rule.left, ty) || has(&rule.right, ty) { widths(rule).len() } else { 1 };
        let widths = &widths(rule)[..count];
        typings = typings
            .iter()
            .flat_map(|typing: &Vec<u32>| widths.iter().map(move |width| [&typing[..], &[*width]].concat()))
            .collect();
    }
    typings.retain(|typing| {
        let agree = |a: usize, b: usize| match (fixed(a), fixed(b)) {
            (Some(x), Some(y)) => x.cmp(&y) == typing[a].cmp(&typing[b]),
            _ => true,
        };
        rule.narrower.iter().all(|(narrow, wide)| typing[*narrow] < typing[*wide])
            && rule.same_width.iter().all(|(a, b)| typing[*a] == typing[*b])
            && (0..typing.len()).all(|a| (0..typing.len()).all(|b| agree(a, b)))
    });
    typings
}

/// Compares both sides for all values of the letters from the `next` of `order`; how many have a value and meet the conditions.
fn compare(rule: &Rule, env: &mut Env, order: &[usize], next: usize) -> usize {
    let constants = rule.letters.iter().filter(|letter| letter.is_const).count();
    if next == constants && !holds(rule, env, |letter| rule.letters[letter].is_const) {
        return 0;
    }
    if let Some(letter) = order.get(next) {
        return (0..1 << env.widths[rule.letters[*letter].ty])
            .map(|value| {
                env.values[*letter] = value;
                compare(rule, env, order, next + 1)
            })
            .sum();
    }
    if !holds(rule, env, |letter| !rule.letters[letter].is_const) {
        return 0;
    }
    // An operand without a value raises before this.
    if rule.root().1.iter().any(|term| env.value(term).is_none()) {
        return 0;
    }
    let (left, right) = (env.value(&rule.left), env.value(&rule.right));
    assert!(left == right, "`{}`: {left:?} is not {right:?} at {env:?}", rule.law);
    usize::from(left.is_some())
}

/// Whether the conditions hold that are about such letters; those on terms are about constants.
fn holds(rule: &Rule, env: &Env, is_about: impl Fn(usize) -> bool) -> bool {
    use crate::fold::law::Condition::*;
    rule.conditions.iter().all(|condition| {
        let applies = match condition {
            Pow2(letter) | FloatPow2(letter) | NonZero(letter) | Truth(letter) => is_about(*letter),
            Holds(_) => rule.letters.iter().position(|letter| letter.is_const).is_some_and(&is_about),
        };
        !applies || env.holds(rule, condition)
    })
}

/// How many choices of values both sides were compared at.
fn check(rule: &Rule) -> usize {
    let mut order: Vec<usize> = (0..rule.letters.len()).collect();
    order.sort_by_key(|letter| !rule.letters[*letter].is_const);
    let env = |widths| Env { values: vec![0; rule.letters.len()], widths };
    typings(rule).into_iter().map(|widths| compare(rule, &mut env(widths), &order, 0)).sum()
}

#[test]
fn every_law_of_integers_holds_for_all_values() {
    let rules: Vec<Rule> = rules().into_iter().filter(|rule| !rule.is_float()).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(rule) = rules.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    assert!(check(rule) > 0, "`{}` was compared", rule.law);
                }
            });
        }
    });
}

#[test]
fn a_false_law_is_found() {
    for law in [
        "sub x y => sub y x",
        "add x A => or x A",
        "sdiv 0 x => 0",
        "udiv x A => ushr x (ctz A)",
        "ult (uext x) A => ult x (wrap A)",
        "sdiv (sdiv x A) B => sdiv x (mul A B) if nonzero B",
        "shl (shl x A) B => shl x (add A B)",
        "xor (shl x y) (ushr x (neg y)) => rotl x y",
    ] {
        let rule = Rule::parse(law);
        assert!(std::panic::catch_unwind(|| check(&rule)).is_err(), "`{law}` fails");
    }
}
