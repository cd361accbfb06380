//! What a host in safe Rust says of references, and is not so: an error or a fault, before code sees it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::interp::{Interpreter, Limits, Program, Stop};
use dagwood_il::layout::ObjectKind;
use dagwood_il::{ClassId, MethodId, NativeId, RaiseKind, Type, text};
use dagwood_runtime::compiler::bodies;
use dagwood_runtime::heap::{self, AccessError, Collect, Heap};
use dagwood_runtime::host::{Host, NativeCall};
use dagwood_runtime::jit::{CallCx, CallError, Jit, Options};
use dagwood_runtime::objects::Objects;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::view::MemoryView;
use dagwood_runtime::{Context, Thread, ThreadOptions};

const SOURCE: &str = "
class @Pair size 32 {
}
symbol @next field @Pair 16 ref
symbol @list static ref
symbol @memory region
native @give () -> (i64, ref)
native @toss () -> ()
native @inner () -> ()

method @same ($p: ref) -> (ref) {
b0:
  %p = entry.ref $p
  return %p
}

method @given () -> (ref) {
b0:
  %n = call_native @give()
  %p = result.ref %n, 1
  return %p
}

method @catches () -> (ref) {
b0 handlers [guest: b1]:
  call_native @toss()
  %null = const.ref null
  return %null
b1:
  %p = caught.ref
  return %p
}

method @numbers () -> (addr) {
b0 handlers [guest: b1]:
  call_native @toss()
  %null = const.addr 0
  return %null
b1:
  %p = caught.addr
  return %p
}

method @holds () -> () {
b0:
  %null = const.ref null
  call_native @inner()
  %same = eq %null, %null
  check %same, unreachable
  return
}

method @leads_to_holds () -> () {
b0:
  call @holds()
  return
}

method @plain () -> () {
b0:
  call_native @inner()
  return
}

; Writes what is no reference where one should be.
method @damages () -> () {
b0:
  %list = symbol_address @list
  %bad = const.addr 24
  store @memory [%list], %bad
  return
}
";

struct Rig {
    jit: Jit,
    heap: Heap,
    thread: Thread,
    context: Context,
}

impl Rig {
    fn new() -> Rig {
        let module = text::parse(SOURCE, &Bump::new()).expect("it is well-formed").module;
        let options = Options::default();
        let mut jit = Jit::new(module, options).expect("the machine is supported");
        let options = heap::Options { limit_bytes: 1 << 20, collect: Collect::WhenFull };
        let heap = Heap::new(Arc::clone(jit.classes()), &options).expect("there is memory");
        let list =
            jit.module().symbols.iter().find(|(_, symbol)| symbol.name == "list").expect("it is there").0;
        jit.bind_symbol(list, heap.static_address(list));
        let bodies = bodies(|id, arena| {
            let parsed = text::parse(SOURCE, arena)?;
            let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
            Ok(body.ok_or("it has a body")?.method)
        });
        let all: Vec<MethodId> = jit.module().methods.keys().collect();
        jit.compile(&all, &bodies).expect("it is well-formed");
        let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
        Rig { jit, heap, thread, context: Context::new(64).expect("there is memory") }
    }

    fn method(&self, name: &str) -> MethodId {
        let methods = &self.jit.module().methods;
        methods.iter().find(|(_, decl)| decl.name == name).expect("it is declared").0
    }

    fn native(&self, name: &str) -> NativeId {
        let natives = &self.jit.module().natives;
        natives.iter().find(|(_, decl)| decl.name == name).expect("it is declared").0
    }

    fn call(&self, host: &dyn Host, name: &str, args: &[Value]) -> Result<Vec<Value>, CallError> {
        let cx = CallCx { thread: &self.thread, context: &self.context, host };
        self.jit.call(cx, self.method(name), args)
    }

    /// The fault that a call ends with.
    fn fault(&self, host: &dyn Host, name: &str) -> String {
        match self.call(host, name, &[]) {
            Err(CallError::Raised(raise)) if raise.kind == RaiseKind::Fault => raise.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn objects(&self) -> Objects<'_> {
        Objects::new(self.jit.module(), &self.heap)
    }

    fn pair(&self) -> u64 {
        let class = self.jit.module().classes.keys().next().expect("it is declared");
        self.heap.allocate(ObjectKind::Object(class), 0).expect("it fits")
    }

    /// Addresses that are no references: no address, one outside, one in an object that looks like one, and one of what was moved.
    fn bad(&self) -> [u64; 4] {
        let stale = self.pair();
        self.heap.collect().expect("nobody waits");
        let array = self.heap.allocate(ObjectKind::Array(Type::I64), 8).expect("it fits");
        let class = self.jit.module().classes.keys().next().expect("it is declared");
        let description = self.heap.classes().address(ObjectKind::Object(class));
        self.heap.store(array, 32, Value::i64(description as i64)).expect("it has room");
        [24, 1 << 46, array + 32, stale]
    }
}

/// What a native function does.
type Function<'r> = Box<dyn Fn(NativeCall<'_>) -> Result<(), Raise> + 'r>;

/// A host whose native functions all do the same, with a heap or none.
struct Plain<'r> {
    heap: Option<&'r Heap>,
    native: Function<'r>,
}

impl Host for Plain<'_> {
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
        (self.native)(call)
    }

    fn is_instance(&self, _: u64, _: ClassId) -> bool {
        true
    }

    fn heap(&self) -> Option<&Heap> {
        self.heap
    }
}

#[test]
fn arguments_that_lead_to_no_object_are_refused() {
    let rig = Rig::new();
    for bad in rig.bad() {
        let refused = rig.call(&rig.objects(), "same", &[Value::reference(bad)]);
        let Err(error @ CallError::Reference { index: 0, error: AccessError::NoObject { reference } }) =
            refused
        else {
            panic!("{refused:?}")
        };
        assert!(reference == bad && error.to_string().contains("leads to no object"), "{error}");
    }
    for good in [0, rig.pair()] {
        let same = rig.call(&rig.objects(), "same", &[Value::reference(good)]).expect("it is one");
        assert_eq!(same, [Value::reference(good)]);
    }
}

#[test]
fn results_of_native_functions_that_lead_to_no_object_are_faults() {
    let rig = Rig::new();
    let give = |reference| {
        let mut objects = rig.objects();
        let results = vec![Value::i64(reference as i64), Value::reference(reference)];
        objects.register(rig.native("give"), move |_, _| Ok(results.clone()));
        objects
    };
    for bad in rig.bad() {
        let fault = rig.fault(&give(bad), "given");
        assert!(fault.contains("native0 returned what is no reference"), "{fault}");
        let native = move |call: NativeCall<'_>| {
            call.slots[1] = bad.into();
            Ok(())
        };
        let fault = rig.fault(&Plain { heap: Some(&rig.heap), native: Box::new(native) }, "given");
        assert!(fault.contains("leads to no object"), "{fault}");
        assert!(give(bad).call(rig.native("give"), &[]).is_err(), "the interpreter asks so");
    }
    let good = rig.pair();
    let given = rig.call(&give(good), "given", &[]).expect("it is one");
    assert_eq!(given, [Value::reference(good)]);
}

#[test]
fn what_native_functions_throw_is_an_object_where_it_is_caught_as_one() {
    let rig = Rig::new();
    let toss = |reference| {
        let mut objects = rig.objects();
        objects.register(rig.native("toss"), move |_, _| Err(Raise::guest(reference)));
        objects
    };
    for bad in rig.bad() {
        let fault = rig.fault(&toss(bad), "catches");
        assert!(fault.contains("a native function raised guest with no object"), "{fault}");
        let number = rig.call(&toss(bad), "numbers", &[]).expect("it is caught as a number");
        assert_eq!(number, [Value::addr(bad)]);
    }
    for good in [0, rig.pair()] {
        let caught = rig.call(&toss(good), "catches", &[]).expect("it is caught");
        assert_eq!(caught, [Value::reference(good)]);
    }
}

#[test]
fn the_interpreter_takes_no_other_references_either() {
    let rig = Rig::new();
    let arena = Bump::new();
    let parsed = text::parse(SOURCE, &arena).expect("it is well-formed");
    let lookup = |id| parsed.bodies.iter().map(|body| &body.method).find(|method| method.id() == id);
    for bad in rig.bad() {
        let mut objects = rig.objects();
        objects.register(rig.native("toss"), move |_, _| Err(Raise::guest(bad)));
        let mut host = objects.interpreter(MemoryView::new()).expect("there is memory");
        let program = Program { module: &parsed.module, bodies: &lookup };
        for (name, args) in [("same", vec![Value::reference(bad)]), ("catches", vec![])] {
            let method = rig.method(name);
            let stop = Interpreter::new(program).run(&mut host, method, 0, &args, Limits::default());
            let is_fault =
                matches!(&stop, Err(Stop::Raised { raised, .. }) if raised.kind == RaiseKind::Fault);
            assert!(is_fault, "{name}: {stop:?}");
        }
    }
}

#[test]
fn code_that_has_references_is_not_entered_without_a_heap() {
    let rig = Rig::new();
    let host = Plain { heap: None, native: Box::new(|_| rig.heap.collect()) };
    for name in ["holds", "given"] {
        let refused = rig.call(&host, name, &[]).expect_err("it has references");
        assert!(matches!(&refused, CallError::NoHeap { name: named } if named == name), "{refused:?}");
        assert!(refused.to_string().contains("no heap"), "{refused}");
    }
    // What it calls is found when objects are about to move.
    let fault = rig.fault(&host, "leads_to_holds");
    let holds = rig.method("holds");
    assert!(fault.contains(&format!("{holds:?}")) && fault.contains("references but no heap"), "{fault}");
    rig.call(&host, "plain", &[]).expect("it has no references, so objects may move");
}

#[test]
fn a_host_is_asked_for_its_heap_once() {
    /// Has a heap every other time.
    struct Fickle<'r>(Plain<'r>, Cell<bool>);

    impl Host for Fickle<'_> {
        fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
            self.0.call_native(call)
        }

        fn is_instance(&self, _: u64, _: ClassId) -> bool {
            true
        }

        fn heap(&self) -> Option<&Heap> {
            self.1.replace(!self.1.get()).then_some(self.0.heap).flatten()
        }
    }

    let rig = Rig::new();
    let plain = Plain { heap: Some(&rig.heap), native: Box::new(|_| rig.heap.collect()) };
    let host = Fickle(plain, Cell::new(true));
    rig.call(&host, "holds", &[]).expect("it has the heap that it began with");
    assert_eq!(rig.heap.stats().collections, 1);
}

#[test]
fn code_does_not_go_on_with_a_heap_whose_collection_was_cut_off() {
    let rig = Rig::new();
    let collect = || catch_unwind(AssertUnwindSafe(|| rig.heap.collect())).map_or(Ok(()), |result| result);
    let damage = rig.objects();
    let native = |_: NativeCall<'_>| {
        rig.call(&damage, "damages", &[]).expect("it writes a static");
        collect()
    };
    let host = Plain { heap: Some(&rig.heap), native: Box::new(native) };
    let fault = rig.fault(&host, "holds");
    assert!(fault.contains("cut off"), "{fault}");
    assert!(rig.fault(&host, "plain").contains("cut off"), "it cannot be entered again");
}
