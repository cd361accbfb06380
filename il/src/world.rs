//! The questions that a compilation may ask about the running program.
//!
//! Whatever may change is asked here and nowhere else, and an answer names the [`Assumption`] under which it holds, so
//! that code built on it can be taken back. There is one way to build on an answer and forget its assumption: not to use
//! a [`Recorder`].
//!
//! ```text
//!   is `Shape` extended?   yes          for ever: a broken assumption stays broken
//!                          no           while not_extended @Shape
//! ```
//!
//! # Guarantees
//!
//! * A [`Recorder`] has noted the assumption before the answer is returned: an answer that is then dropped registers too
//!   much, never too little.
//! * A [`Replay`] of what was recorded gives every question the answer it had, so the compilation repeats byte for byte.
//!   A question that was not asked is answered so that nothing can be built on it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::entity::EntityVec;
use crate::method::Assumption;
use crate::module::{ClassId, MethodId, Module, SymbolId};

/// Something that has not happened, or has for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// Has a class been loaded that extends the class, or implements the interface?
    Extended(ClassId),
    /// Has a class been loaded that overrides the method in the class's slot?
    Overridden(ClassId, u32),
    /// Has the field or static been written since it got its value?
    Written(SymbolId),
    /// Has the method been redefined?
    Redefined(MethodId),
}

impl Question {
    /// What is assumed by building on the answer "no".
    pub fn assumption(self) -> Assumption {
        match self {
            Question::Extended(class) => Assumption::NotExtended(class),
            Question::Overridden(class, slot) => Assumption::NotOverridden(class, slot),
            Question::Written(symbol) => Assumption::NotWritten(symbol),
            Question::Redefined(method) => Assumption::NotRedefined(method),
        }
    }
}

/// An answer, and how long it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What is so.
    pub value: T,
    /// It is so while this holds; for ever if there is none.
    pub assumption: Option<Assumption>,
}

impl<T> Answer<T> {
    /// What cannot change.
    pub fn settled(value: T) -> Answer<T> {
        Answer { value, assumption: None }
    }
}

impl Answer<bool> {
    /// The answer to a question in a program that goes on: "yes" is for ever, "no" may change.
    pub fn to(question: Question, has_happened: bool) -> Answer<bool> {
        let assumption = (!has_happened).then(|| question.assumption());
        Answer { value: has_happened, assumption }
    }
}

/// What a body is, by content: equal bodies have equal keys on every machine.
///
/// A hash of 128 bits, FNV-1a; it tells apart what differs by accident, not what an enemy makes collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentKey(pub u128);

impl ContentKey {
    /// The key of a body's text.
    pub fn of(text: &[u8]) -> ContentKey {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        ContentKey(text.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)))
    }

    /// The key of a method's body in a file, whose content this is: that and the method's number say what the body is.
    pub fn of_method(self, method: MethodId) -> ContentKey {
        ContentKey::of(format!("{:x} {method}", self.0).as_bytes())
    }
}

/// A running program, as a compilation may know it.
pub trait World {
    /// Whether something has happened.
    fn has_happened(&self, question: Question) -> Answer<bool>;

    /// The body that a call of the method runs, if it may be looked at.
    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>>;
}

impl<W: World + ?Sized> World for &W {
    fn has_happened(&self, question: Question) -> Answer<bool> {
        (**self).has_happened(question)
    }

    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
        (**self).body(method)
    }
}

/// A program of which everything is known: the classes of a module are all there will be. Nothing is assumed.
#[derive(Clone, Debug)]
pub struct ClosedWorld<'m> {
    module: &'m Module,
    bodies: BTreeMap<MethodId, ContentKey>,
}

impl<'m> ClosedWorld<'m> {
    /// The program of a module. Of its methods, the bodies of these may be looked at.
    pub fn new(module: &'m Module, bodies: impl IntoIterator<Item = (MethodId, ContentKey)>) -> Self {
        ClosedWorld { module, bodies: bodies.into_iter().collect() }
    }

    /// The classes that extend or implement a class, directly or not. Declarations stand after what they extend.
    fn below(&self, class: ClassId) -> impl Iterator<Item = ClassId> {
        let mut is_below: EntityVec<ClassId, bool> = EntityVec::filled(false, self.module.classes.len());
        let mut below = Vec::new();
        for (id, data) in self.module.classes.iter() {
            let mut above = data.superclass.iter().chain(&data.interfaces);
            if above.any(|above| *above == class || is_below.get(*above) == Some(&true)) {
                is_below[id] = true;
                below.push(id);
            }
        }
        below.into_iter()
    }

    fn is_overridden(&self, class: ClassId, slot: u32) -> bool {
        let method_of = |class: ClassId| {
            let slots = &self.module.classes[class].slots;
            slots.get(slot as usize).and_then(|slot| slot.method)
        };
        let is_interface = self.module.classes[class].is_interface;
        self.below(class).any(|below| {
            let implementations = &self.module.classes[below].implementations;
            match is_interface {
                true => implementations.iter().any(|own| own.interface == class && own.slot == slot),
                false => method_of(below) != method_of(class),
            }
        })
    }
}

impl World for ClosedWorld<'_> {
    fn has_happened(&self, question: Question) -> Answer<bool> {
        Answer::settled(match question {
            Question::Extended(class) => self.below(class).next().is_some(),
            Question::Overridden(class, slot) => self.is_overridden(class, slot),
            // Declarations do not say who writes; what is read-only is written by construction alone.
            Question::Written(symbol) => !self.module.symbols[symbol].is_readonly,
            Question::Redefined(_) => false,
        })
    }

    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
        Answer::settled(self.bodies.get(&method).copied())
    }
}

/// Answers by question, as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    facts: BTreeMap<Question, Answer<bool>>,
    bodies: BTreeMap<MethodId, Answer<Option<ContentKey>>>,
}

impl Replay {
    /// What the answers assume, ascending.
    pub fn assumptions(&self) -> BTreeSet<Assumption> {
        let facts = self.facts.values().filter_map(|answer| answer.assumption);
        facts.chain(self.bodies.values().filter_map(|answer| answer.assumption)).collect()
    }
}

impl World for Replay {
    fn has_happened(&self, question: Question) -> Answer<bool> {
        self.facts.get(&question).copied().unwrap_or(Answer::settled(true))
    }

    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
        self.bodies.get(&method).copied().unwrap_or(Answer::settled(None))
    }
}

/// A world that notes what it is asked. A question asked twice gets its first answer.
#[derive(Debug)]
pub struct Recorder<W> {
    world: W,
    record: RefCell<Replay>,
}

impl<W: World> Recorder<W> {
    /// Asks `world`, and notes it.
    pub fn new(world: W) -> Recorder<W> {
        Recorder { world, record: RefCell::default() }
    }

    /// All that was asked.
    pub fn finish(self) -> Replay {
        self.record.into_inner()
    }
}

impl<W: World> World for Recorder<W> {
    fn has_happened(&self, question: Question) -> Answer<bool> {
        let mut record = self.record.borrow_mut();
        *record.facts.entry(question).or_insert_with(|| self.world.has_happened(question))
    }

    fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
        let mut record = self.record.borrow_mut();
        *record.bodies.entry(method).or_insert_with(|| self.world.body(method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{ClassData, Implementation, SlotDecl, SymbolKind};
    use crate::types::Type;

    /// `Square` extends `Shape` and implements `Drawn`; `Circle` extends `Shape` and overrides nothing.
    fn shapes() -> (Module, [ClassId; 4], [MethodId; 2]) {
        let mut module = Module::new();
        let signature = module.signature(&[Type::Ref], &[]);
        let methods = ["area", "square_area"].map(|name| module.declare_method(name, &[Type::Ref], &[]));
        let class = |name: &str, superclass, is_interface, method| ClassData {
            name: name.into(),
            superclass,
            interfaces: Vec::new(),
            is_interface,
            size_bytes: 16,
            slots: vec![SlotDecl { name: "area".into(), signature, method }],
            implementations: Vec::new(),
        };
        let drawn = module.classes.push(class("Drawn", None, true, None));
        let shape = module.classes.push(class("Shape", None, false, Some(methods[0])));
        let implementation = Implementation { interface: drawn, slot: 0, method: methods[1] };
        let square = module.classes.push(ClassData {
            interfaces: vec![drawn],
            implementations: vec![implementation],
            ..class("Square", Some(shape), false, Some(methods[1]))
        });
        let circle = module.classes.push(class("Circle", Some(shape), false, Some(methods[0])));
        (module, [drawn, shape, square, circle], methods)
    }

    #[test]
    fn a_closed_world_knows_its_classes_and_assumes_nothing() {
        let (mut module, [drawn, shape, square, circle], _) = shapes();
        let constant = module.declare_symbol("constant", SymbolKind::Static(Type::I32));
        module.symbols[constant].is_readonly = true;
        let variable = module.declare_symbol("variable", SymbolKind::Static(Type::I32));
        let world = ClosedWorld::new(&module, []);
        let has = |question| {
            let answer = world.has_happened(question);
            assert_eq!(answer.assumption, None);
            answer.value
        };
        assert!(has(Question::Extended(shape)) && has(Question::Extended(drawn)));
        assert!(!has(Question::Extended(square)) && !has(Question::Extended(circle)));
        assert!(has(Question::Overridden(shape, 0)) && has(Question::Overridden(drawn, 0)));
        assert!(!has(Question::Overridden(square, 0)));
        assert!(!has(Question::Written(constant)) && has(Question::Written(variable)));
    }

    /// A program that goes on: nothing has happened yet.
    struct Fresh;

    impl World for Fresh {
        fn has_happened(&self, question: Question) -> Answer<bool> {
            Answer::to(question, false)
        }

        fn body(&self, method: MethodId) -> Answer<Option<ContentKey>> {
            let assumption = Some(Assumption::NotRedefined(method));
            Answer { value: Some(ContentKey::of(b"return")), assumption }
        }
    }

    #[test]
    fn what_is_recorded_replays_and_what_was_not_asked_promises_nothing() {
        let (_, [_, shape, square, _], [area, other]) = shapes();
        let recorder = Recorder::new(Fresh);
        assert!(!recorder.has_happened(Question::Extended(shape)).value);
        let body = recorder.body(area);
        let replay = recorder.finish();
        let assumed: Vec<Assumption> = replay.assumptions().into_iter().collect();
        assert_eq!(assumed, [Assumption::NotExtended(shape), Assumption::NotRedefined(area)]);
        assert_eq!(
            replay.has_happened(Question::Extended(shape)),
            Answer::to(Question::Extended(shape), false)
        );
        assert_eq!(replay.body(area), body);
        assert_eq!(replay.has_happened(Question::Extended(square)), Answer::settled(true));
        assert_eq!(replay.body(other), Answer::settled(None));
    }

    #[test]
    fn what_has_happened_needs_no_assumption() {
        let (_, [_, shape, ..], _) = shapes();
        assert_eq!(Answer::to(Question::Extended(shape), true), Answer::settled(true));
    }

    #[test]
    fn content_keys_are_those_of_the_published_hash() {
        assert_eq!(ContentKey::of(b"").0, 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(ContentKey::of(b"a").0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
