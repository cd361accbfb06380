//! Replacing functions of real sizes at random, every byte that is free being `int3` again.

use dagwood_codespace::{CodeSpace, Error, Options};

use crate::Plan;
use crate::bytes::Body;
use crate::clock::cpu_time;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::{Function, Writer};
use crate::peer::Mapped;
use crate::sizes::{Random, real};
use crate::slices::{HEAD, Samples, report};

/// Functions that live at once.
pub(crate) const LIVE: usize = 10_000;

/// A body of each of the real sizes, in a random order: one full set, so that every round writes the same bytes.
pub(crate) fn bodies(seed: u64) -> Vec<Body> {
    Body::all_returning(&real(LIVE, seed))
}

/// Replaces as many functions as there are by those that `make` makes of `bodies`, each time one at random; `drop_one`
/// takes back what was replaced. Returns the nanoseconds of processor time each.
pub(crate) fn replace<F, E>(
    live: &mut [Option<F>],
    bodies: &[Body],
    random: &mut Random,
    mut make: impl FnMut(&Body) -> Result<F, E>,
    mut drop_one: impl FnMut(F) -> Result<(), E>,
) -> Result<f64, E> {
    let start = cpu_time();
    for body in bodies {
        let place = &mut live[random.below(LIVE)];
        if let Some(old) = place.take() {
            drop_one(old)?;
        }
        *place = Some(make(body)?);
    }
    Ok((cpu_time() - start) / bodies.len() as f64)
}

/// Fills a space with one function of each size.
pub(crate) fn fill<'s>(writer: &Writer<'s>, bodies: &[Body]) -> Result<Vec<Option<Function<'s>>>, Error> {
    bodies.iter().map(|body| writer.publish(body).map(Some)).collect()
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let spaces = [CodeSpace::new(&Options::default())?, CodeSpace::new(&Options::default())?];
    let [freeing, retiring] = [Writer::new(&spaces[0]), Writer::new(&spaces[1])];
    let first = bodies(1);
    let mut freed = fill(&freeing, &first)?;
    let mut retired = fill(&retiring, &first)?;
    let mut mapped: Vec<Option<Mapped>> =
        first.iter().map(|body| Mapped::new(body).map(Some)).collect::<Result<_>>()?;
    let mut samples = [const { Samples::EMPTY }; 3];
    for round in 0..plan.rounds(40) as u64 {
        // The first round of a turn finds the caches as another's turn left them, and does not count.
        let mut times = [0.0; 3];
        for half in [2 * round, 2 * round + 1] {
            let (bodies, mut random) = (bodies(half + 2), Random::new(half + 1_000));
            let publish = |body: &Body| freeing.publish(body);
            times[0] = replace(&mut freed, &bodies, &mut random, publish, |old| freeing.free(old))?;
        }
        for half in [2 * round, 2 * round + 1] {
            let (bodies, mut random) = (bodies(half + 2), Random::new(half + 1_000));
            let publish = |body: &Body| retiring.publish(body);
            times[1] = replace(&mut retired, &bodies, &mut random, publish, |old| retiring.retire(old))?;
        }
        for half in [2 * round, 2 * round + 1] {
            let (bodies, mut random) = (bodies(half + 2), Random::new(half + 1_000));
            let unmap = |old| {
                drop(old);
                Ok(())
            };
            times[2] = replace(&mut mapped, &bodies, &mut random, Mapped::new, unmap)?;
        }
        for (samples, time) in samples.iter_mut().zip(times) {
            samples.push(time);
        }
    }
    let mut section = Section::new(&["churn, real sizes (ns each)", HEAD[0], HEAD[1], HEAD[2], "rounds"]);
    let names = ["churn, freed", "churn, retired", "churn, mmap for each"];
    for (name, samples) in names.iter().zip(&samples) {
        report(name, samples, &mut section, findings);
    }
    section.note(
        "10,000 functions live; a round replaces as many, chosen at random, and writes every size once; processor time",
    );
    findings.sections.push(section);
    for (name, ours) in names.iter().zip(&samples).take(2) {
        findings.conclude(name, ours.min(), "ns", Target::AtMost(450.0));
        let ratio = samples[2].min() / ours.min();
        findings.conclude(format!("mmap for each, to {name}"), ratio, "ratio", Target::AtLeast(25.0));
    }
    Ok(())
}
