//! Laws as data: the text of a rule, read once, with the type of each of its parts.
//!
//! ```text
//!   and (uext x) A  =>  uext x   if eq (and A (uext (wrap:x -1))) (uext (wrap:x -1))
//!   └ result: t0     x: t1, A: t0      │                                └ at the type of x
//!                                      └ operations on constants, which hold if they are not zero
//! ```
//!
//! *Why.* What is matched, what is built and what is proved must be one thing. All three walk this tree.
//!
//! *Types* are inferred: each term has a type variable, rows of opcodes say which are one and what they may be. Where a
//! rule's right side is of one type with a part of its left, the rule matches only where that is so. What a condition
//! leaves open has the type of the result; `op:x` says that an operation's result has the type of the letter.

use std::sync::LazyLock;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::opcode::{Class, Opcode, Operand, Outcome, Properties};
use crate::types::Type;

/// The most letters of a law, and the most types.
pub(super) const MAX_LETTERS: usize = 6;
pub(super) const MAX_TYPES: usize = 5;

/// A type of a law, by number. The result's is 0.
pub(super) type TypeVar = usize;

/// The result's type.
pub(super) const RESULT: TypeVar = 0;

/// A part of a law.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub(super) ty: TypeVar,
    /// Whether it has a value once the capital letters have.
    pub(super) is_const: bool,
    pub(super) kind: Kind,
}

/// What a part of a law is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A letter, by number.
    Letter(usize),
    Literal(Literal),
    Op(Opcode, Vec<Term>),
    /// On the right only: its operand extended or cut to the type of the term, with zeros or with the sign.
    Resize {
        extend: Opcode,
        operand: Box<Term>,
    },
}

/// A constant, which depends on nothing but its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Literal {
    Int(i8),
    Float(f64),
    /// How many bits the type has.
    Bits,
    /// One less: the number of the highest bit.
    Top,
    /// The smallest signed integer.
    Smallest,
    /// The largest signed integer.
    Largest,
}

impl Literal {
    /// The bits at an integer type of `width` bits.
    pub(super) fn bits(self, width: u32) -> u64 {
        let mask = u64::MAX >> (64 - width);
        mask & match self {
            Literal::Int(value) => value as i64 as u64,
            Literal::Bits => width.into(),
            Literal::Top => u64::from(width) - 1,
            Literal::Smallest => 1 << (width - 1),
            Literal::Largest => mask >> 1,
            Literal::Float(_) => unreachable!("a float literal has a float's type"),
        }
    }

    /// The bits at type `ty`.
    pub(super) fn bits_at(self, ty: Type) -> u64 {
        match (self, ty) {
            (Literal::Float(value), Type::F32) => (value as f32).to_bits().into(),
            (Literal::Float(value), _) => value.to_bits(),
            _ => self.bits(ty.bits()),
        }
    }
}

/// A letter of a law; a capital one matches constants alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) name: u8,
    pub(super) is_const: bool,
    pub(super) ty: TypeVar,
}

/// What must hold besides the match.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// The constant is a power of two.
    Pow2(usize),
    /// The float is a power of two, and so is its reciprocal.
    FloatPow2(usize),
    /// The value is known not to be zero.
    NonZero(usize),
    /// The value is known to be one or zero.
    Truth(usize),
    /// The term, of constants, is not zero.
    Holds(Term),
}

/// A law, ready to be applied.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The text.
    #[cfg_attr(not(test), expect(dead_code, reason = "proofs name what they are about"))]
    pub(super) law: &'static str,
    pub(super) left: Term,
    pub(super) right: Term,
    pub(super) conditions: Vec<Condition>,
    pub(super) letters: Vec<Letter>,
    /// What each type may be.
    pub(super) types: Vec<Class>,
    /// Pairs of types of which the first is narrower, and pairs that are equally wide.
    pub(super) narrower: Vec<(TypeVar, TypeVar)>,
    pub(super) same_width: Vec<(TypeVar, TypeVar)>,
}

impl Rule {
    /// Reads a law.
    ///
    /// # Panics
    ///
    /// If the text is not a law. The tables are ours, and a test reads all of them.
    pub(super) fn parse(law: &'static str) -> Rule {
        let mut reader = Reader::default();
        let (left, rest) = law.split_once("=>").expect("a law has two sides");
        let (right, conditions) = rest.split_once(" if ").map_or((rest, None), |(r, c)| (r, Some(c)));
        let (left, right) = (reader.side(left), reader.side(right));
        reader.unify(left.ty, right.ty);
        let conditions: Vec<Condition> = conditions
            .into_iter()
            .flat_map(|text| text.split(','))
            .map(|text| reader.condition(text))
            .collect();
        reader.finish(law, left, right, conditions)
    }

    /// The opcode at the root of the left side.
    pub(super) fn opcode(&self) -> Opcode {
        self.root().0
    }

    /// The operation that the left side is.
    pub(super) fn root(&self) -> (Opcode, &[Term]) {
        match &self.left.kind {
            Kind::Op(opcode, terms) => (*opcode, terms),
            _ => unreachable!("the left side of a law is an operation"),
        }
    }

    /// Whether any of it is about floats, which have no model and no proof by a solver.
    #[cfg(test)]
    pub(super) fn is_float(&self) -> bool {
        self.types.iter().any(|class| class.and(Class::EQ).is_empty())
    }

    /// The rule, and the same with operands of what commutes exchanged, as far as that is another one.
    pub(super) fn variants(self) -> Vec<Rule> {
        let mut seen: Vec<Term> = Vec::new();
        let mut rules = Vec::new();
        for left in exchanged(&self.left) {
            let mut names = Vec::new();
            let mut form = left.clone();
            rename(&mut form, &mut names);
            if !seen.contains(&form) {
                seen.push(form);
                rules.push(Rule { left, ..self.clone() });
            }
        }
        rules
    }
}

/// All ways of exchanging operands. A constant stays where it is, which is on the right.
fn exchanged(term: &Term) -> Vec<Term> {
    let Kind::Op(opcode, terms) = &term.kind else { return vec![term.clone()] };
    let mut lists: Vec<Vec<Term>> = vec![Vec::new()];
    for operand in terms {
        let forms = exchanged(operand);
        lists = lists
            .iter()
            .flat_map(|list| forms.iter().map(|form| [&list[..], std::slice::from_ref(form)].concat()))
            .collect();
    }
    if opcode.has(Properties::COMMUTES) && !terms[0].is_const && !terms[1].is_const {
        let swapped: Vec<Vec<Term>> =
            lists.iter().map(|list| [&[list[1].clone(), list[0].clone()], &list[2..]].concat()).collect();
        lists.extend(swapped);
    }
    lists.into_iter().map(|list| Term { kind: Kind::Op(*opcode, list), ..*term }).collect()
}

/// Numbers the letters by their first place, so that terms that differ only in names are equal.
fn rename(term: &mut Term, names: &mut Vec<usize>) {
    match &mut term.kind {
        Kind::Letter(letter) => {
            let place = names.iter().position(|name| name == letter).unwrap_or_else(|| {
                names.push(*letter);
                names.len() - 1
            });
            (*letter, term.ty) = (place, RESULT);
        }
        Kind::Literal(_) => term.ty = RESULT,
        Kind::Op(_, terms) => {
            term.ty = RESULT;
            terms.iter_mut().for_each(|term| rename(term, names));
        }
        Kind::Resize { operand, .. } => rename(operand, names),
    }
}

/// The opcodes by name, for there are thousands of names in the laws.
static OPCODES: LazyLock<HashMap<&'static str, Opcode, FxBuildHasher>> =
    LazyLock::new(|| Opcode::all().map(|opcode| (opcode.name(), opcode)).collect());

/// Reads a law: letters and types as they are met.
#[derive(Default)]
struct Reader {
    letters: Vec<Letter>,
    /// By type: the one that it turned out to be, itself if none, and what it may be.
    types: Vec<(TypeVar, Class)>,
    narrower: Vec<(TypeVar, TypeVar)>,
    same_width: Vec<(TypeVar, TypeVar)>,
}

type Words<'w> = std::iter::Peekable<std::vec::IntoIter<&'w str>>;

impl Reader {
    fn side(&mut self, text: &str) -> Term {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut words = words.into_iter().peekable();
        let term = self.term(&mut words);
        assert!(words.next().is_none(), "`{text}` is one term");
        term
    }

    fn condition(&mut self, text: &str) -> Condition {
        let words: Vec<&str> = text.split_whitespace().collect();
        let of: Option<fn(usize) -> Condition> = match words[0] {
            "pow2" => Some(Condition::Pow2),
            "fpow2" => Some(Condition::FloatPow2),
            "nonzero" => Some(Condition::NonZero),
            "truth" => Some(Condition::Truth),
            _ => None,
        };
        match (of, &words[1..]) {
            (Some(of), [name]) => of(self.letter(name.as_bytes()[0])),
            _ => {
                let term = self.side(text);
                assert!(term.is_const, "`{text}` is about constants");
                Condition::Holds(term)
            }
        }
    }

    /// An operation with all that follows, or an atom.
    fn term(&mut self, words: &mut Words<'_>) -> Term {
        let word = words.next().expect("a term is not empty");
        if let Some(atom) = self.atom(word) {
            return atom;
        }
        let mut operands = Vec::new();
        while let Some(next) = words.next_if(|next| *next != ")") {
            operands.push(if next == "(" {
                let operand = self.term(words);
                assert_eq!(words.next(), Some(")"), "an operation ends with its parenthesis");
                operand
            } else {
                self.atom(next).unwrap_or_else(|| panic!("`{next}` is a letter or a constant"))
            });
        }
        let (name, like) = word.split_once(':').map_or((word, None), |(name, like)| (name, Some(like)));
        let ty = self.fresh(Class::ANY);
        if let Some(like) = like {
            let letter = self.letter(like.as_bytes()[0]);
            self.unify(ty, self.letters[letter].ty);
        }
        let is_const = operands.iter().all(|operand| operand.is_const);
        let extend = match name {
            "zresize" => Opcode::UExt,
            "sresize" => Opcode::SExt,
            _ => {
                let opcode = *OPCODES.get(name).unwrap_or_else(|| panic!("`{name}` is an opcode"));
                self.constrain(opcode, ty, &operands);
                return Term { ty, is_const, kind: Kind::Op(opcode, operands) };
            }
        };
        let operand = Box::new(operands.remove(0));
        self.restrict(ty, Class::INT);
        self.restrict(operand.ty, Class::INT);
        Term { ty, is_const, kind: Kind::Resize { extend, operand } }
    }

    fn atom(&mut self, word: &str) -> Option<Term> {
        let literal = match word {
            "bits" => Literal::Bits,
            "top" => Literal::Top,
            "smallest" => Literal::Smallest,
            "largest" => Literal::Largest,
            _ if word.contains('.') => Literal::Float(word.parse().ok()?),
            _ => match word.parse() {
                Ok(value) => Literal::Int(value),
                Err(_) if word.len() == 1 => {
                    let letter = self.letter(word.as_bytes()[0]);
                    let Letter { is_const, ty, .. } = self.letters[letter];
                    return Some(Term { ty, is_const, kind: Kind::Letter(letter) });
                }
                Err(_) => return None,
            },
        };
        let ty = self.fresh(if matches!(literal, Literal::Float(_)) { Class::FLOAT } else { Class::EQ });
        Some(Term { ty, is_const: true, kind: Kind::Literal(literal) })
    }

    fn letter(&mut self, name: u8) -> usize {
        assert!(name.is_ascii_alphabetic(), "`{}` is a letter", name as char);
        if let Some(letter) = self.letters.iter().position(|letter| letter.name == name) {
            return letter;
        }
        let ty = self.fresh(Class::ANY);
        self.letters.push(Letter { name, is_const: name.is_ascii_uppercase(), ty });
        self.letters.len() - 1
    }

    // ---- types ----

    fn fresh(&mut self, class: Class) -> TypeVar {
        self.types.push((self.types.len(), class));
        self.types.len() - 1
    }

    fn find(&self, mut ty: TypeVar) -> TypeVar {
        while self.types[ty].0 != ty {
            ty = self.types[ty].0;
        }
        ty
    }

    fn unify(&mut self, a: TypeVar, b: TypeVar) {
        let (a, b) = (self.find(a), self.find(b));
        let class = self.types[a].1.and(self.types[b].1);
        assert!(!class.is_empty(), "terms that must have one type can have one");
        self.types[b] = (a, class);
        self.types[a].1 = class;
    }

    fn restrict(&mut self, ty: TypeVar, class: Class) {
        let ty = self.find(ty);
        self.types[ty].1 = self.types[ty].1.and(class);
        assert!(!self.types[ty].1.is_empty(), "a term has a type that its row allows");
    }

    /// What the row of an opcode says of the types of a node and its operands.
    fn constrain(&mut self, opcode: Opcode, ty: TypeVar, operands: &[Term]) {
        let row = opcode.row();
        assert_eq!(row.operands.len(), operands.len(), "`{opcode}` has as many operands as its row");
        match row.outcome {
            Outcome::Fixed(fixed) => self.restrict(ty, Class::one(fixed)),
            Outcome::Own(class) => self.restrict(ty, class),
            Outcome::Nothing | Outcome::Signature => unreachable!("laws are about pure operations"),
        }
        let mut before = ty;
        for (operand, term) in row.operands.iter().zip(operands) {
            match operand {
                Operand::Own => self.unify(ty, term.ty),
                Operand::Like => self.unify(before, term.ty),
                Operand::Of(class) => self.restrict(term.ty, *class),
            }
            before = term.ty;
        }
        if opcode.has(Properties::WIDENS) {
            self.narrower.push((operands[0].ty, ty));
        } else if opcode.has(Properties::NARROWS) {
            self.narrower.push((ty, operands[0].ty));
        } else if opcode.has(Properties::SAME_WIDTH) {
            self.same_width.push((ty, operands[0].ty));
        }
    }

    // ---- the end ----

    fn finish(mut self, law: &'static str, left: Term, right: Term, conditions: Vec<Condition>) -> Rule {
        let known: Vec<TypeVar> = self.letters.iter().map(|letter| self.find(letter.ty)).collect();
        for condition in &conditions {
            if let Condition::Holds(term) = condition {
                self.close(term, left.ty, &known);
            }
        }
        let mut numbers = vec![self.find(left.ty)];
        let mut number = |reader: &Reader, ty: TypeVar| {
            let ty = reader.find(ty);
            numbers.iter().position(|number| *number == ty).unwrap_or_else(|| {
                numbers.push(ty);
                numbers.len() - 1
            })
        };
        let mut rule = Rule {
            law,
            left,
            right,
            conditions,
            letters: Vec::new(),
            types: Vec::new(),
            narrower: Vec::new(),
            same_width: Vec::new(),
        };
        settle(&mut rule.left, &mut |ty| number(&self, ty));
        settle(&mut rule.right, &mut |ty| number(&self, ty));
        for condition in &mut rule.conditions {
            if let Condition::Holds(term) = condition {
                settle(term, &mut |ty| number(&self, ty));
            }
        }
        rule.letters =
            self.letters.iter().map(|letter| Letter { ty: number(&self, letter.ty), ..*letter }).collect();
        let pairs = |pairs: &[(TypeVar, TypeVar)], number: &mut dyn FnMut(&Reader, TypeVar) -> TypeVar| {
            pairs.iter().map(|(a, b)| (number(&self, *a), number(&self, *b))).collect()
        };
        rule.narrower = pairs(&self.narrower, &mut number);
        rule.same_width = pairs(&self.same_width, &mut number);
        rule.types = numbers.iter().map(|ty| self.types[*ty].1).collect();
        assert!(rule.letters.len() <= MAX_LETTERS && rule.types.len() <= MAX_TYPES, "a law is small");
        rule
    }

    /// Gives what a condition leaves open the type of the result.
    fn close(&mut self, term: &Term, result: TypeVar, known: &[TypeVar]) {
        if let Kind::Op(_, terms) = &term.kind {
            for term in terms {
                self.close(term, result, known);
                let ty = self.find(term.ty);
                let is_known = known.iter().any(|other| self.find(*other) == ty);
                if !is_known && self.types[ty].1.single().is_none() {
                    self.unify(result, ty);
                }
            }
        }
    }
}

/// Replaces the numbers of types.
fn settle(term: &mut Term, number: &mut dyn FnMut(TypeVar) -> TypeVar) {
    term.ty = number(term.ty);
    match &mut term.kind {
        Kind::Op(_, terms) => terms.iter_mut().for_each(|term| settle(term, number)),
        Kind::Resize { operand, .. } => settle(operand, number),
        Kind::Letter(_) | Kind::Literal(_) => {}
    }
}
