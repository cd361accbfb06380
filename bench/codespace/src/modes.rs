//! The same function in each way of protection, and with whole pages for each.

use dagwood_codespace::{CodeSpace, Fallback, Options, Packing, Protection};

use crate::Plan;
use crate::bytes::Body;
use crate::findings::{Findings, Result, Section};
use crate::function::Writer;
use crate::slices::{HEAD, Way, report, take_turns};

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let modes = [
        ("dual", Protection::Dual, Packing::Granules),
        ("dual, page classes", Protection::Dual, Packing::Pages),
        ("session", Protection::Session, Packing::Granules),
        ("no alias", Protection::NoAlias, Packing::Granules),
        ("flip", Protection::Flip, Packing::Pages),
    ];
    let body = Body::returning(400);
    let spaces = modes
        .iter()
        .map(|&(_, protection, packing)| {
            let options = Options { protection, packing, fallback: Fallback::Refused, ..Options::default() };
            Ok(CodeSpace::new(&options)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let writers: Vec<Writer<'_>> = spaces.iter().map(Writer::new).collect();
    let mut ways = modes
        .iter()
        .zip(&writers)
        .map(|((name, ..), writer)| {
            Way::new(&format!("warm 400 B, {name}"), |times| {
                (0..times).try_for_each(|_| writer.free(writer.publish(&body)?))?;
                Ok(())
            })
        })
        .collect::<Result<Vec<_>>>()?;
    take_turns(plan.rounds(500), &mut ways)?;
    let mut section = Section::new(&["protection (ns each)", HEAD[0], HEAD[1], HEAD[2], HEAD[3]]);
    for way in &ways {
        report(&way.name, &way.samples, &mut section, findings);
    }
    let ratio = ways[4].samples.min() / ways[0].samples.min();
    findings.detail("warm 400 B, flip to dual", ratio, "ratio");
    section.note("alloc + write 400 B + publish + free, one at a time");
    findings.sections.push(section);
    Ok(())
}
