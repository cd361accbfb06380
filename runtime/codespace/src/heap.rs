//! Where functions stand in chunks: pages, spans, granules, and the bits by which they are found again.
//!
//! ```text
//!   chunk, 2 MiB ──► pages: runs of 4 KiB, in size classes ──► span: 16 pages that a writer leases ──► runs of granules, 64 B
//!                 └► index: one bit for each granule that a function ends in, and the trailer behind the function
//! ```
//!
//! Nothing here maps memory or takes a lock: [`lane`] is the state that a lane's lock guards, [`index`] what lookups read
//! without one.

pub(crate) mod bits;
pub(crate) mod classes;
pub(crate) mod hot;
pub(crate) mod index;
pub(crate) mod lane;
pub(crate) mod marks;
pub(crate) mod pages;
pub(crate) mod span;
