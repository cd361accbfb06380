//! What an embedder sees: host functions, linking, traps, limits. Everything holds in both engines.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use dagwood_il::RaiseKind;
use dagwood_wasm::{
    Caller, Engine, EngineOptions, ErrorKind, Extern, FuncType, GlobalType, HostStop, Instance, Linker, Mode,
    Module, Options, RunError, Store, StoreOptions, Trap, Val, ValType,
};

/// Runs a test in both engines, with polls.
fn in_both(test: impl Fn(&Linker)) {
    for mode in [Mode::Interpret, Mode::Native] {
        let lowering = Options { polls: true, ..Options::default() };
        let options = EngineOptions { mode, lowering, ..EngineOptions::default() };
        let engine = Engine::new(options).expect("there is room for code");
        let limits = StoreOptions {
            max_memory_bytes: 1 << 20,
            max_exception_bytes: 1 << 16,
            ..StoreOptions::default()
        };
        let store = Store::new(&engine, limits).expect("there is memory");
        test(&Linker::new(&store));
    }
}

fn instantiate(linker: &Linker, text: &str) -> Result<Instance, RunError> {
    let bytes = wat::parse_str(text).expect("the text is a module");
    let module = Module::parse(bytes).expect("the module is valid");
    let compiled = linker.store().engine().compile(module).expect("the module compiles");
    Instance::new(linker, &compiled)
}

fn trap(result: Result<Vec<Val>, RunError>) -> Trap {
    match result {
        Err(RunError::Trap(trap)) => *trap,
        other => panic!("{other:?} is no trap"),
    }
}

#[test]
fn host_functions_see_values_and_the_callers_memory() {
    in_both(|linker| {
        let mut linker = linker.clone();
        let seen = Rc::new(RefCell::new(String::new()));
        let log = Rc::clone(&seen);
        let print = move |caller: &Caller<'_>, args: &[Val]| {
            let [Val::I32(start), Val::I32(count)] = *args else {
                return Err(HostStop::failed("two numbers"));
            };
            caller.with_memory(|bytes| {
                let text = bytes.get(start as usize..(start + count) as usize);
                let text = text.ok_or_else(|| HostStop::failed("out of bounds"))?;
                log.borrow_mut().push_str(&String::from_utf8_lossy(text));
                Ok(vec![Val::I32(count), Val::f64(0.5)])
            })
        };
        let ty = FuncType::new(&[ValType::I32, ValType::I32], &[ValType::I32, ValType::F64]);
        linker.define_function("host", "print", ty, print);
        let text = r#"(module
            (import "host" "print" (func $print (param i32 i32) (result i32 f64)))
            (memory 1) (data (i32.const 8) "hello")
            (table funcref (elem $print))
            (func (export "direct") (param i32) (result i32 f64) (call $print (i32.const 8) (local.get 0)))
            (func (export "indirect") (result i32 f64)
                (call_indirect (param i32 i32) (result i32 f64) (i32.const 9) (i32.const 3) (i32.const 0))))"#;
        let instance = instantiate(&linker, text).expect("all imports are there");
        assert_eq!(instance.call("direct", &[Val::I32(5)]), Ok(vec![Val::I32(5), Val::f64(0.5)]));
        assert_eq!(instance.call("indirect", &[]), Ok(vec![Val::I32(3), Val::f64(0.5)]));
        assert_eq!(*seen.borrow(), "helloell");
        let failed = trap(instance.call("direct", &[Val::I32(1 << 20)]));
        assert_eq!((failed.kind, failed.message.as_str()), (RaiseKind::Fault, "out of bounds"));
        let wrong = instance.call("direct", &[Val::I64(1)]);
        assert!(matches!(wrong, Err(RunError::Usage(error)) if error.kind() == ErrorKind::Usage));
    });
}

#[test]
fn traps_say_where() {
    in_both(|linker| {
        let text = r#"(module $m
            (memory 1)
            (func $inner (param i32) (result i32) (i32.load offset=65536 (local.get 0)))
            (func (export "outer") (param i32) (result i32) (i32.add (call $inner (local.get 0)) (i32.const 1))))"#;
        let instance = instantiate(linker, text).expect("it imports nothing");
        let trap = trap(instance.call("outer", &[Val::I32(0)]));
        assert_eq!((trap.kind, trap.message.as_str()), (RaiseKind::Bounds, "out of bounds memory access"));
        let names: Vec<&str> = trap.backtrace.iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(names, ["inner", "outer"]);
        let bytes = wat::parse_str(text).expect("the text is a module");
        let opcode =
            |frame: usize| bytes[trap.backtrace[frame].offset.expect("checks have positions") as usize];
        assert_eq!(
            [opcode(0), opcode(1)],
            [0x28, 0x10],
            "the positions are those of the load and of the call"
        );
        assert!(
            trap.to_string().starts_with("out of bounds memory access\n  in inner (function 0) at byte 0x")
        );
    });
}

#[test]
fn programs_exit_and_the_host_calls_back() {
    in_both(|linker| {
        let mut linker = linker.clone();
        let exit = |_: &Caller<'_>, args: &[Val]| match args {
            [Val::I32(code)] => Err(HostStop::Exit(*code as u32)),
            _ => Err(HostStop::failed("one number")),
        };
        linker.define_function("host", "exit", FuncType::new(&[ValType::I32], &[]), exit);
        let again = |caller: &Caller<'_>, args: &[Val]| match args {
            [Val::FuncRef(Some(func))] => Ok(caller.store().call(*func, &[])?),
            _ => Err(HostStop::failed("one function")),
        };
        linker.define_function("host", "again", FuncType::new(&[ValType::FuncRef], &[]), again);
        let text = r#"(module
            (import "host" "exit" (func $exit (param i32)))
            (import "host" "again" (func $again (param funcref)))
            (tag $t (param i32))
            (func $leave (call $exit (i32.const 7)))
            (func $throw (throw $t (i32.const 5)))
            (func $recurse (call $again (ref.func $recurse)))
            (elem declare func $leave $throw $recurse)
            (func (export "leave") (call $again (ref.func $leave)))
            (func (export "catch") (result i32)
                (block (result i32)
                    (try_table (catch $t 0) (call $again (ref.func $throw)))
                    (i32.const 0)))
            (func (export "recurse") (call $recurse)))"#;
        let instance = instantiate(&linker, text).expect("all imports are there");
        assert_eq!(instance.call("leave", &[]), Err(RunError::Exit(7)));
        assert_eq!(instance.call("catch", &[]), Ok(vec![Val::I32(5)]), "exceptions pass through the host");
        assert_eq!(trap(instance.call("recurse", &[])).kind, RaiseKind::StackOverflow);
        assert_eq!(instance.call("catch", &[]), Ok(vec![Val::I32(5)]), "the store is as good as before");
    });
}

#[test]
fn instances_share_what_they_export() {
    in_both(|linker| {
        let mut linker = linker.clone();
        let ty = GlobalType { value: ValType::I32, is_mutable: true };
        let counter = linker.define_global("host", "counter", ty, Val::I32(10)).expect("there is memory");
        let text = r#"(module
            (import "host" "counter" (global $counter (mut i32)))
            (memory (export "memory") 1 3)
            (table (export "table") 4 funcref)
            (func (export "count") (result i32)
                (global.set $counter (i32.add (global.get $counter) (i32.const 1))) (global.get $counter)))"#;
        instantiate(&linker, text).expect("all imports are there").define_exports(&mut linker, "first");
        let text = r#"(module
            (import "first" "memory" (memory 1)) (import "first" "table" (table 4 funcref))
            (import "first" "count" (func $count (result i32)))
            (import "host" "counter" (global $counter (mut i32)))
            (export "counter" (global $counter))
            (elem (i32.const 1) $count $twice)
            (func $twice (result i32) (drop (call $count)) (call $count))
            (func (export "run") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))
            (func (export "grow") (result i32 i32)
                (memory.grow (i32.const 1)) (i32.store (i32.const 131068) (i32.const 1)) (memory.size)))"#;
        let second = instantiate(&linker, text).expect("all imports are there");
        assert_eq!(second.call("run", &[Val::I32(1)]), Ok(vec![Val::I32(11)]));
        assert_eq!(second.call("run", &[Val::I32(2)]), Ok(vec![Val::I32(13)]));
        assert_eq!(linker.store().global(counter), Val::I32(13));
        assert_eq!(second.export("counter"), Some(Extern::Global(counter)));
        assert_eq!(trap(second.call("run", &[Val::I32(0)])).message, "uninitialized element");
        assert_eq!(trap(second.call("run", &[Val::I32(4)])).message, "undefined element");
        assert_eq!(second.call("grow", &[]), Ok(vec![Val::I32(1), Val::I32(2)]));
        let Some(Extern::Memory(memory)) = linker.get("first", "memory") else { panic!("it is a memory") };
        assert_eq!(linker.store().with_memory(memory, |bytes| bytes.len()), 2 << 16);
    });
}

#[test]
fn limits_hold() {
    in_both(|linker| {
        let text = r#"(module
            (memory 1)
            (tag $t)
            (func (export "forever") (loop (br 0)))
            (func (export "deep") (call 1))
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "hoard") (loop (drop (block (result exnref) (try_table (catch_all_ref 0) (throw $t)) (unreachable))) (br 0)))
            (func (export "reuse") (local i32)
                (loop
                    (block (try_table (catch $t 0) (throw $t)))
                    (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 10000))))))"#;
        let instance = instantiate(linker, text).expect("it imports nothing");
        let store = linker.store();
        store.set_fuel(Some(1000));
        let spent = trap(instance.call("forever", &[]));
        assert_eq!((spent.kind, spent.message.as_str()), (RaiseKind::Interrupt, "interrupt: out of fuel"));
        store.set_fuel(None);
        let interrupter = store.interrupter();
        let watchdog = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            interrupter.interrupt(dagwood_runtime::thread::Interrupt::Timeout);
        });
        store.clear_interrupt();
        let late = trap(instance.call("forever", &[]));
        assert_eq!(late.message, "interrupt: the time limit is reached");
        watchdog.join().expect("the watchdog does not panic");
        store.clear_interrupt();
        let deep = trap(instance.call("deep", &[]));
        assert_eq!((deep.kind, deep.message.as_str()), (RaiseKind::StackOverflow, "call stack exhausted"));
        assert!(!deep.backtrace.is_empty() && deep.omitted > 0);
        assert_eq!(instance.call("grow", &[Val::I32(15)]), Ok(vec![Val::I32(1)]));
        assert_eq!(instance.call("grow", &[Val::I32(1)]), Ok(vec![Val::I32(-1)]), "a mebibyte is the limit");
        assert_eq!(instance.call("reuse", &[]), Ok(vec![]), "exceptions without references are freed");
        assert_eq!(trap(instance.call("hoard", &[])).kind, RaiseKind::OutOfMemory);
    });
}

#[test]
fn what_is_missing_is_listed() {
    in_both(|linker| {
        let text = r#"(module (import "a" "f" (func)) (import "b" "g" (global i32)) (memory 2))"#;
        match instantiate(linker, text).err() {
            Some(RunError::Usage(error)) => {
                assert_eq!(error.kind(), ErrorKind::Link);
                let lines: Vec<&str> = error.message().lines().collect();
                let expected = [
                    "unknown import: `f` of `a`, function () -> ()",
                    "unknown import: `g` of `b`, global i32",
                ];
                assert_eq!(lines, expected);
            }
            other => panic!("{other:?}"),
        }
        let large = instantiate(linker, "(module (memory 17))");
        assert!(matches!(large.err(), Some(RunError::Usage(error)) if error.kind() == ErrorKind::Limit));
    });
}
