//! Tokens: the source cut into pieces, each with its place.
//!
//! A line is a statement. Only inside `(` and `[` may it continue on the next; a token says whether it begins a line.
//! The lexer is a position in the source and nothing more, so that a reader can copy it, look ahead as far as it
//! likes, and come back.

use std::borrow::Cow;

use super::{ParseError, Position};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `[A-Za-z_][A-Za-z0-9_]*`.
    Word,
    /// A digit and what follows it: letters, digits, points, the sign of an exponent.
    Number,
    /// `"…"`.
    Quoted,
    /// `@name`: a declaration.
    Global,
    /// `$name`: a local or a slot.
    Local,
    /// `%name`: a node.
    Value,
    /// One character of punctuation.
    Sign(char),
    /// `->`.
    Arrow,
    /// The end of the line, as a reader of the line sees it.
    LineEnd,
    /// The end of the source.
    End,
}

/// Where a token begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    offset: usize,
}

impl Place {
    /// The place after `text`, which stands here and has no line break.
    fn after(self, text: &str) -> Place {
        let columns = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let column = self.position.column.saturating_add(columns);
        Place { position: Position { column, ..self.position }, offset: self.offset + text.len() }
    }
}

/// A piece of the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'s> {
    pub(super) kind: Kind,
    /// As it stands in the source, with sigil and quotes.
    pub(super) text: &'s str,
    pub(super) place: Place,
    /// Whether it is the first of a line, outside of all brackets.
    pub(super) begins_line: bool,
}

impl<'s> Token<'s> {
    /// Where the token ends.
    pub(super) fn end(&self) -> Place {
        self.place.after(self.text)
    }

    /// The name that a token with a sigil or a quoted token stands for.
    pub(super) fn name(&self) -> Cow<'s, str> {
        let bare = self.text.trim_start_matches(['@', '$', '%']);
        match bare.strip_prefix('"') {
            Some(rest) => unescape(rest.strip_suffix('"').unwrap_or(rest)),
            None => Cow::Borrowed(bare),
        }
    }
}

/// The text between quotes with its escapes resolved. They have been checked when the token was cut.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match escape(&rest[at..]) {
            Some((character, len)) => {
                out.push(character);
                rest = &rest[at + len..];
            }
            None => rest = &rest[at + 1..],
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character that the escape at the start of `text` stands for, and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let simple = |character| Some((character, 2));
    match text.as_bytes().get(1)? {
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'u' => {
            let digits = text.get(3..)?.split('}').next()?;
            let is_braced =
                text.as_bytes().get(2) == Some(&b'{') && text.as_bytes().get(3 + digits.len()) == Some(&b'}');
            let is_short =
                matches!(digits.len(), 1..=6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_braced && is_short)?;
            Some((char::from_u32(code)?, digits.len() + 4))
        }
        _ => None,
    }
}

/// Whether a byte may stand in a name that is not quoted.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A position in the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'s> {
    source: &'s str,
    here: Place,
    /// Brackets that are open, and where the outermost one is.
    depth: u32,
    opened: Place,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str) -> Lexer<'s> {
        let here = Place { position: Position::START, offset: 0 };
        Lexer { source, here, depth: 0, opened: here }
    }

    /// The source between two places.
    pub(super) fn between(&self, start: Place, end: Place) -> &'s str {
        self.source.get(start.offset..end.offset).unwrap_or_default()
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'s>, ParseError> {
        let begins_line = self.skip_space() && self.depth == 0;
        let place = self.here;
        let rest = &self.source[place.offset..];
        let Some(&first) = rest.as_bytes().first() else {
            self.brackets_closed()?;
            return Ok(Token { kind: Kind::End, text: "", place, begins_line: true });
        };
        let (kind, len) = match first {
            b'@' => (Kind::Global, self.name_len()?),
            b'$' => (Kind::Local, self.name_len()?),
            b'%' => (Kind::Value, self.name_len()?),
            b'"' => (Kind::Quoted, self.quoted_len(0)?),
            b'0'..=b'9' => (Kind::Number, number_len(rest.as_bytes())),
            b'-' if rest.starts_with("->") => (Kind::Arrow, 2),
            byte if is_name_byte(byte) => (Kind::Word, bare_len(rest)),
            byte if b"()[]{},:=+-*|!.".contains(&byte) => {
                self.bracket(byte)?;
                (Kind::Sign(byte as char), 1)
            }
            _ => {
                let character = rest.chars().next().unwrap_or_default();
                let what = format!("`{}` means nothing here", character.escape_debug());
                return Err(self.error(place, what, "a name, a number, punctuation, or a comment after `;`"));
            }
        };
        self.here = place.after(&rest[..len]);
        Ok(Token { kind, text: &rest[..len], place, begins_line })
    }

    /// Skips white space and comments; says whether a line begins after it.
    fn skip_space(&mut self) -> bool {
        let bytes = self.source.as_bytes();
        let mut begins_line = self.here.offset == 0;
        while let Some(byte) = bytes.get(self.here.offset) {
            let Place { position: Position { line, column }, offset } = self.here;
            self.here = match byte {
                b' ' | b'\t' | b'\r' => {
                    let column = column.saturating_add(1);
                    Place { position: Position { line, column }, offset: offset + 1 }
                }
                b'\n' => {
                    begins_line = true;
                    Place { position: Position { line: line + 1, column: 1 }, offset: offset + 1 }
                }
                b';' => {
                    let comment = &self.source[offset..];
                    self.here.after(&comment[..comment.find('\n').unwrap_or(comment.len())])
                }
                _ => break,
            };
        }
        begins_line
    }

    /// Counts brackets.
    fn bracket(&mut self, byte: u8) -> Result<(), ParseError> {
        match byte {
            b'(' | b'[' => {
                if self.depth == 0 {
                    self.opened = self.here;
                }
                self.depth += 1;
            }
            b')' | b']' => match self.depth.checked_sub(1) {
                Some(depth) => self.depth = depth,
                None => {
                    let what = format!("`{}` closes nothing", byte as char);
                    return Err(self.error(self.here, what, "as many opening brackets as closing ones"));
                }
            },
            b'{' | b'}' => self.brackets_closed()?,
            _ => {}
        }
        Ok(())
    }

    /// Fails if a bracket is open, at that bracket.
    fn brackets_closed(&self) -> Result<(), ParseError> {
        if self.depth == 0 {
            return Ok(());
        }
        let (open, close) = match self.source.as_bytes().get(self.opened.offset) {
            Some(b'(') => ('(', ')'),
            _ => ('[', ']'),
        };
        Err(self.error(
            self.opened,
            format!("`{open}` is never closed"),
            &format!("`{close}` before the next brace"),
        ))
    }

    /// The length of the name that begins here, with its sigil.
    fn name_len(&self) -> Result<usize, ParseError> {
        let name = &self.source[self.here.offset + 1..];
        match name.as_bytes().first() {
            Some(b'"') => self.quoted_len(1),
            Some(byte) if is_name_byte(*byte) => Ok(1 + bare_len(name)),
            _ => {
                let sigil = &self.source[self.here.offset..=self.here.offset];
                let expected = "a name: letters, digits and `_`, or any text in quotes";
                Err(self.error(self.here, format!("`{sigil}` without a name"), expected))
            }
        }
    }

    /// The length of the quoted text that begins here, with its quotes and the `sigil_len` bytes before them.
    fn quoted_len(&self, sigil_len: usize) -> Result<usize, ParseError> {
        let text = &self.source[self.here.offset..];
        let mut at = sigil_len + 1;
        while let Some(found) = text[at..].find(['"', '\\', '\n']) {
            at += found;
            match text.as_bytes()[at] {
                b'"' => return Ok(at + 1),
                b'\n' => break,
                _ => match escape(&text[at..]) {
                    Some((_, len)) => at += len,
                    None => {
                        let place = self.here.after(&text[..at]);
                        let expected = "one of `\\n`, `\\r`, `\\t`, `\\\"`, `\\\\`, `\\u{…}`";
                        return Err(self.error(place, "an unknown escape".into(), expected));
                    }
                },
            }
        }
        Err(self.error(self.here, "quoted text without an end".into(), "`\"` on the same line"))
    }

    /// An error at `place`.
    pub(super) fn error(&self, place: Place, what: String, expected: &str) -> ParseError {
        let Position { line, column } = place.position;
        ParseError { line, column, what, expected: expected.into() }
    }
}

/// The length of the name at the start of `text`, which has no quotes.
fn bare_len(text: &str) -> usize {
    text.bytes().take_while(|byte| is_name_byte(*byte)).count()
}

/// The length of the number at the start of `bytes`.
fn number_len(bytes: &[u8]) -> usize {
    let is_hex = bytes.starts_with(b"0x");
    let mut len = 0;
    while let Some(&byte) = bytes.get(len) {
        let is_exponent_sign =
            !is_hex && (byte == b'+' || byte == b'-') && len > 0 && bytes[len - 1] | 0x20 == b'e';
        if !is_name_byte(byte) && byte != b'.' && !is_exponent_sign {
            break;
        }
        len += 1;
    }
    len
}
