//! A host with objects: native functions that use a heap, for compiled code and for the interpreter.
//!
//! ```text
//!   Objects ──► host::Host             compiled code: Jit::call with `host: &objects`
//!      └ interpreter ──► interp::Host  the reference interpreter, over the same objects and statics
//! ```
//!
//! Both engines may run with the same objects one after the other, and within each other: native functions may call either. While
//! the interpreter waits for what may move objects, its references are held by the heap.

use std::fmt;
use std::ops::Range;

use dagwood_il::entity::Entity;
use dagwood_il::eval::Value;
use dagwood_il::interp::{self, Fault, Raised, References, Values};
use dagwood_il::layout::ObjectKind;
use dagwood_il::{ClassId, MethodId, Module, NativeId, Signature, SymbolId, Type};

use crate::heap::Heap;
use crate::host::{Host, NativeCall};
use crate::layout::Slot;
use crate::memory::{Limits, LinearMemory, MemoryError};
use crate::raise::Raise;
use crate::view::MemoryView;

/// A native function: the heap, the arguments.
type Function<'h> = Box<dyn Fn(&Heap, &[Value]) -> Result<Vec<Value>, Raise> + 'h>;

/// A heap, and the native functions of a program.
pub struct Objects<'h> {
    heap: &'h Heap,
    rows: Vec<(Signature, Option<Function<'h>>)>,
    method_count: usize,
}

impl<'h> Objects<'h> {
    /// No function is registered. A call of one that is not registered is a fault.
    pub fn new(module: &Module, heap: &'h Heap) -> Objects<'h> {
        let rows = module.natives.keys().map(|native| (module.native_signature(native).clone(), None));
        Objects { heap, rows: rows.collect(), method_count: module.methods.len() }
    }

    /// The heap.
    pub fn objects(&self) -> &'h Heap {
        self.heap
    }

    /// Registers a function. It gets arguments of its signature's types and must return values of its results' types. What it
    /// returns as a reference, or raises and code catches as one, must be null or lead to an object of the heap, or that is a fault. References
    /// that it keeps across anything that may move objects it [holds](Heap::root).
    ///
    /// # Panics
    ///
    /// If the module that this was made for does not declare `native`.
    pub fn register(
        &mut self,
        native: NativeId,
        function: impl Fn(&Heap, &[Value]) -> Result<Vec<Value>, Raise> + 'h,
    ) {
        self.rows[native.index()].1 = Some(Box::new(function));
    }

    /// Calls a function with values.
    ///
    /// # Errors
    ///
    /// What it raises; a fault if it is not registered, if it returns values of other types than it declares, or if what it
    /// returns as a reference is none.
    pub fn call(&self, native: NativeId, args: &[Value]) -> Result<Vec<Value>, Raise> {
        let results = self.call_unchecked(native, args)?;
        self.heap.check_whole()?;
        for result in results.iter().filter(|result| result.ty() == Type::Ref) {
            let wrong = |error| Raise::fault(format!("{native} returned what is no reference: {error}"));
            self.heap.check(result.low()).map_err(wrong)?;
        }
        Ok(results)
    }

    /// As [`Objects::call`], for code, whose references the runtime checks.
    fn call_unchecked(&self, native: NativeId, args: &[Value]) -> Result<Vec<Value>, Raise> {
        let Some((signature, Some(function))) = self.rows.get(native.index()) else {
            return Err(Raise::fault(format!("{native} is not registered")));
        };
        let results = function(self.heap, args)?;
        if !results.iter().map(|value| value.ty()).eq(signature.results.iter().copied()) {
            let declared = &signature.results;
            return Err(Raise::fault(format!(
                "{native} returned {results:?} where {declared:?} is declared"
            )));
        }
        Ok(results)
    }

    /// The interpreter's view of this. Addresses that `view` opens can be used besides objects and statics.
    ///
    /// # Errors
    ///
    /// If there is no memory for locals whose address is taken.
    pub fn interpreter(&self, view: MemoryView) -> Result<Interpreted<'_, 'h>, MemoryError> {
        let limits = Limits { cap: SLOT_BYTES, reserve: SLOT_BYTES };
        let slots = LinearMemory::new(SLOT_BYTES, &limits)?;
        Ok(Interpreted { objects: self, view, slots, slots_used: 0, parked: Vec::new() })
    }
}

impl Host for Objects<'_> {
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
        let params = self.rows.get(call.native.index()).map(|(signature, _)| signature.params.as_slice());
        let value = |(slot, ty): (&Slot, &Type)| Value::new(*ty, slot.all());
        let args: Vec<Value> = call.slots.iter().zip(params.unwrap_or_default()).map(value).collect();
        let results = self.call_unchecked(call.native, &args)?;
        for (slot, value) in call.slots.iter_mut().zip(results) {
            *slot = value.bits().into();
        }
        Ok(())
    }

    fn is_instance(&self, object: u64, class: ClassId) -> bool {
        self.heap.is_instance(object, class)
    }

    fn heap(&self) -> Option<&Heap> {
        Some(self.heap)
    }
}

impl fmt::Debug for Objects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("functions", &self.rows.len()).field("heap", self.heap).finish()
    }
}

/// The bytes of locals whose address is taken that the interpreter may have at once.
const SLOT_BYTES: usize = 16 << 20;
/// Where the interpreter's methods have their addresses, which lead nowhere: above those that a process may use.
const METHODS: u64 = 1 << 60;
const METHOD_STEP: u64 = 16;

/// [`Objects`] as the reference interpreter's host.
pub struct Interpreted<'o, 'h> {
    objects: &'o Objects<'h>,
    view: MemoryView,
    slots: LinearMemory,
    slots_used: usize,
    /// How many references the heap held before each time that the interpreter's were parked.
    parked: Vec<usize>,
}

impl Interpreted<'_, '_> {
    /// The addresses of the interpreter's own locals.
    fn slots(&self) -> Range<u64> {
        let start = self.slots.address() as u64;
        start..start + self.slots_used as u64
    }

    /// Where bytes are among the interpreter's own locals.
    fn slot_range(&self, address: u64, size_bytes: u32) -> Option<Range<usize>> {
        let slots = self.slots();
        let is_inside = slots.contains(&address) && u64::from(size_bytes) <= slots.end - address;
        let offset = address.wrapping_sub(slots.start) as usize;
        is_inside.then(|| offset..offset + size_bytes as usize)
    }
}

/// A raise as the interpreter knows it.
fn raised(raise: Raise) -> Raised {
    Raised { kind: raise.kind, reason: raise.reason, object: raise.object }
}

impl interp::Host for Interpreted<'_, '_> {
    fn load(&mut self, address: u64, size_bytes: u32) -> Result<u128, Fault> {
        if let Some(range) = self.slot_range(address, size_bytes) {
            let mut bytes = [0; 16];
            bytes[..range.len()].copy_from_slice(&self.slots.as_slice()[range]);
            return Ok(u128::from_le_bytes(bytes));
        }
        self.objects.heap.peek(address, size_bytes).or_else(|_| self.view.load(address, size_bytes))
    }

    fn store(&mut self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault> {
        if let Some(range) = self.slot_range(address, size_bytes) {
            let len = range.len();
            self.slots.as_mut_slice()[range].copy_from_slice(&bits.to_le_bytes()[..len]);
            return Ok(());
        }
        self.objects
            .heap
            .poke(address, size_bytes, bits)
            .or_else(|_| self.view.store(address, size_bytes, bits))
    }

    fn symbol_address(&mut self, symbol: SymbolId) -> Option<u64> {
        Some(self.objects.heap.static_address(symbol) as u64)
    }

    fn enter_slots(&mut self, size_bytes: u64) -> Option<u64> {
        let start = self.slots_used;
        let end = start.checked_add(usize::try_from(size_bytes).ok()?)?.next_multiple_of(16);
        let fresh = self.slots.as_mut_slice().get_mut(start..end)?;
        fresh.fill(0);
        self.slots_used = end;
        Some((self.slots.address() + start) as u64)
    }

    fn leave_slots(&mut self, address: u64, _size_bytes: u64) {
        self.slots_used = address.saturating_sub(self.slots.address() as u64) as usize;
    }

    fn method_address(&mut self, method: MethodId) -> u64 {
        METHODS + method.index() as u64 * METHOD_STEP
    }

    fn method_at(&mut self, address: u64) -> Option<MethodId> {
        let offset = address.checked_sub(METHODS).filter(|offset| offset.is_multiple_of(METHOD_STEP))?;
        let index = usize::try_from(offset / METHOD_STEP).ok()?;
        (index < self.objects.method_count).then(|| MethodId::new(index))
    }

    fn native(&mut self, native: NativeId, _context: u64, args: &[Value]) -> Result<Values, Raised> {
        self.objects.call(native, args).map(Values::from_vec).map_err(raised)
    }

    fn park(&mut self, references: &mut dyn References) {
        let heap = self.objects.heap;
        self.parked.push(heap.parked());
        // What is no object stays as it is.
        references.each(&mut |reference| heap.park(heap.kind_of(*reference).map_or(0, |_| *reference)));
    }

    fn unpark(&mut self, references: &mut dyn References) {
        let depth = self.parked.pop().expect("what is taken back was parked");
        let mut parked = self.objects.heap.unpark(depth).into_iter();
        references.each(&mut |reference| {
            let now = parked.next().expect("there are as many as were parked");
            if now != 0 {
                *reference = now;
            }
        });
    }

    fn poll(&mut self, _context: u64) -> Result<(), Raised> {
        self.objects.heap.yield_point().map_err(raised)
    }

    fn monitor_enter(&mut self, object: u64) -> Result<(), Raised> {
        self.objects.heap.monitor_enter(object).map_err(raised)
    }

    fn monitor_exit(&mut self, object: u64) -> Result<(), Raised> {
        self.objects.heap.monitor_exit(object).map_err(raised)
    }

    fn description_of(&mut self, kind: ObjectKind) -> u64 {
        self.objects.heap.classes().address(kind)
    }

    fn description_at(&mut self, address: u64) -> Option<ObjectKind> {
        self.objects.heap.classes().kind_at(address)
    }

    fn allocate(&mut self, _module: &Module, kind: ObjectKind, length: u32) -> Result<u64, Raised> {
        self.objects.heap.allocate(kind, length).map_err(raised)
    }

    fn kind_of(&mut self, object: u64) -> Result<ObjectKind, Fault> {
        self.objects.heap.kind_of(object).ok_or(Fault { address: object })
    }
}

impl fmt::Debug for Interpreted<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interpreted").field("objects", self.objects).finish_non_exhaustive()
    }
}
