//! What the bench asks of an engine, ours and the peers alike.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Why the bench cannot go on: one sentence for the user.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// The result of anything in the bench that can fail.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The failure of `what`, because of `cause`.
    pub(crate) fn because(what: impl Display, cause: impl Display) -> Failure {
        Failure(format!("{what}: {cause}"))
    }
}

/// A program to measure: a WebAssembly module without imports, which exports `run(i32) -> i64 | f64`; or one of Olive's, whose class
/// `Main` has a static method `run(int) long`.
pub(crate) struct Program {
    /// Unique among all programs of a run.
    pub(crate) name: String,
    /// The module, in binary form; or the text.
    pub(crate) code: Vec<u8>,
    /// How to build the same program natively; `None` if it is only compiled, or only known as a module.
    pub(crate) native: Option<NativeSource>,
    /// The argument of `run`; `None` for a module that is compiled and never run.
    pub(crate) n: Option<i32>,
    /// Whether its memory is indexed by 64 bits. Such programs have their own means.
    pub(crate) memory64: bool,
}

/// What a C compiler needs to know to make a child process of a program.
pub(crate) struct NativeSource {
    /// The file with `main`.
    pub(crate) main: PathBuf,
    /// Further arguments: definitions, include directories, further sources.
    pub(crate) arguments: Vec<String>,
    /// Files of ours, besides `main`, that the program is made of: if none is newer than the binary, it is kept.
    pub(crate) inputs: Vec<PathBuf>,
}

/// One call of `run`.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// The bits of the result. Equal for all engines, or the bench fails.
    pub(crate) checksum: u64,
    /// CPU time of the call.
    pub(crate) time: Duration,
}

/// One compilation of a module.
#[derive(Clone, Copy)]
pub(crate) struct Compilation {
    /// CPU time from the module's bytes to code that could be called, on one thread.
    pub(crate) time: Duration,
}

/// Something that runs programs.
pub(crate) trait Engine {
    /// The name in tables.
    fn name(&self) -> &str;

    /// How it checks memory accesses, guards against speculation and can be interrupted: one line.
    fn policy(&self) -> &str;

    /// A fresh instance of `program`, from freshly compiled code; `None` if the engine cannot run this program.
    fn instantiate(&self, program: &Program) -> Result<Option<Box<dyn Instance>>>;

    /// Compiles a module and throws the code away; `None` where compile time cannot be compared.
    fn compile(&self, _code: &[u8]) -> Result<Option<Compilation>> {
        Ok(None)
    }
}

/// A program that is ready to be called.
pub(crate) trait Instance {
    /// Calls `run(n)` and takes the time.
    fn run(&mut self, n: i32) -> Result<Sample>;
}

/// Runs `work` and takes the CPU time that this thread spent in it.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = thread_time();
    let value = work();
    (value, thread_time().saturating_sub(start))
}

/// The CPU time that this thread has spent so far.
pub(crate) fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
