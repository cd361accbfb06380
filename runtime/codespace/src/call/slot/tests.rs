//! Slots are given out once, in reach, and come back.

use std::collections::HashSet;
use std::thread;

use super::*;
use crate::memory::place::{Region, Rung};
use crate::system::fail_at;
use crate::{CHUNK, Options, Placement};

/// How much code there is on either side of a slot.
const EVERYWHERE: usize = 1 << 30;
/// The areas of a place.
const AREAS: usize = CHUNK / AREA - 1;

/// One place, so that it shows whether it is free, and others anywhere.
struct Ground(Region);

impl Ground {
    fn new() -> Ground {
        let options = Options { placement: Placement::Anywhere, reserve_bytes: CHUNK, ..Options::default() };
        Ground(Region::new(&options).expect("there are addresses"))
    }

    fn take(&self) -> Result<Place, Error> {
        self.0.take(CHUNK)
    }

    /// Whether the one place is not taken.
    fn is_free(&self) -> bool {
        self.take().expect("there are addresses").rung() == Rung::Reserved
    }
}

fn none() -> Result<Place, Error> {
    Err(Error::Memory)
}

/// Code around an address.
fn around(address: usize) -> Range<usize> {
    address - EVERYWHERE..address + EVERYWHERE
}

/// Slots with one area, and code around it.
fn start(ground: &Ground) -> (Slots, Slot, Range<usize>) {
    let slots = Slots::new().expect("there is memory");
    let place = ground.take().expect("there are addresses");
    let code = around(place.base());
    let slot = slots.allocate(&code, 0x1234, || Ok(place)).expect("the place is in reach");
    (slots, slot, code)
}

#[test]
fn a_slot_holds_what_was_set() {
    let (slots, slot, _) = start(&Ground::new());
    assert_eq!(slot.target(), 0x1234);
    slot.set(usize::MAX);
    assert_eq!(slot.target(), usize::MAX);
    assert_eq!(slot.address() % 8, 0);
    assert_eq!(slots.count(), (1, 1));
}

#[test]
fn an_area_is_used_up_before_there_is_another() {
    let ground = Ground::new();
    let (slots, first, code) = start(&ground);
    let base = first.address();
    let mut all = vec![first];
    for target in 1..AREAS * SLOTS {
        assert_eq!(slots.count(), (target.div_ceil(SLOTS), target));
        all.push(slots.allocate(&code, target, none).expect("the place has room"));
    }
    assert!(all.iter().enumerate().all(|(index, slot)| slot.address() == base + 8 * index));
    assert!(all.iter().enumerate().skip(1).all(|(index, slot)| slot.target() == index));
    // The end of the place is left alone.
    assert_eq!(base + 8 * all.len() + AREA, base + CHUNK);
    assert_eq!(slots.allocate(&code, 0, none).expect_err("nothing is left"), Error::Memory);
    assert_eq!(slots.count(), (AREAS, AREAS * SLOTS));
    drop(all.swap_remove(SLOTS));
    assert_eq!(slots.allocate(&code, 0, none).expect("one is free").address(), base + AREA);
}

#[test]
fn a_dropped_slot_is_zero_and_given_out_again() {
    let (slots, first, code) = start(&Ground::new());
    let second = slots.allocate(&code, 2, none).expect("the area has room");
    let third = slots.allocate(&code, 3, none).expect("the area has room");
    let (word, address) = (second.word, second.address());
    drop(second);
    // SAFETY: `slots` keeps the area.
    assert_eq!(unsafe { word.as_ref() }.load(Ordering::Relaxed), 0);
    assert_eq!(slots.count(), (1, 2));
    assert_eq!((first.target(), third.target()), (0x1234, 3));
    let again = slots.allocate(&code, 4, none).expect("one is free");
    assert_eq!((again.address(), again.target()), (address, 4));
}

#[test]
fn the_memory_stays_until_the_last_slot_is_gone() {
    let ground = Ground::new();
    assert!(ground.is_free());
    let (slots, slot, _) = start(&ground);
    drop(slots.clone());
    drop(slots);
    slot.set(77);
    assert_eq!((slot.target(), ground.is_free()), (77, false));
    drop(slot);
    assert!(ground.is_free());
}

#[test]
fn a_slot_is_in_reach_of_the_code_it_was_made_for_to_the_byte() {
    let (slots, slot, _) = start(&Ground::new());
    let base = slot.address();
    let last = base + AREA - 8;
    // Code behind the area reaches 2³¹ bytes back, code before it 2³¹ − 1 bytes on.
    let (before, behind) = (last - ((1 << 31) - 1), base + (1 << 31));
    for (code, reached) in [
        (behind - 1..behind, true),
        (behind..behind + 1, false),
        (before..before + 1, true),
        (before - 1..before, false),
        (before..behind, true),
        (before..behind + 1, false),
        (before - 1..behind, false),
    ] {
        assert_eq!(is_in_reach(base, &code), reached, "{code:x?}");
        let first = slots.allocate(&code, 0, none).map(|slot| slot.address());
        if reached {
            assert_eq!(first, Ok(base + 8));
        } else if code.start == behind {
            // The area behind is nearer.
            assert_eq!(first, Ok(base + AREA));
        } else {
            assert_eq!(first, Err(Error::Memory));
        }
    }
}

#[test]
fn a_place_out_of_reach_is_given_back() {
    let ground = Ground::new();
    let (slots, far) = (Slots::new().expect("there is memory"), around(1 << 40));
    let error = slots.allocate(&far, 0, || ground.take()).expect_err("the place is not there");
    assert!(matches!(error, Error::OutOfReach { from, .. } if from == far.start), "{error}");
    assert_eq!((slots.count(), ground.is_free()), ((0, 0), true));
}

#[test]
fn code_far_apart_has_places_of_its_own() {
    let ground = Ground::new();
    let (slots, slot, code) = start(&ground);
    // Another place, as it might be found near other code: where it stands is chance, so it may take several regions.
    let is_far = |place: &Place| !is_in_reach(slot.address(), &around(place.base()));
    let mut places = (0..8).map(|_| Ground::new().take().expect("there are addresses"));
    let place = places.find(is_far).expect("eight places at random are not all near one");
    let base = place.base();
    let far = slots.allocate(&around(base), 1, || Ok(place)).expect("the place is in reach");
    assert_eq!((far.address(), slots.count()), (base, (2, 2)));
    assert_eq!(slots.allocate(&around(base), 1, none).expect("there is room").address(), base + 8);
    assert_eq!(slots.allocate(&code, 1, none).expect("there is room").address(), slot.address() + 8);
}

#[test]
fn a_system_call_that_fails_is_an_error_and_changes_nothing() {
    let ground = Ground::new();
    let code = around(ground.take().expect("there are addresses").base());
    let slots = Slots::new().expect("there is memory");
    let take = || slots.allocate(&code, 9, || ground.take());
    let mut failures = 0;
    let slot = loop {
        match fail_at(failures, take) {
            (Ok(slot), false) => break slot,
            (result, failed) => {
                let error = result.expect_err("the call is needed");
                assert!(failed && matches!(error, Error::System { .. }), "{error}");
                assert_eq!((slots.count(), ground.is_free()), ((0, 0), true));
                failures += 1;
            }
        }
    };
    assert!(failures > 0);
    assert_eq!((slot.target(), slots.count()), (9, (1, 1)));
}

#[test]
fn a_panic_while_a_place_is_taken_leaves_the_slots_usable() {
    let (slots, slot, code) = start(&Ground::new());
    let far = around(slot.address().wrapping_add(1 << 40));
    let other = slots.clone();
    let panicked =
        thread::spawn(move || other.allocate(&far, 0, || panic!("no place here")).map(drop)).join();
    assert!(panicked.is_err());
    assert_eq!(slots.allocate(&code, 5, none).expect("the area has room").target(), 5);
}

#[test]
fn threads_never_share_a_slot() {
    const THREADS: usize = 4;
    const KEPT: usize = 200;
    let (slots, first, code) = start(&Ground::new());
    let kept: Vec<Vec<Slot>> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|thread| {
                let (slots, code) = (&slots, &code);
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for round in 0..20 * KEPT {
                        let slot =
                            slots.allocate(code, (thread << 32) | round, none).expect("the area has room");
                        assert_eq!(slot.target(), (thread << 32) | round);
                        if round % 20 == 0 {
                            kept.push(slot);
                        }
                    }
                    kept
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let addresses: HashSet<usize> =
        kept.iter().flatten().map(Slot::address).chain([first.address()]).collect();
    assert_eq!(addresses.len(), THREADS * KEPT + 1);
    assert_eq!(slots.count(), (1, addresses.len()));
    for (thread, slots) in kept.iter().enumerate() {
        for (index, slot) in slots.iter().enumerate() {
            assert_eq!(slot.target(), ((thread + 1) << 32) | (20 * index));
        }
    }
    drop(kept);
    assert_eq!(slots.count(), (1, 1));
}
