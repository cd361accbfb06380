//! Jumps to what is out of reach, and what becomes of code that is retired.

use dagwood_codegen::Artifact;
use dagwood_il::Module;

use super::*;
use crate::classes::Classes;
use crate::install::{Missing, Subject};
use crate::links::Program;

fn table(options: &Options) -> CodeTable {
    CodeTable::new(options).expect("there is memory")
}

/// Publishes a function, and says where it starts.
fn install(table: &CodeTable) -> (Owner, usize) {
    let batch = table.batch();
    let artifact = Artifact { code: vec![0xc3], ..Artifact::default() };
    let mut pending = batch.reserve(&artifact, Lane::Baseline).expect("there is room");
    let subject = Subject { method: None, program: None };
    pending.link(&subject, |_| None, &mut Missing::default()).expect("it refers to nothing");
    let program = Program::new(&Module::new(), Arc::new(Classes::new(&Module::new())));
    let published = pending.publish(&subject, Some("returns"), &mut program.lock());
    let (owner, located) = published.expect("the views are there");
    (owner, located.start)
}

#[test]
fn far_jumps_go_with_what_they_lead_to_and_not_while_a_batch_may_use_them() {
    let table = table(&Options::default());
    let writer = table.inner.space.writer();
    let ((gone, target), (_, kept)) = (install(&table), install(&table));
    let elsewhere = install as *const () as usize;
    for target in [target, kept, elsewhere] {
        table.make_far_jump(&writer, target, Lane::Stubs).expect("there is room");
    }
    let live = || table.stats().live;
    let reclaim = || table.reclaim().expect("the system has a barrier");
    reclaim();
    assert_eq!((live(), table.stats().slots), (5, 3), "what they lead to is there");
    let batch = table.batch();
    table.retire(Unlinked(gone));
    while table.inner.space.lookup(target).is_some() || table.stats().waiting != 0 {
        reclaim();
    }
    assert_eq!((live(), table.stats().slots), (4, 3), "the batch may have reserved that address");
    drop(batch);
    reclaim();
    assert_eq!((live(), table.stats().slots), (3, 2));
    let far_jumps = lock(&table.inner.far_jumps);
    let left = [target, kept, elsewhere].map(|target| far_jumps.by_target.contains_key(&target));
    assert_eq!(left, [false, true, true]);
}

#[test]
fn what_could_not_be_retired_for_want_of_memory_is_retired_by_the_next_reclaim() {
    let table = table(&Options::default());
    let (owner, start) = install(&table);
    {
        let mut bodies = lock(&table.inner.bodies);
        let held = bodies.by_owner.get_mut(&owner).expect("it is installed");
        let Held::Installed(code) = std::mem::replace(held, Held::Nothing) else {
            panic!("its code is there")
        };
        *held = Held::Unretired(code);
        bodies.unretired = 1;
    }
    assert!(table.find(start).is_some_and(|located| located.start == start), "it is still there");
    while !table.is_empty() {
        table.reclaim().expect("the system has a barrier");
    }
    assert_eq!((table.find(start), table.stats().live), (None, 0));
}

#[test]
fn all_threads_are_asked_whatever_domain_the_options_name() {
    let own: &'static Domain = Box::leak(Box::new(Domain::new()));
    let table = table(&Options { domain: own, ..Options::default() });
    assert!(ptr::eq(table.domain(), Domain::global()));
}

#[test]
fn code_is_shown_to_the_observers_of_the_options_unless_others_are_asked_for() {
    let directory = std::env::temp_dir().join(format!("dagwood-table-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("there is room for files");
    let observing = Observing { perf_map: Some(directory.clone()), ..Observing::default() };
    let observers = Arc::new(Observers::new(&observing).expect("the directory is there"));
    let options = Options { observers: Some(Arc::clone(&observers)), ..Options::default() };
    let (shown, other) = (table(&options), table(&Options::default()));
    let (_, address) = install(&shown);
    install(&other);
    observers.flush().expect("there is room for files");
    let map = directory.join(format!("perf-{}.map", std::process::id()));
    let lines = std::fs::read_to_string(&map).expect("it was made");
    assert_eq!(lines, format!("{address:x} 1 returns\n"));
    assert!(other.observers().is_none());
    let own = CodeTable::observed(&options, &observing).expect("the directory is there");
    assert!(own.observers().is_some_and(|own| !ptr::eq(own, &*observers)));
    drop((shown, own, observers));
    std::fs::remove_dir_all(&directory).expect("it was made");
}
