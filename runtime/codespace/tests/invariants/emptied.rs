//! A space that was emptied has room for all that a new one has room for, at the same addresses.

use std::collections::BTreeSet;

use dagwood_codespace::{CodeSpace, Error, Lane, Layout, Options};

use crate::world::{CHUNK, Mode, PAGE, call, place, returns, turn};

#[test]
fn each_lane_in_turn_gets_the_room_that_the_others_have_left() {
    const LIMIT: usize = 16 << 20;
    let _turn = turn();
    for mode in Mode::all() {
        let space = CodeSpace::new(&Options { max_bytes: LIMIT, ..mode.options() }).expect("allowed");
        let mut most = 0;
        for lane in Lane::ALL.into_iter().cycle().take(6) {
            let writer = space.writer();
            let mut codes = Vec::new();
            let full = loop {
                match writer.reserve(&Layout { lane, ..Layout::new(1_700_000) }) {
                    Ok(buffer) => codes.push(buffer.publish(0).expect("the system lets code be written")),
                    Err(error) => break error,
                }
            };
            assert!(matches!(full, Error::Full { limit: LIMIT, .. }), "{mode} {lane:?}: {full:?}");
            assert!(codes.len() >= LIMIT / CHUNK, "{mode} {lane:?}: {} are not full yet", codes.len());
            most = most.max(space.stats().chunks);
            for code in codes {
                // SAFETY: nobody runs it.
                unsafe { writer.free(code) }.expect("it is the space's");
            }
        }
        let stats = space.stats();
        assert_eq!((stats.used_bytes, stats.live), (0, 0), "{mode}");
        assert!(most <= LIMIT / CHUNK + 4, "{mode}: {most} chunks");
        let reserved = space.report().reserved.expect("there is room for a reservation").0;
        let code = place(&space.writer(), &returns(3, 100), Lane::Cold, 0);
        assert!(reserved.contains(&code.address()), "{mode}: near addresses are used again");
        assert_eq!(call(code.address()), 3);
    }
}

#[test]
fn functions_that_grow_for_ever_use_the_addresses_of_those_before() {
    const LARGEST: usize = 32 << 20;
    let _turn = turn();
    for mode in Mode::all() {
        let space = CodeSpace::new(&Options { max_bytes: LARGEST, ..mode.options() }).expect("allowed");
        let writer = space.writer();
        let mut pieces = BTreeSet::new();
        for size in (CHUNK / 2..LARGEST - CHUNK).step_by(CHUNK) {
            let lane = Lane::ALL[size / CHUNK % 4];
            let buffer = writer.reserve(&Layout { lane, ..Layout::new(size) });
            let buffer = buffer.unwrap_or_else(|error| panic!("{mode} {size}: {error}"));
            pieces.extend(buffer.address() / CHUNK..=(buffer.address() + size) / CHUNK);
            // Dropped, its room is free again.
        }
        assert!(pieces.len() <= 3 * LARGEST / CHUNK, "{mode}: {} pieces", pieces.len());
        let code = place(&writer, &returns(7, 100), Lane::Cold, 0);
        assert_eq!(call(code.address()), 7);
    }
}

/// A lookup that has been under way for long may read where a chunk has stood.
#[test]
fn addresses_that_a_chunk_has_left_can_be_read_whatever_comes_there() {
    let _turn = turn();
    for mode in Mode::all() {
        let space = mode.space();
        let writer = space.writer();
        let code = place(&writer, &returns(1, 5 << 20), Lane::Baseline, 0);
        let range = code.address()..code.address() + code.len();
        // SAFETY: nobody runs it.
        unsafe { writer.free(code) }.expect("it is the space's");
        let read = || {
            for page in range.clone().step_by(PAGE) {
                // SAFETY: that this can be read is what is tested.
                unsafe { std::ptr::with_exposed_provenance::<u8>(page).read_volatile() };
            }
        };
        read();
        assert!(!space.contains(range.start), "{mode}: the chunk is gone");
        let place = |_| place(&writer, &returns(1, CHUNK - (300 << 10)), Lane::Cold, 0);
        let codes: Vec<_> = (0..3).map(place).collect();
        assert!(codes.iter().any(|code| range.contains(&code.address())), "{mode}: others came");
        read();
    }
}
