//! Room: what it is given back by, who is asked for it, and what happens when there is none.

use std::sync::{Arc, Mutex, Weak};

use dagwood_codespace::{Error, Options as Space, Relief};
use dagwood_il::entity::Entity;
use dagwood_il::{Builder, Bump, Folding, Method, MethodId, Module, Opcode, Type};
use dagwood_runtime::code::{CodeTable, InstallError, Pressure};
use dagwood_runtime::jit::JitError;
use dagwood_runtime::{BodyError, Jit, Options, bodies};

use crate::rig::{Rig, SOURCE, alone, nobody};

#[test]
fn evicting_everything_gives_every_byte_back() {
    let rig = Rig::new(nobody());
    let all: Vec<_> = rig
        .methods()
        .into_iter()
        .filter(|method| ![rig.method("target"), rig.method("named")].contains(method))
        .collect();
    let stays = rig.code().stats();
    let gone = rig.jit.evict(&all).expect("nothing pins them");
    assert_eq!(gone.methods, all.len());
    let reclaimed = rig.code().reclaim().expect("the system has a barrier");
    assert_eq!((reclaimed.freed, reclaimed.freed_bytes, reclaimed.waiting), (gone.methods, gone.bytes, 0));
    let left = rig.code().stats();
    assert_eq!((left.live, left.live_bytes), (2, stays.live_bytes - gone.bytes));
    assert_eq!((left.waiting, left.slots), (0, 0));
    assert_eq!(rig.code().len(), 2);
    drop(rig);
    // And the same with nothing that is pinned.
    let rig = Rig::empty(Space::default(), nobody());
    let two = [rig.method("leaf"), rig.method("caller")];
    rig.compile(SOURCE, &two).expect("they compile");
    rig.jit.evict(&two).expect("nothing pins them");
    rig.code().reclaim().expect("the system has a barrier");
    assert_eq!((rig.code().stats().used_bytes, rig.code().stats().live), (0, 0));
    assert!(rig.code().is_empty());
}

#[test]
fn a_batch_that_fails_leaves_no_byte_in_use() {
    let rig = Rig::empty(Space::default(), nobody());
    let error = rig.compile(SOURCE, &[rig.method("leaf"), rig.method("catches")]);
    let error = error.expect_err("`catches` calls what is not compiled");
    assert!(matches!(error, JitError::Install { error: InstallError::Unresolved { .. }, .. }), "{error}");
    rig.code().reclaim().expect("nothing waits");
    let stats = rig.code().stats();
    assert_eq!((stats.used_bytes, stats.live, stats.slots, rig.code().len()), (0, 0, 0, 0));
    assert!(!rig.jit.is_compiled(rig.method("leaf")));
}

/// A method of some kilobytes.
fn large<'a>(module: &Module, id: MethodId, arena: &'a Bump) -> Result<Method<'a>, BodyError> {
    let mut b = Builder::new(arena, module, id, Folding::On);
    let entry = b.block();
    b.switch_to(entry);
    let mut value = b.get(b.param(0));
    for step in 0..300 {
        let constant = b.i64(1_000_003 * (step + 7) + id.index() as i64);
        let product = b.op(Opcode::Mul, &[value, constant]);
        value = b.op(Opcode::Xor, &[product, constant]);
    }
    b.ret(&[value]);
    Ok(b.finish()?)
}

/// Evicts what was compiled first.
struct EvictOldest {
    jit: Weak<Jit>,
    compiled: Arc<Mutex<Vec<MethodId>>>,
}

impl Pressure for EvictOldest {
    fn relieve(&self, code: &CodeTable, bytes: usize) -> Relief {
        assert!(bytes > 0);
        let Some(jit) = self.jit.upgrade() else { return Relief::GiveUp };
        let mut compiled = self.compiled.lock().expect("nobody panics");
        let half = compiled.len().div_ceil(2);
        let oldest: Vec<_> = compiled.drain(..half).collect();
        if oldest.is_empty() || jit.evict(&oldest).is_err() || code.reclaim().is_err() {
            return Relief::GiveUp;
        }
        Relief::TryAgain
    }
}

#[test]
fn a_full_space_asks_its_owner_and_else_says_so() {
    const METHODS: usize = 200;
    let _alone = alone();
    let mut module = Module::new();
    let ids: Vec<MethodId> = (0..METHODS)
        .map(|index| module.declare_method(&format!("m{index}"), &[Type::I64], &[Type::I64]))
        .collect();
    let options = Options { space: Space { max_bytes: 256 << 10, ..Space::default() }, ..Options::default() };
    let large = bodies(|id, arena| large(&module, id, arena));
    let jit = Arc::new(Jit::new(module.clone(), options).expect("this machine is supported"));
    let fails = ids.iter().find_map(|&id| jit.compile(&[id], &large).err());
    let fails = fails.expect("so many methods do not fit");
    let JitError::Install { error: InstallError::Space(Error::Full { limit, .. }), .. } = fails else {
        panic!("{fails}");
    };
    assert_eq!(limit, 256 << 10);
    assert!(fails.to_string().contains("the code space is full"), "{fails}");

    let there = ids.iter().copied().filter(|id| jit.is_compiled(*id)).collect();
    let compiled = Arc::new(Mutex::new(there));
    let pressure = EvictOldest { jit: Arc::downgrade(&jit), compiled: Arc::clone(&compiled) };
    jit.code().set_pressure(Some(Arc::new(pressure)));
    for &id in ids.iter().rev() {
        jit.compile(&[id], &large).expect("room is made");
        compiled.lock().expect("nobody panics").push(id);
        assert!(jit.code().stats().used_bytes <= 256 << 10);
    }
    let left = ids.iter().filter(|id| jit.is_compiled(**id)).count();
    assert!((1..METHODS).contains(&left), "{left} of {METHODS} have code");
}
