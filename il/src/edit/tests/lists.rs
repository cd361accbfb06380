//! Replacing values, and roots that come and go.

use super::*;

const STORES: &str = "symbol @memory region
    method @f ($p: addr, $x: i32) -> (i32) {
    b0:
      %p = entry.addr $p
      %x = entry.i32 $x
      %y = load.i32 @memory [%p]
      %z = add.i32 %x, %y
      store @memory [%p], %y
      store @memory [%p + 4], %z
      return %z
    }";

#[test]
fn a_replaced_value_is_replaced_everywhere() {
    let arena = Bump::new();
    let mut edited = Edited::read(STORES, &arena);
    let mut edits = Edits::new();
    let load = edited.root(0, 0);
    let constant = edited.constant(7);
    edits.replace(load, constant);
    edited.apply(edits);
    edited.expect(
        "b0:
          %0 = const.i32 7
          %1 = entry.addr $p
          store @memory [%1], %0
          %2 = entry.i32 $x
          %3 = add.i32 %2, %0
          store @memory [%1 + 4], %3
          return %3",
    );
}

#[test]
fn a_replaced_operand_is_replaced_in_one_place() {
    let arena = Bump::new();
    let mut edited = Edited::read(STORES, &arena);
    let mut edits = Edits::new();
    let store = edited.root(0, 1);
    let constant = edited.constant(7);
    edits.replace_operand(store, 0, constant);
    edited.apply(edits);
    edited.expect(
        "b0:
          %0 = entry.addr $p
          %1 = load.i32 @memory [%0]
          %2 = const.i32 7
          store @memory [%0], %2
          %3 = entry.i32 $x
          %4 = add.i32 %3, %1
          store @memory [%0 + 4], %4
          return %4",
    );
}

#[test]
fn roots_go_come_and_become_others() {
    let arena = Bump::new();
    let mut edited = Edited::read(STORES, &arena);
    let mut edits = Edits::new();
    let (load, first, second) = (edited.root(0, 0), edited.root(0, 1), edited.root(0, 2));
    let operands = edited.method.operands(load).to_vec();
    let memory = edited.method.payload(load);
    let again = edited.method.add_node(Opcode::Load, Type::I32, &operands, memory);
    let other = edited.method.add_node(Opcode::Poll, Type::Void, &[], Payload::None);
    let fence = edited.method.add_node(Opcode::Fence, Type::Void, &[], Payload::None);
    edits.change(load, again);
    edits.remove(first);
    let point = Point { block: edited.block(0), position: 2 };
    edits.insert(point, fence, SourcePos::NONE);
    edits.insert(point, other, SourcePos(9));
    edits.remove(second);
    edited.apply(edits);
    edited.expect(
        "b0:
          %0 = entry.addr $p
          %1 = load.i32 @memory [%0]
          fence
          poll !9
          %2 = entry.i32 $x
          %3 = add.i32 %2, %1
          return %3",
    );
}
