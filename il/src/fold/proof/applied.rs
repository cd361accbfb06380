//! That the matcher does what the text says: the left side is built as nodes, and what folding makes of it is the right side.

use bumpalo::Bump;

use super::rules;
use super::sampled::{Real, samples, typings};
use crate::builder::{Builder, Folding};
use crate::eval::Value;
use crate::fold::law::{Condition, Kind, Rule, Term};
use crate::fold::pattern::resize;
use crate::fold::rules::apply;
use crate::method::{Node, Payload};
use crate::module::Module;
use crate::opcode::{Opcode, Properties};
use crate::raise::RaiseKind;
use crate::types::Type;

/// How often a rule is applied at each choice of types.
const TIMES: usize = 4;

/// Letters and types as nodes; constants by their values.
struct Nodes<'b, 'a, 'm> {
    builder: &'b mut Builder<'a, 'm>,
    nodes: Vec<Node>,
    real: Real,
}

impl Nodes<'_, '_, '_> {
    /// A term as nodes; none if folding makes something else of it.
    fn exactly(&mut self, term: &Term) -> Option<Node> {
        let ty = self.real.types[term.ty];
        match &term.kind {
            Kind::Letter(letter) => Some(self.nodes[*letter]),
            Kind::Literal(literal) => Some(self.builder.constant(ty, literal.bits_at(ty))),
            Kind::Op(opcode, terms) => {
                let operands: Option<Vec<Node>> = terms.iter().map(|term| self.exactly(term)).collect();
                let operands = operands?;
                let node = self.builder.emit(*opcode, ty, &operands, Payload::None);
                let method = self.builder.method();
                let is_there = method.opcode(node) == *opcode && *method.operands(node) == operands[..];
                (is_there && !method.is_root(node)).then_some(node)
            }
            Kind::Resize { .. } => unreachable!("a resize stands on the right"),
        }
    }

    /// A term as nodes, folded.
    fn folded(&mut self, term: &Term) -> Node {
        let ty = self.real.types[term.ty];
        match &term.kind {
            Kind::Letter(letter) => self.nodes[*letter],
            _ if term.is_const => {
                let value = self.real.value(term).expect("a constant of the right has a value");
                self.builder.constant(ty, value.low())
            }
            Kind::Op(opcode, terms) => {
                let operands: Vec<Node> = terms.iter().map(|term| self.folded(term)).collect();
                self.builder.emit(*opcode, ty, &operands, Payload::None)
            }
            Kind::Resize { extend, operand } => {
                let node = self.folded(operand);
                match resize(*extend, self.real.types[operand.ty], ty) {
                    Some(opcode) => self.builder.convert(opcode, ty, node),
                    None => node,
                }
            }
            Kind::Literal(_) => unreachable!("a literal is a constant"),
        }
    }
}

/// Whether something is divided by the letter.
fn divides(term: &Term, letter: usize) -> bool {
    let Kind::Op(opcode, terms) = &term.kind else { return false };
    opcode.has(Properties::ROOT_UNLESS_PROVEN) && terms[1].kind == Kind::Letter(letter)
        || terms.iter().any(|term| divides(term, letter))
}

/// A node for a letter that is no constant: the value of a parameter, or what the conditions ask for.
fn letter(builder: &mut Builder<'_, '_>, rule: &Rule, index: usize, ty: Type, first: usize) -> Node {
    let param = |builder: &mut Builder<'_, '_>, index: usize| {
        let local = builder.param(index);
        builder.get(local)
    };
    let node = param(builder, first + index);
    if rule.conditions.contains(&Condition::Truth(index)) {
        let nothing = builder.constant(ty, 77);
        let truth = builder.op(Opcode::ULt, &[node, nothing]);
        return match resize(Opcode::UExt, Type::I32, ty) {
            Some(opcode) => builder.convert(opcode, ty, truth),
            None => truth,
        };
    }
    if rule.conditions.contains(&Condition::NonZero(index)) || divides(&rule.left, index) {
        return builder.emit(Opcode::DivCheck, ty, &[node], Payload::Raise(RaiseKind::Division, 0));
    }
    node
}

/// Values for the constants; more of them than other samples where conditions are about few.
fn candidates(rule: &Rule, ty: Type) -> Vec<Value> {
    let mut values = samples(ty, 8);
    if rule.letters.iter().filter(|letter| letter.is_const).count() > 2 {
        values.truncate(24);
    }
    values
}

/// How often the rule was applied at these types.
fn check(rule: &Rule, types: &[Type]) -> usize {
    let arena = Bump::new();
    let mut module = Module::new();
    let params: Vec<Type> = rule.letters.iter().map(|letter| types[letter.ty]).collect();
    let id = module.declare_method("f", &params, &[]);
    let mut builder = Builder::new(&arena, &module, id, Folding::On);
    let block = builder.block();
    builder.switch_to(block);
    let letters: Vec<Node> =
        (0..rule.letters.len()).map(|index| letter(&mut builder, rule, index, params[index], 0)).collect();
    let constants: Vec<usize> =
        (0..rule.letters.len()).filter(|index| rule.letters[*index].is_const).collect();
    let choices: Vec<Vec<Value>> = constants.iter().map(|index| candidates(rule, params[*index])).collect();
    let mut applied = 0;
    for mut rest in 0..choices.iter().map(Vec::len).product() {
        let mut real =
            Real { values: params.iter().map(|ty| Value::zero(*ty)).collect(), types: types.to_vec() };
        for (index, choice) in constants.iter().zip(&choices) {
            real.values[*index] = choice[rest % choice.len()];
            rest /= choice.len();
        }
        let of_constants = |condition: &&Condition| match condition {
            Condition::Pow2(letter)
            | Condition::FloatPow2(letter)
            | Condition::NonZero(letter)
            | Condition::Truth(letter) => rule.letters[*letter].is_const,
            Condition::Holds(_) => true,
        };
        if !rule.conditions.iter().filter(of_constants).all(|condition| real.holds(condition)) {
            continue;
        }
        let mut nodes = letters.clone();
        for index in &constants {
            nodes[*index] = builder.constant(params[*index], real.values[*index].low());
        }
        let ty = types[rule.left.ty];
        let mut built = Nodes { builder: &mut builder, nodes, real };
        let operands: Option<Vec<Node>> = rule.root().1.iter().map(|term| built.exactly(term)).collect();
        let Some(operands) = operands else { continue };
        let Some((node, by)) = apply(built.builder, rule.opcode(), ty, &operands) else {
            panic!("`{}` is not applied at {:?}", rule.law, built.real);
        };
        if by.law == rule.law && by.left == rule.left {
            let expected = built.folded(&rule.right);
            assert_eq!(node, expected, "`{}` at {:?}", rule.law, built.real);
            applied += 1;
        }
        if applied == TIMES {
            break;
        }
    }
    applied
}

#[test]
fn every_rule_is_applied_and_does_what_its_text_says() {
    let mut never = Vec::new();
    for rule in rules().into_iter().flat_map(Rule::variants) {
        if typings(&rule).iter().map(|types| check(&rule, types)).sum::<usize>() == 0 {
            never.push((rule.law, rule.left));
        }
    }
    assert!(never.is_empty(), "never applied, since others come first: {never:#?}");
}
