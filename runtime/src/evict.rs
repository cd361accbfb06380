//! Taking methods' code out, to make room or to compile them anew.
//!
//! ```text
//!   evict:  check all ──► unlink each: no address, calls go to a stub that raises ──► retire
//!   reclaim (any time): code that no thread runs or returns to ──► room
//!   compile again: the same calls go to the new code
//! ```
//!
//! Methods that run go on to their ends; a thread that returns to code that was evicted finds it there. What calls an evicted
//! method, its own code included, gets a fault with an [`EvictedCall`] as its cause, until the method is compiled again.
//!
//! Where a callee was inlined there is no call of it: its copy is its caller's code, stays when the callee is evicted, and goes with the
//! caller. It may, because only bodies that never change are inlined ([`Bodies::world`](crate::compiler::Bodies::world)).

use std::fmt;

use dagwood_codespace::Error;
use dagwood_il::MethodId;

use crate::jit::Jit;
pub use crate::links::Pin;

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many methods.
    pub methods: usize,
    /// The bytes of their code. They may be used again once [`CodeTable::reclaim`](crate::code::CodeTable::reclaim) has freed them.
    pub bytes: usize,
}

/// Why methods were not evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictError {
    /// One has no code.
    NotCompiled {
        /// Its name.
        name: String,
        /// Which.
        method: MethodId,
    },
    /// The code of one must stay.
    Pinned {
        /// Its name.
        name: String,
        /// Which.
        method: MethodId,
        /// Why.
        pin: Pin,
    },
    /// A call cannot be redirected. Its callee keeps its code; others of its calls may have been made faults and not be
    /// redirected to it again: they raise [`EvictedCall`] until it is compiled anew.
    Space(Error),
}

impl fmt::Display for EvictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvictError::NotCompiled { name, .. } => write!(f, "method `{name}` has no code to evict"),
            EvictError::Pinned { name, pin, .. } => write!(f, "the code of method `{name}` stays: {pin}"),
            EvictError::Space(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EvictError {}

/// The cause of the [`Raise`](crate::Raise) that a call of a method makes whose code was evicted, or was to be: see
/// [`EvictError::Space`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictedCall {
    /// The method.
    pub method: Option<MethodId>,
}

impl fmt::Display for EvictedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Some(method) => write!(f, "{method} was called, whose code was evicted"),
            None => f.write_str("a method was called whose code was evicted"),
        }
    }
}

impl std::error::Error for EvictedCall {}

impl Jit {
    /// Takes the code of methods out: they have none then, and their room is free once
    /// [`CodeTable::reclaim`](crate::code::CodeTable::reclaim) finds that no thread needs it.
    ///
    /// # Errors
    ///
    /// If one of them has no code or is pinned: then nothing is evicted. If a call cannot be redirected: then those before the one
    /// that failed are evicted, and of its own calls some may raise, as [`EvictError::Space`] says.
    pub fn evict(&self, methods: &[MethodId]) -> Result<Evicted, EvictError> {
        let program = self.program();
        let mut links = program.lock();
        for &method in methods {
            let name = || self.name(method);
            match links.pinned(method) {
                Err(_) => return Err(EvictError::NotCompiled { name: name(), method }),
                Ok(Some(pin)) => return Err(EvictError::Pinned { name: name(), method, pin }),
                Ok(None) => {}
            }
        }
        let mut evicted = Evicted::default();
        for &method in methods {
            // Nothing if it is named twice.
            let unlinked = program.unlink(&mut links, self.code(), method).map_err(EvictError::Space)?;
            evicted.methods += usize::from(!unlinked.is_empty());
            evicted.bytes += unlinked.into_iter().map(|code| self.code().retire(code)).sum::<usize>();
        }
        Ok(evicted)
    }
}
