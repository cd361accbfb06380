//! What concerns the program itself: arguments, environment, its end, random bytes; and what it cannot have.

use rustix::rand::GetRandomFlags;

use super::Wasi;
use super::config::Strings;
use super::errno::Errno;
use super::memory::Memory;
use super::table::{Args, Stop};

/// Random bytes asked of the host at once, between two questions to the interrupt.
const RANDOM_CHUNK_BYTES: usize = 1 << 20;

pub(super) fn args_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    put_strings(&wasi.args, args, memory)
}

pub(super) fn args_sizes_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    put_sizes(&wasi.args, args, memory)
}

pub(super) fn environ_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    put_strings(&wasi.env, args, memory)
}

pub(super) fn environ_sizes_get(
    wasi: &mut Wasi,
    args: Args<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), Stop> {
    put_sizes(&wasi.env, args, memory)
}

/// Writes the bytes of all strings to one place and the pointer to each of them to another.
fn put_strings(strings: &Strings, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [pointers, bytes] = args.words();
    let pointers = memory.range(pointers, strings.count(), 4)?;
    memory.write(bytes, &strings.bytes)?;
    for (slot, start) in memory.at_mut(pointers).chunks_exact_mut(4).zip(&strings.starts) {
        let pointer = bytes.checked_add(*start).ok_or(Errno::Overflow)?;
        slot.copy_from_slice(&pointer.to_le_bytes());
    }
    Ok(())
}

fn put_sizes(strings: &Strings, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [count, length] = args.words();
    memory.range(length, 1, 4)?;
    memory.write_u32(count, strings.count())?;
    memory.write_u32(length, strings.length())?;
    Ok(())
}

pub(super) fn proc_exit(_: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [code] = args.words();
    Err(Stop::Exit(code))
}

pub(super) fn sched_yield(wasi: &mut Wasi, _: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    std::thread::yield_now();
    wasi.interrupt.check()
}

pub(super) fn random_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [buffer, length] = args.words();
    let mut rest = memory.bytes_mut(buffer, length)?;
    while !rest.is_empty() {
        wasi.interrupt.check()?;
        let chunk = rest.len().min(RANDOM_CHUNK_BYTES);
        let request = rustix::rand::getrandom(&mut rest[..chunk], GetRandomFlags::empty());
        match request {
            Ok(count) => rest = &mut rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Sockets and signals: a command-line program has neither here.
pub(super) fn unsupported(_: &mut Wasi, _: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    Err(Errno::Notsup.into())
}
