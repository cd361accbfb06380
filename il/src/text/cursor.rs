//! Reading the tokens of one line: what is here, what must be here, and what to say if it is not.
//!
//! A cursor never reads past the end of a line by accident: to everything but [`Cursor::begin_line`], the first token
//! of the next line looks like [`Kind::LineEnd`].

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use indexmap::IndexMap;

use super::lex::{Kind, Lexer, Place, Token};
use super::{MAX_DECLARATIONS, ParseError};
use crate::entity::Entity;
use crate::types::Type;

/// Characters of the source that a message shows at most.
const MAX_SHOWN: usize = 40;

/// A position between two tokens of the source.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'s> {
    lexer: Lexer<'s>,
    token: Token<'s>,
    /// Where the token before ended.
    end_of_last: Place,
}

impl<'s> Cursor<'s> {
    pub(super) fn new(source: &'s str) -> Result<Cursor<'s>, ParseError> {
        let mut lexer = Lexer::new(source);
        let token = lexer.next()?;
        Ok(Cursor { lexer, token, end_of_last: token.place })
    }

    /// The token here; the end of the line where the line ends.
    pub(super) fn here(&self) -> Token<'s> {
        match self.token.begins_line {
            true => Token { kind: Kind::LineEnd, text: "", place: self.end_of_last, begins_line: false },
            false => self.token,
        }
    }

    /// The first token of the next line, which a reader of lines may look at.
    pub(super) fn next_line(&self) -> Token<'s> {
        self.token
    }

    /// Steps over the end of the line.
    pub(super) fn begin_line(&mut self) {
        self.token.begins_line = false;
    }

    /// Takes the token here.
    pub(super) fn take(&mut self) -> Result<Token<'s>, ParseError> {
        let token = self.token;
        self.end_of_last = token.end();
        self.token = self.lexer.next()?;
        Ok(token)
    }

    /// The source from the beginning of `start` to the end of the token before this.
    pub(super) fn text_since(&self, start: Token<'s>) -> &'s str {
        self.lexer.between(start.place, self.end_of_last)
    }

    // ---- errors ----

    /// An error at `token`.
    pub(super) fn error_at(
        &self,
        token: Token<'s>,
        what: impl Display,
        expected: impl Display,
    ) -> ParseError {
        self.lexer.error(token.place, what.to_string(), &expected.to_string())
    }

    /// The error that `token` is not what it should be.
    pub(super) fn wrong(&self, token: Token<'s>, expected: impl Display) -> ParseError {
        self.error_at(token, format_args!("found {}", shown(token.text)), expected)
    }

    /// The error that the token here is not what it should be.
    pub(super) fn unexpected(&self, expected: impl Display) -> ParseError {
        let here = self.here();
        match here.kind {
            Kind::LineEnd => self.error_at(here, "the line ends", expected),
            Kind::End => self.error_at(here, "the source ends", expected),
            _ => self.wrong(here, expected),
        }
    }

    // ---- punctuation and words ----

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.here().kind == Kind::Sign(sign)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        let here = self.here();
        here.kind == Kind::Word && here.text == word
    }

    /// Takes `sign` if it is here.
    pub(super) fn eat_sign(&mut self, sign: char) -> Result<bool, ParseError> {
        let is_here = self.is_sign(sign);
        if is_here {
            self.take()?;
        }
        Ok(is_here)
    }

    /// Takes `word` if it is here.
    pub(super) fn eat_word(&mut self, word: &str) -> Result<bool, ParseError> {
        let is_here = self.is_word(word);
        if is_here {
            self.take()?;
        }
        Ok(is_here)
    }

    pub(super) fn expect_sign(&mut self, sign: char) -> Result<(), ParseError> {
        match self.eat_sign(sign)? {
            true => Ok(()),
            false => Err(self.unexpected(format_args!("`{sign}`"))),
        }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), ParseError> {
        match self.eat_word(word)? {
            true => Ok(()),
            false => Err(self.unexpected(format_args!("`{word}`"))),
        }
    }

    pub(super) fn expect_arrow(&mut self) -> Result<(), ParseError> {
        match self.here().kind {
            Kind::Arrow => self.take().map(|_| ()),
            _ => Err(self.unexpected("`->`")),
        }
    }

    /// Takes a token of a kind.
    pub(super) fn expect(&mut self, kind: Kind, expected: impl Display) -> Result<Token<'s>, ParseError> {
        match self.here().kind == kind {
            true => self.take(),
            false => Err(self.unexpected(expected)),
        }
    }

    /// Fails unless the line ends here.
    pub(super) fn expect_line_end(&self) -> Result<(), ParseError> {
        match self.here().kind {
            Kind::LineEnd | Kind::End => Ok(()),
            _ => Err(self.unexpected("the end of the line")),
        }
    }

    /// Takes one word of a table and gives what it stands for.
    pub(super) fn expect_one_of<T: Copy>(
        &mut self,
        table: &[(&str, T)],
        what: &str,
    ) -> Result<T, ParseError> {
        let here = self.here();
        let found = table.iter().find(|(word, _)| here.kind == Kind::Word && *word == here.text);
        match found {
            Some((_, value)) => self.take().map(|_| *value),
            None => {
                let words: Vec<String> = table.iter().map(|(word, _)| format!("`{word}`")).collect();
                Err(self.unexpected(format_args!("{what}: one of {}", words.join(", "))))
            }
        }
    }

    /// In a list that ends with `close`, of which `count` items have been read: whether another one follows.
    pub(super) fn has_item(&mut self, close: char, count: usize) -> Result<bool, ParseError> {
        if self.eat_sign(close)? {
            return Ok(false);
        }
        if count > 0 && !self.eat_sign(',')? {
            return Err(self.unexpected(format_args!("`,` or `{close}`")));
        }
        Ok(true)
    }

    // ---- numbers and types ----

    /// Takes a decimal or hexadecimal number without a sign.
    pub(super) fn number<T: TryFrom<u128> + Display>(&mut self, what: &str, max: T) -> Result<T, ParseError> {
        let token = self.expect(Kind::Number, what)?;
        self.unsigned(token)?.try_into().map_err(|_| {
            self.error_at(
                token,
                format_args!("{} is too large", shown(token.text)),
                format_args!("{what} of at most {max}"),
            )
        })
    }

    /// The value of a number token.
    pub(super) fn unsigned(&self, token: Token<'s>) -> Result<u128, ParseError> {
        let (digits, radix) = match token.text.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (token.text, 10),
        };
        u128::from_str_radix(digits, radix).map_err(|_| {
            let what = format_args!("{} is no whole number of up to 128 bits", shown(token.text)).to_string();
            self.error_at(token, what, "decimal digits, or `0x` and hexadecimal digits")
        })
    }

    /// Takes a type.
    pub(super) fn ty(&mut self) -> Result<Type, ParseError> {
        let here = self.here();
        match Type::from_str(here.text) {
            Ok(ty) if here.kind == Kind::Word => self.take().map(|_| ty),
            _ => {
                let names: Vec<&str> = Type::VALUES.iter().map(|ty| ty.name()).collect();
                Err(self.unexpected(format_args!("a type: one of {}", names.join(", "))))
            }
        }
    }
}

/// A piece of the source as a message shows it.
pub(super) fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    let tail = if characters.next().is_some() { "…" } else { "" };
    format!("`{}{tail}`", head.replace("\\\"", "\"").replace("\\'", "'"))
}

/// The names of one sort of thing, by index.
pub(super) struct Names<'s> {
    /// What the things are called in messages: `class`.
    what: &'static str,
    limit: usize,
    names: IndexMap<Cow<'s, str>, ()>,
}

impl<'s> Names<'s> {
    pub(super) fn new(what: &'static str, limit: usize) -> Names<'s> {
        Names { what, limit, names: IndexMap::new() }
    }

    /// No names of declarations yet.
    pub(super) fn of_declarations(what: &'static str) -> Names<'s> {
        Names::new(what, MAX_DECLARATIONS)
    }

    /// Names that are known already, by ascending index.
    pub(super) fn all(what: &'static str, names: impl Iterator<Item = &'s str>) -> Names<'s> {
        let names = names.map(|name| (Cow::Borrowed(name), ())).collect();
        Names { what, limit: MAX_DECLARATIONS, names }
    }

    /// Adds a name, or finds it; says whether it is new.
    pub(super) fn insert(
        &mut self,
        token: Token<'s>,
        cursor: &Cursor<'s>,
    ) -> Result<(usize, bool), ParseError> {
        let (index, old) = self.names.insert_full(token.name(), ());
        if self.names.len() > self.limit {
            let what = format_args!("more than {} of the sort `{}`", self.limit, self.what).to_string();
            return Err(cursor.error_at(token, what, "fewer"));
        }
        Ok((index, old.is_none()))
    }

    /// Adds a name that must be new.
    pub(super) fn insert_new(&mut self, token: Token<'s>, cursor: &Cursor<'s>) -> Result<usize, ParseError> {
        match self.insert(token, cursor)? {
            (index, true) => Ok(index),
            (_, false) => Err(cursor.error_at(
                token,
                format_args!("a {} named {} stands above already", self.what, shown(token.text)),
                "another name",
            )),
        }
    }

    /// What a name stands for.
    pub(super) fn find<K: Entity>(&self, token: Token<'s>, cursor: &Cursor<'s>) -> Result<K, ParseError> {
        let name = token.name();
        match self.names.get_index_of(&name) {
            Some(index) => Ok(K::new(index)),
            None => {
                let similar = nearest(&name, self.names.keys().map(|name| name.as_ref()));
                Err(cursor.error_at(
                    token,
                    format_args!("no {} is named {}", self.what, shown(token.text)),
                    format_args!("a declared {}{}", self.what, perhaps(similar)),
                ))
            }
        }
    }
}

/// `, perhaps …`, where there is something to suggest.
pub(super) fn perhaps(similar: Option<&str>) -> String {
    similar.map(|name| format!(", perhaps {}", shown(name))).unwrap_or_default()
}

/// Candidates that are compared for a suggestion at most, and the length up to which names are compared.
const MAX_CANDIDATES: usize = 10_000;
const MAX_COMPARED: usize = 64;

/// The candidate that is at most a third of its letters away from `name`; the first of several as near.
pub(super) fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let length = name.chars().count();
    candidates
        .take(MAX_CANDIDATES)
        .filter(|candidate| length <= MAX_COMPARED && candidate.len() <= MAX_COMPARED)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.chars().count().max(length))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out or exchanged to make one of the other (Levenshtein 1965).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.chars().enumerate() {
            let exchanged = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}
