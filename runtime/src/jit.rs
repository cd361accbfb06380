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
//! * A batch is installed as a whole or, on an error, not at all: what it reserved is free again.
//! * Methods can be compiled again, and their code [evicted](Jit::evict), at any time and by any thread.
//! * Arguments are checked against the signature, and references against the heap; a call never runs code with others. A method that
//!   has references is not entered without a heap; where code that was entered without one has come to such a method, nothing moves: that
//!   would be a fault.
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
use dagwood_codespace::{Lane, Observing};
use dagwood_il::entity::{Entity, EntityVec};
use dagwood_il::eval::Value;
use dagwood_il::{MethodId, Module, Signature, SignatureId, SymbolId, Type};
use dagwood_opt::Strategy;

use crate::classes::Classes;
use crate::code::{CodeTable, InstallError};
use crate::compiler::{Bodies, CompileFailure, Compiled, Compiler, Settled, Verify};
use crate::context::Context;
use crate::entry::Entry;
use crate::heap::{AccessError, Heap};
use crate::helpers;
use crate::host::Host;
use crate::install::{Made, Missing, Pending, Subject};
use crate::layout::Slot;
use crate::links::{Links, Pin, Program, Unlinked};
use crate::raise::Raise;
use crate::thread::Thread;

/// How methods are compiled and where their code goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The passes that run.
    pub strategy: &'static Strategy,
    /// How they run. A limit of rewrites is one for all methods of a batch, which one thread then compiles.
    pub optimizer: dagwood_opt::Options,
    /// Whether methods are verified first.
    pub verify: Verify,
    /// Whether Cranelift's own verifier looks at what it is given.
    pub verify_code: dagwood_codegen::Verify,
    /// Which instructions may be used.
    pub features: dagwood_codegen::Features,
    /// How many threads compile a batch.
    pub threads: NonZeroUsize,
    /// The code space; see [`CodeTable::new`].
    pub space: dagwood_codespace::Options,
    /// Among what kind of code methods stand.
    pub lane: Lane,
    /// Which profilers and debuggers see the code; see [`CodeTable::observed`].
    pub observe: Observing,
}

impl Default for Options {
    /// The strategy that runs no pass, the instructions of this machine, and as many threads as it has cores.
    fn default() -> Options {
        Options {
            strategy: dagwood_opt::NONE,
            optimizer: dagwood_opt::Options::default(),
            verify: Verify::default(),
            verify_code: if cfg!(debug_assertions) {
                dagwood_codegen::Verify::On
            } else {
                dagwood_codegen::Verify::Off
            },
            features: dagwood_codegen::Features::Host,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            space: dagwood_codespace::Options::default(),
            lane: Lane::default(),
            observe: Observing::default(),
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
    /// Calls could not be redirected to code that was installed: they go where they went before, to the code that it replaces or
    /// to the fault that calls of an evicted method are. That code stays until the method is compiled again, or evicted, and
    /// all its calls are redirected then.
    Relink {
        /// The method's name.
        name: String,
        /// Why.
        error: dagwood_codespace::Error,
    },
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
            JitError::Relink { name, error } => write!(f, "calls of method `{name}`: {error}"),
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
            JitError::Relink { error, .. } => Some(error),
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
    /// The host's heap has objects of other classes than the code: it was not made with [`Jit::classes`].
    OtherHeap,
    /// The method has references, but its host has no heap that they would lead into.
    NoHeap {
        /// Its name.
        name: String,
    },
    /// An argument of type `ref` is neither null nor a reference to an object of the host's heap.
    Reference {
        /// Which argument.
        index: usize,
        /// What is wrong with it.
        error: AccessError,
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
            CallError::OtherHeap => f.write_str("the host's heap was made for other classes than the code's"),
            CallError::NoHeap { name } => {
                write!(f, "method `{name}` has references, but it was called with a host that has no heap")
            }
            CallError::Reference { index, error } => write!(f, "argument {index}: {error}"),
            CallError::Raised(raise) => raise.fmt(f),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::Raised(raise) => Some(raise),
            CallError::Reference { error, .. } => Some(error),
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
    /// Where the methods' code is, and which calls lead there.
    program: Arc<Program>,
    /// The descriptions of the module's classes.
    classes: Arc<Classes>,
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
        let code = CodeTable::observed(&options.space, &options.observe).map_err(JitError::Space)?;
        Jit::sharing(Arc::new(code), module, options)
    }

    /// As [`Jit::new`], for code that is installed beside that of other programs, so that the programs may call each other
    /// by addresses. Methods of different programs should have different numbers, or traces confuse them.
    ///
    /// # Errors
    ///
    /// If this machine is not supported.
    pub fn sharing(code: Arc<CodeTable>, module: Module, options: Options) -> Result<Jit, JitError> {
        let target = Target::new(options.features, options.verify_code).map_err(JitError::Target)?;
        let classes = Arc::new(Classes::new(&module));
        let zeroes = |len| (0..len).map(|_| AtomicUsize::new(0)).collect();
        Ok(Jit {
            program: Arc::new(Program::new(&module, Arc::clone(&classes))),
            classes,
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

    /// The descriptions of the module's classes, for the heap that the code's objects are in.
    pub fn classes(&self) -> &Arc<Classes> {
        &self.classes
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

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Where a method's code starts; none while it has none. From then on its code stays there: it cannot be
    /// [evicted](Jit::evict) any more.
    pub fn method_address(&self, method: MethodId) -> Option<usize> {
        self.program.pin(method, Pin::Address)
    }

    /// Whether a method has code.
    pub fn is_compiled(&self, method: MethodId) -> bool {
        self.program.address(method).is_some()
    }

    /// The method whose code starts at an address.
    pub fn method_at(&self, address: usize) -> Option<MethodId> {
        let located = self.code.find(address)?;
        located.method.filter(|_| located.start == address)
    }

    /// Compiles methods and installs them together; they may call each other, and whatever was compiled before. If one has code
    /// already, its calls go to the new code from then on, and the old is retired unless it is pinned. Calls of methods that were
    /// [evicted](Jit::evict) go to their new code.
    ///
    /// # Errors
    ///
    /// Of the methods that fail, the first one's error. None of the batch is installed then. [`JitError::Relink`] says that all
    /// are installed, but that some calls could not be redirected to them.
    pub fn compile(&self, methods: &[MethodId], bodies: &dyn Bodies) -> Result<(), JitError> {
        let artifacts = self.artifacts(methods, bodies)?;
        let batch = self.code.batch();
        let mut pending = Vec::with_capacity(methods.len());
        for (method, artifact) in methods.iter().zip(&artifacts) {
            if artifact.has_references {
                self.program.note_references(*method);
            }
            let reserved = batch.reserve(artifact, self.options.lane);
            pending.push(reserved.map_err(|error| self.not_installed(*method, error))?);
        }
        let mut addresses: EntityVec<MethodId, usize> = EntityVec::filled(0, self.module.methods.len());
        for (method, pending) in methods.iter().zip(&pending) {
            addresses[*method] = pending.address();
        }
        let mut made = Made::default();
        loop {
            let mut links = self.program.lock();
            let missing = self.link(methods, &mut pending, &addresses, &links)?;
            if missing.is_empty() {
                return self.publish(methods, pending, &mut links);
            }
            // Making stubs may need room, and making room may need the lock.
            drop(links);
            batch.provide(missing, &mut made, self.options.lane).map_err(|(target, error)| {
                let name = match target {
                    RelocTarget::Method(method) => self.name(method),
                    _ => format!("{target:?}"),
                };
                JitError::Install { name, error }
            })?;
        }
    }

    /// Fills in the code of a batch. Nobody can see it yet.
    fn link(
        &self,
        methods: &[MethodId],
        pending: &mut [Pending<'_>],
        addresses: &EntityVec<MethodId, usize>,
        links: &Links,
    ) -> Result<Missing, JitError> {
        let mut missing = Missing::default();
        let resolve = |target| match target {
            RelocTarget::Method(callee) => match addresses[callee] {
                0 => self.program.target(links, callee),
                address => Some(address),
            },
            _ => self.resolve(target),
        };
        for (method, pending) in methods.iter().zip(pending) {
            let linked = pending.link(&self.subject(*method), resolve, &mut missing);
            linked.map_err(|error| self.not_installed(*method, error))?;
            links.reach(&self.code, *method, addresses[*method], &mut missing);
        }
        Ok(missing)
    }

    fn subject(&self, method: MethodId) -> Subject<'_> {
        Subject { method: Some(method), program: Some(&self.program) }
    }

    /// Publishes a batch that is filled in, or none of it.
    fn publish(
        &self,
        methods: &[MethodId],
        pending: Vec<Pending<'_>>,
        links: &mut Links,
    ) -> Result<(), JitError> {
        let mut published = Vec::with_capacity(methods.len());
        let mut pins = Vec::new();
        for (method, pending) in methods.iter().zip(pending) {
            pins.extend(pending.pins());
            let name = self.code.observers().map(|_| self.name(*method));
            match pending.publish(&self.subject(*method), name.as_deref(), links) {
                Ok((owner, located)) => published.push((owner, located.start)),
                Err(error) => {
                    // Nobody knows the others' addresses but they themselves.
                    for (owner, _) in published {
                        self.code.retire(Unlinked(owner));
                    }
                    return Err(self.not_installed(*method, error.into()));
                }
            }
        }
        pins.into_iter().for_each(|(used, pin)| links.pin(used, pin));
        if let Some(observers) = self.code.observers() {
            // Observers that fail see nothing more; the code runs all the same.
            let _ = observers.flush();
        }
        let mut result = Ok(());
        for (method, code) in methods.iter().zip(published) {
            match self.program.publish(links, &self.code, *method, code) {
                Ok(replaced) => {
                    for unlinked in replaced {
                        self.code.retire(unlinked);
                    }
                }
                Err(error) => result = result.and(Err(JitError::Relink { name: self.name(*method), error })),
            }
        }
        result
    }

    /// The artifacts of methods, in their order, compiled by as many threads as the options say.
    fn artifacts(&self, methods: &[MethodId], bodies: &dyn Bodies) -> Result<Vec<Artifact>, JitError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut compiler = Compiler::new(self.target.clone(), self.options.strategy, self.options.verify);
            compiler.set_optimizer(self.options.optimizer.clone());
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(method) = methods.get(index) else { return done };
                done.push((index, compiler.compile(&self.module, *method, &Settled(bodies))));
            }
        };
        let threads = match self.options.optimizer.rewrite_limit {
            Some(_) => 1,
            None => self.options.threads.get().min(methods.len().max(1)),
        };
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
        let artifact = |(index, result): (usize, Result<Compiled, CompileFailure>)| {
            let method = methods[index];
            let failed = |failure| JitError::Method { name: self.name(method), method, failure };
            result.map_err(failed)?.settled().map_err(|error| self.not_installed(method, error))
        };
        done.into_iter().map(artifact).collect()
    }

    fn resolve(&self, target: RelocTarget) -> Option<usize> {
        match target {
            RelocTarget::Method(method) => self.program.address(method),
            RelocTarget::Helper(helper) => Some(helpers::address(helper)),
            RelocTarget::Symbol(symbol) => self.symbol_address(symbol),
            RelocTarget::Description(kind) => Some(self.classes.address(kind) as usize),
            RelocTarget::Native(_) | RelocTarget::Own => None,
        }
    }

    pub(crate) fn name(&self, method: MethodId) -> String {
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
                let batch = self.code.batch();
                let pending = batch.reserve(&artifact, Lane::Stubs).map_err(failed)?;
                let located = pending.install(None, |target| self.resolve(target)).map_err(failed)?;
                known.store(located.start, Ordering::Release);
            }
        }
        Ok(known.load(Ordering::Acquire))
    }

    /// Refuses a heap that does not fit the code, and arguments that are no references into it.
    fn check_references(
        &self,
        heap: Option<&Heap>,
        method: MethodId,
        args: &[Value],
    ) -> Result<(), CallError> {
        let Some(heap) = heap else {
            return match self.program.has_references(method) {
                true => Err(CallError::NoHeap { name: self.name(method) }),
                false => Ok(()),
            };
        };
        if !Arc::ptr_eq(heap.classes(), &self.classes) {
            return Err(CallError::OtherHeap);
        }
        for (index, value) in args.iter().enumerate().filter(|(_, value)| value.ty() == Type::Ref) {
            heap.check(value.low()).map_err(|error| CallError::Reference { index, error })?;
        }
        Ok(())
    }

    /// Calls a method.
    ///
    /// # Errors
    ///
    /// If it has no code or other parameters, if an argument is no reference that the host's heap knows or the heap is of other
    /// classes, if there is none and the method has references, or if it raises and does not catch.
    ///
    /// # Panics
    ///
    /// If a native function that it calls panics.
    pub fn call(&self, cx: CallCx<'_>, method: MethodId, args: &[Value]) -> Result<Vec<Value>, CallError> {
        let not_compiled = || CallError::NotCompiled { name: self.name(method) };
        let signature = self.module.methods.get(method).ok_or_else(not_compiled)?.signature;
        let expected = &self.module.signatures[signature];
        if !args.iter().map(|value| value.ty()).eq(expected.params.iter().copied()) {
            let given = args.iter().map(|value| value.ty()).collect();
            return Err(CallError::Arguments { expected: expected.clone(), given });
        }
        let heap = cx.host.heap();
        let shim = self.shim(signature).map_err(|error| CallError::Raised(Raise::fault(error)))?;
        let mut slots = vec![Slot::default(); args.len().max(expected.results.len())];
        for (slot, value) in slots.iter_mut().zip(args) {
            *slot = value.bits().into();
        }
        let entry = Entry { thread: cx.thread, context: cx.context, code: &self.code, host: cx.host };
        // Whoever takes the code out from here on waits for us. Nothing between this and the call can make a checkpoint.
        let running = cx.thread.run();
        let code = self.program.address(method).ok_or_else(not_compiled)?;
        // Only now: what is said of the method's references is said before there is an address.
        self.check_references(heap, method, args)?;
        // SAFETY: the code is linked and shims stay. The shim is made for the signature, which is that of the code; there are as many slots as it has
        // parameters and results. What it gets for references was looked up in the heap, whose classes are the code's; without a heap the
        // method has none. The code generator keeps frame pointers and describes its sites; what memory the
        // code touches its frontend vouches for, as the head of this file says.
        unsafe { entry.call_with(heap, shim, code, &mut slots) }.map_err(CallError::Raised)?;
        drop(running);
        let value = |(slot, ty): (&Slot, &Type)| Value::new(*ty, slot.all());
        Ok(slots.iter().zip(&expected.results).map(value).collect())
    }
}

impl fmt::Debug for Jit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jit")
            .field("methods", &self.module.methods.len())
            .field("code", &self.code.len())
            .finish()
    }
}
