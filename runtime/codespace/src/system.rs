//! Every system call of the crate, each behind one small function that can fail.
//!
//! That they all stand here lets a test make any one of them fail: see `fail_at`. What gives something back
//! (unmapping, closing) is not made to fail, since all that can be done then is to leave it.
//!
//! Addresses are `usize` here; what they point to is the business of [`crate::memory`].

pub(crate) mod fork;
pub(crate) mod maps;
pub(crate) mod share;

use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::rand::GetRandomFlags;
use rustix::thread::{MembarrierCommand, MembarrierQuery};

use crate::Error;

const CREATE: &str = "create memory for code";
const EXECUTE: &str = "map memory for executing";

/// Whether the error says that the system allows no executable memory files, so that pages have to be flipped.
pub(crate) fn is_refusal(error: &Error) -> bool {
    let Error::System { attempt, errno } = *error else { return false };
    let refused =
        [Errno::ACCESS, Errno::PERM, Errno::NOSYS, Errno::FBIG].map(Errno::raw_os_error).contains(&errno);
    refused && [CREATE, EXECUTE].contains(&attempt)
}

/// What a page may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    Write,
    Execute,
}

impl Access {
    fn prot(self) -> ProtFlags {
        match self {
            Access::None => ProtFlags::empty(),
            Access::Read => ProtFlags::READ,
            Access::Write => ProtFlags::READ | ProtFlags::WRITE,
            Access::Execute => ProtFlags::READ | ProtFlags::EXEC,
        }
    }
}

/// Where a mapping is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Where the system likes.
    Anywhere,
    /// At this address, if it is free. Systems before 4.17 take it as a hint, so the address has to be looked at.
    Free(usize),
    /// At this address, in place of what is there.
    Over(usize),
}

impl At {
    fn parts(self) -> (*mut c_void, MapFlags) {
        match self {
            At::Anywhere => (ptr::null_mut(), MapFlags::empty()),
            At::Free(address) => (ptr::without_provenance_mut(address), MapFlags::FIXED_NOREPLACE),
            At::Over(address) => (ptr::with_exposed_provenance_mut(address), MapFlags::FIXED),
        }
    }
}

/// Maps `len` bytes of nothing: addresses that nothing else gets and that cannot be used.
///
/// # Safety
///
/// With [`At::Over`] the caller owns the range and nobody uses what is in it.
pub(crate) unsafe fn map_nothing(at: At, len: usize) -> Result<usize, Error> {
    const RESERVE: &str = "reserve addresses for code";
    may_fail(RESERVE)?;
    // SAFETY: the caller vouches for a range that is mapped over; any other is free.
    unsafe { map_private(at, len, Access::None) }.map_err(Error::system(RESERVE))
}

/// Maps `len` bytes of zeros that can only be read over what is at `base`. They take no memory.
///
/// # Safety
///
/// The caller owns the range and nobody uses what is in it, but for reading it.
pub(crate) unsafe fn map_zeros(base: usize, len: usize) -> Result<(), Error> {
    const VACATE: &str = "give memory of code back";
    may_fail(VACATE)?;
    // SAFETY: the caller vouches for the range. Who reads it meanwhile reads what was there or zeros: it is replaced at once.
    unsafe { map_private(At::Over(base), len, Access::Read) }.map(drop).map_err(Error::system(VACATE))
}

/// Maps something else over `len` bytes that are given back: nothing, or zeros that can be written. Says
/// whether that was possible. If not they stay as they are.
///
/// # Safety
///
/// The caller owns the range and nobody uses it any more.
pub(crate) unsafe fn map_back(base: usize, len: usize, access: Access) -> bool {
    // SAFETY: the caller vouches for the range.
    unsafe { map_private(At::Over(base), len, access) }.is_ok()
}

/// # Safety
///
/// As for [`map_nothing`].
unsafe fn map_private(at: At, len: usize, access: Access) -> Result<usize, Errno> {
    let (address, flags) = at.parts();
    let flags = if access != Access::Write { flags | MapFlags::NORESERVE } else { flags };
    // SAFETY: the caller vouches for a range that is mapped over; with the other flags nothing is replaced.
    unsafe { rustix::mm::mmap_anonymous(address, len, access.prot(), MapFlags::PRIVATE | flags) }
        .map(|base| base.expose_provenance())
}

/// Maps `len` bytes of `file` from its start, shared with its other mappings.
///
/// # Safety
///
/// As for [`map_nothing`].
pub(crate) unsafe fn map_file(at: At, len: usize, access: Access, file: impl AsFd) -> Result<usize, Error> {
    let attempt = if access == Access::Execute { EXECUTE } else { "map memory for writing code" };
    may_fail(attempt)?;
    let (address, flags) = at.parts();
    // SAFETY: as in `map_private`.
    unsafe { rustix::mm::mmap(address, len, access.prot(), MapFlags::SHARED | flags, file, 0) }
        .map(|base| base.expose_provenance())
        .map_err(Error::system(attempt))
}

/// Unmaps `len` bytes; says whether that was possible. If not they stay as they are.
///
/// # Safety
///
/// The caller owns the range and nobody uses it any more.
pub(crate) unsafe fn unmap(base: usize, len: usize) -> bool {
    // SAFETY: the caller vouches for the range.
    unsafe { rustix::mm::munmap(ptr::with_exposed_provenance_mut(base), len) }.is_ok()
}

/// Changes what `len` bytes may be used for.
///
/// # Safety
///
/// The caller owns the range; nobody uses it in a way that is not allowed afterwards.
pub(crate) unsafe fn protect(base: usize, len: usize, access: Access) -> Result<(), Error> {
    let attempt = match access {
        Access::None | Access::Read => "protect memory",
        Access::Write => "make memory writable",
        Access::Execute => EXECUTE,
    };
    may_fail(attempt)?;
    let flags = MprotectFlags::from_bits_retain(access.prot().bits());
    // SAFETY: the caller vouches for the range.
    unsafe { rustix::mm::mprotect(ptr::with_exposed_provenance_mut(base), len, flags) }
        .map_err(Error::system(attempt))
}

/// Keeps `len` bytes out of forked processes.
///
/// # Safety
///
/// The caller owns the range; forked processes do not use it.
pub(crate) unsafe fn hide_from_forks(base: usize, len: usize) -> Result<(), Error> {
    // SAFETY: the caller vouches for the range.
    unsafe { advise(base, len, Advice::LinuxDontFork, "hide a write view from forked processes") }
}

/// Maps `len` bytes of zeros for good that are zero again in a forked process.
pub(crate) fn map_wiped_by_forks(len: usize) -> Result<usize, Error> {
    const MARK: &str = "map memory that forks wipe";
    may_fail(MARK)?;
    // SAFETY: the system chooses an address that is free.
    let base = unsafe { map_private(At::Anywhere, len, Access::Write) }.map_err(Error::system(MARK))?;
    // SAFETY: the mapping was just made, and being wiped is what it is for.
    if let Err(error) = unsafe { advise(base, len, Advice::LinuxWipeOnFork, MARK) } {
        // SAFETY: nobody knows of the mapping.
        unsafe { unmap(base, len) };
        return Err(error);
    }
    Ok(base)
}

/// Gives back the memory under a shared writable mapping: it is zero from now on, in each mapping.
///
/// # Safety
///
/// The caller owns the range and nobody uses what is in it.
pub(crate) unsafe fn remove(base: usize, len: usize) -> Result<(), Error> {
    // SAFETY: the caller vouches for the range.
    unsafe { advise(base, len, Advice::LinuxRemove, "give memory back") }
}

/// Gives back the memory of a private mapping: it is zero from now on.
///
/// # Safety
///
/// As for [`remove`].
pub(crate) unsafe fn discard(base: usize, len: usize) -> Result<(), Error> {
    // SAFETY: the caller vouches for the range.
    unsafe { advise(base, len, Advice::LinuxDontNeed, "give memory back") }
}

/// # Safety
///
/// The caller owns the range and can live with what the advice does to it.
unsafe fn advise(base: usize, len: usize, advice: Advice, attempt: &'static str) -> Result<(), Error> {
    may_fail(attempt)?;
    // SAFETY: the caller vouches for the range.
    unsafe { rustix::mm::madvise(ptr::with_exposed_provenance_mut(base), len, advice) }
        .map_err(Error::system(attempt))
}

/// Makes `len` bytes unchangeable: their protection stays, and they cannot be unmapped. Linux 6.10.
///
/// # Safety
///
/// The caller owns the range, and nobody will want to unmap or change it.
pub(crate) unsafe fn seal(base: usize, len: usize) -> Result<(), Error> {
    const MSEAL: libc::c_long = 462;
    may_fail("seal memory")?;
    // SAFETY: the call takes an address, a length and zero flags; the caller vouches for the range.
    match unsafe { libc::syscall(MSEAL, base, len, 0_usize) } {
        0 => Ok(()),
        _ => Err(Error::System {
            attempt: "seal memory",
            errno: std::io::Error::last_os_error().raw_os_error().unwrap_or_default(),
        }),
    }
}

/// A file in memory of `len` bytes that may be mapped for executing. That the process's limit on files does not allow as many counts
/// as a refusal.
pub(crate) fn memory_file(len: usize) -> Result<OwnedFd, Error> {
    may_fail(CREATE)?;
    // Making a file longer than it may be is a signal, which ends the process.
    if len as u64 > file_limit() {
        return Err(Error::system(CREATE)(Errno::FBIG));
    }
    let create = |flags| rustix::fs::memfd_create("dagwood-code", flags);
    let file = match create(MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        // Systems before 6.3 do not know the flag, and allow what it asks for.
        Err(Errno::INVAL) => create(MemfdFlags::CLOEXEC),
        other => other,
    }
    .map_err(Error::system(CREATE))?;
    resize(&file, len)?;
    Ok(file)
}

/// The most bytes that a file of this process may have.
fn file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to what the call fills. It cannot fail for this limit; if it did there would be none.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    limit.rlim_cur
}

/// Makes a file `len` bytes long. Mappings beyond its end cannot be used: touching them is a `SIGBUS`.
pub(crate) fn resize(file: impl AsFd, len: usize) -> Result<(), Error> {
    may_fail("size memory for code")?;
    rustix::fs::ftruncate(file, len as u64).map_err(Error::system("size memory for code"))
}

/// Gives the memory of a part of a file back: it is zero from now on, in each mapping.
pub(crate) fn punch(file: impl AsFd, offset: usize, len: usize) -> Result<(), Error> {
    may_fail("give memory back")?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, flags, offset as u64, len as u64).map_err(Error::system("give memory back"))
}

/// Writes all of `bytes` into a file.
pub(crate) fn write_at(file: impl AsFd, mut bytes: &[u8], mut offset: usize) -> Result<(), Error> {
    while !bytes.is_empty() {
        may_fail("write code")?;
        match rustix::io::pwrite(file.as_fd(), bytes, offset as u64) {
            Ok(0) => return Err(Error::system("write code")(Errno::NOSPC)),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("write code")(errno)),
        }
    }
    Ok(())
}

/// Opens the memory map of this process.
pub(crate) fn open_maps() -> Result<OwnedFd, Error> {
    may_fail("read the memory map")?;
    rustix::fs::open("/proc/self/maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::system("read the memory map"))
}

/// Reads on in the memory map: the bytes read, none at its end.
pub(crate) fn read_maps(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Error> {
    may_fail("read the memory map")?;
    rustix::io::retry_on_intr(|| rustix::io::read(file, &mut *buffer))
        .map_err(Error::system("read the memory map"))
}

/// Eight bytes that nobody can guess.
pub(crate) fn random() -> Result<u64, Error> {
    may_fail("get random bytes")?;
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(8) => Ok(u64::from_le_bytes(bytes)),
        Ok(_) => Err(Error::system("get random bytes")(Errno::IO)),
        Err(errno) => Err(Error::system("get random bytes")(errno)),
    }
}

/// The processor's clock.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and no system forbids it unless a process asks for that.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Where the heap of the process ends that the C library grows in place.
pub(crate) fn heap_end() -> usize {
    // SAFETY: an increment of zero changes nothing.
    unsafe { libc::sbrk(0) as usize }
}

/// How the cores of other threads can be made to see what this one wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierCall {
    /// Each running thread of the process passes a full barrier and fetches its instructions anew.
    SyncCore,
    /// Each running thread of the process passes a full barrier; the interrupt that brings it there returns
    /// through an instruction that serializes, on x86-64.
    Memory,
}

/// Asks for the best barrier that the system has; `None` if it has none. Once per process is enough.
pub(crate) fn register_barrier() -> Option<BarrierCall> {
    let known = rustix::thread::membarrier_query();
    let register = |needed: MembarrierQuery, command| {
        known.contains(needed)
            && may_fail("register for barriers").is_ok()
            && rustix::thread::membarrier(command).is_ok()
    };
    if register(
        MembarrierQuery::PRIVATE_EXPEDITED_SYNC_CORE,
        MembarrierCommand::RegisterPrivateExpeditedSyncCore,
    ) {
        return Some(BarrierCall::SyncCore);
    }
    register(MembarrierQuery::PRIVATE_EXPEDITED, MembarrierCommand::RegisterPrivateExpedited)
        .then_some(BarrierCall::Memory)
}

/// Has each running thread of the process pass a barrier that [`register_barrier`] named.
pub(crate) fn barrier(call: BarrierCall) -> Result<(), Error> {
    may_fail("pass a barrier on each core")?;
    let command = match call {
        BarrierCall::SyncCore => MembarrierCommand::PrivateExpeditedSyncCore,
        BarrierCall::Memory => MembarrierCommand::PrivateExpedited,
    };
    rustix::thread::membarrier(command).map_err(Error::system("pass a barrier on each core"))
}

#[cfg(not(test))]
#[inline(always)]
fn may_fail(_: &'static str) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
pub(crate) use failing::{fail_at, fail_from, may_fail};

/// Failures on demand.
#[cfg(test)]
mod failing {
    use std::cell::Cell;

    use super::{Errno, Error};

    thread_local! {
        /// How many calls succeed before one fails.
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        /// Whether all after it fail too.
        static STAYS: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `body` with the `n`-th system call of this thread from now failing for want of memory, the first being
    /// number zero. Returns also whether there was such a call.
    pub(crate) fn fail_at<R>(n: usize, body: impl FnOnce() -> R) -> (R, bool) {
        LEFT.set(Some(n));
        let result = body();
        (result, LEFT.take().is_none())
    }

    /// Runs `body` with the `n`-th system call of this thread from now, and all after it, failing.
    pub(crate) fn fail_from<R>(n: usize, body: impl FnOnce() -> R) -> R {
        STAYS.set(true);
        let (result, _) = fail_at(n, body);
        STAYS.set(false);
        result
    }

    pub(crate) fn may_fail(attempt: &'static str) -> Result<(), Error> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                LEFT.set(STAYS.get().then_some(0));
                Err(Error::system(attempt)(Errno::NOMEM))
            }
            Some(n) => {
                LEFT.set(Some(n - 1));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_denial_of_executable_memory_files_is_a_refusal() {
        let error = |attempt, errno: Errno| Error::system(attempt)(errno);
        assert!(is_refusal(&error(CREATE, Errno::ACCESS)) && is_refusal(&error(EXECUTE, Errno::PERM)));
        assert!(!is_refusal(&error(CREATE, Errno::NOMEM)) && !is_refusal(&error("seal memory", Errno::PERM)));
        assert!(!is_refusal(&Error::Memory));
    }

    #[test]
    fn the_call_that_is_to_fail_fails_and_no_other() {
        let ((first, second, third), failed) = fail_at(1, || (random(), random(), random()));
        assert!(failed && first.is_ok() && third.is_ok());
        assert_eq!(second, Err(Error::System { attempt: "get random bytes", errno: libc::ENOMEM }));
        assert!(!fail_at(1, random).1, "there is only one call");
        assert_ne!(first, third);
    }

    #[test]
    fn the_best_barrier_of_the_system_can_be_passed() {
        if let Some(call) = register_barrier() {
            barrier(call).expect("it is registered");
        }
        let (none, failed) = fail_at(0, register_barrier);
        assert!(!failed || none != Some(BarrierCall::SyncCore), "the next best is taken if the best fails");
    }
}
