//! Who calls an evicted method, and what happens when it is compiled again.

use dagwood_runtime::{EvictError, Pin};

use crate::rig::{Rig, SOURCE, evicted, index, nobody, with_leaf};

#[test]
fn callers_of_an_evicted_method_fault_by_name_until_it_is_compiled_again() {
    let rig = Rig::new(nobody());
    assert_eq!(rig.call("caller", 1).expect("all are compiled"), 30);
    let gone = rig.evict(&["leaf"]).expect("nothing pins it");
    assert!(gone.methods == 1 && gone.bytes > 0, "{gone:?}");
    assert!(!rig.jit.is_compiled(rig.method("leaf")));
    for method in ["caller", "catches"] {
        let error = rig.call(method, 1).expect_err("its callee is gone");
        let message = error.to_string();
        assert!(message.contains("method0 was called, whose code was evicted"), "{message}");
        assert_eq!(evicted(error), Some(rig.method("leaf")), "{method}");
    }
    assert_eq!(index(rig.method("leaf")), 0);
    let error = rig.call("leaf", 1).expect_err("it is gone");
    assert_eq!(error.to_string(), "method `leaf` has no code");
    rig.compile(&with_leaf(5), &[rig.method("leaf")]).expect("it compiles again");
    assert_eq!(rig.call("caller", 1).expect("old callers call the new code"), 110);
    assert_eq!(rig.call("catches", 1).expect("and theirs"), 110);
}

#[test]
fn a_method_compiled_anew_takes_its_callers_over() {
    let rig = Rig::new(nobody());
    let used = rig.code().stats().live;
    for by in 2..20 {
        rig.compile(&with_leaf(by), &[rig.method("leaf")]).expect("it compiles again");
        let by = i64::from(by);
        assert_eq!(rig.call("caller", 1).expect("nothing raises"), (1 + 2 * by) * 10);
    }
    rig.code().reclaim().expect("the system has a barrier");
    assert_eq!(rig.code().stats().live, used + 1, "one for each method, and the shim");
}

#[test]
fn a_method_named_twice_in_a_batch_has_the_last_code_and_no_more() {
    let rig = Rig::new(nobody());
    let (leaf, live) = (rig.method("leaf"), rig.code().stats().live);
    rig.compile(&with_leaf(3), &[leaf, leaf]).expect("it compiles");
    assert_eq!(rig.call("caller", 0).expect("nothing raises"), 60);
    rig.code().reclaim().expect("the system has a barrier");
    assert_eq!(rig.code().stats().live, live + 1, "and the shim");
}

#[test]
fn callers_that_are_evicted_and_compiled_again_meet_whatever_is_there() {
    let rig = Rig::new(nobody());
    rig.evict(&["caller", "leaf"]).expect("nothing pins them");
    // The caller first: its callee has no code, and had some.
    rig.compile(&with_leaf(7), &[rig.method("caller")]).expect("it compiles again");
    assert_eq!(evicted(rig.call("caller", 1).expect_err("no callee")), Some(rig.method("leaf")));
    // One that wants the address of what is gone is refused: it could not be told where the new code is.
    rig.evict(&["catches", "outer"]).expect("nothing pins them");
    let jumps = SOURCE.replacen("tail_call @target(%x)", "tail_call @outer(%x)", 1);
    let refused = rig.compile(&jumps, &[rig.method("jumps")]).expect_err("its target has no code");
    assert!(refused.to_string().contains("address is not known"), "{refused}");
    rig.compile(&with_leaf(7), &[rig.method("leaf"), rig.method("catches")]).expect("they compile again");
    assert_eq!(rig.call("catches", 1).expect("all are there"), 150);
}

#[test]
fn what_cannot_be_evicted_is_refused_by_name_and_nothing_is_evicted() {
    let rig = Rig::new(nobody());
    let refused = |methods: &[&str]| rig.evict(methods).expect_err("one of them stays");
    let pinned = |name: &str, pin| EvictError::Pinned { name: name.into(), method: rig.method(name), pin };
    assert_eq!(refused(&["leaf", "target"]), pinned("target", Pin::Jump));
    assert_eq!(refused(&["leaf", "named"]), pinned("named", Pin::Address));
    assert_eq!(refused(&["named"]).to_string(), "the code of method `named` stays: its address was taken");
    rig.evict(&["caller"]).expect("nothing pins it");
    assert_eq!(refused(&["leaf", "caller"]).to_string(), "method `caller` has no code to evict");
    assert!(rig.jit.is_compiled(rig.method("leaf")), "nothing else was evicted");
    assert!(rig.jit.method_address(rig.method("leaf")).is_some());
    assert_eq!(refused(&["leaf"]), pinned("leaf", Pin::Address));
    // What is pinned can be compiled anew; its old code stays.
    rig.code().reclaim().expect("the system has a barrier");
    let live = rig.code().stats().live;
    let old = rig.jit.method_address(rig.method("target")).expect("it has code");
    rig.compile(SOURCE, &[rig.method("target")]).expect("it compiles");
    rig.code().reclaim().expect("the system has a barrier");
    assert_eq!(rig.code().stats().live, live + 1);
    assert_eq!(rig.jit.method_at(old), Some(rig.method("target")));
    assert_eq!(rig.call("jumps", 21).expect("the old code is still there"), 42);
}

#[test]
fn what_calls_itself_faults_after_it_evicted_itself_and_not_before() {
    let rig = Rig::new(Box::new(|running, x| {
        running.rig.evict(&["leaf"]).expect("nothing pins it");
        Ok(x)
    }));
    assert_eq!(rig.call("loops", 3).expect("nothing is evicted"), 3);
    assert_eq!(evicted(rig.call("asks_then_calls", 3).expect_err("gone")), Some(rig.method("leaf")));
    assert_eq!(evicted(rig.call("loops", 3).expect_err("gone")), Some(rig.method("leaf")));
}
