//! What compilations know of a program before they see a body: a module of the IL.
//!
//! Classes, methods, fields and statics have the same ids in the program and in the module. Behind the fields stand the
//! symbols of what they do not name: the elements of arrays, and what natives print to.

use dagwood_il as il;
use il::{
    CallEffects, ClassData, KindSet, MemorySet, MethodDecl, Module, NativeDecl, SlotDecl, SymbolId,
    SymbolKind,
};

use crate::program::{Program, Shape, Type};

/// A module, and the symbols of it that no field stands for.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) module: Module,
    /// By type of the IL.
    elements: Vec<(il::Type, SymbolId)>,
}

impl Declared {
    /// The symbol of the elements of arrays of a type.
    pub(super) fn elements(&self, ty: il::Type) -> SymbolId {
        let found = self.elements.iter().find(|(own, _)| *own == ty);
        found.expect("every type of element has a symbol").1
    }
}

fn lowered(types: impl IntoIterator<Item = Type>) -> Vec<il::Type> {
    types.into_iter().map(Type::lowered).collect()
}

/// The module of a program. What a call may do is not known yet.
pub(super) fn declare(program: &Program) -> Declared {
    let mut module = Module::new();
    for member in program.members.values() {
        let ty = member.ty.lowered();
        let kind = match member.offset {
            Some(offset) => SymbolKind::Field { class: member.class, offset, ty },
            None => SymbolKind::Static(ty),
        };
        let name = format!("{}.{}", program.classes[member.class].name, member.name);
        module.declare_symbol(&name, kind);
    }
    let elements = [il::Type::I8, il::Type::I32, il::Type::I64, il::Type::F64, il::Type::Ref];
    let elements =
        elements.map(|ty| (ty, module.declare_symbol(&format!("{ty}[]"), SymbolKind::Element(ty))));
    let console = module.declare_symbol("console", SymbolKind::Region);
    for (id, method) in program.methods.iter() {
        let signature = module.signature(&lowered(method.param_types()), &lowered(method.result));
        let (name, effects) = (program.method_name(id), CallEffects::UNKNOWN);
        module.methods.push(MethodDecl { name, signature, effects });
    }
    for native in program.natives.values() {
        let Shape { params, result } = &native.shape;
        let signature = module.signature(&lowered(params.iter().copied()), &lowered(*result));
        let printed = MemorySet::Symbols(vec![console]);
        let effects =
            CallEffects { reads: printed.clone(), writes: printed, raises: KindSet::NONE, yields: false };
        module.natives.push(NativeDecl { name: native.name.clone(), signature, effects });
    }
    for class in program.classes.values() {
        let slots = class.slots.iter().map(|slot| {
            let params = std::iter::once(il::Type::Ref).chain(lowered(slot.shape.params.iter().copied()));
            let signature = module.signature(&params.collect::<Vec<_>>(), &lowered(slot.shape.result));
            SlotDecl { name: slot.name.clone(), signature, method: slot.method }
        });
        let slots = slots.collect();
        module.classes.push(ClassData {
            name: class.name.clone(),
            superclass: class.superclass,
            interfaces: class.interfaces.clone(),
            is_interface: class.is_interface,
            size_bytes: class.size_bytes,
            slots,
            implementations: class.implementations.clone(),
        });
    }
    Declared { module, elements: elements.into() }
}
