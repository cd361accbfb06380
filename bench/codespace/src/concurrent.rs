//! Writing while others run compiled code or write too.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering;
use std::time::Instant;

use dagwood_codespace::{CodeSpace, Domain, Options};

use crate::Plan;
use crate::beside::{Other, Signals, beside};
use crate::bytes::Body;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::{Looping, Writer};
use crate::peer::Mapped;
use crate::slices::{SLICE, Samples};

/// The bytes of the function.
const LEN: usize = 400;
/// What a thread does between two looks at the clock.
const BATCH: usize = 64;

/// What the first thread does in a slice; says how often it did it.
type Work<'a> = (&'a str, Box<dyn FnMut() -> Result<usize> + 'a>);

/// Does `step` for about a slice.
fn for_a_slice(mut step: impl FnMut() -> Result<()>) -> Result<usize> {
    let (start, mut done) = (Instant::now(), 0);
    while (start.elapsed().as_nanos() as f64) < SLICE {
        for _ in 0..BATCH {
            step()?;
        }
        done += BATCH;
    }
    Ok(done)
}

/// What the slices of one kind of work showed.
#[derive(Default)]
struct Seen {
    /// Nanoseconds each.
    own: Samples,
    /// What the other thread did in a microsecond.
    other: Samples,
    /// Slices in which not both threads ran.
    dropped: usize,
}

/// Slices of each kind of work in turn, while the other thread does its own.
fn measure(rounds: usize, works: &mut [Work<'_>], other: &Other<'_>) -> Result<Vec<Seen>> {
    let mut seen: Vec<Seen> = works.iter().map(|_| Seen::default()).collect();
    for _ in 0..rounds {
        for ((_, work), seen) in works.iter_mut().zip(&mut seen) {
            let mut done = 0;
            let slice = other.slice(|| {
                done = work()?;
                Ok(())
            })?;
            match slice {
                Some(slice) => {
                    seen.own.push(slice.time / done as f64);
                    seen.other.push(slice.progress / slice.time * 1e3);
                }
                None => seen.dropped += 1,
            }
        }
    }
    Ok(seen)
}

/// Computes and touches no memory.
fn idle() -> Result<usize> {
    for_a_slice(|| {
        black_box(0);
        spin_loop();
        Ok(())
    })
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let head = ["while another thread runs", "median ns", "p25", "its rate %", "slices", "dropped"];
    let mut section = Section::new(&head);
    calling(plan, &mut section, findings)?;
    looping(plan, &mut section, findings)?;
    section.note(
        "slices of about 200 µs in which both threads had a processor for 97 % of the time; the rate is against \
         slices in which this thread computes without touching memory, between the others",
    );
    findings.sections.push(section);
    two_writers(plan, findings)
}

/// Prints what was seen; the first work is the one that leaves the other thread alone.
fn conclude(kind: &str, works: &[Work<'_>], seen: &[Seen], section: &mut Section, findings: &mut Findings) {
    let quiet = seen[0].other.median();
    for ((name, _), seen) in works.iter().zip(seen) {
        let name = format!("{kind}: {name}");
        let rate = seen.other.median() / quiet;
        section.line([
            name.clone(),
            format!("{:.1}", seen.own.median()),
            format!("{:.1}", seen.own.quantile(0.25)),
            format!("{:.1}", rate * 100.0),
            seen.own.len().to_string(),
            seen.dropped.to_string(),
        ]);
        findings.detail(format!("{name}, median"), seen.own.median(), "ns");
        findings.detail(format!("{name}, rate of the other thread"), rate, "ratio");
        if name.ends_with("freed") || name.ends_with("retired") {
            findings.conclude(&name, seen.own.median(), "ns", Target::AtMost(60.0));
            findings.conclude(format!("{name}, the other keeps"), rate, "ratio", Target::AtLeast(0.97));
        }
    }
}

/// The other thread enters compiled code for each short call.
fn calling(plan: &Plan, section: &mut Section, findings: &mut Findings) -> Result<()> {
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    let body = Body::returning(LEN);
    let called = writer.publish(&Body::counting(100))?;
    let mut works: Vec<Work<'_>> = vec![
        ("nothing", Box::new(idle)),
        ("freed", Box::new(|| for_a_slice(|| writer.free(writer.publish(&body)?)))),
        ("retired", Box::new(|| for_a_slice(|| writer.retire(writer.publish(&body)?)))),
        ("mmap for each", Box::new(|| for_a_slice(|| Mapped::new(&body).map(drop)))),
    ];
    let seen = beside(
        |signals| {
            let participant = Domain::global().join()?;
            signals.repeat(|| {
                let _running = participant.enter();
                black_box(called.call());
                Ok(())
            })
        },
        |other| measure(plan.rounds(1_000), &mut works, other),
    )?;
    conclude("short calls", &works, &seen, section, findings);
    Ok(())
}

/// The other thread stays in one loop of compiled code.
fn looping(plan: &Plan, section: &mut Section, findings: &mut Findings) -> Result<()> {
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    let body = Body::returning(LEN);
    let code = Looping::new(&writer)?;
    let mut works: Vec<Work<'_>> = vec![
        ("nothing", Box::new(idle)),
        ("freed", Box::new(|| for_a_slice(|| writer.free(writer.publish(&body)?)))),
    ];
    let seen = beside(
        |signals| {
            let participant = Domain::global().join()?;
            let _running = participant.enter();
            code.run(&signals);
            Ok(())
        },
        |other| measure(plan.rounds(1_000), &mut works, other),
    )?;
    conclude("a loop", &works, &seen, section, findings);
    Ok(())
}

/// Two threads write into one space: what both do in a slice against what one does alone.
fn two_writers(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let head = ["two writers", "one, M/s", "two, M/s", "ratio", "slices"];
    let mut section = Section::new(&head);
    for retires in [false, true] {
        let space = CodeSpace::new(&Options::default())?;
        let body = Body::returning(LEN);
        let once = |writer: &Writer<'_>| match retires {
            true => writer.retire(writer.publish(&body)?),
            false => writer.free(writer.publish(&body)?),
        };
        let (mut one, mut two) = (Samples::default(), Samples::default());
        for _ in 0..plan.rounds(20) {
            let writer = Writer::new(&space);
            for _ in 0..50 {
                let start = Instant::now();
                let done = for_a_slice(|| once(&writer))?;
                one.push(done as f64 / start.elapsed().as_nanos() as f64 * 1e3);
            }
            let work = |signals: Signals<'_>| {
                let writer = Writer::new(&space);
                let mut done = 0;
                while !signals.must_stop().load(Ordering::Relaxed) {
                    for _ in 0..BATCH {
                        once(&writer)?;
                    }
                    done += BATCH as u64;
                    signals.progress().store(done, Ordering::Relaxed);
                }
                Ok(())
            };
            beside(work, |other| {
                for _ in 0..50 {
                    let mut done = 0;
                    let slice = other.slice(|| {
                        done = for_a_slice(|| once(&writer))?;
                        Ok(())
                    })?;
                    if let Some(slice) = slice {
                        two.push((done as f64 + slice.progress) / slice.time * 1e3);
                    }
                }
                Ok(())
            })?;
        }
        let name = if retires { "two writers, retired" } else { "two writers, freed" };
        let ratio = two.median() / one.median();
        section.line([
            name.to_owned(),
            format!("{:.1}", one.median()),
            format!("{:.1}", two.median()),
            format!("{ratio:.2}"),
            two.len().to_string(),
        ]);
        findings.detail(format!("{name}, one alone"), one.median(), "1/us");
        findings.detail(format!("{name}, both"), two.median(), "1/us");
        findings.conclude(format!("{name}, to one"), ratio, "ratio", Target::AtLeast(1.8));
    }
    section.note("medians of slices of about 200 µs; of two writers, those in which both had a processor");
    findings.sections.push(section);
    Ok(())
}
