//! Division by a constant, as a multiplication and shifts.
//!
//! ```text
//!   x / d  =  ⌊x·m / 2^(N+s)⌋     where m is 2^(N+s)/d rounded up, and s large enough that rounding never shows
//! ```
//!
//! A division takes ten to forty cycles, a multiplication three or four. For `N`-bit numbers an `m` of `N+1` bits always
//! does; most divisors need only `N`. Source: T. Granlund and P. L. Montgomery, "Division by Invariant Integers using
//! Multiplication" (1994), and H. S. Warren, "Hacker's Delight", chapter 10.
//!
//! The plans are plain data, so that the tests can carry them out: on all 8-bit numbers, and for every divisor of 16 bits on
//! the dividends between which both the quotient and what is computed stay the same or cannot but agree.

/// How to divide unsigned `N`-bit numbers by a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    /// `x >> shift`.
    Shift(u32),
    /// `high((x >> before) · magic) >> after`, where `high` is the upper half of the product.
    Multiply { before: u32, magic: u64, after: u32 },
    /// The magic number is `2^N + magic`. With `h = high(x · magic)`: `(((x - h) >> 1) + h) >> after`.
    MultiplyAdd { magic: u64, after: u32 },
}

/// How to divide signed `N`-bit numbers by a constant, toward zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// What the magnitude of the divisor asks for.
    pub(crate) by: Magnitude,
    /// Whether the quotient is negated at the end.
    pub(crate) is_negative: bool,
}

/// How to divide signed numbers by a positive constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Magnitude {
    /// By one.
    One,
    /// By `2^shift`: `(x + bias) >> shift`, where `bias` is `2^shift - 1` if `x` is negative, else zero.
    Shift(u32),
    /// `(⌊x·magic / 2^N⌋ >> after) + (1 if x is negative)`, with `magic` below `2^N`, unsigned, and a signed product.
    Multiply { magic: u64, after: u32 },
}

/// The plan for an unsigned divisor of `bits` bits, which is not zero.
pub(crate) fn unsigned(divisor: u64, bits: u32) -> Unsigned {
    debug_assert!(divisor != 0, "a plan is made for divisors that are not zero");
    let zeros = divisor.trailing_zeros();
    if divisor.is_power_of_two() {
        return Unsigned::Shift(zeros);
    }
    // Dividing by the power of two in the divisor first leaves that much more room for rounding.
    for before in [0, zeros] {
        let odd = u128::from(divisor >> before);
        for after in 0..=odd.ilog2() {
            let power = 1u128 << (bits + after);
            let magic = power.div_ceil(odd);
            let error = magic * odd - power;
            if magic < 1 << bits && error <= 1 << (after + before) {
                return Unsigned::Multiply { before, magic: magic as u64, after };
            }
        }
    }
    let log = divisor.ilog2() + 1;
    let magic = (((1u128 << log) - u128::from(divisor)) << bits) / u128::from(divisor) + 1;
    Unsigned::MultiplyAdd { magic: magic as u64, after: log - 1 }
}

/// The plan for a signed divisor of `bits` bits, which is not zero.
pub(crate) fn signed(divisor: i64, bits: u32) -> Signed {
    debug_assert!(divisor != 0, "a plan is made for divisors that are not zero");
    let magnitude = divisor.unsigned_abs();
    let by = if magnitude == 1 {
        Magnitude::One
    } else if magnitude.is_power_of_two() {
        Magnitude::Shift(magnitude.ilog2())
    } else {
        signed_multiply(u128::from(magnitude), divisor < 0, bits)
    };
    Signed { by, is_negative: divisor < 0 }
}

fn signed_multiply(magnitude: u128, is_negative: bool, bits: u32) -> Magnitude {
    // The largest dividend, in magnitude, that leaves the largest remainder: where rounding shows first.
    let reach = (1u128 << (bits - 1)) + u128::from(is_negative);
    let worst = reach - 1 - reach % magnitude;
    let mut after = 0;
    loop {
        let power = 1u128 << (bits + after);
        if power > worst * (magnitude - power % magnitude) {
            return Magnitude::Multiply { magic: (power / magnitude + 1) as u64, after };
        }
        after += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(bits: u32) -> u64 {
        u64::MAX >> (64 - bits)
    }

    fn sign_extend(value: u64, bits: u32) -> i64 {
        (value << (64 - bits)) as i64 >> (64 - bits)
    }

    fn divide_unsigned(plan: Unsigned, x: u64, bits: u32) -> u64 {
        let high = |x: u64, magic: u64| ((u128::from(x) * u128::from(magic)) >> bits) as u64;
        match plan {
            Unsigned::Shift(shift) => x >> shift,
            Unsigned::Multiply { before, magic, after } => high(x >> before, magic) >> after,
            Unsigned::MultiplyAdd { magic, after } => {
                let h = high(x, magic);
                (((x - h) >> 1) + h) >> after
            }
        }
    }

    fn divide_signed(plan: Signed, x: i64, bits: u32) -> i64 {
        let quotient = match plan.by {
            Magnitude::One => x,
            Magnitude::Shift(shift) => {
                let bias = if x < 0 { (1i128 << shift) - 1 } else { 0 };
                ((i128::from(x) + bias) >> shift) as i64
            }
            Magnitude::Multiply { magic, after } => {
                let high = ((i128::from(x) * i128::from(magic)) >> bits) as i64;
                (high >> after) + i64::from(x < 0)
            }
        };
        sign_extend(
            if plan.is_negative { quotient.wrapping_neg() } else { quotient } as u64 & mask(bits),
            bits,
        )
    }

    #[test]
    fn all_pairs_of_8_bits() {
        for divisor in 1..=u8::MAX {
            let plan = unsigned(divisor.into(), 8);
            for x in 0..=u8::MAX {
                assert_eq!(
                    divide_unsigned(plan, x.into(), 8),
                    (x / divisor).into(),
                    "{x} / {divisor} by {plan:?}"
                );
            }
        }
        for divisor in (i8::MIN..=i8::MAX).filter(|divisor| *divisor != 0) {
            let plan = signed(divisor.into(), 8);
            for x in i8::MIN..=i8::MAX {
                let quotient = x.wrapping_div(divisor);
                assert_eq!(divide_signed(plan, x.into(), 8), quotient.into(), "{x} / {divisor} by {plan:?}");
            }
        }
    }

    /// What is computed never falls as the dividend grows, apart from the step at zero, and nor does the quotient. Where they agree at both
    /// ends of a stretch of dividends with one quotient, they agree between.
    #[test]
    fn every_divisor_of_16_bits() {
        for divisor in 1..=u64::from(u16::MAX) {
            let plan = unsigned(divisor, 16);
            for first in (0..=u64::from(u16::MAX)).step_by(divisor as usize) {
                for x in [first, (first + divisor - 1).min(u16::MAX.into())] {
                    assert_eq!(divide_unsigned(plan, x, 16), x / divisor, "{x} / {divisor} by {plan:?}");
                }
            }
        }
        for divisor in (i16::MIN..=i16::MAX).filter(|divisor| *divisor != 0) {
            let plan = signed(divisor.into(), 16);
            let stretch = i64::from(divisor.unsigned_abs());
            for first in (0..=i64::from(u16::MAX) / 2 + 1).step_by(stretch as usize) {
                for x in [first, first + stretch - 1, -first, -first - stretch + 1] {
                    let x = x.clamp(i16::MIN.into(), i16::MAX.into());
                    let quotient = (x as i16).wrapping_div(divisor);
                    assert_eq!(divide_signed(plan, x, 16), quotient.into(), "{x} / {divisor} by {plan:?}");
                }
            }
        }
    }

    /// Numbers around powers of two and multiples of the divisor, and a sample of the rest.
    fn samples(bits: u32, state: &mut u64) -> Vec<u64> {
        let mut samples: Vec<u64> = (0..bits)
            .flat_map(|bit| {
                [(1 << bit) - 1, 1 << bit, (1 << bit) + 1, !(1 << bit), (1u64 << bit).wrapping_neg()]
            })
            .collect();
        samples.extend((0..200).map(|_| {
            // A linear congruence; its high bits are random enough to sample with.
            *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *state >> (*state >> 59)
        }));
        samples.iter().map(|value| value & mask(bits)).collect()
    }

    #[test]
    fn sampled_pairs_of_wider_numbers() {
        let mut state = 1;
        for bits in [16, 32, 64] {
            let divisors = samples(bits, &mut state);
            let dividends = samples(bits, &mut state);
            for divisor in divisors.iter().copied().filter(|divisor| *divisor != 0) {
                let (unsigned_plan, signed_divisor) = (unsigned(divisor, bits), sign_extend(divisor, bits));
                let signed_plan = signed(signed_divisor, bits);
                let near =
                    [divisor.wrapping_sub(1), divisor, divisor.wrapping_mul(7), divisor.wrapping_mul(7) - 1];
                for x in dividends.iter().copied().chain(near.map(|x| x & mask(bits))) {
                    assert_eq!(
                        divide_unsigned(unsigned_plan, x, bits),
                        x / divisor,
                        "{x} / {divisor}, {bits} bits"
                    );
                    let x = sign_extend(x, bits);
                    let quotient = sign_extend(x.wrapping_div(signed_divisor) as u64 & mask(bits), bits);
                    assert_eq!(
                        divide_signed(signed_plan, x, bits),
                        quotient,
                        "{x} / {signed_divisor}, {bits} bits"
                    );
                }
            }
        }
    }
}
