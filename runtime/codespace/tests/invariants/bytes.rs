//! What stands in memory: functions each on lines of their own, no data among them, `int3` everywhere else, and nothing
//! changes but what is patched.

use std::collections::BTreeMap;
use std::ops::Range;

use dagwood_codespace::{Code, CodeSpace, CodeWriter, HotEdge, Layout, Patching, Slot};

use crate::world::{
    self, INT3, LINE, Mode, PAGE, Random, TRAILER, bytes_at, executable, mappings, place, reclaim_all,
    returns, run, turn,
};

/// Asserts that no two functions have a line in common; returns their lines.
fn assert_lines_apart(codes: &[Code]) -> BTreeMap<usize, usize> {
    let mut lines = BTreeMap::new();
    for code in codes {
        for line in run(code).step_by(LINE) {
            let other = lines.insert(line, code.address());
            assert_eq!(
                other,
                None,
                "the line at {line:#x} is also that of the code at {:#x}",
                code.address()
            );
        }
    }
    lines
}

#[test]
fn no_line_holds_two_functions_or_code_and_data() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writers = [space.writer(), space.writer()];
        let mut random = Random::new(4);
        let mut codes = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        for at in 0..600 {
            let size = random.size();
            let hot: Vec<HotEdge> = (0..random.below(3))
                .map(|_| random.below(size) as u32)
                .map(|start| HotEdge { start, end: (start + 6).min(size as u32), frequency: 1 })
                .collect();
            let layout = Layout { size, align: 1 << random.below(9), lane: random.lane(), hot: &hot };
            let buffer = writers[at % 2].reserve(&layout).expect("there is room");
            assert!(buffer.address().is_multiple_of(layout.align));
            codes.push(buffer.publish(at).expect("the system lets code be written"));
            slots.push(space.slot(at).expect("there is room"));
            if at % 3 == 0 {
                writers[0].retire(codes.swap_remove(random.below(codes.len()))).expect("it is the space's");
            }
            if at % 50 == 0 {
                reclaim_all(&writers[0]);
            }
        }
        let lines = assert_lines_apart(&codes);
        let maps = mappings();
        for slot in &slots {
            let line = slot.address() / LINE * LINE;
            assert!(!lines.contains_key(&line), "{mode}: the slot at {:#x} is beside code", slot.address());
            let holds = |mapping: &&world::Mapping| mapping.range.contains(&slot.address());
            let mapping = maps.iter().find(holds).expect("a slot is mapped");
            assert!(mapping.write && !mapping.execute && !mapping.is_code_file, "{mode}: {mapping}");
        }
        for code in &codes {
            let holds = |mapping: &&world::Mapping| mapping.range.contains(&code.address());
            let mapping = maps.iter().find(holds).expect("code is mapped");
            assert!(mapping.execute && !mapping.write, "{mode}: {mapping}");
        }
    }
}

/// Asserts that each byte of the executable mappings of a space is one of live code and its trailer, or `int3`. Pages
/// that were never used have no code and are all zero. Returns how many the others are.
fn assert_int3_between(space: &CodeSpace, codes: &[Code], when: &str) -> usize {
    let live: BTreeMap<usize, &Code> = codes.iter().map(|code| (code.address(), code)).collect();
    let mut used = 0;
    for page in executable(space).into_iter().flat_map(|mapping| mapping.range.step_by(PAGE)) {
        let bytes = bytes_at(page..page + PAGE);
        let mut free = [true; PAGE];
        let before = live.range(..page).next_back();
        for (_, code) in before.into_iter().chain(live.range(page..page + PAGE)) {
            let end = run(code).end;
            for kept in [code.address()..code.address() + code.len(), end - TRAILER..end] {
                let kept = kept.start.clamp(page, page + PAGE)..kept.end.clamp(page, page + PAGE);
                free[kept.start - page..kept.end - page].fill(false);
            }
        }
        if free == [true; PAGE] && bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        used += 1;
        if let Some(at) = (0..PAGE).find(|&at| free[at] && bytes[at] != INT3) {
            panic!("{when}: the free byte at {:#x} is {:#x}", page + at, bytes[at]);
        }
    }
    used
}

#[test]
fn what_is_not_live_code_is_int3_in_every_page_that_was_used() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let mut random = Random::new(5);
        let mut codes: Vec<Code> = Vec::new();
        for round in 0..6 {
            let writers = [space.writer(), space.writer()];
            let mut dropped = Vec::new();
            for at in 0..150 {
                let size = random.size();
                let layout = Layout { lane: random.lane(), ..Layout::new(size) };
                let mut buffer = writers[at % 2].reserve(&layout).expect("there is room");
                assert!(
                    buffer.bytes_mut().iter().all(|&byte| byte == INT3),
                    "{mode}: a buffer begins as int3"
                );
                buffer.bytes_mut().copy_from_slice(&returns(at as u32, size));
                match random.below(6) {
                    // What was written and given up again.
                    0 => drop(buffer),
                    // What was given up later, when its neighbours were published.
                    1 => dropped.push(buffer),
                    _ => codes.push(buffer.publish(at).expect("the system lets code be written")),
                }
            }
            drop(dropped);
            assert_int3_between(&space, &codes, &format!("{mode}, written, round {round}"));
            for at in 0..50 + 60 * (round % 2) {
                let code = codes.swap_remove(random.below(codes.len()));
                match at % 4 {
                    // SAFETY: nobody runs it.
                    0 => assert!(unsafe { space.free(code) }.is_ok()),
                    // SAFETY: as above.
                    1 => assert!(unsafe { writers[at % 2].free(code) }.is_ok()),
                    2 => space.retire(code).expect("it is the space's"),
                    _ => writers[at % 2].retire(code).expect("it is the space's"),
                }
            }
            writers.iter().for_each(CodeWriter::rest);
            reclaim_all(&writers[0]);
            drop(writers);
            let pages = assert_int3_between(&space, &codes, &format!("{mode}, freed, round {round}"));
            if mode.protection != dagwood_codespace::Protection::Flip {
                let resident = space.stats().resident_bytes / PAGE;
                assert_eq!(pages, resident, "{mode}: what the space says has memory is what was used");
            }
        }
    }
}

/// All that stands in memory for some code.
fn snapshot(codes: &[Code]) -> Vec<(Range<usize>, Vec<u8>)> {
    codes.iter().map(|code| (run(code), bytes_at(run(code)).to_vec())).collect()
}

fn assert_unchanged(before: &[(Range<usize>, Vec<u8>)], what: &str) {
    for (range, bytes) in before {
        let now = bytes_at(range.clone());
        let changed = (0..bytes.len()).find(|&at| now[at] != bytes[at]);
        assert_eq!(changed.map(|at| range.start + at), None, "{what}");
    }
}

/// Thousands of things that have nothing to do with what is live already.
fn work_beside(space: &CodeSpace, writer: &CodeWriter, seed: u64) {
    let mut random = Random::new(seed);
    let mut others: Vec<Code> = Vec::new();
    for step in 0..1500 {
        match random.below(8) {
            0..=3 => {
                let size = random.size();
                others.push(place(writer, &returns(step, size), random.lane(), step as usize));
            }
            4 => drop(writer.reserve(&Layout::new(random.size())).expect("there is room")),
            5 if !others.is_empty() => {
                let code = others.swap_remove(random.below(others.len()));
                // SAFETY: nobody runs it.
                unsafe { space.free(code) }.expect("it is the space's");
            }
            6 if !others.is_empty() => {
                writer.retire(others.swap_remove(random.below(others.len()))).expect("it is the space's");
            }
            7 if step % 16 == 0 => {
                writer.reclaim(&mut |_| {}).expect("nothing fails");
            }
            _ => {}
        }
    }
    others.into_iter().for_each(|code| writer.retire(code).expect("it is the space's"));
    reclaim_all(writer);
}

#[test]
fn published_bytes_change_by_patches_only_and_by_no_more_than_is_patched() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let mut random = Random::new(6);
        let mut codes = Vec::new();
        let mut gaps = Vec::new();
        for at in 0..300 {
            let code = place(&writer, &returns(at, random.size()), random.lane(), at as usize);
            if at % 2 == 0 { codes.push(code) } else { gaps.push(code) }
        }
        gaps.into_iter().for_each(|code| writer.retire(code).expect("it is the space's"));
        let mut buffer = writer.reserve(&Layout::new(40)).expect("there is room");
        let site = buffer.call(3..15, codes[0].address(), None, Patching::InPlace).expect("in reach");
        codes.push(buffer.publish(0).expect("the system lets code be written"));
        let mut before = snapshot(&codes);
        work_beside(&space, &writer, 60);
        assert_unchanged(&before, &format!("{mode}: something was done beside it"));
        // SAFETY: nobody runs the code.
        let is_patched = unsafe { space.patch_call(site, codes[1].address()) }.is_ok();
        assert_eq!(is_patched, mode.patches_calls());
        let patched = codes[2].address() + 5;
        // SAFETY: as above.
        let is_byte_patched = unsafe { space.patch_byte(patched, 0x90) }.is_ok();
        assert_eq!(is_byte_patched, mode.patches_bytes());
        let mut expect = |is_done: bool, address: usize, bytes: &[u8]| {
            let (range, old) =
                before.iter_mut().find(|(range, _)| range.contains(&address)).expect("it is code");
            if is_done {
                let at = address - range.start;
                assert_ne!(old[at..at + bytes.len()], *bytes, "the patch changes something");
                old[at..at + bytes.len()].copy_from_slice(bytes);
            }
        };
        let displacement = codes[1].address().wrapping_sub(site.return_address()) as u32;
        expect(is_patched, site.field(), &displacement.to_le_bytes());
        expect(is_byte_patched, patched, &[0x90]);
        assert_unchanged(&before, &format!("{mode}: two patches"));
        work_beside(&space, &writer, 61);
        assert_unchanged(&before, &format!("{mode}: something was done beside it again"));
    }
}
