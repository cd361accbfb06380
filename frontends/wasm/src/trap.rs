//! What can go wrong while a program runs: which kind and reason of a raise stands for which trap.
//!
//! The kind is what every layer understands; the reason tells the traps of one kind apart. Lowering puts both on
//! each check, and [`message`] turns them back into the words of the specification.

use std::fmt;

use dagwood_il::RaiseKind;

use crate::store::Exception;

/// Reasons of raises, by kind.
pub mod reason {
    /// `bounds`: an access beyond a memory.
    pub const MEMORY: u16 = 0;
    /// `bounds`: an access beyond a table.
    pub const TABLE: u16 = 1;
    /// `bounds`: an indirect call beyond its table.
    pub const ELEMENT: u16 = 2;

    /// `null`: an indirect call of a null entry.
    pub const UNINITIALIZED: u16 = 0;
    /// `null`: the exception to throw again is null.
    pub const EXCEPTION: u16 = 1;

    /// `out_of_memory`: too many exceptions are alive.
    pub const EXCEPTIONS: u16 = 0;

    /// `fault`: a host function failed; the store has its message.
    pub const HOST: u16 = 1;
    /// `fault`: the program asked to exit; the store has its code.
    pub const EXIT: u16 = 2;
}

/// The words of the specification for what was raised.
pub fn message(kind: RaiseKind, reason: u16) -> &'static str {
    match (kind, reason) {
        (RaiseKind::Bounds, reason::TABLE) => "out of bounds table access",
        (RaiseKind::Bounds, reason::ELEMENT) => "undefined element",
        (RaiseKind::Bounds, _) => "out of bounds memory access",
        (RaiseKind::Null, reason::EXCEPTION) => "null exception reference",
        (RaiseKind::Null, _) => "uninitialized element",
        (RaiseKind::Division, _) => "integer divide by zero",
        (RaiseKind::Overflow, _) => "integer overflow",
        (RaiseKind::Conversion, _) => "invalid conversion to integer",
        (RaiseKind::Signature, _) => "indirect call type mismatch",
        (RaiseKind::Unreachable, _) => "unreachable",
        (RaiseKind::StackOverflow, _) => "call stack exhausted",
        (RaiseKind::OutOfMemory, _) => "too many exceptions are alive",
        (RaiseKind::Interrupt, 1) => "interrupt: the time limit is reached",
        (RaiseKind::Interrupt, 2) => "interrupt: out of fuel",
        (RaiseKind::Interrupt, _) => "interrupt",
        (RaiseKind::Guest, _) => "uncaught exception",
        (RaiseKind::Fault, reason::HOST) => "a host function failed",
        (RaiseKind::Fault, _) => "fault",
        (RaiseKind::Cast | RaiseKind::Store | RaiseKind::NegativeSize | RaiseKind::Monitor, _) => {
            "a trap that no WebAssembly program has"
        }
    }
}

/// A place in the program: one line of a backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function's name, or its index where it has none.
    pub function: String,
    /// The function's index in its module.
    pub index: u32,
    /// The byte offset in the module, if it is known.
    pub offset: Option<u32>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} (function {}) at byte {offset:#x}", self.function, self.index),
            None => write!(f, "{} (function {})", self.function, self.index),
        }
    }
}

/// How a host function stops the program that called it.
#[derive(Debug)]
pub enum HostStop {
    /// The program ends with this code.
    Exit(u32),
    /// The host function failed.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// It traps like a program, or throws the exception of a trap, which the calling program can catch.
    Trap(Box<Trap>),
}

impl HostStop {
    /// The host function failed with an error or a message.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HostStop {
        HostStop::Failed(error.into())
    }

    /// The host function traps with a kind and a reason.
    pub fn trap(kind: RaiseKind, reason: u16) -> HostStop {
        HostStop::Trap(Box::new(Trap::new(kind, reason)))
    }
}

/// Why a program ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The kind of what was raised.
    pub kind: RaiseKind,
    /// What tells traps of one kind apart.
    pub reason: u16,
    /// The exception, for an uncaught one.
    pub exception: Option<Exception>,
    /// What happened, in the words of the specification, or the host's.
    pub message: String,
    /// Where the program stood, the innermost function first.
    pub backtrace: Vec<Frame>,
    /// How many functions further outward the backtrace does not name.
    pub omitted: u64,
}

impl Trap {
    /// A trap without a backtrace, in the words of the specification.
    pub fn new(kind: RaiseKind, reason: u16) -> Trap {
        let message = message(kind, reason).into();
        Trap { kind, reason, exception: None, message, backtrace: Vec::new(), omitted: 0 }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for frame in &self.backtrace {
            write!(f, "\n  in {frame}")?;
        }
        match self.omitted {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for Trap {}
