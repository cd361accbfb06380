//! A small program, installed and ready to be entered.

use dagwood_codegen::{Artifact, RelocTarget};
use dagwood_codespace::{Lane, Options};
use dagwood_il::entity::Entity;
use dagwood_il::{ClassId, MethodId};
use dagwood_runtime::code::CodeTable;
use dagwood_runtime::context::Context;
use dagwood_runtime::entry::Entry;
use dagwood_runtime::helpers;
use dagwood_runtime::host::{Host, NativeCall};
use dagwood_runtime::layout::Slot;
use dagwood_runtime::raise::Raise;
use dagwood_runtime::thread::{self, Thread};

use crate::asm;

/// A native function of a test.
pub(crate) type Native<'a> = Box<dyn Fn(&Rig<'_>, &Entry<'_>, &mut [Slot]) -> Result<(), Raise> + 'a>;

/// Installed methods with a shim that calls them.
pub(crate) struct Rig<'a> {
    pub(crate) code: CodeTable,
    pub(crate) thread: Thread,
    pub(crate) context: Context,
    pub(crate) natives: Vec<Native<'a>>,
    methods: Vec<usize>,
    shim: usize,
}

impl<'a> Rig<'a> {
    /// Installs `methods`, which call each other by their places in the list.
    pub(crate) fn new(methods: &[Artifact], natives: Vec<Native<'a>>) -> Rig<'a> {
        Rig::within(&Options::default(), methods, natives)
    }

    /// The same, in a space with these options.
    pub(crate) fn within(options: &Options, methods: &[Artifact], natives: Vec<Native<'a>>) -> Rig<'a> {
        let code = CodeTable::new(options).expect("there is memory");
        let (methods, shim) = install(&code, methods);
        let thread = Thread::new(&thread::Options::default()).expect("there is memory");
        let context = Context::new(64).expect("there is memory");
        Rig { code, thread, context, natives, methods, shim }
    }

    /// Where a method is.
    pub(crate) fn address(&self, method: usize) -> usize {
        self.methods[method]
    }

    fn entry(&self) -> Entry<'_> {
        Entry { thread: &self.thread, context: &self.context, code: &self.code, host: self }
    }

    /// Calls a method.
    pub(crate) fn call(&self, method: usize, left: u64, right: u64) -> Result<u64, Raise> {
        self.call_in(&self.entry(), method, left, right)
    }

    /// Calls a method by way of another entry into the same program.
    pub(crate) fn call_in(
        &self,
        entry: &Entry<'_>,
        method: usize,
        left: u64,
        right: u64,
    ) -> Result<u64, Raise> {
        let mut slots = [Slot::from(left), Slot::from(right)];
        // SAFETY: shim and methods are installed; the shim takes two slots and gives one; the tests' methods keep to the
        // rules, or break them in ways that the fault handler is made for; native functions have two slots.
        unsafe { entry.call(self.shim, self.methods[method], &mut slots)? };
        Ok(slots[0].low())
    }
}

/// Installs methods that call each other and a shim.
pub(crate) fn install(code: &CodeTable, methods: &[Artifact]) -> (Vec<usize>, usize) {
    let batch = code.batch();
    let reserve = |artifact| batch.reserve(artifact, Lane::Baseline).expect("there is room");
    let pending: Vec<_> = methods.iter().map(reserve).collect();
    let addresses: Vec<usize> = pending.iter().map(|pending| pending.address()).collect();
    let resolve = |target| match target {
        RelocTarget::Method(method) => Some(addresses[method.index()]),
        RelocTarget::Helper(helper) => Some(helpers::address(helper)),
        _ => None,
    };
    for (index, pending) in pending.into_iter().enumerate() {
        pending.install(Some(MethodId::new(index)), resolve).expect("everything is within reach");
    }
    let shim = asm::shim();
    let shim = reserve(&shim).install(None, resolve).expect("there is room");
    (addresses, shim.start)
}

impl Host for Rig<'_> {
    fn call_native(&self, call: NativeCall<'_>) -> Result<(), Raise> {
        self.natives[call.native.index()](self, call.entry, call.slots)
    }

    /// Objects are numbers; class number n contains the multiples of n + 2.
    fn is_instance(&self, object: u64, class: ClassId) -> bool {
        object.is_multiple_of(class.index() as u64 + 2)
    }
}
