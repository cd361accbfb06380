//! Dagwood's WebAssembly frontend: modules to IL, instances, WASI.
//!
//! ```text
//!   bytes ──► Module ──► Lowering: one IL method a function ──► Engine: native code, or the interpreter
//!                │                                                  │
//!                └──────────────► Instance in a Store ◄─────────────┘
//! ```
//!
//! WebAssembly 2.0 without SIMD, and tail calls, exceptions, 64-bit memories and tables, several memories and extended
//! constant expressions: [`FEATURES`]. [`module`](Module) and [`lower`] know the IL alone; the engine, the store and what
//! is around them bind it to the runtime.
//!
//! ```
//! use dagwood_wasm::{Engine, EngineOptions, FuncType, Instance, Linker, Module, Store, StoreOptions, Val, ValType};
//!
//! let engine = Engine::new(EngineOptions::default())?;
//! let store = Store::new(&engine, StoreOptions::default())?;
//! let mut linker = Linker::new(&store);
//! let double = |_: &dagwood_wasm::Caller<'_>, args: &[Val]| match *args {
//!     [Val::I32(number)] => Ok(vec![Val::I32(number * 2)]),
//!     _ => Err(dagwood_wasm::HostStop::failed("one number is needed")),
//! };
//! linker.define_function("host", "double", FuncType::new(&[ValType::I32], &[ValType::I32]), double);
//! // (module (import "host" "double" (func (param i32) (result i32))) (export "double" (func 0)))
//! let bytes = b"\0asm\x01\0\0\0\x01\x06\x01\x60\x01\x7f\x01\x7f\x02\x0f\x01\x04host\x06double\0\0\x07\x0a\x01\x06double\0\0";
//! let compiled = engine.compile(Module::parse(&bytes[..])?)?;
//! let instance = Instance::new(&linker, &compiled)?;
//! assert_eq!(instance.call("double", &[Val::I32(21)])?, [Val::I32(42)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
