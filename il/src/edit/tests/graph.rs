//! Splits, roots on edges, preheaders, duplicates.

use super::*;

const DIAMOND: &str = "symbol @memory region
    method @f ($p: addr, $x: i32) -> (i32) {
    local $y: i32
    b0:
      %p = entry.addr $p
      %x = entry.i32 $x
      %y = load.i32 @memory [%p]
      %z = add.i32 %x, %y
      set $x, %z
      store @memory [%p], %z
      set $y, %y
      br %x, b1, b3
    b1 extends b0:
      store @memory [%p], %x
      goto b2
    b3 extends b0:
      goto b2
    b2:
      %a = entry.i32 $x
      %b = entry.i32 $y
      %sum = add.i32 %a, %b
      return %sum
    }";

/// A root that writes a value.
fn store(edited: &mut Edited<'_>, like: Node, value: Node) -> Node {
    let mut operands = edited.method.operands(like).to_vec();
    operands[0] = value;
    let payload = edited.method.payload(like);
    edited.method.add_node(Opcode::Store, Type::Void, &operands, payload)
}

#[test]
fn a_split_block_is_joined_again_if_nothing_else_leads_to_its_tail() {
    let arena = Bump::new();
    for position in 0..5 {
        let mut edited = Edited::read(DIAMOND, &arena);
        edited.apply(Edits::new());
        let before = text::print_method(&edited.module, &edited.method);
        let mut edits = Edits::new();
        let point = Point { block: edited.block(0), position };
        edits.split(&mut edited.method, point);
        edited.apply(edits);
        edited.apply(Edits::new());
        assert_eq!(text::print_method(&edited.module, &edited.method), before, "at {position}");
    }
}

#[test]
fn what_crosses_a_split_goes_through_locals() {
    let arena = Bump::new();
    let mut edited = Edited::read(DIAMOND, &arena);
    let mut edits = Edits::new();
    let tail = edits.split(&mut edited.method, Point { block: Block::new(0), position: 2 });
    // The tail is a loop header.
    edits.retarget(edited.block(3), edited.block(2), tail);
    edited.apply(edits);
    edited.expect(
        "local $x_2: i32
        local $t: i32
        b0:
          %0 = entry.addr $p
          %1 = load.i32 @memory [%0]
          %2 = entry.i32 $x
          %3 = add.i32 %2, %1
          set $x, %3
          set $x_2, %2
          set $t, %1
          goto b1
        b1:
          %4 = entry.i32 $x_2
          %5 = entry.i32 $t
          %6 = add.i32 %4, %5
          %7 = entry.addr $p
          store @memory [%7], %6
          br %4, b2, b3
        b2 extends b1:
          store @memory [%7], %4
          %8 = entry.i32 $x
          %9 = add.i32 %8, %5
          return %9
        b3 extends b1:
          goto b1",
    );
}

#[test]
fn roots_on_an_edge_stand_in_a_block_of_its_own_only_if_they_must() {
    let arena = Bump::new();
    for (from, to, expected) in [(0, 1, "b1"), (1, 2, "b1"), (0, 3, "b2")] {
        let mut edited = Edited::read(DIAMOND, &arena);
        let like = edited.root(0, 2);
        let value = edited.constant(77);
        let root = store(&mut edited, like, value);
        let mut edits = Edits::new();
        // Blocks are numbered by their order in the text's numbers: b3 is the last.
        edits.on_edge(edited.block(from), edited.block(to), &[root]);
        edited.apply(edits);
        let printed = text::print_method(&edited.module, &edited.method);
        let block =
            printed.split("\nb").find(|block| block.contains("const.i32 77")).expect("the root is there");
        assert_eq!(format!("b{}", &block[..1]), expected, "{printed}");
        assert_eq!(edited.method.block_count(), 4, "{printed}");
    }
}

#[test]
fn a_critical_edge_gets_a_block() {
    let arena = Bump::new();
    let mut edited = Edited::read(
        "method @f ($x: i32) -> (i32) {
        b0:
          %x = entry.i32 $x
          br %x, b1, b2
        b1:
          %y = entry.i32 $x
          set $x, %y
          goto b2
        b2:
          %z = entry.i32 $x
          return %z
        }",
        &arena,
    );
    let constant = edited.constant(5);
    let set = edited.method.add_node(Opcode::Set, Type::Void, &[constant], Payload::Local(Local::new(0)));
    let mut edits = Edits::new();
    edits.on_edge(edited.block(0), edited.block(2), &[set]);
    edited.apply(edits);
    edited.expect(
        "b0:
          %0 = entry.i32 $x
          br %0, b1, b2
        b1 extends b0:
          goto b3
        b2 extends b0:
          %1 = const.i32 5
          set $x, %1
          goto b3
        b3:
          %2 = entry.i32 $x
          return %2",
    );
}

const LOOP: &str = "method @f ($x: i32) -> (i32) {
    b0 freq 1:
      goto b1
    b1 freq 10:
      %x = entry.i32 $x
      %one = const.i32 1
      %less = sub.i32 %x, %one
      set $x, %less
      poll
      br %less, b1, b2
    b2 extends b1 freq 1:
      return %x
    }";

#[test]
fn a_preheader_is_merged_into_the_one_block_before_it_or_stays() {
    let arena = Bump::new();
    let mut edited = Edited::read(LOOP, &arena);
    let poll = edited.method.add_node(Opcode::Fence, Type::Void, &[], Payload::None);
    let mut edits = Edits::new();
    let header = edited.block(1);
    edits.preheader(&mut edited.method, header, &[Block::new(0)], &[poll]);
    edited.apply(edits);
    edited.expect(
        "b0 freq 1:
          fence
          goto b1
        b1 freq 10:
          %0 = entry.i32 $x
          %1 = const.i32 -1
          %2 = add.i32 %0, %1
          set $x, %2
          poll
          br %2, b1, b2
        b2 extends b1 freq 1:
          return %0",
    );
}

#[test]
fn duplicating_for_the_edge_into_a_loop_peels_it() {
    let arena = Bump::new();
    let mut edited = Edited::read(LOOP, &arena);
    let mut edits = Edits::new();
    let (before, header) = (edited.block(0), edited.block(1));
    edits.duplicate(&mut edited.method, before, header);
    edited.apply(edits);
    edited.expect(
        "b0 freq 1:
          %0 = entry.i32 $x
          %1 = const.i32 -1
          %2 = add.i32 %0, %1
          set $x, %2
          poll
          br %2, b1, b3
        b1 freq 9:
          %3 = entry.i32 $x
          %4 = const.i32 -1
          %5 = add.i32 %3, %4
          set $x, %5
          poll
          br %5, b1, b2
        b2 extends b1 freq 0.900390625:
          return %3
        b3 extends b0 freq 0.099609375:
          return %0",
    );
}

#[test]
fn duplicating_for_the_edge_back_unrolls_and_the_copies_share_an_extended_block() {
    let arena = Bump::new();
    let mut edited = Edited::read(LOOP, &arena);
    let mut edits = Edits::new();
    let header = edited.block(1);
    edits.duplicate(&mut edited.method, header, header);
    edited.apply(edits);
    edited.expect(
        "b0 freq 1:
          goto b1
        b1 freq 1:
          %0 = entry.i32 $x
          %1 = const.i32 -1
          %2 = add.i32 %0, %1
          set $x, %2
          poll
          br %2, b2, b4
        b2 extends b1 freq 9:
          %3 = const.i32 -2
          %4 = add.i32 %0, %3
          set $x, %4
          poll
          br %4, b1, b3
        b3 extends b2 freq 0.8994140625:
          return %2
        b4 extends b1 freq 0.1005859375:
          return %0",
    );
}

#[test]
fn an_extended_block_that_gets_too_deep_is_cut() {
    let arena = Bump::new();
    let mut source =
        String::from("method @f ($x: i32) -> (i32) {\nb0:\n  %x = entry.i32 $x\n  %y = divcheck.i32 %x\n");
    let deepest = crate::MAX_EXTENSION_DEPTH as usize - 1;
    for block in 1..=deepest {
        let above = block - 1;
        source +=
            &format!("  br %x, b{block}, b99\nb{block} extends b{above}:\n  %c{block} = divcheck.i32 %y\n");
    }
    source += "  br %x, b98, b99\nb98:\n  %z = entry.i32 $x\n  return %z\nb99:\n  %w = entry.i32 $x\n  return %w\n}";
    let mut edited = Edited::read(&source, &arena);
    let (last, exit) = (edited.block(deepest), edited.block(deepest + 1));
    let value = edited.root(0, 0);
    let set = edited.method.add_node(Opcode::Set, Type::Void, &[value], Payload::Local(Local::new(0)));
    let mut edits = Edits::new();
    edits.on_edge(last, exit, &[set]);
    edited.apply(edits);
    assert!(text::print_method(&edited.module, &edited.method).contains("set $x, "));
    edited.apply(Edits::new());
}

#[test]
fn what_dies_at_a_yield_point_is_computed_again_behind_a_cut() {
    let arena = Bump::new();
    let mut source = String::from("symbol @memory region\nmethod @f ($x: i32, $r: ref) -> (i32) {\n");
    source +=
        "b0:\n  %x = entry.i32 $x\n  %r = entry.ref $r\n  %p = ref_address %r\n  %y = divcheck.i32 %x\n";
    let deepest = crate::MAX_EXTENSION_DEPTH as usize - 1;
    for block in 1..=deepest {
        let above = block - 1;
        source +=
            &format!("  br %x, b{block}, b99\nb{block} extends b{above}:\n  %c{block} = divcheck.i32 %y\n");
    }
    source += "  %z = load.i32 @memory [%p + 12]\n  check %z, null\n  br %x, b98, b99\n";
    source += "b98:\n  %v = entry.i32 $x\n  return %v\nb99:\n  %w = entry.i32 $x\n  return %w\n}";
    let mut edited = Edited::read(&source, &arena);
    let (last, exit) = (edited.block(deepest), edited.block(deepest + 1));
    let load = edited.root(deepest, 1);
    let (address, payload) = (edited.root(0, 0), edited.method.payload(load));
    let again = edited.method.add_node(Opcode::Load, Type::I32, &[address], payload);
    let set = edited.method.add_node(Opcode::Set, Type::Void, &[again], Payload::Local(Local::new(0)));
    let mut edits = Edits::new();
    edits.on_edge(last, exit, &[again, set]);
    edited.apply(edits);
    let text = text::print_method(&edited.module, &edited.method);
    assert_eq!(text.matches("ref_address").count(), 2, "{text}");
    edited.apply(Edits::new());
}
