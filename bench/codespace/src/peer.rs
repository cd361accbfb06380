//! What others do for a function: a mapping of its own, and `cranelift-jit`'s memory.

use std::ffi::c_void;
use std::ptr::{copy_nonoverlapping, null_mut};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::bytes::Body;
use crate::findings::Result;

/// A function in memory of its own, mapped writable, then made executable, unmapped in the end.
pub(crate) struct Mapped {
    start: *mut c_void,
    len: usize,
}

impl Mapped {
    /// Maps the code of `body`.
    pub(crate) fn new(body: &Body) -> Result<Mapped> {
        let bytes = body.bytes();
        // SAFETY: a mapping where the kernel likes it takes nobody's place.
        let start = unsafe {
            mmap_anonymous(null_mut(), bytes.len(), ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let mapped = Mapped { start, len: bytes.len() };
        // SAFETY: the mapping is new, writable and as long as the code.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), start.cast(), bytes.len()) };
        // SAFETY: the mapping is ours alone.
        unsafe { mprotect(start, mapped.len, MprotectFlags::READ | MprotectFlags::EXEC)? };
        Ok(mapped)
    }

    /// Runs it.
    pub(crate) fn call(&self) -> u64 {
        // SAFETY: the mapping holds a body, which takes nothing, returns an integer and keeps what a callee must keep.
        let function = unsafe { std::mem::transmute::<*mut c_void, extern "sysv64" fn() -> u64>(self.start) };
        function()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and calls borrow it, so none is under way. Unmapping what was mapped succeeds,
        // unless the kernel has no memory; then the mapping stays, which harms nobody.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

/// `cranelift-jit`'s memory, which is what its module allocates code from and finalizes.
#[cfg(feature = "peers")]
pub(crate) struct CraneliftMemory(cranelift_jit::SystemMemoryProvider);

#[cfg(feature = "peers")]
impl CraneliftMemory {
    /// Memory without code.
    pub(crate) fn new() -> CraneliftMemory {
        CraneliftMemory(cranelift_jit::SystemMemoryProvider::new())
    }

    /// Places the code of `body` and finalizes it.
    pub(crate) fn place(&mut self, body: &[u8]) -> Result<()> {
        use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
        let place = self.0.allocate(body.len(), 16, JITMemoryKind::Executable)?;
        // SAFETY: the memory was allocated for so many bytes and is writable until it is finalized.
        unsafe { copy_nonoverlapping(body.as_ptr(), place, body.len()) };
        self.0.finalize(BranchProtection::None).map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[cfg(feature = "peers")]
impl Drop for CraneliftMemory {
    fn drop(&mut self) {
        use cranelift_jit::JITMemoryProvider;
        // SAFETY: the code is never run, and its addresses are not kept.
        unsafe { self.0.free_memory() };
    }
}

/// The bytes of a mapped range that the kernel holds memory for, mapped into this process or not.
pub(crate) fn resident_bytes(range: std::ops::Range<usize>) -> Result<usize> {
    const PAGE: usize = 4096;
    let mut pages = vec![0u8; range.len().div_ceil(PAGE)];
    // SAFETY: the vector has a byte for each page of the range; the kernel refuses a range that is not mapped.
    let error = unsafe {
        libc::mincore(std::ptr::without_provenance_mut(range.start), range.len(), pages.as_mut_ptr())
    };
    if error != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(pages.iter().filter(|&&page| page & 1 != 0).count() * PAGE)
}
