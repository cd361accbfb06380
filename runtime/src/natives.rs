//! Native functions as closures: the host for programs that need no more.

use std::fmt;

use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::{ClassId, Module, NativeId, Signature, Type};

use crate::host::{Host, NativeCall};
use crate::layout::Slot;
use crate::raise::Raise;

/// A native function.
type Function<'h> = Box<dyn Fn(&[Value]) -> Result<Vec<Value>, Raise> + Send + Sync + 'h>;

/// The native functions of a program, by their declarations.
#[derive(Default)]
pub struct Natives<'h> {
    rows: Vec<(Signature, Option<Function<'h>>)>,
}

impl<'h> Natives<'h> {
    /// No function is registered. A call of one that is not registered is a fault.
    pub fn new(module: &Module) -> Natives<'h> {
        let rows = module.natives.keys().map(|native| (module.native_signature(native).clone(), None));
        Natives { rows: rows.collect() }
    }

    /// Registers a function. It gets arguments of its signature's types and must return values of its results' types.
    ///
    /// # Panics
    ///
    /// If the module that this was made for does not declare `native`.
    pub fn register(
        &mut self,
        native: NativeId,
        function: impl Fn(&[Value]) -> Result<Vec<Value>, Raise> + Send + Sync + 'h,
    ) {
        self.rows[native.index()].1 = Some(Box::new(function));
    }

    fn row(&self, native: NativeId) -> Option<&(Signature, Option<Function<'h>>)> {
        self.rows.get(native.index())
    }

    /// Calls a function with values.
    ///
    /// # Errors
    ///
    /// What it raises; a fault if it is not registered or returns values of other types than it declares.
    pub fn call(&self, native: NativeId, args: &[Value]) -> Result<Vec<Value>, Raise> {
        let Some((signature, Some(function))) = self.row(native) else {
            return Err(Raise::fault(format!("{native} is not registered")));
        };
        let results = function(args)?;
        if !results.iter().map(|value| value.ty()).eq(signature.results.iter().copied()) {
            return Err(Raise::fault(format!(
                "{native} returned {results:?} where {:?} is declared",
                signature.results
            )));
        }
        Ok(results)
    }
}

impl Host for Natives<'_> {
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
        let params =
            self.row(call.native).map(|(signature, _)| signature.params.as_slice()).unwrap_or_default();
        let value = |(slot, ty): (&Slot, &Type)| Value::new(*ty, slot.all());
        let args: Vec<Value> = call.slots.iter().zip(params).map(value).collect();
        let results = self.call(call.native, &args)?;
        for (slot, value) in call.slots.iter_mut().zip(results) {
            *slot = value.bits().into();
        }
        Ok(())
    }

    /// There are no objects with classes here.
    fn is_instance(&self, _: u64, _: ClassId) -> bool {
        false
    }
}

impl fmt::Debug for Natives<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Natives").field("functions", &self.rows.len()).finish()
    }
}
