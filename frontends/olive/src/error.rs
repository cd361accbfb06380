//! What is wrong with a program's text, where, and what would be right.

use std::fmt;

use dagwood_il::text::Position;

/// Why a text is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub position: Position,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub expected: String,
}

impl Error {
    /// An error at a place.
    pub(crate) fn new(
        position: Position,
        what: impl Into<String>,
        expected: impl Into<String>,
    ) -> Box<Error> {
        Box::new(Error { position, what: what.into(), expected: expected.into() })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected {}", self.position, self.what, self.expected)
    }
}

impl std::error::Error for Error {}

/// What reading gives, or what is wrong. Boxed, because it is rare.
pub(crate) type Result<T> = std::result::Result<T, Box<Error>>;
