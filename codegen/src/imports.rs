//! What compiled code calls and refers to, as Cranelift names it.
//!
//! Cranelift names what it does not know by two numbers. The first says which kind of thing it is, the second which one.
//! Functions and signatures are declared once for each method that uses them; the tables that remember them are dense
//! and only cleared where they were used.

use cranelift_codegen::ir::{
    AbiParam, ArgumentPurpose, ExtFuncData, ExternalName, FuncRef, Function, GlobalValue, GlobalValueData,
    SigRef, Signature as ClifSignature, UserExternalName, types,
};
use cranelift_codegen::isa::CallConv;
use dagwood_il::entity::Entity;
use dagwood_il::layout::ObjectKind;
use dagwood_il::{MethodId, Module, NativeId, Signature, SignatureId, SymbolId};

use crate::artifact::{FloatWidth, Helper, RelocTarget, Rounding};
use crate::lower::clif_type;

const METHOD: u32 = 0;
const NATIVE: u32 = 1;
const HELPER: u32 = 2;
const SYMBOL: u32 = 3;
/// A method whose address is a value.
const METHOD_ADDRESS: u32 = 4;
const DESCRIPTION: u32 = 5;

/// Every helper, by its number in Cranelift's names.
const HELPERS: [Helper; 21] = [
    Helper::RaiseSite,
    Helper::Throw,
    Helper::CallNative,
    Helper::Poll,
    Helper::Allocate,
    Helper::InstanceOf,
    Helper::MemoryCopy,
    Helper::MemoryFill,
    Helper::MemoryCompare,
    Helper::FremF32,
    Helper::FremF64,
    Helper::FmaF32,
    Helper::FmaF64,
    Helper::Round(Rounding::Floor, FloatWidth::F32),
    Helper::Round(Rounding::Floor, FloatWidth::F64),
    Helper::Round(Rounding::Ceil, FloatWidth::F32),
    Helper::Round(Rounding::Ceil, FloatWidth::F64),
    Helper::Round(Rounding::Trunc, FloatWidth::F32),
    Helper::Round(Rounding::Trunc, FloatWidth::F64),
    Helper::Round(Rounding::Nearest, FloatWidth::F32),
    Helper::Round(Rounding::Nearest, FloatWidth::F64),
];

/// What a name of Cranelift's stands for.
pub(crate) fn target(name: &UserExternalName) -> Option<RelocTarget> {
    let index = name.index as usize;
    Some(match name.namespace {
        METHOD | METHOD_ADDRESS => RelocTarget::Method(MethodId::new(index)),
        NATIVE => RelocTarget::Native(NativeId::new(index)),
        HELPER => RelocTarget::Helper(*HELPERS.get(index)?),
        SYMBOL => RelocTarget::Symbol(SymbolId::new(index)),
        DESCRIPTION => RelocTarget::Description(ObjectKind::decode(name.index)?),
        _ => return None,
    })
}

/// Whether a name is only ever called or jumped to.
pub(crate) fn is_callee(name: &UserExternalName) -> bool {
    matches!(name.namespace, METHOD | NATIVE | HELPER)
}

/// The name of a number.
fn name(namespace: u32, index: usize) -> UserExternalName {
    UserExternalName { namespace, index: u32::try_from(index).expect("declarations stay below 2^32") }
}

/// How methods are called: context first, in the `tail` convention.
pub(crate) fn method_signature(signature: &Signature) -> ClifSignature {
    let mut clif = ClifSignature::new(CallConv::Tail);
    clif.params.push(AbiParam::special(types::I64, ArgumentPurpose::VMContext));
    clif.params.extend(signature.params.iter().map(|ty| AbiParam::new(clif_type(*ty))));
    clif.returns.extend(signature.results.iter().map(|ty| AbiParam::new(clif_type(*ty))));
    clif
}

/// How a helper is called: by `system_v`, or by `tail` where the call has handlers. Helpers take and return no more
/// than fits in registers, which are the same in both; what differs is what a landing may expect to find in them.
fn helper_signature(helper: Helper, convention: CallConv) -> ClifSignature {
    use types::{F32, F64, I32, I64};
    let (params, results): (&[_], &[_]) = match helper {
        Helper::RaiseSite | Helper::Poll => (&[], &[]),
        Helper::Throw => (&[I64], &[]),
        Helper::Allocate => (&[I64, I64], &[I64]),
        Helper::InstanceOf => (&[I64, I64], &[I32]),
        Helper::CallNative | Helper::MemoryCopy => (&[I64, I64, I64], &[]),
        Helper::MemoryFill => (&[I64, I32, I64], &[]),
        Helper::MemoryCompare => (&[I64, I64, I64], &[I32]),
        Helper::FremF32 => (&[F32, F32], &[F32]),
        Helper::FremF64 => (&[F64, F64], &[F64]),
        Helper::FmaF32 => (&[F32, F32, F32], &[F32]),
        Helper::FmaF64 => (&[F64, F64, F64], &[F64]),
        Helper::Round(_, FloatWidth::F32) => (&[F32], &[F32]),
        Helper::Round(_, FloatWidth::F64) => (&[F64], &[F64]),
    };
    let mut clif = ClifSignature::new(convention);
    clif.params.extend(params.iter().map(|ty| AbiParam::new(*ty)));
    clif.returns.extend(results.iter().map(|ty| AbiParam::new(*ty)));
    clif
}

/// Whether a call of a helper may be one that handlers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// It is not.
    No,
    /// It is.
    Yes,
}

/// How a method that is named is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is called.
    Call,
    /// It is jumped to.
    Jump,
    /// Its address is a value.
    Address,
}

/// The first instruction of a call or jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// `call rel32`, `jmp rel32`.
    Near,
    /// The address is loaded first, so that the call has room for every form.
    Any,
}

/// A table by declaration that is cleared where it was used.
struct Sparse<T> {
    entries: Vec<Option<T>>,
    used: Vec<usize>,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Sparse { entries: Vec::new(), used: Vec::new() }
    }
}

impl<T: Copy> Sparse<T> {
    fn clear(&mut self) {
        for index in self.used.drain(..) {
            self.entries[index] = None;
        }
    }

    fn get(&self, index: usize) -> Option<T> {
        self.entries.get(index).copied().flatten()
    }

    fn set(&mut self, index: usize, value: T) -> T {
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(value);
        self.used.push(index);
        value
    }
}

/// What the function in hand has imported.
#[derive(Default)]
pub(crate) struct Imports {
    /// By use.
    methods: [Sparse<FuncRef>; 3],
    signatures: Sparse<SigRef>,
    symbols: Sparse<GlobalValue>,
    descriptions: Sparse<GlobalValue>,
    helpers: Sparse<FuncRef>,
}

impl Imports {
    pub(crate) fn clear(&mut self) {
        self.methods.iter_mut().for_each(Sparse::clear);
        self.signatures.clear();
        self.symbols.clear();
        self.descriptions.clear();
        self.helpers.clear();
    }

    pub(crate) fn signature(&mut self, func: &mut Function, module: &Module, id: SignatureId) -> SigRef {
        let index = id.index();
        self.signatures.get(index).unwrap_or_else(|| {
            let made = func.import_signature(method_signature(&module.signatures[id]));
            self.signatures.set(index, made)
        })
    }

    pub(crate) fn method(
        &mut self,
        func: &mut Function,
        module: &Module,
        id: MethodId,
        used: Use,
    ) -> FuncRef {
        let index = id.index();
        if let Some(known) = self.methods[used as usize].get(index) {
            return known;
        }
        let signature = self.signature(func, module, module.methods[id].signature);
        let (namespace, reach) = match used {
            Use::Call => (METHOD, Reach::Any),
            Use::Jump => (METHOD, Reach::Near),
            Use::Address => (METHOD_ADDRESS, Reach::Any),
        };
        self.methods[used as usize].set(index, import(func, name(namespace, index), signature, reach))
    }

    pub(crate) fn helper(&mut self, func: &mut Function, helper: Helper, handled: Handled) -> FuncRef {
        let number = HELPERS.iter().position(|known| *known == helper).expect("every helper has a number");
        let index = number * 2 + usize::from(handled == Handled::Yes);
        if let Some(known) = self.helpers.get(index) {
            return known;
        }
        let is_raising = matches!(helper, Helper::RaiseSite | Helper::Throw);
        let reach = if is_raising || helper == Helper::Poll { Reach::Near } else { Reach::Any };
        let is_tail = handled == Handled::Yes || is_raising;
        let convention = match helper {
            _ if is_tail => CallConv::Tail,
            // It keeps all registers, so code that is not asked to stop pays for nothing.
            Helper::Poll => CallConv::PreserveAll,
            _ => CallConv::SystemV,
        };
        let signature = func.import_signature(helper_signature(helper, convention));
        self.helpers.set(index, import(func, name(HELPER, number), signature, reach))
    }

    pub(crate) fn symbol(&mut self, func: &mut Function, id: SymbolId) -> GlobalValue {
        let index = id.index();
        self.symbols.get(index).unwrap_or_else(|| self.symbols.set(index, far(func, name(SYMBOL, index))))
    }

    pub(crate) fn description(&mut self, func: &mut Function, kind: ObjectKind) -> GlobalValue {
        let index = kind.encode() as usize;
        let known = self.descriptions.get(index);
        known.unwrap_or_else(|| self.descriptions.set(index, far(func, name(DESCRIPTION, index))))
    }
}

/// The address of something that may be anywhere.
fn far(func: &mut Function, name: UserExternalName) -> GlobalValue {
    let name = func.declare_imported_user_function(name);
    func.create_global_value(GlobalValueData::Symbol {
        name: ExternalName::User(name),
        offset: 0.into(),
        colocated: false,
        tls: false,
    })
}

fn import(func: &mut Function, name: UserExternalName, signature: SigRef, reach: Reach) -> FuncRef {
    let name = func.declare_imported_user_function(name);
    func.import_function(ExtFuncData {
        name: ExternalName::User(name),
        signature,
        colocated: reach == Reach::Near,
        patchable: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_helper_has_a_name_of_its_own() {
        for (index, helper) in HELPERS.iter().enumerate() {
            assert_eq!(target(&name(HELPER, index)), Some(RelocTarget::Helper(*helper)));
            assert_eq!(HELPERS.iter().position(|other| other == helper), Some(index));
        }
    }
}
