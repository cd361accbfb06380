//! Whatever the source holds, reading it ends with a method or an error; and what was read prints and reads again.

use bumpalo::Bump;
use dagwood_il::{Method, text};
use proptest::prelude::*;

const CANONICAL: &str = include_str!("canonical.dag");

/// Pieces that mean something somewhere.
const PIECES: &[&str] = &[
    "%0",
    "%1",
    "$a",
    "$buf",
    "@gcd",
    "@Point",
    "@x",
    "b0",
    "b1",
    "b4294967295",
    "dead",
    "null",
    "!",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "+",
    "-",
    "*",
    "|",
    ".",
    "->",
    "\n",
    "\"",
    "\\",
    ";",
    "0x",
    "18446744073709551615",
    "1e999",
    "nan",
    "frame",
    "add.i32",
    "return",
    "extends",
    "handlers",
    "freq",
    "reads",
    "yields",
    "virtual 0 @Point",
    "method @g () -> () {",
];

/// Reads; what can be read must print, and print the same again.
fn try_source(source: &[u8]) -> Result<(), TestCaseError> {
    let arena = Bump::new();
    match text::parse_bytes(source, &arena) {
        Ok(parsed) => {
            let methods: Vec<&Method<'_>> = parsed.bodies.iter().map(|body| &body.method).collect();
            let printed = text::print_module(&parsed.module, &methods);
            let again = Bump::new();
            // A placed node may be used where it does not stand above: then printing has no canonical form.
            if let Ok(parsed) = text::parse(&printed, &again) {
                let methods: Vec<&Method<'_>> = parsed.bodies.iter().map(|body| &body.method).collect();
                prop_assert_eq!(text::print_module(&parsed.module, &methods), printed);
            }
        }
        Err(error) => {
            let lines = source.split(|byte| *byte == b'\n').count();
            prop_assert!(error.line >= 1 && error.line as usize <= lines, "{}", error);
            let line = source.split(|byte| *byte == b'\n').nth(error.line as usize - 1).unwrap_or_default();
            prop_assert!(error.column >= 1 && error.column as usize <= line.len() + 1, "{}", error);
            prop_assert!(!error.what.is_empty() && !error.expected.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(source in proptest::collection::vec(any::<u8>(), 0..300)) {
        try_source(&source)?;
    }

    #[test]
    fn random_pieces(pieces in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let source: Vec<&str> = pieces.iter().map(|piece| PIECES[*piece]).collect();
        try_source(source.join(" ").as_bytes())?;
        try_source(format!("{CANONICAL}{}", source.join("")).as_bytes())?;
    }

    #[test]
    fn mutated_bytes(changes in proptest::collection::vec((0..CANONICAL.len(), any::<u8>()), 1..6)) {
        let mut source = CANONICAL.as_bytes().to_vec();
        for (at, byte) in changes {
            source[at] = byte;
        }
        try_source(&source)?;
    }

    #[test]
    fn mutated_text(changes in proptest::collection::vec((0..CANONICAL.len(), 0..12usize, 0..PIECES.len()), 1..4)) {
        let mut source = CANONICAL.to_owned();
        for (at, len, piece) in changes {
            let at = at.min(source.len());
            let end = (at + len).min(source.len());
            source.replace_range(at..end, PIECES[piece]);
        }
        try_source(source.as_bytes())?;
    }

    #[test]
    fn moved_lines(moves in proptest::collection::vec((0..100usize, 0..100usize), 1..4)) {
        let mut lines: Vec<&str> = CANONICAL.lines().collect();
        for (from, to) in moves {
            let line = lines.remove(from % lines.len());
            lines.insert(to % lines.len(), line);
        }
        try_source(lines.join("\n").as_bytes())?;
    }
}

/// Bytes of a source that repeats one piece: were reading quadratic, it would take minutes.
const REPEATED: usize = 200_000;

/// A piece of a source, by its index.
type Piece = fn(usize) -> String;

#[test]
fn one_piece_over_and_over_is_read_in_linear_time() {
    let body = "symbol @m region\nclass @C\nmethod @f () -> () {\nb0:\n  %0 = context\n";
    let cases: [(&str, Piece, &str); 16] = [
        ("", |_| "(".into(), ""),
        ("", |_| "\"".into(), ""),
        ("", |_| "@\"\\u{".into(), ""),
        ("", |i| format!("symbol @s{i} opaque "), ""),
        ("", |i| format!("symbol @s{i} opaque\n"), ""),
        ("", |i| format!("method @m{i} () -> () {{\nb0:\n}}\n"), ""),
        (
            "class @C {\n",
            |i| format!("slot s{i} () -> ()\nimplement @C.s{i} = @m\n"),
            "}\nmethod @m () -> ()",
        ),
        ("method @f (", |i| format!("$p{i}: i32, "), "$p: i32) -> () {\nb0:\n  return\n}"),
        (body, |i| format!("  %x{i} = const.v128 {i}\n"), "}"),
        (body, |_| "  poll ; \n".into(), "}"),
        (body, |i| format!("b{} extends b{i} handlers [all: b{i}]:\n", i + 1), "}"),
        (body, |i| format!("  %v{i} = virtual {i} @C [%v{}, %v0]\n", i + 1), "}"),
        (&format!("{body}  switch %0, ["), |i| format!("{i}: b0,"), "], b0\n}"),
        (&format!("{body}  guard ["), |i| format!("custom {i},"), "]\n}"),
        (&format!("{body}  return %0"), |_| ", %0".into(), "\n}"),
        (&format!("{body}  %q = virtual 0 @C [%0"), |i| format!(", %q{i}"), "]\n}"),
    ];
    for (start, piece, end) in &cases {
        let mut source = (*start).to_owned();
        for index in 0.. {
            source += &piece(index);
            if source.len() > REPEATED {
                break;
            }
        }
        source += end;
        try_source(source.as_bytes()).unwrap();
    }
}
