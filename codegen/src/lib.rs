//! From IL to an artifact, through Cranelift.
//!
//! ```text
//!   Method ── place, ssa, lower ──► Cranelift ── sites, calls, traps, back_edges ──► Artifact
//! ```
//!
//! [`Compiler`] keeps what a thread reuses from one method to the next, [`Target`] what all threads share. Nothing of
//! Cranelift's can be seen from outside: an [`Artifact`] is bytes, relocations and metadata.
#![forbid(unsafe_code)]

mod artifact;
mod back_edges;
mod calls;
mod compiler;
mod error;
mod frames;
mod imports;
mod lower;
mod magic;
mod place;
mod shim;
mod sites;
mod spill;
mod ssa;
mod target;
mod traps;

pub use artifact::*;
pub use back_edges::MAX_BACK_EDGES;
pub use compiler::{Compiler, Listing};
pub use error::CompileError;
pub use target::{Features, MAX_SEARCHED_VALUES, Target, TargetError, Verify};
