//! Dagwood's optimizer: passes over a method, and the manager that runs what pays.
//!
//! ```text
//!   Request (module, world, profile, callees, strategy, options)
//!      └──► optimize ── row by row ──► pass: find ── cx.allows ──► edits ── cx.apply ──► method
//!              │  ▲                      └─ cx.demand ─┐
//!              │  └───── demands that pay, in rounds ──┘
//!              └──► Report (ledger, remarks, rewrites, work)
//! ```
//!
//! A pure function of its input: the same method, answers, profile, strategy, options and seed give the same method, byte for byte.
//! Whoever embeds Dagwood writes [`Pass`]es and [`Strategy`]s as we do; `examples/own_pass.rs` of the facade does.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod bisect;
mod cx;
mod demand;
mod features;
pub mod ledger;
mod manager;
pub mod order;
mod pass;
pub mod passes;
mod program;
mod region;
mod remark;
mod strategy;

pub use cx::PassCx;
pub use demand::{Demand, Gain};
pub use features::Features;
pub use ledger::Ledger;
pub use manager::{
    Fault, FaultKind, MAX_ROUNDS, Observer, Options, Remarks, Report, Request, Step, Verify, optimize,
};
pub use pass::{Changed, Pass};
pub use program::{Callees, NoCallees, NothingKnown, TextCallees, closed_world};
pub use region::Region;
pub use remark::{Place, Remark, RemarkKind};
pub use strategy::{BASE_WORK, HOT, NONE, QUICK, Row, SCORCHING, STRATEGIES, Strategy, WARM, When};
