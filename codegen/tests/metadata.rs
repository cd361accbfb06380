//! What an artifact says of its raises, calls and handlers.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{
    Artifact, Compiler, Features, FrameState, Helper, Location, RelocTarget, Site, Target, Verify,
    VirtualObject,
};
use dagwood_il::layout::ObjectKind;
use dagwood_il::{
    Builder, Folding, FrameMode, Handler, KindSet, Module, Opcode, Payload, RaiseKind, Signature, SourcePos,
    Type, text,
};

fn compiler() -> Compiler {
    Compiler::new(Arc::new(Target::new(Features::Host, Verify::On).unwrap()))
}

/// What each call of the raising helper raises, and where: in the order of the code.
fn raises(artifact: &Artifact) -> Vec<(RaiseKind, u16, SourcePos)> {
    let is_raise = |offset: u32| {
        let raise = RelocTarget::Helper(Helper::RaiseSite);
        artifact.relocs.iter().any(|reloc| reloc.target == raise && reloc.offset + 4 == offset)
    };
    let sites = artifact.sites.iter().filter(|site| is_raise(site.return_offset));
    sites.map(|site| (site.raises.unwrap().0, site.raises.unwrap().1, site.position)).collect()
}

#[test]
fn every_check_says_what_it_raises_and_where() {
    let mut module = Module::new();
    let id = module.declare_method("m", &[Type::I32], &[Type::I32]);
    let arena = Bump::new();
    // With more or fewer nodes between the value of the head, which is computed first, and the first check.
    for distance in 0..4 {
        let mut b = Builder::new(&arena, &module, id, Folding::Off);
        let (entry, body) = (b.block(), b.block());
        b.switch_to(entry);
        b.goto(body);
        b.switch_to(body);
        for value in 0..distance {
            b.i32(value);
        }
        let zero = b.i32(0);
        for reason in 1..6 {
            b.at(SourcePos(100 + u32::from(reason)));
            b.check(zero, RaiseKind::Unreachable, reason);
        }
        let x = b.get(b.param(0));
        b.at(SourcePos(200));
        let y = b.checked(Opcode::SAddChecked, Type::I32, &[x, zero], 6);
        b.ret(&[y]);
        let artifact = compiler().compile(&module, &b.finish().unwrap()).unwrap();
        let mut expected: Vec<_> = (1..6)
            .map(|reason| (RaiseKind::Unreachable, reason, SourcePos(100 + u32::from(reason))))
            .collect();
        expected.push((RaiseKind::Overflow, 6, SourcePos(200)));
        assert_eq!(raises(&artifact), expected, "distance {distance}");
    }
}

#[test]
fn a_method_that_calls_checks_its_stack_first() {
    let mut module = Module::new();
    let id = module.declare_method("m", &[Type::I32], &[Type::I32]);
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::Off);
    let entry = b.block();
    b.switch_to(entry);
    let x = b.get(b.param(0));
    b.at(SourcePos(7));
    let y = b.call(id, &[x]);
    b.ret(&[y]);
    let artifact = compiler().compile(&module, &b.finish().unwrap()).unwrap();
    assert_eq!(raises(&artifact), [(RaiseKind::StackOverflow, 0, SourcePos::NONE)]);
    let call = artifact.sites.iter().find(|site| site.raises.is_none()).unwrap();
    assert_eq!(call.position, SourcePos(7));
    assert!(artifact.frame_size >= 16);
}

#[test]
fn a_call_lists_the_handlers_that_it_may_reach_in_order() {
    let mut module = Module::new();
    let id = module.declare_method("m", &[], &[Type::I32]);
    let arena = Bump::new();
    let mut b = Builder::new(&arena, &module, id, Folding::Off);
    let (entry, body, first, second) = (b.block(), b.block(), b.block(), b.block());
    b.switch_to(entry);
    b.goto(body);
    let kinds = [KindSet::NULL.union(KindSet::BOUNDS), KindSet::CATCHABLE];
    let handler = |kinds, block| Handler { kinds, class: None, block };
    let list = b.handlers(&[handler(kinds[0], first), handler(kinds[1], second)]);
    b.set_handlers(body, Some(list));
    for block in [first, second] {
        b.switch_to(block);
        let code = b.emit(Opcode::CaughtKind, Type::I32, &[], Payload::None);
        b.ret(&[code]);
    }
    b.switch_to(body);
    let x = b.call(id, &[]);
    b.ret(&[x]);
    let artifact = compiler().compile(&module, &b.finish().unwrap()).unwrap();
    let site = artifact.sites.iter().find(|site| site.handlers_count > 0).unwrap();
    assert_eq!((site.handlers_first, site.handlers_count), (0, 2));
    assert_eq!(artifact.handlers.iter().map(|landing| landing.kinds).collect::<Vec<_>>(), kinds);
    assert!(artifact.handlers.iter().all(|landing| landing.offset < artifact.code.len() as u32));
}

#[test]
fn one_shim_enters_methods_of_any_signature() {
    let types = [Type::I8, Type::I16, Type::I32, Type::I64, Type::F32, Type::F64, Type::Addr, Type::V128];
    let many: Vec<Type> = types.iter().copied().cycle().take(40).collect();
    for (params, results) in [(&[][..], &[][..]), (&types, &types), (&many, &many)] {
        let artifact = compiler().entry_shim(&Signature::new(params, results)).unwrap();
        assert_eq!(artifact.sites.len(), 1);
        assert!(artifact.relocs.is_empty());
    }
}

#[test]
fn only_constants_need_to_be_aligned() {
    let align = |opcode, ty: Type| {
        let mut module = Module::new();
        let id = module.declare_method("m", &[ty], &[ty]);
        let arena = Bump::new();
        let mut b = Builder::new(&arena, &module, id, Folding::Off);
        let entry = b.block();
        b.switch_to(entry);
        let x = b.get(b.param(0));
        let constant = b.constant(ty, 0x4031_3233_3435_3637 >> (64 - ty.bits()));
        let y = b.op(opcode, &[x, constant]);
        let z = b.call(id, &[y]);
        b.ret(&[z]);
        compiler().compile(&module, &b.finish().unwrap()).unwrap().align
    };
    assert_eq!(align(Opcode::Xor, Type::I32), 1);
    // A wide constant is an operand in memory, and so is a float, which Cranelift aligns like a vector.
    assert_eq!(align(Opcode::Xor, Type::I64), 8);
    assert_eq!([Type::F32, Type::F64].map(|ty| align(Opcode::FMul, ty)), [16, 16]);
}

#[test]
fn a_site_tells_what_objects_hold_that_were_optimized_away() {
    let source = "
class @Node size 32
method @f ($p: ref, $n: i64) -> (ref) {
b0:
  %p = entry.ref $p
  %n = entry.i64 $n
  %three = const.i32 3
  %a = virtual 4 @Node [%b, %p]
  %b = virtual 7 array i32 [%three, %a, %n, dead]
  %state = frame @f:7 after [%p, %b] [%a] monitors [%a]
  %r = new @Node frame %state
  %is_p = eq %p, %r
  %chosen = select.ref %is_p, %r, %p
  return %chosen
}
";
    let arena = Bump::new();
    let parsed = text::parse(source, &arena).unwrap();
    let artifact = compiler().compile(&parsed.module, &parsed.bodies[0].method).unwrap();
    let site = artifact.sites[0];
    let state = artifact.frames[site.frame.unwrap() as usize];
    let p = Location::Reference(artifact.references[site.references.unwrap().first as usize]);
    let (b, a) = (Location::Virtual(0), Location::Virtual(1));
    assert_eq!(artifact.locations[state.first as usize..][..4], [p, b, a, a]);
    let held = |object: usize| {
        let VirtualObject { id, kind, first, count } = artifact.virtuals[object];
        (id, kind, &artifact.locations[first as usize..][..count as usize])
    };
    let class = parsed.module.classes.keys().next().unwrap();
    let three = Location::Constant(Type::I32, 3);
    let elements = [three, a, Location::Unknown, Location::Dead];
    assert_eq!(held(0), (7, ObjectKind::Array(Type::I32), &elements[..]));
    assert_eq!(held(1), (4, ObjectKind::Object(class), &[b, p][..]));
    assert_eq!(artifact.virtuals.len(), 2);
}

#[test]
fn a_site_tells_its_references_and_what_it_knows_of_its_frames() {
    let source = "
class @C size 16
method @outer ($p: ref, $q: ref, $n: i64) -> (ref) {
b0:
  %p = entry.ref $p
  %q = entry.ref $q
  %n = entry.i64 $n
  %three = const.i64 3
  %gone = dead
  %outer = frame @outer:7 after [%p, %q, %n] [%three]
  %inner = frame @inner:2 reexecute [%gone, %p] [] parent %outer
  %r = new @C frame %inner
  %s = new @C
  %is_p = eq %p, %r
  %chosen = select.ref %is_p, %r, %s
  return %chosen
}
method @inner () -> () {
b0:
  return
}
";
    let arena = Bump::new();
    let parsed = text::parse(source, &arena).unwrap();
    let artifact = compiler().compile(&parsed.module, &parsed.bodies[0].method).unwrap();
    let [first, second, ..] = artifact.sites[..] else { panic!("{:?}", artifact.sites) };
    let map = |site: Site| {
        let map = site.references.unwrap();
        &artifact.references[map.first as usize..(map.first + map.count) as usize]
    };
    // The parameter is used behind both allocations, the first object behind the second one.
    assert_eq!((map(first).len(), map(second).len(), second.frame), (1, 2, None));
    assert!(map(second).contains(&map(first)[0]));
    let inner = artifact.frames[first.frame.unwrap() as usize];
    let outer = artifact.frames[inner.parent.unwrap() as usize];
    let names = |state: FrameState| (state.position, state.mode, state.locals, state.stack, state.monitors);
    assert_eq!(names(inner), (SourcePos(2), FrameMode::Reexecute, 2, 0, 0));
    assert_eq!(names(outer), (SourcePos(7), FrameMode::After, 3, 1, 0));
    assert_eq!((inner.method, outer.method), (parsed.bodies[1].method.id(), parsed.bodies[0].method.id()));
    let values = |state: FrameState, count| &artifact.locations[state.first as usize..][..count];
    let p = Location::Reference(map(first)[0]);
    assert_eq!(values(inner, 2), [Location::Dead, p]);
    assert_eq!(
        values(outer, 4),
        [p, Location::Unknown, Location::Unknown, Location::Constant(Type::I64, 3)],
        "nothing keeps what only a frame state names"
    );
}
