//! Whether code is near the program: fresh processes, of both kinds of image, alone and among hostile mappings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use dagwood_codespace::CHUNK;

use crate::findings::{Findings, Result, Section, Target};
use crate::probe::Answer;
use crate::slices::Samples;
use crate::{Plan, progress};

/// The mappings that make it hard.
const HOSTILE: u64 = 3_000;
/// `e_type` of a program that is linked to fixed addresses, and of one that may stand anywhere (the ELF standard).
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;

/// What is placed: a chunk, and what a space reserves when it is made.
const LENGTHS: [(usize, &str); 2] = [(CHUNK, "placing a chunk"), (64 << 20, "placing 64 MiB")];

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
    /// Microseconds of placing, for each of [`LENGTHS`].
    place: [Samples; 2],
    /// Microseconds of making a space.
    space: Samples,
}

impl Seen {
    fn add(&mut self, answer: Answer, length: usize) {
        self.processes += 1;
        self.near += usize::from(answer.is_near);
        self.hostile += answer.hostile;
        *self.rungs.entry(answer.rung).or_default() += 1;
        self.place[length].push(answer.place / 1e3);
        self.space.push(answer.space / 1e3);
    }

    fn share(&self) -> f64 {
        self.near as f64 / self.processes as f64
    }

    fn line(&self, name: &str, section: &mut Section, findings: &mut Findings) {
        let rungs: Vec<String> = self.rungs.iter().map(|(rung, count)| format!("{rung} {count}")).collect();
        section.line([
            name.to_owned(),
            format!("{:.1}", self.share() * 100.0),
            format!("{:.2}", self.place[0].median()),
            format!("{:.2}", self.place[1].median()),
            format!("{:.1}", self.space.median()),
            rungs.join(", "),
        ]);
        findings.detail(format!("{name}, share"), self.share(), "ratio");
        for (samples, (_, what)) in self.place.iter().zip(LENGTHS) {
            findings.detail(format!("{name}, {what}, median"), samples.median(), "us");
            findings.detail(format!("{name}, {what}, p90"), samples.quantile(0.9), "us");
        }
        findings.detail(format!("{name}, making a space, median"), self.space.median(), "us");
    }
}

fn ask(image: &Path, hostile: u64, seed: usize, bytes: usize) -> Result<Answer> {
    let arguments = [hostile.to_string(), seed.to_string(), bytes.to_string()];
    let output = Command::new(image).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("the probe fails: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    String::from_utf8(output.stdout)?.parse()
}

/// The experiment.
pub(crate) fn run(plan: &Plan, findings: &mut Findings) -> Result<()> {
    let processes = if plan.quick { 100 } else { 1_000 };
    let mut section =
        Section::new(&["near the program", "near %", "chunk µs", "64 MiB µs", "space µs", "on rung"]);
    let (mut share, mut slowest) = (1.0f64, [0.0f64; 2]);
    for kind in KINDS {
        let image = build(kind, plan)?;
        for hostile in [0, HOSTILE] {
            let among = if hostile > 0 { ", hostile mappings" } else { "" };
            let name = format!("near hits, {} image{among}", kind.name);
            let mut seen = Seen::default();
            for seed in 0..processes {
                progress(&format!("{name}: process {seed}"));
                let length = seed % LENGTHS.len();
                seen.add(ask(&image, hostile, seed, LENGTHS[length].0)?, length);
            }
            seen.line(&name, &mut section, findings);
            if hostile > 0 {
                let strewn = seen.hostile / processes as u64;
                section.note(format!(
                    "{name}: {strewn} of {HOSTILE} mappings of 64 KiB to 4 MiB within 2 GiB succeeded, in the mean"
                ));
            }
            share = share.min(seen.share());
            for (slowest, samples) in slowest.iter_mut().zip(&seen.place) {
                *slowest = slowest.max(samples.median());
            }
        }
    }
    section.note(format!(
        "each line is {processes} fresh processes; half of them place a chunk and half a space's 64 MiB, the first thing that \
         they do, in the median; near is that a function of each lane and the image reach each other"
    ));
    findings.sections.push(section);
    findings.conclude("near hits, least of all kinds", share, "ratio", Target::AtLeast(1.0));
    for (slowest, (_, what)) in slowest.iter().zip(LENGTHS) {
        findings.conclude(format!("{what}, slowest median"), *slowest, "us", Target::AtMost(5.0));
    }
    Ok(())
}
