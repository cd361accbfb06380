//! A small program in the text form of the IL, its host, and ways to compile and call it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dagwood_codespace::Options as Space;
use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::{Bump, ClassId, MethodId, text};
use dagwood_runtime::code::CodeTable;
use dagwood_runtime::entry::Entry;
use dagwood_runtime::evict::EvictedCall;
use dagwood_runtime::host::{Host, NativeCall};
use dagwood_runtime::jit::{CallCx, CallError, JitError};
use dagwood_runtime::{
    Bodies, Context, EvictError, Evicted, Jit, Options, Raise, Thread, ThreadOptions, bodies,
};

/// Methods that call each other, the host, and poll.
pub(crate) const SOURCE: &str = "
class @Error size 16
symbol @anywhere opaque
native @host (i64) -> (i64) reads all writes all raises all yields

method @leaf ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  %one = const.i64 1
  %r = add.i64 %x, %one
  return %r
}

method @caller ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  %r = call @leaf(%x)
  %s = call @leaf(%r)
  %ten = const.i64 10
  %t = mul.i64 %s, %ten
  return %t
}

method @catches ($x: i64) -> (i64) {
b0 handlers [division: b1]:
  %x = entry.i64 $x
  %r = call @caller(%x)
  return %r
b1:
  %minus = const.i64 -1
  return %minus
}

method @asks ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  %r = call_native @host(%x)
  %hundred = const.i64 100
  %s = add.i64 %r, %hundred
  return %s
}

method @asks_then_calls ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  %r = call_native @host(%x)
  %s = call @leaf(%r)
  return %s
}

method @outer ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  %r = call @asks(%x)
  %thousand = const.i64 1000
  %s = add.i64 %r, %thousand
  return %s
}

method @loops ($n: i64) -> (i64) {
  local $i: i64
b0:
  %zero = const.i64 0
  set $i, %zero
  goto b1
b1:
  %i = entry.i64 $i
  %n = entry.i64 $n
  %next = call @leaf(%i)
  poll
  set $i, %next
  %goes_on = slt %next, %n
  br %goes_on, b1, b2
b2:
  %result = entry.i64 $i
  return %result
}

method @asks_then_loops ($n: i64) -> (i64) {
b0:
  %n = entry.i64 $n
  call_native @host(%n)
  goto b1
b1:
  %m = entry.i64 $n
  %next = call @leaf(%m)
  poll
  set $n, %next
  goto b1
}

method @throws ($x: i64) -> () {
b0:
  %x = entry.i64 $x
  %null = const.addr 0
  %object = addr_add %null, %x
  throw %object
}

method @catches_class ($x: i64) -> (i64) {
b0 handlers [guest @Error: b1]:
  %x = entry.i64 $x
  call @throws(%x)
  return %x
b1:
  %caught = caught.addr
  %five = const.i64 5
  return %five
}

method @jumps ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  tail_call @target(%x)
}

method @target ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  %two = const.i64 2
  %r = mul.i64 %x, %two
  return %r
}

method @names () -> (addr) {
b0:
  %a = method_address @named
  return %a
}

method @named ($x: i64) -> (i64) {
b0:
  %x = entry.i64 $x
  return %x
}
";

/// A native function of a test.
pub(crate) type Native<'a> = Box<dyn Fn(&Running<'_>, i64) -> Result<i64, Raise> + Send + Sync + 'a>;

/// The program.
pub(crate) struct Rig<'a> {
    pub(crate) jit: Jit,
    native: Native<'a>,
    /// What the host does when it is asked whether an object is of a class; all are.
    pub(crate) on_class: Box<dyn Fn(&Rig<'_>) + Send + Sync + 'a>,
    _alone: MutexGuard<'static, ()>,
}

/// Keeps other tests from running code meanwhile: all threads of the process are asked before code is freed, so theirs
/// would decide what is freed when.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the host was called.
pub(crate) struct Running<'r> {
    pub(crate) rig: &'r Rig<'r>,
    pub(crate) entry: &'r Entry<'r>,
}

impl Running<'_> {
    /// Calls a method on the same thread.
    pub(crate) fn call(&self, method: &str, x: i64) -> Result<i64, CallError> {
        let cx = CallCx { thread: self.entry.thread, context: self.entry.context, host: self.rig };
        self.rig.call_in(cx, method, x)
    }
}

impl<'a> Rig<'a> {
    /// All methods compiled, in a space with these options.
    pub(crate) fn within(space: Space, native: Native<'a>) -> Rig<'a> {
        let rig = Rig::empty(space, native);
        rig.compile(SOURCE, &rig.methods()).expect("the program compiles");
        rig
    }

    /// All methods compiled.
    pub(crate) fn new(native: Native<'a>) -> Rig<'a> {
        Rig::within(Space::default(), native)
    }

    /// No method compiled.
    pub(crate) fn empty(space: Space, native: Native<'a>) -> Rig<'a> {
        let arena = Bump::new();
        let module = text::parse(SOURCE, &arena).expect("the source is well-formed").module;
        let options = Options { space, ..Options::default() };
        Rig::with(Jit::new(module, options).expect("this machine is supported"), native)
    }

    /// The program of an engine. One at a time.
    pub(crate) fn with(jit: Jit, native: Native<'a>) -> Rig<'a> {
        Rig { jit, native, on_class: Box::new(|_| ()), _alone: alone() }
    }

    pub(crate) fn code(&self) -> &CodeTable {
        self.jit.code()
    }

    pub(crate) fn methods(&self) -> Vec<MethodId> {
        self.jit.module().methods.keys().collect()
    }

    pub(crate) fn method(&self, name: &str) -> MethodId {
        let mut methods = self.jit.module().methods.iter();
        methods.find(|(_, decl)| decl.name == name).expect("the program has the method").0
    }

    /// Compiles methods of a source that declares the same.
    pub(crate) fn compile(&self, source: &str, methods: &[MethodId]) -> Result<(), JitError> {
        self.jit.compile(methods, &*bodies_of(source))
    }

    pub(crate) fn evict(&self, methods: &[&str]) -> Result<Evicted, EvictError> {
        let methods: Vec<MethodId> = methods.iter().map(|name| self.method(name)).collect();
        self.jit.evict(&methods)
    }

    /// Calls a method on a thread of its own.
    pub(crate) fn call(&self, method: &str, x: i64) -> Result<i64, CallError> {
        let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
        self.call_on(&thread, method, x)
    }

    /// Calls a method.
    pub(crate) fn call_on(&self, thread: &Thread, method: &str, x: i64) -> Result<i64, CallError> {
        let context = Context::new(64).expect("there is memory");
        self.call_in(CallCx { thread, context: &context, host: self }, method, x)
    }

    fn call_in(&self, cx: CallCx<'_>, method: &str, x: i64) -> Result<i64, CallError> {
        Ok(self.jit.call(cx, self.method(method), &[Value::i64(x)])?[0].low() as i64)
    }
}

impl Host for Rig<'_> {
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
        let x = call.slots[0].low() as i64;
        let result = (self.native)(&Running { rig: self, entry: call.entry }, x)?;
        call.slots[0] = (result as u64).into();
        Ok(())
    }

    fn is_instance(&self, _: u64, _: ClassId) -> bool {
        (self.on_class)(self);
        true
    }
}

/// The bodies of a source.
pub(crate) fn bodies_of(source: &str) -> Box<dyn Bodies + '_> {
    Box::new(bodies(move |id, arena| {
        let parsed = text::parse(source, arena)?;
        let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
        body.map(|body| body.method).ok_or_else(|| format!("{id} has no body").into())
    }))
}

/// A host that is never called.
pub(crate) fn nobody<'a>() -> Native<'a> {
    Box::new(|_, _| Err(Raise::fault("nobody calls the host")))
}

/// The method whose eviction a call ran into.
pub(crate) fn evicted(error: CallError) -> Option<MethodId> {
    let CallError::Raised(raise) = error else { panic!("{error}") };
    raise.cause.as_ref().and_then(|cause| cause.downcast_ref::<EvictedCall>()).expect("it was evicted").method
}

/// The source with `leaf` adding `by`.
pub(crate) fn with_leaf(by: u32) -> String {
    SOURCE.replacen("%one = const.i64 1", &format!("%one = const.i64 {by}"), 1)
}

/// The index of a method, for names in messages.
pub(crate) fn index(method: MethodId) -> usize {
    method.index()
}
