//! Declarations: what methods refer to by index, and what outlives every compilation.
//!
//! A [`Module`] is plain data shared by all compilations of a program: signatures, classes, symbols, methods and
//! native functions, each with what a caller may assume of it. It holds no method's body: bodies are
//! [`Method`](crate::Method)s, in arenas of their own.

use smallvec::SmallVec;

use crate::entity::{Entity, EntityVec, entity};
use crate::raise::KindSet;
use crate::types::Type;

entity! {
    /// A signature that calls name.
    SignatureId, "sig";
    /// A class of objects.
    ClassId, "class";
    /// A piece of memory that accesses name.
    SymbolId, "symbol";
    /// A method.
    MethodId, "method";
    /// A function that the host provides.
    NativeId, "native";
}

/// What a method takes, besides the VM context, and what it returns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Signature {
    /// The parameters' types.
    pub params: SmallVec<[Type; 6]>,
    /// The results' types.
    pub results: SmallVec<[Type; 2]>,
}

impl Signature {
    /// A signature.
    pub fn new(params: &[Type], results: &[Type]) -> Signature {
        Signature { params: params.into(), results: results.into() }
    }

    /// The type of a call's node: the first result, or none.
    pub fn outcome(&self) -> Type {
        self.results.first().copied().unwrap_or_default()
    }
}

/// Which memory a piece of code may read or write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MemorySet {
    /// None at all.
    None,
    /// These symbols', ascending.
    Symbols(Vec<SymbolId>),
    /// Any.
    #[default]
    All,
}

/// What a call may do, as its callee declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEffects {
    /// The memory it may read.
    pub reads: MemorySet,
    /// The memory it may write.
    pub writes: MemorySet,
    /// What it may raise.
    pub raises: KindSet,
    /// Whether a thread may stop in it.
    pub yields: bool,
}

impl CallEffects {
    /// What must be assumed of unknown code.
    pub const UNKNOWN: CallEffects =
        CallEffects { reads: MemorySet::All, writes: MemorySet::All, raises: KindSet::ALL, yields: true };
}

impl Default for CallEffects {
    fn default() -> Self {
        CallEffects::UNKNOWN
    }
}

/// A method, as its callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodDecl {
    /// The name, unique among methods.
    pub name: String,
    /// What it takes and returns.
    pub signature: SignatureId,
    /// What a call of it may do.
    pub effects: CallEffects,
}

/// A function of the host, as its callers see it.
///
/// What is not declared does not happen, as far as passes know: a call that writes nothing, raises nothing and does not yield is
/// removed if nobody uses its results, even if it prints, and happens once where there were two. What the host does
/// beyond the memory of the program is a write of [`MemorySet::All`], or of a symbol that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeDecl {
    /// The name, unique among native functions.
    pub name: String,
    /// What it takes and returns.
    pub signature: SignatureId,
    /// What a call of it may do.
    pub effects: CallEffects,
}

/// A class of objects. Interfaces are classes without instances of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassData {
    /// The name, unique among classes.
    pub name: String,
    /// The class it extends.
    pub superclass: Option<ClassId>,
    /// The interfaces it implements, besides those of its superclass.
    pub interfaces: Vec<ClassId>,
    /// Whether it is an interface.
    pub is_interface: bool,
    /// The bytes of an object, header included.
    pub size_bytes: u32,
    /// Its table: what each slot takes and returns, and which method the class has there, if any.
    /// A subclass's table starts with the slots of its superclass.
    pub slots: Vec<SlotDecl>,
    /// For each slot of an interface, the method that stands for it in this class.
    pub implementations: Vec<Implementation>,
}

/// One slot of a class's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotDecl {
    /// The name by which dispatching calls refer to it.
    pub name: String,
    /// What its methods take (the receiver first) and return.
    pub signature: SignatureId,
    /// The method of this class; none where it is abstract.
    pub method: Option<MethodId>,
}

/// The method that a class has for a slot of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Implementation {
    /// The interface.
    pub interface: ClassId,
    /// The index of its slot.
    pub slot: u32,
    /// The method.
    pub method: MethodId,
}

/// A piece of memory that accesses name; its kind is its alias class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolData {
    /// The name, unique among symbols.
    pub name: String,
    /// Which memory it is.
    pub kind: SymbolKind,
    /// Whether nothing writes it once construction has ended: reads of it may be merged.
    pub is_readonly: bool,
    /// Between which two numbers, unsigned, every integer lies that is read from it, if that is known.
    pub range: Option<(u64, u64)>,
}

/// Which memory a symbol stands for. Symbols of different kinds never overlap, `Opaque` excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// A variable with one address for the whole program, and the type of what it holds.
    Static(Type),
    /// A field at an offset from an object's reference. Different fields do not overlap.
    Field {
        /// The class that declares it.
        class: ClassId,
        /// The offset from the reference, in bytes.
        offset: u32,
        /// The type of what it holds.
        ty: Type,
    },
    /// The elements of arrays of a type. Arrays of different types do not overlap.
    Element(Type),
    /// Bytes of any type that nothing else overlaps: a guest's linear memory, a part of the VM context.
    Region,
    /// Anything: overlaps every symbol but the read-only ones.
    Opaque,
}

/// All declarations of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Signatures; equal ones are one entry if made by [`Module::signature`].
    pub signatures: EntityVec<SignatureId, Signature>,
    /// Classes; a superclass or interface precedes what extends it.
    pub classes: EntityVec<ClassId, ClassData>,
    /// Symbols.
    pub symbols: EntityVec<SymbolId, SymbolData>,
    /// Methods.
    pub methods: EntityVec<MethodId, MethodDecl>,
    /// Native functions.
    pub natives: EntityVec<NativeId, NativeDecl>,
    signature_ids: indexmap::IndexMap<Signature, SignatureId>,
}

impl Module {
    /// A module without declarations.
    pub fn new() -> Module {
        Module::default()
    }

    /// The one index of a signature.
    pub fn signature(&mut self, params: &[Type], results: &[Type]) -> SignatureId {
        let signature = Signature::new(params, results);
        if let Some(id) = self.signature_ids.get(&signature) {
            return *id;
        }
        let id = self.signatures.push(signature.clone());
        self.signature_ids.insert(signature, id);
        id
    }

    /// Declares a method of which nothing is known but its signature.
    pub fn declare_method(&mut self, name: &str, params: &[Type], results: &[Type]) -> MethodId {
        let signature = self.signature(params, results);
        self.methods.push(MethodDecl { name: name.into(), signature, effects: CallEffects::UNKNOWN })
    }

    /// Declares a native function of which nothing is known but its signature.
    pub fn declare_native(&mut self, name: &str, params: &[Type], results: &[Type]) -> NativeId {
        let signature = self.signature(params, results);
        self.natives.push(NativeDecl { name: name.into(), signature, effects: CallEffects::UNKNOWN })
    }

    /// Declares a symbol.
    pub fn declare_symbol(&mut self, name: &str, kind: SymbolKind) -> SymbolId {
        self.symbols.push(SymbolData { name: name.into(), kind, is_readonly: false, range: None })
    }

    /// The signature of a method.
    pub fn method_signature(&self, method: MethodId) -> &Signature {
        &self.signatures[self.methods[method].signature]
    }

    /// The signature of a native function.
    pub fn native_signature(&self, native: NativeId) -> &Signature {
        &self.signatures[self.natives[native].signature]
    }

    /// A class, its superclass, and so on.
    pub fn superclasses(&self, class: ClassId) -> impl Iterator<Item = ClassId> {
        let next = |class: &ClassId| self.classes.get(*class)?.superclass;
        // As many steps as there are classes, should they extend each other in a circle.
        std::iter::successors(Some(class), next).take(self.classes.len())
    }

    /// The fields of a class and of its superclasses, as symbols, by ascending offset. Looks at all symbols.
    pub fn fields(&self, class: ClassId) -> Vec<SymbolId> {
        let ancestors: SmallVec<[ClassId; 8]> = self.superclasses(class).collect();
        let place = |symbol: &SymbolData| match symbol.kind {
            SymbolKind::Field { class, offset, .. } if ancestors.contains(&class) => Some(offset),
            _ => None,
        };
        let mut fields: Vec<(u32, SymbolId)> =
            self.symbols.iter().filter_map(|(id, symbol)| Some((place(symbol)?, id))).collect();
        fields.sort_unstable();
        fields.into_iter().map(|(_, id)| id).collect()
    }

    /// The method that a class or the nearest of its superclasses has for a slot of an interface.
    pub fn implementation(&self, class: ClassId, interface: ClassId, slot: u32) -> Option<MethodId> {
        self.superclasses(class).find_map(|class| {
            let implementations = &self.classes.get(class)?.implementations;
            let found = implementations.iter().find(|own| own.interface == interface && own.slot == slot);
            found.map(|implementation| implementation.method)
        })
    }

    /// Whether objects of `class` are also objects of `ancestor`.
    pub fn is_subclass(&self, class: ClassId, ancestor: ClassId) -> bool {
        let mut pending: SmallVec<[ClassId; 8]> = SmallVec::from_slice(&[class]);
        let mut seen = bitvec::bitvec![0; self.classes.len()];
        while let Some(class) = pending.pop() {
            if class == ancestor {
                return true;
            }
            if let Some(data) = self.classes.get(class)
                && !seen.replace(class.index(), true)
            {
                pending.extend(data.superclass.iter().chain(&data.interfaces).copied());
            }
        }
        false
    }
}
