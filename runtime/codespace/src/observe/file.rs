//! A file that is written in large pieces, by the process that made it only.
//!
//! Profilers fix its name and directory, and the directory may be one where everybody can make files. So what stands there
//! already is taken only if it is a plain file of this user with no other name, and links are not followed.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::Error;
use crate::observe::encode::Encoder;

/// How many bytes wait before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// What becomes of what the file holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// It stays, and what is written comes behind it.
    Keep,
    /// It goes, and as long as this file is open here, nobody else can replace it.
    Replace,
}

/// A file, and what waits to be written to it.
#[derive(Debug)]
pub(crate) struct BufferedFile {
    file: OwnedFd,
    buffer: Encoder,
    /// Whose file it is: a child that this process forks is another.
    owner: Pid,
    failed: Option<Error>,
}

impl BufferedFile {
    /// Opens the file in `directory` that is named by the process, between `before` and `after`; for this process's user alone
    /// if it makes it.
    pub(crate) fn open(
        directory: &Path,
        (before, after): (&str, &str),
        contents: Contents,
    ) -> Result<BufferedFile, Error> {
        const ATTEMPT: &str = "open a file for a profiler";
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let mut path = Encoder::default();
        path.put(directory.as_os_str().as_bytes())?;
        path.put(if directory.as_os_str().is_empty() { b"" } else { b"/" })?;
        path.put(before.as_bytes())?;
        path.decimal(std::process::id())?;
        path.put(after.as_bytes())?;
        path.u8(0)?;
        // A name with a zero byte in it is no file's.
        let path =
            CStr::from_bytes_with_nul(path.as_slice()).map_err(|_| Error::system(ATTEMPT)(Errno::INVAL))?;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(Error::system(ATTEMPT))?;
        let found = rustix::fs::fstat(&file).map_err(Error::system(ATTEMPT))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile
            || found.st_uid != rustix::process::geteuid().as_raw()
            || found.st_nlink != 1
        {
            let attempt = "trust a file that is there for a profiler: it is not plainly this user's";
            return Err(Error::system(attempt)(Errno::EXIST));
        }
        if contents == Contents::Replace {
            let attempt = "have a second such file for a profiler in one directory";
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(Error::system(attempt))?;
            rustix::fs::ftruncate(&file, 0).map_err(Error::system(ATTEMPT))?;
        }
        Ok(BufferedFile { file, buffer: Encoder::default(), owner: rustix::process::getpid(), failed: None })
    }

    /// The file.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.file
    }

    /// Appends what `record` writes, all of it or, if it fails, nothing and no more.
    pub(crate) fn append(&mut self, record: impl FnOnce(&mut Encoder) -> Result<(), Error>) {
        if self.failed.is_some() {
            return;
        }
        let start = self.buffer.len();
        if let Err(error) = record(&mut self.buffer) {
            self.buffer.truncate(start);
            self.failed = Some(error);
        }
        if self.buffer.len() >= BUFFER_BYTES {
            // The error is kept for the owner's own flush.
            let _ = self.flush();
        }
    }

    /// Writes what waits, and returns the first error there was. In a forked child, drops it.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.len() > 0 {
            if rustix::process::getpid() == self.owner
                && let Err(error) = write_all(&self.file, self.buffer.as_slice())
            {
                self.failed = self.failed.or(Some(error));
            }
            self.buffer.clear(2 * BUFFER_BYTES);
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl Drop for BufferedFile {
    fn drop(&mut self) {
        // Who wants to know has flushed before.
        let _ = self.flush();
        if rustix::process::getpid() == self.owner {
            // Closing the file would unlock it only once every process that is just being started has let go of it too.
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Error> {
    const ATTEMPT: &str = "write a file for a profiler";
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Error::system(ATTEMPT)(Errno::IO)),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system(ATTEMPT)(errno)),
        }
    }
    Ok(())
}
