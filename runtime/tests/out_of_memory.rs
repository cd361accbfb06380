//! Each place in which installing code asks for memory is made to get none: it is an error, and works the next time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dagwood_codegen::{Artifact, RelocTarget};
use dagwood_codespace::{Error, Lane, Options};
use dagwood_runtime::code::{CodeTable, InstallError};

/// The system's allocator, which can be told to refuse.
struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

thread_local! {
    /// How many requests of this thread are granted before one is refused.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

// SAFETY: it is the system's allocator, or there is no memory.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                return std::ptr::null_mut();
            }
            left => LEFT.set(left.map(|left| left - 1)),
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn without_memory_installing_is_an_error_and_works_the_next_time() {
    let artifact = Artifact { code: vec![0xc3; 100], ..Artifact::default() };
    let install = |table: &CodeTable| {
        let batch = table.batch();
        let pending = batch.reserve(&artifact, Lane::Baseline)?;
        pending.install(None, |_: RelocTarget| None)
    };
    for n in 0.. {
        let table = CodeTable::new(&Options::default()).expect("there is memory");
        LEFT.set(Some(n));
        let result = install(&table);
        let is_refused = LEFT.take().is_none();
        match result {
            // What is kept for later may be missing.
            Ok(located) => assert_eq!(table.find(located.start + 5), Some(located)),
            Err(error) => {
                assert_eq!(error, InstallError::Space(Error::Memory), "request {n}");
                assert!(table.is_empty() && table.stats().live == 0, "request {n}: nothing is left");
            }
        }
        let located = install(&table).expect("there is memory now");
        assert_eq!(table.find(located.start), Some(located));
        if !is_refused {
            assert!(n >= 5, "{n} requests");
            break;
        }
    }
}
