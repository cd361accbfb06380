//! Chunks one by one: what each protection maps, how pages change, and each system call made to fail.

use super::*;
use crate::memory::place::{Region, Rung};
use crate::system::fail_at;
use crate::testing::{access, alone, assert_write_xor_execute, count_mappings, mappings};
use crate::{CHUNK, Options};

const MODES: [Protection; 4] = [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip];
/// `mov eax, 42; ret`.
const ANSWER: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

fn region() -> Region {
    Region::new(&Options { reserve_bytes: 4 * CHUNK, ..Options::default() }).expect("there are addresses")
}

fn memory(mode: Protection, seal: Seal) -> Memory {
    Memory::map(region().take(CHUNK).expect("there is a place"), mode, seal).expect("the mode works here")
}

fn call(memory: &Memory, offset: usize) -> u32 {
    let address = ptr::with_exposed_provenance::<()>(memory.base() + offset);
    // SAFETY: the tests wrote a complete function there.
    let function = unsafe { std::mem::transmute::<*const (), extern "C" fn() -> u32>(address) };
    function()
}

fn read(memory: &Memory, range: Range<usize>) -> &[u8] {
    // SAFETY: the execute view is readable, and no test writes while it looks at it.
    unsafe {
        std::slice::from_raw_parts(ptr::with_exposed_provenance(memory.base() + range.start), range.len())
    }
}

/// Prepares a page, writes a function to it, and has it run.
fn write_and_call(memory: &Memory, page: usize) {
    let range = page * PAGE..(page + 1) * PAGE;
    // SAFETY: the tests have the memory to themselves.
    unsafe { memory.prepare(range.clone()) }.expect("a page can be prepared");
    assert_write_xor_execute();
    // SAFETY: as above.
    unsafe { memory.write(range.start + 64, &ANSWER) }.expect("code can be written");
    assert_write_xor_execute();
    assert_eq!(call(memory, range.start + 64), 42);
    let around = read(memory, range);
    assert!(around[..64].iter().chain(&around[64 + ANSWER.len()..]).all(|&byte| byte == INT3));
}

#[test]
fn code_runs_in_each_mode_and_nothing_is_ever_writable_and_executable() {
    for mode in MODES {
        for seal in [Seal::Off, Seal::IfPossible] {
            let memory = memory(mode, seal);
            assert_write_xor_execute();
            write_and_call(&memory, 3);
            write_and_call(&memory, 0);
            write_and_call(&memory, memory.len() / PAGE - 1);
            // SAFETY: nobody runs the page.
            unsafe { memory.fill_int3(3 * PAGE..4 * PAGE) }.expect("a page can be filled");
            assert!(read(&memory, 3 * PAGE..4 * PAGE).iter().all(|&byte| byte == INT3));
            assert_write_xor_execute();
            // SAFETY: nobody runs the page.
            unsafe { memory.give_back(3 * PAGE..4 * PAGE) }.expect("a page can be given back");
            if mode != Protection::Flip {
                assert!(read(&memory, 3 * PAGE..4 * PAGE).iter().all(|&byte| byte == 0));
            }
            write_and_call(&memory, 3);
            assert_eq!(call(&memory, 64), 42, "the neighbours are as they were");
            assert_write_xor_execute();
            drop(memory);
            assert_write_xor_execute();
        }
    }
}

#[test]
fn the_execute_view_rejects_writes_and_its_last_page_everything() {
    for mode in MODES {
        let memory = memory(mode, Seal::Off);
        write_and_call(&memory, 0);
        assert_eq!(access(memory.base()), "rx", "{mode:?}");
        assert_eq!(memory.len(), CHUNK - PAGE);
        assert_eq!(access(memory.base() + memory.len()), "", "{mode:?}");
        let zeros = std::fs::File::open("/dev/zero").expect("there is a device of zeros");
        let target: *mut std::ffi::c_void = ptr::with_exposed_provenance_mut(memory.base());
        // SAFETY: the kernel checks the access that this test wants to see refused.
        let result = unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(&zeros), target, 1) };
        assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
    }
}

#[test]
fn a_session_has_a_write_view_only_while_somebody_holds_it() {
    let memory = memory(Protection::Session, Seal::Off);
    assert_eq!(memory.direct(), None);
    let first = memory.open().expect("a view can be mapped");
    let view = first.pointer().expect("the mode has a view");
    let second = memory.open().expect("a view can be mapped");
    assert_eq!(second.pointer(), Some(view), "one view serves all");
    assert_eq!(access(view as usize), "rw");
    // SAFETY: the view is this test's.
    unsafe { view.copy_from_nonoverlapping(ANSWER.as_ptr(), ANSWER.len()) };
    drop(first);
    assert_eq!(access(view as usize), "rw");
    drop(second);
    assert!(
        !mappings(view as usize..view as usize + 1).iter().any(|mapping| mapping.write && mapping.shared)
    );
    assert_eq!(call(&memory, 0), 42);
}

#[test]
fn without_an_alias_there_is_no_writable_view_and_one_byte_is_what_can_be_patched() {
    let memory = memory(Protection::NoAlias, Seal::Off);
    write_and_call(&memory, 0);
    assert_eq!(memory.open().expect("nothing is to do").pointer(), None);
    // SAFETY: nobody runs the code.
    unsafe {
        memory.store_u8(65, 43).expect("one byte can be stored");
        assert_eq!(call(&memory, 64), 43);
        assert!(matches!(memory.store_u32(64, 0), Err(Error::Unsupported { .. })));
    }
}

#[test]
fn what_is_stored_through_the_write_view_runs() {
    for mode in [Protection::Dual, Protection::Session] {
        let memory = memory(mode, Seal::Off);
        write_and_call(&memory, 0);
        // SAFETY: nobody runs the code meanwhile.
        unsafe {
            memory.store_u8(65, 43).expect("there is a view");
            assert_eq!(call(&memory, 64), 43);
            memory.store_u32(64, u32::from_le_bytes([0xb8, 45, 0, 0])).expect("there is a view");
        }
        assert_eq!(call(&memory, 64), 45);
    }
}

#[test]
fn pages_flip_between_writable_and_executable() {
    let memory = memory(Protection::Flip, Seal::IfPossible);
    assert!(!memory.is_sealed());
    assert_eq!(access(memory.base()), "", "untouched pages are inaccessible");
    // SAFETY: the tests have the memory to themselves.
    unsafe { memory.prepare(0..2 * PAGE) }.expect("pages can be prepared");
    assert_eq!((access(memory.base()).as_str(), access(memory.base() + 2 * PAGE).as_str()), ("rw", ""));
    memory.protect(0..PAGE).expect("pages can be executable");
    assert_eq!((access(memory.base()).as_str(), access(memory.base() + PAGE).as_str()), ("rx", "rw"));
    // SAFETY: nobody uses the pages.
    unsafe { memory.give_back(0..2 * PAGE) }.expect("pages can be given back");
    assert_eq!(access(memory.base()), "r");
    let place = region().take(CHUNK).expect("there is a place");
    assert!(matches!(Memory::map(place, Protection::Flip, Seal::Required), Err(Error::Unsupported { .. })));
}

#[test]
fn a_vacant_chunk_can_only_be_read_and_can_be_occupied_again() {
    for mode in MODES {
        let memory = memory(mode, Seal::Off);
        write_and_call(&memory, 7);
        // SAFETY: nobody uses the chunk.
        let place = unsafe { memory.vacate() }.expect("nothing fails").expect("it is not sealed");
        assert_eq!(access(memory.base() + 7 * PAGE), "r", "{mode:?}");
        assert_eq!(memory.direct(), None);
        assert_write_xor_execute();
        memory.occupy(place).expect("memory can be mapped again");
        write_and_call(&memory, 7);
    }
}

#[test]
fn a_dual_chunk_of_which_all_is_prepared_closes_its_file_if_the_process_has_many() {
    for number in [0, MANY_FILES] {
        let memory = memory(Protection::Dual, Seal::Off);
        let half = memory.len() / PAGE / 2 * PAGE;
        {
            let mut state = memory.lock();
            let file = state.file.take().expect("it is open");
            let again = rustix::io::fcntl_dupfd_cloexec(&file, number).expect("there may be one more");
            state.file = Some(again);
        }
        // SAFETY: the tests have the memory to themselves.
        unsafe { memory.prepare(0..half) }.expect("pages can be prepared");
        assert!(memory.state().file.is_some());
        // SAFETY: as above.
        unsafe { memory.prepare(half..memory.len()) }.expect("pages can be prepared");
        assert_eq!(memory.state().file.is_none(), number == MANY_FILES);
        // SAFETY: as above.
        unsafe { memory.give_back(0..half) }.expect("pages can be given back");
        write_and_call(&memory, 1);
        // SAFETY: as above.
        let place = unsafe { memory.vacate() }.expect("nothing fails").expect("it is not sealed");
        memory.occupy(place).expect("memory can be mapped again");
        assert!(memory.state().file.is_some());
    }
}

#[test]
fn a_sealed_view_refuses_changes_and_gives_its_memory_back() {
    for mode in [Protection::Dual, Protection::Session, Protection::NoAlias] {
        let place = region().take(CHUNK).expect("there is a place");
        let memory = match Memory::map(place, mode, Seal::Required) {
            Err(Error::System { attempt: "seal memory", errno: libc::ENOSYS }) => return,
            other => other.expect("sealing works where the system knows it"),
        };
        assert!(memory.is_sealed());
        write_and_call(&memory, 1);
        let (base, len) = (memory.base(), memory.len());
        let address = ptr::with_exposed_provenance_mut(base);
        // SAFETY: the system checks, and refuses, what this test tries.
        unsafe {
            assert_eq!(libc::mprotect(address, PAGE, libc::PROT_READ | libc::PROT_WRITE), -1);
            assert_eq!(libc::munmap(address, len), -1);
            assert!(system::map_nothing(At::Over(base), len).is_err());
        }
        // SAFETY: nobody uses the chunk.
        assert!(unsafe { memory.vacate() }.is_ok_and(|place| place.is_none()), "sealed chunks stay occupied");
        assert!(read(&memory, 0..2 * PAGE).iter().all(|&byte| byte == 0), "but have no memory");
        write_and_call(&memory, 1);
        drop(memory);
        assert_eq!(access(base), "rx", "the addresses stay");
        let (reader, writer) = std::io::pipe().expect("there are pipes");
        // SAFETY: the kernel checks the access that this test wants to see refused.
        let result = unsafe { libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), address, 1) };
        assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
        drop(reader);
    }
}

#[test]
fn sealed_chunks_stay_when_their_region_goes_and_the_others_do_not() {
    alone("memory::tests::sealed_chunks_stay_when_their_region_goes_and_the_others_do_not", || {
        let region = region();
        let (range, _) = region.reserved().expect("addresses are reserved");
        let places: Vec<_> = (0..4).map(|_| region.take(CHUNK).expect("there are four")).collect();
        let chunks: Vec<_> = places
            .into_iter()
            .zip([Seal::Off, Seal::IfPossible, Seal::Off, Seal::Off])
            .map(|(place, seal)| Memory::map(place, Protection::Dual, seal).expect("the mode works here"))
            .collect();
        let sealed = chunks[1].is_sealed();
        drop(chunks);
        drop(region);
        let left = mappings(range.start - PAGE..range.end);
        assert_eq!(
            left.iter().map(|mapping| mapping.end - mapping.start).sum::<usize>(),
            if sealed { CHUNK } else { 0 }
        );
        assert!(
            left.iter()
                .all(|mapping| (range.start + CHUNK..range.start + 2 * CHUNK).contains(&mapping.start))
        );
    });
}

#[test]
fn a_forked_process_has_no_write_view() {
    alone("memory::tests::a_forked_process_has_no_write_view", || {
        let dual = memory(Protection::Dual, Seal::Off);
        let session = memory(Protection::Session, Seal::Off);
        write_and_call(&dual, 0);
        let hold = session.open().expect("a view can be mapped");
        let views = [dual.direct(), hold.pointer()].map(|view| view.expect("both modes have one"));
        let is_mapped = |address: usize| {
            let mut resident = 0;
            // SAFETY: the call only asks whether the page is mapped.
            (unsafe { libc::mincore(ptr::with_exposed_provenance_mut(address), PAGE, &raw mut resident) })
                == 0
        };
        assert!(views.iter().all(|&view| is_mapped(view as usize)));
        // SAFETY: the child makes only calls that are allowed between fork and exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let leaked = views.iter().any(|&view| is_mapped(view as usize));
            let runs = is_mapped(dual.base()) && call(&dual, 64) == 42;
            // SAFETY: nothing is written, as is to be seen.
            let writes = unsafe { dual.write(64, &[INT3]).is_ok() || dual.prepare(0..PAGE).is_ok() };
            let status = i32::from(leaked) + 2 * i32::from(!runs) + 4 * i32::from(writes);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: waits for the child just made.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child has no write view, runs code, and is refused to write");
        assert_eq!(call(&dual, 64), 42);
    });
}

#[test]
fn memory_may_deny_being_both_written_and_executed() {
    alone("memory::tests::memory_may_deny_being_both_written_and_executed", || {
        const PR_SET_MDWE: libc::c_int = 65;
        // SAFETY: changes what this process, which runs only this test, may do.
        if unsafe { libc::prctl(PR_SET_MDWE, 1, 0, 0, 0) } != 0 {
            assert_eq!(
                std::io::Error::last_os_error().raw_os_error(),
                Some(libc::EINVAL),
                "systems before 6.3"
            );
            return;
        }
        for mode in [Protection::Dual, Protection::Session, Protection::NoAlias] {
            let memory = memory(mode, Seal::IfPossible);
            write_and_call(&memory, 0);
        }
        let place = region().take(CHUNK).expect("there are addresses");
        let refused = Memory::map(place, Protection::Flip, Seal::Off).expect_err("that is what is denied");
        assert!(system::is_refusal(&refused), "{refused:?}");
    });
}

#[test]
fn each_failing_system_call_is_an_error_and_leaks_nothing() {
    alone("memory::tests::each_failing_system_call_is_an_error_and_leaks_nothing", || {
        let descriptors = || std::fs::read_dir("/proc/self/fd").expect("they can be listed").count();
        let region = region();
        for mode in MODES {
            let work = || -> Result<(), Error> {
                let memory = Memory::map(region.take(CHUNK)?, mode, Seal::Off)?;
                // SAFETY: the tests have the memory to themselves.
                unsafe {
                    memory.prepare(0..2 * PAGE)?;
                    if mode == Protection::Flip {
                        memory.protect(0..2 * PAGE)?;
                    }
                    memory.write(100, &ANSWER)?;
                    memory.give_back(PAGE..2 * PAGE)?;
                    let place = memory.vacate()?.expect("it is not sealed");
                    memory.occupy(place).map_err(|(error, _)| error)?;
                    memory
                        .write(0, &[])
                        .or_else(|error| if mode == Protection::Flip { Ok(()) } else { Err(error) })
                }
            };
            work().expect("it works if nothing fails");
            let before = (count_mappings(), descriptors());
            let mut failures = 0;
            for n in 0.. {
                let (result, failed) = fail_at(n, work);
                if !failed {
                    break;
                }
                failures += usize::from(result.is_err());
                assert!(
                    matches!(result, Ok(()) | Err(Error::System { errno: libc::ENOMEM, .. })),
                    "{result:?}"
                );
                assert_eq!((count_mappings(), descriptors()), before, "{mode:?}, failure {n}");
            }
            assert!(failures >= 5, "{mode:?}: {failures} calls failed");
        }
    });
}

#[test]
fn memory_in_the_pool_of_the_image_works_like_any_other() {
    alone("memory::tests::memory_in_the_pool_of_the_image_works_like_any_other", || {
        if cfg!(feature = "image-pool") {
            let anchor = crate::memory::pool::take as *const () as usize;
            let place = Place::in_pool(CHUNK, anchor).expect("nobody else uses the pool");
            assert_eq!(place.rung(), Rung::Pool);
            let memory = Memory::map(place, Protection::Dual, Seal::Off).expect("the mode works here");
            write_and_call(&memory, 0);
            let base = memory.base();
            drop(memory);
            assert_eq!(access(base), "rw", "it is zeros of the image again");
        }
    });
}
