//! What both sorts of program, WebAssembly and IL, are run with, and how running them ends.

use std::num::NonZeroUsize;
use std::time::Duration;

use dagwood_codegen::Features;
use dagwood_il::eval::Value;
use dagwood_il::{RaiseKind, Signature, Type};
use dagwood_opt::Strategy;
use dagwood_runtime::codespace::{Gdb, Observing};
use dagwood_runtime::compiler::Verify;
use dagwood_runtime::fault::install_fault_handler;
use dagwood_runtime::jit;

use crate::args::{self, Matches};
use crate::report::Failure;

/// Which engine runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Machine code.
    Native,
    /// The reference interpreter.
    Interpreter,
}

impl Engine {
    /// The one that the options ask for.
    pub(crate) fn chosen(matches: &Matches) -> Engine {
        if matches.has("--interpret") { Engine::Interpreter } else { Engine::Native }
    }
}

/// How much a program may use, and who sees its code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// How many steps; what a step is, the engine says.
    pub(crate) fuel: Option<u64>,
    /// How long.
    pub(crate) timeout: Option<Duration>,
    /// How many bytes of memory.
    pub(crate) max_memory: Option<u64>,
    /// On how many threads to compile; as many as there are cores if not given.
    pub(crate) threads: Option<NonZeroUsize>,
    /// How to optimize; not at all if not given.
    pub(crate) strategy: Option<&'static Strategy>,
    /// How many rewrites are allowed.
    pub(crate) opt_limit: Option<u64>,
    /// Which profilers and debuggers see machine code.
    pub(crate) observe: Observing,
}

/// The most threads that can be asked for.
const MAX_THREADS: usize = 1024;

impl Limits {
    /// The limits that the options ask for.
    pub(crate) fn read(matches: &Matches) -> Result<Limits, Failure> {
        let threads = matches.read("--threads", |text| {
            let threads = text.parse().ok().filter(|threads: &NonZeroUsize| threads.get() <= MAX_THREADS);
            threads.ok_or("a number from 1 to 1024")
        })?;
        let jitdump = matches.value("--jitdump");
        if jitdump.is_some_and(|directory| directory.is_empty()) {
            return Err(matches.usage("--jitdump takes a directory, not ``"));
        }
        Ok(Limits {
            fuel: matches.read("--fuel", args::count)?,
            timeout: matches.read("--timeout", args::duration)?,
            max_memory: matches.read("--max-memory", args::size)?,
            threads,
            strategy: matches.read("--strategy", args::strategy)?,
            opt_limit: matches.read("--opt-limit", args::number)?,
            observe: Observing {
                perf_map: matches.has("--perf-map").then(|| Observing::PERF_MAP_DIRECTORY.into()),
                jitdump: jitdump.map(Into::into),
                gdb: if matches.has("--gdb") { Gdb::Registered } else { Gdb::Off },
            },
        })
    }

    /// Whether a program must be able to stop where it polls.
    pub(crate) fn ask_for_polls(&self) -> bool {
        self.fuel.is_some() || self.timeout.is_some()
    }

    /// How to compile, once machine faults have been made errors.
    pub(crate) fn jit_options(&self) -> Result<jit::Options, Failure> {
        install_fault_handler().map_err(|error| Failure::Failed(error.to_string()))?;
        // Modules come well-formed from their lowering, and IL is verified before it gets here.
        let default =
            jit::Options { features: Features::Host, verify: Verify::Off, ..jit::Options::default() };
        let threads = self.threads.unwrap_or(default.threads);
        let strategy = self.strategy.unwrap_or(default.strategy);
        let optimizer = dagwood_opt::Options { rewrite_limit: self.opt_limit, ..default.optimizer.clone() };
        Ok(jit::Options { threads, strategy, optimizer, observe: self.observe.clone(), ..default })
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// With results.
    Values(Vec<Shown>),
    /// With the program's own exit code.
    Exit(u32),
    /// With a trap, or because a limit was reached.
    Trap(Trap),
}

/// A result.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// What engines are compared by.
    pub(crate) value: Value,
    /// What is printed: its type and the value.
    pub(crate) text: String,
}

impl From<Value> for Shown {
    fn from(value: Value) -> Shown {
        Shown { value, text: value.to_string() }
    }
}

/// What nobody caught.
#[derive(Clone, Debug)]
pub(crate) struct Trap {
    /// Its kind.
    pub(crate) kind: RaiseKind,
    /// What tells traps of one kind apart.
    pub(crate) reason: u16,
    /// What happened, and the backtrace below it.
    pub(crate) text: String,
}

impl Ended {
    /// Whether both are the same, NaN payloads aside; none if a limit kept one of them from ending by itself, since
    /// the engines count their steps differently.
    pub(crate) fn agrees(&self, other: &Ended) -> Option<bool> {
        let is_limited = |ended: &Ended| match ended {
            Ended::Trap(trap) => matches!(trap.kind, RaiseKind::Interrupt | RaiseKind::StackOverflow),
            _ => false,
        };
        match (self, other) {
            _ if is_limited(self) || is_limited(other) => None,
            (Ended::Values(left), Ended::Values(right)) => {
                let are_same = |(left, right): (&Shown, &Shown)| left.value.same_modulo_nan(right.value);
                Some(left.len() == right.len() && left.iter().zip(right).all(are_same))
            }
            (Ended::Exit(left), Ended::Exit(right)) => Some(left == right),
            (Ended::Trap(left), Ended::Trap(right)) => {
                Some((left.kind, left.reason) == (right.kind, right.reason))
            }
            _ => Some(false),
        }
    }

    /// Whether a limit of fuel or time ended it.
    pub(crate) fn is_out_of_fuel(&self) -> bool {
        matches!(self, Ended::Trap(trap) if trap.kind == RaiseKind::Interrupt)
    }

    /// In one line.
    pub(crate) fn summary(&self) -> String {
        match self {
            Ended::Values(values) if values.is_empty() => "no results".into(),
            Ended::Values(values) => {
                let values: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
                values.join(", ")
            }
            Ended::Exit(code) => format!("exit code {code}"),
            Ended::Trap(trap) => format!("trap: {}", trap.text.lines().next().unwrap_or_default()),
        }
    }
}

/// How many different lines of a backtrace are shown.
const MAX_FRAMES: usize = 32;

/// What happened, and below it the backtrace: a line once, with how often it is repeated, and how much is left out.
pub(crate) fn with_backtrace(text: &str, frames: &[String], omitted: u64) -> String {
    let mut out = text.to_owned();
    let mut shown = 0;
    for run in frames.chunk_by(|left, right| left == right).take(MAX_FRAMES) {
        shown += run.len();
        out += &format!("\n  in {}", run[0]);
        if run.len() > 1 {
            out += &format!(", {} times", run.len());
        }
    }
    match omitted + (frames.len() - shown) as u64 {
        0 => out,
        more => out + &format!("\n  and {more} more"),
    }
}

/// A signature, as the IL writes it.
pub(crate) fn signature(signature: &Signature) -> String {
    let names = |types: &[Type]| types.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ");
    format!("({}) -> ({})", names(&signature.params), names(&signature.results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_says_a_repeated_line_once_and_is_bounded() {
        let frames = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            with_backtrace("t", &frames(&["a", "b", "b", "a"]), 7),
            "t\n  in a\n  in b, 2 times\n  in a\n  and 7 more"
        );
        let many: Vec<String> = (0..100).map(|index: u32| index.to_string()).collect();
        let text = with_backtrace("t", &many, 0);
        assert!(text.lines().count() == MAX_FRAMES + 2 && text.ends_with("and 68 more"));
    }

    #[test]
    fn results_agree_modulo_nan_and_limits_decide_nothing() {
        let values = |bits| Ended::Values(vec![Value::from_bits(Type::F32, bits).into()]);
        let trap = |kind, text: &str| Ended::Trap(Trap { kind, reason: 0, text: text.into() });
        assert_eq!(values(0x7fc0_0000).agrees(&values(0xffc0_0001)), Some(true));
        assert_eq!(values(0).agrees(&values(1)), Some(false));
        assert_eq!(values(0).agrees(&Ended::Exit(0)), Some(false));
        assert_eq!(trap(RaiseKind::Bounds, "a").agrees(&trap(RaiseKind::Bounds, "b")), Some(true));
        assert_eq!(trap(RaiseKind::Bounds, "a").agrees(&trap(RaiseKind::Null, "a")), Some(false));
        assert_eq!(trap(RaiseKind::Interrupt, "a").agrees(&values(0)), None);
    }
}
