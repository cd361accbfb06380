//! Rules at work: matched against nodes, and built from them.

use smallvec::SmallVec;

use super::law::{Condition, Kind, MAX_LETTERS, MAX_TYPES, RESULT, Rule, Term, TypeVar};
use crate::builder::Builder;
use crate::eval::{Value, evaluate};
use crate::method::{Method, Node, Payload};
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

/// How far a truth is looked for among the operands of what combines truths.
const MAX_TRUTH_DEPTH: u32 = 3;

/// What the letters and types of a rule stand for.
struct Match<'r> {
    rule: &'r Rule,
    nodes: [Option<Node>; MAX_LETTERS],
    /// `Void` where it is not known yet.
    types: [Type; MAX_TYPES],
}

impl Rule {
    /// The node of the right side, if the left side matches an operation of type `ty` on `operands`.
    pub(super) fn apply(&self, builder: &mut Builder<'_, '_>, ty: Type, operands: &[Node]) -> Option<Node> {
        let found = self.find(builder.method(), ty, operands)?;
        Some(found.build(builder, &self.right))
    }

    /// Whether the left side matches an operation of type `ty` on `operands`.
    fn find(&self, method: &Method<'_>, ty: Type, operands: &[Node]) -> Option<Match<'_>> {
        let mut found = Match { rule: self, nodes: [None; MAX_LETTERS], types: [Type::Void; MAX_TYPES] };
        let (_, terms) = self.root();
        let matches = found.types_as(RESULT, ty)
            && terms.len() == operands.len()
            && terms.iter().zip(operands).all(|(term, node)| found.matches(method, term, *node));
        (matches && found.settle() && self.conditions.iter().all(|c| found.holds(method, c))).then_some(found)
    }
}

impl Match<'_> {
    /// Whether `node` has the form of `term`; binds its letters and types.
    fn matches(&mut self, method: &Method<'_>, term: &Term, node: Node) -> bool {
        self.types_as(term.ty, method.ty(node))
            && match &term.kind {
                Kind::Letter(letter) => match self.nodes[*letter] {
                    Some(other) => other == node,
                    None => {
                        self.nodes[*letter] = Some(node);
                        !self.rule.letters[*letter].is_const || method.const_bits(node).is_some()
                    }
                },
                Kind::Literal(literal) => method.const_bits(node) == Some(literal.bits_at(method.ty(node))),
                Kind::Op(opcode, terms) => {
                    method.opcode(node) == *opcode
                        && !method.is_root(node)
                        && method.operands(node).len() == terms.len()
                        && (0..terms.len()).all(|i| self.matches(method, &terms[i], method.operands(node)[i]))
                }
                Kind::Resize { .. } => unreachable!("a resize stands on the right"),
            }
    }

    /// Whether a type may be, and is, `ty`.
    fn types_as(&mut self, var: TypeVar, ty: Type) -> bool {
        if self.types[var] == Type::Void {
            self.types[var] = ty;
            return self.rule.types[var].contains(ty);
        }
        self.types[var] == ty
    }

    /// Gives the types that are always the same, and looks at widths.
    fn settle(&mut self) -> bool {
        for (ty, class) in self.types.iter_mut().zip(&self.rule.types) {
            if *ty == Type::Void {
                *ty = class.single().expect("types of the right stand on the left");
            }
        }
        let bits = |var: TypeVar| self.types[var].bits();
        self.rule.narrower.iter().all(|(narrow, wide)| bits(*narrow) < bits(*wide))
            && self.rule.same_width.iter().all(|(a, b)| bits(*a) == bits(*b))
    }

    fn letter(&self, letter: usize) -> Node {
        self.nodes[letter].expect("letters of the right stand on the left")
    }

    fn holds(&self, method: &Method<'_>, condition: &Condition) -> bool {
        let bits = |letter: usize| method.const_bits(self.letter(letter));
        match condition {
            Condition::Pow2(letter) => bits(*letter).is_some_and(u64::is_power_of_two),
            Condition::FloatPow2(letter) => {
                let ty = self.types[self.rule.letters[*letter].ty];
                bits(*letter).is_some_and(|bits| has_exact_reciprocal(Value::from_bits(ty, bits)))
            }
            Condition::NonZero(letter) => method.is_proven_nonzero(self.letter(*letter)),
            Condition::Truth(letter) => is_truth(method, self.letter(*letter), MAX_TRUTH_DEPTH),
            Condition::Holds(term) => self.value(method, term).is_some_and(Value::is_true),
        }
    }

    /// The value of a term of constants; none if it has none (a division by zero).
    fn value(&self, method: &Method<'_>, term: &Term) -> Option<Value> {
        let ty = self.types[term.ty];
        match &term.kind {
            Kind::Letter(letter) => Some(Value::from_bits(ty, method.const_bits(self.letter(*letter))?)),
            Kind::Literal(literal) => Some(Value::from_bits(ty, literal.bits_at(ty))),
            Kind::Op(opcode, terms) => {
                let mut values = SmallVec::<[Value; 3]>::new();
                for term in terms {
                    values.push(self.value(method, term)?);
                }
                evaluate(*opcode, ty, &values)
            }
            Kind::Resize { extend, operand } => {
                let value = self.value(method, operand)?;
                match resize(*extend, value.ty(), ty) {
                    Some(opcode) => evaluate(opcode, ty, &[value]),
                    None => Some(value),
                }
            }
        }
    }

    /// Builds a term of the right side.
    fn build(&self, builder: &mut Builder<'_, '_>, term: &Term) -> Node {
        let ty = self.types[term.ty];
        match &term.kind {
            Kind::Letter(letter) => self.letter(*letter),
            _ if term.is_const => {
                let value = self.value(builder.method(), term).expect("proved: a right side has a value");
                builder.constant(ty, value.low())
            }
            Kind::Literal(_) => unreachable!("a literal is a constant"),
            Kind::Op(opcode, terms) => {
                let operands: SmallVec<[Node; 3]> =
                    terms.iter().map(|term| self.build(builder, term)).collect();
                builder.emit(*opcode, ty, &operands, Payload::None)
            }
            Kind::Resize { extend, operand } => {
                let node = self.build(builder, operand);
                match resize(*extend, self.types[operand.ty], ty) {
                    Some(opcode) => builder.convert(opcode, ty, node),
                    None => node,
                }
            }
        }
    }
}

/// The conversion that makes a value of `from` one of `to`, if it takes one.
pub(super) fn resize(extend: Opcode, from: Type, to: Type) -> Option<Opcode> {
    match from.bits().cmp(&to.bits()) {
        std::cmp::Ordering::Less => Some(extend),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(Opcode::Wrap),
    }
}

/// Whether dividing by the float is multiplying with another one: it is a power of two, and so is its reciprocal.
pub(super) fn has_exact_reciprocal(value: Value) -> bool {
    let (mantissa, exponents) = if value.ty() == Type::F32 { (23, 0xff) } else { (52, 0x7ff) };
    let exponent = value.low() >> mantissa & exponents;
    // The reciprocal of the largest power of two would be subnormal.
    value.low() & ((1 << mantissa) - 1) == 0 && exponent > 0 && exponent < exponents - 1
}

/// Whether a value is one or zero by what it is.
fn is_truth(method: &Method<'_>, node: Node, depth: u32) -> bool {
    let opcode = method.opcode(node);
    if let Some(bits) = method.const_bits(node) {
        return bits <= 1;
    }
    if opcode.has(Properties::TRUTH) {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    let truth = |index: usize| is_truth(method, method.operands(node)[index], depth);
    match opcode {
        Opcode::And => truth(0) || truth(1),
        Opcode::Or | Opcode::Xor | Opcode::UMin | Opcode::UMax | Opcode::Mul => truth(0) && truth(1),
        Opcode::Select => truth(1) && truth(2),
        Opcode::UExt | Opcode::Wrap => truth(0),
        _ => false,
    }
}
