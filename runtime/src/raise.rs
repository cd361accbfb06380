//! What was raised, and where the program stood.

use std::error::Error;
use std::fmt;

use dagwood_il::{MethodId, RaiseKind, SourcePos};

/// A raise that nobody in compiled code caught, or one that the host makes.
#[derive(Debug)]
pub struct Raise {
    /// Its kind.
    pub kind: RaiseKind,
    /// What the frontend, or for [`RaiseKind::Interrupt`] the thread, says about it.
    pub reason: u16,
    /// The exception object, for [`RaiseKind::Guest`].
    pub object: u64,
    /// Where the program stood when it was made, so far as it was unwound uncaught.
    pub trace: Trace,
    /// What the host knows beyond that. It is lost when compiled code catches the raise.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Raise {
    /// A raise without object or cause.
    pub fn new(kind: RaiseKind, reason: u16) -> Raise {
        Raise { kind, reason, object: 0, trace: Trace::default(), cause: None }
    }

    /// A guest exception.
    pub fn guest(object: u64) -> Raise {
        Raise { object, ..Raise::new(RaiseKind::Guest, 0) }
    }

    /// A raise that no handler catches, for what the host or the runtime found wrong.
    pub fn fault(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Raise {
        Raise { cause: Some(cause.into()), ..Raise::new(RaiseKind::Fault, 0) }
    }
}

impl fmt::Display for Raise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, self.kind, self.reason) {
            (Some(cause), kind, _) => write!(f, "{kind}: {cause}"),
            (None, RaiseKind::Guest, _) => write!(f, "uncaught exception {:#x}", self.object),
            (None, kind, 0) => write!(f, "{kind}"),
            (None, kind, reason) => write!(f, "{kind} (reason {reason})"),
        }
    }
}

impl Error for Raise {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn Error)
    }
}

/// The compiled frames that a raise went through, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    frames: Vec<Frame>,
    omitted: u64,
}

/// A method that was running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which.
    pub method: MethodId,
    /// Where in its source it stood.
    pub position: SourcePos,
    /// Where in its code: the offset of the return address, or of the instruction that faulted.
    pub offset: u32,
}

impl Trace {
    /// The most frames that a trace names.
    pub const LIMIT: usize = 64;

    /// Adds the next frame outward; only counts it if there are enough.
    pub fn push(&mut self, frame: Frame) {
        if self.frames.len() < Trace::LIMIT {
            self.frames.push(frame);
        } else {
            self.omit(1);
        }
    }

    /// Counts frames that are not named.
    pub(crate) fn omit(&mut self, count: u64) {
        self.omitted += count;
    }

    /// The frames, innermost first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// How many frames further outward are not named.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Frame { method, position, offset } in &self.frames {
            match *position {
                SourcePos::NONE => writeln!(f, "  in {method}, code offset {offset:#x}")?,
                SourcePos(position) => {
                    writeln!(f, "  in {method} at {position:#x}, code offset {offset:#x}")?
                }
            }
        }
        match self.omitted {
            0 => Ok(()),
            count => writeln!(f, "  and {count} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::entity::Entity;

    use super::*;

    #[test]
    fn a_trace_names_so_many_frames_and_counts_the_rest() {
        let mut trace = Trace::default();
        for offset in 0..100 {
            trace.push(Frame { method: MethodId::new(1), position: SourcePos(offset), offset });
        }
        assert_eq!((trace.frames().len(), trace.omitted()), (Trace::LIMIT, 36));
        let text = trace.to_string();
        assert!(
            text.starts_with("  in method1 at 0x0, code offset 0x0\n") && text.ends_with("  and 36 more\n")
        );
    }

    #[test]
    fn a_raise_says_what_it_is() {
        assert_eq!(Raise::new(RaiseKind::Bounds, 0).to_string(), "bounds");
        assert_eq!(Raise::new(RaiseKind::Interrupt, 2).to_string(), "interrupt (reason 2)");
        assert_eq!(Raise::guest(16).to_string(), "uncaught exception 0x10");
        assert_eq!(Raise::fault("no such file").to_string(), "fault: no such file");
    }
}
