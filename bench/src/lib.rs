//! Dagwood beside its peers: run time, compile time and size.
#![forbid(unsafe_code)]
