//! The forms of calls and the modes of protection: whatever they are, programs run, and callers are redirected. The other
//! tests run in each mode where it may matter.

use dagwood_codespace::{Options as Space, Placement};

use crate::rig::{Rig, SOURCE, evicted, nobody, spaces, with_leaf};

/// Evicts `leaf` and compiles it again, twice. Returns how many slots there are at the end.
fn relinks(space: Space) -> usize {
    let rig = Rig::within(space, Box::new(|_, x| Ok(x * 2)));
    assert_eq!(rig.call("outer", 4).expect("the host answers"), 1108);
    assert_eq!(rig.call("loops", 1000).expect("nothing raises"), 1000);
    assert_eq!(rig.call("jumps", 4).expect("nothing raises"), 8);
    for by in [3, 4] {
        rig.evict(&["leaf"]).expect("nothing pins it");
        assert_eq!(evicted(rig.call("caller", 1).expect_err("gone")), Some(rig.method("leaf")));
        rig.compile(&with_leaf(by), &[rig.method("leaf")]).expect("it compiles again");
        let expected = (1 + 2 * i64::from(by)) * 10;
        assert_eq!(rig.call("caller", 1).expect("the new code is called"), expected);
        assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 1);
    }
    rig.code().stats().slots
}

#[test]
fn near_calls_are_redirected() {
    assert_eq!(relinks(Space::default()), 0, "everything is in reach");
}

#[test]
fn code_far_from_the_program_runs_and_is_redirected() {
    // A terabyte away from the program: whatever of it is called is out of reach.
    let far = Placement::Near(with_leaf as *const () as usize ^ 1 << 40);
    for placement in [Placement::Anywhere, far] {
        for reserve_bytes in [0, 64 << 20] {
            let slots = relinks(Space { placement, reserve_bytes, ..Space::default() });
            assert!(slots > 0, "something is out of reach of {placement:?}");
        }
    }
}

#[test]
fn code_that_cannot_be_patched_is_redirected_through_slots() {
    for space in spaces() {
        let protection = space.protection;
        let slots = relinks(space);
        assert_eq!(slots > 0, !protection.patches_calls(), "{protection:?}: {slots}");
    }
}

#[test]
fn a_call_through_a_slot_takes_one_for_each_callee_of_each_code() {
    for space in spaces().into_iter().filter(|space| !space.protection.patches_calls()) {
        let rig = Rig::empty(space, nobody());
        let slots = |methods: &[&str]| {
            let methods: Vec<_> = methods.iter().map(|name| rig.method(name)).collect();
            rig.compile(SOURCE, &methods).expect("they compile");
            rig.code().stats().slots
        };
        assert_eq!(slots(&["leaf"]), 0, "it calls nobody");
        assert_eq!(slots(&["caller"]), 1, "it calls `leaf` twice");
        assert_eq!(slots(&["catches", "loops"]), 3, "they call one each");
        rig.evict(&["caller", "catches"]).expect("nothing pins them");
        rig.code().reclaim().expect("the system has a barrier");
        assert_eq!(rig.code().stats().slots, 1, "the slots go with the code");
    }
}
