//! The forms of calls and the modes of protection: whatever they are, programs run, and callers are redirected.

use dagwood_codespace::{Fallback, Options as Space, Placement, Protection};
use dagwood_runtime::EvictError;

use crate::rig::{Rig, evicted, nobody, with_leaf};

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
fn code_in_a_space_without_a_lasting_write_view_is_redirected() {
    relinks(Space { protection: Protection::Session, ..Space::default() });
}

#[test]
fn where_code_cannot_be_patched_eviction_is_refused_and_nothing_changes() {
    for protection in [Protection::NoAlias, Protection::Flip] {
        let space = Space { protection, fallback: Fallback::Allowed, ..Space::default() };
        let rig = Rig::within(space, nobody());
        let refused = rig.evict(&["leaf"]).expect_err("calls cannot be redirected");
        assert!(matches!(refused, EvictError::Space(_)), "{refused}");
        assert_eq!(rig.call("caller", 1).expect("nothing was evicted"), 30);
        // What nobody calls directly goes everywhere.
        rig.evict(&["catches"]).expect("nobody calls it");
        assert_eq!(rig.code().reclaim().expect("the system has a barrier").freed, 1);
    }
}
