//! Which values are numbered alike, in methods as text. A value is named by a local that is set to it once and never read.

use bumpalo::Bump;
use dagwood_il::text;
use dagwood_il::verify::verify;
use dagwood_il::{Cfg, Dominators, Liveness, Opcode, Payload};

use super::*;
use crate::analysis::frontiers::Frontiers;

const SYMBOLS: &str = "
symbol @mem region
symbol @other region
symbol @fixed region readonly
symbol @any opaque
native @pure (i32) -> (i32) reads none writes none raises none
native @writes_other () -> () reads none writes [@other] raises none
native @unknown () -> ()
";

/// The numbers of what the locals are set to, by name.
struct Numbered {
    sets: Vec<(String, Number)>,
    rounds: usize,
}

impl Numbered {
    fn of(body: &str) -> Numbered {
        let arena = Bump::new();
        let parsed = text::parse(&format!("{SYMBOLS}{body}"), &arena).expect("the test's method parses");
        let method = &parsed.bodies[0].method;
        verify(&parsed.module, method).expect("the test's method is well-formed");
        let cfg = Cfg::compute(&parsed.module, method);
        let dominators = Dominators::compute(&cfg);
        let frontiers = Frontiers::compute(&cfg, &dominators).expect("it is small");
        let liveness = Liveness::compute(method, &cfg).expect("it is small");
        let uses = Uses::compute(method);
        let reaching = Reaching::compute(method, &cfg, &dominators, &frontiers, &uses, &liveness);
        let memory = Memory::compute(&parsed.module, method, &cfg, &dominators, &frontiers);
        let numbers = ValueNumbers::compute(method, &cfg, &uses, &reaching, &memory);
        let roots = method.blocks().flat_map(|block| method.roots(block));
        let sets = roots.filter_map(|root| match (method.opcode(root.node), method.payload(root.node)) {
            (Opcode::Set, Payload::Local(local)) => {
                let number = numbers.number(method.operands(root.node)[0])?;
                Some((method.local(local).name.to_string(), number))
            }
            _ => None,
        });
        Numbered { sets: sets.collect(), rounds: numbers.rounds() }
    }

    fn is_one(&self, left: &str, right: &str) -> bool {
        let of = |name: &str| {
            let mut found = self.sets.iter().filter(|(own, _)| own == name);
            let (_, number) = found.next().expect("the local is set");
            assert!(found.next().is_none(), "${name} is set twice");
            *number
        };
        of(left) == of(right)
    }
}

#[test]
fn a_value_that_all_paths_bring_is_the_value_at_the_join() {
    let numbered = Numbered::of(
        "
method @m ($a: i32, $b: i32) -> () {
  local $x: i32
  local $y: i32
  local $early: i32
  local $late: i32
  local $other: i32
b0:
  %a = entry.i32 $a
  %b = entry.i32 $b
  %sum = add.i32 %a, %b
  set $early, %sum
  br %a, b1, b2
b1:
  %a1 = entry.i32 $a
  %b1 = entry.i32 $b
  %sum1 = add.i32 %b1, %a1
  set $x, %sum1
  set $y, %a1
  goto b3
b2:
  %a2 = entry.i32 $a
  %b2 = entry.i32 $b
  %sum2 = add.i32 %a2, %b2
  set $x, %sum2
  set $y, %b2
  goto b3
b3:
  %x = entry.i32 $x
  %y = entry.i32 $y
  set $late, %x
  set $other, %y
  return
}",
    );
    assert!(numbered.is_one("early", "late"));
    assert!(!numbered.is_one("early", "other"));
    assert_eq!(numbered.rounds, 1);
}

#[test]
fn locals_that_go_round_a_loop_alike_are_one_and_others_are_not() {
    let numbered = Numbered::of(
        "
method @m ($n: i32) -> () {
  local $i: i32
  local $j: i32
  local $k: i32
  local $at_i: i32
  local $at_j: i32
  local $at_k: i32
  local $n_inside: i32
  local $n_outside: i32
b0:
  %zero = const.i32 0
  %n = entry.i32 $n
  set $i, %zero
  set $j, %zero
  set $k, %zero
  set $n_outside, %n
  goto b1
b1:
  %i = entry.i32 $i
  %j = entry.i32 $j
  %k = entry.i32 $k
  %n1 = entry.i32 $n
  set $at_i, %i
  set $at_j, %j
  set $at_k, %k
  set $n_inside, %n1
  %one = const.i32 1
  %two = const.i32 2
  %i1 = add.i32 %i, %one
  %j1 = add.i32 %one, %j
  %k1 = add.i32 %k, %two
  set $i, %i1
  set $j, %j1
  set $k, %k1
  br %n1, b1, b2
b2:
  return
}",
    );
    assert!(numbered.is_one("at_i", "at_j"));
    assert!(!numbered.is_one("at_i", "at_k"));
    assert!(numbered.is_one("n_inside", "n_outside"));
}

#[test]
fn loads_are_one_until_something_may_write_their_place() {
    let numbered = Numbered::of(
        "
method @m ($a: addr, $v: i32) -> () {
  local $first: i32
  local $second: i32
  local $third: i32
  local $fourth: i32
  local $fixed1: i32
  local $fixed2: i32
b0:
  %a = entry.addr $a
  %v = entry.i32 $v
  %1 = load.i32 @mem [%a + 8]
  set $first, %1
  %f1 = load.i32 @fixed [%a]
  set $fixed1, %f1
  call_native @writes_other()
  store @other [%a + 8], %v
  store @mem [%a + 12], %v
  store @mem [%a + 4], %v
  %2 = load.i32 @mem [%a + 8]
  set $second, %2
  store @mem [%a + 11], %v
  %3 = load.i32 @mem [%a + 8]
  set $third, %3
  call_native @unknown()
  %4 = load.i32 @mem [%a + 8]
  set $fourth, %4
  %f2 = load.i32 @fixed [%a]
  set $fixed2, %f2
  return
}",
    );
    assert!(numbered.is_one("first", "second"));
    assert!(!numbered.is_one("second", "third"));
    assert!(!numbered.is_one("third", "fourth"));
    assert!(numbered.is_one("fixed1", "fixed2"), "what is read-only survives a call");
}

#[test]
fn a_load_is_what_was_stored_if_it_was_stored_there() {
    let numbered = Numbered::of(
        "
method @m ($a: addr, $b: addr, $i: i64, $v: i32) -> () {
  local $value: i32
  local $same: i32
  local $moved: i32
  local $after_b: i32
  local $after_fence: i32
  local $through_any: i32
b0:
  %a = entry.addr $a
  %b = entry.addr $b
  %i = entry.i64 $i
  %v = entry.i32 $v
  set $value, %v
  %four = const.i64 4
  %i4 = add.i64 %i, %four
  store @mem [%a + %i*4 + 8], %v
  %1 = load.i32 @mem [%a + %i*4 + 8]
  set $same, %1
  %2 = load.i32 @mem [%a + %i4*4 - 8]
  set $moved, %2
  fence
  %3 = load.i32 @mem [%a + %i*4 + 8]
  set $after_fence, %3
  store @mem [%a + %i*4 + 8], %v
  store @mem [%b], %i
  %4 = load.i32 @mem [%a + %i*4 + 8]
  set $after_b, %4
  store @any [%b], %v
  %5 = load.i32 @any [%b]
  set $through_any, %5
  return
}",
    );
    assert!(numbered.is_one("value", "same"));
    assert!(numbered.is_one("value", "moved"));
    assert!(!numbered.is_one("value", "after_fence"), "another thread may have stored");
    assert!(!numbered.is_one("value", "after_b"), "the other address may be the same");
    assert!(numbered.is_one("value", "through_any"));
}

#[test]
fn memory_is_in_a_state_of_its_own_where_a_path_wrote_it() {
    let numbered = Numbered::of(
        "
method @m ($a: addr, $v: i32) -> () {
  local $before: i32
  local $before_other: i32
  local $in_loop: i32
  local $in_loop_other: i32
b0:
  %a = entry.addr $a
  %1 = load.i32 @mem [%a]
  %2 = load.i32 @other [%a]
  set $before, %1
  set $before_other, %2
  goto b1
b1:
  %a1 = entry.addr $a
  %v = entry.i32 $v
  %3 = load.i32 @mem [%a1]
  %4 = load.i32 @other [%a1]
  set $in_loop, %3
  set $in_loop_other, %4
  store @mem [%a1 + 64], %v
  br %v, b1, b2
b2:
  return
}",
    );
    assert!(!numbered.is_one("before", "in_loop"));
    assert!(numbered.is_one("before_other", "in_loop_other"));
}

#[test]
fn a_handler_sees_a_local_as_of_each_root_that_raises() {
    let handled = |body: &str| {
        format!(
            "
method @m ($a: i32, $b: i32) -> () {{
  local $x: i32
  local $one: i32
  local $seen: i32
b0:
  %a = entry.i32 $a
  set $one, %a
  set $x, %a
  goto b1
b1 handlers [catchable: b2]:
  %b = entry.i32 $b
  {body}
  return
b2:
  %x = entry.i32 $x
  set $seen, %x
  return
}}"
        )
    };
    let before = Numbered::of(&handled("check %b, unreachable\n  set $x, %b"));
    assert!(before.is_one("one", "seen"));
    let after = Numbered::of(&handled("check %b, unreachable\n  set $x, %b\n  check %b, unreachable"));
    assert!(!after.is_one("one", "seen"));
}

#[test]
fn checks_are_one_by_what_they_check() {
    let numbered = Numbered::of(
        "
method @m ($i: i64, $n: i64) -> () {
  local $index: i64
  local $first: i64
  local $again: i64
  local $twice: i64
  local $other: i64
b0:
  %i = entry.i64 $i
  %n = entry.i64 $n
  %1 = boundscheck.i64 %i, %n reason 1
  %2 = boundscheck.i64 %i, %n reason 2
  %3 = boundscheck.i64 %1, %n
  %4 = boundscheck.i64 %n, %i
  set $index, %i
  set $first, %1
  set $again, %2
  set $twice, %3
  set $other, %4
  return
}",
    );
    assert!(numbered.is_one("first", "again"));
    assert!(numbered.is_one("first", "twice"));
    assert!(!numbered.is_one("first", "other"));
    assert!(!numbered.is_one("index", "first"), "what is proven is more than its value");
}

#[test]
fn a_loop_within_a_loop_agrees_or_not_as_its_paths_say() {
    let nested = |inner: &str| {
        format!(
            "
method @m ($a: i32) -> () {{
  local $x: i32
  local $y: i32
  local $same: i32
  local $seen: i32
b0:
  %a = entry.i32 $a
  set $same, %a
  set $x, %a
  set $y, %a
  goto b1
b1:
  %x = entry.i32 $x
  set $y, %x
  goto b2
b2:
  %y = entry.i32 $y
  %a2 = entry.i32 $a
  {inner}
  br %a2, b2, b3
b3:
  %a3 = entry.i32 $a
  %y3 = entry.i32 $y
  set $x, %y3
  set $seen, %y3
  br %a3, b1, b4
b4:
  return
}}"
        )
    };
    assert!(Numbered::of(&nested("set $y, %a2")).is_one("same", "seen"));
    let counted = "%one = const.i32 1\n  %next = add.i32 %y, %one\n  set $y, %next";
    assert!(!Numbered::of(&nested(counted)).is_one("same", "seen"));
}
