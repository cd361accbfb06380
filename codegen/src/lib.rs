//! Dagwood's code generator: from the IL to an artifact, through Cranelift.
#![forbid(unsafe_code)]
