//! What is written canonically is printed as it was written, and what is not is printed canonically.

use bumpalo::Bump;
use dagwood_il::*;

use crate::same::{parse, reprint, round_trip};

/// Declarations and bodies of every kind, as the printer writes them.
const CANONICAL: &str = include_str!("canonical.dag");

#[test]
fn a_canonical_source_is_printed_as_it_was_written() {
    assert_eq!(reprint(CANONICAL), CANONICAL);
}

#[test]
fn bodies_read_again_in_another_order_are_the_same() {
    let arena = Bump::new();
    let parsed = parse(CANONICAL, &arena);
    let mut reader = text::Reader::new(CANONICAL, &parsed).expect("the same source");
    for body in parsed.bodies.iter().rev() {
        let again =
            reader.body(body.method.id(), &arena).expect("it was read before").expect("it has a body");
        let print = |method| text::print_method(&parsed.module, method);
        assert_eq!(print(&again.method), print(&body.method));
    }
    assert!(text::Reader::new("method @other () -> ()", &parsed).is_err());
}

#[test]
fn numbers_names_comments_and_order_of_blocks_are_made_canonical() {
    let source = r#"
; a comment
method @f ($a: i32) -> (i32) {   ; another
b7:
  %unused = const.i32 12
  %x = entry.i32 $a              ; floats
  br %x, b9, b20
b20 extends b7:
  return %x
b9   extends b7
  freq 1.0:
  %big = const.i32 0xffffffff
  %7 = add.i32 %x , %big
  return
    %7
}
"#;
    // Two lines above continue without a bracket.
    let arena = Bump::new();
    assert!(text::parse(source, &arena).is_err());
    let source = source.replace("\n  freq", " freq").replace("return\n    %7", "return %7");
    let canonical = "signature (i32) -> (i32)

method @f ($a: i32) -> (i32) {
b0:
  %0 = entry.i32 $a
  br %0, b1, b2
b1 extends b0 freq 1:
  %1 = const.i32 -1
  %2 = add.i32 %0, %1
  return %2
b2 extends b0:
  return %0
}
";
    assert_eq!(reprint(&source), canonical);
}

#[test]
fn a_block_that_extends_a_later_one_is_printed_below_it() {
    let source = "method @f () -> () {
b0:
  goto b2
b2:
  %c = context
  %v = load.i32 @m [%c]
  goto b1
b1 extends b2:
  set $l, %v
  return
}
symbol @m region
"
    .replace("b0:\n", "local $l: i32\nb0:\n");
    let printed = reprint(&source);
    assert!(printed.find("b2:").unwrap() < printed.find("b1 extends b2:").unwrap(), "{printed}");
}

#[test]
fn virtual_objects_may_hold_each_other() {
    let source = "class @Node size 24
method @f () -> () {
b0:
  %a = virtual 0 @Node [%b, dead]
  %b = virtual 1 @Node [%a, %b]
  %s = frame @f:3 after [%a, dead] []
  poll frame %s
  return
}
";
    let printed = reprint(source);
    assert!(
        printed.contains("%0 = virtual 1 @Node [%1, %0]\n  %1 = virtual 0 @Node [%0, dead]"),
        "{printed}"
    );
}

#[test]
fn declarations_and_definitions_of_one_method_are_one() {
    let source = "method @b () -> ()
method @a ($x: i64) -> () reads none writes none raises null {
b0:
  tail_call @b()
}
method @b () -> () {
b0:
  %x = const.i64 0x8000000000000000
  tail_call @a(%x)
}
";
    let arena = Bump::new();
    let parsed = parse(source, &arena);
    let names: Vec<&str> = parsed.module.methods.values().map(|decl| decl.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    let printed = reprint(source);
    assert!(printed.contains("const.i64 -9223372036854775808"), "{printed}");
}

#[test]
fn positions_say_where_nodes_and_blocks_stand() {
    let source = "method @f () -> () {\nb0:\n    %0 = context\n  poll\n  goto b1\n b1:\n  return\n}\n";
    let arena = Bump::new();
    let body = &parse(source, &arena).bodies[0];
    let line_and_column = |position: Option<text::Position>| position.map(|p| (p.line, p.column)).unwrap();
    assert_eq!(body.positions.method(), text::Position { line: 1, column: 8 });
    let nodes: Vec<_> = body.method.nodes().map(|node| line_and_column(body.positions.node(node))).collect();
    assert_eq!(nodes, [(3, 5), (4, 3), (5, 3), (7, 3)]);
    let blocks: Vec<_> =
        body.method.blocks().map(|block| line_and_column(body.positions.block(block))).collect();
    assert_eq!(blocks, [(2, 1), (6, 2)]);
}

#[test]
fn every_frequency_near_a_boundary_is_exact() {
    let mut module = Module::new();
    let id = module.declare_method("f", &[], &[]);
    let arena = Bump::new();
    let units = (0..=1025).chain([u32::MAX - 1, u32::MAX, 1 << 31, 123_456_789]);
    let mut method = Method::new(&arena, id);
    for units in units {
        let block = method.add_block(None, None);
        method.set_frequency(block, Some(Frequency(units)));
    }
    let printed = round_trip(&module, &[&method]);
    assert!(printed.contains("b512 freq 0.5:") && printed.contains("b1 freq 0.0009765625:"), "{printed}");
}

#[test]
fn constants_keep_their_bits() {
    let mut module = Module::new();
    let id = module.declare_method("f", &[], &[]);
    let arena = Bump::new();
    let mut method = Method::new(&arena, id);
    let block = method.add_block(None, None);
    let mut values = Vec::new();
    for ty in Type::VALUES.into_iter().filter(|ty| *ty != Type::V128) {
        for bits in
            [0, 1, 2, 0x7f, 0x80, 0xff, u64::MAX, u64::MAX >> 1, 0x8000_8000_8000_8000, 0x1234_5678_9abc_def0]
        {
            values.push(method.add_node(Opcode::Const, ty, &[], Payload::Const(bits & ty.mask())));
        }
    }
    let floats32 = [
        0x7fc0_0000,
        0x7f80_0000,
        0xff80_0000,
        0xffc0_0000,
        0x7f80_0001,
        0x3f80_0000,
        0x0000_0001,
        0x8000_0000,
    ];
    for bits in floats32 {
        values.push(method.add_node(Opcode::Const, Type::F32, &[], Payload::Const(bits)));
    }
    for value in [0.1, -0.0, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN] {
        values.push(method.add_node(Opcode::Const, Type::F64, &[], Payload::Const(value.to_bits())));
    }
    for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
        let wide = method.add_wide(bits);
        values.push(method.add_node(Opcode::Const, Type::V128, &[], Payload::Wide(wide)));
    }
    let end = method.add_node(Opcode::Return, Type::Void, &values, Payload::None);
    method.set_roots(block, &[Root { node: end, position: SourcePos(7) }]);
    let printed = round_trip(&module, &[&method]);
    for line in [
        "const.f64 0.1\n",
        "const.f64 -0.0\n",
        "const.f64 -inf\n",
        "const.f32 nan\n",
        "const.f32 0xffc00000\n",
        "const.ref null\n",
        "const.i8 -128\n",
    ] {
        assert!(printed.contains(line), "{line}{printed}");
    }
}

#[test]
fn names_of_any_text_survive() {
    let names =
        ["", "a b", "java.lang.Object", "\"\\\n\r\t\u{0}\u{7f}", "ünïcode→", "0", "static", "b0", ";{}"];
    let mut module = Module::new();
    let arena = Bump::new();
    let signature = module.signature(&[], &[]);
    for name in names {
        module.declare_symbol(name, SymbolKind::Opaque);
        module.declare_native(name, &[Type::Ref], &[]);
        let slots =
            names.iter().map(|name| SlotDecl { name: (*name).into(), signature, method: None }).collect();
        module.classes.push(ClassData {
            name: name.into(),
            superclass: None,
            interfaces: Vec::new(),
            is_interface: false,
            size_bytes: 8,
            slots,
            implementations: Vec::new(),
        });
    }
    let id = module.declare_method("a \"quoted\" name", &[], &[]);
    let mut method = Method::new(&arena, id);
    names.iter().for_each(|name| {
        method.add_local(name, Type::I8);
        method.add_slot(name, 1, 1);
    });
    round_trip(&module, &[&method]);
}

#[test]
fn one_node_prints_with_its_own_number() {
    let arena = Bump::new();
    let source = parse(
        "symbol @m region\nmethod @f () -> () {\nb0:\n  %x = context\n  store @m [%x - 8], %x\n  return\n}",
        &arena,
    );
    let method = &source.bodies[0].method;
    let lines: Vec<String> =
        method.nodes().map(|node| text::print_node(&source.module, method, node)).collect();
    assert_eq!(lines, ["%0 = context", "%1 = store @m [%0 - 8], %0", "%2 = return"]);
}

#[test]
fn a_million_nodes_in_a_chain_are_no_trouble() {
    let mut module = Module::new();
    let id = module.declare_method("f", &[], &[Type::I64]);
    let arena = Bump::new();
    let mut method = Method::new(&arena, id);
    let block = method.add_block(None, None);
    let mut last = method.add_node(Opcode::Const, Type::I64, &[], Payload::Const(1));
    for _ in 0..1_000_000 {
        last = method.add_node(Opcode::Add, Type::I64, &[last, last], Payload::None);
    }
    let end = method.add_node(Opcode::Return, Type::Void, &[last], Payload::None);
    method.set_roots(block, &[Root { node: end, position: SourcePos::NONE }]);
    let printed = text::print_module(&module, &[&method]);
    let read = Bump::new();
    let parsed = parse(&printed, &read);
    assert_eq!(parsed.bodies[0].method.node_count(), method.node_count());
}
