//! Two threads that write into one space, against one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dagwood_codespace::{CodeSpace, Error, Options};

use crate::Plan;
use crate::beside::{Other, RAN, RAN_OR_WAITED, Signals, beside};
use crate::bytes::Body;
use crate::concurrent::{BATCH, LEN, WANTED, for_a_slice};
use crate::findings::{Findings, Result, Section, Target};
use crate::function::Writer;
use crate::slices::{LONG_SLICE, SLICE, Samples};

/// Slices of one writer between slices of two, and the other way round.
const TURN: usize = 50;

/// A way to give back what was published.
struct Way {
    name: &'static str,
    retires: bool,
    slice: f64,
    ran: f64,
}

const WAYS: &[Way] = &[
    Way { name: "two writers, freed", retires: false, slice: SLICE, ran: RAN },
    Way { name: "two writers, retired", retires: true, slice: LONG_SLICE, ran: RAN_OR_WAITED },
];

impl Way {
    #[inline]
    fn once(&self, writer: &Writer<'_>, body: &Body) -> Result<(), Error> {
        let function = writer.publish(body)?;
        if self.retires { writer.retire(function) } else { writer.free(function) }
    }

    /// What one thread does alone, functions in a microsecond, for some slices.
    fn alone(&self, space: &CodeSpace, body: &Body, samples: &mut Samples) -> Result<()> {
        let writer = Writer::new(space);
        for _ in 0..TURN {
            let start = Instant::now();
            let done = for_a_slice(self.slice, || self.once(&writer, body))?;
            samples.push(done as f64 / start.elapsed().as_nanos() as f64 * 1e3);
        }
        Ok(())
    }

    /// What the other thread does.
    fn other(&self, space: &CodeSpace, body: &Body, signals: &Signals<'_>) -> Result<()> {
        let writer = Writer::new(space);
        let mut done = 0;
        while !signals.must_stop().load(Ordering::Relaxed) {
            for _ in 0..BATCH {
                self.once(&writer, body)?;
            }
            done += BATCH as u64;
            signals.progress().store(done, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What both threads do together, for some slices.
    fn together(
        &self,
        space: &CodeSpace,
        body: &Body,
        other: &Other<'_>,
        samples: &mut Samples,
    ) -> Result<()> {
        let writer = Writer::new(space);
        for _ in 0..TURN {
            let mut done = 0;
            let slice = other.slice(self.ran, || {
                done = for_a_slice(self.slice, || self.once(&writer, body))?;
                Ok(())
            })?;
            if let Some(slice) = slice {
                samples.push((done as f64 + slice.progress) / slice.time * 1e3);
            }
        }
        Ok(())
    }
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let mut section =
        Section::new(&["two writers into one space", "one, M/s", "two, M/s", "ratio", "slices of two"]);
    let (wanted, patience) = (plan.rounds(WANTED), Duration::from_secs(if plan.quick { 6 } else { 40 }));
    let body = Body::returning(LEN);
    for way in WAYS {
        let space = CodeSpace::new(&Options::default())?;
        // Whoever retires code has threads that run it, so that reclaiming passes a barrier.
        let _participant = space.domain().join()?;
        let (mut one, mut two) = (Samples::default(), Samples::default());
        let start = Instant::now();
        while two.len() < wanted && start.elapsed() < patience {
            way.alone(&space, &body, &mut one)?;
            beside(
                |signals| way.other(&space, &body, &signals),
                |other| way.together(&space, &body, other, &mut two),
            )?;
        }
        let ratio = two.median() / one.median();
        section.line([
            way.name.to_owned(),
            format!("{:.1}", one.median()),
            format!("{:.1}", two.median()),
            format!("{ratio:.2}"),
            two.len().to_string(),
        ]);
        findings.detail(format!("{}, one alone", way.name), one.median(), "1/us");
        findings.detail(format!("{}, both", way.name), two.median(), "1/us");
        findings.conclude(format!("{}, to one", way.name), ratio, "ratio", Target::AtLeast(1.8));
    }
    section.note(
        "400 B each; medians of slices of 200 µs, of 1 ms where code is retired; of two writers, slices in which both had a \
         processor for 97 % of the time (60 %: there they wait in the kernel too)",
    );
    findings.sections.push(section);
    Ok(())
}
