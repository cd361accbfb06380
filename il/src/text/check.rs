//! Verifying what was read, and saying what is wrong in the words of the source.
//!
//! The verifier knows nodes and blocks by their indexes; a source has names of its own for them. Messages are
//! translated: `%3` becomes the name that the node's line gives it, `b2` the label of the block.

use std::fmt;

use super::lex::{Kind, Lexer};
use super::{Body, Position, Positions, Source};
use crate::entity::Entity;
use crate::method::{Block, Node};
use crate::verify::{MAX_ERRORS, Rule, VerifyError, verify as verify_method, verify_module};

/// A rule that something in a source breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it stands.
    pub position: Position,
    /// The rule.
    pub rule: Rule,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.position, self.message, self.rule)
    }
}

impl std::error::Error for Refusal {}

/// Whether the declarations and all methods that were read from `source` are well-formed.
///
/// # Errors
///
/// The rules that the declarations break; if none, those that the methods break, in the order of the text, up to the
/// method with which there are [`MAX_ERRORS`] of them.
pub fn verify(parsed: &Source<'_>, source: &str) -> Result<(), Vec<Refusal>> {
    verify_module(&parsed.module).map_err(|errors| {
        let refusal = |error: VerifyError| {
            let position = parsed.position(error.subject).unwrap_or(Position::START);
            Refusal { position, rule: error.rule, message: error.message }
        };
        errors.into_iter().map(refusal).collect::<Vec<_>>()
    })?;
    let mut refusals = Vec::new();
    let mut lines = Vec::new();
    for Body { method, positions } in &parsed.bodies {
        for error in verify_method(&parsed.module, method).err().unwrap_or_default() {
            if lines.is_empty() {
                lines = source.lines().collect();
            }
            let position = positions.subject(error.subject).unwrap_or(positions.method());
            let message = translate(&error.message, positions, &lines);
            refusals.push(Refusal { position, rule: error.rule, message });
        }
        if refusals.len() >= MAX_ERRORS {
            break;
        }
    }
    refusals.sort_by_key(|refusal| refusal.position);
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// The message with the source's names of nodes and blocks.
fn translate(message: &str, positions: &Positions, lines: &[&str]) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    let mut is_inside_word = false;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        let digits = &after[..after.bytes().take_while(u8::is_ascii_digit).count()];
        let name = match (character, digits.parse::<u32>()) {
            ('%', Ok(index)) => first_token(positions.node(Node::new(index as usize)), Kind::Value, lines),
            ('b', Ok(index)) if !is_inside_word => {
                first_token(positions.block(Block::new(index as usize)), Kind::Word, lines)
            }
            _ => None,
        };
        let taken = match name {
            Some(name) => {
                out += name;
                character.len_utf8() + digits.len()
            }
            None => {
                out.push(character);
                character.len_utf8()
            }
        };
        is_inside_word =
            name.is_some() || character.is_alphanumeric() || matches!(character, '_' | '@' | '$' | '%');
        rest = &rest[taken..];
    }
    out
}

/// The token at a position, if it is of a kind.
fn first_token<'s>(position: Option<Position>, kind: Kind, lines: &[&'s str]) -> Option<&'s str> {
    let Position { line, column } = position?;
    let line = lines.get(line as usize - 1)?;
    let (start, _) = line.char_indices().nth(column as usize - 1)?;
    let token = Lexer::new(&line[start..]).next().ok()?;
    (token.kind == kind).then_some(token.text)
}
