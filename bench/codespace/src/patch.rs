//! Exchanging the target of a call that another core runs: what it costs, and when it is seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dagwood_codespace::{CodeSpace, Error, Options};

use crate::Plan;
use crate::beside::beside;
use crate::bytes::Body;
use crate::clock::ticks;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::{Site, Writer};
use crate::slices::{HEAD, Samples, Way, report, take_turns};

/// How long a change may take to be seen before the other thread is taken to have been stopped.
const LOST: Duration = Duration::from_millis(5);

/// When the other thread first saw each value: the processor's count, in two words by value, zero while it did not.
#[derive(Default)]
#[repr(align(256))]
struct Seen([AtomicU64; 2]);

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    let functions = [writer.publish(&Body::constant(0))?, writer.publish(&Body::constant(1))?];
    let targets = functions.each_ref().map(|function| function.entry());
    let site = Site::new(&writer, targets[0])?;
    let quiet = Site::new(&writer, targets[0])?;

    let mut section = Section::new(&["patching a call (ns)", HEAD[0], HEAD[1], HEAD[2], HEAD[3]]);
    let patches = |site: &Site<'_>, times: usize| -> Result<(), Error> {
        (0..times).try_for_each(|turn| site.patch(targets[turn & 1]))
    };
    let mut ways = [Way::new("patch a call", |times| Ok(patches(&quiet, times)?))?];
    take_turns(plan.rounds(1_000), &mut ways)?;
    report(&ways[0].name, &ways[0].samples, &mut section, findings);
    findings.conclude("patch a call", ways[0].samples.min(), "ns", Target::AtMost(15.0));

    let seen = Seen::default();
    let (mut own, mut delay) = (Samples::default(), Samples::default());
    beside(
        |signals| {
            let mut last = 0;
            signals.repeat(|| {
                let value = site.call();
                if value != last {
                    seen.0[value as usize & 1].store(ticks(), Ordering::Release);
                    last = value;
                }
                Ok(())
            })
        },
        |other| {
            let nanoseconds = nanoseconds_of_a_tick();
            let mut value = 0;
            for _ in 0..plan.rounds(20_000) {
                if !other.wait_until_it_runs() {
                    continue;
                }
                value ^= 1;
                seen.0[value].store(0, Ordering::Relaxed);
                let start = ticks();
                site.patch(targets[value])?;
                let end = ticks();
                let patience = Instant::now();
                let mut at = 0;
                while at == 0 && patience.elapsed() < LOST {
                    at = seen.0[value].load(Ordering::Acquire);
                }
                // If the other thread was stopped, the state is unknown until it has caught up.
                if at == 0 {
                    while seen.0[value].load(Ordering::Acquire) == 0 {
                        std::thread::yield_now();
                    }
                    continue;
                }
                own.push((end - start) as f64 * nanoseconds);
                delay.push(at.saturating_sub(start) as f64 * nanoseconds);
            }
            Ok(())
        },
    )?;
    report("patch a call that runs, by the clock", &own, &mut section, findings);
    section.line([
        "seen by the other core".to_owned(),
        format!("{:.0}", delay.min()),
        format!("{:.0}", delay.quantile(0.25)),
        format!("{:.0}", delay.median()),
        format!("{}; p90 {:.0}", delay.len(), delay.quantile(0.9)),
    ]);
    findings.detail("a patch is seen by the other core, median", delay.median(), "ns");
    section.note(
        "alone: slices of 200 µs of patches; beside: single patches of a call that another thread runs in a loop, from \
         before the store to when that thread got the new value, by the processor's counter; p90 over all patches",
    );
    findings.sections.push(section);
    findings.conclude("a patch is seen, p90", delay.quantile(0.9), "ns", Target::AtMost(400.0));
    Ok(())
}

/// How long a tick of the processor's counter is.
fn nanoseconds_of_a_tick() -> f64 {
    let (start, first) = (Instant::now(), ticks());
    while start.elapsed() < Duration::from_millis(20) {}
    start.elapsed().as_nanos() as f64 / (ticks() - first) as f64
}
