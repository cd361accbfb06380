//! Random programs in every engine: a second in ordinary tests, `DAGWOOD_FUZZ_SECONDS` where that is set.

use std::time::{Duration, Instant};

use dagwood_fuzz::{Checked, bytes_of_seed, check};

/// Programs that are run however long they take.
const AT_LEAST: u64 = 200;

#[test]
fn interpreter_and_native_code_agree_with_folding_and_without() {
    let seconds = std::env::var("DAGWOOD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let first = std::env::var("DAGWOOD_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (end, mut agreed, mut unfinished) = (Instant::now() + Duration::from_secs(seconds), 0, 0);
    for seed in first.. {
        if agreed >= AT_LEAST && Instant::now() >= end {
            break;
        }
        let bytes = bytes_of_seed(seed, 64 + (seed as usize * 37) % 1200);
        match check(&bytes) {
            Ok(Checked::Agrees) => agreed += 1,
            Ok(Checked::OutOfFuel) => unfinished += 1,
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    println!("{agreed} programs agree, {unfinished} took too long");
    assert!(unfinished * 10 < agreed, "most programs end");
}
