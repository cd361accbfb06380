//! What it costs to show functions to a profiler and to a debugger that is not there.

use std::fs;
use std::time::Instant;

use dagwood_codespace::{Gdb, Observed, Observers, Observing};

use crate::Plan;
use crate::bytes::Body;
use crate::findings::{Findings, Result, Section};
use crate::sizes::real;
use crate::slices::{HEAD, Samples, report};

/// Functions shown at once.
const COUNT: usize = 3_000;

/// Shows every body under a name, flushing each time or once; nanoseconds each.
fn show(observing: &Observing, bodies: &[Body], flush_each: bool) -> Result<f64> {
    let observers = Observers::new(observing)?;
    let names: Vec<String> =
        (0..bodies.len()).map(|index| format!("Class{}.method{index}", index / 20)).collect();
    let start = Instant::now();
    for (body, name) in bodies.iter().zip(&names) {
        let bytes = body.bytes();
        // Nobody looks at the code itself, so any address does that no function shares.
        let address = 0x1000_0000 + name.as_ptr().addr() % (1 << 20) * 64;
        observers.published(&Observed { address, bytes, name, lines: &[] });
        if flush_each {
            observers.flush()?;
        }
    }
    observers.flush()?;
    Ok(start.elapsed().as_nanos() as f64 / bodies.len() as f64)
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let directory = plan.output.join("observers");
    fs::create_dir_all(&directory)?;
    let off = Observing::default();
    let kinds = [
        ("perf map", Observing { perf_map: Some(directory.clone()), ..off.clone() }),
        ("jitdump", Observing { jitdump: Some(directory.clone()), ..off.clone() }),
        ("gdb", Observing { gdb: Gdb::Registered, ..off }),
    ];
    let bodies = Body::all_returning(&real(COUNT, 1));
    let mut section = Section::new(&["showing code (ns each)", HEAD[0], HEAD[1], HEAD[2], "rounds"]);
    for (kind, observing) in &kinds {
        for flush_each in [false, true] {
            let mut samples = Samples::default();
            for _ in 0..plan.rounds(10) {
                samples.push(show(observing, &bodies, flush_each)?);
            }
            let how = if flush_each { "each flushed" } else { "one flush" };
            report(&format!("{kind}, {how}"), &samples, &mut section, findings);
        }
    }
    fs::remove_dir_all(&directory)?;
    section.note(
        "3,000 functions of real sizes with names and without lines; no debugger or profiler is attached",
    );
    findings.sections.push(section);
    Ok(())
}
