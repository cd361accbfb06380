//! The memory that code takes: what the kernel holds for it, over the bytes of live functions.

use std::fs;
use std::ops::Range;

use dagwood_codespace::{CodeSpace, Options, Packing};

use crate::Plan;
use crate::churn::{bodies, fill, replace};
use crate::findings::{Findings, Result, Section, Target};
use crate::function::{Function, Writer};
use crate::peer::resident_bytes;
use crate::sizes::Random;

/// What `/proc/self/smaps` says of memory files.
#[derive(Default)]
struct Views {
    /// The share of them that is this process's, in bytes: a page that two views show counts once.
    pss: usize,
    /// Where they can be executed.
    executable: Vec<Range<usize>>,
}

impl Views {
    fn read() -> Result<Views> {
        Views::parse(&fs::read_to_string("/proc/self/smaps")?)
    }

    fn parse(text: &str) -> Result<Views> {
        let mut views = Views::default();
        let mut is_inside = false;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            if !first.ends_with(':') {
                let (start, end) = first.split_once('-').ok_or("a mapping has no range")?;
                is_inside = line.contains("/memfd:");
                if is_inside && words.next().is_some_and(|rights| rights.contains('x')) {
                    views.executable.push(usize::from_str_radix(start, 16)?..usize::from_str_radix(end, 16)?);
                }
            } else if is_inside && first == "Pss:" {
                views.pss += words.next().unwrap_or_default().parse::<usize>()? << 10;
            }
        }
        Ok(views)
    }
}

/// What code takes at one moment, over the bytes of live functions.
struct Ratio {
    resident: f64,
    pss: f64,
    metadata: f64,
}

impl Ratio {
    fn now(space: &CodeSpace, live: &[Option<Function<'_>>]) -> Result<Ratio> {
        let bytes: usize = live.iter().flatten().map(Function::len).sum();
        let views = Views::read()?;
        let mut resident = 0;
        for range in &views.executable {
            resident += resident_bytes(range.clone())?;
        }
        let share = |part: usize| part as f64 / bytes as f64;
        Ok(Ratio {
            resident: share(resident),
            pss: share(views.pss),
            metadata: share(space.stats().metadata_bytes),
        })
    }

    /// Everything: memory for code, and what is known about it.
    fn total(&self) -> f64 {
        self.resident.max(self.pss) + self.metadata
    }

    fn line(&self, name: &str, section: &mut Section, findings: &mut Findings) {
        section.line([
            name.to_owned(),
            format!("{:.3}", self.total()),
            format!("{:.3}", self.resident),
            format!("{:.3}", self.pss),
            format!("{:.4}", self.metadata),
        ]);
        findings.detail(format!("resident bytes, {name}"), self.total(), "ratio");
    }
}

/// Fills a space, replaces all functions three times over, and looks before and after.
fn watch(packing: Packing, retires: bool) -> Result<[Ratio; 2]> {
    let space = CodeSpace::new(&Options { packing, ..Options::default() })?;
    let writer = Writer::new(&space);
    let mut live = fill(&writer, &bodies(1))?;
    let fresh = Ratio::now(&space, &live)?;
    let mut random = Random::new(7);
    for round in 0..3 {
        replace(
            &mut live,
            &bodies(round + 2),
            &mut random,
            |body| writer.publish(body),
            |old| if retires { writer.retire(old) } else { writer.free(old) },
        )?;
    }
    Ok([fresh, Ratio::now(&space, &live)?])
}

/// The experiment.
pub(crate) fn run(_: &Plan, findings: &mut Findings) -> Result<()> {
    let mut section = Section::new(&["memory / live bytes", "total", "pages", "Pss", "metadata"]);
    let mut metadata = 0.0f64;
    for (name, packing, retires) in [
        ("freed", Packing::Granules, false),
        ("retired", Packing::Granules, true),
        ("page classes, freed", Packing::Pages, false),
    ] {
        let [fresh, churned] = watch(packing, retires)?;
        fresh.line(&format!("fresh, {name}"), &mut section, findings);
        churned.line(&format!("after 3× churn, {name}"), &mut section, findings);
        if packing == Packing::Granules {
            let name = |when| format!("resident / live bytes, {when}, {name}");
            findings.conclude(name("fresh"), fresh.total(), "ratio", Target::AtMost(1.08));
            findings.conclude(name("after 3× churn"), churned.total(), "ratio", Target::AtMost(1.2));
            metadata = metadata.max(fresh.metadata).max(churned.metadata);
        }
    }
    section.note(
        "10,000 functions of real sizes; pages are those that the kernel holds for the executable views (mincore), Pss \
         those of all views that are mapped at this moment, each page once; the total is the greater of the two and \
         what is known about the code",
    );
    findings.sections.push(section);
    findings.conclude("metadata / live bytes", metadata, "ratio", Target::AtMost(0.01));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_files_count_and_only_their_executable_views_are_code() {
        let text = "1000-3000 r-xs 00000000 00:01 1 /memfd:code (deleted)\nRss: 8 kB\nPss:               6 kB\nVmFlags: rd\n\
                    8000-a000 rw-s 00000000 00:01 1 /memfd:code (deleted)\nPss: 2 kB\n\
                    b000-c000 r-xp 00000000 00:00 0\nPss: 4 kB\n";
        let views = Views::parse(text).unwrap();
        assert_eq!((views.pss, views.executable.len()), (8 << 10, 1));
        assert_eq!(views.executable[0], 0x1000..0x3000);
        assert!(Views::parse("nonsense").is_err(), "a line without a range is no map");
    }
}
