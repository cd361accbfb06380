//! Model check: the protocol of `src/grace/domain.rs` with the system's barrier itself, on a machine that orders memory as x86-64
//! does, by visiting every state; and what breaks when one of its steps is left out or stands elsewhere.
//!
//! `model_grace.rs` checks the files as they are, but has to put fences in the barrier's place.

#[path = "model/tso.rs"]
mod tso;

use tso::Op::{Barrier, Bump, Fence, Give, Load, Lock, Save, Store, Unless, Use};
use tso::{Explored, PLACES, Place, Program, Register, explore};

/// Leads to the code, or not.
const LINK: Place = 0;
/// Says whose code it is, or nothing.
const LISTED: Place = 1;
const EPOCH: Place = 2;
/// A participant's state; the other's is the next place.
const STATE: Place = 3;
/// Whether the participant names the code.
const NAMED: Place = 5;
const LOCK: Place = 6;

const IDLE: u8 = 0;

/// What is reused after the first grace period, and after the second.
const CODE: u8 = 0;
const OWNER: u8 = 1;

const A: Register = 0;
const R: Register = 1;
const S: Register = 2;
const N: Register = 3;

/// The code is linked and listed, nobody runs it, the epoch is the first.
fn memory() -> [u8; PLACES] {
    let mut memory = [0; PLACES];
    (memory[LINK], memory[LISTED], memory[EPOCH]) = (1, 1, 1);
    memory
}

fn explore_all(programs: &[Program]) -> Explored {
    let explored = explore(memory(), programs);
    assert!(explored.states > 10, "the programs do something");
    explored
}

fn seq(parts: &[&[tso::Op]]) -> Program {
    parts.concat()
}

fn when(holds: fn(&tso::Registers) -> bool, then: &[tso::Op]) -> Program {
    seq(&[&[Unless(holds, then.len())], then])
}

// What a participant does.

fn enter() -> Program {
    vec![Load(A, EPOCH), Save(STATE, A)]
}

fn enter_with_fence() -> Program {
    vec![Load(A, EPOCH), Save(STATE, A), Fence]
}

fn call() -> Program {
    seq(&[&[Load(A, LINK)], &when(|r| r[A] == 1, &[Use(CODE), Use(CODE)])])
}

fn look_up() -> Program {
    seq(&[&[Load(A, LISTED)], &when(|r| r[A] == 1, &[Use(OWNER)])])
}

fn leave() -> Program {
    vec![Store(STATE, IDLE)]
}

fn leave_told() -> Program {
    vec![Lock(LOCK), Store(NAMED, 0), Store(STATE, IDLE), Store(LOCK, 0)]
}

fn checkpoint(named: u8) -> Program {
    vec![Lock(LOCK), Store(NAMED, named), Load(A, EPOCH), Save(STATE, A), Store(LOCK, 0)]
}

fn park(named: u8) -> Program {
    vec![Lock(LOCK), Store(NAMED, named), Store(STATE, IDLE), Store(LOCK, 0)]
}

fn session() -> Program {
    seq(&[&enter(), &call(), &leave()])
}

/// In code, and on its way to going back there: `then` happens in between, if the link led there.
fn session_with(then: &[tso::Op]) -> Program {
    let in_code = seq(&[then, &[Use(CODE)]]);
    seq(&[&enter(), &[Load(A, LINK)], &when(|r| r[A] == 1, &in_code), &leave_told()])
}

// What the reclaimer does.

fn unlink() -> Program {
    vec![Store(LINK, 0)]
}

fn end_epoch() -> Program {
    vec![Barrier, Bump(R, EPOCH)]
}

fn look() -> Program {
    vec![Lock(LOCK), Load(S, STATE), Load(N, NAMED), Store(LOCK, 0)]
}

fn is_free(r: &tso::Registers) -> bool {
    (r[S] == IDLE || r[S] > r[R]) && r[N] == 0
}

fn reuse(thing: u8) -> Program {
    when(is_free, &[Give(thing)])
}

fn reclaimer() -> Program {
    seq(&[&unlink(), &end_epoch(), &look(), &reuse(CODE)])
}

/// The claim holds, and not because nothing is ever handed out.
fn assert_safe(participant: Program, reclaimer: Program) {
    let explored = explore_all(&[participant, reclaimer]);
    assert!(!explored.is_lost, "nothing is used after it was given away");
    assert_ne!(explored.given, 0, "something is given away");
}

fn assert_lost(programs: &[Program]) {
    assert!(explore_all(programs).is_lost, "something is used after it was given away");
}

#[test]
fn code_is_reused_when_nobody_runs_it() {
    assert_safe(session(), reclaimer());
    assert_safe(seq(&[&session(), &session()]), reclaimer());
}

#[test]
fn code_is_lost_without_the_barrier() {
    assert_lost(&[session(), seq(&[&unlink(), &[Bump(R, EPOCH)], &look(), &reuse(CODE)])]);
}

#[test]
fn a_fence_of_the_reclaimer_alone_is_no_barrier() {
    assert_lost(&[session(), seq(&[&unlink(), &[Fence, Bump(R, EPOCH)], &look(), &reuse(CODE)])]);
}

#[test]
fn fences_on_both_sides_do_as_well() {
    let fenced = seq(&[&enter_with_fence(), &call(), &leave()]);
    assert_safe(fenced, seq(&[&unlink(), &[Fence, Bump(R, EPOCH)], &look(), &reuse(CODE)]));
}

#[test]
fn code_is_lost_if_participants_are_looked_at_before_the_barrier() {
    assert_lost(&[session(), seq(&[&unlink(), &look(), &end_epoch(), &reuse(CODE)])]);
}

#[test]
fn code_is_lost_if_the_epoch_ends_before_the_batch_is_closed() {
    assert_lost(&[session(), seq(&[&[Bump(R, EPOCH)], &unlink(), &[Barrier], &look(), &reuse(CODE)])]);
}

#[test]
fn once_the_batch_is_closed_barrier_and_epoch_may_change_places() {
    assert_safe(session(), seq(&[&unlink(), &[Bump(R, EPOCH), Barrier], &look(), &reuse(CODE)]));
}

#[test]
fn code_is_lost_if_it_bears_the_epoch_in_which_it_was_retired_while_another_ends_it() {
    let other = vec![Bump(A, EPOCH)];
    let stamped = seq(&[&unlink(), &[Load(R, EPOCH), Barrier, Bump(A, EPOCH)], &look(), &reuse(CODE)]);
    assert_lost(&[session(), stamped, other.clone()]);
    let explored = explore_all(&[session(), reclaimer(), other]);
    assert!(!explored.is_lost && explored.given != 0, "the epoch that the batch itself ended does");
}

#[test]
fn what_a_checkpoint_names_is_not_reused() {
    assert_safe(session_with(&checkpoint(1)), reclaimer());
    assert_lost(&[session_with(&checkpoint(0)), reclaimer()]);
}

#[test]
fn after_a_checkpoint_code_is_found_by_its_link_only() {
    assert_safe(seq(&[&enter(), &call(), &checkpoint(0), &call(), &leave_told()]), reclaimer());
}

#[test]
fn a_checkpoint_that_names_too_late_loses_code() {
    let begin_then_name = vec![Load(A, EPOCH), Save(STATE, A), Lock(LOCK), Store(NAMED, 1), Store(LOCK, 0)];
    assert_lost(&[session_with(&begin_then_name), reclaimer()]);
}

#[test]
fn a_parked_thread_goes_back_to_what_it_named() {
    assert_safe(session_with(&seq(&[&park(1), &enter()])), reclaimer());
    assert_lost(&[session_with(&seq(&[&park(0), &enter()])), reclaimer()]);
}

#[test]
fn a_parked_thread_may_enter_and_goes_on_as_if_anew() {
    assert_safe(seq(&[&enter(), &call(), &park(0), &session(), &enter(), &call(), &leave()]), reclaimer());
}

#[test]
fn a_parked_thread_that_does_not_say_that_it_goes_on_loses_code() {
    assert_lost(&[seq(&[&enter(), &call(), &park(0), &call()]), reclaimer()]);
}

/// Both grace periods; `end` ends the second epoch.
fn twice(end: &[tso::Op]) -> Program {
    let second = seq(&[&[Store(LISTED, 0)], end, &look(), &reuse(OWNER)]);
    seq(&[&unlink(), &end_epoch(), &look(), &when(is_free, &second)])
}

#[test]
fn what_was_looked_up_stays_for_a_second_grace_period() {
    let participant = seq(&[&enter(), &look_up(), &leave()]);
    assert_safe(participant.clone(), twice(&end_epoch()));
    assert_lost(&[participant.clone(), twice(&[Bump(R, EPOCH)])]);
    assert_lost(&[participant, twice(&[])]);
}

#[test]
fn each_of_two_participants_holds_the_code() {
    let other = seq(&[&[Load(A, EPOCH), Save(STATE + 1, A)], &call(), &[Store(STATE + 1, IDLE)]]);
    let look_at_other = seq(&[&[Load(S, STATE + 1)], &reuse(CODE)]);
    let reclaimer = seq(&[&unlink(), &end_epoch(), &look(), &when(is_free, &look_at_other)]);
    let explored = explore_all(&[session(), other.clone(), reclaimer]);
    assert!(!explored.is_lost && explored.given != 0);
    assert_lost(&[session(), other, self::reclaimer()]);
}
