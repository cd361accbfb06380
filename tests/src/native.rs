//! Text IL as native code, for tests.

use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il::eval::Value;
use dagwood_il::{MethodId, SymbolKind, text};
use dagwood_runtime::codespace::Options as Space;
use dagwood_runtime::compiler::{Verify, bodies};
use dagwood_runtime::context::Context;
use dagwood_runtime::fault::install_fault_handler;
use dagwood_runtime::heap::{self, Collect, Heap};
use dagwood_runtime::jit::{CallCx, CallError, Jit, Options};
use dagwood_runtime::objects::Objects;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::thread::{self, Thread};

use crate::calls::{Outcome, test_natives};

/// Bytes of the VM context that tests run with.
const CONTEXT_BYTES: usize = 256;

/// The methods of a source, compiled.
pub(crate) struct Compiled {
    jit: Jit,
    heap: Heap,
}

impl Compiled {
    /// Compiles the methods of a source into a space.
    ///
    /// # Errors
    ///
    /// What keeps the first of them that fails from being compiled.
    pub(crate) fn new(source: &str, space: &Space) -> Result<Compiled, String> {
        let this = Compiled::without_code(source, space)?;
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).map_err(|error| error.to_string())?;
        let methods: Vec<MethodId> = parsed.bodies.iter().map(|body| body.method.id()).collect();
        this.compile(source, &methods)?;
        Ok(this)
    }

    /// What keeps the methods of a source from being compiled, each one alone.
    pub(crate) fn refusals(source: &str) -> Result<Vec<String>, String> {
        let arena = Bump::new();
        let parsed = text::parse(source, &arena).map_err(|error| error.to_string())?;
        let mut refusals = Vec::new();
        for body in &parsed.bodies {
            refusals.extend(
                Compiled::without_code(source, &Space::default())?.compile(source, &[body.method.id()]).err(),
            );
        }
        Ok(refusals)
    }

    fn without_code(source: &str, space: &Space) -> Result<Compiled, String> {
        install_fault_handler().map_err(|error| error.to_string())?;
        let arena = Bump::new();
        let module = text::parse(source, &arena).map_err(|error| error.to_string())?.module;
        let options = Options {
            verify: Verify::On,
            verify_code: dagwood_codegen::Verify::On,
            threads: std::num::NonZeroUsize::MIN,
            space: space.clone(),
            ..Options::default()
        };
        let mut jit = Jit::new(module.clone(), options).map_err(|error| error.to_string())?;
        let heap = Heap::new(Arc::clone(jit.classes()), &heap::Options::default());
        let heap = heap.map_err(|error| error.to_string())?;
        for (id, symbol) in module.symbols.iter() {
            if let SymbolKind::Static(_) = symbol.kind {
                jit.bind_symbol(id, heap.static_address(id));
            }
        }
        Ok(Compiled { jit, heap })
    }

    fn compile(&self, source: &str, methods: &[MethodId]) -> Result<(), String> {
        // Methods are read anew for each compilation, in the arena of the thread that compiles.
        let bodies = bodies(|id, arena| {
            let parsed = text::parse(source, arena)?;
            let body = parsed.bodies.into_iter().find(|body| body.method.id() == id);
            body.map(|body| body.method).ok_or_else(|| format!("{id} has no body").into())
        });
        self.jit.compile(methods, &bodies).map_err(|error| error.to_string())
    }

    /// The heap, and the native functions that tests may declare.
    pub(crate) fn objects(&self) -> Objects<'_> {
        let mut objects = Objects::new(self.jit.module(), &self.heap);
        for (id, native) in test_natives(self.jit.module()) {
            objects.register(id, move |_, args| match native.call(args) {
                Ok(results) => Ok(results.to_vec()),
                Err(raised) => Err(Raise { object: raised.object, ..Raise::new(raised.kind, raised.reason) }),
            });
        }
        objects
    }

    /// Makes the heap as good as new, with its statics zero.
    pub(crate) fn prepare(&self, collect: Collect) {
        self.heap.clear_statics();
        self.heap.set_collect(collect);
    }

    /// Calls a method, with its statics zero and with a context and a thread of its own.
    ///
    /// # Errors
    ///
    /// What keeps it from being called.
    pub(crate) fn call(&self, method: MethodId, args: &[Value], collect: Collect) -> Result<Outcome, String> {
        self.prepare(collect);
        let objects = self.objects();
        let thread = Thread::new(&thread::Options::default()).map_err(|error| error.to_string())?;
        // With fuel every poll calls the runtime, which must change nothing.
        thread.set_fuel(Some(u64::MAX));
        let context = Context::new(CONTEXT_BYTES).map_err(|error| error.to_string())?;
        let cx = CallCx { thread: &thread, context: &context, host: &objects };
        match self.jit.call(cx, method, args) {
            Ok(values) => Ok(Outcome::Values(values)),
            Err(CallError::Raised(raise)) => Ok(Outcome::Raised(raise.kind, raise.reason)),
            Err(error) => Err(error.to_string()),
        }
    }
}
