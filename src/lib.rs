//! Dagwood: an optimizing-compiler framework for virtual machines.
//!
//! A frontend declares what its program has in a [`Module`](il::Module) and builds bodies with a [`Builder`](il::Builder);
//! a [`Jit`](runtime::jit::Jit) compiles, installs and calls them. [`interpret`](il::interp::interpret) is what they mean.
//!
//! ```
//! use dagwood::il::{Builder, Folding, Module, Opcode, Type};
//! use dagwood::runtime::{CallCx, Context, Jit, Natives, Options, Thread, ThreadOptions, bodies};
//!
//! // A method of two parameters that returns their sum.
//! let mut module = Module::new();
//! let add = module.declare_method("add", &[Type::I64, Type::I64], &[Type::I64]);
//! let natives = Natives::new(&module);
//! let jit = Jit::new(module.clone(), Options::default())?;
//! jit.compile(
//!     &[add],
//!     &bodies(|id, arena| {
//!         let mut b = Builder::new(arena, &module, id, Folding::On);
//!         let entry = b.block();
//!         b.switch_to(entry);
//!         let (x, y) = (b.get(b.param(0)), b.get(b.param(1)));
//!         let sum = b.op(Opcode::Add, &[x, y]);
//!         b.ret(&[sum]);
//!         Ok(b.finish()?)
//!     }),
//! )?;
//!
//! let (thread, context) = (Thread::new(&ThreadOptions::default())?, Context::new(64)?);
//! let cx = CallCx { thread: &thread, context: &context, host: &natives };
//! assert_eq!(jit.typed::<(i64, i64), (i64,)>(add)?.call(cx, (40, 2))?, (42,));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/embed.rs` goes further: loops, checks, a native function, and every error.
#![forbid(unsafe_code)]

#[cfg(feature = "wasm")]
pub use dagwood_wasm as wasm;
pub use {dagwood_codegen as codegen, dagwood_il as il, dagwood_opt as opt, dagwood_runtime as runtime};
