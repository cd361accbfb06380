//! Where the machine stack of the current thread ends, and how far compiled code may use it.
//!
//! ```text
//!   low ── guard ── HOST_RESERVE ── limit ◄── compiled code ──┤ sp at the outermost entry ── high
//!                                     └ at most `max_stack` below sp
//! ```

use std::cell::OnceCell;
use std::ops::Range;

use crate::error::SystemError;

/// What compiled code always leaves of a stack, in bytes: 128 KiB for functions of the host that it calls, and as much
/// again for the runtime itself and for a panic on its way out.
pub const HOST_RESERVE: usize = 256 << 10;

thread_local! {
    static BOUNDS: OnceCell<Range<usize>> = const { OnceCell::new() };
}

/// The addresses of the current thread's stack, without the guard pages. Asked of the system once in each thread.
pub(crate) fn bounds() -> Result<Range<usize>, SystemError> {
    BOUNDS.with(|bounds| match bounds.get() {
        Some(bounds) => Ok(bounds.clone()),
        None => {
            let asked = ask()?;
            Ok(bounds.get_or_init(|| asked).clone())
        }
    })
}

fn ask() -> Result<Range<usize>, SystemError> {
    let failed = |errno| SystemError { attempt: "find the bounds of the stack", errno };
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the call initialises the attributes if it returns zero.
    let errno = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if errno != 0 {
        return Err(failed(errno));
    }
    // SAFETY: just initialised.
    let mut attributes = unsafe { attributes.assume_init() };
    let (mut low, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: the attributes are initialised, and the results go to variables of the right types.
    let errnos = unsafe {
        [
            libc::pthread_attr_getstack(&attributes, &mut low, &mut size),
            libc::pthread_attr_getguardsize(&attributes, &mut guard),
            libc::pthread_attr_destroy(&mut attributes),
        ]
    };
    match errnos.into_iter().find(|&errno| errno != 0) {
        Some(errno) => Err(failed(errno)),
        // Whether the guard is part of the stack depends on the library's version: it is taken to be.
        None => Ok(low as usize + guard..low as usize + size),
    }
}

/// The stack limit for code entered at `sp`, or nothing if no room is left, or if `sp` is on a stack of its own.
pub(crate) fn limit(bounds: &Range<usize>, sp: usize, max_stack: usize) -> Option<usize> {
    let limit = bounds.start.saturating_add(HOST_RESERVE).max(sp.saturating_sub(max_stack));
    (bounds.contains(&sp) && limit < sp).then_some(limit)
}

/// The address of something in the caller's frame, or just below it.
#[inline(always)]
pub(crate) fn pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_lies_within_its_bounds() {
        let check = |least: usize| {
            let bounds = bounds().expect("the system knows the stack");
            assert!(bounds.contains(&pointer()) && bounds.len() >= least, "{bounds:x?}");
        };
        check(64 << 10);
        std::thread::Builder::new()
            .stack_size(300 << 10)
            .spawn(move || check(250 << 10))
            .and_then(|thread| thread.join().map_err(|_| std::io::Error::other("panicked")))
            .expect("the thread is made and does not panic");
    }

    #[test]
    fn the_limit_leaves_the_reserve() {
        let bounds = 0x10_0000..0x90_0000;
        assert_eq!(limit(&bounds, 0x80_0000, 0x10_0000), Some(0x70_0000));
        assert_eq!(limit(&bounds, 0x80_0000, usize::MAX), Some(0x10_0000 + HOST_RESERVE));
        assert_eq!(limit(&bounds, 0x10_0000 + HOST_RESERVE, 0x1000), None);
        assert_eq!(limit(&bounds, 0x90_0000, 0x1000), None);
        assert_eq!(limit(&(0..10), 5, 0), None);
    }
}
