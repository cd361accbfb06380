//! How a command ends: its exit code and what it says on standard error.
//!
//! *Guarantees.* Every way to fail is a [`Failure`], and `main` alone turns it into an exit code. A reader of standard
//! output that went away (`dagwood print x | head`) is no failure: the command stops and says nothing. What a file's
//! contents put into a message cannot move the cursor, change colours or fill the screen: control characters are
//! replaced, and long lines cut.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

/// The exit code where a file is wrong or the work failed.
const FAILED: u8 = 1;
/// The exit code where the command line is wrong.
const USAGE: u8 = 2;
/// The exit code where the program trapped: what a shell shows for a process that aborted.
pub(crate) const TRAPPED: u8 = 134;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage {
        /// What is wrong.
        message: String,
        /// What would be right.
        hint: String,
    },
    /// A file is wrong, or the work failed; the message names the file.
    Failed(String),
    /// As `Failed`, and all has been said.
    Reported,
    /// The program trapped: what happened, and the backtrace.
    Trap(String),
    /// The program ended itself with this code.
    Exit(u32),
    /// Whoever read the output went away.
    Closed,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into(), hint: hint.into() }
    }

    /// A file is wrong, or what was to be done with it failed.
    pub(crate) fn of(file: &str, message: impl fmt::Display) -> Failure {
        Failure::Failed(format!("{file}: {message}"))
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage { .. } => ExitCode::from(USAGE),
            Failure::Failed(_) | Failure::Reported => ExitCode::from(FAILED),
            Failure::Trap(_) => ExitCode::from(TRAPPED),
            // The system keeps the low eight bits; they must not make a success of a failure.
            Failure::Exit(code) if *code != 0 && *code as u8 == 0 => ExitCode::from(FAILED),
            Failure::Exit(code) => ExitCode::from(*code as u8),
            Failure::Closed => ExitCode::SUCCESS,
        }
    }

    /// Says on standard error what there is to say.
    pub(crate) fn print(&self) {
        let text = self.to_string();
        if !text.is_empty() {
            say(&text);
        }
    }
}

/// What a user reads; empty where there is nothing to say.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage { message, hint } => write!(f, "error: {message}\n  {hint}"),
            Failure::Failed(message) => write!(f, "error: {message}"),
            Failure::Trap(message) => write!(f, "trap: {message}"),
            Failure::Reported | Failure::Exit(_) | Failure::Closed => Ok(()),
        }
    }
}

/// Writes lines to standard error. That it may be closed is nobody's failure.
pub(crate) fn say(text: &str) {
    let out: String = text.trim_end().lines().map(printable).collect();
    let _ = io::stderr().lock().write_all(out.as_bytes());
}

/// The most characters of a line that are said: names from files can be of any length.
const SAID_COLUMNS: usize = 400;

/// A line of bounded length, and without control characters.
fn printable(line: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut out: String = line.chars().take(SAID_COLUMNS).map(plain).collect();
    if line.chars().nth(SAID_COLUMNS).is_some() {
        out.push('…');
    }
    out + "\n"
}

/// Where a command writes what it was asked for.
pub(crate) struct Output {
    name: String,
    writer: Box<dyn Write>,
}

impl Output {
    /// Standard output.
    pub(crate) fn standard() -> Output {
        Output {
            name: "standard output".into(),
            writer: Box::new(BufWriter::with_capacity(BUFFER, io::stdout())),
        }
    }

    /// The file that is asked for, else standard output.
    pub(crate) fn chosen(path: Option<&OsStr>) -> Result<Output, Failure> {
        path.map_or_else(|| Ok(Output::standard()), |path| Output::file(Path::new(path)))
    }

    /// A file, which is made anew.
    fn file(path: &Path) -> Result<Output, Failure> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Output { name, writer: Box::new(BufWriter::with_capacity(BUFFER, file)) }),
            Err(error) => Err(Failure::of(&name, format!("cannot be written: {error}"))),
        }
    }

    /// Writes text.
    pub(crate) fn put(&mut self, text: &str) -> Result<(), Failure> {
        self.writer.write_all(text.as_bytes()).map_err(|error| self.failed(&error))
    }

    /// Ends the output, which may still fail.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::of(&self.name, error),
        }
    }
}

/// How many bytes are written at once.
const BUFFER: usize = 1 << 16;

/// A place in a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The line, from 1.
    pub(crate) line: u32,
    /// The column, from 1, in characters.
    pub(crate) column: u32,
}

/// The columns of a source line that are shown.
const SHOWN_COLUMNS: usize = 100;
/// How many of them may stand before the column that is meant.
const COLUMNS_BEFORE: usize = 60;

/// A message about a place in a source, with the line and a caret below the place.
///
/// ```text
/// gcd.dag:4:3: operand-type: operand 1 is i64; add.i32 takes i32
///    4 |   %2 = add.i32 %0, %1
///      |   ^
/// ```
pub(crate) fn diagnostic(file: &str, source: &str, at: At, rule: &str, message: impl fmt::Display) -> String {
    let At { line, column } = at;
    let mut text = format!("{file}:{line}:{column}: {rule}: {message}");
    let Some(shown) = source.split('\n').nth(line.saturating_sub(1) as usize) else { return text };
    let before = (column as usize).saturating_sub(1);
    let skipped = before.saturating_sub(COLUMNS_BEFORE);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = shown.trim_end().chars().skip(skipped).take(SHOWN_COLUMNS).map(plain).collect();
    if skipped > 0 {
        shown.replace_range(..shown.chars().next().map_or(0, char::len_utf8), "…");
    }
    let caret = " ".repeat(before - skipped);
    text += &format!("\n{line:>5} | {shown}\n      | {caret}^");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_the_line_and_points_into_it() {
        let text = diagnostic("a.dag", "one\ntwo three\n", At { line: 2, column: 5 }, "syntax", "no");
        assert_eq!(text, "a.dag:2:5: syntax: no\n    2 | two three\n      |     ^");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let source = format!("{}X{}", "é".repeat(5000), "y".repeat(5000));
        let text = diagnostic("a", &source, At { line: 1, column: 5001 }, "r", "m");
        let lines: Vec<&str> = text.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').expect("there is a caret");
        assert_eq!(lines[1].chars().nth(caret), Some('X'));
        assert!(lines[1].chars().count() < 120 && lines[1].contains('…'));
    }

    #[test]
    fn what_is_said_has_lines_of_bounded_length_and_no_control_characters() {
        assert_eq!(printable("a\x1b[1mb"), "a\u{fffd}[1mb\n");
        assert_eq!(printable(&"é".repeat(400)).chars().count(), 401);
        assert_eq!(printable(&"é".repeat(9999)).chars().count(), 402);
    }

    #[test]
    fn a_place_that_is_not_there_is_only_named() {
        assert_eq!(diagnostic("a", "", At { line: 9, column: 1 }, "r", "m"), "a:9:1: r: m");
        assert!(diagnostic("a", "x", At { line: 1, column: 9 }, "r", "m").ends_with("        ^"));
        assert!(diagnostic("a", "x", At { line: 0, column: 0 }, "r", "m").contains("^"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Output::standard().failed(&ErrorKind::BrokenPipe.into());
        assert!(matches!(failure, Failure::Closed) && failure.to_string().is_empty());
        assert!(
            Output::standard().failed(&ErrorKind::StorageFull.into()).to_string().contains("standard output")
        );
    }
}
