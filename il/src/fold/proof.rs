//! Every law, evaluated: both sides on all pairs of 8-bit values, on samples of the wider types and of floats.

use super::pattern::{Condition, Rule, Term};
use super::rules::LAWS;
use crate::eval::{Value, evaluate};
use crate::opcode::{Class, Opcode, Operand, Outcome, Properties};
use crate::types::Type;

/// What a letter stands for in one evaluation.
type Env = Vec<(u8, Value)>;

/// The types of a law's letters, found by walking its left side.
#[derive(Default)]
struct Typing {
    letters: Vec<(u8, Type)>,
}

impl Typing {
    /// Types `term` where `want` is asked for; the type it has, or none if it cannot have one.
    fn assign(&mut self, term: &Term, want: Type, width: Type) -> Option<Type> {
        match term {
            Term::Literal(_) => Some(want),
            Term::Var { name, .. } => match self.letters.iter().find(|(letter, _)| letter == name) {
                Some((_, ty)) => Some(*ty),
                None => {
                    self.letters.push((*name, want));
                    Some(want)
                }
            },
            Term::Op(opcode, terms) => {
                let mut before = Type::Void;
                for (operand, term) in opcode.row().operands.iter().zip(terms) {
                    before = self.assign(term, operand_type(*operand, want, before, width, term)?, width)?;
                }
                match opcode.row().outcome {
                    Outcome::Fixed(ty) => Some(ty),
                    Outcome::Own(class) => class.contains(want).then_some(want),
                    _ => None,
                }
            }
            Term::Resize { .. } => None,
        }
    }
}

/// The type that an operand is to have.
fn operand_type(operand: Operand, own: Type, before: Type, width: Type, term: &Term) -> Option<Type> {
    let of = |class: Class| match term {
        Term::Op(opcode, _) if let Outcome::Fixed(ty) = opcode.row().outcome => {
            Some(ty).filter(|ty| class.contains(*ty))
        }
        _ => class
            .types()
            .find(|ty| *ty == width)
            .or_else(|| class.types().next().filter(|_| class.types().count() == 1)),
    };
    match operand {
        Operand::Own => Some(own),
        Operand::Like => Some(before),
        Operand::Of(class) => of(class),
    }
}

/// The value of a side; none where an operation has none (a division by zero).
fn value(term: &Term, ty: Type, env: &Env) -> Option<Value> {
    let lookup = |name: u8| env.iter().find(|(letter, _)| *letter == name).map(|(_, value)| *value);
    match term {
        Term::Var { name, .. } => lookup(*name),
        Term::Literal(number) => Some(Value::from_bits(ty, *number as i64 as u64 & ty.mask())),
        Term::Op(opcode, terms) => {
            let anchor = terms.iter().find_map(|term| type_of(term, ty, env));
            let mut before = Type::Void;
            let mut values = Vec::new();
            for (operand, term) in opcode.row().operands.iter().zip(terms) {
                let wanted = match operand {
                    Operand::Own => ty,
                    Operand::Like => before,
                    Operand::Of(class) if class.types().count() == 1 => class.types().next()?,
                    Operand::Of(_) => type_of(term, ty, env).or(anchor)?,
                };
                values.push(value(term, wanted, env)?);
                before = values.last()?.ty();
            }
            let ty = if let Outcome::Fixed(fixed) = opcode.row().outcome { fixed } else { ty };
            evaluate(*opcode, ty, &values)
        }
        Term::Resize { extend, operand } => {
            let inner = value(operand, ty, env)?;
            match inner.ty().bits().cmp(&ty.bits()) {
                std::cmp::Ordering::Less => evaluate(*extend, ty, &[inner]),
                std::cmp::Ordering::Equal => Some(inner),
                std::cmp::Ordering::Greater => evaluate(Opcode::Wrap, ty, &[inner]),
            }
        }
    }
}

/// The type that a term has of itself, whatever is asked for.
fn type_of(term: &Term, own: Type, env: &Env) -> Option<Type> {
    match term {
        Term::Var { name, .. } => env.iter().find(|(letter, _)| letter == name).map(|(_, value)| value.ty()),
        Term::Literal(_) => None,
        Term::Op(opcode, terms) => match opcode.row().outcome {
            Outcome::Fixed(ty) => Some(ty),
            _ => terms.iter().find_map(|term| type_of(term, own, env)),
        },
        Term::Resize { .. } => Some(own),
    }
}

/// What a letter is tried with.
fn samples(ty: Type, rule: &Rule, name: u8) -> Vec<Value> {
    if rule.condition == Condition::Truth(name) {
        return vec![Value::from_bits(ty, 0), Value::from_bits(ty, 1)];
    }
    let mut bits: Vec<u64> = match ty {
        Type::I8 => (0..=255).collect(),
        Type::F32 => [
            0.0,
            -0.0,
            1.0,
            -1.5,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MIN_POSITIVE,
            1e-45,
            f32::MAX,
        ]
        .iter()
        .map(|float| float.to_bits().into())
        .collect(),
        Type::F64 => [
            0.0,
            -0.0,
            1.0,
            -1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
        ]
        .iter()
        .map(|float| float.to_bits())
        .collect(),
        _ => {
            let top = ty.mask() ^ ty.mask() >> 1;
            vec![
                0,
                1,
                2,
                7,
                31,
                63,
                0x80,
                0xff,
                0x7fff,
                top,
                top - 1,
                top + 1,
                ty.mask(),
                ty.mask() - 1,
                0x1234_5678_9abc_def1 & ty.mask(),
            ]
        }
    };
    if rule.condition == Condition::NonZero(name) {
        bits.retain(|bits| *bits != 0);
    }
    bits.into_iter().map(|bits| Value::from_bits(ty, bits)).collect()
}

/// Compares both sides of `rule` at result type `ty` for every choice of `letters`. How many had a value.
fn compare(rule: &Rule, ty: Type, letters: &[(u8, Type)], law: &str) -> usize {
    let choices: Vec<Vec<Value>> = letters.iter().map(|(name, ty)| samples(*ty, rule, *name)).collect();
    // Three letters of 8 bits are 16 million triples: the second and third are sampled then.
    let stride = |index: usize| if letters.len() > 2 { [1, 15, 17][index] } else { 1 };
    let counts: Vec<usize> = choices.iter().enumerate().map(|(i, c)| c.len().div_ceil(stride(i))).collect();
    let mut compared = 0;
    for index in 0..counts.iter().product() {
        let (mut rest, mut env) = (index, Env::new());
        for (i, (name, _)) in letters.iter().enumerate() {
            env.push((*name, choices[i][rest % counts[i] * stride(i)]));
            rest /= counts[i];
        }
        if let Some(left) = value(&rule.left, ty, &env) {
            let right =
                value(&rule.right, ty, &env).unwrap_or_else(|| panic!("{law}: no right side at {env:?}"));
            assert!(left.same_modulo_nan(right), "{law}: {left:?} is not {right:?} at {env:?}");
            compared += 1;
        }
    }
    compared
}

/// The conversions of a chain such as `wrap (uext x)`; none if the term is no chain.
fn chain(term: &Term) -> Option<Vec<Opcode>> {
    let Term::Op(opcode, terms) = term else { return Some(Vec::new()) };
    let [inner] = terms.as_slice() else { return None };
    let resizes =
        [Properties::WIDENS, Properties::NARROWS, Properties::SAME_WIDTH].iter().any(|p| opcode.has(*p));
    let mut opcodes = chain(inner)?;
    opcodes.push(*opcode);
    resizes.then_some(opcodes)
}

fn converts(opcode: Opcode, from: Type, to: Type) -> bool {
    let classes = matches!(opcode.row().outcome, Outcome::Own(class) if class.contains(to))
        && matches!(opcode.row().operands, [Operand::Of(class)] if class.contains(from))
        && [from, to].iter().all(|ty| !matches!(ty, Type::Ref | Type::V128));
    classes
        && (!opcode.has(Properties::WIDENS) || to.bits() > from.bits())
        && (!opcode.has(Properties::NARROWS) || to.bits() < from.bits())
        && (!opcode.has(Properties::SAME_WIDTH) || to.bits() == from.bits())
}

/// The value of a chain whose steps have the given types.
fn chain_value(opcodes: &[Opcode], types: &[Type], start: Value) -> Option<Value> {
    opcodes.iter().zip(types).try_fold(start, |value, (opcode, ty)| evaluate(*opcode, *ty, &[value]))
}

/// Compares a law about a chain of conversions, at every choice of types.
fn compare_chain(rule: &Rule, opcodes: &[Opcode], law: &str) -> usize {
    let mut compared = 0;
    let mut typings: Vec<Vec<Type>> = Type::VALUES.iter().map(|ty| vec![*ty]).collect();
    for opcode in opcodes {
        typings = typings
            .iter()
            .flat_map(|types| {
                let from = *types.last().expect("a typing has the operand's type");
                Type::VALUES
                    .into_iter()
                    .filter(move |to| converts(*opcode, from, *to))
                    .map(move |to| [types.as_slice(), &[to]].concat())
            })
            .collect();
    }
    for types in typings {
        let ty = *types.last().expect("a typing has the operand's type");
        if rule.condition == Condition::Same(b'x') && types[0] != ty {
            continue;
        }
        for start in samples(types[0], rule, b'x') {
            let left = chain_value(opcodes, &types[1..], start).expect("conversions are total");
            let right = value(&rule.right, ty, &vec![(b'x', start)]).expect("conversions are total");
            assert!(
                left.same_modulo_nan(right),
                "{law} over {types:?}: {left:?} is not {right:?} at {start:?}"
            );
            compared += 1;
        }
    }
    compared
}

#[test]
fn every_law_holds() {
    for law in LAWS {
        let rule = Rule::parse(law);
        if let Some(opcodes) = chain(&rule.left) {
            assert!(compare_chain(&rule, &opcodes, law) > 0, "{law} was compared");
            continue;
        }
        let mut compared = 0;
        for width in [Type::I8, Type::I16, Type::I32, Type::I64, Type::F32, Type::F64, Type::Addr] {
            let ty = match rule.opcode().row().outcome {
                Outcome::Fixed(ty) => ty,
                _ => width,
            };
            let mut typing = Typing::default();
            let typed = typing.assign(&rule.left, ty, width) == Some(ty);
            let conditions_hold = typing.letters.iter().all(|(name, of)| match rule.condition {
                Condition::Truth(letter) if letter == *name => *of == ty && ty == Type::I32,
                Condition::Int32(letter) if letter == *name => *of == Type::I32,
                _ => true,
            });
            if typed && conditions_hold {
                compared += compare(&rule, ty, &typing.letters, law);
            }
        }
        assert!(compared > 0, "{law} was compared");
    }
}

#[test]
fn a_false_law_is_found() {
    let rule = Rule::parse("sub x y => sub y x");
    let broken =
        std::panic::catch_unwind(|| compare(&rule, Type::I8, &[(b'x', Type::I8), (b'y', Type::I8)], "false"));
    assert!(broken.is_err(), "a law that does not hold fails");
}
