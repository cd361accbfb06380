//! How long the open-ended tests run: a second, or as many as `DAGWOOD_FUZZ_SECONDS` says.

use std::time::{Duration, Instant};

/// The seeds of one run: from `DAGWOOD_FUZZ_SEED`, or zero, until the time is over; at least `at_least` of them.
pub fn seeds(at_least: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("DAGWOOD_FUZZ_SECONDS").unwrap_or(1));
    let first = number("DAGWOOD_FUZZ_SEED").unwrap_or(0);
    (first..).take_while(move |seed| *seed - first < at_least || Instant::now() < end)
}
