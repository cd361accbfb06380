//! The machine code between compiled code and [`crate::unwind`].
//!
//! Every stub makes a frame like compiled code does, with room for a [`Target`] at `rsp`, and describes it exactly, so
//! that a panic passes through it. Its callee fills the target, returns, and the stub goes there.
//!
//! The raising stubs have Cranelift's `tail` convention, which passes integers as `system_v` does; since they never
//! return, and take nothing on the stack, there is no other difference.

use std::arch::naked_asm;
use std::mem::offset_of;

use crate::layout::Slot;
use crate::unwind::{self, Target};

const _: () = assert!(
    offset_of!(Target, sp) == 0
        && offset_of!(Target, fp) == 8
        && offset_of!(Target, pc) == 16
        && offset_of!(Target, object) == 24
        && offset_of!(Target, code) == 32
        && size_of::<Target>() <= 48
);

/// Makes a stub's frame.
macro_rules! make_frame {
    () => {
        "push rbp
        .cfi_def_cfa_offset 16
        .cfi_offset rbp, -16
        mov rbp, rsp
        .cfi_def_cfa_register rbp
        sub rsp, 48"
    };
}

/// Goes to the target at `rsp`.
macro_rules! go_to_target {
    () => {
        "mov rax, [rsp + 24]
        mov rdx, [rsp + 32]
        mov rcx, [rsp + 16]
        mov rbp, [rsp + 8]
        mov rsp, [rsp]
        jmp rcx"
    };
}

/// Returns if `al` is zero, and goes to the target at `rsp` otherwise.
macro_rules! return_or_go_to_target {
    () => {
        "test al, al
        jnz 2f
        .cfi_remember_state
        leave
        .cfi_def_cfa rsp, 8
        ret
        .cfi_restore_state
        2:"
    };
}

/// `Helper::RaiseSite`.
///
/// # Safety
///
/// Called by compiled code in an activation only, like every stub here.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64-unwind" fn raise_site() -> ! {
    naked_asm!(
        ".cfi_startproc",
        make_frame!(),
        "mov rdi, rbp",
        "mov rsi, rsp",
        "call {raise_site}",
        go_to_target!(),
        ".cfi_endproc",
        raise_site = sym unwind::raise_site,
    )
}

/// `Helper::Throw`.
///
/// # Safety
///
/// As [`raise_site`].
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64-unwind" fn throw(object: u64) -> ! {
    naked_asm!(
        ".cfi_startproc",
        make_frame!(),
        "mov rsi, rbp",
        "mov rdx, rsp",
        "call {throw}",
        go_to_target!(),
        ".cfi_endproc",
        throw = sym unwind::throw,
    )
}

/// Where calls of methods go whose code was taken out, whatever their arguments are.
///
/// # Safety
///
/// As [`raise_site`].
#[unsafe(naked)]
unsafe extern "sysv64-unwind" fn unlinked() -> ! {
    naked_asm!(
        ".cfi_startproc",
        make_frame!(),
        "mov rdi, rbp",
        "mov rsi, rsp",
        "call {unlinked}",
        go_to_target!(),
        ".cfi_endproc",
        unlinked = sym unwind::unlinked,
    )
}

/// Where [`unlinked`] is.
pub(crate) fn unlinked_address() -> usize {
    unlinked as *const () as usize
}

/// `Helper::CallNative`.
///
/// # Safety
///
/// As [`raise_site`]; `slots` points at as many slots as `word` says.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64-unwind" fn call_native(context: usize, word: u64, slots: *mut Slot) {
    naked_asm!(
        ".cfi_startproc",
        make_frame!(),
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rbp",
        "mov rcx, rsp",
        "call {call_native}",
        return_or_go_to_target!(),
        go_to_target!(),
        ".cfi_endproc",
        call_native = sym unwind::call_native,
    )
}

/// `Helper::Allocate`.
///
/// # Safety
///
/// As [`raise_site`].
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64-unwind" fn allocate(description: u64, length: u64) -> u64 {
    naked_asm!(
        ".cfi_startproc",
        make_frame!(),
        "mov rdx, rbp",
        "mov rcx, rsp",
        "call {allocate}",
        "test rax, rax
        jz 2f
        .cfi_remember_state
        leave
        .cfi_def_cfa rsp, 8
        ret
        .cfi_restore_state
        2:",
        go_to_target!(),
        ".cfi_endproc",
        allocate = sym unwind::allocate,
    )
}

/// `Helper::Poll`. Keeps every register that compiled code may hold a value in, the low 128 bits of vectors, because
/// code that is not asked to stop must not pay for polls by keeping its values elsewhere.
///
/// # Safety
///
/// As [`raise_site`].
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64-unwind" fn poll() {
    naked_asm!(
        ".cfi_startproc",
        make_frame!(),
        // Nine integers of 8 bytes and sixteen vectors of 16, between the target and what the callee may use.
        "sub rsp, 336",
        "mov [rsp + 48], rax
        mov [rsp + 56], rcx
        mov [rsp + 64], rdx
        mov [rsp + 72], rsi
        mov [rsp + 80], rdi
        mov [rsp + 88], r8
        mov [rsp + 96], r9
        mov [rsp + 104], r10
        mov [rsp + 112], r11
        movaps [rsp + 128], xmm0
        movaps [rsp + 144], xmm1
        movaps [rsp + 160], xmm2
        movaps [rsp + 176], xmm3
        movaps [rsp + 192], xmm4
        movaps [rsp + 208], xmm5
        movaps [rsp + 224], xmm6
        movaps [rsp + 240], xmm7
        movaps [rsp + 256], xmm8
        movaps [rsp + 272], xmm9
        movaps [rsp + 288], xmm10
        movaps [rsp + 304], xmm11
        movaps [rsp + 320], xmm12
        movaps [rsp + 336], xmm13
        movaps [rsp + 352], xmm14
        movaps [rsp + 368], xmm15",
        "mov rdi, rbp",
        "mov rsi, rsp",
        "call {poll}",
        "test al, al
        jnz 2f
        mov rax, [rsp + 48]
        mov rcx, [rsp + 56]
        mov rdx, [rsp + 64]
        mov rsi, [rsp + 72]
        mov rdi, [rsp + 80]
        mov r8, [rsp + 88]
        mov r9, [rsp + 96]
        mov r10, [rsp + 104]
        mov r11, [rsp + 112]
        movaps xmm0, [rsp + 128]
        movaps xmm1, [rsp + 144]
        movaps xmm2, [rsp + 160]
        movaps xmm3, [rsp + 176]
        movaps xmm4, [rsp + 192]
        movaps xmm5, [rsp + 208]
        movaps xmm6, [rsp + 224]
        movaps xmm7, [rsp + 240]
        movaps xmm8, [rsp + 256]
        movaps xmm9, [rsp + 272]
        movaps xmm10, [rsp + 288]
        movaps xmm11, [rsp + 304]
        movaps xmm12, [rsp + 320]
        movaps xmm13, [rsp + 336]
        movaps xmm14, [rsp + 352]
        movaps xmm15, [rsp + 368]
        .cfi_remember_state
        leave
        .cfi_def_cfa rsp, 8
        ret
        .cfi_restore_state
        2:",
        go_to_target!(),
        ".cfi_endproc",
        poll = sym unwind::poll,
    )
}

/// Its address marks the frame of a stub on memory for as long as its call lasts.
pub(crate) static BULK_MARK: u8 = 0;

/// A stub that calls a function of the C library on memory, with a mark in its frame, so that a fault in there is one of the
/// code that asked for it. There is nothing on the stack then but frames of machine code, since that function is C's.
macro_rules! memory_stub {
    ($(#[$documentation:meta])* $name:ident($($operand:ident: $ty:ty),*) -> $result:ty = $function:path) => {
        $(#[$documentation])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "sysv64" fn $name($($operand: $ty),*) -> $result {
            naked_asm!(
                ".cfi_startproc",
                "push rbp",
                ".cfi_def_cfa_offset 16",
                ".cfi_offset rbp, -16",
                "mov rbp, rsp",
                ".cfi_def_cfa_register rbp",
                "sub rsp, 16",
                "lea rax, [rip + {mark}]",
                "mov [rbp - 16], rax",
                "call {function}",
                "mov qword ptr [rbp - 16], 0",
                "leave",
                ".cfi_def_cfa rsp, 8",
                "ret",
                ".cfi_endproc",
                mark = sym BULK_MARK,
                function = sym $function,
            )
        }
    };
}

memory_stub! {
    /// `Helper::MemoryCopy`.
    ///
    /// # Safety
    ///
    /// Called by compiled code in an activation; no Rust reference covers the bytes at `destination`.
    memory_copy(destination: *mut u8, source: *const u8, bytes: usize) -> *mut u8 = libc::memmove
}

memory_stub! {
    /// `Helper::MemoryFill`.
    ///
    /// # Safety
    ///
    /// As [`memory_copy`].
    memory_fill(destination: *mut u8, byte: i32, bytes: usize) -> *mut u8 = libc::memset
}

memory_stub! {
    /// `Helper::MemoryCompare`.
    ///
    /// # Safety
    ///
    /// Called by compiled code in an activation.
    memory_compare(left: *const u8, right: *const u8, bytes: usize) -> i32 = libc::memcmp
}
