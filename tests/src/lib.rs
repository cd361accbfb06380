//! What tests share: the Tril reader, and the runner of text tests.
#![forbid(unsafe_code)]

mod native;
pub mod runner;
pub mod tril;
