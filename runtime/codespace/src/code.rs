//! Published code, as its owner holds it.

pub(crate) mod buffer;
pub(crate) mod placing;
pub(crate) mod reclaim;
pub(crate) mod release;
pub(crate) mod writer;

use std::fmt;

use crate::Error;
use crate::grace::quarantine::Extent;
use crate::heap::index::Chunk;

/// Published code. There is one value for each function: retiring it takes the value, so that nothing can be retired twice.
/// Dropping it leaves the function where it is until its space is dropped.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[must_use = "code that is dropped stays until its space is dropped"]
pub struct Code {
    pub(crate) address: usize,
    pub(crate) len: u32,
    pub(crate) space: u32,
}

impl Code {
    /// Where it starts.
    #[inline]
    pub fn address(&self) -> usize {
        self.address
    }

    /// Its bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "code has at least one byte")]
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// Code that could not be retired or freed, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code: still published, if it is the space's.
    pub code: Code,
    /// What went wrong.
    pub error: Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the code at {:#x} stays: {}", self.code.address, self.error)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        refused.error
    }
}

/// Code that waits until its bytes may be used again.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) code: Code,
    /// Known once it is unlisted.
    pub(crate) owner: Option<usize>,
}

impl Retired {
    /// Makes lookups find it no more; it is past its first grace and lies in `chunk`. False if that cannot be done now.
    #[inline]
    pub(crate) fn unlist(&mut self, chunk: &Chunk) -> bool {
        if self.owner.is_none() {
            // SAFETY: who has this has the only value of the code, which is retired: nobody else unlists it.
            self.owner = unsafe { chunk.unlist(&self.code) }.ok();
        }
        self.owner.is_some()
    }
}

impl Extent for Retired {
    fn address(&self) -> usize {
        self.code.address
    }

    fn len(&self) -> usize {
        self.code.len()
    }
}
