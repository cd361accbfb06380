//! A line on the terminal while long work is under way, erased when it ends.
//!
//! *Guarantees.* Nothing is written unless standard error is a terminal, nor before the work has taken [`PATIENCE`], so that
//! neither a pipe nor a quick command ever sees it. What is left after [`Progress`] is dropped is what was there before.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long work may take before anything is shown.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often the line changes.
const STEP: Duration = Duration::from_millis(100);

/// Work under way; ends when dropped.
pub(crate) struct Progress {
    worker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to show what is being done, as in `compiling 12 functions`.
    pub(crate) fn start(what: impl Into<String>) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress { worker: None };
        }
        let what = what.into();
        let (stop, stopped) = mpsc::channel();
        let show = move || {
            let begun = Instant::now();
            let mut wait = PATIENCE;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = STEP;
                let _ = write!(io::stderr(), "\r\x1b[K{what} … {:.1} s", begun.elapsed().as_secs_f32());
            }
            if wait == STEP {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        // Without a thread there is no line; the work goes on.
        let worker = thread::Builder::new().name("progress".into()).spawn(show).ok();
        Progress { worker: worker.map(|worker| (stop, worker)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, worker)) = self.worker.take() {
            drop(stop);
            // The line is erased before anything else is written.
            let _ = worker.join();
        }
    }
}
