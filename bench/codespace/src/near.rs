//! Whether code is near the program: fresh processes, of both kinds of image, alone and among hostile mappings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::findings::{Findings, Result, Section, Target};
use crate::probe::Answer;
use crate::slices::Samples;
use crate::{Plan, progress};

/// The mappings that make it hard.
const HOSTILE: u64 = 3_000;
/// `e_type` of a program that is linked to fixed addresses, and of one that may stand anywhere (the ELF standard).
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;

/// A kind of image.
struct Kind {
    name: &'static str,
    model: &'static str,
    elf: u16,
}

const KINDS: &[Kind] = &[
    Kind { name: "position-independent", model: "pie", elf: ET_DYN },
    Kind { name: "fixed", model: "static", elf: ET_EXEC },
];

/// Builds the probe as an image of this kind, and says where it is.
fn build(kind: &Kind, plan: &Plan) -> Result<PathBuf> {
    let directory = plan.output.join("probe");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(&plan.workspace)
        .args(["rustc", "--release", "--quiet", "-p", "dagwood-bench-codespace", "--no-default-features"])
        .args(["--bin", "codespace-probe", "--target-dir"])
        .arg(&directory)
        .args(["--", "-C"])
        .arg(format!("relocation-model={}", kind.model))
        .output()?;
    if !output.status.success() {
        return Err(format!("the probe cannot be built: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let built = directory.join("release").join("codespace-probe");
    let image = directory.join(format!("codespace-probe-{}", kind.model));
    fs::copy(built, &image)?;
    let header = fs::read(&image)?;
    let elf = header.get(16..18).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    if elf != Some(kind.elf) {
        return Err(format!("{} is an image of type {elf:?}, not {}", image.display(), kind.elf).into());
    }
    Ok(image)
}

/// What a number of processes saw.
#[derive(Default)]
struct Seen {
    processes: usize,
    near: usize,
    hostile: u64,
    rungs: BTreeMap<String, usize>,
    place: Samples,
    space: Samples,
}

impl Seen {
    fn add(&mut self, answer: Answer) {
        self.processes += 1;
        self.near += usize::from(answer.is_near);
        self.hostile += answer.hostile;
        *self.rungs.entry(answer.rung).or_default() += 1;
        self.place.push(answer.place / 1e3);
        self.space.push(answer.space / 1e3);
    }

    fn share(&self) -> f64 {
        self.near as f64 / self.processes as f64
    }
}

fn ask(image: &Path, hostile: u64, seed: u64) -> Result<Answer> {
    let output = Command::new(image).args([hostile.to_string(), seed.to_string()]).output()?;
    if !output.status.success() {
        return Err(format!("the probe fails: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    String::from_utf8(output.stdout)?.parse()
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let processes = if plan.quick { 100 } else { 1_000 };
    let mut section =
        Section::new(&["near the program", "processes", "near %", "place µs", "p90", "space µs", "on rung"]);
    let (mut share, mut slowest) = (1.0f64, 0.0f64);
    for kind in KINDS {
        let image = build(kind, plan)?;
        for hostile in [0, HOSTILE] {
            let name = match hostile {
                0 => format!("near hits, {} image", kind.name),
                _ => format!("near hits, {} image, hostile mappings", kind.name),
            };
            let mut seen = Seen::default();
            for seed in 0..processes {
                progress(&format!("{name}: process {seed}"));
                seen.add(ask(&image, hostile, seed)?);
            }
            let rungs: Vec<String> =
                seen.rungs.iter().map(|(rung, count)| format!("{rung} {count}")).collect();
            section.line([
                name.clone(),
                processes.to_string(),
                format!("{:.1}", seen.share() * 100.0),
                format!("{:.2}", seen.place.median()),
                format!("{:.2}", seen.place.quantile(0.9)),
                format!("{:.1}", seen.space.median()),
                rungs.join(", "),
            ]);
            findings.detail(format!("{name}, share"), seen.share(), "ratio");
            findings.detail(format!("{name}, placing, median"), seen.place.median(), "us");
            findings.detail(format!("{name}, making a space, median"), seen.space.median(), "us");
            if hostile > 0 {
                let strewn = seen.hostile / processes;
                section.note(format!(
                    "{name}: {strewn} of {HOSTILE} mappings of 64 KiB to 4 MiB within 2 GiB succeeded, in the mean"
                ));
            }
            share = share.min(seen.share());
            slowest = slowest.max(seen.place.median());
        }
    }
    section.note(
        "each line is fresh processes; placing is the reservation of 64 MiB, the first that the process makes; \
         near is that a function of each lane and the image reach each other",
    );
    findings.sections.push(section);
    findings.conclude("near hits, least of all kinds", share, "ratio", Target::AtLeast(1.0));
    findings.conclude("placing, slowest median of all kinds", slowest, "us", Target::AtMost(5.0));
    Ok(())
}
