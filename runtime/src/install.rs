//! Putting artifacts in place: addresses, relocations, the forms of calls.
//!
//! ```text
//!   reserve all ──► link: copy, calls, relocations ──► stubs for what is out of reach ──► link again ──► publish all
//! ```
//!
//! *Two steps.* [`Batch::reserve`] gives an artifact its address, installing fills it in and publishes it. So methods that call
//! each other learn each other's addresses before either is filled in, and what fails before the first is published
//! leaves nothing behind.
//!
//! *Forms.* A call is direct where its target is in reach, else it goes through a slot of the code's own, and so does a
//! load of an address. Where the space cannot patch calls, those that may be redirected go through slots too. Jumps and the
//! calls that code makes out of its way have no room for that: where their target is out of reach they go to a stub that
//! jumps there, made once for each target. A site's return offset follows the call's form.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use dagwood_codegen::{Artifact, Call, FrameState, Reloc, RelocKind, RelocTarget, Site};
use dagwood_codespace::{
    CallForm, CodeBuf, CodeWriter, Error, HotEdge, Lane, Layout, PAGE, Patching, Slot, WINDOW_MAX,
};
use dagwood_il::{Assumption, MethodId};

use crate::body::{Body, Located, Outgoing};
use crate::code::{CodeTable, Owner};
use crate::links::{Links, Pin, Program, Redirect};
use crate::stubs;

/// The bytes of a field for a distance, and those of the instruction of a load before its field.
const FIELD_BYTES: usize = 4;
const LOAD_PREFIX_BYTES: u32 = 3;
/// The shortest window that a call fits in whatever its form.
const WINDOW_BYTES: usize = dagwood_codespace::WINDOW_MIN_PATCHED;

/// Why an artifact was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstallError {
    /// The code space refused.
    Space(Error),
    /// Nobody knows the address of a relocation's target.
    Unresolved {
        /// The target.
        target: RelocTarget,
    },
    /// There is no way from the code to a target.
    OutOfReach {
        /// The target.
        target: RelocTarget,
        /// Its address.
        address: usize,
    },
    /// The code assumes something that may change, and nobody would take it back then.
    Unregistered {
        /// What it assumes.
        assumption: Assumption,
    },
    /// The artifact contradicts itself, which is the code generator's fault.
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstallError::Space(error) => error.fmt(f),
            InstallError::Unresolved { target } => {
                write!(f, "code refers to {target:?}, whose address is not known")
            }
            InstallError::OutOfReach { target, address } => {
                write!(f, "code refers to {target:?} at {address:#x}, which is too far away")
            }
            InstallError::Unregistered { assumption } => {
                write!(f, "code assumes that {assumption}, and is not taken back when that ends")
            }
            InstallError::Malformed { what } => write!(f, "malformed artifact: {what}"),
        }
    }
}

impl std::error::Error for InstallError {}

impl From<Error> for InstallError {
    fn from(error: Error) -> InstallError {
        InstallError::Space(error)
    }
}

/// What is installed together, by one thread.
pub struct Batch<'t> {
    table: &'t CodeTable,
    /// Always there, but while it is given back.
    writer: Option<CodeWriter>,
}

/// An artifact that has an address and no code there yet. Dropping it gives the room back.
pub struct Pending<'b> {
    table: &'b CodeTable,
    writer: &'b CodeWriter,
    artifact: &'b Artifact,
    lane: Lane,
    buffer: CodeBuf<'b>,
    filled: Filled,
}

/// What was found out while code was filled in.
#[derive(Default)]
struct Filled {
    sites: Vec<Site>,
    calls: Vec<Outgoing>,
    /// What its loads, and its calls that are never redirected, go through.
    slots: Vec<Arc<Slot>>,
}

/// What code is filled in for.
pub(crate) struct Subject<'p> {
    pub(crate) method: Option<MethodId>,
    /// Whose methods it calls by calls that may be redirected.
    pub(crate) program: Option<&'p Arc<Program>>,
}

/// What is out of reach of code that needs it there.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    targets: Vec<(RelocTarget, usize)>,
}

/// How many stubs were made for each address.
#[derive(Debug, Default)]
pub(crate) struct Made(BTreeMap<usize, u32>);

impl Missing {
    /// Notes that a field that ends at `end` must lead to `address`.
    pub(crate) fn reach(&mut self, table: &CodeTable, target: RelocTarget, end: usize, address: usize) {
        let is_known = |missing: &Missing| missing.targets.iter().any(|&(_, known)| known == address);
        if table.within_reach(end, address).is_none() && !is_known(self) {
            self.targets.push((target, address));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

impl<'t> Batch<'t> {
    pub(crate) fn new(table: &'t CodeTable, writer: CodeWriter) -> Batch<'t> {
        Batch { table, writer: Some(writer) }
    }

    fn writer(&self) -> &CodeWriter {
        self.writer.as_ref().expect("a batch has its writer until it is dropped")
    }

    /// Gives `artifact` an address among code of its kind.
    ///
    /// # Errors
    ///
    /// If the artifact contradicts itself, or there is no room.
    pub fn reserve<'b>(&'b self, artifact: &'b Artifact, lane: Lane) -> Result<Pending<'b>, InstallError> {
        check(artifact).map_err(|what| InstallError::Malformed { what })?;
        let edge = |edge: &dagwood_codegen::BackEdge| HotEdge {
            start: edge.start,
            end: edge.end,
            frequency: edge.frequency,
        };
        let mut hot = Vec::new();
        hot.try_reserve_exact(artifact.back_edges.len()).map_err(|_| Error::Memory)?;
        hot.extend(artifact.back_edges.iter().map(edge));
        let layout =
            Layout { size: artifact.code.len(), align: artifact.align.max(1) as usize, lane, hot: &hot };
        let buffer = self.writer().reserve(&layout)?;
        let filled = Filled::default();
        Ok(Pending { table: self.table, writer: self.writer(), artifact, lane, buffer, filled })
    }

    /// Makes what is missing for code among code of this kind.
    pub(crate) fn provide(
        &self,
        missing: Missing,
        made: &mut Made,
        lane: Lane,
    ) -> Result<(), (RelocTarget, InstallError)> {
        provide(self.table, self.writer(), missing, made, lane)
    }
}

/// Makes stubs: beside other stubs, and if that was tried and is too far away, among the code that needs them.
fn provide(
    table: &CodeTable,
    writer: &CodeWriter,
    missing: Missing,
    made: &mut Made,
    lane: Lane,
) -> Result<(), (RelocTarget, InstallError)> {
    for (target, address) in missing.targets {
        let tried = made.0.entry(address).or_default();
        *tried += 1;
        let lane = match *tried {
            1 => Lane::Stubs,
            2 => lane,
            _ => return Err((target, InstallError::OutOfReach { target, address })),
        };
        table.make_far_jump(writer, address, lane).map_err(|error| (target, error.into()))?;
    }
    Ok(())
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.table.give_back(writer);
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("table", self.table).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

impl Pending<'_> {
    /// Where the code will start.
    pub fn address(&self) -> usize {
        self.buffer.address()
    }

    /// Fills in the code, as that of `method` or of a stub, and publishes it. `resolve` gives the addresses of all targets
    /// but the artifact's own code. Its calls are never redirected. On an error nothing is installed.
    ///
    /// # Errors
    ///
    /// An [`InstallError`].
    pub fn install(
        mut self,
        method: Option<MethodId>,
        mut resolve: impl FnMut(RelocTarget) -> Option<usize>,
    ) -> Result<Located, InstallError> {
        let subject = Subject { method, program: None };
        let mut made = Made::default();
        loop {
            let mut missing = Missing::default();
            self.link(&subject, &mut resolve, &mut missing)?;
            if missing.is_empty() {
                break;
            }
            provide(self.table, self.writer, missing, &mut made, self.lane).map_err(|(_, error)| error)?;
        }
        Ok(self.publish_body(&subject, None)?.1)
    }

    /// Fills in the code. What it lacks a way to goes to `missing`; then it is to be filled in again.
    pub(crate) fn link(
        &mut self,
        subject: &Subject<'_>,
        mut resolve: impl FnMut(RelocTarget) -> Option<usize>,
        missing: &mut Missing,
    ) -> Result<(), InstallError> {
        let base = self.address();
        let artifact = self.artifact;
        let mut address_of = |target| match target {
            RelocTarget::Own => Ok(base),
            _ => resolve(target).ok_or(InstallError::Unresolved { target }),
        };
        self.buffer.bytes_mut().copy_from_slice(&artifact.code);
        self.filled = Filled { sites: copied(&artifact.sites)?, ..Filled::default() };
        self.filled.calls.try_reserve_exact(artifact.calls.len()).map_err(|_| Error::Memory)?;
        let mut words = BTreeMap::new();
        for reloc in &artifact.relocs {
            let address = address_of(reloc.target)?;
            // What a call may meet for a while must not become a value, or the target of a jump, for good.
            if matches!(reloc.target, RelocTarget::Method(_)) && address == stubs::unlinked_address() {
                return Err(InstallError::Unresolved { target: reloc.target });
            }
            match reloc.kind {
                RelocKind::Rel4 => self.fill_distance(reloc, address, missing)?,
                RelocKind::Load => self.fill_load(reloc, address, &mut words)?,
            }
        }
        self.filled.slots.try_reserve(words.len()).map_err(|_| Error::Memory)?;
        self.filled.slots.extend(words.into_values().map(Arc::new));
        let mut slots = BTreeMap::new();
        for call in &artifact.calls {
            let address = address_of(call.target)?;
            self.fill_call(subject, call, address, &mut slots, missing)?;
        }
        Ok(())
    }

    /// A slot that this code reaches.
    fn slot(&self, target: usize) -> Result<Slot, InstallError> {
        let start = self.address();
        Ok(self.table.slot(start..start + self.buffer.len(), target)?)
    }

    /// Writes the way from a field to `address`, or to a jump there.
    fn fill_distance(
        &mut self,
        reloc: &Reloc,
        address: usize,
        missing: &mut Missing,
    ) -> Result<(), InstallError> {
        let field = reloc.offset as usize;
        let place = self.address() + field;
        let Some(reached) = self.table.within_reach(place + FIELD_BYTES, address) else {
            missing.reach(self.table, reloc.target, place + FIELD_BYTES, address);
            return Ok(());
        };
        let distance = (reached as i64).wrapping_add(reloc.addend).wrapping_sub(place as i64);
        let distance = i32::try_from(distance)
            .map_err(|_| InstallError::OutOfReach { target: reloc.target, address })?;
        self.buffer.bytes_mut()[field..field + FIELD_BYTES].copy_from_slice(&distance.to_le_bytes());
        Ok(())
    }

    /// Makes an instruction load an address by itself, or from a word.
    fn fill_load(
        &mut self,
        reloc: &Reloc,
        address: usize,
        words: &mut BTreeMap<usize, Slot>,
    ) -> Result<(), InstallError> {
        let value = (address as i64).wrapping_add(reloc.addend) as usize;
        let window = reloc.offset - LOAD_PREFIX_BYTES..reloc.offset + FIELD_BYTES as u32;
        match self.buffer.load(window.clone(), value, words.get(&value)) {
            Ok(_) => Ok(()),
            Err(Error::OutOfReach { .. }) => {
                let slot = self.slot(value)?;
                self.buffer.load(window, value, Some(&slot))?;
                words.insert(value, slot);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fills a call's window, and says where it returns to.
    fn fill_call(
        &mut self,
        subject: &Subject<'_>,
        call: &Call,
        address: usize,
        slots: &mut BTreeMap<RelocTarget, Arc<Slot>>,
        missing: &mut Missing,
    ) -> Result<(), InstallError> {
        let callee = match call.target {
            RelocTarget::Method(method) if subject.program.is_some() => Some(method),
            _ => None,
        };
        let patching = if callee.is_some() { self.table.patching() } else { Patching::Never };
        let window = call.start..call.end();
        let slot = slots.get(&call.target).map(|slot| &**slot);
        let site = match self.buffer.call(window.clone(), address, slot, patching) {
            Err(Error::OutOfReach { .. }) => {
                let slot = Arc::new(self.slot(address)?);
                let site = self.buffer.call(window, address, Some(&slot), patching)?;
                slots.insert(call.target, slot);
                site
            }
            site => site?,
        };
        let return_offset = (site.return_address() - self.address()) as u32;
        let sites = &mut self.filled.sites;
        if let Ok(index) = sites.binary_search_by_key(&call.end(), |site| site.return_offset) {
            sites[index].return_offset = return_offset;
        }
        let redirect = match (site.form(), slots.get(&call.target)) {
            (CallForm::Slot, Some(slot)) => Redirect::Slot(site, Arc::clone(slot)),
            _ => Redirect::Near(site),
        };
        if let Some(callee) = callee {
            // When the callee's code is taken out, the call goes to the stub that says so.
            if let Redirect::Near(site) = &redirect {
                missing.reach(self.table, call.target, site.return_address(), stubs::unlinked_address());
            }
            self.filled.calls.push(Outgoing { callee, redirect, target: address });
        } else if let Redirect::Slot(_, slot) = redirect {
            self.filled.slots.try_reserve(1).map_err(|_| Error::Memory)?;
            self.filled.slots.push(slot);
        }
        Ok(())
    }

    /// The methods that the code uses in ways that cannot be taken back.
    pub(crate) fn pins(&self) -> impl Iterator<Item = (MethodId, Pin)> {
        self.artifact.relocs.iter().filter_map(|reloc| match (reloc.target, reloc.kind) {
            (RelocTarget::Method(method), RelocKind::Load) => Some((method, Pin::Address)),
            (RelocTarget::Method(method), RelocKind::Rel4) => Some((method, Pin::Jump)),
            _ => None,
        })
    }

    /// Publishes the code, which is linked, with its calls registered, and shows it to who wants to see it as `name`.
    ///
    /// # Errors
    ///
    /// If the space cannot publish it: then nothing is installed.
    pub(crate) fn publish(
        self,
        subject: &Subject<'_>,
        name: Option<&str>,
        links: &mut Links,
    ) -> Result<(Owner, Located), Error> {
        let calls = copied(&self.filled.calls)?;
        let (owner, located) = self.publish_body(subject, name)?;
        links.register(owner, located.start, calls);
        Ok((owner, located))
    }

    fn publish_body(mut self, subject: &Subject<'_>, name: Option<&str>) -> Result<(Owner, Located), Error> {
        let Filled { sites, calls, slots } = std::mem::take(&mut self.filled);
        let body = Body {
            start: self.address(),
            len: self.buffer.len(),
            method: subject.method,
            frame_size: self.artifact.frame_size,
            sites: sites.into_boxed_slice(),
            handlers: copied(&self.artifact.handlers)?.into_boxed_slice(),
            references: copied(&self.artifact.references)?.into_boxed_slice(),
            has_references: self.artifact.has_references,
            catches_references: self.artifact.catches_references,
            frames: copied(&self.artifact.frames)?.into_boxed_slice(),
            program: subject.program.cloned(),
            calls: calls.into_boxed_slice(),
            _slots: slots.into_boxed_slice(),
        };
        let located = body.located();
        let owner = self.table.publish(self.buffer, body, name.unwrap_or("entry shim"))?;
        Ok((owner, located))
    }
}

/// A copy, if there is memory.
fn copied<T: Clone>(items: &[T]) -> Result<Vec<T>, Error> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(items.len()).map_err(|_| Error::Memory)?;
    copy.extend_from_slice(items);
    Ok(copy)
}

/// Whether every offset and range that an artifact names is one of its own.
fn check(artifact: &Artifact) -> Result<(), &'static str> {
    let len = artifact.code.len();
    let fits = |offset: u32, width: usize| offset as usize <= len && len - offset as usize >= width;
    let is_load = |reloc: &Reloc| match reloc.kind {
        RelocKind::Rel4 => true,
        RelocKind::Load => {
            reloc.offset >= LOAD_PREFIX_BYTES
                && matches!(artifact.code[(reloc.offset - LOAD_PREFIX_BYTES) as usize..],
                    [rex, 0x8b, modrm, ..] if rex & !0x04 == 0x48 && modrm & 0xc7 == 0x05)
        }
    };
    // Of calls that are in order and do not overlap.
    let is_in_window = |reloc: &Reloc| {
        let (end, first) = (
            reloc.offset + FIELD_BYTES as u32,
            match reloc.kind {
                RelocKind::Rel4 => reloc.offset,
                RelocKind::Load => reloc.offset - LOAD_PREFIX_BYTES,
            },
        );
        let next = artifact.calls.partition_point(|call| call.end() <= first);
        artifact.calls.get(next).is_some_and(|call| call.start < end)
    };
    if u32::try_from(len).is_err() {
        Err("it has 4 GiB of code or more")
    } else if !(artifact.align.max(1).is_power_of_two() && artifact.align as usize <= PAGE) {
        Err("its alignment is no power of two up to that of a page")
    } else if !artifact.relocs.iter().all(|reloc| fits(reloc.offset, FIELD_BYTES)) {
        Err("a relocation lies outside of the code")
    } else if !artifact.relocs.iter().all(is_load) {
        Err("a relocation says that there is a load where there is none")
    } else if !artifact.calls.iter().all(|call| {
        (WINDOW_BYTES..=WINDOW_MAX).contains(&call.len.into()) && fits(call.start, call.len.into())
    }) {
        Err("a call lies outside of the code, or has no room for one")
    } else if !artifact.calls.windows(2).all(|pair| pair[0].end() <= pair[1].start) {
        Err("calls overlap or are not in order")
    } else if artifact.relocs.iter().any(is_in_window) {
        Err("a relocation lies in a call's window")
    } else if !artifact.sites.windows(2).all(|pair| pair[0].return_offset < pair[1].return_offset) {
        Err("sites are not in the order of their return addresses")
    } else if !artifact.sites.iter().all(|site| fits(site.return_offset, 0) && has_lists(artifact, site)) {
        Err("a site lies outside of the code, or what it names outside of its lists")
    } else if !artifact.frames.iter().enumerate().all(|(index, frame)| has_values(artifact, index, frame)) {
        Err("a frame state precedes its parent, or its values lie outside of the list")
    } else if !artifact.handlers.iter().all(|handler| fits(handler.offset, 1)) {
        Err("a handler lies outside of the code")
    } else {
        Ok(())
    }
}

/// Whether what a site names is in the artifact's lists.
fn has_lists(artifact: &Artifact, site: &Site) -> bool {
    let handlers = site.handlers_first as usize + usize::from(site.handlers_count);
    let references = site.references.map_or(0, |map| u64::from(map.first) + u64::from(map.count));
    handlers <= artifact.handlers.len()
        && references <= artifact.references.len() as u64
        && site.frame.is_none_or(|frame| (frame as usize) < artifact.frames.len())
}

/// Whether what a frame state names is in the artifact's lists.
fn has_values(artifact: &Artifact, index: usize, frame: &FrameState) -> bool {
    let values = u64::from(frame.locals) + u64::from(frame.stack) + u64::from(frame.monitors);
    u64::from(frame.first) + values <= artifact.locations.len() as u64
        && frame.parent.is_none_or(|parent| (parent as usize) < index)
}
