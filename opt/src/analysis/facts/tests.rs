//! Facts against evaluation: tables by exhaustion, walks by what their methods say.

mod tables;
mod walks;
