//! Why a module could not be read, compiled or instantiated: what is wrong, whose fault it is, and where.

use std::fmt;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes are no valid module.
    Invalid,
    /// The module is valid, but uses a proposal that this frontend does not support.
    Unsupported,
    /// The module is larger than a stated limit.
    Limit,
    /// An import is missing or has another type, or a segment does not fit.
    Link,
    /// The embedder asked for something that does not exist: an export, a value of another type.
    Usage,
    /// This compiler is wrong; the message says in which part.
    Bug,
}

/// An error with the byte offset in the module that it is about, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    offset: Option<u64>,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, offset: None, message: message.into() }
    }

    pub(crate) fn at(kind: ErrorKind, offset: u64, message: impl Into<String>) -> Error {
        Error { kind, offset: Some(offset), message: message.into() }
    }

    /// The same error, at `offset` if it does not say where.
    pub(crate) fn or_at(self, offset: u64) -> Error {
        Error { offset: self.offset.or(Some(offset)), ..self }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The byte offset in the module.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// What is wrong, without the position.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blame = match self.kind {
            ErrorKind::Invalid => "invalid module",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Limit => "limit exceeded",
            ErrorKind::Link => "cannot link",
            ErrorKind::Usage => "cannot do this",
            ErrorKind::Bug => "internal error",
        };
        match self.offset {
            Some(offset) => write!(f, "{blame}: {} (at byte {offset:#x})", self.message),
            None => write!(f, "{blame}: {}", self.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Error {
        Error::at(ErrorKind::Invalid, error.offset(), error.message())
    }
}
