//! Paths that cannot leave their directory.
//!
//! ```text
//!   preopen ─ a ─ b ─ name          every operation:  parent = open_beneath("a/b")   links followed, beneath only
//!                     └ never followed                operation(parent, "name")      or: open_beneath("a/b/name")
//! ```
//!
//! *Why not check the text.* `a/../../x` is easily refused, but `a/link/x` is decided by the file system, and by the
//! time it is used, somebody may have exchanged `a`. So a path is never judged and then used by name: it is resolved
//! into an open directory, and only that directory and one last name reach the system call. The kernel does so
//! atomically with `openat2` and `RESOLVE_BENEATH` ([`Resolution::Kernel`]). Old kernels lack it and sandboxes around
//! us may forbid it; then [`Resolution::Walk`] opens one component at a time with `O_NOFOLLOW`, reads links itself,
//! and answers `..` from the directories it came through, never by asking the host for a parent.
//!
//! *Guarantees.* `..` above the directory, absolute paths, and links that lead to either are `notcapable`; magic links
//! (`/proc/self/fd/3`) are never followed. A last name is not empty, has no slash, and is handed only to system calls
//! that do not follow it; a last `..` is verified to be beneath, and each of those calls then refuses it. Mount points
//! are part of the tree. Hard links that exist already are files like others.
//!
//! *Cost.* Kernel: one `openat2`. Walk: two to three system calls a component, one open directory a level.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType as HostFileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as HostErrno;

use super::config::Resolution;
use super::errno::Errno;
use super::memory::Memory;

/// Longest path that is looked at.
pub const MAX_PATH_BYTES: usize = 4096;

/// Most symbolic links followed on one path, as many as Linux follows.
pub const MAX_SYMLINKS: usize = 40;

/// Deepest directory that [`Resolution::Walk`] enters; deeper is `nametoolong`.
pub const MAX_DEPTH: usize = 256;

/// How often a lookup is repeated that a concurrent rename made ambiguous.
const MAX_RETRIES: usize = 16;

/// Whether a symbolic link in the last place is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Yes,
    No,
}

/// A path the program named: not empty, not absolute, without NUL, of bounded length.
pub(super) struct GuestPath(Vec<u8>);

/// The directory that a path's last name is in, and that name.
pub(super) struct Place {
    pub(super) parent: OwnedFd,
    pub(super) name: Vec<u8>,
    /// Whether a slash followed, so that the name must be, or become, a directory.
    pub(super) must_be_directory: bool,
}

/// Who resolves paths beneath this directory on this machine.
pub(super) fn resolution_of(directory: &OwnedFd) -> Resolution {
    match open_kernel(directory.as_fd(), b".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        Ok(_) => Resolution::Kernel,
        Err(_) => Resolution::Walk,
    }
}

impl GuestPath {
    /// Reads the path at `pointer`.
    pub(super) fn read(memory: &Memory<'_>, pointer: u32, length: u32) -> Result<Self, Errno> {
        let bytes = memory.bytes(pointer, length)?;
        match bytes.first() {
            _ if bytes.len() >= MAX_PATH_BYTES => Err(Errno::Nametoolong),
            None => Err(Errno::Noent),
            Some(b'/') => Err(Errno::Notcapable),
            Some(_) if bytes.contains(&0) => Err(Errno::Inval),
            Some(_) => Ok(Self(bytes.to_vec())),
        }
    }

    /// The path up to its last name (`.` if there is nothing), the name, and whether a slash follows it.
    fn split(&self) -> (&[u8], &[u8], bool) {
        let end = self.0.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let path = &self.0[..end];
        let must_be_directory = path.len() < self.0.len();
        match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..], must_be_directory),
            None => (b".", path, must_be_directory),
        }
    }
}

impl Resolution {
    /// Opens a path beneath `root`. With `O_PATH` a last link that is not followed is itself opened.
    pub(super) fn open(
        self,
        root: BorrowedFd<'_>,
        path: &GuestPath,
        follow: Follow,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        match self {
            Self::Kernel => {
                let nofollow = if follow == Follow::No { OFlags::NOFOLLOW } else { OFlags::empty() };
                open_kernel(root, &path.0, flags | nofollow, mode)
            }
            Self::Walk => {
                let follow = if flags.contains(OFlags::EXCL) { Follow::No } else { follow };
                let place = Walk::new(root).resolve(&path.0, follow)?;
                let mut flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if place.must_be_directory {
                    if flags.contains(OFlags::CREATE) {
                        return Err(Errno::Isdir);
                    }
                    flags |= OFlags::DIRECTORY;
                }
                Ok(rustix::fs::openat(&place.parent, &place.name, flags, mode)?)
            }
        }
    }

    /// Opens the directory that the path's last name is in; the name itself is not looked at.
    pub(super) fn place(self, root: BorrowedFd<'_>, path: &GuestPath) -> Result<Place, Errno> {
        let (parent, name, must_be_directory) = path.split();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if name == b".." {
            self.open(root, path, Follow::No, flags)?;
        }
        let parent = self.open(root, &GuestPath(parent.to_vec()), Follow::Yes, flags)?;
        Ok(Place { parent, name: name.to_vec(), must_be_directory })
    }
}

impl Place {
    /// The type of what has this name, not following a link. A last `..` is the business of [`Resolution::place`].
    pub(super) fn file_type(&self) -> Result<HostFileType, Errno> {
        let stat = rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(HostFileType::from_raw_mode(stat.st_mode))
    }

    /// Refuses a name with a slash behind it unless a directory has that name.
    pub(super) fn check_slash(&self) -> Result<(), Errno> {
        if self.must_be_directory && self.file_type()? != HostFileType::Directory {
            return Err(Errno::Notdir);
        }
        Ok(())
    }
}

/// One `openat2`, beneath `root` and without magic links.
fn open_kernel(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_RETRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // The kernel saw a rename and cannot tell whether `..` stayed beneath.
            Err(HostErrno::AGAIN | HostErrno::INTR) => {}
            Err(HostErrno::XDEV) => return Err(Errno::Notcapable),
            result => return Ok(result?),
        }
    }
    Err(Errno::Again)
}

/// A resolution on its way, component by component.
struct Walk<'r> {
    root: BorrowedFd<'r>,
    /// The directories entered and not left, outermost first.
    entered: Vec<OwnedFd>,
    /// What remains to be resolved, last component first.
    pending: Vec<Vec<u8>>,
    symlinks: usize,
}

impl<'r> Walk<'r> {
    fn new(root: BorrowedFd<'r>) -> Self {
        Self { root, entered: Vec::new(), pending: Vec::new(), symlinks: 0 }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.entered.last().map_or(self.root, AsFd::as_fd)
    }

    /// Resolves all but the last name, and that too while it is a link to be followed. The name that remains is `.`
    /// where the path ends in `.` or `..`.
    fn resolve(mut self, path: &[u8], follow: Follow) -> Result<Place, Errno> {
        let mut must_be_directory = self.push(path)?;
        while let Some(component) = self.pending.pop() {
            if component == b".." {
                self.entered.pop().ok_or(Errno::Notcapable)?;
                continue;
            }
            let is_last = self.pending.is_empty();
            if is_last && follow == Follow::No && !must_be_directory {
                return self.finish(component, must_be_directory);
            }
            match self.look(&component)? {
                Seen::Link(target) => {
                    let ends_in_slash = self.push(&target)?;
                    must_be_directory |= is_last && ends_in_slash;
                }
                _ if is_last => return self.finish(component, must_be_directory),
                Seen::Directory(directory) => {
                    if self.entered.len() >= MAX_DEPTH {
                        return Err(Errno::Nametoolong);
                    }
                    self.entered.push(directory);
                }
                Seen::Other => return Err(Errno::Notdir),
                Seen::Nothing => return Err(Errno::Noent),
            }
        }
        self.finish(b".".to_vec(), true)
    }

    /// Puts the components of `path` before what is pending and says whether it ends in a way that only a directory
    /// can: with a slash, or a slash and a dot.
    fn push(&mut self, path: &[u8]) -> Result<bool, Errno> {
        match path.first() {
            None => return Err(Errno::Noent),
            Some(b'/') => return Err(Errno::Notcapable),
            Some(_) => {}
        }
        let components = path.split(|&byte| byte == b'/').rev();
        let named = components.filter(|component| !component.is_empty() && *component != b".");
        self.pending.extend(named.map(<[u8]>::to_vec));
        Ok(path.ends_with(b"/") || path.ends_with(b"/."))
    }

    /// What stands at `name` in the current directory.
    fn look(&mut self, name: &[u8]) -> Result<Seen, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(self.here(), name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(HostErrno::NOENT) => return Ok(Seen::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        match HostFileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            HostFileType::Directory => Ok(Seen::Directory(found)),
            HostFileType::Symlink => {
                self.symlinks += 1;
                if self.symlinks > MAX_SYMLINKS {
                    return Err(Errno::Loop);
                }
                // The link that was opened, not whatever has its name by now.
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                Ok(Seen::Link(target.into_bytes()))
            }
            _ => Ok(Seen::Other),
        }
    }

    fn finish(mut self, name: Vec<u8>, must_be_directory: bool) -> Result<Place, Errno> {
        let parent = match self.entered.pop() {
            Some(directory) => directory,
            None => rustix::io::fcntl_dupfd_cloexec(self.root, 0)?,
        };
        Ok(Place { parent, name, must_be_directory })
    }
}

/// What a walk finds at a name.
enum Seen {
    Directory(OwnedFd),
    Link(Vec<u8>),
    Other,
    Nothing,
}
