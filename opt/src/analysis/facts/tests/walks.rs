//! Walks along methods given as text.

use dagwood_il::{Bump, Cfg, Dominators, Liveness, Loops, Method, Module, Node, Opcode, text};

use crate::analysis::facts::{Facts, Known, Visitor};

/// Notes what is known of the first operand of each return, by block.
struct Returns {
    found: Vec<String>,
}

impl Visitor for Returns {
    fn root(&mut self, known: &mut Known<'_, '_>, block: dagwood_il::Block, _: u32, root: Node) {
        let method = known.method();
        match method.opcode(root) {
            Opcode::Return => {
                let fact = known.fact(method.operands(root)[0]);
                self.found.push(format!("{block}: {}..={}", fact.smin(), fact.smax()));
            }
            opcode if !opcode.row().raises.is_empty() && method.is_root(root) => {
                let (_, may_raise) = known.outcome(root);
                self.found
                    .push(format!("{block}: {opcode} {}", if may_raise { "may raise" } else { "passes" }));
            }
            _ => {}
        }
    }
}

fn shown(module: &Module, method: &Method<'_>, facts: &Facts) -> Vec<String> {
    let mut returns = Returns { found: Vec::new() };
    let mut known = facts.known(module, method);
    for head in facts.order() {
        facts.walk(&mut known, *head, &mut returns);
    }
    returns.found
}

/// What is known taking each extended block for itself, and taking all together.
fn both(source: &str) -> (Vec<String>, Vec<String>) {
    let arena = Bump::new();
    let parsed = text::parse(source, &arena).expect("valid");
    let (module, method) = (&parsed.module, &parsed.bodies[0].method);
    dagwood_il::verify(module, method).expect("valid");
    let cfg = Cfg::compute(module, method);
    let local = shown(module, method, &Facts::local(method, &cfg));
    let liveness = Liveness::compute(method, &cfg).expect("few locals");
    let dominators = Dominators::compute(&cfg);
    let loops = Loops::compute(&cfg, &dominators);
    let global = Facts::global(module, method, &cfg, &liveness, &dominators, &loops);
    let global = shown(module, method, &global);
    (local, global)
}

#[test]
fn branches_and_checks_say_what_holds_below_them() {
    let (local, _) = both(
        "method @f ($x: i32, $n: i32) -> (i32) {
b0:
  %x = entry.i32 $x
  %n = entry.i32 $n
  %ten = const.i32 10
  %c = slt %x, %ten
  br %c, b1, b2
b1 extends b0:
  %y = boundscheck.i32 %x, %n
  %z = boundscheck.i32 %x, %n
  return %x
b2 extends b0:
  return %x
}",
    );
    let expected =
        ["b1: boundscheck may raise", "b1: boundscheck passes", "b1: -2147483648..=9", "b2: 10..=2147483647"];
    assert_eq!(local, expected);
}

const LOOP: &str = "method @f ($n: i32) -> (i32) {
  local $i: i32
b0:
  %zero = const.i32 0
  set $i, %zero
  goto b1
b1:
  %i = entry.i32 $i
  %n = entry.i32 $n
  %c = slt %i, %n
  br %c, b2, b3
b2 extends b1:
  %checked = boundscheck.i32 %i, %n
  %one = const.i32 1
  %next = sadd_checked.i32 %i, %one
  set $i, %next
  goto b1
b3 extends b1:
  return %i
}";

#[test]
fn counters_stay_between_their_start_and_their_test() {
    let (local, global) = both(LOOP);
    assert_eq!(local[0], "b2: boundscheck may raise");
    assert_eq!(global, ["b2: boundscheck passes", "b2: sadd_checked passes", "b3: 0..=2147483647"]);
    let (_, bounded) = both(&LOOP.replace("%n = entry.i32 $n", "%n = const.i32 100"));
    assert_eq!(bounded[2], "b3: 100..=100");
}

#[test]
fn bounds_between_locals_hold_around_loops() {
    let (_, global) = both(
        "method @f ($i: i32, $n: i32) -> (i32) {
b0:
  %i = entry.i32 $i
  %n = entry.i32 $n
  %c = ult %i, %n
  br %c, b1, b3
b1 extends b0:
  goto b2
b2:
  %j = entry.i32 $i
  %m = entry.i32 $n
  %checked = boundscheck.i32 %j, %m
  %one = const.i32 1
  %next = add.i32 %j, %one
  set $i, %next
  %again = ne %next, %m
  br %again, b2, b4
b4 extends b2:
  return %j
b3 extends b0:
  return %i
}",
    );
    assert!(global.contains(&"b2: boundscheck passes".to_string()), "{global:?}");
}

#[test]
fn memory_that_was_checked_further_is_not_checked_again() {
    let source = "symbol @length region RANGE
method @f ($i: i32) -> (i32) {
b0:
  %context = context
  %length = load.i64 @length [%context + 80]
  %i = entry.i32 $i
  %index = uext.i64 %i
  %11 = const.i64 -11
  %far = add.i64 %length, %11
  %a = boundscheck.i64 %index, %far
  %7 = const.i64 -7
  %near = add.i64 %length, %7
  %b = boundscheck.i64 %index, %near
  %four = const.i32 4
  %next = add.i32 %i, %four
  %wide = uext.i64 %next
  %c = boundscheck.i64 %wide, %near
  %d = boundscheck.i64 %wide, %far
  return %i
}";
    let (local, _) = both(&source.replace("RANGE", "from 65536 to 4294967296"));
    let outcomes: Vec<&str> =
        local[..4].iter().map(|line| line.trim_start_matches("b0: boundscheck ")).collect();
    assert_eq!(outcomes, ["may raise", "passes", "passes", "may raise"]);
    // A length of nine bytes less eleven is a large one.
    let (local, _) = both(&source.replace("RANGE", ""));
    assert_eq!(local[1], "b0: boundscheck may raise");
}
