//! Help: written from the tables in [`args`](crate::args), examples first.

use std::fmt::Write;

use crate::args::{COMMANDS, COMMON, Command, Opt};

/// The columns that names take before their explanation.
const NAME_COLUMNS: usize = 28;
/// The columns of a line.
const COLUMNS: usize = 100;

/// The name and version of this program.
pub(crate) const VERSION: &str = concat!("dagwood ", env!("CARGO_PKG_VERSION"), "\n");

/// What the exit codes mean, for all commands.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "all went well"),
    ("1", "a file is wrong, cannot be read, or cannot be run"),
    ("2", "the command line is wrong"),
    ("134", "the program trapped, or a limit (--fuel, --timeout) stopped it"),
    ("others", "what the program itself gave to `proc_exit`, which may also be one of the above"),
];

/// Help for everything.
pub(crate) fn general() -> String {
    let mut out = String::from(
        "dagwood runs, checks and compiles WebAssembly, Dagwood's own IL, and Olive.\n\nUsage: dagwood COMMAND [OPTIONS] FILE...\n\nExamples:\n",
    );
    for command in COMMANDS {
        command.examples.iter().take(2).for_each(|example| push_example(&mut out, example));
    }
    out += "\nCommands:\n";
    for command in COMMANDS {
        push_row(&mut out, command.name, command.about);
    }
    push_row(&mut out, "help COMMAND", "Say more about a command: examples, options, what to know");
    out += "\nOptions:\n";
    COMMON.iter().for_each(|opt| push_option(&mut out, opt));
    push_row(&mut out, "-V, --version", "Show the version");
    for command in COMMANDS {
        let _ = writeln!(out, "\nOptions of `{}`:", command.name);
        command.options.iter().for_each(|opt| push_option(&mut out, opt));
    }
    push_exit_codes(&mut out);
    out
}

/// Help for a command.
pub(crate) fn of(command: &Command) -> String {
    let mut out =
        format!("{}.\n\nUsage: dagwood {} {}\n\nExamples:\n", command.about, command.name, command.usage);
    command.examples.iter().for_each(|example| push_example(&mut out, example));
    out += "\nOptions:\n";
    command.options.iter().chain(COMMON).for_each(|opt| push_option(&mut out, opt));
    let _ = writeln!(out, "\n{}", command.notes);
    push_exit_codes(&mut out);
    out
}

fn push_exit_codes(out: &mut String) {
    *out += "\nExit codes:\n";
    EXIT_CODES.iter().for_each(|(code, meaning)| push_row(out, code, meaning));
}

fn push_example(out: &mut String, (line, about): &(&str, &str)) {
    let _ = writeln!(out, "  {line}\n      {about}");
}

fn push_option(out: &mut String, opt: &Opt) {
    let short = if opt.short.is_empty() { String::new() } else { format!("{}, ", opt.short) };
    let value = if opt.value.is_empty() { String::new() } else { format!(" {}", opt.value) };
    let again = if opt.is_repeatable && !opt.value.is_empty() { "; may be repeated" } else { "" };
    push_row(out, &format!("{short}{}{value}", opt.name), &format!("{}{again}", opt.about));
}

/// A name and what it is; a long explanation goes on below itself.
fn push_row(out: &mut String, name: &str, about: &str) {
    let mut line = format!("  {name:NAME_COLUMNS$}");
    for word in about.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(NAME_COLUMNS + 2);
        }
        line.push(' ');
        line += word;
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command_and_option_in_lines_of_bounded_length() {
        let general = general();
        for command in COMMANDS {
            let own = of(command);
            assert!(general.contains(&format!("\n  {} ", command.name)) && own.contains(command.usage));
            for opt in command.options {
                assert!(own.contains(opt.name) && general.contains(opt.name), "{}", opt.name);
            }
            for line in own.lines().chain(general.lines()) {
                assert!(line.chars().count() <= COLUMNS && line.trim_end() == line, "{line}");
            }
        }
    }
}
