//! Dagwood's optimizer: strategies and passes over the IL.
#![forbid(unsafe_code)]
