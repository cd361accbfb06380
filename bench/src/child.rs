//! Engines that cannot live in this process: native code from a C compiler, and V8 in node.
//!
//! Both are children that say `ready` (or `unsupported`), then read an `n` a line and answer with the checksum's bits in
//! hexadecimal and the CPU time of the call in nanoseconds, so that starting a process is never part of a figure.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::engine::{Engine, Failure, Instance, NativeSource, Program, Result, Sample};
use crate::kernels::{is_fresh, output_directory};

/// A C compiler's optimised native code.
struct Native {
    compiler: &'static Compiler,
    is_vectorised: bool,
}

/// A C compiler that is looked for.
struct Compiler {
    command: &'static str,
    /// What its code is called, as it comes and without vectors.
    name: &'static str,
    scalar_name: &'static str,
    /// What keeps it from using vectors.
    scalar: &'static [&'static str],
}

/// What clang's code without vectors is called in goals.
pub(crate) const CLANG_SCALAR: &str = "clang -O2 scalar";

const fn clang(command: &'static str) -> Compiler {
    let scalar = &["-fno-vectorize", "-fno-slp-vectorize"];
    Compiler { command, name: "clang -O2", scalar_name: CLANG_SCALAR, scalar }
}

/// The C compilers that are looked for, best known first.
const COMPILERS: &[Compiler] = &[
    clang("clang"),
    clang("clang-19"),
    Compiler {
        command: "gcc",
        name: "gcc -O2",
        scalar_name: "gcc -O2 scalar",
        scalar: &["-fno-tree-vectorize"],
    },
];

/// The native peers of this machine, if there is a compiler: its code with vectors, and without.
pub(crate) fn native() -> Vec<Box<dyn Engine>> {
    let compiler = COMPILERS.iter().find(|compiler| answers(compiler.command, &["--version"]));
    let both = |compiler| [true, false].map(|is_vectorised| Native { compiler, is_vectorised });
    let engines = compiler.into_iter().flat_map(both);
    engines.map(|native| Box::new(native) as Box<dyn Engine>).collect()
}

/// Whether `program arguments` can be started and succeeds.
pub(crate) fn answers(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Engine for Native {
    fn name(&self) -> &str {
        if self.is_vectorised { self.compiler.name } else { self.compiler.scalar_name }
    }

    fn policy(&self) -> &str {
        match self.is_vectorised {
            true => {
                "native code of the same C, vectorised where the compiler can: no checks, no masking, no polls"
            }
            false => "the same, not vectorised",
        }
    }

    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>> {
        let Some(source) = &program.native else { return Ok(None) };
        let extension = self.name().replace(' ', "");
        let binary = output_directory()?.join(format!("{}.{extension}", program.name));
        if !is_fresh(&binary, &source.inputs) || !is_fresh(&binary, std::slice::from_ref(&source.main)) {
            self.build(source, &binary)?;
        }
        Conversation::start(&mut Command::new(&binary), &program.name)
    }
}

impl Native {
    fn build(&self, source: &NativeSource, binary: &Path) -> Result<()> {
        let compiler = self.compiler.command;
        let mut command = Command::new(compiler);
        command.args(["-std=gnu11", "-O2", "-w", "-fno-math-errno", "-ffp-contract=off"]);
        command.args(if self.is_vectorised { &[] } else { self.compiler.scalar });
        command.args(&source.arguments).arg(&source.main).arg("-o").arg(binary).arg("-lm");
        let status = command.status().map_err(|error| Failure::because(compiler, error))?;
        if !status.success() {
            return Err(Failure::because(format!("{compiler} cannot build {}", binary.display()), status));
        }
        Ok(())
    }
}

/// V8 with its optimising compiler only, in one of its two ways of checking.
struct Node {
    name: &'static str,
    policy: &'static str,
    flags: Vec<&'static str>,
}

const NODE_SCRIPT: &str = include_str!("node.mjs");

/// What every V8 is asked for: no baseline code in the figures, and 64-bit memories where they are an option yet.
const NODE_FLAGS: &[&str] = &["--no-liftoff", "--no-wasm-lazy-compilation", "--experimental-wasm-memory64"];

/// V8 where node is installed; with `quick` only in its default mode.
pub(crate) fn node(quick: bool) -> Vec<Box<dyn Engine>> {
    if !answers("node", &["--version"]) {
        return Vec::new();
    }
    let understood = |flag: &&&str| answers("node", &[flag, "--version"]);
    let flags: Vec<&str> = NODE_FLAGS.iter().filter(understood).copied().collect();
    let explicit = "--wasm-enforce-bounds-checks";
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(Node {
        name: "node",
        policy: "V8, optimising tier only: guard pages, not masked; polls at loop heads as V8 always has them",
        flags: flags.clone(),
    })];
    if !quick && answers("node", &[explicit, "--version"]) {
        engines.push(Box::new(Node {
            name: "node explicit",
            policy: "V8, optimising tier only: compare and branch at every access, not masked; polls as above",
            flags: [flags, vec![explicit]].concat(),
        }));
    }
    engines
}

/// Writes `content` to a file of the bench's own and says where it is.
fn written(file: &str, content: &[u8]) -> Result<PathBuf> {
    let path = output_directory()?.join(file);
    std::fs::write(&path, content).map_err(|error| Failure::because(path.display(), error))?;
    Ok(path)
}

impl Engine for Node {
    fn name(&self) -> &str {
        self.name
    }

    fn policy(&self) -> &str {
        self.policy
    }

    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>> {
        let script = written("node.mjs", NODE_SCRIPT.as_bytes())?;
        let module = written(&format!("{}.wasm", program.name), &program.code)?;
        let mut command = Command::new("node");
        command.args(&self.flags).arg(script).arg(module);
        Conversation::start(&mut command, &program.name)
    }
}

/// A child process that answers questions about one program.
struct Conversation {
    what: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Conversation {
    /// Starts a child; `None` if it says that it cannot run this program.
    fn start(command: &mut Command, program: &str) -> Result<Option<Box<dyn Instance>>> {
        let what = format!("{program} in {}", Path::new(command.get_program()).display());
        let broken = |error| Failure::because(&what, error);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(broken)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (questions, answers) = pipes.ok_or_else(|| Failure(format!("{what} has no pipes")))?;
        let mut conversation = Conversation { what, child, questions, answers: BufReader::new(answers) };
        match conversation.listen()?.as_str() {
            "ready" => Ok(Some(Box::new(conversation))),
            "unsupported" => Ok(None),
            other => Err(Failure(format!("{} says {other:?} instead of being ready", conversation.what))),
        }
    }

    fn listen(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| Failure::because(&self.what, error))?;
        Ok(line.trim().to_owned())
    }
}

impl Instance for Conversation {
    fn run(&mut self, n: i32) -> Result<Sample> {
        writeln!(self.questions, "{n}").map_err(|error| Failure::because(&self.what, error))?;
        let answer = self.listen()?;
        let sample = answer.split_once(' ').and_then(|(checksum, nanoseconds)| {
            let checksum = u64::from_str_radix(checksum, 16).ok()?;
            Some(Sample { checksum, time: Duration::from_nanos(nanoseconds.parse().ok()?) })
        });
        sample.ok_or_else(|| {
            Failure(format!("{} answers {answer:?} instead of a checksum and a time", self.what))
        })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // A child that has ended already cannot be killed, and nothing is left to do about one that will not end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
