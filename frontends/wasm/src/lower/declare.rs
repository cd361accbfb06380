//! The declarations that a module's methods refer to: signatures, methods, symbols, native functions.
//!
//! # Alias classes
//!
//! What a module defines itself is a region of its own. Two imports may be the same thing, so that all imported
//! memories share one region, and so do all imported tables and all imported mutable globals. What an instance knows
//! from its start (function records, identities of tags, where imported globals are, addresses of memories and tables,
//! values of immutable globals) is read-only.

use std::sync::Arc;

use dagwood_il as il;
use il::entity::Entity;
use il::{
    CallEffects, Folding, KindSet, MethodDecl, MethodId, NativeDecl, NativeId, SignatureId, SymbolId,
    SymbolKind, Type,
};
use indexmap::IndexSet;

use crate::layout::Layout;
use crate::module::{Module, PAGE_BYTES};
use crate::types::FuncType;

/// How to lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether functions and loops poll, so that a thread can be asked to stop.
    pub polls: bool,
    /// Whether the builder simplifies.
    pub folding: Folding,
}

impl Default for Options {
    fn default() -> Self {
        Options { polls: false, folding: Folding::On }
    }
}

/// What lowered code asks of its store. Each is a native function of the same number in every module; the first
/// parameter is the number of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NativeFunction {
    /// Memory, pages; gives the former number of pages, or -1.
    MemoryGrow,
    /// Memory, data segment, destination, source, bytes.
    MemoryInit,
    /// Destination memory, source memory, destination, source, bytes; for two memories.
    MemoryCopy,
    /// Data segment.
    DataDrop,
    /// Table, value, elements; gives the former number of elements, or -1.
    TableGrow,
    /// Table, destination, value, elements.
    TableFill,
    /// Destination table, source table, destination, source, elements.
    TableCopy,
    /// Table, element segment, destination, source, elements.
    TableInit,
    /// Element segment.
    ElemDrop,
    /// Identity of the tag, number of values; gives the exception's address.
    ExceptionNew,
    /// An exception that was caught and to which there may be no reference.
    ExceptionFree,
}

/// A row of [`NATIVES`].
#[derive(Clone, Copy, Debug)]
pub struct Native {
    /// Which function.
    pub function: NativeFunction,
    /// Its name in the IL.
    pub name: &'static str,
    /// Its parameters; the first is the number of the instance.
    pub params: &'static [Type],
    /// Its results.
    pub results: &'static [Type],
    /// What it may raise.
    pub raises: KindSet,
}

/// More bytes than code takes for each node that comes of it, but for what is dead.
const BYTES_PER_NODE: usize = 8;

const I: Type = Type::I64;
const R: Type = Type::Addr;

/// All native functions, by number.
#[rustfmt::skip]
pub const NATIVES: &[Native] = &[
    native(NativeFunction::MemoryGrow, "memory_grow", &[I, I, I], &[I], KindSet::NONE),
    native(NativeFunction::MemoryInit, "memory_init", &[I, I, I, I, I, I], &[], KindSet::BOUNDS),
    native(NativeFunction::MemoryCopy, "memory_copy", &[I, I, I, I, I, I], &[], KindSet::BOUNDS),
    native(NativeFunction::DataDrop, "data_drop", &[I, I], &[], KindSet::NONE),
    native(NativeFunction::TableGrow, "table_grow", &[I, I, R, I], &[I], KindSet::NONE),
    native(NativeFunction::TableFill, "table_fill", &[I, I, I, R, I], &[], KindSet::BOUNDS),
    native(NativeFunction::TableCopy, "table_copy", &[I, I, I, I, I, I], &[], KindSet::BOUNDS),
    native(NativeFunction::TableInit, "table_init", &[I, I, I, I, I, I], &[], KindSet::BOUNDS),
    native(NativeFunction::ElemDrop, "elem_drop", &[I, I], &[], KindSet::NONE),
    native(NativeFunction::ExceptionNew, "exception_new", &[I, I, I], &[R], KindSet::OUT_OF_MEMORY),
    native(NativeFunction::ExceptionFree, "exception_free", &[I, R], &[], KindSet::NONE),
];

const fn native(
    function: NativeFunction,
    name: &'static str,
    params: &'static [Type],
    results: &'static [Type],
    raises: KindSet,
) -> Native {
    Native { function, name, params, results, raises }
}

const _: () = {
    let mut i = 0;
    while i < NATIVES.len() {
        assert!(NATIVES[i].function as usize == i, "rows stand in the order of their functions");
        i += 1;
    }
};

/// All that can call each other: the declarations of every module of an engine, and the numbers of types.
///
/// Methods of all modules are numbered here, so that one number names a method wherever it is met. The first native
/// functions are [`NATIVES`]; after them stands one for each type, by its number, that calls host functions of that type:
/// it takes the host function's number, then the arguments.
#[derive(Clone, Debug)]
pub struct Program {
    declarations: Arc<il::Module>,
    types: IndexSet<FuncType>,
    modules: usize,
}

impl Default for Program {
    fn default() -> Program {
        let mut declarations = il::Module::new();
        for native in NATIVES {
            let effects = CallEffects { raises: native.raises, yields: false, ..CallEffects::UNKNOWN };
            let signature = declarations.signature(native.params, native.results);
            declarations.natives.push(NativeDecl { name: native.name.into(), signature, effects });
        }
        Program { declarations: Arc::new(declarations), types: IndexSet::new(), modules: 0 }
    }
}

impl Program {
    /// A program without modules.
    pub fn new() -> Program {
        Program::default()
    }

    /// The declarations of all modules so far.
    pub fn declarations(&self) -> &Arc<il::Module> {
        &self.declarations
    }

    /// The number of a type: equal types have equal numbers, whichever module they are from.
    pub fn type_number(&mut self, ty: &FuncType) -> usize {
        if let Some(number) = self.types.get_index_of(ty) {
            return number;
        }
        let (number, _) = self.types.insert_full(ty.clone());
        let (mut params, results) = lowered(ty);
        params.insert(0, Type::I64);
        Arc::make_mut(&mut self.declarations).declare_native(&format!("host{number}"), &params, &results);
        number
    }

    /// The type with a number.
    pub fn type_of(&self, number: usize) -> Option<&FuncType> {
        self.types.get_index(number)
    }
}

/// The symbols of a memory or a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ViewSymbols {
    pub(super) contents: SymbolId,
    pub(super) address: SymbolId,
    pub(super) length: SymbolId,
}

/// The symbols of everything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbols {
    /// The words of the context that never change, but for the records.
    pub(super) instance: SymbolId,
    /// Function records.
    pub(super) records: SymbolId,
    /// Exceptions.
    pub(super) exceptions: SymbolId,
}

/// A module's declarations in the IL, and what is needed to lower its functions. Functions may be lowered in any
/// order and in parallel.
#[derive(Debug)]
pub struct Lowering {
    module: Arc<Module>,
    options: Options,
    declarations: Arc<il::Module>,
    layout: Layout,
    /// The method of the first function that is not imported; the others follow.
    first_method: usize,
    /// The types of imported functions, for each of which there is a method that calls the host; they follow the others.
    host_types: Vec<u32>,
    /// By type: the signature, and the type's number.
    signatures: Vec<(SignatureId, usize)>,
    memories: Vec<ViewSymbols>,
    tables: Vec<ViewSymbols>,
    globals: Vec<SymbolId>,
    symbols: Symbols,
}

/// What a method of a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// A function, by its index among all functions.
    Function(u32),
    /// The way to host functions of a type of the module.
    Host(u32),
}

impl Lowering {
    /// Adds a module to a program.
    pub fn new(module: Arc<Module>, options: Options, program: &mut Program) -> Lowering {
        let prefix = match program.modules {
            0 => String::new(),
            number => format!("m{number}_"),
        };
        program.modules += 1;
        let numbers: Vec<usize> = module.types.iter().map(|ty| program.type_number(ty)).collect();
        let declarations = Arc::make_mut(&mut program.declarations);
        let mut signatures = Vec::with_capacity(module.types.len());
        for (ty, number) in module.types.iter().zip(numbers) {
            let (params, results) = lowered(ty);
            signatures.push((declarations.signature(&params, &results), number));
        }
        let first_method = declarations.methods.len();
        let mut declare = |name: String, ty: u32| {
            let (signature, _) = signatures[ty as usize];
            declarations.methods.push(MethodDecl { name, signature, effects: CallEffects::UNKNOWN });
        };
        for (function, ty) in module.functions.iter().enumerate().skip(module.imported_functions) {
            declare(format!("{prefix}{}", method_name(&module, function as u32)), *ty);
        }
        let mut host_types = module.functions[..module.imported_functions].to_vec();
        host_types.sort_unstable();
        host_types.dedup();
        for ty in &host_types {
            declare(format!("{prefix}host_type{ty}"), *ty);
        }
        let mut region = |name: &str, is_readonly: bool| {
            let symbol = declarations.declare_symbol(&format!("{prefix}{name}"), SymbolKind::Region);
            declarations.symbols[symbol].is_readonly = is_readonly;
            symbol
        };
        let symbols = Symbols {
            instance: region("instance", true),
            records: region("functions", true),
            exceptions: region("exceptions", false),
        };
        let memories = views(&mut region, "mem", module.memories.len(), module.imported_memories);
        let tables = views(&mut region, "table", module.tables.len(), module.imported_tables);
        let globals = globals(&mut region, &module);
        for (view, limits) in memories.iter().zip(&module.memories) {
            declarations.symbols[view.length].range = Some(limits.range(PAGE_BYTES));
        }
        for (view, table) in tables.iter().zip(&module.tables) {
            declarations.symbols[view.length].range = Some(table.limits.range(1));
        }
        Lowering {
            layout: Layout::of(&module),
            declarations: Arc::clone(&program.declarations),
            module,
            options,
            first_method,
            host_types,
            signatures,
            memories,
            tables,
            globals,
            symbols,
        }
    }

    /// The module.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// The program's declarations, this module's included.
    pub fn declarations(&self) -> &Arc<il::Module> {
        &self.declarations
    }

    /// How functions are lowered.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Where things are in the context.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All methods of the module, in ascending order.
    pub fn methods(&self) -> impl ExactSizeIterator<Item = MethodId> + use<> {
        let count = self.module.bodies.len() + self.host_types.len();
        (self.first_method..self.first_method + count).map(MethodId::new)
    }

    /// The method of a function that is not imported, by its index among all functions.
    pub fn method(&self, function: u32) -> MethodId {
        MethodId::new(self.first_method + function as usize - self.module.imported_functions)
    }

    /// The method that leads to host functions of a type, which must be that of an imported function.
    pub(crate) fn host_method(&self, ty: u32) -> Option<MethodId> {
        let index = self.host_types.binary_search(&ty).ok()?;
        Some(MethodId::new(self.first_method + self.module.bodies.len() + index))
    }

    /// What a method of the program is in this module; nothing if it is another module's.
    pub fn kind(&self, method: MethodId) -> Option<MethodKind> {
        let index = method.index().checked_sub(self.first_method)?;
        match index.checked_sub(self.module.bodies.len()) {
            None => Some(MethodKind::Function((index + self.module.imported_functions) as u32)),
            Some(index) => self.host_types.get(index).map(|ty| MethodKind::Host(*ty)),
        }
    }

    /// How many nodes a method's body has at least, guessed from its bytes.
    pub fn least_size(&self, method: MethodId) -> Option<u64> {
        let body = self.module.bodies.get(method.index().checked_sub(self.first_method)?)?;
        Some((body.len() / BYTES_PER_NODE) as u64)
    }

    /// The number of a native function.
    pub(super) fn native(&self, function: NativeFunction) -> NativeId {
        NativeId::new(function as usize)
    }

    /// The native function that calls host functions of a type.
    pub(super) fn host_native(&self, ty: u32) -> NativeId {
        NativeId::new(NATIVES.len() + self.signature(ty).1)
    }

    /// The signature of a type, and its number in the program.
    pub(crate) fn signature(&self, ty: u32) -> (SignatureId, usize) {
        self.signatures[ty as usize]
    }

    pub(super) fn memory(&self, memory: u32) -> ViewSymbols {
        self.memories[memory as usize]
    }

    pub(super) fn table(&self, table: u32) -> ViewSymbols {
        self.tables[table as usize]
    }

    pub(super) fn global(&self, global: u32) -> SymbolId {
        self.globals[global as usize]
    }

    pub(super) fn symbols(&self) -> Symbols {
        self.symbols
    }
}

/// The parameters and results of a type, in the IL.
pub(crate) fn lowered(ty: &FuncType) -> (Vec<Type>, Vec<Type>) {
    let list = |types: &[crate::ValType]| types.iter().map(|ty| ty.lowered()).collect();
    (list(&ty.params), list(&ty.results))
}

/// The name of a function's method: its index, which is unique, and its name as far as it can be part of one.
fn method_name(module: &Module, function: u32) -> String {
    const MAX_CHARS: usize = 80;
    let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    match module.function_names.get(&function) {
        Some(name) => {
            format!("f{function}_{}", name.chars().take(MAX_CHARS).map(keep).collect::<String>())
        }
        None => format!("f{function}"),
    }
}

/// Declares memories or tables.
fn views(
    region: &mut impl FnMut(&str, bool) -> SymbolId,
    name: &str,
    count: usize,
    imported: usize,
) -> Vec<ViewSymbols> {
    let shared = (imported > 0).then(|| region(&format!("imported_{name}"), false));
    let view = |index| ViewSymbols {
        contents: match shared {
            Some(shared) if index < imported => shared,
            _ => region(&format!("{name}{index}"), false),
        },
        address: region(&format!("{name}{index}_base"), true),
        length: region(&format!("{name}{index}_length"), false),
    };
    (0..count).map(view).collect()
}

/// Declares globals.
fn globals(region: &mut impl FnMut(&str, bool) -> SymbolId, module: &Module) -> Vec<SymbolId> {
    let has_shared = module.globals[..module.imported_globals].iter().any(|global| global.is_mutable);
    let shared = has_shared.then(|| region("imported_global", false));
    let global = |index: usize| match shared {
        Some(shared) if index < module.imported_globals && module.globals[index].is_mutable => shared,
        _ => region(&format!("global{index}"), !module.globals[index].is_mutable),
    };
    (0..module.globals.len()).map(global).collect()
}
