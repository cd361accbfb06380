//! What several handles own together, as with [`std::sync::Arc`], but made only if there is memory for it.
//!
//! The standard library's counted pointer ends the process if there is none, and what allocates fallibly there is not stable yet.

use std::fmt;
use std::ops::Deref;
use std::process;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use crate::Error;
use crate::heap::span;

/// More handles than this are a mistake: leaking them in a loop must not make the count come round.
const HANDLES_MAX: usize = isize::MAX as usize;

/// A handle to a `T`, which lives as long as one of them does.
pub(crate) struct Share<T>(NonNull<Counted<T>>);

struct Counted<T> {
    handles: AtomicUsize,
    value: T,
}

// SAFETY: handles in several threads give each of them a `&T`, and the last one drops the `T` in its thread.
unsafe impl<T: Send + Sync> Send for Share<T> {}
// SAFETY: as above: a `&Share<T>` can be cloned.
unsafe impl<T: Send + Sync> Sync for Share<T> {}

impl<T> Share<T> {
    /// The first handle; without memory `value` is dropped.
    pub(crate) fn new(value: T) -> Result<Share<T>, Error> {
        let counted = span::boxed(Counted { handles: AtomicUsize::new(1), value })?;
        Ok(Share(NonNull::from(Box::leak(counted))))
    }

    #[inline]
    fn counted(&self) -> &Counted<T> {
        // SAFETY: it is a leaked box, which the last handle frees, and this is one.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Share<T> {
    fn clone(&self) -> Share<T> {
        // Whoever has a handle may make another one; nothing else is read because of the count.
        if self.counted().handles.fetch_add(1, Ordering::Relaxed) > HANDLES_MAX {
            process::abort();
        }
        Share(self.0)
    }
}

impl<T> Deref for Share<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Share<T> {
    fn drop(&mut self) {
        // What was done through this handle is done before the value is dropped through another one.
        if self.counted().handles.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: the count says that this was the last handle; the pointer is that of a leaked box.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Share<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Dropping<'a>(&'a AtomicUsize);

    impl Drop for Dropping<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_handle_drops_the_value_once() {
        let dropped = AtomicUsize::new(0);
        let first = Share::new(Dropping(&dropped)).expect("there is memory");
        let second = first.clone();
        assert!(std::ptr::eq(&raw const *first, &raw const *second));
        drop(first);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn threads_that_share_a_value_see_what_the_others_did_when_they_drop_it() {
        struct Sum<'a> {
            count: Mutex<usize>,
            at_the_end: &'a AtomicUsize,
        }
        impl Drop for Sum<'_> {
            fn drop(&mut self) {
                let sum = *self.count.get_mut().expect("nobody panics with it");
                self.at_the_end.store(sum, Ordering::Relaxed);
            }
        }
        let sum = AtomicUsize::new(0);
        let handle = Share::new(Sum { count: Mutex::new(0), at_the_end: &sum }).expect("there is memory");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let handle = handle.clone();
                scope.spawn(move || {
                    (0..100).for_each(|_| *handle.clone().count.lock().expect("as above") += 1)
                });
            }
            drop(handle);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 400);
    }
}
