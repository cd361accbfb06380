//! WASI preview 1, called on a plain vector of bytes: no module, no engine.

mod directories;
mod escapes;
mod files;
mod harness;
mod hostile;
mod names;
mod polling;
mod process;
mod streams;
