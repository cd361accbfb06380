//! The default host: memory as regions with offsets, natives as closures.
//!
//! ```text
//!   0x0000_0001_0000  statics, then regions as they are added, each followed by a gap
//!   0x1000_0000_0000  descriptions of classes   (addresses only, nothing to read)
//!   0x2000_0000_0000  methods                   (addresses only, nothing to read)
//!   0x3000_0000_0000  address-taken locals, one frame above the other
//!   0x4000_0000_0000  objects
//! ```
//!
//! *Guarantees.* No address is real: an access is a lookup, and one outside of all regions is a [`Fault`] with its
//! address. The same calls give the same addresses on every run. Objects are never freed; past
//! [`Regions::heap_limit`] there are no more.
//!
//! *Cost.* A binary search of the regions where an access is not in the same one as the last.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::entity::Entity;
use crate::eval::Value;
use crate::layout::{CLASS_OFFSET, HEADER_BYTES, LENGTH_OFFSET, OBJECT_ALIGN, ObjectKind, array_bytes};
use crate::module::{MethodId, Module, NativeId, SymbolId, SymbolKind};
use crate::raise::RaiseKind;
use crate::types::Type;

use super::host::{Fault, GuardSite, Host, Raised, Values};

const FIRST_REGION: u64 = 0x1_0000;
const DESCRIPTIONS: u64 = 0x1000_0000_0000;
const METHODS: u64 = 0x2000_0000_0000;
const SLOTS: u64 = 0x3000_0000_0000;
const OBJECTS: u64 = 0x4000_0000_0000;
/// What methods' addresses and descriptions' addresses are multiples of.
const STEP: u64 = 16;
/// What regions begin at a multiple of; also the least distance between two.
const PAGE: u64 = 0x1_0000;

/// A native function: the host, the context, the arguments.
pub type Native<'h> = Box<dyn FnMut(&mut Regions<'h>, u64, &[Value]) -> Result<Values, Raised> + 'h>;

/// Whether the assumptions of a guard hold.
type Assumptions<'h> = Box<dyn FnMut(GuardSite<'_>) -> bool + 'h>;

/// Consecutive bytes at an address.
struct Region {
    base: u64,
    bytes: Vec<u8>,
}

/// The default host: memory as regions with offsets, natives as closures.
pub struct Regions<'h> {
    /// By ascending address.
    regions: Vec<Region>,
    /// The region of the last access.
    last: usize,
    next_base: u64,
    statics: Vec<Option<u64>>,
    method_count: usize,
    class_count: usize,
    natives: BTreeMap<usize, Native<'h>>,
    monitors: BTreeMap<u64, u32>,
    guards: Option<Assumptions<'h>>,
    /// The most bytes that objects may take; past them, allocation raises `out_of_memory`.
    pub heap_limit: u64,
    /// The most bytes that address-taken locals may take; past them, calls raise `stack_overflow`.
    pub slot_limit: u64,
}

impl<'h> Regions<'h> {
    /// A host for a program: its statics are there and zero, and there is no other memory.
    pub fn new(module: &Module) -> Regions<'h> {
        let mut next = FIRST_REGION;
        let statics = module.symbols.values().map(|symbol| match symbol.kind {
            SymbolKind::Static(_) => {
                next += u64::from(Type::V128.bytes());
                Some(next - u64::from(Type::V128.bytes()))
            }
            _ => None,
        });
        let statics = statics.collect();
        let mut host = Regions {
            regions: Vec::new(),
            last: 0,
            next_base: FIRST_REGION,
            statics,
            method_count: module.methods.len(),
            class_count: module.classes.len(),
            natives: BTreeMap::new(),
            monitors: BTreeMap::new(),
            guards: None,
            heap_limit: 64 << 20,
            slot_limit: 64 << 20,
        };
        host.add((next - FIRST_REGION) as usize);
        host.regions.push(Region { base: SLOTS, bytes: Vec::new() });
        host.regions.push(Region { base: OBJECTS, bytes: Vec::new() });
        host
    }

    /// Adds a region of zeros and returns its address, a multiple of 64 KiB. Regions do not touch.
    pub fn add(&mut self, size_bytes: usize) -> u64 {
        let base = self.next_base;
        self.next_base = (base + size_bytes as u64).next_multiple_of(PAGE) + PAGE;
        let at = self.regions.partition_point(|region| region.base < base);
        self.regions.insert(at, Region { base, bytes: vec![0; size_bytes] });
        base
    }

    /// The bytes at an address.
    ///
    /// # Errors
    ///
    /// A fault unless they are all in one region.
    pub fn bytes(&mut self, address: u64, count: usize) -> Result<&[u8], Fault> {
        self.bytes_mut(address, count).map(|bytes| &*bytes)
    }

    /// The bytes at an address, to be written.
    ///
    /// # Errors
    ///
    /// A fault unless they are all in one region.
    pub fn bytes_mut(&mut self, address: u64, count: usize) -> Result<&mut [u8], Fault> {
        let fault = Fault { address };
        let is_in =
            |region: &Region| region.base <= address && address - region.base <= region.bytes.len() as u64;
        if !self.regions.get(self.last).is_some_and(is_in) {
            let above = self.regions.partition_point(|region| region.base <= address);
            self.last = above.checked_sub(1).ok_or(fault)?;
        }
        let region = self.regions.get_mut(self.last).filter(|region| is_in(region)).ok_or(fault)?;
        let offset = (address - region.base) as usize;
        region.bytes[offset..].get_mut(..count).ok_or(fault)
    }

    /// Says where the storage of a symbol is: of one that is not a static, or of a static that has it elsewhere.
    pub fn bind(&mut self, symbol: SymbolId, address: u64) {
        self.statics.resize(self.statics.len().max(symbol.index() + 1), None);
        self.statics[symbol.index()] = Some(address);
    }

    /// Says what a native function does.
    pub fn native(
        &mut self,
        native: NativeId,
        function: impl FnMut(&mut Regions<'h>, u64, &[Value]) -> Result<Values, Raised> + 'h,
    ) {
        self.natives.insert(native.index(), Box::new(function));
    }

    /// Says which guards' assumptions hold; all do otherwise.
    pub fn guards(&mut self, holds: impl FnMut(GuardSite<'_>) -> bool + 'h) {
        self.guards = Some(Box::new(holds));
    }

    /// The region that begins at an address of the map above.
    fn region(&mut self, base: u64) -> Option<&mut Region> {
        let at = self.regions.binary_search_by_key(&base, |region| region.base).ok()?;
        self.regions.get_mut(at)
    }
}

impl Host for Regions<'_> {
    fn load(&mut self, address: u64, size_bytes: u32) -> Result<u128, Fault> {
        let mut bits = [0; 16];
        let size = (size_bytes as usize).min(bits.len());
        bits[..size].copy_from_slice(self.bytes_mut(address, size)?);
        Ok(u128::from_le_bytes(bits))
    }

    fn store(&mut self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault> {
        let bits = bits.to_le_bytes();
        let size = (size_bytes as usize).min(bits.len());
        self.bytes_mut(address, size)?.copy_from_slice(&bits[..size]);
        Ok(())
    }

    fn copy(&mut self, destination: u64, source: u64, count: u64) -> Result<(), Fault> {
        if count == 0 {
            return Ok(());
        }
        let size = usize::try_from(count).map_err(|_| Fault { address: source })?;
        self.bytes_mut(destination, size)?;
        let bytes = self.bytes(source, size)?.to_vec();
        self.bytes_mut(destination, size)?.copy_from_slice(&bytes);
        Ok(())
    }

    fn fill(&mut self, destination: u64, byte: u8, count: u64) -> Result<(), Fault> {
        if count == 0 {
            return Ok(());
        }
        let size = usize::try_from(count).map_err(|_| Fault { address: destination })?;
        self.bytes_mut(destination, size)?.fill(byte);
        Ok(())
    }

    fn compare(&mut self, left: u64, right: u64, count: u64) -> Result<Ordering, Fault> {
        if count == 0 {
            return Ok(Ordering::Equal);
        }
        let size = usize::try_from(count).map_err(|_| Fault { address: left })?;
        let left = self.bytes(left, size)?.to_vec();
        Ok(left.as_slice().cmp(self.bytes(right, size)?))
    }

    fn symbol_address(&mut self, symbol: SymbolId) -> Option<u64> {
        self.statics.get(symbol.index()).copied().flatten()
    }

    fn enter_slots(&mut self, size_bytes: u64) -> Option<u64> {
        let limit = self.slot_limit;
        let region = self.region(SLOTS)?;
        let start = region.bytes.len();
        let end = start as u64 + size_bytes.next_multiple_of(STEP);
        if end > limit {
            return None;
        }
        region.bytes.resize(end as usize, 0);
        Some(SLOTS + start as u64)
    }

    fn leave_slots(&mut self, address: u64, _size_bytes: u64) {
        if let Some(region) = self.region(SLOTS) {
            region.bytes.truncate(address.saturating_sub(SLOTS) as usize);
        }
    }

    fn method_address(&mut self, method: MethodId) -> u64 {
        METHODS + method.index() as u64 * STEP
    }

    fn method_at(&mut self, address: u64) -> Option<MethodId> {
        let offset = address.checked_sub(METHODS)?;
        let index = usize::try_from(offset / STEP).ok()?;
        (offset % STEP == 0 && index < self.method_count).then(|| MethodId::new(index))
    }

    fn native(&mut self, native: NativeId, context: u64, args: &[Value]) -> Result<Values, Raised> {
        // Taken out, so that it can be given the host; one that calls itself through the host is not there.
        let missing = Raised::new(RaiseKind::Fault, 0);
        let mut function = self.natives.remove(&native.index()).ok_or(missing)?;
        let results = function(self, context, args);
        self.natives.entry(native.index()).or_insert(function);
        results
    }

    fn holds(&mut self, site: GuardSite<'_>) -> bool {
        self.guards.as_mut().is_none_or(|holds| holds(site))
    }

    fn monitor_enter(&mut self, object: u64) -> Result<(), Raised> {
        self.kind_of(object)?;
        let count = self.monitors.entry(object).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    fn monitor_exit(&mut self, object: u64) -> Result<(), Raised> {
        self.kind_of(object)?;
        match self.monitors.get_mut(&object) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.monitors.remove(&object);
            }
            None => return Err(Raised::new(RaiseKind::Monitor, 0)),
        }
        Ok(())
    }

    fn description_of(&mut self, kind: ObjectKind) -> u64 {
        DESCRIPTIONS + u64::from(kind.encode()) * STEP
    }

    fn description_at(&mut self, address: u64) -> Option<ObjectKind> {
        let offset = address.checked_sub(DESCRIPTIONS).filter(|_| address < METHODS)?;
        let number = u32::try_from(offset / STEP).ok().filter(|_| offset % STEP == 0)?;
        ObjectKind::decode(number).filter(|kind| match kind {
            ObjectKind::Object(class) | ObjectKind::ObjectArray(class) => class.index() < self.class_count,
            ObjectKind::Array(_) => true,
        })
    }

    fn allocate(&mut self, module: &Module, kind: ObjectKind, length: u32) -> Result<u64, Raised> {
        let size = match kind {
            ObjectKind::Object(class) => module.classes.get(class).map_or(0, |class| class.size_bytes).into(),
            ObjectKind::Array(ty) => array_bytes(ty, length),
            ObjectKind::ObjectArray(_) => array_bytes(Type::Ref, length),
        };
        let size = size.max(HEADER_BYTES.into()).next_multiple_of(OBJECT_ALIGN.into());
        let none_left = Raised::new(RaiseKind::OutOfMemory, 0);
        let limit = self.heap_limit;
        let heap = self.region(OBJECTS).ok_or(none_left)?;
        let start = heap.bytes.len() as u64;
        if start + size > limit {
            return Err(none_left);
        }
        heap.bytes.resize((start + size) as usize, 0);
        let object = OBJECTS + start;
        let description = self.description_of(kind);
        self.store(object.wrapping_add_signed(CLASS_OFFSET.into()), 8, description.into())?;
        self.store(object.wrapping_add_signed(LENGTH_OFFSET.into()), 4, length.into())?;
        Ok(object)
    }
}
