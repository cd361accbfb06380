//! The places that are found: how near, how fast, on which rung, and what is left of them.

use super::*;
use crate::system::fail_at;
use crate::testing::{access, alone, count_mappings, mappings};
use crate::{Options, Placement};

const ANCHORS: [usize; 7] = [0, 0x40_1000, 0x5555_5555_4000, 0x7fff_f7dd_5000, HIGHEST, 1 << 63, usize::MAX];

fn here() -> usize {
    // Hidden, since the compiler would leave adding gigabytes to a constant address to the linker, which cannot.
    std::hint::black_box(reserve_near as *const () as usize)
}

fn farthest(base: usize, len: usize) -> usize {
    here().abs_diff(base).max(here().abs_diff(base + len))
}

fn options(placement: Placement, reserve_bytes: usize) -> Options {
    Options { placement, reserve_bytes, ..Options::default() }
}

/// Strews `count` inaccessible mappings of up to a mebibyte over the 4 GiB around this program.
fn be_hostile(count: usize) {
    let mut random = Random(42);
    for _ in 0..count {
        let base = (here() - (2 << 30) + random.below(4 << 30)) & !(PAGE - 1);
        let len = PAGE << random.below(9);
        // SAFETY: takes only what is free.
        let _ = unsafe { system::map_nothing(At::Free(base), len) };
    }
}

/// Fills all that is free within reach, but for `hole`.
fn fill_up(hole: Range<usize>) {
    let page = here() & !(PAGE - 1);
    let window = page - (2 << 30)..page + (2 << 30);
    let mut free = Vec::with_capacity(10_000);
    let mut last = window.start;
    for mapping in mappings(window.clone()) {
        free.push(last..mapping.start.max(last));
        last = mapping.end;
    }
    free.push(last..window.end.max(last));
    for range in free {
        let before = range.start..range.end.min(hole.start).max(range.start);
        let after = range.start.max(hole.end).min(range.end)..range.end;
        for part in [before, after].into_iter().filter(|part| !part.is_empty()) {
            // SAFETY: takes only what is free; what the process took meanwhile stays.
            let _ = unsafe { system::map_nothing(At::Free(part.start), part.len()) };
        }
    }
}

#[test]
fn all_places_that_are_tried_lie_within_reach_and_away_from_the_heap() {
    for anchor in ANCHORS {
        for len in [CHUNK, 64 << 20, 4 << 30] {
            let window = Window::near(anchor);
            let places: Vec<usize> = steps(&window, len).collect();
            assert!(places.len() <= 1300, "{} places", places.len());
            for place in places {
                assert!(place.is_multiple_of(CHUNK) && place >= LOWEST && place + len <= HIGHEST);
                assert!(anchor.abs_diff(place).max(anchor.abs_diff(place + len)) <= WINDOW);
                assert!(place < anchor && place + len <= anchor || place >= anchor + HEAP);
            }
        }
    }
    let first = |anchor| steps(&Window::near(anchor), CHUNK).next().expect("there is a place");
    assert!(first(0x5555_5555_4000) < 0x5555_5555_4000, "below a program that can stand anywhere");
    assert!(first(0x40_1000) >= HEAP, "above the heap of one that cannot");
}

#[test]
fn chunks_are_near_and_apart_whether_reserved_or_not() {
    alone("memory::place::tests::chunks_are_near_and_apart_whether_reserved_or_not", || {
        for reserve_bytes in [0, 1, 6 * CHUNK, 64 << 20] {
            let region =
                Region::new(&options(Placement::default(), reserve_bytes)).expect("there are addresses");
            let reserved = region.reserved().map_or(0..0, |(range, _)| range);
            assert_eq!(reserved.len(), reserve_bytes.next_multiple_of(CHUNK));
            let mut places: Vec<Place> =
                (0..40).map(|_| region.take(CHUNK).expect("there are forty")).collect();
            places.push(region.take(3 * CHUNK).expect("there is a large one"));
            for place in &places {
                assert!(place.base().is_multiple_of(CHUNK));
                assert!(farthest(place.base(), place.len()) < i32::MAX as usize);
                assert_eq!(place.rung() == Rung::Reserved, reserved.contains(&place.base()));
                assert_eq!(place.tries() == 0, place.rung() == Rung::Reserved);
                assert_eq!(access(place.base()), "");
            }
            places.sort_by_key(Place::base);
            assert!(places.windows(2).all(|pair| pair[0].base() + pair[0].len() <= pair[1].base()));
            assert!(region.tries() > 0);
        }
    });
}

#[test]
fn a_page_before_the_reserve_is_inaccessible() {
    alone("memory::place::tests::a_page_before_the_reserve_is_inaccessible", || {
        let region = Region::new(&options(Placement::default(), 4 * CHUNK)).expect("there are addresses");
        let (range, _) = region.reserved().expect("addresses are reserved");
        assert_eq!(access(range.start - PAGE), "");
    });
}

#[test]
fn a_place_given_back_to_the_reserve_is_given_out_again() {
    alone("memory::place::tests::a_place_given_back_to_the_reserve_is_given_out_again", || {
        let region = Region::new(&options(Placement::default(), 4 * CHUNK)).expect("there are addresses");
        let take = |len| region.take(len).expect("there are addresses");
        let places = [take(CHUNK), take(CHUNK), take(CHUNK), take(CHUNK)];
        let bases = places.each_ref().map(Place::base);
        let outside = take(CHUNK);
        assert_ne!(outside.rung(), Rung::Reserved, "the reserve is used up");
        let [first, second, third, fourth] = places;
        drop(second);
        drop(third);
        let both = take(2 * CHUNK);
        assert_eq!((both.base(), both.rung()), (bases[1], Rung::Reserved));
        drop(both);
        assert_eq!(take(CHUNK).base(), bases[1]);
        drop((first, fourth));
    });
}

#[test]
fn a_place_outlives_its_region() {
    let region = Region::new(&options(Placement::default(), 4 * CHUNK)).expect("there are addresses");
    let place = region.take(CHUNK).expect("there is a place");
    drop(region);
    assert_eq!(access(place.base()), "");
}

#[test]
fn nothing_is_left_of_regions_and_reservations() {
    alone("memory::place::tests::nothing_is_left_of_regions_and_reservations", || {
        let work = || {
            let reservation = reserve_near(here(), 10 << 20)?;
            let region = Region::new(&options(Placement::default(), 4 * CHUNK))?;
            let places = [region.take(CHUNK)?, region.take(8 * CHUNK)?];
            let anywhere = Region::new(&options(Placement::Anywhere, CHUNK))?;
            let more = [anywhere.take(CHUNK)?, anywhere.take(CHUNK)?];
            let without = Region::new(&options(Placement::Anywhere, 0))?.take(CHUNK)?;
            drop((reservation, places, more, without));
            Ok::<_, Error>(())
        };
        work().expect("there are addresses");
        let before = count_mappings();
        let mut failures = 0;
        for n in 0.. {
            let (result, failed) = fail_at(n, work);
            assert_eq!(count_mappings(), before, "failure {n}");
            if !failed {
                break;
            }
            failures += usize::from(result.is_err());
            assert!(matches!(result, Ok(()) | Err(Error::System { errno: libc::ENOMEM, .. })), "{result:?}");
        }
        assert!(failures >= 4, "{failures} calls failed");
    });
}

#[test]
fn three_thousand_hostile_mappings_leave_room_near_and_cost_few_tries() {
    alone("memory::place::tests::three_thousand_hostile_mappings_leave_room_near_and_cost_few_tries", || {
        be_hostile(3_000);
        let mut tries = Vec::new();
        for _ in 0..101 {
            let reservation = reserve_near(here(), 64 << 20).expect("there are addresses");
            assert!(reservation.rung() <= Rung::Scan && reservation.rung() != Rung::Reserved);
            assert!(farthest(reservation.base(), reservation.len()) < i32::MAX as usize);
            tries.push(reservation.tries());
        }
        tries.sort_unstable();
        assert!(tries[50] <= 14, "{tries:?}");
        let region = Region::new(&Options::default()).expect("there are addresses");
        let places: Vec<_> = (0..40).map(|_| region.take(CHUNK).expect("there are forty")).collect();
        assert!(places.iter().all(|place| farthest(place.base(), CHUNK) < i32::MAX as usize));
    });
}

#[test]
fn the_memory_map_shows_the_only_hole_there_is() {
    alone("memory::place::tests::the_memory_map_shows_the_only_hole_there_is", || {
        let heap = system::heap_end();
        let is_free =
            |base: usize| mappings(base..base + CHUNK).is_empty() && base.abs_diff(heap) > 4 * HEAP_MARGIN;
        // Between the program and where guesses and the walk look again.
        let hole = (1..16).map(|i| (here() & !(CHUNK - 1)) + i * HEAP_MARGIN).find(|&base| is_free(base));
        let hole = hole.expect("a gibibyte is not full");
        fill_up(hole..hole + CHUNK);
        let place = climb(&Window::near(here()), CHUNK, 0, &mut 0).expect("there is a hole");
        assert_eq!((place.base(), place.rung()), (hole, Rung::Scan));
        let region = Region::new(&Options::default()).expect("no reserve is no error");
        assert_eq!(region.reserved(), None);
    });
}

#[test]
fn a_hole_beside_the_heap_is_left_to_the_heap_and_the_pool_comes_next_and_then_anywhere() {
    alone(
        "memory::place::tests::a_hole_beside_the_heap_is_left_to_the_heap_and_the_pool_comes_next_and_then_anywhere",
        || {
            let hole = system::heap_end().next_multiple_of(CHUNK);
            fill_up(hole - CHUNK..hole + CHUNK);
            let window = Window::near(here());
            let pooled = if cfg!(feature = "image-pool") { 8 } else { 0 };
            let places: Vec<_> = (0..pooled + 2)
                .map(|_| climb(&window, CHUNK, 0, &mut 0).expect("there are addresses"))
                .collect();
            for (i, place) in places.iter().enumerate() {
                let is_near = farthest(place.base(), CHUNK) < i32::MAX as usize;
                assert_eq!(place.rung(), if i < pooled { Rung::Pool } else { Rung::Anywhere });
                assert_eq!(is_near, i < pooled);
                assert!(place.base().is_multiple_of(CHUNK));
            }
        },
    );
}

#[test]
fn anywhere_is_a_random_place_and_what_follows_is_near_it() {
    let bases: Vec<usize> = [CHUNK, 0]
        .into_iter()
        .map(|reserve_bytes| {
            let region =
                Region::new(&options(Placement::Anywhere, reserve_bytes)).expect("there are addresses");
            let places: Vec<_> = (0..4).map(|_| region.take(CHUNK).expect("there is a place")).collect();
            let first = places[0].base();
            assert!(places.iter().all(|place| place.base().abs_diff(first) < i32::MAX as usize));
            first
        })
        .collect();
    assert_ne!(bases[0], bases[1]);
}

#[test]
fn sizes_beyond_all_addresses_are_errors() {
    let region = Region::new(&options(Placement::default(), 0)).expect("no reserve is no error");
    assert!(region.take(1 << 47).is_err());
    assert!(region.take(usize::MAX & !(CHUNK - 1)).is_err());
    let reservation = reserve_near(here(), usize::MAX).expect("less will do");
    assert!(reservation.len() >= CHUNK);
}

#[test]
fn anchors_beyond_all_addresses_are_no_error() {
    for anchor in ANCHORS {
        let region = Region::new(&options(Placement::Near(anchor), CHUNK)).expect("there are addresses");
        assert!(region.take(CHUNK).is_ok() && region.take(CHUNK).is_ok());
    }
}

#[test]
fn random_numbers_stay_below_their_bound_and_differ() {
    let mut random = Random::new().expect("there are random bytes");
    let numbers: Vec<usize> = (0..100).map(|_| random.below(1 << 40)).collect();
    assert!(numbers.iter().all(|&number| number < 1 << 40));
    assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    assert!((0..100).all(|_| random.below(1) == 0));
    assert!(random.address(CHUNK).is_multiple_of(CHUNK));
}
