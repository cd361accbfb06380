//! What tests share: the Tril reader, and the runner of text tests.
#![forbid(unsafe_code)]

pub mod calls;
mod native;
mod optimized;
pub mod runner;
pub mod tril;
