//! Class descriptions: what code and the collector know of an object by its header.
//!
//! ```text
//!   Module ──► Classes: one array of words ──► │ description │ description │ … │ chains of interface methods │
//!                                                   ▲  a method's code is published, or taken out: its words change
//!   object: header ─────────────────────────────────┘
//! ```
//!
//! *Type tests.* Whether an object is of a class is one load and one comparison: the class stands in the object's display at the
//! depth that it has in the tree of classes. Interfaces, and classes deeper than the display is long, are asked of the runtime.
//!
//! *Dispatch.* A virtual call goes through the word of its slot. An interface call searches the one chain in which its key would be,
//! hardly ever longer than one entry; no number has to be agreed on by all classes of a program. Words of methods without code
//! lead to the stub that raises a fault.
//!
//! *Why not code that is patched.* A word follows the method: recompiling and evicting store to it, under the same lock under which
//! direct calls are redirected, and code never keeps what it loaded from it across a place where code may be reclaimed. So dispatch
//! pins nothing.
//!
//! # Guarantees
//!
//! Descriptions never move and live as long as the table. An address that is not that of a description is told from one that is.

use std::sync::atomic::{AtomicU64, Ordering};

use dagwood_il::entity::Entity;
use dagwood_il::layout::description::{
    DISPLAY, DISPLAY_CLASSES, ELEMENT, ENTRY_BYTES, ENTRY_CODE, INTERFACE_CHAINS, INTERFACES, METHODS,
    interface_chain, interface_key,
};
use dagwood_il::layout::{ELEMENTS_OFFSET, HEADER_BYTES, OBJECT_ALIGN, ObjectKind};
use dagwood_il::{ClassId, Dispatch, MethodId, Module, SymbolKind, Type};

use crate::stubs;

const WORD: usize = size_of::<u64>();

/// The descriptions of a program's classes and arrays.
#[derive(Debug)]
pub struct Classes {
    words: Box<[AtomicU64]>,
    /// By number, which is the first word of a description.
    infos: Vec<Info>,
    /// By [`ObjectKind::encode`]: the number.
    numbers: Vec<Option<u32>>,
    /// By method: the words that hold the address of its code.
    entries: Vec<Vec<u32>>,
    /// The statics that hold references, and how many symbols there are.
    statics: Vec<bool>,
}

/// What the runtime knows of a kind of object.
#[derive(Debug)]
pub(crate) struct Info {
    pub(crate) kind: ObjectKind,
    /// Its description's first word.
    start: usize,
    /// The bytes of an object, or of an element.
    size_bytes: u32,
    /// Where an object has references: offsets from its own, ascending.
    pub(crate) references: Vec<u32>,
    /// The classes and interfaces that its objects are of, ascending.
    supers: Vec<ClassId>,
}

impl Info {
    /// The bytes that an object takes, padding included.
    pub(crate) fn object_bytes(&self, length: u32) -> u64 {
        let bytes = match self.kind {
            ObjectKind::Object(_) => u64::from(self.size_bytes.max(HEADER_BYTES)),
            _ => u64::from(HEADER_BYTES) + u64::from(self.size_bytes) * u64::from(length),
        };
        bytes.next_multiple_of(OBJECT_ALIGN.into())
    }
}

/// A table in the making.
struct Making<'m> {
    module: &'m Module,
    words: Vec<u64>,
    infos: Vec<Info>,
    numbers: Vec<Option<u32>>,
    entries: Vec<Vec<u32>>,
    /// Words that are to hold the address of the word with this index.
    links: Vec<(usize, usize)>,
}

impl Classes {
    /// The descriptions of a module's classes, none of whose methods has code.
    pub fn new(module: &Module) -> Classes {
        let mut making = Making {
            module,
            words: Vec::new(),
            infos: Vec::new(),
            numbers: Vec::new(),
            entries: vec![Vec::new(); module.methods.len()],
            links: Vec::new(),
        };
        for class in module.classes.keys() {
            making.class(class);
        }
        for ty in Type::VALUES {
            making.array(ObjectKind::Array(ty), ty);
        }
        for class in module.classes.keys() {
            making.array(ObjectKind::ObjectArray(class), Type::Ref);
        }
        making.finish()
    }

    /// The address of a kind's description.
    ///
    /// # Panics
    ///
    /// If it is of a class that the module does not declare.
    pub fn address(&self, kind: ObjectKind) -> u64 {
        self.address_of(self.info(kind).start) as u64
    }

    /// The kind whose description is at an address.
    pub fn kind_at(&self, address: u64) -> Option<ObjectKind> {
        self.info_at(address).map(|info| info.kind)
    }

    /// Whether objects of a kind are of a class. Arrays are of none.
    pub fn is_instance(&self, kind: ObjectKind, class: ClassId) -> bool {
        self.info(kind).supers.binary_search(&class).is_ok()
    }

    pub(crate) fn info(&self, kind: ObjectKind) -> &Info {
        let number = self.numbers.get(kind.encode() as usize).copied().flatten();
        &self.infos[number.expect("the kind is of a class of the module") as usize]
    }

    pub(crate) fn info_at(&self, address: u64) -> Option<&Info> {
        let offset = (address as usize).checked_sub(self.address_of(0))?;
        let word = self.words.get(offset / WORD).filter(|_| offset.is_multiple_of(WORD))?;
        let info = self.infos.get(word.load(Ordering::Relaxed) as usize)?;
        (info.start == offset / WORD).then_some(info)
    }

    /// By symbol: whether it is a static that holds a reference.
    pub(crate) fn statics(&self) -> &[bool] {
        &self.statics
    }

    /// Makes dispatching calls of a method go to `code`, or raise a fault if it has none.
    pub(crate) fn publish(&self, method: MethodId, code: Option<usize>) {
        let code = code.unwrap_or_else(stubs::unlinked_address) as u64;
        for word in &self.entries[method.index()] {
            // What the code does at its start is there for who loads its address.
            self.words[*word as usize].store(code, Ordering::Release);
        }
    }

    fn address_of(&self, word: usize) -> usize {
        self.words.as_ptr() as usize + word * WORD
    }
}

impl Making<'_> {
    /// Begins a description; its first word.
    fn begin(&mut self, kind: ObjectKind, size_bytes: u32) -> usize {
        let start = self.words.len();
        let number = self.infos.len() as u32;
        self.words.resize(start + METHODS as usize / WORD, 0);
        self.words[start] = number.into();
        let code = kind.encode() as usize;
        self.numbers.resize(self.numbers.len().max(code + 1), None);
        self.numbers[code] = Some(number);
        self.infos.push(Info { kind, start, size_bytes, references: Vec::new(), supers: Vec::new() });
        start
    }

    fn class(&mut self, class: ClassId) {
        let (module, data) = (self.module, &self.module.classes[class]);
        let start = self.begin(ObjectKind::Object(class), data.size_bytes);
        let mut ancestors: Vec<ClassId> = module.superclasses(class).collect();
        let info = self.infos.last_mut().expect("it was begun");
        info.supers = module.classes.keys().filter(|other| module.is_subclass(class, *other)).collect();
        let fields = module.symbols.values().filter_map(|symbol| match symbol.kind {
            SymbolKind::Field { class, offset, ty: Type::Ref } if ancestors.contains(&class) => Some(offset),
            _ => None,
        });
        info.references = fields.collect();
        info.references.sort_unstable();
        info.references.dedup();
        if !data.is_interface {
            ancestors.reverse();
            for (depth, ancestor) in ancestors.iter().enumerate().take(DISPLAY_CLASSES) {
                let known = self.numbers[ObjectKind::Object(*ancestor).encode() as usize];
                let known = known.expect("superclasses precede what extends them");
                self.links.push((start + DISPLAY as usize / WORD + depth, self.infos[known as usize].start));
            }
        }
        for slot in &data.slots {
            self.code(slot.method);
        }
        self.interfaces(class, start);
    }

    /// Adds a word that holds the address of a method's code.
    fn code(&mut self, method: Option<MethodId>) {
        if let Some(method) = method {
            self.entries[method.index()].push(self.words.len() as u32);
        }
        self.words.push(stubs::unlinked_address() as u64);
    }

    /// Adds the chains of a class behind its description.
    fn interfaces(&mut self, class: ClassId, start: usize) {
        let module = self.module;
        let mut chains = vec![Vec::new(); INTERFACE_CHAINS as usize];
        let interfaces = module.classes.iter().filter(|(_, data)| data.is_interface);
        for (interface, data) in interfaces.filter(|(interface, _)| module.is_subclass(class, *interface)) {
            for slot in 0..data.slots.len() as u32 {
                if let Some(method) = module.implementation(class, interface, slot) {
                    let key = interface_key(Dispatch { class: interface, slot });
                    chains[interface_chain(key) as usize].push((key, Some(method)));
                }
            }
        }
        let mut empty = None;
        for (number, mut chain) in chains.into_iter().enumerate() {
            let first = match empty {
                Some(first) if chain.is_empty() => first,
                _ => self.words.len(),
            };
            self.links.push((start + INTERFACES as usize / WORD + number, first));
            if first < self.words.len() {
                continue;
            }
            if chain.is_empty() {
                empty = Some(first);
            }
            chain.push((0, None));
            for (key, method) in chain {
                const { assert!(ENTRY_BYTES as usize == 2 * WORD && ENTRY_CODE as usize == WORD) };
                self.words.push(key);
                self.code(method);
            }
        }
    }

    fn array(&mut self, kind: ObjectKind, element: Type) {
        let start = self.begin(kind, element.bytes());
        let none = self.words.len();
        self.words.push(0);
        self.code(None);
        for chain in 0..INTERFACE_CHAINS as usize {
            self.links.push((start + INTERFACES as usize / WORD + chain, none));
        }
        if let ObjectKind::ObjectArray(class) = kind {
            let class =
                self.numbers[ObjectKind::Object(class).encode() as usize].expect("classes come first");
            self.links.push((start + ELEMENT as usize / WORD, self.infos[class as usize].start));
        }
        const { assert!(ELEMENTS_OFFSET as u32 == HEADER_BYTES) };
    }

    fn finish(self) -> Classes {
        let words: Box<[AtomicU64]> = self.words.into_iter().map(AtomicU64::new).collect();
        let statics = self.module.symbols.values().map(|symbol| symbol.kind == SymbolKind::Static(Type::Ref));
        let classes = Classes {
            words,
            infos: self.infos,
            numbers: self.numbers,
            entries: self.entries,
            statics: statics.collect(),
        };
        for (word, to) in self.links {
            classes.words[word].store(classes.address_of(to) as u64, Ordering::Relaxed);
        }
        classes
    }
}

#[cfg(test)]
mod tests {
    use dagwood_il::{ClassData, Implementation, SlotDecl};

    use super::*;

    fn class(module: &mut Module, name: &str, superclass: Option<ClassId>) -> ClassId {
        module.classes.push(ClassData {
            name: name.into(),
            superclass,
            interfaces: vec![],
            is_interface: false,
            size_bytes: 24,
            slots: vec![],
            implementations: vec![],
        })
    }

    fn word(classes: &Classes, kind: ObjectKind, offset: i32) -> u64 {
        let start = classes.info(kind).start;
        classes.words[start + offset as usize / WORD].load(Ordering::Relaxed)
    }

    #[test]
    fn descriptions_are_told_from_other_addresses() {
        let mut module = Module::new();
        let root = class(&mut module, "root", None);
        let classes = Classes::new(&module);
        let kinds = [ObjectKind::Object(root), ObjectKind::ObjectArray(root), ObjectKind::Array(Type::I8)];
        for kind in kinds {
            let address = classes.address(kind);
            assert_eq!(classes.kind_at(address), Some(kind));
            for other in [address + 1, address + 8, 0, u64::MAX] {
                assert_eq!(classes.kind_at(other), None, "{other:#x}");
            }
        }
        assert_eq!(word(&classes, kinds[1], ELEMENT), classes.address(kinds[0]));
        assert_eq!(word(&classes, kinds[0], ELEMENT), 0);
    }

    #[test]
    fn a_display_has_the_ancestors_at_their_depths() {
        let mut module = Module::new();
        let mut last = class(&mut module, "c0", None);
        for depth in 1..=DISPLAY_CLASSES {
            last = class(&mut module, &format!("c{depth}"), Some(last));
        }
        let classes = Classes::new(&module);
        let all: Vec<ClassId> = module.classes.keys().collect();
        for (depth, ancestor) in all.iter().enumerate().take(DISPLAY_CLASSES) {
            let at = DISPLAY + (depth * WORD) as i32;
            assert_eq!(
                word(&classes, ObjectKind::Object(last), at),
                classes.address(ObjectKind::Object(*ancestor))
            );
        }
        assert!(
            classes.is_instance(ObjectKind::Object(last), all[0])
                && classes.is_instance(ObjectKind::Object(last), last)
        );
        assert!(!classes.is_instance(ObjectKind::Object(all[0]), last));
        assert!(!classes.is_instance(ObjectKind::ObjectArray(last), last));
    }

    #[test]
    fn the_words_of_a_method_follow_its_code() {
        let mut module = Module::new();
        let signature = module.signature(&[Type::Ref], &[]);
        let method = module.declare_method("m", &[Type::Ref], &[]);
        let slot = |method| SlotDecl { name: "m".into(), signature, method };
        let interface = class(&mut module, "interface", None);
        module.classes[interface].is_interface = true;
        module.classes[interface].slots = (0..20).map(|_| slot(None)).collect();
        let own = class(&mut module, "own", None);
        module.classes[own].interfaces = vec![interface];
        module.classes[own].slots = vec![slot(None), slot(Some(method))];
        module.classes[own].implementations =
            (0..20).map(|slot| Implementation { interface, slot, method }).collect();
        let heir = class(&mut module, "heir", Some(own));
        module.classes[heir].slots = vec![slot(None), slot(Some(method))];
        let classes = Classes::new(&module);
        let stub = stubs::unlinked_address() as u64;
        for code in [Some(0x1234_usize), None] {
            classes.publish(method, code);
            let expected = code.map_or(stub, |code| code as u64);
            for class in [own, heir].map(ObjectKind::Object) {
                assert_eq!(word(&classes, class, METHODS), stub, "the slot is abstract");
                assert_eq!(word(&classes, class, METHODS + WORD as i32), expected);
                for slot in 0..20 {
                    let key = interface_key(Dispatch { class: interface, slot });
                    let chain =
                        word(&classes, class, INTERFACES + (interface_chain(key) as usize * WORD) as i32);
                    let mut at = (chain as usize - classes.address_of(0)) / WORD;
                    let value = |at: usize| classes.words[at].load(Ordering::Relaxed);
                    while value(at) != key && value(at) != 0 {
                        at += 2;
                    }
                    assert_eq!((value(at), value(at + 1)), (key, expected), "slot {slot}");
                }
            }
        }
    }
}
