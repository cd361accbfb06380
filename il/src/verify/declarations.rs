//! The rules of declarations, which hold whether or not any method refers to them.

use std::collections::HashSet;

use super::{Errors, Rule, Subject, VerifyError};
use crate::entity::Entity;
use crate::module::*;
use crate::types::Type;

/// Whether the declarations of a module are well-formed.
///
/// # Errors
///
/// The rules that they break, the first [`MAX_ERRORS`](super::MAX_ERRORS) of them.
pub fn verify_module(module: &Module) -> Result<(), Vec<VerifyError>> {
    let mut errors = Errors::default();
    for (id, signature) in module.signatures.iter() {
        if signature.params.iter().chain(&signature.results).any(|ty| *ty == Type::Void) {
            let message = format_args!("parameters and results are values, never void");
            errors.add(Rule::Values, Subject::Signature(id), message);
        }
    }
    check_names(module, &mut errors);
    for (id, decl) in module.methods.iter() {
        check_callee(module, Subject::Declaration(id), decl.signature, &decl.effects, &mut errors);
    }
    for (id, decl) in module.natives.iter() {
        check_callee(module, Subject::Native(id), decl.signature, &decl.effects, &mut errors);
    }
    for (id, class) in module.classes.iter() {
        check_hierarchy(module, id, class, &mut errors);
        check_slots(module, id, class, &mut errors);
        check_implementations(module, id, class, &mut errors);
    }
    check_symbols(module, &mut errors);
    errors.stage()
}

fn check_names(module: &Module, errors: &mut Errors) {
    fn check<'m>(declarations: impl Iterator<Item = (Subject, &'m str)>, errors: &mut Errors) {
        let mut names = HashSet::new();
        for (subject, name) in declarations {
            if !names.insert(name) {
                let message = format_args!("`@{name}` is the name of another one");
                errors.add(Rule::Names, subject, message);
            }
        }
    }
    check(module.methods.iter().map(|(id, decl)| (Subject::Declaration(id), decl.name.as_str())), errors);
    check(module.natives.iter().map(|(id, decl)| (Subject::Native(id), decl.name.as_str())), errors);
    check(module.classes.iter().map(|(id, class)| (Subject::Class(id), class.name.as_str())), errors);
    check(module.symbols.iter().map(|(id, data)| (Subject::Symbol(id), data.name.as_str())), errors);
    for (id, class) in module.classes.iter() {
        let inherited = class.superclass.and_then(|above| module.classes.get(above));
        let own = inherited.map_or(0, |above| above.slots.len()).min(class.slots.len());
        check(class.slots[own..].iter().map(|slot| (Subject::Class(id), slot.name.as_str())), errors);
    }
}

fn check_callee(
    module: &Module,
    subject: Subject,
    signature: SignatureId,
    effects: &CallEffects,
    errors: &mut Errors,
) {
    if module.signatures.get(signature).is_none() {
        errors.add(Rule::Exists, subject, format_args!("it has {signature}, which is not there"));
    }
    for set in [&effects.reads, &effects.writes] {
        if let MemorySet::Symbols(symbols) = set
            && !(symbols.is_sorted_by(|left, right| left < right)
                && symbols.iter().all(|symbol| module.symbols.get(*symbol).is_some()))
        {
            let message = format_args!("the symbols that its effects name should be there, ascending");
            errors.add(Rule::Effects, subject, message);
        }
    }
}

fn check_hierarchy(module: &Module, id: ClassId, class: &ClassData, errors: &mut Errors) {
    let subject = Subject::Class(id);
    if let Some(above) = class.superclass {
        match module.classes.get(above) {
            Some(data) if above < id && !data.is_interface => {
                if class.size_bytes < data.size_bytes {
                    errors.add(
                        Rule::Hierarchy,
                        subject,
                        format_args!(
                            "`@{}` has {} bytes, its superclass {}; it should have no fewer",
                            class.name, class.size_bytes, data.size_bytes
                        ),
                    );
                }
            }
            _ => errors.add(
                Rule::Hierarchy,
                subject,
                format_args!("`@{}` extends {above}, which should be a class declared before it", class.name),
            ),
        }
    }
    for interface in &class.interfaces {
        if *interface >= id || !module.classes[*interface].is_interface {
            errors.add(
                Rule::Hierarchy,
                subject,
                format_args!(
                    "`@{}` implements {interface}, which should be an interface declared before it",
                    class.name
                ),
            );
        }
    }
}

fn check_slots(module: &Module, id: ClassId, class: &ClassData, errors: &mut Errors) {
    let subject = Subject::Class(id);
    let above = class.superclass.and_then(|above| module.classes.get(above));
    let inherited = above.map_or(&[][..], |above| &above.slots);
    let starts_with = class.slots.len() >= inherited.len()
        && inherited
            .iter()
            .zip(&class.slots)
            .all(|(above, own)| above.name == own.name && above.signature == own.signature);
    if !starts_with {
        errors.add(
            Rule::ClassSlots,
            subject,
            format_args!("the table of `@{}` should start with the slots of its superclass", class.name),
        );
    }
    for slot in &class.slots {
        match module.signatures.get(slot.signature) {
            Some(signature) if signature.params.first() == Some(&Type::Ref) => {}
            _ => errors.add(
                Rule::ClassSlots,
                subject,
                format_args!(
                    "slot `{}` of `@{}` should take the receiver, a ref, first",
                    slot.name, class.name
                ),
            ),
        }
        if let Some(method) = slot.method
            && !has_signature(module, method, slot.signature)
        {
            errors.add(
                Rule::ClassSlots,
                subject,
                format_args!(
                    "slot `{}` of `@{}` has {method}, whose signature is not the slot's",
                    slot.name, class.name
                ),
            );
        }
    }
}

fn check_implementations(module: &Module, id: ClassId, class: &ClassData, errors: &mut Errors) {
    for implementation in &class.implementations {
        let interface = module.classes.get(implementation.interface).filter(|data| data.is_interface);
        let slot = interface.and_then(|data| data.slots.get(implementation.slot as usize));
        if !slot.is_some_and(|slot| has_signature(module, implementation.method, slot.signature)) {
            errors.add(
                Rule::Implementation,
                Subject::Class(id),
                format_args!(
                    "`@{}` has {} for slot {} of {}; it should be a method with the signature of a slot of an interface",
                    class.name, implementation.method, implementation.slot, implementation.interface
                ),
            );
        }
    }
}

fn has_signature(module: &Module, method: MethodId, signature: SignatureId) -> bool {
    module.methods.get(method).is_some_and(|decl| decl.signature == signature)
}

fn check_symbols(module: &Module, errors: &mut Errors) {
    let mut fields = Vec::new();
    for (id, data) in module.symbols.iter() {
        if let Some((min, max)) = data.range.filter(|(min, max)| min > max) {
            let message =
                format_args!("`@{}` holds nothing from {min} to {max}; the first should be less", data.name);
            errors.add(Rule::Values, Subject::Symbol(id), message);
        }
        match data.kind {
            SymbolKind::Static(Type::Void)
            | SymbolKind::Element(Type::Void)
            | SymbolKind::Field { ty: Type::Void, .. } => {
                let message = format_args!("`@{}` holds void; it should hold a value", data.name);
                errors.add(Rule::Values, Subject::Symbol(id), message);
            }
            SymbolKind::Field { class, offset, ty } => {
                let end = u64::from(offset) + u64::from(ty.bytes());
                fields.push((class, offset, end, id));
                if !is_inside(module, class, offset, end) {
                    errors.add(
                        Rule::Fields,
                        Subject::Symbol(id),
                        format_args!(
                            "`@{}` takes the bytes from {offset} to {end}, which {class} does not have of its own",
                            data.name
                        ),
                    );
                }
            }
            _ => {}
        }
    }
    fields.sort_unstable_by_key(|(class, offset, ..)| (class.index(), *offset));
    for pair in fields.windows(2) {
        let ((left_class, _, end, left), (right_class, offset, _, right)) = (pair[0], pair[1]);
        if left_class == right_class && u64::from(offset) < end {
            let name = &module.symbols[left].name;
            let message = format_args!("it overlaps `@{name}`; the fields of a class should be apart");
            errors.add(Rule::Fields, Subject::Symbol(right), message);
        }
    }
}

/// Whether bytes belong to the objects of a class, and not to the part that its superclass has.
fn is_inside(module: &Module, class: ClassId, offset: u32, end: u64) -> bool {
    let Some(data) = module.classes.get(class) else { return false };
    let above = data.superclass.and_then(|above| module.classes.get(above));
    end <= u64::from(data.size_bytes) && above.is_none_or(|above| offset >= above.size_bytes)
}
