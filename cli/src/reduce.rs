//! `dagwood reduce`: makes a file of IL as small as it can be while passes go wrong on it in the same way.
//!
//! ```text
//!   cuts of the text:  a line, a run of lines                 declarations, handlers, locals, blocks nobody names
//!   cuts of a method:  a root, a value that becomes zero, an end that goes one way or raises
//!      └──► many at once, then fewer (A. Zeller and R. Hildebrandt, "Simplifying and isolating failure-inducing input", 2002)
//! ```
//!
//! *Guarantees.* What is printed reads, verifies, and goes wrong as the file did: with another outcome, by the same pass, or to the
//! displeasure of the same command. Nothing is tried more than [`MAX_TRIALS`] times; reaching that is said.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bumpalo::Bump;
use dagwood_il::edit::Edits;
use dagwood_il::text::{self, Source as Parsed};
use dagwood_il::{Block, Method, Node, Opcode, Payload, Properties, RaiseKind, Type};

use crate::args::Matches;
use crate::load::{Loaded, Source, load};
use crate::opt::chosen;
use crate::outcome::{Trial, Verdict, quietly};
use crate::report::{Failure, Output, say};

/// How many smaller programs are tried at most.
const MAX_TRIALS: u64 = 20_000;

/// How a program goes wrong, as far as it must stay so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It ends otherwise, or a command fails.
    Outcome,
    /// This pass goes wrong.
    Fault(&'static str),
}

impl Wrong {
    fn of(verdict: &Verdict) -> Option<Wrong> {
        match verdict {
            Verdict::Bad(_) => Some(Wrong::Outcome),
            Verdict::Fault(pass, _) => Some(Wrong::Fault(pass)),
            Verdict::Good | Verdict::Unclear => None,
        }
    }
}

/// Runs the command.
pub(crate) fn run(matches: &Matches) -> Result<(), Failure> {
    let strategy = chosen(matches)?;
    let (file, arguments) = matches.operands.split_first().expect("a command with an operand has been read");
    let Loaded { name, source } = load(file)?;
    let Source::Il(text) = source else {
        return Err(Failure::of(
            &name,
            "only IL is reduced; `dagwood compile --emit il` makes IL of a module",
        ));
    };
    let trial = Trial::read(matches, &strategy, arguments)?;
    let (reduced, trials) = quietly(|| {
        let verdict = trial.verdict(&name, &text, None)?;
        let wrong = Wrong::of(&verdict).ok_or_else(|| {
            Failure::of(&name, format!("nothing goes wrong with `{}` on it", strategy.name))
        })?;
        let mut reducer = Reducer { name: &name, trial: &trial, wrong, text, trials: 0 };
        reducer.reduce();
        Ok((reducer.text, reducer.trials))
    })?;
    if trials >= MAX_TRIALS {
        say(&format!("{name}: stopped after {trials} trials; it may get smaller still"));
    }
    let mut out = Output::chosen(matches.value("--output"))?;
    out.put(&reduced)?;
    out.finish()
}

struct Reducer<'r> {
    name: &'r str,
    trial: &'r Trial<'r>,
    wrong: Wrong,
    /// The smallest program so far.
    text: String,
    trials: u64,
}

impl Reducer<'_> {
    /// Cuts until nothing more can be cut.
    fn reduce(&mut self) {
        loop {
            let before = self.text.clone();
            self.cut_runs(|text| cuts_of(text).len(), without_cuts);
            self.tidy();
            self.cut_runs(|text| text.lines().count(), without_lines);
            if self.text == before || self.trials >= MAX_TRIALS {
                break;
            }
        }
    }

    /// Prints the program as the printer writes it, if it stays as wrong.
    fn tidy(&mut self) {
        let arena = Bump::new();
        let printed = text::parse(&self.text, &arena).ok().map(|parsed| print(&parsed));
        if let Some(text) = printed.filter(|text| self.is_as_wrong(text)) {
            self.text = text;
        }
    }

    /// Tries to do without runs of items, long runs first.
    fn cut_runs(&mut self, count: fn(&str) -> usize, without: fn(&str, Range<usize>) -> Option<String>) {
        let mut len = count(&self.text).div_ceil(2);
        while len > 0 {
            let mut start = 0;
            // What is kept shrinks the program, so that its items are counted anew.
            while start < count(&self.text) {
                let end = (start + len).min(count(&self.text));
                let smaller = without(&self.text, start..end);
                match smaller.filter(|text| self.is_as_wrong(text)) {
                    Some(text) => self.text = text,
                    None => start += len,
                }
                if self.trials >= MAX_TRIALS {
                    return;
                }
            }
            len /= 2;
        }
    }

    /// Whether a program is another one, and goes wrong in the same way.
    fn is_as_wrong(&mut self, text: &str) -> bool {
        if text == self.text || text.trim().is_empty() {
            return false;
        }
        self.trials += 1;
        // What is not valid, or cannot be run any more, is no smaller form of the failure.
        let verdict = self.trial.verdict(self.name, text, None);
        verdict.is_ok_and(|verdict| Wrong::of(&verdict) == Some(self.wrong))
    }
}

fn without_lines(text: &str, run: Range<usize>) -> Option<String> {
    let kept = text.lines().enumerate().filter(|(index, _)| !run.contains(index));
    Some(kept.map(|(_, line)| format!("{line}\n")).collect())
}

// ---- cuts of methods ----

/// Something that can be taken from a method.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The method has no body, and is only declared.
    Body,
    /// A root does not happen; its value is zero.
    Root(Node),
    /// A value is zero.
    Value(Node),
    /// A block raises.
    Raise(Block),
    /// A block always goes on there.
    Goto(Block, Block),
}

/// All that can be cut, by the index of the method among the bodies; what takes most with it first.
fn cuts_of(text: &str) -> Vec<(usize, Cut)> {
    let arena = Bump::new();
    let Ok(parsed) = text::parse(text, &arena) else { return Vec::new() };
    let bodies = || parsed.bodies.iter().map(|body| &body.method).enumerate();
    let mut cuts: Vec<(usize, Cut)> = bodies().map(|(index, _)| (index, Cut::Body)).collect();
    for (index, method) in bodies() {
        for block in method.blocks() {
            let ahead = method.successors(block);
            let raises = method.terminator(block).is_some_and(|end| method.opcode(end) == Opcode::Raise);
            if !raises {
                cuts.push((index, Cut::Raise(block)));
            }
            if ahead.len() > 1 {
                cuts.extend(ahead.iter().map(|to| (index, Cut::Goto(block, *to))));
            }
        }
    }
    for (index, method) in bodies() {
        let roots = method.blocks().flat_map(|block| method.roots(block));
        let cut =
            roots.map(|root| root.node).filter(|node| !method.opcode(*node).has(Properties::TERMINATES));
        cuts.extend(cut.map(|node| (index, Cut::Root(node))));
    }
    for (index, method) in bodies() {
        let values = method.nodes().filter(|node| can_be_zero(method, *node) && !method.is_root(*node));
        cuts.extend(values.map(|node| (index, Cut::Value(node))));
    }
    cuts
}

/// Whether zero may stand for a node.
fn can_be_zero(method: &Method<'_>, node: Node) -> bool {
    let is_value = !matches!(method.ty(node), Type::Void | Type::V128);
    is_value && method.opcode(node) != Opcode::Const
}

/// The program without these cuts; none if it cannot be made.
fn without_cuts(text: &str, run: Range<usize>) -> Option<String> {
    let cuts = cuts_of(text);
    let arena = Bump::new();
    let mut parsed = text::parse(text, &arena).ok()?;
    let cuts = cuts.get(run)?;
    for (index, body) in parsed.bodies.iter_mut().enumerate() {
        let mut edits = Edits::new();
        for (_, cut) in cuts.iter().filter(|(method, _)| *method == index) {
            cut.collect(&mut body.method, &mut edits);
        }
        if !edits.is_empty() {
            // Cuts may contradict each other; then fewer are tried.
            let module = &parsed.module;
            catch_unwind(AssertUnwindSafe(|| edits.apply(module, &mut body.method))).ok()?;
        }
    }
    let mut index = 0;
    parsed.bodies.retain(|_| {
        index += 1;
        !cuts.iter().any(|(method, cut)| *method == index - 1 && matches!(cut, Cut::Body))
    });
    Some(print(&parsed))
}

impl Cut {
    fn collect(self, method: &mut Method<'_>, edits: &mut Edits) {
        match self {
            // Left out when the rest is printed.
            Cut::Body => {}
            Cut::Value(node) => edits.replace(node, zero(method, node)),
            Cut::Root(node) => {
                edits.remove(node);
                let is_of_it = |user: &Node| {
                    matches!(method.payload(*user), Payload::Index(_))
                        && method.operands(*user).first() == Some(&node)
                };
                let results: Vec<Node> = method.nodes().filter(is_of_it).collect();
                for value in results.into_iter().chain([node]) {
                    if can_be_zero(method, value) {
                        let zero = zero(method, value);
                        edits.replace(value, zero);
                    }
                }
            }
            Cut::Raise(block) => {
                let payload = Payload::Raise(RaiseKind::Unreachable, 0);
                let end = method.add_node(Opcode::Raise, Type::Void, &[], payload);
                edits.end(block, end);
            }
            Cut::Goto(block, to) => {
                let end = method.add_node(Opcode::Goto, Type::Void, &[], Payload::Goto(to));
                edits.end(block, end);
            }
        }
    }
}

/// A zero of a node's type.
fn zero(method: &mut Method<'_>, node: Node) -> Node {
    let ty = method.ty(node);
    method.add_node(Opcode::Const, ty, &[], Payload::Const(0))
}

fn print(parsed: &Parsed<'_>) -> String {
    let methods: Vec<&Method<'_>> = parsed.bodies.iter().map(|body| &body.method).collect();
    text::print_module(&parsed.module, &methods)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "method @f ($x: i32) -> (i32) {\nb0:\n  %0 = entry.i32 $x\n  br %0, b1, b2\nb1:\n  %1 = entry.i32 $x\n  \
                          %2 = divcheck.i32 %1\n  return %2\nb2:\n  %3 = const.i32 7\n  return %3\n}\n";

    #[test]
    fn every_cut_alone_leaves_valid_il_that_is_smaller() {
        let count = cuts_of(SOURCE).len();
        assert!(count >= 6, "{count}");
        for index in 0..count {
            let text = without_cuts(SOURCE, index..index + 1).expect("a cut can be made");
            let arena = Bump::new();
            let parsed = text::parse(&text, &arena).expect("what is printed is read");
            text::verify(&parsed, &text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
            assert!(text.lines().count() <= SOURCE.lines().count() + 2, "{text}");
        }
    }

    #[test]
    fn lines_are_cut_by_their_number() {
        assert_eq!(without_lines("a\nb\nc\n", 1..2).as_deref(), Some("a\nc\n"));
    }
}
