//! Programs as native code, over the heap of the runtime.

use std::cell::RefCell;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use dagwood_il as il;
use dagwood_runtime as runtime;
use il::layout::ObjectKind;
use il::profile::{MethodProfile, ProfileSnapshot};
use il::world::{ClosedWorld, ContentKey};
use il::{Bump, MethodId, World};
use runtime::compiler::{Bodies, BodyError};
use runtime::context::Context;
use runtime::heap::{self, Collect, Heap};
use runtime::jit::{self, CallCx, CallError, Jit};
use runtime::objects::Objects;
use runtime::raise::Raise;
use runtime::thread::{self, Thread};

use super::{Ended, Limits};
use crate::host::{Value, console, print};
use crate::lower::Lowering;
use crate::program::Program;

/// The bytes of the VM context, of which programs use none.
const CONTEXT_BYTES: usize = 64;

/// A program as the compiler knows it: all of it, for good, as nothing is loaded later.
#[derive(Debug)]
pub struct Whole<'l, 'p> {
    lowering: &'l Lowering<'p>,
    profile: Option<&'l ProfileSnapshot>,
    world: ClosedWorld<'l>,
}

impl<'l, 'p> Whole<'l, 'p> {
    /// A program, with what was observed of it, if anything: that says how often blocks run.
    pub fn new(lowering: &'l Lowering<'p>, profile: Option<&'l ProfileSnapshot>) -> Whole<'l, 'p> {
        let module = lowering.module();
        // Bodies say how often their blocks run, so what was observed is part of them.
        let observed = profile.map_or(String::new(), |profile| il::text::print_profile(module, profile));
        let content = format!("{:x} {observed}", lowering.program().content().0);
        let content = ContentKey::of(content.as_bytes());
        let bodies = module.methods.keys().map(|id| (id, content.of_method(id)));
        Whole { lowering, profile, world: ClosedWorld::new(module, bodies) }
    }
}

impl Bodies for Whole<'_, '_> {
    fn build<'a>(&self, method: MethodId, arena: &'a Bump) -> Result<il::Method<'a>, BodyError> {
        Ok(self.lowering.lower(method, self.profile(method), arena)?)
    }

    fn world(&self) -> &dyn World {
        &self.world
    }

    fn profile(&self, method: MethodId) -> Option<&MethodProfile> {
        self.profile.and_then(|profile| profile.methods.get(&method))
    }
}

/// A program as native code.
pub struct Native<'p> {
    program: &'p Program,
    jit: Jit,
    heap: Heap,
}

impl<'p> Native<'p> {
    /// Compiles all methods. What was observed of them, if it is given, says how often blocks run.
    ///
    /// # Errors
    ///
    /// What keeps one from being compiled, or memory from being had.
    pub fn new(
        lowering: &Lowering<'p>,
        profile: Option<&ProfileSnapshot>,
        limits: Limits,
        options: jit::Options,
    ) -> Result<Native<'p>, Box<dyn Error + Send + Sync>> {
        let module = lowering.module();
        let mut jit = Jit::new(module.clone(), options)?;
        let limit_bytes = usize::try_from(limits.heap_bytes)?;
        let options = heap::Options { limit_bytes, ..heap::Options::default() };
        let heap = Heap::new(Arc::clone(jit.classes()), &options)?;
        for (id, symbol) in module.symbols.iter() {
            if let il::SymbolKind::Static(_) = symbol.kind {
                jit.bind_symbol(id, heap.static_address(id));
            }
        }
        let methods: Vec<MethodId> = module.methods.keys().collect();
        jit.compile(&methods, &Whole::new(lowering, profile))?;
        Ok(Native { program: lowering.program(), jit, heap })
    }

    /// The heap.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// Says when objects are collected.
    pub fn set_collect(&self, collect: Collect) {
        self.heap.set_collect(collect);
    }

    /// Calls a method, with all statics zero. Fuel counts polls; depth is not limited but by the stack.
    ///
    /// # Errors
    ///
    /// If there is no memory for a thread, or the runtime is at fault.
    pub fn call(
        &self,
        method: MethodId,
        args: &[Value],
        limits: Limits,
        out: &mut dyn Write,
    ) -> Result<Ended, Box<dyn Error + Send + Sync>> {
        let thread = Thread::new(&thread::Options::default())?;
        thread.set_fuel((limits.fuel < u64::MAX).then_some(limits.fuel));
        self.call_on(&thread, method, args, out)
    }

    /// Calls a method on a thread, whose limits hold.
    ///
    /// # Errors
    ///
    /// If there is no memory, or the runtime is at fault.
    pub fn call_on(
        &self,
        thread: &Thread,
        method: MethodId,
        args: &[Value],
        out: &mut dyn Write,
    ) -> Result<Ended, Box<dyn Error + Send + Sync>> {
        let program = self.program;
        let out = RefCell::new(out);
        let mut objects = Objects::new(self.jit.module(), &self.heap);
        for id in program.natives().keys() {
            let (function, out) = (console(program, id), &out);
            objects.register(id, move |_, args| match (function, args) {
                (Some(function), [value]) => {
                    print(&mut **out.borrow_mut(), function, Value::from_bits(value.ty(), value.low()));
                    Ok(Vec::new())
                }
                _ => Err(Raise::fault("the program asks for a function that is not there")),
            });
        }
        self.heap.clear_statics();
        let args: Vec<_> = args.iter().map(|arg| arg.to_il()).collect();
        let context = Context::new(CONTEXT_BYTES)?;
        match self.jit.call(CallCx { thread, context: &context, host: &objects }, method, &args) {
            Ok(values) => {
                Ok(Ended::Returned(values.first().map(|value| Value::from_bits(value.ty(), value.low()))))
            }
            Err(CallError::Raised(raise)) => Ok(self.raised(&raise)),
            Err(error) => Err(error.into()),
        }
    }

    fn raised(&self, raise: &Raise) -> Ended {
        let frames = raise.trace.frames().iter();
        let trace = frames.map(|frame| (frame.method, frame.position.0 as usize)).collect();
        let class = match (raise.kind, self.heap.kind_of(raise.object)) {
            (il::RaiseKind::Guest, Some(ObjectKind::Object(class))) => Some(class),
            (kind, _) => self.program.fault_class(kind),
        };
        Ended::of(self.program, raise.kind, class, trace)
    }
}
