//! Numbers and records of WASI preview 1, as the program sees them in memory (little-endian).

use rustix::fs::{FileType as HostFileType, Stat};

/// What a descriptor permits, one bit an operation.
pub(super) mod rights {
    pub(crate) const FD_DATASYNC: u64 = 1 << 0;
    pub(crate) const FD_READ: u64 = 1 << 1;
    pub(crate) const FD_SEEK: u64 = 1 << 2;
    pub(crate) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub(crate) const FD_SYNC: u64 = 1 << 4;
    pub(crate) const FD_TELL: u64 = 1 << 5;
    pub(crate) const FD_WRITE: u64 = 1 << 6;
    pub(crate) const FD_ADVISE: u64 = 1 << 7;
    pub(crate) const FD_ALLOCATE: u64 = 1 << 8;
    pub(crate) const PATH_CREATE_DIRECTORY: u64 = 1 << 9;
    pub(crate) const PATH_CREATE_FILE: u64 = 1 << 10;
    pub(crate) const PATH_LINK_SOURCE: u64 = 1 << 11;
    pub(crate) const PATH_LINK_TARGET: u64 = 1 << 12;
    pub(crate) const PATH_OPEN: u64 = 1 << 13;
    pub(crate) const FD_READDIR: u64 = 1 << 14;
    pub(crate) const PATH_READLINK: u64 = 1 << 15;
    pub(crate) const PATH_RENAME_SOURCE: u64 = 1 << 16;
    pub(crate) const PATH_RENAME_TARGET: u64 = 1 << 17;
    pub(crate) const PATH_FILESTAT_GET: u64 = 1 << 18;
    pub(crate) const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    pub(crate) const PATH_FILESTAT_SET_TIMES: u64 = 1 << 20;
    pub(crate) const FD_FILESTAT_GET: u64 = 1 << 21;
    pub(crate) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub(crate) const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
    pub(crate) const PATH_SYMLINK: u64 = 1 << 24;
    pub(crate) const PATH_REMOVE_DIRECTORY: u64 = 1 << 25;
    pub(crate) const PATH_UNLINK_FILE: u64 = 1 << 26;
    pub(crate) const POLL_FD_READWRITE: u64 = 1 << 27;

    /// Each of these asks for a file that can be read from.
    pub(crate) const READING: u64 = FD_READ | FD_READDIR;
    /// Each of these asks for a file that can be written to.
    pub(crate) const WRITING: u64 = FD_DATASYNC | FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;

    /// What can be done with any stream.
    pub(crate) const STREAM: u64 = FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;
    /// What can be done with a file that has a position, whether read or written.
    pub(crate) const POSITIONED: u64 = FD_SEEK | FD_TELL | FD_ADVISE;
    /// All that can be done with a file.
    pub(crate) const FILE: u64 = STREAM | POSITIONED | FD_READ | FD_SYNC | FD_FILESTAT_SET_TIMES | WRITING;

    /// What can be done with a directory without changing anything below it.
    pub(crate) const DIRECTORY_READ: u64 = FD_READDIR
        | FD_FILESTAT_GET
        | FD_SYNC
        | FD_DATASYNC
        | FD_FDSTAT_SET_FLAGS
        | PATH_OPEN
        | PATH_READLINK
        | PATH_FILESTAT_GET;
    /// All that can be done with a directory.
    pub(crate) const DIRECTORY: u64 = DIRECTORY_READ
        | FD_FILESTAT_SET_TIMES
        | PATH_CREATE_DIRECTORY
        | PATH_CREATE_FILE
        | PATH_LINK_SOURCE
        | PATH_LINK_TARGET
        | PATH_RENAME_SOURCE
        | PATH_RENAME_TARGET
        | PATH_FILESTAT_SET_SIZE
        | PATH_FILESTAT_SET_TIMES
        | PATH_SYMLINK
        | PATH_REMOVE_DIRECTORY
        | PATH_UNLINK_FILE;
    /// What a read-only directory passes on to what is opened through it.
    pub(crate) const INHERIT_READ: u64 = DIRECTORY_READ | STREAM | POSITIONED | FD_READ;
}

/// Flags of an open descriptor.
pub(super) mod fdflags {
    pub(crate) const APPEND: u16 = 1 << 0;
    pub(crate) const DSYNC: u16 = 1 << 1;
    pub(crate) const NONBLOCK: u16 = 1 << 2;
    pub(crate) const RSYNC: u16 = 1 << 3;
    pub(crate) const SYNC: u16 = 1 << 4;
    pub(crate) const ANY_SYNC: u16 = DSYNC | RSYNC | SYNC;
    pub(crate) const ALL: u16 = APPEND | NONBLOCK | ANY_SYNC;
}

/// How `path_open` opens.
pub(super) mod oflags {
    pub(crate) const CREAT: u16 = 1 << 0;
    pub(crate) const DIRECTORY: u16 = 1 << 1;
    pub(crate) const EXCL: u16 = 1 << 2;
    pub(crate) const TRUNC: u16 = 1 << 3;
    pub(crate) const ALL: u16 = CREAT | DIRECTORY | EXCL | TRUNC;
}

/// Which times to set, and to what.
pub(super) mod fstflags {
    pub(crate) const ATIM: u16 = 1 << 0;
    pub(crate) const ATIM_NOW: u16 = 1 << 1;
    pub(crate) const MTIM: u16 = 1 << 2;
    pub(crate) const MTIM_NOW: u16 = 1 << 3;
    pub(crate) const ALL: u16 = ATIM | ATIM_NOW | MTIM | MTIM_NOW;
}

/// The one flag of a path lookup: follow a symbolic link in the last place.
pub(super) const LOOKUP_SYMLINK_FOLLOW: u32 = 1;

/// What a descriptor refers to. Preview 1 has no number for a pipe; it is `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FileType {
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SocketStream = 6,
    SymbolicLink = 7,
}

impl From<HostFileType> for FileType {
    fn from(host: HostFileType) -> Self {
        match host {
            HostFileType::RegularFile => Self::RegularFile,
            HostFileType::Directory => Self::Directory,
            HostFileType::Symlink => Self::SymbolicLink,
            HostFileType::CharacterDevice => Self::CharacterDevice,
            HostFileType::BlockDevice => Self::BlockDevice,
            HostFileType::Socket => Self::SocketStream,
            HostFileType::Fifo | HostFileType::Unknown => Self::Unknown,
        }
    }
}

impl From<&Stat> for FileType {
    fn from(stat: &Stat) -> Self {
        HostFileType::from_raw_mode(stat.st_mode).into()
    }
}

/// The bytes of a `filestat`.
pub(super) const FILESTAT_BYTES: usize = 64;

/// A `filestat` of a host file.
pub(super) fn filestat(stat: &Stat) -> [u8; FILESTAT_BYTES] {
    let mut record = filestat_of_type(FileType::from(stat));
    let mut put =
        |offset: usize, value: u64| record[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    put(0, stat.st_dev);
    put(8, stat.st_ino);
    put(24, stat.st_nlink);
    put(32, u64::try_from(stat.st_size).unwrap_or(0));
    put(40, nanoseconds(stat.st_atime, stat.st_atime_nsec));
    put(48, nanoseconds(stat.st_mtime, stat.st_mtime_nsec));
    put(56, nanoseconds(stat.st_ctime, stat.st_ctime_nsec));
    record
}

/// A `filestat` that knows nothing but the type, for streams that are no host file.
pub(super) fn filestat_of_type(file_type: FileType) -> [u8; FILESTAT_BYTES] {
    let mut record = [0; FILESTAT_BYTES];
    record[16] = file_type as u8;
    record
}

/// Nanoseconds since the epoch; times before it are 0, times after the year 2554 the largest number.
fn nanoseconds(seconds: i64, nanoseconds: u64) -> u64 {
    u64::try_from(seconds)
        .map_or(0, |seconds| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// The bytes of an `fdstat`.
pub(super) const FDSTAT_BYTES: usize = 24;

/// An `fdstat`.
pub(super) fn fdstat(file_type: FileType, flags: u16, base: u64, inheriting: u64) -> [u8; FDSTAT_BYTES] {
    let mut record = [0; FDSTAT_BYTES];
    record[0] = file_type as u8;
    record[2..4].copy_from_slice(&flags.to_le_bytes());
    record[8..16].copy_from_slice(&base.to_le_bytes());
    record[16..24].copy_from_slice(&inheriting.to_le_bytes());
    record
}

/// The bytes of a `dirent`, before the name.
const DIRENT_BYTES: usize = 24;

/// A `dirent` without its name.
pub(super) fn dirent(next: u64, inode: u64, name_length: u32, file_type: FileType) -> [u8; DIRENT_BYTES] {
    let mut record = [0; DIRENT_BYTES];
    record[0..8].copy_from_slice(&next.to_le_bytes());
    record[8..16].copy_from_slice(&inode.to_le_bytes());
    record[16..20].copy_from_slice(&name_length.to_le_bytes());
    record[20] = file_type as u8;
    record
}
