//! Olive: a small object-oriented language as bytecode, and its way into Dagwood.
//!
//! ```text
//!   text ── read, verify ──► Program ──┬── interpret ── observe ──► profile
//!                                      └── lower: one IL method a method ──► engines
//! ```
//!
//! Olive is there to be compiled: classes with single inheritance, interfaces, fields, arrays, exceptions, monitors, virtual and
//! interface calls, and nothing that would make a frontend long. It shows a frontend's author how each of these becomes IL, frame
//! states included, and gives the optimizer programs that need it. `programs` has some; [`read`] has the grammar, [`Op`] the
//! operations.
//!
//! [`lower`] knows the IL alone; [`engine`] binds it to what runs it.
//!
//! ```
//! use dagwood_olive::engine::{Ended, Limits, run_bytecode, run_il};
//! use dagwood_olive::{Lowering, Program, host::Value};
//!
//! let program = Program::read("
//!   class Main {
//!     static method gcd(a int, b int) int {
//!     next:
//!       load b ifnot done
//!       load b  load a load b rem store b  store a
//!       jump next
//!     done:
//!       load a return
//!     }
//!   }")?;
//! let gcd = program.find_method("Main.gcd").expect("it is there");
//! let args = [Value::Int(48), Value::Int(36)];
//! let interpreted = run_bytecode(&program, gcd, &args, Limits::default(), None, &mut std::io::stdout());
//! assert!(matches!(interpreted, Ended::Returned(Some(Value::Int(12)))));
//!
//! let lowering = Lowering::new(&program, dagwood_il::Folding::On);
//! let lowered = run_il(&lowering, gcd, &args, Limits::default(), &mut std::io::stdout());
//! assert_eq!(interpreted.agrees(&lowered), Some(true));
//! # Ok::<(), Box<dagwood_olive::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod engine;
mod error;
pub mod host;
pub mod interpret;
mod lex;
mod liveness;
pub mod lower;
pub mod observe;
mod program;
pub mod read;
mod verify;

pub use error::Error;
pub use lower::Lowering;
pub use program::*;
