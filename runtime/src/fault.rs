//! The last line of defence: a machine fault in compiled code becomes an error of the entry.
//!
//! Compiled code checks what it does, so none of this should ever happen; if it does, through a fault of ours or of
//! the host, the process lives on and the error names method and code offset.
//!
//! *What it does.* A signal that the processor caused at an instruction in the code that the innermost activation
//! entered is turned into the trampoline's exit: the handler changes program counter, stack and frame pointer of the
//! interrupted context and returns. So is one in the C library's function that copies, fills or compares memory for that
//! code; it counts as the code's own, at the call. Any other signal goes to the handler that was there before.
//!
//! *Why that is sound.* The instruction that faulted is compiled code, so compiled code was running, and what lies on the
//! stack between it and the innermost trampoline is frames of compiled code alone: every other function that it
//! calls is Rust code that has its own instructions elsewhere, and that enters code through a new activation only; and
//! between a stub that called `memmove` and its like and their fault there is that function alone, which owns nothing.
//! Frames of compiled code own nothing that must be dropped. The trampoline restores all callee-saved registers, and
//! returning from the handler restores the signal mask.
//!
//! *What it cannot do.* Memory that the code had begun to change stays so. A handler of the guest never sees the fault.
//!
//! The handler reads what its thread wrote before, allocates nothing and takes no lock. (In a shared library that
//! was loaded late, the first access to a thread's variables may allocate; threads that never entered compiled
//! code and die from a fault of their own then do so inside the handler.)

use std::cell::OnceCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use dagwood_il::{MethodId, SourcePos};
use libc::{c_int, c_void, siginfo_t, ucontext_t};

use crate::code::CodeTable;
use crate::entry::Activation;
use crate::error::SystemError;
use crate::raise::{Frame, Raise, Trace};
use crate::region::Region;
use crate::stack::HOST_RESERVE;
use crate::stubs;
use crate::unwind;

/// The signals by which a processor's faults arrive. `int3`, which fills unused executable bytes, is among them.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];
/// The bytes of the stack that handlers run on, where the thread has none: more than any processor's registers take.
const SIGNAL_STACK: usize = 64 << 10;
/// The flag that string instructions run backwards, which no function expects to be set.
const DIRECTION_FLAG: i64 = 0x400;
/// The bytes of stack that a stub and a function of the C library on memory may take together. A signal's frame is larger,
/// so a fault of a handler that interrupted such a function is not taken for one of that function.
const BULK_STACK: usize = 256;

/// What was installed before, in the order of [`SIGNALS`]; empty as long as our handler is not.
static PREVIOUS: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

/// A machine fault in compiled code, as the cause of a [`Raise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineFault {
    /// The signal's number.
    pub signal: i32,
    /// The address that could not be accessed, or where the instruction is, depending on the signal.
    pub address: usize,
    /// Which method's code it was, if any's.
    pub method: Option<MethodId>,
    /// The offset of the instruction in that code; outside of any, its address.
    pub offset: usize,
}

impl fmt::Display for MachineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MachineFault { signal, address, method, offset } = *self;
        match signal {
            libc::SIGSEGV | libc::SIGBUS => write!(f, "memory fault at {address:#x} in compiled code")?,
            libc::SIGFPE => f.write_str("arithmetic fault in compiled code")?,
            _ => f.write_str("invalid instruction in compiled code")?,
        }
        match method {
            Some(method) => write!(f, ", {method} at code offset {offset:#x}"),
            None => write!(f, ", outside of any method at {offset:#x}"),
        }
    }
}

impl std::error::Error for MachineFault {}

/// What the handler found, for the entry to make an error from.
#[derive(Debug)]
pub(crate) struct FaultRecord {
    signal: c_int,
    pc: usize,
    address: usize,
    /// The first return addresses on the stack, innermost first.
    returns: [usize; Trace::LIMIT],
    count: usize,
    /// How many more there were.
    omitted: u64,
}

impl Default for FaultRecord {
    fn default() -> Self {
        FaultRecord { signal: 0, pc: 0, address: 0, returns: [0; Trace::LIMIT], count: 0, omitted: 0 }
    }
}

impl FaultRecord {
    /// The raise that says what is recorded.
    ///
    /// # Safety
    ///
    /// The calling thread still counts as running the code that faulted.
    pub(crate) unsafe fn to_raise(&self, code: &CodeTable) -> Raise {
        // SAFETY: the thread has entered, and makes no checkpoint here.
        let body = unsafe { code.body_at(self.pc) };
        let offset = self.pc - body.map_or(0, |body| body.start);
        let method = body.and_then(|body| body.method);
        let fault = MachineFault { signal: self.signal, address: self.address, method, offset };
        let mut raise = Raise::fault(fault);
        if let Some(method) = method {
            raise.trace.push(Frame { method, position: SourcePos::NONE, offset: offset as u32 });
        }
        // SAFETY: as above.
        unsafe { unwind::trace_returns(&mut raise.trace, code, &self.returns[..self.count]) };
        raise.trace.omit(self.omitted);
        raise
    }

    /// Records the return addresses of the frames from `fp` up to, without it, the trampoline's at `end`.
    ///
    /// # Safety
    ///
    /// The bytes from `low` to `end` are stack.
    unsafe fn walk(&mut self, mut fp: usize, low: usize, end: usize) {
        (self.count, self.omitted) = (0, 0);
        while fp >= low && fp < end && end - fp >= 16 && fp.is_multiple_of(8) {
            // SAFETY: both words lie between `low` and `end`.
            let [parent, return_address] = unsafe { ptr::with_exposed_provenance::<[usize; 2]>(fp).read() };
            if parent <= fp || parent >= end {
                return;
            }
            match self.returns.get_mut(self.count) {
                Some(place) => {
                    *place = return_address;
                    self.count += 1;
                }
                None => self.omitted += 1,
            }
            fp = parent;
        }
    }
}

/// Makes machine faults in compiled code errors of the entry, in the whole process and from now on. Calling it again does
/// nothing.
pub fn install_fault_handler() -> Result<(), SystemError> {
    /// Whether the handler is there for all signals.
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let mut previous = [const { MaybeUninit::<libc::sigaction>::zeroed() }; SIGNALS.len()];
    for (signal, place) in SIGNALS.into_iter().zip(&mut previous) {
        // SAFETY: only asks; the place has the right type.
        if unsafe { libc::sigaction(signal, ptr::null(), place.as_mut_ptr()) } != 0 {
            return Err(SystemError::last("ask for a signal's handler"));
        }
    }
    // SAFETY: every place was filled by the call above. The handler finds them as soon as it can run. After an attempt that
    // failed halfway they are known already, and those of this attempt may be our own.
    let _ = PREVIOUS.set(previous.map(|place| unsafe { place.assume_init() }));
    // SAFETY: zero is a valid value of every field: numbers, sets of bits, an optional function.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in SIGNALS {
        // SAFETY: the handler has the signature that the flags promise, and forwards what is not its own.
        if unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } != 0 {
            return Err(SystemError::last("install a signal's handler"));
        }
    }
    *installed = true;
    Ok(())
}

/// Sees to it that the current thread has a stack for signal handlers, if the handler is installed.
pub(crate) fn prepare_thread() -> Result<(), SystemError> {
    thread_local! {
        static SIGNAL_STACK_HERE: OnceCell<SignalStack> = const { OnceCell::new() };
    }
    if PREVIOUS.get().is_none() {
        return Ok(());
    }
    // A thread that is ending has had its chance; a fault now is fatal, as without us.
    let prepared = SIGNAL_STACK_HERE.try_with(|here| match here.get() {
        Some(_) => Ok(()),
        None => SignalStack::provide().map(|stack| {
            here.get_or_init(|| stack);
        }),
    });
    prepared.unwrap_or(Ok(()))
}

/// The stack for a thread's signal handlers.
struct SignalStack {
    /// What we provide, unless the thread had one.
    ours: Option<Region>,
}

impl SignalStack {
    fn provide() -> Result<SignalStack, SystemError> {
        let mut current = MaybeUninit::<libc::stack_t>::zeroed();
        // SAFETY: only asks; the place has the right type.
        if unsafe { libc::sigaltstack(ptr::null(), current.as_mut_ptr()) } != 0 {
            return Err(SystemError::last("ask for the stack of signal handlers"));
        }
        // SAFETY: filled by the call.
        if unsafe { current.assume_init() }.ss_flags & libc::SS_DISABLE == 0 {
            return Ok(SignalStack { ours: None });
        }
        let mut region = Region::reserve(SIGNAL_STACK)?;
        region.commit(SIGNAL_STACK)?;
        let stack = libc::stack_t { ss_sp: region.base().cast(), ss_flags: 0, ss_size: SIGNAL_STACK };
        // SAFETY: the region is accessible and stays so until `drop` takes it back from the system.
        if unsafe { libc::sigaltstack(&stack, ptr::null_mut()) } != 0 {
            return Err(SystemError::last("provide a stack for signal handlers"));
        }
        Ok(SignalStack { ours: Some(region) })
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        let Some(region) = self.ours.take() else { return };
        let mut current = MaybeUninit::<libc::stack_t>::zeroed();
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: asks, and withdraws the stack only if it is still ours; no handler runs on it, since this is not one.
        let withdrawn = unsafe {
            libc::sigaltstack(ptr::null(), current.as_mut_ptr()) == 0
                && (current.assume_init().ss_sp != region.base().cast()
                    || libc::sigaltstack(&none, ptr::null_mut()) == 0)
        };
        if !withdrawn {
            // The system may still use it.
            std::mem::forget(region);
        }
    }
}

/// The handler.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system calls this with pointers to what it saved, which is ours to read and change until we return.
    unsafe {
        if !take(signal, &*info, &mut *context.cast::<ucontext_t>()) {
            forward(signal, info, context);
        }
    }
}

/// Leaves compiled code, if that is what faulted.
///
/// # Safety
///
/// Called by the handler, with what the system gave it.
unsafe fn take(signal: c_int, info: &siginfo_t, context: &mut ucontext_t) -> bool {
    // SAFETY: used in this function alone; the activation is below us on the stack of this thread, or on the one that we
    // interrupted.
    let Some(activation) = (unsafe { Activation::innermost() }) else { return false };
    let registers = &mut context.uc_mcontext.gregs;
    // The program counter after `int3` is behind it.
    let mut pc =
        (registers[libc::REG_RIP as usize] as usize).wrapping_sub(usize::from(signal == libc::SIGTRAP));
    let (mut fp, sp) =
        (registers[libc::REG_RBP as usize] as usize, registers[libc::REG_RSP as usize] as usize);
    // Signals that were sent, and not caused, have codes up to zero.
    if info.si_code <= 0 {
        return false;
    }
    if !activation.entry.code.contains(pc) {
        // SAFETY: the stack pointer is the interrupted function's.
        let Some([parent, return_address]) = (unsafe { bulk_caller(activation, fp, sp) }) else {
            return false;
        };
        // What it returns to is behind the call.
        (fp, pc) = (parent, return_address - 1);
    }
    let exit = &activation.exit;
    let thread = activation.entry.thread;
    // SAFETY: compiled code was running, so nobody on this thread holds a reference to the record, and no other thread does.
    let record = unsafe { &mut *thread.fault() };
    // SAFETY: a fault that the processor caused has an address.
    (record.signal, record.pc, record.address) = (signal, pc, unsafe { info.si_addr() } as usize);
    let low = sp.max(thread.stack_limit() - HOST_RESERVE);
    // SAFETY: the stack limit is at least the reserve above the stack's low end, and the trampoline's frame is on that stack.
    unsafe { record.walk(fp, low, exit.fp.get()) };
    registers[libc::REG_RIP as usize] = exit.pc.get() as i64;
    registers[libc::REG_RSP as usize] = exit.sp.get() as i64;
    registers[libc::REG_RBP as usize] = exit.fp.get() as i64;
    registers[libc::REG_EFL as usize] &= !DIRECTION_FLAG;
    true
}

/// The frame pointer and the return address of the code that called a stub on memory, if it is the C library's function
/// under that stub which faulted. The stub's frame is where `fp` points: `memmove` and its like have no frames of their own,
/// and one that had would make the fault what it is without us. The stub's mark is in its frame for as long as the call
/// lasts; when it is cut off, the mark is taken away here, so that a later frame in this place does not seem to bear it.
///
/// # Safety
///
/// `fp` and `sp` are those of the interrupted function.
unsafe fn bulk_caller(activation: &Activation<'_>, fp: usize, sp: usize) -> Option<[usize; 2]> {
    let stack = activation.entry.thread.stack_limit() - HOST_RESERVE..activation.exit.fp.get();
    let used = fp.checked_sub(sp)?;
    let is_frame = (16..=BULK_STACK).contains(&used) && fp.is_multiple_of(16);
    if !is_frame || !stack.contains(&sp) || !stack.contains(&fp) {
        return None;
    }
    // SAFETY: the words lie between the stack pointer and the trampoline's frame, on one stack.
    let [mark, _, parent, return_address] =
        unsafe { ptr::with_exposed_provenance::<[usize; 4]>(fp - 16).read() };
    let is_ours =
        mark == ptr::from_ref(&stubs::BULK_MARK).addr() && activation.entry.code.contains(return_address - 1);
    if !is_ours {
        return None;
    }
    // SAFETY: as above; the frame is about to be left.
    unsafe { ptr::with_exposed_provenance_mut::<usize>(fp - 16).write(0) };
    Some([parent, return_address])
}

/// Does what would have been done without us.
///
/// # Safety
///
/// Called by the handler, with what the system gave it.
unsafe fn forward(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let index = SIGNALS.iter().position(|&other| other == signal);
    let Some((all, index)) = PREVIOUS.get().zip(index) else { return };
    let action = &all[index];
    // SAFETY: the system's pointer, valid until the handler returns.
    let is_sent = unsafe { (*info).si_code <= 0 };
    match action.sa_sigaction {
        libc::SIG_IGN if is_sent => {}
        libc::SIG_IGN | libc::SIG_DFL => {
            // SAFETY: both calls are allowed in handlers. The signal is blocked until we return, and then ends the process.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
        handler if action.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the flag says that the action is a function of this type.
            let handler = unsafe {
                std::mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler)
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without the flag it is a function of this type.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}
