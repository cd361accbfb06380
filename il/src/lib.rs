//! Dagwood's intermediate language.
//!
//! A [`Method`] is a DAG of [`Node`]s for each extended block; what has a place in time is a [`Root`] in a
//! [`Block`]'s list, everything else floats to its uses. Values travel between extended blocks in [`Local`]s.
//! A [`Module`] holds the declarations that methods refer to.
//!
//! This crate does no input or output and asks no clock. The verifier's documentation is the specification;
//! the reference interpreter is the meaning.
#![forbid(unsafe_code)]

mod builder;
pub mod cfg;
pub mod dataflow;
mod dying;
pub mod edit;
pub mod effects;
pub mod entity;
pub mod eval;
mod fold;
pub mod interp;
pub mod layout;
mod method;
mod module;
pub mod opcode;
mod payload;
mod pool;
pub mod profile;
mod raise;
pub mod text;
mod types;
pub mod verify;
pub mod world;

pub use builder::*;
pub use bumpalo::Bump;
pub use cfg::{Cfg, Dominators, Edge, EdgeKind, Loops};
pub use dataflow::Liveness;
pub use dying::Dying;
pub use edit::{Applied, Edits, Point};
pub use effects::{Effects, MemoryUse, effects, raises};
pub use method::*;
pub use module::*;
pub use opcode::{Opcode, Properties};
pub use raise::{KindSet, RaiseKind};
pub use types::Type;
pub use verify::{VerifyError, verify, verify_module};
pub use world::World;
