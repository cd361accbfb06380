//! Two definers of gdb's interface in one program: there is one list, that of the definer whose symbols are not weak.
#![cfg(feature = "gdb")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dagwood_codespace::{
    Code, CodeSpace, CodeWriter, Error, Gdb, Layout, Observed, Observers, Observing, Options,
};

/// What another engine that is linked in would have.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: AtomicU32,
    relevant: AtomicPtr<()>,
    first: AtomicPtr<()>,
}

// SAFETY: the name is that of gdb's interface, and so is the layout; the other definition is weak.
#[unsafe(no_mangle)]
static __jit_debug_descriptor: Descriptor = Descriptor {
    version: 1,
    action: AtomicU32::new(0),
    relevant: AtomicPtr::new(ptr::null_mut()),
    first: AtomicPtr::new(ptr::null_mut()),
};

/// The actions that were told of, as decimal digits.
static TOLD: AtomicU32 = AtomicU32::new(0);

// SAFETY: the same.
#[unsafe(no_mangle)]
extern "C" fn __jit_debug_register_code() {
    let action = __jit_debug_descriptor.action.load(Ordering::Relaxed);
    assert!(!__jit_debug_descriptor.relevant.load(Ordering::Relaxed).is_null());
    TOLD.store(10 * TOLD.load(Ordering::Relaxed) + action, Ordering::Relaxed);
}

/// Held by a test: there is one list.
static ALONE: Mutex<()> = Mutex::new(());

fn is_empty() -> bool {
    __jit_debug_descriptor.first.load(Ordering::Relaxed).is_null()
}

fn observers() -> Observers {
    Observers::new(&Observing { gdb: Gdb::Registered, ..Observing::default() }).unwrap()
}

#[test]
fn another_definer_of_the_interface_gets_our_entries_in_its_list() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    TOLD.store(0, Ordering::Relaxed);
    let observers = observers();
    observers.published(&Observed { address: 0x1000, bytes: &[0xc3], name: "f", lines: &[] });
    assert!(is_empty());
    observers.flush().unwrap();
    assert!(!is_empty());
    assert_eq!(TOLD.load(Ordering::Relaxed), 1, "registered, once");
    drop(observers);
    assert!(is_empty());
    assert_eq!(TOLD.load(Ordering::Relaxed), 12, "and then taken back");
    assert_eq!(__jit_debug_descriptor.version, 1);
}

/// One by one they would stop a process under gdb for three seconds.
#[test]
fn thousands_of_functions_are_one_registration() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let observers = observers();
    TOLD.store(0, Ordering::Relaxed);
    for index in 0..3000 {
        let name = format!("f{index}");
        observers.published(&Observed {
            address: 0x10_000 + 64 * index,
            bytes: &[0xc3],
            name: &name,
            lines: &[],
        });
    }
    observers.flush().unwrap();
    assert_eq!(TOLD.load(Ordering::Relaxed), 1);
}

fn described(space: &CodeSpace, name: &str) -> Code {
    described_by(&space.writer(), name)
}

fn described_by(writer: &CodeWriter, name: &str) -> Code {
    let mut buffer = writer.reserve(&Layout::new(1)).unwrap();
    buffer.bytes_mut()[0] = 0xc3;
    let code = buffer.publish(0).expect("the system lets code be written");
    writer.space().describe(&code, name, &[]).unwrap();
    code
}

#[test]
fn described_code_is_in_the_list_until_it_is_freed_or_its_space_is_dropped() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let observers = Arc::new(observers());
    let options = Options { observers: Some(Arc::clone(&observers)), ..Options::default() };
    let (space, other) = (CodeSpace::new(&options).unwrap(), CodeSpace::new(&options).unwrap());

    let code = described(&space, "reclaimed");
    assert_eq!(other.describe(&code, "f", &[]), Err(Error::NotCode { address: code.address() }));
    observers.flush().unwrap();
    space.retire(code).unwrap();
    assert!(!is_empty(), "it may still run");
    while space.reclaim(&mut |_| ()).unwrap().freed == 0 {}
    assert!(is_empty());

    let code = described(&space, "freed");
    observers.flush().unwrap();
    assert!(!is_empty());
    // SAFETY: nobody has run it.
    unsafe { space.free(code) }.unwrap();
    assert!(is_empty());

    // From the span that the writer holds, which takes another way.
    let writer = space.writer();
    let (code, stays) = (described_by(&writer, "freed by its writer"), described_by(&writer, "stays"));
    observers.flush().unwrap();
    for code in [code, stays] {
        assert!(!is_empty(), "one is there");
        // SAFETY: nobody has run it.
        unsafe { writer.free(code) }.unwrap();
    }
    assert!(is_empty());
    drop(writer);

    let (_kept, _pending) = (described(&space, "kept"), described(&other, "of the other"));
    observers.flush().unwrap();
    drop(space);
    assert!(!is_empty(), "the other space is alive");
    drop(other);
    assert!(is_empty());
}
