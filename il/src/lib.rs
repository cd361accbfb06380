//! Dagwood's intermediate language: nodes, blocks, text form, verifier and reference interpreter.
#![forbid(unsafe_code)]
