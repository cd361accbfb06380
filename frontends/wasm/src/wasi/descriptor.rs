//! The program's open descriptors: what each refers to and what it permits.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno as HostErrno;

use super::config::Access;
use super::errno::Errno;
use super::stdio::{Buffer, Stdio};
use super::types::{FileType, fdflags, rights};

/// Most descriptors that a program can have open, standard streams and preopened directories included.
pub const MAX_DESCRIPTORS: usize = 1024;

/// What a descriptor refers to.
#[derive(Debug)]
pub(super) enum Resource {
    /// Empty to read, swallows what is written.
    Null,
    /// A stream in memory.
    Buffer(Buffer),
    /// A stream of the embedder's. Its description is shared with others, so its flags are never changed.
    Stream(OwnedFd),
    /// A file that the program opened. Unless it is a regular file it never blocks on the host; waiting is ours.
    File(OwnedFd),
    /// A directory, and its name if it was preopened.
    Directory(OwnedFd, Option<Vec<u8>>),
}

/// One open descriptor.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) resource: Resource,
    pub(super) file_type: FileType,
    pub(super) flags: u16,
    pub(super) base: u64,
    pub(super) inheriting: u64,
}

impl Descriptor {
    /// A standard stream that can be read from or written to, as `right` says.
    pub(super) fn of_stream(stream: Stdio, right: u64) -> Result<Self, HostErrno> {
        let (resource, file_type, positioned, flags) = match stream {
            Stdio::Null => (Resource::Null, FileType::Unknown, 0, 0),
            Stdio::Buffer(buffer) => (Resource::Buffer(buffer), FileType::Unknown, 0, 0),
            Stdio::File(fd) => {
                let file_type = FileType::from(&rustix::fs::fstat(&fd)?);
                let is_append = rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::APPEND);
                let flags = if is_append { fdflags::APPEND } else { 0 };
                let positioned = positioned_rights(&fd, file_type);
                (Resource::Stream(fd), file_type, positioned, flags)
            }
            Stdio::Inherit => return Err(HostErrno::BADF),
        };
        let sync = if right == rights::FD_WRITE { rights::FD_SYNC | rights::FD_DATASYNC } else { 0 };
        let base = rights::STREAM | right | positioned | sync;
        Ok(Self { resource, file_type, flags, base, inheriting: 0 })
    }

    /// A preopened directory.
    pub(super) fn of_preopen(directory: OwnedFd, name: Vec<u8>, access: Access) -> Self {
        let (base, inheriting) = match access {
            Access::ReadOnly => (rights::DIRECTORY_READ, rights::INHERIT_READ),
            Access::ReadWrite => (rights::DIRECTORY, rights::DIRECTORY | rights::FILE),
        };
        let resource = Resource::Directory(directory, Some(name));
        Self { resource, file_type: FileType::Directory, flags: 0, base, inheriting }
    }

    /// A file or directory that the program opened, with as many of the `base` and `inheriting` rights as make
    /// sense for what it turned out to be.
    pub(super) fn of_opened(fd: OwnedFd, flags: u16, base: u64, inheriting: u64) -> Result<Self, Errno> {
        let file_type = FileType::from(&rustix::fs::fstat(&fd)?);
        if file_type == FileType::Directory {
            let resource = Resource::Directory(fd, None);
            return Ok(Self { resource, file_type, flags, base: base & rights::DIRECTORY, inheriting });
        }
        let possible = rights::FILE & !rights::POSITIONED | positioned_rights(&fd, file_type);
        Ok(Self { resource: Resource::File(fd), file_type, flags, base: base & possible, inheriting: 0 })
    }

    /// This descriptor, if it permits all of `needed`.
    pub(super) fn require(&self, needed: u64) -> Result<&Self, Errno> {
        let missing = needed & !self.base;
        if missing == 0 {
            return Ok(self);
        }
        let is_directory = self.file_type == FileType::Directory;
        if missing & (rights::FD_SEEK | rights::FD_TELL) != 0 && self.file_type != FileType::RegularFile {
            return Err(if is_directory { Errno::Isdir } else { Errno::Spipe });
        }
        if missing & (rights::FD_READ | rights::FD_WRITE) != 0 {
            return Err(if is_directory { Errno::Isdir } else { Errno::Badf });
        }
        Err(Errno::Notcapable)
    }

    /// The host's descriptor, unless the stream is ours.
    pub(super) fn host(&self) -> Option<BorrowedFd<'_>> {
        match &self.resource {
            Resource::Null | Resource::Buffer(_) => None,
            Resource::Stream(fd) | Resource::File(fd) | Resource::Directory(fd, _) => Some(fd.as_fd()),
        }
    }

    /// Whether reading or writing may have to wait for somebody else.
    pub(super) fn may_block(&self) -> bool {
        !matches!(self.file_type, FileType::RegularFile | FileType::BlockDevice | FileType::Directory)
    }

    /// Whether the program asked not to wait.
    pub(super) fn is_nonblocking(&self) -> bool {
        self.flags & fdflags::NONBLOCK != 0
    }
}

/// The rights of a position, if the file has one. A character device with them is not a terminal: that is how
/// C libraries tell.
fn positioned_rights(fd: &OwnedFd, file_type: FileType) -> u64 {
    match file_type {
        FileType::RegularFile | FileType::BlockDevice => rights::POSITIONED,
        FileType::CharacterDevice if !fd.is_terminal() => rights::POSITIONED,
        _ => 0,
    }
}

/// All open descriptors, by number.
#[derive(Debug, Default)]
pub(super) struct Descriptors(Vec<Option<Descriptor>>);

impl Descriptors {
    pub(super) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.0.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub(super) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// The descriptor, if it is open and permits all of `needed`.
    pub(super) fn require(&self, fd: u32, needed: u64) -> Result<&Descriptor, Errno> {
        self.get(fd)?.require(needed)
    }

    /// The host's descriptor of a file that permits all of `needed`; streams that are ours have no such operation.
    pub(super) fn host(&self, fd: u32, needed: u64) -> Result<BorrowedFd<'_>, Errno> {
        self.require(fd, needed)?.host().ok_or(Errno::Inval)
    }

    /// The host's descriptor of a directory that permits all of `needed`.
    pub(super) fn directory(&self, fd: u32, needed: u64) -> Result<BorrowedFd<'_>, Errno> {
        let descriptor = self.get(fd)?;
        match &descriptor.resource {
            Resource::Directory(directory, _) => {
                descriptor.require(needed)?;
                Ok(directory.as_fd())
            }
            _ => Err(Errno::Notdir),
        }
    }

    /// Whether another descriptor can be opened.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < MAX_DESCRIPTORS || self.0.iter().any(Option::is_none)
    }

    /// Gives the descriptor the lowest free number.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let index = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if index >= MAX_DESCRIPTORS {
            return Err(Errno::Mfile);
        }
        if index == self.0.len() {
            self.0.push(None);
        }
        self.0[index] = Some(descriptor);
        u32::try_from(index).map_err(|_| Errno::Mfile)
    }

    /// Closes the number and returns what it was.
    pub(super) fn take(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        self.0.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::Badf)
    }

    /// Gives an open descriptor's number to another one; the former is closed.
    pub(super) fn replace(&mut self, fd: u32, descriptor: Descriptor) -> Result<(), Errno> {
        *self.get_mut(fd)? = descriptor;
        Ok(())
    }
}
