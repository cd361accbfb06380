//! Dagwood's runtime: compiling, installing, calling and unwinding methods.

pub mod code;
pub mod compiler;
pub mod context;
pub mod entry;
pub mod error;
pub mod fault;
pub mod helpers;
pub mod host;
pub mod jit;
pub mod layout;
pub mod memory;
pub mod natives;
pub mod raise;
mod region;
pub mod stack;
mod stubs;
pub mod thread;
pub mod typed;
mod unwind;
pub mod view;

pub use dagwood_codespace as codespace;
