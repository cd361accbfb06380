//! What the builder promises: one node for each value, folding, forwarding of locals, and errors instead of panics.

use bumpalo::Bump;
use dagwood_il::{
    Access, BuildError, Builder, Folding, Module, Opcode, Payload, Place, RaiseKind, SymbolKind, Type,
};

fn module() -> (Module, dagwood_il::MethodId) {
    let mut module = Module::new();
    let id = module.declare_method("f", &[Type::I32, Type::I32], &[Type::I32]);
    (module, id)
}

#[test]
fn equal_values_are_one_node() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let (p0, p1) = (b.param(0), b.param(1));
    let (x, y) = (b.get(p0), b.get(p1));
    let first = b.op(Opcode::Add, &[x, y]);
    assert_eq!(first, b.op(Opcode::Add, &[x, y]));
    assert_ne!(first, b.op(Opcode::Sub, &[x, y]));
    assert_eq!(x, b.get(p0), "a local is captured once");
    b.ret(&[first]);
    let method = b.finish().expect("the method is whole");
    assert_eq!(method.roots(entry).len(), 1, "nothing but the return has a place");
}

#[test]
fn without_folding_what_is_asked_for_is_built() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    let x = b.get(b.param(0));
    let zero = b.i32(0);
    let sum = b.op(Opcode::Add, &[x, zero]);
    assert_ne!(sum, x);
    assert_ne!(sum, b.op(Opcode::Add, &[x, zero]));
    b.ret(&[sum]);
    b.finish().expect("the method is whole");
}

#[test]
fn constants_fold_and_identities_vanish() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let x = b.get(b.param(0));
    let (two, three) = (b.i32(2), b.i32(3));
    let six = b.op(Opcode::Mul, &[two, three]);
    assert_eq!(b.method().const_bits(six), Some(6));
    let left = b.op(Opcode::Add, &[two, x]);
    let both = b.op(Opcode::Add, &[left, three]);
    let [base, five] = *b.method().operands(both) else { panic!("a sum has two operands") };
    assert_eq!((base, b.method().const_bits(five)), (x, Some(5)));
    // A near miss: a subtraction is not a sum, and constants on its left stay there.
    let difference = b.op(Opcode::Sub, &[two, x]);
    assert_eq!(b.method().operands(difference), &[two, x]);
    b.ret(&[both]);
    b.finish().expect("the method is whole");
}

#[test]
fn a_set_local_is_forwarded_within_the_extended_block_only() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let (p0, p1) = (b.param(0), b.param(1));
    let (x, y) = (b.get(p0), b.get(p1));
    b.set(p0, y);
    let then = b.extension(entry).expect("the extended block is shallow");
    let join = b.block();
    b.branch(x, then, join);
    b.switch_to(then);
    assert_eq!(b.get(p0), y, "an extension sees what its parent set");
    b.set(p0, y);
    b.goto(join);
    b.switch_to(join);
    let after = b.get(p0);
    assert_ne!(after, y, "a head captures its own entry value");
    b.ret(&[after]);
    let method = b.finish().expect("the method is whole");
    assert_eq!(method.roots(then).len(), 1, "setting a local to what it holds leaves no root");
}

#[test]
fn roots_are_never_merged_and_division_by_a_constant_floats() {
    let (mut module, id) = module();
    let symbol = module.declare_symbol("m", SymbolKind::Region);
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let (x, y) = (b.get(b.param(0)), b.get(b.param(1)));
    let context = b.context();
    let access = Access { place: Place::Symbol(symbol), offset: 64, scale: 1 };
    let first = b.load(Type::I32, access, context, None);
    assert_ne!(first, b.load(Type::I32, access, context, None));
    let seven = b.i32(7);
    let floating = b.op(Opcode::UDiv, &[x, seven]);
    assert!(!b.method().is_root(floating));
    let placed = b.op(Opcode::UDiv, &[x, y]);
    assert!(b.method().is_root(placed));
    let proven = b.checked(Opcode::DivCheck, Type::I32, &[y], 0);
    let floating = b.op(Opcode::UDiv, &[x, proven]);
    assert!(!b.method().is_root(floating), "a passed check proves the divisor");
    b.ret(&[floating]);
    b.finish().expect("the method is whole");
}

#[test]
fn checks_that_cannot_fail_and_known_branches_vanish() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let x = b.get(b.param(0));
    let (one, nine) = (b.i32(1), b.i32(9));
    b.check(one, RaiseKind::Unreachable, 0);
    assert_eq!(b.checked(Opcode::BoundsCheck, Type::I32, &[one, nine], 0), one);
    let (yes, no) = (b.block(), b.block());
    let zero = b.i32(0);
    let is_zero = b.op(Opcode::Eq, &[x, zero]);
    b.branch(is_zero, yes, no);
    b.switch_to(yes);
    b.branch(one, no, yes);
    b.switch_to(no);
    b.ret(&[x]);
    let method = b.finish().expect("the method is whole");
    let end = method.terminator(entry).expect("the entry ends");
    assert_eq!((method.operands(end), method.payload(end)), (&[x][..], Payload::Branch(no, yes)));
    assert_eq!(method.opcode(method.terminator(yes).expect("the block ends")), Opcode::Goto);
    assert_eq!(method.roots(entry).len(), 1);
}

#[test]
fn mistakes_are_reported_at_the_end() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let x = b.get(b.param(0));
    b.ret(&[x]);
    assert!(matches!(b.finish(), Err(BuildError::NoBlock { opcode: Opcode::Entry, .. })));

    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let block = b.block();
    assert_eq!(b.finish().err(), Some(BuildError::Unfilled { block }));
}

#[test]
fn extended_blocks_have_a_bounded_depth() {
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let mut block = b.block();
    let mut depth = 1;
    while let Some(next) = b.extension(block) {
        block = next;
        depth += 1;
    }
    assert_eq!(depth, dagwood_il::MAX_EXTENSION_DEPTH);
}

#[test]
fn a_frame_state_is_shared_up_to_the_next_effect() {
    use dagwood_il::{FrameData, FrameMode, SourcePos};
    let (module, id) = module();
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let x = b.get(b.param(0));
    let data = FrameData {
        method: id,
        position: SourcePos(1),
        mode: FrameMode::Reexecute,
        locals: 1,
        stack: 0,
        monitors: 0,
    };
    let first = b.frame(data, &[x]);
    assert_eq!(first, b.frame(data, &[x]));
    b.emit(Opcode::Poll, Type::Void, &[first], Payload::None);
    assert_ne!(first, b.frame(data, &[x]), "what happened in between is not undone by reexecuting");
    b.ret(&[x]);
    b.finish().expect("the method is whole");
}
