//! Rules of modules.

use super::*;
use crate::module::{CallEffects, MemorySet, NativeDecl};

type MakeModule = fn(&mut Module);

#[test]
fn modules() {
    let verdict = |make: MakeModule| {
        let mut module = declarations();
        make(&mut module);
        let mut rules: Vec<Rule> =
            verify_module(&module).err().unwrap_or_default().into_iter().map(|error| error.rule).collect();
        rules.dedup();
        rules
    };
    let mut wrong = Vec::new();
    for (rule, name, bad, near) in CASES {
        for (make, expected, what) in [(bad, &[*rule][..], "breaking"), (near, &[][..], "a near miss of")] {
            let found = verdict(*make);
            if found != expected {
                wrong.push(format!("{what} {rule}, {name}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn class<'m>(module: &'m mut Module, name: &str) -> &'m mut ClassData {
    let id = named(&module.classes, |class| class.name == name);
    &mut module.classes[id]
}

fn native(module: &mut Module, signature: usize) {
    let signature = SignatureId::new(signature);
    module.natives.push(NativeDecl { name: "n".into(), signature, effects: CallEffects::UNKNOWN });
}

/// Declares a subclass of `Point`.
fn subclass(module: &mut Module, size_bytes: u32) {
    let point = named(&module.classes, |class| class.name == "Point");
    let data = module.classes[point].clone();
    module.classes.push(ClassData { name: "Circle".into(), superclass: Some(point), size_bytes, ..data });
}

/// Gives the superclass the slots of its subclass.
fn lift_slots(module: &mut Module) {
    class(module, "Object").slots = class(module, "Point").slots.clone();
}

fn field(module: &mut Module, class: &str, offset: u32) {
    let class = named(&module.classes, |data| data.name == class);
    module.declare_symbol("z", SymbolKind::Field { class, offset, ty: Type::I32 });
}

fn writes(module: &mut Module, symbols: &[usize]) {
    let symbols = symbols.iter().map(|index| SymbolId::new(*index)).collect();
    module.methods[MethodId::new(0)].effects.writes = MemorySet::Symbols(symbols);
}

#[rustfmt::skip]
pub(super) const CASES: &[(Rule, &str, MakeModule, MakeModule)] = &[
    (Rule::Names, "two symbols", |m| { m.declare_symbol("counter", SymbolKind::Region); }, |m| { m.declare_symbol("callee", SymbolKind::Region); }),
    (Rule::Values, "a void parameter", |m| { m.signature(&[Type::Void], &[]); }, |m| { m.signature(&[], &[]); }),
    (Rule::Values, "a static of void",
        |m| { m.declare_symbol("v", SymbolKind::Static(Type::Void)); }, |m| { m.declare_symbol("v", SymbolKind::Static(Type::V128)); }),
    (Rule::Exists, "a signature", |m| { native(m, 99); }, |m| { native(m, 0); }),
    (Rule::Hierarchy, "itself", |m| class(m, "Object").superclass = Some(ClassId::new(0)), |m| class(m, "Object").superclass = None),
    (Rule::Hierarchy, "a class as an interface", |m| class(m, "Point").interfaces = vec![ClassId::new(0)], |m| class(m, "Point").interfaces = vec![]),
    (Rule::Hierarchy, "smaller than its superclass", |m| subclass(m, 16), |m| subclass(m, 24)),
    (Rule::ClassSlots, "not its superclass's", |m| { lift_slots(m); class(m, "Point").slots.clear(); }, lift_slots),
    (Rule::ClassSlots, "a method with another signature",
        |m| class(m, "Point").slots[0].method = Some(MethodId::new(1)), |m| class(m, "Point").slots[0].method = None),
    (Rule::Implementation, "no such slot", |m| class(m, "Point").implementations[0].slot = 1, |m| class(m, "Point").implementations.clear()),
    (Rule::Fields, "beyond the object", |m| field(m, "Point", 22), |m| field(m, "Point", 20)),
    (Rule::Fields, "over another", |m| field(m, "Point", 14), |m| field(m, "Point", 16)),
    (Rule::Fields, "in the superclass's part", |m| field(m, "Point", 4), |m| field(m, "Object", 4)),
    (Rule::Effects, "symbols out of order", |m| writes(m, &[1, 0]), |m| writes(m, &[0, 1])),
    (Rule::Effects, "a symbol that is not there", |m| writes(m, &[99]), |m| writes(m, &[5])),
];
