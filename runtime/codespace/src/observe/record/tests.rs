//! Records, read back by a reader of DWARF, and used by the unwinder of the standard library.

use gimli::{BaseAddresses, CfaRule, LittleEndian, RegisterRule, UnwindContext, UnwindSection, X86_64};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::*;
use crate::PAGE;

/// ```text
///   push rbp;  mov rbp, rsp;  sub rsp, 32;  call rdi;  leave;  ret
/// ```
const BODY: [u8; 12] = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0xff, 0xd7, 0xc9, 0xc3];

type Callback = extern "C-unwind" fn();
type Compiled = extern "C-unwind" fn(Callback);

/// A page of code with one function; dropping it unmaps it.
struct Page(*mut u8);

impl Page {
    fn new() -> Page {
        // SAFETY: a new mapping, which is written and then made executable.
        unsafe {
            let rights = ProtFlags::READ | ProtFlags::WRITE;
            let page =
                rustix::mm::mmap_anonymous(std::ptr::null_mut(), PAGE, rights, MapFlags::PRIVATE).unwrap();
            page.cast::<u8>().copy_from(BODY.as_ptr(), BODY.len());
            rustix::mm::mprotect(page, PAGE, MprotectFlags::READ | MprotectFlags::EXEC).unwrap();
            Page(page.cast())
        }
    }

    fn range(&self) -> Range<usize> {
        self.0.addr()..self.0.addr() + PAGE
    }

    fn function(&self) -> Compiled {
        // SAFETY: the page starts with such a function.
        unsafe { std::mem::transmute::<*mut u8, Compiled>(self.0) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; nobody runs it any more.
        unsafe { rustix::mm::munmap(self.0.cast(), PAGE) }.unwrap();
    }
}

thread_local! {
    /// How many frames the last walk met.
    static FRAMES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

extern "C-unwind" fn walks() {
    unsafe extern "C-unwind" {
        fn _Unwind_Backtrace(each: extern "C-unwind" fn(usize, usize) -> i32, argument: usize) -> i32;
    }
    extern "C-unwind" fn each(_context: usize, _argument: usize) -> i32 {
        FRAMES.set(FRAMES.get() + 1);
        0
    }
    FRAMES.set(0);
    // SAFETY: the unwinder of the standard library, with a function of the form that it wants.
    unsafe { _Unwind_Backtrace(each, 0) };
}

/// Whether a walk from below the compiled function gets beyond it: the walker, the function, the test and the harness below
/// are many more frames than the first two.
fn is_passed(page: &Page) -> bool {
    page.function()(walks);
    FRAMES.get() > 4
}

extern "C-unwind" fn panics() {
    std::panic::resume_unwind(Box::new("through compiled code"));
}

#[test]
fn backtraces_end_at_code_without_a_record_and_pass_through_it_with_one() {
    let page = Page::new();
    assert!(!is_passed(&page));
    let record = UnwindRecord::register(page.range()).unwrap();
    assert!(is_passed(&page));
    drop(record);
    assert!(!is_passed(&page));
}

#[test]
fn panics_pass_through_frames_of_code_with_a_record() {
    let page = Page::new();
    let _record = UnwindRecord::register(page.range()).unwrap();
    for _ in 0..2 {
        let caught = std::panic::catch_unwind(|| page.function()(panics)).unwrap_err();
        assert_eq!(*caught.downcast::<&str>().unwrap(), "through compiled code");
    }
}

#[test]
fn many_records_each_describe_their_own_code() {
    let pages: Vec<_> = (0..40).map(|_| Page::new()).collect();
    let mut records: Vec<_> =
        pages.iter().map(|page| Some(UnwindRecord::register(page.range()).unwrap())).collect();
    // In the order in which they were made, and every other one.
    for record in records.iter_mut().step_by(2) {
        *record = None;
    }
    for (page, record) in pages.iter().zip(&records) {
        assert_eq!(is_passed(page), record.is_some());
    }
}

#[test]
fn each_record_tells_a_reader_of_dwarf_how_to_leave_a_frame_in_its_range() {
    let ranges =
        [0x7000_0000_1000..0x7000_0000_3000, 0x1_0000..0x1_0001, 0x20_0000..0x20_0000 + (5usize << 30)];
    let mut out = Encoder::default();
    eh_frame(&mut out, &ranges).unwrap();
    assert_eq!(out.len(), eh_frame_bytes(ranges.len()));
    let section = gimli::EhFrame::new(out.as_slice(), LittleEndian);
    let bases = BaseAddresses::default();
    for range in &ranges {
        for inside in [range.start, range.end - 1] {
            let row = section
                .unwind_info_for_address(
                    &bases,
                    &mut UnwindContext::new(),
                    inside as u64,
                    gimli::EhFrame::cie_from_offset,
                )
                .unwrap()
                .clone();
            assert!(matches!(row.cfa(), CfaRule::RegisterAndOffset { register: X86_64::RBP, offset: 16 }));
            assert_eq!(row.register(X86_64::RBP), Some(RegisterRule::Offset(-16)));
            assert_eq!(row.register(X86_64::RA), Some(RegisterRule::Offset(-8)));
        }
        for outside in [range.start - 1, range.end] {
            assert!(
                section.fde_for_address(&bases, outside as u64, gimli::EhFrame::cie_from_offset).is_err(),
                "{outside:#x}"
            );
        }
    }
}

#[test]
fn an_empty_range_is_an_error() {
    let refused = UnwindRecord::register(0x1000..0x1000).unwrap_err();
    assert_eq!(refused, Error::Range { what: "an unwind record", start: 0x1000, end: 0x1000 });
}
