//! Reading, writing and seeking.
//!
//! Bytes move between the host and the program's memory where they lie; nothing is copied in between, whatever the
//! buffers add up to. A file transfers until it has all, or ends, or fails after some. A stream that may block is
//! waited for in the interruptible way (`wait`), hands out what it has, and is written to in pieces that a ready pipe
//! takes without blocking.

use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno as HostErrno;

use super::Wasi;
use super::descriptor::{Descriptor, Resource};
use super::errno::Errno;
use super::memory::{Buffers, Memory};
use super::table::{Args, Stop};
use super::types::rights;
use super::wait::{Interrupt, Patience};

/// Most bytes in one transfer with a file, between two questions to the interrupt.
const CHUNK_BYTES: usize = 16 << 20;

/// Bytes that a pipe takes without blocking once it is ready (`PIPE_BUF`).
const PIPE_CHUNK_BYTES: usize = 4096;

/// Where in a file a transfer happens.
#[derive(Clone, Copy)]
enum Position {
    /// At the descriptor's position, which moves along.
    Current,
    /// At this offset; the descriptor's position stays.
    At(u64),
}

impl Position {
    /// An offset the program gave.
    fn at(offset: u64) -> Result<Self, Errno> {
        if i64::try_from(offset).is_err() { Err(Errno::Inval) } else { Ok(Self::At(offset)) }
    }
}

pub(super) fn fd_read(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, iovecs, count, out] = args.words();
    read(wasi, memory, fd, (iovecs, count), Position::Current, out)
}

pub(super) fn fd_pread(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, iovecs, count, offset, out] = args.raw();
    let position = Position::at(offset)?;
    read(wasi, memory, fd as u32, (iovecs as u32, count as u32), position, out as u32)
}

pub(super) fn fd_write(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, iovecs, count, out] = args.words();
    write(wasi, memory, fd, (iovecs, count), Position::Current, out)
}

pub(super) fn fd_pwrite(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, iovecs, count, offset, out] = args.raw();
    let position = Position::at(offset)?;
    write(wasi, memory, fd as u32, (iovecs as u32, count as u32), position, out as u32)
}

/// The rights a transfer needs.
fn needed(right: u64, position: Position) -> u64 {
    match position {
        Position::Current => right,
        Position::At(_) => right | rights::FD_SEEK,
    }
}

fn read(
    wasi: &Wasi,
    memory: &mut Memory<'_>,
    fd: u32,
    (iovecs, count): (u32, u32),
    position: Position,
    out: u32,
) -> Result<(), Stop> {
    let descriptor = wasi.descriptors.require(fd, needed(rights::FD_READ, position))?;
    memory.range(out, 1, 4)?;
    let mut buffers = memory.buffers(iovecs, count)?;
    let done = match &descriptor.resource {
        Resource::Null => 0,
        Resource::Buffer(source) => {
            let mut done = 0;
            while let Some(range) = buffers.next() {
                let step = source.read(memory.at_mut(range));
                if step == 0 {
                    break;
                }
                done += step;
                buffers.advance(step);
            }
            done
        }
        Resource::Directory(..) => return Err(Errno::Isdir.into()),
        Resource::Stream(host) | Resource::File(host) => {
            read_host(descriptor, &wasi.interrupt, host, memory, &mut buffers, position)?
        }
    };
    memory.write_u32(out, done as u32)?;
    Ok(())
}

/// Fills `buffers` from a host file: a regular file as far as it goes, a stream with what it has now.
fn read_host(
    descriptor: &Descriptor,
    interrupt: &Interrupt,
    host: impl std::os::fd::AsFd,
    memory: &mut Memory<'_>,
    buffers: &mut Buffers,
    position: Position,
) -> Result<usize, Stop> {
    let host = host.as_fd();
    let mut done = 0;
    while let Some(mut range) = buffers.next() {
        range.end = range.end.min(range.start + CHUNK_BYTES);
        let wanted = range.len();
        let target = memory.at_mut(range);
        let result = attempt(descriptor, interrupt, host, PollFlags::IN, || match position {
            Position::Current => rustix::io::read(host, &mut *target),
            Position::At(offset) => rustix::io::pread(host, &mut *target, offset + done as u64),
        });
        let step = match result {
            Ok(step) => step,
            Err(Stop::Errno(_)) if done > 0 => break,
            Err(stop) => return Err(stop),
        };
        done += step;
        buffers.advance(step);
        if step < wanted || descriptor.may_block() {
            break;
        }
    }
    Ok(done)
}

fn write(
    wasi: &Wasi,
    memory: &mut Memory<'_>,
    fd: u32,
    (iovecs, count): (u32, u32),
    position: Position,
    out: u32,
) -> Result<(), Stop> {
    let descriptor = wasi.descriptors.require(fd, needed(rights::FD_WRITE, position))?;
    memory.range(out, 1, 4)?;
    let mut buffers = memory.buffers(iovecs, count)?;
    let done = match &descriptor.resource {
        Resource::Null => buffers.total(),
        Resource::Buffer(target) => {
            let mut done = 0;
            while let Some(range) = buffers.next() {
                let step = target.write(memory.at(range));
                if step == 0 {
                    break;
                }
                done += step;
                buffers.advance(step);
            }
            if done == 0 && buffers.next().is_some() {
                return Err(Errno::Nospc.into());
            }
            done
        }
        Resource::Directory(..) => return Err(Errno::Isdir.into()),
        Resource::Stream(host) | Resource::File(host) => {
            write_host(descriptor, &wasi.interrupt, host, memory, &mut buffers, position)?
        }
    };
    memory.write_u32(out, done as u32)?;
    Ok(())
}

/// Writes all of `buffers` to a host file, or as much as goes before an error.
fn write_host(
    descriptor: &Descriptor,
    interrupt: &Interrupt,
    host: impl std::os::fd::AsFd,
    memory: &Memory<'_>,
    buffers: &mut Buffers,
    position: Position,
) -> Result<usize, Stop> {
    let host = host.as_fd();
    let waits = descriptor.may_block() && (interrupt.is_possible() || descriptor.is_nonblocking());
    let limit = if waits { PIPE_CHUNK_BYTES } else { CHUNK_BYTES };
    let mut done = 0;
    while buffers.next().is_some() {
        let slices = buffers.gather(memory, limit);
        let result = attempt(descriptor, interrupt, host, PollFlags::OUT, || match position {
            Position::Current => rustix::io::writev(host, &slices),
            Position::At(offset) => rustix::io::pwritev(host, &slices, offset + done as u64),
        });
        match result {
            Ok(0) => break,
            Ok(step) => {
                done += step;
                buffers.advance(step);
            }
            Err(Stop::Errno(_)) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    Ok(done)
}

/// Tries a transfer until it is more than a signal or a stream that was not ready after all.
fn attempt(
    descriptor: &Descriptor,
    interrupt: &Interrupt,
    host: BorrowedFd<'_>,
    interest: PollFlags,
    mut transfer: impl FnMut() -> Result<usize, HostErrno>,
) -> Result<usize, Stop> {
    let patience = if descriptor.is_nonblocking() { Patience::Look } else { Patience::Wait };
    let mut waits = descriptor.may_block() && (interrupt.is_possible() || patience == Patience::Look);
    loop {
        interrupt.check()?;
        if waits && !interrupt.is_ready(host, interest, patience)? {
            return Err(Errno::Again.into());
        }
        match transfer() {
            Ok(count) => return Ok(count),
            Err(HostErrno::INTR) => {}
            // The host's description does not block, whoever made it so.
            Err(HostErrno::AGAIN) => waits = true,
            Err(errno) => return Err(errno.into()),
        }
    }
}

pub(super) fn fd_seek(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, offset, whence, out] = args.raw();
    // Asking where one is needs less than going elsewhere.
    let is_tell = offset == 0 && whence as u32 == 1;
    let needed = if is_tell { rights::FD_TELL } else { rights::FD_SEEK };
    let host = wasi.descriptors.host(fd as u32, needed)?;
    memory.range(out as u32, 1, 8)?;
    let target = match whence as u32 {
        0 => SeekFrom::Start(offset),
        1 => SeekFrom::Current(offset as i64),
        2 => SeekFrom::End(offset as i64),
        _ => return Err(Errno::Inval.into()),
    };
    let position = rustix::fs::seek(host, target)?;
    memory.write_u64(out as u32, position)?;
    Ok(())
}

pub(super) fn fd_tell(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, out] = args.words();
    let host = wasi.descriptors.host(fd, rights::FD_TELL)?;
    memory.range(out, 1, 8)?;
    memory.write_u64(out, rustix::fs::tell(host)?)?;
    Ok(())
}
