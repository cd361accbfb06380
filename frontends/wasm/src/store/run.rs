//! Running functions: from values to words, into one of the two engines, and back.

use std::fmt;
use std::rc::Rc;

use dagwood_il as il;
use il::RaiseKind;
use il::interp::Raised;

use super::{Func, FuncData, InstanceId, Store};
use crate::engine::Mode;
use crate::error::{Error, ErrorKind};
use crate::imports::Caller;
use crate::trap::{self, Frame, HostStop, Trap};
use crate::types::ValType;
use crate::value::Val;

/// How many runs may be nested: the host called by a program that the host called …
pub const MAX_NESTED_RUNS: usize = 100;

/// Why a call has no results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The program trapped, or threw an exception that nobody caught.
    Trap(Box<Trap>),
    /// The program asked to end with this code.
    Exit(u32),
    /// The call is wrong: arguments of other types, no such export.
    Usage(Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Trap(trap) => trap.fmt(f),
            RunError::Exit(code) => write!(f, "exit with code {code}"),
            RunError::Usage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl From<Error> for RunError {
    fn from(error: Error) -> RunError {
        RunError::Usage(error)
    }
}

/// A run that ended in a raise.
pub(super) struct Failure {
    pub(super) raised: Raised,
    /// What is known besides kind and reason.
    pub(super) message: Option<String>,
    pub(super) backtrace: Vec<Frame>,
    pub(super) omitted: u64,
}

impl Failure {
    pub(super) fn new(raised: Raised, message: Option<String>) -> Failure {
        Failure { raised, message, backtrace: Vec::new(), omitted: 0 }
    }
}

/// A run inside of others.
pub(super) struct Nested<'s>(&'s Store);

impl<'s> Nested<'s> {
    /// Begins a run, unless there are too many already.
    pub(super) fn enter(store: &'s Store) -> Result<Nested<'s>, Raised> {
        let mut state = store.state();
        if state.depth >= MAX_NESTED_RUNS {
            return Err(Raised::new(RaiseKind::StackOverflow, 0));
        }
        state.depth += 1;
        Ok(Nested(store))
    }
}

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        self.0.state().depth -= 1;
    }
}

impl Store {
    /// Calls a function.
    ///
    /// # Errors
    ///
    /// A [`RunError`].
    pub fn call(&self, func: Func, args: &[Val]) -> Result<Vec<Val>, RunError> {
        let data = self.state().functions.get(func.index()).cloned();
        let data = data.ok_or_else(|| Error::new(ErrorKind::Usage, "the function is of another store"))?;
        let ty = data.ty();
        if !args.iter().map(Val::ty).eq(ty.params.iter().copied()) {
            let given: Vec<ValType> = args.iter().map(Val::ty).collect();
            let message = format!("a function of type {ty} was called with {given:?}");
            return Err(Error::new(ErrorKind::Usage, message).into());
        }
        let words = match &data {
            FuncData::Host { function, .. } => {
                let results = function.call(&Caller { store: self, instance: None }, args);
                results
                    .and_then(|results| self.host_results(ty, &results))
                    .map_err(|stop| self.stopped(stop))?
            }
            FuncData::Wasm { instance, index, .. } => {
                let words =
                    args.iter().map(|value| self.bits(*value)).collect::<Result<Vec<u64>, Error>>()?;
                self.run(*instance, *index, &words).map_err(|failure| self.failed(failure))?
            }
        };
        Ok(ty.results.iter().zip(words).map(|(ty, word)| self.value(*ty, word)).collect())
    }

    /// Runs a function of an instance.
    fn run(&self, instance: InstanceId, function: u32, words: &[u64]) -> Result<Vec<u64>, Failure> {
        let _nested = Nested::enter(self).map_err(|raised| Failure::new(raised, None))?;
        let (compiled, context) = {
            let state = self.state();
            let data = &state.instances[instance.index()];
            (Rc::clone(&data.compiled), Rc::clone(&data.context))
        };
        match self.engine().options().mode {
            Mode::Interpret => self.interpret(compiled.lowering().method(function), &context, words),
            Mode::Native => self.run_native(&compiled, function, &context, words),
        }
    }

    /// What a failure is to the embedder.
    fn failed(&self, failure: Failure) -> RunError {
        let stop = self.state().stopped.take();
        if failure.raised.kind == RaiseKind::Fault
            && let Some(stop) = stop
        {
            return match self.stopped(stop) {
                RunError::Trap(mut trap) => {
                    (trap.backtrace, trap.omitted) = (failure.backtrace, failure.omitted);
                    RunError::Trap(trap)
                }
                other => other,
            };
        }
        let Raised { kind, reason, object } = failure.raised;
        let message = failure.message.unwrap_or_else(|| trap::message(kind, reason).into());
        let exception = (kind == RaiseKind::Guest).then(|| self.state().exceptions.hand_out(object));
        let Failure { backtrace, omitted, .. } = failure;
        RunError::Trap(Box::new(Trap { kind, reason, exception, message, backtrace, omitted }))
    }

    /// What a host function's stop is to the embedder.
    fn stopped(&self, stop: HostStop) -> RunError {
        match stop {
            HostStop::Exit(code) => RunError::Exit(code),
            HostStop::Trap(trap) => RunError::Trap(trap),
            HostStop::Failed(error) => {
                let raised = Raised::new(RaiseKind::Fault, trap::reason::HOST);
                self.failed(Failure::new(raised, Some(error.to_string())))
            }
        }
    }
}

impl From<RunError> for HostStop {
    fn from(error: RunError) -> HostStop {
        match error {
            RunError::Exit(code) => HostStop::Exit(code),
            RunError::Usage(error) => HostStop::Failed(Box::new(error)),
            RunError::Trap(trap) => HostStop::Trap(trap),
        }
    }
}
