//! What a code space promises, tried from outside: each promise in each mode in which it makes sense.
//!
//! | promise | file |
//! |---|---|
//! | live functions do not overlap; nothing is reused before its grace periods are over | `reuse.rs` |
//! | no mapping is ever writable and executable; few mappings and registrations for a chunk | `mappings.rs` |
//! | code and anchor reach each other, or the space says that they do not | `reach.rs` |
//! | no line of two functions, nor of code and data; bytes stay as published; the rest is `int3` | `bytes.rs` |
//! | lookups in signal handlers are exact | `lookups.rs` |
//! | forked processes have no write view, and write nothing | `forks.rs` |
//! | a limit, and who makes room; a process that may make nothing executable | `limits.rs` |
//! | calls that are patched while they run go to one of their targets | `patches.rs` |
//!
//! What happens when memory runs out has a program of its own, `out_of_memory`, for its allocator.

mod bytes;
mod emptied;
mod forks;
mod limits;
mod lookups;
mod mappings;
mod patches;
mod reach;
mod reuse;
mod world;
