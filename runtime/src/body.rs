//! What is known about installed code: its sites and handlers, and what it calls.

use std::ops::Range;
use std::sync::Arc;

use dagwood_codegen::{FrameState, Landing, Site};
use dagwood_codespace::Slot;
use dagwood_il::MethodId;

use crate::links::{Program, Redirect};

/// Installed code with what is known about it. Plain data: it never changes once its code is published.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) method: Option<MethodId>,
    pub(crate) frame_size: u32,
    pub(crate) sites: Box<[Site]>,
    pub(crate) handlers: Box<[Landing]>,
    /// The references that maps of sites list, as distances below the frame pointer.
    pub(crate) references: Box<[u32]>,
    /// Whether it has values that are references.
    pub(crate) has_references: bool,
    /// Whether a handler of it takes what was raised for a reference.
    pub(crate) catches_references: bool,
    /// The frame states of sites.
    pub(crate) frames: Box<[FrameState]>,
    /// The program whose methods it calls directly, if these calls may be redirected.
    pub(crate) program: Option<Arc<Program>>,
    /// These calls, by ascending return address.
    pub(crate) calls: Box<[Outgoing]>,
    /// The words that its loads and its calls of what stays go through; they live as long as the code.
    pub(crate) _slots: Box<[Arc<Slot>]>,
}

/// A direct call of a method.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) callee: MethodId,
    pub(crate) redirect: Redirect,
    /// Where it went when the code was linked.
    pub(crate) target: usize,
}

/// Where code is, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Located {
    /// Whose code it is; nothing for a stub.
    pub method: Option<MethodId>,
    /// Where it starts.
    pub start: usize,
    /// Its bytes.
    pub len: usize,
    /// The bytes of stack that one activation takes.
    pub frame_size: u32,
}

impl Located {
    /// Its addresses.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

impl Body {
    /// What others may know of it when it is gone.
    pub(crate) fn located(&self) -> Located {
        let Body { method, start, len, frame_size, .. } = *self;
        Located { method, start, len, frame_size }
    }

    /// The site whose return address is `offset` bytes behind the start of the code.
    pub(crate) fn site(&self, offset: u32) -> Option<&Site> {
        let index = self.sites.binary_search_by_key(&offset, |site| site.return_offset).ok()?;
        Some(&self.sites[index])
    }

    /// The handlers of a site, in the order in which they are tried.
    pub(crate) fn handlers(&self, site: &Site) -> &[Landing] {
        let first = site.handlers_first as usize;
        &self.handlers[first..first + usize::from(site.handlers_count)]
    }

    /// The frame states of a site, the innermost first: several where methods were inlined.
    pub(crate) fn frames(&self, site: &Site) -> impl Iterator<Item = &FrameState> {
        let state = |index: u32| &self.frames[index as usize];
        std::iter::successors(site.frame.map(state), move |inner| inner.parent.map(state))
    }

    /// Where a frame that waits at a site has references, as distances below its frame pointer; none if objects do not move there.
    pub(crate) fn references(&self, site: &Site) -> Option<&[u32]> {
        let map = site.references?;
        Some(&self.references[map.first as usize..(map.first + map.count) as usize])
    }

    /// The method that is called by the direct call with this return address.
    pub(crate) fn callee(&self, return_address: usize) -> Option<MethodId> {
        let index =
            self.calls.binary_search_by_key(&return_address, |call| call.redirect.return_address()).ok()?;
        Some(self.calls[index].callee)
    }
}
