//! What the form of a call costs where there are many callees.

use dagwood_codespace::{CodeSpace, Error, Options};

use crate::Plan;
use crate::bytes::Body;
use crate::findings::{Findings, Result, Section};
use crate::function::{Driver, Entry, Form, Function, Writer};
use crate::sizes::Random;
use crate::slices::{Samples, drive};

const FORMS: [(Form, &str); 2] = [(Form::Direct, "call rel32"), (Form::Slot, "call [rip+slot]")];

/// Nanoseconds of a call in each form, of `count` functions in a random order.
fn compare(count: usize, seed: u64, rounds: usize) -> Result<[f64; 2]> {
    let space = CodeSpace::new(&Options::default())?;
    let writer = Writer::new(&space);
    let functions: Vec<Function<'_>> =
        Body::short(count, 1, seed).iter().map(|body| writer.publish(body)).collect::<Result<_, Error>>()?;
    let mut order: Vec<Entry<'_>> = functions.iter().map(Function::entry).collect();
    Random::new(seed + 1).shuffle(&mut order);
    let [(first, _), (second, _)] = FORMS;
    let drivers = [Driver::new(&writer, &order, first)?, Driver::new(&writer, &order, second)?];
    drive(rounds, count, &drivers)
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let mut section = Section::new(&["forms of a call (ns each)", FORMS[0].1, FORMS[1].1, "slot / rel32"]);
    for count in [16, 1_000, 5_000] {
        let mut times = [const { Samples::EMPTY }; 2];
        for placement in 0..plan.rounds(60) as u64 {
            let each = compare(count, placement + 1, 10)?;
            for (samples, time) in times.iter_mut().zip(each) {
                samples.push(time);
            }
        }
        let name = format!("{count} functions");
        let least = times.each_ref().map(Samples::min);
        section.line([
            name.clone(),
            format!("{:.2}", least[0]),
            format!("{:.2}", least[1]),
            format!("{:.3}", least[1] / least[0]),
        ]);
        findings.detail(format!("calls through slots, {name}, to rel32"), least[1] / least[0], "ratio");
    }
    section.note(
        "functions of one cache line in a random order, each called once from a driver, all calls 8 bytes apart; as for random calls",
    );
    findings.sections.push(section);
    Ok(())
}
