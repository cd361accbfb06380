//! Code goes straight on where the method is known to go most often.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{Compiler, Features, Target, Verify};
use dagwood_il::text;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};

/// The mnemonics of the one method of a source, in the order of its code.
fn mnemonics(source: &str) -> Vec<Mnemonic> {
    let arena = Bump::new();
    let parsed = text::parse(source, &arena).unwrap();
    let target = Arc::new(Target::new(Features::Host, Verify::On).unwrap());
    let artifact = Compiler::new(target).compile(&parsed.module, &parsed.bodies[0].method).unwrap();
    let all = Decoder::with_ip(64, &artifact.code, 0, DecoderOptions::NONE);
    all.into_iter().map(|instruction| instruction.mnemonic()).collect()
}

/// Whether what runs if the condition holds stands before the other way. It multiplies, and the other one rotates.
fn multiplies_first(condition: &str, ty: &str, then: u32, otherwise: u32) -> bool {
    let source = format!(
        "method @f ($x: {ty}, $y: i32) -> (i32) {{\nb0:\n  %x = entry.{ty} $x\n  %y = entry.i32 $y\n  {condition}\n  \
         br %c, b1, b2\nb1 extends b0 freq {then}:\n  %p = mul.i32 %y, %y\n  return %p\n\
         b2 extends b0 freq {otherwise}:\n  %q = rotl.i32 %y, %y\n  return %q\n}}\n"
    );
    multiplication_is_first(&mnemonics(&source))
}

fn multiplication_is_first(all: &[Mnemonic]) -> bool {
    let place = |mnemonic: Mnemonic| all.iter().position(|own| *own == mnemonic).unwrap();
    place(Mnemonic::Imul) < place(Mnemonic::Rol)
}

#[test]
fn the_more_frequent_way_of_a_branch_follows() {
    for (condition, ty) in [
        ("%c = slt %x, %y", "i32"),
        ("%d = fadd.f64 %x, %x\n  %c = flt %d, %x", "f64"),
        ("%c = add.i32 %x, %y", "i32"),
    ] {
        assert!(multiplies_first(condition, ty, 9, 1), "{condition}");
        assert!(!multiplies_first(condition, ty, 1, 9), "{condition}");
    }
}

#[test]
fn the_body_of_a_loop_follows_its_test() {
    let source = "method @f ($n: i32, $s: i32) -> (i32) {\nb0:\n  goto b1\nb1:\n  %n = entry.i32 $n\n  %s = entry.i32 $s\n  \
                  br %n, b2, b3\nb2 extends b1 freq 7:\n  %1 = const.i32 1\n  %m = sub.i32 %n, %1\n  set $n, %m\n  \
                  %t = mul.i32 %s, %n\n  set $s, %t\n  goto b1\nb3 extends b1 freq 1:\n  %r = rotl.i32 %s, %n\n  return %r\n}\n";
    assert!(multiplication_is_first(&mnemonics(source)));
}
