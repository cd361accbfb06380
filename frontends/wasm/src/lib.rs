//! Dagwood's WebAssembly frontend: modules to IL, instances, WASI.
//!
//! ```text
//!   bytes ──► Module ──► Lowering: one IL method a function ──► Engine: native code, or the interpreter
//!                │                                                  │
//!                └──────────────► Instance in a Store ◄─────────────┘
//! ```
#![forbid(unsafe_code)]

mod error;
pub mod layout;
pub mod lower;
mod module;
pub mod trap;
mod types;
pub mod wasi;

pub use error::{Error, ErrorKind};
pub use lower::{Lowering, Options};
pub use module::*;
pub use types::*;
