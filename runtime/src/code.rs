//! Installed code: artifacts in a code space, found again by an address within them.
//!
//! *Two steps.* [`CodeTable::reserve`] gives an artifact its address, [`Pending::install`] applies its relocations and
//! publishes it. So methods that call each other learn each other's addresses before either is filled in.
//!
//! *Looking up* is a binary search under a read lock: tens of nanoseconds among ten thousand methods, once for each
//! frame that a raise goes through. Code is never taken out before the table is dropped, so what was found stays.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{PoisonError, RwLock};

use dagwood_codegen::{Artifact, Call, Landing, Reloc, RelocKind, RelocTarget, Site};
use dagwood_codespace::{Code, CodeSpace, Span};
use dagwood_il::MethodId;

/// The bytes of a field for a distance, and of a word for an address.
const FIELD_BYTES: usize = 4;
const WORD_BYTES: usize = 8;
/// Opcodes.
const CALL: u8 = 0xe8;
const NOP: u8 = 0x90;
const LOAD: u8 = 0x8b;
const LEA: u8 = 0x8d;
const BREAKPOINT: u8 = 0xcc;

/// A code space and what is installed in it.
///
/// Code in it runs through [`Entry::call`](crate::entry::Entry::call) alone.
#[derive(Debug)]
pub struct CodeTable {
    space: CodeSpace,
    /// By ascending address.
    rows: RwLock<Vec<Row>>,
}

/// Where a body's code starts, and the body, which the table owns.
#[derive(Debug)]
struct Row {
    start: usize,
    body: NonNull<Body>,
}

// SAFETY: a row owns its body, which is immutable plain data once it is in the table.
unsafe impl Send for Row {}
// SAFETY: as above.
unsafe impl Sync for Row {}

/// Installed code with what is known about it.
#[derive(Debug)]
pub struct Body {
    code: Code,
    method: Option<MethodId>,
    frame_size: u32,
    sites: Box<[Site]>,
    handlers: Box<[Landing]>,
}

/// Why an artifact was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstallError {
    /// The code space refused.
    Space(dagwood_codespace::Error),
    /// Nobody knows the address of a relocation's target.
    Unresolved {
        /// The target.
        target: RelocTarget,
    },
    /// A relocation's field is too narrow for its target.
    OutOfReach {
        /// The target.
        target: RelocTarget,
        /// Its address.
        address: usize,
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
            InstallError::Malformed { what } => write!(f, "malformed artifact: {what}"),
        }
    }
}

impl std::error::Error for InstallError {}

/// An artifact that has an address and no code there yet.
#[derive(Debug)]
pub struct Pending<'a> {
    table: &'a CodeTable,
    artifact: &'a Artifact,
    span: Span<'a>,
}

impl CodeTable {
    /// A table for code in `space`.
    pub fn new(space: CodeSpace) -> CodeTable {
        CodeTable { space, rows: RwLock::default() }
    }

    /// The space that the code is in.
    pub fn space(&self) -> &CodeSpace {
        &self.space
    }

    /// Gives `artifact` an address.
    pub fn reserve<'a>(&'a self, artifact: &'a Artifact) -> Result<Pending<'a>, InstallError> {
        check(artifact).map_err(|what| InstallError::Malformed { what })?;
        let align = artifact.align.max(1) as usize;
        let span = self.space.reserve(artifact.code.len() + words_len(artifact), align);
        let span = span.map_err(InstallError::Space)?;
        Ok(Pending { table: self, artifact, span })
    }

    /// The body that `address` lies in.
    pub fn lookup(&self, address: usize) -> Option<&Body> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let row = rows[..rows.partition_point(|row| row.start <= address)].last()?;
        // SAFETY: the row owns the body, and no row is removed before the table is dropped, which `self` outlives.
        let body = unsafe { row.body.as_ref() };
        (address - row.start < body.code.len).then_some(body)
    }

    /// How many bodies are installed.
    pub fn len(&self) -> usize {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing is installed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&self, body: Body) -> &Body {
        let start = body.code.address;
        let body = NonNull::from(Box::leak(Box::new(body)));
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        // Mostly the end: a space hands out ascending addresses.
        let place = rows.partition_point(|row| row.start < start);
        rows.insert(place, Row { start, body });
        // SAFETY: as in `lookup`.
        unsafe { body.as_ref() }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak` in `insert`, owned by this row alone, and no reference outlives the table.
        drop(unsafe { Box::from_raw(self.body.as_ptr()) });
    }
}

impl<'a> Pending<'a> {
    /// Where the code will start.
    pub fn address(&self) -> usize {
        self.span.address()
    }

    /// Fills in the code, as that of `method` or of a stub, and publishes it. `resolve` gives the addresses of all targets
    /// but the artifact's own code. On an error nothing is installed.
    pub fn install(
        mut self,
        method: Option<MethodId>,
        mut resolve: impl FnMut(RelocTarget) -> Option<usize>,
    ) -> Result<&'a Body, InstallError> {
        let base = self.address();
        let Pending { table, artifact, ref mut span } = self;
        let mut address_of = |target| match target {
            RelocTarget::Own => Ok(base),
            _ => resolve(target).ok_or(InstallError::Unresolved { target }),
        };
        let (code, words) = span.bytes_mut().split_at_mut(artifact.code.len());
        code.copy_from_slice(&artifact.code);
        words.fill(BREAKPOINT);
        let mut words = words.chunks_exact_mut(WORD_BYTES);
        let mut word_address = base + code.len();
        for reloc in &artifact.relocs {
            let address = address_of(reloc.target)?;
            match reloc.kind {
                RelocKind::Rel4 => {
                    let value = (address as i64).wrapping_add(reloc.addend);
                    let distance = value.wrapping_sub((base + reloc.offset as usize) as i64);
                    put_distance(code, reloc.offset as usize, distance)
                        .ok_or_else(|| far(reloc.target, address))?;
                }
                RelocKind::Load => {
                    let word = words.next().expect("there is a word for each load");
                    fill_load(code, base, reloc, address, word_address, word);
                    word_address += WORD_BYTES;
                }
            }
        }
        for call in &artifact.calls {
            let address = address_of(call.target)?;
            fill_call(code, base, call, address).ok_or_else(|| far(call.target, address))?;
        }
        let body = Body {
            code: self.span.publish(),
            method,
            frame_size: artifact.frame_size,
            sites: artifact.sites.clone().into_boxed_slice(),
            handlers: artifact.handlers.clone().into_boxed_slice(),
        };
        Ok(table.insert(body))
    }
}

impl Body {
    /// Where its code is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Whose code it is; nothing for a stub.
    pub fn method(&self) -> Option<MethodId> {
        self.method
    }

    /// The bytes of stack that one activation takes.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// The site whose return address is `offset` bytes behind the start of the code.
    pub fn site(&self, offset: u32) -> Option<&Site> {
        let index = self.sites.binary_search_by_key(&offset, |site| site.return_offset).ok()?;
        Some(&self.sites[index])
    }

    /// The handlers of a site, in the order in which they are tried.
    pub fn handlers(&self, site: &Site) -> &[Landing] {
        let first = site.handlers_first as usize;
        &self.handlers[first..first + usize::from(site.handlers_count)]
    }
}

fn far(target: RelocTarget, address: usize) -> InstallError {
    InstallError::OutOfReach { target, address }
}

/// The bytes behind the code for the addresses that loads may need in words of their own.
fn words_len(artifact: &Artifact) -> usize {
    artifact.relocs.iter().filter(|reloc| reloc.kind == RelocKind::Load).count() * WORD_BYTES
}

/// Writes a distance of 32 bits; nothing if it has more.
fn put_distance(code: &mut [u8], field: usize, distance: i64) -> Option<()> {
    let distance = i32::try_from(distance).ok()?;
    code[field..field + FIELD_BYTES].copy_from_slice(&distance.to_le_bytes());
    Some(())
}

/// Makes the instruction of a [`RelocKind::Load`] load `address`, by itself or from a word behind the code.
fn fill_load(
    code: &mut [u8],
    base: usize,
    reloc: &Reloc,
    address: usize,
    word_address: usize,
    word: &mut [u8],
) {
    let field = reloc.offset as usize;
    let value = (address as i64).wrapping_add(reloc.addend);
    let distance_to = |place: i64| place.wrapping_sub((base + field + FIELD_BYTES) as i64);
    if put_distance(code, field, distance_to(value)).is_some() {
        code[field - 2] = LEA;
    } else {
        word.copy_from_slice(&value.to_le_bytes());
        put_distance(code, field, distance_to(word_address as i64)).expect("the word stands behind the code");
    }
}

/// Puts `call rel32` at the end of a call's window; nothing if the target is too far away.
fn fill_call(code: &mut [u8], base: usize, call: &Call, address: usize) -> Option<()> {
    let end = call.end() as usize;
    let field = end - FIELD_BYTES;
    put_distance(code, field, (address as i64).wrapping_sub((base + end) as i64))?;
    code[call.start as usize..field - 1].fill(NOP);
    code[field - 1] = CALL;
    Some(())
}

/// Whether every offset and range that an artifact names is one of its own.
fn check(artifact: &Artifact) -> Result<(), &'static str> {
    let len = artifact.code.len();
    let fits = |offset: u32, width: usize| offset as usize <= len && len - offset as usize >= width;
    let is_load = |field: u32| field >= 3 && artifact.code[field as usize - 2] == LOAD;
    let range = |site: &Site| site.handlers_first as usize + usize::from(site.handlers_count);
    if u32::try_from(len).is_err() {
        Err("it has 4 GiB of code or more")
    } else if !artifact.relocs.iter().all(|reloc| fits(reloc.offset, FIELD_BYTES)) {
        Err("a relocation lies outside of the code")
    } else if !artifact.relocs.iter().all(|reloc| reloc.kind != RelocKind::Load || is_load(reloc.offset)) {
        Err("a relocation says that there is a load where there is none")
    } else if !artifact.calls.iter().all(|call| call.len > 5 && fits(call.start, call.len.into())) {
        Err("a call lies outside of the code, or has no room for one")
    } else if !artifact.sites.windows(2).all(|pair| pair[0].return_offset < pair[1].return_offset) {
        Err("sites are not in the order of their return addresses")
    } else if !artifact
        .sites
        .iter()
        .all(|site| fits(site.return_offset, 0) && range(site) <= artifact.handlers.len())
    {
        Err("a site lies outside of the code, or its handlers outside of the list")
    } else if !artifact.handlers.iter().all(|handler| fits(handler.offset, 1)) {
        Err("a handler lies outside of the code")
    } else {
        Ok(())
    }
}
