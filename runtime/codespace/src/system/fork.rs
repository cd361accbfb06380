//! Whether this is still the process that made a space, or one forked from it.
//!
//! ```text
//!   a page that a fork wipes: | word |      a space keeps the word it was made under; equal: same process
//! ```
//!
//! A forked process has no write views, and shares the memory of its parent's code: writing there would be a fault, or
//! would change what the parent runs. Nor has it the parent's other threads: what they were in the middle of is left
//! behind. So writers ask here first; it costs one load. The word is counted up, so that a forked process may make
//! spaces of its own.

use std::arch::asm;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

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

/// How many forks lie between this process and the first one that counted, and the thread that survived the last.
static FORKS: AtomicUsize = AtomicUsize::new(0);
static SURVIVOR: AtomicUsize = AtomicUsize::new(0);

/// How many bits of a [`Stamp`] are for the forks.
const FORK_BITS: u32 = 16;

/// What no two threads of a process have in common: where the thread's own data lies.
#[inline]
fn thread() -> usize {
    let thread: usize;
    // SAFETY: on x86-64 Linux the first word of a thread's own data is its address.
    unsafe { asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly, pure)) };
    thread
}

/// How many forks there were before this process; counted from the first call on.
pub(crate) fn forks() -> usize {
    extern "C" fn survived() {
        SURVIVOR.store(thread(), Ordering::Relaxed);
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        // SAFETY: the function only stores to atomics, as one may that runs in a forked process. Without memory for it none
        // is counted: then other threads of the parent are taken to be there still.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(survived)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// Which thread did something last, and in which process.
#[derive(Debug)]
pub(crate) struct Stamp(AtomicUsize);

impl Stamp {
    pub(crate) fn new() -> Stamp {
        Stamp(AtomicUsize::new(0))
    }

    /// It was this thread.
    #[inline]
    pub(crate) fn set(&self) {
        // Addresses have 47 bits.
        self.0.store(thread() << FORK_BITS | low_bits(FORKS.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Whether that thread was left behind in a process from which this one was forked.
    pub(crate) fn is_left_behind(&self) -> bool {
        let stamp = self.0.load(Ordering::Relaxed);
        low_bits(stamp) != low_bits(FORKS.load(Ordering::Relaxed))
            && stamp >> FORK_BITS != SURVIVOR.load(Ordering::Relaxed)
    }
}

#[inline]
fn low_bits(forks: usize) -> usize {
    forks & ((1 << FORK_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fail_at;
    use crate::testing::alone;

    #[test]
    fn a_forked_process_is_another_and_can_be_one_of_its_own() {
        alone("system::fork::tests::a_forked_process_is_another_and_can_be_one_of_its_own", || {
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
