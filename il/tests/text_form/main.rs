//! The text form: what is printed reads back as the same, and what cannot be read is told where and why.

mod any_bytes;
mod errors;
mod every_opcode;
mod round_trip;
mod same;
