//! Time limits: a thread that asks the program to stop, and ends the process if it does not.
//!
//! A program stops where it polls. WebAssembly is compiled with polls at loops and calls when there is a limit; IL polls
//! where its text says so. So that `--timeout` is a promise for both, and for compiling, what has not stopped [`GRACE`]
//! after it was asked to is ended with the process, without a backtrace. Compiling and running have the time each.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dagwood_runtime::thread::{Interrupt, Interrupter};

use crate::report::{Failure, TRAPPED};

/// How long a program may take to stop after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// Watches a program until it is dropped.
pub(crate) struct Watchdog {
    worker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Watchdog {
    /// Watches for as long as `limit` says, if there is one. What cannot be asked to stop is not asked.
    pub(crate) fn start(
        limit: Option<Duration>,
        interrupter: Option<Interrupter>,
    ) -> Result<Watchdog, Failure> {
        let Some(limit) = limit else { return Ok(Watchdog { worker: None }) };
        let (stop, stopped) = mpsc::channel::<()>();
        let watch = move || {
            if stopped.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if let Some(interrupter) = &interrupter {
                interrupter.interrupt(Interrupt::Timeout);
                if stopped.recv_timeout(GRACE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
            let doing = if interrupter.is_some() {
                "it does not poll, so where it was is not known"
            } else {
                "it was being compiled, or interpreted without polls"
            };
            Failure::Trap(format!("{}\n  {doing}", timeout(limit))).print();
            std::process::exit(TRAPPED.into());
        };
        let worker = thread::Builder::new().name("watchdog".into()).spawn(watch);
        let worker = worker.map_err(|error| Failure::Failed(format!("no thread for --timeout: {error}")))?;
        Ok(Watchdog { worker: Some((stop, worker)) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((stop, worker)) = self.worker.take() {
            drop(stop);
            // It has nothing left to do, and does not panic.
            let _ = worker.join();
        }
    }
}

/// What is said of a program whose time is over.
pub(crate) fn timeout(limit: Duration) -> String {
    format!("interrupt: it ran longer than the {} s of --timeout", limit.as_secs_f64())
}
