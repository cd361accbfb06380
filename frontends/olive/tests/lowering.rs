//! What lowering makes of bytecode: roots with frame states, and nothing that the builder can leave out.

use dagwood_il::text::{parse, print_method, print_module};
use dagwood_il::{Bump, CallEffects, Folding, KindSet, MemorySet, verify};
use dagwood_olive::engine::{Limits, run_bytecode};
use dagwood_olive::observe::Observed;
use dagwood_olive::{Lowering, Program};

/// The IL of a method of a class `A` with fields `x int` and `next A`.
fn lowered(method: &str) -> String {
    let program = Program::read(&format!("class A {{ field x int field next A {method} }}"));
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    let lowering = Lowering::new(&program, Folding::On);
    let id = program.find_method("A.f").expect("the method is `f`");
    let arena = Bump::new();
    let method = lowering.lower(id, None, &arena).expect("what is verified can be lowered");
    verify(lowering.module(), &method).unwrap_or_else(|errors| panic!("{errors:?}"));
    print_method(lowering.module(), &method)
}

/// Asserts that lines stand in a text, in this order.
#[track_caller]
fn has(text: &str, lines: &[&str]) {
    let mut rest = text;
    for line in lines {
        let Some(at) = rest.find(line) else { panic!("`{line}` is not where it should be in\n{text}") };
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn a_receiver_is_not_null_and_other_references_are_checked_with_a_frame() {
    let text = lowered("method f() int { load this get A.next get A.x return }");
    has(
        &text,
        &[
            "load.ref @\"A.next\" [%0 + 24]",
            "frame @\"A.f\":2 reexecute [dead] [%1]",
            "nullcheck.ref %1 frame",
            "load.i32",
        ],
    );
    assert_eq!(text.matches("nullcheck").count(), 1, "{text}");
}

#[test]
fn a_call_has_the_frame_behind_it_with_the_locals_that_are_read_later() {
    let text = lowered(
        "static method f(a A, b int, c int) int { load b load a load c virtual A.g load b add add return }
         method g(c int) int { load c return }",
    );
    has(
        &text,
        &[
            "reexecute [dead, %1, dead] [%1, %0, %2]",
            "nullcheck.ref",
            "after [dead, %1, dead] [%1]",
            "call.i32 @\"A.g\"(",
        ],
    );
}

#[test]
fn a_loop_polls_where_it_jumps_back_with_the_frame_at_its_label() {
    let text =
        lowered("static method f(n int) int { next: load n int 1 sub store n load n if next load n return }");
    has(&text, &["frame @\"A.f\":0 reexecute [", "poll frame", "goto"]);
}

#[test]
fn monitors_that_are_held_stand_in_frames() {
    let text = lowered(
        "static method f(a A, b int) int {
           catch Object from held to free at failed
           load a lock held: int 1 load b div free: unlock return
           failed: (Object) locks 1 unlock throw
         }",
    );
    has(
        &text,
        &[
            "nullcheck.ref",
            "set $m0",
            "after [dead, %1] [] monitors [%3]",
            "monitor_enter",
            "reexecute [dead, dead] [",
            "monitors [%3]",
            "divcheck.i32",
        ],
    );
    has(&text, &["handlers [", "null|bounds|division|cast|store|negative_size|guest @Object: b"]);
    has(
        &text,
        &["caught_kind", "frame @\"A.f\":7 raise [dead, dead] [] monitors [", "call.ref @\"Fault.of\"("],
    );
}

#[test]
fn effects_of_calls_are_those_of_their_bodies() {
    let program = Program::read(
        "class A { field x int method f() int { load this get A.x return } static method g(a A) { load a int 1 put A.x return } }",
    );
    let program = program.expect("the program is right");
    let lowering = Lowering::new(&program, Folding::On);
    let effects = |name| &lowering.module().methods[program.find_method(name).expect("it is there")].effects;
    let x = dagwood_il::entity::Entity::new(0);
    let getter = CallEffects {
        reads: MemorySet::Symbols(vec![x]),
        writes: MemorySet::None,
        raises: KindSet::NONE,
        yields: false,
    };
    assert_eq!(*effects("A.f"), getter);
    let setter = effects("A.g");
    assert_eq!((&setter.reads, &setter.writes), (&MemorySet::None, &MemorySet::Symbols(vec![x])));
    assert_eq!((setter.raises, setter.yields), (KindSet::NULL, false));
}

#[test]
fn programs_are_text_of_the_il_that_can_be_read_again() {
    let source = include_str!("../programs/calculator.olive");
    let program = Program::read(source).expect("the program is right");
    let lowering = Lowering::new(&program, Folding::On);
    let arena = Bump::new();
    let lower = |id| lowering.lower(id, None, &arena).expect("what is verified can be lowered");
    let methods: Vec<_> = lowering.module().methods.keys().map(lower).collect();
    let text = print_module(lowering.module(), &methods.iter().collect::<Vec<_>>());
    let parsed = parse(&text, &arena).unwrap_or_else(|error| panic!("{error}"));
    for body in &parsed.bodies {
        verify(&parsed.module, &body.method).unwrap_or_else(|errors| panic!("{errors:?}"));
    }
    let methods: Vec<_> = parsed.bodies.iter().map(|body| &body.method).collect();
    assert_eq!(print_module(&parsed.module, &methods), text);
}

#[test]
fn what_was_observed_says_how_often_blocks_run() {
    let source = "class A {
        static method f(n int) int { next: load n ifnot done load n int 1 sub store n jump next done: load n return }
        static method main() int { int 10 call A.f return }
    }";
    let program = Program::read(source).expect("the program is right");
    let main = program.find_method("A.main").expect("it is there");
    let mut observed = Observed::new(&program);
    run_bytecode(&program, main, &[], Limits::default(), Some(&mut observed), &mut Vec::new());
    let profile = observed.snapshot(&program);
    let lowering = Lowering::new(&program, Folding::On);
    let text = dagwood_il::text::print_profile(lowering.module(), &profile);
    let expected = "method @\"A.f\" entries 1\n  at 0 runs 11\n  at 1 runs 11 values 11 [1: 10, 0: 1]\n  at 2 runs 10\n  \
                    at 7 runs 1\nmethod @\"A.main\" entries 1\n  at 0 runs 1\n";
    assert_eq!(text, expected);
    let id = program.find_method("A.f").expect("it is there");
    let arena = Bump::new();
    let method =
        lowering.lower(id, profile.methods.get(&id), &arena).expect("what is verified can be lowered");
    has(&print_method(lowering.module(), &method), &["b1 freq 11", "b2 extends b1 freq", "freq 10"]);
}
