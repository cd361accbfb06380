//! Whether this is still the process that made a space, or one forked from it.
//!
//! ```text
//!   a page that a fork wipes: | word |      a space keeps the word it was made under; equal: same process
//! ```
//!
//! A forked process has no write views, and shares the memory of its parent's code: writing there would be a fault, or would
//! change what the parent runs. So writers ask here first; it costs one load. The word is counted up, so that a forked process may
//! make spaces of its own.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Error, PAGE, system};

/// The word in the page, null before it is first asked for. The page stays until the process ends.
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// The last value the word was given.
static LAST: Mutex<u32> = Mutex::new(0);

/// What stands for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// This process.
    pub(crate) fn this() -> Result<Process, Error> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let mut word = WORD.load(Ordering::Acquire);
        if word.is_null() {
            word = ptr::with_exposed_provenance_mut(system::map_wiped_by_forks(PAGE)?);
            WORD.store(word, Ordering::Release);
        }
        // SAFETY: the page is mapped for good, zero at first and after a fork, and accessed as this word only.
        let word = unsafe { &*word };
        if word.load(Ordering::Relaxed) == 0 {
            *last += 1;
            word.store(*last, Ordering::Relaxed);
        }
        Ok(Process(*last))
    }

    /// Whether this is another process than the one that `self` stands for.
    #[inline]
    pub(crate) fn is_another(self) -> bool {
        // SAFETY: whoever has a `Process` got it from `this`, which has made the word; it is mapped for good.
        unsafe { &*WORD.load(Ordering::Relaxed) }.load(Ordering::Relaxed) != self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fail_at;
    use crate::testing::alone;

    #[test]
    fn a_forked_process_is_another_and_can_be_one_of_its_own() {
        alone("fork::tests::a_forked_process_is_another_and_can_be_one_of_its_own", || {
            assert!(fail_at(0, Process::this).0.is_err() && fail_at(1, Process::this).0.is_err());
            let parent = Process::this().expect("a page can be mapped");
            assert_eq!(Process::this(), Ok(parent));
            assert!(!parent.is_another());
            // SAFETY: the child makes only calls that are allowed between fork and exit, and takes a lock that nobody
            // else in this program takes.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let before = parent.is_another();
                let own = Process::this().is_ok_and(|own| !own.is_another() && own != parent);
                let status = i32::from(!before) + 2 * i32::from(!own) + 4 * i32::from(!parent.is_another());
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(status) };
            }
            let mut status = 0;
            // SAFETY: waits for the child just made.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
            assert!(!parent.is_another(), "the parent is what it was");
        });
    }
}
