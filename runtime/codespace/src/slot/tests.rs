//! Slots are given out once, in reach, and come back.

use std::collections::HashSet;
use std::thread;

use super::*;

/// An area of the heap.
struct Heap(Vec<AtomicUsize>, Arc<()>);

// SAFETY: the vector holds AREA zero bytes of atomics, which do not move with it; nothing else uses them.
unsafe impl AreaMemory for Heap {
    fn base(&self) -> NonNull<u8> {
        NonNull::from_ref(&self.0[0]).cast()
    }
}

const EVERYWHERE: usize = 1 << 30;

/// Areas of the heap, and a count of those that live.
struct Ground(Arc<()>);

impl Ground {
    fn new() -> Ground {
        Ground(Arc::new(()))
    }

    fn map(&self) -> Result<Heap, Error> {
        Ok(Heap((0..SLOTS).map(|_| AtomicUsize::new(0)).collect(), Arc::clone(&self.0)))
    }

    fn live(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

fn none() -> Result<Heap, Error> {
    Err(Error::Memory)
}

/// Code around an address.
fn around(address: usize) -> Range<usize> {
    address - EVERYWHERE..address + EVERYWHERE
}

/// An area, and code around it.
fn start(ground: &Ground) -> (Slots<Heap>, Slot, Range<usize>) {
    let slots = Slots::new();
    let memory = ground.map().expect("the heap has room");
    let code = around(memory.base().addr().get());
    let slot = slots.allocate(&code, 0x1234, || Ok(memory)).expect("the area is in reach");
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
    let mut all = vec![first];
    for target in 1..SLOTS {
        all.push(slots.allocate(&code, target, none).expect("the area has room"));
    }
    let addresses: Vec<usize> = all.iter().map(Slot::address).collect();
    let base = addresses[0];
    assert!(addresses.iter().enumerate().all(|(index, &address)| address == base + 8 * index));
    assert!(all.iter().enumerate().skip(1).all(|(index, slot)| slot.target() == index));
    assert_eq!(slots.allocate(&code, 0, none).expect_err("nothing is left"), Error::Memory);
    assert_eq!(slots.count(), (1, SLOTS));
    all.push(slots.allocate(&code, 0, || ground.map()).expect("the heap stands together"));
    assert!(!(base..base + AREA).contains(&all[SLOTS].address()));
    assert_eq!((slots.count(), ground.live()), ((2, SLOTS + 1), 2));
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
    let (slots, slot, _) = start(&ground);
    drop(slots.clone());
    drop(slots);
    slot.set(77);
    assert_eq!((slot.target(), ground.live()), (77, 1));
    drop(slot);
    assert_eq!(ground.live(), 0);
}

#[test]
fn a_slot_is_in_reach_of_the_code_it_was_made_for_to_the_byte() {
    let ground = Ground::new();
    let (slots, slot, _) = start(&ground);
    let base = slot.address();
    let last = base + AREA - 8;
    // Behind the area: 2³¹ bytes back is the farthest. Before it: 2³¹ − 1 bytes on.
    let behind = base + (1 << 31);
    let before = last.wrapping_sub((1 << 31) - 1);
    for code in [behind - 1..behind, before..before.wrapping_add(1), before..behind] {
        assert_eq!(slots.allocate(&code, 0, none).expect("it is in reach").address(), base + 8);
    }
    for code in [behind..behind + 1, before.wrapping_sub(1)..before, before..behind + 1] {
        assert_eq!(slots.allocate(&code, 0, none).expect_err("one byte too far"), Error::Memory);
    }
    assert_eq!(slots.count(), (1, 1));
}

#[test]
fn an_area_out_of_reach_is_given_back() {
    let ground = Ground::new();
    let (slots, slot, _) = start(&ground);
    let far = around(slot.address().wrapping_add(1 << 40));
    let error = slots.allocate(&far, 0, || ground.map()).expect_err("the heap is not there");
    assert!(matches!(error, Error::OutOfReach { from, .. } if from == far.start), "{error}");
    assert_eq!((slots.count(), ground.live()), ((1, 1), 1));
}

#[test]
fn a_panic_while_an_area_is_mapped_leaves_the_slots_usable() {
    let (slots, slot, code) = start(&Ground::new());
    let far = around(slot.address().wrapping_add(1 << 40));
    let other = slots.clone();
    let panicked =
        thread::spawn(move || other.allocate(&far, 0, || panic!("no ground here")).map(drop)).join();
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
