//! Raising: from a call site in compiled code to the handler that catches.
//!
//! ```text
//!   stub frame ─► caller's frame ─► its caller's ─► … ─► shim ─► trampoline
//!     rbp, ret      rbp, ret          rbp, ret            rbp, ret
//! ```
//!
//! Compiled code calls a stub ([`crate::stubs`]), which calls a function here with its frame pointer. That walks the
//! chain of frames, looks each return address up among the installed code, and fills a [`Target`] with the first
//! handler that catches, or with the trampoline's exit. Then it *returns* and the stub jumps there. So no frame of Rust
//! code is ever jumped over: all frames in between are compiled code and the stub itself.
//!
//! *Registers.* A handler expects `rsp`, `rbp`, `rax` and `rdx`, and nothing else, where the call it belongs to has
//! the `tail` convention. Where that is a `system_v` call of a stub, values may also live in callee-saved
//! registers; these are as they were at the call, since every Rust function between has returned.
//!
//! *Cost.* A lookup for each frame until the handler. The trace is gathered by a second walk, and only if there is none.

use dagwood_codegen::{Landing, Site};
use dagwood_il::RaiseKind;
use dagwood_il::layout::NativeWord;

use crate::code::{Body, CodeTable};
use crate::entry::Activation;
use crate::host::{Host, NativeCall};
use crate::layout::Slot;
use crate::raise::{Frame, Raise, Trace};

/// Where a stub goes on. The stubs know the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Target {
    pub(crate) sp: usize,
    pub(crate) fp: usize,
    pub(crate) pc: usize,
    /// For `rax`.
    pub(crate) object: u64,
    /// For `rdx`: the kind in the low 8 bits, the reason above.
    pub(crate) code: u64,
}

/// What `rbp` points at in every frame.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawFrame {
    parent: *const RawFrame,
    return_address: usize,
}

/// A compiled frame on the way outward.
struct Step<'a> {
    body: &'a Body,
    /// Where it will go on, as an offset in its code.
    offset: u32,
    /// Its frame pointer.
    fp: usize,
}

impl<'a> Step<'a> {
    /// The frame that `return_address` leads back to.
    fn at(code: &'a CodeTable, return_address: usize, fp: usize) -> Option<Step<'a>> {
        // A call may be the last instruction, and its return address then lies behind the body.
        let body = code.lookup(return_address.wrapping_sub(1))?;
        Some(Step { body, offset: (return_address - body.code().address) as u32, fp })
    }

    fn site(&self) -> Option<&'a Site> {
        self.body.site(self.offset)
    }

    /// The frame as traces name it; stubs and shims are not named.
    fn frame(&self) -> Option<Frame> {
        let position = self.site().map(|site| site.position).unwrap_or_default();
        self.body.method().map(|method| Frame { method, position, offset: self.offset })
    }
}

/// The compiled frames from a stub's frame outward, up to the trampoline's, or to the first that is not installed code.
#[derive(Clone)]
struct Walk<'a> {
    code: &'a CodeTable,
    frame: *const RawFrame,
    /// The frame pointer of the trampoline.
    end: usize,
}

impl<'a> Walk<'a> {
    /// # Safety
    ///
    /// `frame` is the frame of a stub that code of `activation` called, and has not returned.
    unsafe fn new(activation: &Activation<'a>, frame: *const RawFrame) -> Walk<'a> {
        Walk { code: activation.entry.code, frame, end: activation.exit.fp.get() }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        // SAFETY: the frame is the stub's, or was found below to lie above it and below the trampoline's, on the part of this
        // thread's stack that is in use.
        let RawFrame { parent, return_address } = unsafe { self.frame.read() };
        let fp = parent as usize;
        if fp <= self.frame as usize || fp >= self.end || !fp.is_multiple_of(align_of::<RawFrame>()) {
            return None;
        }
        self.frame = parent;
        Step::at(self.code, return_address, fp)
    }
}

/// Adds to `trace` the frames that `return_addresses` lead back to.
pub(crate) fn trace_returns(trace: &mut Trace, code: &CodeTable, return_addresses: &[usize]) {
    let steps = return_addresses.iter().filter_map(|&address| Step::at(code, address, 0));
    steps.filter_map(|step| step.frame()).for_each(|frame| trace.push(frame));
}

/// Whether a handler catches a raise.
fn catches(handler: &Landing, raise: &Raise, host: &dyn Host) -> bool {
    handler.kinds.contains(raise.kind)
        && match (raise.kind, handler.class) {
            (RaiseKind::Fault, _) => false,
            (RaiseKind::Guest, Some(class)) => host.is_instance(raise.object, class),
            _ => true,
        }
}

/// Finds where `raise` goes on; leaves it in the activation if that is the exit.
fn find(activation: &Activation<'_>, walk: &Walk<'_>, mut raise: Raise) -> Target {
    for step in walk.clone() {
        let Some(site) = step.site() else { continue };
        let mut handlers = step.body.handlers(site).iter();
        if let Some(handler) = handlers.find(|handler| catches(handler, &raise, activation.entry.host)) {
            return Target {
                sp: step.fp - site.frame_offset as usize,
                fp: step.fp,
                pc: step.body.code().address + handler.offset as usize,
                object: raise.object,
                code: u64::from(raise.kind.code(raise.reason)),
            };
        }
    }
    walk.clone().filter_map(|step| step.frame()).for_each(|frame| raise.trace.push(frame));
    activation.leave_with(raise);
    let exit = &activation.exit;
    Target { sp: exit.sp.get(), fp: exit.fp.get(), pc: exit.pc.get(), object: 0, code: 0 }
}

/// Unwinds from the call of the stub with the frame `frame`, with the raise that `raise` makes.
///
/// # Safety
///
/// As [`Walk::new`], for the innermost activation of this thread; `target` may be written.
unsafe fn unwind(frame: *const RawFrame, target: *mut Target, raise: impl FnOnce(&Walk<'_>) -> Raise) {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }.expect("code runs in an activation");
    // SAFETY: the caller vouches for the frame.
    let walk = unsafe { Walk::new(activation, frame) };
    let found = find(activation, &walk, raise(&walk));
    // SAFETY: the caller vouches for the target.
    unsafe { target.write(found) };
}

/// What the stub of `Helper::RaiseSite` calls.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn raise_site(frame: *const RawFrame, target: *mut Target) {
    let raise = |walk: &Walk<'_>| {
        let site = walk.clone().next().and_then(|step| step.site());
        match site.and_then(|site| site.raises) {
            Some((kind, reason)) => Raise::new(kind, reason),
            None => Raise::fault("compiled code raised from a place that has no site"),
        }
    };
    // SAFETY: the same contract.
    unsafe { unwind(frame, target, raise) };
}

/// What the stub of `Helper::Throw` calls.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn throw(object: u64, frame: *const RawFrame, target: *mut Target) {
    // SAFETY: the same contract.
    unsafe { unwind(frame, target, |_| Raise::guest(object)) };
}

/// What the stub of `Helper::CallNative` calls. Says whether `target` was filled.
///
/// # Safety
///
/// As [`unwind`]; `word` is that of a [`NativeWord`], and `slots` points at as many slots as it says.
pub(crate) unsafe extern "sysv64-unwind" fn call_native(
    word: u64,
    slots: *mut Slot,
    frame: *const RawFrame,
    target: *mut Target,
) -> bool {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }.expect("code runs in an activation");
    let entry = activation.entry;
    let NativeWord { native, slots: count } = NativeWord::decode(word);
    // SAFETY: the caller vouches for pointer and number; the buffer belongs to the calling frame, which waits.
    let slots = unsafe { std::slice::from_raw_parts_mut(slots, count as usize) };
    match entry.host.call_native(NativeCall { entry, native, slots }) {
        Ok(()) => false,
        Err(raise) => {
            // SAFETY: the same contract.
            unsafe { unwind(frame, target, |_| raise) };
            true
        }
    }
}

/// What the stub of `Helper::Poll` calls. Says whether `target` was filled.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn poll(frame: *const RawFrame, target: *mut Target) -> bool {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }.expect("code runs in an activation");
    match activation.entry.thread.poll() {
        None => false,
        Some(interrupt) => {
            let raise = Raise::new(RaiseKind::Interrupt, interrupt.reason());
            // SAFETY: the same contract.
            unsafe { unwind(frame, target, |_| raise) };
            true
        }
    }
}
