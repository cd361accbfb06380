//! A solver found on the machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Solvers that read SMT-LIB from a file, and what they are asked for their version with.
const SOLVERS: &[(&str, &[&str])] = &[
    ("bitwuzla", &["--version"]),
    ("z3", &["--version"]),
    ("cvc5", &["--version"]),
    ("yices-smt2", &["--version"]),
];

/// A program that answers scripts.
#[derive(Clone, Debug)]
pub(super) struct Solver {
    path: PathBuf,
    /// Its name and version.
    pub(super) name: String,
}

/// What a solver says of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Every question is `unsat`.
    Proved,
    /// There are values for which the sides differ.
    Refuted,
    /// It did not answer in time.
    Timeout,
    /// It answered something else.
    Failed(String),
}

impl Solver {
    /// The first solver on the path, if there is one.
    pub(super) fn on_path() -> Option<Solver> {
        let path = std::env::var_os("PATH")?;
        SOLVERS.iter().find_map(|(name, version)| {
            let file =
                std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())?;
            let output = Command::new(&file).args(*version).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            let number =
                text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
            Some(Solver { path: file, name: format!("{name} {number}") })
        })
    }

    /// Asks the questions of a script, which is written to `file`.
    pub(super) fn ask(&self, script: &str, file: &Path, limit: Duration) -> Answer {
        if let Err(error) = std::fs::write(file, script) {
            return Answer::Failed(format!("{}: {error}", file.display()));
        }
        let child = Command::new(&self.path).arg(file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        match child {
            Ok(child) => wait(child, script.matches("(check-sat)").count(), limit),
            Err(error) => Answer::Failed(format!("{}: {error}", self.path.display())),
        }
    }
}

fn wait(mut child: Child, questions: usize, limit: Duration) -> Answer {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                // It may have ended meanwhile, and that is as well.
                let _ = child.kill();
                let _ = child.wait();
                return Answer::Timeout;
            }
        }
    }
    let output = child.wait_with_output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let output = output.unwrap_or_else(|error| error.to_string());
    let answers: Vec<&str> = output.split_whitespace().collect();
    if answers.contains(&"sat") {
        Answer::Refuted
    } else if answers.len() == questions && answers.iter().all(|answer| *answer == "unsat") {
        Answer::Proved
    } else {
        Answer::Failed(output)
    }
}
