//! Dagwood's WebAssembly frontend: modules to IL, instances, WASI.
//!
//! ```text
//!   bytes ──► Module ──► Lowering: one IL method a function ──► Engine: native code, or the interpreter
//!                │                                                  │
//!                └──────────────► Instance in a Store ◄─────────────┘
//! ```
#![forbid(unsafe_code)]

mod engine;
mod error;
mod imports;
mod instance;
pub mod layout;
pub mod lower;
mod module;
mod store;
pub mod trap;
mod types;
mod value;
pub mod wasi;

pub use engine::{Compiled, Engine, EngineOptions, Mode};
pub use error::{Error, ErrorKind};
pub use imports::{Caller, HostFunction, Linker};
pub use instance::Instance;
pub use lower::{Lowering, Options};
pub use module::*;
pub use store::*;
pub use trap::{HostStop, Trap};
pub use types::*;
pub use value::Val;
