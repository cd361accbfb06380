//! Programs: classes with their members, and the bytecode of methods.
//!
//! ```text
//!   Program ── classes ── slots: what virtual and interface calls find      ids are those of the IL's `Module`
//!      │         └─────── ancestors: all that its objects are instances of
//!      ├── members ────── fields, each at an offset of its class's objects, and statics
//!      └── methods ────── locals, code, labels, handlers
//! ```
//!
//! *Guarantees.* Whoever holds a [`Program`] holds one that has been read, linked and verified: [`Program::read`] is the only
//! way to one. So nothing behind it checks again what [`verify`](crate::verify) has checked.

use dagwood_il as il;
use il::entity::EntityVec;
use il::text::Position;
use il::world::ContentKey;
use il::{ClassId, MethodId, NativeId, RaiseKind, SymbolId};

pub use il::Dispatch;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// An integer of 32 bits.
    Int,
    /// An integer of 64 bits.
    Long,
    /// A floating-point number of 64 bits.
    Double,
    /// The null reference alone, which every reference type has.
    Null,
    /// A reference to an object of a class or interface, or null.
    Class(ClassId),
    /// A reference to an array, or null. Arrays are objects of no class.
    Array(Element),
}

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Numbers from 0 to 255, which are `int` outside of the array.
    Byte,
    /// `int`.
    Int,
    /// `long`.
    Long,
    /// `double`.
    Double,
    /// References to objects of a class or interface.
    Class(ClassId),
}

impl Element {
    /// The type of an element that has been read.
    pub fn ty(self) -> Type {
        match self {
            Element::Byte | Element::Int => Type::Int,
            Element::Long => Type::Long,
            Element::Double => Type::Double,
            Element::Class(class) => Type::Class(class),
        }
    }

    /// How an element is kept.
    pub fn stored(self) -> il::Type {
        match self {
            Element::Byte => il::Type::I8,
            _ => self.ty().lowered(),
        }
    }
}

impl Type {
    /// Whether it is a type of references.
    pub fn is_reference(self) -> bool {
        matches!(self, Type::Null | Type::Class(_) | Type::Array(_))
    }

    /// The type of the IL.
    pub fn lowered(self) -> il::Type {
        match self {
            Type::Int => il::Type::I32,
            Type::Long => il::Type::I64,
            Type::Double => il::Type::F64,
            Type::Null | Type::Class(_) | Type::Array(_) => il::Type::Ref,
        }
    }
}

/// A label of a method, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId(pub u32);

/// One operation. In comments, what it takes from the stack stands before the arrow, the last on top.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// → int
    Int(i32),
    /// → long
    Long(i64),
    /// → double
    Double(f64),
    /// → null
    Null,
    /// → the local's value
    Load(u16),
    /// value →
    Store(u16),
    /// value →
    Pop,
    /// value → value value
    Dup,
    /// left right → right left
    Swap,
    /// number → number
    Unary(Unary),
    /// left right → number
    Binary(Binary),
    /// left right → int, one if it holds, else zero
    Compare(Compare),
    /// Goes on at a label.
    Jump(LabelId),
    /// int →; goes on at a label if it is not zero
    If(LabelId),
    /// int →; goes on at a label if it is zero
    IfNot(LabelId),
    /// int →; goes on at the label of the first case that equals it, else at the last
    Switch(Box<[(i32, LabelId)]>, LabelId),
    /// → object
    New(ClassId),
    /// object → value
    Get(SymbolId),
    /// object value →
    Put(SymbolId),
    /// → value
    GetStatic(SymbolId),
    /// value →
    PutStatic(SymbolId),
    /// int → array
    NewArray(Element),
    /// array → int
    Length,
    /// array int → value
    GetElement,
    /// array int value →
    PutElement,
    /// object → int
    InstanceOf(ClassId),
    /// object → object
    Cast(ClassId),
    /// arguments → result; the receiver, if there is one, does not choose the method
    Call(MethodId),
    /// receiver arguments → result; the receiver's class chooses
    Virtual(Dispatch),
    /// receiver arguments → result; the receiver's class chooses
    Interface(Dispatch),
    /// arguments → result, by a function of the host
    Native(NativeId),
    /// result →
    Return,
    /// object →
    Throw,
    /// object →; its monitor is entered
    Lock,
    /// Leaves the monitor that was entered last.
    Unlock,
}

/// Declares operations that differ in a word only.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$own:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$own])* $variant,)* }

        impl $name {
            /// Each with its word in the text form.
            pub const ALL: &[(&str, $name)] = &[$(($word, $name::$variant),)*];
        }
    };
}

words! {
    /// Operations on one number.
    Unary {
        /// Negation.
        Neg "neg",
        /// To `int`: the low bits of a `long`; a `double` toward zero, saturating, zero for NaN.
        ToInt "to_int",
        /// To `long`, with the sign; from `double` as to `int`.
        ToLong "to_long",
        /// To `double`, rounded.
        ToDouble "to_double",
    }
}
words! {
    /// Operations on two numbers of one type; those on integers wrap.
    Binary {
        /// Sum.
        Add "add",
        /// Difference.
        Sub "sub",
        /// Product.
        Mul "mul",
        /// Quotient toward zero. Of integers, by zero it raises.
        Div "div",
        /// Remainder with the sign of the dividend. Of integers, by zero it raises.
        Rem "rem",
        /// Bitwise and, of integers.
        And "and",
        /// Bitwise or, of integers.
        Or "or",
        /// Bitwise exclusive or, of integers.
        Xor "xor",
        /// Shift left, of integers; the distance, of their type, is taken modulo the width.
        Shl "shl",
        /// Shift right with the sign.
        Shr "shr",
        /// Shift right with zeros.
        Ushr "ushr",
    }
}
words! {
    /// Comparisons of two numbers of one type; those for equality also of references.
    Compare {
        /// Equal.
        Eq "eq",
        /// Different.
        Ne "ne",
        /// Less.
        Lt "lt",
        /// Less or equal.
        Le "le",
        /// Greater.
        Gt "gt",
        /// Greater or equal.
        Ge "ge",
    }
}

impl Binary {
    /// Whether it is for integers alone.
    pub fn is_integral(self) -> bool {
        use Binary::*;
        matches!(self, And | Or | Xor | Shl | Shr | Ushr)
    }
}

impl Op {
    /// The labels where it may go on, besides the next operation.
    pub fn targets(&self) -> impl Iterator<Item = LabelId> {
        let (cases, other): (&[_], _) = match self {
            Op::Jump(label) | Op::If(label) | Op::IfNot(label) => (&[], Some(*label)),
            Op::Switch(cases, other) => (cases, Some(*other)),
            _ => (&[], None),
        };
        cases.iter().map(|(_, label)| *label).chain(other)
    }

    /// Whether it may raise what a program can catch.
    pub fn may_raise(&self) -> bool {
        match self {
            Op::Binary(op) => matches!(op, Binary::Div | Binary::Rem),
            Op::Get(_) | Op::Put(_) | Op::NewArray(_) | Op::Length | Op::GetElement | Op::PutElement => true,
            Op::Cast(_) | Op::Call(_) | Op::Virtual(_) | Op::Interface(_) | Op::Throw | Op::Lock => true,
            _ => false,
        }
    }

    /// Whether it never goes on at the next operation.
    pub fn is_last(&self) -> bool {
        matches!(self, Op::Jump(_) | Op::Switch(..) | Op::Return | Op::Throw)
    }
}

/// A place in a method's code that can be jumped to.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name, unique in the method.
    pub name: String,
    /// The index of the operation behind it.
    pub at: u32,
    /// What is on the stack there.
    pub stack: Vec<Type>,
    /// How many monitors are held there.
    pub locks: u32,
}

/// What catches exceptions of a part of the code.
#[derive(Clone, Copy, Debug)]
pub struct Handler {
    /// Where it stands in the source.
    pub place: Position,
    /// The class that it catches.
    pub class: ClassId,
    /// The index of the first operation that it covers.
    pub from: u32,
    /// The index of the first behind it that it does not.
    pub to: u32,
    /// Where it goes on, with the exception alone on the stack.
    pub target: LabelId,
}

/// A variable or parameter.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its name, unique in the method.
    pub name: String,
    /// Its type. It is zero or null when the method is entered, unless it is a parameter.
    pub ty: Type,
}

/// A method with a body.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its class.
    pub class: ClassId,
    /// Its name, unique in the class.
    pub name: String,
    /// Whether it has no receiver.
    pub is_static: bool,
    /// How many of the locals are parameters; the first is the receiver, `this`, if there is one.
    pub params: usize,
    /// What it returns.
    pub result: Option<Type>,
    /// The parameters, then the variables.
    pub locals: Vec<Local>,
    /// The operations.
    pub code: Vec<Op>,
    /// Where each operation stands in the source, and behind them where the body ends.
    pub places: Vec<Position>,
    /// Its labels.
    pub labels: Vec<Label>,
    /// Its handlers, in the order in which they are tried.
    pub handlers: Vec<Handler>,
}

impl Method {
    /// A label.
    pub fn label(&self, label: LabelId) -> &Label {
        &self.labels[label.0 as usize]
    }

    /// The types of its parameters, the receiver's included.
    pub fn param_types(&self) -> impl DoubleEndedIterator<Item = Type> + ExactSizeIterator {
        self.locals[..self.params].iter().map(|local| local.ty)
    }

    /// The handlers that cover an operation, in the order in which they are tried.
    pub fn handlers_at(&self, at: usize) -> impl Iterator<Item = &Handler> {
        self.handlers.iter().filter(move |handler| (handler.from as usize..handler.to as usize).contains(&at))
    }
}

/// What a slot's methods take, besides the receiver, and return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The parameters.
    pub params: Vec<Type>,
    /// The result.
    pub result: Option<Type>,
}

/// A method that a class's subclasses may override, or an interface's classes have.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name, unique in the class and those above.
    pub name: String,
    /// What it takes and returns.
    pub shape: Shape,
    /// The method of this class; none where it is abstract.
    pub method: Option<MethodId>,
}

/// A class or an interface.
#[derive(Clone, Debug)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The class it extends; none for `Object` and interfaces.
    pub superclass: Option<ClassId>,
    /// The interfaces that it names.
    pub interfaces: Vec<ClassId>,
    /// Whether it is an interface.
    pub is_interface: bool,
    /// Whether there are no objects of just this class.
    pub is_abstract: bool,
    /// The bytes of an object, header included.
    pub size_bytes: u32,
    /// Its table; a subclass's starts with its superclass's.
    pub slots: Vec<Slot>,
    /// For slots of interfaces, the methods that stand for them in this class.
    pub implementations: Vec<il::Implementation>,
    /// All classes and interfaces that its objects are instances of, itself included, ascending.
    pub ancestors: Vec<ClassId>,
}

/// A field or static.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its class.
    pub class: ClassId,
    /// Its name, unique in the class.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Where it is from an object's reference, in bytes; none for a static.
    pub offset: Option<u32>,
}

/// A function of the host.
#[derive(Clone, Debug)]
pub struct Native {
    /// Its name.
    pub name: String,
    /// What it takes and returns.
    pub shape: Shape,
}

/// A program that has been read, linked and verified.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) classes: EntityVec<ClassId, Class>,
    pub(crate) members: EntityVec<SymbolId, Member>,
    pub(crate) methods: EntityVec<MethodId, Method>,
    pub(crate) natives: EntityVec<NativeId, Native>,
    pub(crate) known: Known,
    pub(crate) content: ContentKey,
}

/// What every program has, from the prelude.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) object: ClassId,
    /// For kinds of raises, the class of exceptions.
    pub(crate) faults: Vec<(RaiseKind, ClassId)>,
    /// The method that makes an exception for a kind.
    pub(crate) fault_of: MethodId,
}

/// The kinds of raises that programs can catch, and the classes of exceptions that they are.
pub(crate) const FAULTS: &[(RaiseKind, &str)] = &[
    (RaiseKind::Null, "NullFault"),
    (RaiseKind::Bounds, "BoundsFault"),
    (RaiseKind::Division, "DivisionFault"),
    (RaiseKind::Cast, "CastFault"),
    (RaiseKind::Store, "StoreFault"),
    (RaiseKind::NegativeSize, "SizeFault"),
];

impl Program {
    /// The classes and interfaces.
    pub fn classes(&self) -> &EntityVec<ClassId, Class> {
        &self.classes
    }

    /// The fields and statics.
    pub fn members(&self) -> &EntityVec<SymbolId, Member> {
        &self.members
    }

    /// The methods.
    pub fn methods(&self) -> &EntityVec<MethodId, Method> {
        &self.methods
    }

    /// The functions of the host that it asks for.
    pub fn natives(&self) -> &EntityVec<NativeId, Native> {
        &self.natives
    }

    /// What tells its source from others.
    pub fn content(&self) -> ContentKey {
        self.content
    }

    /// The name of a method with its class: `List.add`.
    pub fn method_name(&self, method: MethodId) -> String {
        let Method { class, name, .. } = &self.methods[method];
        format!("{}.{name}", self.classes[*class].name)
    }

    /// The method with such a name.
    pub fn find_method(&self, name: &str) -> Option<MethodId> {
        self.methods.keys().find(|id| self.method_name(*id) == name)
    }

    /// Whether objects of a class are instances of another.
    pub fn is_subclass(&self, class: ClassId, ancestor: ClassId) -> bool {
        self.classes[class].ancestors.binary_search(&ancestor).is_ok()
    }

    /// Whether a value of one type is one of another, too.
    pub fn is_assignable(&self, from: Type, to: Type) -> bool {
        match (from, to) {
            (Type::Null, to) => to.is_reference(),
            (Type::Class(from), Type::Class(to))
            | (Type::Array(Element::Class(from)), Type::Array(Element::Class(to))) => {
                self.is_subclass(from, to)
            }
            _ => from == to,
        }
    }

    /// The class of exceptions that a kind of raise is, if programs can catch it.
    pub fn fault_class(&self, kind: RaiseKind) -> Option<ClassId> {
        self.known.faults.iter().find(|(known, _)| *known == kind).map(|(_, class)| *class)
    }

    /// The method that a class has for a virtual or interface call.
    pub fn select(&self, class: ClassId, dispatch: Dispatch) -> Option<MethodId> {
        let class = &self.classes[class];
        if self.classes[dispatch.class].is_interface {
            let key = |own: &il::Implementation| (own.interface, own.slot);
            let found = class.implementations.binary_search_by_key(&(dispatch.class, dispatch.slot), key);
            return found.ok().map(|index| class.implementations[index].method);
        }
        class.slots.get(dispatch.slot as usize)?.method
    }

    /// The one method that a call finds whose receiver is of a class, or of one below: all classes are known.
    pub fn only_target(&self, receiver: ClassId, dispatch: Dispatch) -> Option<MethodId> {
        let objects = self.classes.iter().filter(|(_, class)| !class.is_interface && !class.is_abstract);
        let instances = objects.filter(|(id, _)| self.is_subclass(*id, receiver));
        let mut targets = instances.map(|(id, _)| self.select(id, dispatch));
        let first = targets.next()?;
        targets.all(|target| target == first).then_some(first)?
    }

    /// What a slot's methods take, besides the receiver, and return.
    pub fn shape(&self, dispatch: Dispatch) -> &Shape {
        &self.classes[dispatch.class].slots[dispatch.slot as usize].shape
    }

    /// A type's name in the text form.
    pub fn type_name(&self, ty: Type) -> String {
        let array = |element: &str| format!("{element}[]");
        match ty {
            Type::Int => "int".into(),
            Type::Long => "long".into(),
            Type::Double => "double".into(),
            Type::Null => "null".into(),
            Type::Class(class) => self.classes[class].name.clone(),
            Type::Array(Element::Byte) => array("byte"),
            Type::Array(element) => array(&self.type_name(element.ty())),
        }
    }
}
