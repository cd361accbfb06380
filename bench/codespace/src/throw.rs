//! A panic that passes through a frame of compiled code, among few and among many functions.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use dagwood_codespace::{CodeSpace, Options};

use crate::Plan;
use crate::churn::bodies;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::{Frame, Writer};
use crate::slices::{Samples, Way};

/// Throws without a message and without asking the panic hook, so that only unwinding is timed.
extern "C-unwind" fn throw() {
    resume_unwind(Box::new(()));
}

/// Throws from a Rust frame or from compiled code, and catches.
fn once(frame: Option<&Frame<'_>>) -> Result<()> {
    let caught = catch_unwind(AssertUnwindSafe(|| match frame {
        Some(frame) => frame.call(throw),
        None => throw(),
    }));
    match caught {
        Err(_) => Ok(()),
        Ok(()) => Err("what was thrown did not arrive".into()),
    }
}

/// What throwing took in nanoseconds, in one space.
struct Times {
    first: f64,
    later: f64,
    /// Through Rust frames alone, with the space there.
    unrelated: f64,
}

/// Makes a space with `count` functions, the frame in their middle, and throws.
fn measure(count: usize, slices: usize) -> Result<Times> {
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    let bodies = bodies(count as u64);
    for body in &bodies[..count / 2] {
        writer.publish(body)?;
    }
    let frame = Frame::new(&writer)?;
    for body in &bodies[..count - count / 2] {
        writer.publish(body)?;
    }
    let start = Instant::now();
    once(Some(&frame))?;
    let first = start.elapsed().as_nanos() as f64;
    let repeat = |frame: Option<&Frame<'_>>, times: usize| (0..times).try_for_each(|_| once(frame));
    let mut ways =
        [Way::new("", |times| repeat(Some(&frame), times))?, Way::new("", |times| repeat(None, times))?];
    crate::slices::take_turns(slices, &mut ways)?;
    Ok(Times { first, later: ways[0].samples.min(), unrelated: ways[1].samples.min() })
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let counts = [1, 10_000];
    let mut seen = [const { [Samples::EMPTY; 3] }; 2];
    let mut ratios = Samples::default();
    for _ in 0..plan.rounds(30) {
        let mut later = [0.0; 2];
        for ((count, seen), later) in counts.iter().zip(&mut seen).zip(&mut later) {
            let times = measure(*count, 20)?;
            for (samples, time) in seen.iter_mut().zip([times.first, times.later, times.unrelated]) {
                samples.push(time / 1e3);
            }
            *later = times.later;
        }
        ratios.push(later[1] / later[0]);
    }
    let mut section =
        Section::new(&["a throw (µs)", "first", "later", "no compiled frame", "median of later"]);
    for (count, [first, later, unrelated]) in counts.iter().zip(&seen) {
        let name = format!("throw, {count} functions");
        section.line([
            name.clone(),
            format!("{:.2}", first.median()),
            format!("{:.3}", later.min()),
            format!("{:.3}", unrelated.min()),
            format!("{:.3}", later.median()),
        ]);
        findings.detail(format!("{name}, first, median"), first.median(), "us");
        findings.detail(format!("{name}, min"), later.min(), "us");
    }
    section.note(
        "a panic without its hook, from Rust through one compiled frame to Rust; each round makes both spaces anew; \
         later is the least of slices of 200 µs, first the median over the spaces",
    );
    findings.sections.push(section);
    let least = seen[1][1].min() / seen[0][1].min();
    findings.detail("throw, 10,000 functions to 1, median of rounds", ratios.median(), "ratio");
    findings.conclude("throw, 10,000 functions to 1", least, "ratio", Target::AtMost(1.05));
    Ok(())
}
