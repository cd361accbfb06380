//! Dagwood's runtime: compiling, installing, calling and unwinding methods.

