//! Descriptors: what they are, closing and renumbering them, their sizes and times, and listing directories.

use std::mem::MaybeUninit;
use std::num::NonZeroU64;

use rustix::fs::{
    Advice, FallocateFlags, OFlags, RawDir, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};

use super::Wasi;
use super::descriptor::Resource;
use super::errno::Errno;
use super::memory::Memory;
use super::table::{Args, Stop};
use super::types::{self, FDSTAT_BYTES, FILESTAT_BYTES, FileType, fdflags, fstflags, rights};

/// Bytes of directory entries asked of the host at once.
const LISTING_BYTES: usize = 32 << 10;

pub(super) fn fd_advise(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, offset, length, advice] = args.raw();
    let host = wasi.descriptors.host(fd as u32, rights::FD_ADVISE)?;
    let advice = match advice as u32 {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::Inval.into()),
    };
    if i64::try_from(offset).is_err() || i64::try_from(length).is_err() {
        return Err(Errno::Inval.into());
    }
    Ok(rustix::fs::fadvise(host, offset, NonZeroU64::new(length), advice)?)
}

pub(super) fn fd_allocate(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, offset, length] = args.raw();
    let host = wasi.descriptors.host(fd as u32, rights::FD_ALLOCATE)?;
    Ok(rustix::fs::fallocate(host, FallocateFlags::empty(), offset, length)?)
}

pub(super) fn fd_close(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd] = args.words();
    drop(wasi.descriptors.take(fd)?);
    Ok(())
}

pub(super) fn fd_datasync(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd] = args.words();
    Ok(rustix::fs::fdatasync(wasi.descriptors.host(fd, rights::FD_DATASYNC)?)?)
}

pub(super) fn fd_sync(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd] = args.words();
    Ok(rustix::fs::fsync(wasi.descriptors.host(fd, rights::FD_SYNC)?)?)
}

pub(super) fn fd_fdstat_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, out] = args.words();
    let descriptor = wasi.descriptors.get(fd)?;
    let record: [u8; FDSTAT_BYTES] =
        types::fdstat(descriptor.file_type, descriptor.flags, descriptor.base, descriptor.inheriting);
    memory.write(out, &record)?;
    Ok(())
}

/// Not waiting is ours to do, so it can change on any descriptor. Appending changes on files that the program opened.
/// The host cannot change how a file synchronises once it is open.
pub(super) fn fd_fdstat_set_flags(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, flags] = args.words();
    let flags = u16::try_from(flags).ok().filter(|flags| flags & !fdflags::ALL == 0).ok_or(Errno::Inval)?;
    let descriptor = wasi.descriptors.get_mut(fd)?;
    descriptor.require(rights::FD_FDSTAT_SET_FLAGS)?;
    let changed = descriptor.flags ^ flags;
    if changed & fdflags::ANY_SYNC != 0 {
        return Err(Errno::Notsup.into());
    }
    if changed & fdflags::APPEND != 0 {
        let Resource::File(file) = &descriptor.resource else { return Err(Errno::Notsup.into()) };
        let mut host = rustix::fs::fcntl_getfl(file)?;
        host.set(OFlags::APPEND, flags & fdflags::APPEND != 0);
        rustix::fs::fcntl_setfl(file, host)?;
    }
    descriptor.flags = flags;
    Ok(())
}

/// Rights can be given up, never gained.
pub(super) fn fd_fdstat_set_rights(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, base, inheriting] = args.raw();
    let descriptor = wasi.descriptors.get_mut(fd as u32)?;
    if base & !descriptor.base != 0 || inheriting & !descriptor.inheriting != 0 {
        return Err(Errno::Notcapable.into());
    }
    descriptor.base = base;
    descriptor.inheriting = inheriting;
    Ok(())
}

pub(super) fn fd_filestat_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, out] = args.words();
    let descriptor = wasi.descriptors.require(fd, rights::FD_FILESTAT_GET)?;
    let record: [u8; FILESTAT_BYTES] = match descriptor.host() {
        Some(host) => types::filestat(&rustix::fs::fstat(host)?),
        None => types::filestat_of_type(descriptor.file_type),
    };
    memory.write(out, &record)?;
    Ok(())
}

pub(super) fn fd_filestat_set_size(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, size] = args.raw();
    let host = wasi.descriptors.host(fd as u32, rights::FD_FILESTAT_SET_SIZE)?;
    Ok(rustix::fs::ftruncate(host, size)?)
}

pub(super) fn fd_filestat_set_times(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, access, modification, which] = args.raw();
    let host = wasi.descriptors.host(fd as u32, rights::FD_FILESTAT_SET_TIMES)?;
    Ok(rustix::fs::futimens(host, &timestamps(access, modification, which as u32)?)?)
}

/// The times that `which` selects: given, now, or left as they are.
pub(super) fn timestamps(access: u64, modification: u64, which: u32) -> Result<Timestamps, Errno> {
    let which = u16::try_from(which).ok().filter(|which| which & !fstflags::ALL == 0).ok_or(Errno::Inval)?;
    let select = |time: u64, given: u16, now: u16| match (which & given != 0, which & now != 0) {
        (true, true) => Err(Errno::Inval),
        (true, false) => {
            Ok(Timespec { tv_sec: (time / 1_000_000_000) as i64, tv_nsec: (time % 1_000_000_000) as i64 })
        }
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
    };
    Ok(Timestamps {
        last_access: select(access, fstflags::ATIM, fstflags::ATIM_NOW)?,
        last_modification: select(modification, fstflags::MTIM, fstflags::MTIM_NOW)?,
    })
}

/// The name of a preopened directory; every other descriptor is `badf`, by which programs find the last one.
fn preopen_name(wasi: &Wasi, fd: u32) -> Result<&[u8], Errno> {
    match &wasi.descriptors.get(fd)?.resource {
        Resource::Directory(_, Some(name)) => Ok(name),
        _ => Err(Errno::Badf),
    }
}

pub(super) fn fd_prestat_get(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, out] = args.words();
    let length = u64::from(preopen_name(wasi, fd)?.len() as u32);
    // The tag of a directory is 0, so the record is the length in its upper half.
    memory.write_u64(out, length << 32)?;
    Ok(())
}

pub(super) fn fd_prestat_dir_name(
    wasi: &mut Wasi,
    args: Args<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), Stop> {
    let [fd, out, length] = args.words();
    let name = preopen_name(wasi, fd)?;
    if name.len() > length as usize {
        return Err(Errno::Nametoolong.into());
    }
    memory.write(out, name)?;
    Ok(())
}

/// Both numbers must be open; afterwards `from` is free and `to` is what `from` was.
pub(super) fn fd_renumber(wasi: &mut Wasi, args: Args<'_>, _: &mut Memory<'_>) -> Result<(), Stop> {
    let [from, to] = args.words();
    wasi.descriptors.get(from)?;
    wasi.descriptors.get(to)?;
    if from != to {
        let descriptor = wasi.descriptors.take(from)?;
        wasi.descriptors.replace(to, descriptor)?;
    }
    Ok(())
}

/// Lists a directory from `cookie` on: as many entries as fit, the last one cut off where the buffer ends. A buffer
/// that is not full means that there are no more. Nothing is remembered between calls; cookies are the host's.
pub(super) fn fd_readdir(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, buffer, length, cookie, out] = args.raw();
    let directory = wasi.descriptors.directory(fd as u32, rights::FD_READDIR)?;
    memory.range(out as u32, 1, 4)?;
    let mut rest = memory.bytes_mut(buffer as u32, length as u32)?;
    if i64::try_from(cookie).is_err() {
        return Err(Errno::Inval.into());
    }
    rustix::fs::seek(directory, SeekFrom::Start(cookie))?;
    let own_inode = rustix::fs::fstat(directory)?.st_ino;
    let mut listing = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut entries = RawDir::new(directory, &mut listing);
    while !rest.is_empty() {
        if entries.is_buffer_empty() {
            wasi.interrupt.check()?;
        }
        let Some(entry) = entries.next() else { break };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // What is above a directory is not the program's to see.
        let inode = if name == b".." { own_inode } else { entry.ino() };
        let file_type = FileType::from(entry.file_type());
        let head = types::dirent(entry.next_entry_cookie(), inode, name.len() as u32, file_type);
        rest = fill(fill(rest, &head), name);
    }
    let used = length as u32 - rest.len() as u32;
    memory.write_u32(out as u32, used)?;
    Ok(())
}

/// Puts as much of `bytes` at the front of `target` as fits and returns what is left of it.
fn fill<'t>(target: &'t mut [u8], bytes: &[u8]) -> &'t mut [u8] {
    let count = bytes.len().min(target.len());
    let (front, rest) = target.split_at_mut(count);
    front.copy_from_slice(&bytes[..count]);
    rest
}
