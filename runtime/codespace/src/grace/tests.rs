//! Participants one by one: who holds an epoch up, until when, and what they are asked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::grace::domain::{Barrier, Domain, Participant, View};

fn domain() -> &'static Domain {
    Box::leak(Box::new(Domain::new()))
}

/// Ends the epoch and looks. The first is whether everybody is past it.
fn look(domain: &Domain) -> (bool, View) {
    let epoch = domain.advance().expect("the barrier is passed");
    let mut view = View::default();
    domain.look(epoch, &mut view).expect("there is memory");
    (view.is_past(epoch), view)
}

fn is_past(domain: &Domain) -> bool {
    look(domain).0
}

fn holds(domain: &Domain, address: usize) -> bool {
    look(domain).1.holds(&(address..=address))
}

/// Names addresses in a test, where no code runs.
fn checkpoint(participant: &Participant, named: &[usize]) {
    // SAFETY: nothing runs code of a space here.
    unsafe { participant.checkpoint(named.iter().copied()) };
}

fn park<R>(participant: &Participant, named: &[usize], wait: impl FnOnce() -> R) -> R {
    // SAFETY: as above.
    unsafe { participant.park(named.iter().copied(), wait) }
}

#[test]
fn an_epoch_is_past_when_each_participant_is_idle_or_began_later() {
    let domain = domain();
    assert!(is_past(domain), "nobody has joined");
    let (one, two) = (domain.join().expect("there is memory"), domain.join().expect("there is memory"));
    assert!(is_past(domain), "nobody runs");
    let running = one.enter();
    let epoch = domain.advance().expect("the barrier is passed");
    let later = two.enter();
    let mut view = View::default();
    domain.look(epoch, &mut view).expect("there is memory");
    assert!(!view.is_past(epoch), "one began before");
    drop(running);
    domain.look(epoch, &mut view).expect("there is memory");
    assert!(view.is_past(epoch), "two began after");
    assert!(!is_past(domain), "and not after the next one");
    drop(later);
    assert!(is_past(domain));
}

#[test]
fn sessions_nest_and_end_in_any_order() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let (outer, inner) = (participant.enter(), participant.enter());
    drop(outer);
    assert!(participant.is_running() && !is_past(domain));
    drop(inner);
    assert!(!participant.is_running() && is_past(domain));
}

#[test]
fn an_inner_session_does_not_begin_anew() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let _outer = participant.enter();
    let epoch = domain.advance().expect("the barrier is passed");
    let _inner = participant.enter();
    let mut view = View::default();
    domain.look(epoch, &mut view).expect("there is memory");
    assert!(!view.is_past(epoch), "the outer one may be anywhere");
}

#[test]
fn a_checkpoint_leaves_earlier_epochs_and_holds_what_it_names() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let running = participant.enter();
    let epoch = domain.advance().expect("the barrier is passed");
    checkpoint(&participant, &[300, 100]);
    let mut view = View::default();
    domain.look(epoch, &mut view).expect("there is memory");
    assert!(view.is_past(epoch));
    let held = [(99, 100), (100, 101), (101, 299), (250, 350), (301, 400)].map(|(a, b)| view.holds(&(a..=b)));
    assert_eq!(held, [true, true, false, true, false]);
    checkpoint(&participant, &[200]);
    assert!(holds(domain, 200) && !holds(domain, 100), "the last checkpoint counts");
    drop(running);
    assert!(is_past(domain) && !holds(domain, 200), "who has left goes back to nothing");
}

#[test]
fn a_checkpoint_of_one_that_runs_nothing_says_nothing() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    checkpoint(&participant, &[100]);
    assert!(is_past(domain) && !holds(domain, 100));
    assert!(!park(&participant, &[100], || holds(domain, 100)));
}

#[test]
fn inner_sessions_end_while_what_was_named_stays() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let outer = participant.enter();
    let inner = participant.enter();
    checkpoint(&participant, &[100]);
    drop(inner);
    assert!(participant.is_running() && !is_past(domain) && holds(domain, 100));
    drop(outer);
    assert!(!participant.is_running() && is_past(domain) && !holds(domain, 100));
}

#[test]
fn a_parked_thread_holds_what_it_named_and_nothing_else() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let running = participant.enter();
    let value = park(&participant, &[100], || {
        assert!(!participant.is_running() && is_past(domain) && holds(domain, 100));
        {
            let _inner = participant.enter();
            assert!(!is_past(domain), "code that is called from there counts");
            checkpoint(&participant, &[200]);
            assert!(holds(domain, 100) && holds(domain, 200));
            park(&participant, &[300], || {
                assert!(is_past(domain) && holds(domain, 100) && !holds(domain, 200) && holds(domain, 300));
            });
            assert!(!is_past(domain));
        }
        assert!(is_past(domain) && holds(domain, 100) && !holds(domain, 300));
        7
    });
    assert_eq!(value, 7);
    assert!(participant.is_running() && !is_past(domain) && holds(domain, 100));
    drop(running);
    assert!(is_past(domain) && !holds(domain, 100));
}

#[test]
fn a_panic_while_parked_comes_back_to_code() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let _running = participant.enter();
    let caught = catch_unwind(AssertUnwindSafe(|| park(&participant, &[], || panic!("while parked"))));
    assert!(caught.is_err() && participant.is_running() && !is_past(domain));
}

#[test]
fn a_session_that_ends_while_it_is_parked_does_not_come_back() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let (first, second) = (participant.enter(), participant.enter());
    park(&participant, &[100], || drop(first));
    assert!(!is_past(domain) && holds(domain, 100), "the second one does");
    park(&participant, &[100], || drop(second));
    assert!(!participant.is_running() && is_past(domain) && !holds(domain, 100));
    let again = participant.enter();
    assert!(!is_past(domain));
    drop(again);
    assert!(is_past(domain));
}

#[test]
fn a_session_that_began_while_another_was_parked_keeps_its_epoch() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let outer = participant.enter();
    let mut epoch = 0;
    let brought = park(&participant, &[], || {
        let inner = participant.enter();
        epoch = domain.advance().expect("the barrier is passed");
        inner
    });
    let mut view = View::default();
    domain.look(epoch, &mut view).expect("there is memory");
    assert!(!view.is_past(epoch), "it may have read links before");
    drop((outer, brought));
    assert!(!participant.is_running() && is_past(domain));
}

#[test]
fn a_record_is_used_again_by_who_joins_later() {
    let domain = domain();
    for _ in 0..3 {
        let (one, two) = (domain.join().expect("there is memory"), domain.join().expect("there is memory"));
        one.on_lag(Arc::new(|| panic!("nobody asks one that has left")));
        assert_eq!(domain.participants(), 2);
        drop((one, two));
        assert_eq!(domain.participants(), 0);
    }
    let third = domain.join().expect("there is memory");
    let _running = third.enter();
    let (_, view) = look(domain);
    assert!(view.behind.is_empty());
    assert_eq!(format!("{domain:?}"), "Domain { epoch: 2, participants: 1 }");
    assert_eq!(domain.records(), 2);
}

#[test]
fn who_leaks_a_session_holds_everything_for_ever() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    std::mem::forget(participant.enter());
    drop(participant);
    assert!(!is_past(domain) && domain.participants() == 1);
}

#[test]
fn who_is_behind_is_asked_and_who_is_not_is_left_alone() {
    let domain = domain();
    let participant = domain.join().expect("there is memory");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    participant.on_lag(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let ask = || look(domain).1.behind.into_iter().for_each(|ask| ask());
    ask();
    assert_eq!(asked.load(Ordering::Relaxed), 0, "idle");
    let running = participant.enter();
    ask();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "behind");
    let epoch = domain.advance().expect("the barrier is passed");
    checkpoint(&participant, &[]);
    let mut view = View::default();
    domain.look(epoch, &mut view).expect("there is memory");
    assert!(view.behind.is_empty(), "has made a checkpoint");
    drop(running);
    drop(participant);
    assert_eq!(Arc::strong_count(&asked), 1, "what asks is dropped with the participant");
}

#[test]
fn a_domain_with_fences_does_without_the_systems_barrier() {
    let domain: &'static Domain = Box::leak(Box::new(Domain::with_fences()));
    assert_eq!(domain.barrier(), Barrier::Fence);
    let participant = domain.join().expect("there is memory");
    let running = participant.enter();
    assert!(!is_past(domain));
    checkpoint(&participant, &[100]);
    drop(running);
    let (past, made_a_call) = crate::system::fail_at(0, || is_past(domain));
    assert!(past && !made_a_call);
}

#[test]
fn a_participant_moves_to_another_thread_between_sessions() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let domain = domain();
    let participant = is_send(domain.join().expect("there is memory"));
    drop(participant.enter());
    std::thread::spawn(move || drop(participant.enter())).join().expect("nothing panics");
    assert!(is_past(domain) && domain.participants() == 0);
}
