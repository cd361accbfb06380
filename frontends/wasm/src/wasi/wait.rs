//! Waiting for the host without losing the way out.
//!
//! *Why.* A program that sleeps, or reads a terminal nobody types at, is inside a system call and sees no time limit.
//! So a wait is cut into slices of [`WAIT_SLICE`], and after each the embedder's hook is asked. Without a hook there
//! is nothing to ask, and a wait is one system call.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno as HostErrno;

use super::table::Stop;

/// Longest time between two questions to the [interrupt](super::WasiConfig::interrupt).
pub const WAIT_SLICE: Duration = Duration::from_millis(50);

/// The embedder's way to end a wait.
pub(super) struct Interrupt(Option<Box<dyn Fn() -> bool + Send>>);

/// Whether a wait may last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Only look.
    Look,
    /// Until ready.
    Wait,
}

impl Interrupt {
    pub(super) fn never() -> Self {
        Self(None)
    }

    pub(super) fn new(hook: Box<dyn Fn() -> bool + Send>) -> Self {
        Self(Some(hook))
    }

    /// Whether anybody may interrupt.
    pub(super) fn is_possible(&self) -> bool {
        self.0.is_some()
    }

    /// Stops the call if the hook says so.
    pub(super) fn check(&self) -> Result<(), Stop> {
        match &self.0 {
            Some(hook) if hook() => Err(Stop::Interrupted),
            _ => Ok(()),
        }
    }

    /// Waits until one of `fds` is ready or `longest` is over, or for one slice if that is shorter. What came of it
    /// stands in `fds`; a signal ends a wait early.
    pub(super) fn poll(&self, fds: &mut [PollFd<'_>], longest: Option<Duration>) -> Result<(), Stop> {
        self.check()?;
        let slice = self.is_possible().then_some(WAIT_SLICE);
        let wait = match (longest, slice) {
            (Some(longest), Some(slice)) => Some(longest.min(slice)),
            (longest, slice) => longest.or(slice),
        };
        // A duration too long for the host's clock is as good as none.
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match rustix::event::poll(fds, wait.as_ref()) {
            Ok(_) | Err(HostErrno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether `fd` is ready for `interest`, or has failed so that asking it will not block.
    pub(super) fn is_ready(
        &self,
        fd: BorrowedFd<'_>,
        interest: PollFlags,
        patience: Patience,
    ) -> Result<bool, Stop> {
        let longest = (patience == Patience::Look).then_some(Duration::ZERO);
        loop {
            let mut fds = [PollFd::from_borrowed_fd(fd, interest)];
            self.poll(&mut fds, longest)?;
            if !fds[0].revents().is_empty() {
                return Ok(true);
            }
            if patience == Patience::Look {
                return Ok(false);
            }
        }
    }
}
