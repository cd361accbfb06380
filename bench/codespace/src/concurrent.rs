//! Writing while another thread runs compiled code.

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use dagwood_codespace::{CodeSpace, Options};

use crate::Plan;
use crate::beside::{Other, RAN, RAN_OR_WAITED, beside};
use crate::bytes::Body;
use crate::findings::{Failure, Findings, Result, Section, Target};
use crate::function::{Looping, Writer};
use crate::peer::Mapped;
use crate::slices::{LONG_SLICE, SLICE, Samples};

/// The bytes of the function.
pub(crate) const LEN: usize = 400;
/// What a thread does between two looks at the clock.
pub(crate) const BATCH: usize = 64;
/// Slices of each kind that a full run wants.
pub(crate) const WANTED: usize = 1_000;
/// A quarantine, in bytes, with which a barrier comes once in ten thousand of these functions.
const LARGE_QUARANTINE: usize = 4 << 20;

/// Does `step` for about so many nanoseconds; says how often it did it.
pub(crate) fn for_a_slice<E>(slice: f64, mut step: impl FnMut() -> Result<(), E>) -> Result<usize, E> {
    let (start, mut done) = (Instant::now(), 0);
    while (start.elapsed().as_nanos() as f64) < slice {
        for _ in 0..BATCH {
            step()?;
        }
        done += BATCH;
    }
    Ok(done)
}

/// What the first thread does in its slices.
struct Work<'a> {
    name: &'static str,
    /// Does it for a slice; says how often it did it.
    run: Box<dyn FnMut() -> Result<usize> + 'a>,
    /// The share of the slice in which both threads must have had a processor.
    ran: f64,
    /// Whether it has to keep the targets.
    is_goal: bool,
    /// Nanoseconds each.
    own: Samples,
    /// What the other thread did in a microsecond.
    other: Samples,
    /// Slices in which not both threads ran.
    dropped: usize,
}

impl<'a> Work<'a> {
    fn new<E>(
        name: &'static str,
        slice: f64,
        ran: f64,
        mut step: impl FnMut() -> Result<(), E> + 'a,
    ) -> Work<'a>
    where
        Failure: From<E>,
    {
        Work {
            name,
            run: Box::new(move || Ok(for_a_slice(slice, &mut step)?)),
            ran,
            is_goal: false,
            own: Samples::EMPTY,
            other: Samples::EMPTY,
            dropped: 0,
        }
    }

    /// Computes and touches no memory: what the other thread is left alone with.
    fn nothing() -> Work<'a> {
        Work::new("nothing", SLICE, RAN, || {
            spin_loop();
            Ok::<_, Failure>(())
        })
    }

    fn freeing(writer: &'a Writer<'_>, body: &'a Body) -> Work<'a> {
        let work = Work::new("freed", SLICE, RAN, || writer.free(writer.publish(body)?));
        Work { is_goal: true, ..work }
    }

    fn retiring(name: &'static str, slice: f64, writer: &'a Writer<'_>, body: &'a Body) -> Work<'a> {
        Work::new(name, slice, RAN_OR_WAITED, || writer.retire(writer.publish(body)?))
    }

    fn slice(&mut self, other: &Other<'_>) -> Result<()> {
        let mut done = 0;
        let slice = other.slice(self.ran, || {
            done = (self.run)()?;
            Ok(())
        })?;
        match slice {
            Some(slice) => {
                self.own.push(slice.time / done as f64);
                self.other.push(slice.progress / slice.time * 1e3);
            }
            None => self.dropped += 1,
        }
        Ok(())
    }
}

/// Slices of each kind of work in turn, until there are enough or the time is over.
fn measure(plan: &Plan, works: &mut [Work<'_>], other: &Other<'_>) -> Result<()> {
    let (wanted, patience) = (plan.rounds(WANTED), Duration::from_secs(if plan.quick { 6 } else { 40 }));
    let start = Instant::now();
    while works.iter().any(|work| work.own.len() < wanted) && start.elapsed() < patience {
        for work in works.iter_mut().filter(|work| work.own.len() < wanted) {
            work.slice(other)?;
        }
    }
    Ok(())
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let head = ["while another thread runs", "median ns", "p25", "its rate %", "slices", "dropped"];
    let mut section = Section::new(&head);
    calling(plan, &mut section, findings)?;
    looping(plan, &mut section, findings)?;
    section.note(
        "slices of about 200 µs, of 1 ms where code is retired (4 ms with the larger quarantine), in turn; kept are those in which both threads had a \
         processor for 97 % of the time (60 % where code is retired: there threads also wait in the kernel); the rate is \
         against slices in which this thread computes without touching memory",
    );
    section.note(
        "short calls: the other thread enters as a participant, calls, leaves, and again; a loop: it stays in compiled code",
    );
    findings.sections.push(section);
    Ok(())
}

/// Prints what was seen; the first work is the one that leaves the other thread alone.
fn conclude(kind: &str, works: &[Work<'_>], section: &mut Section, findings: &mut Findings) {
    let quiet = works[0].other.median();
    for work in works {
        let name = format!("{kind}: {}", work.name);
        let rate = work.other.median() / quiet;
        section.line([
            name.clone(),
            format!("{:.1}", work.own.median()),
            format!("{:.1}", work.own.quantile(0.25)),
            format!("{:.1}", rate * 100.0),
            work.own.len().to_string(),
            work.dropped.to_string(),
        ]);
        if work.is_goal {
            findings.conclude(&name, work.own.median(), "ns", Target::AtMost(60.0));
            findings.conclude(format!("{name}, the other keeps"), rate, "ratio", Target::AtLeast(0.97));
        } else {
            findings.detail(format!("{name}, median"), work.own.median(), "ns");
            findings.detail(format!("{name}, the other keeps"), rate, "ratio");
        }
    }
}

/// The other thread enters compiled code for each short call.
fn calling(plan: &Plan, section: &mut Section, findings: &mut Findings) -> Result<()> {
    let large = Options { quarantine_bytes: LARGE_QUARANTINE, ..Options::default() };
    let spaces = [CodeSpace::new(&Options::default())?, CodeSpace::new(&large)?];
    let writers = spaces.each_ref().map(Writer::new);
    let body = Body::returning(LEN);
    let called = writers[0].publish(&Body::counting(100))?;
    let mut works = [
        Work::nothing(),
        Work::freeing(&writers[0], &body),
        Work { is_goal: true, ..Work::retiring("retired", LONG_SLICE, &writers[0], &body) },
        Work::retiring("retired, quarantine of 4 MiB", 4.0 * LONG_SLICE, &writers[1], &body),
        Work::new("mmap for each", SLICE, RAN_OR_WAITED, || Mapped::new(&body).map(drop)),
    ];
    beside(
        |signals| {
            let participant = spaces[0].domain().join()?;
            signals.repeat(|| {
                let _running = participant.enter();
                black_box(called.call());
                Ok(())
            })
        },
        |other| measure(plan, &mut works, other),
    )?;
    conclude("short calls", &works, section, findings);
    Ok(())
}

/// The other thread stays in one loop of compiled code.
fn looping(plan: &Plan, section: &mut Section, findings: &mut Findings) -> Result<()> {
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    let body = Body::returning(LEN);
    let code = Looping::new(&writer)?;
    let mut works = [Work::nothing(), Work::freeing(&writer, &body)];
    beside(
        |signals| {
            let participant = space.domain().join()?;
            let _running = participant.enter();
            code.run(&signals);
            Ok(())
        },
        |other| measure(plan, &mut works, other),
    )?;
    conclude("a loop", &works, section, findings);
    Ok(())
}
