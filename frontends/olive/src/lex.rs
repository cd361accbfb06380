//! Tokens: the source cut into pieces, each with its place. Line ends mean nothing; comments reach from `;` to them.

use dagwood_il::text::Position;

use crate::error::{Error, Result};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Letters, digits and `_`, not a digit first.
    Word,
    /// A digit, or a sign and a digit, and the letters, digits, points and signs of exponents behind it.
    Number,
    /// One character of punctuation.
    Sign,
    /// The end of the source.
    End,
}

/// A piece of the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'s> {
    pub(crate) kind: Kind,
    pub(crate) text: &'s str,
    pub(crate) place: Position,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// All tokens of a source; the last is its end.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token<'_>>> {
    let (mut tokens, mut at, mut here) = (Vec::new(), 0, Position::START);
    let bytes = source.as_bytes();
    while let Some(&first) = bytes.get(at) {
        let place = here;
        let rest = &bytes[at..];
        let (kind, len) = match first {
            b'\n' => {
                (at, here) = (at + 1, Position { line: here.line + 1, column: 1 });
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                (at, here.column) = (at + 1, here.column + 1);
                continue;
            }
            b';' => {
                at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                continue;
            }
            b'0'..=b'9' => (Kind::Number, number_len(rest)),
            b'-' if rest.get(1).is_some_and(u8::is_ascii_digit) => (Kind::Number, 1 + number_len(&rest[1..])),
            b'-' if rest[1..].starts_with(b"inf") => (Kind::Number, 4),
            byte if is_word(byte) => {
                (Kind::Word, rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len()))
            }
            byte if b"{}()[]:,.".contains(&byte) => (Kind::Sign, 1),
            _ => {
                let character = source[at..].chars().next().unwrap_or_default();
                let what = format!("`{}` means nothing here", character.escape_debug());
                return Err(Error::new(place, what, "a word, a number, or one of `{}()[]:,.`"));
            }
        };
        tokens.push(Token { kind, text: &source[at..at + len], place });
        (at, here.column) = (at + len, here.column + len as u32);
    }
    tokens.push(Token { kind: Kind::End, text: "the end", place: here });
    Ok(tokens)
}

/// The length of the number that begins with a digit.
fn number_len(bytes: &[u8]) -> usize {
    let is_hex = bytes.starts_with(b"0x");
    let mut len = 1;
    while let Some(&byte) = bytes.get(len) {
        let is_exponent = !is_hex && matches!(byte, b'+' | b'-') && matches!(bytes[len - 1], b'e' | b'E');
        if !(is_word(byte) || byte == b'.' || is_exponent) {
            break;
        }
        len += 1;
    }
    len
}
