//! Filling a fresh space, with all page faults, against `cranelift-jit` finalizing each function.

use dagwood_codespace::{CodeSpace, Options};

use crate::Plan;
use crate::bytes::Body;
use crate::churn::bodies;
use crate::clock::cpu_time;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::Writer;
use crate::peer::Mapped;
use crate::slices::{HEAD, Samples, report};

/// Makes a space and publishes all `bodies`; nanoseconds of processor time each.
fn ours(bodies: &[Body]) -> Result<f64> {
    let start = cpu_time();
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    bodies.iter().try_for_each(|body| writer.publish(body).map(drop))?;
    Ok((cpu_time() - start) / bodies.len() as f64)
}

fn mapped(bodies: &[Body]) -> Result<f64> {
    let mut all = Vec::with_capacity(bodies.len());
    let start = cpu_time();
    for body in bodies {
        all.push(Mapped::new(body)?);
    }
    Ok((cpu_time() - start) / bodies.len() as f64)
}

#[cfg(feature = "peers")]
fn cranelift(bodies: &[Body]) -> Result<f64> {
    let start = cpu_time();
    let mut memory = crate::peer::CraneliftMemory::new();
    for body in bodies {
        memory.place(body.bytes())?;
    }
    Ok((cpu_time() - start) / bodies.len() as f64)
}

/// Fills something with all bodies; nanoseconds each.
type Fill = fn(&[Body]) -> Result<f64>;

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let fills: &[(&str, Fill)] = &[
        ("cold fill", ours),
        ("cold fill, mmap for each", mapped),
        #[cfg(feature = "peers")]
        ("cold fill, cranelift-jit for each", cranelift),
    ];
    let mut samples: Vec<Samples> = fills.iter().map(|_| Samples::default()).collect();
    for round in 0..plan.rounds(40) {
        let bodies = bodies(round as u64 + 1);
        for ((_, fill), samples) in fills.iter().zip(&mut samples) {
            samples.push(fill(&bodies)?);
        }
    }
    let mut section =
        Section::new(&["cold fill, real sizes (mean ns each)", HEAD[0], HEAD[1], HEAD[2], "rounds"]);
    for ((name, _), samples) in fills.iter().zip(&samples) {
        report(name, samples, &mut section, findings);
    }
    section.note(
        "10,000 functions into a space that is made for them, page faults and all; processor time; of cranelift-jit, \
         only what its memory does for a function: allocate, write, finalize",
    );
    findings.sections.push(section);
    findings.conclude("cold fill", samples[0].min(), "ns", Target::AtMost(900.0));
    if let Some(peer) = samples.get(2) {
        let ratio = samples[0].min() / peer.min();
        findings.conclude("cold fill, to cranelift-jit for each", ratio, "ratio", Target::AtMost(0.13));
    }
    Ok(())
}
