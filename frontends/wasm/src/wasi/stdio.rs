//! Standard streams: where they lead, and a stream in memory.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno as HostErrno;

/// Most bytes that a [`Buffer`] made by [`Buffer::new`] holds.
pub const BUFFER_LIMIT_BYTES: usize = 64 << 20;

/// Where a standard stream leads.
#[derive(Debug)]
pub enum Stdio {
    /// To the stream of the same name of this process.
    Inherit,
    /// Nowhere: empty to read, and what is written is dropped.
    Null,
    /// To memory that the embedder shares.
    Buffer(Buffer),
    /// To a file, pipe or terminal that the embedder has opened.
    File(OwnedFd),
}

impl Stdio {
    /// Turns `Inherit` into the stream that this process has at `index`.
    pub(super) fn inherit(self, index: usize) -> Result<Self, HostErrno> {
        let Self::Inherit = self else { return Ok(self) };
        // Duplicates start above the standard streams, so that a closed one is never taken by accident.
        let first_free = 3;
        let stream = match index {
            0 => rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), first_free),
            1 => rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), first_free),
            _ => rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), first_free),
        };
        stream.map(Self::File)
    }
}

/// Bytes shared by program and embedder: writing appends, reading takes from the front. Clones are the same buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    limit_bytes: usize,
}

impl Buffer {
    /// An empty buffer that holds [`BUFFER_LIMIT_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(BUFFER_LIMIT_BYTES)
    }

    /// An empty buffer that holds `limit_bytes`; writing more is `nospc`.
    #[must_use]
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self { bytes: Arc::default(), limit_bytes }
    }

    /// All bytes in the buffer, oldest first.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.lock().iter().copied().collect()
    }

    /// Appends as many of `bytes` as fit and says how many.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let mut held = self.lock();
        let count = bytes.len().min(self.limit_bytes.saturating_sub(held.len()));
        held.extend(&bytes[..count]);
        count
    }

    /// Fills `target` from the front as far as there are bytes and says how far.
    pub fn read(&self, target: &mut [u8]) -> usize {
        let mut held = self.lock();
        let count = target.len().min(held.len());
        for (slot, byte) in target.iter_mut().zip(held.drain(..count)) {
            *slot = byte;
        }
        count
    }

    /// How many bytes are in the buffer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A thread that died while holding the lock left the bytes whole: no write is done in halves.
    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A buffer that holds these bytes to be read.
impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        let buffer = Self::with_limit(bytes.len().max(BUFFER_LIMIT_BYTES));
        buffer.write(bytes);
        buffer
    }
}
