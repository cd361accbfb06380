//! Why a method could not be compiled, by who is to blame.

use std::fmt;

use dagwood_il::{Block, MethodId, Node, Opcode};

/// Why a method could not be compiled. The method stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The method breaks a rule of the IL.
    Input {
        /// The method.
        method: MethodId,
        /// Which rule.
        what: String,
    },
    /// An operation has no machine code yet.
    Unsupported {
        /// The method.
        method: MethodId,
        /// The operation.
        opcode: Opcode,
        /// Where it stands.
        block: Block,
        /// The node.
        node: Node,
    },
    /// The method is larger than something allows.
    Limit {
        /// The method.
        method: MethodId,
        /// What there is too much of.
        what: &'static str,
        /// How much of it is allowed, where that is one number.
        limit: Option<u64>,
    },
    /// The code generator is wrong.
    Bug {
        /// The method, if it was one that was being compiled.
        method: Option<MethodId>,
        /// What it got wrong.
        what: String,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Input { method, what } => write!(f, "{method} is not well formed: {what}"),
            CompileError::Unsupported { method, opcode, block, node } => {
                write!(f, "`{opcode}` ({node} in {block} of {method}) has no machine code yet")
            }
            CompileError::Limit { method, what, limit: Some(limit) } => {
                write!(f, "{method} has too many {what}: more than {limit}")
            }
            CompileError::Limit { method, what, limit: None } => write!(f, "{method} has too much {what}"),
            CompileError::Bug { method: Some(method), what } => {
                write!(f, "the code generator is wrong about {method}: {what}")
            }
            CompileError::Bug { method: None, what } => write!(f, "the code generator is wrong: {what}"),
        }
    }
}

impl std::error::Error for CompileError {}
