//! Time on a machine that is not ours alone.
//!
//! ```text
//!   this thread  |--- slice ---|--- slice ---|--- slice ---|
//!   the machine  |  undisturbed| somebody else ran | ...
//! ```
//!
//! A figure of one thread is the least of many short slices: what the code costs when nobody else has the core or the
//! cache. Slices of things that are compared take turns. A figure of two threads is the median over those slices in
//! which both threads provably ran: each had the processor for nearly all of the slice, by its own CPU clock.

use std::hint::black_box;
use std::time::Instant;

use crate::findings::{Findings, Result, Section};
use crate::function::Driver;

/// The nanoseconds that a slice takes about: long against a clock's reading, short against a turn of the scheduler.
pub(crate) const SLICE: f64 = 200_000.0;
/// The same where code is retired: enough is, in a slice, that reclaiming has its share of each.
pub(crate) const LONG_SLICE: f64 = 1e6;

/// Times of slices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// None yet.
    pub(crate) const EMPTY: Samples = Samples(Vec::new());

    /// Adds a time.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which `share` of all lie; not a number if there are none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (share * sorted.len() as f64) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// The least.
    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// A way to do something, and what its slices took.
pub(crate) struct Way<'a> {
    /// What it is called in tables.
    pub(crate) name: String,
    /// Does it so many times.
    run: Box<dyn FnMut(usize) -> Result<()> + 'a>,
    /// How often it is done in a slice.
    repetitions: usize,
    /// Nanoseconds each.
    pub(crate) samples: Samples,
}

impl<'a> Way<'a> {
    /// A way that is timed in slices of about [`SLICE`].
    pub(crate) fn new(name: &str, run: impl FnMut(usize) -> Result<()> + 'a) -> Result<Way<'a>> {
        Way::in_slices_of(SLICE, name, run)
    }

    /// A way that is timed in slices of about so many nanoseconds.
    pub(crate) fn in_slices_of(
        slice: f64,
        name: &str,
        run: impl FnMut(usize) -> Result<()> + 'a,
    ) -> Result<Way<'a>> {
        let mut way =
            Way { name: name.into(), run: Box::new(run), repetitions: 1, samples: Samples::default() };
        way.tune(slice)?;
        Ok(way)
    }

    /// Finds out how often it fits into a slice, which also warms it up.
    fn tune(&mut self, slice: f64) -> Result<()> {
        while self.repetitions < 1 << 24 {
            // The least of three: somebody else's turn must not pass for the way's own time.
            let time = self.time()?.min(self.time()?).min(self.time()?);
            if time >= slice / 2.0 {
                break;
            }
            let factor = (slice / time.max(1.0)).clamp(1.5, 10.0);
            self.repetitions = (self.repetitions as f64 * factor).ceil() as usize;
        }
        Ok(())
    }

    fn time(&mut self) -> Result<f64> {
        let start = Instant::now();
        (self.run)(black_box(self.repetitions))?;
        Ok(start.elapsed().as_nanos() as f64)
    }

    /// Times a slice.
    pub(crate) fn slice(&mut self) -> Result<()> {
        let time = self.time()?;
        self.samples.push(time / self.repetitions as f64);
        Ok(())
    }
}

/// Times `rounds` slices of each way, taking turns; another way begins each round.
pub(crate) fn take_turns(rounds: usize, ways: &mut [Way<'_>]) -> Result<()> {
    let count = ways.len();
    for round in 0..rounds {
        for turn in 0..count {
            ways[(round + turn) % count].slice()?;
        }
    }
    Ok(())
}

/// The least nanoseconds of each of some drivers, taking turns, for each of the `count` functions that they call.
pub(crate) fn drive<const N: usize>(
    rounds: usize,
    count: usize,
    drivers: &[Driver<'_>; N],
) -> Result<[f64; N]> {
    let way = |driver| {
        Way::new("driver", move |times| {
            for _ in 0..times {
                Driver::run(driver);
            }
            Ok(())
        })
    };
    let mut ways: Vec<Way<'_>> = drivers.iter().map(way).collect::<Result<_>>()?;
    take_turns(rounds, &mut ways)?;
    Ok(std::array::from_fn(|index| ways[index].samples.min() / count as f64))
}

/// The head of a table of ways.
pub(crate) const HEAD: [&str; 4] = ["min", "p25", "median", "slices"];

/// A table's line, and a figure for its least.
pub(crate) fn report(name: &str, samples: &Samples, section: &mut Section, findings: &mut Findings) {
    section.line([
        name.to_owned(),
        format!("{:.1}", samples.min()),
        format!("{:.1}", samples.quantile(0.25)),
        format!("{:.1}", samples.median()),
        samples.len().to_string(),
    ]);
    findings.detail(format!("{name}, min"), samples.min(), "ns");
    findings.detail(format!("{name}, median"), samples.median(), "ns");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_order_of_the_values() {
        let samples = Samples(vec![3.0, 1.0, 4.0, 2.0]);
        assert_eq!((samples.min(), samples.median(), samples.quantile(1.0)), (1.0, 3.0, 4.0));
        assert!(Samples::default().min().is_nan());
    }

    #[test]
    fn ways_take_turns_and_run_as_often_as_a_slice_is_long() {
        let (mut left, mut right) = (0, 0);
        let mut ways = [
            Way::new("left", |times| {
                left += (0..times).map(black_box).sum::<usize>();
                Ok(())
            })
            .unwrap(),
            Way::new("right", |times| {
                right += (0..times).map(black_box).count();
                Ok(())
            })
            .unwrap(),
        ];
        take_turns(3, &mut ways).unwrap();
        assert!(ways.iter().all(|way| way.samples.len() == 3 && way.repetitions > 100));
    }
}
