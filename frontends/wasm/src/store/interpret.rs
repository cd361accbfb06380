//! Running functions in the interpreter of the IL, on the memory that native code would use.
//!
//! Every run lowers the functions that it calls, once each, into an arena of its own. Methods of all modules of the
//! engine are one program, so that calls between instances need nothing special; only a module that was compiled while
//! the program ran is another program, which a nested run executes.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::sync::Arc;

use bumpalo::Bump;
use dagwood_il as il;
use dagwood_runtime::context::Context;
use il::entity::Entity;
use il::eval::Value;
use il::interp::{Fault, Host, Interpreter, Limits, Program, Raised, Stop, TraceEntry, Values};
use il::{Method, MethodId, NativeId, RaiseKind, Signature, SymbolId};

use super::Store;
use super::run::{Failure, Nested};
use crate::engine::{Engine, interpreted_address};
use crate::lower::NATIVES;
use crate::trap::Frame;

/// The most lines of a backtrace.
const MAX_TRACE: usize = 64;

/// The store, as the interpreter asks it.
struct World<'s> {
    store: &'s Store,
    engine: Engine,
    declarations: Arc<il::Module>,
}

impl Store {
    /// Interprets a method.
    pub(super) fn interpret(
        &self,
        method: MethodId,
        context: &Context,
        words: &[u64],
    ) -> Result<Vec<u64>, Failure> {
        let params = self.engine().declarations().method_signature(method).params.clone();
        let args: Vec<Value> =
            params.iter().zip(words).map(|(ty, word)| Value::new(*ty, u128::from(*word))).collect();
        let results = self.interpret_at(method, context.address() as u64, &args)?;
        Ok(results.iter().map(|value| value.low()).collect())
    }

    fn interpret_at(&self, method: MethodId, context: u64, args: &[Value]) -> Result<Values, Failure> {
        let engine = self.engine();
        let declarations = engine.declarations();
        let arena = Bump::new();
        let bodies: Vec<OnceCell<Option<Method<'_>>>> =
            declarations.methods.keys().map(|_| OnceCell::new()).collect();
        let body = |method: MethodId| {
            let lower = || engine.owner(method)?.lowering().lower(method, &arena).ok();
            bodies.get(method.index())?.get_or_init(lower).as_ref()
        };
        let program = Program { module: &declarations, bodies: &body };
        let mut world =
            World { store: self, engine: engine.clone(), declarations: Arc::clone(&declarations) };
        Interpreter::new(program)
            .run(&mut world, method, context, args, Limits::default())
            .map_err(|stop| failure(&engine, stop))
    }
}

/// What the interpreter's reason to stop says.
fn failure(engine: &Engine, stop: Stop) -> Failure {
    let fault = Raised::new(RaiseKind::Fault, 0);
    match stop {
        Stop::Raised { raised, trace } => {
            let message = (raised.kind == RaiseKind::Fault).then(|| format!("fault at {:#x}", raised.object));
            let (backtrace, omitted) = lines(engine, &trace);
            Failure { raised, message, backtrace, omitted }
        }
        other => Failure::new(fault, Some(other.to_string())),
    }
}

/// A backtrace, and how many lines it leaves out.
fn lines(engine: &Engine, trace: &[TraceEntry]) -> (Vec<Frame>, u64) {
    let frames = trace.iter().take(MAX_TRACE).filter_map(|entry| engine.frame(entry.method, entry.position));
    (frames.collect(), trace.len().saturating_sub(MAX_TRACE) as u64)
}

impl Host for World<'_> {
    fn load(&mut self, address: u64, size_bytes: u32) -> Result<u128, Fault> {
        self.store.state().view.load(address, size_bytes)
    }

    fn store(&mut self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault> {
        self.store.state().view.store(address, size_bytes, bits)
    }

    fn copy(&mut self, destination: u64, source: u64, count: u64) -> Result<(), Fault> {
        match count {
            0 => Ok(()),
            _ => self.store.state().view.copy(destination, source, count),
        }
    }

    fn fill(&mut self, destination: u64, byte: u8, count: u64) -> Result<(), Fault> {
        match count {
            0 => Ok(()),
            _ => self.store.state().view.fill(destination, byte, count),
        }
    }

    fn compare(&mut self, left: u64, right: u64, count: u64) -> Result<Ordering, Fault> {
        self.store.state().view.compare(left, right, count)
    }

    fn symbol_address(&mut self, _: SymbolId) -> Option<u64> {
        None
    }

    /// Lowering takes the address of no local.
    fn enter_slots(&mut self, size_bytes: u64) -> Option<u64> {
        (size_bytes == 0).then_some(0)
    }

    fn leave_slots(&mut self, _: u64, _: u64) {}

    fn method_address(&mut self, method: MethodId) -> u64 {
        interpreted_address(method)
    }

    fn method_at(&mut self, address: u64) -> Option<MethodId> {
        let method = self.engine.method_at(address)?;
        self.declarations.methods.get(method).map(|_| method)
    }

    fn call_address(
        &mut self,
        address: u64,
        context: u64,
        _: &Signature,
        args: &[Value],
    ) -> Result<Values, Raised> {
        let method = self.engine.method_at(address).ok_or(Fault { address })?;
        let _nested = Nested::enter(self.store)?;
        self.store.interpret_at(method, context, args).map_err(|failure| failure.raised)
    }

    fn native(&mut self, native: NativeId, _: u64, args: &[Value]) -> Result<Values, Raised> {
        let words: Vec<u64> = args.iter().map(|value| value.low()).collect();
        let results = match NATIVES.get(native.index()) {
            Some(row) => self.store.state().native(row.function, &words)?.into_iter().collect(),
            None => self.store.call_host(words[0], &words[1..])?,
        };
        let types = &self.declarations.native_signature(native).results;
        Ok(types.iter().zip(results).map(|(ty, word)| Value::new(*ty, u128::from(word))).collect())
    }

    fn poll(&mut self, _: u64) -> Result<(), Raised> {
        let interrupt = self.store.state().thread.poll();
        interrupt.map_or(Ok(()), |interrupt| Err(Raised::new(RaiseKind::Interrupt, interrupt.reason())))
    }
}
