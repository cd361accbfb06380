//! Dagwood's runtime: compiling, installing, calling and unwinding methods.
//!
//! ```text
//!   jit ──► compiler ──► artifact ──► install ──► code (in a code space) ──► evict
//!    └ call ──► entry ──► shim, machine code ──► stubs ──► unwind, host
//!                 └ thread, context, memory: what the code runs on
//! ```
//!
//! Who embeds Dagwood needs what is re-exported here; a frontend with a host of its own also [`host`], [`memory`] and, to
//! share instances with the interpreter, [`view`]. What safe functions rely on stands at the head of [`jit`].

mod body;
pub mod classes;
pub mod code;
pub mod compiler;
pub mod context;
pub mod entry;
pub mod error;
pub mod evict;
pub mod fault;
pub mod heap;
pub mod helpers;
pub mod host;
mod install;
pub mod jit;
pub mod layout;
mod links;
pub mod memory;
pub mod natives;
pub mod objects;
pub mod raise;
mod references;
mod region;
pub mod stack;
mod stubs;
pub mod thread;
pub mod typed;
mod unwind;
pub mod view;

pub use classes::Classes;
pub use compiler::{Bodies, BodyError, Verify, bodies};
pub use context::Context;
pub use dagwood_codespace as codespace;
pub use evict::{EvictError, Evicted, Pin};
pub use heap::{Heap, Root, Roots};
pub use jit::{CallCx, CallError, Jit, JitError, Options};
pub use natives::Natives;
pub use objects::Objects;
pub use raise::Raise;
pub use thread::{Options as ThreadOptions, Thread};
pub use typed::Typed;
