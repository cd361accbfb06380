//! The pipeline, from top to bottom: a frontend's body becomes an artifact.
//!
//! ```text
//!   Bodies::build ──► verify ──► strategy ──► codegen ──► Compiled: an Artifact, and what it assumes
//! ```
//!
//! This is the one file that knows the optimizer and the code generator both. A [`Compiler`] belongs to one thread and is
//! reused from method to method; what it makes depends on its input alone, so any number of threads makes the same code.
//!
//! *Guarantees.* What passes were told of the running program that may change is with the artifact, and nobody gets at the artifact
//! past it: so no code is installed that nobody would take back.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bumpalo::Bump;
use dagwood_codegen::{Artifact, CompileError, Target};
use dagwood_il::profile::MethodProfile;
use dagwood_il::verify::{VerifyError, verify};
use dagwood_il::world::{Answer, ContentKey, Question};
use dagwood_il::{Assumption, Method, MethodId, Module, World};
use dagwood_opt::{Callees, Fault, NothingKnown, Request, Strategy, optimize};

use crate::install::InstallError;

/// Where the bodies of methods come from: a frontend, asked from any thread.
pub trait Bodies: Sync {
    /// Builds the body of a method in `arena`.
    ///
    /// # Errors
    ///
    /// Whatever keeps the frontend from building it.
    fn build<'a>(&self, method: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError>;

    /// What passes may ask about the running program; nothing, if the frontend does not say. Whether a callee's body may be
    /// looked at is among it.
    ///
    /// An answer without an assumption holds for as long as there is code: a body that may be looked at is the method's whenever
    /// it is compiled, because callers that were compiled hold copies of it. What is built on one that may change says so
    /// ([`Compiled`]); a [`Jit`](crate::jit::Jit) builds nothing on those ([`Settled`]), because it does not take code back.
    fn world(&self) -> &dyn World {
        &NothingKnown
    }

    /// How many nodes a body has at least, if that can be guessed without building it: large ones are not built only to be looked at.
    fn least_size(&self, _method: MethodId) -> Option<u64> {
        None
    }

    /// What was observed of a method.
    fn profile(&self, _method: MethodId) -> Option<&MethodProfile> {
        None
    }
}

/// The frontend, as the optimizer asks it for callees.
struct Asked<'b> {
    bodies: &'b dyn Bodies,
    module: &'b Module,
    is_verified: bool,
}

impl Callees for Asked<'_> {
    /// What is wrong with a body is said when it is compiled itself.
    fn body<'a>(&self, method: MethodId, arena: &'a Bump) -> Option<Method<'a>> {
        let body = self.bodies.build(method, arena).ok()?;
        let is_sound = body.id() == method && (!self.is_verified || verify(self.module, &body).is_ok());
        is_sound.then_some(body)
    }

    fn least_size(&self, method: MethodId) -> Option<u64> {
        self.bodies.least_size(method)
    }
}

/// Bodies, without answers of their world that may change: what is built on the others holds for good.
pub struct Settled<'b>(pub &'b dyn Bodies);

impl Bodies for Settled<'_> {
    fn build<'a>(&self, method: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
        self.0.build(method, arena)
    }

    fn world(&self) -> &dyn World {
        self
    }

    fn least_size(&self, method: MethodId) -> Option<u64> {
        self.0.least_size(method)
    }

    fn profile(&self, method: MethodId) -> Option<&MethodProfile> {
        self.0.profile(method)
    }
}

impl World for Settled<'_> {
    fn has_happened(&self, question: Question) -> Answer<bool> {
        let answer = self.0.world().has_happened(question);
        if answer.assumption.is_none() { answer } else { Answer::settled(true) }
    }

    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
        let answer = self.0.world().body(method);
        if answer.assumption.is_none() { answer } else { Answer::settled(None) }
    }
}

impl<F> Bodies for F
where
    F: for<'a> Fn(MethodId, &'a Bump) -> Result<Method<'a>, BodyError> + Sync,
{
    fn build<'a>(&self, method: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
        self(method, arena)
    }
}

/// A closure as [`Bodies`]; passing it through here lets it be written without types.
pub fn bodies<F>(build: F) -> F
where
    F: for<'a> Fn(MethodId, &'a Bump) -> Result<Method<'a>, BodyError> + Sync,
{
    build
}

/// What a frontend says when it cannot build a body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Whether a method is held against the specification before it is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Every method.
    #[default]
    On,
    /// No method, unless this is a debug build: for frontends whose methods are well-formed by how they are made.
    Off,
}

/// Why a method was not compiled. It stays as it was.
#[derive(Debug)]
pub enum CompileFailure {
    /// The module does not declare it.
    Undeclared,
    /// The frontend built the body of another one.
    OtherMethod(MethodId),
    /// The frontend did not build it.
    Body(BodyError),
    /// It is not well-formed.
    Verify(Vec<VerifyError>),
    /// A pass went wrong.
    Optimizer(Box<Fault>),
    /// No code was made for it.
    Codegen(CompileError),
}

impl fmt::Display for CompileFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileFailure::Undeclared => f.write_str("the module does not declare it"),
            CompileFailure::OtherMethod(other) => {
                write!(f, "the body that was built for it is that of {other}")
            }
            CompileFailure::Body(error) => error.fmt(f),
            CompileFailure::Verify(errors) => {
                f.write_str("not well-formed")?;
                errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
            CompileFailure::Optimizer(fault) => fault.fmt(f),
            CompileFailure::Codegen(error) => error.fmt(f),
        }
    }
}

impl Error for CompileFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CompileFailure::Body(error) => Some(&**error),
            CompileFailure::Undeclared | CompileFailure::OtherMethod(_) | CompileFailure::Verify(_) => None,
            CompileFailure::Optimizer(fault) => Some(&**fault),
            CompileFailure::Codegen(error) => Some(error),
        }
    }
}

/// A method's artifact and what it assumes of the running program. Only what assumes nothing can be had out of it, and installed:
/// there is nobody yet to register an assumption with, who would take the code back once it is broken.
#[derive(Clone, Debug)]
pub struct Compiled {
    artifact: Artifact,
    assumes: BTreeSet<Assumption>,
}

impl Compiled {
    /// What was built on, or might have been, and may stop being so.
    pub fn assumes(&self) -> &BTreeSet<Assumption> {
        &self.assumes
    }

    /// The artifact, which holds for good.
    ///
    /// # Errors
    ///
    /// If it assumes something.
    pub fn settled(self) -> Result<Artifact, InstallError> {
        match self.assumes.first() {
            None => Ok(self.artifact),
            Some(assumption) => Err(InstallError::Unregistered { assumption: *assumption }),
        }
    }
}

/// Compiles methods, one after the other, on one thread.
pub struct Compiler {
    codegen: dagwood_codegen::Compiler,
    strategy: &'static Strategy,
    optimizer: dagwood_opt::Options,
    verify: Verify,
    arena: Bump,
}

impl Compiler {
    /// A compiler for `target`.
    pub fn new(target: Arc<Target>, strategy: &'static Strategy, verify: Verify) -> Compiler {
        let codegen = dagwood_codegen::Compiler::new(target);
        Compiler { codegen, strategy, optimizer: dagwood_opt::Options::default(), verify, arena: Bump::new() }
    }

    /// Says how to optimize from now on. A limit of rewrites is one for all methods that follow, in their order.
    pub fn set_optimizer(&mut self, options: dagwood_opt::Options) {
        self.optimizer = options;
    }

    /// Compiles one method.
    ///
    /// # Errors
    ///
    /// A [`CompileFailure`].
    pub fn compile(
        &mut self,
        module: &Module,
        id: MethodId,
        bodies: &dyn Bodies,
    ) -> Result<Compiled, CompileFailure> {
        self.arena.reset();
        if module.methods.get(id).is_none() {
            return Err(CompileFailure::Undeclared);
        }
        let mut method = bodies.build(id, &self.arena).map_err(CompileFailure::Body)?;
        // Its code would be called by another signature.
        if method.id() != id {
            return Err(CompileFailure::OtherMethod(method.id()));
        }
        let is_verified = self.verify == Verify::On || cfg!(debug_assertions);
        if is_verified {
            verify(module, &method).map_err(CompileFailure::Verify)?;
        }
        let request = Request {
            world: bodies.world(),
            profile: bodies.profile(id),
            callees: &Asked { bodies, module, is_verified },
            ..Request::new(module, self.strategy, &self.optimizer)
        };
        let report = optimize(&request, &mut method, &mut ())
            .map_err(|fault| CompileFailure::Optimizer(Box::new(fault)))?;
        if let Some(limit) = &mut self.optimizer.rewrite_limit {
            *limit = limit.saturating_sub(report.rewrites);
        }
        let artifact = self.codegen.compile(module, &method).map_err(CompileFailure::Codegen)?;
        Ok(Compiled { artifact, assumes: report.asked.assumptions() })
    }
}

#[cfg(test)]
mod tests {
    use dagwood_codegen::Features;
    use dagwood_il::entity::Entity;
    use dagwood_il::{Builder, Folding, Opcode, Payload, Type};

    use super::*;

    #[test]
    fn only_a_methods_own_body_is_compiled() {
        let mut module = Module::new();
        let own = module.declare_method("own", &[], &[]);
        let other = module.declare_method("other", &[Type::I64], &[]);
        let target = Target::new(Features::Baseline, dagwood_codegen::Verify::On).expect("a known machine");
        let mut compiler = Compiler::new(Arc::new(target), dagwood_opt::NONE, Verify::On);
        let bodies = bodies(|_, arena| {
            let mut b = Builder::new(arena, &module, own, Folding::On);
            let entry = b.block();
            b.switch_to(entry);
            b.ret(&[]);
            Ok(b.finish()?)
        });
        assert!(compiler.compile(&module, own, &bodies).is_ok());
        let failures = [(other, "that of method0"), (MethodId::new(7), "does not declare")];
        for (method, expected) in failures {
            let failure = compiler.compile(&module, method, &bodies).expect_err("it is not its body");
            assert!(failure.to_string().contains(expected), "{failure}");
        }
    }

    /// A body that returns at once.
    fn empty<'a>(module: &Module, id: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
        let mut b = Builder::new(arena, module, id, Folding::On);
        let entry = b.block();
        b.switch_to(entry);
        b.ret(&[]);
        Ok(b.finish()?)
    }

    /// A program in which bodies may be looked at: for good, or until they are redefined.
    struct Open<'m> {
        module: &'m Module,
        assumption: Option<Assumption>,
    }

    impl World for Open<'_> {
        fn has_happened(&self, _: Question) -> Answer<bool> {
            Answer { value: false, assumption: self.assumption }
        }

        fn body(&self, _: MethodId) -> Answer<Option<ContentKey>> {
            Answer { value: Some(ContentKey(0)), assumption: self.assumption }
        }
    }

    impl Bodies for Open<'_> {
        fn build<'a>(&self, id: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
            let mut b = Builder::new(arena, self.module, id, Folding::On);
            let entry = b.block();
            b.switch_to(entry);
            if id.index() == 0 {
                b.emit(Opcode::Call, Type::Void, &[], Payload::Method(MethodId::new(1)));
            }
            b.ret(&[]);
            Ok(b.finish()?)
        }

        fn world(&self) -> &dyn World {
            self
        }
    }

    #[test]
    fn callees_come_in_and_what_may_be_redefined_is_assumed_not_to_be() {
        let mut module = Module::new();
        let [caller, callee] = ["caller", "callee"].map(|name| module.declare_method(name, &[], &[]));
        let target = Target::new(Features::Baseline, dagwood_codegen::Verify::On).expect("a known machine");
        let mut compiler = Compiler::new(Arc::new(target), dagwood_opt::WARM, Verify::On);
        let assumption = Assumption::NotRedefined(callee);
        for (known, settled_calls) in [(None, 0), (Some(assumption), 1)] {
            let open = Open { module: &module, assumption: known };
            let compiled = compiler.compile(&module, caller, &open).expect("it is well-formed");
            assert!(compiled.assumes().iter().copied().eq(known));
            match compiled.settled() {
                Ok(artifact) => assert!(known.is_none() && artifact.calls.is_empty()),
                Err(error) => {
                    assert_eq!(error, InstallError::Unregistered { assumption });
                    assert!(error.to_string().contains("method1 is not redefined"), "{error}");
                }
            }
            let compiled = compiler.compile(&module, caller, &Settled(&open)).expect("it is well-formed");
            assert_eq!(compiled.settled().expect("it assumes nothing").calls.len(), settled_calls);
        }
    }

    #[test]
    fn a_pass_that_panics_is_an_error_with_its_name_and_a_limit_counts_over_methods() {
        fn insist(method: &mut Method<'_>, cx: &mut dagwood_opt::PassCx<'_>) -> dagwood_opt::Changed {
            let entry = method.blocks().next().expect("a method has a block");
            assert!(cx.allows(entry, || "insisted".into()), "it must be allowed");
            dagwood_opt::Changed::No
        }
        static INSIST: &[dagwood_opt::Row] = &[dagwood_opt::Row {
            pass: dagwood_opt::Pass { name: "insist", summary: "a test", run: insist },
            when: dagwood_opt::When::Always,
            why: "a test",
        }];
        static STRATEGY: Strategy = Strategy {
            name: "insisting",
            why: "a test",
            work_per_node: 1,
            work_per_cycle: 1,
            rows: std::borrow::Cow::Borrowed(INSIST),
        };
        let mut module = Module::new();
        let [first, second] = ["first", "second"].map(|name| module.declare_method(name, &[], &[]));
        let target = Target::new(Features::Baseline, dagwood_codegen::Verify::On).expect("a known machine");
        let mut compiler = Compiler::new(Arc::new(target), &STRATEGY, Verify::On);
        compiler.set_optimizer(dagwood_opt::Options { rewrite_limit: Some(1), ..Default::default() });
        let bodies = bodies(|id, arena| empty(&module, id, arena));
        assert!(compiler.compile(&module, first, &bodies).is_ok(), "the first rewrite is allowed");
        let failure = compiler.compile(&module, second, &bodies).expect_err("the second is not");
        let text = failure.to_string();
        assert!(text.contains("pass `insist` on @second: it panicked: it must be allowed"), "{text}");
        assert!(matches!(failure, CompileFailure::Optimizer(_)));
    }
}
