//! Both tables against [`evaluate`](dagwood_il::eval::evaluate) on 8-bit operands.

use dagwood_il::eval::{Value, evaluate, evaluate_checked};
use dagwood_il::opcode::{Operand, Outcome, TABLE};
use dagwood_il::{Opcode, Properties, Type};

use crate::analysis::facts::fact::Fact;
use crate::analysis::facts::inverse::operands_of;
use crate::analysis::facts::transfer::{outcome, transfer};

/// The operations that evaluation knows, with the types of result and operands where operands have eight bits.
fn operations() -> Vec<(Opcode, Type, Vec<Type>)> {
    let mut found = Vec::new();
    for row in TABLE.iter().filter(|row| !row.operands.is_empty() && row.operands.len() <= 2) {
        for own in [Type::I8, Type::I16, Type::I32, Type::Addr] {
            let (mut before, mut operands) = (Type::Void, Vec::new());
            for operand in row.operands {
                before = match operand {
                    Operand::Own => own,
                    Operand::Of(class) if class.contains(Type::I8) => Type::I8,
                    Operand::Of(class) if class.contains(Type::I16) => Type::I16,
                    Operand::Of(_) => Type::I32,
                    Operand::Like => before,
                };
                operands.push(before);
            }
            let ty = if let Outcome::Fixed(ty) = row.outcome { ty } else { own };
            let zeros: Vec<Value> = operands.iter().map(|ty| Value::from_bits(*ty, 1)).collect();
            let is_small = operands.iter().all(|ty| *ty == Type::I8);
            if is_small
                && evaluated(row.opcode, ty, &zeros).is_some()
                && !found.contains(&(row.opcode, ty, operands.clone()))
            {
                found.push((row.opcode, ty, operands));
            }
        }
    }
    // What narrows has no operand of eight bits.
    found.push((Opcode::Wrap, Type::I8, vec![Type::I16]));
    found
}

/// The value, or none where the operation raises or has none.
fn evaluated(opcode: Opcode, ty: Type, values: &[Value]) -> Option<Option<Value>> {
    match evaluate(opcode, ty, values) {
        Some(value) => Some(Some(value)),
        None => evaluate_checked(opcode, ty, values).map(Result::ok),
    }
}

fn values(ty: Type) -> impl Iterator<Item = Value> {
    (0..=ty.mask()).map(move |bits| Value::from_bits(ty, bits))
}

/// Facts of every sort: ranges with edges, bits, and what is left where some meet.
fn facts(ty: Type) -> Vec<Fact> {
    let half = ty.mask() / 2;
    let smallest = -(half as i64) - 1;
    let mut facts = vec![
        Fact::any(ty),
        Fact::nonzero(ty),
        Fact::unsigned(ty, 0, 1),
        Fact::unsigned(ty, 3, 17),
        Fact::unsigned(ty, 8, 15),
        Fact::unsigned(ty, half - 3, half + 3),
        Fact::unsigned(ty, ty.mask() - 6, ty.mask()),
        Fact::signed(ty, -5, 4),
        Fact::signed(ty, -9, -2),
        Fact::signed(ty, smallest, smallest + 5),
        Fact::signed(ty, -1, half as i64),
        Fact::bits(ty, 0x0f, 0),
        Fact::bits(ty, 0x81, 0x40),
        Fact::bits(ty, 0, 0x81),
        Fact::bits(ty, 0xf0 & ty.mask(), 1),
        Fact::bits(ty, 3, 0).and(Fact::unsigned(ty, 5, 40)),
        Fact::bits(ty, 0, 1).and(Fact::signed(ty, -20, 20)),
    ];
    facts.extend([0, 1, 2, 7, 8, half, half + 1, ty.mask()].map(|bits| Fact::constant(ty, bits)));
    facts
}

/// All tuples of one entry from each list.
fn tuples<T: Copy>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    lists.iter().fold(vec![Vec::new()], |tuples, list| {
        let longer = |tuple: &Vec<T>| {
            list.iter().map(|item| [tuple.as_slice(), &[*item]].concat()).collect::<Vec<_>>()
        };
        tuples.iter().flat_map(longer).collect()
    })
}

#[test]
fn results_are_allowed_and_operands_that_gave_them_are() {
    let mut operations_seen = 0;
    for (opcode, ty, types) in operations() {
        operations_seen += 1;
        let outcomes: Vec<Option<Value>> =
            tuples(&types.iter().map(|ty| values(*ty).collect()).collect::<Vec<_>>())
                .iter()
                .map(|operands| evaluated(opcode, ty, operands).flatten())
                .collect();
        for known in tuples(&types.iter().map(|ty| facts(*ty)).collect::<Vec<_>>()) {
            // Where nothing is known of either operand all values are tried; nearly nothing is nearly the same.
            let sizes =
                known.iter().map(|fact| values(fact.ty()).filter(|value| fact.allows(*value)).count());
            if ty == Type::I8 && sizes.product::<usize>() > 1 << 14 && known.iter().any(|fact| !fact.is_any())
            {
                continue;
            }
            let (result, may_raise) = outcome(opcode, ty, &known);
            // What a user would learn of the result, by a test of it.
            let tested = [
                Fact::nonzero(ty),
                Fact::constant(ty, 0),
                Fact::unsigned(ty, 2, 20),
                Fact::signed(ty, -3, 3),
            ];
            let tested = tested
                .iter()
                .filter_map(|test| result.meet(test))
                .map(|fact| (fact, operands_of(opcode, &fact, &known)));
            let tested: Vec<_> = tested.collect();
            let allowed = |fact: &Fact| values(fact.ty()).filter(|value| fact.allows(*value)).collect();
            for operands in tuples::<Value>(&known.iter().map(allowed).collect::<Vec<_>>()) {
                let place =
                    operands.iter().fold(0, |place, value| place * (value.ty().mask() + 1) + value.low());
                let value = &outcomes[place as usize];
                let Some(value) = value else {
                    let is_division = opcode.has(Properties::ROOT_UNLESS_PROVEN);
                    assert!(may_raise || is_division, "{opcode}.{ty} {operands:?} raises: {known:?}");
                    continue;
                };
                assert!(
                    result.allows(*value),
                    "{opcode}.{ty} {operands:?} = {value:?}: {known:?} gave {result:?}"
                );
                for (fact, learned) in tested.iter().filter(|(fact, _)| fact.allows(*value)) {
                    for (operand, learned) in operands.iter().zip(learned) {
                        let is_allowed = learned.is_none_or(|learned| learned.allows(*operand));
                        assert!(
                            is_allowed,
                            "{opcode}.{ty} {operands:?} = {value:?} in {fact:?}: {known:?} gave {learned:?}"
                        );
                    }
                }
            }
        }
    }
    assert!(operations_seen > 50, "{operations_seen} operations were looked at");
}

#[test]
fn constants_give_constants_wherever_there_is_a_value() {
    for (opcode, ty, types) in operations() {
        let all: Vec<Vec<Value>> = types.iter().map(|ty| values(*ty).step_by(3).collect()).collect();
        for operands in tuples(&all) {
            let known: Vec<Fact> =
                operands.iter().map(|value| Fact::constant(value.ty(), value.low())).collect();
            if let Some(value) = evaluated(opcode, ty, &operands).flatten().filter(|value| !value.is_nan()) {
                assert_eq!(
                    transfer(opcode, ty, &known).as_constant(),
                    Some(value.low()),
                    "{opcode}.{ty} {operands:?}"
                );
                assert!(
                    opcode.has(Properties::ROOT_UNLESS_PROVEN)
                        || !opcode.has(Properties::ROOT)
                        || !outcome(opcode, ty, &known).1
                );
            }
        }
    }
}

#[test]
fn ranges_are_exact_where_nothing_wraps() {
    let (a, b) = (Fact::unsigned(Type::I8, 3, 17), Fact::unsigned(Type::I8, 5, 9));
    let range = |fact: Fact| (fact.umin(), fact.umax());
    for (opcode, expected) in [
        (Opcode::Add, (8, 26)),
        (Opcode::Mul, (15, 153)),
        (Opcode::UDiv, (0, 3)),
        (Opcode::SDiv, (0, 3)),
        (Opcode::URem, (0, 8)),
        (Opcode::SRem, (0, 8)),
        (Opcode::UMin, (3, 9)),
        (Opcode::SMax, (5, 17)),
        (Opcode::And, (0, 9)),
        (Opcode::Or, (5, 31)),
        (Opcode::Xor, (0, 31)),
    ] {
        assert_eq!(range(transfer(opcode, Type::I8, &[a, b])), expected, "{opcode}");
    }
    let difference = transfer(Opcode::Sub, Type::I8, &[a, b]);
    assert_eq!((difference.smin(), difference.smax()), (-6, 12));
    let aligned = transfer(Opcode::Mul, Type::I32, &[Fact::any(Type::I32), Fact::constant(Type::I32, 12)]);
    assert_eq!(aligned.zeros() & 0xff, 3);
}

#[test]
fn meeting_and_joining_are_of_sets() {
    for left in facts(Type::I8) {
        for right in facts(Type::I8) {
            let (met, joined, widened) = (left.meet(&right), left.join(&right), left.widen(&right));
            for value in values(Type::I8) {
                let (in_left, in_right) = (left.allows(value), right.allows(value));
                assert!(
                    !(in_left && in_right) || met.is_some_and(|met| met.allows(value)),
                    "{left:?} {right:?} {value:?}"
                );
                assert!(
                    !(in_left || in_right) || joined.allows(value) && widened.allows(value),
                    "{left:?} {right:?}"
                );
            }
        }
    }
}

#[test]
fn widening_comes_to_an_end() {
    for start in facts(Type::I32) {
        for step in 1..4_u64 {
            let (mut fact, mut changes) = (start, 0);
            loop {
                let next =
                    fact.widen(&transfer(Opcode::Add, Type::I32, &[fact, Fact::constant(Type::I32, step)]));
                if next == fact {
                    break;
                }
                fact = next;
                changes += 1;
                assert!(changes < 8, "{start:?} by {step}");
            }
        }
    }
}
