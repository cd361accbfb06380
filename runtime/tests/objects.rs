//! Objects in machine code: who may move them when, and where dispatch leads as code comes and goes.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::layout::ObjectKind;
use dagwood_il::{MethodId, Module, NativeId, RaiseKind, SymbolKind, text};
use dagwood_runtime::compiler::bodies;
use dagwood_runtime::evict::EvictedCall;
use dagwood_runtime::heap::{self, Collect, Heap};
use dagwood_runtime::jit::{CallCx, CallError, Jit, Options};
use dagwood_runtime::objects::Objects;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::{Context, Thread, ThreadOptions};

const SOURCE: &str = "
interface @Named {
  slot name (ref) -> (i64)
}
class @Pair implements @Named size 32 {
  slot number (ref) -> (i64) = @number
  implement @Named.name = @number
}
symbol @next field @Pair 16 ref
symbol @n field @Pair 24 i64
native @inner (ref, i64) -> (ref)
native @quiet (ref) -> () reads all writes all raises all

method @number ($this: ref) -> (i64) {
b0:
  %this = entry.ref $this
  %n = load.i64 @n [%this + 24]
  return %n
}

method @virtual ($this: ref) -> (i64) {
b0:
  %this = entry.ref $this
  %n = call_virtual @Pair.number(%this)
  return %n
}

method @interface ($this: ref) -> (i64) {
b0:
  %this = entry.ref $this
  %n = call_interface @Named.name(%this)
  return %n
}

; Makes this many pairs, and keeps the last two.
method @churn ($n: i64) -> (ref) {
  local $last: ref
b0:
  %null = const.ref null
  set $last, %null
  goto b1
b1:
  %n = entry.i64 $n
  %zero = const.i64 0
  %more = sgt %n, %zero
  br %more, b2, b3
b2 extends b1:
  %p = new @Pair
  %before = new @Pair
  %last = entry.ref $last
  store @n [%p + 24], %n
  store @next [%p + 16], %before
  set $last, %p
  %one = const.i64 1
  %fewer = sub.i64 %n, %one
  set $n, %fewer
  goto b1
b3 extends b1:
  %result = entry.ref $last
  return %result
}

; Makes a list that nothing is left of memory for.
method @hoard () -> (i64) {
  local $list: ref
b0:
  %null = const.ref null
  set $list, %null
  goto b1
b1:
  %p = new @Pair
  %list = entry.ref $list
  store @next [%p + 16], %list
  set $list, %p
  goto b1
}

; A list of pairs, made by activations each of which has the host make the next.
method @nest ($p: ref, $depth: i64) -> (ref) {
b0:
  %depth = entry.i64 $depth
  %p = entry.ref $p
  %zero = const.i64 0
  %going = sgt %depth, %zero
  br %going, b1, b2
b1 extends b0:
  %q = new @Pair
  store @next [%q + 16], %p
  store @n [%q + 24], %depth
  %one = const.i64 1
  %less = sub.i64 %depth, %one
  %r = call_native @inner(%q, %less)
  %m = load.i64 @n [%q + 24]
  %same = eq %m, %depth
  check %same, unreachable
  return %r
b2 extends b0:
  return %p
}

method @quietly ($p: ref) -> () {
b0:
  %p = entry.ref $p
  call_native @quiet(%p)
  return
}
";

struct Rig {
    jit: Jit,
    heap: Heap,
    thread: Thread,
    context: Context,
}

fn module() -> Module {
    text::parse(SOURCE, &Bump::new()).expect("it is well-formed").module
}

impl Rig {
    fn new(limit_bytes: usize, collect: Collect) -> Rig {
        let jit = Jit::new(module(), Options::default()).expect("the machine is supported");
        let options = heap::Options { limit_bytes, collect };
        let heap = Heap::new(Arc::clone(jit.classes()), &options).expect("there is memory");
        let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
        let rig = Rig { jit, heap, thread, context: Context::new(64).expect("there is memory") };
        let all: Vec<MethodId> = rig.jit.module().methods.keys().collect();
        rig.compile(&all);
        rig
    }

    fn compile(&self, methods: &[MethodId]) {
        let bodies = bodies(|id, arena| {
            let parsed = text::parse(SOURCE, arena)?;
            let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
            Ok(body.ok_or("it has a body")?.method)
        });
        self.jit.compile(methods, &bodies).expect("it is well-formed");
    }

    fn method(&self, name: &str) -> MethodId {
        let methods = &self.jit.module().methods;
        methods.iter().find(|(_, decl)| decl.name == name).expect("it is declared").0
    }

    fn native(&self, name: &str) -> NativeId {
        let natives = &self.jit.module().natives;
        natives.iter().find(|(_, decl)| decl.name == name).expect("it is declared").0
    }

    fn call(&self, objects: &Objects<'_>, name: &str, args: &[Value]) -> Result<Vec<Value>, Raise> {
        let cx = CallCx { thread: &self.thread, context: &self.context, host: objects };
        match self.jit.call(cx, self.method(name), args) {
            Ok(values) => Ok(values),
            Err(CallError::Raised(raise)) => Err(raise),
            Err(error) => panic!("{name}: {error}"),
        }
    }

    fn objects(&self) -> Objects<'_> {
        Objects::new(self.jit.module(), &self.heap)
    }

    fn pair(&self, number: i64) -> u64 {
        let (class, _) = self.jit.module().classes.iter().next_back().expect("it is declared");
        let pair = self.heap.allocate(ObjectKind::Object(class), 0).expect("it fits");
        self.heap.store(pair, 24, Value::i64(number)).expect("it has the field");
        pair
    }
}

#[test]
fn a_heap_of_other_classes_is_refused() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let other = Rig::new(1 << 20, Collect::WhenFull);
    let cx = CallCx { thread: &rig.thread, context: &rig.context, host: &other.objects() };
    let refused = rig.jit.call(cx, rig.method("churn"), &[Value::i64(1)]);
    assert!(matches!(refused, Err(CallError::OtherHeap)), "{refused:?}");
    assert!(rig.call(&rig.objects(), "churn", &[Value::i64(1)]).is_ok());
}

#[test]
fn dispatch_follows_code_as_it_goes_and_comes() {
    let rig = Rig::new(1 << 20, Collect::AtEveryYield);
    let objects = rig.objects();
    let pair = rig.heap.root(rig.pair(7));
    let number = |name| rig.call(&objects, name, &[Value::reference(pair.get())]);
    for turn in 0..3 {
        for name in ["virtual", "interface"] {
            assert_eq!(number(name).expect("it has code"), [Value::i64(7)], "{name}, {turn}");
        }
        rig.jit.evict(&[rig.method("number")]).expect("dispatch pins nothing");
        for name in ["virtual", "interface"] {
            let raise = number(name).expect_err("it has no code");
            assert_eq!(raise.kind, RaiseKind::Fault);
            assert!(raise.cause.is_some_and(|cause| cause.is::<EvictedCall>()), "{name}, {turn}");
        }
        rig.compile(&[rig.method("number")]);
        // Compiled again while it has code, too.
        rig.compile(&[rig.method("number")]);
    }
}

#[test]
fn objects_that_are_dead_leave_room_for_others() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let objects = rig.objects();
    let last = rig.call(&objects, "churn", &[Value::i64(1_000_000)]).expect("two pairs are live");
    assert_eq!(rig.heap.load(last[0].low(), 24, dagwood_il::Type::I64), Ok(Value::i64(1)));
    let stats = rig.heap.stats();
    assert!(stats.collections >= 60 && stats.live_bytes <= 128, "{stats:?}");
}

#[test]
fn what_does_not_fit_is_out_of_memory_and_leaves_the_heap_in_order() {
    for collect in [Collect::WhenFull, Collect::AtEveryYield] {
        let rig = Rig::new(64 << 10, collect);
        let objects = rig.objects();
        for _ in 0..2 {
            let raise = rig.call(&objects, "hoard", &[]).expect_err("it never ends");
            assert_eq!(raise.kind, RaiseKind::OutOfMemory);
            rig.call(&objects, "churn", &[Value::i64(100)]).expect("nothing is left of the list");
        }
    }
}

#[test]
fn every_activation_tells_its_references() {
    let rig = Rig::new(1 << 20, Collect::AtEveryYield);
    // What the native calls cannot borrow what it is registered in.
    let inner = rig.objects();
    let mut nested = rig.objects();
    nested.register(rig.native("inner"), |_, args| Ok(vec![args[0]]));
    let mut objects = rig.objects();
    objects.register(rig.native("inner"), |heap, args| {
        let held = heap.root(args[0].low());
        rig.pair(1);
        rig.call(&inner, "churn", &[Value::i64(3)])?;
        rig.call(&nested, "nest", &[Value::reference(held.get()), args[1]])
    });
    let list = rig.call(&objects, "nest", &[Value::reference(0), Value::i64(2)]).expect("it returns");
    let (first, number) = (list[0].low(), |pair| rig.heap.load(pair, 24, dagwood_il::Type::I64));
    let second = rig.heap.load(first, 16, dagwood_il::Type::Ref).expect("it is a pair").low();
    assert_eq!((number(first), number(second)), (Ok(Value::i64(1)), Ok(Value::i64(2))));
}

#[test]
fn objects_do_not_move_in_a_call_that_is_declared_not_to_yield() {
    for collect in [Collect::WhenFull, Collect::AtEveryYield] {
        let rig = Rig::new(1 << 20, collect);
        let mut objects = rig.objects();
        objects.register(rig.native("quiet"), |heap, _| heap.collect().map(|()| vec![]));
        let pair = rig.heap.root(rig.pair(1));
        let raise = rig.call(&objects, "quietly", &[Value::reference(pair.get())]).expect_err("it collects");
        assert!(raise.to_string().contains("does not yield"), "{raise}");
        let mut objects = rig.objects();
        objects.register(rig.native("quiet"), |heap, args| {
            assert!(heap.kind_of(args[0].low()).is_some(), "it is where it was");
            Ok(vec![])
        });
        rig.call(&objects, "quietly", &[Value::reference(pair.get())]).expect("it does nothing");
    }
}

#[test]
fn a_heap_is_one_threads() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let other = Thread::new(&ThreadOptions::default()).expect("there is memory");
    let context = Context::new(64).expect("there is memory");
    let plain = rig.objects();
    let mut objects = rig.objects();
    objects.register(rig.native("quiet"), |_, _| {
        let cx = CallCx { thread: &other, context: &context, host: &plain };
        match rig.jit.call(cx, rig.method("churn"), &[Value::i64(1)]) {
            Err(CallError::Raised(raise)) => Err(raise),
            other => panic!("{other:?}"),
        }
    });
    let raise = rig.call(&objects, "quietly", &[Value::reference(0)]).expect_err("the heap is in use");
    assert!(raise.to_string().contains("another thread"), "{raise}");
}

#[test]
fn the_statics_of_a_program_are_where_its_heap_says() {
    let mut module = module();
    let symbol = module.declare_symbol("kept", SymbolKind::Static(dagwood_il::Type::Ref));
    let classes = Arc::new(dagwood_runtime::Classes::new(&module));
    let heap = Heap::new(classes, &heap::Options::default()).expect("there is memory");
    let (class, _) = module.classes.iter().next_back().expect("it is declared");
    heap.store_static(symbol, heap.allocate(ObjectKind::Object(class), 0).expect("it fits"));
    let before = heap.load_static(symbol);
    heap.collect().expect("no code runs");
    assert_ne!(heap.load_static(symbol), before);
    assert_eq!(heap.kind_of(heap.load_static(symbol)), Some(ObjectKind::Object(class)));
}
