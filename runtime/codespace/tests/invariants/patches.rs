//! Calls that are redirected while they run: by a patch, or by their slot.

use std::sync::atomic::{AtomicBool, Ordering};

use dagwood_codespace::{CallForm, CallSite, Code, CodeWriter, Lane, Layout, Patching, Protection, Slot};

use crate::world::{Mode, place, returns, turn};

/// A loop that calls `target`, compares what it returns with 1 and 2, and counts: `fn(times, &mut [u64; 3])`.
fn calling_loop(
    writer: &CodeWriter,
    (target, slot): (usize, Option<&Slot>),
    window: usize,
    shift: usize,
) -> (Code, CallSite) {
    let head: &[u8] = &[
        0x53, // push rbx
        0x41, 0x54, // push r12
        0x48, 0x83, 0xec, 0x08, // sub rsp, 8
        0x48, 0x89, 0xfb, // mov rbx, rdi
        0x49, 0x89, 0xf4, // mov r12, rsi
    ];
    // What 1 and 2 are counted at, and all else at 0: `cmp eax, 3; sbb ecx, ecx; and eax, ecx; inc [r12 + 8 * rax]`
    let tail: &[u8] = &[
        0x83, 0xf8, 0x03, // cmp eax, 3
        0x19, 0xc9, // sbb ecx, ecx
        0x21, 0xc8, // and eax, ecx
        0x49, 0xff, 0x04, 0xc4, // inc qword [r12 + 8 * rax]
        0x48, 0xff, 0xcb, // dec rbx
    ];
    let end: &[u8] = &[
        0x48, 0x83, 0xc4, 0x08, // add rsp, 8
        0x41, 0x5c, // pop r12
        0x5b, // pop rbx
        0xc3, // ret
    ];
    // So that the window begins at each offset of a line once.
    let start = head.len() + shift;
    let back = window + tail.len() + 2;
    let size = start + back + end.len();
    let mut buffer = writer.reserve(&Layout::new(size)).expect("there is room");
    let bytes = buffer.bytes_mut();
    bytes[..head.len()].copy_from_slice(head);
    bytes[head.len()..start].fill(0x90);
    bytes[start + window..][..tail.len()].copy_from_slice(tail);
    bytes[start + back - 2..start + back].copy_from_slice(&[0x75, (back as i8).wrapping_neg() as u8]);
    bytes[start + back..].copy_from_slice(end);
    let window = start as u32..(start + window) as u32;
    let patching = if slot.is_some() { Patching::BySlot } else { Patching::InPlace };
    let site = buffer.call(window, target, slot, patching).expect("it is in reach");
    (buffer.publish(0).expect("the system lets code be written"), site)
}

#[test]
fn a_call_that_is_redirected_while_it_runs_goes_to_one_of_its_targets() {
    const PATCHES: usize = 100_000;
    let _turn = turn();
    let ways = Mode::all().flat_map(|mode| [(mode, false), (mode, true)]);
    for (mode, by_slot) in ways.filter(|&(mode, by_slot)| by_slot || mode.patches_calls()) {
        // Mapping the write view for each patch takes longer.
        let patches = if mode.protection == Protection::Dual { PATCHES } else { PATCHES / 50 };
        let space = mode.space();
        let writer = space.writer();
        // The targets are in other lanes, so that their displacements differ in each byte but the last.
        let targets = [Lane::Stubs, Lane::Cold].map(|lane| {
            let padding = place(&writer, &returns(0, 300 * (1 + lane as usize)), lane, 0);
            (place(&writer, &returns(if lane == Lane::Stubs { 1 } else { 2 }, 6), lane, 0), padding)
        });
        let slot = by_slot.then(|| space.slot(targets[0].0.address()).expect("there is room"));
        for shift in [0, 3, 38, 45, 50, 57] {
            let target = (targets[0].0.address(), slot.as_ref());
            let (code, site) = calling_loop(&writer, target, 8 + shift % 8, shift);
            assert_eq!(site.form() == CallForm::Slot, by_slot, "{mode}: {site:?}");
            assert!(by_slot || site.is_patchable() && site.field().is_multiple_of(4), "{mode}: {site:?}");
            let redirect = |target: usize| match &slot {
                Some(slot) => slot.set(target),
                // SAFETY: the site is published, and the loop may call both.
                None => unsafe { space.patch_call(site, target) }.expect("in reach"),
            };
            // SAFETY: the loop follows the convention and writes to the three counters only.
            let function: extern "sysv64" fn(u64, &mut [u64; 3]) =
                unsafe { std::mem::transmute(code.address()) };
            let is_done = AtomicBool::new(false);
            let counts = std::thread::scope(|scope| {
                let caller = scope.spawn(|| {
                    let mut counts = [0; 3];
                    while !is_done.load(Ordering::Relaxed) || counts[1] == 0 {
                        function(1000, &mut counts);
                    }
                    counts
                });
                (1..=patches / 6).for_each(|patch| redirect(targets[patch % 2].0.address()));
                redirect(targets[0].0.address());
                is_done.store(true, Ordering::Release);
                caller.join().expect("the loop ends")
            });
            assert_eq!(counts[0], 0, "{mode}: something else was called; {counts:?}");
            // SAFETY: nobody runs it any more.
            unsafe { writer.free(code) }.expect("it is the space's");
        }
    }
}
