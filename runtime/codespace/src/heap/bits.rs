//! Sets of small numbers as bits in words, by ranges.

use std::ops::Range;

/// The bits of a word.
pub(crate) const WORD: usize = u64::BITS as usize;

/// The words that a range touches, each with the bits of the range in it.
#[inline]
pub(crate) fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let words = if range.is_empty() { 0..0 } else { range.start / WORD..range.end.div_ceil(WORD) };
    words.map(move |word| {
        let low = range.start.saturating_sub(word * WORD);
        let high = (range.end - word * WORD).min(WORD);
        (word, u64::MAX >> (WORD - (high - low)) << low)
    })
}

/// Adds a range.
#[inline]
pub(crate) fn set(words: &mut [u64], range: Range<usize>) {
    masks(range).for_each(|(word, mask)| words[word] |= mask);
}

/// Removes a range.
#[inline]
pub(crate) fn clear(words: &mut [u64], range: Range<usize>) {
    masks(range).for_each(|(word, mask)| words[word] &= !mask);
}

/// Whether all of a range is in the set.
pub(crate) fn has_all(words: &[u64], range: Range<usize>) -> bool {
    masks(range).all(|(word, mask)| words[word] & mask == mask)
}

/// Whether nothing of a range is in the set.
pub(crate) fn has_none(words: &[u64], range: Range<usize>) -> bool {
    masks(range).all(|(word, mask)| words[word] & mask == 0)
}

/// How many numbers are in the set.
pub(crate) fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// How many numbers of a range are in the set.
pub(crate) fn count_in(words: &[u64], range: Range<usize>) -> usize {
    masks(range).map(|(word, mask)| (words[word] & mask).count_ones() as usize).sum()
}

/// The first run of consecutive numbers of a range in the set whose words are asked for by their place.
pub(crate) fn first_run(range: Range<usize>, words: impl Fn(usize) -> u64) -> Option<Range<usize>> {
    let first = |from: usize, flip: u64| {
        let mut found = masks(from..range.end).map(|(at, mask)| (at, (words(at) ^ flip) & mask));
        let (at, word) = found.find(|&(_, word)| word != 0)?;
        Some(at * WORD + word.trailing_zeros() as usize)
    };
    let start = first(range.start, 0)?;
    Some(start..first(start, u64::MAX).unwrap_or(range.end))
}

/// The first number from `from` on that is in the set, or in what `flip` makes of it; the end if there is none.
fn next(words: &[u64], from: usize, flip: u64) -> usize {
    let Some(&first) = words.get(from / WORD) else { return words.len() * WORD };
    let mut word = (first ^ flip) & (u64::MAX << (from % WORD));
    let mut at = from / WORD;
    while word == 0 {
        at += 1;
        match words.get(at) {
            Some(&next) => word = next ^ flip,
            None => return words.len() * WORD,
        }
    }
    at * WORD + word.trailing_zeros() as usize
}

/// The runs of consecutive numbers in the set, from the lowest.
pub(crate) fn runs(words: &[u64]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = next(words, from, 0);
        from = next(words, start, u64::MAX);
        (start < from).then_some(start..from)
    })
}

/// The run that a range is part of, all of which is in the set.
pub(crate) fn run_around(words: &[u64], range: Range<usize>) -> Range<usize> {
    debug_assert!(has_all(words, range.clone()), "a run has no holes");
    let mut start = range.start;
    loop {
        // The bits below `start` in its word, pushed to the top; the bits above them are set, so that the count ends there.
        let below = start % WORD;
        if below == 0 {
            if start == 0 || words[start / WORD - 1] >> (WORD - 1) == 0 {
                break;
            }
            let run = words[start / WORD - 1].leading_ones() as usize;
            start -= run;
            if run < WORD {
                break;
            }
        } else {
            let run = ((words[start / WORD] << (WORD - below)).leading_ones() as usize).min(below);
            start -= run;
            if run < below {
                break;
            }
        }
    }
    start..next(words, range.end, u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, number by number.
    fn slow_runs(words: &[u64]) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for bit in (0..words.len() * WORD).filter(|&bit| words[bit / WORD] >> (bit % WORD) & 1 == 1) {
            match runs.last_mut() {
                Some(run) if run.end == bit => run.end += 1,
                _ => runs.push(bit..bit + 1),
            }
        }
        runs
    }

    #[test]
    fn ranges_and_runs_agree_with_single_bits() {
        let mut seed = 1u64;
        let mut random = move |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % bound
        };
        for _ in 0..500 {
            let mut words = [0u64; 4];
            let mut slow = [false; 256];
            for _ in 0..random(12) {
                let start = random(257);
                let range = start..start + random(257 - start);
                if random(3) == 0 {
                    clear(&mut words, range.clone());
                    slow[range].fill(false);
                } else {
                    set(&mut words, range.clone());
                    slow[range].fill(true);
                }
            }
            assert!((0..256).all(|bit| (words[bit / WORD] >> (bit % WORD) & 1 == 1) == slow[bit]));
            assert_eq!(count(&words), slow.iter().filter(|&&bit| bit).count());
            let expected = slow_runs(&words);
            assert_eq!(runs(&words).collect::<Vec<_>>(), expected);
            for run in expected {
                let start = run.start + random(run.len());
                let inner = start..start + 1 + random(run.end - start);
                assert!(has_all(&words, inner.clone()) && !has_none(&words, inner.clone()));
                assert_eq!(run_around(&words, inner), run);
            }
        }
    }

    #[test]
    fn an_empty_range_changes_nothing_and_holds() {
        let mut words = [0b101];
        set(&mut words, 1..1);
        clear(&mut words, 64..64);
        assert_eq!(words, [0b101]);
        assert!(has_all(&words, 1..1) && has_none(&words, 0..0));
        assert!(!has_all(&words, 0..2) && !has_none(&words, 0..2));
    }
}
