//! One function at a time in memory that is warm: placed, written, published, freed.

use std::cell::RefCell;
use std::hint::black_box;

use dagwood_codespace::{CodeSpace, GRANULE, Options};

use crate::Plan;
use crate::bytes::Body;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::Writer;
use crate::peer::Mapped;
use crate::slices::{HEAD, LONG_SLICE, Way, report, take_turns};

/// The bytes of the function.
const LEN: usize = 400;
/// How many functions live at once where there is more than one.
const ALIVE: usize = 1_000;

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let space = CodeSpace::new(&Options::default())?;
    let (one, many, retiring) = (Writer::new(&space), Writer::new(&space), Writer::new(&space));
    // Whoever retires code has threads that run it, so that reclaiming passes a barrier.
    let _participant = space.domain().join()?;
    let body = Body::returning(LEN);
    let mut places = vec![[0u8; LEN.next_multiple_of(GRANULE)]; ALIVE];
    let alive = RefCell::new(Vec::with_capacity(ALIVE));
    let mut ways = [
        Way::new("alloc + write 400 B + publish + free", |times| {
            (0..times).try_for_each(|_| one.free(one.publish(&body)?))?;
            Ok(())
        })?,
        Way::new("the same, 1,000 alive, then all freed", |times| {
            let mut alive = alive.borrow_mut();
            (0..times).step_by(ALIVE).try_for_each(|start| {
                for _ in 0..ALIVE.min(times - start) {
                    alive.push(many.publish(&body)?);
                }
                alive.drain(..).try_for_each(|function| many.free(function))
            })?;
            Ok(())
        })?,
        Way::in_slices_of(LONG_SLICE, "the same, retired and reclaimed", |times| {
            (0..times).try_for_each(|_| retiring.retire(retiring.publish(&body)?))?;
            Ok(())
        })?,
        Way::new("the first, called once too", |times| {
            (0..times).try_for_each(|_| {
                let function = one.publish(&body)?;
                function.call();
                one.free(function)
            })?;
            Ok(())
        })?,
        Way::new("the writes alone: 400 B, int3", |times| {
            let mut place = [0u8; LEN.next_multiple_of(GRANULE)];
            for _ in 0..times {
                let place = black_box(&mut place);
                place[..LEN].copy_from_slice(black_box(body.bytes()));
                black_box(&mut *place).fill(0xcc);
            }
            Ok(())
        })?,
        Way::new("the same, 1,000 written, then all int3", |times| {
            for start in (0..times).step_by(ALIVE) {
                let places = &mut places[..ALIVE.min(times - start)];
                for place in &mut *places {
                    place[..LEN].copy_from_slice(black_box(body.bytes()));
                }
                for place in black_box(places) {
                    place.fill(0xcc);
                }
            }
            Ok(())
        })?,
        Way::new("mmap, write, mprotect, call, munmap", |times| {
            for _ in 0..times {
                Mapped::new(&body)?.call();
            }
            Ok(())
        })?,
    ];
    take_turns(plan.rounds(2_000), &mut ways)?;
    let mut section = Section::new(&["warm, one thread (ns each)", HEAD[0], HEAD[1], HEAD[2], HEAD[3]]);
    for way in &ways {
        report(&way.name, &way.samples, &mut section, findings);
    }
    section
        .note("slices of about 200 µs, of 1 ms where code is retired, take turns; it is reclaimed whenever the space says it is due");
    findings.sections.push(section);
    let [freed, batch, reclaimed, _, _, _, mapped] = ways.map(|way| way.samples.min());
    for (name, value) in [("freed", freed), ("1,000 alive, freed", batch), ("retired", reclaimed)] {
        findings.conclude(format!("warm 400 B, {name}"), value, "ns", Target::AtMost(20.0));
        let ratio = format!("mmap for each, to warm 400 B, {name}");
        findings.conclude(ratio, mapped / value, "ratio", Target::AtLeast(300.0));
    }
    Ok(())
}
