//! WASI preview 1: what a command-line program asks of the system.
//!
//! ```text
//!  engine (interpreter or native code)
//!    │  call(function, raw arguments, memory)
//!    ▼
//!  table ──► process  arguments, environment, exit, random        ┐
//!        ├─► clock, poll  time, sleeping, waiting for streams     │ memory: checked guest pointers
//!        ├─► io, fd   descriptors: read, write, seek, stat, list  │ errno, types: numbers and records
//!        └─► fs ──► path  files by name, beneath a directory      ┘
//! ```
//!
//! *Why its own interface.* [`Wasi::call`] knows raw values and a slice of bytes, nothing of modules, IL or machine
//! code. Both engines therefore share one implementation and one state, and tests need no program.
//!
//! *Guarantees.* All 46 functions of `wasi_snapshot_preview1` are rows of [`FUNCTIONS`]; those that make no sense
//! here (sockets, signals) answer `notsup`. No argument panics, hangs beyond the [interrupt](WasiConfig::interrupt),
//! or takes memory beyond the named limits. Nothing outside a preopened directory is opened, changed, or even
//! asked about (`path` says how). Where a result goes into memory, the pointer is checked before the host is touched.
//!
//! *Errors* are the program's business and come as [`Errno`]. A missing right is `badf` for reading and writing, as
//! POSIX says, `spipe` for the position of a stream without one, and `notcapable` for everything else.
//!
//! ```
//! use dagwood_wasm::wasi::{self, Buffer, Outcome, Stdio, Wasi, WasiConfig};
//!
//! let output = Buffer::new();
//! let config = WasiConfig::new().arg("hello").stdout(Stdio::Buffer(output.clone()));
//! let mut wasi = Wasi::new(config)?;
//! let mut memory = vec![0; 64];
//! memory[0..4].copy_from_slice(&16u32.to_le_bytes()); // one iovec: 5 bytes at 16
//! memory[4..8].copy_from_slice(&5u32.to_le_bytes());
//! memory[16..21].copy_from_slice(b"hello");
//! let fd_write = wasi::function_index("fd_write").expect("a function of preview 1");
//! assert_eq!(wasi.call(fd_write, &[1, 0, 1, 8], &mut memory)?, Outcome::Errno(wasi::Errno::Success));
//! assert_eq!(output.contents(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod config;
mod descriptor;
mod errno;
mod fd;
mod fs;
mod io;
mod link;
mod memory;
mod path;
mod poll;
mod process;
mod stdio;
mod table;
mod types;
mod wait;

use std::fmt;

pub use config::{Access, MAX_STRINGS_BYTES, Resolution, WasiConfig, WasiError};
pub use descriptor::MAX_DESCRIPTORS;
pub use errno::Errno;
pub use link::define;
pub use memory::MAX_IOVECS;
pub use path::{MAX_DEPTH, MAX_PATH_BYTES, MAX_SYMLINKS};
pub use poll::MAX_SUBSCRIPTIONS;
pub use stdio::{BUFFER_LIMIT_BYTES, Buffer, Stdio};
pub use table::{FUNCTIONS, Function, function_index};
pub use wait::WAIT_SLICE;

use config::Strings;
use descriptor::Descriptors;
use memory::Memory;
use table::{Args, Stop};
use wait::Interrupt;

/// The module name under which programs import the functions.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// The system as one program sees it: its arguments, its open descriptors, its directories.
pub struct Wasi {
    args: Strings,
    env: Strings,
    descriptors: Descriptors,
    resolution: Resolution,
    interrupt: Interrupt,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned; the number is its only result.
    Errno(Errno),
    /// The program asked to end with this code (`proc_exit`).
    Exit(u32),
}

/// Why a call gave the program no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// [`FUNCTIONS`] has no row of this index.
    NoSuchFunction {
        /// The index asked for.
        index: usize,
    },
    /// The number of arguments is not that of the function's parameters.
    ArgumentCount {
        /// The function.
        function: &'static str,
        /// How many parameters it has.
        expected: usize,
        /// How many arguments came.
        found: usize,
    },
    /// The [interrupt](WasiConfig::interrupt) said to stop; what was transferred until then is done.
    Interrupted,
}

impl Wasi {
    /// Opens what `config` names: standard streams become descriptors 0 to 2, preopened directories follow from 3
    /// in their order.
    ///
    /// # Errors
    /// Where a string cannot be passed on, a directory cannot be opened or a stream is closed.
    pub fn new(config: WasiConfig) -> Result<Self, WasiError> {
        config.open()
    }

    /// Calls the function of this index in [`FUNCTIONS`] with its raw arguments (an `i32` is zero-extended; its
    /// upper half is ignored) on the program's memory.
    ///
    /// # Errors
    /// Where the call itself is wrong, or where the interrupt stopped it. What the program does wrong is an
    /// [`Outcome::Errno`].
    pub fn call(
        &mut self,
        function_index: usize,
        args: &[u64],
        memory: &mut [u8],
    ) -> Result<Outcome, CallError> {
        let function =
            FUNCTIONS.get(function_index).ok_or(CallError::NoSuchFunction { index: function_index })?;
        if args.len() != function.params.len() {
            return Err(CallError::ArgumentCount {
                function: function.name,
                expected: function.params.len(),
                found: args.len(),
            });
        }
        match function.run(self, Args::new(args), &mut Memory::new(memory)) {
            Ok(()) => Ok(Outcome::Errno(Errno::Success)),
            Err(Stop::Errno(errno)) => Ok(Outcome::Errno(errno)),
            Err(Stop::Exit(code)) => Ok(Outcome::Exit(code)),
            Err(Stop::Interrupted) => Err(CallError::Interrupted),
        }
    }
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi").field("descriptors", &self.descriptors).finish_non_exhaustive()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchFunction { index } => {
                write!(f, "{MODULE} has {} functions, none has index {index}", FUNCTIONS.len())
            }
            Self::ArgumentCount { function, expected, found } => {
                write!(f, "{function} takes {expected} arguments, {found} were given")
            }
            Self::Interrupted => write!(f, "interrupted while waiting for the system"),
        }
    }
}

impl std::error::Error for CallError {}
