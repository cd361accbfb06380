//! Windows decode to no-operations and one call with the right target, wherever they stand.

mod run;

use std::fmt::Write;

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter, OpKind, Register};

use super::*;

/// An address in the middle of things, at the start of a cache line.
const HERE: usize = 0x5555_5555_5540;
const FAR: usize = HERE + (1 << 40);
const NEAREST_FAR: usize = 1 << 31;

fn decode(bytes: &[u8], address: usize) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, address as u64, DecoderOptions::NONE);
    let instructions: Vec<Instruction> = decoder.iter().collect();
    assert!(instructions.iter().all(|instruction| !instruction.is_invalid()), "{bytes:02x?}");
    assert_eq!(instructions.iter().map(Instruction::len).sum::<usize>(), bytes.len());
    instructions
}

/// The one instruction that does something.
fn the_call(bytes: &[u8], address: usize) -> Instruction {
    let (nops, calls): (Vec<Instruction>, Vec<Instruction>) = decode(bytes, address)
        .into_iter()
        .partition(|instruction| instruction.mnemonic() == iced_x86::Mnemonic::Nop);
    assert_eq!(calls.len(), 1, "{bytes:02x?}");
    assert!(nops.iter().all(|nop| nop.len() <= 9));
    assert!(nops.len() <= 3, "{bytes:02x?}");
    calls[0]
}

/// Writes a window and checks all that its form promises.
fn check(len: usize, address: usize, target: usize, slot: Option<usize>, patching: Patching) -> CallSite {
    // What stood there before must not matter.
    let mut window = vec![0xa5; len];
    let site = write_call(&mut window, address, target, slot, patching).expect("it can be called");
    let call = the_call(&window, address);
    assert_eq!(call.next_ip(), site.return_address() as u64);
    assert_eq!(site.return_address(), site.field() + 4);
    let behind = address + len - site.return_address();
    match site.form() {
        CallForm::Near => {
            assert_eq!((call.code(), call.near_branch64()), (Code::Call_rel32_64, target as u64));
            assert_eq!(site.is_patchable(), patching == Patching::InPlace);
        }
        CallForm::Slot => {
            assert_eq!((call.code(), call.memory_base()), (Code::Call_rm64, Register::RIP));
            assert_eq!(Some(call.ip_rel_memory_address()), slot.map(|slot| slot as u64));
            assert_eq!(behind, 0);
            assert!(!site.is_patchable());
        }
    }
    if site.is_patchable() {
        assert_eq!(site.field() % 4, 0);
        assert!(behind < 4, "the last place that is aligned");
    } else {
        assert_eq!(behind, 0);
    }
    site
}

fn windows() -> impl Iterator<Item = (usize, usize, Patching)> {
    let kinds = [(Patching::Never, WINDOW_MIN), (Patching::InPlace, WINDOW_MIN_PATCHED)];
    kinds.into_iter().flat_map(|(patching, shortest)| {
        (shortest..=WINDOW_MAX).flat_map(move |len| (0..64).map(move |at| (len, HERE + at, patching)))
    })
}

#[test]
fn each_window_holds_one_direct_call_of_a_near_target() {
    for (len, address, patching) in windows() {
        for target in [HERE + 0x1_0000, HERE - 0x1_0000, address, address + len] {
            for slot in [None, Some(HERE + 0x2000)] {
                let site = check(len, address, target, slot, patching);
                assert_eq!(site.form(), CallForm::Near, "{len} bytes at {address:#x}");
            }
        }
    }
}

#[test]
fn each_window_holds_one_call_through_the_slot_of_a_far_target() {
    for (len, address, patching) in windows() {
        for target in [FAR, 0, 0x1000, usize::MAX] {
            let site = check(len, address, target, Some(HERE + 0x2000), patching);
            assert_eq!(site.form(), CallForm::Slot, "{len} bytes at {address:#x}");
        }
    }
}

#[test]
fn reach_ends_at_two_gibibytes_to_the_byte() {
    assert_eq!(Reach::between(HERE, HERE + NEAREST_FAR - 1), Reach::Rel32(i32::MAX));
    assert_eq!(Reach::between(HERE, HERE + NEAREST_FAR), Reach::Far);
    assert_eq!(Reach::between(HERE, HERE - NEAREST_FAR), Reach::Rel32(i32::MIN));
    assert_eq!(Reach::between(HERE, HERE - NEAREST_FAR - 1), Reach::Far);
    assert_eq!(Reach::between(HERE, HERE), Reach::Rel32(0));
    for (len, address, patching) in windows() {
        let slot = HERE + 0x2000;
        let from = check(len, address, HERE, None, patching).return_address();
        for (target, form) in [
            (from + NEAREST_FAR - 2, CallForm::Near),
            (from + NEAREST_FAR - 1, CallForm::Near),
            (from + NEAREST_FAR, CallForm::Slot),
            (from - NEAREST_FAR + 1, CallForm::Near),
            (from - NEAREST_FAR, CallForm::Near),
            (from - NEAREST_FAR - 1, CallForm::Slot),
        ] {
            assert_eq!(check(len, address, target, Some(slot), patching).form(), form, "{target:#x}");
        }
    }
}

#[test]
fn a_slot_is_reached_up_to_two_gibibytes_to_the_byte() {
    for (len, address, patching) in windows() {
        let end = address + len;
        for slot in [end + NEAREST_FAR - 1, end - NEAREST_FAR] {
            assert_eq!(check(len, address, FAR, Some(slot), patching).form(), CallForm::Slot);
        }
        for slot in [end + NEAREST_FAR, end - NEAREST_FAR - 1] {
            let mut window = vec![0xa5; len];
            let error =
                write_call(&mut window, address, FAR, Some(slot), patching).expect_err("it is too far");
            assert_eq!(error, Error::OutOfReach { from: end, to: slot });
            assert!(window.iter().all(|&byte| byte == 0xa5), "the window is unchanged");
        }
    }
}

#[test]
fn a_far_target_without_a_slot_is_refused() {
    let mut window = [0xa5; 8];
    let error =
        write_call(&mut window, HERE + 1, FAR, None, Patching::InPlace).expect_err("nothing leads there");
    assert_eq!(error, Error::OutOfReach { from: HERE + 8, to: FAR });
    assert_eq!(window, [0xa5; 8]);
}

#[test]
fn windows_of_other_lengths_are_refused() {
    for (len, patching) in [0, 1, 5, 16, 64]
        .map(|len| (len, Patching::Never))
        .into_iter()
        .chain([0, 5, 6, 7, 16].map(|len| (len, Patching::InPlace)))
    {
        let mut window = vec![0xa5; len];
        let error = write_call(&mut window, HERE, HERE, None, patching).expect_err("no such window");
        assert!(matches!(error, Error::Range { start: HERE, end, .. } if end == HERE + len), "{error}");
        assert!(window.iter().all(|&byte| byte == 0xa5));
    }
}

#[test]
fn eight_bytes_always_hold_an_aligned_field_and_seven_do_not() {
    let places = |address: usize, len: usize| address + 1..=address + len - 4;
    for address in 0..64 {
        assert!(places(address, 8).any(|field| field % 4 == 0));
    }
    assert!((0..64).any(|address| places(address, 7).all(|field| field % 4 != 0)));
    // Nor is a field inside any aligned word of 8 bytes.
    assert!((0..64).any(|address| places(address, 7).all(|field| field % 8 > 4)));
}

#[test]
fn a_patch_is_one_aligned_store_that_changes_the_target_alone() {
    for (len, address, _) in windows().filter(|&(.., patching)| patching == Patching::InPlace) {
        let mut window = vec![0; len];
        let site =
            write_call(&mut window, address, HERE + 0x4000, None, Patching::InPlace).expect("it is near");
        let from = site.return_address();
        for target in [HERE, from - NEAREST_FAR, from + NEAREST_FAR - 1, HERE + 0x4000] {
            let patch = site.patch(target).expect("it is near");
            assert_eq!((patch.address % 4, patch.address), (0, site.field()));
            let at = patch.address - address;
            window[at..at + 4].copy_from_slice(&patch.value.to_le_bytes());
            assert_eq!(the_call(&window, address).near_branch64(), target as u64);
            let mut fresh = vec![0; len];
            write_call(&mut fresh, address, target, None, Patching::InPlace).expect("it is near");
            assert_eq!(window, fresh);
        }
        for target in [from - NEAREST_FAR - 1, from + NEAREST_FAR, FAR] {
            assert_eq!(site.patch(target), Err(Error::OutOfReach { from, to: target }));
        }
    }
}

#[test]
fn calls_that_stay_and_calls_through_slots_are_not_patched() {
    let stays = check(8, HERE, HERE + 64, None, Patching::Never);
    let slot = check(8, HERE, FAR, Some(HERE + 64), Patching::InPlace);
    for site in [stays, slot] {
        assert!(matches!(site.patch(HERE), Err(Error::Range { start, .. }) if start == site.field()));
    }
}

#[test]
fn no_operations_are_few_and_do_nothing() {
    for len in 0..=40 {
        let mut bytes = vec![0xa5; len];
        fill_nops(&mut bytes);
        let nops = decode(&bytes, HERE);
        assert!(nops.iter().all(|nop| nop.mnemonic() == iced_x86::Mnemonic::Nop));
        assert_eq!(nops.len(), len.div_ceil(9));
    }
}

#[test]
fn a_stub_jumps_through_its_slot() {
    let end = HERE + 6;
    for slot in [HERE + 0x1000, HERE - 0x1000, end + NEAREST_FAR - 1, end - NEAREST_FAR] {
        let bytes = stub(HERE, slot).expect("the slot is near");
        let instructions = decode(&bytes, HERE);
        assert_eq!((instructions[0].code(), instructions[0].memory_base()), (Code::Jmp_rm64, Register::RIP));
        assert_eq!(instructions[0].ip_rel_memory_address(), slot as u64);
        assert!(instructions[1..].iter().all(|instruction| instruction.code() == Code::Int3));
    }
    for slot in [end + NEAREST_FAR, end - NEAREST_FAR - 1] {
        assert_eq!(stub(HERE, slot), Err(Error::OutOfReach { from: end, to: slot }));
    }
}

/// `mov reg, [rip + 0]` as a compiler emits it.
fn load(register: u8) -> [u8; 7] {
    [0x48 | register >> 3 << 2, 0x8b, 0x05 | (register & 7) << 3, 0, 0, 0, 0]
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    NasmFormatter::new().format(instruction, &mut text);
    text
}

#[test]
fn a_load_keeps_its_register_through_all_forms() {
    let slot = HERE + 0x2000;
    let cases = [
        (0, LoadForm::Immediate),
        (i32::MAX as usize, LoadForm::Immediate),
        (i32::MAX as usize + 1, LoadForm::Slot),
        (i32::MIN as isize as usize, LoadForm::Immediate),
        (i32::MIN as isize as usize - 1, LoadForm::Slot),
        (HERE + 0x1000, LoadForm::Near),
        (HERE + 7 + NEAREST_FAR - 1, LoadForm::Near),
        (HERE + 7 + NEAREST_FAR, LoadForm::Slot),
        (HERE + 7 - NEAREST_FAR, LoadForm::Near),
        (HERE + 7 - NEAREST_FAR - 1, LoadForm::Slot),
        (usize::MAX, LoadForm::Immediate),
    ];
    for number in 0..16 {
        let mut bytes = load(number);
        let register = decode(&bytes, HERE)[0].op0_register();
        // Each form is rewritten from each other one.
        for (first, _) in cases {
            for (value, form) in cases {
                load_address(&mut bytes, HERE, first, Some(slot)).expect("the slot is near");
                assert_eq!(load_address(&mut bytes, HERE, value, Some(slot)), Ok(form), "{value:#x}");
                let instruction = decode(&bytes, HERE)[0];
                assert_eq!((instruction.len(), instruction.op0_register()), (7, register));
                match form {
                    LoadForm::Immediate => assert_eq!(instruction.immediate(1), value as u64),
                    LoadForm::Near => {
                        assert_eq!(instruction.code(), Code::Lea_r64_m);
                        assert_eq!(instruction.ip_rel_memory_address(), value as u64);
                    }
                    LoadForm::Slot => {
                        assert_eq!(
                            (instruction.code(), instruction.op1_kind()),
                            (Code::Mov_r64_rm64, OpKind::Memory)
                        );
                        assert_eq!(instruction.ip_rel_memory_address(), slot as u64);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_relaxable_load_is_left_alone() {
    let mut listing = String::new();
    for bytes in [
        vec![0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], // mov rax, [0]
        vec![0x48, 0x8b, 0x80, 0, 0, 0, 0],       // mov rax, [rax + 0]
        vec![0x48, 0x89, 0x05, 0, 0, 0, 0],       // mov [rip + 0], rax
        vec![0x66, 0x8b, 0x05, 0, 0, 0, 0],       // mov ax, [rip + 0]
        vec![0x4a, 0x8b, 0x05, 0, 0, 0, 0],       // a prefix that changes nothing
        vec![0x48, 0xc7, 0x00, 0, 0, 0, 0],       // mov qword [rax], 0
        vec![0x8b, 0x05, 0, 0, 0, 0],             // mov eax, [rip + 0]
        vec![],
    ] {
        for instruction in Decoder::with_ip(64, &bytes, HERE as u64, DecoderOptions::NONE).iter() {
            writeln!(listing, "{}", text(&instruction)).expect("a string takes what it is given");
        }
        let mut after = bytes.clone();
        let result = load_address(&mut after, HERE, HERE, None);
        assert!(matches!(result, Err(Error::Range { start: HERE, .. })), "{bytes:02x?}");
        assert_eq!(after, bytes);
    }
    assert!(!listing.contains("bad"), "{listing}");
    let mut far = load(3);
    assert_eq!(load_address(&mut far, HERE, FAR, None), Err(Error::OutOfReach { from: HERE + 7, to: FAR }));
    assert_eq!(far, load(3));
}
