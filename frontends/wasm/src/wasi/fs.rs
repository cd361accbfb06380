//! Files by name, beneath the directory of a descriptor. Every path goes through `path`.
//!
//! *Symbolic links* are made with relative targets only: an absolute one would lead out of every directory, and
//! though this program could not follow it, somebody else on the host might.
//!
//! *Pipes* that lie in a directory are opened without waiting for a partner: to read, the end comes at once as long as
//! nobody has opened the other side; to write, it is `nxio`. After that they wait like other streams.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType as HostFileType, OFlags};

use super::Wasi;
use super::descriptor::Descriptor;
use super::errno::Errno;
use super::fd::timestamps;
use super::memory::Memory;
use super::path::{Follow, GuestPath, MAX_PATH_BYTES, Place};
use super::table::{Args, Stop};
use super::types::{self, FILESTAT_BYTES, LOOKUP_SYMLINK_FOLLOW, fdflags, oflags, rights};

/// The directory of `fd` and the path in it, if the descriptor permits all of `needed`.
fn lookup<'w>(
    wasi: &'w Wasi,
    memory: &Memory<'_>,
    fd: u32,
    (path, length): (u32, u32),
    needed: u64,
) -> Result<(BorrowedFd<'w>, GuestPath), Errno> {
    let directory = wasi.descriptors.directory(fd, needed)?;
    Ok((directory, GuestPath::read(memory, path, length)?))
}

/// As [`lookup`], resolved to the directory of the last name.
fn place(wasi: &Wasi, memory: &Memory<'_>, fd: u32, path: (u32, u32), needed: u64) -> Result<Place, Errno> {
    let (directory, path) = lookup(wasi, memory, fd, path, needed)?;
    wasi.resolution.place(directory, &path)
}

fn follow(lookup_flags: u32) -> Result<Follow, Errno> {
    match lookup_flags {
        0 => Ok(Follow::No),
        LOOKUP_SYMLINK_FOLLOW => Ok(Follow::Yes),
        _ => Err(Errno::Inval),
    }
}

/// What a name with a slash behind it means to a function that works on anything but a directory.
fn slash_error(place: &Place) -> Errno {
    match place.file_type() {
        Ok(HostFileType::Directory) => Errno::Isdir,
        Ok(_) => Errno::Notdir,
        Err(errno) => errno,
    }
}

pub(super) fn path_create_directory(
    wasi: &mut Wasi,
    args: Args<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), Stop> {
    let [fd, path, length] = args.words();
    let place = place(wasi, memory, fd, (path, length), rights::PATH_CREATE_DIRECTORY)?;
    Ok(rustix::fs::mkdirat(&place.parent, &place.name, 0o777.into())?)
}

pub(super) fn path_filestat_get(
    wasi: &mut Wasi,
    args: Args<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), Stop> {
    let [fd, lookup_flags, path, length, out] = args.words();
    let (directory, path) = lookup(wasi, memory, fd, (path, length), rights::PATH_FILESTAT_GET)?;
    memory.range(out, 1, FILESTAT_BYTES as u32)?;
    let found = wasi.resolution.open(directory, &path, follow(lookup_flags)?, OFlags::PATH)?;
    memory.write(out, &types::filestat(&rustix::fs::fstat(found)?))?;
    Ok(())
}

/// Needs Linux 5.8, whose `utimensat` takes a file that was opened without access to it.
pub(super) fn path_filestat_set_times(
    wasi: &mut Wasi,
    args: Args<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), Stop> {
    let [fd, lookup_flags, path, length, access, modification, which] = args.raw();
    let path = (path as u32, length as u32);
    let (directory, path) = lookup(wasi, memory, fd as u32, path, rights::PATH_FILESTAT_SET_TIMES)?;
    let times = timestamps(access, modification, which as u32)?;
    let found = wasi.resolution.open(directory, &path, follow(lookup_flags as u32)?, OFlags::PATH)?;
    Ok(rustix::fs::utimensat(found, "", &times, AtFlags::EMPTY_PATH)?)
}

/// Links to a link itself; to link to what it leads to, which the host lets only the privileged do by descriptor, is
/// `inval`.
pub(super) fn path_link(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [old_fd, lookup_flags, old_path, old_length, new_fd, new_path, new_length] = args.words();
    if follow(lookup_flags)? == Follow::Yes {
        return Err(Errno::Inval.into());
    }
    let old = place(wasi, memory, old_fd, (old_path, old_length), rights::PATH_LINK_SOURCE)?;
    let new = place(wasi, memory, new_fd, (new_path, new_length), rights::PATH_LINK_TARGET)?;
    if let Some(place) = [&old, &new].into_iter().find(|place| place.must_be_directory) {
        return Err(slash_error(place).into());
    }
    Ok(rustix::fs::linkat(&old.parent, &old.name, &new.parent, &new.name, AtFlags::empty())?)
}

pub(super) fn path_open(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, lookup_flags, path, length, open_flags, base, inheriting, fd_flags, out] = args.raw();
    let out = out as u32;
    let follow = follow(lookup_flags as u32)?;
    let request = Request::new(open_flags as u32, base, fd_flags as u32)?;
    let parent = wasi.descriptors.get(fd as u32)?;
    let needed = request.needed_of_directory();
    let (directory, path) = lookup(wasi, memory, fd as u32, (path as u32, length as u32), needed)?;
    if request.writes && parent.inheriting & rights::FD_WRITE == 0 {
        return Err(Errno::Notcapable.into());
    }
    memory.range(out, 1, 4)?;
    if !wasi.descriptors.has_room() {
        return Err(Errno::Mfile.into());
    }
    let file = wasi.resolution.open(directory, &path, follow, request.host_flags())?;
    let (base, inheriting) = (base & parent.inheriting, inheriting & parent.inheriting);
    let descriptor = Descriptor::of_opened(file, request.fd_flags, base, inheriting)?;
    memory.write_u32(out, wasi.descriptors.insert(descriptor)?)?;
    Ok(())
}

/// How a file is to be opened.
struct Request {
    open_flags: u16,
    fd_flags: u16,
    reads: bool,
    writes: bool,
}

impl Request {
    fn new(open_flags: u32, base: u64, fd_flags: u32) -> Result<Self, Errno> {
        let known = |flags: u32, all: u16| u16::try_from(flags).ok().filter(|flags| flags & !all == 0);
        let open_flags = known(open_flags, oflags::ALL).ok_or(Errno::Inval)?;
        let fd_flags = known(fd_flags, fdflags::ALL).ok_or(Errno::Inval)?;
        // Programs that want a directory often ask for all rights there are; a directory is never written to.
        let is_directory = open_flags & oflags::DIRECTORY != 0;
        if is_directory && open_flags & (oflags::CREAT | oflags::EXCL | oflags::TRUNC) != 0 {
            return Err(Errno::Inval);
        }
        let reads = base & rights::READING != 0;
        let writes = !is_directory && base & rights::WRITING != 0;
        Ok(Self { open_flags, fd_flags, reads, writes })
    }

    fn needed_of_directory(&self) -> u64 {
        let mut needed = rights::PATH_OPEN;
        if self.open_flags & oflags::CREAT != 0 {
            needed |= rights::PATH_CREATE_FILE;
        }
        if self.open_flags & oflags::TRUNC != 0 {
            needed |= rights::PATH_FILESTAT_SET_SIZE;
        }
        needed
    }

    /// Opening never waits: a pipe without a partner would do so for ever, out of the interrupt's reach.
    fn host_flags(&self) -> OFlags {
        let mut host = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        host |= match (self.reads, self.writes) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        let from_open = [
            (oflags::CREAT, OFlags::CREATE),
            (oflags::DIRECTORY, OFlags::DIRECTORY),
            (oflags::EXCL, OFlags::EXCL),
            (oflags::TRUNC, OFlags::TRUNC),
        ];
        let from_fd = [(fdflags::APPEND, OFlags::APPEND), (fdflags::ANY_SYNC, OFlags::SYNC)];
        let set = |flags: u16, rows: &[(u16, OFlags)]| {
            rows.iter().filter(|row| flags & row.0 != 0).fold(OFlags::empty(), |set, row| set | row.1)
        };
        host | set(self.open_flags, &from_open) | set(self.fd_flags, &from_fd)
    }
}

/// The target of a link, cut off where the buffer ends.
pub(super) fn path_readlink(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, path, length, buffer, buffer_length, out] = args.words();
    let place = place(wasi, memory, fd, (path, length), rights::PATH_READLINK)?;
    memory.range(out, 1, 4)?;
    let target = memory.bytes_mut(buffer, buffer_length)?;
    if place.must_be_directory {
        return Err(match slash_error(&place) {
            Errno::Isdir => Errno::Inval.into(),
            errno => errno.into(),
        });
    }
    // The host refuses an empty buffer; one byte more tells a link from something else.
    let count = if target.is_empty() {
        rustix::fs::readlinkat_raw(&place.parent, &place.name, &mut [0u8; 1])?;
        0
    } else {
        rustix::fs::readlinkat_raw(&place.parent, &place.name, target)?
    };
    memory.write_u32(out, count as u32)?;
    Ok(())
}

pub(super) fn path_remove_directory(
    wasi: &mut Wasi,
    args: Args<'_>,
    memory: &mut Memory<'_>,
) -> Result<(), Stop> {
    let [fd, path, length] = args.words();
    let place = place(wasi, memory, fd, (path, length), rights::PATH_REMOVE_DIRECTORY)?;
    Ok(rustix::fs::unlinkat(&place.parent, &place.name, AtFlags::REMOVEDIR)?)
}

pub(super) fn path_rename(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [old_fd, old_path, old_length, new_fd, new_path, new_length] = args.words();
    let mut old = place(wasi, memory, old_fd, (old_path, old_length), rights::PATH_RENAME_SOURCE)?;
    let new = place(wasi, memory, new_fd, (new_path, new_length), rights::PATH_RENAME_TARGET)?;
    // A slash behind either name says that a directory moves.
    old.must_be_directory |= new.must_be_directory;
    old.check_slash()?;
    Ok(rustix::fs::renameat(&old.parent, &old.name, &new.parent, &new.name)?)
}

pub(super) fn path_symlink(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [target, target_length, fd, path, length] = args.words();
    let place = place(wasi, memory, fd, (path, length), rights::PATH_SYMLINK)?;
    let target = memory.bytes(target, target_length)?;
    if target.first() == Some(&b'/') {
        return Err(Errno::Notcapable.into());
    }
    if target.len() >= MAX_PATH_BYTES {
        return Err(Errno::Nametoolong.into());
    }
    if place.must_be_directory {
        return Err(match slash_error(&place) {
            Errno::Isdir => Errno::Exist.into(),
            errno => errno.into(),
        });
    }
    Ok(rustix::fs::symlinkat(target, &place.parent, &place.name)?)
}

pub(super) fn path_unlink_file(wasi: &mut Wasi, args: Args<'_>, memory: &mut Memory<'_>) -> Result<(), Stop> {
    let [fd, path, length] = args.words();
    let place = place(wasi, memory, fd, (path, length), rights::PATH_UNLINK_FILE)?;
    if place.must_be_directory {
        return Err(slash_error(&place).into());
    }
    Ok(rustix::fs::unlinkat(&place.parent, &place.name, AtFlags::empty())?)
}
