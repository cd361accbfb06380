//! Interleaved rounds and the statistics over them.

use std::time::Duration;

use crate::engine::{Compilation, Engine, Failure, Program, Result, Sample};

/// How often things are repeated.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Fresh compilations of each program per engine, so that no one address of code or memory is the result. What they
    /// share is a function's place within its cache lines, which engines keep from one compilation to the next; a loop
    /// that straddles a line can take half as long again, so a single program says less than the mean of all.
    pub(crate) instances: usize,
    /// Timed calls per instance, after one that only warms up.
    pub(crate) rounds: usize,
    /// Timed compilations of each module.
    pub(crate) compilations: usize,
}

/// Every time of one engine on one program; rounds correspond between engines. Empty where the engine was left out.
pub(crate) type Series = Vec<Duration>;

/// Calls `program` with every engine, round by round, and returns the times in the order of `engines`.
pub(crate) fn run_times(
    program: &Program,
    n: i32,
    engines: &[Box<dyn Engine>],
    plan: Plan,
) -> Result<Vec<Series>> {
    let mut series = vec![Series::new(); engines.len()];
    for _ in 0..plan.instances {
        let mut instances = Vec::new();
        for (index, engine) in engines.iter().enumerate() {
            if let Some(instance) = engine.instantiate(program)? {
                instances.push((index, instance));
            }
        }
        let mut expected: Option<(usize, u64)> = None;
        for round in 0..=plan.rounds {
            let count = instances.len();
            for turn in 0..count {
                // Another engine begins each round, so that none always runs after the same neighbour's cache misses.
                let (index, instance) = &mut instances[(turn + round) % count];
                let Sample { checksum, time } = instance.run(n)?;
                let (first, agreed) = *expected.get_or_insert((*index, checksum));
                if checksum != agreed {
                    return Err(disagreement(
                        program,
                        n,
                        (&*engines[first], agreed),
                        (&*engines[*index], checksum),
                    ));
                }
                if round > 0 {
                    series[*index].push(time);
                }
            }
        }
    }
    Ok(series)
}

fn disagreement(program: &Program, n: i32, left: (&dyn Engine, u64), right: (&dyn Engine, u64)) -> Failure {
    Failure(format!(
        "{}: run({n}) is {:#018x} in {} but {:#018x} in {}",
        program.name,
        left.1,
        left.0.name(),
        right.1,
        right.0.name()
    ))
}

/// Compiles `program` with every engine that can be compared, round by round.
pub(crate) fn compile_times(
    program: &Program,
    engines: &[Box<dyn Engine>],
    plan: Plan,
) -> Result<Vec<Series>> {
    let mut series = vec![Series::new(); engines.len()];
    for round in 0..=plan.compilations {
        for (engine, times) in engines.iter().zip(&mut series) {
            let compilation = engine.compile(&program.code)?;
            if let (Some(Compilation { time }), true) = (compilation, round > 0) {
                times.push(time);
            }
        }
    }
    Ok(series)
}

/// The median of `values`; `None` if there are none. The mean of the middle two where their number is even.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values[middle - 1] + upper) / 2.0) }
}

/// The median time in milliseconds.
pub(crate) fn median_milliseconds(series: &Series) -> Option<f64> {
    median(series.iter().map(|time| time.as_secs_f64() * 1e3).collect())
}

/// The median over all rounds of `time / base`; `None` unless both have the same rounds.
pub(crate) fn ratio(time: &Series, base: &Series) -> Option<f64> {
    if time.len() != base.len() {
        return None;
    }
    median(time.iter().zip(base).map(|(time, base)| time.as_secs_f64() / base.as_secs_f64()).collect())
}

/// The geometric mean; `None` of nothing.
pub(crate) fn geomean(values: &[f64]) -> Option<f64> {
    let count = u32::try_from(values.len()).ok().filter(|&count| count > 0)?;
    Some((values.iter().map(|value| value.ln()).sum::<f64>() / f64::from(count)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_means_of_small_lists() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(geomean(&[]), None);
        assert!((geomean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_ratio_is_taken_within_rounds() {
        let seconds =
            |values: &[u64]| values.iter().map(|&value| Duration::from_secs(value)).collect::<Series>();
        assert_eq!(ratio(&seconds(&[2, 20, 200]), &seconds(&[1, 10, 100])), Some(2.0));
        assert_eq!(ratio(&seconds(&[2]), &seconds(&[])), None, "an engine that was left out has no ratio");
    }
}
