//! The engine: how modules are run, and what all modules that may call each other share.
//!
//! ```text
//!   Engine ── Program: declarations and types of all modules
//!      │
//!      └── compile ──► Compiled: one module's lowering, and its native code unless the engine interprets
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use bumpalo::Bump;
use dagwood_il as il;
use dagwood_runtime::code::CodeTable;
use dagwood_runtime::compiler::{Bodies, BodyError, CompileFailure, Verify};
use dagwood_runtime::jit::{self, Jit, JitError};
use il::MethodId;
use il::entity::Entity;
use il::world::{Answer, ClosedWorld, ContentKey, Question, World};

use crate::error::{Error, ErrorKind};
use crate::lower::{Lowering, MethodKind, Options, Program};
use crate::module::Module;
use crate::trap::Frame;
use crate::types::FuncType;

/// How functions are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As native code.
    #[default]
    Native,
    /// By the reference interpreter of the IL.
    Interpret,
}

/// How an engine works.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How functions are run.
    pub mode: Mode,
    /// How functions are lowered.
    pub lowering: Options,
    /// How native code is made.
    pub jit: jit::Options,
}

impl Default for EngineOptions {
    /// Native code, as the runtime makes it by default, but that methods are not verified first: the lowering makes no
    /// other than well-formed ones, and debug builds hold it to that.
    fn default() -> EngineOptions {
        let jit = jit::Options { verify: Verify::Off, ..jit::Options::default() };
        EngineOptions { mode: Mode::default(), lowering: Options::default(), jit }
    }
}

/// What modules that may call each other share. Clones are the same engine.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: EngineOptions,
    /// Where native code is; none where nothing is compiled.
    code: Option<Arc<CodeTable>>,
    program: RefCell<Program>,
    /// By ascending number of their methods.
    modules: RefCell<Vec<Rc<Compiled>>>,
}

/// A module that is ready to be instantiated.
#[derive(Debug)]
pub struct Compiled {
    lowering: Lowering,
    jit: Option<Jit>,
}

impl Compiled {
    /// The module.
    pub fn module(&self) -> &Arc<Module> {
        self.lowering.module()
    }

    /// Its lowering.
    pub fn lowering(&self) -> &Lowering {
        &self.lowering
    }

    /// Its native code; none where the engine interprets.
    pub fn jit(&self) -> Option<&Jit> {
        self.jit.as_ref()
    }

    /// The address by which a method of the module is called. Its native code stays there from then on, so that it cannot be
    /// evicted: tables, references and other modules may keep the address.
    pub(crate) fn code_address(&self, method: MethodId) -> u64 {
        match &self.jit {
            Some(jit) => jit.method_address(method).map_or(0, |address| address as u64),
            None => interpreted_address(method),
        }
    }
}

/// The address by which an interpreted method is called.
pub(crate) fn interpreted_address(method: MethodId) -> u64 {
    method.index() as u64 * CODE_STEP + CODE_STEP
}

impl Engine {
    /// An engine without modules.
    ///
    /// # Errors
    ///
    /// `Limit` if there is no room for code.
    pub fn new(options: EngineOptions) -> Result<Engine, Error> {
        let code = match options.mode {
            Mode::Interpret => None,
            Mode::Native => {
                let code = CodeTable::observed(&options.jit.space, &options.jit.observe);
                Some(Arc::new(code.map_err(|error| Error::new(ErrorKind::Limit, error.to_string()))?))
            }
        };
        let (program, modules) = (RefCell::new(Program::new()), RefCell::new(Vec::new()));
        Ok(Engine { inner: Rc::new(Inner { options, code, program, modules }) })
    }

    /// How it works.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// Compiles a module, on as many threads as the options say.
    ///
    /// # Errors
    ///
    /// `Limit` or `Bug`, with what is known of the place.
    pub fn compile(&self, module: impl Into<Arc<Module>>) -> Result<Rc<Compiled>, Error> {
        let options = &self.inner.options;
        let lowering = Lowering::new(module.into(), options.lowering, &mut self.inner.program.borrow_mut());
        let jit = match &self.inner.code {
            None => None,
            Some(code) => Some(native_code(code, &lowering, options.jit.clone())?),
        };
        let compiled = Rc::new(Compiled { lowering, jit });
        self.inner.modules.borrow_mut().push(Rc::clone(&compiled));
        Ok(compiled)
    }

    /// The declarations of all modules so far.
    pub(crate) fn declarations(&self) -> Arc<il::Module> {
        Arc::clone(self.inner.program.borrow().declarations())
    }

    /// The type with a number.
    pub(crate) fn type_of(&self, number: usize) -> Option<FuncType> {
        self.inner.program.borrow().type_of(number).cloned()
    }

    /// The module that a method belongs to.
    pub(crate) fn owner(&self, method: MethodId) -> Option<Rc<Compiled>> {
        let modules = self.inner.modules.borrow();
        let after = modules
            .partition_point(|module| module.lowering.methods().next().is_none_or(|first| first <= method));
        let found = modules[..after].iter().rev().find(|module| module.lowering.kind(method).is_some());
        found.cloned()
    }

    /// The interpreted method that is called by an address.
    pub(crate) fn method_at(&self, address: u64) -> Option<MethodId> {
        let index = (address / CODE_STEP).checked_sub(1)?;
        address.is_multiple_of(CODE_STEP).then(|| MethodId::new(index as usize))
    }

    /// A line of a backtrace; nothing for what is not a function of the program.
    pub(crate) fn frame(&self, method: MethodId, position: il::SourcePos) -> Option<Frame> {
        let owner = self.owner(method)?;
        let MethodKind::Function(index) = owner.lowering.kind(method)? else { return None };
        let offset = (position != il::SourcePos::NONE).then_some(position.0);
        Some(Frame { function: owner.module().function_name(index), index, offset })
    }
}

/// Makes the native code of a module.
fn native_code(code: &Arc<CodeTable>, lowering: &Lowering, options: jit::Options) -> Result<Jit, Error> {
    let declarations = il::Module::clone(lowering.declarations());
    let jit = Jit::sharing(Arc::clone(code), declarations, options).map_err(refused)?;
    let methods: Vec<MethodId> = lowering.methods().collect();
    let build = Build { lowering, content: OnceLock::new() };
    jit.compile(&methods, &build).map_err(refused)?;
    Ok(jit)
}

/// The bodies of a module, for the compiler.
struct Build<'l> {
    lowering: &'l Lowering,
    /// What tells the module from others, once somebody asks.
    content: OnceLock<ContentKey>,
}

impl Bodies for Build<'_> {
    fn build<'a>(&self, method: MethodId, arena: &'a Bump) -> Result<il::Method<'a>, BodyError> {
        Ok(self.lowering.lower(method, arena)?)
    }

    fn world(&self) -> &dyn World {
        self
    }

    fn least_size(&self, method: MethodId) -> Option<u64> {
        self.lowering.least_size(method)
    }
}

/// Functions of a module stay as they are, so that those that are here may be looked at for ever. There are no classes.
impl World for Build<'_> {
    fn has_happened(&self, question: Question) -> Answer<bool> {
        ClosedWorld::new(self.lowering.declarations(), []).has_happened(question)
    }

    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
        let is_here = self.lowering.kind(method).is_some();
        let content = || self.content.get_or_init(|| ContentKey::of(&self.lowering.module().bytes));
        Answer::settled(is_here.then(|| content().of_method(method)))
    }
}

/// Why there is no native code: what lowering said, else what the compiler said.
fn refused(error: JitError) -> Error {
    match error {
        JitError::Method { name, failure: CompileFailure::Body(body), .. } => {
            match body.downcast::<Error>() {
                Ok(error) => *error,
                Err(other) => Error::new(ErrorKind::Bug, format!("{name}: {other}")),
            }
        }
        JitError::Space(error) => Error::new(ErrorKind::Limit, error.to_string()),
        other => Error::new(ErrorKind::Bug, other.to_string()),
    }
}

/// The distance between the addresses of interpreted methods.
const CODE_STEP: u64 = 16;
