//! What [`crate::grace::domain`], [`crate::grace::quarantine`] and their like take from the machine: atomics, locks and barriers.
//!
//! Those files name nothing else of the kind, so that a test can compile them a second time against a model of the
//! machine that tries every order of things (`tests/model_*.rs`). Each model offers the names of this file.
//!
//! There are two ways to order "I say that I run, then I read what I run" against "I unlink, then I ask who runs":
//!
//! ```text
//!              runs code                          reclaims code                    costs whom
//!  Membarrier  store state; order();  load link   unlink; barrier(); load state    the reclaimer, once a batch
//!  Fence       store state; serialize(); load     unlink; serialize(); load state  both, each time
//! ```
//!
//! The system's barrier runs on each core that runs a thread of the process, so the left side needs no
//! instruction for it: only the compiler is kept from exchanging the two accesses.

use std::arch::asm;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence, fence};

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use crate::system::fork::{Stamp, forks};
pub(crate) use crate::system::{BarrierCall, barrier, register_barrier};

/// Locks. A panic of somebody who held the lock is no obstacle: nothing under these locks runs foreign code, and each
/// change under them is whole before anything can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Keeps the compiler from moving accesses across. The core may, unless the other side calls [`barrier`].
#[inline(always)]
pub(crate) fn order() {
    compiler_fence(SeqCst);
}

/// A full fence after which the core fetches its instructions anew: what was patched before is run as patched.
///
/// `iret` to the next instruction is the cheapest such instruction on x86-64 that works without privileges: 39 ns
/// here, `cpuid` 4 µs under a hypervisor. Where the thread has a shadow stack, on which `iret` would look for a frame,
/// it is `cpuid`.
pub(crate) fn serialize() {
    fence(SeqCst);
    let shadow: usize;
    // SAFETY: `rdssp` reads the shadow stack's pointer; without one it is a no-operation that leaves zero.
    unsafe { asm!("rdsspq {0}", inout(reg) 0_usize => shadow, options(nomem, nostack, preserves_flags)) };
    if shadow != 0 {
        std::arch::x86_64::__cpuid(0);
        return;
    }
    // SAFETY: the five words pushed are the frame that `iret` pops: where to go on, the code segment, the flags, the
    // stack pointer as it was, the stack segment. So it goes on at the label with nothing changed but the scratch
    // register. Without `nostack` the block owns the stack below its pointer.
    unsafe {
        asm!(
            "mov {old}, rsp",
            "mov {word:e}, ss",
            "push {word}",
            "push {old}",
            "pushfq",
            "mov {word:e}, cs",
            "push {word}",
            "lea {word}, [rip + 2f]",
            "push {word}",
            "iretq",
            "2:",
            old = out(reg) _,
            word = out(reg) _,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serializing_goes_on_with_stack_and_flags_as_they_were() {
        let mut sum = 0_u64;
        for i in 0..1000 {
            serialize();
            sum = sum.checked_add(i).expect("small");
        }
        assert_eq!(sum, 499_500);
    }
}
