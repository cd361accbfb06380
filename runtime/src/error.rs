//! Refusals of the operating system.

use std::fmt;

use rustix::io::Errno;

/// The operating system refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemError {
    /// What was attempted.
    pub attempt: &'static str,
    /// The error number it gave.
    pub errno: i32,
}

impl SystemError {
    /// An error of a call that returns an [`Errno`], for `map_err`.
    pub(crate) fn during(attempt: &'static str) -> impl FnOnce(Errno) -> SystemError {
        move |errno| SystemError { attempt, errno: errno.raw_os_error() }
    }

    /// The error of a call of the C library that failed just now.
    pub(crate) fn last(attempt: &'static str) -> SystemError {
        SystemError { attempt, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.attempt, std::io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for SystemError {}
