//! What a code space promises, tried from outside.

use std::sync::Mutex;

use dagwood_codespace::{Code, CodeSpace, Error, GRANULE, MAX_SIZE, Options, PAGE, Placement};

fn small(size: usize) -> CodeSpace {
    CodeSpace::new(&Options { size, ..Options::default() }).expect("there is memory for a small space")
}

fn place(space: &CodeSpace, code: &[u8]) -> Code {
    let mut span = space.reserve(code.len(), 16).expect("there is room");
    span.bytes_mut().copy_from_slice(code);
    span.publish()
}

/// `mov eax, value; ret`
fn returns(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    code
}

fn call(code: Code) -> u32 {
    // SAFETY: the tests that call this placed the bytes of `returns` there, and their space is alive.
    let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(code.address) };
    function()
}

/// What the executable view holds.
fn executable(space: &CodeSpace, address: usize, len: usize) -> Vec<u8> {
    assert!(space.range().contains(&address) && address + len <= space.range().end);
    // SAFETY: the bytes lie in the view, which is readable while `space` lives; no span is being written.
    unsafe { std::slice::from_raw_parts(address as *const u8, len) }.to_vec()
}

#[test]
fn the_default_space_is_near_and_reaches_the_program() {
    let space = CodeSpace::new(&Options::default()).expect("there is memory");
    assert!(space.reach().is_near(), "{:?}", space.reach());
    assert!(space.reaches(the_default_space_is_near_and_reaches_the_program as *const () as usize));
    assert!(!space.reaches(space.range().start.wrapping_sub(3 << 30)));
    assert_eq!(space.range().len(), 64 << 20);
}

#[test]
fn a_space_without_anchor_works_too() {
    let space =
        CodeSpace::new(&Options { size: 1, placement: Placement::Anywhere }).expect("there is memory");
    assert_eq!(space.range().len(), PAGE);
    assert!(!space.reach().is_near());
    assert_eq!(call(place(&space, &returns(7))), 7);
}

#[test]
fn no_mapping_is_writable_and_executable() {
    let space = small(1 << 20);
    place(&space, &returns(1));
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the system lists mappings");
    for line in maps.lines() {
        let rights = line.split_whitespace().nth(1).expect("a line has rights");
        assert!(!(rights.contains('w') && rights.contains('x')), "{line}");
    }
    let start = format!("{:x}-", space.range().start);
    let line = maps.lines().find(|line| line.starts_with(&start)).expect("the space is mapped");
    assert!(line.contains("r-xs"), "{line}");
}

#[test]
fn padding_and_unwritten_bytes_are_int3() {
    let space = small(PAGE);
    let first = place(&space, &returns(1));
    assert_eq!(executable(&space, first.address + 6, GRANULE - 6), [0xcc; GRANULE - 6]);
    let aligned = space.reserve(1, 1024).expect("there is room").publish();
    assert_eq!(aligned.address % 1024, 0);
    assert_eq!(executable(&space, first.address + GRANULE, 1024), [0xcc; 1024]);
}

#[test]
fn a_span_dropped_unpublished_leaves_int3_and_is_given_back() {
    let space = small(PAGE);
    let mut span = space.reserve(100, 1).expect("there is room");
    span.bytes_mut().fill(0x90);
    let address = span.address();
    drop(span);
    assert_eq!(executable(&space, address, 128), [0xcc; 128]);
    assert_eq!(space.used(), 0);
    let first = space.reserve(1, 1).expect("there is room");
    let second = space.reserve(1, 1).expect("there is room");
    drop(first);
    assert_eq!(space.used(), 2 * GRANULE, "only the last span can be given back");
    drop(second);
    assert_eq!(space.used(), GRANULE);
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let space = small(PAGE);
    assert_eq!(space.reserve(PAGE + 1, 1).err(), Some(Error::Full { asked: PAGE + 1, free: PAGE }));
    assert!(matches!(space.reserve(usize::MAX, PAGE), Err(Error::Full { .. })));
    for align in [0, 3, 2 * PAGE] {
        assert_eq!(space.reserve(1, align).err(), Some(Error::Align { asked: align }));
    }
    let all = space.reserve(PAGE, PAGE).expect("all of it is free").publish();
    assert_eq!(all.address, space.range().start);
    let error = space.reserve(0, 1).expect_err("nothing is left");
    assert_eq!(error.to_string(), "the code space is full: 0 bytes asked for, 0 free");
    for size in [0, MAX_SIZE + 1] {
        let options = Options { size, ..Options::default() };
        assert_eq!(CodeSpace::new(&options).err(), Some(Error::Size { asked: size }));
    }
}

#[test]
fn threads_publish_at_once_without_overlap() {
    let space = small(1 << 20);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (space, all) = (&space, &all);
            scope.spawn(move || {
                let mine: Vec<(u32, Code)> = (0..500)
                    .map(|i| thread * 1000 + i)
                    .map(|value| (value, place(space, &returns(value))))
                    .collect();
                assert!(mine.iter().all(|&(value, code)| call(code) == value));
                all.lock().expect("no thread panicked").extend(mine);
            });
        }
    });
    let mut all = all.into_inner().expect("no thread panicked");
    all.sort_by_key(|(_, code)| code.address);
    assert_eq!(all.len(), 2000);
    assert!(all.windows(2).all(|pair| pair[0].1.address + GRANULE <= pair[1].1.address));
    assert!(all.iter().all(|&(value, code)| call(code) == value));
}

#[test]
fn a_panic_unwinds_through_code_that_keeps_its_frame_pointer() {
    extern "C-unwind" fn fails() {
        panic!("through machine code");
    }
    let space = small(PAGE);
    // push rbp; mov rbp, rsp; call rdi; pop rbp; ret
    let code = place(&space, &[0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3]);
    // SAFETY: the code calls its argument and returns; it changes no callee-saved register but rbp, which the
    // record restores.
    let calls: extern "C-unwind" fn(extern "C-unwind" fn()) = unsafe { std::mem::transmute(code.address) };
    for _ in 0..2 {
        let panic = std::panic::catch_unwind(|| calls(fails)).expect_err("the callee panics");
        assert_eq!(panic.downcast_ref(), Some(&"through machine code"));
    }
}
