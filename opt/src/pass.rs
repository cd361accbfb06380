//! What a pass is: a name and a function.

use std::fmt;

use dagwood_il::Method;

use crate::cx::PassCx;

/// Whether a pass changed its method.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The method is as it was.
    No,
    /// Something is different; analyses must be computed again.
    Yes,
}

impl Changed {
    /// One change after another, or none.
    pub fn or(self, other: Changed) -> Changed {
        if self == Changed::Yes { self } else { other }
    }
}

/// One optimization. It finds (pure), asks leave ([`PassCx::allows`]), and does ([`PassCx::apply`], once and last). Dumping, timing,
/// verifying and counting are the manager's business.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Its name: that of its file, and of its use on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Does it.
    pub run: fn(&mut Method<'_>, &mut PassCx<'_>) -> Changed,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
