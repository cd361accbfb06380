//! What the modelled files take from the machine, as `src/sync.rs` offers it, under a checker that tries each order of
//! things and each value that weak memory lets a load return.
//!
//! The checker knows no barrier that one thread passes on behalf of others. So both sides pass a sequentially consistent
//! fence here, as in the fence mode; `model_tso.rs` has the barrier itself.

use std::cell::Cell;

use loom::sync::atomic::fence;

pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};

use crate::Error;

thread_local!(static LEFT_OUT: Cell<Option<Part>> = const { Cell::new(None) });

/// What a near miss leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The fence of one that enters.
    Order,
    /// The fence of one that reclaims.
    Barrier,
    /// That words are written with release.
    Release,
}

/// Explores `model`; without `part`, which has to make it fail. In one run threads that could go on are interrupted up to
/// `preemptions` times, unless `LOOM_MAX_PREEMPTIONS` says otherwise. What weak memory may do has no bound.
pub(crate) fn explore(part: Option<Part>, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    LEFT_OUT.set(part);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

/// Words that a near miss may weaken.
#[derive(Debug)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        AtomicU64(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        self.0.load(ordering)
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        let is_left_out = LEFT_OUT.get() == Some(Part::Release);
        self.0.store(value, if is_left_out { Ordering::Relaxed } else { ordering });
    }

    pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.fetch_add(value, ordering)
    }
}

/// Nothing forks here.
pub(crate) fn forks() -> usize {
    0
}

#[derive(Debug)]
pub(crate) struct Stamp;

impl Stamp {
    pub(crate) fn new() -> Stamp {
        Stamp
    }

    pub(crate) fn set(&self) {}

    pub(crate) fn is_left_behind(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy)]
pub(crate) struct BarrierCall;

pub(crate) fn register_barrier() -> Option<BarrierCall> {
    Some(BarrierCall)
}

pub(crate) fn barrier(_: BarrierCall) -> Result<(), Error> {
    fence_of(Part::Barrier);
    Ok(())
}

pub(crate) fn order() {
    fence_of(Part::Order);
}

pub(crate) fn serialize() {
    fence(Ordering::SeqCst);
}

fn fence_of(part: Part) {
    if LEFT_OUT.get() != Some(part) {
        fence(Ordering::SeqCst);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under a lock")
}
