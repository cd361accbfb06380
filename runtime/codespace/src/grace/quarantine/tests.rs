//! What is retired one by one: when it is unlisted, when it is handed out, and what becomes of it when something
//! fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::Error;
use crate::grace::domain::{Domain, Participant};
use crate::grace::quarantine::{Extent, Quarantine};
use crate::system::fail_at;

/// Code of 100 bytes at 1000 times its number.
#[derive(Debug, PartialEq, Eq)]
struct Item(usize);

impl Extent for Item {
    fn address(&self) -> usize {
        self.0 * 1000
    }

    fn len(&self) -> usize {
        100
    }
}

struct Yard {
    domain: &'static Domain,
    quarantine: Quarantine<Item>,
}

impl Yard {
    fn new() -> Yard {
        Yard { domain: Box::leak(Box::new(Domain::new())), quarantine: Quarantine::new() }
    }

    fn join(&self) -> Participant {
        self.domain.join().expect("there is memory")
    }

    fn retire(&self, numbers: impl IntoIterator<Item = usize>) {
        let mut items: Vec<Item> = numbers.into_iter().map(Item).collect();
        self.quarantine.retire(&mut items).expect("there is memory");
        assert!(items.is_empty());
    }

    /// What a reclaim unlists, and what it hands out.
    fn reclaim(&self) -> (Vec<usize>, Vec<usize>) {
        let mut unlisted = Vec::new();
        let unlist = |item: &mut Item| {
            unlisted.push(item.0);
            true
        };
        let ready = self.quarantine.reclaim(self.domain, unlist).expect("the barrier is passed");
        (unlisted, ready.into_iter().map(|item| item.0).collect())
    }
}

const NONE: [usize; 0] = [];

#[test]
fn two_reclaims_hand_out_what_nobody_runs_in_its_order() {
    let yard = Yard::new();
    yard.retire([3, 1]);
    yard.quarantine.retire_one(Item(2)).expect("there is memory");
    assert_eq!((yard.quarantine.len(), yard.quarantine.bytes()), (3, 300));
    assert_eq!(yard.reclaim(), (vec![3, 1, 2], vec![]));
    assert_eq!((yard.quarantine.len(), yard.quarantine.bytes()), (3, 300));
    assert_eq!(yard.reclaim(), (vec![], vec![3, 1, 2]));
    assert!(yard.quarantine.is_empty() && yard.quarantine.bytes() == 0);
    assert_eq!(yard.reclaim(), (vec![], vec![]));
}

#[test]
fn what_is_held_up_is_fresh_once() {
    let yard = Yard::new();
    let participant = yard.join();
    let running = participant.enter();
    yard.retire([1, 2]);
    assert_eq!(yard.quarantine.fresh_bytes(), 200);
    assert_eq!(yard.reclaim(), (vec![], vec![]));
    assert_eq!((yard.quarantine.fresh_bytes(), yard.quarantine.bytes()), (0, 200));
    yard.retire([3]);
    assert_eq!((yard.quarantine.fresh_bytes(), yard.quarantine.bytes()), (100, 300));
    drop(running);
    assert_eq!(yard.reclaim(), (vec![1, 2, 3], vec![]));
    assert_eq!((yard.quarantine.fresh_bytes(), yard.quarantine.bytes()), (0, 300));
}

#[test]
fn one_that_runs_holds_what_was_retired_since_it_began() {
    let yard = Yard::new();
    let (early, late) = (yard.join(), yard.join());
    yard.retire([1]);
    assert_eq!(yard.reclaim(), (vec![1], vec![]));
    let running = early.enter();
    yard.retire([2]);
    assert_eq!(yard.reclaim(), (vec![], vec![]), "the first may have been looked up, the second may run");
    let _later = late.enter();
    drop(running);
    assert_eq!(yard.reclaim(), (vec![2], vec![1]), "who began later can have come to neither");
    yard.retire([3]);
    assert_eq!(yard.reclaim(), (vec![], vec![]));
}

#[test]
fn what_is_on_a_stack_stays_and_its_neighbours_go() {
    let yard = Yard::new();
    let participant = yard.join();
    let running = participant.enter();
    yard.retire(1..=5);
    yard.reclaim();
    // SAFETY: nothing runs code of a space here.
    unsafe { participant.checkpoint([1000, 2050, 3100, 4101, 4999]) };
    assert_eq!(
        yard.reclaim(),
        (vec![4, 5], vec![]),
        "the first byte and the end count, what is beyond does not"
    );
    // SAFETY: as above.
    unsafe { participant.checkpoint([3100]) };
    assert_eq!(yard.reclaim(), (vec![1, 2], vec![]));
    drop(running);
    assert_eq!(yard.reclaim(), (vec![3], vec![4, 5, 1, 2]));
    assert_eq!(yard.reclaim(), (vec![], vec![3]));
}

#[test]
fn a_reclaim_passes_one_barrier_and_none_if_there_is_no_need() {
    let yard = Yard::new();
    let barriers = |n| fail_at(n, || yard.quarantine.reclaim(yard.domain, |_| true));
    assert_eq!(barriers(0), (Ok(vec![]), false), "nothing is retired");
    yard.retire([1]);
    assert_eq!(barriers(0), (Ok(vec![]), false), "nobody has joined");
    let _participant = yard.join();
    yard.retire(2..1000);
    assert_eq!(barriers(1), (Ok(vec![Item(1)]), false), "one for both grace periods");
    assert!(matches!(barriers(0), (Err(Error::System { .. }), true)), "and not none");
}

#[test]
fn a_barrier_that_fails_leaves_all_where_it_is() {
    let yard = Yard::new();
    let _participant = yard.join();
    let fails = || {
        let (result, _) = fail_at(0, || yard.quarantine.reclaim(yard.domain, |_| true));
        assert!(matches!(result, Err(Error::System { .. })));
    };
    yard.retire([1]);
    fails();
    yard.retire([2]);
    fails();
    assert_eq!((yard.quarantine.len(), yard.reclaim()), (2, (vec![1, 2], vec![])));
    fails();
    assert_eq!(yard.reclaim(), (vec![], vec![1, 2]));
}

#[test]
fn batches_that_are_left_are_handed_out_as_others_are() {
    let yard = Yard::new();
    for _ in 0..3 {
        yard.quarantine.promise().expect("there is memory");
    }
    yard.quarantine.leave(vec![Item(1), Item(2)]);
    yard.quarantine.leave(Vec::new());
    assert!(yard.quarantine.retire_one(Item(3)).is_ok(), "there is memory");
    assert_eq!((yard.quarantine.len(), yard.quarantine.bytes()), (3, 300));
    assert_eq!(yard.quarantine.reclaim(yard.domain, |_| true).expect("a barrier"), []);
    // What was promised before a reclaim is good after it.
    yard.quarantine.leave(vec![Item(4)]);
    let ready = yard.quarantine.reclaim(yard.domain, |_| true).expect("a barrier");
    assert_eq!(ready, [Item(1), Item(2), Item(3)]);
    assert_eq!(yard.quarantine.reclaim(yard.domain, |_| true).expect("a barrier"), [Item(4)]);
    assert!(yard.quarantine.is_empty());
}

#[test]
fn what_cannot_be_unlisted_is_tried_again() {
    let yard = Yard::new();
    yard.retire([1, 2, 3]);
    let ready = yard.quarantine.reclaim(yard.domain, |item| item.0 != 2);
    assert_eq!(ready, Ok(vec![]));
    assert_eq!(yard.reclaim(), (vec![2], vec![1, 3]));
    assert_eq!(yard.reclaim(), (vec![], vec![2]));
}

#[test]
fn who_is_asked_may_retire_and_reclaim() {
    let yard = Arc::new(Yard::new());
    let participant = yard.join();
    let (asked, times) = (Arc::clone(&yard), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&times);
    participant.on_lag(Arc::new(move || {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            asked.retire([2]);
            asked.reclaim();
        }
    }));
    let running = participant.enter();
    yard.retire([1]);
    assert_eq!(yard.reclaim(), (vec![], vec![]));
    assert_eq!((times.load(Ordering::Relaxed), yard.quarantine.len()), (2, 2));
    drop(running);
    assert_eq!(yard.reclaim(), (vec![1, 2], vec![]));
    drop(participant);
}

#[test]
fn nothing_is_lost_if_who_is_asked_panics() {
    let yard = Yard::new();
    let participant = yard.join();
    participant.on_lag(Arc::new(|| panic!("asked")));
    yard.retire([1]);
    assert_eq!(yard.reclaim(), (vec![1], vec![]));
    yard.retire([2]);
    let running = participant.enter();
    assert_eq!(yard.reclaim(), (vec![], vec![]));
    drop(running);
    assert_eq!(yard.reclaim(), (vec![2], vec![1]));
    assert_eq!(yard.reclaim(), (vec![], vec![2]));
}

#[test]
fn quarantines_may_share_a_domain() {
    let one = Yard::new();
    let other = Yard { domain: one.domain, quarantine: Quarantine::new() };
    one.retire([1]);
    other.retire([2]);
    assert_eq!((one.reclaim(), other.reclaim()), ((vec![1], vec![]), (vec![2], vec![])));
    assert_eq!((other.reclaim(), one.reclaim()), ((vec![], vec![2]), (vec![], vec![1])));
    assert_eq!(one.reclaim().1, NONE);
}

/// Code that real threads "run": a word that holds how often the place was reused.
struct Ground {
    domain: &'static Domain,
    quarantine: Quarantine<Item>,
    /// The place that the link leads to and how often it was reused, in one word.
    link: AtomicU64,
    places: Vec<AtomicU64>,
    is_over: AtomicBool,
}

impl Ground {
    /// Follows the link and stays for a while, again and again.
    fn run(&self, mut random: u64) {
        let participant = self.domain.join().expect("there is memory");
        while !self.is_over.load(Ordering::Relaxed) {
            let _running = participant.enter();
            let (place, reused) = self.follow();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match random >> 61 {
                // SAFETY: of places, this thread goes back to the one it names.
                0 => unsafe { participant.checkpoint([place * 1000 + 100]) },
                // SAFETY: as above; within the call it follows the link anew.
                1 => unsafe {
                    participant.park([place * 1000], || {
                        let _running = participant.enter();
                        self.follow();
                    });
                },
                _ => {}
            }
            assert_eq!(
                self.places[place].load(Ordering::Relaxed),
                reused,
                "the code was reused while it ran"
            );
        }
    }

    fn follow(&self) -> (usize, u64) {
        let link = self.link.load(Ordering::Acquire);
        let (place, reused) = ((link >> 48) as usize, link & 0xffff_ffff_ffff);
        for _ in 0..4 {
            assert_eq!(
                self.places[place].load(Ordering::Relaxed),
                reused,
                "the code was reused while it ran"
            );
        }
        (place, reused)
    }

    /// Relinks, retires what was linked, and reuses what is handed out: for so many rounds, and until there were as
    /// many reuses as places.
    fn churn(&self, rounds: u64) {
        let mut free: Vec<usize> = (1..self.places.len()).collect();
        let (mut reuses, mut round) = (0, 0);
        while round < rounds || reuses < self.places.len() {
            round += 1;
            if let Some(place) = free.pop() {
                self.places[place].store(round, Ordering::Relaxed);
                let old = self.link.swap((place as u64) << 48 | round, Ordering::AcqRel);
                self.quarantine.retire_one(Item((old >> 48) as usize)).expect("there is memory");
            }
            let ready = self.quarantine.reclaim(self.domain, |_| true).expect("the barrier is passed");
            reuses += ready.len();
            for item in &ready {
                self.places[item.0].store(u64::MAX, Ordering::Relaxed);
            }
            free.extend(ready.iter().map(|item| item.0));
        }
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn threads_run_what_is_reused(domain: Domain) {
    let ground = Ground {
        domain: Box::leak(Box::new(domain)),
        quarantine: Quarantine::new(),
        link: AtomicU64::new(0),
        places: (0..16).map(|_| AtomicU64::new(0)).collect(),
        is_over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for seed in 1..=2 {
            let ground = &ground;
            scope.spawn(move || ground.run(seed));
        }
        ground.churn(20_000);
    });
    assert_eq!(ground.domain.participants(), 0);
    for _ in 0..2 {
        ground.quarantine.reclaim(ground.domain, |_| true).expect("the barrier is passed");
    }
    assert!(ground.quarantine.is_empty(), "with nobody there all is handed out");
}

#[test]
fn threads_never_see_code_change_under_them() {
    threads_run_what_is_reused(Domain::new());
}

#[test]
fn threads_never_see_code_change_under_them_with_fences() {
    threads_run_what_is_reused(Domain::with_fences());
}
