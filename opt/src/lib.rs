//! Dagwood's optimizer: strategies, as tables of passes, run over a method.
//!
//! A pure function of its input: the same method, strategy and options give the same method, byte for byte.
#![forbid(unsafe_code)]

mod strategy;

pub use strategy::{Changed, NONE, Pass, STRATEGIES, Step, Strategy};
