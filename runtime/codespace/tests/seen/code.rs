//! Functions to look at: each has a frame, calls what it is given, and returns.

use std::ptr;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

/// ```text
///   0  push rbp        1  mov rbp, rsp      4  sub rsp, 32
///   8  call rdi       10  leave            11  ret
/// ```
pub(crate) const BODY: [u8; 12] = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0xff, 0xd7, 0xc9, 0xc3];
/// Where the call stands in it.
pub(crate) const CALL: u32 = 8;
/// ```text
///   0  push rbp        1  mov rbp, rsp      4  mov rax, rdi
///   7  dec rax        10  jnz 7            12  pop rbp        13  ret
/// ```
pub(crate) const LOOP: [u8; 14] =
    [0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf8, 0x48, 0xff, 0xc8, 0x75, 0xfb, 0x5d, 0xc3];

/// Copies of a function in executable memory, `stride` bytes apart.
pub(crate) struct Copies {
    base: usize,
    stride: usize,
    body: &'static [u8],
}

impl Copies {
    pub(crate) fn new(body: &'static [u8], count: usize, stride: usize) -> Copies {
        let len = count * stride;
        // SAFETY: a new mapping, of which each copy gets bytes of its own before it becomes executable.
        let base = unsafe {
            let flags = MapFlags::PRIVATE;
            let base =
                rustix::mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
                    .unwrap();
            base.cast::<u8>().write_bytes(0xcc, len);
            for index in 0..count {
                base.cast::<u8>().add(index * stride).copy_from(body.as_ptr(), body.len());
            }
            rustix::mm::mprotect(base, len, MprotectFlags::READ | MprotectFlags::EXEC).unwrap();
            base.addr()
        };
        Copies { base, stride, body }
    }

    pub(crate) fn address(&self, index: usize) -> usize {
        self.base + index * self.stride
    }

    pub(crate) fn bytes(&self) -> &'static [u8] {
        self.body
    }

    /// Runs one of them with one argument.
    pub(crate) fn call(&self, index: usize, argument: usize) {
        // SAFETY: the address is that of a copy, which is a function with the C convention and one argument.
        unsafe {
            let function: extern "C" fn(usize) = std::mem::transmute(self.address(index));
            function(argument);
        }
    }
}
