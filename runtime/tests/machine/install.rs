//! Installing code: from several threads, within reach, never writable.

use dagwood_codegen::{Artifact, Call, Reloc, RelocKind, RelocTarget, Site};
use dagwood_codespace::{Lane, Options};
use dagwood_il::entity::Entity;
use dagwood_il::{MethodId, SymbolId};
use dagwood_runtime::code::{CodeTable, InstallError};

use crate::asm::Asm;
use crate::rig::{Rig, install};

#[test]
fn nothing_is_writable_and_executable() {
    let rig = Rig::new(&[Asm::new(0).load(7).ret().done()], vec![]);
    assert_eq!(rig.call(0, 0, 0).expect("nothing raises"), 7);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the system lists mappings");
    for line in maps.lines() {
        let rights = line.split_whitespace().nth(1).expect("a line has rights");
        assert!(!(rights.contains('w') && rights.contains('x')), "{line}");
    }
}

#[test]
fn threads_install_while_others_run() {
    let runner = Asm::new(0).raise(dagwood_il::RaiseKind::Null, 0, 1, &[]).ret().done();
    let rig = Rig::new(&[runner], vec![]);
    let code = &rig.code;
    std::thread::scope(|scope| {
        let installers: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn(move || {
                    for round in 0..300 {
                        let methods = [
                            Asm::new(0).load(thread).ret().done(),
                            Asm::new(0).call(0, round, &[]).ret().done(),
                        ];
                        let (addresses, shim) = install(code, &methods);
                        for (method, address) in addresses.into_iter().enumerate() {
                            let located = code.find(address + 3).expect("it was installed");
                            assert_eq!(located.start, address);
                            assert_eq!(located.method, Some(MethodId::new(method)));
                        }
                        assert_eq!(code.find(shim).and_then(|located| located.method), None);
                    }
                })
            })
            .collect();
        while installers.iter().any(|installer| !installer.is_finished()) {
            rig.call(0, 0, 0).expect_err("nobody catches");
        }
    });
    assert_eq!(code.len(), 2 + 2 * 300 * 3);
}

#[test]
fn looking_up_finds_bodies_and_nothing_between_them() {
    let rig = Rig::new(&[Asm::new(0).ret().done(), Asm::new(0).ret().done()], vec![]);
    let (first, len) = (rig.address(0), Asm::new(0).ret().done().code.len());
    let method = |address| rig.code.find(address).and_then(|located| located.method).map(Entity::index);
    assert_eq!([method(first - 1), method(first), method(first + len - 1)], [None, Some(0), Some(0)]);
    assert_eq!([method(first + len), method(rig.address(1)), method(usize::MAX)], [None, Some(1), None]);
}

/// An address that is near code.
fn code_address() -> usize {
    code_address as *const () as usize
}

#[test]
fn what_cannot_be_installed_is_an_error() {
    let code =
        CodeTable::new(&Options { max_bytes: 128 << 10, ..Options::default() }).expect("there is memory");
    let refused = |artifact: &Artifact, address: Option<usize>| {
        let batch = code.batch();
        let pending = batch.reserve(artifact, Lane::Baseline);
        pending.and_then(|pending| pending.install(None, |_| address).map(|_| ())).err()
    };
    let plain = Artifact { code: vec![0xc3; 8], align: 16, ..Artifact::default() };
    let target = RelocTarget::Symbol(SymbolId::new(3));
    let with_reloc =
        |offset, kind| Artifact { relocs: vec![Reloc { offset, kind, target, addend: 0 }], ..plain.clone() };
    let rel4 = with_reloc(4, RelocKind::Rel4);
    assert_eq!(refused(&rel4, None), Some(InstallError::Unresolved { target }));
    code.reclaim().expect("nothing waits");
    assert_eq!(code.stats().used_bytes, 0, "a failure takes no room");
    assert!(matches!(
        refused(&with_reloc(5, RelocKind::Rel4), Some(0)),
        Some(InstallError::Malformed { .. })
    ));
    assert!(matches!(
        refused(&with_reloc(4, RelocKind::Load), Some(0)),
        Some(InstallError::Malformed { .. })
    ));
    let call = |start, len| Artifact { calls: vec![Call { start, len, target }], ..plain.clone() };
    assert!(matches!(refused(&call(0, 9), Some(0)), Some(InstallError::Malformed { .. })));
    assert!(matches!(refused(&call(8, 5), Some(0)), Some(InstallError::Malformed { .. })));
    let big = Artifact { code: vec![0xc3; 200_000], align: 16, ..Artifact::default() };
    assert!(matches!(refused(&big, None), Some(InstallError::Space(_))));
    let site = Site {
        return_offset: 8,
        position: Default::default(),
        raises: None,
        frame_offset: 0,
        handlers_first: 0,
        handlers_count: 1,
        references: None,
        frame: None,
    };
    let dangling = Artifact { sites: vec![site], ..plain.clone() };
    assert!(matches!(refused(&dangling, None), Some(InstallError::Malformed { .. })));
    assert!(code.is_empty());
    let beside = |offset| Artifact {
        code: vec![0xc3; 24],
        calls: call(8, 9).calls,
        ..with_reloc(offset, RelocKind::Rel4)
    };
    for (offset, what) in [(4, None), (5, Some(())), (16, Some(())), (17, None)] {
        let error = refused(&beside(offset), Some(code_address()));
        assert_eq!(
            error.map(|error| assert!(error.to_string().contains("in a call's window"))),
            what,
            "{offset}"
        );
    }
    for address in [code_address(), 1 << 46] {
        assert_eq!(refused(&call(0, 8), Some(address)), None);
        assert_eq!(refused(&rel4, Some(address)), None);
    }
    let load = Artifact { code: vec![0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3], ..with_reloc(3, RelocKind::Load) };
    assert_eq!(refused(&load, Some(usize::MAX)), None);
}
