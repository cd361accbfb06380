//! Dagwood: an optimizing-compiler framework.
#![forbid(unsafe_code)]
pub use dagwood_il as il;
