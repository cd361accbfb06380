//! Calling many short functions in random order: packed by the space, packed ideally, and each on pages of its own.

use dagwood_codespace::{CodeSpace, Error, Options, Packing};

use crate::Plan;
use crate::bytes::Body;
use crate::findings::{Findings, Result, Section, Target};
use crate::function::{Driver, Entry, Form, Function, Packed, Writer};
use crate::sizes::Random;
use crate::slices::{Samples, drive};

/// What the functions are called in tables.
const NAMES: [&str; 3] = ["packed by the space", "packed ideally", "page classes"];

/// Publishes each body.
fn publish<'s>(writer: &Writer<'s>, bodies: &[Body]) -> Result<Vec<Function<'s>>, Error> {
    bodies.iter().map(|body| writer.publish(body)).collect()
}

/// Calls `count` functions of random sizes in a random order, placed in three ways; nanoseconds of a call in each.
fn compare(count: usize, lines: usize, seed: u64, rounds: usize) -> Result<[f64; 3]> {
    let bodies = Body::short(count, lines, seed);
    let mut order: Vec<usize> = (0..count).collect();
    Random::new(seed + 1).shuffle(&mut order);
    let paged = Options { packing: Packing::Pages, ..Options::default() };
    let spaces =
        [CodeSpace::new(&Options::default())?, CodeSpace::new(&Options::default())?, CodeSpace::new(&paged)?];
    let writers = spaces.each_ref().map(Writer::new);
    // Something of another size first, so that the functions start elsewhere each time.
    for writer in &writers {
        writer.publish(&Body::returning(64 * (1 + seed as usize * 37 % 500)))?;
    }
    let packed = publish(&writers[0], &bodies)?;
    let ideal = Packed::new(&writers[1], &bodies)?;
    let paged = publish(&writers[2], &bodies)?;
    let entries: [Vec<Entry<'_>>; 3] = [
        packed.iter().map(Function::entry).collect(),
        ideal.entries(),
        paged.iter().map(Function::entry).collect(),
    ];
    let driver = |at: usize| {
        let order: Vec<Entry<'_>> = order.iter().map(|&index| entries[at][index]).collect();
        Driver::new(&writers[at], &order, Form::Direct)
    };
    drive(rounds, count, &[driver(0)?, driver(1)?, driver(2)?])
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let head = ["random calls (ns each)", NAMES[0], NAMES[1], NAMES[2], "least ratio", "p25 ratio"];
    let mut section = Section::new(&head);
    for (count, lines) in [(1_000, 1), (1_000, 4), (5_000, 1), (5_000, 4)] {
        let mut times = [const { Samples::EMPTY }; 3];
        for placement in 0..plan.rounds(120) as u64 {
            let each = compare(count, lines, placement + 1, 10)?;
            for (samples, time) in times.iter_mut().zip(each) {
                samples.push(time);
            }
        }
        let name = format!("{count} functions, up to {lines} lines run");
        let least = times.each_ref().map(Samples::min);
        section.line([
            name.clone(),
            format!("{:.2}", least[0]),
            format!("{:.2}", least[1]),
            format!("{:.2}", least[2]),
            format!("{:.3}", least[0] / least[1]),
            format!("{:.3}", times[0].quantile(0.25) / times[1].quantile(0.25)),
        ]);
        for (packing, time) in NAMES.iter().zip(least) {
            findings.detail(format!("{name}, {packing}"), time, "ns");
        }
        let target = (count == 1_000).then_some(Target::AtMost(1.05));
        findings.conclude(format!("random calls, {name}, to ideal"), least[0] / least[1], "ratio", target);
    }
    section.note(
        "each placement has sizes, an order and addresses of its own; in each the three take turns in slices of 200 µs and \
         count with the least; where code happens to stand makes a call up to three times as slow whoever packed it, so what \
         is compared is the least over all placements; ideal is one piece of code with every function at the next multiple \
         of 64",
    );
    findings.sections.push(section);
    Ok(())
}
