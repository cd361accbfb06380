//! Finding the one rewrite, of many, with which an outcome changes.
//!
//! ```text
//!   limit   0 ──────────── good ───────────── n-1 │ n ──────────── bad ───────── all
//!                                                   └ this rewrite
//! ```
//!
//! *Why it works.* Rewrites are numbered as passes ask for them, and a limit of `n` allows the first `n`. Up to the first one that is
//! denied two limits make the same method, so the method made with `n` differs from that made with `n - 1` by one rewrite and by
//! what follows from it. That goodness may come back at a higher limit only means that another guilty rewrite is found.

/// The least limit found, up to `total`, whose outcome is bad while that of the limit below it is good; none if `total` itself is good,
/// or if it is bad without any rewrite.
///
/// # Errors
///
/// Those of `is_good`.
///
/// # Cost
///
/// `is_good` is asked at most 2 + log₂ `total` times.
pub fn first_bad<E>(total: u64, mut is_good: impl FnMut(u64) -> Result<bool, E>) -> Result<Option<u64>, E> {
    if is_good(total)? || !is_good(0)? {
        return Ok(None);
    }
    let (mut good, mut bad) = (0, total);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if is_good(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Some(bad))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn each_guilty_rewrite_is_found_in_few_steps() {
        for guilty in 1..=100 {
            let mut asked = 0;
            let found = first_bad(100, |limit| {
                asked += 1;
                Ok::<_, Infallible>(limit < guilty)
            });
            assert_eq!(found, Ok(Some(guilty)));
            assert!(asked <= 2 + 7, "{asked}");
        }
    }

    #[test]
    fn without_a_guilty_rewrite_there_is_none() {
        assert_eq!(first_bad(5, |_| Ok::<_, Infallible>(true)), Ok(None));
        assert_eq!(first_bad(5, |_| Ok::<_, Infallible>(false)), Ok(None));
        assert_eq!(first_bad(5, |limit| if limit == 2 { Err("x") } else { Ok(limit < 4) }), Err("x"));
    }
}
