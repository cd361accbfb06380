//! Code reaches the anchor and other code, or the space says that it does not.

use dagwood_codespace::{
    CHUNK, CallForm, Code, CodeBuf, CodeSpace, Error, Lane, Layout, Options, Patching, Placement, Reach,
    Rung, Slot,
};

use crate::world::{self, Mode, Random, returns, turn};

/// What the processor can add to the end of an instruction.
fn expected(end: usize, target: usize) -> Reach {
    let distance = target as i128 - end as i128;
    if (-(1_i128 << 31)..1 << 31).contains(&distance) { Reach::Rel32(distance as i32) } else { Reach::Far }
}

/// Asserts that each buffer says the truth about each address, and returns how many ways are too far.
fn far_ways(buffers: &[CodeBuf<'_>], targets: &[usize]) -> usize {
    let mut far = 0;
    for buffer in buffers {
        for &target in targets {
            for offset in [0, 1, buffer.len() - 4] {
                let reach = buffer.reach(offset, target);
                assert_eq!(reach, expected(buffer.address() + offset + 4, target));
                far += usize::from(reach == Reach::Far);
            }
        }
    }
    far
}

/// Code in each lane, small and large, in several chunks each; and buffers among it.
fn fill<'w>(writer: &'w dagwood_codespace::CodeWriter, codes: &mut Vec<Code>) -> Vec<CodeBuf<'w>> {
    let mut random = Random::new(3);
    let mut buffers = Vec::new();
    for lane in Lane::ALL {
        for _ in 0..3 {
            codes.push(world::place(writer, &returns(1, 1 << 20), lane, 0));
            codes.push(world::place(writer, &returns(1, random.size()), lane, 0));
            let layout = Layout { lane, ..Layout::new(64 + random.size()) };
            buffers.push(writer.reserve(&layout).expect("there is room"));
        }
    }
    buffers
}

#[test]
fn code_near_the_anchor_reaches_it_and_all_other_code() {
    let _turn = turn();
    let anchor = turn as *const () as usize;
    for mode in Mode::all() {
        for reserve_bytes in [64 << 20, 4 << 20, 0] {
            let options = Options { placement: Placement::Near(anchor), reserve_bytes, ..mode.options() };
            let space = CodeSpace::new(&options).expect("allowed");
            let writer = space.writer();
            let mut codes = Vec::new();
            let buffers = fill(&writer, &mut codes);
            let mut targets: Vec<usize> = codes.iter().map(Code::address).collect();
            targets.extend(codes.iter().map(|code| code.address() + code.len()));
            targets.extend(buffers.iter().map(CodeBuf::address));
            targets.push(anchor);
            let slot = space.slot(anchor).expect("there is room");
            targets.push(slot.address());
            let report = space.report();
            assert!(report.rung < Rung::Anywhere, "{mode}: {report:?}");
            assert!(report.reserved.is_none() || reserve_bytes > 0, "{mode}: {report:?}");
            assert_eq!(far_ways(&buffers, &targets), 0, "{mode}: {report:?}");
        }
    }
}

#[test]
fn code_anywhere_reaches_its_slots_and_says_that_the_program_is_far() {
    let _turn = turn();
    let near = Mode::first().space();
    let callee = world::place(&near.writer(), &returns(77, 6), Lane::Baseline, 0);
    for mode in Mode::all() {
        let options = Options { placement: Placement::Anywhere, ..mode.options() };
        let space = CodeSpace::new(&options).expect("allowed");
        let writer = space.writer();
        let mut codes = Vec::new();
        let buffers = fill(&writer, &mut codes);
        let outside = [turn as *const () as usize, callee.address(), 0, usize::MAX, 1 << 46];
        assert!(
            far_ways(&buffers, &outside) > 0,
            "{mode}: an address beside the program was chosen from 2⁴⁶"
        );
        let inside: Vec<usize> = codes.iter().map(Code::address).collect();
        assert_eq!(far_ways(&buffers, &inside), 0, "{mode}: the code of one space stands together");
        drop(buffers);
        call_far(&space, callee.address());
    }
}

/// Calls what is out of reach: an error without a slot, and what was meant with one.
fn call_far(space: &CodeSpace, target: usize) {
    let writer = space.writer();
    let slot: Slot = space.slot(target).expect("there is room");
    let mut buffer = writer.reserve(&Layout::new(64)).expect("there is room");
    if buffer.reach(0, target) != Reach::Far {
        return;
    }
    let refused = buffer.call(4..19, target, None, Patching::InPlace);
    assert!(matches!(refused, Err(Error::OutOfReach { to, .. }) if to == target), "{refused:?}");
    // `sub rsp, 8`, the call, `add rsp, 8; ret`
    buffer.bytes_mut()[..4].copy_from_slice(&[0x48, 0x83, 0xec, 8]);
    let site = buffer.call(4..19, target, Some(&slot), Patching::InPlace).expect("the slot is in reach");
    buffer.bytes_mut()[19..24].copy_from_slice(&[0x48, 0x83, 0xc4, 8, 0xc3]);
    assert_eq!((site.form(), site.is_patchable()), (CallForm::Slot, false));
    let code = buffer.publish(0).expect("the system lets code be written");
    assert_eq!(world::call(code.address()), 77);
    // SAFETY: nobody runs the code now.
    let patched = unsafe { space.patch_call(site, target) };
    assert!(matches!(patched, Err(Error::Range { .. })), "{patched:?}");
}

#[test]
fn what_is_in_reach_ends_exactly_two_gibibytes_away() {
    let _turn = turn();
    let space = Mode::first().space();
    let writer = space.writer();
    let buffer = writer.reserve(&Layout::new(64)).expect("there is room");
    let end = buffer.address() + 4;
    assert_eq!(buffer.reach(0, end + (1 << 31) - 1), Reach::Rel32(i32::MAX));
    assert_eq!(buffer.reach(0, end + (1 << 31)), Reach::Far);
    assert_eq!(buffer.reach(0, end.wrapping_sub(1 << 31)), Reach::Rel32(i32::MIN));
    assert_eq!(buffer.reach(0, end.wrapping_sub((1 << 31) + 1)), Reach::Far);
    assert!(space.contains(buffer.address()) && !space.contains(buffer.address() + 64 * CHUNK));
}
