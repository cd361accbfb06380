//! What the embedder grants a program, and the checks before it starts.
//!
//! *Guarantees.* A program is granted nothing by default: no arguments, no environment, no directory, streams that
//! are empty and swallow. [`WasiConfig`] collects; the first wrong item is reported, with its place, when
//! [`Wasi::new`] opens it all.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};

use super::Wasi;
use super::descriptor::{Descriptor, Descriptors};
use super::path::{self, MAX_PATH_BYTES};
use super::stdio::Stdio;
use super::types::rights;
use super::wait::Interrupt;

/// Most bytes that all arguments, or all of the environment, may take together, NULs included.
pub const MAX_STRINGS_BYTES: usize = 16 << 20;

/// The names of the standard streams, by descriptor.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// What a program may do below a preopened directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look and read.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// Who resolves a path beneath its directory; both find the same files and the same escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The kernel, by `openat2` with `RESOLVE_BENEATH`: atomic, one system call.
    Kernel,
    /// We, component by component without following links, where the kernel or a sandbox around us lacks
    /// `openat2`.
    Walk,
}

/// The grants of one program; [`Wasi::new`] makes them real.
pub struct WasiConfig {
    args: Vec<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    preopens: Vec<Preopen>,
    streams: [Stdio; 3],
    resolution: Option<Resolution>,
    interrupt: Interrupt,
}

/// A directory of the host and the program's name for it.
struct Preopen {
    host: PathBuf,
    guest: Vec<u8>,
    access: Access,
}

/// Why a program cannot be given what its [`WasiConfig`] says.
#[derive(Debug)]
pub enum WasiError {
    /// An argument, variable or directory name holds a NUL, or a variable's name is empty or holds `=`.
    BadString {
        /// What it is: `argument`, `variable` or `directory`.
        what: &'static str,
        /// Its place in the list, from 0.
        index: usize,
    },
    /// The arguments or variables together, or a directory name, are longer than the limit.
    TooLong {
        /// What it is.
        what: &'static str,
        /// The limit.
        limit_bytes: usize,
    },
    /// More directories than descriptors.
    TooManyPreopens,
    /// The directory cannot be opened.
    Preopen {
        /// Its path on the host.
        host: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// The standard stream cannot be used.
    Stream {
        /// `stdin`, `stdout` or `stderr`.
        name: &'static str,
        /// What the host says.
        source: io::Error,
    },
}

impl Default for WasiConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl WasiConfig {
    /// Nothing granted.
    #[must_use]
    pub fn new() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            preopens: Vec::new(),
            streams: [Stdio::Null, Stdio::Null, Stdio::Null],
            resolution: None,
            interrupt: Interrupt::never(),
        }
    }

    /// Adds an argument; by custom the first is the program's name.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments in their order.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Grants the directory `host` and everything beneath it under the name `guest`.
    #[must_use]
    pub fn preopen(mut self, host: impl Into<PathBuf>, guest: impl Into<Vec<u8>>, access: Access) -> Self {
        self.preopens.push(Preopen { host: host.into(), guest: guest.into(), access });
        self
    }

    /// Where the program reads from.
    #[must_use]
    pub fn stdin(mut self, stream: Stdio) -> Self {
        self.streams[0] = stream;
        self
    }

    /// Where the program writes to. What the embedder itself has buffered for the same stream is its to flush.
    #[must_use]
    pub fn stdout(mut self, stream: Stdio) -> Self {
        self.streams[1] = stream;
        self
    }

    /// Where the program complains to.
    #[must_use]
    pub fn stderr(mut self, stream: Stdio) -> Self {
        self.streams[2] = stream;
        self
    }

    /// Resolves paths this way. Without it the kernel does if it can.
    #[must_use]
    pub fn resolution(mut self, resolution: Resolution) -> Self {
        self.resolution = Some(resolution);
        self
    }

    /// Asks `interrupted` whether to give up, before each wait and at least every
    /// [`WAIT_SLICE`](super::WAIT_SLICE) during one. Sleeps, reads and writes of streams, polls and long transfers
    /// then end with [`CallError::Interrupted`](super::CallError::Interrupted). Without it, waits are plain system
    /// calls. A deadline is `move || Instant::now() >= deadline`.
    #[must_use]
    pub fn interrupt(mut self, interrupted: impl Fn() -> bool + Send + 'static) -> Self {
        self.interrupt = Interrupt::new(Box::new(interrupted));
        self
    }

    /// Opens everything, in the order of the descriptors.
    pub(super) fn open(self) -> Result<Wasi, WasiError> {
        let args = Strings::new("argument", self.args.into_iter())?;
        let env = Strings::new("variable", join_variables(self.env)?.into_iter())?;
        let mut descriptors = Descriptors::default();
        for (index, stream) in self.streams.into_iter().enumerate() {
            let right = if index == 0 { rights::FD_READ } else { rights::FD_WRITE };
            let name = STREAMS[index];
            let descriptor = stream
                .inherit(index)
                .and_then(|stream| Descriptor::of_stream(stream, right))
                .map_err(|errno| WasiError::Stream { name, source: errno.into() })?;
            descriptors.insert(descriptor).map_err(|_| WasiError::TooManyPreopens)?;
        }
        let mut resolution = self.resolution.unwrap_or(Resolution::Kernel);
        for (index, preopen) in self.preopens.into_iter().enumerate() {
            let (descriptor, found) = preopen.open(index)?;
            if self.resolution.is_none() && found == Resolution::Walk {
                resolution = found;
            }
            descriptors.insert(descriptor).map_err(|_| WasiError::TooManyPreopens)?;
        }
        Ok(Wasi { args, env, descriptors, resolution, interrupt: self.interrupt })
    }
}

impl Preopen {
    /// Opens the directory and finds out who can resolve paths beneath it.
    fn open(self, index: usize) -> Result<(Descriptor, Resolution), WasiError> {
        if self.guest.contains(&0) {
            return Err(WasiError::BadString { what: "directory", index });
        }
        if self.guest.len() > MAX_PATH_BYTES {
            return Err(WasiError::TooLong { what: "directory", limit_bytes: MAX_PATH_BYTES });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory: OwnedFd = rustix::fs::openat(CWD, &self.host, flags, Mode::empty())
            .map_err(|errno| WasiError::Preopen { host: self.host, source: errno.into() })?;
        let resolution = path::resolution_of(&directory);
        Ok((Descriptor::of_preopen(directory, self.guest, self.access), resolution))
    }
}

/// `NAME=value` for each variable.
fn join_variables(variables: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<Vec<u8>>, WasiError> {
    let join = |(index, (mut name, value)): (usize, (Vec<u8>, Vec<u8>))| {
        if name.is_empty() || name.contains(&b'=') {
            return Err(WasiError::BadString { what: "variable", index });
        }
        name.push(b'=');
        name.extend_from_slice(&value);
        Ok(name)
    };
    variables.into_iter().enumerate().map(join).collect()
}

/// A list of strings as the program receives it: the bytes, each string ended by a NUL, and where each starts.
pub(super) struct Strings {
    pub(super) bytes: Vec<u8>,
    pub(super) starts: Vec<u32>,
}

impl Strings {
    fn new(what: &'static str, strings: impl Iterator<Item = Vec<u8>>) -> Result<Self, WasiError> {
        let mut list = Self { bytes: Vec::new(), starts: Vec::new() };
        for (index, string) in strings.enumerate() {
            if string.contains(&0) {
                return Err(WasiError::BadString { what, index });
            }
            if list.bytes.len() + string.len() + 1 > MAX_STRINGS_BYTES {
                return Err(WasiError::TooLong { what, limit_bytes: MAX_STRINGS_BYTES });
            }
            list.starts.push(list.length());
            list.bytes.extend_from_slice(&string);
            list.bytes.push(0);
        }
        Ok(list)
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.starts.len()).expect("each string takes a byte of at most MAX_STRINGS_BYTES")
    }

    pub(super) fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("at most MAX_STRINGS_BYTES")
    }
}

impl fmt::Debug for WasiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasiConfig").field("args", &self.args.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for WasiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadString { what: "variable", index } => {
                write!(f, "variable {index} has a NUL, or a name that is empty or has a `=`")
            }
            Self::BadString { what, index } => write!(f, "{what} {index} has a NUL"),
            Self::TooLong { what, limit_bytes } => {
                write!(f, "the {what} list takes more than the {limit_bytes} bytes it may")
            }
            Self::TooManyPreopens => write!(f, "more directories than a program can have open"),
            Self::Preopen { host, source } => {
                write!(f, "cannot open the directory {}: {source}", host.display())
            }
            Self::Stream { name, source } => write!(f, "cannot use {name}: {source}"),
        }
    }
}

impl std::error::Error for WasiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Preopen { source, .. } | Self::Stream { source, .. } => Some(source),
            _ => None,
        }
    }
}
