//! Tril, the textual IL of Eclipse OMR, read into our IL.
//!
//! ```text
//!   (method return=Int32 args=[Int32] (block (ireturn (iadd (iload parm=0) (iconst 3)))))
//!      │ sexp: text to a tree         │ lower: tree to a method, one opcode after the other
//! ```
//!
//! OMR puts the type into the opcode (`iadd`, `ladd`); `lower` takes it out again. A node is evaluated where it is first
//! referred to; `(@id "x")` refers to it again.

mod lower;
mod sexp;

pub use lower::{Reject, Tril};
