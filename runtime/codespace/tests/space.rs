//! What a code space promises, tried from outside.

use dagwood_codespace::{Code, CodeSpace, CodeWriter, Layout, Options, Packing, Protection};

const PROTECTIONS: [Protection; 4] =
    [Protection::Dual, Protection::Session, Protection::NoAlias, Protection::Flip];

fn place(writer: &CodeWriter, code: &[u8], owner: usize) -> Code {
    let mut buffer = writer.reserve(&Layout::new(code.len())).expect("there is room");
    buffer.bytes_mut().copy_from_slice(code);
    buffer.publish(owner)
}

/// `mov eax, value; ret`
fn returns(value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    code
}

fn call(code: &Code) -> u32 {
    // SAFETY: the tests that call this placed the bytes of `returns` there, and their space is alive.
    let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(code.address()) };
    function()
}

#[test]
fn code_is_published_found_and_freed_in_each_protection_and_packing() {
    for protection in PROTECTIONS {
        for packing in [Packing::Granules, Packing::Pages] {
            let space = CodeSpace::new(&Options { protection, packing, ..Options::default() }).expect("allowed");
            let writer = space.writer();
            let codes: Vec<Code> = (0..100).map(|i| place(&writer, &returns(i), i as usize)).collect();
            for (i, code) in codes.iter().enumerate() {
                assert_eq!(call(code), i as u32);
                let found = space.lookup(code.address() + 5).expect("it is published");
                assert_eq!((found.address, found.len, found.owner), (code.address(), 6, i));
                assert_eq!(space.lookup(code.address() + 6), None);
            }
            assert_eq!((space.stats().live, space.stats().live_bytes), (100, 600));
            for code in codes {
                writer.retire(code).expect("it is the space's");
            }
            let mut owners = Vec::new();
            for _ in 0..2 {
                assert!(owners.is_empty());
                writer.reclaim(&mut |found| owners.push(found.owner)).expect("nothing fails");
            }
            owners.sort_unstable();
            assert_eq!(owners, (0..100).collect::<Vec<_>>());
            assert_eq!(space.stats().live, 0);
            drop(writer);
            assert_eq!(space.stats().used_bytes, 0, "{protection:?} {packing:?}");
        }
    }
}
