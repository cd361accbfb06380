//! Clocks: the processor time of a thread, read by any thread, and the processor's own counter.

use std::mem::MaybeUninit;

/// The number of the calling thread's CPU clock, which any thread of the process can read; never zero.
pub(crate) fn own_clock() -> i64 {
    let mut clock = MaybeUninit::uninit();
    // SAFETY: the thread is the caller, and the result has room for a clock's number.
    let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), clock.as_mut_ptr()) };
    assert_eq!(error, 0, "a thread that runs has a CPU clock");
    // SAFETY: the call succeeded, so it wrote the number.
    i64::from(unsafe { clock.assume_init() })
}

/// The nanoseconds that the calling thread has run.
pub(crate) fn cpu_time() -> f64 {
    cpu_time_of(i64::from(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// The nanoseconds that a thread has run; not a number if it has ended.
pub(crate) fn cpu_time_of(clock: i64) -> f64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the kernel checks the clock's number, and the result has room for a time.
    let error = unsafe { libc::clock_gettime(clock as libc::clockid_t, time.as_mut_ptr()) };
    if error != 0 {
        return f64::NAN;
    }
    // SAFETY: the call succeeded, so it wrote the time.
    let time = unsafe { time.assume_init() };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The processor's counter, which runs at one rate on all cores.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux leaves it to programs.
    unsafe { std::arch::x86_64::_rdtsc() }
}
