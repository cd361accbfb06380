//! The command line: the [tables](table) of what there is, and the reader of what was given.
//!
//! ```text
//!   COMMANDS ──► help   every line of it
//!       └──────► parse ──► Matches ──► the command, which asks for values by name
//! ```
//!
//! *Guarantees.* An option that is not in its command's table does not exist, in the help or anywhere. Whatever the arguments
//! are (not UTF-8, empty, thousands of them), reading ends with [`Matches`] or with a message that says what would be
//! right. After the file of `run`, everything is the program's.

mod table;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use dagwood_opt::Strategy;

use crate::report::Failure;

pub(crate) use table::{COMMANDS, COMMON, Command, Operands, Opt};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// To run a command.
    Run(Matches),
    /// Help, of a command or of all.
    Help(Option<&'static Command>),
    /// The version.
    Version,
}

/// The arguments of a command.
#[derive(Debug)]
pub(crate) struct Matches {
    /// The command.
    pub(crate) command: &'static Command,
    /// The options in their order.
    values: Vec<(&'static Opt, OsString)>,
    /// What is no option.
    pub(crate) operands: Vec<OsString>,
}

/// Reads a command line, without the program's own name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, Failure> {
    let mut arguments = arguments.into_iter();
    let Some(first) = arguments.next() else {
        return Err(Failure::usage("no command is given", "`dagwood --help` says what there is"));
    };
    match first.as_bytes() {
        b"-h" | b"--help" => return Ok(Request::Help(None)),
        b"-V" | b"--version" => return Ok(Request::Version),
        b"help" => {
            return arguments
                .next()
                .map_or(Ok(Request::Help(None)), |name| Ok(Request::Help(Some(find_command(&name)?))));
        }
        _ => {}
    }
    let command = find_command(&first)?;
    let mut matches = Matches { command, values: Vec::new(), operands: Vec::new() };
    while let Some(argument) = arguments.next() {
        let is_option = argument.len() > 1 && argument.as_bytes()[0] == b'-';
        if argument == "--" {
            matches.operands.extend(arguments.by_ref());
        } else if is_option {
            matches.option(&argument, &mut arguments)?;
        } else {
            matches.operands.push(argument);
            if command.operands == Operands::Program {
                matches.operands.extend(arguments.by_ref());
            }
        }
    }
    if matches.has("--help") {
        return Ok(Request::Help(Some(command)));
    }
    matches.check_operands()?;
    Ok(Request::Run(matches))
}

fn find_command(name: &OsStr) -> Result<&'static Command, Failure> {
    if let Some(command) = COMMANDS.iter().find(|command| name == command.name) {
        return Ok(command);
    }
    let text = name.to_string_lossy();
    let names = COMMANDS.iter().map(|command| command.name).chain(["help", "--help", "--version"]);
    let hint = match similar(&text, names) {
        Some(close) => format!("did you mean `{close}`?"),
        None if [".wasm", ".wat", ".dag", ".olive"].iter().any(|end| text.ends_with(end)) => {
            format!("did you mean `dagwood run {text}`?")
        }
        None => {
            format!("the commands are {}", COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>().join(", "))
        }
    };
    Err(Failure::usage(format!("`{text}` is no command"), hint))
}

impl Matches {
    /// Takes an option, and its value from what follows unless it is written behind `=`.
    fn option(&mut self, argument: &OsStr, rest: &mut impl Iterator<Item = OsString>) -> Result<(), Failure> {
        let bytes = argument.as_bytes();
        let (name, attached) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) if bytes.starts_with(b"--") => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
            _ => (bytes, None),
        };
        let all = || self.command.options.iter().chain(COMMON);
        let is_named =
            |opt: &&Opt| opt.name.as_bytes() == name || !opt.short.is_empty() && opt.short.as_bytes() == name;
        let Some(opt) = all().find(is_named) else {
            return Err(self.unknown(&String::from_utf8_lossy(name)));
        };
        let value = match (opt.value.is_empty(), attached) {
            (true, None) => OsString::new(),
            (true, Some(_)) => return Err(self.usage(format!("{} takes no value", opt.name))),
            (false, Some(value)) => value.to_owned(),
            (false, None) => rest.next().ok_or_else(|| {
                self.usage(format!("{} needs a value: {} {}", opt.name, opt.name, opt.value))
            })?,
        };
        if !opt.is_repeatable && self.has(opt.name) {
            return Err(self.usage(format!("{} is given twice", opt.name)));
        }
        self.values.push((opt, value));
        Ok(())
    }

    fn unknown(&self, name: &str) -> Failure {
        let command = self.command;
        let own = command.options.iter().chain(COMMON).map(|opt| opt.name);
        let elsewhere = COMMANDS.iter().find(|other| other.options.iter().any(|opt| opt.name == name));
        let hint = match (similar(name, own), elsewhere) {
            (_, Some(other)) => format!("it is an option of `dagwood {}`", other.name),
            (Some(close), None) => format!("did you mean `{close}`?"),
            (None, None) => format!("`dagwood {} --help` lists the options", command.name),
        };
        Failure::usage(format!("`{name}` is no option of `dagwood {}`", command.name), hint)
    }

    fn check_operands(&self) -> Result<(), Failure> {
        match (self.command.operands, self.operands.as_slice()) {
            (_, []) => Err(self.usage("no file is given")),
            (Operands::File, [_, extra, ..]) => {
                Err(self.usage(format!("one file is enough; `{}` is one too many", extra.to_string_lossy())))
            }
            _ => Ok(()),
        }
    }

    /// A mistake in how the command is used.
    pub(crate) fn usage(&self, message: impl Into<String>) -> Failure {
        let Command { name, usage, .. } = self.command;
        Failure::usage(message, format!("usage: dagwood {name} {usage}"))
    }

    // ---- what was given ----

    /// Whether an option is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(opt, _)| opt.name == name)
    }

    /// The values of an option, in order.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        self.values.iter().filter(move |(opt, _)| opt.name == name).map(|(_, value)| value.as_os_str())
    }

    /// The value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.values(name).next()
    }

    /// The value of an option that is text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let text = |value: &'_ OsStr| value.to_str().map(str::len).is_some();
        match self.value(name) {
            Some(value) if !text(value) => {
                Err(self.usage(format!("the value of {name} is not UTF-8: {}", value.to_string_lossy())))
            }
            value => Ok(value.and_then(OsStr::to_str)),
        }
    }

    /// The value of an option, as `read` understands it.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match read(text) {
            Ok(value) => Ok(Some(value)),
            Err(expected) => Err(self.usage(format!("{name} takes {expected}, not `{text}`"))),
        }
    }
}

// ---- values ----

/// A count of at least one.
pub(crate) fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("a whole number of at least 1")
}

/// A number.
pub(crate) fn number(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "a whole number")
}

/// Seconds, with or without `s`, or milliseconds with `ms`. At most [`MAX_SECONDS`].
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1.0),
    };
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = number.parse::<f64>().ok().filter(|_| is_plain).map(|number| number * scale);
    let seconds = seconds.filter(|seconds| *seconds > 0.0 && *seconds <= MAX_SECONDS);
    seconds.map(Duration::from_secs_f64).ok_or("seconds (`2`, `0.5`) or milliseconds (`250ms`), more than 0")
}

/// One of the strategies.
pub(crate) fn strategy(text: &str) -> Result<&'static Strategy, &'static str> {
    Strategy::by_name(text).ok_or("`none`, `quick`, `warm`, `hot` or `scorching`")
}

/// The longest time that can be asked for: ten years, well within what clocks count.
const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

/// Bytes, or multiples of 2¹⁰, 2²⁰, 2³⁰ of them.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    let expected = "a number of bytes, or of units (`64K`, `16M`, `1G`)";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "m" | "MiB" => 20,
        "G" | "g" | "GiB" => 30,
        _ => return Err(expected),
    };
    let number: u64 = digits.parse().map_err(|_| expected)?;
    number.checked_mul(1 << shift).ok_or(expected)
}

/// The name that is most like `name`, if one is: at most a third of it, and at most 2 characters, differ.
pub(crate) fn similar<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > 64 {
        return None;
    }
    let limit = (name.trim_start_matches('-').chars().count() / 3).clamp(1, 2);
    let ranked = names.map(|other| (distance(name, other), other)).filter(|(distance, _)| *distance <= limit);
    ranked.min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

/// How many characters must be inserted, removed or changed, or neighbours swapped, to make one from the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let change = above[j] + usize::from(a != b);
            let mut best = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &[&str]) -> Result<Matches, Failure> {
        match parse(arguments.iter().map(OsString::from))? {
            Request::Run(matches) => Ok(matches),
            other => panic!("{other:?}"),
        }
    }

    fn complaint(arguments: &[&str]) -> String {
        given(arguments).expect_err("the arguments are wrong").to_string()
    }

    #[test]
    fn after_the_file_of_run_everything_is_the_programs() {
        let matches =
            given(&["run", "--dir=a", "--dir", "b::c", "x.wasm", "--interpret", "-1", "--"]).expect("right");
        assert_eq!(matches.values("--dir").collect::<Vec<_>>(), ["a", "b::c"]);
        assert_eq!(matches.operands, ["x.wasm", "--interpret", "-1", "--"]);
        assert!(!matches.has("--interpret"));
        assert_eq!(given(&["run", "--", "--odd.wasm"]).expect("right").operands, ["--odd.wasm"]);
    }

    #[test]
    fn other_commands_take_options_anywhere() {
        let matches = given(&["compile", "x.dag", "-o", "out", "--emit", "asm"]).expect("right");
        assert_eq!(matches.value("--output"), Some(OsStr::new("out")));
        assert_eq!(matches.text("--emit").expect("UTF-8"), Some("asm"));
    }

    #[test]
    fn what_is_misspelt_is_answered_with_what_was_meant() {
        assert!(complaint(&["rnu", "x"]).contains("did you mean `run`?"));
        assert!(complaint(&["run", "--interpet", "x"]).contains("did you mean `--interpret`?"));
        assert!(complaint(&["check", "--dir", "x"]).contains("an option of `dagwood run`"));
        assert!(complaint(&["x.wasm"]).contains("dagwood run x.wasm"));
        assert!(complaint(&["run", "--frobnicate", "x"]).contains("`dagwood run --help`"));
        assert!(complaint(&[]).contains("--help"));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        assert!(complaint(&["run"]).contains("no file"));
        assert!(complaint(&["run", "--env"]).contains("--env NAME=VALUE"));
        assert!(complaint(&["run", "--interpret=yes", "x"]).contains("takes no value"));
        assert!(complaint(&["run", "--fuel", "1", "--fuel", "2", "x"]).contains("given twice"));
        assert!(complaint(&["print", "a", "b"]).contains("`b` is one too many"));
    }

    #[test]
    fn numbers_have_units_and_limits() {
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("7"), Ok(7));
        assert!(["", "K", "-1", "1T", "99999999999G", "1.5M"].iter().all(|text| size(text).is_err()));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert!(
            ["", "0", "-1", "nan", "inf", "1e300", "s", "ms", "1.2.3"]
                .iter()
                .all(|text| duration(text).is_err())
        );
        assert_eq!(count("3"), Ok(3));
        assert!(["0", "-1", "x", "99999999999999999999"].iter().all(|text| count(text).is_err()));
    }

    #[test]
    fn likeness_counts_swaps_and_has_a_limit() {
        assert_eq!(distance("rnu", "run"), 1);
        assert_eq!(distance("", "run"), 3);
        assert_eq!(similar("chekc", ["run", "check"].into_iter()), Some("check"));
        assert_eq!(similar("banana", ["run", "check"].into_iter()), None);
        assert_eq!(similar(&"x".repeat(1000), ["run"].into_iter()), None);
    }

    #[test]
    fn every_option_is_named_as_options_are() {
        for opt in COMMANDS.iter().flat_map(|command| command.options).chain(COMMON) {
            assert!(opt.name.starts_with("--") && !opt.name.contains('='), "{}", opt.name);
            assert!(opt.short.is_empty() || opt.short.len() == 2, "{}", opt.name);
        }
    }
}
