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
//! *Checkpoints.* At a poll that was asked for one, all addresses are told that frames of compiled code on this stack return to: those
//! of the innermost activation, and those of each one around it, from the stub that called its host. Frames are followed by their
//! pointers alone: whether something is installed there is not asked, so nothing is left out.
//!
//! *The host.* What it returns and throws as a reference is looked up in the heap before code sees it, and is a fault if it is none;
//! an object that is thrown, where a method catches it that takes what it catches for a reference: for others it is a number.
//!
//! *Cost.* A lookup for each frame until the handler. The trace is gathered by a second walk, and only if there is none.

use dagwood_codegen::{Landing, Site};
use dagwood_il::layout::{NativeWord, ObjectKind};
use dagwood_il::{NativeId, RaiseKind, SourcePos};

use crate::body::Body;
use crate::classes::Classes;
use crate::code::CodeTable;
use crate::entry::Activation;
use crate::evict::EvictedCall;
use crate::heap::{AccessError, Heap};
use crate::host::NativeCall;
use crate::layout::Slot;
use crate::raise::{Frame, Raise, Trace};
use crate::thread::Interrupt;

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
pub(crate) struct Step<'a> {
    pub(crate) body: &'a Body,
    /// Where it will go on, as an offset in its code.
    offset: u32,
    /// Its frame pointer.
    pub(crate) fp: usize,
}

impl<'a> Step<'a> {
    /// The frame that `return_address` leads back to.
    ///
    /// # Safety
    ///
    /// The thread has entered, and the step is not used after it leaves or makes a checkpoint that does not name the address.
    unsafe fn at(code: &'a CodeTable, return_address: usize, fp: usize) -> Option<Step<'a>> {
        // A call may be the last instruction, and its return address then lies behind the body.
        // SAFETY: the same contract.
        let body = unsafe { code.body_at(return_address.wrapping_sub(1)) }?;
        Some(Step { body, offset: (return_address - body.start) as u32, fp })
    }

    pub(crate) fn site(&self) -> Option<&'a Site> {
        self.body.site(self.offset)
    }

    /// Whether objects may move while the frame waits.
    fn moves_objects(&self) -> bool {
        self.site().is_some_and(|site| site.references.is_some())
    }

    /// The frame as traces name it, and those of the methods that it was inlined into; stubs and shims are not named.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let position = self.site().map(|site| site.position).unwrap_or_default();
        let offset = self.offset;
        let own = self.body.method.map(|method| Frame { method, position, offset });
        let mut frames: Vec<Frame> = own.into_iter().collect();
        if let Some(site) = self.site() {
            let mut states = self.body.frames(site);
            let innermost = states.next();
            let around: Vec<Frame> = states
                .map(|state| Frame { method: state.method, position: state.position, offset })
                .collect();
            if let (Some(frame), Some(state)) = (frames.first_mut(), innermost) {
                frame.method = state.method;
                // What was inlined has the position of its call, in the method around it.
                if frame.position == SourcePos::NONE || !around.is_empty() {
                    frame.position = state.position;
                }
            }
            frames.extend(around);
        }
        frames
    }
}

/// The compiled frames from a stub's frame outward, up to the trampoline's, or to the first that is not installed code.
#[derive(Clone)]
pub(crate) struct Walk<'a> {
    code: &'a CodeTable,
    frame: *const RawFrame,
    /// The frame pointer of the trampoline.
    end: usize,
}

impl<'a> Walk<'a> {
    /// # Safety
    ///
    /// `frame` is the frame of a stub that code of `activation` called, and has not returned.
    pub(crate) unsafe fn new(activation: &Activation<'a>, frame: *const RawFrame) -> Walk<'a> {
        Walk { code: activation.entry.code, frame, end: activation.exit.fp.get() }
    }

    /// Whether the walk, which is over, has come to the trampoline.
    pub(crate) fn is_complete(&self) -> bool {
        // SAFETY: as in `next`: the last frame lies on the part of this thread's stack that is in use.
        unsafe { self.frame.read() }.parent as usize == self.end
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
        // SAFETY: the thread has entered the activation and does not leave it before the walk is over; the address is on its
        // stack and stays there until then, so every checkpoint names it.
        unsafe { Step::at(self.code, return_address, fp) }
    }
}

/// Adds to `trace` the frames that `return_addresses` lead back to.
///
/// # Safety
///
/// The calling thread has entered code.
pub(crate) unsafe fn trace_returns(trace: &mut Trace, code: &CodeTable, return_addresses: &[usize]) {
    // SAFETY: the same contract; no step outlives this function, which makes no checkpoint.
    let steps = return_addresses.iter().filter_map(|&address| unsafe { Step::at(code, address, 0) });
    steps.flat_map(|step| step.frames()).for_each(|frame| trace.push(frame));
}

/// The addresses that frames of compiled code return to on this stack, or nothing if their chain is broken.
///
/// # Safety
///
/// `innermost` is the innermost activation of this thread, and `frame` that of a stub that its code called.
unsafe fn return_addresses(innermost: &Activation<'_>, frame: *const RawFrame) -> Option<Vec<usize>> {
    let mut addresses = Vec::new();
    let (mut activation, mut frame) = (innermost, frame);
    loop {
        let end = activation.exit.fp.get();
        while (frame as usize) < end && frame.is_aligned() && !frame.is_null() {
            // SAFETY: the first frame is a stub's, which waits; all others lie above it and below the trampoline's, on the part
            // of this thread's stack that is in use.
            let RawFrame { parent, return_address } = unsafe { frame.read() };
            addresses.push(return_address);
            if parent <= frame {
                return None;
            }
            frame = parent;
        }
        if frame as usize != end {
            return None;
        }
        let Some(outer) = activation.outer() else { return Some(addresses) };
        (activation, frame) = (outer, outer.host_frame());
    }
}

/// What [`return_addresses`] finds, if the code that runs on this thread waits for its host.
pub(crate) fn returns_in_host() -> Option<Vec<usize>> {
    // SAFETY: used in this function alone, which the activation's host called.
    let activation = unsafe { Activation::innermost() }?;
    let frame = activation.host_frame();
    // SAFETY: the frame is that of the stub that waits for the host.
    if frame.is_null() { None } else { unsafe { return_addresses(activation, frame) } }
}

/// Does something with the thread parked whose code waits for the host that calls this, if there is one.
pub(crate) fn parked_in_host<R>(act: impl FnOnce() -> R) -> R {
    // SAFETY: used in this function alone, which the activation's host called.
    match unsafe { Activation::innermost() } {
        Some(activation) => activation.entry.thread.park(act),
        None => act(),
    }
}

/// Whether a handler catches a raise. What an object is its heap knows; where there is none, the host.
fn catches(handler: &Landing, raise: &Raise, activation: &Activation<'_>) -> bool {
    handler.kinds.contains(raise.kind)
        && match (raise.kind, handler.class) {
            (RaiseKind::Fault, _) => false,
            (RaiseKind::Guest, Some(class)) => match activation.heap {
                Some(heap) => heap.is_instance(raise.object, class),
                None => activation.entry.host.is_instance(raise.object, class),
            },
            _ => true,
        }
}

/// Who made a raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// Code, or the runtime for it.
    Code,
    /// A function of the host, which may say anything of the object.
    Host,
}

/// Finds where `raise` goes on; leaves it in the activation if that is the exit.
fn find(activation: &Activation<'_>, walk: &Walk<'_>, maker: Maker, mut raise: Raise) -> Target {
    // Asking for a class is calling the host.
    let in_host = activation.in_host(walk.frame);
    for step in walk.clone() {
        let Some(site) = step.site() else { continue };
        let mut handlers = step.body.handlers(site).iter();
        if let Some(handler) = handlers.find(|handler| catches(handler, &raise, activation)) {
            if maker == Maker::Host
                && step.body.catches_references
                && let Err(error) = check(activation.heap, raise.object)
            {
                raise =
                    Raise::fault(format!("a native function raised {} with no object: {error}", raise.kind));
                break;
            }
            return Target {
                sp: step.fp - site.frame_offset as usize,
                fp: step.fp,
                pc: step.body.start + handler.offset as usize,
                object: raise.object,
                code: u64::from(raise.kind.code(raise.reason)),
            };
        }
    }
    drop(in_host);
    walk.clone().flat_map(|step| step.frames()).for_each(|frame| raise.trace.push(frame));
    activation.leave_with(raise);
    let exit = &activation.exit;
    Target { sp: exit.sp.get(), fp: exit.fp.get(), pc: exit.pc.get(), object: 0, code: 0 }
}

/// Unwinds from the call of the stub with the frame `frame`, with the raise that `raise` makes.
///
/// # Safety
///
/// As [`Walk::new`], for the innermost activation of this thread; `target` may be written.
unsafe fn unwind(
    frame: *const RawFrame,
    target: *mut Target,
    maker: Maker,
    raise: impl FnOnce(&Walk<'_>) -> Raise,
) {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }.expect("code runs in an activation");
    // SAFETY: the caller vouches for the frame.
    let walk = unsafe { Walk::new(activation, frame) };
    let found = find(activation, &walk, maker, raise(&walk));
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
    unsafe { unwind(frame, target, Maker::Code, raise) };
}

/// What the stub does that calls of evicted methods go to.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn unlinked(frame: *const RawFrame, target: *mut Target) {
    let raise = |walk: &Walk<'_>| {
        let caller = walk.clone().next();
        let method = caller.and_then(|step| step.body.callee(step.body.start + step.offset as usize));
        Raise::fault(EvictedCall { method })
    };
    // SAFETY: the same contract.
    unsafe { unwind(frame, target, Maker::Code, raise) };
}

/// What the stub of `Helper::Throw` calls.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn throw(object: u64, frame: *const RawFrame, target: *mut Target) {
    // SAFETY: the same contract.
    unsafe { unwind(frame, target, Maker::Code, |_| Raise::guest(object)) };
}

/// Whether what the host passes for a reference is null or leads to an object of the heap; without a heap there are no objects.
fn check(heap: Option<&Heap>, reference: u64) -> Result<(), AccessError> {
    match heap {
        Some(heap) => heap.check(reference),
        None if reference == 0 => Ok(()),
        None => Err(AccessError::NoObject { reference }),
    }
}

/// Calls a function of the host, whose results are references where `references` says.
fn call_host(
    activation: &Activation<'_>,
    native: NativeId,
    slots: &mut [Slot],
    references: &[usize],
) -> Result<(), Raise> {
    let entry = activation.entry;
    let called = entry.host.call_native(NativeCall { entry, native, slots: &mut *slots });
    // It may have caught the panic that cut off a collection. No code goes on then.
    activation.heap.map_or(Ok(()), Heap::check_whole)?;
    called?;
    references.iter().try_for_each(|index| {
        check(activation.heap, slots[*index].low())
            .map_err(|error| Raise::fault(format!("{native} returned what is no reference: {error}")))
    })
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
    let NativeWord { native, slots: count } = NativeWord::decode(word);
    // SAFETY: the caller vouches for pointer and number; the buffer belongs to the calling frame, which waits.
    let slots = unsafe { std::slice::from_raw_parts_mut(slots, count as usize) };
    let called = {
        let _in_host = activation.in_host(frame);
        // SAFETY: the same contract: the frame is that of the stub, which waits.
        let caller = unsafe { Walk::new(activation, frame) }.next();
        let moves = caller.as_ref().is_some_and(Step::moves_objects);
        let moved = activation.heap.filter(|_| moves).map_or(Ok(()), Heap::yield_point);
        let program = caller.as_ref().and_then(|caller| caller.body.program.as_ref());
        let references = program.map_or(&[][..], |program| program.reference_results(native));
        moved.and_then(|()| call_host(activation, native, slots, references))
    };
    match called {
        Ok(()) => false,
        Err(raise) => {
            // SAFETY: the same contract.
            unsafe { unwind(frame, target, Maker::Host, |_| raise) };
            true
        }
    }
}

/// What the stub of `Helper::Allocate` calls: a new object, or null, if `target` was filled.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn allocate(
    description: u64,
    length: u64,
    frame: *const RawFrame,
    target: *mut Target,
) -> u64 {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }.expect("code runs in an activation");
    let made = {
        let _in_host = activation.in_host(frame);
        match activation.heap {
            // Code has found that the length is not negative, and passes it in the low half.
            Some(heap) => heap.allocate_described(description, length as u32),
            None => Err(Raise::new(RaiseKind::OutOfMemory, 0)),
        }
    };
    made.unwrap_or_else(|raise| {
        // SAFETY: the same contract.
        unsafe { unwind(frame, target, Maker::Code, |_| raise) };
        0
    })
}

/// The classes that the code knows which called this.
fn with_classes<R>(ask: impl FnOnce(&Classes) -> R) -> Option<R> {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }?;
    activation.heap.map(|heap| ask(heap.classes()))
}

/// `Helper::InstanceOf`.
pub(crate) extern "sysv64" fn instance_of(object: u64, class: u64) -> i32 {
    let is_instance = |classes: &Classes| match (classes.kind_at(object), classes.kind_at(class)) {
        (Some(kind), Some(ObjectKind::Object(class))) => classes.is_instance(kind, class),
        _ => false,
    };
    with_classes(is_instance).unwrap_or(false).into()
}

/// What the stub of `Helper::Poll` calls. Says whether `target` was filled.
///
/// # Safety
///
/// As [`unwind`].
pub(crate) unsafe extern "sysv64-unwind" fn poll(frame: *const RawFrame, target: *mut Target) -> bool {
    // SAFETY: used in this function alone, which code of the activation called.
    let activation = unsafe { Activation::innermost() }.expect("code runs in an activation");
    let thread = activation.entry.thread;
    if thread.take_lag() {
        // SAFETY: the frame is the stub's, which code of the innermost activation called.
        let addresses = unsafe { return_addresses(activation, frame) };
        // SAFETY: these are all of them on this thread; nobody on its stack holds a body but of code that is on it.
        addresses.into_iter().for_each(|addresses| unsafe { thread.checkpoint(addresses) });
    }
    let moved = {
        let _in_host = activation.in_host(frame);
        activation.heap.map_or(Ok(()), Heap::yield_point)
    };
    let interrupt = |interrupt: Interrupt| Raise::new(RaiseKind::Interrupt, interrupt.reason());
    match moved.err().or_else(|| thread.poll().map(interrupt)) {
        None => false,
        Some(raise) => {
            // SAFETY: the same contract.
            unsafe { unwind(frame, target, Maker::Code, |_| raise) };
            true
        }
    }
}
