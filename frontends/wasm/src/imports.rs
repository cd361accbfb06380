//! What instances import: functions of the host, and what other instances export.

use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::module::Module;
use crate::store::{Extern, Func, Global, InstanceId, Memory, State, Store};
use crate::trap::HostStop;
use crate::types::{ExternType, FuncType, GlobalType, Limits, TableType};
use crate::value::Val;

/// Who calls a host function.
pub struct Caller<'s> {
    pub(crate) store: &'s Store,
    pub(crate) instance: Option<InstanceId>,
}

impl Caller<'_> {
    /// The store.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The first memory of the instance that imports the function; none if it has none, or if the embedder calls.
    pub fn memory(&self) -> Option<Memory> {
        let state = self.store.state();
        state.instances[self.instance?.index()].memories.first().copied()
    }

    /// Lends the bytes of that memory; no bytes where there is none.
    ///
    /// # Panics
    ///
    /// If `use_bytes` uses the store.
    pub fn with_memory<R>(&self, use_bytes: impl FnOnce(&mut [u8]) -> R) -> R {
        match self.memory() {
            Some(memory) => self.store.with_memory(memory, use_bytes),
            None => use_bytes(&mut []),
        }
    }
}

/// The closure of a host function.
type Closure = dyn Fn(&Caller<'_>, &[Val]) -> Result<Vec<Val>, HostStop>;

/// A function of the host. It gets arguments of its type, and must return results of its type.
pub struct HostFunction {
    closure: Box<Closure>,
}

impl<F> From<F> for HostFunction
where
    F: Fn(&Caller<'_>, &[Val]) -> Result<Vec<Val>, HostStop> + 'static,
{
    fn from(closure: F) -> HostFunction {
        HostFunction { closure: Box::new(closure) }
    }
}

impl HostFunction {
    pub(crate) fn call(&self, caller: &Caller<'_>, args: &[Val]) -> Result<Vec<Val>, HostStop> {
        (self.closure)(caller, args)
    }
}

impl fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostFunction")
    }
}

/// What can be imported, by the names of module and item.
#[derive(Clone)]
pub struct Linker {
    store: Store,
    items: HashMap<String, HashMap<String, Extern>>,
}

impl Linker {
    /// A linker with nothing in it, for instances in a store.
    pub fn new(store: &Store) -> Linker {
        Linker { store: store.clone(), items: HashMap::new() }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Gives something a name. What had the name before loses it.
    pub fn define(&mut self, module: &str, name: &str, item: Extern) {
        self.items.entry(module.into()).or_default().insert(name.into(), item);
    }

    /// Gives a function of the host a name.
    pub fn define_function(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        function: impl Into<HostFunction>,
    ) -> Func {
        let func = self.store.new_function(ty, function);
        self.define(module, name, Extern::Func(func));
        func
    }

    /// Gives a new global a name.
    ///
    /// # Errors
    ///
    /// As [`Store::new_global`].
    pub fn define_global(
        &mut self,
        module: &str,
        name: &str,
        ty: GlobalType,
        value: Val,
    ) -> Result<Global, Error> {
        let global = self.store.new_global(ty, value)?;
        self.define(module, name, Extern::Global(global));
        Ok(global)
    }

    /// What has a name.
    pub fn get(&self, module: &str, name: &str) -> Option<Extern> {
        self.items.get(module)?.get(name).copied()
    }

    /// What a module imports, in order.
    ///
    /// # Errors
    ///
    /// `Link`, with a line for each import that is missing or of another type.
    pub(crate) fn resolve(&self, module: &Module) -> Result<Vec<Extern>, Error> {
        let state = self.store.state();
        let mut found = Vec::with_capacity(module.imports.len());
        let mut wrong = Vec::new();
        for import in &module.imports {
            let name = format!("`{}` of `{}`", import.name, import.module);
            match self.get(&import.module, &import.name) {
                None => wrong.push(format!("unknown import: {name}, {}", import.ty)),
                Some(item) if !state.fits(item, &import.ty) => {
                    let ty = state.extern_type(item);
                    wrong.push(format!("incompatible import type: {name} is {ty}, not {}", import.ty));
                }
                Some(item) => found.push(item),
            }
        }
        match wrong.len() {
            0 => Ok(found),
            _ => Err(Error::new(ErrorKind::Link, wrong.join("\n"))),
        }
    }
}

impl State {
    /// What something in the store is now.
    pub(crate) fn extern_type(&self, item: Extern) -> ExternType {
        match item {
            Extern::Func(func) => ExternType::Func(self.functions[func.index()].ty().clone()),
            Extern::Table(table) => ExternType::Table(self.table_type(table)),
            Extern::Memory(memory) => ExternType::Memory(self.memory_limits(memory)),
            Extern::Global(global) => ExternType::Global(self.globals[global.index()].ty),
            Extern::Tag(tag) => ExternType::Tag(self.tags[tag.index()].clone()),
        }
    }

    /// Whether something in the store may stand where `expected` is imported.
    fn fits(&self, item: Extern, expected: &ExternType) -> bool {
        let fits = |found: &Limits, expected: &Limits| found.fit(expected);
        match (&self.extern_type(item), expected) {
            (ExternType::Table(found), ExternType::Table(expected)) => {
                let TableType { element, limits } = found;
                *element == expected.element && fits(limits, &expected.limits)
            }
            (ExternType::Memory(found), ExternType::Memory(expected)) => fits(found, expected),
            (found, expected) => found == expected,
        }
    }
}
