//! What can go wrong with executable memory.

use std::fmt;

use rustix::io::Errno;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No function of this size can be placed.
    Size {
        /// The bytes asked for.
        asked: usize,
        /// The most bytes there may be.
        limit: usize,
    },
    /// No code can be aligned like this.
    Align {
        /// The alignment asked for, in bytes.
        asked: usize,
    },
    /// The space has no room left within its limit.
    Full {
        /// The bytes asked for.
        asked: usize,
        /// The bytes in use.
        used: usize,
        /// The limit.
        limit: usize,
    },
    /// The process has no memory left for what is known about code.
    Memory,
    /// The address is not in published code of this space, or it is code of another one.
    NotCode {
        /// The address.
        address: usize,
    },
    /// The target is too far away for the form that a call must have.
    OutOfReach {
        /// Where the call is.
        from: usize,
        /// Its target.
        to: usize,
    },
    /// A range does not lie in the code, or is too short or too long for what it is to hold.
    Range {
        /// What the range is to hold.
        what: &'static str,
        /// Where it starts.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// The protection mode of the space cannot do it.
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// The process was forked from the one that made the space, and shares the memory of its code: it must not write there.
    Forked,
    /// The system refused.
    System {
        /// What it was asked to do.
        attempt: &'static str,
        /// The error number that it gave.
        errno: i32,
    },
}

impl Error {
    pub(crate) fn system(attempt: &'static str) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::System { attempt, errno: errno.raw_os_error() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Size { asked, limit } => write!(f, "a function has 1 to {limit} bytes, not {asked}"),
            Error::Align { asked } => {
                write!(f, "code is aligned to a power of two up to {}, not to {asked}", crate::PAGE)
            }
            Error::Full { asked, used, limit } => {
                write!(f, "the code space is full: {asked} bytes asked for, {used} of {limit} in use")
            }
            Error::Memory => f.write_str("no memory is left for what is known about code"),
            Error::NotCode { address } => {
                write!(f, "{address:#x} is no address of published code of the code space")
            }
            Error::OutOfReach { from, to } => {
                write!(f, "{to:#x} cannot be reached from the code at {from:#x}")
            }
            Error::Range { what, start, end } => {
                write!(f, "{start:#x}..{end:#x} is no place for {what}")
            }
            Error::Unsupported { what } => {
                write!(f, "the protection of the code space does not allow {what}")
            }
            Error::Forked => {
                f.write_str("code of the process that this one was forked from cannot be written")
            }
            Error::System { attempt, errno } => {
                write!(f, "cannot {attempt}: {}", std::io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for Error {}
