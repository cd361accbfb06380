//! `dagwood-bench`: Dagwood beside its peers.
//!
//! ```text
//! cargo run --release -p dagwood-bench -- wasm --quick
//! ```
//!
//! Every subcommand measures one thing, prints a table and writes the same rows to `target/bench/<name>.json`.
//!
//! *Why one process.* Two runs of a program on a shared machine differ by more than two compilers do. So all engines
//! sit in one process (those that cannot are child processes that answer over a pipe), take turns within every round,
//! and are compared by the ratio inside a round; a figure is the median of such ratios, and a summary their geometric
//! mean.
//!
//! *Guarantees.* Engines that disagree about a result end the bench with the names of both. What a peer does
//! differently (bounds checks, masking against speculation, polls) is printed above the figures.
#![forbid(unsafe_code)]

mod child;
mod codespace;
mod dagwood;
mod engine;
mod il_size;
mod kernels;
mod libraries;
mod measure;
mod optimizer;
mod programs;
mod report;
mod wasm;
#[cfg(feature = "peers")]
mod wasmtime;

use std::process::ExitCode;

use engine::{Failure, Result};

/// What the command line asks of a subcommand.
#[derive(Default)]
pub(crate) struct Options {
    /// Fewer rounds and peers, for a result in under a minute.
    pub(crate) quick: bool,
    /// Print the JSON rows instead of the tables.
    pub(crate) json: bool,
    /// Measure only the programs, or experiments, whose names contain one of these; all if empty.
    pub(crate) only: Vec<String>,
}

impl Options {
    /// Whether `--only` leaves the program or experiment called `name` in.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// A subcommand: its name, what it measures, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<report::Report>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "wasm",
        about: "WebAssembly programs: run time and compile time as ratios",
        run: wasm::run,
    },
    Bench {
        name: "codespace",
        about: "executable memory beside its peers: time, memory, nearness",
        run: codespace::run,
    },
    Bench {
        name: "optimizer",
        about: "strategies: what passes gain, and what they cost",
        run: optimizer::run,
    },
    Bench { name: "il-size", about: "bytes of memory for a node of the IL", run: il_size::run },
];

fn usage() -> String {
    let mut text =
        String::from("usage: dagwood-bench BENCH [--quick] [--only NAME]... [--json]\n\nbenches:\n");
    for bench in BENCHES {
        text += &format!("  {:10} {}\n", bench.name, bench.about);
    }
    text += "\noptions:\n  --quick      fewer rounds and peers: under a minute\n  \
             --only NAME  only programs or experiments whose name contains NAME; may be repeated\n  \
             --json       print the rows of target/bench/<bench>.json instead of tables\n";
    text
}

/// Reads the command line; the error is what is wrong with it.
fn parse(arguments: impl Iterator<Item = String>) -> std::result::Result<(&'static Bench, Options), String> {
    let mut options = Options::default();
    let mut chosen = None;
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            "--only" => options.only.push(arguments.next().ok_or("--only needs a name")?),
            name if chosen.is_none() && !name.starts_with('-') => {
                let bench = BENCHES.iter().find(|bench| bench.name == name);
                chosen = Some(bench.ok_or_else(|| format!("there is no bench called `{name}`"))?);
            }
            other => return Err(format!("unexpected argument `{other}`")),
        }
    }
    Ok((chosen.ok_or("say which bench to run")?, options))
}

fn run(bench: &Bench, options: &Options) -> Result<()> {
    let report = (bench.run)(options)?;
    let path = report.write(bench.name)?;
    if options.json {
        print!("{}", report.to_json());
    } else {
        print!("{report}");
        println!("\nwritten to {}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let (bench, options) = match parse(arguments.into_iter()) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("dagwood-bench: {message}\n\n{}", usage());
            return ExitCode::from(2);
        }
    };
    match run(bench, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("dagwood-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
