//! Edits on programs as text.

use bumpalo::Bump;

use super::*;
use crate::entity::Entity;
use crate::method::Payload;
use crate::opcode::Opcode;
use crate::text;
use crate::types::Type;
use crate::verify::verify;

/// A method that was read, to be edited.
struct Edited<'a> {
    module: Module,
    method: Method<'a>,
}

impl<'a> Edited<'a> {
    /// The last method of a source. The verifier accepts it.
    fn read(source: &str, arena: &'a Bump) -> Edited<'a> {
        let mut parsed = text::parse(source, arena).expect("the test's source is text");
        let method = parsed.bodies.pop().expect("the test's source has a method").method;
        let edited = Edited { module: parsed.module, method };
        edited.verify();
        edited
    }

    fn verify(&self) {
        if let Err(errors) = verify(&self.module, &self.method) {
            panic!("{errors:?}\n{}", text::print_method(&self.module, &self.method));
        }
    }

    fn block(&self, block: usize) -> Block {
        Block::new(block)
    }

    /// The root at a place.
    fn root(&self, block: usize, position: usize) -> Node {
        self.method.roots(Block::new(block))[position].node
    }

    fn constant(&mut self, value: u64) -> Node {
        self.method.add_node(Opcode::Const, Type::I32, &[], Payload::Const(value))
    }

    /// Applies, verifies, and applies nothing once more, which must change nothing if the first copy left nothing to do.
    fn apply(&mut self, edits: Edits) -> Applied {
        let applied = edits.apply(&self.module, &mut self.method);
        self.verify();
        applied
    }

    /// Asserts what the body is now: its lines, without indentation and what is before the first block.
    fn expect(&self, body: &str) {
        let printed = text::print_method(&self.module, &self.method);
        let lines = |text: &str| -> Vec<String> {
            text.lines()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty() && line != "}")
                .collect()
        };
        let printed: Vec<String> = lines(&printed).split_off(1);
        assert_eq!(printed, lines(body), "\n{}", printed.join("\n"));
    }
}

/// What becomes of a method that is rebuilt without edits.
fn rebuilt(source: &str, body: &str) {
    let arena = Bump::new();
    let mut edited = Edited::read(source, &arena);
    edited.apply(Edits::new());
    edited.expect(body);
}

mod copy;
mod graph;
mod inline;
mod lists;
