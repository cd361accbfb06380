//! Why an interpretation ended without results.

use std::fmt;

use crate::eval::Value;
use crate::layout::ObjectKind;
use crate::method::{Block, FrameMode, Node, SourcePos};
use crate::module::MethodId;

use super::host::Raised;

/// Why an interpretation ended without results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Something was raised and nobody caught it.
    Raised {
        /// What was raised.
        raised: Raised,
        /// Where, the innermost method first. Methods that were replaced by a tail call are not in it.
        trace: Vec<TraceEntry>,
    },
    /// As many roots were executed as allowed.
    OutOfFuel {
        /// Where, the innermost method first.
        trace: Vec<TraceEntry>,
    },
    /// A guard failed and left through its frame state.
    Exit(Box<Exit>),
    /// The IL makes no sense: what a verifier would have said.
    Invalid(Invalid),
}

/// A method on the stack, and where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// The method.
    pub method: MethodId,
    /// The position of the root that it was executing.
    pub position: SourcePos,
}

/// The frames that an interpreter of the guest's own needs in order to go on where a guard has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The method that was being interpreted.
    pub method: MethodId,
    /// The guard.
    pub guard: Node,
    /// The guest's frames, the innermost first: several where methods were inlined.
    pub frames: Vec<ExitFrame>,
    /// The objects that were optimized away, by ascending id.
    pub virtuals: Vec<ExitObject>,
    /// Where the method's address-taken locals are. The host has not been told to free them.
    pub slots: u64,
    /// The callers, the innermost first.
    pub callers: Vec<TraceEntry>,
}

/// A frame of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitFrame {
    /// Whose frame.
    pub method: MethodId,
    /// Where in its source it is to go on.
    pub position: SourcePos,
    /// Before the operation there, after it, or in the raise of an exception.
    pub mode: FrameMode,
    /// Its locals.
    pub locals: Vec<ExitValue>,
    /// Its operand stack.
    pub stack: Vec<ExitValue>,
    /// The objects whose monitors it is in.
    pub monitors: Vec<ExitValue>,
}

/// An object that was optimized away and must be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitObject {
    /// Its id.
    pub id: u32,
    /// What it is.
    pub kind: ObjectKind,
    /// The values of its fields, in the order of [`Module::fields`](crate::Module::fields), or of its elements.
    pub fields: Vec<ExitValue>,
}

/// A value in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitValue {
    /// This one.
    Value(Value),
    /// One that nobody will read.
    Dead,
    /// The object of this id.
    Virtual(u32),
}

/// What about the IL makes no sense, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The method.
    pub method: MethodId,
    /// The block, if it is about one.
    pub block: Option<Block>,
    /// The node, if it is about one.
    pub node: Option<Node>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.method)?;
        self.block.iter().try_for_each(|block| write!(f, ", {block}"))?;
        self.node.iter().try_for_each(|node| write!(f, ", {node}"))?;
        write!(f, ": {}", self.what)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Raised { raised, trace } => {
                write!(
                    f,
                    "{} was raised (reason {}, object {:#x})",
                    raised.kind, raised.reason, raised.object
                )?;
                write_trace(f, trace)
            }
            Stop::OutOfFuel { trace } => {
                f.write_str("out of fuel")?;
                write_trace(f, trace)
            }
            Stop::Exit(exit) => write!(f, "guard {} of {} failed", exit.guard, exit.method),
            Stop::Invalid(invalid) => write!(f, "the IL is not valid: {invalid}"),
        }
    }
}

/// How many entries of a trace are printed: one can be as long as the stack is deep.
const PRINTED_TRACE: usize = 32;

fn write_trace(f: &mut fmt::Formatter<'_>, trace: &[TraceEntry]) -> fmt::Result {
    for entry in trace.iter().take(PRINTED_TRACE) {
        write!(f, "\n  in {}", entry.method)?;
        if entry.position != SourcePos::NONE {
            write!(f, " at {}", entry.position.0)?;
        }
    }
    match trace.len().saturating_sub(PRINTED_TRACE) {
        0 => Ok(()),
        more => write!(f, "\n  and {more} more"),
    }
}

impl std::error::Error for Stop {}
