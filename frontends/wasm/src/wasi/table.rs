//! The functions of preview 1: one row says name, parameters, results and who does it.

use rustix::io::Errno as HostErrno;
use wasmparser::ValType::{self, I32, I64};

use super::errno::Errno;
use super::memory::Memory;
use super::{Wasi, clock, fd, fs, io, poll, process};

/// A function that programs import from [`MODULE`](super::MODULE).
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// The name it is imported by.
    pub name: &'static str,
    /// The types of its parameters.
    pub params: &'static [ValType],
    /// The types of its results: an `i32` with the [`Errno`], or nothing where it does not return.
    pub results: &'static [ValType],
    handler: Handler,
}

/// Does what a row says. Arguments are as many as the row's parameters.
type Handler = fn(&mut Wasi, Args<'_>, &mut Memory<'_>) -> Result<(), Stop>;

/// Why a function ended without success.
#[derive(Debug)]
pub(super) enum Stop {
    /// The program is told.
    Errno(Errno),
    /// The program is over.
    Exit(u32),
    /// The embedder wants it to be over.
    Interrupted,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<HostErrno> for Stop {
    fn from(errno: HostErrno) -> Self {
        Self::Errno(errno.into())
    }
}

/// The raw arguments of one call.
#[derive(Clone, Copy)]
pub(super) struct Args<'a>(&'a [u64]);

impl<'a> Args<'a> {
    pub(super) fn new(raw: &'a [u64]) -> Self {
        Self(raw)
    }

    /// All arguments, of a function that has `i64` parameters too.
    pub(super) fn raw<const N: usize>(self) -> [u64; N] {
        self.0.try_into().expect("a handler takes as many arguments as its row has parameters")
    }

    /// All arguments, of a function whose parameters are all `i32`.
    pub(super) fn words<const N: usize>(self) -> [u32; N] {
        self.raw().map(|raw| raw as u32)
    }
}

impl Function {
    pub(super) fn run(&self, wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
        (self.handler)(wasi, args, memory)
    }
}

/// The index in [`FUNCTIONS`] of the function of this name.
#[must_use]
pub fn function_index(name: &str) -> Option<usize> {
    FUNCTIONS.iter().position(|function| function.name == name)
}

/// A row of a function that returns an error number.
const fn row(name: &'static str, params: &'static [ValType], handler: Handler) -> Function {
    Function { name, params, results: &[I32], handler }
}

/// All functions of preview 1. Comments name the parameters.
pub const FUNCTIONS: &[Function] = &[
    // pointers, bytes
    row("args_get", &[I32, I32], process::args_get),
    // out count, out length
    row("args_sizes_get", &[I32, I32], process::args_sizes_get),
    row("environ_get", &[I32, I32], process::environ_get),
    row("environ_sizes_get", &[I32, I32], process::environ_sizes_get),
    // clock, out resolution
    row("clock_res_get", &[I32, I32], clock::clock_res_get),
    // clock, precision, out time
    row("clock_time_get", &[I32, I64, I32], clock::clock_time_get),
    // fd, offset, length, advice
    row("fd_advise", &[I32, I64, I64, I32], fd::fd_advise),
    // fd, offset, length
    row("fd_allocate", &[I32, I64, I64], fd::fd_allocate),
    row("fd_close", &[I32], fd::fd_close),
    row("fd_datasync", &[I32], fd::fd_datasync),
    // fd, out fdstat
    row("fd_fdstat_get", &[I32, I32], fd::fd_fdstat_get),
    // fd, flags
    row("fd_fdstat_set_flags", &[I32, I32], fd::fd_fdstat_set_flags),
    // fd, base, inheriting
    row("fd_fdstat_set_rights", &[I32, I64, I64], fd::fd_fdstat_set_rights),
    // fd, out filestat
    row("fd_filestat_get", &[I32, I32], fd::fd_filestat_get),
    // fd, size
    row("fd_filestat_set_size", &[I32, I64], fd::fd_filestat_set_size),
    // fd, access time, modification time, which
    row("fd_filestat_set_times", &[I32, I64, I64, I32], fd::fd_filestat_set_times),
    // fd, iovecs, count, offset, out length
    row("fd_pread", &[I32, I32, I32, I64, I32], io::fd_pread),
    // fd, out prestat
    row("fd_prestat_get", &[I32, I32], fd::fd_prestat_get),
    // fd, out name, length
    row("fd_prestat_dir_name", &[I32, I32, I32], fd::fd_prestat_dir_name),
    // fd, iovecs, count, offset, out length
    row("fd_pwrite", &[I32, I32, I32, I64, I32], io::fd_pwrite),
    // fd, iovecs, count, out length
    row("fd_read", &[I32, I32, I32, I32], io::fd_read),
    // fd, buffer, length, cookie, out length
    row("fd_readdir", &[I32, I32, I32, I64, I32], fd::fd_readdir),
    // from, to
    row("fd_renumber", &[I32, I32], fd::fd_renumber),
    // fd, offset, whence, out position
    row("fd_seek", &[I32, I64, I32, I32], io::fd_seek),
    row("fd_sync", &[I32], fd::fd_sync),
    // fd, out position
    row("fd_tell", &[I32, I32], io::fd_tell),
    // fd, iovecs, count, out length
    row("fd_write", &[I32, I32, I32, I32], io::fd_write),
    // fd, path, length
    row("path_create_directory", &[I32, I32, I32], fs::path_create_directory),
    // fd, lookup flags, path, length, out filestat
    row("path_filestat_get", &[I32, I32, I32, I32, I32], fs::path_filestat_get),
    // fd, lookup flags, path, length, access time, modification time, which
    row("path_filestat_set_times", &[I32, I32, I32, I32, I64, I64, I32], fs::path_filestat_set_times),
    // old fd, lookup flags, old path, length, new fd, new path, length
    row("path_link", &[I32, I32, I32, I32, I32, I32, I32], fs::path_link),
    // fd, lookup flags, path, length, open flags, base, inheriting, fd flags, out fd
    row("path_open", &[I32, I32, I32, I32, I32, I64, I64, I32, I32], fs::path_open),
    // fd, path, length, buffer, length, out length
    row("path_readlink", &[I32, I32, I32, I32, I32, I32], fs::path_readlink),
    row("path_remove_directory", &[I32, I32, I32], fs::path_remove_directory),
    // old fd, old path, length, new fd, new path, length
    row("path_rename", &[I32, I32, I32, I32, I32, I32], fs::path_rename),
    // target, length, fd, path, length
    row("path_symlink", &[I32, I32, I32, I32, I32], fs::path_symlink),
    row("path_unlink_file", &[I32, I32, I32], fs::path_unlink_file),
    // subscriptions, out events, count, out count
    row("poll_oneoff", &[I32, I32, I32, I32], poll::poll_oneoff),
    // code
    Function { name: "proc_exit", params: &[I32], results: &[], handler: process::proc_exit },
    // signal
    row("proc_raise", &[I32], process::unsupported),
    row("sched_yield", &[], process::sched_yield),
    // buffer, length
    row("random_get", &[I32, I32], process::random_get),
    // fd, flags, out fd
    row("sock_accept", &[I32, I32, I32], process::unsupported),
    // fd, iovecs, count, flags, out length, out flags
    row("sock_recv", &[I32, I32, I32, I32, I32, I32], process::unsupported),
    // fd, iovecs, count, flags, out length
    row("sock_send", &[I32, I32, I32, I32, I32], process::unsupported),
    // fd, directions
    row("sock_shutdown", &[I32, I32], process::unsupported),
];
