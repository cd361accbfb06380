//! Model check: retired code is reused only when no thread runs it, knows of it or will, in each order of things under weak memory.
//!
//! A machine has two addresses of code. A link leads to code, a list tells whose it is. Threads that
//! run read the link or the list and then touch what they found; the reclaimer writes over it once the quarantine
//! hands it out. A touch and a write that nothing orders are a failure.

#![allow(dead_code, unreachable_pub, reason = "the models use a part of each file they include")]

#[path = "../src/grace/domain.rs"]
mod domain;
#[path = "../src/grace/quarantine.rs"]
mod quarantine;
#[path = "model/loom.rs"]
mod sync;

/// The files under the names that they have in the crate.
mod grace {
    pub(crate) use crate::domain;
}

use dagwood_codespace::Error;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use domain::{Domain, Participant};
use quarantine::{Extent, Quarantine};
use sync::{AtomicUsize, Ordering, Part, explore};

/// Where the code is.
const CODE: usize = 64;
/// Where the link leads when it does not lead to the code.
const ELSEWHERE: usize = 0;

struct Retired;

impl Extent for Retired {
    fn address(&self) -> usize {
        CODE
    }

    fn len(&self) -> usize {
        64
    }
}

struct Machine {
    domain: &'static Domain,
    quarantine: Quarantine<Retired>,
    link: AtomicUsize,
    listed: AtomicUsize,
    bytes: UnsafeCell<()>,
    owner: UnsafeCell<()>,
}

// SAFETY: the cells hold nothing; the checker reports uses of them that race.
unsafe impl Sync for Machine {}
// SAFETY: as above.
unsafe impl Send for Machine {}

impl Machine {
    fn new() -> Arc<Machine> {
        Arc::new(Machine {
            domain: Box::leak(Box::new(Domain::new())),
            quarantine: Quarantine::new(),
            link: AtomicUsize::new(CODE),
            listed: AtomicUsize::new(CODE),
            bytes: UnsafeCell::new(()),
            owner: UnsafeCell::new(()),
        })
    }

    fn join(&self) -> Participant {
        self.domain.join().expect("there is memory")
    }

    /// Reads the link; runs the code if it leads there. Says whether it does.
    fn call(&self) -> bool {
        let is_code = self.link.load(Ordering::Relaxed) == CODE;
        if is_code {
            self.run();
        }
        is_code
    }

    fn run(&self) {
        self.bytes.with(|_| ());
    }

    /// Looks the code up, and uses what the owner keeps for it.
    fn look_up(&self) {
        if self.listed.load(Ordering::Acquire) == CODE {
            self.owner.with(|_| ());
        }
    }

    fn unlink(&self) {
        self.link.store(ELSEWHERE, Ordering::Relaxed);
        assert!(self.quarantine.retire_one(Retired).is_ok(), "there is memory");
    }

    /// Reclaims; writes over what is handed out.
    fn reclaim(&self) -> bool {
        let unlist = |_: &mut Retired| {
            self.listed.store(ELSEWHERE, Ordering::Relaxed);
            true
        };
        let ready = self.quarantine.reclaim(self.domain, unlist).expect("there is memory");
        for _ in &ready {
            self.bytes.with_mut(|_| ());
            self.owner.with_mut(|_| ());
        }
        !ready.is_empty()
    }
}

/// One thread does `body` as a participant while another unlinks the code and reclaims twice.
fn against_a_reclaimer(
    left_out: Option<Part>,
    preemptions: usize,
    body: impl Fn(&Machine, &Participant) + Copy + Send + Sync + 'static,
) {
    explore(left_out, preemptions, move || {
        let machine = Machine::new();
        let participant = machine.join();
        let other = Arc::clone(&machine);
        let runner = thread::spawn(move || {
            body(&other, &participant);
            drop(participant);
        });
        machine.unlink();
        for _ in 0..2 {
            machine.reclaim();
        }
        runner.join().expect("the runner does not panic");
        let done = machine.reclaim();
        assert!(
            done || machine.reclaim() || machine.quarantine.is_empty(),
            "with nobody there all is handed out"
        );
    });
}

fn enters_and_calls(machine: &Machine, participant: &Participant) {
    let _running = participant.enter();
    machine.call();
}

#[test]
fn code_is_reused_when_who_entered_has_left() {
    against_a_reclaimer(None, 4, enters_and_calls);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn code_is_reused_too_early_if_entering_passes_no_fence() {
    against_a_reclaimer(Some(Part::Order), 4, enters_and_calls);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn code_is_reused_too_early_if_reclaiming_passes_no_barrier() {
    against_a_reclaimer(Some(Part::Barrier), 4, enters_and_calls);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn code_is_reused_too_early_if_leaving_releases_nothing() {
    against_a_reclaimer(Some(Part::Release), 4, enters_and_calls);
}

fn enters_twice(machine: &Machine, participant: &Participant) {
    enters_and_calls(machine, participant);
    enters_and_calls(machine, participant);
}

#[test]
fn a_second_session_finds_the_code_or_finds_it_unlinked() {
    against_a_reclaimer(None, 4, enters_twice);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_second_session_hides_the_first_if_entering_releases_nothing() {
    against_a_reclaimer(Some(Part::Release), 4, enters_twice);
}

#[test]
fn what_a_checkpoint_names_stays() {
    against_a_reclaimer(None, 4, |machine, participant| {
        let _running = participant.enter();
        if machine.call() {
            // SAFETY: the thread goes back to the code and nowhere else.
            unsafe { participant.checkpoint([CODE + 8]) };
            machine.run();
        }
    });
}

#[test]
fn who_names_nothing_finds_code_by_its_link_only() {
    against_a_reclaimer(None, 4, |machine, participant| {
        let _running = participant.enter();
        machine.call();
        // SAFETY: the thread reads the link again before it runs anything.
        unsafe { participant.checkpoint([]) };
        machine.call();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn who_goes_back_to_what_it_did_not_name_is_lost() {
    against_a_reclaimer(None, 5, |machine, participant| {
        let _running = participant.enter();
        if machine.call() {
            for _grace_period in 0..2 {
                // SAFETY: none: that is the claim. Nothing is executed in a model.
                unsafe { participant.checkpoint([]) };
            }
            machine.run();
        }
    });
}

#[test]
fn a_parked_thread_goes_back_to_what_it_named() {
    against_a_reclaimer(None, 4, |machine, participant| {
        let _running = participant.enter();
        if machine.call() {
            // SAFETY: the thread goes back to the code and nowhere else.
            unsafe { participant.park([CODE + 8], || ()) };
            machine.run();
        }
    });
}

#[test]
fn a_parked_thread_may_enter_and_then_goes_on_as_if_anew() {
    against_a_reclaimer(None, 4, |machine, participant| {
        let _running = participant.enter();
        // SAFETY: the thread enters before it reads the link in the call, and reads it again after the call.
        unsafe { participant.park([], || enters_and_calls(machine, participant)) };
        machine.call();
    });
}

fn looks_up(machine: &Machine, participant: &Participant) {
    let _running = participant.enter();
    machine.look_up();
}

#[test]
fn what_was_looked_up_stays_until_the_thread_leaves() {
    against_a_reclaimer(None, 4, looks_up);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn what_was_looked_up_is_gone_if_one_grace_period_has_to_do() {
    explore(None, 4, || {
        let machine = Machine::new();
        let participant = machine.join();
        let other = Arc::clone(&machine);
        let runner = thread::spawn(move || looks_up(&other, &participant));
        machine.unlink();
        let unlist_and_reuse = |_: &mut Retired| {
            machine.listed.store(ELSEWHERE, Ordering::Relaxed);
            machine.owner.with_mut(|_| ());
            true
        };
        machine.quarantine.reclaim(machine.domain, unlist_and_reuse).expect("there is memory");
        runner.join().expect("the runner does not panic");
    });
}

#[test]
fn who_joins_late_finds_the_code_unlinked_though_no_barrier_was_passed() {
    explore(None, 4, || {
        let machine = Machine::new();
        let other = Arc::clone(&machine);
        let runner = thread::spawn(move || {
            let participant = other.join();
            enters_and_calls(&other, &participant);
        });
        machine.unlink();
        machine.reclaim();
        machine.reclaim();
        runner.join().expect("the runner does not panic");
    });
}

#[test]
fn who_comes_to_a_record_of_another_starts_afresh() {
    explore(None, 4, || {
        let machine = Machine::new();
        let participant = machine.join();
        let other = Arc::clone(&machine);
        let runner = thread::spawn(move || {
            enters_and_calls(&other, &participant);
            drop(participant);
            let again = other.join();
            enters_and_calls(&other, &again);
        });
        machine.unlink();
        machine.reclaim();
        machine.reclaim();
        runner.join().expect("the runner does not panic");
        assert_eq!(machine.domain.participants(), 0);
    });
}

#[test]
fn two_that_reclaim_hand_the_code_out_once() {
    explore(None, 3, || {
        let machine = Machine::new();
        let participant = machine.join();
        let (runs, reclaims) = (Arc::clone(&machine), Arc::clone(&machine));
        let runner = thread::spawn(move || enters_and_calls(&runs, &participant));
        let helper = thread::spawn(move || usize::from(reclaims.reclaim()));
        machine.unlink();
        let mut handed_out = usize::from(machine.reclaim());
        runner.join().expect("the runner does not panic");
        handed_out += helper.join().expect("nothing panics");
        for _ in 0..2 {
            handed_out += usize::from(machine.reclaim());
        }
        assert_eq!(handed_out, 1);
    });
}
