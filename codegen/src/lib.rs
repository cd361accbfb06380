//! From IL to an artifact, through Cranelift.
#![forbid(unsafe_code)]

mod artifact;

pub use artifact::*;
