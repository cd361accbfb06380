//! Traces name the methods that frame states name.

use bumpalo::Bump;
use dagwood_il::{MethodId, SourcePos, text};
use dagwood_runtime::compiler::bodies;
use dagwood_runtime::jit::{CallCx, CallError, Jit, Options};
use dagwood_runtime::{Context, Natives, Thread, ThreadOptions};

const SOURCE: &str = "
method @outer ($n: i32) -> (i32) {
b0:
  %n = entry.i32 $n
  %outer = frame @outer:7 after [%n] []
  %inner = frame @inlined:2 reexecute [%n] [] parent %outer
  %r = call @callee(%n) frame %inner !9
  return %r
}
method @inlined ($n: i32) -> (i32) {
b0:
  %n = entry.i32 $n
  return %n
}
method @callee ($n: i32) -> (i32) {
b0:
  %n = entry.i32 $n
  %alone = frame @callee:4 reexecute [%n] []
  check %n, bounds reason 1 frame %alone !5
  return %n
}
";

#[test]
fn a_frame_with_inlined_methods_is_as_many_in_a_trace() {
    let module = text::parse(SOURCE, &Bump::new()).expect("it is well-formed").module;
    let [outer, inlined, callee] = module.methods.keys().collect::<Vec<MethodId>>()[..] else {
        panic!("there are three methods");
    };
    let jit = Jit::new(module, Options::default()).expect("the machine is supported");
    let bodies = bodies(|id, arena| {
        let parsed = text::parse(SOURCE, arena)?;
        let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
        Ok(body.ok_or("it has a body")?.method)
    });
    jit.compile(&[outer, inlined, callee], &bodies).expect("it is well-formed");
    let thread = Thread::new(&ThreadOptions::default()).expect("there is memory");
    let (context, natives) = (Context::new(64).expect("there is memory"), Natives::new(jit.module()));
    let cx = CallCx { thread: &thread, context: &context, host: &natives };
    let result = jit.call(cx, outer, &[dagwood_il::eval::Value::i32(0)]);
    let Err(CallError::Raised(raise)) = result else { panic!("{result:?}") };
    let frames: Vec<(MethodId, SourcePos)> =
        raise.trace.frames().iter().map(|frame| (frame.method, frame.position)).collect();
    assert_eq!(frames, [(callee, SourcePos(5)), (inlined, SourcePos(2)), (outer, SourcePos(7))]);
}
