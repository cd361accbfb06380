//! A second thread that works while the first one measures, and slices in which both provably ran.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::{cpu_time, cpu_time_of, own_clock};
use crate::findings::Result;

/// The share of a slice in which each thread must have had a processor, by its own CPU clock.
pub(crate) const RAN: f64 = 0.97;
/// The same where threads also wait in the kernel for what they asked it to do, which is part of the figure.
pub(crate) const RAN_OR_WAITED: f64 = 0.6;
/// How long the first thread waits for the other one to run.
const PATIENCE: Duration = Duration::from_millis(20);

/// A word that shares its cache lines, and those that a processor fetches with them, with nothing else.
#[derive(Default)]
#[repr(align(256))]
struct Alone<T>(T);

/// What the two threads share.
#[derive(Default)]
struct Shared {
    progress: Alone<AtomicU64>,
    must_stop: Alone<AtomicBool>,
    clock: AtomicI64,
}

/// What the other thread is given: where it counts what it did, and when it has to end.
pub(crate) struct Signals<'a>(&'a Shared);

impl Signals<'_> {
    /// The count of what was done. Only the other thread writes it.
    pub(crate) fn progress(&self) -> &AtomicU64 {
        &self.0.progress.0
    }

    /// Whether to end.
    pub(crate) fn must_stop(&self) -> &AtomicBool {
        &self.0.must_stop.0
    }

    /// Does `step` until it is time to end, and counts.
    pub(crate) fn repeat(&self, mut step: impl FnMut() -> Result<()>) -> Result<()> {
        let mut done = 0;
        while !self.must_stop().load(Ordering::Relaxed) {
            step()?;
            done += 1;
            self.progress().store(done, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The other thread, as the first one sees it.
pub(crate) struct Other<'a>(&'a Shared);

/// A slice in which both threads ran.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    /// How long it was, in nanoseconds.
    pub(crate) time: f64,
    /// What the other thread did in it.
    pub(crate) progress: f64,
}

impl Other<'_> {
    /// Waits until the other thread runs; whether it does.
    pub(crate) fn wait_until_it_runs(&self) -> bool {
        let before = self.0.progress.0.load(Ordering::Relaxed);
        let start = Instant::now();
        while self.0.progress.0.load(Ordering::Relaxed) == before {
            if start.elapsed() > PATIENCE {
                return false;
            }
            spin_loop();
        }
        true
    }

    /// Times `work`; `None` if not both threads had a processor for a share of `ran` of the time.
    pub(crate) fn slice(&self, ran: f64, work: impl FnOnce() -> Result<()>) -> Result<Option<Slice>> {
        if !self.wait_until_it_runs() {
            return Ok(None);
        }
        let (own, other) = (cpu_time(), cpu_time_of(self.0.clock.load(Ordering::Acquire)));
        let before = self.0.progress.0.load(Ordering::Relaxed);
        let start = Instant::now();
        work()?;
        let time = start.elapsed().as_nanos() as f64;
        let after = self.0.progress.0.load(Ordering::Relaxed);
        let (own, other) = (cpu_time() - own, cpu_time_of(self.0.clock.load(Ordering::Acquire)) - other);
        let have_run = own >= ran * time && other >= ran * time;
        Ok(have_run.then_some(Slice { time, progress: (after - before) as f64 }))
    }
}

/// Runs `work` on another thread while `body` runs on this one; then tells it to end and waits for it.
pub(crate) fn beside<R>(
    work: impl FnOnce(Signals<'_>) -> Result<()> + Send,
    body: impl FnOnce(&Other<'_>) -> Result<R>,
) -> Result<R> {
    /// Ends the other thread also when the first one panics.
    struct Stop<'a>(&'a Shared);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.must_stop.0.store(true, Ordering::Relaxed);
        }
    }
    let shared = Shared::default();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            shared.clock.store(own_clock(), Ordering::Release);
            work(Signals(&shared))
        });
        let stop = Stop(&shared);
        let start = Instant::now();
        while shared.clock.load(Ordering::Acquire) == 0 && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
        let result = body(&Other(&shared));
        drop(stop);
        match other.join() {
            Ok(ended) => ended.and(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_thread_counts_and_ends() {
        let seen = beside(
            |signals| signals.repeat(|| Ok(())),
            |other| {
                while !other.wait_until_it_runs() {}
                Ok(other.0.progress.0.load(Ordering::Relaxed))
            },
        );
        assert!(seen.unwrap() > 0);
    }

    #[test]
    fn an_error_of_the_other_thread_is_the_result() {
        let result = beside(|_| Err("it broke".into()), |_| Ok(()));
        assert_eq!(result.unwrap_err().to_string(), "it broke");
    }
}
