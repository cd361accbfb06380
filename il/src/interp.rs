//! The reference interpreter: the meaning of methods.
//!
//! ```text
//!   for each root of the block, in order:
//!     evaluate the pure nodes that it uses and that this extended block has not evaluated yet
//!     do what the root does
//!       ├─ raise ──► the first handler of the block that catches it; else the caller's; else Stop::Raised
//!       ├─ leave ──► Stop::Exit, with the frames of the guard's frame state
//!       └─ end of block ──► an extension goes on with the same values; a head starts anew with the locals
//! ```
//!
//! # Why
//!
//! Whatever else runs the IL is right if it does what this does. So it is as plain as can be: it interprets the nodes
//! themselves, shares only [`eval`](crate::eval) with folding, and nothing with code generation. It also runs what
//! hardly ever happens, guards that fail and frames that are left, so that every path has something to be held against.
//!
//! # Guarantees
//!
//! * Nothing recurses: neither the depth of guest calls nor that of a DAG uses the native stack.
//! * No IL makes it panic; what makes no sense is [`Stop::Invalid`].
//! * It ends: each root costs one unit of [`Limits::fuel`], and a root evaluates each node of its extended block at
//!   most once. Memory is bounded by [`Limits::stack_bytes`], and by the host.
//!
//! # Cost
//!
//! Some tens of nanoseconds a node. Values are kept in tables by number; nothing is hashed.

mod call;
mod exit;
mod frame;
mod host;
mod machine;
mod object;
mod plan;
mod references;
mod regions;
mod root;
mod shape;
mod stop;
#[cfg(test)]
mod tests;
mod value;

use std::rc::Rc;

use crate::entity::Entity;
use crate::eval::Value;
use crate::method::Method;
use crate::module::{MethodId, Module};

pub use host::{Fault, GuardSite, Host, Raised, References, Values};
pub use regions::{Native, Regions};
pub use stop::{Exit, ExitFrame, ExitObject, ExitValue, Invalid, Stop, TraceEntry};

use frame::Stacks;
use machine::Machine;
use plan::Plan;

/// A program: declarations, and where to find the bodies of methods.
#[derive(Clone, Copy)]
pub struct Program<'p, 'a> {
    /// The declarations.
    pub module: &'p Module,
    /// The body of a method; none if there is none.
    pub bodies: &'p dyn Fn(MethodId) -> Option<&'p Method<'a>>,
}

/// How much an interpretation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many roots may be executed.
    pub fuel: u64,
    /// How many calls may be under way at once; one more raises `stack_overflow`.
    pub depth: usize,
    /// How many bytes their frames may take; more raises `stack_overflow`.
    pub stack_bytes: usize,
}

impl Default for Limits {
    /// No limit to fuel, 20,000 calls, 256 MiB.
    fn default() -> Limits {
        Limits { fuel: u64::MAX, depth: 20_000, stack_bytes: 256 << 20 }
    }
}

/// Interprets one call of a method. For several of one program, an [`Interpreter`] prepares each method once.
///
/// # Errors
///
/// Why there are no results: see [`Stop`].
pub fn interpret<H: Host + ?Sized>(
    program: Program<'_, '_>,
    host: &mut H,
    method: MethodId,
    context: u64,
    args: &[Value],
    limits: Limits,
) -> Result<Values, Stop> {
    Interpreter::new(program).run(host, method, context, args, limits)
}

/// An interpreter of one program. It keeps what it has learnt of methods, and its tables, from call to call.
pub struct Interpreter<'p, 'a> {
    program: Program<'p, 'a>,
    plans: Vec<Option<Rc<Plan<'p, 'a>>>>,
    stacks: Stacks<'p, 'a>,
    fuel: u64,
}

impl<'p, 'a> Interpreter<'p, 'a> {
    /// An interpreter that has run nothing yet.
    pub fn new(program: Program<'p, 'a>) -> Interpreter<'p, 'a> {
        Interpreter { program, plans: Vec::new(), stacks: Stacks::default(), fuel: 0 }
    }

    /// Interprets one call of a method.
    ///
    /// # Errors
    ///
    /// Why there are no results: see [`Stop`].
    pub fn run<H: Host + ?Sized>(
        &mut self,
        host: &mut H,
        method: MethodId,
        context: u64,
        args: &[Value],
        limits: Limits,
    ) -> Result<Values, Stop> {
        Machine::start(self, host, method, context, args, limits)?.run()
    }

    /// How much fuel the last call has left.
    pub fn fuel_left(&self) -> u64 {
        self.fuel
    }

    /// The plan of a method that is called with these arguments, made when first asked for.
    fn plan(&mut self, method: MethodId, args: &[Value]) -> Result<Rc<Plan<'p, 'a>>, Invalid> {
        let fails = |what: &str| Invalid { method, block: None, node: None, what: what.into() };
        let module = self.program.module;
        let Some(declaration) = module.methods.get(method) else { return Err(fails("is not declared")) };
        let params = module.signatures.get(declaration.signature).map(|signature| &signature.params);
        if !params.is_some_and(|params| params.iter().copied().eq(args.iter().map(|arg| arg.ty()))) {
            return Err(fails("is called with arguments that its signature does not have"));
        }
        if let Some(Some(plan)) = self.plans.get(method.index()) {
            return Ok(plan.clone());
        }
        let body = (self.program.bodies)(method).ok_or_else(|| fails("has no body"))?;
        if body.id() != method {
            return Err(fails("has the body of another method"));
        }
        let plan = Rc::new(Plan::compute(module, body)?);
        self.plans.resize(module.methods.len(), None);
        self.plans[method.index()] = Some(plan.clone());
        Ok(plan)
    }
}
