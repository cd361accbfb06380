//! What can go wrong with executable memory.

use std::fmt;

use rustix::io::Errno;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A space of this size cannot be made.
    Size {
        /// The bytes asked for.
        asked: usize,
    },
    /// No code can be aligned like this.
    Align {
        /// The alignment asked for, in bytes.
        asked: usize,
    },
    /// The space has no room left.
    Full {
        /// The bytes asked for.
        asked: usize,
        /// The bytes that are left.
        free: usize,
    },
    /// The system refused.
    System {
        /// What it was asked to do.
        attempt: &'static str,
        /// The error number that it gave.
        errno: i32,
    },
    /// The unwind record could not be written down.
    Record,
}

impl Error {
    pub(crate) fn system(attempt: &'static str) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::System { attempt, errno: errno.raw_os_error() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Size { asked } => {
                write!(f, "a code space has 1 to {} bytes, not {asked}", crate::MAX_SIZE)
            }
            Error::Align { asked } => {
                write!(f, "code is aligned to a power of two up to {}, not to {asked}", crate::PAGE)
            }
            Error::Full { asked, free } => {
                write!(f, "the code space is full: {asked} bytes asked for, {free} free")
            }
            Error::System { attempt, errno } => {
                write!(f, "cannot {attempt}: {}", std::io::Error::from_raw_os_error(errno))
            }
            Error::Record => f.write_str("cannot write the unwind record of the code space"),
        }
    }
}

impl std::error::Error for Error {}
