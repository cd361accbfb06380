//! Running functions as native code.

use dagwood_il as il;
use dagwood_runtime::context::Context;
use dagwood_runtime::host::{Host, NativeCall};
use dagwood_runtime::jit::{CallCx, CallError};
use dagwood_runtime::layout::Slot;
use dagwood_runtime::raise::Raise;
use il::entity::Entity;
use il::eval::Value;
use il::interp::Raised;
use il::{ClassId, NativeId, RaiseKind, Type};

use super::Store;
use super::run::Failure;
use crate::engine::{Compiled, Engine};
use crate::lower::NATIVES;
use crate::types::{FuncType, ValType};

/// The store, as native code asks it.
struct World<'s> {
    store: &'s Store,
    engine: Engine,
}

impl Store {
    /// Runs a function of a module as native code.
    pub(super) fn run_native(
        &self,
        compiled: &Compiled,
        function: u32,
        context: &Context,
        words: &[u64],
    ) -> Result<Vec<u64>, Failure> {
        let engine = self.engine();
        let jit = compiled.jit().expect("an engine that runs native code has compiled every module");
        let types = compiled.module().function_type(function).params.iter().map(|ty| ty.lowered());
        let args: Vec<Value> = types.zip(words).map(|(ty, word)| Value::new(ty, u128::from(*word))).collect();
        let thread = std::rc::Rc::clone(&self.state().thread);
        let world = World { store: self, engine: engine.clone() };
        let cx = CallCx { thread: &thread, context, host: &world };
        match jit.call(cx, compiled.lowering().method(function), &args) {
            Ok(results) => Ok(results.iter().map(|value| value.low()).collect()),
            Err(CallError::Raised(raise)) => Err(failure(&engine, raise)),
            Err(error) => Err(Failure::new(Raised::new(RaiseKind::Fault, 0), Some(error.to_string()))),
        }
    }
}

/// What a raise that nobody caught says.
fn failure(engine: &Engine, raise: Raise) -> Failure {
    let frames = raise.trace.frames().iter();
    Failure {
        raised: Raised { kind: raise.kind, reason: raise.reason, object: raise.object },
        message: raise.cause.map(|cause| cause.to_string()),
        backtrace: frames.filter_map(|frame| engine.frame(frame.method, frame.position)).collect(),
        omitted: raise.trace.omitted(),
    }
}

fn raise(Raised { kind, reason, object }: Raised) -> Raise {
    Raise { object, ..Raise::new(kind, reason) }
}

/// A parameter of a host function as a word.
fn word(ty: ValType, slot: &Slot) -> u64 {
    match ty.lowered() {
        ty @ (Type::I32 | Type::F32) => slot.low() & ty.mask(),
        _ => slot.low(),
    }
}

impl World<'_> {
    /// The type of the host functions that a native function calls.
    fn host_type(&self, native: NativeId) -> Option<FuncType> {
        self.engine.type_of(native.index().checked_sub(NATIVES.len())?)
    }

    fn host_function(&self, native: NativeId, slots: &mut [Slot]) -> Result<(), Raise> {
        let ty = self.host_type(native);
        let ty = ty.ok_or_else(|| Raise::fault(format!("{native} is no native function")))?;
        let args: Vec<u64> = ty.params.iter().zip(&slots[1..]).map(|(ty, slot)| word(*ty, slot)).collect();
        let results = self.store.call_host(slots[0].low(), &args).map_err(raise)?;
        for (slot, result) in slots.iter_mut().zip(results) {
            *slot = result.into();
        }
        Ok(())
    }
}

impl Host for World<'_> {
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
        let Some(row) = NATIVES.get(call.native.index()) else {
            return self.host_function(call.native, call.slots);
        };
        let mut words = [0; 8];
        for (word, slot) in words.iter_mut().zip(&*call.slots) {
            *word = slot.low();
        }
        let result = self.store.state().native(row.function, &words[..row.params.len()]).map_err(raise)?;
        if let Some(result) = result {
            call.slots[0] = result.into();
        }
        Ok(())
    }

    /// Exceptions have tags, which handlers look at themselves.
    fn is_instance(&self, _: u64, _: ClassId) -> bool {
        false
    }
}
