//! Objects and their collection without code.

use dagwood_il::eval::Value;
use dagwood_il::{ClassData, ClassId, Module, SymbolKind, Type};

use super::*;

/// A list of pairs: a class with a reference and a number, and a static that holds a list.
struct Rig {
    heap: Heap,
    pair: ClassId,
    list: SymbolId,
}

const NEXT: u32 = 16;
const NUMBER: u32 = 24;
const SIZE: usize = 32;

impl Rig {
    fn new(limit_bytes: usize, collect: Collect) -> Rig {
        let mut module = Module::new();
        let pair = module.classes.push(ClassData {
            name: "pair".into(),
            superclass: None,
            interfaces: vec![],
            is_interface: false,
            size_bytes: SIZE as u32,
            slots: vec![],
            implementations: vec![],
        });
        module.declare_symbol("next", SymbolKind::Field { class: pair, offset: NEXT, ty: Type::Ref });
        module.declare_symbol("number", SymbolKind::Field { class: pair, offset: NUMBER, ty: Type::I64 });
        let list = module.declare_symbol("list", SymbolKind::Static(Type::Ref));
        let heap = Heap::new(Arc::new(Classes::new(&module)), &Options { limit_bytes, collect });
        Rig { heap: heap.expect("there is memory"), pair, list }
    }

    fn pair(&self) -> Result<u64, Raise> {
        self.heap.allocate(ObjectKind::Object(self.pair), 0)
    }

    /// Makes the static's list longer.
    fn push(&self, number: i64) -> Result<(), Raise> {
        let pair = self.pair()?;
        let next = Value::reference(self.heap.load_static(self.list));
        self.heap.store(pair, NEXT, next).expect("the pair has the field");
        self.heap.store(pair, NUMBER, Value::i64(number)).expect("the pair has the field");
        self.heap.store_static(self.list, pair);
        Ok(())
    }

    /// The numbers of a list.
    fn numbers(&self, mut pair: u64) -> Vec<i64> {
        let mut numbers = Vec::new();
        while pair != 0 {
            numbers.push(self.heap.load(pair, NUMBER, Type::I64).expect("a pair").signed());
            pair = self.heap.load(pair, NEXT, Type::Ref).expect("a pair").low();
        }
        numbers
    }
}

#[test]
fn what_a_static_leads_to_survives_in_its_shape() {
    for collect in [Collect::WhenFull, Collect::AtEveryYield] {
        let rig = Rig::new(1 << 20, collect);
        for number in 0..200 {
            rig.push(number).expect("it fits");
        }
        let before = rig.heap.load_static(rig.list);
        rig.heap.collect().expect("no code runs");
        assert_ne!(rig.heap.load_static(rig.list), before, "everything moves");
        assert_eq!(rig.numbers(rig.heap.load_static(rig.list)), (0..200).rev().collect::<Vec<_>>());
        assert_eq!(rig.heap.stats().live_bytes, 200 * SIZE);
    }
}

#[test]
fn cycles_and_what_is_shared_stay_so() {
    let rig = Rig::new(1 << 20, Collect::AtEveryYield);
    let first = rig.heap.root(rig.pair().expect("it fits"));
    let second = rig.heap.root(rig.pair().expect("it fits"));
    let array = rig.heap.root(rig.heap.allocate(ObjectKind::Array(Type::Ref), 3).expect("it fits"));
    let store = |object: &Root<'_>, offset, value: &Root<'_>| {
        rig.heap.store(object.get(), offset, Value::reference(value.get())).expect("it has room");
    };
    store(&first, NEXT, &second);
    store(&second, NEXT, &first);
    store(&array, 16, &second);
    store(&array, 32, &array);
    let (a, b) = (first.get(), second.get());
    drop((first, second));
    rig.heap.collect().expect("no code runs");
    let load = |object, offset| rig.heap.load(object, offset, Type::Ref).expect("it has room").low();
    let second = load(array.get(), 16);
    let first = load(second, NEXT);
    assert_eq!((load(first, NEXT), load(array.get(), 24), load(array.get(), 32)), (second, 0, array.get()));
    assert!(rig.heap.kind_of(a).is_none() && rig.heap.kind_of(b).is_none(), "they were there");
    assert_eq!(rig.heap.length(array.get()), Ok(3));
}

#[test]
fn memory_that_nothing_leads_to_is_used_again_and_what_is_held_is_not() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let held = rig.heap.roots(2);
    held.set(1, rig.pair().expect("it fits"));
    rig.heap.store(held.get(1), NUMBER, Value::i64(7)).expect("it has room");
    for _ in 0..100_000 {
        let array = rig.heap.allocate(ObjectKind::Array(Type::I16), 100).expect("the last ones are gone");
        assert_eq!(rig.heap.load(array, 16 + 198, Type::I16), Ok(Value::i16(0)), "memory is zero");
        rig.heap.store(array, 16 + 198, Value::i16(-1)).expect("it has room");
    }
    assert!(rig.heap.stats().collections > 10);
    assert_eq!(rig.numbers(held.get(1)), [7]);
    assert_eq!(held.get(0), 0);
}

#[test]
fn memory_is_bounded() {
    let rig = Rig::new(64 << 10, Collect::WhenFull);
    let mut count = 0;
    let raise = loop {
        match rig.push(count) {
            Ok(()) => count += 1,
            Err(raise) => break raise,
        }
    };
    assert_eq!((raise.kind, count as usize), (RaiseKind::OutOfMemory, (64 << 10) / SIZE));
    assert_eq!(rig.numbers(rig.heap.load_static(rig.list)).len() as i64, count);
    rig.heap.store_static(rig.list, 0);
    rig.push(1).expect("nothing is left of the list");
    for length in [u32::MAX, i32::MAX as u32, 64 << 10] {
        let refused = rig.heap.allocate(ObjectKind::Array(Type::V128), length);
        assert_eq!(refused.expect_err("it is larger than the heap").kind, RaiseKind::OutOfMemory);
    }
}

#[test]
fn the_host_gets_at_fields_and_nothing_else() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let pair = rig.pair().expect("it fits");
    let other = rig.heap.allocate(ObjectKind::Array(Type::I64), 2).expect("it fits");
    for (reference, offset) in
        [(pair, 8), (pair, 0), (pair, 32), (pair, u32::MAX), (pair + 8, 16), (0, 16), (1 << 60, 16)]
    {
        assert!(rig.heap.load(reference, offset, Type::I64).is_err(), "{reference:#x} + {offset}");
        assert!(rig.heap.store(reference, offset, Value::i64(1)).is_err(), "{reference:#x} + {offset}");
    }
    assert!(rig.heap.store(pair, NEXT, Value::reference(other + 16)).is_err(), "no object starts there");
    assert!(rig.heap.store(pair, NEXT, Value::reference(other)).is_ok());
    assert_eq!(rig.heap.kind_of(other), Some(ObjectKind::Array(Type::I64)));
    assert!(rig.heap.is_instance(pair, rig.pair) && !rig.heap.is_instance(other, rig.pair));
    assert!(!rig.heap.is_instance(0, rig.pair));
}

#[test]
#[should_panic(expected = "leads to no object")]
fn a_reference_is_held_only_if_it_is_one() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let _ = rig.heap.root(16);
}

#[test]
#[should_panic(expected = "where an object was")]
fn a_reference_that_was_forgotten_is_found() {
    let rig = Rig::new(1 << 20, Collect::AtEveryYield);
    let stale = rig.pair().expect("it fits");
    let kept = rig.heap.root(rig.pair().expect("it fits"));
    rig.heap.poke(kept.get() + u64::from(NEXT), 8, stale.into()).expect("it has room");
    let _ = rig.heap.collect();
}

#[test]
fn an_address_in_an_object_is_none_however_much_it_looks_like_one() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    rig.pair().expect("it fits");
    let array = rig.heap.allocate(ObjectKind::Array(Type::I64), 8).expect("it fits");
    let description = rig.heap.classes().address(ObjectKind::Object(rig.pair));
    rig.heap.store(array, 32, Value::i64(description as i64)).expect("it has room");
    let behind = rig.pair().expect("it fits");
    assert_eq!(rig.heap.kind_of(array + 32), None, "the words there are a header's");
    assert_eq!(rig.heap.check(array + 32), Err(AccessError::NoObject { reference: array + 32 }));
    for object in [behind, array] {
        assert_eq!((rig.heap.check(object), rig.heap.check(0)), (Ok(()), Ok(())));
        assert!(rig.heap.store(object, NEXT, Value::reference(array + 32)).is_err());
    }
    let kept = rig.heap.root(behind);
    rig.heap.collect().expect("no code runs");
    assert!(rig.heap.check(behind).is_err(), "it has moved");
    assert!(rig.heap.check(kept.get()).is_ok());
}

#[test]
fn references_are_stored_and_loaded_where_objects_have_them_and_nowhere_else() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let pair = rig.pair().expect("it fits");
    let kind = ObjectKind::Object(rig.pair);
    let bytes = |offset, ty| AccessError::OtherType { kind, offset, ty };
    for (offset, value) in [(NEXT, Value::i64(16)), (NEXT + 4, Value::i64(1)), (NEXT + 7, Value::i8(1))] {
        assert_eq!(rig.heap.store(pair, offset, value), Err(bytes(offset, value.ty())));
        assert_eq!(rig.heap.load(pair, offset, value.ty()), Err(bytes(offset, value.ty())));
    }
    for offset in [NUMBER, NEXT + 1, NEXT + 4] {
        let stored = rig.heap.store(pair, offset, Value::reference(pair));
        assert_eq!(stored, Err(bytes(offset, Type::Ref)));
        assert_eq!(rig.heap.load(pair, offset, Type::Ref), Err(bytes(offset, Type::Ref)));
    }
    assert!(rig.heap.store(pair, NUMBER, Value::f64(1.5)).is_ok(), "numbers may be of any type");
    let numbers = rig.heap.allocate(ObjectKind::Array(Type::I64), 2).expect("it fits");
    let pairs = rig.heap.allocate(ObjectKind::ObjectArray(rig.pair), 2).expect("it fits");
    assert!(rig.heap.store(numbers, 16, Value::reference(0)).is_err());
    assert!(
        rig.heap.store(pairs, 16, Value::i64(0)).is_err() && rig.heap.load(pairs, 20, Type::Ref).is_err()
    );
    assert!(rig.heap.store(pairs, 24, Value::reference(pair)).is_ok());
    let element = ObjectKind::Array(Type::I64);
    let refused = rig.heap.store(pairs, 24, Value::reference(numbers));
    assert_eq!(refused, Err(AccessError::OtherClass { kind: ObjectKind::ObjectArray(rig.pair), element }));
    rig.heap.collect().expect("no code runs");
}

#[test]
fn nothing_can_be_done_with_a_heap_whose_collection_was_cut_off() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let kept = rig.heap.root(rig.pair().expect("it fits"));
    let field = kept.get() + u64::from(NEXT);
    rig.heap.poke(field, 8, 24).expect("it has room");
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.heap.collect()));
    assert!(cut.is_err(), "the reference leads nowhere");
    let refused = |result: Result<(), Raise>| result.expect_err("it is broken").to_string();
    let thread = Thread::new(&crate::thread::Options::default()).expect("there is memory");
    for text in [
        refused(rig.heap.collect()),
        refused(rig.pair().map(drop)),
        refused(rig.heap.lend(&thread).map(drop)),
        refused(rig.heap.monitor_enter(kept.get())),
        rig.heap.load(kept.get(), NUMBER, Type::I64).expect_err("it is broken").to_string(),
        rig.heap.store(kept.get(), NUMBER, Value::i64(1)).expect_err("it is broken").to_string(),
        rig.heap.length(kept.get()).expect_err("it is broken").to_string(),
    ] {
        assert!(text.contains("cut off"), "{text}");
    }
    assert_eq!((rig.heap.kind_of(kept.get()), rig.heap.is_instance(kept.get(), rig.pair)), (None, false));
    assert!(rig.heap.peek(field, 8).is_err() && rig.heap.poke(field, 8, 0).is_err());
}

#[test]
fn monitors_count() {
    let rig = Rig::new(1 << 20, Collect::AtEveryYield);
    let pair = rig.heap.root(rig.pair().expect("it fits"));
    let kind = |result: Result<(), Raise>| result.map_err(|raise| raise.kind);
    assert_eq!(kind(rig.heap.monitor_exit(pair.get())), Err(RaiseKind::Monitor));
    rig.heap.monitor_enter(pair.get()).expect("it is free");
    rig.heap.monitor_enter(pair.get()).expect("it is ours");
    rig.heap.collect().expect("no code runs");
    rig.heap.monitor_exit(pair.get()).expect("it is ours");
    rig.heap.monitor_exit(pair.get()).expect("it is ours");
    assert_eq!(kind(rig.heap.monitor_exit(pair.get())), Err(RaiseKind::Monitor));
    assert_eq!(kind(rig.heap.monitor_enter(0)), Err(RaiseKind::Fault));
}

#[test]
fn statics_are_memory_for_the_interpreter() {
    let rig = Rig::new(1 << 20, Collect::WhenFull);
    let at = rig.heap.static_address(rig.list) as u64;
    rig.heap.poke(at + 5, 2, 0xabcd).expect("it is inside");
    assert_eq!(rig.heap.peek(at, 8), Ok(0x00ab_cd00_0000_0000));
    assert_eq!(rig.heap.peek(at, 16), Ok(0x00ab_cd00_0000_0000));
    let below = rig.heap.statics.as_ptr() as u64 - 1;
    assert!(rig.heap.peek(at + 12, 8).is_err() && rig.heap.poke(below, 1, 0).is_err());
    rig.heap.clear_statics();
    assert_eq!(rig.heap.peek(at + 4, 4), Ok(0));
}
