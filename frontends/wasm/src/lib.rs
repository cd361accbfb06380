//! Dagwood's WebAssembly frontend: modules to IL, instances, WASI.
#![forbid(unsafe_code)]
