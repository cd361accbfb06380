//! The binding: programs in each engine, with outcomes that can be compared.
//!
//! ```text
//!   run_bytecode    the interpreter of the bytecode, over a heap of its own
//!   run_il          the reference interpreter of the IL, over its own
//!   run_bodies      the same with bodies that passes have changed, until a guard fails: then the bytecode goes on
//!   Native          native code, over the heap of the runtime
//! ```

mod exit;
mod native;

use std::cell::RefCell;
use std::fmt;
use std::io::Write;

use bumpalo::Bump;
use dagwood_il as il;
use il::entity::Entity;
use il::interp::{self, Host as _, Interpreter, Regions};
use il::layout::ObjectKind;
use il::{ClassId, MethodId, RaiseKind};

use crate::host::{Heap, Value, console, print};
use crate::interpret;
use crate::lower::Lowering;
use crate::observe::Observed;
use crate::program::Program;

pub use native::{Native, Whole};

/// How much a program may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many steps: operations of the bytecode, roots of the IL.
    pub fuel: u64,
    /// How many calls may be under way at once.
    pub depth: usize,
    /// The bytes of all objects.
    pub heap_bytes: u64,
}

impl Default for Limits {
    /// No limit to fuel, 20,000 calls, 256 MiB.
    fn default() -> Limits {
        Limits { fuel: u64::MAX, depth: 20_000, heap_bytes: 256 << 20 }
    }
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With what it returns.
    Returned(Option<Value>),
    /// With an exception of this class that nobody caught, and where it was raised.
    Uncaught(String, Trace),
    /// With what programs cannot catch: memory, stack or fuel used up, or the host's fault.
    Stopped(RaiseKind, Trace),
}

/// Methods, and the operations at which they were, the innermost first.
pub type Trace = Vec<(MethodId, usize)>;

impl Ended {
    /// What was raised and not caught: an exception if it has a class.
    fn of(program: &Program, kind: RaiseKind, class: Option<ClassId>, trace: Trace) -> Ended {
        match class {
            Some(class) => Ended::Uncaught(program.classes()[class].name.clone(), trace),
            None => Ended::Stopped(kind, trace),
        }
    }

    fn of_bytecode(program: &Program, ended: Result<Option<Value>, interpret::Stop>) -> Ended {
        match ended {
            Ok(value) => Ended::Returned(value),
            Err(stop) => Ended::of(program, stop.kind, stop.class, stop.trace),
        }
    }

    /// Whether both are the same, NaN payloads and the addresses of objects aside; none if a limit ended one of them, which
    /// engines count differently.
    pub fn agrees(&self, other: &Ended) -> Option<bool> {
        Some(match (self, other) {
            (Ended::Stopped(..), _) | (_, Ended::Stopped(..)) => return None,
            (Ended::Returned(left), Ended::Returned(right)) => match (left, right) {
                (Some(Value::Double(left)), Some(Value::Double(right))) if left.is_nan() => right.is_nan(),
                (Some(Value::Ref(left)), Some(Value::Ref(right))) => (*left == 0) == (*right == 0),
                (Some(left), Some(right)) => left.bits() == right.bits(),
                (left, right) => left.is_none() && right.is_none(),
            },
            (Ended::Uncaught(left, _), Ended::Uncaught(right, _)) => left == right,
            _ => false,
        })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Returned(None) => f.write_str("nothing"),
            Ended::Returned(Some(Value::Int(value))) => write!(f, "int {value}"),
            Ended::Returned(Some(Value::Long(value))) => write!(f, "long {value}"),
            Ended::Returned(Some(Value::Double(value))) => write!(f, "double {value:?}"),
            Ended::Returned(Some(Value::Ref(0))) => f.write_str("null"),
            Ended::Returned(Some(Value::Ref(_))) => f.write_str("an object"),
            Ended::Uncaught(class, _) => write!(f, "uncaught {class}"),
            Ended::Stopped(kind, _) => write!(f, "{kind}"),
        }
    }
}

/// The name of a function that the program asks for and that is not in [`CONSOLE`](crate::host::CONSOLE).
pub fn missing_native(program: &Program) -> Option<&str> {
    let mut natives = program.natives().iter();
    natives.find(|(id, _)| console(program, *id).is_none()).map(|(_, native)| native.name.as_str())
}

/// Calls a method in the interpreter of the bytecode. `observed` learns what happens, if it is given.
pub fn run_bytecode(
    program: &Program,
    method: MethodId,
    args: &[Value],
    limits: Limits,
    observed: Option<&mut Observed>,
    out: &mut dyn Write,
) -> Ended {
    let mut heap = Heap::new(program, limits.heap_bytes, out);
    let budget = interpret::Limits { fuel: limits.fuel, depth: limits.depth };
    let ended = interpret::call(program, &mut heap, observed, budget, method, args);
    debug_assert!(ended.is_err() || heap.held() == 0, "a method that returns has left its monitors");
    Ended::of_bytecode(program, ended)
}

/// Calls a method in the reference interpreter of the IL.
///
/// # Panics
///
/// If lowering is wrong.
pub fn run_il(
    lowering: &Lowering<'_>,
    method: MethodId,
    args: &[Value],
    limits: Limits,
    out: &mut dyn Write,
) -> Ended {
    let arena = Bump::new();
    let lower = |id| lowering.lower(id, None, &arena).expect("what is verified can be lowered");
    let bodies: Vec<il::Method<'_>> = lowering.module().methods.keys().map(lower).collect();
    run_bodies(lowering, &bodies, method, args, limits, u64::MAX, out)
}

/// Calls a method in the reference interpreter of the IL, with bodies, by index, that passes may have changed; and
/// leaves it at the first guard of the method, in this call, before which so many others were passed: from there on,
/// the bytecode is interpreted, with the frames that the guard's frame state says.
///
/// # Panics
///
/// If lowering is wrong, or the method is left while it calls itself.
pub fn run_bodies(
    lowering: &Lowering<'_>,
    bodies: &[il::Method<'_>],
    method: MethodId,
    args: &[Value],
    limits: Limits,
    mut guards: u64,
    out: &mut dyn Write,
) -> Ended {
    let (module, program) = (lowering.module(), lowering.program());
    let find = |id: MethodId| bodies.get(id.index());
    let out = RefCell::new(out);
    let mut host = Regions::new(module);
    host.heap_limit = limits.heap_bytes;
    for id in module.natives.keys() {
        let function = console(program, id);
        let out = &out;
        host.native(id, move |_, _, args| match (function, args) {
            (Some(function), [value]) => {
                print(&mut **out.borrow_mut(), function, Value::from_bits(value.ty(), value.low()));
                Ok(interp::Values::new())
            }
            _ => Err(interp::Raised::new(RaiseKind::Fault, 0)),
        });
    }
    host.guards(move |site| {
        let is_left = site.method == method && guards == 0;
        guards = guards.saturating_sub(u64::from(site.method == method));
        !is_left
    });
    let values: Vec<_> = args.iter().map(|arg| arg.to_il()).collect();
    let mut interpreter = Interpreter::new(interp::Program { module, bodies: &find });
    let budget = interp::Limits { fuel: limits.fuel, depth: limits.depth, ..interp::Limits::default() };
    let at = |entry: &interp::TraceEntry| (entry.method, entry.position.0 as usize);
    match interpreter.run(&mut host, method, 0, &values, budget) {
        Ok(values) => Ended::Returned(values.first().map(|value| Value::from_bits(value.ty(), value.low()))),
        Err(interp::Stop::Raised { raised, trace }) => {
            let class = match (raised.kind, host.kind_of(raised.object)) {
                (RaiseKind::Guest, Ok(ObjectKind::Object(class))) => Some(class),
                (kind, _) => program.fault_class(kind),
            };
            Ended::of(program, raised.kind, class, trace.iter().map(at).collect())
        }
        Err(interp::Stop::OutOfFuel { trace }) => {
            Ended::Stopped(RaiseKind::Interrupt, trace.iter().map(at).collect())
        }
        Err(interp::Stop::Exit(exit)) => {
            let budget = interpret::Limits { fuel: limits.fuel, depth: limits.depth };
            let mut memory = exit::Memory { module, host: &mut host };
            match exit::frames(program, &exit, &mut memory) {
                Some(frames) => {
                    Ended::of_bytecode(program, interpret::resume(program, &mut memory, budget, frames))
                }
                None => Ended::Stopped(RaiseKind::OutOfMemory, Vec::new()),
            }
        }
        Err(stop) => panic!("the lowering of the program is wrong: {stop}"),
    }
}
