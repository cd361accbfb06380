//! Instances: a module with memories, tables, globals and functions of its own.
//!
//! ```text
//!   imports ─► context: views, tags, globals, records ─► element segments ─► data segments ─► start
//! ```
//!
//! What a segment or the start function changed before it trapped stays changed; other instances may see it.

use std::rc::Rc;

use dagwood_il::RaiseKind;
use dagwood_runtime::context::Context;

use crate::engine::Compiled;
use crate::error::{Error, ErrorKind};
use crate::imports::Linker;
use crate::layout::{INSTANCE, Layout, RECORD_CODE, RECORD_CONTEXT, RECORD_FUNCTION, RECORD_TYPE};
use crate::module::{ElementItems, ExportKind, Module, SegmentMode};
use crate::store::{
    Cell, Extern, Func, FuncData, Global, GlobalData, InstanceData, InstanceId, RunError, State, Store,
    Table, Tag, host_word, no_memory,
};
use crate::trap::{Trap, reason};
use crate::value::Val;

/// An instance of a module in a store.
#[derive(Clone)]
pub struct Instance {
    store: Store,
    id: InstanceId,
    compiled: Rc<Compiled>,
}

impl Instance {
    /// Instantiates a module with what a linker has, in the linker's store.
    ///
    /// # Errors
    ///
    /// `Link` with all imports that are wrong, `Limit` if a memory or a table is too large; a trap if a segment does not
    /// fit, or in the start function.
    pub fn new(linker: &Linker, compiled: &Rc<Compiled>) -> Result<Instance, RunError> {
        let store = linker.store().clone();
        let imports = linker.resolve(compiled.module())?;
        let id = store.state().instantiate(compiled, &imports)?;
        let instance = Instance { store, id, compiled: Rc::clone(compiled) };
        instance.store.state().copy_segments(id)?;
        if let Some(start) = compiled.module().start {
            let start = instance.store.state().instances[id.index()].functions[start as usize];
            instance.store.call(start, &[])?;
        }
        Ok(instance)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The module.
    pub fn module(&self) -> &Module {
        self.compiled.module()
    }

    /// What is exported under a name.
    pub fn export(&self, name: &str) -> Option<Extern> {
        let export = self.module().exports().iter().find(|export| export.name == name)?;
        let state = self.store.state();
        let data = &state.instances[self.id.index()];
        let index = export.index as usize;
        Some(match export.kind {
            ExportKind::Func => Extern::Func(data.functions[index]),
            ExportKind::Table => Extern::Table(data.tables[index]),
            ExportKind::Memory => Extern::Memory(data.memories[index]),
            ExportKind::Global => Extern::Global(data.globals[index]),
            ExportKind::Tag => Extern::Tag(data.tags[index]),
        })
    }

    /// The function that is exported under a name.
    ///
    /// # Errors
    ///
    /// `Usage` if there is none.
    pub fn function(&self, name: &str) -> Result<Func, Error> {
        match self.export(name) {
            Some(Extern::Func(func)) => Ok(func),
            _ => Err(Error::new(ErrorKind::Usage, format!("no function is exported as `{name}`"))),
        }
    }

    /// Calls an exported function.
    ///
    /// # Errors
    ///
    /// A [`RunError`].
    pub fn call(&self, name: &str, args: &[Val]) -> Result<Vec<Val>, RunError> {
        self.store.call(self.function(name)?, args)
    }

    /// Defines everything that the instance exports in a linker, under the name of a module.
    pub fn define_exports(&self, linker: &mut Linker, module: &str) {
        for export in self.module().exports() {
            if let Some(item) = self.export(&export.name) {
                linker.define(module, &export.name, item);
            }
        }
    }
}

/// A trap that instantiation makes itself.
fn out_of_bounds(reason: u16) -> RunError {
    RunError::Trap(Box::new(Trap::new(RaiseKind::Bounds, reason)))
}

impl State {
    /// Makes an instance; its active segments are not copied yet.
    fn instantiate(&mut self, compiled: &Rc<Compiled>, imports: &[Extern]) -> Result<InstanceId, Error> {
        let lowering = compiled.lowering();
        let layout = lowering.layout();
        let id = InstanceId::new(self.instances.len());
        let context = Rc::new(Context::new(layout.size_bytes() as usize).map_err(no_memory)?);
        context.attach(&self.thread);
        context.set(INSTANCE as usize, u64::from(id.number()));
        let start = context.address();
        let mut data = InstanceData {
            compiled: Rc::clone(compiled),
            context,
            functions: Vec::new(),
            tables: Vec::new(),
            memories: Vec::new(),
            globals: Vec::new(),
            tags: Vec::new(),
            elements: Vec::new(),
            dropped_data: vec![false; lowering.module().data.len()],
        };
        for item in imports {
            match item {
                Extern::Func(func) => data.functions.push(*func),
                Extern::Table(table) => data.tables.push(*table),
                Extern::Memory(memory) => data.memories.push(*memory),
                Extern::Global(global) => data.globals.push(*global),
                Extern::Tag(tag) => data.tags.push(*tag),
            }
        }
        let hosts = self.host_contexts(id, &data)?;
        self.make_tables_and_memories(&mut data)?;
        // Nothing below fails, so that no record of an instance that is not there can be found.
        self.make_records(id, &mut data, hosts);
        self.make_globals(&mut data);
        data.elements = evaluate_elements(self, &data);
        self.view.open(start..start + data.context.size_bytes());
        self.contexts.insert(start, id);
        self.instances.push(data);
        Ok(id)
    }

    fn make_tables_and_memories(&mut self, data: &mut InstanceData) -> Result<(), Error> {
        let module = Rc::clone(&data.compiled).module().clone();
        let layout = *data.compiled.lowering().layout();
        for ty in &module.tables[module.imported_tables..] {
            data.tables.push(self.new_table(*ty)?);
        }
        for limits in &module.memories[module.imported_memories..] {
            data.memories.push(self.new_memory(*limits)?);
        }
        for (index, table) in data.tables.iter().enumerate() {
            let cell = cell_at(data, layout.table(index as u32));
            self.tables[table.index()].views.push(cell);
            self.publish_table(*table);
        }
        for (index, memory) in data.memories.iter().enumerate() {
            let cell = cell_at(data, layout.memory(index as u32));
            self.memories[memory.index()].views.push(cell);
            self.publish_memory(*memory);
        }
        for tag in &module.tags[module.imported_tags..] {
            self.tags.push(module.types[*tag as usize].clone());
            data.tags.push(Tag::new(self.tags.len() - 1));
        }
        for (index, tag) in data.tags.iter().enumerate() {
            // Zero is no tag's identity.
            data.context.set(layout.tag(index as u32) as usize, u64::from(tag.number()) + 1);
        }
        Ok(())
    }

    /// Fills the records of all functions.
    fn make_records(&mut self, id: InstanceId, data: &mut InstanceData, hosts: Vec<Rc<Context>>) {
        let mut hosts = hosts.into_iter();
        let compiled = Rc::clone(&data.compiled);
        let (lowering, module) = (compiled.lowering(), compiled.module());
        for (index, ty) in module.functions.iter().enumerate() {
            let index = index as u32;
            let (code, context) = match data.functions.get(index as usize) {
                Some(func) => self.imported_function(data, *func, index, &mut hosts),
                None => {
                    let ty = module.function_type(index).clone();
                    self.functions.push(FuncData::Wasm { instance: id, index, ty });
                    data.functions.push(Func::new(self.functions.len() - 1));
                    let code = compiled.code_address(lowering.method(index));
                    (code, data.context.address() as u64)
                }
            };
            let record = lowering.layout().function(index);
            let number = data.functions[index as usize].number();
            let words = [
                (RECORD_CODE, code),
                (RECORD_CONTEXT, context),
                (RECORD_TYPE, lowering.signature(*ty).1 as u64),
                (RECORD_FUNCTION, u64::from(number)),
            ];
            for (offset, word) in words {
                data.context.set((record + offset) as usize, word);
            }
        }
    }

    /// For each import of a host function, the context that tells it apart.
    fn host_contexts(&self, id: InstanceId, data: &InstanceData) -> Result<Vec<Rc<Context>>, Error> {
        let hosts = data
            .functions
            .iter()
            .filter(|func| matches!(self.functions[func.index()], FuncData::Host { .. }));
        let context = |func: &Func| {
            let context = Context::new(INSTANCE as usize + 8).map_err(no_memory)?;
            context.attach(&self.thread);
            context.set(INSTANCE as usize, host_word(func.number(), id));
            Ok(Rc::new(context))
        };
        hosts.map(context).collect()
    }

    /// Code and context of a function that is imported at `index`.
    fn imported_function(
        &mut self,
        data: &InstanceData,
        func: Func,
        index: u32,
        hosts: &mut impl Iterator<Item = Rc<Context>>,
    ) -> (u64, u64) {
        let lowering = data.compiled.lowering();
        match &mut self.functions[func.index()] {
            FuncData::Wasm { instance, index, .. } => {
                let exporter = &self.instances[instance.index()];
                let record = exporter.compiled.lowering().layout().function(*index);
                let word = |offset| exporter.context.get((record + offset) as usize);
                (word(RECORD_CODE), word(RECORD_CONTEXT))
            }
            FuncData::Host { record, .. } => {
                let own = data.context.address() as u64 + u64::from(lowering.layout().function(index));
                record.get_or_insert(own);
                let context = hosts.next().expect("every import of a host function has a context");
                let start = context.address();
                self.view.open(start..start + context.size_bytes());
                self.host_contexts.push(context);
                let method = lowering.host_method(lowering.module().functions[index as usize]);
                let method = method.expect("there is a way to the host for the type of every import");
                (data.compiled.code_address(method), start as u64)
            }
        }
    }

    fn make_globals(&mut self, data: &mut InstanceData) {
        let module = data.compiled.module().clone();
        let layout = *data.compiled.lowering().layout();
        for (index, global) in data.globals.iter().enumerate() {
            let address = self.globals[global.index()].cell.address();
            data.context.set(layout.global(index as u32) as usize, address);
        }
        for (index, value) in module.global_values.iter().enumerate() {
            let index = module.imported_globals + index;
            let bits = self.constant(data, &layout, value);
            let cell = cell_at(data, layout.global(index as u32));
            cell.set(bits);
            self.globals.push(GlobalData { cell, ty: module.globals[index] });
            data.globals.push(Global::new(self.globals.len() - 1));
        }
    }

    /// The value of a constant expression.
    fn constant(&self, data: &InstanceData, layout: &Layout, value: &crate::module::ConstExpr) -> u64 {
        let function = |index| data.context.address() as u64 + u64::from(layout.function(index));
        let global = |index: u32| self.globals[data.globals[index as usize].index()].cell.get();
        value.evaluate(function, global)
    }

    /// Copies the active segments.
    fn copy_segments(&mut self, id: InstanceId) -> Result<(), RunError> {
        let module = self.instances[id.index()].compiled.module().clone();
        for (segment, element) in module.elements.iter().enumerate() {
            if let SegmentMode::Active(table, offset) = &element.mode {
                let offset = self.segment_offset(id, offset, module.tables[*table as usize].limits.is_64);
                let table: Table = self.instances[id.index()].tables[*table as usize];
                let items = self.instances[id.index()].elements[segment].clone();
                let copied = self.tables[table.index()].init(offset, &items, 0, items.len() as u64);
                copied.ok_or_else(|| out_of_bounds(reason::TABLE))?;
            }
            if element.mode != SegmentMode::Passive {
                self.instances[id.index()].elements[segment] = [].into();
            }
        }
        for (segment, data) in module.data.iter().enumerate() {
            if let SegmentMode::Active(memory, offset) = &data.mode {
                let offset = self.segment_offset(id, offset, module.memories[*memory as usize].is_64);
                let places = [offset, 0, data.range.len() as u64];
                let instance = u64::from(id.number());
                let copied = self.init_memory(instance, u64::from(*memory), segment as u64, &places);
                copied.ok_or_else(|| out_of_bounds(reason::MEMORY))?;
                self.instances[id.index()].dropped_data[segment] = true;
            }
        }
        Ok(())
    }

    fn segment_offset(&self, id: InstanceId, offset: &crate::module::ConstExpr, is_64: bool) -> u64 {
        let data = &self.instances[id.index()];
        let bits = self.constant(data, data.compiled.lowering().layout(), offset);
        if is_64 { bits } else { u64::from(bits as u32) }
    }
}

/// A word of an instance's context.
fn cell_at(data: &InstanceData, offset: u32) -> Cell {
    Cell { context: Rc::clone(&data.context), offset: offset as usize }
}

/// The references of all element segments.
fn evaluate_elements(state: &State, data: &InstanceData) -> Vec<Rc<[u64]>> {
    let lowering = data.compiled.lowering();
    let layout = lowering.layout();
    let address = data.context.address() as u64;
    let items = |items: &ElementItems| match items {
        ElementItems::Functions(items) => {
            items.iter().map(|function| address + u64::from(layout.function(*function))).collect()
        }
        ElementItems::Expressions(items) => {
            items.iter().map(|item| state.constant(data, layout, item)).collect()
        }
    };
    lowering.module().elements.iter().map(|element| items(&element.items)).collect()
}
