//! Bodies in the places of calls.

use super::*;

/// The first method of a source, with its first call inlined: of the other method.
fn inlined<'a>(source: &str, arena: &'a Bump) -> Edited<'a> {
    let mut parsed = text::parse(source, arena).expect("the test's source is text");
    let callee = parsed.bodies.pop().expect("the source has two methods").method;
    let method = parsed.bodies.pop().expect("the source has two methods").method;
    let mut edited = Edited { module: parsed.module, method };
    edited.verify();
    verify(&edited.module, &callee).expect("the callee is well-formed");
    let calls = |node: &Node| edited.method.payload(*node) == Payload::Method(callee.id());
    let call = edited.method.nodes().find(calls).expect("there is a call");
    let mut edits = Edits::new();
    edits.inline(&edited.module, &mut edited.method, call, &callee).expect("the call can be inlined");
    edited.apply(edits);
    edited
}

#[test]
fn a_callee_with_one_way_through_disappears_in_the_caller() {
    let arena = Bump::new();
    let edited = inlined(
        "method @f ($x: i32) -> (i32) {
        b0:
          %x = entry.i32 $x
          %one = const.i32 1
          %y = add.i32 %x, %one
          set $x, %y
          %sum = call.i32 @g(%y, %one)
          %z = add.i32 %sum, %x
          return %z
        }
        method @g ($a: i32, $b: i32) -> (i32) {
        b0:
          %a = entry.i32 $a
          %b = entry.i32 $b
          %two = const.i32 2
          br %b, b1, b2
        b1 extends b0:
          %r = add.i32 %a, %two
          set $a, %r
          return %r
        b2 extends b0:
          return %b
        }",
        &arena,
    );
    edited.expect(
        "b0:
        %0 = entry.i32 $x
        %1 = const.i32 1
        %2 = add.i32 %0, %1
        set $x, %2
        %3 = const.i32 3
        %4 = add.i32 %0, %3
        %5 = add.i32 %4, %0
        return %5",
    );
}

#[test]
fn several_returns_meet_behind_the_call() {
    let arena = Bump::new();
    let edited = inlined(
        "method @f ($x: i32) -> (i32) {
        b0 freq 2:
          %x = entry.i32 $x
          %y = divcheck.i32 %x !1
          %a = call.i32 @g(%x) !2
          %b = result.i32 %a, 1
          %q = udiv.i32 %a, %y
          %z = add.i32 %q, %b
          return %z !3
        }
        method @g ($a: i32) -> (i32, i32) {
        b0:
          %a = entry.i32 $a
          br %a, b1, b2 !71
        b1 extends b0 freq 0.5:
          %seven = const.i32 7
          return %seven, %a !72
        b2 extends b0:
          return %a, %a !73
        }",
        &arena,
    );
    edited.expect(
        "local $g_result: i32
        local $g_result_2: i32
        local $t: i32
        b0 freq 2:
        %0 = entry.i32 $x
        %1 = divcheck.i32 %0 !1
        set $t, %1 !2
        br %0, b1, b2 !2
        b1 extends b0 freq 1:
        %2 = const.i32 7
        set $g_result, %2 !2
        set $g_result_2, %0 !2
        goto b3 !2
        b2 extends b0:
        set $g_result, %0 !2
        set $g_result_2, %0 !2
        goto b3 !2
        b3 freq 2:
        %3 = entry.i32 $t
        %4 = divcheck.i32 %3 !2
        %5 = entry.i32 $g_result
        %6 = udiv.i32 %5, %4
        %7 = entry.i32 $g_result_2
        %8 = add.i32 %6, %7
        return %8 !3",
    );
}

#[test]
fn raises_reach_the_callees_handlers_and_then_the_calls() {
    let arena = Bump::new();
    let edited = inlined(
        "method @f ($x: i32) -> (i32) {
        b0 handlers [bounds|division: b1]:
          %x = entry.i32 $x
          set $x, %x
          %a = call.i32 @g(%x)
          return %a
        b1:
          %k = caught_kind
          return %k
        }
        method @g ($a: i32) -> (i32) {
        b0 handlers [bounds: b1]:
          %a = entry.i32 $a
          %d = divcheck.i32 %a
          %i = boundscheck.i32 %a, %d
          return %i
        b1:
          %e = entry.i32 $a
          %c = divcheck.i32 %e
          return %c
        }",
        &arena,
    );
    edited.expect(
        "local $g_a: i32
        local $g_result: i32
        b0 handlers [bounds: b1, bounds|division: b3]:
        %0 = entry.i32 $x
        set $g_a, %0
        %1 = divcheck.i32 %0
        %2 = boundscheck.i32 %0, %1
        set $g_result, %2
        goto b2
        b1 handlers [bounds|division: b3]:
        %3 = entry.i32 $g_a
        %4 = divcheck.i32 %3
        set $g_result, %4
        goto b2
        b2:
        %5 = entry.i32 $g_result
        return %5
        b3:
        %6 = caught_kind
        return %6",
    );
}

#[test]
fn frame_states_get_the_calls_as_parent() {
    let arena = Bump::new();
    let edited = inlined(
        "method @h () -> ()
        method @f ($x: i32) -> (i32) {
        b0:
          %x = entry.i32 $x
          %one = const.i32 1
          %y = add.i32 %x, %one
          %state = frame @f:5 after [%y] []
          %a = call.i32 @g(%x) frame %state
          call @h()
          %z = add.i32 %a, %y
          return %z
        }
        method @g ($a: i32) -> (i32) {
        b0:
          goto b1
        b1:
          %a = entry.i32 $a
          %state = frame @g:7 reexecute [%a] []
          guard [custom 1] frame %state
          br %a, b1, b2
        b2:
          %b = entry.i32 $a
          return %b
        }",
        &arena,
    );
    edited.expect(
        "local $g_a: i32
        b0:
        %0 = entry.i32 $x
        set $g_a, %0
        goto b1
        b1:
        %1 = entry.i32 $g_a
        %2 = entry.i32 $x
        %3 = const.i32 1
        %4 = add.i32 %2, %3
        %5 = frame @f:5 after [%4] []
        %6 = frame @g:7 reexecute [%1] [] parent %5
        guard [custom 1] frame %6
        br %1, b1, b2
        b2 extends b1:
        call @h()
        %7 = add.i32 %1, %4
        return %7",
    );
}

#[test]
fn tail_calls_become_calls_without_the_callees_handlers() {
    let arena = Bump::new();
    let edited = inlined(
        "method @h (i32) -> (i32, i32)
        method @f ($x: i32) -> (i32) {
        b0 handlers [division: b1]:
          %x = entry.i32 $x
          %a = call.i32 @g(%x)
          %b = result.i32 %a, 1
          return %b
        b1:
          %k = caught_kind
          return %k
        }
        method @g ($a: i32) -> (i32, i32) {
        slot $s: 13 align 8
        b0 handlers [guest: b1]:
          %a = entry.i32 $a
          %s = slot_address $s
          %t = load.i32 $s [%s]
          %d = divcheck.i32 %t
          %e = call.i32 @h(%d)
          tail_call @h(%a)
        b1:
          %zero = const.i32 0
          return %zero, %zero
        }",
        &arena,
    );
    edited.expect(
        "local $g_result: i32
        slot $s: 13 align 8
        b0 handlers [guest: b2, division: b4]:
        %0 = const.i64 0
        %1 = slot_address $s
        store $s [%1], %0
        %2 = const.i32 0
        store $s [%1 + 8], %2
        %3 = const.i8 0
        store $s [%1 + 12], %3
        %4 = load.i32 $s [%1]
        %5 = divcheck.i32 %4
        %6 = call.i32 @h(%5)
        goto b1
        b1 extends b0 handlers [division: b4]:
        %7 = entry.i32 $x
        %8 = call.i32 @h(%7)
        %9 = result.i32 %8, 1
        set $g_result, %9
        goto b3
        b2:
        %10 = const.i32 0
        set $g_result, %10
        goto b3
        b3:
        %11 = entry.i32 $g_result
        return %11
        b4:
        %12 = caught_kind
        return %12",
    );
}

#[test]
fn what_cannot_be_inlined_says_why() {
    let arena = Bump::new();
    let source = "native @n () -> ()
        method @g () -> () {
        slot $large: 257 align 1
        b0:
          return
        }
        method @f () -> () {
        b0:
          call_native @n()
          call @g()
          return
        }";
    let parsed = text::parse(source, &arena).expect("the test's source is text");
    let [callee, method] =
        <[_; 2]>::try_from(parsed.bodies).unwrap_or_else(|_| panic!("there are two bodies"));
    let mut edited = Edited { module: parsed.module, method: method.method };
    let mut edits = Edits::new();
    for (position, why) in
        [(0, NotInlined::NotThisContext), (1, NotInlined::LargeSlots), (2, NotInlined::NotThisContext)]
    {
        let call = edited.root(0, position);
        let result = edits.inline(&edited.module, &mut edited.method, call, &callee.method);
        assert_eq!(result, Err(why));
    }
    assert!(edits.is_empty());
}
