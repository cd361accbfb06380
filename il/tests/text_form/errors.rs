//! Whatever cannot be read is told with its place, what is wrong, and what would be right.

use bumpalo::Bump;
use dagwood_il::text;

/// What reading a source says.
fn error(source: &str) -> String {
    let arena = Bump::new();
    match text::parse(source, &arena) {
        Ok(_) => panic!("this source must not be readable:\n{source}"),
        Err(error) => error.to_string(),
    }
}

/// What reading a method with these lines says; the first of them is line 10.
fn body_error(lines: &str) -> String {
    error(&format!(
        "class @C size 8 {{
  slot get (ref) -> (i32)
}}
symbol @memory region
native @n () -> ()
method @callee (i32) -> (f64)
method @f ($a: i32) -> () {{
  slot $s: 8 align 8
b0:
{lines}
}}"
    ))
}

/// Sources, and what is said of them.
const IN_DECLARATIONS: &[(&str, &str)] = &[
    ("frob", "1:1: found `frob`; expected `signature`, `class`, `interface`, `symbol`, `native` or `method`"),
    ("42", "1:1: found `42`; expected `signature`, `class`, `interface`, `symbol`, `native` or `method`"),
    ("symbol", "1:7: the line ends; expected `@` and a name"),
    (
        "symbol @m",
        "1:10: the line ends; expected the kind of symbol: `static`, `field`, `element`, `region` or `opaque`",
    ),
    (
        "symbol @m region\nsymbol @m opaque",
        "2:8: a symbol named `@m` stands above already; expected another name",
    ),
    (
        "symbol @m static i33",
        "1:18: found `i33`; expected a type: one of i8, i16, i32, i64, f32, f64, addr, ref, v128",
    ),
    ("symbol @m region extra", "1:18: found `extra`; expected the end of the line"),
    (
        "symbol @m field @Pont 8 i32\nclass @Point size 8",
        "1:17: no class is named `@Pont`; expected a declared class, perhaps `Point`",
    ),
    (
        "symbol @m field @C 4294967296 i32\nclass @C",
        "1:20: `4294967296` is too large; expected the field's offset of at most 4294967295",
    ),
    (
        "symbol @ region",
        "1:8: `@` without a name; expected a name: letters, digits and `_`, or any text in quotes",
    ),
    ("symbol @\"a region", "1:8: quoted text without an end; expected `\"` on the same line"),
    (
        "symbol @\"a\\q\" region",
        "1:11: an unknown escape; expected one of `\\n`, `\\r`, `\\t`, `\\\"`, `\\\\`, `\\u{…}`",
    ),
    (
        "class @C {\n  slot f () -> ()\n  slot f () -> ()\n}",
        "3:8: a slot named `f` stands above already; expected another name in this class",
    ),
    (
        "class @C {\n  slot 1 () -> ()\n}",
        "2:8: a number names no slot; expected a word, or any text in quotes",
    ),
    (
        "class @C {\n  implement @C.g = @m\n}\nmethod @m () -> ()",
        "2:16: `@C` has no slot `g`; expected one of its 0 slots",
    ),
    ("class @C {\n  field\n}", "2:3: found `field`; expected `slot`, `implement` or `}`"),
    ("class @C {\n", "2:1: the source ends; expected `}`"),
    ("native @n (i32 -> ()\n", "1:11: `(` is never closed; expected `)` before the next brace"),
    ("native @n (i32 i32) -> ()", "1:16: found `i32`; expected `,` or `)`"),
    ("native @n i32) -> ()", "1:14: `)` closes nothing; expected as many opening brackets as closing ones"),
    ("native @n () -> () raises nul", "1:20: found `raises`; expected the end of the line"),
    (
        "native @n () -> () reads all writes some",
        "1:37: found `some`; expected `none`, `all` or `[` and symbols",
    ),
    (
        "method @m () -> ()\nmethod @m () -> ()",
        "2:8: `@m` is declared above already; expected a body after its header, or another name",
    ),
    (
        "method @m () -> ()\nmethod @m () -> (i32) {\n}",
        "2:8: `@m` is declared above with another signature or other effects; expected the same in both places",
    ),
    (
        "method @m () -> () {\n}\nmethod @m () -> () {\n}",
        "3:8: `@m` has a body above already; expected one body for each method",
    ),
    ("method @m () -> () {\n} x", "2:3: found `x`; expected the end of the line"),
    (
        "method @m (i32) -> () {\n}",
        "1:11: a parameter has no name; expected `$name: type` for every parameter of a body",
    ),
    ("méthod", "1:2: `é` means nothing here; expected a name, a number, punctuation, or a comment after `;`"),
];

#[test]
fn errors_in_declarations() {
    for (source, expected) in IN_DECLARATIONS {
        assert_eq!(error(source), *expected, "{source}");
    }
}

/// Lines of a body from line 10 on, and what is said of them.
const IN_BODIES: &[(&str, &str)] = &[
    ("frobnicate", "10:1: no operation is named `frobnicate`; expected an operation"),
    ("  %0 = ad.i32 %1, %2", "10:8: no operation is named `ad`; expected an operation, perhaps `add`"),
    (
        "  %0 = context.i32",
        "10:16: `context` gives addr, never i32; expected `context` alone, or `context.addr`",
    ),
    ("  fence.i32", "10:9: `fence` has no value; expected `fence` alone"),
    (
        "  %0 = divcheck %1",
        "10:8: `divcheck` has no type; expected one of `divcheck.i8`, `divcheck.i16`, `divcheck.i32`, `divcheck.i64`",
    ),
    (
        "  %0 = const.i32 4294967296",
        "10:18: `4294967296` does not fit i32; expected a number of 32 bits, signed or unsigned",
    ),
    ("  %0 = const.i8 -129", "10:18: `129` does not fit i8; expected a number of 8 bits, signed or unsigned"),
    ("  %0 = const.f32 1e39", "10:18: `1e39` is no finite f32; expected a decimal in its range"),
    (
        "  %0 = const.f32 0x100000000",
        "10:18: `0x100000000` does not fit f32; expected a decimal, `inf`, `nan`, or `0x` and 32 bits",
    ),
    ("  %0 = const.ref nil", "10:18: found `nil`; expected `null`"),
    (
        "  %0 = const.i32 12z",
        "10:18: `12z` is no whole number of up to 128 bits; expected decimal digits, or `0x` and hexadecimal digits",
    ),
    ("  %0 = entry.i32 $b", "10:18: no local is named `$b`; expected a declared local"),
    ("  %0 = slot_address $a", "10:21: no slot is named `$a`; expected a declared slot"),
    ("  %0 = not.i32 %1", "10:16: no node `%1` stands above; expected a node of this method from above"),
    ("  %0 = context\n  %0 = context", "11:3: a node `%0` stands above already; expected another name"),
    ("  %0 = context\n  %1 = addr_add %0", "11:8: `addr_add` has 1 operands; expected 2"),
    (
        "  %0 = context\n  return %0,",
        "11:13: the line ends; expected an operand: `%` and the name of a node, or `dead`",
    ),
    ("  %0 = context\n  return %0 %0", "11:13: found `%0`; expected the end of the line"),
    (
        "  %0 = context\n  %1 = load.i32 @memory [%0 + 2147483648]",
        "11:31: `2147483648` is too large; expected the offset of at most 2147483647",
    ),
    ("  %0 = context\n  store @memory [%0]", "11:3: 0 operands stand after the address; expected 1"),
    ("  %0 = context\n  check %0", "11:11: the line ends; expected `,` and the kind of the raise"),
    ("  %0 = context !12", "10:16: this node floats and has no position; expected the end of the line"),
    ("  poll frame %0", "10:14: no node `%0` stands above; expected a node of this method from above"),
    (
        "  %0 = context\n  poll frame %0",
        "11:14: `%0` is no frame state; expected the name of a `frame` line above",
    ),
    (
        "  %0 = frame @f before [] []",
        "10:17: found `before`; expected when the state holds: one of `reexecute`, `after`, `raise`",
    ),
    (
        "  raise nul",
        "10:9: found `nul`; expected a kind of raise: one of null, bounds, division, overflow, conversion, cast, \
             store, negative_size, monitor, signature, unreachable, stack_overflow, out_of_memory, interrupt, fault, guest",
    ),
    ("  raise null reason 65536", "10:21: `65536` is too large; expected the reason of at most 65535"),
    ("  goto b7", "10:8: no block `b7` is in this method; expected the label of a block of this method"),
    ("  goto 7", "10:8: found `7`; expected a block: `b` and its number"),
    ("b0:", "10:1: a block `b0` stands above already; expected another number"),
    (
        "b1 extends b2:\nb2:",
        "10:12: `b2` does not stand above this block; expected a block above, of which this is the continuation",
    ),
    (
        "b1 extends b1:",
        "10:12: `b1` does not stand above this block; expected a block above, of which this is the continuation",
    ),
    ("b1 often:", "10:4: found `often`; expected `extends`, `freq`, `handlers` (in this order) or `:`"),
    (
        "b1 freq 1.00000000001:",
        "10:9: `1.00000000001` is no frequency; expected a decimal below 4194304 with at most 10 digits after the point",
    ),
    ("b1 handlers [null b0]:", "10:19: found `b0`; expected `:`"),
    (
        "  %0 = call.i32 @callee()",
        "10:13: the callee gives f64, not i32; expected `call` alone, or with the type f64",
    ),
    ("  call @calle()", "10:8: no method is named `@calle`; expected a declared method, perhaps `callee`"),
    (
        "  call_native @callee()",
        "10:15: no native function is named `@callee`; expected a declared native function",
    ),
    (
        "  %0 = const.ref null\n  call_virtual @C.got(%0)",
        "11:19: `@C` has no slot `got`; expected one of its 1 slots, perhaps `get`",
    ),
    ("  call_virtual @C.1()", "10:19: `@C` has no slot `1`; expected one of its 1 slots"),
    (
        "  guard [always]",
        "10:10: found `always`; expected an assumption: one of `not_extended`, `not_overridden`, `not_written`, `not_redefined`, `custom`",
    ),
    (
        "  %0 = virtual 0 @C [%9]",
        "10:22: no node `%9` stands above; expected a node of this method from above",
    ),
];

#[test]
fn errors_in_bodies() {
    for (lines, expected) in IN_BODIES {
        assert_eq!(body_error(lines), *expected, "{lines}");
    }
}

#[test]
fn bytes_that_are_not_text() {
    let arena = Bump::new();
    let error = text::parse_bytes(b"symbol @m region\n  \xff", &arena).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("2:3: the byte 0xff is not UTF-8; expected text in UTF-8"));
}

#[test]
fn too_large_a_source() {
    let arena = Bump::new();
    let source = " ".repeat(text::MAX_SOURCE_BYTES + 1);
    let error = text::parse(&source, &arena).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("1:1: the source has 67108865 bytes; expected at most 67108864"));
}

#[test]
fn too_many_operands() {
    let operands = vec!["%0"; 70_000].join(", ");
    let error = body_error(&format!("  %0 = context\n  return {operands}"));
    assert!(error.ends_with("65535 operands; expected fewer"), "{error}");
}

#[test]
fn rules_that_are_broken_are_told_in_the_words_of_the_source() {
    let source = "symbol @m region
class @C size 8
class @D extends @C size 4
method @f ($a: i32) -> () {
b0:
  goto b7
b7:
  %c = context
  %sum = add.i32 %c, %c
  set $a, %sum
  goto b20
b20:
  %v = eq %sum, %sum
  br %v, b20, b20
}
";
    let told = |source: &str| {
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).unwrap_or_else(|error| panic!("{error}"));
        let refusals = text::verify(&parsed, source).err().unwrap_or_default();
        refusals.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        told(source),
        ["3:7: `@D` has 4 bytes, its superclass 8; it should have no fewer [hierarchy]"]
    );
    let source = source.replace("size 4", "size 8");
    let told = told(&source);
    assert!(told.iter().any(|line| line.starts_with("9:3: operand 0 of `add`, %c, is addr")), "{told:#?}");
    assert!(
        told.iter().any(|line| line.starts_with("10:3: it uses %sum (`add`) in the extended block of b7")),
        "{told:#?}"
    );
}
