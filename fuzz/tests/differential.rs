//! Random programs in every engine.

use dagwood_fuzz::{Checked, bytes_of_seed, check, seeds};

#[test]
fn interpreter_and_native_code_agree_with_folding_and_without() {
    let (mut agreed, mut unfinished) = (0, 0);
    for seed in seeds(200) {
        match check(&bytes_of_seed(seed, 64 + (seed as usize * 37) % 1200)) {
            Ok(Checked::Agrees) => agreed += 1,
            Ok(Checked::OutOfFuel) => unfinished += 1,
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    println!("{agreed} programs agree, {unfinished} took too long");
    assert!(unfinished * 10 < agreed, "most programs end");
}
