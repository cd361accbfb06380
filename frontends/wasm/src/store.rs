//! The store: everything that instances are made of, and that they may share.
//!
//! ```text
//!   Store ── instances ── contexts ──► addresses of memories, tables, records, imported globals
//!        ├── memories, tables           (reserved in full, so that they never move)
//!        ├── globals, tags, functions
//!        ├── exceptions                 (one heap, with free lists)
//!        └── thread                     (stack limit, polls, fuel)
//! ```
//!
//! All of it lives as long as the store, so that an address that compiled code holds stays good. A [`Store`] is a handle;
//! clones are the same store. While a program runs, the store is not borrowed: host functions may use it.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use dagwood_runtime::context::Context;
use dagwood_runtime::memory::LinearMemory;
use dagwood_runtime::thread::{Interrupter, Thread};
use dagwood_runtime::view::MemoryView;

use crate::engine::{Compiled, Engine};
use crate::error::{Error, ErrorKind};
use crate::imports::HostFunction;
use crate::layout::{RECORD_FUNCTION, VIEW_LENGTH};
use crate::module::PAGE_BYTES;
use crate::trap::HostStop;
use crate::types::{FuncType, GlobalType, Limits, TableType, ValType};
use crate::value::Val;

mod exceptions;
mod interpret;
mod memories;
mod native;
mod natives;
mod run;
mod tables;

pub(crate) use natives::host_word;
pub use run::{MAX_NESTED_RUNS, RunError};

/// How much a store may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The bytes that all memories and tables may have together.
    pub max_memory_bytes: u64,
    /// The bytes that exceptions may take. One whose reference a handler took is never given back, so a program that
    /// catches by reference for ever ends with `out_of_memory`.
    pub max_exception_bytes: usize,
    /// The bytes of machine stack for compiled code.
    pub max_stack_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { max_memory_bytes: 4 << 30, max_exception_bytes: 64 << 20, max_stack_bytes: 4 << 20 }
    }
}

/// Declares handles: numbers of things in a store.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// Its number in the store.
            pub fn number(self) -> u32 {
                self.0
            }

            pub(crate) fn new(index: usize) -> $name {
                $name(index as u32)
            }

            pub(crate) fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

handles! {
    /// A function in a store.
    Func;
    /// A table in a store.
    Table;
    /// A memory in a store.
    Memory;
    /// A global in a store.
    Global;
    /// A tag in a store.
    Tag;
    /// An exception that was handed to the embedder.
    Exception;
    /// The number of an instance in a store.
    InstanceId;
}

/// What is imported and exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extern {
    /// A function.
    Func(Func),
    /// A table.
    Table(Table),
    /// A memory.
    Memory(Memory),
    /// A global.
    Global(Global),
    /// A tag.
    Tag(Tag),
}

/// A word that compiled code reads and writes: a global, or what a context says of a memory.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) context: Rc<Context>,
    pub(crate) offset: usize,
}

impl Cell {
    pub(crate) fn get(&self) -> u64 {
        self.context.get(self.offset)
    }

    pub(crate) fn set(&self, word: u64) {
        self.context.set(self.offset, word);
    }

    pub(crate) fn address(&self) -> u64 {
        (self.context.address() + self.offset) as u64
    }
}

#[derive(Debug)]
pub(crate) struct InstanceData {
    pub(crate) compiled: Rc<Compiled>,
    pub(crate) context: Rc<Context>,
    pub(crate) functions: Vec<Func>,
    pub(crate) tables: Vec<Table>,
    pub(crate) memories: Vec<Memory>,
    pub(crate) globals: Vec<Global>,
    pub(crate) tags: Vec<Tag>,
    /// By element segment: its references; none once it is dropped.
    pub(crate) elements: Vec<Rc<[u64]>>,
    /// By data segment: whether it is dropped.
    pub(crate) dropped_data: Vec<bool>,
}

#[derive(Debug)]
pub(crate) struct MemoryData {
    pub(crate) bytes: LinearMemory,
    pub(crate) limits: Limits,
    /// What contexts say of it.
    pub(crate) views: Vec<Cell>,
}

#[derive(Debug)]
pub(crate) struct TableData {
    pub(crate) cells: LinearMemory,
    pub(crate) ty: TableType,
    /// What contexts say of it.
    pub(crate) views: Vec<Cell>,
}

#[derive(Clone, Debug)]
pub(crate) struct GlobalData {
    pub(crate) cell: Cell,
    pub(crate) ty: GlobalType,
}

/// A function.
#[derive(Clone)]
pub(crate) enum FuncData {
    /// Of an instance, by its index there.
    Wasm { instance: InstanceId, index: u32, ty: FuncType },
    /// Of the host. `record` is the address of a record, once an instance has imported it.
    Host { function: Rc<HostFunction>, ty: FuncType, record: Option<u64> },
}

impl FuncData {
    pub(crate) fn ty(&self) -> &FuncType {
        match self {
            FuncData::Wasm { ty, .. } | FuncData::Host { ty, .. } => ty,
        }
    }
}

/// What a [`Store`] owns.
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) options: StoreOptions,
    pub(crate) thread: Rc<Thread>,
    pub(crate) instances: Vec<InstanceData>,
    pub(crate) functions: Vec<FuncData>,
    pub(crate) tables: Vec<TableData>,
    pub(crate) memories: Vec<MemoryData>,
    pub(crate) globals: Vec<GlobalData>,
    pub(crate) tags: Vec<FuncType>,
    pub(crate) exceptions: exceptions::Heap,
    /// Instances by the address of their context, to find the record that an address is of.
    pub(crate) contexts: BTreeMap<usize, InstanceId>,
    /// Contexts of host functions, one for each import.
    pub(crate) host_contexts: Vec<Rc<Context>>,
    /// What interpreted methods may touch.
    pub(crate) view: MemoryView,
    /// What a host function that failed left to say.
    pub(crate) stopped: Option<HostStop>,
    /// How many runs are nested in each other.
    pub(crate) depth: usize,
}

/// A store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) state: Rc<RefCell<State>>,
}

impl Store {
    /// An empty store for modules of an engine.
    ///
    /// # Errors
    ///
    /// `Limit` if the system has no memory for it.
    pub fn new(engine: &Engine, options: StoreOptions) -> Result<Store, Error> {
        let thread_options = dagwood_runtime::thread::Options {
            max_stack: options.max_stack_bytes,
            ..dagwood_runtime::thread::Options::default()
        };
        let thread = Thread::new(&thread_options).map_err(no_memory)?;
        let exceptions = exceptions::Heap::new(options.max_exception_bytes)?;
        let mut view = MemoryView::new();
        view.open(exceptions.range());
        let state = State {
            engine: engine.clone(),
            options,
            thread: Rc::new(thread),
            instances: Vec::new(),
            functions: Vec::new(),
            tables: Vec::new(),
            memories: Vec::new(),
            globals: Vec::new(),
            tags: Vec::new(),
            exceptions,
            contexts: BTreeMap::new(),
            host_contexts: Vec::new(),
            view,
            stopped: None,
            depth: 0,
        };
        Ok(Store { state: Rc::new(RefCell::new(state)) })
    }

    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        self.state().engine.clone()
    }

    /// Does what may take long for a program that called the host, which meanwhile keeps no code from being
    /// reclaimed but what it returns to.
    pub(crate) fn parked<R>(&self, act: impl FnOnce() -> R) -> R {
        let thread = { Rc::clone(&self.state().thread) };
        thread.park(act)
    }

    /// A handle with which any thread can ask the program to stop; it does where it was compiled with polls.
    pub fn interrupter(&self) -> Interrupter {
        self.state().thread.interrupter()
    }

    /// Forgets that the program was asked to stop, or ran out of fuel.
    pub fn clear_interrupt(&self) {
        self.state().thread.clear_interrupt();
    }

    /// Lets the program make this many polls (one for each call and each turn of a loop), or any number.
    pub fn set_fuel(&self, polls: Option<u64>) {
        self.state().thread.set_fuel(polls);
    }

    /// How many polls are left, if they are counted.
    pub fn fuel(&self) -> Option<u64> {
        self.state().thread.fuel()
    }

    // ---- globals ----

    /// Makes a global.
    ///
    /// # Errors
    ///
    /// `Limit` if there is no memory for it, `Usage` if the value is not of its type.
    pub fn new_global(&self, ty: GlobalType, value: Val) -> Result<Global, Error> {
        if value.ty() != ty.value {
            return Err(wrong_type(ty.value, value.ty()));
        }
        let bits = self.bits(value)?;
        let context = Rc::new(Context::new(crate::layout::FIRST as usize + 8).map_err(no_memory)?);
        let cell = Cell { context, offset: crate::layout::FIRST as usize };
        cell.set(bits);
        let mut state = self.state();
        let start = cell.context.address();
        state.view.open(start..start + cell.context.size_bytes());
        state.globals.push(GlobalData { cell, ty });
        Ok(Global::new(state.globals.len() - 1))
    }

    /// The value of a global.
    pub fn global(&self, global: Global) -> Val {
        let (bits, ty) = {
            let state = self.state();
            let data = &state.globals[global.index()];
            (data.cell.get(), data.ty.value)
        };
        self.value(ty, bits)
    }

    /// Changes the value of a global.
    ///
    /// # Errors
    ///
    /// `Usage` if it is immutable or of another type.
    pub fn set_global(&self, global: Global, value: Val) -> Result<(), Error> {
        let data = self.state().globals[global.index()].clone();
        if !data.ty.is_mutable {
            return Err(Error::new(ErrorKind::Usage, "the global is immutable"));
        }
        if value.ty() != data.ty.value {
            return Err(wrong_type(data.ty.value, value.ty()));
        }
        data.cell.set(self.bits(value)?);
        Ok(())
    }

    // ---- functions and tags ----

    /// Makes a tag.
    pub fn new_tag(&self, payload: FuncType) -> Tag {
        let mut state = self.state();
        state.tags.push(payload);
        Tag::new(state.tags.len() - 1)
    }

    /// Makes a function of the host.
    pub fn new_function(&self, ty: FuncType, function: impl Into<HostFunction>) -> Func {
        let mut state = self.state();
        let function = Rc::new(function.into());
        state.functions.push(FuncData::Host { function, ty, record: None });
        Func::new(state.functions.len() - 1)
    }

    /// The type of a function.
    pub fn function_type(&self, func: Func) -> FuncType {
        self.state().functions[func.index()].ty().clone()
    }

    // ---- values and bits ----

    /// A value as compiled code has it.
    pub(crate) fn bits(&self, value: Val) -> Result<u64, Error> {
        Ok(match value {
            Val::I32(value) => u64::from(value as u32),
            Val::I64(value) => value as u64,
            Val::F32(bits) => u64::from(bits),
            Val::F64(bits) => bits,
            Val::FuncRef(None) | Val::ExternRef(None) | Val::ExnRef(None) => 0,
            Val::FuncRef(Some(func)) => self.state().record(func)?,
            Val::ExternRef(Some(number)) => u64::from(number) + 1,
            Val::ExnRef(Some(exception)) => {
                let address = self.state().exceptions.address(exception);
                address.ok_or_else(|| Error::new(ErrorKind::Usage, "the exception is of another store"))?
            }
        })
    }

    /// A value of compiled code's.
    pub(crate) fn value(&self, ty: ValType, bits: u64) -> Val {
        match ty {
            ValType::I32 => Val::I32(bits as u32 as i32),
            ValType::I64 => Val::I64(bits as i64),
            ValType::F32 => Val::F32(bits as u32),
            ValType::F64 => Val::F64(bits),
            ValType::FuncRef => Val::FuncRef(self.state().function_at(bits)),
            ValType::ExternRef => Val::ExternRef((bits != 0).then(|| (bits - 1) as u32)),
            ValType::ExnRef => Val::ExnRef((bits != 0).then(|| self.state().exceptions.hand_out(bits))),
        }
    }
}

impl State {
    /// The address of a record of a function.
    fn record(&self, func: Func) -> Result<u64, Error> {
        let data = self.functions.get(func.index());
        match data.ok_or_else(|| Error::new(ErrorKind::Usage, "the function is of another store"))? {
            FuncData::Wasm { instance, index, .. } => {
                let instance = &self.instances[instance.index()];
                let offset = instance.compiled.lowering().layout().function(*index);
                Ok(instance.context.address() as u64 + u64::from(offset))
            }
            FuncData::Host { record, .. } => record.ok_or_else(|| {
                Error::new(ErrorKind::Usage, "a host function that no instance imports has no reference")
            }),
        }
    }

    /// The function whose record is at an address.
    fn function_at(&self, address: u64) -> Option<Func> {
        let address = usize::try_from(address).ok()?;
        let (start, instance) = self.contexts.range(..=address).next_back()?;
        let context = &self.instances[instance.index()].context;
        let offset = address - start;
        (offset < context.size_bytes()).then(|| Func(context.get(offset + RECORD_FUNCTION as usize) as u32))
    }

    /// The bytes that all memories and tables have together.
    fn memory_bytes(&self) -> u64 {
        let memories = self.memories.iter().map(|memory| memory.bytes.len() as u64);
        memories.chain(self.tables.iter().map(|table| table.cells.len() as u64)).sum()
    }
}

/// Tells contexts where a memory or table is, and how long.
fn publish(views: &[Cell], address: usize, length: u64) {
    for view in views {
        view.set(address as u64);
        view.context.set(view.offset + VIEW_LENGTH as usize, length);
    }
}

/// The most bytes that a memory may ever have.
fn largest_memory(limits: &Limits, options: &StoreOptions) -> u64 {
    let index_bytes = if limits.is_64 { u64::MAX } else { 1 << 32 };
    let declared = limits.max.map_or(u64::MAX, |pages| pages.saturating_mul(PAGE_BYTES));
    declared.min(index_bytes).min(options.max_memory_bytes)
}

pub(crate) fn no_memory(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Limit, format!("no memory: {error}"))
}

fn wrong_type(expected: ValType, found: ValType) -> Error {
    Error::new(ErrorKind::Usage, format!("a value of type {found} was given where {expected} is needed"))
}
