//! Entering compiled code, and coming back by every way there is.
//!
//! ```text
//!   Entry::call ─► trampoline ─► shim(context, code, buffer) ─► code ─► … ─► a helper of ours ─► host ─► Entry::call …
//!        ▲             │ ▲                                                        │
//!        │             │ └── exit: an uncaught raise, a machine fault ◄───────────┘
//!        └─ activation ┘     a panic takes the same way by the unwinder
//! ```
//!
//! The *trampoline* saves every callee-saved register in a frame that the unwinder can read exactly. So compiled code
//! need not be able to restore them: whatever cuts it off ends here or passes through here. The *shim* is compiled for
//! each signature; it loads the arguments from the buffer, calls the code, and stores the results.
//!
//! An *activation* on the stack of `Entry::call` says where the trampoline's frame is; a thread's activations form a
//! list, innermost first, since the host may enter code again.

use std::cell::Cell;
use std::mem::offset_of;
use std::ptr;

use dagwood_il::RaiseKind;

use crate::code::CodeTable;
use crate::context::{Context, InUse};
use crate::fault;
use crate::heap::Heap;
use crate::host::Host;
use crate::layout::Slot;
use crate::raise::Raise;
use crate::thread::{NoRoom, Thread};
use crate::unwind::RawFrame;

/// What code is entered with.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The thread it runs on.
    pub thread: &'a Thread,
    /// Its first parameter.
    pub context: &'a Context,
    /// Where it is installed, with all compiled code that it calls.
    pub code: &'a CodeTable,
    /// Whom it asks.
    pub host: &'a dyn Host,
}

impl Entry<'_> {
    /// Calls the code at address `code` through the shim at address `shim`: arguments are taken from `slots`, results take
    /// their places. The error is a raise that nothing in the code caught.
    ///
    /// # Panics
    ///
    /// If a function of the host that the code calls panics.
    ///
    /// # Safety
    ///
    /// * `code` and `shim` are the starts of bodies in `self.code`, and `shim` is made for the signature of `code`; `slots`
    ///   has at least as many slots as it has parameters, and as it has results.
    /// * Neither of them can be freed: both stay installed, or the calling thread counted as running code before it learnt their
    ///   addresses. Code that runs reaches only code that is linked in this way: by calls that are registered, or at
    ///   addresses that stay.
    /// * All machine code that runs keeps `rbp` as the frame pointer, respects the conventions of the artifact's helpers,
    ///   describes each of its raising sites truly, and touches no memory but what its context leads it to.
    /// * What is passed for a reference is one into the host's heap, and the heap's classes are those that the code was made for.
    pub unsafe fn call(&self, shim: usize, code: usize, slots: &mut [Slot]) -> Result<(), Raise> {
        // SAFETY: the same contract.
        unsafe { self.call_with(self.host.heap(), shim, code, slots) }
    }

    /// As [`Entry::call`], with the heap that the host was found to have: it is not asked again.
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn call_with(
        &self,
        heap: Option<&Heap>,
        shim: usize,
        code: usize,
        slots: &mut [Slot],
    ) -> Result<(), Raise> {
        let _entered = self.thread.enter()?;
        fault::prepare_thread().map_err(Raise::fault)?;
        let _taken = self.context.take(self.thread)?;
        let _lent = heap.map(|heap| heap.lend(self.thread)).transpose()?;
        let activation = Activation::new(self, heap);
        let _linked = Linked::new(&activation);
        // SAFETY: the caller vouches for shim, code and slots; the context lives at its address, and the activation
        // stays where it is until the trampoline has returned or been unwound.
        let raised =
            unsafe { trampoline(shim, self.context.address(), code, slots.as_mut_ptr(), &activation.exit) };
        if raised == 0 { Ok(()) } else { Err(activation.outcome()) }
    }
}

/// Where an activation is left for its trampoline's exit.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Exit {
    /// The frame pointer of the trampoline: where every walk over frames ends.
    pub(crate) fp: Cell<usize>,
    pub(crate) sp: Cell<usize>,
    pub(crate) pc: Cell<usize>,
}

/// One entry into compiled code that has not come back.
pub(crate) struct Activation<'a> {
    pub(crate) exit: Exit,
    pub(crate) entry: &'a Entry<'a>,
    /// Where its references lead, from its entry to its end; none if it has none.
    pub(crate) heap: Option<&'a Heap>,
    /// The activation around it on this thread of the system, or null.
    outer: *const Activation<'static>,
    /// While its code waits for the host: the frame of the stub that it called.
    host_frame: Cell<*const RawFrame>,
    /// The raise with which the exit was taken; none if it was a machine fault.
    raise: Cell<Option<Raise>>,
}

thread_local! {
    /// The innermost activation of this thread, or null. Without a destructor and never lazily made, so that a signal handler
    /// may read it.
    static INNERMOST: Cell<*const Activation<'static>> = const { Cell::new(ptr::null()) };
}

impl<'a> Activation<'a> {
    fn new(entry: &'a Entry<'a>, heap: Option<&'a Heap>) -> Activation<'a> {
        let outer = INNERMOST.with(Cell::get);
        let host_frame = Cell::new(ptr::null());
        Activation { exit: Exit::default(), entry, heap, outer, host_frame, raise: Cell::new(None) }
    }

    /// The innermost activation of this thread.
    ///
    /// # Safety
    ///
    /// The reference must not be used beyond the return of the caller, which runs below the activation on the stack.
    pub(crate) unsafe fn innermost<'b>() -> Option<&'b Activation<'b>> {
        // SAFETY: a pointer in the list points to an activation on this thread's stack that has not ended, since `Linked`
        // takes it off the list before it ends; the caller lets go of it before that.
        INNERMOST.with(|innermost| unsafe { innermost.get().as_ref() })
    }

    /// The activation around this one, on the same thread of the system.
    pub(crate) fn outer(&self) -> Option<&Activation<'_>> {
        // SAFETY: it is on the list as long as this one, which is inside it; and lives on the same stack.
        unsafe { self.outer.as_ref() }
    }

    /// While its code waits for the host: the frame of the stub that it called, else null.
    pub(crate) fn host_frame(&self) -> *const RawFrame {
        self.host_frame.get()
    }

    /// Says that the host is called from the stub with this frame, until what this returns is dropped.
    pub(crate) fn in_host(&self, frame: *const RawFrame) -> InHost<'_> {
        InHost { place: &self.host_frame, previous: self.host_frame.replace(frame) }
    }

    /// Keeps the raise that the exit is about to be taken with.
    pub(crate) fn leave_with(&self, raise: Raise) {
        self.raise.set(Some(raise));
    }

    /// Why the exit was taken.
    fn outcome(&self) -> Raise {
        match self.raise.take() {
            Some(raise) => raise,
            // SAFETY: without a raise it was the fault handler that took the exit, after it filled the record; it runs on
            // this thread alone, and only while compiled code does. The entry has not ended, so the thread still counts
            // as running.
            None => unsafe { (*self.entry.thread.fault()).to_raise(self.entry.code) },
        }
    }
}

/// The host is being called.
pub(crate) struct InHost<'a> {
    place: &'a Cell<*const RawFrame>,
    previous: *const RawFrame,
}

impl Drop for InHost<'_> {
    fn drop(&mut self) {
        self.place.set(self.previous);
    }
}

/// Keeps an activation in the thread's list.
struct Linked {
    previous: *const Activation<'static>,
}

impl Linked {
    fn new(activation: &Activation<'_>) -> Linked {
        let this = ptr::from_ref(activation).cast::<Activation<'static>>();
        INNERMOST.with(|innermost| innermost.set(this));
        Linked { previous: activation.outer }
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.previous));
    }
}

impl From<InUse> for Raise {
    fn from(_: InUse) -> Raise {
        Raise::fault("another thread runs code with the context")
    }
}

impl From<NoRoom> for Raise {
    fn from(reason: NoRoom) -> Raise {
        match reason {
            NoRoom::Used => Raise::new(RaiseKind::StackOverflow, 0),
            NoRoom::Foreign => {
                Raise::fault("the current stack is not the one that the system gave to the thread")
            }
            NoRoom::Unknown(error) => Raise::fault(error),
        }
    }
}

/// Calls `shim(context, code, slots)` and returns zero; or one, if the exit that it wrote to `exit` was taken.
///
/// # Safety
///
/// As [`Entry::call`]; `exit` stays valid until this returns or is unwound.
#[unsafe(naked)]
unsafe extern "sysv64-unwind" fn trampoline(
    shim: usize,
    context: usize,
    code: usize,
    slots: *mut Slot,
    exit: *const Exit,
) -> u64 {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        ".cfi_offset rbx, -24",
        ".cfi_offset r12, -32",
        ".cfi_offset r13, -40",
        ".cfi_offset r14, -48",
        ".cfi_offset r15, -56",
        "mov [r8 + {fp}], rbp",
        "mov [r8 + {sp}], rsp",
        "lea rax, [rip + 2f]",
        "mov [r8 + {pc}], rax",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "call rax",
        "xor eax, eax",
        "jmp 3f",
        // The exit: entered with rbp and rsp as they are during the call.
        "2:",
        "mov eax, 1",
        "3:",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
        fp = const offset_of!(Exit, fp),
        sp = const offset_of!(Exit, sp),
        pc = const offset_of!(Exit, pc),
    )
}
