//! How large functions are: real sizes, in a table that fits on a page.
//!
//! The sizes are those of 7,698 functions that Cranelift made (through Wasmtime, at its default level) of the programs
//! in the sightglass benchmark suite. The median is 330 bytes and the mean 1.1 KiB; one function in twenty is larger
//! than a page, and those hold half of all bytes. Between two points of the table sizes grow linearly.

/// How many functions in ten thousand are smaller than so many bytes.
const QUANTILES: &[(u32, u32)] = &[
    (0, 6),
    (100, 11),
    (250, 18),
    (500, 38),
    (750, 45),
    (1000, 52),
    (1500, 69),
    (2000, 100),
    (2500, 125),
    (3000, 164),
    (3500, 200),
    (4000, 235),
    (4500, 276),
    (5000, 330),
    (5500, 391),
    (6000, 472),
    (6500, 561),
    (7000, 677),
    (7500, 834),
    (8000, 1053),
    (8300, 1248),
    (8600, 1496),
    (8800, 1729),
    (9000, 2060),
    (9150, 2423),
    (9300, 2865),
    (9400, 3209),
    (9500, 3818),
    (9600, 4481),
    (9700, 5536),
    (9750, 6497),
    (9800, 8046),
    (9850, 9252),
    (9900, 13264),
    (9930, 19044),
    (9950, 22683),
    (9970, 32726),
    (9980, 43401),
    (9990, 60205),
    (9995, 68991),
    (9998, 87197),
    (10000, 419307),
];

/// Numbers that look random and are the same in every run (Marsaglia's xorshift with 64 bits of state).
pub(crate) struct Random(u64);

impl Random {
    /// A sequence that `seed` determines.
    pub(crate) fn new(seed: u64) -> Random {
        // A state of zero would stay zero. Small seeds need a few steps to differ in all bits.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not zero and far below 2^64, so that the unevenness does not matter.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Puts `items` into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The size at a position between 0 and 1.
fn quantile(position: f64) -> usize {
    let position = position.clamp(0.0, 1.0) * 10_000.0;
    let at = QUANTILES.partition_point(|&(share, _)| f64::from(share) <= position);
    let at = at.clamp(1, QUANTILES.len() - 1);
    let ((low, small), (high, large)) = (QUANTILES[at - 1], QUANTILES[at]);
    let part = (position - f64::from(low)) / f64::from(high - low);
    (f64::from(small) + part * f64::from(large - small)) as usize
}

/// `count` sizes in bytes, spread evenly over the distribution, in an order that `seed` determines: the same sizes
/// for every seed, so that two fills of the same number of functions write the same number of bytes.
pub(crate) fn real(count: usize, seed: u64) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        (0..count).map(|index| quantile((index as f64 + 0.5) / count as f64)).collect();
    Random::new(seed).shuffle(&mut sizes);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_distribution_that_was_measured() {
        let mut sizes = real(10_000, 1);
        let total: usize = sizes.iter().sum();
        let in_large: usize = sizes.iter().filter(|&&size| size > 4096).sum();
        assert!((1090..1180).contains(&(total / 10_000)), "mean {}", total / 10_000);
        let share = in_large as f64 / total as f64;
        assert!((0.49..0.53).contains(&share), "{share} of all bytes is in functions larger than a page");
        sizes.sort_unstable();
        assert_eq!((sizes[0], sizes[5000], sizes[9000]), (6, 330, 2061));
        assert!(sizes[9999] > 300_000, "the largest of ten thousand is {}", sizes[9999]);
    }

    #[test]
    fn another_seed_gives_another_order_of_the_same_sizes() {
        let (mut left, mut right) = (real(1000, 1), real(1000, 2));
        assert_ne!(left, right);
        left.sort_unstable();
        right.sort_unstable();
        assert_eq!(left, right);
    }
}
