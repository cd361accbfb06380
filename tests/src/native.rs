//! Text IL as native code, for tests.

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::{MethodId, text};
use dagwood_runtime::compiler::{Verify, bodies};
use dagwood_runtime::context::Context;
use dagwood_runtime::jit::{CallCx, CallError, Jit, Options};
use dagwood_runtime::natives::Natives;
use dagwood_runtime::thread::{self, Thread};

use crate::runner::Outcome;

/// Bytes of the VM context that tests run with.
const CONTEXT_BYTES: usize = 256;

/// Compiles the methods of a source.
///
/// # Errors
///
/// What keeps them from being compiled.
pub(crate) fn compile(source: &str) -> Result<Jit, String> {
    let arena = Bump::new();
    let parsed = text::parse(source, &arena).map_err(|error| error.to_string())?;
    let methods: Vec<MethodId> = parsed.bodies.iter().map(|body| body.method.id()).collect();
    let options = Options {
        verify: Verify::On,
        verify_code: dagwood_codegen::Verify::On,
        threads: std::num::NonZeroUsize::MIN,
        ..Options::default()
    };
    let jit = Jit::new(parsed.module, options).map_err(|error| error.to_string())?;
    // Methods are read anew for each compilation, in the arena of the thread that compiles.
    let bodies = bodies(|id, arena| {
        let parsed = text::parse(source, arena)?;
        let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
        body.map(|body| body.method).ok_or_else(|| format!("{id} has no body").into())
    });
    jit.compile(&methods, &bodies).map_err(|error| error.to_string())?;
    Ok(jit)
}

/// Compiles the methods of a source and calls one.
///
/// # Errors
///
/// What keeps them from being compiled or called.
pub(crate) fn call(source: &str, method: MethodId, args: &[Value]) -> Result<Outcome, String> {
    let jit = compile(source)?;
    let natives = Natives::new(jit.module());
    let thread = Thread::new(&thread::Options::default()).map_err(|error| error.to_string())?;
    let context = Context::new(CONTEXT_BYTES).map_err(|error| error.to_string())?;
    let cx = CallCx { thread: &thread, context: &context, host: &natives };
    match jit.call(cx, method, args) {
        Ok(values) => Ok(Outcome::Values(values)),
        Err(CallError::Raised(raise)) => Ok(Outcome::Raised(raise.kind, raise.reason)),
        Err(error) => Err(error.to_string()),
    }
}
