//! The driver: what a thread that compiles keeps from one method to the next.

use std::sync::Arc;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_codegen::{CodegenError, print_errors};
use dagwood_il::entity::Entity;
use dagwood_il::{Method, MethodId, Module, Opcode, Signature, Type};

use crate::artifact::{Allocation, Artifact};
use crate::back_edges;
use crate::error::CompileError;
use crate::lower::{self, Tables};
use crate::shim;
use crate::sites::{self, Origin};
use crate::target::Target;

/// Whether an artifact says where each node's code begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// Compiles methods, one after the other. Each thread has its own.
pub struct Compiler {
    target: Arc<Target>,
    context: Context,
    tables: Tables,
    listing: Listing,
}

impl Compiler {
    /// A compiler for `target`.
    pub fn new(target: Arc<Target>) -> Compiler {
        Compiler { target, context: Context::new(), tables: Tables::default(), listing: Listing::Off }
    }

    /// Asks for listings in the artifacts to come.
    pub fn set_listing(&mut self, listing: Listing) {
        self.listing = listing;
    }

    /// Compiles a method that the verifier accepts.
    ///
    /// # Errors
    ///
    /// If it has an operation that has no machine code yet, is too large, or is not well formed after all.
    pub fn compile(&mut self, module: &Module, method: &Method<'_>) -> Result<Artifact, CompileError> {
        self.lower(module, method)?;
        if self.tables.has_loops {
            back_edges::mark_cold(&mut self.context.func);
        }
        let allocation = generate(&self.target, &mut self.context, Some(method.id()))?;
        let origin = Origin {
            method: Some(method),
            module: Some(module),
            kept: &self.tables.references.kept,
            positions: &self.tables.positions,
            catches: &self.tables.catches,
            has_loops: self.tables.has_loops,
            wants_listing: self.listing == Listing::On,
        };
        let artifact = finish(&self.context, &origin, Some(method.id()))?;
        let is_caught = |node| method.opcode(node) == Opcode::Caught && method.ty(node) == Type::Ref;
        let catches_references = method.nodes().any(is_caught);
        Ok(Artifact {
            allocation,
            has_references: lower::has_references(method),
            catches_references,
            ..artifact
        })
    }

    /// What Cranelift is given for a method, as text.
    ///
    /// # Errors
    ///
    /// As [`Compiler::compile`].
    pub fn clif(&mut self, module: &Module, method: &Method<'_>) -> Result<String, CompileError> {
        self.lower(module, method)?;
        Ok(self.context.func.display().to_string())
    }

    /// Compiles the way into methods of a signature: a `system_v` function of context, code address and buffer. It takes
    /// the arguments from the buffer's slots of 16 bytes, calls the code, and puts the results into the slots.
    ///
    /// # Errors
    ///
    /// If the signature has too many parameters or results.
    pub fn entry_shim(&mut self, signature: &Signature) -> Result<Artifact, CompileError> {
        self.context.clear();
        shim::build(&mut self.context.func, signature);
        generate(&self.target, &mut self.context, None)?;
        let origin = Origin {
            method: None,
            module: None,
            kept: &[],
            positions: &[],
            catches: &[],
            has_loops: false,
            wants_listing: false,
        };
        finish(&self.context, &origin, None)
    }

    fn lower(&mut self, module: &Module, method: &Method<'_>) -> Result<(), CompileError> {
        self.context.clear();
        self.context.func.name = UserFuncName::user(0, method.id().index() as u32);
        lower::lower(&self.target, module, method, &mut self.tables, &mut self.context.func)
    }
}

/// Lets Cranelift do its part.
fn generate(
    target: &Target,
    context: &mut Context,
    method: Option<MethodId>,
) -> Result<Allocation, CompileError> {
    let (isa, allocation) = target.isa(&context.func);
    match context.compile(isa, &mut ControlPlane::default()) {
        Ok(_) => Ok(allocation),
        Err(error) => Err(blame(error.inner, error.func, method)),
    }
}

/// Who is to blame for an error of Cranelift's.
fn blame(error: CodegenError, func: &Function, method: Option<MethodId>) -> CompileError {
    let too_large = |what| match method {
        Some(method) => CompileError::Limit { method, what, limit: None },
        None => CompileError::Bug { method, what: format!("a shim has too much {what}") },
    };
    match error {
        CodegenError::CodeTooLarge => too_large("code"),
        CodegenError::ImplLimitExceeded => too_large("code, arguments or stack"),
        CodegenError::Verifier(errors) => {
            CompileError::Bug { method, what: print_errors::pretty_verifier_error(func, None, errors) }
        }
        other => CompileError::Bug { method, what: other.to_string() },
    }
}

fn finish(
    context: &Context,
    origin: &Origin<'_, '_>,
    method: Option<MethodId>,
) -> Result<Artifact, CompileError> {
    let compiled = context.compiled_code().expect("code was generated just before");
    sites::finish(compiled, &context.func, origin).map_err(|what| CompileError::Bug { method, what })
}
