//! What the interpreter asks of the world around it: memory, native functions, objects, threads.

use std::cmp::Ordering;

use smallvec::SmallVec;

use crate::eval::Value;
use crate::layout::{CLASS_OFFSET, ObjectKind};
use crate::method::{Assumption, Node};
use crate::module::{MethodId, Module, NativeId, Signature, SymbolId};
use crate::raise::RaiseKind;

/// The results of a call.
pub type Values = SmallVec<[Value; 2]>;

/// An access to an address where there is no memory, or not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The address.
    pub address: u64,
}

/// What is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The kind.
    pub kind: RaiseKind,
    /// What the frontend knows it by; zero if it does not.
    pub reason: u16,
    /// The exception object of a guest exception, the address of a fault, else zero.
    pub object: u64,
}

impl Raised {
    /// A raise of a built-in kind.
    pub const fn new(kind: RaiseKind, reason: u16) -> Raised {
        Raised { kind, reason, object: 0 }
    }

    /// A throw of an exception object of the guest.
    pub const fn guest(object: u64) -> Raised {
        Raised { kind: RaiseKind::Guest, reason: 0, object }
    }
}

impl From<Fault> for Raised {
    fn from(fault: Fault) -> Raised {
        Raised { kind: RaiseKind::Fault, reason: 0, object: fault.address }
    }
}

/// A guard that is about to be passed.
#[derive(Clone, Copy, Debug)]
pub struct GuardSite<'a> {
    /// The method that it is in.
    pub method: MethodId,
    /// The `guard` or `guard_br`.
    pub node: Node,
    /// What it stands on.
    pub assumptions: &'a [Assumption],
}

/// References that the interpreter holds.
pub trait References {
    /// Calls `visit` for each of them, always in the same order while the interpreter waits. Among them may be objects of guest
    /// exceptions that are no references but addresses.
    fn each(&mut self, visit: &mut dyn FnMut(&mut u64));
}

/// The world in which methods run.
///
/// Memory and code are required. The rest has defaults: assumptions hold, polls pass, no object can be made, and
/// monitors are free, as in a program of one thread. [`Regions`](super::Regions) is a host of its own; the runtime
/// implements one over the memory that compiled code uses.
pub trait Host {
    // ---- memory ----

    /// Reads 1, 2, 4, 8 or 16 bytes, the lowest address in the lowest bits.
    ///
    /// # Errors
    ///
    /// A fault where there is no memory.
    fn load(&mut self, address: u64, size_bytes: u32) -> Result<u128, Fault>;

    /// Writes the low 1, 2, 4, 8 or 16 bytes of `bits`, the lowest bits to the lowest address.
    ///
    /// # Errors
    ///
    /// A fault where there is no memory that can be written.
    fn store(&mut self, address: u64, size_bytes: u32, bits: u128) -> Result<(), Fault>;

    /// Copies bytes, as if through a buffer.
    ///
    /// # Errors
    ///
    /// A fault where there is no memory; how much has been copied then is left open.
    fn copy(&mut self, destination: u64, source: u64, count: u64) -> Result<(), Fault> {
        // Away from the overlap, so that no byte is written before it is read.
        let is_backward = destination.wrapping_sub(source) < count;
        for step in 0..count {
            let offset = if is_backward { count - 1 - step } else { step };
            let byte = self.load(source.wrapping_add(offset), 1)?;
            self.store(destination.wrapping_add(offset), 1, byte)?;
        }
        Ok(())
    }

    /// Fills bytes.
    ///
    /// # Errors
    ///
    /// A fault where there is no memory; how much has been filled then is left open.
    fn fill(&mut self, destination: u64, byte: u8, count: u64) -> Result<(), Fault> {
        (0..count).try_for_each(|offset| self.store(destination.wrapping_add(offset), 1, byte.into()))
    }

    /// Compares bytes as unsigned, the lowest address first.
    ///
    /// # Errors
    ///
    /// A fault where there is no memory.
    fn compare(&mut self, left: u64, right: u64, count: u64) -> Result<Ordering, Fault> {
        for offset in 0..count {
            let byte = self.load(left.wrapping_add(offset), 1)?;
            let order = byte.cmp(&self.load(right.wrapping_add(offset), 1)?);
            if order.is_ne() {
                return Ok(order);
            }
        }
        Ok(Ordering::Equal)
    }

    /// Orders the memory accesses before with those after, for other threads to see.
    fn fence(&mut self) {}

    /// The address of a static; none if the symbol has no address.
    fn symbol_address(&mut self, symbol: SymbolId) -> Option<u64>;

    /// Memory for the address-taken locals of a method that is being entered, aligned to 16 bytes; none if the
    /// stack is used up. It is given back in the reverse order.
    fn enter_slots(&mut self, size_bytes: u64) -> Option<u64>;

    /// Gives back the memory that [`Host::enter_slots`] gave last.
    fn leave_slots(&mut self, address: u64, size_bytes: u64);

    // ---- code ----

    /// The address at which a method can be called.
    fn method_address(&mut self, method: MethodId) -> u64;

    /// The method that is called at an address; none if no method of the program is.
    fn method_at(&mut self, address: u64) -> Option<MethodId>;

    /// Calls what is at an address where no method of the program is: code of the host or of another program.
    ///
    /// # Errors
    ///
    /// What the callee raises; by default a fault at the address.
    fn call_address(
        &mut self,
        address: u64,
        context: u64,
        signature: &Signature,
        args: &[Value],
    ) -> Result<Values, Raised> {
        let _ = (context, signature, args);
        Err(Fault { address }.into())
    }

    /// Calls a native function.
    ///
    /// # Errors
    ///
    /// What it raises.
    fn native(&mut self, native: NativeId, context: u64, args: &[Value]) -> Result<Values, Raised>;

    /// Whether all assumptions of a guard hold.
    fn holds(&mut self, site: GuardSite<'_>) -> bool {
        let _ = site;
        true
    }

    // ---- threads ----

    /// A place where a thread may be asked to stop.
    ///
    /// # Errors
    ///
    /// What is raised to end the thread.
    fn poll(&mut self, context: u64) -> Result<(), Raised> {
        let _ = context;
        Ok(())
    }

    /// Enters the monitor of an object.
    ///
    /// # Errors
    ///
    /// What is raised instead; a fault if there is no such object.
    fn monitor_enter(&mut self, object: u64) -> Result<(), Raised> {
        let _ = object;
        Ok(())
    }

    /// Leaves the monitor of an object.
    ///
    /// # Errors
    ///
    /// A raise of the kind `monitor` if this thread does not own it; a fault if there is no such object.
    fn monitor_exit(&mut self, object: u64) -> Result<(), Raised> {
        let _ = object;
        Ok(())
    }

    // ---- objects, laid out as `layout` says ----

    /// The interpreter is about to ask for something at which objects may move: an allocation, a native function, foreign code, a
    /// poll, a monitor. These are the references that it holds.
    fn park(&mut self, references: &mut dyn References) {
        let _ = references;
    }

    /// It has been answered; the references are to be those of the same objects. What the answer says is not among them.
    fn unpark(&mut self, references: &mut dyn References) {
        let _ = references;
    }

    /// The address of a description: what the header of each object of the kind says.
    fn description_of(&mut self, kind: ObjectKind) -> u64 {
        let _ = kind;
        0
    }

    /// The kind whose description is at an address.
    fn description_at(&mut self, address: u64) -> Option<ObjectKind> {
        let _ = address;
        None
    }

    /// A new object with its header written and all else zero; `length` is the number of an array's elements.
    ///
    /// # Errors
    ///
    /// A raise of the kind `out_of_memory`.
    fn allocate(&mut self, module: &Module, kind: ObjectKind, length: u32) -> Result<u64, Raised> {
        let _ = (module, kind, length);
        Err(Raised::new(RaiseKind::OutOfMemory, 0))
    }

    /// The kind of an object.
    ///
    /// # Errors
    ///
    /// A fault if there is no object.
    fn kind_of(&mut self, object: u64) -> Result<ObjectKind, Fault> {
        let description = self.load(object.wrapping_add_signed(CLASS_OFFSET.into()), 8)?;
        self.description_at(description as u64).ok_or(Fault { address: object })
    }
}
