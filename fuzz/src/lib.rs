//! A generator of valid IL, and the differential check: interpreter against native code, folding on and off, before passes and after.
//!
//! Library code, so that tests run it for a second, CI for some seconds, and a fuzzer for as long as it likes.
#![forbid(unsafe_code)]

mod check;
mod choices;
mod clock;
mod generate;
mod mutate;
mod olive;
mod optimize;
mod reshape;

pub use check::{Checked, Difference, Outcome, check};
pub use choices::{Choices, bytes_of_seed};
pub use clock::seeds;
pub use generate::{MEMORY_BYTES, Program, Refused, mix};
pub use mutate::{mutate, mutate_words};
pub use olive::olive_program;
pub use optimize::{Plan, Printed, check_passes, check_plan, optimized, optimized_by};
