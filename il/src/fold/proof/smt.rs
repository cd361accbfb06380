//! Laws of integers as questions for a solver, in SMT-LIB's logic of bit vectors: are there values for which the two sides
//! differ?
//!
//! Solvers make circuits of divisions, and get lost in them. So they are also asked with an unsigned quotient, or with it and an
//! unsigned remainder, that are *any* functions of their operands with a few properties of the real ones; what holds for all such
//! functions holds for them. Signed quotients and remainders are made of these, as they are defined.

use std::cell::RefCell;
use std::fmt::Write;

use super::sampled;
use crate::fold::law::{Condition, Kind, Literal, Rule, Term};
use crate::opcode::{Opcode, Properties};
use crate::types::Type;

/// All ways of giving integer types to a rule. Addresses and references are integers of 64 bits to a comparison, and are
/// tried only where a rule is about nothing else.
pub(super) fn typings(rule: &Rule) -> Vec<Vec<Type>> {
    let mut typings = sampled::typings(rule);
    typings.retain(|types| {
        types.iter().zip(&rule.types).all(|(ty, class)| ty.is_int() || class.single() == Some(*ty))
    });
    typings
}

/// What divisions mean in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Divisions are divisions.
    Exact,
    /// An unsigned quotient is any function, and so is a remainder; no product connects them.
    Orders,
    /// An unsigned quotient is any function; a signed remainder is one of the magnitudes.
    Magnitudes,
    /// The same; a signed remainder is what a product with the quotient leaves.
    Products,
}

/// The meanings that a rule is asked about with, in turn, until there is a proof.
pub(super) fn meanings(rule: &Rule) -> &'static [Meaning] {
    let mut divisors = Vec::new();
    find_divisors(&rule.left, &mut divisors);
    let is_power = rule.conditions.iter().any(|condition| matches!(condition, Condition::Pow2(_)));
    match divisors.is_empty() || is_power {
        true => &[Meaning::Exact],
        false => &[Meaning::Orders, Meaning::Exact, Meaning::Magnitudes, Meaning::Products],
    }
}

/// The script that asks whether the rule fails at these types: `unsat`, once for each question, is the proof.
///
/// A power of two is one of few, and so is a distance; a question about each is easy, so each is asked about apart.
pub(super) fn script(rule: &Rule, types: &[Type], meaning: Meaning) -> String {
    let Some((letter, is_power)) = one_of_few(rule) else { return question(rule, types, meaning, None) };
    let numbers = 0..u64::from(types[rule.letters[letter].ty].bits());
    let questions: Vec<String> = numbers
        .map(|number| if is_power { 1 << number } else { number })
        .map(|value| question(rule, types, meaning, Some((letter, value))))
        .collect();
    questions.join("(reset)\n")
}

/// A letter that the conditions say is a power of two, or below the width.
fn one_of_few(rule: &Rule) -> Option<(usize, bool)> {
    rule.conditions.iter().find_map(|condition| match condition {
        Condition::Pow2(letter) => Some((*letter, true)),
        Condition::Holds(Term { kind: Kind::Op(Opcode::ULt, terms), .. }) => {
            match (&terms[0].kind, &terms[1].kind) {
                (Kind::Letter(letter), Kind::Literal(Literal::Bits)) => Some((*letter, false)),
                _ => None,
            }
        }
        _ => None,
    })
}

/// One question, about all values or about those of which the letter has this one.
fn question(rule: &Rule, types: &[Type], meaning: Meaning, known: Option<(usize, u64)>) -> String {
    let mut script = String::new();
    for (index, letter) in rule.letters.iter().enumerate() {
        let (name, width) = (letter.name as char, types[letter.ty].bits());
        let _ = match known {
            Some((known, value)) if known == index => {
                writeln!(script, "(define-fun {name} () (_ BitVec {width}) (_ bv{value} {width}))")
            }
            _ => writeln!(script, "(declare-const {name} (_ BitVec {width}))"),
        };
    }
    let writer = Writer { rule, types, meaning, divisions: RefCell::default() };
    let mut divisors = Vec::new();
    find_divisors(&rule.left, &mut divisors);
    for condition in &rule.conditions {
        if let Condition::Holds(term) = condition {
            find_divisors(term, &mut divisors);
        }
        let _ = writeln!(script, "(assert {})", writer.condition(condition));
    }
    for divisor in divisors {
        let _ = writeln!(script, "(assert {})", writer.non_zero(&writer.term(divisor), divisor.ty));
    }
    let _ = writeln!(script, "(assert (distinct {} {}))", writer.term(&rule.left), writer.term(&rule.right));
    match meaning {
        Meaning::Exact => format!("(set-logic QF_BV)\n{script}(check-sat)\n"),
        _ => {
            format!("(set-logic QF_UFBV)\n{}{script}{}(check-sat)\n", writer.functions(), writer.properties())
        }
    }
}

/// What a term divides by.
fn find_divisors<'t>(term: &'t Term, found: &mut Vec<&'t Term>) {
    if let Kind::Op(opcode, terms) = &term.kind {
        if opcode.has(Properties::ROOT_UNLESS_PROVEN) && !found.contains(&&terms[1]) {
            found.push(&terms[1]);
        }
        terms.iter().for_each(|term| find_divisors(term, found));
    }
}

/// An unsigned division that is any function, as text.
#[derive(Clone, PartialEq, Eq)]
struct Division {
    /// `udiv` or `urem`.
    function: &'static str,
    x: String,
    y: String,
    width: u32,
}

impl Division {
    fn name(&self) -> String {
        format!("{}{}", self.function, self.width)
    }

    fn declaration(&self) -> String {
        format!("(declare-fun {} ({1} {1}) {1})\n", self.name(), format_args!("(_ BitVec {})", self.width))
    }

    fn text(&self) -> String {
        format!("({} {} {})", self.name(), self.x, self.y)
    }
}

struct Writer<'r> {
    rule: &'r Rule,
    types: &'r [Type],
    meaning: Meaning,
    /// Those that there are, if they are any functions.
    divisions: RefCell<Vec<Division>>,
}

impl Writer<'_> {
    /// The functions that divisions are.
    fn functions(&self) -> String {
        let mut declarations: Vec<String> =
            self.divisions.borrow().iter().map(Division::declaration).collect();
        declarations.sort_unstable();
        declarations.dedup();
        declarations.concat()
    }

    /// What is true of all divisions but those by zero.
    fn properties(&self) -> String {
        let property = |division: &Division| {
            let holds = self.property(division);
            format!("(assert (or (= {} (_ bv0 {})) (and {holds})))\n", division.y, division.width)
        };
        self.divisions.borrow().iter().map(property).collect()
    }

    /// Less divided by more is nothing and leaves all, equals are one and leave nothing, what is left is less than the divisor.
    fn property(&self, division: &Division) -> String {
        let Division { function, x, y, width } = division;
        let (zero, result) = (format!("(_ bv0 {width})"), division.text());
        let rest = format!("(bvult (bvsub {x} (bvmul {result} {y})) {y})");
        match (*function, self.meaning) {
            ("urem", _) => format!(
                "(bvult {result} {y}) (bvule {result} {x}) (=> (bvult {x} {y}) (= {result} {x})) (=> (= {x} {y}) (= {result} {zero}))"
            ),
            (_, Meaning::Orders) => format!(
                "(bvule {result} {x}) (=> (bvult {x} {y}) (= {result} {zero})) (=> (= {x} {y}) (= {result} (_ bv1 {width})))"
            ),
            _ => format!("(bvule {result} {x}) {rest} (=> (bvult {x} {y}) (= {result} {zero}))"),
        }
    }

    fn any_function(&self, function: &'static str, width: u32, x: &str, y: &str) -> String {
        let division = Division { function, x: x.to_string(), y: y.to_string(), width };
        let text = division.text();
        let mut divisions = self.divisions.borrow_mut();
        if !divisions.contains(&division) {
            divisions.push(division);
        }
        text
    }

    /// A division by any function.
    fn division(&self, opcode: Opcode, width: u32, x: &str, y: &str) -> String {
        let is_negative = |x: &str| format!("(bvslt {x} (_ bv0 {width}))");
        let magnitude = |x: &str| format!("(ite {} (bvneg {x}) {x})", is_negative(x));
        let rest = |quotient: &str, x: &str, y: &str| format!("(bvsub {x} (bvmul {quotient} {y}))");
        match (opcode, self.meaning) {
            (Opcode::UDiv, _) => self.any_function("udiv", width, x, y),
            (Opcode::URem, Meaning::Orders) => self.any_function("urem", width, x, y),
            (Opcode::URem, _) => rest(&self.any_function("udiv", width, x, y), x, y),
            (Opcode::SDiv, _) => {
                let quotient = self.any_function("udiv", width, &magnitude(x), &magnitude(y));
                format!("(ite (= {} {}) {quotient} (bvneg {quotient}))", is_negative(x), is_negative(y))
            }
            (_, Meaning::Products) => rest(&self.division(Opcode::SDiv, width, x, y), x, y),
            _ => {
                let rest = self.division(Opcode::URem, width, &magnitude(x), &magnitude(y));
                format!("(ite {} (bvneg {rest}) {rest})", is_negative(x))
            }
        }
    }

    fn non_zero(&self, text: &str, ty: usize) -> String {
        format!("(distinct {text} (_ bv0 {}))", self.types[ty].bits())
    }

    fn condition(&self, condition: &Condition) -> String {
        let name = |letter: usize| {
            (self.rule.letters[letter].name as char, self.types[self.rule.letters[letter].ty].bits())
        };
        match condition {
            Condition::Pow2(letter) => {
                let (x, w) = name(*letter);
                format!(
                    "(and (distinct {x} (_ bv0 {w})) (= (bvand {x} (bvsub {x} (_ bv1 {w}))) (_ bv0 {w})))"
                )
            }
            Condition::NonZero(letter) => {
                format!("(distinct {} (_ bv0 {}))", name(*letter).0, name(*letter).1)
            }
            Condition::Truth(letter) => format!("(bvule {} (_ bv1 {}))", name(*letter).0, name(*letter).1),
            Condition::Holds(term) => self.non_zero(&self.term(term), term.ty),
            Condition::FloatPow2(_) => unreachable!("`{}` is about floats", self.rule.law),
        }
    }

    fn term(&self, term: &Term) -> String {
        let width = self.types[term.ty].bits();
        match &term.kind {
            Kind::Letter(letter) => (self.rule.letters[*letter].name as char).to_string(),
            Kind::Literal(literal) => format!("(_ bv{} {width})", literal.bits(width)),
            Kind::Op(opcode, terms) => {
                let operands: Vec<String> = terms.iter().map(|term| self.term(term)).collect();
                // What divides by a literal divides by the width: a power of two, and no circuit worth the name.
                let is_division = || {
                    opcode.has(Properties::ROOT_UNLESS_PROVEN) && !matches!(terms[1].kind, Kind::Literal(_))
                };
                match self.meaning != Meaning::Exact && is_division() {
                    true => self.division(*opcode, width, &operands[0], &operands[1]),
                    false => operation(*opcode, width, self.types[terms[0].ty].bits(), &operands),
                }
            }
            Kind::Resize { extend, operand } => {
                let (from, x) = (self.types[operand.ty].bits(), self.term(operand));
                match from.cmp(&width) {
                    std::cmp::Ordering::Less => operation(*extend, width, from, &[x]),
                    std::cmp::Ordering::Equal => x,
                    std::cmp::Ordering::Greater => operation(Opcode::Wrap, width, from, &[x]),
                }
            }
        }
    }
}

/// An operation whose result has `width` bits and whose first operand has `from`.
fn operation(opcode: Opcode, width: u32, from: u32, operands: &[String]) -> String {
    use Opcode::*;
    let x = operands[0].as_str();
    let y = operands.get(1).map_or("", String::as_str);
    let call = |name: &str| format!("({name} {x} {y})");
    let flag = |holds: String| format!("(ite {holds} (_ bv1 {width}) (_ bv0 {width}))");
    let distance = || format!("(bvand {y} (_ bv{} {width}))", width - 1);
    let rotate = |forth: &str, back: &str| {
        let d = distance();
        format!("(bvor ({forth} {x} {d}) ({back} {x} (bvsub (_ bv{width} {width}) {d})))")
    };
    let bit = |bit: u32| format!("((_ extract {bit} {bit}) {x})");
    let first_bit = |bits: &mut dyn Iterator<Item = u32>| {
        let bits: Vec<u32> = bits.collect();
        bits.iter().enumerate().rev().fold(format!("(_ bv{width} {width})"), |rest, (count, at)| {
            format!("(ite (= {} #b1) (_ bv{count} {width}) {rest})", bit(*at))
        })
    };
    let high = |extend: &str| {
        let wide = |x: &str| format!("((_ {extend} {width}) {x})");
        format!("((_ extract {} {width}) (bvmul {} {}))", 2 * width - 1, wide(x), wide(y))
    };
    let pieces = |size: u32| {
        let pieces: Vec<String> = (0..width / size)
            .map(|i| format!("((_ extract {} {}) {x})", (i + 1) * size - 1, i * size))
            .collect();
        if pieces.len() == 1 { pieces[0].clone() } else { format!("(concat {})", pieces.join(" ")) }
    };
    match opcode {
        Add | AddrAdd => call("bvadd"),
        Sub => call("bvsub"),
        Mul => call("bvmul"),
        SMulHigh => high("sign_extend"),
        UMulHigh => high("zero_extend"),
        SDiv => call("bvsdiv"),
        UDiv => call("bvudiv"),
        SRem => call("bvsrem"),
        URem => call("bvurem"),
        Neg => format!("(bvneg {x})"),
        Abs => format!("(ite (bvslt {x} (_ bv0 {width})) (bvneg {x}) {x})"),
        Not => format!("(bvnot {x})"),
        SMin => format!("(ite (bvslt {x} {y}) {x} {y})"),
        SMax => format!("(ite (bvsgt {x} {y}) {x} {y})"),
        UMin => format!("(ite (bvult {x} {y}) {x} {y})"),
        UMax => format!("(ite (bvugt {x} {y}) {x} {y})"),
        And => call("bvand"),
        Or => call("bvor"),
        Xor => call("bvxor"),
        Shl => format!("(bvshl {x} {})", distance()),
        SShr => format!("(bvashr {x} {})", distance()),
        UShr => format!("(bvlshr {x} {})", distance()),
        RotL => rotate("bvshl", "bvlshr"),
        RotR => rotate("bvlshr", "bvshl"),
        Clz => first_bit(&mut (0..width).rev()),
        Ctz => first_bit(&mut (0..width)),
        Popcnt => (1..width).fold(format!("((_ zero_extend {}) {})", width - 1, bit(0)), |sum, at| {
            format!("(bvadd {sum} ((_ zero_extend {}) {}))", width - 1, bit(at))
        }),
        Bswap => pieces(8),
        Bitrev => pieces(1),
        Eq => flag(call("=")),
        Ne => flag(call("distinct")),
        SLt => flag(call("bvslt")),
        SLe => flag(call("bvsle")),
        SGt => flag(call("bvsgt")),
        SGe => flag(call("bvsge")),
        ULt => flag(call("bvult")),
        ULe => flag(call("bvule")),
        UGt => flag(call("bvugt")),
        UGe => flag(call("bvuge")),
        Select => format!("(ite (distinct {x} (_ bv0 {from})) {y} {})", operands[2]),
        Wrap => format!("((_ extract {} 0) {x})", width - 1),
        UExt => format!("((_ zero_extend {}) {x})", width - from),
        SExt => format!("((_ sign_extend {}) {x})", width - from),
        Bitcast => x.to_string(),
        _ => unreachable!("`{opcode}` is not about integers"),
    }
}
