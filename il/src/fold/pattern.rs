//! Rules as text: parsed once, then matched against nodes and built from them.

use smallvec::SmallVec;

use crate::builder::Builder;
use crate::method::{Node, Payload};
use crate::opcode::{Opcode, Outcome, Properties};
use crate::types::Type;

/// A tree of a rule's left or right side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// Any node; `bool`: only a constant.
    Var { name: u8, is_const: bool },
    /// The constant with this value at the type at hand.
    Literal(i8),
    /// An operation.
    Op(Opcode, Vec<Term>),
    /// On the right only: its operand extended or cut to the type asked for, with zeros or with the sign.
    Resize { extend: Opcode, operand: Box<Term> },
}

/// What must hold besides the match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    NonZero(u8),
    Truth(u8),
    Int32(u8),
    Same(u8),
}

/// A law, ready to be applied.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) left: Term,
    pub(super) right: Term,
    pub(super) condition: Condition,
}

/// What the letters of a rule stand for; a rule has few.
type Bindings = SmallVec<[(u8, Node); 4]>;

fn bound(bindings: &Bindings, name: u8) -> Option<Node> {
    bindings.iter().find(|(letter, _)| *letter == name).map(|(_, node)| *node)
}

impl Rule {
    /// Reads a law.
    ///
    /// # Panics
    ///
    /// If the text is not a law. The table is ours, and a test reads all of it.
    pub(super) fn parse(law: &'static str) -> Rule {
        let (left, rest) = law.split_once("=>").expect("a law has two sides");
        let (right, condition) = match rest.split_once(" if ") {
            Some((right, condition)) => (right, parse_condition(condition)),
            None => (rest, Condition::Always),
        };
        Rule { left: parse_term(left), right: parse_term(right), condition }
    }

    /// The opcode at the root of the left side.
    pub(super) fn opcode(&self) -> Opcode {
        match &self.left {
            Term::Op(opcode, _) => *opcode,
            _ => unreachable!("the left side of a law is an operation"),
        }
    }

    /// The node of the right side, if the left side matches an operation of type `ty` on `operands`.
    pub(super) fn apply(&self, builder: &mut Builder<'_, '_>, ty: Type, operands: &[Node]) -> Option<Node> {
        let Term::Op(_, terms) = &self.left else { return None };
        let mut bindings = Bindings::new();
        let matches = terms.len() == operands.len()
            && terms.iter().zip(operands).all(|(term, node)| matches(builder, term, *node, &mut bindings));
        (matches && self.condition.holds(builder, ty, &bindings))
            .then(|| build(builder, &self.right, ty, &bindings))
    }
}

impl Condition {
    fn holds(self, builder: &Builder<'_, '_>, ty: Type, bindings: &Bindings) -> bool {
        let method = builder.method();
        let of = |name, test: &dyn Fn(Node) -> bool| bound(bindings, name).is_some_and(test);
        match self {
            Condition::Always => true,
            Condition::NonZero(name) => {
                of(name, &|node| method.const_bits(node).is_some_and(|bits| bits != 0))
            }
            Condition::Truth(name) => {
                of(name, &|node| method.opcode(node).has(Properties::TRUTH) && method.ty(node) == ty)
            }
            Condition::Int32(name) => of(name, &|node| method.ty(node) == Type::I32),
            Condition::Same(name) => of(name, &|node| method.ty(node) == ty),
        }
    }
}

/// Whether `node` has the form of `term`; binds its letters.
fn matches(builder: &Builder<'_, '_>, term: &Term, node: Node, bindings: &mut Bindings) -> bool {
    let method = builder.method();
    match term {
        Term::Var { name, is_const } => match bound(bindings, *name) {
            Some(other) => other == node,
            None => {
                bindings.push((*name, node));
                !is_const || method.const_bits(node).is_some()
            }
        },
        Term::Literal(value) => {
            let ty = method.ty(node);
            !ty.is_float() && method.const_bits(node) == Some(*value as i64 as u64 & ty.mask())
        }
        Term::Op(opcode, terms) => {
            method.opcode(node) == *opcode
                && !method.is_root(node)
                && method.operands(node).len() == terms.len()
                && (0..terms.len()).all(|i| matches(builder, &terms[i], method.operands(node)[i], bindings))
        }
        Term::Resize { .. } => unreachable!("a resize stands on the right"),
    }
}

/// Builds `term` at type `ty`.
fn build(builder: &mut Builder<'_, '_>, term: &Term, ty: Type, bindings: &Bindings) -> Node {
    match term {
        Term::Var { name, .. } => bound(bindings, *name).expect("letters of the right stand on the left"),
        Term::Literal(value) => builder.constant(ty, *value as i64 as u64),
        Term::Op(opcode, terms) => {
            // Constants are built at the type of what they are combined with, which is the node's own where it has one.
            let operands: SmallVec<[Node; 3]> =
                terms.iter().map(|term| build_operand(builder, *opcode, term, ty, bindings)).collect();
            let ty = match opcode.row().outcome {
                Outcome::Fixed(fixed) => fixed,
                _ => ty,
            };
            builder.emit(*opcode, ty, &operands, Payload::None)
        }
        Term::Resize { extend, operand } => {
            let node = build(builder, operand, ty, bindings);
            let from = builder.method().ty(node);
            match from.bits().cmp(&ty.bits()) {
                std::cmp::Ordering::Less => builder.convert(*extend, ty, node),
                std::cmp::Ordering::Equal => node,
                std::cmp::Ordering::Greater => builder.convert(Opcode::Wrap, ty, node),
            }
        }
    }
}

/// Builds an operand: at the type of its letters where it has any, else at that of the node.
fn build_operand(
    builder: &mut Builder<'_, '_>,
    parent: Opcode,
    term: &Term,
    ty: Type,
    bindings: &Bindings,
) -> Node {
    let ty = match (term, letter(term)) {
        (Term::Op(..), Some(name)) => {
            builder.method().ty(bound(bindings, name).expect("letters of the right stand on the left"))
        }
        _ => ty,
    };
    debug_assert!(
        !matches!(term, Term::Literal(_)) || !matches!(parent.row().outcome, Outcome::Fixed(_)),
        "a literal operand has the node's own type"
    );
    build(builder, term, ty, bindings)
}

fn letter(term: &Term) -> Option<u8> {
    match term {
        Term::Var { name, .. } => Some(*name),
        Term::Literal(_) => None,
        Term::Op(_, terms) => terms.iter().find_map(letter),
        Term::Resize { operand, .. } => letter(operand),
    }
}

fn parse_condition(text: &str) -> Condition {
    let mut words = text.split_whitespace();
    let (word, name) = (words.next(), words.next().map_or(0, |letter| letter.as_bytes()[0]));
    match word {
        Some("nonzero") => Condition::NonZero(name),
        Some("truth") => Condition::Truth(name),
        Some("i32") => Condition::Int32(name),
        Some("same") => Condition::Same(name),
        other => unreachable!("{other:?} is not a condition of a law"),
    }
}

fn parse_term(text: &str) -> Term {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let term = parse_words(&mut words);
    assert!(words.next().is_none(), "`{text}` is one term");
    term
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn parse_words(words: &mut Words<'_>) -> Term {
    let word = words.next().expect("a term is not empty");
    if let Ok(value) = word.parse() {
        return Term::Literal(value);
    }
    if let [name] = *word.as_bytes() {
        return Term::Var { name, is_const: name.is_ascii_uppercase() };
    }
    let mut operands = Vec::new();
    while words.peek().is_some_and(|next| *next != ")") {
        operands.push(if words.next_if_eq(&"(").is_some() {
            let operand = parse_words(words);
            assert_eq!(words.next(), Some(")"), "an operation ends with its parenthesis");
            operand
        } else {
            parse_atom(words)
        });
    }
    let extend = match word {
        "zresize" => Opcode::UExt,
        "sresize" => Opcode::SExt,
        _ => {
            let opcode = Opcode::all().find(|opcode| opcode.name() == word);
            return Term::Op(opcode.unwrap_or_else(|| panic!("`{word}` is an opcode")), operands);
        }
    };
    Term::Resize { extend, operand: Box::new(operands.remove(0)) }
}

fn parse_atom(words: &mut Words<'_>) -> Term {
    let word = words.next().expect("an operand is not empty");
    match word.parse() {
        Ok(value) => Term::Literal(value),
        Err(_) => {
            let name = word.as_bytes()[0];
            assert_eq!(word.len(), 1, "`{word}` is a letter or a number");
            Term::Var { name, is_const: name.is_ascii_uppercase() }
        }
    }
}
