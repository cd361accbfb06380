//! What the uses of an object do to it, if it is known where it was made: its shape, and what each root is then.

use dagwood_il::layout::{ELEMENTS_OFFSET, ObjectKind};
use dagwood_il::{
    Access, ClassId, Method, Module, Node, Opcode, Payload, Place, Properties, RaiseKind, SymbolId,
    SymbolKind, Type,
};

use super::{MAX_ELEMENTS, MAX_FIELDS, Object};

/// A field, or an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it is, from the reference, in bytes.
    pub offset: i64,
    /// What it holds.
    pub ty: Type,
    /// Its symbol; none for an element.
    pub symbol: Option<SymbolId>,
}

/// What an allocation makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The kind of object.
    pub kind: ObjectKind,
    /// Its fields, by ascending offset.
    pub fields: Vec<Field>,
}

impl Shape {
    /// The field that is accessed as a value of a type.
    fn field(&self, module: &Module, access: Access, offset: i64, ty: Type) -> Option<usize> {
        let Place::Symbol(symbol) = access.place else { return None };
        let field = self.fields.iter().position(|field| field.offset == offset && field.ty == ty)?;
        let is_its_own = match self.fields[field].symbol {
            Some(own) => own == symbol,
            None => matches!(module.symbols[symbol].kind, SymbolKind::Element(element) if element == ty),
        };
        is_its_own.then_some(field)
    }
}

/// What a root does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It yields the object, of which what it asks holds.
    Is(Object),
    /// It yields this 32-bit integer.
    Constant(Object, u64),
    /// It yields the address of this class's description.
    Class(Object, ClassId),
    /// It yields what the object has in a field.
    Load(Object, usize),
    /// It puts a value into a field.
    Store(Object, usize, Node),
    /// It enters the object's monitor.
    Enter(Object),
    /// It leaves the object's monitor.
    Exit(Object),
    /// Others may see the object after it; and how.
    Escape(Object, &'static str),
}

impl Use {
    /// The object that is used.
    pub fn object(self) -> Object {
        match self {
            Use::Is(object)
            | Use::Constant(object, _)
            | Use::Class(object, _)
            | Use::Load(object, _)
            | Use::Store(object, ..)
            | Use::Enter(object)
            | Use::Exit(object)
            | Use::Escape(object, _) => object,
        }
    }
}

/// What an allocation makes; or why that cannot be taken apart.
pub(super) fn shape_of(module: &Module, method: &Method<'_>, node: Node) -> Result<Shape, &'static str> {
    let (element, kind) = match method.payload(node) {
        Payload::Class(class) if method.value_operands(node).is_empty() => {
            let fields: Vec<Field> =
                module.fields(class).into_iter().filter_map(|symbol| field_of(module, symbol)).collect();
            if fields.len() > MAX_FIELDS {
                return Err("it has too many fields");
            }
            return Ok(Shape { kind: ObjectKind::Object(class), fields });
        }
        Payload::Class(class) => (Type::Ref, ObjectKind::ObjectArray(class)),
        Payload::Element(Type::Ref) => return Err("it is an array of references of no class"),
        Payload::Element(ty) => (ty, ObjectKind::Array(ty)),
        _ => return Err("it is not known what it makes"),
    };
    let length = method.value_operands(node).first().and_then(|length| constant(method, *length));
    let Some(length) = length else { return Err("its length is not a constant") };
    if length as u32 > MAX_ELEMENTS {
        return Err("its length is too great, or negative");
    }
    let field = |index: i64| Field {
        offset: i64::from(ELEMENTS_OFFSET) + index * i64::from(element.bytes()),
        ty: element,
        symbol: None,
    };
    Ok(Shape { kind, fields: (0..length as i64).map(field).collect() })
}

fn field_of(module: &Module, symbol: SymbolId) -> Option<Field> {
    match module.symbols[symbol].kind {
        SymbolKind::Field { offset, ty, .. } => {
            Some(Field { offset: offset.into(), ty, symbol: Some(symbol) })
        }
        _ => None,
    }
}

/// How many proofs and conversions are seen through.
const MAX_STEPS: usize = 4;

/// The bits of a constant, whatever checks it passes and however it is extended.
fn constant(method: &Method<'_>, node: Node) -> Option<u64> {
    let mut at = node;
    for _ in 0..MAX_STEPS {
        if let Some(bits) = method.const_bits(at) {
            // Those of a narrower type, if it is negative, are no index.
            return Some(bits).filter(|bits| at == node || bits >> (method.ty(at).bits() - 1) == 0);
        }
        let row = method.opcode(at).row();
        if !row.has(Properties::PROVES) && !row.has(Properties::WIDENS) {
            return None;
        }
        at = *method.operands(at).first()?;
    }
    None
}

/// Whether a node that floats compares references, and what it then says of equal ones.
pub fn comparison(method: &Method<'_>, node: Node) -> Option<bool> {
    let is_of_references = method.operands(node).first().is_some_and(|left| method.ty(*left) == Type::Ref);
    match method.opcode(node) {
        Opcode::Eq if is_of_references => Some(true),
        Opcode::Ne if is_of_references => Some(false),
        _ => None,
    }
}

/// What a root does with the objects among its operands, of which `object` knows and `shape` tells.
pub(super) fn of<'s>(
    module: &Module,
    method: &Method<'_>,
    node: Node,
    object: &impl Fn(Node) -> Option<Object>,
    shape: &impl Fn(Object) -> &'s Shape,
) -> Vec<Use> {
    let operands = method.value_operands(node).iter().enumerate();
    let objects: Vec<(usize, Object)> =
        operands.filter_map(|(index, operand)| Some((index, object(*operand)?))).collect();
    if objects.is_empty() {
        return Vec::new();
    }
    if let Some(understood) = understood(module, method, node, object, shape) {
        return vec![understood];
    }
    objects.into_iter().map(|(index, object)| Use::Escape(object, reason(method, node, index))).collect()
}

/// What a root is that asks something of an object, or accesses it. None for all else.
fn understood<'s>(
    module: &Module,
    method: &Method<'_>,
    node: Node,
    object: &impl Fn(Node) -> Option<Object>,
    shape: &impl Fn(Object) -> &'s Shape,
) -> Option<Use> {
    let operands = method.value_operands(node);
    let opcode = method.opcode(node);
    // A store's first operand is what it stores.
    let base = usize::from(opcode == Opcode::Store);
    let own = object(*operands.get(base)?)?;
    let kind = shape(own).kind;
    let is_of = |kind, class| matches!(kind, ObjectKind::Object(own) if module.is_subclass(own, class));
    match (opcode, method.payload(node)) {
        (Opcode::Load | Opcode::Store, Payload::Access(access)) => {
            let stored = (base == 1).then(|| operands[0]);
            let index = operands.get(base + 1).map_or(Some(0), |index| constant(method, *index))?;
            let offset = i64::from(access.offset) + (index as i64).checked_mul(access.scale.into())?;
            let field = shape(own).field(module, access, offset, method.ty(stored.unwrap_or(node)))?;
            Some(stored.map_or(Use::Load(own, field), |value| Use::Store(own, field, value)))
        }
        (Opcode::NullCheck, _) => Some(Use::Is(own)),
        (Opcode::CastCheck, Payload::Class(class)) => is_of(kind, class).then_some(Use::Is(own)),
        (Opcode::StoreCheck, _) => {
            let ObjectKind::ObjectArray(class) = kind else { return None };
            let is_null = method.const_bits(operands[1]) == Some(0);
            let is_fit = object(operands[1]).is_some_and(|stored| is_of(shape(stored).kind, class));
            (is_null || is_fit).then_some(Use::Is(own))
        }
        (Opcode::InstanceOf, Payload::Class(class)) => Some(Use::Constant(own, is_of(kind, class).into())),
        (Opcode::ArrayLength, _) => {
            kind.element().map(|_| Use::Constant(own, shape(own).fields.len() as u64))
        }
        (Opcode::ClassOf, _) => match kind {
            ObjectKind::Object(class) => Some(Use::Class(own, class)),
            ObjectKind::Array(_) | ObjectKind::ObjectArray(_) => None,
        },
        (Opcode::MonitorEnter, _) => Some(Use::Enter(own)),
        (Opcode::MonitorExit, _) => Some(Use::Exit(own)),
        _ => None,
    }
}

/// How a root lets an object escape that is the operand of this index.
fn reason(method: &Method<'_>, node: Node, index: usize) -> &'static str {
    let row = method.opcode(node).row();
    if row.has(Properties::CALLS) {
        "it is passed to a call"
    } else if row.has(Properties::WRITES) && index == 0 {
        "it is stored where others may look"
    } else if row.has(Properties::WRITES) {
        "it is written in a way that is not understood"
    } else if row.has(Properties::READS) {
        "it is read in a way that is not understood"
    } else if row.has(Properties::TERMINATES) && row.raises.contains(RaiseKind::Guest) {
        "it is thrown"
    } else if row.has(Properties::TERMINATES) {
        "it is returned"
    } else if row.has(Properties::PROVES) {
        "a check may fail on it"
    } else {
        "it is used in a way that is not understood"
    }
}
