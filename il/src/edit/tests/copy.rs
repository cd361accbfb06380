//! What every rebuild does, and what it leaves alone.

use super::*;

#[test]
fn what_nobody_needs_is_left_out_and_what_has_effects_stays() {
    rebuilt(
        "symbol @memory region
        method @f ($p: addr, $x: i32) -> (i32) {
        local $unread: i32
        b0:
          %p = entry.addr $p
          %x = entry.i32 $x
          %unused = load.i32 @memory [%p]
          %length = sdiv.i32 %x, %x
          store @memory [%p], %x
          set $unread, %x
          return %x
        }",
        "b0:
          %0 = entry.i32 $x
          %1 = sdiv.i32 %0, %0
          %2 = entry.addr $p
          store @memory [%2], %0
          return %0",
    );
}

#[test]
fn a_load_stays_where_it_is_needed() {
    rebuilt(
        "symbol @memory region
        method @f ($p: addr) -> (i32) {
        b0:
          %p = entry.addr $p
          %x = load.i32 @memory [%p]
          %y = load.i32 @memory [%p + 4]
          return %y
        }",
        "b0:
          %0 = entry.addr $p
          %1 = load.i32 @memory [%0 + 4]
          return %1",
    );
}

#[test]
fn a_constant_branch_leaves_one_way_and_its_blocks_are_merged() {
    rebuilt(
        "method @f ($x: i32) -> (i32) {
        local $y: i32
        b0:
          %x = entry.i32 $x
          %one = const.i32 1
          set $y, %x
          br %one, b1, b2
        b1:
          %y = entry.i32 $y
          %two = const.i32 2
          %sum = add.i32 %y, %two
          set $y, %sum
          goto b3
        b2:
          goto b3
        b3:
          %z = entry.i32 $y
          return %z
        }",
        "b0:
          %0 = entry.i32 $x
          %1 = const.i32 2
          %2 = add.i32 %0, %1
          return %2",
    );
}

#[test]
fn a_head_with_one_predecessor_continues_it_and_sees_its_values() {
    rebuilt(
        "method @f ($x: i32) -> (i32) {
        local $y: i32
        b0:
          %x = entry.i32 $x
          %one = const.i32 1
          %sum = add.i32 %x, %one
          set $y, %sum
          br %x, b1, b2
        b1:
          %y = entry.i32 $y
          return %y
        b2:
          %z = entry.i32 $x
          return %z
        }",
        "b0:
          %0 = entry.i32 $x
          br %0, b1, b2
        b1 extends b0:
          %1 = const.i32 1
          %2 = add.i32 %0, %1
          return %2
        b2 extends b0:
          return %0",
    );
}

#[test]
fn loop_headers_rejoin_points_and_handlers_stay_heads() {
    let source = "method @g () -> ()
        method @f ($x: i32) -> (i32) {
        b0:
          goto b1
        b1 handlers [catchable: b4]:
          %x = entry.i32 $x
          call @g()
          %one = const.i32 1
          %less = sub.i32 %x, %one
          set $x, %less
          br %less, b1, b2
        b2 extends b1:
          return %x
        b4:
          %kind = caught_kind
          return %kind
        }";
    rebuilt(
        source,
        "b0:
          goto b1
        b1 handlers [catchable: b3]:
          call @g()
          %0 = entry.i32 $x
          %1 = const.i32 -1
          %2 = add.i32 %0, %1
          set $x, %2
          br %2, b1, b2
        b2 extends b1:
          return %0
        b3:
          %3 = caught_kind
          return %3",
    );
}

#[test]
fn handlers_at_which_nothing_arrives_go_with_their_blocks() {
    rebuilt(
        "method @f ($x: i32) -> (i32) {
        b0 handlers [bounds: b1, division: b2]:
          %x = entry.i32 $x
          %y = divcheck.i32 %x
          %z = udiv.i32 %x, %y
          return %z
        b1:
          %k = caught_kind
          return %k
        b2:
          %zero = const.i32 0
          return %zero
        }",
        "b0 handlers [division: b1]:
          %0 = entry.i32 $x
          %1 = divcheck.i32 %0
          %2 = udiv.i32 %0, %1
          return %2
        b1:
          %3 = const.i32 0
          return %3",
    );
}

#[test]
fn a_block_with_other_handlers_is_joined_but_not_merged() {
    rebuilt(
        "method @f ($x: i32) -> (i32) {
        b0:
          %x = entry.i32 $x
          %y = divcheck.i32 %x
          goto b1
        b1 handlers [division: b2]:
          %again = entry.i32 $x
          %one = const.i32 1
          %less = sub.i32 %again, %one
          %z = divcheck.i32 %less
          return %z
        b2:
          %k = caught_kind
          return %k
        }",
        "b0:
          %0 = entry.i32 $x
          %1 = divcheck.i32 %0
          goto b1
        b1 extends b0 handlers [division: b2]:
          %2 = const.i32 -1
          %3 = add.i32 %0, %2
          %4 = divcheck.i32 %3
          return %4
        b2:
          %5 = caught_kind
          return %5",
    );
}

#[test]
fn virtual_objects_may_hold_each_other() {
    rebuilt(
        "class @C size 32 {
        }
        method @f ($x: i32) -> () {
        b0:
          %x = entry.i32 $x
          %a = virtual 0 @C [%b, %x]
          %b = virtual 1 @C [%a]
          %state = frame @f:3 reexecute [%a] []
          guard [custom 1] frame %state
          return
        }",
        "b0:
          %0 = virtual 1 @C [%2]
          %1 = entry.i32 $x
          %2 = virtual 0 @C [%0, %1]
          %3 = frame @f:3 reexecute [%2] []
          guard [custom 1] frame %3
          return",
    );
}

#[test]
fn deep_trees_and_long_chains_do_not_recurse() {
    let arena = Bump::new();
    let mut module = Module::new();
    let id = module.declare_method("f", &[Type::I32], &[Type::I32]);
    let mut builder = crate::Builder::new(&arena, &module, id, crate::Folding::Off);
    let block = builder.block();
    builder.switch_to(block);
    let x = builder.get(builder.param(0));
    let mut sum = x;
    for index in 0..100_000 {
        let other = builder.i32(index % 7 + 1);
        let product = builder.op(Opcode::Mul, &[sum, x]);
        sum = builder.op(Opcode::Xor, &[product, other]);
    }
    for _ in 0..1000 {
        let next = builder.block();
        builder.goto(next);
        builder.switch_to(next);
    }
    let y = builder.get(builder.param(0));
    builder.ret(&[y]);
    let mut method = builder.finish().expect("the method is built");
    let end = *method.roots(block).last().expect("the block ends");
    let root = method.add_node(Opcode::Set, Type::Void, &[sum], Payload::Local(Local::new(0)));
    method.set_roots(block, &[Root { node: root, ..end }, end]);
    let mut edited = Edited { module, method };
    while edited.method.block_count() > 1 {
        let before = edited.method.block_count();
        edited.apply(Edits::new());
        assert!(edited.method.block_count() < before);
    }
    assert!(edited.method.node_count() > 200_000);
}
