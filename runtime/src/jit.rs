//! The methods of a program and their machine code.
//!
//! ```text
//!   compile(batch): threads take methods ──► artifacts, by method ──► reserve all ──► install all
//!   call(method):   values ──► slots ──► entry shim of its signature ──► code ──► values
//! ```
//!
//! # Guarantees
//!
//! * The code of a batch is placed in the order of its methods, however many threads compiled it.
//! * A batch is installed as a whole or, on an error, not at all as far as calls can see.
//! * Arguments are checked against the signature; a call never runs code with others.
//!
//! # What the frontend vouches for
//!
//! A load or a store through an `addr` goes where the address says, and so does an indirect call. Whoever hands in IL that
//! computes addresses, or binds a symbol to one, answers for them, as whoever writes the machine code would;
//! [`crate::fault`] turns a wild one into an error where the system notices it. With [`Verify::Off`] a release
//! build also takes it that the IL is well-formed.

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dagwood_codegen::{Artifact, CompileError, RelocTarget, Target, TargetError};
use dagwood_codespace::CodeSpace;
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::eval::Value;
use dagwood_il::{MethodId, Module, Signature, SignatureId, SymbolId, Type};
use dagwood_opt::Strategy;

use crate::code::{CodeTable, InstallError};
use crate::compiler::{Bodies, CompileFailure, Compiler, Verify};
use crate::context::Context;
use crate::entry::Entry;
use crate::helpers;
use crate::host::Host;
use crate::layout::Slot;
use crate::raise::Raise;
use crate::thread::Thread;

/// How methods are compiled and where their code goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The passes that run.
    pub strategy: &'static Strategy,
    /// Whether methods are verified first.
    pub verify: Verify,
    /// Whether Cranelift's own verifier looks at what it is given.
    pub verify_code: dagwood_codegen::Verify,
    /// Which instructions may be used.
    pub features: dagwood_codegen::Features,
    /// How many threads compile a batch.
    pub threads: NonZeroUsize,
    /// The code space.
    pub space: dagwood_codespace::Options,
}

impl Default for Options {
    /// The strategy that runs no pass, the instructions of this machine, and as many threads as it has cores.
    fn default() -> Options {
        Options {
            strategy: dagwood_opt::NONE,
            verify: Verify::default(),
            verify_code: if cfg!(debug_assertions) {
                dagwood_codegen::Verify::On
            } else {
                dagwood_codegen::Verify::Off
            },
            features: dagwood_codegen::Features::Host,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            space: dagwood_codespace::Options::default(),
        }
    }
}

/// Why there is no code.
#[derive(Debug)]
pub enum JitError {
    /// No code can be made for this machine.
    Target(TargetError),
    /// There is no room for code.
    Space(dagwood_codespace::Error),
    /// A method was not compiled.
    Method {
        /// Its name.
        name: String,
        /// Which.
        method: MethodId,
        /// Why.
        failure: CompileFailure,
    },
    /// An entry shim was not compiled.
    Shim(CompileError),
    /// Code was not installed.
    Install {
        /// The method's name.
        name: String,
        /// Why.
        error: InstallError,
    },
}

impl fmt::Display for JitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JitError::Target(error) => error.fmt(f),
            JitError::Space(error) => error.fmt(f),
            JitError::Method { name, failure, .. } => write!(f, "method `{name}`: {failure}"),
            JitError::Shim(error) => write!(f, "entry shim: {error}"),
            JitError::Install { name, error } => write!(f, "method `{name}`: {error}"),
        }
    }
}

impl Error for JitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            JitError::Target(error) => Some(error),
            JitError::Space(error) => Some(error),
            JitError::Method { failure, .. } => Some(failure),
            JitError::Shim(error) => Some(error),
            JitError::Install { error, .. } => Some(error),
        }
    }
}

/// Why a call has no results.
#[derive(Debug)]
pub enum CallError {
    /// The method has no code.
    NotCompiled {
        /// Its name.
        name: String,
    },
    /// The arguments do not fit the method's signature.
    Arguments {
        /// What it takes.
        expected: Signature,
        /// What it was given.
        given: Vec<Type>,
    },
    /// Something was raised, and nothing in the code caught it.
    Raised(Raise),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NotCompiled { name } => write!(f, "method `{name}` has no code"),
            CallError::Arguments { expected, given } => {
                write!(
                    f,
                    "arguments of types {given:?} were given where {:?} are taken",
                    expected.params.as_slice()
                )
            }
            CallError::Raised(raise) => raise.fmt(f),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::Raised(raise) => Some(raise),
            _ => None,
        }
    }
}

/// With what code is called.
#[derive(Clone, Copy)]
pub struct CallCx<'a> {
    /// The thread that it runs on.
    pub thread: &'a Thread,
    /// The VM context.
    pub context: &'a Context,
    /// Whom the code asks for native functions.
    pub host: &'a dyn Host,
}

/// The methods of a program and their machine code.
pub struct Jit {
    module: Module,
    options: Options,
    target: Arc<Target>,
    code: Arc<CodeTable>,
    /// Where each method's code starts; zero while it has none.
    methods: Vec<AtomicUsize>,
    /// Where the storage of each bound symbol starts.
    symbols: EntityVec<SymbolId, Option<usize>>,
    /// Where the entry shim of each signature starts; zero while there is none.
    shims: Vec<AtomicUsize>,
    /// Held while a shim is made, so that each is made once.
    making_shim: Mutex<()>,
}

impl Jit {
    /// No method of `module` has code yet.
    ///
    /// # Errors
    ///
    /// If this machine is not supported or has no room for code.
    pub fn new(module: Module, options: Options) -> Result<Jit, JitError> {
        let space = CodeSpace::new(&options.space).map_err(JitError::Space)?;
        Jit::sharing(Arc::new(CodeTable::new(space)), module, options)
    }

    /// As [`Jit::new`], for code that is installed beside that of other programs, so that the programs may call each other
    /// by addresses. Methods of different programs should have different numbers, or traces confuse them.
    ///
    /// # Errors
    ///
    /// If this machine is not supported.
    pub fn sharing(code: Arc<CodeTable>, module: Module, options: Options) -> Result<Jit, JitError> {
        let target = Target::new(options.features, options.verify_code).map_err(JitError::Target)?;
        let zeroes = |len| (0..len).map(|_| AtomicUsize::new(0)).collect();
        Ok(Jit {
            methods: zeroes(module.methods.len()),
            shims: zeroes(module.signatures.len()),
            symbols: EntityVec::filled(None, module.symbols.len()),
            code,
            making_shim: Mutex::new(()),
            module,
            options,
            target: Arc::new(target),
        })
    }

    /// The declarations.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The installed code.
    pub fn code(&self) -> &Arc<CodeTable> {
        &self.code
    }

    /// The machine that code is made for.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Says where the storage of a symbol is, for `symbol_address` in code that is compiled from now on.
    ///
    /// # Panics
    ///
    /// If the module does not declare the symbol.
    pub fn bind_symbol(&mut self, symbol: SymbolId, address: usize) {
        self.symbols[symbol] = Some(address);
    }

    /// Where a symbol's storage is.
    pub fn symbol_address(&self, symbol: SymbolId) -> Option<usize> {
        self.symbols.get(symbol).copied().flatten()
    }

    /// Where a method's code starts; none while it has none.
    pub fn method_address(&self, method: MethodId) -> Option<usize> {
        let address = self.methods.get(method.index())?.load(Ordering::Acquire);
        (address != 0).then_some(address)
    }

    /// The method whose code starts at an address.
    pub fn method_at(&self, address: usize) -> Option<MethodId> {
        let body = self.code.lookup(address)?;
        body.method().filter(|_| body.code().address == address)
    }

    /// Compiles methods that have no code yet and installs them together; they may call each other, and whatever was
    /// compiled before.
    ///
    /// # Errors
    ///
    /// Of the methods that fail, the first one's error. None of the batch is installed then.
    pub fn compile(&self, methods: &[MethodId], bodies: &dyn Bodies) -> Result<(), JitError> {
        let artifacts = self.artifacts(methods, bodies)?;
        let mut pending = Vec::with_capacity(methods.len());
        for (method, artifact) in methods.iter().zip(&artifacts) {
            pending.push(self.code.reserve(artifact).map_err(|error| self.not_installed(*method, error))?);
        }
        let mut addresses: EntityVec<MethodId, usize> = EntityVec::filled(0, self.methods.len());
        for (method, pending) in methods.iter().zip(&pending) {
            addresses[*method] = pending.address();
        }
        for (method, pending) in methods.iter().zip(pending) {
            let resolve = |target| match target {
                RelocTarget::Method(callee) if addresses[callee] != 0 => Some(addresses[callee]),
                _ => self.resolve(target),
            };
            pending.install(Some(*method), resolve).map_err(|error| self.not_installed(*method, error))?;
        }
        for method in methods {
            self.methods[method.index()].store(addresses[*method], Ordering::Release);
        }
        Ok(())
    }

    /// The artifacts of methods, in their order, compiled by as many threads as the options say.
    fn artifacts(&self, methods: &[MethodId], bodies: &dyn Bodies) -> Result<Vec<Artifact>, JitError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut compiler = Compiler::new(self.target.clone(), self.options.strategy, self.options.verify);
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(method) = methods.get(index) else { return done };
                done.push((index, compiler.compile(&self.module, *method, bodies)));
            }
        };
        let threads = self.options.threads.get().min(methods.len().max(1));
        let mut done = if threads == 1 {
            work()
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
                    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                workers.into_iter().flat_map(join).collect()
            })
        };
        done.sort_unstable_by_key(|(index, _)| *index);
        let artifact = |(index, result): (usize, Result<Artifact, CompileFailure>)| {
            let method = methods[index];
            result.map_err(|failure| JitError::Method { name: self.name(method), method, failure })
        };
        done.into_iter().map(artifact).collect()
    }

    fn resolve(&self, target: RelocTarget) -> Option<usize> {
        match target {
            RelocTarget::Method(method) => self.method_address(method),
            RelocTarget::Helper(helper) => Some(helpers::address(helper)),
            RelocTarget::Symbol(symbol) => self.symbol_address(symbol),
            RelocTarget::Native(_) | RelocTarget::Own => None,
        }
    }

    fn name(&self, method: MethodId) -> String {
        self.module.methods.get(method).map(|decl| decl.name.clone()).unwrap_or_else(|| method.to_string())
    }

    fn not_installed(&self, method: MethodId, error: InstallError) -> JitError {
        JitError::Install { name: self.name(method), error }
    }

    /// Where the entry shim of a signature starts.
    fn shim(&self, signature: SignatureId) -> Result<usize, JitError> {
        let known = &self.shims[signature.index()];
        if known.load(Ordering::Acquire) == 0 {
            let _making = self.making_shim.lock().unwrap_or_else(PoisonError::into_inner);
            if known.load(Ordering::Acquire) == 0 {
                let mut compiler = dagwood_codegen::Compiler::new(self.target.clone());
                let artifact =
                    compiler.entry_shim(&self.module.signatures[signature]).map_err(JitError::Shim)?;
                let failed = |error| JitError::Install { name: "entry shim".into(), error };
                let body = self.code.reserve(&artifact).map_err(failed)?;
                let body = body.install(None, |target| self.resolve(target)).map_err(failed)?;
                known.store(body.code().address, Ordering::Release);
            }
        }
        Ok(known.load(Ordering::Acquire))
    }

    /// Calls a method.
    ///
    /// # Errors
    ///
    /// If it has no code or other parameters, or if it raises and does not catch.
    ///
    /// # Panics
    ///
    /// If a native function that it calls panics.
    pub fn call(&self, cx: CallCx<'_>, method: MethodId, args: &[Value]) -> Result<Vec<Value>, CallError> {
        let not_compiled = || CallError::NotCompiled { name: self.name(method) };
        let code = self.method_address(method).ok_or_else(not_compiled)?;
        let id = self.module.methods[method].signature;
        self.call_code(cx, code, id, args)
    }

    /// Calls the method whose code starts at `code`, which must be one of `signature`.
    pub(crate) fn call_code(
        &self,
        cx: CallCx<'_>,
        code: usize,
        signature: SignatureId,
        args: &[Value],
    ) -> Result<Vec<Value>, CallError> {
        let expected = &self.module.signatures[signature];
        if !args.iter().map(|value| value.ty()).eq(expected.params.iter().copied()) {
            let given = args.iter().map(|value| value.ty()).collect();
            return Err(CallError::Arguments { expected: expected.clone(), given });
        }
        let shim = self.shim(signature).map_err(|error| CallError::Raised(Raise::fault(error)))?;
        let mut slots = vec![Slot::default(); args.len().max(expected.results.len())];
        for (slot, value) in slots.iter_mut().zip(args) {
            *slot = value.bits().into();
        }
        let entry = Entry { thread: cx.thread, context: cx.context, code: &self.code, host: cx.host };
        // SAFETY: the shim is made for the signature, which is that of the code; there are as many slots as it has
        // parameters and results. The code generator keeps frame pointers and describes its sites; what memory the
        // code touches its frontend vouches for, as the head of this file says.
        unsafe { entry.call(shim, code, &mut slots) }.map_err(CallError::Raised)?;
        let value = |(slot, ty): (&Slot, &Type)| Value::new(*ty, slot.all());
        Ok(slots.iter().zip(&expected.results).map(value).collect())
    }
}

impl fmt::Debug for Jit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jit").field("methods", &self.methods.len()).field("code", &self.code.len()).finish()
    }
}
