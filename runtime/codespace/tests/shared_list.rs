//! Two definers of gdb's interface in one program: there is one list, that of the definer whose symbols are not weak.
#![cfg(feature = "gdb")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use dagwood_codespace::{Gdb, Observed, Observers, Observing};

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

#[test]
fn another_definer_of_the_interface_gets_our_entries_in_its_list() {
    let first = || __jit_debug_descriptor.first.load(Ordering::Relaxed);
    let observers = Observers::new(&Observing { gdb: Gdb::Registered, ..Observing::default() }).unwrap();
    observers.published(&Observed { address: 0x1000, bytes: &[0xc3], name: "f", lines: &[] });
    assert!(first().is_null());
    observers.flush().unwrap();
    assert!(!first().is_null());
    assert_eq!(TOLD.load(Ordering::Relaxed), 1, "registered, once");
    drop(observers);
    assert!(first().is_null());
    assert_eq!(TOLD.load(Ordering::Relaxed), 12, "and then taken back");
    assert_eq!(__jit_debug_descriptor.version, 1);
}
